//! The edits in an answer of a model without tools: whole files, or a part that is searched for and replaced.
//!
//! ```text
//! FILE: src/dates.py                    FILE: src/new.py
//! <<<<<<< SEARCH                        <<<<<<< WHOLE
//! lines exactly as in the file          all lines of the file
//! =======                               >>>>>>> WHOLE
//! the new lines
//! >>>>>>> REPLACE
//! ```
//!
//! An answer is applied as a whole: if one edit cannot be read or does not fit, none is made.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::str::Lines;

use crate::os::beneath::{self, Parents};
use crate::rules::beat::reply::without_thoughts;
use crate::store::file::{self, Durability, ReadError};

/// The most files that one answer may change.
const MAX_FILES: usize = 100;
/// The largest file after an edit, in bytes.
const MAX_FILE_BYTES: usize = 4 << 20;

/// The answer format, as the model is told.
pub const FORM: &str = "\
You have no tools: your answer is read by a program that makes your edits. For each edit write the path of the file as it \
stands below, then what to search for and what takes its place:

FILE: path/of/file
<<<<<<< SEARCH
lines exactly as they stand in the file now, once in it
=======
lines that take their place
>>>>>>> REPLACE

For a new file, or to write a short one anew, give all of it:

FILE: path/of/file
<<<<<<< WHOLE
all lines of the file
>>>>>>> WHOLE

";
/// A reminder at the end of a prompt, because models follow the end best.
pub const REMINDER: &str =
    "\nAnswer with the edits now, each as FILE: with SEARCH and REPLACE or with WHOLE, and one sentence.\n";

/// One edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The path, as the model wrote it.
    pub path: String,
    /// The lines to replace; `None`: all of the file. Without any line the file is new.
    pub search: Option<Vec<String>>,
    pub new: Vec<String>,
}

/// Parses the edits of an answer; none if it has no edits.
///
/// # Errors
/// The part that cannot be read, in words for the model.
pub fn parse(answer: &str) -> Result<Vec<Edit>, String> {
    let mut edits = Vec::new();
    let mut path: Option<String> = None;
    let (mut above, mut is_named) = ("", false);
    let mut lines = answer.lines();
    while let Some(line) = lines.next() {
        match mark(line) {
            Some(begin @ ("SEARCH" | "WHOLE")) => {
                // Some models write only the path on the line above.
                path = if is_named { path } else { bare(above).or(path) };
                let path = path.clone().ok_or_else(|| {
                    format!("an edit names no file: write `FILE: path` above `<<<<<<< {begin}`")
                })?;
                let read = match begin {
                    "WHOLE" => until(&mut lines, &["END", "REPLACE"], true).map(|new| (None, new)),
                    _ => {
                        until(&mut lines, &["="], false).map(Some).zip(until(&mut lines, &["REPLACE"], false))
                    }
                };
                let (search, new) = read.ok_or_else(|| {
                    format!("the edit of {path} has no clear end: give all of the file between WHOLE marks")
                })?;
                edits.push(Edit { path, search, new });
            }
            Some(_) => {}
            None => match named(line) {
                Some(named) => (path, is_named) = (Some(named), true),
                None if line.trim().is_empty() || line.trim_start().starts_with("```") => {}
                None => above = line,
            },
        }
    }
    match path {
        Some(path) if edits.is_empty() => {
            Err(format!("{path} is named without an edit between SEARCH or WHOLE marks"))
        }
        _ => Ok(edits),
    }
}

/// Reads the lines up to one of the marks `ends`; `None` if the answer ends before, or if another mark comes first and
/// `may_have_marks` is false.
fn until(lines: &mut Lines, ends: &[&str], may_have_marks: bool) -> Option<Vec<String>> {
    let mut read = Vec::new();
    for line in lines {
        match mark(line) {
            Some(mark) if ends.contains(&mark) => return Some(read),
            Some(_) if !may_have_marks => return None,
            _ => read.push(line.to_owned()),
        }
    }
    None
}

/// The answer without a leading block of thoughts: some endpoints pass thoughts through, with drafts of edits in them.
pub fn spoken(answer: &str) -> &str {
    without_thoughts(answer).trim_start()
}

