//! Replacing and removing files that the user may edit, so that no save is lost. [`crate::rules::exchange`] has the
//! rule.
//!
//! # Guarantees A save between the check and the change comes out of the exchange and is put back. So does a file that
//! a process has open for writing: what it writes later lands in the file. If two texts of the user compete, both stay,
//! one of them under a name with `looop-saved`. [`settle_dir`] settles what a killed process left. The callers hold a
//! lock that excludes other changes by looop.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;

use super::file::{self, Doing, ReadError, take_name};
use crate::os::path;
use crate::os::writers::WriterGuard;
use crate::rules::digest::Digest;
pub use crate::rules::digest::digest_of;
use crate::rules::exchange::{FileChange, FileContent, NextStep, next_step};

/// The most steps of one settlement. Each step after the fourth handles a save made in the meantime.
const MAX_STEPS: usize = 32;
/// The most kept versions of one file.
const MAX_KEPT: usize = 1_000;

/// The result of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// The change was made.
    Made,
    /// The file is not what was seen, or a process has it open for writing. It holds the user's text; further texts are
    /// kept under these names.
    Changed { kept: Vec<PathBuf> },
    /// The file system cannot exchange two names. Nothing was changed.
    Impossible,
}

/// What to do if the file system cannot exchange two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    Nothing,
    /// Move the old file away before the new one gets its name: for a moment there is no file.
    Steps,
}

/// Creates or replaces a file. `seen` is the digest of the old content; `None` requires that no file exists.
pub fn write(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    seen: Option<&Digest>,
    fallback: Fallback,
) -> Result<Exchanged> {
    let Some(seen) = seen else {
        let made = file::create(path, bytes, mode)?;
        return Ok(if made { Exchanged::Made } else { Exchanged::Changed { kept: Vec::new() } });
    };
    let change = FileChange { new: Some(digest_of(bytes)), seen: seen.clone() };
    replace(path, &change, fallback, |temp| file::write_new(temp, bytes, mode))
}

/// Replaces the file at a path, durably. `make` writes the new file to the path that it receives.
pub fn replace(
    path: &Path,
    change: &FileChange,
    fallback: Fallback,
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<Exchanged> {
    let aside = private(path, change.private_name(name_of(path)))?;
    let temp = private(path, change.unfinished_name(name_of(path)))?;
    let mut kept = settle_file(path)?;
    if !is_as_seen(path, change).doing("write", path)? {
        return Ok(Exchanged::Changed { kept });
    }
    let placed = make(&temp).and_then(|()| fs::rename(&temp, &aside));
    placed.inspect_err(|_| remove_own(&temp)).doing("write", path)?;
    let is_placed = match (path::exchange(&aside, path), fallback) {
        (Ok(()), _) => true,
        (Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP), Fallback::Steps) => {
            let placed = in_steps(path, change, &temp, &aside);
            // If the new file has its final name by now, this name is free.
            remove_own(&temp);
            placed.doing("write", path)?
        }
        (Err(error), _) => {
            remove_own(&aside);
            return match error {
                Errno::NOENT => Ok(Exchanged::Changed { kept }),
                Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => Ok(Exchanged::Impossible),
                error => Err(io::Error::from(error)).doing("write", path),
            };
        }
    };
    let is_changed = settle(path, change, &aside, &mut kept).doing("write", path)?;
    file::sync_dir(path)?;
    Ok(if is_placed && !is_changed { Exchanged::Made } else { Exchanged::Changed { kept } })
}

/// Moves the old file away, compares it, and gives the new file its name. Returns false if another file has the name.
fn in_steps(path: &Path, change: &FileChange, temp: &Path, aside: &Path) -> io::Result<bool> {
    fs::rename(aside, temp)?;
    fs::rename(path, aside)?;
    if is_as_seen(aside, change)? { take_name(temp, path) } else { Ok(false) }
}

/// Removes a file if its content is `seen`. A missing file is not an error.
pub fn remove(path: &Path, seen: &Digest) -> Result<Exchanged> {
    let change = FileChange { new: None, seen: seen.clone() };
    let aside = private(path, change.private_name(name_of(path)))?;
    let mut kept = settle_file(path)?;
    match inspect(path).doing("remove", path)? {
        None => return Ok(Exchanged::Made),
        Some(now) if !is(&now.content, Some(seen)) => return Ok(Exchanged::Changed { kept }),
        Some(_) => {}
    }
    if file::present(fs::rename(path, &aside)).doing("remove", path)?.is_none() {
        return Ok(Exchanged::Made);
    }
    let is_changed = settle(path, &change, &aside, &mut kept).doing("remove", path)?;
    file::sync_dir(path)?;
    Ok(if is_changed { Exchanged::Changed { kept } } else { Exchanged::Made })
}

