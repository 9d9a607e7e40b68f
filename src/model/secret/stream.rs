//! Pure. Redacts text that arrives in pieces, including secrets that are split between two pieces.

use std::borrow::Cow;

use super::scan::{SecretScan, merged};
use super::{MIN_VALUE_BYTES, Secrets};

/// The maximum that is held back while it could be the start of a secret, in bytes; a longer value is held back whole.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// Redacts pieces of text; the joined results equal [`Secrets::redact`] of the whole text. It does not search for
/// escaped secrets.
#[derive(Debug)]
pub struct Stream<'a> {
    secrets: Cow<'a, Secrets>,
    held: String,
    before: Option<char>,
    cut: Vec<u8>,
}

impl<'a> Stream<'a> {
    /// Creates a stream.
    pub fn new(secrets: &'a Secrets) -> Stream<'a> {
        Stream { secrets: Cow::Borrowed(secrets), held: String::new(), before: None, cut: Vec::new() }
    }

    /// Creates a stream that owns its secrets.
    pub fn owned(secrets: Secrets) -> Stream<'static> {
        Stream { secrets: Cow::Owned(secrets), held: String::new(), before: None, cut: Vec::new() }
    }

    /// Adds a piece. Returns redacted text: everything except what could be the start of a secret.
    pub fn feed(&mut self, text: &str) -> String {
        self.held.push_str(text);
        self.give(false)
    }

    /// Returns the rest at the end of the text.
    pub fn end(&mut self) -> String {
        self.give(true)
    }

    /// Returns the text that is held back, if it is too short to reveal a secret. For a pause in the output.
    pub fn pause(&mut self) -> String {
        if self.held.len() < MIN_VALUE_BYTES { self.end() } else { String::new() }
    }

    fn give(&mut self, is_end: bool) -> String {
        let longest = self.secrets.known.first().map_or(0, |(_, value)| value.len());
        let scan = SecretScan::new(&self.secrets.known);
        let (mut spans, open) = scan.begun(self.before, &self.held);
        spans.sort_by_key(|span| (span.from, std::cmp::Reverse(span.to)));
        let spans = merged(spans);
        let until = match is_end || self.held.len() > MAX_HELD_BYTES.max(longest) {
            true => self.held.len(),
            // Do not split a span that starts before the open position and ends after it.
            false => spans.iter().find(|span| open < span.to).map_or(open, |span| open.min(span.from)),
        };
        let given = spans.into_iter().filter(|span| span.to <= until).collect();
        let clean = scan.replaced(&self.held[..until], given);
        self.before = self.held[..until].chars().next_back().or(self.before);
        self.held.drain(..until);
        clean
    }

    /// Redacts bytes; bytes that are not UTF-8 stay as they are.
    pub fn feed_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.cut);
        all.extend_from_slice(bytes);
        let mut clean = Vec::with_capacity(all.len());
        let mut left = all.len();
        for chunk in all.utf8_chunks() {
            clean.extend(self.feed(chunk.valid()).into_bytes());
            left -= chunk.valid().len() + chunk.invalid().len();
            let bad = chunk.invalid();
            let goes_on =
                left == 0 && std::str::from_utf8(bad).is_err_and(|error| error.error_len().is_none());
            if goes_on {
                self.cut = bad.to_vec();
            } else if !bad.is_empty() {
                clean.extend(self.end().into_bytes());
                clean.extend_from_slice(bad);
                self.before = None;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "say hunter2-hunter2, ghp_0123456789012345678901234567890123456789!\r\n\u{1b}[1mhunter2-hunt\
        er2-and-more desk-ant-x sk-ant-aaaaaaaaaaaaaaaaaaaaaaaa ä-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA \
        PRIVATE KEY----- -----BEGIN CERTIFICATE-----\nhunter2-hunter hunter2-hunter2";

    fn secrets() -> Secrets {
        let pairs = [("A_TOKEN", "hunter2-hunter2"), ("B_TOKEN", "hunter2-hunter2-and-more")];
        Secrets::of(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())), &|_| false)
    }

    proptest! {
        #[test]
        fn pieces_are_redacted_as_the_whole_is(mut cuts in proptest::collection::vec(0..TEXT.len(), 0..12)) {
            let secrets = secrets();
            let whole = secrets.redact(TEXT).into_owned();
            cuts.extend([0, TEXT.len()]);
            cuts.sort_unstable();
            let (mut stream, mut clean) = (Stream::new(&secrets), Vec::new());
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
        let mut stream = Stream::new(&secrets);
        assert_eq!(stream.feed("user@host:~$ hun"), "user@host:~$ ");
        assert_eq!(stream.pause(), "hun", "too short to reveal a secret");
        assert_eq!(stream.feed("ter2 and more: hunter2-hu"), "ter2 and more: ");
        assert_eq!(stream.pause(), "");
        assert_eq!(stream.feed("man"), "hunter2-human");
        assert_eq!(stream.feed_bytes(b"x \xff\xfe y"), b"x \xff\xfe y");
    }

    #[test]
    fn a_match_that_never_ends_is_released_at_last() {
        let secrets = secrets();
        let mut stream = Stream::new(&secrets);
        assert_eq!(stream.feed("-----BEGIN PRIVATE KEY-----\nx"), "");
        let given = stream.feed(&"y".repeat(MAX_HELD_BYTES));
        assert_eq!(given, "‹redacted:private key›");
    }
}
