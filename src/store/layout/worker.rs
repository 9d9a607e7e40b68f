//! The files of one worker.

use std::path::{Path, PathBuf};

use crate::model::settings::StatusFile;

/// The directory of one worker, live or archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerDir(pub PathBuf);

impl WorkerDir {
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the worker was started with.
    pub fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    /// Its current state.
    pub fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// Its instructions at the start.
    pub fn brief(&self) -> PathBuf {
        self.0.join("brief.md")
    }

    /// A file that its program loads, to report its status to looop.
    pub fn status(&self, file: StatusFile) -> PathBuf {
        self.0.join(file.name)
    }

    /// Its supervisor holds the lock of this file for its whole life.
    pub fn alive(&self) -> PathBuf {
        self.0.join("alive")
    }

    /// The newer part of its output, as raw bytes.
    pub fn transcript(&self) -> PathBuf {
        self.0.join("transcript.raw")
    }

    /// The older part of its output, after a rotation.
    pub fn old_transcript(&self) -> PathBuf {
        self.0.join("transcript.old.raw")
    }

    /// Times of the newer part, and sizes of its screen.
    pub fn index(&self) -> PathBuf {
        self.0.join("transcript.idx")
    }

    /// Times of the older part.
    pub fn old_index(&self) -> PathBuf {
        self.0.join("transcript.old.idx")
    }

    /// Messages that it has not read.
    pub fn messages(&self) -> PathBuf {
        self.0.join("told.jsonl")
    }

    /// Messages that it has read.
    pub fn inbox_offset(&self) -> PathBuf {
        self.0.join("told.read.jsonl")
    }

    pub fn clone_dir(&self) -> PathBuf {
        self.0.join("clone")
    }

    /// The git directories that existed before it started.
    pub fn git_watch(&self) -> PathBuf {
        self.0.join("git-watch.json")
    }

    /// Mounted over the home directory in its sandbox.
    pub fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    /// Receives its writes to read-only build caches: one directory for each cache.
    pub fn caches(&self) -> PathBuf {
        self.0.join("caches")
    }

    /// Its temporary files, if it has a sandbox.
    pub fn temp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// The socket for the user's side: attach, flag, kill.
    pub fn attach_socket(&self) -> PathBuf {
        self.0.join("attach.sock")
    }

    /// The socket for the worker's side.
    pub fn worker_socket(&self) -> PathBuf {
        self.0.join("worker.sock")
    }

    /// The flags and asks of the worker that the user was shown.
    pub fn surfaced(&self) -> PathBuf {
        self.0.join("surfaced")
    }

    /// The last notice that its notifier received.
    pub fn notice(&self) -> PathBuf {
        self.0.join("notice.json")
    }
}
