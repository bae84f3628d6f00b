//! Fuzz target.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::frame::fuzz_frame(data));
