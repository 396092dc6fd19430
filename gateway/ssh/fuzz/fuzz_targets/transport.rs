//! Fuzzes `portreeve_ssh::fuzz_entry::transport`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| portreeve_ssh::fuzz_entry::transport(input));
