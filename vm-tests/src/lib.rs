//! Virtual machines for tests: a stock kernel, a root file system in memory, and one program.
//!
//! Owns what is between a test and QEMU: which kernels there are ([`kernels`]), what the machine has in its root
//! ([`root`], [`initramfs`]), starting it and judging what it says ([`machine`]). What runs inside is the program
//! `portreeve-vm-guest`, which is process 1 there.
//!
//! Invariants: a machine that says nothing, panics or takes too long is a failure with its log kept; nothing of
//! the host is changed but `target/vm`. What it does not do: fetch kernels or install QEMU, which is
//! `cargo xtask setup`; use KVM, which not every host of CI can: all is emulated, so results do not differ.

pub mod built;
mod emulator;
pub mod initramfs;
pub mod kernels;
pub mod machine;
pub mod root;

/// What the guest says before the kernel's release when it is up.
pub const READY: &str = "guest: Linux ";
/// What the guest says before its program's exit code when that has ended.
pub const ENDED: &str = "guest: ended with ";
