//! A git directory of looop that shows the data of a worker's clone: its HEAD, refs, stash, index and objects as plain
//! files, and nothing else.
//!
//! The worker could have written anything into its `.git`: a config that runs programs, hooks, `alternates` or links
//! that lead to other repositories, files with a false history. Here the config is looop's, the only objects besides
//! the clone's own are those of the user's repository, and links are not followed.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{io, iter};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, FileType, linkat, statat};
use tempfile::TempDir;

use super::files;
use super::source::Source;
use crate::store::file::Doing;
use crate::vcs::git::dir::private_dir;
use crate::vcs::git::{Git, GitDir, fault};
use crate::vcs::history::repository::borrow_objects;

/// How deep directories of refs are followed.
const MAX_DEPTH: usize = 24;
/// The most views of one clone at a time.
const MAX_VIEWS: usize = 1_000;
/// The beginning of the names of views, next to the clone.
pub(super) const NAME: &str = ".view";
/// Further contents of a clone that a fetch would not bring back.
const OTHERS: [(&str, &str); 3] =
    [("worktrees", "a linked worktree"), ("modules", "a submodule"), ("lfs", "LFS files")];

/// A view, removed with this value.
#[derive(Debug)]
pub(super) struct View {
    dir: TempDir,
    /// The view for git, without files.
    pub git_dir: GitDir,
    /// Further contents of the clone's `.git`.
    pub others: Vec<&'static str>,
}

impl View {
    /// Opens a view of a clone.
    pub fn open(git: &Git, source: &Source, clone: &Path) -> Result<View> {
        let dir = next_to(clone)?;
        let git_dir = GitDir::create(&dir.path().join(".git"), source.objects_format(), "none", "")?;
        let mut view = View { dir, git_dir, others: Vec::new() };
        borrow_objects(&view.git_dir, &source.common.join("objects"))?;
        view.git_dir.cut_off_as(&source.common)?;
        let top = open_dir(CWD, clone)?;
        let inside = open_dir(&top, Path::new(".git"))?;
        if !is_absent_or_empty(&inside, "reftable")? {
            return Err(fault("look at the clone", "its refs are in a reftable, which is not read"));
        }
        let links = Links { git, what: clone };
        let to = view.file(".git");
        for name in ["HEAD", "packed-refs", "index"] {
            links.file(&inside, name, &to.join(name))?;
        }
        links.dir(&inside, "refs", &to.join("refs"), &|_, name| !name.ends_with(".lock"))?;
        fs::create_dir_all(to.join("logs")).context("could not make `logs`")?;
        links.dir(&inside, "logs", &to.join("logs"), &|depth, name| {
            matches!((depth, name), (0, "refs") | (1, "stash"))
        })?;
        links.dir(&inside, "objects", &to.join("objects"), &is_object)?;
        for (name, what) in OTHERS {
            if !is_absent_or_empty(&inside, name)? {
                view.others.push(what);
            }
        }
        Ok(view)
    }

    /// Returns the path of a file of looop in the view.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Accepts objects and packs by their names; not `info`, nor derived files that git would trust.
fn is_object(depth: usize, name: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let is_pack = || {
        let stem = name.strip_suffix(".pack").or(name.strip_suffix(".idx"));
        stem.and_then(|stem| stem.strip_prefix("pack-")).is_some_and(is_hex)
    };
    match depth {
        0 => name == "pack" || (name.len() == 2 && is_hex(name)),
        _ => is_pack() || (matches!(name.len(), 38 | 62) && is_hex(name)),
    }
}

fn open_dir(at: impl std::os::fd::AsFd, path: &Path) -> Result<OwnedFd> {
    files::open_dir(at, path.as_os_str().as_bytes()).map_err(|error| {
        let why = format!("`{}` is not a plain directory ({error})", path.display());
        fault("look at the clone", &why)
    })
}

/// Opens a directory of the clone's `.git`, if it exists.
fn part(at: &OwnedFd, name: &str) -> Result<Option<OwnedFd>> {
    match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => Ok(None),
        _ => open_dir(at, Path::new(name)).map(Some),
    }
}

fn is_absent_or_empty(at: &OwnedFd, name: &str) -> Result<bool> {
    part(at, name)?.map_or(Ok(true), |dir| Ok(names(&dir)?.is_empty()))
}

