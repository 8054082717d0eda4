#![no_main]

#[path = "../src/ignore.rs"]
mod ignore;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ignore::run(data));
