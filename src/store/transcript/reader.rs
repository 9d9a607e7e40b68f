//! Reading a transcript, live or past: from a logical offset to the end, across both files and across a rotation
//! that happens meanwhile, with the times and sizes of its index. Holds no more than a line of an index in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};

use super::Header;
use crate::store::file::{self, ReadError};
use crate::store::layout::WorkerDir;

/// The longest line of an index, in bytes; what is longer is no index.
const LINE_BYTES: usize = 512;
/// How often the files are looked up again when a rotation came in between.
const TRIES: usize = 100;

/// What comes next in a transcript. Times are milliseconds since the worker's start, none where no index tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many bytes of output were put into the caller's buffer.
    Output {
        /// When it came.
        ms: Option<u64>,
        /// How many bytes.
        length: usize,
    },
    /// The screen has another size from here on.
    Resize {
        /// When.
        ms: u64,
        /// Its width, in cells.
        cols: u16,
        /// Its height, in cells.
        rows: u16,
    },
    /// Output from about here could not be written down. The transcript holds zero bytes in its place.
    Lost {
        /// When.
        ms: u64,
        /// How many bytes.
        bytes: u64,
    },
}

/// Reads a transcript from an offset on.
#[derive(Debug)]
pub struct Reader {
    dir: WorkerDir,
    /// The file that is being read.
    part: Option<Part>,
    offset: u64,
    size: Option<(u16, u16)>,
    ms: Option<u64>,
}

impl Reader {
    /// Opens the transcript of a worker at the first byte that is still there.
    ///
    /// # Errors
    /// When a file of it cannot be read; a transcript that is not there is an empty one.
    pub fn open(dir: &WorkerDir) -> Result<Reader> {
        let mut reader = Reader { dir: dir.clone(), part: None, offset: 0, size: None, ms: None };
        reader.seek(0)?;
        Ok(reader)
    }

