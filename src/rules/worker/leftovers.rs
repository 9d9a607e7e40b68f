//! Pure. The parts of a worker's work that exist only in its clone, as text.

use serde::{Deserialize, Serialize};

use crate::rules::json::clip;
use crate::rules::text::visible;

/// How many names of each kind are kept.
const NAMED: usize = 20;
/// The longest name that is kept, in characters.
const MAX_NAME_CHARS: usize = 300;

/// What exists only in a clone. Its names come from the worker: untrusted text.
///
/// Ignored files do not count, nor do commits that only a reflog contains: otherwise builds and amended commits would
/// keep every clone forever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leftovers {
    /// Commits that no ref of the user's repository reaches, without stashes.
    pub commits: u64,
    /// The refs that contain such commits or other objects.
    pub refs: Paths,
    pub stashes: u64,
    /// Files that differ from the last commit, or whose staged content does.
    pub changed: Paths,
    /// Untracked files, as `git status` names them.
    pub untracked: Paths,
    /// Other work that a fetch does not bring in: submodules with files, linked worktrees, LFS files.
    pub others: Vec<String>,
    /// Why the leftovers are unknown; the whole clone then counts as unsaved work.
    pub unclear: Option<String>,
    /// The first refs and stashes with such commits, and their commits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tips: Vec<Tip>,
}

/// A commit and its name in the clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tip {
    /// `HEAD`, `refs/heads/topic`, `stash@{0}`; chosen by the worker, so untrusted.
    pub name: String,
    pub commit: String,
}

impl Tip {
    pub fn new(name: &str, commit: &str) -> Tip {
        Tip { name: clip(name, MAX_NAME_CHARS), commit: commit.to_owned() }
    }
}

/// A number of names, of which the first are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// The total number.
    pub count: u64,
    /// The first names.
    pub first: Vec<String>,
}

impl FromIterator<String> for Paths {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Paths {
        let mut paths = Paths::default();
        for name in names {
            paths.count += 1;
            if paths.first.len() < NAMED {
                paths.first.push(clip(&name, MAX_NAME_CHARS));
            }
        }
        paths
    }
}

impl Leftovers {
    /// True if the clone can be removed.
    pub fn is_empty(&self) -> bool {
        *self == Leftovers::default()
    }

    /// Formats all of it as one line that is safe to show.
    pub fn words(&self) -> String {
        let none = Paths::default();
        let commits = match self.commits {
            0 => (self.refs.count, "ref", "refs", &self.refs),
            count => (count, "commit that is nowhere else", "commits that are nowhere else", &self.refs),
        };
        let counts = [
            commits,
            (self.stashes, "stash", "stashes", &none),
            (self.changed.count, "changed file", "changed files", &self.changed),
            (self.untracked.count, "untracked file", "untracked files", &self.untracked),
        ];
        let mut parts: Vec<String> = Vec::new();
        for (count, one, many, names) in counts.into_iter().filter(|(count, ..)| *count > 0) {
            parts.push(format!("{count} {}{}", if count == 1 { one } else { many }, names.words()));
        }
        parts.extend(self.others.iter().map(|other| visible(other, false)));
        let unclear = self.unclear.iter().map(|why| visible(why, false));
        parts.extend(unclear.map(|why| format!("not everything could be checked: {why}")));
        parts.join("; ")
    }
}

impl Paths {
    fn words(&self) -> String {
        let named: Vec<String> =
            self.first.iter().take(3).map(|name| format!("`{}`", visible(name, false))).collect();
        match named.len() {
            0 => String::new(),
            len if (len as u64) < self.count => format!(" ({}, …)", named.join(", ")),
            _ => format!(" ({})", named.join(", ")),
        }
    }
}
