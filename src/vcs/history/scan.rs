//! The difference between the data dir and a commit: a walk over the files that reads only those for which the index's
//! stat data cannot vouch.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context, Result};
use gix::bstr::BStr;
use gix::index::Entry;
use gix::index::entry::{Flags, Mode, Stage, Stat, stat};
use gix::index::fs::Metadata;

use super::ignored::Ignored;
use super::{Leaf, Leaves};
use crate::store::file;

/// Compares all stat data, including nanoseconds: a mismatch only costs one read of the file.
pub(super) const STRICT: stat::Options =
    stat::Options { trust_ctime: true, check_stat: true, use_nsec: true, use_stdev: false };

/// One walk over the data dir.
pub(super) struct Scan<'a> {
    dir: &'a Path,
    head: &'a Leaves,
    index: &'a gix::index::File,
    ignored: Ignored,
    seen: HashSet<String>,
    found: Vec<String>,
}

impl<'a> Scan<'a> {
    /// Lists the paths that differ from HEAD's, sorted.
    pub(super) fn run(dir: &'a Path, head: &'a Leaves, index: &'a gix::index::File) -> Result<Vec<String>> {
        let ignored = Ignored::below(dir);
        let mut scan = Self { dir, head, index, ignored, seen: HashSet::new(), found: Vec::new() };
        scan.dir("", false)?;
        scan.ignored.check()?;
        for (path, leaf) in head {
            if leaf.mode != Mode::COMMIT && !scan.seen.contains(path) && !scan.is_left_out(path) {
                scan.found.push(path.clone());
            }
        }
        scan.found.sort_unstable();
        Ok(scan.found)
    }

    /// Scans one directory; `hidden` means that new files below it do not count.
    fn dir(&mut self, at: &str, hidden: bool) -> Result<()> {
        for entry in file::entries(&self.dir.join(at))? {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.eq_ignore_ascii_case(".git") {
                continue;
            }
            let path = if at.is_empty() { name } else { format!("{at}/{name}") };
            let kind = match entry.file_type() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                kind => kind.with_context(|| format!("could not read {path}"))?,
            };
            if !kind.is_dir() {
                self.file(path, kind.is_file() || kind.is_symlink(), hidden)?;
                continue;
            }
            let is_nested = || fs::symlink_metadata(entry.path().join(".git")).is_ok();
            let hidden = hidden || self.ignored.has(path.as_bytes(), true) || is_nested();
            // Scan HEAD's files even where new files do not count, as git does: an unscanned file would count as
            // deleted.
            if !hidden || self.is_tracked_dir(&path) {
                self.dir(&path, hidden)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: String, is_storable: bool, hidden: bool) -> Result<()> {
        let staged = self.index.entry_by_path_and_stage(path.as_str().into(), Stage::Unconflicted);
        if let Some(leaf) = self.head.get(&path) {
            let known = staged.map(|entry| (entry, &**self.index));
            let now = on_disk(self.dir, path.as_str().into(), known)?;
            if now.is_none_or(|(now, _)| now != *leaf) {
                self.found.push(path.clone());
            }
            self.seen.insert(path);
        } else if is_storable && (staged.is_some() || !(hidden || self.ignored.has(path.as_bytes(), false))) {
            self.found.push(path);
        }
        Ok(())
    }

    fn is_tracked_dir(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.head.range(below.clone()..).next().is_some_and(|(first, _)| first.starts_with(&below))
            || self.index.path_is_directory(path.into())
    }

    /// Returns true if a sparse checkout keeps the file off the disk.
    fn is_left_out(&self, path: &str) -> bool {
        let staged = self.index.entry_by_path_and_stage(path.into(), Stage::Unconflicted);
        staged.is_some_and(|entry| entry.flags.contains(Flags::SKIP_WORKTREE))
    }
}

/// Returns the file or link at `path` below `dir`, and its stat data; `None` if none is there. Reads the content unless
/// `known`, an entry and its index, still describes the file.
pub(super) fn on_disk(
    dir: &Path,
    path: &BStr,
    known: Option<(&Entry, &gix::index::State)>,
) -> Result<Option<(Leaf, Stat)>> {
    let cause = || format!("could not read {path}");
    let full = dir.join(gix::path::from_bstr(path).with_context(cause)?);
    // Before the content, so that a later change makes the stat data differ.
    let meta = match Metadata::from_path_no_follow(&full) {
        Err(e) if is_gone(&e) => return Ok(None),
        meta => meta.with_context(cause)?,
    };
    let mode = match (meta.is_symlink(), meta.is_file()) {
        (true, _) => Mode::SYMLINK,
        (_, true) if meta.is_executable() => Mode::FILE_EXECUTABLE,
        (_, true) => Mode::FILE,
        _ => return Ok(None),
    };
    let stat = Stat::from_fs(&meta).with_context(cause)?;
    if let Some((entry, index)) = known
        && entry.mode == mode
        && entry.stat.matches(&stat, STRICT)
        && !entry.stat.is_racy(index.timestamp(), STRICT)
    {
        return Ok(Some((Leaf { mode, id: entry.id }, stat)));
    }
    let bytes = match mode {
        Mode::SYMLINK => fs::read_link(&full).map(|to| to.as_os_str().as_bytes().to_vec()),
        _ => fs::read(&full),
    };
    let bytes = match bytes {
        Err(e) if is_gone(&e) => return Ok(None),
        bytes => bytes.with_context(cause)?,
    };
    let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Blob, &bytes);
    Ok(Some((Leaf { mode, id: id.context("could not hash a file")? }, stat)))
}

fn is_gone(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
