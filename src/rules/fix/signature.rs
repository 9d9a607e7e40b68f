//! Pure. Parses a test run: how many tests failed, which, why, and a signature that two runs with the same failure
//! share.
//!
//! A signature consists of the failing tests, the kind of error, its message and the nearest location in the project,
//! each without the parts that differ from run to run: times, addresses, process ids, ports, temporary paths, line
//! numbers.

mod generic;
mod go;
mod js;
mod normalize;
mod python;
mod rust;
mod tap;

pub use normalize::{normalize, normalize_run_noise};

use crate::rules::digest::digest;

/// The maximum number of failing tests that are named.
const MAX_TESTS: usize = 200;
/// The longest output that is read, in bytes; of a longer output, the end is read.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// A test framework whose output is understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TestFramework {
    Pytest,
    /// Python's unittest.
    Unittest,
    Cargo,
    Go,
    /// jest, vitest, and frameworks with the same output.
    Jest,
    /// TAP, and node's own test runner.
    Tap,
    /// Any other program.
    #[default]
    Generic,
}

/// The parsed output of a test run. A parser sets the counts, the tests, the class, the stated message and the frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestReport {
    /// The framework that printed it.
    pub kind: TestFramework,
    /// True if it exited with success and ran at least one test.
    pub passed: bool,
    /// True if the framework is known and collected no tests.
    pub empty: bool,
    /// Number of passed tests, if known.
    pub good: Option<u32>,
    /// Number of failed tests, if known.
    pub bad: Option<u32>,
    /// Number of skipped tests, if known.
    pub skipped: Option<u32>,
    /// The failing tests, sorted.
    pub tests: Vec<String>,
    /// The kind of error: a class, a code, or how the program ended.
    pub class: String,
    /// The message as printed.
    pub stated: String,
    /// The message, normalized.
    pub message: String,
    /// The location in the project nearest to the error: the file, and the function if known.
    pub frame: String,
}

/// A parser; it returns `None` for the output of another framework.
type Parser = fn(&[&str]) -> Option<TestReport>;

/// Parses the output of a test run in the directory `root`. The output has no colors any more. `failure` says how the
/// run ended; `None`: with success.
pub fn read(output: &str, failure: Option<&str>, root: &str) -> TestReport {
    let from = output.ceil_char_boundary(output.len().saturating_sub(MAX_OUTPUT_BYTES));
    let text = output[from..].replace(&format!("{}/", root.trim_end_matches('/')), "");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let known: [(TestFramework, Parser); 6] = [
        (TestFramework::Cargo, rust::read),
        (TestFramework::Pytest, python::pytest),
        (TestFramework::Unittest, python::unittest),
        (TestFramework::Jest, js::read),
        (TestFramework::Go, go::read),
        (TestFramework::Tap, tap::read),
    ];
    let found = known.into_iter().find_map(|(kind, read)| Some((kind, read(&lines)?)));
    let (kind, mut report) = found.unwrap_or_else(|| (TestFramework::Generic, generic::read(&lines)));
    let total = [report.good, report.bad].into_iter().flatten().fold(0_u32, u32::saturating_add);
    let counted = report.good.is_some() || report.bad.is_some();
    report.kind = kind;
    report.empty = kind != TestFramework::Generic && counted && total == 0 && report.class.is_empty();
    report.passed = failure.is_none() && !report.empty && report.bad.unwrap_or(0) == 0;
    if report.class.is_empty() {
        report.class = failure.unwrap_or_default().to_owned();
    }
    report.tests.sort();
    report.tests.dedup();
    report.tests.truncate(MAX_TESTS);
    report.message = normalize(&report.stated);
    report
}

impl TestReport {
    /// The counts of passed, failed and skipped tests, for a parser.
    fn counted(good: u32, bad: u32, skipped: u32) -> TestReport {
        let [good, bad, skipped] = [good, bad, skipped].map(Some);
        TestReport { good, bad, skipped, ..TestReport::default() }
    }

    /// Sets the error that a line states; `class` is used if the line does not name a class.
    fn set_error(&mut self, line: &str, class: &str) {
        let error = class_and_message(line);
        (self.class, self.stated) = error.unwrap_or_else(|| (class.to_owned(), line.to_owned()));
    }

