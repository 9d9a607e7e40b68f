//! The format of a repository, read from its config as text: without files that it includes or programs that it names;
//! and whose objects it borrows.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gix::bstr::{BStr, ByteSlice};

use crate::store::file::Doing;
use crate::vcs::git::dir::{GitDir, RepoFormat, read_plain};

/// The longest config that is read, in bytes.
const MAX_CONFIG_BYTES: usize = 1 << 20;
/// The longest list of borrowed objects that is read, in bytes.
const MAX_ALTERNATES_BYTES: usize = 64 * 1024;

/// Extensions that do not change how refs and objects are read.
const HARMLESS: [&str; 6] =
    ["noop", "noop-v1", "preciousobjects", "worktreeconfig", "relativeworktrees", "compatobjectformat"];

/// The format of a repository and its special properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepoForm {
    /// How it stores objects and refs.
    pub format: RepoFormat,
    /// True if it lacks objects that another repository promised.
    pub is_partial: bool,
    /// Where its files are, relative to the git directory; `None` if they are beside it.
    pub files: Option<PathBuf>,
}

impl RepoForm {
    /// Reads the config of the repository in a git directory.
    ///
    /// # Errors
    /// In words, when it cannot be read or asks for what looop does not know.
    pub fn read(git_dir: &Path) -> Result<RepoForm, String> {
        let bytes = read_plain(&git_dir.join("config"), MAX_CONFIG_BYTES)
            .map_err(|error| format!("has a config that cannot be read: {error}"))?;
        RepoForm::parse(&bytes.unwrap_or_default())
    }

    fn parse(bytes: &[u8]) -> Result<RepoForm, String> {
        let config = gix::config::File::try_from(BStr::new(bytes))
            .map_err(|error| format!("has a config that cannot be read: {error}"))?;
        let version = config.string("core.repositoryformatversion").unwrap_or_default();
        if !matches!(version.as_bytes(), b"" | b"0" | b"1") {
            return Err(format!("has the format {version}, which looop does not know"));
        }
        let files = config.string("core.worktree");
        let files = files.map(|path| PathBuf::from(OsStr::from_bytes(path.as_bytes())));
        let mut form = RepoForm { files, ..RepoForm::default() };
        let unknown = |key: &str, value: &BStr| {
            Err(format!("has the extension {key} = {value}, which looop does not know"))
        };
        for section in config.sections_by_name("extensions").into_iter().flatten() {
            for key in section.value_names() {
                let key = key.to_ascii_lowercase();
                let value = section.value(&key).unwrap_or_default();
                match (key.as_str(), value.as_bytes()) {
                    ("objectformat", b"sha1") | ("refstorage", b"files") => {}
                    ("objectformat", b"sha256") => form.format.sha256 = true,
                    ("refstorage", b"reftable") => form.format.reftable = true,
                    ("partialclone", _) => form.is_partial = true,
                    (key, _) if HARMLESS.contains(&key) => {}
                    // Before the second version git itself lets an extension be that it does not know.
                    (key, _) if version == "1" || matches!(key, "objectformat" | "refstorage") => {
                        return unknown(key, value.as_bstr());
                    }
                    _ => {}
                }
            }
        }
        let mut remotes = config.sections_by_name("remote").into_iter().flatten();
        form.is_partial |= remotes.any(|section| section.value_names().any(|key| key == "promisor"));
        Ok(form)
    }
}

/// Returns a path as a line from which git reads it: any path is one line.
pub fn line_of(path: &[u8]) -> String {
    format!("{}\n", gix::quote::ansi_c::quote(path.into()))
}

/// Makes a repository of looop borrow the objects of another repository.
pub fn borrow_objects(git_dir: &GitDir, objects: &Path) -> Result<()> {
    let path = git_dir.path().join("objects/info/alternates");
    fs::write(&path, line_of(objects.as_os_str().as_bytes())).doing("write", &path)
}

/// Lists the object directories that a repository borrows from.
///
/// # Errors
/// When the list is too long or not a plain file.
pub fn borrowed(objects: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("could not read what `{}` borrows", objects.display());
    let list = read_plain(&objects.join("info/alternates"), MAX_ALTERNATES_BYTES).with_context(failed)?;
    let dirs = gix::odb::alternate::parse(&list.unwrap_or_default()).with_context(failed)?;
    Ok(dirs.into_iter().map(|dir| objects.join(dir)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_read_and_includes_are_not_followed() {
        let form = |text: &str| RepoForm::parse(text.as_bytes());
        assert_eq!(form("").unwrap(), RepoForm::default());
        let text = "[core]\nrepositoryformatversion = 1\n[extensions]\nobjectFormat = sha256\nrefStorage = reftable\n";
        let format = RepoFormat { sha256: true, reftable: true };
        assert_eq!(form(text).unwrap(), RepoForm { format, is_partial: false, files: None });
        assert!(form("[remote \"x\"]\n\tpromisor = true\n").unwrap().is_partial);
        assert!(form("[extensions]\n\tpartialClone = x\n").unwrap().is_partial);
        assert_eq!(form("[include]\n\tpath = /nowhere\n").unwrap(), RepoForm::default());
        assert!(form("[core]\nrepositoryformatversion = 99\n").unwrap_err().contains("format 99"));
        let odd = "[core]\nrepositoryformatversion = 1\n[extensions]\nnewThing = x\n";
        assert!(form(odd).unwrap_err().contains("newthing = x"));
        let text = "[core]\nworktree = ../../sub\n";
        assert_eq!(form(text).unwrap().files, Some(PathBuf::from("../../sub")));
        assert!(form("[core\n").is_err());
    }
}
