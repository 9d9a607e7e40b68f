//! Pure. Finds all secrets of a text in one pass: known values, tokens by their shape, private keys.

/// Prefixes of tokens as GitHub, GitLab, Anthropic, OpenAI, Slack, AWS, Google and npm document them, by the least number
/// of further characters.
const SHAPES: [(usize, &[&str]); 6] = [
    (16, &["AKIA", "ASIA"]),
    (20, &["glpat-", "sk-ant-", "sk-proj-", "xoxa-", "xoxb-", "xoxp-"]),
    (22, &["github_pat_"]),
    (32, &["sk-"]),
    (35, &["AIza"]),
    (36, &["gho_", "ghp_", "ghr_", "ghs_", "ghu_", "npm_"]),
];
/// The start and the end of a private key in PEM format (RFC 7468).
pub(super) const PEM: (&str, &str) = ("-----BEGIN ", "-----END ");
/// The longest label of a PEM block, in bytes.
const MAX_LABEL_BYTES: usize = 64;

/// The position of a secret in a text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SecretSpan {
    pub from: usize,
    pub to: usize,
    pub what: Pattern,
}

/// What a scan searches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// A known value, by its index.
    Value(usize),
    /// A token with at least so many characters after its prefix.
    Token(usize),
    Key,
}

/// The result of a match at one position.
enum Match {
    None,
    /// A secret up to this position.
    Until(usize),
    /// The following text decides; the position where the secret ends if there is no more text.
    Open(Option<usize>),
}

/// All patterns, sorted by their first byte.
pub(super) struct SecretScan<'a> {
    known: &'a [(String, String)],
    patterns: Vec<(&'a [u8], Pattern)>,
    /// For each first byte, the index of its first pattern.
    heads: [u16; 257],
}

impl<'a> SecretScan<'a> {
    /// Creates a scan for these values, `[name, value]`.
    pub fn new(known: &'a [(String, String)]) -> SecretScan<'a> {
        let values =
            known.iter().enumerate().map(|(nth, (_, value))| (value.as_bytes(), Pattern::Value(nth)));
        let shapes = SHAPES.iter().flat_map(|(least, prefixes)| {
            prefixes.iter().map(|prefix| (prefix.as_bytes(), Pattern::Token(*least)))
        });
        let mut patterns: Vec<(&[u8], Pattern)> =
            values.chain(shapes).chain([(PEM.0.as_bytes(), Pattern::Key)]).collect();
        patterns.sort_by_key(|(head, _)| head.first().copied());
        let mut heads = [0_u16; 257];
        for (byte, head) in heads.iter_mut().enumerate() {
            let begins =
                patterns.partition_point(|(bytes, _)| bytes.first().is_some_and(|b| usize::from(*b) < byte));
            *head = u16::try_from(begins).unwrap_or(u16::MAX);
        }
        SecretScan { known, patterns, heads }
    }

    /// The secrets of the beginning of a text, and where the first one stands that what follows decides about.
    pub fn find(&self, text: &str) -> (Vec<SecretSpan>, usize) {
        let bytes = text.as_bytes();
        let (mut spans, mut open): (Vec<SecretSpan>, usize) = (Vec::new(), bytes.len());
        #[cfg(test)]
        visits::add(bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            let [from, to] = [self.heads[usize::from(*byte)], self.heads[usize::from(*byte) + 1]];
            for (head, what) in &self.patterns[usize::from(from)..usize::from(to)] {
                let to = match match_at(text, at, head, *what) {
                    Match::None => continue,
                    Match::Until(to) => Some(to),
                    Match::Open(to) => {
                        open = open.min(at);
                        to
                    }
                };
                spans.extend(to.map(|to| SecretSpan { from: at, to, what: *what }));
            }
        }
        (spans, open)
    }

    /// Replaces the secrets by placeholders; overlapping spans count as one secret.
    pub fn replaced(&self, text: &str, mut spans: Vec<SecretSpan>) -> String {
        spans.sort_by_key(|span| (span.from, std::cmp::Reverse(span.to)));
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for span in merged(spans) {
            out.push_str(text.get(done..span.from).unwrap_or_default());
            let name = match span.what {
                Pattern::Value(nth) => self.known.get(nth).map_or("value", |(name, _)| name.as_str()),
                Pattern::Token(_) => "token",
                Pattern::Key => "private key",
            };
            out.push_str(&format!("‹redacted:{name}›"));
            done = span.to;
        }
        out + text.get(done..).unwrap_or_default()
    }
}

/// Whether a pattern that begins with `head` matches at this place.
fn match_at(text: &str, at: usize, head: &[u8], what: Pattern) -> Match {
    let rest = &text.as_bytes()[at..];
    // Within a longer word no token begins.
    let is_within = || at.checked_sub(1).is_some_and(|last| is_token_byte(text.as_bytes()[last]));
    if matches!(what, Pattern::Token(_)) && is_within() {
        return Match::None;
    }
    if rest.len() < head.len() {
        return if head.starts_with(rest) { Match::Open(None) } else { Match::None };
    }
    if !rest.starts_with(head) {
        return Match::None;
    }
    match what {
        Pattern::Value(_) => Match::Until(at + head.len()),
        Pattern::Key => match_private_key(text, at),
        Pattern::Token(least) => {
            let length = rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(rest.len());
            let is_token = length >= head.len() + least;
            match (is_token, length == rest.len()) {
                (true, true) => Match::Open(Some(at + length)),
                (false, true) => Match::Open(None),
                (true, false) => Match::Until(at + length),
                (false, false) => Match::None,
            }
        }
    }
}

/// Sorted spans without any that overlap.
fn merged(spans: Vec<SecretSpan>) -> Vec<SecretSpan> {
    let mut all: Vec<SecretSpan> = Vec::with_capacity(spans.len());
    for span in spans {
        match all.last_mut() {
            Some(last) if span.from < last.to => last.to = last.to.max(span.to),
            _ => all.push(span),
        }
    }
    all
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// A private key reaches from its first line to its last one, or to the end of the text if that is missing.
fn match_private_key(text: &str, at: usize) -> Match {
    let begin = at + PEM.0.len();
    let Some(label) = text[begin..].find("-----").map(|end| &text[begin..begin + end]) else {
        return if text.len() - begin > MAX_LABEL_BYTES { Match::None } else { Match::Open(None) };
    };
    if !label.ends_with("PRIVATE KEY") {
        return Match::None;
    }
    let end = format!("{}{label}-----", PEM.1);
    match text[begin..].find(&end) {
        Some(found) => Match::Until(begin + found + end.len()),
        None => Match::Open(Some(text.len())),
    }
}

#[cfg(test)]
pub(super) mod visits {
    //! Counts the bytes that scans of this thread visit.

    thread_local! {
        static VISITED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    pub(super) fn add(bytes: usize) {
        VISITED.with(|visited| visited.set(visited.get() + bytes));
    }

    /// Runs a function and counts the bytes that the scan visited.
    pub(in crate::rules::secret) fn count<T>(work: impl FnOnce() -> T) -> (T, usize) {
        VISITED.with(|visited| visited.set(0));
        let done = work();
        (done, VISITED.with(std::cell::Cell::get))
    }
}