    /// The signature of the failure, 16 hexadecimal digits; `None` if there was no failure.
    pub fn signature(&self) -> Option<String> {
        if self.passed {
            return None;
        }
        let kind = format!("{:?}{}", self.kind, self.empty);
        let parts = [&kind, &self.class, &self.message, &self.frame].into_iter().chain(&self.tests);
        Some(digest(&parts.map(String::as_bytes).collect::<Vec<_>>())[..16].to_owned())
    }

    /// How many tests failed; `None` if the run failed and the number is unknown.
    pub fn failures(&self) -> Option<u32> {
        // A run that could not even start is worse than any number of failing tests.
        self.bad.filter(|bad| *bad > 0).or(self.passed.then_some(0))
    }

    /// The failure in one line: `2 of 5 fail: test_a, test_b: AssertionError: assert 0 == 0`.
    pub fn words(&self) -> String {
        if self.passed {
            return match self.good {
                Some(good) => format!("{good} pass"),
                None => "it passes".to_owned(),
            };
        }
        if self.empty {
            return "no test was collected".to_owned();
        }
        let count = match (self.bad, self.good) {
            (Some(bad), Some(good)) if bad > 0 => format!("{bad} of {} fail", bad.saturating_add(good)),
            (Some(bad), None) if bad > 0 => format!("{bad} fail"),
            _ => "it fails".to_owned(),
        };
        let named: Vec<&str> = self.tests.iter().take(3).map(String::as_str).collect();
        let more = if self.tests.len() > 3 { ", …" } else { "" };
        let error = [self.class.as_str(), self.stated.as_str()].into_iter().filter(|part| !part.is_empty());
        let error = error.collect::<Vec<_>>().join(": ");
        let parts = [count, format!("{}{more}", named.join(", ")), error];
        let line = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        crate::rules::json::clip(&line, 300)
    }
}

/// Returns the sum of the numbers before these words, as in `3 passed`; `None` if the line has none of the words.
fn count_before(line: &str, words: &[&str]) -> Option<u32> {
    let parts = line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '|' | ';' | '(' | ')'));
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let count = |word: &&str| {
        let at = parts.iter().position(|part| part == word)?;
        parts.get(at.checked_sub(1)?)?.parse::<u32>().ok()
    };
    words.iter().filter_map(count).reduce(u32::saturating_add)
}

/// True if a line starts with one of these marks.
fn starts_with_any(line: &str, marks: &[&str]) -> bool {
    marks.iter().any(|mark| line.starts_with(mark))
}

/// Returns the rest of a line after the first of these marks that it starts with.
fn after_any<'a>(line: &'a str, marks: &[&str]) -> Option<&'a str> {
    marks.iter().find_map(|mark| line.strip_prefix(mark))
}

/// Returns the last part of a path.
fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns the path of a place such as `src/lib.rs:10:5`, or of a stack frame such as `add (file:///src/a.js:3:9)`.
fn path_in(place: &str) -> &str {
    let inner = place.strip_suffix(')').and_then(|place| place.rsplit_once('('));
    inner
        .map_or(place, |(_, inner)| inner)
        .trim_start_matches("file://")
        .split(':')
        .next()
        .unwrap_or_default()
        .trim()
}

/// Splits `Class: message`; returns `None` if the line does not start with a class.
fn class_and_message(line: &str) -> Option<(String, String)> {
    const ENDS: [&str; 5] = ["Error", "Exception", "Exit", "Interrupt", "Warning"];
    let (class, message) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
    let is_class = class.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && class.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | ' '))
        && class.split(' ').next().is_some_and(|word| ENDS.iter().any(|end| word.ends_with(end)));
    is_class.then(|| (class.to_owned(), message.to_owned()))
}

/// True for a path outside the project.
fn is_foreign(path: &str) -> bool {
    const MARKS: &str = "site-packages/ dist-packages/ node_modules/ .cargo/ rustc/ lib/python node: /usr/lib \
                         /go/pkg/mod/ /usr/local/go";
    path.starts_with('<') || MARKS.split(' ').any(|mark| path.contains(mark))
}

#[cfg(test)]
#[path = "signature/signature_tests.rs"]
mod tests;
