//! The files of one worker.

use std::path::{Path, PathBuf};

use crate::rules::beat::settings::StatusFile;

/// The directory of one worker, live or archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerDir(pub PathBuf);

impl WorkerDir {
    pub fn path(&self) -> &Path {
        &self.0
    }

    paths! {
        /// What the worker was started with.
        spec = 0 / "spec.json";
        /// Its current state.
        state = 0 / "state.json";
        /// Its instructions at the start.
        brief = 0 / "brief.md";
        /// Its supervisor holds the lock of this file for its whole life.
        alive = 0 / "alive";
        /// The newer part of its output, as raw bytes.
        transcript = 0 / "transcript.raw";
        /// The older part of its output, after a rotation.
        old_transcript = 0 / "transcript.old.raw";
        /// Times of the newer part, and sizes of its screen.
        index = 0 / "transcript.idx";
        /// Times of the older part.
        old_index = 0 / "transcript.old.idx";
        /// Messages that it has not read.
        messages = 0 / "told.jsonl";
        /// Messages that it has read.
        inbox_offset = 0 / "told.read.jsonl";
        clone_dir = 0 / "clone";
        /// The git directories that existed before it started.
        git_watch = 0 / "git-watch.json";
        /// The socket for the user's side: attach, flag, kill.
        attach_socket = 0 / "attach.sock";
        /// The socket for the worker's side.
        worker_socket = 0 / "worker.sock";
        /// The flags and asks of the worker that the user was shown.
        shown_state = 0 / "surfaced";
        /// The last notice that its notifier received.
        notice = 0 / "notice.json";
    }

    /// A file that its program loads, to report its status to looop.
    pub fn status(&self, file: StatusFile) -> PathBuf {
        self.0.join(file.name)
    }
}
