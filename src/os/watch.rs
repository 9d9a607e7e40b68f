//! Watching directories for changes, as a descriptor to poll: a hint that shortens waits, never a source of truth.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::signal;

/// Becomes readable when a watched file changed.
pub struct FileWatch {
    read: UnixStream,
    _watcher: RecommendedWatcher,
}

impl FileWatch {
    /// Watches directories, but not their subdirectories. Ignores reads, and changes after which the file does not
    /// exist. `only` names the files that count in a directory; if it is empty, all files count that are not hidden.
    ///
    /// # Errors
    /// When the system has no watch left; the caller then relies on its interval.
    pub fn new(dirs: &[(&Path, &[&str])]) -> Result<FileWatch> {
        let (read, mut write) = UnixStream::pair().context("could not watch for changes")?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let filters: Vec<(std::path::PathBuf, HashSet<OsString>)> = dirs
            .iter()
            .map(|(dir, only)| ((*dir).to_owned(), only.iter().map(OsString::from).collect()))
            .collect();
        let counts = move |path: &Path| {
            let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return false };
            let is_shown = !name.to_string_lossy().starts_with('.');
            filters.iter().any(|(watched, only)| {
                watched == dir && if only.is_empty() { is_shown } else { only.contains(name) }
            })
        };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(|path| counts(path)) {
                // A full pipe means that the reader has a notification already.
                drop(write.write(b"!"));
            }
        })
        .context("could not watch for changes")?;
        for (dir, _) in dirs {
            let watched = watcher.watch(dir, RecursiveMode::NonRecursive);
            watched.with_context(|| format!("could not watch `{}`", dir.display()))?;
        }
        Ok(FileWatch { read, _watcher: watcher })
    }

    /// Returns the descriptor to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Takes all notifications so far; returns true if there was one.
    pub fn drain(&self) -> bool {
        signal::drain(&self.read)
    }
}
