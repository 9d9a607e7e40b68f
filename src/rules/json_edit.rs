//! Pure. JSON as text: where the value of a path is, and the same text with another value there.
//!
//! A path is written as in `policy.allow[0].argv`. A key that contains dots is found too, if it is there.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The place of the value at a path, in bytes; `None` if there is no such value or the text is not JSON.
pub fn find(text: &str, path: &str) -> Option<Range<usize>> {
    let (at, left) = deepest(text, path)?;
    left.is_empty().then_some(at)
}

/// Returns the text with `value` at a path. All else stays as it is. The index after the last one adds to a list.
///
/// # Errors
/// Says which part of the path cannot be: a list or an object is needed there, and another value is there.
pub fn set(text: &str, path: &str, value: &Value) -> Result<String, String> {
    let (at, left) = deepest(text, path).ok_or("the text is not JSON")?;
    let here = &text[at.clone()];
    let new = nested(left, value).ok_or_else(|| format!("`{path}` is not a path of keys"))?;
    let refuse =
        |what: &str| format!("`{}` is not {what}", path[..path.len() - left.len()].trim_matches('.'));
    let (entry, ends) = match &new {
        _ if left.is_empty() || here == "null" => (new.to_string(), Vec::new()),
        Value::Object(map) => {
            let all: BTreeMap<String, &RawValue> =
                serde_json::from_str(here).map_err(|_| refuse("an object"))?;
            let entry = map.iter().map(|(key, value)| format!("{}: {value}", Value::from(key.as_str())));
            (entry.collect(), all.values().map(|raw| place(text, raw.get()).end).collect())
        }
        _ => {
            let all: Vec<&RawValue> = serde_json::from_str(here).map_err(|_| refuse("a list"))?;
            if left.strip_prefix(&format!("[{}]", all.len())).is_none() {
                return Err(format!("there is no `{path}`: the list has {} entries", all.len()));
            }
            (new[0].to_string(), all.iter().map(|raw| place(text, raw.get()).end).collect())
        }
    };
    let lead: String = here[1..].chars().take_while(|c| c.is_whitespace()).collect();
    let lead = if lead.is_empty() { " " } else { &lead };
    let (range, put) = match ends.into_iter().max() {
        // An entry stands like the one before it.
        Some(end) => (end..end, format!(",{lead}{entry}")),
        None if left.is_empty() || here == "null" => (at, entry),
        None if at.start == 0 || text[..at.start].trim().is_empty() => (at, format!("{{\n  {entry}\n}}")),
        None => (at.start + 1..at.end - 1, entry),
    };
    Ok(format!("{}{put}{}", &text[..range.start], &text[range.end..]))
}

/// Wraps a value in the keys and indexes of a path that does not exist yet.
fn nested(path: &str, value: &Value) -> Option<Value> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return Some(value.clone());
    }
    if let Some(index) = path.strip_prefix('[') {
        let (index, left) = index.split_once(']')?;
        index.parse::<usize>().ok()?;
        return Some(json!([nested(left, value)?]));
    }
    let (key, left) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
    Some(json!({ key: nested(left, value)? })).filter(|_| !key.is_empty())
}

/// The last value on the way to a path, and what of the path is left after it.
fn deepest<'a>(text: &str, path: &'a str) -> Option<(Range<usize>, &'a str)> {
    let mut here = serde_json::from_str::<&RawValue>(text).ok()?.get();
    let mut left = path;
    while let Some((next, rest)) = step(here, left) {
        (here, left) = (next, rest);
    }
    Some((place(text, here), left))
}

fn step<'a, 'b>(here: &'a str, path: &'b str) -> Option<(&'a str, &'b str)> {
    if let Some(index) = path.strip_prefix('[') {
        let (index, left) = index.split_once(']')?;
        let all: Vec<&RawValue> = serde_json::from_str(here).ok()?;
        return Some((all.get(index.parse::<usize>().ok()?)?.get(), left));
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let all: BTreeMap<String, &RawValue> = serde_json::from_str(here).ok()?;
    let ends = |left: &str| left.is_empty() || left.starts_with(['.', '[']);
    let mut fit = all.iter().filter(|(key, _)| !path.is_empty() && path.strip_prefix(*key).is_some_and(ends));
    let (key, raw) = fit.by_ref().max_by_key(|(key, _)| key.len())?;
    Some((raw.get(), &path[key.len()..]))
}

/// The place of a part of a text.
fn place(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\n  \"a\": { \"b\": [1, {\"c.d\": 2}],  \"e\": null },\n\n  \"z\": []\n}\n";

    #[test]
    fn a_value_is_found_by_its_path() {
        let rows = [
            ("a.b", Some("[1, {\"c.d\": 2}]")),
            ("a.b[0]", Some("1")),
            ("a.b[1].c.d", Some("2")),
            ("a.b[2]", None),
            ("a.x", None),
            ("z.y", None),
            ("", Some(TEXT.trim_end())),
        ];
        for (path, found) in rows {
            assert_eq!(find(TEXT, path).map(|at| &TEXT[at]), found, "{path}");
        }
    }

    #[test]
    fn one_value_is_set_and_all_else_stays_as_it_is() {
        let rows = [
            ("a.b[0]", "[1,", "[7,"),
            ("a.b[1].c.d", ": 2}", ": 7}"),
            ("a.b[2]", "2}]", "2}, 7]"),
            ("a.b[1].f", "2}]", "2, \"f\": 7}]"),
            ("a.e", "null", "7"),
            ("a.e.f[0]", "null", "{\"f\":[7]}"),
            ("a.g.h", "null }", "null, \"g\": {\"h\":7} }"),
            ("y", "[]\n", "[],\n  \"y\": 7\n"),
            ("z[0]", "[]", "[7]"),
        ];
        for (path, old, new) in rows {
            assert_eq!(set(TEXT, path, &json!(7)).unwrap(), TEXT.replacen(old, new, 1), "{path}");
        }
        assert_eq!(set("{}", "a.b", &json!(7)).unwrap(), "{\n  \"a\": {\"b\":7}\n}");
        for (path, why) in
            [("z[1]", "has 0 entries"), ("a.b[0].x", "`a.b[0]` is not an object"), ("a..b", "")]
        {
            let error = set(TEXT, path, &json!(7)).unwrap_err();
            assert!(error.contains(why), "{path}: {error}");
        }
    }
}
