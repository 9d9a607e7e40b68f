//! Git's lock files of a data dir: which of them a killed commit of looop left, and which another program may need.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::os::clock;
use crate::os::openers::{self, RunningCommand};
use crate::store::file::{self, Doing};

/// How long another program's lock is left alone, in milliseconds.
const OTHERS_MS: i64 = 60_000;
/// Git commands that never move a branch. An unknown one may be an alias of one that does.
const READERS: [&str; 20] = [
    "blame",
    "cat-file",
    "check-ignore",
    "config",
    "describe",
    "diff",
    "for-each-ref",
    "fsck",
    "grep",
    "help",
    "log",
    "ls-files",
    "ls-tree",
    "reflog",
    "rev-list",
    "rev-parse",
    "shortlog",
    "show",
    "status",
    "version",
];
/// Options of git itself that take the next argument.
const WITH_VALUE: [&str; 5] = ["-C", "-c", "--git-dir", "--work-tree", "--namespace"];

/// Removes the locks that a commit of looop left, and locks of other programs that no process has needed for a minute.
/// `is_ours` recognises the first kind. Returns messages about removed locks of other programs.
pub(super) fn remove_stale(dir: &Path, is_ours: impl Fn(&Path) -> bool) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for lock in find(dir)? {
        let Ok(meta) = fs::symlink_metadata(&lock) else { continue };
        let is_ours = is_ours(&lock);
        // If processes cannot be inspected, every lock may be in use.
        let is_open = openers::opener(&meta, false).map_or(!is_ours, |pid| pid.is_some());
        // Git holds the index lock while an editor is open, without having the file open.
        let is_held = !is_ours || lock.file_name().is_some_and(|name| name == "index.lock");
        let is_used = is_open || (is_held && at_work(dir).is_some());
        if is_stale(is_ours, age_ms(&meta), is_used) {
            file::remove(&lock)?;
            if !is_ours {
                let name = lock.strip_prefix(dir).unwrap_or(&lock).display();
                notes.push(format!("removed `{name}`: no process has needed this lock for a minute"));
            }
        }
    }
    Ok(notes)
}

/// Returns true for a lock that may be removed: looop's own, or one that was not needed for a minute.
fn is_stale(is_ours: bool, age_ms: i64, is_used: bool) -> bool {
    !is_used && (is_ours || age_ms >= OTHERS_MS)
}

/// Lists the locks that a commit needs, in the order in which git takes them.
pub(super) fn find(dir: &Path) -> Result<Vec<PathBuf>> {
    let git = dir.join(".git");
    let mut locks: Vec<PathBuf> =
        ["index.lock", "HEAD.lock", "packed-refs.lock"].map(|name| git.join(name)).into();
    locks.retain(|lock| fs::symlink_metadata(lock).is_ok());
    let mut dirs = vec![git.join("refs")];
    while let Some(at) = dirs.pop() {
        // Git removes directories of deleted branches.
        let Ok(entries) = fs::read_dir(&at) else { continue };
        for entry in entries {
            let entry = entry.doing("list", &at)?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                _ if entry.path().extension().is_some_and(|end| end == "lock") => locks.push(entry.path()),
                _ => {}
            }
        }
    }
    Ok(locks)
}

/// Describes the locks of a data dir and their owners.
pub fn in_words(dir: &Path) -> Vec<String> {
    let locks = find(dir).unwrap_or_default();
    let words = |lock: PathBuf| {
        let name = lock.strip_prefix(dir).unwrap_or(&lock).display().to_string();
        let meta = fs::symlink_metadata(&lock).ok()?;
        let owner = match (openers::opener(&meta, false), at_work(dir)) {
            (Ok(Some(pid)), _) => format!("process {pid} has it open"),
            (_, Some(git)) => format!("{} runs", command_words(&git)),
            _ => format!("it is {} s old, and no process has it open", age_ms(&meta) / 1000),
        };
        Some(format!("`{name}` keeps commits waiting: {owner}"))
    };
    locks.into_iter().filter_map(words).collect()
}

fn age_ms(meta: &fs::Metadata) -> i64 {
    clock::now().unix_ms - meta.mtime() * 1000
}

/// Returns true if a git command may be running that has read the branch and holds no lock: it waits in an editor for
/// the message of a commit, or a hook runs before that. Git writes the message to a file before it opens the editor. It
/// moves the branch, and writes a line of the log, after the editor has ended.
pub(super) fn may_hold_branch(dir: &Path) -> bool {
    let git = dir.join(".git");
    let time = |name: &str| {
        let meta = fs::symlink_metadata(git.join(name)).ok()?;
        Some((meta.mtime(), meta.mtime_nsec()))
    };
    let is_open =
        time("COMMIT_EDITMSG").is_some_and(|message| time("logs/HEAD").is_none_or(|moved| moved <= message));
    is_open || git.join("hooks/pre-commit").exists()
}

/// Returns a git command of another program that may move the branch of this data dir, such as one that waits in an
/// editor.
pub(super) fn at_work(dir: &Path) -> Option<RunningCommand> {
    let is_here = |cwd: &Path| {
        let top = cwd.ancestors().find(|above| above.join(".git").exists() || above.ends_with(".git"));
        top.is_some_and(|top| same_dir(top, dir) || same_dir(top, &dir.join(".git")))
    };
    let places = [dir, &dir.join(".git")].map(|place| place.to_string_lossy().into_owned());
    let names = |argv: &[String]| {
        argv.iter().any(|arg| places.contains(arg) || places.iter().any(|p| arg.ends_with(&format!("={p}"))))
    };
    let all = openers::running("git").ok()?;
    let own = std::process::id();
    let one = |(command, cwd): &(RunningCommand, PathBuf)| {
        command.pid != own && !is_reader(&command.argv) && (is_here(cwd) || names(&command.argv))
    };
    all.into_iter().find(one).map(|(command, _)| command)
}

fn same_dir(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    id(one).is_some() && id(one) == id(other)
}

/// Describes a git command and its process.
pub(super) fn command_words(command: &RunningCommand) -> String {
    let verb = verb(&command.argv).unwrap_or_default();
    format!("`git {verb}` (process {})", command.pid)
}

fn verb(argv: &[String]) -> Option<&str> {
    let mut args = argv.iter().skip(1).map(String::as_str);
    while let Some(arg) = args.next() {
        if WITH_VALUE.contains(&arg) {
            args.next();
        } else if !arg.starts_with('-') {
            return Some(arg);
        }
    }
    None
}

fn is_reader(argv: &[String]) -> bool {
    verb(argv).is_none_or(|verb| READERS.contains(&verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_stale_when_it_is_ours_or_old_and_no_process_uses_it() {
        assert!(is_stale(true, 0, false) && is_stale(false, OTHERS_MS, false));
        assert!(!is_stale(false, OTHERS_MS - 1, false));
        assert!(!is_stale(true, OTHERS_MS, true) && !is_stale(false, OTHERS_MS, true));
    }

    #[test]
    fn reading_git_commands_are_distinguished_from_committing_ones() {
        let argv = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for line in ["git log", "git -C /a -c a=b show", "git --git-dir x --no-pager diff", "git"] {
            assert!(is_reader(&argv(line)), "{line}");
        }
        for line in ["git commit", "git -C log ci", "git --no-pager rebase -i"] {
            assert!(!is_reader(&argv(line)), "{line}");
        }
    }
}
