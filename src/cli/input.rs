//! Text from the user: an argument, stdin, or an editor. Empty text is refused, because it would erase the
//! existing text.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{App, Fault, print};
use crate::os::program;
use crate::store::exchange;
use crate::store::file::{self, Durability, ReadError};
use crate::store::user_files::MAX_TEXT_BYTES;

/// Reads the new text of a file: from the argument; from stdin for `-` or without a terminal; else from the
/// editor, which starts with `present`.
///
/// # Errors
/// The text is empty, looks like a flag, or is too large.
pub fn text(app: &App, what: &str, argument: Option<&str>, present: &str) -> Result<String> {
    let text = match argument {
        Some(text) if text.starts_with('-') && text != "-" && !text.contains('\n') => {
            let what = format!("could not write {what}: `{text}` looks like a flag, not like a text");
            return Err(Fault::usage(what).hint("give the text on stdin with `-`").into());
        }
        argument if is_edited(argument) => edited(app, what, &draft(app, DRAFT)?, present, None)?,
        None | Some("-") => stdin(what)?,
        Some(text) => text.to_owned(),
    };
    if text.trim().is_empty() {
        let fault = Fault::usage(format!("could not write {what}: the text is empty"));
        return Err(fault.hint("nothing was changed").into());
    }
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// True if a text comes from an editor.
pub fn is_edited(argument: Option<&str>) -> bool {
    argument.is_none() && print::stdin_is_tty()
}

/// The draft of a file of the data dir.
pub const DRAFT: &str = "draft.md";

/// The file in the cache that holds a new text until it has replaced the present one.
pub fn draft(app: &App, name: &str) -> Result<PathBuf> {
    let dir = app.layout.cache().join("edit");
    file::make_dir(&dir)?;
    Ok(dir.join(name))
}

/// The hint that names the place of a text that was not saved.
pub fn kept_hint(draft: &Path) -> String {
    format!("your text is kept as {}", draft.display())
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

/// Reads the file that an argument names.
///
/// # Errors
/// A usage error if the file does not exist or cannot be read.
pub fn file<T>(
    app: &App,
    path: &Path,
    read: impl FnOnce(&Path) -> Result<Option<T>, ReadError>,
) -> Result<T> {
    let path = app.env.here(path);
    let unreadable = |why: String| Fault::usage(format!("could not read `{}`: {why}", path.display()));
    let content = read(&path).map_err(|error| unreadable(error.to_string()))?;
    Ok(content.ok_or_else(|| unreadable("it does not exist".to_owned()))?)
}

/// Opens the user's editor on a draft, which begins as the present text or as the one that was kept, and returns the
/// saved text. The draft stays if it could not be used; a draft that is there and is not continued is kept beside it.
pub fn edited(app: &App, what: &str, draft: &Path, present: &str, kept: Option<&str>) -> Result<String> {
    if kept.is_none() && draft.exists() {
        let kept = exchange::set_aside(draft)?;
        print::note(&format!("an earlier text that could not be saved is kept as {}", kept.display()));
    }
    file::write(draft, kept.unwrap_or(present).as_bytes(), 0o600, Durability::Atomic)?;
    if !program::run_interactive(app.env.editor(), draft)? {
        let fault = Fault::failed(format!("could not edit {what}: the editor failed"));
        return Err(fault.hint("nothing was changed").hint(kept_hint(draft)).into());
    }
    let text = file::read_text(draft, MAX_TEXT_BYTES)?.unwrap_or_default();
    if text == present {
        file::remove(draft)?;
        return Err(Fault::failed(format!("could not write {what}: it was not changed")).into());
    }
    Ok(text)
}
