//! The parts of git directories that make git run something or obey something: what is in a sandbox cannot write them.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories of a git directory that can only be read: hooks run, `info` holds attributes and excludes, and `modules` holds
/// whole git directories.
const DIRS: [&str; 3] = ["hooks", "info", "modules"];
/// Files of it that can only be read.
const FILES: [&str; 3] = ["config", "config.worktree", "commondir"];
/// Files of a linked worktree that can only be read: its own config, and where its files and its repository are.
const WORKTREE_FILES: [&str; 3] = ["config.worktree", "commondir", "gitdir"];
/// How many directories are looked into for nested repositories, and how deep.
const MAX_DIRS: usize = 2_000;
const MAX_DEPTH: usize = 5;
/// Directories that hold repositories of others at the most, and very many files.
const SKIPPED: [&str; 3] = ["node_modules", "target", ".venv"];

/// What is mounted over itself below a directory that may be written: the path, and whether it may be written there. A mount
/// cannot be renamed or removed, so that no other git directory takes its place.
pub(super) fn mounts(dir: &Path) -> Vec<(PathBuf, bool)> {
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
        // The file of a worktree or a submodule says where its git directory is.
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

/// The parts of one git directory. A missing directory is made empty, which git does too: else it could be made and filled.
fn parts(git: &Path, all: &mut Vec<(PathBuf, bool)>) {
    let is_git = is_git_dir(git);
    for name in DIRS {
        let part = git.join(name);
        if is_git && part.symlink_metadata().is_err() {
            // Where it cannot be made, nothing in the sandbox can make it either.
            drop(fs::create_dir(&part));
        }
        if part.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            all.push((part, false));
        }
    }
    for name in FILES {
        let part = git.join(name);
        if part.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            all.push((part, false));
        }
    }
    // The folders above are mounted as well, so that none of them can be renamed.
    let worktrees = git.join("worktrees");
    let is_dir = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    if !is_dir(&worktrees) {
        return;
    }
    let entries = fs::read_dir(&worktrees).into_iter().flatten().flatten();
    for tree in entries.map(|entry| entry.path()).filter(|tree| is_dir(tree)) {
        let files = WORKTREE_FILES.iter().map(|name| tree.join(name));
        let files = files.filter(|file| file.symlink_metadata().is_ok_and(|meta| meta.is_file()));
        all.extend(files.map(|file| (file, false)));
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
