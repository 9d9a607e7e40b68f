//! Pure. Redaction of text that comes in pieces: a secret that is cut between two of them goes as well.

use super::{MIN_VALUE_BYTES, PEM, SHAPES, Secrets, is_token_char};

/// The most that is held back while it could be a secret's beginning, in bytes.
const MAX_HELD_BYTES: usize = 64 * 1024;
/// The longest label of a PEM block, in bytes.
const MAX_LABEL_BYTES: usize = 64;

/// Redacts pieces of text; together they are what [`Secrets::redact`] makes of the whole.
#[derive(Debug)]
pub struct Stream<'a> {
    secrets: &'a Secrets,
    held: String,
    before: Option<char>,
    cut: Vec<u8>,
}

impl<'a> Stream<'a> {
    /// A stream that begins.
    pub fn new(secrets: &'a Secrets) -> Stream<'a> {
        Stream { secrets, held: String::new(), before: None, cut: Vec::new() }
    }

    /// The next piece; what comes out is clean, and all of it but what could be a secret's beginning.
    pub fn feed(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let until = match self.held.len() {
            ..=MAX_HELD_BYTES => self.secrets.settled(self.before, &self.held),
            length => length,
        };
        self.give(until)
    }

    /// What is held back, once nothing follows.
    pub fn end(&mut self) -> String {
        self.give(self.held.len())
    }

    /// What is held back while nothing comes, where it is too short to tell anything of a secret.
    pub fn pause(&mut self) -> String {
        if self.held.len() < MIN_VALUE_BYTES { self.end() } else { String::new() }
    }

    fn give(&mut self, until: usize) -> String {
        let rest = self.held.split_off(until);
        let given = std::mem::replace(&mut self.held, rest);
        let clean = self.secrets.redact_after(self.before, &given).into_owned();
        self.before = given.chars().next_back().or(self.before);
        clean
    }

    /// The same for bytes; what is no text stays as it is.
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

    /// What is held back of bytes, once nothing follows.
    pub fn end_bytes(&mut self) -> Vec<u8> {
        let mut clean = self.end().into_bytes();
        clean.append(&mut self.cut);
        clean
    }
}

impl Secrets {
    /// How much of a text can be redacted whatever follows it, in bytes.
    fn settled(&self, before: Option<char>, text: &str) -> usize {
        let run = text.trim_end_matches(is_token_char).len();
        let begins = !text[..run].chars().next_back().or(before).is_some_and(is_token_char);
        let tail = &text[run..];
        let is_open = |prefix: &str| tail.starts_with(prefix) || prefix.starts_with(tail);
        let mut cut = match begins && !tail.is_empty() && SHAPES.iter().any(|(prefix, _)| is_open(prefix)) {
            true => run,
            false => text.len(),
        };
        let values = || self.known.iter().map(|(_, value)| value.as_str());
        for whole in values().chain([PEM.0]) {
            cut = cut.min(unfinished(text, whole));
        }
        let keys: Vec<(usize, usize)> =
            text.match_indices(PEM.0).map(|(at, _)| (at, key_end(&text[at..]).saturating_add(at))).collect();
        // What begins before the cut and ends behind it is not cut in two.
        let spans: Vec<(usize, usize)> = values()
            .flat_map(|value| text.match_indices(value).map(|(at, found)| (at, at + found.len())))
            .chain(keys)
            .collect();
        loop {
            let inside = spans.iter().filter(|(from, to)| *from < cut && cut < *to).map(|(from, _)| *from);
            let start = text[..cut].trim_end_matches(is_token_char).len();
            let token = text[cut..].starts_with(is_token_char)
                && SHAPES.iter().any(|(prefix, _)| text[start..].starts_with(prefix));
            match inside.chain(token.then_some(start)).min().filter(|from| *from < cut) {
                Some(from) => cut = from,
                None => return cut,
            }
        }
    }
}

/// Where the longest end of a text begins that a whole thing could begin with; the text's length where none does.
fn unfinished(text: &str, whole: &str) -> usize {
    let first = text.len().saturating_sub(whole.len().saturating_sub(1));
    (first..text.len())
        .find(|at| text.is_char_boundary(*at) && whole.starts_with(&text[*at..]))
        .unwrap_or(text.len())
}

/// How long a private key is that a text begins with, in bytes; endless where its end is yet to come.
fn key_end(text: &str) -> usize {
    let rest = &text[PEM.0.len()..];
    let Some(label) = rest.find("-----").map(|end| &rest[..end]) else {
        return if rest.len() > MAX_LABEL_BYTES { 0 } else { usize::MAX };
    };
    if !label.ends_with("PRIVATE KEY") {
        return 0;
    }
    let end = format!("{}{label}-----", PEM.1);
    text.find(&end).map_or(usize::MAX, |at| at + end.len())
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
        Secrets::of(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
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
    fn only_what_could_be_a_secret_is_held_back() {
        let secrets = secrets();
        let mut stream = Stream::new(&secrets);
        assert_eq!(stream.feed("user@host:~$ hun"), "user@host:~$ ");
        assert_eq!(stream.pause(), "hun", "so little tells nothing");
        assert_eq!(stream.feed("ter2 and more: hunter2-hu"), "ter2 and more: ");
        assert_eq!(stream.pause(), "");
        assert_eq!(stream.feed("man"), "hunter2-human");
        assert_eq!(stream.feed_bytes(b"x \xff\xfe y"), b"x \xff\xfe y");
    }

    #[test]
    fn what_never_ends_is_given_out_at_last() {
        let secrets = secrets();
        let mut stream = Stream::new(&secrets);
        assert_eq!(stream.feed("-----BEGIN PRIVATE KEY-----\nx"), "");
        let given = stream.feed(&"y".repeat(MAX_HELD_BYTES));
        assert_eq!(given, "‹redacted:private key›");
    }
}
