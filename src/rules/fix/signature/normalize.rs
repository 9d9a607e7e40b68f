//! Pure. Removes the parts of a message that differ from run to run.

use crate::rules::fix::tokens::{is_word, start_of};
use crate::rules::json::clip;

/// The longest message that is kept, in characters.
const MAX_CHARS: usize = 300;

/// Where temporary files are.
const TEMP: [&str; 5] = ["/tmp/", "/var/tmp/", "/var/folders/", "/private/", "/dev/shm/"];

/// Names of days and months in dates.
const DATE_WORDS: [&str; 19] = [
    "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
    "Sep", "Oct", "Nov", "Dec",
];

/// Units of time, which change with the number before them.
const UNITS: [&str; 9] = ["ns", "us", "µs", "ms", "s", "m", "sec", "secs", "seconds"];

/// Replaces numbers by `0`, durations by `0t`, addresses and random names by `0`, temporary paths by `T`, and other
/// absolute paths by their last part. Collapses white space.
pub fn normalize(text: &str) -> String {
    write(text, false)
}

/// Does the same, but keeps numbers that show progress, as in `12 of 40` or `37 %`.
pub fn normalize_run_noise(text: &str) -> String {
    write(text, true)
}

fn write(text: &str, counts: bool) -> String {
    let (mut out, mut rest, mut before) = (String::new(), text, None);
    while let Some(c) = rest.chars().next().filter(|_| out.len() <= MAX_CHARS * 8) {
        let (shown, length) = match c {
            '/' if before.is_none_or(|c| !is_word(c) && !matches!(c, '/' | '.' | ':')) => path(rest),
            _ if is_word(c) => word(rest, before, counts),
            _ if c.is_whitespace() && out.ends_with(' ') => (String::new(), c.len_utf8()),
            _ if c.is_whitespace() => (" ".to_owned(), c.len_utf8()),
            _ => (c.to_string(), c.len_utf8()),
        };
        out.push_str(&shown);
        before = rest[..length].chars().next_back();
        rest = &rest[length..];
    }
    clip(out.trim(), MAX_CHARS)
}

fn without_digit(c: char) -> char {
    if c.is_ascii_digit() { '0' } else { c }
}

/// Returns what replaces the path at the start of a text, and the length of the path, up to a `:LINE`.
fn path(text: &str) -> (String, usize) {
    let path = start_of(text, |c| !c.is_whitespace() && !"'\"`()[]<>,;:".contains(c));
    if TEMP.iter().any(|temp| path.starts_with(temp)) || path == "/tmp" {
        return ("T".to_owned(), path.len());
    }
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    (name.chars().map(without_digit).collect(), path.len())
}

fn is_uuid(word: &str) -> bool {
    let parts: Vec<usize> = word.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// Returns what replaces the word or number at the start of a text, and its length. `before` is the character before it.
fn word(text: &str, before: Option<char>, counts: bool) -> (String, usize) {
    let whole = start_of(text, |c| is_word(c) || c == '-');
    if is_uuid(whole) {
        return ("0".to_owned(), whole.len());
    }
    let word = start_of(text, is_word);
    let is_hex = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    let is_address = word.strip_prefix("0x").is_some_and(is_hex) || (word.len() >= 7 && is_hex(word));
    if DATE_WORDS.contains(&word) || (is_address && word.contains(|c: char| c.is_ascii_digit())) {
        return ("0".to_owned(), word.len());
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return number(text, before, counts);
    }
    let mut shown: Vec<char> = word.chars().map(without_digit).collect();
    shown.dedup_by(|one, other| (*one, *other) == ('0', '0'));
    (shown.into_iter().collect(), word.len())
}

/// The same for a number with its fraction, and the unit right after it.
fn number(text: &str, before: Option<char>, counts: bool) -> (String, usize) {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | '_' | ',');
    let digits = start_of(text, is_part).trim_end_matches(['.', '_', ',']);
    let rest = &text[digits.len()..];
    let unit = start_of(rest, char::is_alphabetic);
    if UNITS.contains(&unit) && !rest[unit.len()..].starts_with(is_word) {
        return ("0t".to_owned(), digits.len() + unit.len());
    }
    // These signs occur in clock times, dates, addresses and versions.
    let is_sign = |c: char| matches!(c, ':' | '-' | '.');
    let is_kept = counts && !before.is_some_and(is_sign) && !rest.starts_with(is_sign);
    (if is_kept { digits } else { "0" }.to_owned(), digits.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_differ_from_run_to_run_are_removed() {
        for (one, other) in [
            ("took 0.03s", "took 127ms"),
            ("object at 0x7f0a12bc", "object at 0x55aa00ff11"),
            ("pid 12345 exited", "pid 7 exited"),
            ("connect 127.0.0.1:54321 refused", "connect 127.0.0.1:60001 refused"),
            (
                "open /tmp/pytest-of-root/pytest-3/x0/a.txt: no",
                "open /tmp/pytest-of-root/pytest-14/x0/a.txt: no",
            ),
            ("at 2026-11-21T14:40:37.123Z", "at 2027-01-02T01:02:03.9Z"),
            ("Sat Nov 21 14:40:37 UTC", "Sun Dec 6 01:00:09 UTC"),
            ("id 550e8400-e29b-41d4-a716-446655440000", "id 67e55044-10b1-426f-9247-bb680e5fe0c8"),
            ("commit 1a2b3c4d5e", "commit 99f00aa1"),
            ("in /home/a/src/x.py:12", "in /home/b/other/x.py:99"),
            ("tmp_12 x", "tmp_9 x"),
        ] {
            assert_eq!(normalize(one), normalize(other), "{one}");
        }
        for (one, other) in
            [("expected a got b", "expected a got c"), ("x.py", "y.py"), ("and/or", "and/not")]
        {
            assert_ne!(normalize(one), normalize(other), "{one}");
        }
        assert_eq!(normalize("assert 3 == 4.5  now"), "assert 0 == 0 now");
    }

    #[test]
    fn counters_are_kept_and_clock_times_are_not() {
        for (one, other) in [("building: 37 % done", "building: 38 % done"), ("[12/40] cc a", "[13/40] cc a")]
        {
            assert_ne!(normalize_run_noise(one), normalize_run_noise(other), "{one}");
            assert_eq!(normalize(one), normalize(other), "{one}");
        }
        for (one, other) in [
            ("10:00:07 still at it", "10:00:09 still at it"),
            ("2026-11-21T10:00:07.12Z waiting", "2026-11-21T10:00:09.98Z waiting"),
            ("3 passed in 0.03s", "3 passed in 0.41s"),
            ("from 127.0.0.1:40001", "from 127.0.0.1:50002"),
        ] {
            assert_eq!(normalize_run_noise(one), normalize_run_noise(other), "{one}");
        }
    }
}
