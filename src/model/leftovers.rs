//! Pure. The parts of a worker's work that exist only in its clone, as text, and the commands that bring them in.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ask::{quote_argv, visible};
use super::json::clip;
use super::worker::{Repo, WorkerState};

/// How many names of each kind are kept.
const NAMED: usize = 20;
/// The longest name that is kept, in characters.
const MAX_NAME_CHARS: usize = 300;
/// How many commands are named at once.
const MAX_COMMANDS: usize = 8;
/// How many files are copied by name; more files are listed by one command.
const MAX_COPIES: u64 = 3;

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
        let mut parts: Vec<String> = Vec::new();
        let mut count = |count: u64, one: &str, many: &str, names: &Paths| match count {
            0 => {}
            count => {
                let word = if count == 1 { one } else { many };
                parts.push(format!("{count} {word}{}", names.words()));
            }
        };
        match self.commits {
            0 => count(self.refs.count, "ref", "refs", &self.refs),
            commits => {
                count(commits, "commit that is nowhere else", "commits that are nowhere else", &self.refs)
            }
        }
        let none = Paths::default();
        count(self.stashes, "stash", "stashes", &none);
        count(self.changed.count, "changed file", "changed files", &self.changed);
        count(self.untracked.count, "untracked file", "untracked files", &self.untracked);
        parts.extend(self.others.iter().map(|other| visible(other, false)));
        parts.extend(
            self.unclear
                .as_ref()
                .map(|why| format!("not everything could be checked: {}", visible(why, false))),
        );
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

/// Returns what to do next with an ended worker's work, as commands to type in the user's repository; `None` if nothing
/// is to be done. `clone` is the clone's path.
pub fn next_step(repo: &Repo, state: &WorkerState, clone: &str) -> Option<String> {
    let mut commands: Vec<String> = Vec::new();
    commands.extend(state.branch.as_ref().map(|branch| words(&["git", "merge", branch])));
    if let Some(left) = &state.left {
        fetches(repo, state, left, clone, &mut commands);
        copies(repo, left, clone, &mut commands);
        if commands.is_empty() && !left.is_empty() {
            commands.push(words(&["ls", "-la", clone]));
        }
    }
    let more = commands.len().saturating_sub(MAX_COMMANDS);
    commands.truncate(MAX_COMMANDS);
    if more > 0 {
        commands.push(format!("and {more} more in {}", words(&[clone])));
    }
    (!commands.is_empty()).then(|| commands.join("; "))
}

/// Adds a command for each leftover commit, which fetches it as a branch named after the worker's branch. HEAD gets the
/// worker's branch name itself.
fn fetches(repo: &Repo, state: &WorkerState, left: &Leftovers, clone: &str, commands: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    let mut taken: BTreeSet<String> = state.branch.iter().cloned().collect();
    for tip in left.tips.iter().filter(|tip| seen.insert(tip.commit.as_str())) {
        let wanted = match tip.name.as_str() {
            "HEAD" => repo.branch.clone(),
            name => format!("{}-{}", repo.branch, plain(name.strip_prefix("refs/heads/").unwrap_or(name))),
        };
        let mut names = std::iter::once(wanted.clone()).chain((2..).map(|n| format!("{wanted}-{n}")));
        let branch = names.find(|name| !taken.contains(name)).unwrap_or(wanted);
        commands.push(words(&["git", "fetch", clone, &format!("{}:refs/heads/{branch}", tip.commit)]));
        taken.insert(branch);
    }
}

/// Copies a few files by name. A file whose name contains hidden characters is only listed.
fn copies(repo: &Repo, left: &Leftovers, clone: &str, commands: &mut Vec<String>) {
    let names = || left.changed.first.iter().chain(&left.untracked.first);
    let is_plain = |name: &String| visible(name, false) == *name && !name.contains('\u{fffd}');
    match left.changed.count + left.untracked.count {
        0 => {}
        1..=MAX_COPIES if names().all(is_plain) => {
            let path = |dir: &str, name: &str| format!("{dir}/{}", name.trim_end_matches('/'));
            let copy = |name: &String| words(&["cp", "-aT", &path(clone, name), &path(&repo.source, name)]);
            commands.extend(names().map(copy));
        }
        _ => commands.push(words(&["diff", "-rq", "-x", ".git", &repo.source, clone])),
    }
}

/// Turns a ref's name into a part of a branch's name.
fn plain(name: &str) -> String {
    let name = name.strip_prefix("refs/").unwrap_or(name);
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(safe).collect();
    let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
    clip(&parts.join("-"), 60).replace('…', "")
}

fn words(argv: &[&str]) -> String {
    let argv: Vec<String> = argv.iter().map(|arg| (*arg).to_owned()).collect();
    visible(&quote_argv(&argv), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::beat::Started;

    fn repo() -> Repo {
        Repo { source: "/src/my app".to_owned(), base: "b".to_owned(), branch: "looop/fix".to_owned() }
    }

    fn state(branch: Option<&str>, left: Leftovers) -> WorkerState {
        let id = "fix".parse().unwrap();
        let mut state = WorkerState::new(id, 0, Started { pid: 0, start: 0, boot: String::new() });
        (state.branch, state.left) = (branch.map(str::to_owned), Some(left));
        state
    }

    #[test]
    fn each_unsaved_commit_has_a_command() {
        let tips = [
            "HEAD",
            "refs/heads/looop/fix",
            "refs/heads/a/b c$",
            "refs/heads/a-b-c",
            "refs/tags/v1",
            "stash@{0}",
        ];
        let tips =
            tips.iter().zip(["1", "1", "2", "3", "4", "5"]).map(|(name, oid)| Tip::new(name, oid)).collect();
        let left = Leftovers { commits: 5, tips, ..Leftovers::default() };
        let next = next_step(&repo(), &state(None, left.clone()), "/w/fix/clone").unwrap();
        let fetch =
            |oid: &str, branch: &str| format!("git fetch /w/fix/clone {oid}:refs/heads/looop/{branch}");
        let wanted = [
            fetch("1", "fix"),
            fetch("2", "fix-a-b-c"),
            fetch("3", "fix-a-b-c-2"),
            fetch("4", "fix-tags-v1"),
            fetch("5", "fix-stash-0"),
        ];
        assert_eq!(next, wanted.join("; "));
        let next = next_step(&repo(), &state(Some("looop/fix"), left), "/w/fix/clone").unwrap();
        assert!(
            next.starts_with("git merge looop/fix; git fetch /w/fix/clone 1:refs/heads/looop/fix-2; "),
            "{next}"
        );
    }

    #[test]
    fn files_are_copied_or_listed() {
        let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Paths>();
        let left = |names: &[&str]| Leftovers { untracked: files(names), ..Leftovers::default() };
        let next = |left: Leftovers| next_step(&repo(), &state(None, left), "/w/clone").unwrap();
        assert_eq!(next(left(&["new dir/"])), "cp -aT '/w/clone/new dir' '/src/my app/new dir'");
        let list = "diff -rq -x .git '/src/my app' /w/clone";
        assert_eq!(next(left(&["a", "b", "c", "d"])), list);
        assert_eq!(next(left(&["a\u{1b}"])), list);
        let others = Leftovers { others: vec!["LFS files".to_owned()], ..Leftovers::default() };
        assert_eq!(next(others), "ls -la /w/clone");
        assert_eq!(next_step(&repo(), &state(None, Leftovers::default()), "/w/clone"), None);
    }
}