/// Moves a file to a free name if its content is `seen`.
pub fn move_away(from: &Path, to: &Path, seen: &Digest) -> Result<Exchanged> {
    let failed = || format!("could not move `{}` to `{}`", from.display(), to.display());
    let change = FileChange { new: None, seen: seen.clone() };
    if !is_as_seen(from, &change).with_context(failed)? {
        return Ok(Exchanged::Changed { kept: Vec::new() });
    }
    match path::rename_new(from, to) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            // A hard link is exclusive too. The old name is removed only if it still has the same content.
            fs::hard_link(from, to).with_context(failed)?;
            if let Exchanged::Changed { kept } = remove(from, seen)? {
                remove_own(to);
                return Ok(Exchanged::Changed { kept });
            }
        }
        Err(Errno::NOENT) => return Ok(Exchanged::Changed { kept: Vec::new() }),
        other => other.map_err(io::Error::from).with_context(failed)?,
    }
    let back = give_back(from, to, seen).with_context(failed)?;
    file::sync_dir(to)?;
    file::sync_dir(from)?;
    Ok(back.unwrap_or(Exchanged::Made))
}

/// Moves the current content of a file to a free name.
pub fn put_away(from: &Path, to: &Path) -> Result<Exchanged> {
    let seen = inspect(from)?.map(|now| now.content.digest).unwrap_or_default();
    // An unreadable file cannot be compared either.
    if seen.is_empty() {
        file::rename_new(from, to).map(|()| Exchanged::Made)
    } else {
        move_away(from, to, &seen)
    }
}

/// Undoes a move if the moved file is not what was seen; returns `None` if it is.
pub fn give_back(from: &Path, to: &Path, seen: &Digest) -> io::Result<Option<Exchanged>> {
    match inspect(to)? {
        Some(moved) if !is(&moved.content, Some(seen)) => {}
        _ => return Ok(None),
    }
    let kept = if take_name(to, from)? { Vec::new() } else { vec![to.to_owned()] };
    Ok(Some(Exchanged::Changed { kept }))
}

/// Settles each change in a directory that a killed process left unfinished. Returns the files whose change was undone,
/// each with the names under which further texts are kept.
pub fn settle_dir(dir: &Path) -> Result<Vec<(PathBuf, Vec<PathBuf>)>> {
    let mut taken_back = Vec::new();
    for left in leftovers(dir)? {
        let mut kept = Vec::new();
        let is_changed = settle_one(&left, &mut kept)?;
        file::sync_dir(&left.path)?;
        if is_changed {
            taken_back.push((left.path, kept));
        }
    }
    Ok(taken_back)
}

/// Returns true if a killed process left an unfinished change in this directory.
pub fn has_leftovers(dir: &Path) -> Result<bool> {
    leftovers(dir).map(|all| !all.is_empty())
}

/// Settles each change of one file that a killed process left unfinished. Returns the names under which further texts
/// are kept.
pub fn settle_file(path: &Path) -> Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    let dir = path.parent().unwrap_or(Path::new("."));
    for left in leftovers(dir)?.into_iter().filter(|left| left.path == path) {
        settle_one(&left, &mut kept)?;
    }
    Ok(kept)
}

fn settle_one(left: &Leftover, kept: &mut Vec<PathBuf>) -> Result<bool> {
    let settled = match &left.change {
        Some(change) => settle(&left.path, change, &left.private, kept),
        None => fs::remove_file(&left.private).map(|()| false),
    };
    settled.doing("settle the change of", &left.path)
}

/// A change that a killed process left unfinished.
struct Leftover {
    path: PathBuf,
    /// `None` if the new content was still being written.
    change: Option<FileChange>,
    private: PathBuf,
}

fn leftovers(dir: &Path) -> Result<Vec<Leftover>> {
    let left = |private: OsString| {
        let bytes = private.as_bytes();
        let change = FileChange::parse(bytes);
        let name = change.as_ref().map(|(name, _)| *name).or_else(|| FileChange::parse_unfinished(bytes))?;
        let path = dir.join(OsStr::from_bytes(name));
        Some(Leftover { path, change: change.map(|(_, change)| change), private: dir.join(&private) })
    };
    Ok(file::entries(dir)?.iter().filter_map(|entry| left(entry.file_name())).collect())
}

