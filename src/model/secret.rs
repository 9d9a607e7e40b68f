//! Pure. Secrets: which values must never be written down, and their place holders in text that comes from outside.
//!
//! Two things make a secret. A variable of looop's own environment whose name says so: then every occurrence of its
//! value goes. And the shape of a token that its issuer documents as such: then it goes wherever it came from.

mod stream;

use std::borrow::Cow;

use serde_json::Value;

pub use stream::Stream;

/// Parts of the names of variables that hold secrets.
const WORDS: [&str; 9] =
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "APIKEY", "API_KEY", "ACCESS_KEY", "PRIVATE_KEY", "CREDENTIAL"];
/// Ends of such names.
const ENDS: [&str; 4] = ["_KEY", "_PAT", "_PASS", "_AUTH"];
/// The shortest value that is looked for, in bytes: a shorter one stands in too many other words.
const MIN_VALUE_BYTES: usize = 8;
/// How much is looked through at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Beginnings of tokens as GitHub, GitLab, Anthropic, OpenAI, Slack, AWS, Google and npm document them, and how many
/// further characters such a token has at the least.
const SHAPES: [(&str, usize); 17] = [
    ("github_pat_", 22),
    ("ghp_", 36),
    ("gho_", 36),
    ("ghu_", 36),
    ("ghs_", 36),
    ("ghr_", 36),
    ("glpat-", 20),
    ("sk-ant-", 20),
    ("sk-proj-", 20),
    ("sk-", 32),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("xoxa-", 20),
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 35),
    ("npm_", 36),
];
/// The beginning and the end of a private key in PEM form (RFC 7468).
const PEM: (&str, &str) = ("-----BEGIN ", "-----END ");

/// The secrets of one environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secrets {
    /// `[name, value]`, the longest value first, so that one that holds another goes as a whole.
    known: Vec<(String, String)>,
}

impl Secrets {
    /// The secrets among these variables.
    pub fn of(env: &[(String, String)]) -> Secrets {
        let mut known: Vec<(String, String)> =
            env.iter().filter(|(name, value)| is_secret(name, value)).cloned().collect();
        known.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        Secrets { known }
    }

    /// The secrets of both.
    #[must_use]
    pub fn and(mut self, more: Secrets) -> Secrets {
        self.known.extend(more.known);
        self.known.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        self.known.dedup();
        self
    }

    /// `[name, value]` of each, for a process that is to redact as this one does.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.known
    }

    /// The text with `‹redacted:NAME›` in place of each secret.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.redact_after(None, text)
    }

    /// The same for text that stands behind a character.
    fn redact_after<'a>(&self, before: Option<char>, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for (name, value) in &self.known {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), &format!("‹redacted:{name}›")));
            }
        }
        for (prefix, least) in SHAPES {
            if text.contains(prefix) {
                text = Cow::Owned(without_tokens(before, &text, prefix, least));
            }
        }
        if text.contains(PEM.0) { Cow::Owned(without_keys(&text)) } else { text }
    }

    /// The same for bytes; what is no text stays as it is.
    pub fn redact_bytes(&self, bytes: &mut Vec<u8>) {
        let mut stream = Stream::new(self);
        let mut clean = Vec::with_capacity(bytes.len());
        // In pieces: the stream makes a text of what it is fed.
        bytes.chunks(PIECE_BYTES).for_each(|piece| clean.extend(stream.feed_bytes(piece)));
        clean.extend(stream.end_bytes());
        *bytes = clean;
    }

    /// The same for all text in a JSON value, its keys among it.
    pub fn redact_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(clean) = self.redact(text) {
                    *text = clean;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json(item)),
            Value::Object(map) => {
                let dirty: Vec<String> =
                    map.keys().filter(|key| matches!(self.redact(key), Cow::Owned(_))).cloned().collect();
                for key in dirty {
                    if let Some(inner) = map.remove(&key) {
                        map.insert(self.redact(&key).into_owned(), inner);
                    }
                }
                map.values_mut().for_each(|inner| self.redact_json(inner));
            }
            // A secret of digits alone is no number that anybody sends as one.
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let named = WORDS.iter().any(|word| name.contains(word)) || ENDS.iter().any(|end| name.ends_with(end));
    // A path or an address says where a secret is, and is none.
    named && value.len() >= MIN_VALUE_BYTES && !value.starts_with('/') && !value.contains("://")
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn without_tokens(before_all: Option<char>, text: &str, prefix: &str, least: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let (before, token) = rest.split_at(at);
        out.push_str(before);
        let length = token.find(|c| !is_token_char(c)).unwrap_or(token.len());
        // Within a longer word it is no beginning.
        let begins =
            !before.chars().next_back().or(out.chars().next_back()).or(before_all).is_some_and(is_token_char);
        if begins && length >= prefix.len() + least {
            out.push_str("‹redacted:token›");
            rest = &token[length..];
        } else {
            out.push_str(prefix);
            rest = &token[prefix.len()..];
        }
    }
    out + rest
}

