//! Fuzzes `portreeve_core::fuzz_entry::manifest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| portreeve_core::fuzz_entry::manifest(input));