/// The mark on a line.
fn mark(line: &str) -> Option<&'static str> {
    let text = line.trim_end();
    let word_after = |sign: char| {
        let rest = text.trim_start_matches(sign);
        (text.len() - rest.len() >= 5).then(|| rest.trim())
    };
    match (word_after('<'), word_after('>')) {
        (Some("SEARCH"), _) => Some("SEARCH"),
        (Some("WHOLE"), _) => Some("WHOLE"),
        (_, Some("REPLACE")) => Some("REPLACE"),
        (_, Some("WHOLE")) => Some("END"),
        _ => (text == "=======").then_some("="),
    }
}

/// The path in a line `FILE: path`, with any decoration removed.
fn named(line: &str) -> Option<String> {
    let text = line.trim().trim_start_matches(['#', '*', ' ', '`']);
    let path = text.strip_prefix("FILE:").or_else(|| text.strip_prefix("File:"))?;
    Some(path.trim().trim_matches(['*', '`', '"', ' ']).to_owned()).filter(|path| !path.is_empty())
}

/// A line that is only a path.
fn bare(line: &str) -> Option<String> {
    let text = line.trim().trim_matches(['*', '`', '#', ' ']).trim_end_matches(':');
    let is_path = !text.is_empty() && !text.contains(char::is_whitespace) && text.contains(['.', '/']);
    is_path.then(|| text.to_owned())
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The new content of the files. `read` returns a file's present content: none if it does not exist, an error
/// if it must not be edited.
///
/// # Errors
/// The edit that cannot be made, in words for the model.
pub fn apply(
    edits: &[Edit],
    read: &dyn Fn(&str) -> Result<Option<String>, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for edit in edits {
        let path = edit.path.trim_start_matches("./");
        // Read also a file that is replaced as a whole: it may not be a regular file.
        let old = match files.get(path) {
            Some(text) => Some(text.clone()),
            None => read(path).map_err(|why| format!("{path}: {why}"))?,
        };
        let new = match (&edit.search, old) {
            (None, _) => joined(&edit.new),
            (Some(search), old) if search.iter().all(|line| line.trim().is_empty()) => {
                match old.as_deref().map(str::trim) {
                    None | Some("") => joined(&edit.new),
                    Some(_) => return Err(format!("{path}: there is nothing between SEARCH and =======")),
                }
            }
            (Some(_), None) => return Err(format!("{path}: there is no such file")),
            (Some(search), Some(old)) => {
                replace(&old, search, &edit.new).map_err(|why| format!("{path}: {why}"))?
            }
        };
        if new.len() > MAX_FILE_BYTES {
            return Err(format!("{path}: it would be larger than {} MiB", MAX_FILE_BYTES >> 20));
        }
        files.insert(path.to_owned(), new);
        if files.len() > MAX_FILES {
            return Err(format!("more than {MAX_FILES} files are edited"));
        }
    }
    Ok(files)
}

/// Replaces lines that occur in a text once. If no lines match exactly, spaces at line ends are ignored.
fn replace(text: &str, search: &[String], put: &[String]) -> Result<String, String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let same: [fn(&str, &str) -> bool; 2] =
        [|line, wanted| ended(line) == wanted, |line, wanted| line.trim_end() == wanted.trim_end()];
    for fits in same {
        let fits_at = |from: &usize| {
            let part = lines[*from..].iter().take(search.len());
            part.len() == search.len() && part.zip(search).all(|(line, wanted)| fits(line, wanted))
        };
        let found: Vec<usize> = (0..lines.len()).filter(fits_at).collect();
        match found.as_slice() {
            [] => {}
            [from] => {
                let old = &lines[*from..from + search.len()];
                let end = if old.iter().all(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
                let mut new: String =
                    put.iter().map(|line| format!("{}{end}", line.trim_end_matches('\r'))).collect();
                if old.last().is_some_and(|last| !last.ends_with('\n')) {
                    new.truncate(new.trim_end_matches(['\r', '\n']).len());
                }
                let (before, after) = (lines[..*from].concat(), lines[from + search.len()..].concat());
                return Ok(format!("{before}{new}{after}"));
            }
            many => return Err(format!("the SEARCH lines occur {} times in it", many.len())),
        }
    }
    let first = search.iter().find(|line| !line.trim().is_empty()).map_or("", |line| line.trim());
    Err(format!(
        "the SEARCH lines do not occur in it, starting with {:?}",
        crate::rules::json::clip(first, 80)
    ))
}

/// A line without its line end.
fn ended(line: &str) -> &str {
    line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line))
}

