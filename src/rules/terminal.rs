//! Pure. Escapes text for a terminal: control characters, and characters that reorder other text, are spelled out.

use crate::rules::text;

/// Escapes text of any origin for a terminal: `\u{9b}` for a control character, `\x9b` for a byte that is not UTF-8.
/// Line breaks and tabs stay.
///
/// looop's own color is `paint`, a number and `m`; it becomes the escape sequence of the color. `paint` is a secret of
/// this process, so that foreign text cannot contain it.
pub fn escaped(bytes: &[u8], paint: &str) -> String {
    rewritten(bytes, paint, true)
}

/// Converts the same text for a file or a pipe: only looop's own colors change, and all other bytes stay as they are.
pub fn plain(bytes: &[u8], paint: &str) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(paint) => bytes.to_vec(),
        Ok(_) => rewritten(bytes, paint, false).into_bytes(),
        // Only text is colored.
        Err(_) => bytes.to_vec(),
    }
}

fn rewritten(bytes: &[u8], paint: &str, escape: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(c) = rest.chars().next() {
            if let Some((code, behind)) = rest.strip_prefix(paint).and_then(color_number) {
                out.push_str(&format!("\x1b[{code}m"));
                rest = behind;
                continue;
            }
            match c {
                c if escape && is_obeyed(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
                c => out.push(c),
            }
            rest = &rest[c.len_utf8()..];
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Parses the number of a color; returns it with the rest of the text.
fn color_number(text: &str) -> Option<(u8, &str)> {
    let (code, behind) = text.split_once('m')?;
    Some((code.parse().ok()?, behind))
}

/// Escapes JSON for a terminal: the value stays the same.
pub fn escaped_json(json: &str) -> String {
    text::escaped_json(json, is_obeyed)
}

/// True for a control character, a line or paragraph separator, and a mark that changes the order of text. All of them
/// have at most four hexadecimal digits.
fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAINT: &str = "\x1b[secret;";

    #[test]
    fn each_control_character_is_spelled_out_and_everything_else_is_unchanged() {
        let bad = (0..0x20).chain(0x7f..0xa0).filter_map(char::from_u32).filter(|c| !"\n\t".contains(*c));
        let order = "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        for c in bad.chain(order.chars()) {
            let text = format!("a{c}b");
            assert_eq!(escaped(text.as_bytes(), PAINT), format!("a\\u{{{:x}}}b", u32::from(c)));
            let json = serde_json::to_string(&text).unwrap();
            let shown = escaped_json(&json);
            assert!(shown.chars().all(|c| !is_obeyed(c)), "{shown:?}");
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
            assert_eq!(plain(text.as_bytes(), PAINT), text.as_bytes());
        }
        let fine = "a\tb\n\u{a0}é日本 👩\u{200d}💻 \\u{1b}";
        assert_eq!(escaped(fine.as_bytes(), PAINT), fine);
    }

    #[test]
    fn bytes_that_are_not_text_are_spelled_out() {
        assert_eq!(escaped(b"a\x9b31mb\xff\xc2", PAINT), "a\\x9b31mb\\xff\\xc2");
        assert_eq!(plain(b"a\x9b\x1b[1m", PAINT), b"a\x9b\x1b[1m");
    }

    #[test]
    fn only_looops_own_color_is_a_color() {
        let text = format!("{PAINT}31mred{PAINT}0m \x1b[32mfalse\x1b[0m {PAINT}2Jx");
        let shown = "\x1b[31mred\x1b[0m \\u{1b}[32mfalse\\u{1b}[0m \\u{1b}[secret;2Jx";
        assert_eq!(escaped(text.as_bytes(), PAINT), shown);
        assert!(plain(text.as_bytes(), PAINT).starts_with(b"\x1b[31mred\x1b[0m \x1b[32mfalse"));
    }
}
