//! Every fuzz target: the one of the binary's name. What each asserts stands in `bodies.rs`.

#![no_main]

#[path = "bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let known = bodies::ALL.iter().find(|(name, _)| *name == env!("CARGO_BIN_NAME"));
    known.expect("a target of this name").1(bytes);
});
