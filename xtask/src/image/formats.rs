//! The disk in the formats of hypervisors, each the same for the same disk.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::digest;
use super::recipe::Recipe;
use crate::workspace::{printed, require};

/// Bytes in which a VMDK's descriptor lies.
const DESCRIPTOR: u64 = 64 << 10;

/// Writes `.qcow2`, `.vmdk` and `.ova` beside the raw disk.
///
/// # Errors
/// When a program fails.
pub(super) fn write(recipe: &Recipe, raw: &Path, epoch: u64, work: &Path) -> anyhow::Result<()> {
    let convert = |format: &str, options: &[&str], to: &Path| {
        let mut convert = Command::new("qemu-img");
        require(convert.args(["convert", "-f", "raw", "-O", format]).args(options).arg(raw).arg(to))
    };
    convert("qcow2", &["-c", "-o", "compression_type=zstd"], &raw.with_extension("qcow2"))?;
    let vmdk = raw.with_extension("vmdk");
    convert("vmdk", &["-o", "subformat=streamOptimized,adapter_type=lsilogic"], &vmdk)?;
    fix_content_id(&vmdk, &digest(&["vmdk", &recipe.prefix()]))?;
    appliance(recipe, raw, &vmdk, epoch, work)
}

/// qemu-img draws the identity of a VMDK's contents at random; here it follows from the image's name.
fn fix_content_id(vmdk: &Path, digest: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(vmdk)?;
    let mut head = Vec::new();
    (&mut file).take(DESCRIPTOR).read_to_end(&mut head)?;
    let digits = digest.get(..8).unwrap_or_default();
    let fixed = with_content_id(&head, digits).context("a VMDK without a CID")?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file.write_all(&fixed)?)
}

/// The same bytes with another identity. There it may have fewer digits: what follows is moved into the zeros behind
/// the text. `None` where there is no identity, or no room.
fn with_content_id(head: &[u8], digits: &str) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"\nCID=";
    let at = head.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let (before, rest) = head.split_at_checked(at)?;
    let old = rest.iter().position(|byte| *byte == b'\n')?;
    let text = rest.iter().position(|byte| *byte == 0)?;
    let padding = rest.get(text..)?.get(digits.len().checked_sub(old)?..)?;
    let room = rest.get(text..text + digits.len() - old)?.iter().all(|byte| *byte == 0);
    if room { Some([before, digits.as_bytes(), rest.get(old..text)?, padding].concat()) } else { None }
}

/// A virtual machine as VMware and VirtualBox import it: a description, sums, and the disk, in this order.
fn appliance(recipe: &Recipe, raw: &Path, vmdk: &Path, epoch: u64, work: &Path) -> anyhow::Result<()> {
    let inside = work.join("ova");
    fs::create_dir_all(&inside)?;
    let name = |end: &str| format!("{}.{end}", recipe.prefix());
    fs::copy(vmdk, inside.join(name("vmdk")))?;
    let (size, capacity) = (fs::metadata(vmdk)?.len(), fs::metadata(raw)?.len());
    fs::write(inside.join(name("ovf")), description(recipe, size, capacity))?;
    let mut sums = String::new();
    for end in ["ovf", "vmdk"] {
        let sum = printed(Command::new("sha256sum").arg(name(end)).current_dir(&inside))?;
        let Some(sum) = sum.get(..64) else { bail!("sha256sum printed no sum") };
        sums += &format!("SHA256({})= {sum}\n", name(end));
    }
    fs::write(inside.join(name("mf")), sums)?;
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--format=ustar",
        "--owner=root:0",
        "--group=root:0",
        "--mode=0644",
        "--numeric-owner",
    ]);
    tar.arg(format!("--mtime=@{epoch}"))
        .arg("--directory")
        .arg(&inside)
        .arg("--file")
        .arg(raw.with_extension("ova"));
    require(tar.args([name("ovf"), name("mf"), name("vmdk")]))?;
    Ok(fs::remove_dir_all(inside)?)
}

