//! Many entries of a map with one system call, which aya 0.14 cannot.
//!
//! `bpf(2)` with `BPF_MAP_UPDATE_BATCH`, `BPF_MAP_DELETE_BATCH`, `BPF_MAP_LOOKUP_BATCH` (kernel 5.6 and later; LPM tries
//! 5.8 and later).
//! Knows nothing of what keys and values mean.

#![expect(unsafe_code, reason = "aya 0.14 has no batch operations")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use aya::Pod;
use nix::errno::Errno;
use nix::libc;

/// Entries that one call handles; each is copied by itself, so more gains nothing.
const CHUNK: usize = 1 << 14;

const LOOKUP: libc::c_int = 24;
const UPDATE: libc::c_int = 26;
const DELETE: libc::c_int = 27;

/// `union bpf_attr`, as batch operations use it (`include/uapi/linux/bpf.h`).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    /// Entries given, and then entries done.
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// A map whose keys and values have these layouts.
pub(super) struct Batch<'m, K, V> {
    map: BorrowedFd<'m>,
    entry: PhantomData<(K, V)>,
}

impl<'m, K: Pod + Default, V: Pod + Default> Batch<'m, K, V> {
    /// Works on a map that was opened with these types: aya has compared their sizes with the map's.
    pub(super) const fn new(map: BorrowedFd<'m>) -> Self {
        Self { map, entry: PhantomData }
    }

    /// Adds entries, and replaces the values of those that are there.
    pub(super) fn update(&self, keys: &[K], values: &[V]) -> io::Result<()> {
        for (keys, values) in keys.chunks(CHUNK).zip(values.chunks(CHUNK)) {
            let mut attributes = Attributes {
                keys: address(keys),
                values: address(values),
                count: count(keys.len().min(values.len()))?,
                ..self.attributes()
            };
            // SAFETY: the pointers lead to `count` keys and values of the map's sizes, which the call
            // only reads.
            unsafe { call(UPDATE, &mut attributes) }?;
        }
        Ok(())
    }

    /// Removes entries; one that is not there is as good as removed.
    pub(super) fn delete(&self, keys: &[K]) -> io::Result<()> {
        for mut keys in keys.chunks(CHUNK) {
            while !keys.is_empty() {
                let mut attributes =
                    Attributes { keys: address(keys), count: count(keys.len())?, ..self.attributes() };
                // SAFETY: the pointer leads to `count` keys of the map's size, which the call only reads.
                let skip = match unsafe { call(DELETE, &mut attributes) } {
                    Ok(()) => 0,
                    Err(Errno::ENOENT) => 1,
                    Err(errno) => return Err(errno.into()),
                };
                let done = usize::try_from(attributes.count).map_err(io::Error::other)? + skip;
                keys = keys.get(done..).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// All entries. What is added or removed meanwhile may or may not be among them.
    ///
    /// `position` has the size of what the kernel keeps its place by: a `u32` for a hash, a key for a
    /// trie.
    pub(super) fn entries<P: Pod + Default>(&self) -> io::Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let (mut keys, mut values) = (vec![K::default(); CHUNK], vec![V::default(); CHUNK]);
        let (mut from, mut to) = (P::default(), P::default());
        let mut first = true;
        loop {
            let mut attributes = Attributes {
                in_batch: if first { 0 } else { (&raw const from).addr() as u64 },
                out_batch: (&raw mut to).expose_provenance() as u64,
                keys: keys.as_mut_ptr().expose_provenance() as u64,
                values: values.as_mut_ptr().expose_provenance() as u64,
                count: count(CHUNK)?,
                ..self.attributes()
            };
            // SAFETY: there is room for `count` keys and values of the map's sizes, and for a position.
            let last = match unsafe { call(LOOKUP, &mut attributes) } {
                Ok(()) => false,
                Err(Errno::ENOENT) => true,
                Err(errno) => return Err(errno.into()),
            };
            let found = usize::try_from(attributes.count).map_err(io::Error::other)?;
            entries.extend(keys.iter().copied().zip(values.iter().copied()).take(found));
            if last {
                return Ok(entries);
            }
            from = to;
            first = false;
        }
    }

    fn attributes(&self) -> Attributes {
        Attributes { map_fd: self.map.as_raw_fd().cast_unsigned(), ..Attributes::default() }
    }
}

fn address<T>(entries: &[T]) -> u64 {
    entries.as_ptr().expose_provenance() as u64
}

fn count(entries: usize) -> io::Result<u32> {
    u32::try_from(entries).map_err(io::Error::other)
}

/// # Safety
/// The pointers in `attributes` must be valid for what the command reads and writes.
unsafe fn call(command: libc::c_int, attributes: &mut Attributes) -> nix::Result<()> {
    // SAFETY: the kernel reads and writes no more of `attributes` than the size that it is told.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<Attributes>()) };
    Errno::result(result).map(drop)
}
