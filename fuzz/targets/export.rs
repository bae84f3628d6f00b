//! Fuzz target.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| verifier::identity::fuzz_export(data));
