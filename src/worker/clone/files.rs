//! Lists the files of a folder as git would, by a walk of looop's own: it follows no link, runs nothing in nested
//! repositories, and treats names as bytes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::model::fault::Fault;
use crate::store::history::ignored::Ignored;
use crate::sys::git::Git;

/// The mode of a nested repository in a tree.
pub(super) const GITLINK: u32 = 0o160_000;
/// The mode of a symbolic link in a tree.
pub(super) const LINK: u32 = 0o120_000;
const PLAIN: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;

/// How deep folders are followed.
const MAX_DEPTH: usize = 200;
/// The most files of one folder.
const MAX_FILES: usize = 1_000_000;

/// Stat data of a file; if they are unchanged, so is the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    let top = top.with_context(|| format!("could not open `{}`", root.display()))?;
    let names = names(&top).with_context(|| format!("could not list `{}`", root.display()))?;
    let mut walk = FileWalk { git, root, ignored, known, listing: Listing::default() };
    walk.level(&top, names, &[], false, 0)?;
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
    fn level(
        &mut self,
        dir: &OwnedFd,
        names: Vec<Vec<u8>>,
        at: &[u8],
        is_ignored: bool,
        depth: usize,
    ) -> Result<()> {
        self.git.check()?;
        let shown = |path: &[u8]| self.root.join(OsStr::from_bytes(path)).display().to_string();
        if depth > MAX_DEPTH {
            return Err(too_large(&format!("folders deeper than {MAX_DEPTH}"), &shown(at)));
        }
        for name in names {
            // Git accepts no file of this name, in any case.
            if name.eq_ignore_ascii_case(b".git") {
                continue;
            }
            let path = [at, &name].concat();
            let stat = match statat(dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("could not look at `{}`", shown(&path)));
                }
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let is_dir = kind == FileType::Directory;
            let is_ignored = is_ignored || self.ignored.has(&path, is_dir);
            let mode = match kind {
                FileType::Directory => {
                    self.folder(dir, &name, path, is_ignored, depth)?;
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
                return Err(too_large(
                    &format!("more than {MAX_FILES} files"),
                    &self.root.display().to_string(),
                ));
            }
            self.listing.files.push(FileEntry { path, mode, stat: FileStat::of(&stat) });
        }
        Ok(())
    }

    fn folder(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        is_ignored: bool,
        depth: usize,
    ) -> Result<()> {
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
                return Err(error).with_context(|| format!("could not list `{}`", path.display()));
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
        self.level(&inside, names, &below, is_ignored, depth + 1)
    }
}

fn too_large(what: &str, path: &str) -> anyhow::Error {
    let fault = Fault::failed(format!("could not list `{path}`: it has {what}"));
    fault.hint("name what is generated in .gitignore").into()
}