    /// The logical offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The offset of the first byte that is still there now.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn first_offset(&self) -> Result<u64> {
        Ok(parts(&self.dir)?.first().map_or(0, |part| part.base))
    }

    /// The offset after the last byte that is there now.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn end_offset(&self) -> Result<u64> {
        match parts(&self.dir)?.last() {
            Some(part) => Ok(part.end()?),
            None => Ok(0),
        }
    }

    /// The size of the screen here, as width and height; none where no index tells.
    pub fn size(&self) -> Option<(u16, u16)> {
        self.size
    }

    /// When the worker was started, in milliseconds since the Unix epoch; none where no index tells.
    pub fn start_ms(&self) -> Option<i64> {
        self.part.as_ref().and_then(|part| part.header.as_ref()).map(|header| header.start_ms)
    }

    /// Goes to an offset, or to the first byte after it that is still there.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn seek(&mut self, offset: u64) -> Result<()> {
        let mut parts = parts(&self.dir)?;
        while parts.len() > 1 && parts.first().is_some_and(|part| part.end().is_ok_and(|end| end <= offset)) {
            parts.remove(0);
        }
        (self.offset, self.size, self.ms) = (offset, None, None);
        self.part = None;
        if let Some(part) = parts.into_iter().next() {
            self.offset = offset.clamp(part.base, part.end()?.max(part.base));
            self.enter(part);
            // What was true before this offset is true at it.
            while let Some(mark) = self.part.as_mut().and_then(|part| part.mark_until(self.offset)) {
                self.pass(mark);
            }
        }
        Ok(())
    }

    fn enter(&mut self, mut part: Part) {
        let size = part.header.as_ref().map(|header| (header.cols, header.rows));
        if let (Some(index), Some((cols, rows))) = (&mut part.index, size)
            && self.size.is_some_and(|now| now != (cols, rows))
        {
            // It changed in what was skipped, so the caller has not heard of it.
            let ms = self.ms.unwrap_or(0);
            index.next = Some(Mark { ms, offset: part.base, what: What::Size(cols, rows) });
        } else {
            self.size = size.or(self.size);
        }
        self.part = Some(part);
    }

    /// The next event; none at the end, where more may come later. `Output` fills the front of `buffer`.
    ///
    /// # Errors
    /// When the transcript cannot be read.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<Option<Event>> {
        loop {
            if self.part.is_none() && !self.advance()? {
                return Ok(None);
            }
            let Some(part) = &mut self.part else { return Ok(None) };
            // The end first: a line of the index is there before the bytes that it tells of.
            let end = part.end()?;
            if let Some(mark) = part.mark_until(self.offset) {
                if let Some(event) = self.pass(mark) {
                    return Ok(Some(event));
                }
                continue;
            }
            let until = part.next_mark().map_or(end, |mark| mark.offset.min(end));
            let wanted = usize::try_from(until.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            let wanted = wanted.min(buffer.len());
            if wanted > 0 {
                let length = part.read(&mut buffer[..wanted], self.offset)?;
                if length > 0 {
                    self.offset += length as u64;
                    return Ok(Some(Event::Output { ms: self.ms, length }));
                }
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    fn pass(&mut self, mark: Mark) -> Option<Event> {
        let ms = mark.ms.max(self.ms.unwrap_or(0));
        self.ms = Some(ms);
        match mark.what {
            What::Output => None,
            What::Lost(bytes) => Some(Event::Lost { ms, bytes }),
            What::Size(cols, rows) => {
                self.size = Some((cols, rows));
                Some(Event::Resize { ms, cols, rows })
            }
        }
    }

    /// Goes on to the file after the one that was read to its end; false when there is none yet.
    fn advance(&mut self) -> Result<bool> {
        let Some(held) = &self.part else {
            self.seek(self.offset)?;
            return Ok(self.part.is_some());
        };
        if held.is_newest(&self.dir) {
            return Ok(false);
        }
        // It may have grown between the look at its end and the rotation.
        if held.end()? > self.offset {
            return Ok(true);
        }
        let (id, own_end) = (held.id, held.end()?);
        let mut newer = parts(&self.dir)?;
        if let Some(at) = newer.iter().position(|part| part.id == id) {
            newer.drain(..=at);
        }
        let Some(mut part) = newer.into_iter().next() else { return Ok(false) };
        if part.header.is_none() {
            part.base = part.base.max(own_end);
        }
        self.offset = self.offset.max(part.base);
        self.enter(part);
        Ok(true)
    }
}

/// One file of bytes with its index.
#[derive(Debug)]
struct Part {
    file: File,
    id: (u64, u64),
    base: u64,
    header: Option<Header>,
    index: Option<Index>,
}

impl Part {
    fn open(raw: &Path, index: &Path) -> Result<Option<Part>, ReadError> {
        let Some(file) = file::open(raw)? else { return Ok(None) };
        let id = id_of(&file).map_err(|error| ReadError::Unreadable(error.to_string()))?;
        // Without an index there are no times; the bytes are worth reading all the same.
        let mut index = file::open(index).ok().flatten().map(Index::new);
        let header = index.as_mut().and_then(Index::header);
        Ok(Some(Part { file, id, base: header.as_ref().map_or(0, |header| header.base), header, index }))
    }

    fn end(&self) -> io::Result<u64> {
        Ok(self.base.saturating_add(self.file.metadata()?.len()))
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buffer, offset - self.base).context("could not read a transcript")
    }

    /// The next line of the index, when it is about this offset or one before.
    fn mark_until(&mut self, offset: u64) -> Option<Mark> {
        self.next_mark().filter(|mark| mark.offset <= offset)?;
        self.index.as_mut()?.next.take()
    }

    fn next_mark(&mut self) -> Option<Mark> {
        let index = self.index.as_mut()?;
        if index.next.is_none() {
            index.next = index.mark();
        }
        index.next
    }

    fn is_newest(&self, dir: &WorkerDir) -> bool {
        self.is_at(&dir.transcript())
    }

    /// True for the older file once its index has come after it.
    fn is_whole_old(&self, dir: &WorkerDir) -> bool {
        self.header.is_some() && self.is_at(&dir.old_transcript())
    }

    fn is_at(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.id)
    }
}

