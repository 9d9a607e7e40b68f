//! Reading and writing single files: absent, unreadable and corrupt files are distinguished, and a write is atomic.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::os::path;

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A symbolic link, a directory, a pipe or another thing that is not a regular file.
    #[error("it is not a regular file")]
    NotRegular,
    /// There can be no such file: a part of its path is a file.
    #[error("a part of its path is not a directory")]
    NoDirectory,
    /// The file exceeds the limit of its kind; the limit in bytes.
    #[error("it is larger than {} KiB", .0 / 1024)]
    TooLarge(usize),
    #[error("it is not UTF-8 text")]
    NotUtf8,
    #[error("interrupted")]
    Stopped,
    /// The system refused; its message.
    #[error("{0}")]
    Unreadable(String),
}

/// Adds to an error what could not be done with which path.
pub trait Doing<T> {
    fn doing(self, verb: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> Doing<T> for Result<T, E> {
    fn doing(self, verb: &str, path: &Path) -> Result<T> {
        self.map_err(|error| error.into().context(format!("could not {verb} `{}`", path.display())))
    }
}

/// Opens a regular file for reading, without following a link in its last part and without ever blocking. Returns
/// `None` if there is no such file.
///
/// # Errors
/// [`ReadError`] for anything else at this path.
pub fn open(path: &Path) -> Result<Option<File>, ReadError> {
    Ok(open_sized(path)?.map(|(file, _)| file))
}

fn open_sized(path: &Path) -> Result<Option<(File, u64)>, ReadError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NXIO) => return Err(ReadError::NotRegular),
        Err(Errno::NOTDIR) => return Err(ReadError::NoDirectory),
        Err(error) => return Err(ReadError::Unreadable(io::Error::from(error).to_string())),
    };
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(Some((file, meta.len()))),
        Ok(_) => Err(ReadError::NotRegular),
        Err(error) => Err(ReadError::Unreadable(error.to_string())),
    }
}

/// Reads a whole regular file of at most `cap` bytes. Returns `None` if there is no such file.
///
/// # Errors
/// As [`open`], and [`ReadError::TooLarge`].
pub fn read(path: &Path, cap: usize) -> Result<Option<Vec<u8>>, ReadError> {
    let Some((file, length)) = open_sized(path)? else { return Ok(None) };
    let limit = cap as u64 + 1;
    // Room for the whole file and its end, so that one read suffices.
    let mut bytes = Vec::with_capacity(usize::try_from(length.min(limit)).unwrap_or(0) + 1);
    file.take(limit).read_to_end(&mut bytes).map_err(|e| ReadError::Unreadable(e.to_string()))?;
    if bytes.len() > cap { Err(ReadError::TooLarge(cap)) } else { Ok(Some(bytes)) }
}

/// Reads a whole UTF-8 file of at most `cap` bytes. Returns `None` if there is no such file.
///
/// # Errors
/// As [`read`], and [`ReadError::NotUtf8`].
pub fn read_text(path: &Path, cap: usize) -> Result<Option<String>, ReadError> {
    let Some(bytes) = read(path, cap)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| ReadError::NotUtf8)
}

/// Reads the last `cap` bytes of a file, from the first whole line on; empty if there is no such file.
///
/// # Errors
/// As [`open`].
pub fn read_tail(path: &Path, cap: usize) -> Result<String, ReadError> {
    use std::io::{Seek, SeekFrom};
    let unreadable = |e: io::Error| ReadError::Unreadable(e.to_string());
    let Some((mut file, length)) = open_sized(path)? else { return Ok(String::new()) };
    let from = length.saturating_sub(cap as u64);
    file.seek(SeekFrom::Start(from)).map_err(unreadable)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length - from).unwrap_or(0) + 1);
    file.take(cap as u64).read_to_end(&mut bytes).map_err(unreadable)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match text.find('\n') {
        Some(end) if from > 0 => Ok(text[end + 1..].to_owned()),
        _ => Ok(text),
    }
}

/// The longest path in a file that names another, in bytes.
const MAX_POINTER_BYTES: usize = 64 * 1024;

/// Returns the path that a file like `.git` or `commondir` names after `word`, relative to its folder.
pub fn pointed(file: &Path, word: &[u8]) -> Option<PathBuf> {
    let bytes = read(file, MAX_POINTER_BYTES).ok().flatten()?;
    let path = bytes.strip_prefix(word)?.trim_ascii_end();
    Some(file.parent()?.join(OsStr::from_bytes(path)))
}

