//! libFuzzer's entry to [`fuzz::open`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::open::run(input));
