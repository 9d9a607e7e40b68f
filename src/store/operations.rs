//! File operations of a move: makes a change in the data dir, and finds out after a crash whether it was made.
//!
//! Every change carries the digest of the content that it replaces. If the file has another content by now, another
//! process wrote it, and the change is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::exchange::{self, Exchanged, Fallback};
use super::file::{self, Doing};
use super::json_file::read_json;
use super::layout::{self, Layout};
use super::{lock, user_files};
use crate::rules::beat::schedule::Schedule;
use crate::rules::beat::state::Operation;
use crate::rules::beat::step::{self, CHANGED, Probe};
use crate::rules::digest::Digest;
use crate::rules::name::Name;

/// The result of a file operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeResult {
    /// The change was made.
    Made,
    /// The change was refused, with the reason: the file is not what the decision saw.
    Refused(String),
    /// The change waits for the next beat, with the reason.
    Waits(String),
}

/// Changes a file under the store's lock.
///
/// # Errors
/// When the file system refuses; the file is then unchanged.
pub fn perform(layout: &Layout, operation: &Operation, fallback: Fallback) -> Result<ChangeResult> {
    let _held = lock::store(&layout.store_lock())?;
    match look(layout, operation)? {
        Probe::NotMade => {}
        // The change is already there, byte for byte.
        Probe::Made | Probe::Journaled(_) => return Ok(ChangeResult::Made),
        Probe::Dropped(why) | Probe::Unknown(why) => return Ok(ChangeResult::Refused(why)),
    }
    let (path, exchanged) = match operation {
        Operation::Write { path, text, executable, replaces } => {
            let target = with_dir(layout, path)?;
            let mode = if *executable { 0o700 } else { 0o600 };
            (path, exchange::write(&target, text.as_bytes(), mode, replaces.as_ref(), fallback)?)
        }
        Operation::Rename { from, to, content } => {
            let target = with_dir(layout, to)?;
            (from, exchange::move_away(&layout.file(from), &target, content)?)
        }
        Operation::Remove { path, content } => (path, exchange::remove(&layout.file(path), content)?),
        Operation::Nothing | Operation::Exec { .. } | Operation::Fleet | Operation::StartWorker(_) => {
            return Ok(ChangeResult::Made);
        }
    };
    Ok(match exchanged {
        Exchanged::Made => ChangeResult::Made,
        Exchanged::Changed { kept } => ChangeResult::Refused(changed_words(layout, &kept)),
        Exchanged::Impossible => ChangeResult::Waits(format!(
            "the file system of `{path}` cannot exchange two files; the next beat replaces the file if it has not changed"
        )),
    })
}

fn with_dir(layout: &Layout, path: &str) -> Result<PathBuf> {
    let target = layout.file(path);
    if let Some(dir) = target.parent() {
        file::make_dir(dir)?;
    }
    Ok(target)
}

/// Says why a change is refused, and under which names other versions of the file are kept.
pub fn changed_words(layout: &Layout, kept: &[PathBuf]) -> String {
    if kept.is_empty() {
        return CHANGED.to_owned();
    }
    let name = |path: &PathBuf| path.strip_prefix(layout.root()).unwrap_or(path).display().to_string();
    let names: Vec<String> = kept.iter().map(name).collect();
    format!("{CHANGED}; another version of the user's text is kept as {}", names.join(", "))
}

/// Settles changes that a killed process left unfinished, before anything is read. Returns the changes that were
/// undone, with a message for each file.
pub fn settle(layout: &Layout) -> Result<BTreeMap<PathBuf, String>> {
    let mut taken_back = BTreeMap::new();
    for dir in ["", "goals", "sensors", "schedules"].map(|dir| layout.file(dir)) {
        if exchange::has_leftovers(&dir)? {
            // A command of the user may be in the middle of a change.
            let _held = lock::store(&layout.store_lock())?;
            let all = exchange::settle_dir(&dir)?.into_iter();
            taken_back.extend(all.map(|(path, kept)| (path, changed_words(layout, &kept))));
        }
    }
    Ok(taken_back)
}

