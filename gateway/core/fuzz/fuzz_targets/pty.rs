//! Fuzzes `portreeve_core::fuzz_entry::pty`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| portreeve_core::fuzz_entry::pty(input));
