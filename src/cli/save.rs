//! Saves a file that the user may be editing at the same moment: the later writer gets an error, and no text is lost.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{App, Fault, Name, input, print, visible};
use crate::rules::beat::step::CHANGED;
use crate::rules::digest::Digest;
use crate::rules::time::beat_id;
use crate::store::exchange::{self, Exchanged, Fallback};
use crate::store::file::{self, Durability, ReadError};
use crate::store::lock;
use crate::store::user_files::MAX_TEXT_BYTES;
use crate::vcs::history::History;

/// Replaces a text of the data dir by a new one of the user, from the argument, stdin or an editor. The editor starts
/// with the present text, or with the template if there is none.
///
/// # Errors
/// The file has other content by now. Then the new text is kept, and the error names the place.
pub fn text(app: &App, what: &str, target: &Path, argument: Option<&str>, template: &str) -> Result<()> {
    let present = file::read_text(target, MAX_TEXT_BYTES).ok().flatten();
    let seen = match &present {
        Some(present) => Some(exchange::digest_of(present.as_bytes())),
        None => digest(target)?,
    };
    let new = input::text(app, what, argument, present.as_deref().unwrap_or(template))?;
    put(app, what, target, &new, 0o600, seen.as_ref())?;
    // A draft that is kept from another call stays.
    if input::is_edited(argument) {
        file::remove(&input::draft(app, input::DRAFT)?)?;
    }
    Ok(())
}