/// Syncs a change that was found to be made.
pub fn sync(layout: &Layout, operation: &Operation) -> Result<()> {
    match operation {
        Operation::Write { path, .. } | Operation::Remove { path, .. } => file::sync(&layout.file(path)),
        Operation::Rename { from, to, .. } => {
            file::sync(&layout.file(to)).and_then(|()| file::sync(&layout.file(from)))
        }
        Operation::Nothing | Operation::Exec { .. } | Operation::Fleet | Operation::StartWorker(_) => Ok(()),
    }
}

/// Finds out whether a killed process made a change of a file. [`Probe::NotMade`] means that the change can safely be
/// made. Undoes a rename that moved a text of the user.
pub fn probe(layout: &Layout, operation: &Operation) -> Result<Probe> {
    if let Operation::Rename { from, to, content } = operation {
        let _held = lock::store(&layout.store_lock())?;
        let [from, to] = [from, to].map(|path| layout.file(path));
        let is_moved = Path::try_exists(&from).is_ok_and(|there| !there);
        let back = if is_moved { exchange::give_back(&from, &to, content)? } else { None };
        if let Some(Exchanged::Changed { kept }) = back {
            return Ok(Probe::Dropped(changed_words(layout, &kept)));
        }
    }
    look(layout, operation)
}

fn look(layout: &Layout, operation: &Operation) -> Result<Probe> {
    match step::compare(operation, &mut |path| content(layout, path)) {
        // A file that is not regular or not readable: another process put it there, and it stays.
        Err(error) if error.is::<file::ReadError>() => Ok(Probe::Dropped(format!("{error:#}"))),
        other => other,
    }
}

/// Returns the blake3 digest of each sensor and timer by its path. An unreadable file gets an empty digest, which never
/// matches, so that no move changes it.
pub fn held(layout: &Layout) -> Result<BTreeMap<String, Digest>> {
    let mut held = BTreeMap::new();
    for dir in ["sensors", "schedules"] {
        for name in user_files::list(&layout.file(dir))? {
            let path = format!("{dir}/{name}");
            if let Some(digest) = content(layout, &path).unwrap_or(Some(String::new())) {
                held.insert(path, digest);
            }
        }
    }
    Ok(held)
}

/// Returns the blake3 digest of a file of the data dir; `None` if there is no such file.
fn content(layout: &Layout, path: &str) -> Result<Option<Digest>> {
    file::digest(&layout.file(path)).with_context(|| format!("could not read `{path}`"))
}

/// Archives an ask and its answer, after a decision saw it. The caller holds the store's lock. Archived files are
/// skipped.
pub fn put_away_ask(layout: &Layout, id: &Name) -> Result<()> {
    let _held = lock::store(&layout.store_lock())?;
    let past = layout.asks().join("archive");
    file::make_dir(&past)?;
    let stamp = std::fs::metadata(layout.file(&layout::ask_path(id))).and_then(|meta| meta.modified()).ok();
    let suffix =
        stamp.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |age| age.as_millis());
    // The answer first: an answer left behind would be taken for the answer to the next ask of this id. An ask left
    // behind is harmless, because the loop's memory has it as closed.
    for end in [".answer.json", ".json"] {
        let (from, to) = (layout.asks().join(format!("{id}{end}")), past.join(format!("{id}-{suffix}{end}")));
        if file::present(std::fs::rename(&from, &to)).doing("archive", &from)?.is_some() {
            // A power loss must not bring back an approval that was used.
            file::sync_dir(&to).and_then(|()| file::sync_dir(&from))?;
        }
    }
    Ok(())
}

/// Removes a timer that can never fire again, unless it was set again since it was read. `remember` is called just
/// before a removal.
pub fn drop_schedule(
    layout: &Layout,
    name: &Name,
    read: &Schedule,
    remember: &mut dyn FnMut(String) -> Result<()>,
) -> Result<()> {
    let _held = lock::store(&layout.store_lock())?;
    let relative = layout::schedule_path(name);
    let path = layout.file(&relative);
    let seen = content(layout, &relative)?;
    let is_same = read_json::<Schedule>(&path)?.as_ref() == Some(read);
    let Some(seen) = seen.filter(|_| is_same) else { return Ok(()) };
    remember(relative)?;
    // A timer that was set again in the meantime stays.
    exchange::remove(&path, &seen).map(drop)
}
