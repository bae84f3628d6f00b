//! Fuzz target.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::keys::fuzz_keys(data));
