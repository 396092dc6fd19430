//! Of what kind a machine's disks and network cards are, as arguments of QEMU. Pure.

use std::path::Path;

/// The kind of them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// Those of a hypervisor: virtio.
    #[default]
    Virtual,
    /// Those of a PC that runs from a USB stick: Intel's cards, and sticks as volumes.
    Pc,
}

impl Devices {
    /// The disk that the machine starts from: qcow2.
    pub(crate) fn disk(self, file: &Path) -> Vec<String> {
        let file = file.display();
        match self {
            Self::Virtual => arguments(&["-drive", &format!("if=virtio,format=qcow2,file={file}")]),
            Self::Pc => {
                let drive = format!("if=none,id=disk,format=qcow2,file={file}");
                let stick = "usb-storage,drive=disk,bootindex=0";
                arguments(&["-device", "qemu-xhci", "-drive", &drive, "-device", stick])
            }
        }
    }

    /// A further volume, which is not written: raw. `number` is its own.
    pub(crate) fn volume(self, number: usize, file: &Path) -> Vec<String> {
        let file = format!("format=raw,readonly=on,file={}", file.display());
        match self {
            Self::Virtual => arguments(&["-drive", &format!("if=virtio,{file}")]),
            Self::Pc => {
                let drive = format!("if=none,id=volume{number},{file}");
                arguments(&["-drive", &drive, "-device", &format!("usb-storage,drive=volume{number}")])
            }
        }
    }

    /// The model of network cards.
    pub(crate) fn card(self) -> &'static str {
        match self {
            Self::Virtual => "virtio-net-pci",
            Self::Pc => "e1000e",
        }
    }
}

fn arguments(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
