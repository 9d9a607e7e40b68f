//! Pure. The commands that bring the work of an ended worker into the user's repository.

use std::collections::BTreeSet;

use super::leftovers::Leftovers;
use crate::rules::json::clip;
use crate::rules::text::{quote_argv, visible};
use crate::rules::worker::{Repo, Spec, WorkerState};

/// How many commands are named at once.
const MAX_COMMANDS: usize = 8;
/// How many files are copied by name; more files are listed by one command.
const MAX_COPIES: u64 = 3;

impl Spec {
    /// Returns what to do next with its work, as commands. `clone` is its clone's path.
    pub fn next_step(&self, state: &WorkerState, clone: &str) -> Option<String> {
        let repo = self.repo.as_ref().filter(|_| state.phase.is_over())?;
        next_step(repo, state, clone)
    }
}

/// Returns what to do next with an ended worker's work, as commands to type in the user's repository; `None` if nothing
/// is to be done. `clone` is the clone's path.
fn next_step(repo: &Repo, state: &WorkerState, clone: &str) -> Option<String> {
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
    use crate::rules::process::Started;
    use crate::rules::worker::leftovers::{Paths, Tip};

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
        let merge = "git merge looop/fix; git fetch /w/fix/clone 1:refs/heads/looop/fix-2; ";
        assert!(next.starts_with(merge), "{next}");
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