/// The durability of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the call returns, the new content is on disk; on an error, the old one is.
    Durable,
    /// The new content appears whole or not at all, but a power loss may bring the old one back.
    Atomic,
}

/// Replaces or creates a file in one step. On an error the old file is untouched.
pub fn write(path: &Path, bytes: &[u8], mode: u32, keep: Durability) -> Result<()> {
    let temp = write_temp(path, bytes, mode, keep)?;
    let placed = fs::rename(&temp, path).map_err(anyhow::Error::from).and_then(|()| match keep {
        Durability::Durable => sync_dir(path),
        Durability::Atomic => Ok(()),
    });
    placed.inspect_err(|_| remove_temp(&temp)).doing("write", path)
}

/// Creates a file in one step, durably. Returns false if there is one already, and leaves it as it is.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<bool> {
    publish(&write_temp(path, bytes, mode, Durability::Durable)?, path)
}

/// Creates a file and syncs its content. Its name is durable only after a sync of its directory.
///
/// # Errors
/// When a file exists, or when it cannot be written.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    fill(path, OFlags::EXCL, bytes, mode, Durability::Durable)
}

/// Opens a file of looop that is to be written, and creates it for the user alone if it is missing. Follows no link.
pub(super) fn open_own(path: &Path, how: OFlags) -> io::Result<File> {
    let flags = how | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o600))?))
}

fn fill(path: &Path, how: OFlags, bytes: &[u8], mode: u32, keep: Durability) -> io::Result<()> {
    let mut file = open_own(path, how | OFlags::WRONLY)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    if keep == Durability::Durable { file.sync_all() } else { Ok(()) }
}

fn write_temp(path: &Path, bytes: &[u8], mode: u32, keep: Durability) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One fixed name: a lock excludes other writers of this file, and the next write replaces what a crash leaves.
    let temp = path.with_file_name(format!(".{name}.tmp"));
    let filled = fill(&temp, OFlags::TRUNC, bytes, mode, keep);
    filled.inspect_err(|_| remove_temp(&temp)).doing("write", path)?;
    Ok(temp)
}

fn remove_temp(temp: &Path) {
    // If a temporary file stays behind, it is hidden, git ignores it, and the next write replaces it.
    drop(fs::remove_file(temp));
}

/// Makes the content of a file and its existence durable; or its absence.
pub fn sync(path: &Path) -> Result<()> {
    if let Some(file) = open(path).doing("sync", path)? {
        file.sync_all().doing("sync", path)?;
    }
    sync_dir(path)
}

/// Makes a change of names in the file's directory durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).doing("sync", dir)
}

/// Appends one line in one write; durable on request. Ends a torn last line of an earlier crash first.
pub fn append_line(path: &Path, line: &str, keep: Durability) -> Result<()> {
    let append = || -> io::Result<bool> {
        let mut file = open_own(path, OFlags::RDWR | OFlags::APPEND)?;
        let length = file.metadata()?.len();
        let torn = length > 0 && {
            let mut last = [0_u8; 1];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut last, length - 1)?;
            last != *b"\n"
        };
        file.write_all(format!("{}{line}\n", if torn { "\n" } else { "" }).as_bytes())?;
        if keep == Durability::Durable {
            file.sync_all()?;
        }
        Ok(length == 0)
    };
    let is_new = append().doing("append to", path)?;
    if is_new && keep == Durability::Durable { sync_dir(path) } else { Ok(()) }
}

/// Renames a file. Returns false if the new name is taken.
pub(super) fn take_name(from: &Path, to: &Path) -> io::Result<bool> {
    match path::rename_new(from, to) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // The file system lacks the flag. A hard link is exclusive too; a crash before the removal leaves both names.
        Err(Errno::INVAL | Errno::NOSYS) => match fs::hard_link(from, to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.and_then(|()| fs::remove_file(from)).map(|()| true),
        },
        Err(error) => Err(error.into()),
    }
}

/// Moves a file to a free name of the data dir, durably.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    let moved = take_name(from, to).and_then(|moved| if moved { Ok(()) } else { Err(Errno::EXIST.into()) });
    moved
        .map_err(anyhow::Error::from)
        .and_then(|()| sync_dir(to))
        .and_then(|()| sync_dir(from))
        .with_context(|| format!("could not move `{}` to `{}`", from.display(), to.display()))
}

/// Gives a whole file its name, durably. Returns false if the name is taken.
pub fn publish(temp: &Path, path: &Path) -> Result<bool> {
    let named = take_name(temp, path);
    if !matches!(named, Ok(true)) {
        remove_temp(temp);
    }
    let sync = |made| if made { sync_dir(path).map(|()| true) } else { Ok(false) };
    named.map_err(anyhow::Error::from).and_then(sync).doing("create", path)
}

