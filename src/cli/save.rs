//! Saves a file that the user may be editing at the same moment: the later writer gets an error, and no text is lost.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{App, Fault, Name, input, print};
use crate::rules::beat::step::CHANGED;
use crate::rules::digest::Digest;
use crate::store::exchange::{self, Exchanged, Fallback};
use crate::store::file::{self, Durability, ReadError};
use crate::store::lock;
use crate::store::user_files::MAX_TEXT_BYTES;

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
    let _held = lock::store(&app.layout.store_lock())?;
    let done = exchange::write(target, new.as_bytes(), 0o600, seen.as_ref(), Fallback::Steps)?;
    if let Exchanged::Changed { .. } = &done {
        let draft = input::draft(app, input::DRAFT)?;
        file::write(&draft, new.as_bytes(), 0o600, Durability::Atomic)?;
        let fault = changed(&format!("write {what}"), &done);
        return Err(fault.hint(format!("your text is kept as {}", draft.display())).into());
    }
    // A draft that is kept from another call stays.
    if input::is_edited(argument) {
        file::remove(&input::draft(app, input::DRAFT)?)?;
    }
    Ok(())
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
