//! Pure. Converts terminal output to text as it arrives: control sequences are dropped, and text that they would
//! overwrite is kept.

use super::sequences::{OutputPart, SequenceReader};

/// Converts output that arrives in pieces.
#[derive(Debug, Default)]
pub struct AnsiStripper {
    sequences: SequenceReader,
    characters: Utf8Pieces,
    /// True after a carriage return.
    returned: bool,
}

impl AnsiStripper {
    /// Returns the text in these bytes. All line ends become `\n`; invalid UTF-8 is replaced.
    pub fn text(&mut self, bytes: &[u8]) -> String {
        let (mut kept, returned) = (Vec::new(), &mut self.returned);
        self.sequences.read(bytes, &mut |part| {
            let OutputPart::Text(text) = part else { return };
            for byte in text {
                let has_returned = std::mem::replace(returned, *byte == b'\r');
                if has_returned && !matches!(byte, b'\n' | b'\r') {
                    // Text that overwrites the line becomes a line of its own here.
                    kept.push(b'\n');
                }
                if *byte != b'\r' {
                    kept.push(*byte);
                }
            }
        });
        let text = self.characters.push(&kept);
        text.chars().filter(|c| matches!(c, '\n' | '\t') || !super::text::is_hidden(*c)).collect()
    }
}

/// Returns the bytes up to the last whole character, after those that an earlier piece left over. `cut` keeps the first
/// bytes of a character that the next piece may complete.
pub fn whole_characters(cut: &mut Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    let mut all = std::mem::take(cut);
    all.extend_from_slice(bytes);
    let end = all.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    if std::str::from_utf8(end).is_err_and(|error| error.error_len().is_none()) {
        *cut = all.split_off(all.len() - end.len());
    }
    all
}

/// Decodes bytes as text, where a character may be split between two pieces. Invalid bytes become U+FFFD.
#[derive(Debug, Default)]
pub struct Utf8Pieces {
    /// The first bytes of an incomplete character.
    cut: Vec<u8>,
}

impl Utf8Pieces {
    pub fn push(&mut self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(&whole_characters(&mut self.cut, bytes)).into_owned()
    }

    /// Returns the replacement for a character that was never completed.
    pub fn end(&mut self) -> &'static str {
        if std::mem::take(&mut self.cut).is_empty() { "" } else { "\u{fffd}" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strip(bytes: &[u8]) -> String {
        AnsiStripper::default().text(bytes)
    }

    #[test]
    fn control_sequences_are_dropped() {
        assert_eq!(strip(b"a\x1b[31mred\x1b[0m b\r\n"), "ared b\n");
        assert_eq!(strip(b"\x1b]0;title\x07x\x1b]52;c;aGk=\x1b\\y\x1bP1$q\x1b\\z\x1b(B!"), "xyz!");
        assert_eq!(strip(b"10%\r20%\r\ndone\x07\x08"), "10%\n20%\ndone");
        assert_eq!(strip("a\u{202e}b日本".as_bytes()), "ab日本");
        assert_eq!(strip(b"\xff\n"), "\u{fffd}\n");
    }

    /// As in xterm, a device control string ends with ST only, and a control character inside a sequence does not end it.
    #[test]
    fn a_bell_ends_only_a_title_and_a_control_character_ends_no_sequence() {
        assert_eq!(strip(b"\x1b]0;title\x07x"), "x");
        assert_eq!(strip(b"\x1bP1$q\x07y\x1b\\z"), "z");
        assert_eq!(strip(b"\x1b\nBa\x1b[3\n1mb"), "ab");
    }

    proptest! {
        #[test]
        fn characters_cut_anywhere_are_the_same_text(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "\\PC{0,20}", cut in 1_usize..7) {
            let bytes = [text.as_bytes(), &bytes, text.as_bytes()].concat();
            let mut utf8 = Utf8Pieces::default();
            let mut pieces: String = bytes.chunks(cut).map(|piece| utf8.push(piece)).collect();
            pieces.push_str(utf8.end());
            prop_assert_eq!(pieces, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_split_gives_the_same_text_and_no_control(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 1_usize..9) {
            let whole = strip(&bytes);
            let mut pieces = AnsiStripper::default();
            let split: String = bytes.chunks(cut).map(|piece| pieces.text(piece)).collect();
            prop_assert!(whole.starts_with(&split), "{split:?} is no beginning of {whole:?}");
            prop_assert!(!whole.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')));
        }
    }
}
