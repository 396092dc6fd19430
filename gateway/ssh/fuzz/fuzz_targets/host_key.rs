//! Fuzzes `portreeve_ssh::fuzz_entry::host_key`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| portreeve_ssh::fuzz_entry::host_key(input));