/// Applies the edits of an answer below `top`: all of them or none. The model sees paths relative to `dir`. The inner
/// error says, in words for the model, why none was made.
///
/// # Errors
/// The edits before the one that failed cannot be undone.
pub(super) fn make(top: &Path, dir: &Path, answer: &str) -> anyhow::Result<Result<(), String>> {
    let from_top = |path: &str| dir.join(path).strip_prefix(top).map(Path::to_owned).ok();
    let read = |path: &str| -> Result<Option<String>, String> {
        let outside = || "it is not a path inside the project".to_owned();
        let from_top = from_top(path).ok_or_else(outside)?;
        let is_plain = path.trim() == path && !path.contains(char::is_control);
        if !is_plain || !is_inside(top, &from_top) {
            return Err(outside());
        }
        let place = match beneath::find(top, &from_top, Parents::Existing) {
            Ok(place) => place,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(outside()),
        };
        file::read_text(&place.path, MAX_FILE_BYTES).map_err(|error| match error {
            ReadError::NotUtf8 => "it is not UTF-8 text and cannot be edited".to_owned(),
            ReadError::TooLarge(_) => format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20),
            error => error.to_string(),
        })
    };
    let refused = |why: String| Ok(Err(format!("none of its edits was made: {why}")));
    let files = match parse(answer).and_then(|edits| apply(&edits, &read)) {
        Ok(files) => files,
        Err(why) => return refused(why),
    };
    let mut done = Vec::new();
    for (path, text) in files {
        let below = from_top(&path).unwrap_or_default();
        if let Err(error) = write(top, &below, text.as_bytes(), &mut done) {
            take_back(top, &done)?;
            return refused(format!("{path}: {error:#}"));
        }
    }
    Ok(Ok(()))
}

/// True for a path that stays in the project: no `..`, no `.git`, no link on the way.
pub(super) fn is_inside(project: &Path, path: &Path) -> bool {
    let is_plain = |part| matches!(part, Component::Normal(name) if !name.eq_ignore_ascii_case(".git"));
    let is_dir = |dir| fs::symlink_metadata(project.join(dir)).map_or(true, |meta| meta.is_dir());
    path.components().all(is_plain) && path.ancestors().skip(1).all(is_dir)
}

/// A file's state before the edits.
struct OldFile {
    /// The path from the top.
    path: PathBuf,
    /// The content; `None` if there was no such file.
    bytes: Option<Vec<u8>>,
    mode: u32,
}

/// Writes one file, and remembers its old state. A directory may have become a link a moment ago: neither it nor the
/// file is followed.
fn write(top: &Path, path: &Path, text: &[u8], done: &mut Vec<OldFile>) -> anyhow::Result<()> {
    let place = beneath::find(top, path, Parents::Created)?;
    let bytes = file::read(&place.path, MAX_FILE_BYTES).ok().flatten();
    let meta = bytes.as_ref().and_then(|_| fs::metadata(&place.path).ok());
    let mode = meta.map_or(0o644, |meta| meta.permissions().mode() & 0o777);
    done.push(OldFile { path: path.to_owned(), bytes, mode });
    file::write(&place.path, text, mode, Durability::Atomic)
}

fn take_back(top: &Path, done: &[OldFile]) -> anyhow::Result<()> {
    for OldFile { path, bytes, mode } in done {
        let Ok(place) = beneath::find(top, path, Parents::Existing) else { continue };
        match bytes {
            Some(bytes) => file::write(&place.path, bytes, *mode, Durability::Atomic)?,
            None => drop(fs::remove_file(&place.path)),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "edits_tests.rs"]
mod tests;
