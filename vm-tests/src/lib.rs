//! Virtual machines for tests, of two kinds.
//!
//! - A stock kernel, a root file system in memory, and one program: which kernels there are ([`kernels`]), what the
//!   machine has in its root ([`root`], [`initramfs`]), starting it and judging what it says ([`machine`]). What runs inside
//!   is the program `portreeve-vm-guest`, which is process 1 there.
//! - The appliance: the image that was built last ([`image`]), disks and seed ([`disk`], [`seed`]), a machine that runs it
//!   ([`appliance`], [`devices`]), by Secure Boot ([`secure_boot`]) and with a TPM ([`tpm`]) too, what it says ([`console`]) and is
//!   told ([`keyboard`]), and hosts at its network cards ([`bed`]), in VLANs where that is wanted ([`vlans`], [`switch`]).
//!
//! Invariants: a machine that says nothing, panics or takes too long is a failure with its log kept; nothing of
//! the host is changed but `target/vm`; KVM runs machines only where a short boot has proved that it does (`accelerator`), else
//! they are emulated. What it does not do: fetch kernels or install QEMU, which is `cargo xtask setup`.

pub mod accelerator;
pub mod appliance;
pub mod bed;
pub mod built;
pub mod console;
pub mod devices;
pub mod disk;
mod emulator;
pub mod image;
pub mod initramfs;
pub mod kernels;
pub mod keyboard;
pub mod machine;
pub mod root;
pub mod secure_boot;
pub mod seed;
pub mod switch;
pub mod tpm;
pub mod vlans;

/// What the guest says before the kernel's release when it is up.
pub const READY: &str = "guest: Linux ";
/// What the guest says before its program's exit code when that has ended.
pub const ENDED: &str = "guest: ended with ";
