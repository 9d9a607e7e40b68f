//! Repair after a killed commit and after a power loss. A marker tells looop's lock files from those of other programs;
//! a power loss may leave a newest commit that cannot be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use gix::index::entry::Mode;

use super::{History, Leaf, locks};
use crate::store::file::{self, Doing, Durability};

/// Exists while a commit of looop is being made; locks that are not older than it are looop's.
const MARKER: &str = "looop-commit";
/// Holds the tree of that commit as soon as `index.lock` has the whole new index: once HEAD has that tree, the lock
/// becomes the index.
const TREE: &str = "looop-commit-tree";

/// The marker file; dropping this value removes it.
pub(super) struct Marker(PathBuf);

impl Marker {
    pub(super) fn set(dir: &Path) -> Result<Marker> {
        let path = dir.join(".git").join(MARKER);
        fs::write(&path, "").doing("write", &path)?;
        Ok(Marker(path))
    }

    pub(super) fn index_is_written(&self, tree: &str) -> Result<()> {
        let path = self.0.with_file_name(TREE);
        fs::write(&path, tree).doing("write", &path)
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        // If the marker stays, the next commit looks for locks of looop and finds none.
        drop(fs::remove_file(self.0.with_file_name(TREE)));
        drop(fs::remove_file(&self.0));
    }
}

/// Finishes a killed commit of looop, and removes its locks. Returns messages about removed locks of other programs.
pub(super) fn heal(dir: &Path, head_tree: Option<String>) -> Result<Vec<String>> {
    let git = dir.join(".git");
    let marker = git.join(MARKER);
    let since = modified(&marker);
    let is_ours = |lock: &Path| since.is_some_and(|since| modified(lock).is_some_and(|at| at >= since));
    let index = git.join("index.lock");
    let committed = head_tree.is_some() && fs::read_to_string(git.join(TREE)).ok() == head_tree;
    if committed && is_ours(&index) {
        // The branch was moved, and only the last step is missing.
        fs::rename(&index, git.join("index")).context("could not put the new git index in place")?;
    }
    let notes = locks::remove_stale(dir, is_ours)?;
    if since.is_some() {
        file::remove(&git.join(TREE))?;
        file::remove(&marker)?;
    }
    Ok(notes)
}

impl History {
    pub(super) fn is_whole(&self, id: &str) -> bool {
        let files = self.commit_at(id).and_then(|commit| self.files_of(commit.id));
        let is_there = |leaf: &Leaf| leaf.mode == Mode::COMMIT || self.repo.find_header(leaf.id).is_ok();
        files.is_ok_and(|files| files.values().all(is_there))
    }
}

/// Moves HEAD's branch to the newest whole commit of its log, and removes empty files that a power loss left: git takes
/// an empty object file for the object itself and never writes it again.
pub(super) fn go_back(dir: &Path, why: &anyhow::Error, is_whole: impl Fn(&str) -> bool) -> Result<String> {
    let git = dir.join(".git");
    let unreadable = || format!("could not read the newest commit: {why:#}");
    let head = fs::read_to_string(git.join("HEAD")).with_context(unreadable)?;
    let branch = head.trim().strip_prefix("ref: ").with_context(unreadable)?;
    let log = fs::read_to_string(git.join("logs/HEAD")).with_context(unreadable)?;
    let mut ids = log.lines().rev().filter_map(|line| line.split(' ').nth(1));
    let good = ids.find(|id| is_whole(id)).with_context(unreadable)?;
    for name in ["HEAD", branch] {
        let path = git.join("logs").join(name);
        let log = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = log.split_inclusive('\n').collect();
        if let Some(at) = lines.iter().rposition(|line| line.split(' ').nth(1) == Some(good)) {
            let kept = lines[..=at].concat();
            file::write(&path, kept.as_bytes(), 0o600, Durability::Durable)?;
        }
    }
    // The next commit makes the index again: this one names objects of the lost commit.
    file::remove(&git.join("index"))?;
    remove_empty_objects(&git.join("objects"))?;
    // Last: until then the tip cannot be read, so a crash repeats all of this.
    file::write(&git.join(branch), format!("{good}\n").as_bytes(), 0o600, Durability::Durable)?;
    Ok(format!(
        "the newest commit was unreadable and is dropped; the history continues from {good} ({why:#})"
    ))
}

fn remove_empty_objects(objects: &Path) -> Result<()> {
    let dirs = fs::read_dir(objects).doing("list", objects)?;
    let files = dirs.flatten().filter_map(|dir| fs::read_dir(dir.path()).ok()).flatten().flatten();
    for file in files.filter(|file| file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0)) {
        file::remove(&file.path())?;
    }
    Ok(())
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok()
}
