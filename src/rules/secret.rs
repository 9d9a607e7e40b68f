//! Pure. Secrets: which values must never be written down, and the placeholders that replace them in text from outside.
//!
//! There are two kinds of secrets. First, variables of looop's own environment, detected by their name or by a password
//! in their value: each occurrence is replaced, even one that is spelled with escapes. Second, tokens with a shape that
//! their issuer documents: they are replaced wherever they come from.

mod scan;
mod source;
mod spelling;
mod stream;

use std::borrow::Cow;

use serde_json::Value;

pub use spelling::percent_decoded;
pub use stream::RedactStream;

use scan::{SecretScan, SecretSpan};
use spelling::SPELLINGS;

/// The shortest value that is searched for, in bytes: a shorter one occurs in too many other words.
const MIN_VALUE_BYTES: usize = 8;
/// The size of a piece that is searched at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// How often a text is decoded to find escaped secrets: JSON within JSON within JSON.
const MAX_DECODED: usize = 3;

/// The secrets of one environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secrets {
    /// `[name, value]`, the longest value first, so that a value that contains another is replaced as a whole.
    known: Vec<(String, String)>,
}

impl Secrets {
    /// Finds the secrets among these variables. `is_path` says whether a value is an existing path: such a value only
    /// names the location of a secret.
    pub fn of(env: &[(String, String)], is_path: &dyn Fn(&str) -> bool) -> Secrets {
        Secrets::sorted(source::values(env, is_path))
    }

    /// Adopts the secrets of another process, from its [`pairs`](Secrets::pairs).
    pub fn known(pairs: Vec<(String, String)>) -> Secrets {
        Secrets::sorted(pairs.into_iter().filter(|(_, value)| value.len() >= MIN_VALUE_BYTES).collect())
    }

