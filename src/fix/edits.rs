//! Pure. The edits in an answer of a model without tools: whole files, or a part that is searched for and replaced.
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

use crate::model::reply::without_thoughts;

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
    pub change: EditAction,
}

/// The change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditAction {
    /// The file gets this content.
    Whole(String),
    /// These lines are replaced by those. Without lines to search for, the file is new.
    Replace(Vec<String>, Vec<String>),
}

enum EditBlock {
    Whole(Vec<String>),
    Search(Vec<String>),
    Replace(Vec<String>, Vec<String>),
}

/// Parses the edits of an answer; none if it has no edits.
///
/// # Errors
/// The part that cannot be read, in words for the model.
pub fn parse(answer: &str) -> Result<Vec<Edit>, String> {
    let mut edits = Vec::new();
    let mut path: Option<String> = None;
    let (mut above, mut is_named) = ("", false);
    let mut block: Option<EditBlock> = None;
    for line in answer.lines() {
        let mark = mark(line);
        block = match (block.take(), mark) {
            (None, Some(begin @ ("SEARCH" | "WHOLE"))) => {
                // Some models write only the path on the line above.
                path = if is_named { path } else { bare(above).or(path) };
                if path.is_none() {
                    return Err(format!("an edit names no file: write `FILE: path` above `<<<<<<< {begin}`"));
                }
                Some(if begin == "WHOLE" {
                    EditBlock::Whole(Vec::new())
                } else {
                    EditBlock::Search(Vec::new())
                })
            }
            (None, Some(_)) => None,
            (None, None) => {
                if let Some(named) = named(line) {
                    (path, is_named) = (Some(named), true);
                } else if !line.trim().is_empty() && !line.trim_start().starts_with("```") {
                    above = line;
                }
                None
            }
            (Some(EditBlock::Search(old)), Some("=")) => Some(EditBlock::Replace(old, Vec::new())),
            (Some(EditBlock::Replace(old, new)), Some("REPLACE")) => {
                edits.push(edit(path.as_ref(), EditAction::Replace(old, new)));
                None
            }
            (Some(EditBlock::Whole(lines)), Some("END" | "REPLACE")) => {
                edits.push(edit(path.as_ref(), EditAction::Whole(joined(&lines))));
                None
            }
            (Some(EditBlock::Whole(mut lines)), _) => {
                lines.push(line.to_owned());
                Some(EditBlock::Whole(lines))
            }
            (Some(_), Some(_)) => return Err(unclear(path.as_ref())),
            (Some(EditBlock::Search(mut old)), None) => {
                old.push(line.to_owned());
                Some(EditBlock::Search(old))
            }
            (Some(EditBlock::Replace(old, mut new)), None) => {
                new.push(line.to_owned());
                Some(EditBlock::Replace(old, new))
            }
        };
    }
    match (block, path) {
        (Some(_), path) => Err(unclear(path.as_ref())),
        (None, Some(path)) if edits.is_empty() => {
            Err(format!("{path} is named without an edit between SEARCH or WHOLE marks"))
        }
        (None, _) => Ok(edits),
    }
}

/// The answer without a leading block of thoughts: some endpoints pass thoughts through, with drafts of edits in them.
pub fn spoken(answer: &str) -> &str {
    without_thoughts(answer).trim_start()
}

fn edit(path: Option<&String>, change: EditAction) -> Edit {
    Edit { path: path.cloned().unwrap_or_default(), change }
}

fn unclear(path: Option<&String>) -> String {
    let path = path.map_or("a file", String::as_str);
    format!("the edit of {path} has no clear end: give all of the file between WHOLE marks")
}

/// The mark on a line.
fn mark(line: &str) -> Option<&'static str> {
    let text = line.trim_end();
    match text.trim_start_matches('<') {
        rest if text.len() - rest.len() >= 5 => match rest.trim() {
            "SEARCH" => Some("SEARCH"),
            "WHOLE" => Some("WHOLE"),
            _ => None,
        },
        _ => match text.trim_start_matches('>') {
            rest if text.len() - rest.len() >= 5 => match rest.trim() {
                "REPLACE" => Some("REPLACE"),
                "WHOLE" => Some("END"),
                _ => None,
            },
            _ => (text == "=======").then_some("="),
        },
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
        let new = match (&edit.change, old) {
            (EditAction::Whole(text), _) => text.clone(),
            (EditAction::Replace(search, put), old) if search.iter().all(|line| line.trim().is_empty()) => {
                match old.as_deref().map(str::trim) {
                    None | Some("") => joined(put),
                    Some(_) => return Err(format!("{path}: there is nothing between SEARCH and =======")),
                }
            }
            (EditAction::Replace(..), None) => return Err(format!("{path}: there is no such file")),
            (EditAction::Replace(search, put), Some(old)) => {
                replace(&old, search, put).map_err(|why| format!("{path}: {why}"))?
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
        let at = |from: &usize| {
            lines[*from..].len() >= search.len()
                && lines[*from..].iter().zip(search).all(|(line, wanted)| fits(line, wanted))
        };
        let found: Vec<usize> = (0..lines.len()).filter(at).collect();
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
        crate::model::json::clip(first, 80)
    ))
}

/// A line without its line end.
fn ended(line: &str) -> &str {
    line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line))
}

#[cfg(test)]
#[path = "edits_tests.rs"]
mod tests;
