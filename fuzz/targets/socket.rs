//! Fuzz target.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| crawler::fuzz_socket(data));
