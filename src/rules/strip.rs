//! Pure. Converts terminal output to text as it arrives: control sequences are dropped, and text that they would
//! overwrite is kept.

/// Converts output that arrives in pieces.
#[derive(Debug, Default)]
pub struct Strip {
    state: StripState,
    /// The first bytes of an incomplete character.
    part: Vec<u8>,
    /// True after a carriage return.
    returned: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum StripState {
    #[default]
    Ground,
    Escape,
    /// Between the intermediate bytes of an escape sequence.
    Intermediate,
    Csi,
    /// Inside a string that ends with BEL or ST.
    Text,
    TextEscape,
}

const ESC: u8 = 0x1b;

impl Strip {
    /// Returns the text in these bytes. All line ends become `\n`; invalid UTF-8 is replaced.
    pub fn text(&mut self, bytes: &[u8]) -> String {
        let mut kept = std::mem::take(&mut self.part);
        for byte in bytes {
            self.step(*byte, &mut kept);
        }
        // An incomplete character waits for the next piece.
        let begun = |from: &usize| {
            std::str::from_utf8(&kept[*from..])
                .is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
        };
        let whole = (kept.len().saturating_sub(3)..kept.len()).find(begun).unwrap_or(kept.len());
        self.part = kept.split_off(whole);
        let text = String::from_utf8_lossy(&kept);
        text.chars().filter(|c| matches!(c, '\n' | '\t') || !super::text::is_hidden(*c)).collect()
    }

    fn step(&mut self, byte: u8, kept: &mut Vec<u8>) {
        self.state = match (self.state, byte) {
            (StripState::Text, ESC) => StripState::TextEscape,
            (StripState::Text, 0x07 | 0x18 | 0x1a) => StripState::Ground,
            (StripState::Text, _) => StripState::Text,
            (StripState::TextEscape, b'\\') => StripState::Ground,
            (_, ESC) => StripState::Escape,
            (_, 0x18 | 0x1a) => StripState::Ground,
            (StripState::Escape | StripState::TextEscape, b'[') => StripState::Csi,
            (StripState::Escape | StripState::TextEscape, b']' | b'P' | b'X' | b'^' | b'_') => {
                StripState::Text
            }
            (StripState::Escape | StripState::TextEscape | StripState::Intermediate, 0x20..=0x2f) => {
                StripState::Intermediate
            }
            (StripState::Csi, 0x40..=0x7e) => StripState::Ground,
            (StripState::Csi, _) => StripState::Csi,
            (StripState::Ground, byte) => return self.ground(byte, kept),
            _ => StripState::Ground,
        };
    }

    fn ground(&mut self, byte: u8, kept: &mut Vec<u8>) {
        let returned = std::mem::replace(&mut self.returned, byte == b'\r');
        if returned && byte != b'\n' && byte != b'\r' {
            // Text that overwrites the line becomes a line of its own here.
            kept.push(b'\n');
        }
        if byte != b'\r' {
            kept.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strip(bytes: &[u8]) -> String {
        Strip::default().text(bytes)
    }

    #[test]
    fn control_sequences_are_dropped() {
        assert_eq!(strip(b"a\x1b[31mred\x1b[0m b\r\n"), "ared b\n");
        assert_eq!(strip(b"\x1b]0;title\x07x\x1b]52;c;aGk=\x1b\\y\x1bP1$q\x1b\\z\x1b(B!"), "xyz!");
        assert_eq!(strip(b"10%\r20%\r\ndone\x07\x08"), "10%\n20%\ndone");
        assert_eq!(strip("a\u{202e}b日本".as_bytes()), "ab日本");
        assert_eq!(strip(b"\xff\n"), "\u{fffd}\n");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text_and_no_control(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 1_usize..9) {
            let whole = strip(&bytes);
            let mut pieces = Strip::default();
            let split: String = bytes.chunks(cut).map(|piece| pieces.text(piece)).collect();
            prop_assert!(whole.starts_with(&split), "{split:?} is no beginning of {whole:?}");
            prop_assert!(!whole.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')));
        }
    }
}
