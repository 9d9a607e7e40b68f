//! Pure. Shortens a failure: drops the output of dependencies, counts repeats, and keeps the end.

use crate::rules::fix::signature::{self, TestFramework};
use crate::rules::json::clip;
use crate::rules::text::visible;

const MAX_LINE: usize = 300;

/// Prefixes of lines that say nothing about the failure.
const NOISE: [&str; 22] = [
    "Compiling ",
    "Downloading ",
    "Downloaded ",
    "Checking ",
    "Finished ",
    "Blocking waiting",
    "Updating ",
    "Locking ",
    "npm WARN",
    "npm notice",
    "DeprecationWarning",
    "go: downloading",
    "platform ",
    "rootdir:",
    "plugins:",
    "cachedir:",
    "Collecting ",
    "Requirement already",
    "Installing ",
    "note: run with `RUST_BACKTRACE",
    "(Use `node ",
    "asyncio:",
];
/// Parts of the paths of dependencies.
const FOREIGN: &str = "site-packages/ dist-packages/ node_modules/ /.cargo/registry/ /rustc/ node:internal /pkg/mod/ \
                       /usr/lib/python /usr/local/go/src";

/// The last `lines` meaningful lines of the tests' output, and how many were left out.
pub fn summarize(output: &str, lines: usize) -> (String, usize) {
    shorten(output, signature::read(output, Some("exit code 1"), "/").kind, lines)
}

fn shorten(output: &str, kind: TestFramework, lines: usize) -> (String, usize) {
    let mut own: Vec<String> = Vec::new();
    let mut foreign = false;
    for line in output.lines().map(str::trim_end) {
        let text = line.trim_start();
        let is_frame = FOREIGN.split(' ').any(|mark| line.contains(mark));
        // The source line below a dependency's frame belongs to the dependency.
        let belongs = foreign && line.starts_with("    ") && !is_place(text);
        foreign = is_frame || (belongs && kind != TestFramework::Generic);
        let is_noise = NOISE.iter().any(|noise| text.starts_with(noise)) || is_passing(text, kind);
        if !is_frame && !belongs && !is_noise {
            own.push(clip(line, MAX_LINE));
        }
    }
    let mut kept: Vec<String> = Vec::new();
    for same in own.chunk_by(|one, next| one == next) {
        kept.push(same[0].clone());
        if same.len() > 1 && !same[0].is_empty() {
            kept.push(format!("(the same line {} more times)", same.len() - 1));
        }
    }
    kept.pop_if(|last| last.is_empty());
    let from = kept.len().saturating_sub(lines.max(1));
    let left_out = output.lines().count().saturating_sub(kept.len() - from);
    (kept[from..].join("\n"), left_out)
}

/// True for the first line of a stack frame.
fn is_place(text: &str) -> bool {
    text.starts_with("File \"") || text.starts_with("at ") || text.starts_with("--> ")
}

/// True for a line about a test that passed.
fn is_passing(text: &str, kind: TestFramework) -> bool {
    match kind {
        TestFramework::Cargo => {
            text.starts_with("test ") && (text.ends_with("... ok") || text.ends_with("... ignored"))
        }
        TestFramework::Go => {
            ["--- PASS", "=== RUN", "=== PAUSE", "=== CONT"].iter().any(|mark| text.starts_with(mark))
        }
        TestFramework::Pytest => text.contains(" PASSED ") || text.ends_with(" PASSED"),
        TestFramework::Unittest => text.ends_with("... ok"),
        TestFramework::Jest => text.starts_with("✓ ") || text.starts_with("√ ") || text.starts_with("PASS "),
        TestFramework::Tap => {
            text.starts_with("ok ") || text.starts_with("✔ ") || text.starts_with("duration_ms")
        }
        TestFramework::Generic => false,
    }
}

/// Words that are common in all texts about tests.
const EMPTY: [&str; 16] = [
    "with", "that", "this", "from", "have", "been", "were", "when", "then", "test", "tests", "error",
    "failed", "line", "file", "fail",
];

/// True if a sentence says something about a failure: it is short, has some length of prose or code, and shares
/// a significant word with the failure. This works for every language.
pub fn is_informative(sentence: &str, failure: &str) -> bool {
    let words = |text: &str| -> std::collections::BTreeSet<String> {
        let split = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        split.filter(|word| word.chars().count() >= 3).map(str::to_lowercase).collect()
    };
    let reply = words(sentence);
    let about = words(failure);
    let tells = |word: &&String| word.chars().count() >= 4 && !EMPTY.contains(&word.as_str());
    reply.len() >= 3 && reply.intersection(&about).any(|word| tells(&word))
}

/// The first meaningful sentence or line of an answer, in one line; none if there is none.
pub fn diagnosis(answer: &str, failure: &str) -> Option<String> {
    let lines = answer.lines().map(|line| line.trim().trim_start_matches(['#', '-', '*', '>', ' ']).trim());
    let found = lines
        .filter(|line| !line.is_empty() && !line.starts_with("```"))
        .find(|line| is_informative(line, failure))?;
    Some(clip(&visible(found, false), 400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_dependencies_is_dropped_and_the_end_is_kept() {
        let text = "   Compiling serde v1\nTraceback (most recent call last):\n  File \"src/a.py\", line 3, in f\n    g()\n  File \"/usr/lib/python3/x.py\", line 1, in g\n    deep()\nValueError: no\nx\nx\nx\n\n\n";
        let (short, left_out) = shorten(text, TestFramework::Unittest, 40);
        assert_eq!(
            short,
            "Traceback (most recent call last):\n  File \"src/a.py\", line 3, in f\n    g()\nValueError: no\nx\n(the same line 2 more times)"
        );
        assert!(left_out > 0);
        assert_eq!(shorten("a\nb\nc", TestFramework::Generic, 2), ("b\nc".to_owned(), 1));
        let failed = shorten("test a ... ok\ntest b ... FAILED", TestFramework::Cargo, 9).0;
        assert_eq!(failed, "test b ... FAILED");
    }

    #[test]
    fn only_a_diagnosis_that_fits_the_failure_counts() {
        let failure = "thread 'tests::adds' panicked at src/lib.rs:4:5:\nattempt to subtract with overflow";
        assert!(diagnosis("The subtract in `adds` goes below zero.", failure).is_some());
        let decorated = "```\ncode\n```\n- overflow comes from subtract before the check";
        assert!(diagnosis(decorated, failure).is_some());
        for empty in ["", "ok", "I fixed it for you!", "I cannot help with that request."] {
            assert_eq!(diagnosis(empty, failure), None, "{empty}");
        }
    }
}
