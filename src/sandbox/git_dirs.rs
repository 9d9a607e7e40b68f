//! The parts of git directories that make git run or obey something: a sandbox makes them read-only.

use std::fs;
use std::path::{Path, PathBuf};

/// Read-only directories of a git directory: hooks run, `info` holds attributes and excludes, and `modules` holds whole
/// git directories.
const DIRS: [&str; 3] = ["hooks", "info", "modules"];
/// Read-only files of a git directory.
const FILES: [&str; 3] = ["config", "config.worktree", "commondir"];
/// Read-only files of a linked worktree: its own config, and the paths of its files and of its repository.
const WORKTREE_FILES: [&str; 3] = ["config.worktree", "commondir", "gitdir"];
/// How many directories are searched for nested repositories, and how deep.
const MAX_DIRS: usize = 2_000;
const MAX_DEPTH: usize = 5;
/// Directories with very many files, whose repositories are dependencies at most.
const SKIPPED: [&str; 3] = ["node_modules", "target", ".venv"];

/// Lists paths below a writable directory that are mounted over themselves, and whether each is writable. A mount
/// cannot be renamed or removed, so that no other git directory can replace it.
pub(crate) fn mounts(dir: &Path) -> Vec<(PathBuf, bool)> {
    let mut all = Vec::new();
    if !dir.is_dir() {
        return all;
    }
    if is_git_dir(dir) {
        parts(dir, &mut all);
    }
    let mut left = MAX_DIRS;
    find(dir, MAX_DEPTH, &mut left, &mut all);
    all
}

/// Returns true for an empty directory in which a git directory holds what it runs or obeys: to git it is as if it were
/// absent.
pub(crate) fn is_empty_part(dir: &Path) -> bool {
    DIRS.iter().any(|name| dir.ends_with(name))
        && dir.parent().is_some_and(is_git_dir)
        && fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

fn is_git_dir(dir: &Path) -> bool {
    dir.join("HEAD").is_file() && dir.join("objects").is_dir() && dir.join("refs").is_dir()
}

fn find(dir: &Path, depth: usize, left: &mut usize, all: &mut Vec<(PathBuf, bool)>) {
    let git = dir.join(".git");
    match git.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {
            all.push((git.clone(), true));
            parts(&git, all);
        }
        // The file of a worktree or a submodule names its git directory.
        Ok(meta) if meta.is_file() => all.push((git, false)),
        _ => {}
    }
    let Some(deeper) = depth.checked_sub(1) else { return };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_skipped = name == ".git" || SKIPPED.iter().any(|skipped| name == *skipped);
        if is_skipped || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let Some(rest) = left.checked_sub(1) else { return };
        *left = rest;
        find(&entry.path(), deeper, left, all);
    }
}

/// Lists the parts of one git directory. Makes a missing directory empty, as git does: a mount needs a place, and without
/// it a child could make and fill the directory. It stays, because another sandbox may have it mounted by now; the digest
/// of a folder leaves it out ([`is_empty_part`]), so that approvals of the folder hold.
fn parts(git: &Path, all: &mut Vec<(PathBuf, bool)>) {
    let is_git = is_git_dir(git);
    let is_dir = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    for name in DIRS {
        let part = git.join(name);
        if is_git && part.symlink_metadata().is_err() {
            // If it cannot be made here, the sandbox cannot make it either.
            drop(fs::create_dir(&part));
        }
        if is_dir(&part) {
            all.push((part, false));
        }
    }
    let files_of =
        |dir: &Path, names: [&str; 3]| names.map(|name| dir.join(name)).into_iter().filter(is_file);
    all.extend(files_of(git, FILES).map(|file| (file, false)));
    // The folders above are mounted as well, so that none of them can be renamed.
    let worktrees = git.join("worktrees");
    if !is_dir(&worktrees) {
        return;
    }
    let entries = fs::read_dir(&worktrees).into_iter().flatten().flatten();
    for tree in entries.map(|entry| entry.path()).filter(is_dir) {
        all.extend(files_of(&tree, WORKTREE_FILES).map(|file| (file, false)));
        all.push((tree, true));
    }
    all.push((worktrees, true));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_git_directory_below_a_writable_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for git in [".git", "a/b/.git", "bare"] {
            for part in ["objects", "refs"] {
                fs::create_dir_all(root.join(git).join(part)).unwrap();
            }
            fs::write(root.join(git).join("HEAD"), "ref: refs/heads/main\n").unwrap();
            for part in ["config", "config.worktree", "worktrees/one/config.worktree"] {
                let file = root.join(git).join(part);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "").unwrap();
            }
        }
        fs::create_dir_all(root.join("tree")).unwrap();
        fs::write(root.join("tree/.git"), "gitdir: ../.git/worktrees/tree\n").unwrap();
        let found = mounts(root);
        let has = |path: &str, is_write| found.contains(&(root.join(path), is_write));
        for git in [".git", "a/b/.git"] {
            assert!(has(git, true), "{git}");
            let files = ["config", "config.worktree", "worktrees/one/config.worktree"];
            for part in ["hooks", "info", "modules"].into_iter().chain(files) {
                assert!(has(&format!("{git}/{part}"), false), "{git}/{part}: {found:?}");
            }
        }
        assert!(has("tree/.git", false));
        let bare = mounts(&root.join("bare"));
        assert!(bare.contains(&(root.join("bare/hooks"), false)), "{bare:?}");
        assert!(bare.contains(&(root.join("bare/config"), false)), "{bare:?}");
        assert!(mounts(&root.join("bare/HEAD")).is_empty(), "a file holds nothing");
    }
}
