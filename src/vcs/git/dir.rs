//! Git directories whose config looop wrote: a complete one, and one whose refs and objects are links to those of a
//! repository of another owner.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{fault, text};
use crate::store::file::{self, ReadError};

/// The longest HEAD or list of borrowed objects that is read, in bytes.
const MAX_FILE_BYTES: usize = 64 * 1024;
/// The longest list of commits at which a shallow history ends, in bytes.
const MAX_SHALLOW_BYTES: usize = 16 << 20;

/// The config that looop writes, besides the format.
const CONFIG: &str = "[core]\n\tbare = false\n\tfilemode = true\n\tlogallrefupdates = true\n\
                      [user]\n\tname = looop\n\temail = looop@looop.invalid\n";

/// How a repository stores its objects and refs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepoFormat {
    /// True if ids are SHA-256, false if they are SHA-1.
    pub sha256: bool,
    /// True if refs are in a reftable.
    pub reftable: bool,
}

impl RepoFormat {
    fn config(self) -> String {
        if self == RepoFormat::default() {
            return "[core]\n\trepositoryformatversion = 0\n".to_owned();
        }
        let objects = if self.sha256 { "sha256" } else { "sha1" };
        let refs = if self.reftable { "\trefstorage = reftable\n" } else { "" };
        format!("[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = {objects}\n{refs}")
    }
}

/// A git directory with a config that looop wrote, and the files and index that belong to it.
#[derive(Clone, Debug)]
pub struct GitDir {
    path: PathBuf,
    files: Option<PathBuf>,
    pub(super) vars: Vec<(&'static str, String)>,
}

impl GitDir {
    /// Makes the missing parts of a repository in `path`, and writes its config, followed by the lines in `more`.
    pub fn create(path: &Path, format: RepoFormat, branch: &str, more: &str) -> Result<GitDir> {
        let failed = || format!("could not make the repository `{}`", path.display());
        for dir in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
            fs::create_dir_all(path.join(dir)).with_context(failed)?;
        }
        if !path.join("HEAD").exists() {
            fs::write(path.join("HEAD"), format!("ref: refs/heads/{branch}\n")).with_context(failed)?;
        }
        GitDir::with_config(path, format, more).with_context(failed)
    }

