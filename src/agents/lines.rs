//! Pure. The lines of a stream that comes in pieces, in bounded memory.

/// The longest line that is read, in bytes; a longer one is passed over.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Joins pieces, split anywhere, to lines.
#[derive(Debug, Default)]
pub struct LineReader {
    line: Vec<u8>,
    overlong: bool,
}

impl LineReader {
    /// Takes the piece up to the end of a line, and returns that line; `None` when the piece holds no further end.
    pub fn next(&mut self, piece: &mut &[u8]) -> Option<Vec<u8>> {
        loop {
            let end = piece.iter().position(|byte| *byte == b'\n');
            let part = &piece[..end.unwrap_or(piece.len())];
            self.overlong |= self.line.len() + part.len() > MAX_LINE_BYTES;
            if self.overlong {
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(part);
            }
            *piece = &piece[end? + 1..];
            if !std::mem::take(&mut self.overlong) {
                return Some(self.rest());
            }
        }
    }

    /// Returns what has no end of a line yet.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.line)
    }

    /// The memory that it keeps, in bytes.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.line.capacity()
    }
}
