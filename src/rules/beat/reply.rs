//! Pure. Finds the one move in a model's reply. Reasoning is skipped, and a broken object never yields a part of
//! itself.

use std::collections::BTreeSet;

use serde_json::Value;

/// The maximum number of places in a reply at which an object is tried; it bounds the work on hostile text.
const MAX_TRIES: usize = 1000;
/// Names of the tags around a model's reasoning.
const THOUGHT_TAGS: [&str; 3] = ["think", "thinking", "reasoning"];
/// The longest reasoning tag with its attributes, in bytes.
const MAX_TAG_BYTES: usize = 200;

/// One JSON object of a reply.
struct ReplyObject<'a> {
    /// Its bytes, to compare two objects.
    text: &'a str,
    value: Value,
}

/// A reply without its reasoning: the outermost objects, in order, and the text between them.
#[derive(Default)]
struct ReplyParts<'a> {
    objects: Vec<ReplyObject<'a>>,
    prose: Vec<&'a str>,
    /// True if the reply has reasoning before them.
    after_thought: bool,
    /// True if the reply ends inside an object.
    is_cut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ThoughtTag {
    Open,
    Close,
}

/// Returns the one object with a `move` key in a reply. Two byte-identical moves count as one.
///
/// # Errors
/// Says what is wrong with the reply; the text is shown to the decider.
pub fn find_move(text: &str) -> Result<Value, String> {
    let ReplyParts { objects, prose, after_thought, is_cut } = split(text)?;
    if let Some(key) = objects.iter().find_map(|object| repeated_key(object.text)) {
        return Err(format!("the reply gives the key {key:?} twice in one object"));
    }
    let (moves, others): (Vec<_>, Vec<_>) =
        objects.iter().partition(|object| object.value.get("move").is_some());
    let Some(first) = moves.first() else {
        let why = match (objects.is_empty(), is_cut) {
            (true, true) => ": it ends inside of one, perhaps at the model's output limit",
            (true, false) => "",
            (false, _) => {
                return Err("the reply contains a JSON object, but none with a `move` key".to_owned());
            }
        };
        return Err(format!("the reply contains no complete JSON object{why}"));
    };
    if moves.iter().any(|other| other.text != first.text) {
        return Err(format!("the reply contains {} moves; exactly one is expected", moves.len()));
    }
    // A text that the decider quotes without escapes can end the decider's own object early and contain a move itself.
    // The decider's own `move` key is then outside the object that parses.
    if prose.iter().copied().chain(others.iter().map(|object| object.text)).any(names_move) {
        return Err("the reply contains a second `move` key, outside the move".to_owned());
    }
    // A quoted text can also contain a closing reasoning tag; the rest of the decider's object then follows the move.
    if after_thought && prose.iter().any(|text| text.contains(['{', '}'])) {
        return Err("the reply contains braces outside the move".to_owned());
    }
    Ok(first.value.clone())
}

/// True if a text contains the key `move` as JSON writes it.
fn names_move(text: &str) -> bool {
    const KEY: &str = "\"move\"";
    text.match_indices(KEY).any(|(at, _)| text[at + KEY.len()..].trim_start().starts_with(':'))
}

fn split(text: &str) -> Result<ReplyParts<'_>, String> {
    let mut parts = ReplyParts::default();
    let (mut at, mut prose_from, mut tries) = (0, 0, 0);
    while let Some(place) = text[at..].find(['{', '<']).map(|next| at + next) {
        if let Some((tag, end)) = tag_at(text, place) {
            at = match tag {
                ThoughtTag::Close => end,
                ThoughtTag::Open => {
                    close_after(text, end).ok_or("the whole reply is reasoning: its tag is not closed")?
                }
            };
            prose_from = at;
            parts = ReplyParts { after_thought: true, ..ReplyParts::default() };
        } else if text[place..].starts_with('<') {
            at = place + 1;
        } else if tries == MAX_TRIES {
            return Err(format!("the reply has over {MAX_TRIES} opening braces"));
        } else {
            tries += 1;
            let mut stream = serde_json::Deserializer::from_str(&text[place..]).into_iter::<Value>();
            let Some(Ok(value)) = stream.next() else {
                let end = broken_end(text, place);
                parts.is_cut = end.is_none();
                at = end.unwrap_or(text.len());
                continue;
            };
            parts.prose.push(&text[prose_from..place]);
            at = place + stream.byte_offset();
            prose_from = at;
            let object = &text[place..at];
            parts.objects.push(ReplyObject { text: object, value });
        }
    }
    parts.prose.push(&text[prose_from..]);
    Ok(parts)
}

