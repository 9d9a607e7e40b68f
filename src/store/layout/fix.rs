//! The files of one fix: of one project and the tasks that are worked on in it.

use std::path::{Path, PathBuf};

use crate::model::name::Name;

/// The directory of a fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixDir(pub PathBuf);

impl FixDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Held by whoever works in it.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Where the work stands.
    pub fn run(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The repository that keeps every attempt.
    pub fn attempts(&self) -> PathBuf {
        self.0.join("attempts")
    }

    /// What becomes the clone. The directory around it is for what git keeps beside a clone.
    pub fn work(&self) -> PathBuf {
        self.0.join("work").join("clone")
    }

    /// An empty directory, for calls that have no business with files.
    pub fn empty(&self) -> PathBuf {
        self.0.join("empty")
    }

    /// What stands at the place of the home directory for what is boxed.
    pub fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    /// What is written where only reading is meant for it: one directory for each cache of builds.
    pub fn caches(&self) -> PathBuf {
        self.0.join("caches")
    }

    /// Temporary files of what is boxed.
    pub fn temp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// The prompt of the call under way.
    pub fn prompt(&self) -> PathBuf {
        self.0.join("prompt.md")
    }

    /// The index of the code map of the clone.
    pub fn map(&self) -> PathBuf {
        self.0.join("map.json")
    }

    /// The ledgers.
    pub fn ledgers(&self) -> PathBuf {
        self.0.join("ledger")
    }

    /// The ledger of one goal.
    pub fn ledger(&self, goal: &Name) -> PathBuf {
        self.ledgers().join(format!("{goal}.jsonl"))
    }

    /// What the tests of an attempt printed last.
    pub fn output(&self, goal: &Name) -> PathBuf {
        self.0.join(format!("output-{goal}.txt"))
    }
}
