//! What a killed commit leaves behind: git's lock files, told apart from those of somebody else by a marker.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

/// Stands while a commit of ours is being made; locks that are not older are ours.
const MARKER: &str = "looop-commit";
/// Names the tree of that commit from when `index.lock` holds the whole new index on: once HEAD has that tree, the
/// lock is what the index must become.
const TREE: &str = "looop-commit-tree";

/// The standing marker; dropping it removes it.
pub(super) struct Marker(PathBuf);

impl Marker {
    pub(super) fn set(dir: &Path) -> Result<Marker> {
        let path = dir.join(".git").join(MARKER);
        fs::write(&path, "").with_context(|| format!("could not write `{}`", path.display()))?;
        Ok(Marker(path))
    }

    pub(super) fn index_is_written(&self, tree: &str) -> Result<()> {
        let path = self.0.with_file_name(TREE);
        fs::write(&path, tree).with_context(|| format!("could not write `{}`", path.display()))
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        // One that stays makes the next commit look for locks, and find none of ours.
        drop(fs::remove_file(self.0.with_file_name(TREE)));
        drop(fs::remove_file(&self.0));
    }
}

pub(super) fn heal(dir: &Path, head_tree: Option<String>) -> Result<()> {
    let git = dir.join(".git");
    let marker = git.join(MARKER);
    let Some(since) = modified(&marker) else { return Ok(()) };
    let index = git.join("index.lock");
    let committed = head_tree.is_some() && fs::read_to_string(git.join(TREE)).ok() == head_tree;
    if committed && modified(&index).is_some_and(|at| at >= since) {
        // The branch was moved, and only the last step is missing.
        fs::rename(&index, git.join("index")).context("could not put the new git index in place")?;
    }
    let mut locks = vec![index, git.join("HEAD.lock")];
    if let Ok(heads) = fs::read_dir(git.join("refs/heads")) {
        let paths = heads.flatten().map(|entry| entry.path());
        locks.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "lock")));
    }
    for lock in locks.iter().filter(|lock| modified(lock).is_some_and(|at| at >= since)) {
        remove(lock)?;
    }
    remove(&git.join(TREE))?;
    remove(&marker)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok()
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
