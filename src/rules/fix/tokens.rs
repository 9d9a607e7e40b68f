//! Pure. Program text as tokens, and the similarity of two token lists: numbers, strings and comments do not count.

/// The maximum number of tokens of a text that are compared: a comparison costs up to the product of both numbers.
const MAX_TOKENS: usize = 4000;

/// Returns the tokens of one line of a program in any language: words, single signs, `0` for a number and `S` for a
/// string. Comments are skipped.
pub fn of_line(line: &str) -> Vec<String> {
    let chars: Vec<char> = line.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if c.is_whitespace() {
            at += 1;
        } else if is_comment(&chars, at) {
            break;
        } else if c == '/' && chars.get(at + 1) == Some(&'*') {
            let end = (at + 2..chars.len()).find(|i| chars[*i] == '*' && chars.get(i + 1) == Some(&'/'));
            at = end.map_or(chars.len(), |end| end + 2);
        } else if matches!(c, '"' | '\'' | '`') && string_end(&chars, at).is_some() {
            tokens.push("S".to_owned());
            at = string_end(&chars, at).unwrap_or(at) + 1;
        } else if c.is_ascii_digit() {
            tokens.push("0".to_owned());
            at = end_of(&chars, at, |c| c.is_alphanumeric() || matches!(c, '.' | '_'));
        } else if c.is_alphanumeric() || c == '_' {
            let end = end_of(&chars, at, |c| c.is_alphanumeric() || c == '_');
            tokens.push(chars[at..end].iter().collect());
            at = end;
        } else {
            tokens.push(c.to_string());
            at += 1;
        }
    }
    tokens
}

/// The position after the characters from `from` on that belong together.
fn end_of(chars: &[char], from: usize, belongs: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|i| !belongs(chars[*i])).unwrap_or(chars.len())
}

/// Returns the end of the string that starts here; `None` if the quote is not the start of a string, as in a lifetime
/// or an apostrophe.
fn string_end(chars: &[char], from: usize) -> Option<usize> {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == chars[from] => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// True if the rest of the line is a comment: `//`, `--` or `#` with a space around it. `#[`, `#!` and the `#` of a C
/// directive are code.
fn is_comment(chars: &[char], at: usize) -> bool {
    let next = chars.get(at + 1);
    let spaced = at == 0 || chars[at - 1].is_whitespace();
    match chars[at] {
        '/' => next == Some(&'/') && (at == 0 || chars[at - 1] != ':'),
        '#' => spaced && next.is_none_or(|c| c.is_whitespace() || *c == '#'),
        '-' => at == 0 && next == Some(&'-') && chars.get(2).is_some_and(|c| c.is_whitespace()),
        _ => false,
    }
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
