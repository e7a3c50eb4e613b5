//! libFuzzer's entry to [`fuzz::update`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::update::run(input));
