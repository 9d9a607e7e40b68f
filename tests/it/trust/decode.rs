//! What a decider that wants to find instructions does with a text: every plain way to hide words in one, undone.

use std::collections::BTreeSet;

/// How often what was found is looked through again, as base64 in base64.
const DEPTH: usize = 4;
/// How many readings of one text are looked at.
const MOST: usize = 400;

/// The text and all readings of it, each once, the plainest first.
pub fn readings(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned()];
    let mut known = BTreeSet::from([text.to_owned()]);
    let mut from = 0;
    for _ in 0..DEPTH {
        let until = all.len();
        for at in from..until {
            for reading in once(&all[at].clone()) {
                if all.len() < MOST && !reading.trim().is_empty() && known.insert(reading.clone()) {
                    all.push(reading);
                }
            }
        }
        from = until;
    }
    all
}

fn once(text: &str) -> Vec<String> {
    let mut found = vec![
        visible(text),
        unescaped(text),
        percent(text),
        entities(text),
        text.chars().rev().collect(),
        text.chars().map(rot13).collect(),
        text.chars().map(narrow).collect(),
        text.chars().filter_map(|c| char::from_u32(u32::from(c).checked_sub(0xe_0000)?)).collect(),
    ];
    // Only a text has readings: a decoder that made noise of it found nothing.
    found.retain(|reading| reading.contains("move") || reading.contains("pwned"));
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    found.extend(text.split(|c| !is_base64(c)).filter(|word| word.len() >= 24).filter_map(base64));
    found
        .extend(text.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() >= 32).filter_map(hex));
    found.retain(|reading| reading.chars().all(|c| !c.is_control() || c.is_whitespace() || c == '\u{1b}'));
    found
}

/// Without escape sequences of a terminal and characters that are not drawn.
fn visible(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            let is_osc = chars.next() == Some(']');
            for next in chars.by_ref() {
                if (is_osc && next == '\u{7}') || (!is_osc && next.is_ascii_alphabetic()) {
                    break;
                }
                if is_osc {
                    out.push(next);
                }
            }
        } else if !looop::rules::text::is_hidden(c) || c == '\n' {
            out.push(c);
        }
    }
    out
}

/// One level of JSON's escapes less.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mut tail = rest[at + 1..].chars();
        match tail.next() {
            Some('n') => out.push('\n'),
            Some('u') => {
                let code = tail.as_str().get(..4).and_then(|code| u32::from_str_radix(code, 16).ok());
                if let Some(c) = code.and_then(char::from_u32) {
                    out.push(c);
                    tail = tail.as_str()[4..].chars();
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
        rest = tail.as_str();
    }
    out + rest
}

fn percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code.filter(|_| bytes[at] == b'%') {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// HTML's entities by number, and the one for a quote.
fn entities(text: &str) -> String {
    let mut out = String::new();
    for (nth, part) in text.replace("&quot;", "\"").split("&#").enumerate() {
        let decoded = part
            .split_once(';')
            .and_then(|(code, rest)| Some((char::from_u32(code.parse().ok()?)?, rest)).filter(|_| nth > 0));
        match decoded {
            Some((c, rest)) => {
                out.push(c);
                out.push_str(rest);
            }
            None => out.push_str(part),
        }
    }
    out
}

fn rot13(c: char) -> char {
    let turned = |first: u8| char::from((c as u8 - first + 13) % 26 + first);
    match c {
        'a'..='z' => turned(b'a'),
        'A'..='Z' => turned(b'A'),
        _ => c,
    }
}

/// A full-width character as the one of ASCII that it looks like.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

fn base64(word: &str) -> Option<String> {
    let (mut out, mut bits, mut have) = (Vec::new(), 0_u32, 0);
    for c in word.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, have) = (bits << 6 | u32::from(value), have + 6);
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
            bits &= (1 << have) - 1;
        }
    }
    String::from_utf8(out).ok()
}

fn hex(word: &str) -> Option<String> {
    let pairs = (0..word.len() / 2).map(|at| u8::from_str_radix(&word[at * 2..at * 2 + 2], 16));
    String::from_utf8(pairs.collect::<Result<Vec<u8>, _>>().ok()?).ok()
}
