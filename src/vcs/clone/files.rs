//! Lists the files of a folder as git would, by a walk of looop's own: it follows no link, runs nothing in nested
//! repositories, and treats names as bytes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::os::beneath::{FilePlace, Parents, TopFolder};
use crate::rules::fault::Fault;
use crate::rules::user_side::{GITLINK, LINK};
use crate::store::file::Doing;
use crate::vcs::git::Git;
use crate::vcs::history::ignored::Ignored;

const PLAIN: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;

/// How deep folders are followed.
const MAX_DEPTH: usize = 200;
/// The most files of one folder.
const MAX_FILES: usize = 1_000_000;

/// Stat data of a file; if they are unchanged, so is the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileStat {
    pub size: u64,
    /// When its content changed, in nanoseconds since the Unix epoch.
    pub mtime_ns: i128,
    /// When anything of it changed, which no program can set.
    pub ctime_ns: i128,
    /// Its inode number.
    pub ino: u64,
}

impl FileStat {
    fn of(stat: &Stat) -> FileStat {
        let ns = |seconds: i128, rest: i128| seconds * 1_000_000_000 + rest;
        FileStat {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: ns(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
            ctime_ns: ns(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
            ino: stat.st_ino,
        }
    }
}

/// What is known of a path: its mode and object, and the stat data of the file that had them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    /// The mode in git.
    pub mode: u32,
    pub oid: String,
    /// `None` if the file was not inspected.
    pub stat: Option<FileStat>,
    /// True if the file changed so long ago that the next change will have another time.
    pub is_settled: bool,
}

/// Known files by path.
pub(super) type Records = BTreeMap<Vec<u8>, FileRecord>;

/// A file that the walk found.
#[derive(Clone, Debug)]
pub(super) struct FileEntry {
    /// Its path from the top, with `/`.
    pub path: Vec<u8>,
    /// Its mode in git.
    pub mode: u32,
    pub stat: FileStat,
}

/// The result of a walk.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files and links.
    pub files: Vec<FileEntry>,
    /// Folders that are known nested repositories.
    pub gitlinks: Vec<Vec<u8>>,
    /// Folders that are unknown nested repositories, or known ones that hold files but no `.git`.
    pub repos: Vec<Vec<u8>>,
    /// Folders that were walked through, each after its parent.
    pub dirs: Vec<Vec<u8>>,
}

/// Lists the files below a folder. Leaves out ignored files, unless they are known.
///
/// # Errors
/// When a folder cannot be read, or there are too many files.
pub(super) fn walk(git: &Git, root: &Path, ignored: &mut Ignored, known: &Records) -> Result<Listing> {
    let top = open_dir(CWD, root.as_os_str().as_bytes());
    let top = top.doing("open", root)?;
    let names = names(&top).doing("list", root)?;
    let mut walk = FileWalk { git, root, ignored, known, listing: Listing::default() };
    walk.level(&top, names, &[], false)?;
    walk.listing.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.listing)
}

struct FileWalk<'a> {
    git: &'a Git<'a>,
    root: &'a Path,
    ignored: &'a mut Ignored,
    known: &'a Records,
    listing: Listing,
}