pub(super) fn open_dir(at: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

fn names(dir: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
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
pub(super) struct Folder {
    root: PathBuf,
    top: OwnedFd,
}

impl Folder {
    /// Opens one.
    ///
    /// # Errors
    /// When it is not a plain folder.
    pub fn open(root: &Path) -> Result<Folder> {
        let top = open_dir(CWD, root.as_os_str().as_bytes());
        let top = top.with_context(|| format!("could not open `{}`", root.display()))?;
        Ok(Folder { root: root.to_owned(), top })
    }

    fn cause(&self, doing: &str, path: &[u8]) -> String {
        format!("could not {doing} `{}`", self.root.join(OsStr::from_bytes(path)).display())
    }

    /// Returns the folder of a path, and the last part of the path.
    fn parent<'a>(&self, path: &'a [u8]) -> io::Result<(OwnedFd, &'a [u8])> {
        self.descend(path, |at, part| open_dir(at, part))
    }

    /// As `parent`, but makes folders, and removes files that are in the way.
    fn made_parent<'a>(&self, path: &'a [u8]) -> io::Result<(OwnedFd, &'a [u8])> {
        self.descend(path, |at, part| match open_dir(at, part) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            Err(_) => {
                match unlinkat(at, part, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
                mkdirat(at, part, Mode::from_raw_mode(0o777))?;
                open_dir(at, part)
            }
            opened => opened,
        })
    }

    fn descend<'a>(
        &self,
        path: &'a [u8],
        step: impl Fn(&OwnedFd, &[u8]) -> io::Result<OwnedFd>,
    ) -> io::Result<(OwnedFd, &'a [u8])> {
        let mut parts = path.split(|byte| *byte == b'/').peekable();
        let mut at = self.top.try_clone()?;
        while let Some(part) = parts.next() {
            if matches!(part, b"" | b"." | b"..") || part.eq_ignore_ascii_case(b".git") {
                return Err(io::Error::other("the path leads out of the folder"));
            }
            if parts.peek().is_none() {
                return Ok((at, part));
            }
            at = step(&at, part)?;
        }
        Err(io::Error::other("the path is empty"))
    }

    /// Opens a plain file.
    ///
    /// # Errors
    /// When another kind of file has its name by now.
    pub fn read(&self, path: &[u8]) -> Result<File> {
        let open = || -> io::Result<File> {
            let (dir, name) = self.parent(path)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(openat(dir, name, flags, Mode::empty())?);
            if file.metadata()?.is_file() {
                Ok(file)
            } else {
                Err(io::Error::other("it is not a plain file"))
            }
        };
        open().with_context(|| self.cause("read", path))
    }

    /// Returns the target of a link.
    ///
    /// # Errors
    /// When it is not a link any more.
    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        let read = || -> io::Result<Vec<u8>> {
            let (dir, name) = self.parent(path)?;
            Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
        };
        read().with_context(|| self.cause("read", path))
    }

    /// Makes a new file, and removes what is in the way.
    pub fn create(&self, path: &[u8], mode: u32) -> Result<File> {
        let make = || -> io::Result<File> {
            let (dir, name) = self.made_parent(path)?;
            self.clear(&dir, name, path)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = if mode & 0o100 != 0 { 0o777 } else { 0o666 };
            Ok(File::from(openat(dir, name, flags, Mode::from_raw_mode(mode))?))
        };
        make().with_context(|| self.cause("write", path))
    }

    /// Makes a new link, and removes what is in the way.
    pub fn create_link(&self, path: &[u8], to: &[u8]) -> Result<()> {
        let make = || -> io::Result<()> {
            let (dir, name) = self.made_parent(path)?;
            self.clear(&dir, name, path)?;
            Ok(rustix::fs::symlinkat(to, dir, name)?)
        };
        make().with_context(|| self.cause("write", path))
    }

    /// Makes a folder, and removes what is in the way.
    pub fn create_dir(&self, path: &[u8]) -> Result<()> {
        let probe = [path, b"/x"].concat();
        self.made_parent(&probe).map(drop).with_context(|| self.cause("make", path))
    }

    /// Removes a path with its contents. For a link it removes the link itself.
    ///
    /// # Errors
    /// When a part of it stays.
    pub fn remove(&self, path: &[u8]) -> Result<()> {
        let remove = || match self.parent(path) {
            Ok((dir, name)) => self.clear(&dir, name, path),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(())
            }
            Err(error) => Err(error),
        };
        remove().with_context(|| self.cause("remove", path))
    }

    fn clear(&self, dir: &OwnedFd, name: &[u8], path: &[u8]) -> io::Result<()> {
        match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // The path was just walked without links.
            Err(Errno::ISDIR | Errno::PERM) => fs::remove_dir_all(self.root.join(OsStr::from_bytes(path))),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a folder if it is empty.
    pub fn prune(&self, path: &[u8]) {
        if let Ok((dir, name)) = self.parent(path) {
            // A folder with contents stays.
            unlinkat(dir, name, AtFlags::REMOVEDIR).ok();
        }
    }
}
