//! The ignored paths of a folder, inside a repository or not: what its `.gitignore` files name.
//!
//! The files are read as text, one after the other: nothing in them can run a program, links are not followed, and
//! pipes cannot block.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};
use gix::bstr::BStr;
use gix::glob::pattern::Case;
use gix::glob::search::pattern::List;
use gix::glob::{wildmatch, wildmatch::Mode};
use gix::ignore::search::{Ignore, pattern_matching_relative_path};

use crate::store::file::{self, ReadError};

/// The longest ignore file that is read, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Matches the paths of one folder against the ignore files in it; reads each file once for all paths of its directory.
pub struct Ignored {
    root: PathBuf,
    /// Patterns for the whole folder, of lower rank than its own ignore files.
    whole: Option<List<Ignore>>,
    /// The directories that lead to the last path, the deepest last; each ends with `/`, the root is empty.
    levels: Vec<(Vec<u8>, Option<List<Ignore>>)>,
    /// The first ignore file that could not be read, with the cause.
    unreadable: Option<String>,
}

impl Ignored {
    /// Excludes the user's global ignore file: it differs between users.
    pub fn below(root: &Path) -> Ignored {
        Ignored::with(root, Some(&root.join(".git/info/exclude")))
    }

    /// As [`Ignored::below`], with another file of patterns for the whole folder.
    pub fn with(root: &Path, excludes: Option<&Path>) -> Ignored {
        let (root, whole, levels, unreadable) = (root.to_owned(), None, Vec::new(), None);
        let mut ignored = Ignored { root, whole, levels, unreadable };
        ignored.whole = excludes.and_then(|file| ignored.list(file));
        let own = ignored.list(&ignored.root.join(".gitignore"));
        ignored.levels.push((Vec::new(), own));
        ignored
    }

    /// Refuses if an ignore file could not be read. Who commits files must ask after the last path: a file that the user
    /// excluded would stay in the history for ever.
    ///
    /// # Errors
    /// With the name of the file and the cause.
    pub fn check(&self) -> Result<()> {
        self.unreadable.as_ref().map_or(Ok(()), |why| Err(Error::msg(why.clone())))
    }

    /// Returns true if a path, relative and with `/`, is ignored itself; its directories are not checked. Unreadable
    /// patterns match nothing: see [`Ignored::check`].
    pub fn has(&mut self, path: &[u8], is_dir: bool) -> bool {
        let parent = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        self.enter(&path[..parent]);
        let levels = self.levels.iter().rev();
        let mut lists = levels.filter_map(|(base, list)| Some((base.as_slice(), list.as_ref()?)));
        let found = lists.find_map(|(base, list)| matched(list, &path[base.len()..], is_dir));
        found.or_else(|| matched(self.whole.as_ref()?, path, is_dir)).unwrap_or(false)
    }

    /// Returns true if a file is ignored, or is in an ignored directory.
    pub fn leaves_out(&mut self, path: &[u8]) -> bool {
        folders_above(path).any(|dir| self.has(dir, true)) || self.has(path, false)
    }

    /// Loads the levels that lead to a directory.
    fn enter(&mut self, dir: &[u8]) {
        while self.levels.last().is_some_and(|(base, _)| !dir.starts_with(base)) {
            self.levels.pop();
        }
        let mut at = self.levels.last().map_or(0, |(base, _)| base.len());
        while let Some(next) = dir[at..].iter().position(|byte| *byte == b'/') {
            at += next + 1;
            let file = self.root.join(OsStr::from_bytes(&dir[..at])).join(".gitignore");
            let list = self.list(&file);
            self.levels.push((dir[..at].to_vec(), list));
        }
    }

    /// Reads the patterns of one file. As in git, a link or a pipe has none.
    fn list(&mut self, file: &Path) -> Option<List<Ignore>> {
        let read = match file::read(file, MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(ReadError::NotRegular | ReadError::NoDirectory) => None,
            Err(error) => {
                let why = || format!("could not read the ignore file `{}`: {error}", file.display());
                self.unreadable.get_or_insert_with(why);
                None
            }
        };
        List::from_bytes(&read?, file.to_owned(), None, Ignore::default()).ok()
    }
}

/// Returns true if one of these patterns matches a file, or a folder that it is in.
pub fn is_matched(patterns: &str, path: &str) -> bool {
    let list = List::from_bytes(patterns.as_bytes(), PathBuf::new(), None, Ignore::default());
    let matches =
        |path: &[u8], is_dir| list.as_ref().is_ok_and(|list| matched(list, path, is_dir) == Some(true));
    folders_above(path.as_bytes()).any(|dir| matches(dir, true)) || matches(path.as_bytes(), false)
}

fn folders_above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// Returns whether the last pattern that matches a path ignores it; `None` if none matches.
fn matched(list: &List<Ignore>, path: &[u8], is_dir: bool) -> Option<bool> {
    let name = path.iter().rposition(|byte| *byte == b'/').map(|at| at + 1);
    let found = pattern_matching_relative_path(list, BStr::new(path), name, Some(is_dir), Case::Sensitive);
    found.map(|found| !found.pattern.is_negative())
}

/// True if a path matches a pattern: `?` is one character, `*` any characters within a part, `**` any number of parts.
pub fn glob(pattern: &str, path: &str) -> bool {
    // Names of files may contain these signs.
    let pattern = pattern.replace('\\', "\\\\").replace('[', "\\[");
    wildmatch(pattern.as_str().into(), path.into(), Mode::NO_MATCH_SLASH_LITERAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_nearest_ignore_file_and_its_last_line_win() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join(".gitignore"), "*.log\n/built/\n!kept.log\n").unwrap();
        fs::write(root.join("a/.gitignore"), "!*.log\n/own\n").unwrap();
        fs::write(root.join("exclude"), "*.tmp\n").unwrap();
        let mut ignored = Ignored::with(root, Some(&root.join("exclude")));
        for (path, is_dir, is_named) in [
            (&b"x.log"[..], false, true),
            (b"kept.log", false, false),
            (b"built", true, true),
            (b"built", false, false),
            (b"a/x.log", false, false),
            (b"a/b/x.log", false, false),
            (b"a/own", false, true),
            (b"a/b/own", false, false),
            (b"c/x.log", false, true),
            (b"a/x.tmp", false, true),
            (b"\xff.log", false, true),
        ] {
            assert_eq!(ignored.has(path, is_dir), is_named, "{}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn a_file_in_an_ignored_directory_is_ignored() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join(".gitignore"), "/snapshots/\n").unwrap();
        let mut ignored = Ignored::with(tmp.path(), None);
        assert!(ignored.leaves_out(b"snapshots/a/b.json") && !ignored.leaves_out(b"goals/snapshots"));
    }

    #[test]
    fn an_ignore_file_that_is_a_link_or_a_pipe_matches_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path();
        fs::write(root.join("list"), "*\n").unwrap();
        std::os::unix::fs::symlink("list", root.join(".gitignore")).unwrap();
        assert!(!Ignored::with(root, None).has(b"x", false));
        fs::remove_file(root.join(".gitignore")).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, root.join(".gitignore"), kind, mode, 0).unwrap();
        assert!(!Ignored::with(root, None).has(b"x", false));
    }
}
