//! Pure. Parses the output of jest, of vitest, and of frameworks with the same output.

use super::{ParsedOutput, class_and_message, count_before, is_foreign};

pub(super) fn read(lines: &[&str]) -> Option<ParsedOutput> {
    let trimmed = || lines.iter().map(|line| line.trim());
    let none = trimmed().any(|line| {
        line.starts_with("No tests found")
            || line.starts_with("No test files found")
            || line.starts_with("No test suite found")
    });
    let totals = trimmed().rfind(|line| is_totals(line));
    if totals.is_none() && !none {
        return None;
    }
    let mut found = ParsedOutput::default();
    if let Some(line) = totals {
        let rest = line.trim_start_matches("Tests").trim_start_matches(':');
        found.good = Some(count_before(rest, "passed").unwrap_or(0));
        found.bad = Some(count_before(rest, "failed").unwrap_or(0));
        let rest_of = ["skipped", "todo", "pending"].iter().filter_map(|word| count_before(rest, word));
        found.skipped = Some(rest_of.fold(0, u32::saturating_add));
    } else {
        (found.good, found.bad) = (Some(0), Some(0));
    }
    // A suite that cannot be loaded fails without any failing tests.
    let broken = trimmed().find(|line| {
        (line.starts_with("Test Suites:") || line.starts_with("Test Files "))
            && count_before(line, "failed").is_some()
    });
    if broken.is_some() && found.bad == Some(0) {
        found.bad = broken.and_then(|line| count_before(line, "failed"));
    }
    for line in trimmed() {
        let name = line
            .strip_prefix("● ")
            .or_else(|| line.strip_prefix("FAIL ").filter(|rest| rest.contains(" > ")));
        if let Some(name) = name.filter(|name| !name.starts_with("Console")) {
            found.tests.push(name.trim().to_owned());
        }
    }
    let begin = trimmed()
        .position(|line| line.starts_with("● ") || (line.starts_with("FAIL ") && line.contains(" > ")));
    let block = begin.map_or(&[][..], |at| &lines[at + 1..]);
    for line in block.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
        let place = line.strip_prefix("at ").or(line.strip_prefix("❯ "));
        if let Some(place) = place {
            let inner = place.rsplit_once('(').map_or(place, |(_, inner)| inner).trim_end_matches(')');
            let path = inner.split_whitespace().last().unwrap_or(inner).split(':').next().unwrap_or_default();
            if !is_foreign(inner) && path.contains('.') {
                found.frame = path.to_owned();
                break;
            }
        } else if found.class.is_empty() {
            match class_and_message(line) {
                Some((class, message)) => (found.class, found.message) = (class, message),
                None => (found.class, found.message) = ("failed".to_owned(), line.to_owned()),
            }
        } else if line.starts_with("Expected") || line.starts_with("Received") {
            found.message = format!("{} {line}", found.message);
        }
    }
    Some(found)
}

fn is_totals(line: &str) -> bool {
    let rest = line
        .strip_prefix("Tests:")
        .or_else(|| line.strip_prefix("Tests ").filter(|rest| rest.starts_with(' ')));
    rest.is_some_and(|rest| {
        ["passed", "failed", "total", "skipped", "todo"].iter().any(|word| rest.contains(word))
    })
}