/// Settles one change. Returns whether the file is not what was seen; the names of further texts go into `kept`.
fn settle(path: &Path, change: &FileChange, aside: &Path, kept: &mut Vec<PathBuf>) -> io::Result<bool> {
    let (mut is_changed, mut is_back) = (false, false);
    for _ in 0..MAX_STEPS {
        let Some(out) = inspect(aside)? else { return Ok(is_changed) };
        let here = inspect(path)?.map(|here| here.content);
        let step = next_step(change, here.as_ref(), Some(&out.content));
        match step {
            NextStep::Finish => return Ok(is_changed),
            NextStep::Remove => {
                if is_changed {
                    // A power loss must not undo the exchange back and keep the removal.
                    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
                }
                // A process that waits to write gets the file, and the next step sees its text.
                if out.guard.as_ref().is_none_or(WriterGuard::is_undisturbed) {
                    fs::remove_file(aside)?;
                }
            }
            NextStep::Exchange if !is_back => {
                is_changed = true;
                is_back = exchange_back(path, change, aside)?;
            }
            NextStep::Restore => {
                is_changed = true;
                take_name(aside, path)?;
            }
            NextStep::Exchange | NextStep::Keep => {
                is_changed = true;
                kept.push(keep(path, aside)?);
            }
        }
    }
    kept.push(keep(path, aside)?);
    Ok(is_changed)
}

/// Puts the user's text back. Of looop's text and a save made in the meantime, the newest stays in place. Returns false
/// if the file is gone; the next step sees that.
fn exchange_back(path: &Path, change: &FileChange, aside: &Path) -> io::Result<bool> {
    match path::exchange(aside, path) {
        Err(Errno::NOENT) => return Ok(false),
        // The file did not get here by an exchange, so none has to be undone.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(true),
        other => other?,
    }
    if inspect(aside)?.is_some_and(|out| !is(&out.content, change.new.as_ref())) {
        path::exchange(aside, path)?;
    }
    Ok(true)
}

/// Gives the user's text a visible name beside the file.
fn keep(path: &Path, aside: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default();
    for nth in 1..=MAX_KEPT {
        let mut other = name.to_owned();
        other.push(format!(".looop-saved-{nth}"));
        let other = path.with_file_name(other);
        if take_name(aside, &other)? {
            return Ok(other);
        }
    }
    Err(io::Error::other(format!("there are {MAX_KEPT} kept versions of it; remove them")))
}

/// Moves a file, or whatever else has its name, to a free name beside it.
pub fn set_aside(path: &Path) -> Result<PathBuf> {
    let kept = keep(path, path).doing("move", path)?;
    file::sync_dir(path)?;
    Ok(kept)
}

fn name_of(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_bytes()
}

fn private(path: &Path, name: Option<Vec<u8>>) -> Result<PathBuf> {
    match name {
        Some(private) => Ok(path.with_file_name(OsString::from_vec(private))),
        None => bail!("could not replace `{}`: its name is too long", path.display()),
    }
}

/// A file, and its guard against writers.
struct Inspected {
    content: FileContent,
    guard: Option<WriterGuard>,
}

/// Reads what a path leads to. The content of a link is its target; anything but a file or a link has no digest.
fn inspect(path: &Path) -> io::Result<Option<Inspected>> {
    let digest = match file::open(path) {
        Ok(None) => return Ok(None),
        Ok(Some(file)) => {
            let guard = WriterGuard::take(&file)?;
            let content = FileContent { digest: file::digest_of_file(file)?, is_open: guard.is_none() };
            return Ok(Some(Inspected { content, guard }));
        }
        Err(ReadError::NotRegular) => fs::read_link(path).map(|to| link_digest(&to)).unwrap_or_default(),
        Err(_) => String::new(),
    };
    Ok(Some(Inspected { content: FileContent { digest, is_open: false }, guard: None }))
}

fn is_as_seen(path: &Path, change: &FileChange) -> io::Result<bool> {
    Ok(inspect(path)?.is_some_and(|now| is(&now.content, Some(&change.seen))))
}

fn is(content: &FileContent, digest: Option<&Digest>) -> bool {
    !content.is_open
        && digest.is_some_and(|digest| content.digest.starts_with(digest.as_str()) && !digest.is_empty())
}

/// Returns the digest of a symbolic link with this target. It differs from the digest of every file content.
pub fn link_digest(target: &Path) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("looop symbolic link");
    hasher.update(target.as_os_str().as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// If a file of looop stays behind, the next change of the same file removes it.
fn remove_own(path: &Path) {
    drop(fs::remove_file(path));
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
