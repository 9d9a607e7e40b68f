//! Pure. Decodes escaped text, and maps each part of the decoded text to its original position.

use super::scan::SecretSpan;

/// A text without its escapes.
pub(super) struct Unescaping {
    pub text: String,
    /// For each byte of the text, the position of its original spelling; one more entry for the end.
    places: Vec<u32>,
}

/// The bytes that the escape at the start of a text spells, and the length of the escape in bytes.
type Escape = Option<(Vec<u8>, usize)>;

/// A way to spell characters with escapes.
pub(super) struct Spelling {
    /// The first character of each escape.
    sign: char,
    escape: fn(&str) -> Escape,
    /// True for the beginning of an escape that more text may complete.
    is_beginning: fn(&str) -> bool,
}

/// A string of JSON, and an address of the web.
pub(super) const SPELLINGS: [Spelling; 2] =
    [Spelling { sign: '\\', escape: json_escape, is_beginning: is_beginning_of_json }, PERCENT];
const PERCENT: Spelling =
    Spelling { sign: '%', escape: percent_escape, is_beginning: is_beginning_of_percent };

/// The longest escape, in bytes: two units of a pair of surrogates, or four bytes of one character.
const MAX_ESCAPE_BYTES: usize = 12;

impl Spelling {
    /// The text without its escapes; none for a text that has no escape.
    pub fn decode(&self, text: &str) -> Option<Unescaping> {
        // Positions are 32 bits. A longer text never occurs, since no text is read whole at that size.
        if !text.contains(self.sign) || u32::try_from(text.len()).is_err() {
            return None;
        }
        let (mut bytes, mut places) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
        let (mut at, mut is_other) = (0, false);
        while at < text.len() {
            let rest = &text[at..];
            let known = rest.starts_with(self.sign).then(|| (self.escape)(rest)).flatten();
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

    /// Where an escape begins that the end of the text may have cut; else the end of the text. `decoded` is what this text
    /// decodes to.
    pub fn cut_escape(&self, text: &str, decoded: Option<&Unescaping>) -> usize {
        let from = text.len().saturating_sub(MAX_ESCAPE_BYTES - 1);
        let is_cut = |at: &usize| {
            let rest = text.get(*at..).unwrap_or_default();
            (self.is_beginning)(rest) && decoded.is_none_or(|decoded| decoded.whole(*at) == *at)
        };
        (from..text.len()).find(is_cut).unwrap_or(text.len())
    }
}

impl Unescaping {
    /// Where the spelling of a byte of the text begins, in the text that was decoded.
    pub fn place(&self, index: usize) -> usize {
        self.places.get(index).map_or(0, |place| *place as usize)
    }

    /// The same span in the text that was decoded.
    pub fn origin(&self, span: SecretSpan) -> SecretSpan {
        SecretSpan { from: self.place(span.from), to: self.place(span.to), ..span }
    }

    /// The byte of the text whose spelling begins at a place of the text that was decoded, or is cut by it.
    pub fn index(&self, place: usize) -> usize {
        let first = |place: usize| self.places.partition_point(|known| (*known as usize) < place);
        let index = first(place);
        match self.place(index) == place {
            true => index,
            false => first(self.place(index.saturating_sub(1))),
        }
    }

    /// The last place up to this one that cuts no escape.
    pub fn whole(&self, place: usize) -> usize {
        self.place(self.index(place))
    }
}

/// An escape of a string of JSON: two bytes, six for `\u0061`, or twelve for a pair of surrogates.
fn json_escape(text: &str) -> Escape {
    [2, 6, 12].into_iter().find_map(|length| {
        let c: char = serde_json::from_str(&format!("\"{}\"", text.get(..length)?)).ok()?;
        Some((c.to_string().into_bytes(), length))
    })
}

/// True for `\`, `\u00` and other beginnings of an escape that more text may complete.
fn is_beginning_of_json(text: &str) -> bool {
    let is_unit = |text: &str| {
        let digits = text.strip_prefix("\\u");
        "\\u".starts_with(text)
            || digits.is_some_and(|digits| digits.len() < 4 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let is_high = |unit: &str| {
        let digits = unit.strip_prefix("\\u").filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).is_some_and(|n| n & 0xfc00 == 0xd800)
    };
    let is_pair = || text.split_at_checked(6).is_some_and(|(high, rest)| is_high(high) && is_unit(rest));
    text.starts_with('\\') && (is_unit(text) || is_pair())
}

/// True for `%`, `%c3` and other beginnings of a character that more text may complete.
fn is_beginning_of_percent(text: &str) -> bool {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(byte) = percent_byte(rest, 0) {
        bytes.push(byte);
        rest = &rest[3..];
    }
    let is_cut_byte = || matches!(rest.as_bytes(), [b'%'] | [b'%', b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F']);
    let is_cut_char = std::str::from_utf8(&bytes)
        .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none());
    text.starts_with('%') && (rest.is_empty() || is_cut_byte()) && (bytes.is_empty() || is_cut_char)
}

/// The percent-encoding of one character in a URL.
fn percent_escape(text: &str) -> Escape {
    let bytes: Vec<u8> = (0..4).map_while(|nth| percent_byte(text, nth * 3)).collect();
    // The shortest beginning that is a character.
    let length = (1..=bytes.len()).find(|length| std::str::from_utf8(&bytes[..*length]).is_ok())?;
    Some((bytes[..length].to_vec(), length * 3))
}

/// The text that percent-encoding spells; `None` if it spells nothing.
pub fn percent_decoded(text: &str) -> Option<String> {
    PERCENT.decode(text).map(|decoded| decoded.text)
}

/// The byte that an escape of an address spells.
fn percent_byte(text: &str, at: usize) -> Option<u8> {
    let digits = text.get(at..at + 3)?.strip_prefix('%')?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}
