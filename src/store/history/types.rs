//! What goes into the git history and comes out of it, and what can block a commit.

use std::fmt;
use std::path::{Path, PathBuf};

/// What one commit does to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEdit {
    /// The path relative to the data dir, with `/` between its parts.
    pub path: String,
    /// What the file holds from this commit on; `None` deletes it.
    pub content: Option<Content>,
}

/// What a committed file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The bytes, stored as they are.
    pub bytes: Vec<u8>,
    /// Whether the file may be run.
    pub executable: bool,
}

/// Who made a commit, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The name: not empty, without `<`, `>` and control characters.
    pub name: String,
    /// The mail address, which may be empty; without `<`, `>` and control characters.
    pub email: String,
    /// Seconds since 1970-01-01T00:00:00Z, not negative.
    pub unix_s: i64,
    /// Seconds east of UTC of the local time; git keeps whole minutes of it.
    pub utc_offset_s: i32,
}

/// One commit to make.
#[derive(Debug, Clone)]
pub struct CommitSpec<'a> {
    /// The message, stored as it is.
    pub message: &'a str,
    /// Who made the change.
    pub author: &'a Signature,
    /// Who made the commit; the reflog names it too.
    pub committer: &'a Signature,
    /// The changes to HEAD's files. Of two edits of one path the last counts.
    pub edits: Vec<FileEdit>,
}

/// One commit as [`History::log`](super::History::log) gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The full commit id, 40 hex digits.
    pub id: String,
    /// The author's name.
    pub author: String,
    /// The author's time, in seconds since 1970-01-01T00:00:00Z.
    pub unix_s: i64,
    /// The whole message.
    pub message: String,
}

/// Why no commit may be made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// Another git holds a lock, or one died holding it.
    Locked {
        /// The lock file.
        lock: PathBuf,
    },
    /// A git command of another program runs that may be about to move the branch.
    AtWork {
        /// The command and its process, in words.
        command: String,
    },
    /// HEAD is on no branch, so a commit would belong to none.
    DetachedHead {
        /// The data dir.
        dir: PathBuf,
    },
    /// A git command waits to be finished or given up.
    InProgress {
        /// The data dir.
        dir: PathBuf,
        /// `merge`, `rebase`, `cherry-pick`, `revert`, `bisect` or `am`.
        what: &'static str,
    },
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { lock } => write!(f, "could not commit: {} exists", lock.display()),
            Self::AtWork { command } => write!(f, "could not commit: {command} is at work in the data dir"),
            Self::DetachedHead { dir } => {
                write!(f, "could not commit: HEAD of {} is on no branch", dir.display())
            }
            Self::InProgress { dir, what } => {
                write!(f, "could not commit: a git {what} is in progress in {}", dir.display())
            }
        }
    }
}

impl std::error::Error for Blocked {}

impl Blocked {
    /// What the person can do about it, as one line without a final stop.
    pub fn hint(&self) -> String {
        match self {
            Self::Locked { lock } => format!(
                "when no git runs in the data dir, run `rm {}`; a beat does so when the lock is a minute old",
                quoted(lock)
            ),
            Self::AtWork { .. } => "let it end: the next beat commits what is missing".to_owned(),
            Self::DetachedHead { dir } => format!("run `git -C {} switch main`", quoted(dir)),
            Self::InProgress { dir, what } => {
                let end = if *what == "bisect" { "reset" } else { "--abort" };
                format!("finish the {what}, or give it up with `git -C {} {what} {end}`", quoted(dir))
            }
        }
    }
}

/// `path` as one word of a shell command.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    if path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
        return path;
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}
