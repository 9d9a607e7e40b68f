//! The files of one worker.

use std::path::{Path, PathBuf};

use crate::model::settings::StatusFile;

/// The directory of one worker, whether it lives or was put away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerDir(pub PathBuf);

impl WorkerDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it was started with.
    pub fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    /// Where it stands.
    pub fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// What it was told at its start.
    pub fn brief(&self) -> PathBuf {
        self.0.join("brief.md")
    }

    /// What its program loads, to tell looop how it fares.
    pub fn status(&self, file: StatusFile) -> PathBuf {
        self.0.join(file.name)
    }

    /// Its supervisor holds this file's lock for as long as it lives.
    pub fn alive(&self) -> PathBuf {
        self.0.join("alive")
    }

    /// The newer part of what it printed, as raw bytes.
    pub fn transcript(&self) -> PathBuf {
        self.0.join("transcript.raw")
    }

    /// The older part of what it printed, after a rotation.
    pub fn old_transcript(&self) -> PathBuf {
        self.0.join("transcript.old.raw")
    }

    /// When the newer part was printed, and on what size of screen.
    pub fn index(&self) -> PathBuf {
        self.0.join("transcript.idx")
    }

    /// When the older part was printed.
    pub fn old_index(&self) -> PathBuf {
        self.0.join("transcript.old.idx")
    }

    /// Texts that were sent to it and that it has not read.
    pub fn told(&self) -> PathBuf {
        self.0.join("told.jsonl")
    }

    /// Texts that were sent to it and that it has read.
    pub fn told_read(&self) -> PathBuf {
        self.0.join("told.read.jsonl")
    }

    /// Its private clone.
    pub fn clone_dir(&self) -> PathBuf {
        self.0.join("clone")
    }

    /// Which git directories were there before it began.
    pub fn git_watch(&self) -> PathBuf {
        self.0.join("git-watch.json")
    }

    /// What stands at the place of the home directory in its box.
    pub fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    /// What it writes where only reading is meant for it: one directory for each cache of builds.
    pub fn caches(&self) -> PathBuf {
        self.0.join("caches")
    }

    /// Its temporary files, where it has a box.
    pub fn temp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// The socket for the human's side: attach, flag, kill.
    pub fn attach_socket(&self) -> PathBuf {
        self.0.join("attach.sock")
    }

    /// The socket for the worker's side.
    pub fn worker_socket(&self) -> PathBuf {
        self.0.join("worker.sock")
    }

    /// What a human was shown of its flags and asks.
    pub fn surfaced(&self) -> PathBuf {
        self.0.join("surfaced")
    }

    /// What its last notifier was given.
    pub fn notice(&self) -> PathBuf {
        self.0.join("notice.json")
    }
}