/// A device of the description: its kind (CIM_ResourceAllocationSettingData), its number, and what else is said of it.
/// The schema of that class has its elements in alphabetical order.
fn item(kind: u32, id: u32, more: &[(&str, &str)]) -> String {
    let (kind, id) = (kind.to_string(), id.to_string());
    let own: [(&str, &str); 3] = [("ElementName", &id), ("InstanceID", &id), ("ResourceType", &kind)];
    let mut elements = [&own, more].concat();
    elements.sort_unstable();
    let elements = elements.iter().map(|(name, value)| format!("<rasd:{name}>{value}</rasd:{name}>"));
    format!("      <Item>{}</Item>\n", elements.collect::<String>())
}

/// The description, in the Open Virtualization Format (DSP0243): UEFI, 2 processors, 1 GiB, two network cards. `size` is
/// that of the VMDK, `capacity` that of the disk in it, in bytes.
fn description(recipe: &Recipe, size: u64, capacity: u64) -> String {
    let prefix = recipe.prefix();
    let card = |at: u32, network: &str| {
        let place = at.to_string();
        let said = [
            ("AddressOnParent", place.as_str()),
            ("AutomaticAllocation", "true"),
            ("Connection", network),
            ("ResourceSubType", "VmxNet3"),
        ];
        item(10, at, &said)
    };
    let items = [
        item(3, 1, &[("VirtualQuantity", "2")]),
        item(4, 2, &[("AllocationUnits", "byte * 2^20"), ("VirtualQuantity", "1024")]),
        item(6, 3, &[("Address", "0"), ("ResourceSubType", "VirtualSCSI")]),
        item(17, 4, &[("AddressOnParent", "0"), ("HostResource", "ovf:/disk/disk"), ("Parent", "3")]),
        card(5, "users"),
        card(6, "servers"),
    ];
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
  xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References><File ovf:id="file" ovf:href="{prefix}.vmdk" ovf:size="{size}"/></References>
  <DiskSection><Info>Disks</Info><Disk ovf:diskId="disk" ovf:fileRef="file" ovf:capacity="{capacity}"
    ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
  <NetworkSection><Info>Networks</Info><Network ovf:name="users"/><Network ovf:name="servers"/></NetworkSection>
  <VirtualSystem ovf:id="portreeve"><Info>A portreeve router</Info><Name>portreeve</Name>
    <OperatingSystemSection ovf:id="96" vmw:osType="debian11_64Guest"><Info>Debian</Info></OperatingSystemSection>
    <VirtualHardwareSection><Info>Hardware</Info>
      <System><vssd:ElementName>portreeve</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemType>vmx-17</vssd:VirtualSystemType></System>
{}      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#,
        items.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::super::recipe::Flavour;
    use super::*;

    #[test]
    fn the_random_identity_of_a_vmdk_is_replaced_however_many_digits_it_has() {
        let head = |id: &str, zeros| {
            [format!("KDMV\nCID={id}\nparentCID=ffffffff\n").as_bytes(), &vec![0; zeros], b"grain"].concat()
        };
        let same = head("01234567", 9);
        assert_eq!(with_content_id(&head("9a8b7c6d", 9), "01234567").as_ref(), Some(&same));
        assert_eq!(with_content_id(&head("9a8b7c6", 10), "01234567").as_ref(), Some(&same));
        assert_eq!(with_content_id(&head("9a8b7c6", 0), "01234567"), None);
        assert_eq!(with_content_id(b"KDMV\nparentCID=1\n\0", "01234567"), None);
    }

    #[test]
    fn the_description_names_the_disk_and_starts_by_uefi() {
        let recipe = Recipe { flavour: Flavour::Cloud, frr: false, version: "1.2".to_owned() };
        let text = description(&recipe, 5, 6);
        for part in [
            r#"ovf:href="portreeve_1.2_cloud.vmdk" ovf:size="5""#,
            r#"vmw:value="efi""#,
            "ovf:capacity=\"6\"",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(text.matches("<Item>").count(), 6);
    }

    #[test]
    fn what_is_said_of_a_device_is_in_the_order_of_the_schema() {
        let said =
            item(17, 4, &[("Parent", "3"), ("HostResource", "ovf:/disk/disk"), ("AddressOnParent", "0")]);
        let names: Vec<_> = said.split("<rasd:").skip(1).filter_map(|part| part.split('>').next()).collect();
        let order =
            ["AddressOnParent", "ElementName", "HostResource", "InstanceID", "Parent", "ResourceType"];
        assert_eq!(names, order);
    }
}
