//! Pure. Ways to spell a text with escapes, and where each part of the decoded text stood.

use super::scan::SecretSpan;

/// A text without its escapes.
pub(super) struct Unescaping {
    pub text: String,
    /// For each byte of the text, where its spelling begins; and one more for the end.
    places: Vec<u32>,
}

/// A way to decode a text. The answer is `None` for a text without an escape of that way.
type Unescape = fn(&str) -> Option<Unescaping>;

/// The ways that are known: JSON, and the addresses of the web.
pub(super) const DECODERS: [Unescape; 2] = [json, percent];

impl Unescaping {
    /// The same span in the text that was decoded.
    pub fn origin(&self, span: SecretSpan) -> SecretSpan {
        let at = |index: usize| self.places.get(index).map_or(0, |place| *place as usize);
        SecretSpan { from: at(span.from), to: at(span.to), ..span }
    }
}

/// Decodes what `escape` knows: for a rest that begins with an escape, its character and its length in bytes.
fn decode(text: &str, sign: char, escape: impl Fn(&str) -> Option<(Vec<u8>, usize)>) -> Option<Unescaping> {
    // A longer text has no place in 32 bits, and none is read whole.
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

/// Without the escapes of a string of JSON.
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

/// The character of `\u0061`, or of two of them that are a pair of surrogates.
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

/// Without the escapes of an address of the web, as far as they spell characters.
pub(super) fn percent(text: &str) -> Option<Unescaping> {
    let byte = |rest: &str, at: usize| {
        let digits = rest.get(at..at + 3)?.strip_prefix('%')?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
    };
    decode(text, '%', |rest| {
        let bytes: Vec<u8> = (0..4).map_while(|nth| byte(rest, nth * 3)).collect();
        // The shortest beginning that is a character.
        (1..=bytes.len())
            .find(|length| std::str::from_utf8(&bytes[..*length]).is_ok())
            .map(|length| (bytes[..length].to_vec(), length * 3))
    })
}
