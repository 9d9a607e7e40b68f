//! Benchmarks of the beat.
fn main() {}
