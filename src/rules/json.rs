//! Pure. JSON by value: a canonical form for hashes, and the paths at which two values differ.

use schemars::JsonSchema;
use serde_json::{Number, Value};

/// One place at which two JSON values differ.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, JsonSchema)]
pub struct PathChange {
    /// The path, such as `.ci.status` or `.prs[2].title`; `.` is the whole value.
    pub path: String,
    /// The old value as canonical JSON, truncated; absent if the place is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The new value as canonical JSON, truncated; absent if the place was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// The longest text of one value in a [`PathChange`], in characters.
const CLIP_CHARS: usize = 120;

/// Formats a value so that equal values give equal text: sorted keys, no white space, numbers by value.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Number(n) => number(n),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        // serde_json keeps object keys sorted unless its `preserve_order` feature is on; a test checks this.
        Value::Object(map) => {
            let pair = |(key, item)| format!("{}:{}", Value::String(String::clone(key)), canonical(item));
            format!("{{{}}}", map.iter().map(pair).collect::<Vec<String>>().join(","))
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value.to_string(),
    }
}

/// Formats a number by its exact decimal value: `1`, `1.0`, `1e0` and `10e-1` give the same text, and two numbers that
/// differ in the 30th digit give different texts. Small integers keep their plain spelling.
fn number(n: &Number) -> String {
    let text = n.to_string();
    let (sign, rest) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    let significant = trimmed.trim_start_matches('0');
    if significant.is_empty() {
        return "0".to_owned();
    }
    let dropped = (digits.len() - trimmed.len()) as i64;
    let Ok(exponent) = exponent.parse::<i64>() else { return text };
    let Some(scale) = exponent.checked_sub(fraction.len() as i64).and_then(|e| e.checked_add(dropped)) else {
        return text;
    };
    match scale {
        0..=20 => format!("{sign}{significant}{}", "0".repeat(scale as usize)),
        _ => format!("{sign}{significant}e{scale}"),
    }
}

/// Returns the places at which `old` and `new` differ, at most `limit` of them, and the total number.
pub fn diff(old: &Value, new: &Value, limit: usize) -> (Vec<PathChange>, usize) {
    let mut found = ChangeList { changes: Vec::new(), total: 0, limit };
    found.walk("", old, new);
    (found.changes, found.total)
}

struct ChangeList {
    changes: Vec<PathChange>,
    total: usize,
    limit: usize,
}

impl ChangeList {
    fn walk(&mut self, path: &str, old: &Value, new: &Value) {
        match (old, new) {
            (Value::Object(a), Value::Object(b)) => {
                for (key, left) in a {
                    let at = format!("{path}.{}", segment(key));
                    match b.get(key) {
                        Some(right) => self.walk(&at, left, right),
                        None => self.add(&at, Some(left), None),
                    }
                }
                for (key, right) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
                    self.add(&format!("{path}.{}", segment(key)), None, Some(right));
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                for i in 0..a.len().max(b.len()) {
                    let at = format!("{path}[{i}]");
                    match (a.get(i), b.get(i)) {
                        (Some(left), Some(right)) => self.walk(&at, left, right),
                        (left, right) => self.add(&at, left, right),
                    }
                }
            }
            _ if canonical(old) == canonical(new) => {}
            _ => self.add(path, Some(old), Some(new)),
        }
    }

    fn add(&mut self, path: &str, old: Option<&Value>, new: Option<&Value>) {
        self.total += 1;
        if self.changes.len() < self.limit {
            let path = if path.is_empty() { "." } else { path };
            let text = |v: &Value| clip(&canonical(v), CLIP_CHARS);
            self.changes.push(PathChange { path: path.to_owned(), old: old.map(text), new: new.map(text) });
        }
    }
}

/// Formats a key for a path: plain if possible, else as a JSON string, so that a path is one line.
fn segment(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if plain { key.to_owned() } else { clip(&Value::String(key.to_owned()).to_string(), CLIP_CHARS) }
}

/// Returns the first `chars` characters, with `…` if the text was truncated.
pub fn clip(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn spelling_of_numbers_and_order_of_keys_do_not_matter() {
        for same in ["1", "1.0", "1e0", "10e-1", "0.1E1", "1.000"] {
            assert_eq!(canonical(&value(same)), "1", "{same}");
        }
        for zero in ["0", "-0", "0.0", "0e9"] {
            assert_eq!(canonical(&value(zero)), "0", "{zero}");
        }
        assert_eq!(canonical(&value(r#"{ "b": 2, "a": [1.50, "x"] }"#)), r#"{"a":[15e-1,"x"],"b":2}"#);
        assert_eq!(canonical(&value("1200")), "1200");
    }

    #[test]
    fn numbers_beyond_the_precision_of_a_double_are_distinguished() {
        let a = value("123456789012345678901234567890");
        let b = value("123456789012345678901234567891");
        assert_ne!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&value("1e999999999999999999999")), "1e+999999999999999999999");
    }

    #[test]
    fn a_diff_names_the_paths() {
        let old = value(r#"{"a":1,"b":[1,2],"c":{"d":"x"},"gone":true}"#);
        let new = value(r#"{"a":1.0,"b":[1,3,4],"c":{"d":"y"},"we ird":0}"#);
        let (changes, total) = diff(&old, &new, 10);
        let row = |c: &PathChange| (c.path.clone(), c.old.clone(), c.new.clone());
        let expected = [
            (".b[1]", Some("2"), Some("3")),
            (".b[2]", None, Some("4")),
            (".c.d", Some("\"x\""), Some("\"y\"")),
            (".gone", Some("true"), None),
            (".\"we ird\"", None, Some("0")),
        ];
        let text = |text: &str| text.to_owned();
        let expected = expected.map(|(path, old, new)| (text(path), old.map(text), new.map(text)));
        assert_eq!(changes.iter().map(row).collect::<Vec<_>>(), expected);
        assert_eq!(total, 5);
        assert_eq!(diff(&old, &new, 2).0.len(), 2);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_text_is_a_fixed_point(v in any_json()) {
            let once = canonical(&v);
            prop_assert_eq!(canonical(&value(&once)), once);
        }

        #[test]
        fn equal_canonical_text_means_no_diff(a in any_json(), b in any_json()) {
            prop_assert_eq!(canonical(&a) == canonical(&b), diff(&a, &b, 9).1 == 0);
        }
    }
}
