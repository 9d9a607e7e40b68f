//! The integration tests: the real program in temporary profiles, one binary for all.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod approvals;
mod bad_data;
mod bad_runner;
mod beat;
mod crash;
mod pulse;
mod races;
mod readme;
mod real_pi;
mod sense;
mod speed;
mod support;
mod tidy;
mod verbs;
