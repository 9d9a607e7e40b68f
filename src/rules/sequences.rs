//! Pure. Finds the control sequences in a terminal's output, which comes in pieces that are split anywhere.

/// The longest control sequence that is reported, in bytes.
const CSI_BYTES: usize = 32;
/// The longest control string that is reported, in bytes.
pub const STRING_BYTES: usize = 8 * 1024;

/// A part of the output. Control strings of other kinds, and sequences that are aborted or too long, are left out.
#[derive(Debug)]
pub enum OutputPart<'a> {
    /// What is outside of sequences, control characters included.
    Text(&'a [u8]),
    /// A control sequence: what is between `ESC [` and its last byte, and that byte.
    Csi(&'a [u8], u8),
    /// An operating system command; `bell` says that it ended with BEL.
    Osc { text: &'a [u8], bell: bool },
    /// A device control string.
    Dcs(&'a [u8]),
}

/// Reads output. Keeps at most one unfinished sequence.
#[derive(Debug, Default)]
pub struct SequenceReader {
    state: ReadState,
    kept: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ReadState {
    #[default]
    Ground,
    Escape,
    /// Between the intermediate bytes of an escape sequence.
    Intermediate,
    Csi,
    /// In a control sequence that is too long or broken.
    BadCsi,
    /// In a control string.
    Text(StringKind),
    /// After an escape in a control string, which ends it if a backslash follows.
    TextEscape(StringKind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StringKind {
    Osc,
    Dcs,
    /// SOS, PM, APC, and strings that are too long.
    Other,
}

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
/// CAN and SUB abort any sequence.
const ABORT: [u8; 2] = [0x18, 0x1a];

impl SequenceReader {
    /// Reads output and calls `found` for each part of it.
    pub fn read(&mut self, mut bytes: &[u8], found: &mut impl FnMut(OutputPart)) {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.state == ReadState::Ground {
                let end = bytes.iter().position(|byte| *byte == ESC).unwrap_or(bytes.len());
                found(OutputPart::Text(&bytes[..end]));
                let Some(rest) = bytes.get(end + 1..) else { return };
                self.state = ReadState::Escape;
                bytes = rest;
                continue;
            }
            self.step(*byte, found);
            bytes = rest;
        }
    }

    fn step(&mut self, byte: u8, found: &mut impl FnMut(OutputPart)) {
        match (self.state, byte) {
            (_, byte) if ABORT.contains(&byte) => self.rest(),
            (ReadState::Text(kind), ESC) => self.state = ReadState::TextEscape(kind),
            (_, ESC) => self.begin(ReadState::Escape),
            (ReadState::Escape, b'[') => self.begin(ReadState::Csi),
            (ReadState::Escape, b']') => self.begin(ReadState::Text(StringKind::Osc)),
            (ReadState::Escape, b'P') => self.begin(ReadState::Text(StringKind::Dcs)),
            (ReadState::Escape, b'X' | b'^' | b'_') => self.begin(ReadState::Text(StringKind::Other)),
            (ReadState::Escape | ReadState::Intermediate, 0x20..0x30) => self.state = ReadState::Intermediate,
            // Control characters inside a sequence take effect and do not end it.
            (ReadState::Escape | ReadState::Intermediate | ReadState::Csi, 0..0x20) => {}
            (ReadState::Csi, 0x20..0x40) if self.kept.len() < CSI_BYTES => self.kept.push(byte),
            (ReadState::Csi, 0x40..0x7f) => {
                found(OutputPart::Csi(&self.kept, byte));
                self.rest();
            }
            (ReadState::BadCsi, 0x40..0x7f) => self.rest(),
            (ReadState::Csi | ReadState::BadCsi, _) => self.state = ReadState::BadCsi,
            (ReadState::Text(kind), BEL) if kind != StringKind::Dcs => self.end(kind, true, found),
            (ReadState::TextEscape(kind), b'\\') => self.end(kind, false, found),
            (ReadState::TextEscape(_), byte) => {
                self.begin(ReadState::Escape);
                self.step(byte, found);
            }
            (ReadState::Text(StringKind::Other), _) => {}
            (ReadState::Text(_), byte) if self.kept.len() < STRING_BYTES => self.kept.push(byte),
            (ReadState::Text(_), _) => self.begin(ReadState::Text(StringKind::Other)),
            _ => self.rest(),
        }
    }

    fn begin(&mut self, state: ReadState) {
        self.state = state;
        self.kept.clear();
    }

    fn rest(&mut self) {
        self.state = ReadState::Ground;
        // A supervisor runs for hours, and most programs send few long sequences: free the memory.
        self.kept = Vec::new();
    }

    fn end(&mut self, kind: StringKind, bell: bool, found: &mut impl FnMut(OutputPart)) {
        match kind {
            StringKind::Osc => found(OutputPart::Osc { text: &self.kept, bell }),
            StringKind::Dcs => found(OutputPart::Dcs(&self.kept)),
            StringKind::Other => {}
        }
        self.rest();
    }

    /// The memory that it keeps, in bytes.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.kept.capacity()
    }
}