/// Opens the user's editor on a copy of a text of the data dir, and saves the result if it passes the check.
///
/// # Errors
/// The text cannot be used, or the file has other content by now. The error names the place of the user's text.
pub fn edit(
    app: &App,
    what: &str,
    target: &Path,
    mode: u32,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<()> {
    let present = file::read_text(target, MAX_TEXT_BYTES).map_err(|why| {
        let fault = Fault::failed(format!("could not edit {what}: `{}`: {why}", target.display()));
        fault.hint("the verb `restore` brings back its last committed state")
    })?;
    let present = present.unwrap_or_default();
    let draft = input::draft(app, input::DRAFT)?;
    let new = input::edited(app, what, &draft, &present, None)?;
    let flaw = if new.trim().is_empty() { Err("the text is empty".to_owned()) } else { check(&new) };
    flaw.map_err(|why| {
        Fault::failed(format!("could not save {what}: {why}")).hint(input::kept_hint(&draft))
    })?;
    put(app, what, target, &new, mode, Some(&exchange::digest_of(present.as_bytes())))?;
    file::remove(&draft)
}

fn put(app: &App, what: &str, target: &Path, new: &str, mode: u32, seen: Option<&Digest>) -> Result<()> {
    let _held = lock::store(&app.layout.store_lock())?;
    let done = exchange::write(target, new.as_bytes(), mode, seen, Fallback::Steps)?;
    if let Exchanged::Changed { .. } = &done {
        let draft = input::draft(app, input::DRAFT)?;
        file::write(&draft, new.as_bytes(), 0o600, Durability::Atomic)?;
        return Err(changed(&format!("write {what}"), &done).hint(input::kept_hint(&draft)).into());
    }
    Ok(())
}

/// The largest number of commits that are searched for a state to restore.
const SEARCH_COMMITS: usize = 100_000;
/// The largest file that is restored, in bytes.
const MAX_FILE_BYTES: usize = 16 << 20;

/// Brings back the newest committed state of a file that differs from its present one. The present file moves to
/// `archive/` beside it.
///
/// # Errors
/// Git has no other state of any of these paths.
pub fn restore(app: &App, kind: &str, id: &Name, paths: &[String], mode: u32) -> Result<u8> {
    let history = History::open(app.layout.root())?;
    let present = |path: &String| file::read(&app.layout.file(path), MAX_FILE_BYTES).ok().flatten();
    let present: Vec<_> = paths.iter().map(present).collect();
    let commits = history.log(SEARCH_COMMITS)?;
    for (nth, commit) in commits.iter().enumerate() {
        for (path, present) in paths.iter().zip(&present) {
            let old = history.read(&commit.id, path, MAX_FILE_BYTES)?;
            let Some(bytes) = old.filter(|bytes| present.as_ref() != Some(bytes)) else { continue };
            // The commit that made this state.
            let mut made_by = commit;
            for older in &commits[nth + 1..] {
                if history.read(&older.id, path, MAX_FILE_BYTES)?.as_ref() != Some(&bytes) {
                    break;
                }
                made_by = older;
            }
            let _held = lock::store(&app.layout.store_lock())?;
            let (what, target) = (format!("restore the {kind} {id}"), app.layout.file(path));
            let mut text = format!("restored {path} of commit {}", &made_by.id[..made_by.id.len().min(10)]);
            let made_at = app.now.at(made_by.unix_s.saturating_mul(1000)).stamp();
            text +=
                &format!(" ({made_at}, {})", visible(made_by.message.lines().next().unwrap_or(""), false));
            if digest(&target)?.is_some() {
                let archive = target.with_file_name("archive");
                file::make_dir(&archive)?;
                let name = target.file_name().unwrap_or_default().to_string_lossy();
                let unique = format!("{id}-{}", beat_id(app.now.unix_ms));
                let kept = archive.join(name.replacen(id.as_str(), &unique, 1));
                made(&what, &exchange::put_away(&target, &kept)?)?;
                text += &format!("; the file that was there is kept as `{}`", kept.display());
            }
            replace(&what, &target, &bytes, mode, None)?;
            return app.done(id, &text);
        }
    }
    let why = match present.iter().any(Option::is_some) {
        true => "git has no other state of it",
        false => "git has no state of it",
    };
    Err(Fault::failed(format!("could not restore the {kind} {id}: {why}")).into())
}

/// Writes a file that the user may be editing. `seen` is the digest of the content that it replaces.
pub fn replace(what: &str, path: &Path, bytes: &[u8], mode: u32, seen: Option<&Digest>) -> Result<()> {
    made(what, &exchange::write(path, bytes, mode, seen, Fallback::Steps)?)
}

/// Moves a file of the user to a name in `archive/` beside it.
pub fn archive(app: &App, kind: &str, id: &Name, path: &Path, name: &str) -> Result<u8> {
    let _held = lock::store(&app.layout.store_lock())?;
    let archive = path.with_file_name("archive");
    file::make_dir(&archive)?;
    made(&format!("archive the {kind} {id}"), &exchange::put_away(path, &archive.join(name))?)?;
    app.done(id, &format!("archived the {kind} {id}; it is kept in `{}`", archive.display()))
}

/// The digest of the file that the user's text is about to replace; none if the file is missing. A link, a pipe
/// or a directory has no text to compare: it is renamed to a free name beside it, with a note.
///
/// # Errors
/// The file cannot be read or moved.
pub fn digest(target: &Path) -> Result<Option<Digest>> {
    match file::digest(target) {
        Err(ReadError::NotRegular) => {
            let (kept, target) = (exchange::set_aside(target)?, target.display());
            print::note(&format!("`{target}` was not a regular file; it is kept as {}", kept.display()));
            Ok(None)
        }
        digest => digest.with_context(|| format!("could not read `{}`", target.display())),
    }
}

/// Turns a change that was not made into an error.
pub fn made(what: &str, done: &Exchanged) -> Result<()> {
    match done {
        Exchanged::Made => Ok(()),
        _ => Err(changed(what, done).hint("read its present content, then run the command again").into()),
    }
}

fn changed(what: &str, done: &Exchanged) -> Fault {
    match done {
        Exchanged::Changed { kept } => {
            let changed = format!("{CHANGED} in the meantime, or is still open for writing");
            let hint = |path: &PathBuf| format!("another text is kept as {}", path.display());
            let fault = Fault::failed(format!("could not {what}: {changed}"));
            kept.iter().fold(fault, |fault, path| fault.hint(hint(path)))
        }
        _ => Fault::failed(format!("could not {what}: the file system cannot replace a file safely")),
    }
}