fn names(dir: &OwnedFd) -> Result<Vec<String>> {
    let names = files::names(dir).context("could not list the clone")?;
    // Git makes no name that is not UTF-8 here.
    Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
}

/// Makes the directory of a view. Errors have its name, and the state of a worker keeps them, so the name is the same each
/// time: another name at each beat would be a change of the world, and each beat would ask for a decision.
fn next_to(clone: &Path) -> Result<TempDir> {
    let around = clone.parent().unwrap_or(Path::new("/"));
    let names = iter::once(NAME.to_owned()).chain((2..=MAX_VIEWS).map(|n| format!("{NAME}-{n}")));
    let mut made = names.map(|name| private_dir(&name, 0, around));
    let is_free = |made: &io::Result<TempDir>| {
        !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
    };
    let taken = || io::Error::other("all its names are taken");
    made.find(is_free).unwrap_or_else(|| Err(taken())).context("could not make a view of the clone")
}

/// Chooses entries of a directory of the clone's `.git`, by their depth below it and their name.
type Wanted<'a> = &'a dyn Fn(usize, &str) -> bool;

/// Copies files into the view: by a hard link if possible, otherwise by content.
struct Links<'a> {
    git: &'a Git<'a>,
    what: &'a Path,
}

impl Links<'_> {
    fn refuse(&self, name: &str) -> anyhow::Error {
        let why = format!("`{name}` in its .git is not a plain file");
        fault(&format!("look at the clone `{}`", self.what.display()), &why)
    }

    fn dir(&self, at: &OwnedFd, name: &str, to: &Path, wanted: Wanted) -> Result<()> {
        part(at, name)?.map_or(Ok(()), |dir| self.level(&dir, to, wanted, 0))
    }

    fn level(&self, from: &OwnedFd, to: &Path, wanted: Wanted, depth: usize) -> Result<()> {
        self.git.check()?;
        if depth > MAX_DEPTH {
            return Err(fault("look at the clone", "its directories of refs are too deep"));
        }
        for name in names(from)?.iter().filter(|name| wanted(depth, name)) {
            let stat =
                statat(from, name, AtFlags::SYMLINK_NOFOLLOW).context("could not look at the clone")?;
            let to = to.join(name);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                fs::create_dir_all(&to).doing("make", &to)?;
                self.level(&open_dir(from, Path::new(name))?, &to, wanted, depth + 1)?;
            } else {
                self.file(from, name, &to)?;
            }
        }
        Ok(())
    }

    /// Copies one file, if it exists.
    fn file(&self, at: &OwnedFd, name: &str, to: &Path) -> Result<()> {
        if fs::symlink_metadata(to).is_ok() {
            fs::remove_file(to).doing("remove", to)?;
        }
        match linkat(at, name, CWD, to, AtFlags::empty()) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(_) => copy(at, name, to).map_err(|_| self.refuse(name))?,
        }
        // A hard link to a symbolic link is one too, and the file may have been replaced since it was found.
        if fs::symlink_metadata(to).is_ok_and(|meta| meta.is_file()) {
            Ok(())
        } else {
            Err(self.refuse(name))
        }
    }
}

fn copy(at: &OwnedFd, name: &str, to: &Path) -> io::Result<()> {
    io::copy(&mut files::open_file(at, name.as_ref())?, &mut File::create_new(to)?).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_hard_links_only_plain_files_are_copied() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("a"), "text").unwrap();
        std::os::unix::fs::symlink("a", tmp.path().join("link")).unwrap();
        let at = open_dir(CWD, tmp.path()).unwrap();
        copy(&at, "a", &tmp.path().join("b")).unwrap();
        assert_eq!(fs::read(tmp.path().join("b")).unwrap(), b"text");
        assert!(copy(&at, "link", &tmp.path().join("c")).is_err());
        assert!(copy(&at, ".", &tmp.path().join("d")).is_err());
    }

    #[test]
    fn only_objects_and_packs_are_copied() {
        let hex = "0123456789abcdef0123456789abcdef012345";
        assert!(is_object(0, "pack") && is_object(0, "ab") && is_object(1, hex));
        assert!(is_object(1, "pack-0a.pack") && is_object(1, "pack-0a.idx"));
        for (depth, name) in [
            (0, "info"),
            (0, "AB"),
            (0, "abc"),
            (1, "alternates"),
            (1, "multi-pack-index"),
            (1, "pack-0a.rev"),
        ] {
            assert!(!is_object(depth, name), "{name}");
        }
    }
}