/// Renames a directory. Returns false if the new name is taken.
pub fn publish_dir(from: &Path, to: &Path, keep: Durability) -> Result<bool> {
    let moved = match path::rename_new(from, to) {
        Err(Errno::EXIST | Errno::NOTEMPTY) => return Ok(false),
        // The file system lacks the flag: a plain rename replaces nothing but an empty directory.
        Err(Errno::INVAL | Errno::NOSYS) if to.exists() => return Ok(false),
        Err(Errno::INVAL | Errno::NOSYS) => fs::rename(from, to),
        other => other.map_err(io::Error::from),
    };
    moved
        .map_err(anyhow::Error::from)
        .and_then(|()| if keep == Durability::Durable { sync_dir(to) } else { Ok(()) })
        .map(|()| true)
        .with_context(|| format!("could not move `{}` to `{}`", from.display(), to.display()))
}

/// Removes a file durably; a missing file is not an error.
pub fn remove(path: &Path) -> Result<()> {
    match present(fs::remove_file(path)).doing("remove", path)? {
        Some(()) => sync_dir(path),
        None => Ok(()),
    }
}

/// Turns the error of an absent file or directory into `None`.
pub fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Lists a directory; an absent one is empty.
pub fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>> {
    let listed = present(fs::read_dir(dir)).and_then(|entries| entries.into_iter().flatten().collect());
    listed.doing("list", dir)
}

/// Lists the names in a directory that are UTF-8 text, sorted; an absent one is empty.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let names = entries(dir)?.into_iter().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// Makes a directory that only its owner can enter, and its parents.
pub fn make_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).doing("make the directory", path)
}

/// Removes a file, or a directory with its contents; makes read-only directories writable first. A missing path is not
/// an error.
pub fn remove_tree(path: &Path) -> Result<()> {
    let removed = fs::remove_dir_all(path).or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path)
        }
        io::ErrorKind::NotADirectory => fs::remove_file(path),
        _ => Err(error),
    });
    present(removed).doing("remove", path).map(|_| ())
}

/// A failure here makes the removal fail, which reports it.
fn open_up(dir: &Path) {
    drop(fs::set_permissions(dir, Permissions::from_mode(0o700)));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Copies a corrupt file to a new name next to it and returns that name. The original stays in place until it is
/// replaced.
pub fn copy_aside(path: &Path, unix_ms: i64) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{name}.corrupt-{unix_ms}"));
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) {
        // Reading a pipe would block for ever, and a directory has no bytes: these are moved instead.
        return rename_new(path, &aside).map(|()| aside);
    }
    let bytes = fs::read(path).doing("read", path)?;
    write(&aside, &bytes, 0o600, Durability::Durable)?;
    Ok(aside)
}

/// Returns the blake3 digest of a regular file, in hexadecimal; `None` if there is no such file.
///
/// # Errors
/// As [`open`].
pub fn digest(path: &Path) -> Result<Option<String>, ReadError> {
    let mut all = usize::MAX;
    digest_within(path, &mut all, &|| false)
}

/// Returns the blake3 digest of an open file, in hexadecimal.
pub fn digest_of_file(file: File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// As [`digest`], for at most `left` bytes; subtracts from `left` what was read. Calls `stop` before each read.
///
/// # Errors
/// As [`open`], [`ReadError::TooLarge`], and [`ReadError::Stopped`].
pub fn digest_within(
    path: &Path,
    left: &mut usize,
    stop: &dyn Fn() -> bool,
) -> Result<Option<String>, ReadError> {
    let unreadable = |error: io::Error| ReadError::Unreadable(error.to_string());
    let Some(mut file) = open(path)? else { return Ok(None) };
    if file.metadata().map_err(unreadable)?.len() > *left as u64 {
        return Err(ReadError::TooLarge(*left));
    }
    let limit = *left;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        if stop() {
            return Err(ReadError::Stopped);
        }
        let bytes = match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hasher.finalize().to_hex().to_string())),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        *left = left.checked_sub(bytes).ok_or(ReadError::TooLarge(limit))?;
        hasher.update(&buffer[..bytes]);
    }
}

/// Returns a stamp that changes with an edit of the file: inode, size and change time.
pub fn stamp(file: &File) -> io::Result<String> {
    let meta = file.metadata()?;
    Ok(format!("{}-{}-{}-{}-{:o}", meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec(), meta.mode()))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
