//! Inputs and outputs of the git history, and the reasons that can block a commit.

use std::path::{Path, PathBuf};

use crate::rules::text::quote_argv;

/// The change of one file in a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEdit {
    /// The path relative to the data dir, with `/` between its parts.
    pub path: String,
    /// The new content, stored unchanged; `None` deletes the file.
    pub bytes: Option<Vec<u8>>,
    pub executable: bool,
}

/// The author or committer of a commit, with a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Not empty, without `<`, `>` and control characters.
    pub name: String,
    /// May be empty; without `<`, `>` and control characters.
    pub email: String,
    /// Seconds since 1970-01-01T00:00:00Z, not negative.
    pub unix_s: i64,
    /// Offset of the local time in seconds east of UTC; git keeps whole minutes of it.
    pub utc_offset_s: i32,
}

/// One commit as [`History::log`](super::History::log) returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The full commit id, 40 hex digits.
    pub id: String,
    pub author: String,
    /// The author's time, in seconds since 1970-01-01T00:00:00Z.
    pub unix_s: i64,
    pub message: String,
}

/// Why no commit may be made now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// Another git holds a lock, or died while it held it.
    #[error("could not commit: {} exists", lock.display())]
    Locked { lock: PathBuf },
    /// A git command of another program, named with its process, may be about to move the branch.
    #[error("could not commit: {command} is running in the data dir")]
    AtWork { command: String },
    /// HEAD is not on a branch, so a commit would be lost.
    #[error("could not commit: HEAD of {} is on no branch", dir.display())]
    DetachedHead { dir: PathBuf },
    /// A git command is unfinished: `merge`, `rebase`, `cherry-pick`, `revert`, `bisect` or `am`.
    #[error("could not commit: a git {what} is in progress in {}", dir.display())]
    InProgress { dir: PathBuf, what: &'static str },
}

impl Blocked {
    /// Returns what the user can do about it, as one line without a final stop.
    pub fn hint(&self) -> String {
        match self {
            Self::Locked { lock } => format!(
                "if no git command is running in the data dir, run `rm {}`; a beat removes the lock once it is a minute old",
                quoted(lock)
            ),
            Self::AtWork { .. } => "let it finish: the next beat commits what is missing".to_owned(),
            Self::DetachedHead { dir } => format!("run `git -C {} switch main`", quoted(dir)),
            Self::InProgress { dir, what } => {
                let end = if *what == "bisect" { "reset" } else { "--abort" };
                format!("finish the {what}, or abort it with `git -C {} {what} {end}`", quoted(dir))
            }
        }
    }
}

/// Quotes `path` as one word of a shell command.
fn quoted(path: &Path) -> String {
    quote_argv(&[path.display().to_string()])
}
