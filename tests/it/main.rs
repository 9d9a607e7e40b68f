//! The integration tests: the real program in temporary profiles, one binary for all.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod beat;
mod real_pi;
mod speed;
mod support;
mod tidy;
