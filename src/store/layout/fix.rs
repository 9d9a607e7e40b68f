//! The files of one fix: of one project and its tasks.

use std::path::{Path, PathBuf};

use crate::model::name::Name;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixDir(pub PathBuf);

impl FixDir {
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Held by the process that works in it.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The state of the run.
    pub fn run(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The repository that keeps every attempt.
    pub fn attempts(&self) -> PathBuf {
        self.0.join("attempts")
    }

    /// The clone. The directory around it holds what git keeps beside a clone.
    pub fn work(&self) -> PathBuf {
        self.0.join("work").join("clone")
    }

    /// An empty directory, for calls that need no files.
    pub fn empty(&self) -> PathBuf {
        self.0.join("empty")
    }

    /// Mounted over the home directory in the sandbox.
    pub fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    /// Receives writes to read-only build caches: one directory for each cache.
    pub fn caches(&self) -> PathBuf {
        self.0.join("caches")
    }

    /// Temporary files of sandboxed processes.
    pub fn temp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// The prompt of the call in progress.
    pub fn prompt(&self) -> PathBuf {
        self.0.join("prompt.md")
    }

    /// The index of the code map of the clone.
    pub fn map(&self) -> PathBuf {
        self.0.join("map.json")
    }

    pub fn ledgers(&self) -> PathBuf {
        self.0.join("ledger")
    }

    pub fn ledger(&self, goal: &Name) -> PathBuf {
        self.ledgers().join(format!("{goal}.jsonl"))
    }

    /// The last test output of an attempt.
    pub fn output(&self, goal: &Name) -> PathBuf {
        self.0.join(format!("output-{goal}.txt"))
    }
}
