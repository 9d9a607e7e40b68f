//! Repositories that workers and fixes work on: clones, and the states of their files.

pub mod clone;
