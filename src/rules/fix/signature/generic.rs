//! Pure. Parses the output of any program: its last line about an error, and the first file in that line.

use super::{TestReport, base_name, is_foreign};

const WORDS: [&str; 9] =
    ["error", "fail", "panic", "exception", "assert", "expected", "undefined", "not found", "fatal"];

pub(super) fn read(lines: &[&str]) -> TestReport {
    let mut found = TestReport::default();
    let speaks = |line: &&&str| {
        let lower = line.to_lowercase();
        WORDS.iter().any(|word| lower.contains(word))
    };
    let line =
        lines.iter().rev().find(speaks).or_else(|| lines.iter().rev().find(|line| !line.trim().is_empty()));
    let Some(line) = line.map(|line| line.trim()) else { return found };
    found.set_error(line, "");
    found.frame = lines.iter().find_map(|line| place_in(line)).unwrap_or_default();
    found
}

/// Returns the file of a `path.ext:LINE` in a line.
fn place_in(line: &str) -> Option<String> {
    line.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '\'' | ',')).find_map(|word| {
        let (path, rest) = word.split_once(':')?;
        let is_place = rest.starts_with(|c: char| c.is_ascii_digit())
            && path.rsplit_once('.').is_some_and(|(stem, end)| {
                !stem.is_empty() && end.len() < 6 && end.chars().all(char::is_alphabetic)
            });
        (is_place && !is_foreign(path)).then(|| base_name(path).to_owned())
    })
}
