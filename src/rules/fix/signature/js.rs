//! Pure. Parses the output of jest, of vitest, and of frameworks with the same output.

use super::{TestReport, after_any, count_before, is_foreign, path_in, starts_with_any};

pub(super) fn read(lines: &[&str]) -> Option<TestReport> {
    const NONE: [&str; 3] = ["No tests found", "No test files found", "No test suite found"];
    let trimmed = || lines.iter().map(|line| line.trim());
    let none = trimmed().any(|line| starts_with_any(line, &NONE));
    let totals = trimmed().rfind(|line| is_totals(line));
    if totals.is_none() && !none {
        return None;
    }
    let rest = totals.unwrap_or_default().trim_start_matches("Tests").trim_start_matches(':');
    let count = |words: &[&str]| count_before(rest, words).unwrap_or(0);
    let mut found =
        TestReport::counted(count(&["passed"]), count(&["failed"]), count(&["skipped", "todo", "pending"]));
    // A suite that cannot be loaded fails without any failing tests.
    let mut suites = trimmed().filter(|line| starts_with_any(line, &["Test Suites:", "Test Files "]));
    let broken = suites.find_map(|line| count_before(line, &["failed"]));
    if found.bad == Some(0) {
        found.bad = broken.or(found.bad);
    }
    for line in trimmed() {
        let name = failing(line).filter(|name| !name.starts_with("Console"));
        found.tests.extend(name.map(|name| name.trim().to_owned()));
    }
    let begin = trimmed().position(|line| failing(line).is_some());
    let block = begin.map_or(&[][..], |at| &lines[at + 1..]);
    for line in block.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
        if let Some(place) = after_any(line, &["at ", "❯ "]) {
            let path = path_in(place.split_whitespace().last().unwrap_or_default());
            if !is_foreign(place) && path.contains('.') {
                found.frame = path.to_owned();
                break;
            }
        } else if found.class.is_empty() {
            found.set_error(line, "failed");
        } else if line.starts_with("Expected") || line.starts_with("Received") {
            found.stated = format!("{} {line}", found.stated);
        }
    }
    Some(found)
}

/// Returns the name of a failing test in its heading.
fn failing(line: &str) -> Option<&str> {
    line.strip_prefix("● ").or_else(|| line.strip_prefix("FAIL ").filter(|rest| rest.contains(" > ")))
}

fn is_totals(line: &str) -> bool {
    let rest = line
        .strip_prefix("Tests:")
        .or_else(|| line.strip_prefix("Tests ").filter(|rest| rest.starts_with(' ')));
    rest.is_some_and(|rest| {
        ["passed", "failed", "total", "skipped", "todo"].iter().any(|word| rest.contains(word))
    })
}
