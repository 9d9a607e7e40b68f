//! The files of a project: what its ignore files leave, without what is vendored and without following links.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Result, anyhow};
use ignore::WalkBuilder;

use super::Limits;
use crate::sys::clock::Deadline;

/// Directories with the code of others, and with what is built.
const FOREIGN: [&str; 9] = [
    "node_modules",
    "vendor",
    "third_party",
    "bower_components",
    "site-packages",
    "venv",
    "__pycache__",
    "target",
    "dist",
];

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its path from the root, with `/`.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) changed_ns: i64,
}

/// How far a walk came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// To the end.
    All,
    /// To the most files that are allowed.
    Full,
    /// To the deadline.
    Late,
}

/// The files below `root`, sorted, and whether these are all.
pub(super) fn files(root: &Path, limits: &Limits, deadline: &Deadline) -> Result<(Vec<Found>, End)> {
    let mut found = Vec::new();
    // What a human ignores everywhere is none of the project's business, and would make the map differ between people.
    let walk = WalkBuilder::new(root)
        .follow_links(false)
        .require_git(false)
        .git_global(false)
        .sort_by_file_name(|a, b| a.cmp(b))
        .filter_entry(|entry| {
            let is_dir = entry.file_type().is_some_and(|kind| kind.is_dir());
            let name = entry.file_name().to_string_lossy();
            entry.depth() == 0 || !(is_dir && FOREIGN.contains(&name.as_ref()))
        })
        .build();
    for entry in walk {
        if found.len() >= limits.files || deadline.passed() {
            found.sort_by(|a: &Found, b| a.path.cmp(&b.path));
            let end = if deadline.passed() { End::Late } else { End::Full };
            return Ok((found, end));
        }
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.depth() == Some(0) || found.is_empty() && !root.is_dir() => {
                return Err(anyhow!("could not list `{}`: {error}", root.display()));
            }
            // A directory that nobody may enter has no files for the map.
            Err(_) => continue,
        };
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let (Ok(path), Ok(meta)) = (entry.path().strip_prefix(root), entry.metadata()) else { continue };
        let Some(path) = path.to_str().filter(|path| !path.ends_with(".min.js")) else { continue };
        let changed_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        found.push(Found { path: path.to_owned(), size: meta.len(), changed_ns });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((found, End::All))
}
