//! Reading a transcript, live or past: from a logical offset to the end, across both files and across a rotation, with
//! the times and sizes of its index. Holds at most one line of an index in memory.

use anyhow::Result;

use super::parts::{IndexLineKind, Mark, Part, parts};
use crate::store::layout::WorkerDir;

/// The next event of a transcript. Times are milliseconds since the worker's start, `None` if no index has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TranscriptEvent {
    /// Output: so many bytes, copied into the caller's buffer.
    Output { ms: Option<u64>, length: usize },
    /// The screen has another size from here on, in cells.
    Resize { ms: u64, cols: u16, rows: u16 },
    /// Output from about here could not be written. The transcript holds zero bytes in its place.
    Lost { ms: u64, bytes: u64 },
}

/// Reads a transcript from an offset on.
#[derive(Debug)]
pub struct TranscriptReader {
    dir: WorkerDir,
    /// The file that is being read.
    part: Option<Part>,
    offset: u64,
    size: Option<(u16, u16)>,
    ms: Option<u64>,
}

impl TranscriptReader {
    /// Opens the transcript of a worker at the first byte that is still there.
    ///
    /// # Errors
    /// When a file of it cannot be read; a missing transcript is empty.
    pub fn open(dir: &WorkerDir) -> Result<TranscriptReader> {
        let mut reader = TranscriptReader { dir: dir.clone(), part: None, offset: 0, size: None, ms: None };
        reader.seek(0)?;
        Ok(reader)
    }

    /// Returns the logical offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the offset after the last byte that is there now.
    ///
    /// # Errors
    /// As [`TranscriptReader::open`].
    pub fn end_offset(&self) -> Result<u64> {
        parts(&self.dir)?.last().map_or(Ok(0), |part| Ok(part.end()?))
    }

    /// Returns the size of the screen here, as width and height; `None` if no index has it.
    pub fn size(&self) -> Option<(u16, u16)> {
        self.size
    }

    /// Returns when the worker was started, in milliseconds since the Unix epoch; `None` if no index has it.
    pub fn start_ms(&self) -> Option<i64> {
        self.part.as_ref().and_then(|part| part.header.as_ref()).map(|header| header.start_ms)
    }

    /// Moves to an offset, or to the first byte after it that is still there.
    ///
    /// # Errors
    /// As [`TranscriptReader::open`].
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
            // The state before this offset still applies at it.
            while let Some(mark) = self.part.as_mut().and_then(|part| part.mark_until(self.offset)) {
                self.pass(mark);
            }
        }
        Ok(())
    }

    fn enter(&mut self, mut part: Part) {
        let size = part.header.as_ref().map(|header| (header.cols, header.rows));
        if let Some((cols, rows)) = size
            && self.size.is_some_and(|now| now != (cols, rows))
        {
            // The size changed in the skipped part, so the caller has not seen it.
            let ms = self.ms.unwrap_or(0);
            part.tell_first(Mark { ms, offset: part.base, what: IndexLineKind::Size(cols, rows) });
        } else {
            self.size = size.or(self.size);
        }
        self.part = Some(part);
    }

    /// Returns the next event; `None` at the end, where more may come later. `Output` fills the front of `buffer`.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<Option<TranscriptEvent>> {
        loop {
            if self.part.is_none() && !self.advance()? {
                return Ok(None);
            }
            let Some(part) = &mut self.part else { return Ok(None) };
            // The end first: the index line is written before the bytes that it describes.
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
                    return Ok(Some(TranscriptEvent::Output { ms: self.ms, length }));
                }
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    fn pass(&mut self, mark: Mark) -> Option<TranscriptEvent> {
        let ms = mark.ms.max(self.ms.unwrap_or(0));
        self.ms = Some(ms);
        match mark.what {
            IndexLineKind::Output => None,
            IndexLineKind::Lost(bytes) => Some(TranscriptEvent::Lost { ms, bytes }),
            IndexLineKind::Size(cols, rows) => {
                self.size = Some((cols, rows));
                Some(TranscriptEvent::Resize { ms, cols, rows })
            }
        }
    }

    /// Moves to the next file after the current one was read to its end; returns false if there is none yet.
    fn advance(&mut self) -> Result<bool> {
        let Some(held) = &self.part else {
            self.seek(self.offset)?;
            return Ok(self.part.is_some());
        };
        if held.is_at(&self.dir.transcript()) {
            return Ok(false);
        }
        // It may have grown between the check of its end and the rotation.
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
