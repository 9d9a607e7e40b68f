//! Pure. Text as a user may safely read it: hidden characters made visible, and arguments quoted for a shell.

/// Makes control, format and bidirectional characters visible as `\u{202e}`; with `keep_lines` it keeps line breaks. It
/// doubles backslashes before such an escape, and before text that looks like one, so that two different texts never
/// look the same.
pub fn visible(text: &str, keep_lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut backslashes = 0;
    for (at, c) in text.char_indices() {
        let hidden = is_hidden(c) && !(c == '\n' && keep_lines);
        if hidden || text[at..].starts_with("u{") {
            out.extend(std::iter::repeat_n('\\', backslashes));
        }
        if hidden {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
        } else {
            out.push(c);
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
    }
    out
}

/// True for a character that does not appear as itself: a control character, one that changes the order of others, one
/// that is not drawn (default-ignorable in the Unicode database, or blank), and any space except U+0020.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || matches!(c, '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}')
        || matches!(c, '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Quotes an argument vector so that a shell reads the same arguments back and the user cannot misread it.
pub fn quote_argv(argv: &[String]) -> String {
    argv.iter().map(|arg| quote(arg)).collect::<Vec<_>>().join(" ")
}

/// Writes each character for which `is_escaped` is true as its JSON escape of four hexadecimal digits, which leaves the
/// value of a JSON text the same. Such a character must be at most U+FFFF.
pub fn escaped_json(json: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match is_escaped(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

/// Quotes one word for a shell.
pub fn in_shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_owned();
    }
    if !arg.chars().any(is_hidden) {
        return in_shell(arg);
    }
    let mut out = String::from("$'");
    for c in arg.chars() {
        match c {
            '\\' | '\'' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ if is_hidden(c) && u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if is_hidden(c) && u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ if is_hidden(c) => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Returns the known word that is most similar to `word`, if its similarity is at least `least`, of 1.
pub fn nearest<T: AsRef<str>>(word: &str, known: impl IntoIterator<Item = T>, least: f64) -> Option<T> {
    let rated = known.into_iter().map(|known| (strsim::jaro_winkler(word, known.as_ref()), known));
    let best = rated.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(similarity, _)| *similarity >= least).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn argv_is_shown_without_ambiguity() {
        let argv = strings(&["git", "commit", "-m", "it's", "", "a b", "x\u{202e}y\n", "日本"]);
        assert_eq!(quote_argv(&argv), r"git commit -m 'it'\''s' '' 'a b' $'x\u202ey\n' '日本'");
    }

    #[test]
    fn hidden_characters_become_visible() {
        assert_eq!(visible("a\u{1b}[31m\u{202e}b\nc", true), "a\\u{1b}[31m\\u{202e}b\nc");
        assert_eq!(visible("a\nb", false), "a\\u{a}b");
        let hidden = "\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{3164}\u{ffa0}\u{2800}\u{1d173}\u{1d17a}\u{e0000}\u{e0fff}";
        let spaces = "\u{a0}\u{1680}\u{2000}\u{200a}\u{202f}\u{205f}\u{3000}";
        assert_eq!(hidden.chars().chain(spaces.chars()).find(|c| !is_hidden(*c)), None);
        assert_eq!("a é日\u{1f600} -".chars().find(|c| is_hidden(*c)), None);
    }

    #[test]
    fn text_that_looks_like_a_hidden_character_is_distinguished_from_it() {
        assert_eq!(visible(r"x\u{202e}y C:\users", false), r"x\\u{202e}y C:\users");
        let alike = [r"\u{202e}", "\u{202e}", "\\\u{202e}", r"\\u{202e}", "\\\\\u{202e}"];
        let shown: std::collections::BTreeSet<_> = alike.iter().map(|text| visible(text, false)).collect();
        assert_eq!(shown.len(), alike.len(), "{shown:?}");
        assert_eq!(visible("a \\\nb", true), "a \\\nb");
    }
}
