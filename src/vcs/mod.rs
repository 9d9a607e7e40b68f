//! Repositories: the data dir as one (set-up, migration, commits, history), the clones that workers and fixes work in, and
//! every git command.

pub mod clone;
pub mod commits;
pub mod git;
pub mod history;
pub mod migrate;
pub mod seed;
