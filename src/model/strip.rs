//! Pure. Converts terminal output to text as it arrives: control sequences are dropped, and text that they would
//! overwrite is kept.

use vte::{Parser, Perform};

/// Converts output that arrives in pieces.
#[derive(Default)]
pub struct Strip {
    parser: Parser,
    plain: PlainText,
}

/// The text of one piece.
#[derive(Default)]
struct PlainText {
    text: String,
    /// True after a carriage return.
    returned: bool,
}

impl Strip {
    /// Returns the text in these bytes. All line ends become `\n`; invalid UTF-8 is replaced. An incomplete character
    /// waits for the next piece.
    pub fn text(&mut self, bytes: &[u8]) -> String {
        self.parser.advance(&mut self.plain, bytes);
        std::mem::take(&mut self.plain.text)
    }
}

impl Perform for PlainText {
    fn print(&mut self, c: char) {
        // Text that overwrites the line becomes a line of its own here.
        if std::mem::take(&mut self.returned) && c != '\n' {
            self.text.push('\n');
        }
        if matches!(c, '\n' | '\t') || !super::text::is_hidden(c) {
            self.text.push(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\r' => self.returned = true,
            byte => self.print(char::from(byte)),
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
