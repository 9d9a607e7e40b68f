//! Pure. The class of a failure by its message, as models, providers and agent CLIs write it.

use serde_json::Value;

use crate::rules::beat::failing::Class;

/// HTTP statuses that are recognized in a message.
const STATUSES: [u16; 11] = [401, 402, 403, 404, 408, 413, 429, 500, 502, 503, 504];
/// The status of Anthropic's service when it is overloaded.
const OVERLOADED: u16 = 529;

/// The phrases by which a class is known; the first class that fits counts.
const TOO_LONG: [&str; 8] = [
    "too long",
    "too large for",
    "context length",
    "maximum context",
    "context_length",
    "context window",
    "context size",
    "exceeds the model's",
];
const LIMIT: [&str; 8] = [
    "quota",
    "usage limit",
    "usage_limit",
    "billing",
    "credit balance",
    "spend limit",
    "limit reached",
    "hit your limit",
];
const REFUSED: [&str; 5] =
    ["usage policy", "content policy", "content_filter", "content management policy", "refusal"];
const AUTH: [&str; 8] = [
    "authentication",
    "api key",
    "api_key",
    "authenticated",
    "unauthorized",
    "permission denied",
    "permission_denied",
    "invalid bearer",
];
const TRANSIENT: [&str; 23] = [
    "rate_limit",
    "rate limit",
    "rate-limit",
    "resource_exhausted",
    "overloaded",
    "connection",
    "timed out",
    "timeout",
    "fetch failed",
    "disconnected",
    "stream ended",
    "ended before",
    "stream closed",
    "incomplete json",
    "econn",
    "enotfound",
    "eai_again",
    "socket hang up",
    "terminated",
    "temporar",
    "high demand",
    "network error",
    "error sending request",
];

/// The class of an error, by its text.
pub fn by_words(why: &str) -> Class {
    let lower = why.to_lowercase();
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| lower.contains(phrase));
    match status_in(&lower).and_then(by_status) {
        _ if has(&TOO_LONG) => Class::TooLong,
        _ if has(&LIMIT) || hit_limit(&lower) => Class::Limit,
        _ if has(&REFUSED) => Class::Refused,
        Some(class) => class,
        None if lower.contains("empty response") => Class::Empty,
        None if has(&AUTH) => Class::Auth,
        None if has(&TRANSIENT) => Class::Transient,
        None => Class::Crashed,
    }
}

/// True for words such as `hit your session limit`; a rate limit passes sooner.
fn hit_limit(text: &str) -> bool {
    let after = text.split_once("hit your ").map(|(_, after)| after.split_whitespace().take(4));
    after.is_some_and(|mut words| {
        let is_rate = words.clone().any(|word| word == "rate");
        !is_rate && words.any(|word| word.starts_with("limit"))
    })
}

/// The class of an HTTP status that an event reports as a number.
pub fn by_reported_status(status: &Value) -> Option<Class> {
    by_status(u16::try_from(status.as_u64()?).ok()?)
}

/// The class of an HTTP status; none if the text of the body decides.
pub fn by_status(status: u16) -> Option<Class> {
    match status {
        401 | 403 => Some(Class::Auth),
        402 => Some(Class::Limit),
        413 => Some(Class::TooLong),
        408 | 425 | 429 | 500..=504 | OVERLOADED => Some(Class::Transient),
        _ => None,
    }
}

/// The first number in a message that can only be a status.
fn status_in(text: &str) -> Option<u16> {
    let numbers = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() == 3);
    numbers.filter_map(|word| word.parse().ok()).find(|n| STATUSES.contains(n) || *n == OVERLOADED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_names_the_cause_is_found_in_all_of_stderr() {
        for (stderr, class, line) in [
            (
                "Not logged in \u{b7} Please run /login\n    at run (cli.js:1)\n\n",
                Class::Auth,
                "Not logged in",
            ),
            ("retry: connection refused\nNo auth found\nsee the docs", Class::Auth, "No auth found"),
            ("connection refused\nfatal: gave up\n", Class::Transient, "connection refused"),
            ("quota exceeded\ngiving up", Class::Limit, "quota exceeded"),
            ("first\nboom\n", Class::Crashed, "boom"),
            ("", Class::Crashed, ""),
        ] {
            let (found, words) = crate::agents::failure_words(stderr.as_bytes());
            assert!(found == class && words.starts_with(line), "{stderr:?}: {found} {words:?}");
        }
    }

    #[test]
    fn errors_have_their_class() {
        let rows = [
            ("429 {\"type\":\"rate_limit_error\"}", Class::Transient),
            ("500 internal", Class::Transient),
            ("API Error: Request rejected (429) · slow down", Class::Transient),
            ("exceeded retry limit, last status: 429 Too Many Requests, request id: x", Class::Transient),
            (
                "unexpected status 401 Unauthorized: invalid x-api-key, url: http://127.0.0.1:42537/v1",
                Class::Auth,
            ),
            ("401 {\"type\":\"authentication_error\"}", Class::Auth),
            ("400 prompt is too long: 210000 tokens", Class::TooLong),
            ("the request exceeds the available context size (4096 tokens)", Class::TooLong),
            ("You have hit your usage limit", Class::Limit),
            ("You've hit your 5-hour limit · resets 11:37am (UTC)", Class::Limit),
            ("You've hit your weekly Opus limit · resets Sep 12, 9am", Class::Limit),
            ("You have hit your rate limit", Class::Transient),
            ("429 You exceeded your current quota", Class::Limit),
            ("Your credit balance is too low", Class::Limit),
            ("Model is ambiguous. No matching provider is authenticated", Class::Auth),
            (
                "stream disconnected before completion: stream closed before response.completed",
                Class::Transient,
            ),
            ("Connection dropped (ECONNRESET)", Class::Transient),
            ("We’re currently experiencing high demand, which may cause temporary errors.", Class::Transient),
            ("Anthropic stream ended before message_stop", Class::Transient),
            ("The response was filtered: content_filter", Class::Refused),
            ("model port 52901 is unknown", Class::Crashed),
            ("something else", Class::Crashed),
        ];
        for (why, class) in rows {
            assert_eq!(by_words(why), class, "{why}");
        }
    }
}
