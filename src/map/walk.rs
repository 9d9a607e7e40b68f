//! The files of a project, without ignored and vendored files, and without following links.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::MapLimits;
use crate::os::clock::Deadline;
use crate::vcs::history::ignored::Ignored;

/// Directories with vendored code and build output.
const FOREIGN: &str =
    "node_modules vendor third_party bower_components site-packages venv __pycache__ target dist";

/// A file of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundFile {
    /// The path, relative to the root, with `/`.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) changed_ns: i64,
}

/// The files below `root`, sorted, and whether the list is complete. Hidden files are left out, and links are
/// not followed.
pub(super) fn files(root: &Path, limits: &MapLimits, deadline: &Deadline) -> Result<(Vec<FoundFile>, bool)> {
    let mut walk = Walk { root, ignored: Ignored::below(root), found: Vec::new() };
    let cause = || format!("could not list `{}`", root.display());
    let mut left = walk.list(String::new()).with_context(cause)?;
    while !(deadline.passed() || walk.found.len() >= limits.files)
        && let Some((path, is_dir)) = left.pop()
    {
        match is_dir {
            // A directory that cannot be read has no files for the map.
            true => left.extend(walk.list(path).unwrap_or_default()),
            false => walk.take(path),
        }
    }
    walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((walk.found, left.is_empty()))
}

struct Walk<'a> {
    root: &'a Path,
    ignored: Ignored,
    found: Vec<FoundFile>,
}

impl Walk<'_> {
    /// The entries of a directory to visit, the first by name at the end, and whether each is a directory.
    fn list(&mut self, dir: String) -> Result<Vec<(String, bool)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.root.join(&dir))? {
            let entry = entry?;
            let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else { continue };
            let is_dir = kind.is_dir();
            let is_foreign =
                is_dir && FOREIGN.split(' ').any(|foreign| foreign == name) || name.ends_with(".min.js");
            if name.starts_with('.') || is_foreign || !(is_dir || kind.is_file()) {
                continue;
            }
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            if !self.ignored.has(path.as_bytes(), is_dir) {
                all.push((path, is_dir));
            }
        }
        all.sort_by(|a, b| b.cmp(a));
        Ok(all)
    }

    fn take(&mut self, path: String) {
        let Ok(meta) = fs::symlink_metadata(self.root.join(&path)) else { return };
        let changed_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        self.found.push(FoundFile { path, size: meta.len(), changed_ns });
    }
}
