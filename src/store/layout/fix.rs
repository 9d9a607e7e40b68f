//! The files of one fix: of one project and its tasks.

use std::path::{Path, PathBuf};

use crate::rules::name::Name;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixDir(pub PathBuf);

impl FixDir {
    pub fn path(&self) -> &Path {
        &self.0
    }

    paths! {
        /// Held by the process that works in it.
        lock = 0 / "lock";
        /// The state of the run.
        run = 0 / "run.json";
        /// The repository that keeps every attempt.
        attempts = 0 / "attempts";
        /// The clone. The directory around it holds what git keeps beside a clone.
        work = 0 / "work/clone";
        /// An empty directory, for calls that need no files.
        empty = 0 / "empty";
        /// The prompt of the call in progress.
        prompt = 0 / "prompt.md";
        /// The index of the code map of the clone.
        map = 0 / "map.json";
        ledgers = 0 / "ledger";
    }

    pub fn ledger(&self, goal: &Name) -> PathBuf {
        self.ledgers().join(format!("{goal}.jsonl"))
    }

    /// The last test output of an attempt.
    pub fn output(&self, goal: &Name) -> PathBuf {
        self.0.join(format!("output-{goal}.txt"))
    }
}
