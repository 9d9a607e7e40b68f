//! Every fuzz target: the one of the binary's name. What each asserts stands in `bodies.rs`.

#![no_main]

#[path = "bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::run(env!("CARGO_BIN_NAME"), bytes));
