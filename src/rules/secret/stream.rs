//! Pure. Redacts text that arrives in pieces, including secrets that are split between two pieces.

use std::borrow::Cow;

use super::scan::{SecretScan, SecretSpan};
use super::spelling::SPELLINGS;
use super::{MAX_DECODED, MIN_VALUE_BYTES, Secrets, find_secrets};
use crate::rules::strip_ansi::whole_characters;

/// The maximum that is held back while it could be the start of a secret, in bytes; a longer value is held back whole.
const MAX_HELD_BYTES: usize = 64 * 1024;
/// How much of what was given out is kept, in bytes: it tells whether a token begins behind it, however it is spelled.
const CONTEXT_BYTES: usize = 64;

/// Redacts pieces of text; together they are what [`Secrets::redact`] makes of the whole.
#[derive(Debug)]
pub struct RedactStream<'a> {
    secrets: Cow<'a, Secrets>,
    /// The end of what was given out, and what is held back.
    text: String,
    /// How much of the text was given out, in bytes.
    given: usize,
    cut: Vec<u8>,
}

impl<'a> RedactStream<'a> {
    /// Creates a stream.
    pub fn new(secrets: &'a Secrets) -> RedactStream<'a> {
        RedactStream { secrets: Cow::Borrowed(secrets), text: String::new(), given: 0, cut: Vec::new() }
    }

    /// Creates a stream that owns its secrets.
    pub fn owned(secrets: Secrets) -> RedactStream<'static> {
        RedactStream { secrets: Cow::Owned(secrets), text: String::new(), given: 0, cut: Vec::new() }
    }

    /// Adds a piece. Returns redacted text: everything except what could be the start of a secret.
    pub fn feed(&mut self, text: &str) -> String {
        self.text.push_str(text);
        self.release(false)
    }

    /// Returns the rest at the end of the text.
    pub fn end(&mut self) -> String {
        self.release(true)
    }

    /// Returns the text that is held back, if it is too short to reveal a secret. For a pause in the output.
    pub fn pause(&mut self) -> String {
        if self.held_bytes() < MIN_VALUE_BYTES { self.end() } else { String::new() }
    }

    fn held_bytes(&self) -> usize {
        self.text.len() - self.given
    }

    fn release(&mut self, is_end: bool) -> String {
        let longest = self.secrets.known.first().map_or(0, |(_, value)| value.len());
        let scan = SecretScan::new(&self.secrets.known);
        let (mut spans, open) = find_secrets(&scan, &self.text, MAX_DECODED);
        let until = match is_end || self.held_bytes() > MAX_HELD_BYTES.max(longest) {
            true => self.text.len(),
            false => uncut(&self.text, &spans, open).max(self.given),
        };
        spans.retain(|span| span.to > self.given && span.to <= until);
        for span in &mut spans {
            (span.from, span.to) = (span.from.saturating_sub(self.given), span.to - self.given);
        }
        let clean = scan.replaced(&self.text[self.given..until], spans);
        let context = self.text.floor_char_boundary(until.saturating_sub(CONTEXT_BYTES));
        let context = whole_escapes(&self.text, context, MAX_DECODED);
        self.text.drain(..context);
        self.given = until - context;
        clean
    }

    /// Redacts bytes; bytes that are not UTF-8 stay as they are.
    pub fn feed_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        let all = whole_characters(&mut self.cut, bytes);
        let mut clean = Vec::with_capacity(all.len());
        for chunk in all.utf8_chunks() {
            clean.extend(self.feed(chunk.valid()).into_bytes());
            if !chunk.invalid().is_empty() {
                clean.extend(self.end().into_bytes());
                clean.extend_from_slice(chunk.invalid());
                (self.text, self.given) = (String::new(), 0);
            }
        }
        clean
    }

    /// Returns the rest at the end of the bytes.
    pub fn end_bytes(&mut self) -> Vec<u8> {
        let mut clean = self.end().into_bytes();
        clean.append(&mut self.cut);
        clean
    }
}

/// The last place up to `until` that cuts neither a secret nor an escape.
fn uncut(text: &str, spans: &[SecretSpan], until: usize) -> usize {
    let cut = spans.iter().filter(|span| span.from < until && until < span.to).map(|span| span.from).min();
    let place = whole_escapes(text, cut.unwrap_or(until), MAX_DECODED);
    if place == until { until } else { uncut(text, spans, place) }
}

