//! Text from the user: an argument, stdin, or an editor. Empty text is refused, because it would erase the
//! existing text.

use anyhow::Result;

use super::{App, print};
use crate::os::program;
use crate::rules::fault::Fault;
use crate::store::file::{self, Durability};
use crate::store::user_files::MAX_TEXT_BYTES;

/// A new text from the user for one file.
pub struct NewText {
    pub text: String,
    /// True if a draft in the cache holds the text too.
    pub is_draft: bool,
}

/// Reads the new text of a file: from the argument; from stdin for `-` or without a terminal; else from the
/// editor, which starts with `present`.
///
/// # Errors
/// The text is empty, looks like a flag, or is too large.
pub fn text(app: &App, what: &str, argument: Option<&str>, present: &str) -> Result<NewText> {
    let is_draft = argument.is_none() && print::stdin_is_tty();
    let text = match argument {
        Some("-") => stdin(what)?,
        Some(text) if text.starts_with('-') && !text.contains('\n') => {
            let fault =
                Fault::usage(format!("could not write {what}: `{text}` looks like a flag, not like a text"));
            return Err(fault.hint("give the text on stdin with `-`").into());
        }
        Some(text) => text.to_owned(),
        None if !print::stdin_is_tty() => stdin(what)?,
        None => edited(app, what, present)?,
    };
    if text.trim().is_empty() {
        let fault = Fault::usage(format!("could not write {what}: the text is empty"));
        return Err(fault.hint("nothing was changed").into());
    }
    Ok(NewText { text: if text.ends_with('\n') { text } else { text + "\n" }, is_draft })
}

/// Reads all of stdin as text.
///
/// # Errors
/// The text is too large or not UTF-8.
pub fn stdin(what: &str) -> Result<String> {
    use std::io::Read;
    if print::stdin_is_tty() {
        print::note(&format!("reading {what} from here; Ctrl-D ends it"));
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MAX_TEXT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_TEXT_BYTES {
        let what = format!("could not write {what}: it is larger than {} KiB", MAX_TEXT_BYTES / 1024);
        return Err(Fault::usage(what).into());
    }
    String::from_utf8(bytes)
        .map_err(|_| Fault::usage(format!("could not write {what}: it is not UTF-8 text")).into())
}

/// Opens the user's editor on a draft and returns the saved text. The draft stays if it could not be used.
fn edited(app: &App, what: &str, present: &str) -> Result<String> {
    let dir = app.layout.cache().join("edit");
    file::make_dir(&dir)?;
    let draft = dir.join("draft.md");
    file::write(&draft, present.as_bytes(), 0o600, Durability::Whole)?;
    if !program::run_interactive(app.env.editor(), &draft)? {
        let fault = Fault::failed(format!("could not edit {what}: the editor failed"));
        return Err(fault.hint("nothing was changed").into());
    }
    let text = file::read_text(&draft, MAX_TEXT_BYTES)?.unwrap_or_default();
    if text == present {
        return Err(Fault::failed(format!("could not write {what}: it was not changed")).into());
    }
    Ok(text)
}
