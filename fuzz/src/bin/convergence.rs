//! libFuzzer's entry to [`fuzz::convergence`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::convergence::run(input));