    fn sorted(mut known: Vec<(String, String)>) -> Secrets {
        known.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.1.cmp(&b.1)));
        known.dedup_by(|a, b| a.1 == b.1);
        Secrets { known }
    }

    /// Merges two sets of secrets.
    #[must_use]
    pub fn and(mut self, more: Secrets) -> Secrets {
        self.known.extend(more.known);
        Secrets::sorted(self.known)
    }

    /// `[name, value]` of each secret, for another process that must redact the same values.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.known
    }

    /// Returns the text with `‹redacted:NAME›` in place of each secret.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let scan = SecretScan::new(&self.known);
        let spans = find_secrets(&scan, text, MAX_DECODED).0;
        match spans.is_empty() {
            true => Cow::Borrowed(text),
            false => Cow::Owned(scan.replaced(text, spans)),
        }
    }

    /// Redacts bytes; bytes that are not UTF-8 stay as they are.
    pub fn redact_bytes(&self, bytes: &mut Vec<u8>) {
        if let Ok(text) = std::str::from_utf8(bytes) {
            if let Cow::Owned(clean) = self.redact(text) {
                *bytes = clean.into_bytes();
            }
            return;
        }
        let mut stream = RedactStream::new(self);
        let mut clean = Vec::with_capacity(bytes.len());
        // Feed it in pieces, because the stream copies each piece to a text.
        bytes.chunks(PIECE_BYTES).for_each(|piece| clean.extend(stream.feed_bytes(piece)));
        clean.extend(stream.end_bytes());
        *bytes = clean;
    }

    /// Redacts all strings in a JSON value, including its keys.
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
            // A secret that consists only of digits is never sent as a JSON number.
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The secrets of the beginning of a text, in it and in what it decodes to; and where the first one stands that what
/// follows decides about.
fn find_secrets(scan: &SecretScan, text: &str, depth: usize) -> (Vec<SecretSpan>, usize) {
    let (mut spans, mut open) = scan.find(text);
    for spelling in SPELLINGS.iter().filter(|_| depth > 0) {
        let decoded = spelling.decode(text);
        let cut = spelling.cut_escape(text, decoded.as_ref());
        if let Some(head) = text.get(..cut).filter(|head| head.len() < text.len()) {
            // The rest of the cut escape may continue a secret that begins before it.
            open = open.min(match spelling.decode(head) {
                Some(decoded) => decoded.place(find_secrets(scan, &decoded.text, depth - 1).1),
                None => find_secrets(scan, head, depth - 1).1,
            });
        }
        let Some(decoded) = decoded else { continue };
        let (inner, inner_open) = find_secrets(scan, &decoded.text, depth - 1);
        spans.extend(inner.into_iter().map(|span| decoded.origin(span)));
        open = open.min(decoded.place(inner_open));
    }
    (spans, open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secrets(pairs: &[(&str, &str)]) -> Secrets {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Secrets::of(&pairs, &|value| value == "/tmp/agent.sock")
    }

    #[test]
    fn values_of_secret_variables_are_replaced_everywhere() {
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
    fn tokens_are_recognized_by_their_shape() {
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
    fn json_is_redacted_in_keys_and_values() {
        let some = secrets(&[("A_SECRET", "s3cr3t-value")]);
        let mut value = json!({ "s3cr3t-value": ["x s3cr3t-value", { "k": "s3cr3t-value" }], "n": 1 });
        some.redact_json(&mut value);
        assert!(!value.to_string().contains("s3cr3t-value"), "{value}");
        assert_eq!(value["‹redacted:A_SECRET›"][1]["k"], "‹redacted:A_SECRET›");
    }

    #[test]
    fn a_secret_that_is_spelled_with_escapes_is_replaced_as_a_whole() {
        let some = secrets(&[("A_TOKEN", "s3cr3t/väl\"ue")]);
        let gone = "<‹redacted:A_TOKEN›>";
        for spelled in [
            "s3cr3t/väl\"ue",
            r#"s3cr3t/väl\"ue"#,
            r#"s3cr3t\/v\u00e4l\"ue"#,
            r#"\u0073\u0033cr3t\u002Fv\u00E4l\u0022ue"#,
            r#"\\u00733cr3t/väl\\\"ue"#,
            "s3cr3t%2Fv%C3%A4l%22ue",
            "%733cr3t%2fv%c3%a4l%22ue",
            "%ff%zz%733cr3t/väl\"ue",
        ] {
            let (odd, _) = spelled.split_at(if spelled.starts_with("%ff") { 6 } else { 0 });
            let gone = gone.replace('<', &format!("<{odd}"));
            assert_eq!(some.redact(&format!("<{spelled}>")), gone, "{spelled}");
        }
        let emoji = secrets(&[("A_TOKEN", "p\u{1f600}ssw0rd")]);
        assert_eq!(emoji.redact(r"<p\ud83d\ude00ssw0rd>"), gone);
        for plain in [r"a\u", r"\u00", "100%", "%zz%4", r"\ud83d alone", r"C:\new\table"] {
            assert!(matches!(some.redact(plain), Cow::Borrowed(same) if same == plain), "{plain}");
        }
        let github = format!(r"\u0067hp_{}", "a1B2".repeat(9));
        assert_eq!(some.redact(&github), "‹redacted:token›");
    }

    #[test]
    fn overlapping_secrets_are_replaced_together() {
        let some = secrets(&[("A_TOKEN", "abcdefgh12"), ("B_TOKEN", "gh123456789")]);
        assert_eq!(some.redact("<abcdefgh123456789>"), "<‹redacted:A_TOKEN›>");
        assert_eq!(some.redact("abcdefgh12abcdefgh12"), "‹redacted:A_TOKEN›‹redacted:A_TOKEN›");
    }

    #[test]
    fn ten_mebibytes_are_redacted_in_one_pass() {
        let pairs: Vec<(String, String)> =
            (0..40).map(|n| (format!("V{n}_TOKEN"), format!("secret-number-{n:03}"))).collect();
        let some = Secrets::known(pairs);
        let mut bytes = b"a line of a report, with sk- and ghp_ and secret words in it\n".repeat(170_000);
        bytes.extend_from_slice(b"secret-number-007");
        let (clean, visited) = scan::visits::count(|| {
            let mut stream = RedactStream::new(&some);
            let mut clean: Vec<u8> = bytes.chunks(4096).flat_map(|piece| stream.feed_bytes(piece)).collect();
            clean.extend(stream.end_bytes());
            clean
        });
        assert!(clean.ends_with("‹redacted:V7_TOKEN›".as_bytes()));
        assert!(visited <= bytes.len() * 2, "{visited} bytes were looked at for {}", bytes.len());
    }
}