impl FileWalk<'_> {
    /// Lists one folder: `at` is its path, with `/` at its end, or empty for the top.
    fn level(&mut self, dir: &OwnedFd, names: Vec<Vec<u8>>, at: &[u8], is_ignored: bool) -> Result<()> {
        self.git.check()?;
        let below = |path: &[u8]| self.root.join(OsStr::from_bytes(path));
        if at.iter().filter(|byte| **byte == b'/').count() > MAX_DEPTH {
            return Err(too_large(&format!("folders deeper than {MAX_DEPTH}"), &below(at)));
        }
        for name in names {
            // Git accepts no file of this name, in upper or lower case.
            if name.eq_ignore_ascii_case(b".git") {
                continue;
            }
            let path = [at, &name].concat();
            let stat = match statat(dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error).doing("look at", &below(&path)),
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let is_dir = kind == FileType::Directory;
            let is_ignored = is_ignored || self.ignored.has(&path, is_dir);
            let mode = match kind {
                FileType::Directory => {
                    self.folder(dir, &name, path, is_ignored)?;
                    continue;
                }
                FileType::Symlink => LINK,
                FileType::RegularFile if stat.st_mode & 0o100 != 0 => EXECUTABLE,
                FileType::RegularFile => PLAIN,
                _ => continue,
            };
            if is_ignored && !self.known.contains_key(&path) {
                continue;
            }
            if self.listing.files.len() >= MAX_FILES {
                return Err(too_large(&format!("more than {MAX_FILES} files"), self.root));
            }
            self.listing.files.push(FileEntry { path, mode, stat: FileStat::of(&stat) });
        }
        Ok(())
    }

    fn folder(&mut self, dir: &OwnedFd, name: &[u8], path: Vec<u8>, is_ignored: bool) -> Result<()> {
        let below = [&path[..], b"/"].concat();
        let is_gitlink = self.known.get(&path).is_some_and(|record| record.mode == GITLINK);
        let has_known =
            || self.known.range(below.clone()..).next().is_some_and(|(known, _)| known.starts_with(&below));
        if is_ignored && !is_gitlink && !has_known() {
            return Ok(());
        }
        let listed = open_dir(dir, name).and_then(|inside| Ok((names(&inside)?, inside)));
        let (names, inside) = match listed {
            Ok(listed) => listed,
            // It holds no known file, so an unreadable folder loses nothing.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !has_known() => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                let path = self.root.join(OsStr::from_bytes(&path));
                return Err(error).doing("list", &path);
            }
        };
        let is_repo = names.iter().any(|name| name == b".git");
        if is_gitlink {
            if !is_repo && !names.is_empty() {
                self.listing.repos.push(path.clone());
            }
            self.listing.gitlinks.push(path);
            return Ok(());
        }
        if is_repo {
            self.listing.repos.push(path);
            return Ok(());
        }
        self.listing.dirs.push(path);
        self.level(&inside, names, &below, is_ignored)
    }
}

fn too_large(what: &str, path: &Path) -> anyhow::Error {
    let fault = Fault::failed(format!("could not list `{}`: it has {what}", path.display()));
    fault.hint("name what is generated in .gitignore").into()
}