/// The last place up to `until` that cuts no escape, also none in what the text decodes to.
fn whole_escapes(text: &str, until: usize, depth: usize) -> usize {
    let mut place = until;
    for decoded in SPELLINGS.iter().filter(|_| depth > 0).filter_map(|way| way.decode(text)) {
        let index = whole_escapes(&decoded.text, decoded.index(place), depth - 1);
        place = place.min(decoded.place(index));
    }
    if place == until { until } else { whole_escapes(text, place, depth) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "say hunter2-hunter2, ghp_0123456789012345678901234567890123456789!\r\n\u{1b}[1mhunter2-hunt\
        er2-and-more task-ant-x sk-ant-aaaaaaaaaaaaaaaaaaaaaaaa ä-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA \
        PRIVATE KEY----- -----BEGIN CERTIFICATE-----\nhunter2-hunter hunter2-hunter2 C:\\new\\u00 100% %zz \
        \\u0068unter2\\u002dhunter2 \\\\u0068unter2-hunter2-and-more hunter2%2Dhunter2 \\\\\\u0068unter2-hunter2%2 \
        \\nghp_0123456789012345678901234567890123456789 \\\\hunter2-hunter2 p\\ud83d\\ude00ss-word-%F0%9F%98%80 \
        p\u{1f600}ss-word-\\ud83d\\ude00 \\ud83d alone, %68%75nter2-hunter2%252Dand hunter2%252Dhunter2 \\\\\\\\nx\\";

    fn secrets() -> Secrets {
        let pairs = [
            ("A_TOKEN", "hunter2-hunter2"),
            ("B_TOKEN", "hunter2-hunter2-and-more"),
            ("C_TOKEN", "p\u{1f600}ss-word-\u{1f600}"),
            ("D_TOKEN", "u0068-and-secret"),
        ];
        Secrets::of(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())), &|_| false)
    }

    proptest! {
        #[test]
        fn pieces_are_redacted_as_the_whole_is(mut cuts in proptest::collection::vec(0..TEXT.len(), 0..12)) {
            let secrets = secrets();
            let whole = secrets.redact(TEXT).into_owned();
            cuts.extend([0, TEXT.len()]);
            cuts.sort_unstable();
            let (mut stream, mut clean) = (RedactStream::new(&secrets), Vec::new());
            for pair in cuts.windows(2) {
                clean.extend(stream.feed_bytes(&TEXT.as_bytes()[pair[0]..pair[1]]));
            }
            clean.extend(stream.end_bytes());
            prop_assert_eq!(String::from_utf8(clean).unwrap(), whole);
        }
    }

    #[test]
    fn only_a_possible_start_of_a_secret_is_held_back() {
        let secrets = secrets();
        let mut stream = RedactStream::new(&secrets);
        assert_eq!(stream.feed("user@host:~$ hun"), "user@host:~$ ");
        assert_eq!(stream.pause(), "hun", "too short to reveal a secret");
        assert_eq!(stream.feed("ter2 and more: hunter2-hu"), "ter2 and more: ");
        assert_eq!(stream.pause(), "");
        assert_eq!(stream.feed("man"), "hunter2-human");
        assert_eq!(stream.feed_bytes(b"x \xff\xfe y"), b"x \xff\xfe y");
    }

    #[test]
    fn an_escape_that_is_cut_is_held_back_until_it_can_be_reported() {
        let secrets = secrets();
        for (first, second) in [
            (r"a\u00", "68unter2-hunter2"),
            (r"a\", "u0068unter2-hunter2"),
            (r"a\u0068unter2\u002dhunt", "er2"),
            ("a%6", "8unter2-hunter2"),
            ("ahunter2%2", "Dhunter2"),
            (r"a\\u00", "68unter2-hunter2"),
        ] {
            let mut stream = RedactStream::new(&secrets);
            assert_eq!(stream.feed(first), "a", "{first}");
            assert_eq!(stream.feed(second) + &stream.end(), "‹redacted:A_TOKEN›", "{first}{second}");
        }
        let mut stream = RedactStream::new(&secrets);
        assert_eq!(stream.feed(r"C:\data\"), r"C:\data");
        assert_eq!(stream.pause(), r"\", "so little tells nothing");
    }

    #[test]
    fn what_never_ends_is_given_out_at_last() {
        let secrets = secrets();
        let mut stream = RedactStream::new(&secrets);
        assert_eq!(stream.feed("-----BEGIN PRIVATE KEY-----\nx"), "");
        let given = stream.feed(&"y".repeat(MAX_HELD_BYTES));
        assert_eq!(given, "‹redacted:private key›");
    }
}
