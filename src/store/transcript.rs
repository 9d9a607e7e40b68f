//! A worker's output, as bytes in two files with a timing index beside each; written only by its supervisor.
//!
//! Offsets are logical: they count from the worker's very first byte and never decrease. Each file holds the bytes from
//! its `base` on, and the byte at logical offset `n` is at `n - base`. So output that could not be written (a full
//! disk) leaves a gap of zero bytes in the file, which takes no space, and everything after it keeps its offset. The
//! index is written before the bytes that it describes: a reader that sees a byte can also see its time and the size of
//! the screen. A lost index loses only these.

mod parts;
mod reader;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::file::{self, open_own};
use super::layout::WorkerDir;
use crate::os::pty::Size;

use parts::Part;
pub use reader::{TranscriptEvent, TranscriptReader};

/// The least time between two index lines for output, in milliseconds.
const MARK_MS: i64 = 20;
/// Each time an index grows by this many bytes, its lines become half as frequent: a spinner that turns all day must
/// not fill the disk with times.
const INDEX_STEP_BITS: u32 = 20;

/// The first line of an index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TranscriptHeader {
    /// The logical offset of the file's first byte.
    base: u64,
    /// When the worker was started, in milliseconds since the Unix epoch; all times count from it.
    start_ms: i64,
    /// The width of the screen at the file's first byte, in cells.
    cols: u16,
    /// Its height, in cells.
    rows: u16,
}

/// Writes a worker's transcript. Holds two descriptors and no buffer. It continues after any error: it counts the lost
/// bytes, and the next call tries again.
#[derive(Debug)]
pub struct TranscriptWriter {
    dir: WorkerDir,
    /// The bytes; `None` if the file could not be made.
    raw: Option<File>,
    /// The index, and how much of it is whole, in bytes.
    index: Option<(File, u64)>,
    /// The first line of the current index, with the current size of the screen.
    header: TranscriptHeader,
    /// The logical offset of the next byte.
    offset: u64,
    /// The largest size of a file, in bytes.
    cap: u64,
    /// The last time that was seen, counted from the worker's start.
    last_ms: i64,
    /// When the next output gets an index line.
    next_mark_ms: i64,
    /// How many bytes are lost, and how many of those are in the index.
    lost: u64,
    lost_notified: u64,
}

impl TranscriptWriter {
    /// Creates the transcript of a worker that was started at `start_ms`, or continues the one that is there. About
    /// `keep_bytes` of it are kept.
    pub fn create(
        dir: &WorkerDir,
        start_ms: i64,
        size: Size,
        keep_bytes: u64,
    ) -> io::Result<TranscriptWriter> {
        let Size { cols, rows } = size;
        let mut writer = TranscriptWriter {
            dir: dir.clone(),
            raw: None,
            index: None,
            header: TranscriptHeader { base: 0, start_ms, cols, rows },
            offset: 0,
            cap: (keep_bytes / 2).max(1),
            last_ms: 0,
            next_mark_ms: 0,
            lost: 0,
            lost_notified: 0,
        };
        if let Ok(Some(earlier)) = Part::open(&dir.transcript(), &dir.index(), &mut || {}) {
            writer.header.start_ms = earlier.header.as_ref().map_or(start_ms, |header| header.start_ms);
            writer.offset = earlier.end()?;
            writer.put_aside()?;
        }
        writer.begin()?;
        Ok(writer)
    }

    /// Returns the logical offset of the next byte: how much the worker printed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends output that arrived at `now_ms`, and returns how many bytes of it are lost.
    pub fn append(&mut self, mut bytes: &[u8], now_ms: i64) -> u64 {
        let before = self.lost;
        while !bytes.is_empty() {
            // Without a file the rest is lost at once, and the next output tries again.
            let room = self.room().unwrap_or(0);
            let (now, later) = match usize::try_from(room) {
                Ok(room) if (1..bytes.len()).contains(&room) => bytes.split_at(room),
                _ => (bytes, &[][..]),
            };
            self.mark(now_ms);
            let written = if room == 0 { 0 } else { self.put(now) };
            self.offset += now.len() as u64;
            self.lost += (now.len() - written) as u64;
            bytes = later;
        }
        self.lost - before
    }

    /// Records that the screen has another size from here on.
    pub fn resize(&mut self, cols: u16, rows: u16, now_ms: i64) {
        (self.header.cols, self.header.rows) = (cols, rows);
        let ms = self.since_start(now_ms);
        self.index_line(&format!("[{ms},{},{cols},{rows}]\n", self.offset));
    }

    /// Times in an index never go back, even if the clock does.
    fn since_start(&mut self, now_ms: i64) -> i64 {
        self.last_ms = self.last_ms.max(now_ms.saturating_sub(self.header.start_ms));
        self.last_ms
    }

    /// Writes an index line for output that begins here, unless the last line is very recent. If output was lost since
    /// that line, the new line says how much.
    fn mark(&mut self, now_ms: i64) {
        let ms = self.since_start(now_ms);
        if ms < self.next_mark_ms {
            return;
        }
        let length = self.index.as_ref().map_or(0, |(_, length)| *length);
        self.next_mark_ms = ms + (MARK_MS << (length >> INDEX_STEP_BITS).min(20));
        let lost = self.lost - self.lost_notified;
        let line = match lost {
            0 => format!("[{ms},{}]\n", self.offset),
            _ => format!("[{ms},{},{lost}]\n", self.offset),
        };
        if self.index_line(&line) {
            self.lost_notified = self.lost;
        }
    }

    /// The next line overwrites a partly written one.
    fn index_line(&mut self, line: &str) -> bool {
        let Some((file, length)) = &mut self.index else { return false };
        let written = file.write_all_at(line.as_bytes(), *length).is_ok();
        if written {
            *length += line.len() as u64;
        }
        written
    }

    /// Writes as many bytes as possible at their place, and returns how many.
    fn put(&self, bytes: &[u8]) -> usize {
        let Some(raw) = &self.raw else { return 0 };
        let mut written = 0;
        while written < bytes.len() {
            let at = self.offset - self.header.base + written as u64;
            match raw.write_at(&bytes[written..], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(count) => written += count,
            }
        }
        written
    }

    /// Returns how much still fits into the current file; begins a new file when it is full.
    fn room(&mut self) -> io::Result<u64> {
        let used = self.offset - self.header.base;
        if self.raw.is_some() && used < self.cap {
            return Ok(self.cap - used);
        }
        if self.raw.is_some() {
            self.put_aside()?;
        }
        self.begin()?;
        Ok(self.cap)
    }

    /// The order of the steps here and in `begin` tells a reader which index belongs to which bytes, at any moment and
    /// after any crash.
    fn put_aside(&mut self) -> io::Result<()> {
        file::present(fs::remove_file(self.dir.old_index()))?;
        fs::rename(self.dir.transcript(), self.dir.old_transcript())?;
        self.raw = None;
        self.index = None;
        let renamed = fs::rename(self.dir.index(), self.dir.old_index());
        renamed.or_else(|_| file::present(fs::remove_file(self.dir.index())).map(drop))
    }

    fn begin(&mut self) -> io::Result<()> {
        self.header.base = self.offset;
        self.next_mark_ms = self.last_ms;
        self.index = open_own(&self.dir.index(), OFlags::RDWR | OFlags::TRUNC).ok().map(|file| (file, 0));
        let line = serde_json::to_string(&self.header)? + "\n";
        self.index_line(&line);
        self.raw = Some(open_own(&self.dir.transcript(), OFlags::RDWR | OFlags::TRUNC)?);
        Ok(())
    }
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