pub(super) fn open_dir(at: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// Opens a plain file, without following a link and without blocking.
pub(super) fn open_file(at: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(at, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a plain file")) }
}

pub(super) fn names(dir: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A folder whose files are opened without following links.
#[derive(Debug)]
pub(super) struct Folder(TopFolder);

impl Folder {
    /// Opens one.
    ///
    /// # Errors
    /// When it is not a plain folder.
    pub fn open(root: &Path) -> Result<Folder> {
        let top = TopFolder::open(root, OFlags::NOFOLLOW);
        Ok(Folder(top.doing("open", root)?))
    }

    /// Works at a path of a git tree.
    fn at<T>(
        &self,
        doing: &str,
        path: &[u8],
        parents: Parents,
        work: impl FnOnce(&FilePlace) -> io::Result<T>,
    ) -> Result<T> {
        self.place(path, parents).and_then(|place| work(&place)).with_context(|| self.cause(doing, path))
    }

    fn cause(&self, doing: &str, path: &[u8]) -> String {
        format!("could not {doing} `{}`", self.0.path.join(OsStr::from_bytes(path)).display())
    }

    /// Returns the place of a path of a git tree. Refuses an empty part, because the path could then mean another one.
    fn place(&self, path: &[u8], parents: Parents) -> io::Result<FilePlace> {
        if path.split(|byte| *byte == b'/').any(|part| matches!(part, b"" | b".")) {
            return Err(io::Error::other("the path leads out of the folder"));
        }
        self.0.find(Path::new(OsStr::from_bytes(path)), parents)
    }

    /// Opens a plain file.
    ///
    /// # Errors
    /// When another kind of file has its name by now.
    pub fn read(&self, path: &[u8]) -> Result<File> {
        self.at("read", path, Parents::Existing, |place| open_file(&place.folder, &place.name))
    }

    /// Returns the target of a link.
    ///
    /// # Errors
    /// When it is not a link any more.
    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        self.at("read", path, Parents::Existing, |place| {
            Ok(rustix::fs::readlinkat(&place.folder, &place.name, Vec::new())?.into_bytes())
        })
    }

    /// Makes a new file and its folders, and removes what is in the way.
    pub fn create(&self, path: &[u8], mode: u32) -> Result<File> {
        self.at("write", path, Parents::Cleared, |place| {
            clear(place)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = if mode & 0o100 != 0 { 0o777 } else { 0o666 };
            Ok(File::from(openat(&place.folder, &place.name, flags, Mode::from_raw_mode(mode))?))
        })
    }

    /// Makes a new link and its folders, and removes what is in the way.
    pub fn create_link(&self, path: &[u8], to: &[u8]) -> Result<()> {
        self.at("write", path, Parents::Cleared, |place| {
            clear(place)?;
            Ok(rustix::fs::symlinkat(to, &place.folder, &place.name)?)
        })
    }

    /// Makes a folder, and removes what is in the way.
    pub fn create_dir(&self, path: &[u8]) -> Result<()> {
        let made = self.place(&[path, b"/x"].concat(), Parents::Cleared);
        made.map(drop).with_context(|| self.cause("make", path))
    }

    /// Removes a path with its contents. For a link it removes the link itself.
    ///
    /// # Errors
    /// When a part of it stays.
    pub fn remove(&self, path: &[u8]) -> Result<()> {
        match self.place(path, Parents::Existing) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(())
            }
            place => place.and_then(|place| clear(&place)).with_context(|| self.cause("remove", path)),
        }
    }

    /// Removes a folder if it is empty.
    pub fn prune(&self, path: &[u8]) {
        if let Ok(place) = self.place(path, Parents::Existing) {
            // A folder with contents stays.
            unlinkat(&place.folder, &place.name, AtFlags::REMOVEDIR).ok();
        }
    }
}

fn clear(place: &FilePlace) -> io::Result<()> {
    match unlinkat(&place.folder, &place.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => fs::remove_dir_all(&place.path),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_folder_opens_only_its_own_files() {
        let tmp = tempfile::tempdir().unwrap();
        let (root, outside) = (tmp.path().join("root"), tmp.path().join("outside"));
        fs::create_dir_all(root.join(".git")).unwrap();
        fs::create_dir(&outside).unwrap();
        for file in [outside.join("file"), root.join("file"), root.join(".git/config")] {
            fs::write(file, "of the person").unwrap();
        }
        symlink(&outside, root.join("dir")).unwrap();
        symlink(outside.join("file"), root.join("link")).unwrap();
        assert!(Folder::open(&root.join("dir")).is_err());
        let folder = Folder::open(&root).unwrap();
        for path in
            ["dir/file", "link", "../outside/file", "a/../file", ".git/config", ".GIT/x", "", "dir/", "no"]
        {
            assert!(folder.read(path.as_bytes()).is_err(), "{path}");
        }
        assert!(folder.read(b"file").is_ok());
        for path in ["../outside/file", ".git/config", "a/../../outside/file", ".Git/config"] {
            assert!(folder.create(path.as_bytes(), PLAIN).is_err(), "{path}");
            assert!(folder.create_link(path.as_bytes(), b"x").is_err(), "{path}");
            assert!(folder.remove(path.as_bytes()).is_err(), "{path}");
        }
        folder.remove(b"dir/file").unwrap();
        folder.create(b"dir/file", PLAIN).unwrap().write_all(b"new").unwrap();
        folder.create(b"link", PLAIN).unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(root.join("dir/file")).unwrap(), "new");
        assert_eq!(fs::read_to_string(root.join("link")).unwrap(), "new");
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "of the person");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(root.join(".git/config")).unwrap(), "of the person");
    }
}
