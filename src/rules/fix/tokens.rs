//! Pure. Program text as tokens, and the similarity of two token lists: numbers, strings and comments do not count.

/// The maximum number of tokens of a text that are compared: a comparison costs up to the product of both numbers.
const MAX_TOKENS: usize = 4000;

/// Returns the tokens of one line of a program in any language: words, single signs, `0` for a number and `S` for a
/// string. Comments are skipped.
pub fn of_line(line: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = line[at..].chars().next()
        && !is_comment(&line[..at], &line[at..])
    {
        let rest = &line[at..];
        let word = start_of(rest, is_word);
        let string = Some(rest).filter(|_| matches!(c, '"' | '\'' | '`')).and_then(string_at);
        let (token, length) = match string {
            Some(length) => ("S", length),
            _ if c.is_whitespace() => ("", c.len_utf8()),
            _ if rest.starts_with("/*") => ("", rest[2..].find("*/").map_or(rest.len(), |end| end + 4)),
            _ if c.is_ascii_digit() => ("0", start_of(rest, |c| is_word(c) || c == '.').len()),
            _ if !word.is_empty() => (word, word.len()),
            _ => (&rest[..c.len_utf8()], c.len_utf8()),
        };
        tokens.extend(Some(token.to_owned()).filter(|token| !token.is_empty()));
        at += length;
    }
    tokens
}

/// True for a character of a word.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first characters of a text that belong together.
pub(super) fn start_of(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !belongs(c)).unwrap_or(text.len())]
}

/// Returns the length of the string at the start of a text, with its quotes; `None` if the quote is not the start of a
/// string, as in a lifetime or an apostrophe.
fn string_at(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// True if the rest of the line is a comment: `//`, `--` or `#` with a space around it. `#[`, `#!` and the `#` of a C
/// directive are code.
fn is_comment(before: &str, rest: &str) -> bool {
    let spaced = before.chars().next_back().is_none_or(char::is_whitespace);
    let is_mark = |c: char| c.is_whitespace() || c == '#';
    rest.starts_with("//") && !before.ends_with(':')
        || spaced && rest.strip_prefix('#').is_some_and(|rest| rest.chars().next().is_none_or(is_mark))
        || before.is_empty()
            && rest.strip_prefix("--").is_some_and(|rest| rest.starts_with(char::is_whitespace))
}

/// Returns the tokens of a text of several lines.
pub fn of_text(text: &str) -> Vec<String> {
    text.lines().flat_map(of_line).collect()
}

/// Returns the share of both lists in their longest common subsequence: 1 for equal lists, 0 if they have nothing in
/// common or one is empty.
pub fn ratio(one: &[String], other: &[String]) -> f64 {
    let (one, other) = (&one[..one.len().min(MAX_TOKENS)], &other[..other.len().min(MAX_TOKENS)]);
    if one.is_empty() || other.is_empty() {
        return 0.0;
    }
    let ops = similar::capture_diff_slices(similar::Algorithm::Myers, one, other);
    f64::from(similar::get_diff_ratio(&ops, one.len(), other.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_strings_and_comments_do_not_count() {
        for (one, other) in [
            ("return x + 1", "return x + 22.5  # try again"),
            ("let s = \"a\";", "let s = \"it's\"; // why"),
            ("f('x', 0x1f)", "f('yy', 3)"),
            ("a /* b */ c", "a c"),
        ] {
            assert_eq!(of_line(one), of_line(other), "{one}");
        }
        for code in ["#[derive(Debug)]", "#include <x.h>", "fn f<'a>(x: &'a str)", "let u = http://x"] {
            assert!(of_line(code).len() > 3, "{code}: {:?}", of_line(code));
        }
        assert!(of_line("# only prose").is_empty() && of_line("-- only prose").is_empty());
    }

    #[test]
    fn the_ratio_is_relative_to_both_lists() {
        let of = |text: &str| of_text(text);
        assert!((ratio(&of("a b c d"), &of("a b c d")) - 1.0).abs() < 1e-6);
        assert!((ratio(&of("a b c d"), &of("a x c d")) - 0.75).abs() < 1e-6);
        assert!(ratio(&of("a"), &of("b")).abs() < 1e-6 && ratio(&of(""), &of("")).abs() < 1e-6);
    }
}