/// A private key goes from its first line to its last one, or to the end where that is missing.
fn without_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(PEM.0) {
        let (before, key) = rest.split_at(at);
        out.push_str(before);
        let label = key[PEM.0.len()..].split("-----").next().unwrap_or_default();
        if !label.ends_with("PRIVATE KEY") {
            out.push_str(PEM.0);
            rest = &key[PEM.0.len()..];
            continue;
        }
        out.push_str("‹redacted:private key›");
        let end = format!("{}{label}-----", PEM.1);
        rest = key.find(&end).map_or("", |found| &key[found + end.len()..]);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secrets(pairs: &[(&str, &str)]) -> Secrets {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Secrets::of(&pairs)
    }

    #[test]
    fn values_of_secret_variables_go_wherever_they_stand() {
        let some = secrets(&[
            ("GH_TOKEN", "abc-1234567"),
            ("MY_TOKEN", "abc-1234567-and-more"),
            ("db_password", "hunter2hunter2"),
            ("EDITOR", "nano-editor"),
            ("SSH_AUTH_SOCK", "/tmp/agent.sock"),
            ("SHORT_TOKEN", "abc"),
        ]);
        assert_eq!(some.redact("x=abc-1234567, y"), "x=‹redacted:GH_TOKEN›, y");
        assert_eq!(some.redact("abc-1234567-and-more"), "‹redacted:MY_TOKEN›");
        assert_eq!(some.redact("pw hunter2hunter2!"), "pw ‹redacted:db_password›!");
        for plain in ["nano-editor", "/tmp/agent.sock", "abc", ""] {
            assert!(matches!(some.redact(plain), Cow::Borrowed(same) if same == plain), "{plain}");
        }
    }

    #[test]
    fn tokens_are_known_by_their_shape() {
        let none = Secrets::default();
        let github = format!("ghp_{}", "a1B2".repeat(9));
        assert_eq!(none.redact(&format!("use {github}.")), "use ‹redacted:token›.");
        assert_eq!(none.redact(&format!("\"{github}\"{github}")), "\"‹redacted:token›\"‹redacted:token›");
        assert_eq!(none.redact("AKIAIOSFODNN7EXAMPLE"), "‹redacted:token›");
        for plain in ["ghp_short", "task-list", "desk-ant-hill", "risk-0123456789012345678901234567890123"] {
            assert_eq!(none.redact(plain), plain);
        }
        let key = "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb";
        assert_eq!(none.redact(key), "a\n‹redacted:private key›\nb");
        assert_eq!(none.redact("-----BEGIN PRIVATE KEY-----\ncut"), "‹redacted:private key›");
        let public = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----";
        assert_eq!(none.redact(public), public);
    }

    #[test]
    fn json_is_clean_in_keys_and_values() {
        let some = secrets(&[("A_SECRET", "s3cr3t-value")]);
        let mut value = json!({ "s3cr3t-value": ["x s3cr3t-value", { "k": "s3cr3t-value" }], "n": 1 });
        some.redact_json(&mut value);
        assert!(!value.to_string().contains("s3cr3t-value"), "{value}");
        assert_eq!(value["‹redacted:A_SECRET›"][1]["k"], "‹redacted:A_SECRET›");
    }
}
