//! Pure. Parses the output of pytest and of Python's unittest.

use super::{TestReport, after_any, base_name, class_and_message, count_before, is_foreign};

/// Parses pytest's output, in its long and its quiet form.
pub(super) fn pytest(lines: &[&str]) -> Option<TestReport> {
    let is_its = |line: &&str| -> bool {
        line.contains(" test session starts ")
            || line.contains("= short test summary info =")
            || line.trim_matches(['=', ' ']).starts_with("no tests ran")
            || (summary(line).is_some() && line.contains(" in "))
    };
    lines.iter().find(|line| is_its(line))?;
    let mut found = TestReport::default();
    let last = lines.iter().rev().find(|line| summary(line).is_some() || line.contains("no tests ran"));
    if let Some(line) = last {
        let count = |words: &[&str]| count_before(line, words).unwrap_or(0);
        found = TestReport::counted(
            count(&["passed", "xpassed"]),
            count(&["failed", "error", "errors"]),
            count(&["skipped", "xfailed", "deselected"]),
        );
    } else if lines.iter().any(|line| line.starts_with("collected 0 items")) {
        (found.good, found.bad) = (Some(0), Some(0));
    }
    for line in lines {
        let Some(rest) = after_any(line, &["FAILED ", "ERROR "]) else { continue };
        let id = rest.split(" - ").next().unwrap_or(rest).trim();
        // A log record may start with the same word.
        if id.contains(".py") {
            found.tests.push(id.to_owned());
        }
    }
    let error =
        lines.iter().filter_map(|line| line.strip_prefix("E  ")).map(str::trim).find(|line| !line.is_empty());
    let error = error.or_else(|| lines.iter().rev().find(|line| line.starts_with("ERROR: ")).copied());
    if let Some(line) = error {
        found.set_error(line, if line.starts_with("assert") { "AssertionError" } else { "" });
    }
    // `path.py:12: in function` and `path.py:12: AssertionError`; the first block is the first failure.
    let mut seen = false;
    for line in lines {
        let Some((place, what)) = line.split_once(": ") else { continue };
        let Some((path, number)) = place.rsplit_once(':') else { continue };
        let is_frame = path.ends_with(".py") && number.parse::<u32>().is_ok() && !path.contains(' ');
        if is_frame && !is_foreign(path) {
            let function = what.strip_prefix("in ").unwrap_or_default();
            found.frame = format!("{path} {function}").trim_end().to_owned();
            seen = true;
        }
        if seen && !what.starts_with("in ") {
            break;
        }
    }
    Some(found)
}

/// Matches a line such as `1 failed, 2 passed in 0.03s`.
fn summary(line: &str) -> Option<()> {
    let inner = line.trim_matches(['=', ' ']);
    let mut words = inner.split_whitespace();
    let number = words.next()?.parse::<u32>().is_ok();
    let word = words.next()?.trim_end_matches(',');
    let known = ["passed", "failed", "error", "errors", "skipped", "xfailed", "xpassed", "deselected"];
    (number && known.contains(&word)).then_some(())
}

/// Parses unittest's output, which contains `Ran N tests`.
pub(super) fn unittest(lines: &[&str]) -> Option<TestReport> {
    let ran = lines.iter().rposition(|line| {
        line.starts_with("Ran ") && (line.contains(" test in ") || line.contains(" tests in "))
    })?;
    let total: u32 = lines[ran].split_whitespace().nth(1)?.parse().ok()?;
    let verdict = lines[ran..].iter().skip(1).find(|line| !line.is_empty()).copied().unwrap_or_default();
    let value = |key: &str| {
        let inner = verdict.split_once('(')?.1.trim_end_matches(')');
        inner.split(", ").find_map(|part| part.strip_prefix(key)?.strip_prefix('=')?.parse::<u32>().ok())
    };
    let bad = value("failures").unwrap_or(0).saturating_add(value("errors").unwrap_or(0));
    let skipped = value("skipped").unwrap_or(0);
    let mut found = TestReport::counted(total.saturating_sub(bad).saturating_sub(skipped), bad, skipped);
    let tests = lines.iter().filter_map(|line| after_any(line, &["FAIL: ", "ERROR: "]));
    found.tests = tests.map(|test| test.trim().to_owned()).collect();
    let begin = lines.iter().position(|line| line.starts_with("Traceback (most recent call last)"));
    for line in begin.map_or(&[][..], |at| &lines[at + 1..]) {
        if let Some(rest) = line.trim_start().strip_prefix("File \"") {
            let (path, rest) = rest.split_once('"').unwrap_or((rest, ""));
            let function = rest.rsplit_once(", in ").map_or("", |(_, name)| name);
            if !is_foreign(path) {
                found.frame = format!("{} {function}", base_name(path)).trim_end().to_owned();
            }
        } else if let Some((class, message)) =
            (!line.starts_with(' ')).then(|| class_and_message(line)).flatten()
        {
            (found.class, found.stated) = (class, message);
            break;
        }
    }
    Some(found)
}
