//! Files below a folder. Each folder of a path is opened from the one above it, without following links: a folder that
//! is replaced by a link in the meantime leads to an error and never outside.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

/// The treatment of the folders above a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parents {
    /// They must exist.
    Existing,
    /// A missing one is made.
    Created,
    /// A missing one is made, and a file or link in its place is removed first.
    Cleared,
}

/// A folder that is held open, to find files below it.
#[derive(Debug)]
pub struct TopFolder {
    pub path: PathBuf,
    top: OwnedFd,
}

impl TopFolder {
    /// Opens a folder; `NOFOLLOW` refuses a link in its place.
    ///
    /// # Errors
    /// When it is not a folder.
    pub fn open(path: &Path, more: OFlags) -> io::Result<TopFolder> {
        Ok(TopFolder { path: path.to_owned(), top: open(CWD, path.as_os_str(), more)? })
    }

    /// Finds the place of `relative`. The last part itself is not checked: it may be missing, or a link.
    ///
    /// # Errors
    /// `InvalidInput` for a path that is absolute, empty, has `..` in it or leads into a `.git`; `NotFound` for a
    /// missing folder; `NotADirectory` where a folder is a file or a link.
    pub fn find(&self, relative: &Path, parents: Parents) -> io::Result<FilePlace> {
        let mut names = Vec::new();
        for part in relative.components() {
            match part {
                // In upper or lower case: git runs files in it.
                Component::Normal(name) if !name.eq_ignore_ascii_case(".git") => names.push(name),
                Component::CurDir => {}
                _ => return Err(leads_out()),
            }
        }
        let Some(name) = names.pop() else { return Err(leads_out()) };
        let mut folder = self.top.try_clone()?;
        let mut shown = self.path.clone();
        for name in names {
            let next = open(&folder, name, OFlags::NOFOLLOW);
            folder = match (next, parents) {
                (Ok(next), _) => next,
                (Err(Errno::NOENT), Parents::Created | Parents::Cleared) => make(&folder, name)?,
                (Err(Errno::NOTDIR | Errno::LOOP), Parents::Cleared) => {
                    unlinkat(&folder, name, AtFlags::empty())?;
                    make(&folder, name)?
                }
                (Err(Errno::LOOP), _) => return Err(Errno::NOTDIR.into()),
                (Err(error), _) => return Err(error.into()),
            };
            shown.push(name);
        }
        let path = through(&folder).unwrap_or(shown).join(name);
        Ok(FilePlace { folder, name: name.to_owned(), path })
    }
}

/// The place of a file below a folder: its folder stays the same one for as long as this value lives.
#[derive(Debug)]
pub struct FilePlace {
    pub folder: OwnedFd,
    pub name: OsString,
    /// A path to the file for use by this process alone, not for a message. It leads through the open folder if the
    /// system has such paths.
    pub path: PathBuf,
}

/// Finds the place of `relative` below the folder `root`, as [`TopFolder::find`] does.
///
/// # Errors
/// Those of [`TopFolder::open`] and [`TopFolder::find`].
pub fn find(root: &Path, relative: &Path, parents: Parents) -> io::Result<FilePlace> {
    TopFolder::open(root, OFlags::empty())?.find(relative, parents)
}

/// Returns true if `relative` is a folder below `root`, and neither it nor a folder above it is a link.
pub fn is_folder(root: &Path, relative: &Path) -> bool {
    // The last part is never opened, so any name will do.
    find(root, &relative.join("x"), Parents::Existing).is_ok()
}

fn leads_out() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a path inside of the project")
}

fn open(at: impl AsFd, name: &OsStr, more: OFlags) -> Result<OwnedFd, Errno> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | more, Mode::empty())
}

fn make(at: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match mkdirat(at, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => open(at, name, OFlags::NOFOLLOW),
        Err(error) => Err(error),
    }
}

/// Returns a path through the descriptor; `None` on a system without /proc.
fn through(folder: &OwnedFd) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    path.is_dir().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_never_leads_outside_through_dots_or_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        symlink("../outside", root.join("link")).unwrap();
        for path in ["../outside/x", "/etc/passwd", "a/../../outside/x", "", ".", ".git/config", "a/.GIT/x"] {
            let error = find(&root, Path::new(path), Parents::Cleared).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
        for parents in [Parents::Existing, Parents::Created] {
            let error = find(&root, Path::new("link/x"), parents).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        }
        assert!(find(&root, Path::new("no/x"), Parents::Existing).is_err() && !root.join("no").exists());
        assert!(is_folder(&root, Path::new("a/b")) && is_folder(&root, Path::new("")));
        assert!(!is_folder(&root, Path::new("link")) && !is_folder(&root, Path::new("no")));
        let made = find(&root, Path::new("new/er/x"), Parents::Created).unwrap();
        fs::write(&made.path, "text").unwrap();
        assert_eq!(fs::read_to_string(root.join("new/er/x")).unwrap(), "text");
        let cleared = find(&root, Path::new("link/y"), Parents::Cleared).unwrap();
        fs::write(&cleared.path, "text").unwrap();
        assert_eq!(fs::read_to_string(root.join("link/y")).unwrap(), "text");
        assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_replaced_by_a_link_never_leads_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("a")).unwrap();
        fs::create_dir(&outside).unwrap();
        let place = find(&root, Path::new("a/x"), Parents::Existing).unwrap();
        fs::rename(root.join("a"), root.join("moved")).unwrap();
        symlink(&outside, root.join("a")).unwrap();
        fs::write(&place.path, "text").unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(root.join("moved/x")).unwrap(), "text");
    }
}
