//! Pure. Decodes escaped text, and maps each part of the decoded text to its original position.

use super::scan::SecretSpan;

/// A text without its escapes.
pub(super) struct Unescaping {
    pub text: String,
    /// For each byte of the text, the position of its original spelling; one more entry for the end.
    places: Vec<u32>,
}

/// A decoder. It returns `None` for a text without its kind of escapes.
type Unescape = fn(&str) -> Option<Unescaping>;

/// The known decoders: JSON, and percent-encoding of URLs.
pub(super) const DECODERS: [Unescape; 2] = [json, percent];

impl Unescaping {
    /// Maps a span to the original text.
    pub fn origin(&self, span: SecretSpan) -> SecretSpan {
        let at = |index: usize| self.places.get(index).map_or(0, |place| *place as usize);
        SecretSpan { from: at(span.from), to: at(span.to), ..span }
    }
}

/// Decodes escapes: for a text that starts with an escape, `escape` returns its character and its length in bytes.
fn decode(text: &str, sign: char, escape: impl Fn(&str) -> Option<(Vec<u8>, usize)>) -> Option<Unescaping> {
    // Positions are 32 bits. A longer text never occurs, since no text is read whole at that size.
    if !text.contains(sign) || u32::try_from(text.len()).is_err() {
        return None;
    }
    let (mut bytes, mut places) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
    let (mut at, mut is_other) = (0, false);
    while at < text.len() {
        let rest = &text[at..];
        let known = rest.starts_with(sign).then(|| escape(rest)).flatten();
        is_other |= known.is_some();
        let (new, length) = known.unwrap_or_else(|| {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            (rest.as_bytes()[..length].to_vec(), length)
        });
        places.extend(std::iter::repeat_n(at as u32, new.len()));
        bytes.extend(new);
        at += length;
    }
    places.push(text.len() as u32);
    let text = String::from_utf8(bytes).ok().filter(|_| is_other)?;
    Some(Unescaping { text, places })
}

/// Decodes the escapes of JSON strings.
pub(super) fn json(text: &str) -> Option<Unescaping> {
    decode(text, '\\', |rest| {
        let simple = match rest.as_bytes().get(1)? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let (c, length) = unit(rest)?;
                return Some((c.to_string().into_bytes(), length));
            }
            _ => return None,
        };
        Some((simple.to_string().into_bytes(), 2))
    })
}

/// The character of `\u0061`, or of a surrogate pair of two escapes.
fn unit(rest: &str) -> Option<(char, usize)> {
    let hex = |at: usize| {
        let digits = rest.get(at..at + 6)?.strip_prefix("\\u")?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
    };
    let first = hex(0)?;
    if let Some(c) = char::from_u32(u32::from(first)) {
        return Some((c, 6));
    }
    let c = char::decode_utf16([first, hex(6)?]).next()?.ok()?;
    Some((c, 12))
}

/// Decodes the percent-encoding of URLs, if the bytes form characters.
pub(super) fn percent(text: &str) -> Option<Unescaping> {
    let byte = |rest: &str, at: usize| {
        let digits = rest.get(at..at + 3)?.strip_prefix('%')?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
    };
    decode(text, '%', |rest| {
        let bytes: Vec<u8> = (0..4).map_while(|nth| byte(rest, nth * 3)).collect();
        // The shortest prefix that is a character.
        (1..=bytes.len())
            .find(|length| std::str::from_utf8(&bytes[..*length]).is_ok())
            .map(|length| (bytes[..length].to_vec(), length * 3))
    })
}
