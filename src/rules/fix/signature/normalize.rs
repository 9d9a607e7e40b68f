//! Pure. Removes the parts of a message that differ from run to run.

use crate::rules::fix::tokens::end_of;
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
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        let before = at.checked_sub(1).map(|i| chars[i]);
        if c == '/' && before.is_none_or(|c| !is_word(c) && !matches!(c, '/' | '.' | ':')) {
            let end = end_of(&chars, at, |c| !c.is_whitespace() && !"'\"`()[]<>,;".contains(c));
            at = push_path(&chars[at..end], &mut out, at);
        } else if is_word(c) {
            let end = end_of(&chars, at, |c| is_word(c) || c == '-');
            let whole: String = chars[at..end].iter().collect();
            if is_uuid(&whole) {
                out.push('0');
                at = end;
            } else {
                at = push_word(&chars, at, counts, &mut out);
            }
        } else if c.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
            at += 1;
        } else {
            out.push(c);
            at += 1;
        }
        if out.len() > MAX_CHARS * 8 {
            break;
        }
    }
    clip(out.trim(), MAX_CHARS)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Writes a path up to a `:LINE`. Returns the position after it.
fn push_path(path: &[char], out: &mut String, at: usize) -> usize {
    let length = path.iter().position(|c| *c == ':').unwrap_or(path.len());
    let text: String = path[..length].iter().collect();
    if TEMP.iter().any(|temp| text.starts_with(temp)) || text == "/tmp" {
        out.push('T');
    } else {
        let name = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        out.push_str(&name.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>());
    }
    at + length.max(1)
}

fn is_uuid(word: &str) -> bool {
    let parts: Vec<usize> = word.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// Writes one word. Returns the position after it.
fn push_word(chars: &[char], at: usize, counts: bool, out: &mut String) -> usize {
    let end = end_of(chars, at, is_word);
    let word: String = chars[at..end].iter().collect();
    let has_digit = word.contains(|c: char| c.is_ascii_digit());
    if DATE_WORDS.contains(&word.as_str()) {
        out.push('0');
        return end;
    }
    if !has_digit {
        out.push_str(&word);
        return end;
    }
    let is_hex = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    if word.strip_prefix("0x").is_some_and(is_hex) || (word.len() >= 7 && is_hex(&word)) {
        out.push('0');
        return end;
    }
    if chars[at].is_ascii_digit() {
        // A number with its fraction, and the unit right after it.
        let digits = end_of(chars, at, |c| c.is_ascii_digit() || matches!(c, '.' | '_' | ','));
        let digits = (at..digits).rev().find(|i| chars[*i].is_ascii_digit()).map_or(at + 1, |last| last + 1);
        let unit_end = end_of(chars, digits, |c| c.is_alphabetic());
        let unit: String = chars[digits..unit_end].iter().collect();
        let is_whole = chars.get(unit_end).is_none_or(|c| !is_word(*c));
        if is_whole && UNITS.contains(&unit.as_str()) {
            out.push_str("0t");
            return unit_end;
        }
        // These signs occur in clock times, dates, addresses and versions.
        let signs = [at.checked_sub(1), Some(digits)].map(|at| at.and_then(|at| chars.get(at)));
        if counts && !signs.iter().flatten().any(|sign| matches!(sign, ':' | '-' | '.')) {
            out.extend(&chars[at..digits]);
        } else {
            out.push('0');
        }
        return digits;
    }
    let mut in_digits = false;
    for c in word.chars() {
        let is_digit = c.is_ascii_digit();
        if !is_digit {
            out.push(c);
        } else if !in_digits {
            out.push('0');
        }
        in_digits = is_digit;
    }
    end
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