fn id_of(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|meta| (meta.dev(), meta.ino()))
}

/// The files of a transcript, oldest first, each with the index that belongs to it.
fn parts(dir: &WorkerDir) -> Result<Vec<Part>> {
    let unreadable = || format!("could not read the transcript in `{}`", dir.path().display());
    let mut found = (None, None);
    for _ in 0..TRIES {
        let new = Part::open(&dir.transcript(), &dir.index()).with_context(unreadable)?;
        // A rotation that was cut short leaves the older file with the newer name of its index.
        let half_done = !dir.old_index().exists();
        let index = if new.is_none() && half_done { dir.index() } else { dir.old_index() };
        let old = Part::open(&dir.old_transcript(), &index).with_context(unreadable)?;
        // A rotation moves the newer file first: while that stands where it stood, all else belongs together.
        let same = match &new {
            Some(part) => part.is_newest(dir),
            None => {
                let still = !dir.transcript().exists() && half_done != dir.old_index().exists();
                still && old.as_ref().is_none_or(|part| part.is_whole_old(dir))
            }
        };
        found = (old, new);
        if same {
            break;
        }
    }
    let (mut old, mut new) = found;
    if let (Some(old), Some(new)) = (&mut old, &mut new) {
        let length = old.file.metadata().with_context(unreadable)?.len();
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
struct Mark {
    ms: u64,
    offset: u64,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Output,
    Lost(u64),
    Size(u16, u16),
}

impl Mark {
    /// None for what is no such line: it costs its own time and nothing else.
    fn parse(line: &[u8]) -> Option<Mark> {
        let numbers: Vec<u64> = serde_json::from_slice(line).ok()?;
        let (ms, offset, what) = match *numbers.as_slice() {
            [ms, offset] => (ms, offset, What::Output),
            [ms, offset, bytes] => (ms, offset, What::Lost(bytes)),
            [ms, offset, cols, rows] => {
                let cell = |n: u64| u16::try_from(n).ok().filter(|n| *n > 0);
                (ms, offset, What::Size(cell(cols)?, cell(rows)?))
            }
            _ => return None,
        };
        Some(Mark { ms, offset, what })
    }
}

/// The lines of an index as they come. A line without its end is not whole yet and is read again later.
#[derive(Debug)]
struct Index {
    file: File,
    at: u64,
    buffer: Vec<u8>,
    used: usize,
    next: Option<Mark>,
}

impl Index {
    fn new(file: File) -> Index {
        Index { file, at: 0, buffer: Vec::new(), used: 0, next: None }
    }

    fn header(&mut self) -> Option<Header> {
        let line = self.line()?;
        serde_json::from_slice(&line).ok()
    }

    fn mark(&mut self) -> Option<Mark> {
        loop {
            let line = self.line()?;
            if let Some(mark) = Mark::parse(&line) {
                return Some(mark);
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            let left = &self.buffer[self.used..];
            if let Some(end) = left.iter().position(|byte| *byte == b'\n') {
                let line = left[..end].to_vec();
                self.used += end + 1;
                return Some(line);
            }
            if left.len() > LINE_BYTES {
                // No line is that long: what this is, is skipped.
                self.used = self.buffer.len();
            }
            // The unfinished line is read anew: the writer may write it over.
            self.at -= (self.buffer.len() - self.used) as u64;
            let torn = self.buffer.len() - self.used;
            self.used = 0;
            self.buffer.resize(8 * LINE_BYTES, 0);
            let length = self.file.read_at(&mut self.buffer, self.at).unwrap_or(0);
            self.buffer.truncate(length);
            self.at += length as u64;
            if length <= torn {
                return None;
            }
        }
    }
}
