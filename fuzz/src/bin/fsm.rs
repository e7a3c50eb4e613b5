//! libFuzzer's entry to [`fuzz::fsm`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::fsm::run(input));