    fn with_config(path: &Path, format: RepoFormat, more: &str) -> Result<GitDir> {
        // Never write into an existing file of this name: it may be a link.
        for name in ["config", "commondir"] {
            file::present(fs::remove_file(path.join(name)))?;
        }
        fs::write(path.join("config"), format!("{}{CONFIG}{more}", format.config()))?;
        let vars = vec![("GIT_DIR", text(path)?)];
        Ok(GitDir { path: path.to_owned(), files: None, vars })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a folder of files.
    ///
    /// # Errors
    /// When its path is not UTF-8.
    pub fn with_files(mut self, files: &Path) -> Result<GitDir> {
        self.vars.push(("GIT_WORK_TREE", text(files)?));
        self.files = Some(files.to_owned());
        Ok(self)
    }

    /// Adds a separate index.
    ///
    /// # Errors
    /// When its path is not UTF-8.
    pub fn with_index(mut self, index: &Path) -> Result<GitDir> {
        self.vars.push(("GIT_INDEX_FILE", text(index)?));
        Ok(self)
    }

    /// Sets the author of commits: a name and an address.
    pub fn by(mut self, (name, address): &(String, String)) -> GitDir {
        for (name_of, address_of) in
            [("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"), ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")]
        {
            self.vars.extend([(name_of, name.clone()), (address_of, address.clone())]);
        }
        self
    }

    /// Copies the end points of a shallow repository's history.
    pub fn cut_off_as(&self, other: &Path) -> Result<()> {
        let cause = "could not copy the end of the repository's shallow history";
        match read_plain(&other.join("shallow"), MAX_SHALLOW_BYTES).context(cause)? {
            Some(bytes) => fs::write(self.path.join("shallow"), bytes).context(cause),
            None => Ok(()),
        }
    }

    pub(super) fn cwd(&self, files: bool) -> &Path {
        self.files.as_deref().filter(|_| files).unwrap_or(&self.path)
    }
}

/// Reads the bytes of a plain file; `None` if there is none. Follows no link and never blocks on a pipe.
///
/// # Errors
/// When its name belongs to something else, or when it is too long.
pub fn read_plain(path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    let why = match file::read(path, most) {
        Ok(bytes) => return Ok(bytes),
        Err(ReadError::NoDirectory) => return Ok(None),
        Err(ReadError::NotRegular) => "it is not a plain file".to_owned(),
        Err(ReadError::TooLarge(_)) => "it is too long".to_owned(),
        Err(other) => other.to_string(),
    };
    Err(io::Error::other(why))
}

/// Makes a temporary directory that only its owner can enter, removed with the returned value. Its name is `prefix` and
/// so many random characters.
pub fn private_dir(prefix: &str, random: usize, around: &Path) -> io::Result<TempDir> {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix(prefix).rand_bytes(random).permissions(private).tempdir_in(around)
}

/// A git directory of looop whose refs, logs and objects are links to those of another repository. Nothing else of that
/// repository is read: not its config, hooks, attributes or files.
#[derive(Debug)]
pub struct RepoLink {
    pub dir: GitDir,
    _temp: TempDir,
}

/// The linked parts.
const LINKED_DIRS: [&str; 4] = ["objects", "refs", "logs", "worktrees"];
const LINKED_FILES: [&str; 2] = ["packed-refs", "index"];

impl RepoLink {
    /// Links the repository whose refs and objects are in `common`.
    ///
    /// # Errors
    /// When one of its parts is a link itself: writes of looop must stay in that repository.
    pub fn open(common: &Path, format: RepoFormat) -> Result<RepoLink> {
        let around = std::env::temp_dir();
        let around = fs::canonicalize(&around).unwrap_or(around);
        let temp = private_dir("looop-git-", 6, &around).context("could not make a temporary directory")?;
        let inside = temp.path().join("git");
        fs::create_dir(&inside).context("could not make a git directory")?;
        let shown = common.display();
        let cause = || format!("could not open the repository `{shown}`");
        let dirs =
            LINKED_DIRS.into_iter().chain(format.reftable.then_some("reftable")).map(|name| (name, true));
        for (name, is_dir) in dirs.chain(LINKED_FILES.map(|name| (name, false))) {
            let path = common.join(name);
            match file::present(fs::symlink_metadata(&path)).with_context(cause)? {
                Some(meta) if meta.is_dir() == is_dir && !meta.is_symlink() => {}
                Some(_) => {
                    let kind = if is_dir { "directory" } else { "file" };
                    let why = format!("its `{name}` is not a plain {kind}");
                    return Err(fault(&format!("open the repository `{shown}`"), &why));
                }
                // A file can still be made through its link; a folder cannot.
                None if is_dir => continue,
                None => {}
            }
            symlink(&path, inside.join(name)).with_context(cause)?;
        }
        let head = head_of(common).with_context(cause)?;
        fs::write(inside.join("HEAD"), head).with_context(cause)?;
        let dir = GitDir::with_config(&inside, format, "").with_context(cause)?;
        dir.cut_off_as(common)?;
        Ok(RepoLink { dir, _temp: temp })
    }
}

/// Reads a HEAD. In old versions of git it can be a link to a ref.
fn head_of(common: &Path) -> io::Result<Vec<u8>> {
    let path = common.join("HEAD");
    if let Ok(to) = fs::read_link(&path) {
        let to = to.as_os_str().as_bytes();
        if !to.starts_with(b"refs/") {
            return Err(io::Error::other("its HEAD is a link that leads elsewhere"));
        }
        return Ok([b"ref: ", to, b"\n"].concat());
    }
    read_plain(&path, MAX_FILE_BYTES)?.ok_or_else(|| io::Error::other("it has no HEAD"))
}

/// Fails if a folder on the way to a ref or to its log is a link: a ref must be written exactly where its name says.
///
/// # Errors
/// Names the link.
pub fn plain_way(common: &Path, name: &str) -> Result<()> {
    for top in [common.to_owned(), common.join("logs")] {
        let mut at = top;
        for part in name.split('/') {
            at.push(part);
            if at.is_symlink() {
                let why = format!("`{}` is a link", at.display());
                return Err(fault(&format!("write the ref {name}"), &why));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_cannot_be_there_is_absent() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("file"), "x").unwrap();
        assert_eq!(read_plain(&tmp.path().join("file/below"), 9).unwrap(), None);
        assert_eq!(read_plain(&tmp.path().join("none/below"), 9).unwrap(), None);
        assert!(read_plain(tmp.path(), 9).is_err(), "a directory");
        // An error of any other kind says nothing about the file.
        let long = "x".repeat(300);
        assert!(read_plain(&tmp.path().join(&long).join(&long), 9).is_err());
    }
}
