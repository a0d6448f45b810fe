//! The target `multipart` under the engine.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| trestle_fuzz::run("multipart", bytes));
