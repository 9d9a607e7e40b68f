//! The two files of a transcript on disk, each with its own index, found while a writer may rotate them.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};

use super::TranscriptHeader;
use crate::rules::fault::Fault;
use crate::store::file::{self, ReadError};
use crate::store::layout::WorkerDir;

/// The longest line of an index, in bytes; a longer one is invalid.
const LINE_BYTES: usize = 512;
/// How often the files are opened again if a rotation came in between.
const TRIES: usize = 100;

/// One file of bytes with its index.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    /// Identifies the file while it is open: its device and inode.
    pub(super) id: (u64, u64),
    /// The logical offset of its first byte.
    pub(super) base: u64,
    /// `None` without an index.
    pub(super) header: Option<TranscriptHeader>,
    index: Option<TranscriptIndex>,
}

impl Part {
    pub(super) fn open(
        raw: &Path,
        index: &Path,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Option<Part>, ReadError> {
        let Some(file) = file::open(raw)? else { return Ok(None) };
        let meta = file.metadata().map_err(|error| ReadError::Unreadable(error.to_string()))?;
        let id = (meta.dev(), meta.ino());
        meanwhile();
        // Without an index there are no times; the bytes are still readable.
        let index = file::open(index).ok().flatten();
        let mut index = index.map(|file| TranscriptIndex { file, at: 0, next: None });
        let header: Option<TranscriptHeader> =
            index.as_mut().and_then(|index| serde_json::from_slice(&index.line()?).ok());
        Ok(Some(Part { file, id, base: header.as_ref().map_or(0, |header| header.base), header, index }))
    }

    pub(super) fn end(&self) -> io::Result<u64> {
        Ok(self.base.saturating_add(self.file.metadata()?.len()))
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buffer, offset - self.base).context("could not read a transcript")
    }

    /// Returns the next index line, if it applies to this offset or an earlier one.
    pub(super) fn mark_until(&mut self, offset: u64) -> Option<Mark> {
        self.next_mark().filter(|mark| mark.offset <= offset)?;
        self.index.as_mut()?.next.take()
    }

    pub(super) fn next_mark(&mut self) -> Option<Mark> {
        let index = self.index.as_mut()?;
        if index.next.is_none() {
            index.next = std::iter::from_fn(|| index.line()).find_map(|line| Mark::parse(&line));
        }
        index.next
    }

    /// Queues an event before the remaining ones of the index; without an index there are none.
    pub(super) fn tell_first(&mut self, mark: Mark) {
        if let Some(index) = &mut self.index {
            index.next = Some(mark);
        }
    }

    pub(super) fn is_at(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.id)
    }
}

/// Opens the files of a transcript, oldest first, each with the index that belongs to it.
pub(super) fn parts(dir: &WorkerDir) -> Result<Vec<Part>> {
    parts_while(dir, &mut || ())
}

/// As [`parts`], and calls `meanwhile` between any two accesses to the disk: whatever a writer does then, no file gets
/// the index of another.
fn parts_while(dir: &WorkerDir, meanwhile: &mut dyn FnMut()) -> Result<Vec<Part>> {
    let unreadable = || format!("could not read the transcript in `{}`", dir.path().display());
    for tries_left in (0..TRIES).rev() {
        let new = Part::open(&dir.transcript(), &dir.index(), meanwhile).with_context(unreadable)?;
        meanwhile();
        // An interrupted rotation leaves the older file while its index still has the newer name.
        let half_done = !dir.old_index().exists();
        meanwhile();
        let index = if new.is_none() && half_done { dir.index() } else { dir.old_index() };
        let old = Part::open(&dir.old_transcript(), &index, meanwhile).with_context(unreadable)?;
        meanwhile();
        let no_index = old.as_ref().is_some_and(|part| part.header.is_none());
        let same = match &new {
            // A rotation moves the newer file first: while that file is in place, all the others belong together.
            Some(part) => part.is_at(&dir.transcript()),
            None => still_between(dir, old.as_ref(), half_done, meanwhile) && (!no_index || tries_left == 0),
        };
        if same {
            return rebased(old, new).with_context(unreadable);
        }
    }
    let fault = Fault::failed(format!("{}: it is rotated faster than it can be opened", unreadable()));
    Err(fault.hint("try again").into())
}

/// Returns true if there was no newer file the whole time since `old` was opened. The order matters: `old` is checked
/// last. If it is still in place, the newer file was missing before its creation and not after its removal, and that
/// tells to which of the two files the index belonged.
fn still_between(dir: &WorkerDir, old: Option<&Part>, half_done: bool, meanwhile: &mut dyn FnMut()) -> bool {
    let index_still = half_done != dir.old_index().exists();
    meanwhile();
    let newer_still = !dir.transcript().exists();
    meanwhile();
    index_still && newer_still && old.is_none_or(|part| part.is_at(&dir.old_transcript()))
}

/// Gives a file without an index the base that follows from the other file.
fn rebased(mut old: Option<Part>, mut new: Option<Part>) -> io::Result<Vec<Part>> {
    if let (Some(old), Some(new)) = (&mut old, &mut new) {
        let length = old.file.metadata()?.len();
        if new.header.is_none() {
            new.base = old.base.saturating_add(length);
        } else if old.header.is_none() {
            old.base = new.base.saturating_sub(length);
        }
    }
    Ok(old.into_iter().chain(new).collect())
}

/// A line of an index after the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Milliseconds since the worker's start.
    pub(super) ms: u64,
    /// The logical offset from which it applies.
    pub(super) offset: u64,
    pub(super) what: IndexLineKind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum IndexLineKind {
    Output,
    Lost(u64),
    Size(u16, u16),
}

impl Mark {
    /// Returns `None` for an invalid line: only its own time is lost.
    fn parse(line: &[u8]) -> Option<Mark> {
        let numbers: Vec<u64> = serde_json::from_slice(line).ok()?;
        let (ms, offset, what) = match *numbers.as_slice() {
            [ms, offset] => (ms, offset, IndexLineKind::Output),
            [ms, offset, bytes] => (ms, offset, IndexLineKind::Lost(bytes)),
            [ms, offset, cols, rows] => {
                let cell = |n: u64| u16::try_from(n).ok().filter(|n| *n > 0);
                (ms, offset, IndexLineKind::Size(cell(cols)?, cell(rows)?))
            }
            _ => return None,
        };
        Some(Mark { ms, offset, what })
    }
}

/// Reads the lines of an index as they come. A line without its end is incomplete and is read again later.
#[derive(Debug)]
struct TranscriptIndex {
    file: File,
    at: u64,
    next: Option<Mark>,
}

impl TranscriptIndex {
    fn line(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; LINE_BYTES];
        loop {
            let length = self.file.read_at(&mut buffer, self.at).unwrap_or(0);
            match buffer[..length].iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    self.at += end as u64 + 1;
                    return Some(buffer[..end].to_vec());
                }
                // No valid line is that long: skip it.
                None if length == LINE_BYTES => self.at += length as u64,
                // Read the unfinished line again later, because the writer may overwrite it.
                None => return None,
            }
        }
    }
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
