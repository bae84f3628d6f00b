//! Fuzz target.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::car::fuzz_car(data));