/// Returns the end of an object that starts at `place` and does not parse: its closing brace or a reasoning tag.
/// `None`: the text ends inside it.
fn broken_end(text: &str, place: usize) -> Option<usize> {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate().skip(place) {
        if byte == b'<' && tag_at(text, at).is_some() {
            return Some(at);
        }
        match byte {
            _ if std::mem::take(&mut is_escaped) => {}
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string && depth == 1 => return Some(at + 1),
            b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Returns the reasoning tag at `place`, and its end.
fn tag_at(text: &str, place: usize) -> Option<(ThoughtTag, usize)> {
    let rest = text[place..].strip_prefix('<')?;
    let rest = &rest[..rest.floor_char_boundary(MAX_TAG_BYTES.min(rest.len()))];
    let (tag, name) =
        rest.strip_prefix('/').map_or((ThoughtTag::Open, rest), |name| (ThoughtTag::Close, name));
    let attributes = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let name = &name[..name.len() - attributes.len()];
    let inside = &attributes[..attributes.find('>')?];
    let is_tag = THOUGHT_TAGS.iter().any(|known| known.eq_ignore_ascii_case(name))
        && (inside.is_empty() || inside.starts_with(|c: char| c.is_whitespace() || c == '/'));
    let is_empty_element = tag == ThoughtTag::Open && inside.ends_with('/');
    let end = place + 1 + (rest.len() - attributes.len()) + inside.len() + 1;
    (is_tag && !is_empty_element).then_some((tag, end))
}

/// Returns the part of an answer that is not reasoning: all of it, the text after the last closing tag, or nothing if
/// the reasoning at its start is not closed.
pub fn without_thoughts(text: &str) -> &str {
    let mut tags = text.match_indices('<').rev().filter_map(|(at, _)| tag_at(text, at));
    let begins_with_thought =
        tag_at(text, text.len() - text.trim_start().len()).is_some_and(|(tag, _)| tag == ThoughtTag::Open);
    match tags.find(|(tag, _)| *tag == ThoughtTag::Close) {
        Some((_, end)) => &text[end..],
        None if begins_with_thought => "",
        None => text,
    }
}

/// Returns the end of the first closing reasoning tag.
fn close_after(text: &str, from: usize) -> Option<usize> {
    let tags = text[from..].match_indices('<').filter_map(|(at, _)| tag_at(text, from + at));
    tags.filter(|(tag, _)| *tag == ThoughtTag::Close).map(|(_, end)| end).next()
}

/// The first key that occurs twice in one object of a valid JSON text.
fn repeated_key(json: &str) -> Option<String> {
    let (mut keys, mut rest) = (Vec::new(), json);
    while let Some(at) = rest.find(['{', '}', '"']) {
        let mut end = at + 1;
        match rest.as_bytes()[at] {
            b'{' => keys.push(BTreeSet::new()),
            b'}' => drop(keys.pop()),
            _ => {
                let mut strings = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<String>();
                let string = strings.next()?.ok()?;
                end = at + strings.byte_offset();
                let is_key = rest[end..].trim_start().starts_with(':');
                if is_key && !keys.last_mut()?.insert(string.clone()) {
                    return Some(string);
                }
            }
        }
        rest = &rest[end..];
    }
    None
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
