#![no_main]

#[path = "../src/expand.rs"]
mod expand;

libfuzzer_sys::fuzz_target!(|data: &[u8]| expand::run(data));
