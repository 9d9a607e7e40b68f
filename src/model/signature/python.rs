//! Pure. Parses the output of pytest and of Python's unittest.

use super::{ParsedOutput, class_and_message, count_before, is_foreign};

/// Parses pytest's output, in its long and its quiet form.
pub(super) fn pytest(lines: &[&str]) -> Option<ParsedOutput> {
    let is_its = |line: &&str| -> bool {
        line.contains(" test session starts ")
            || line.contains("= short test summary info =")
            || line.trim_matches(['=', ' ']).starts_with("no tests ran")
            || (summary(line).is_some() && line.contains(" in "))
    };
    let at = lines.iter().rposition(is_its)?;
    let mut found = ParsedOutput::default();
    let last = lines[..].iter().rev().find(|line| summary(line).is_some() || line.contains("no tests ran"));
    if let Some(line) = last {
        let count = |words: &[&str]| {
            words.iter().filter_map(|word| count_before(line, word)).reduce(u32::saturating_add)
        };
        found.good = Some(count(&["passed", "xpassed"]).unwrap_or(0));
        found.bad = Some(count(&["failed", "error", "errors"]).unwrap_or(0));
        found.skipped = Some(count(&["skipped", "xfailed", "deselected"]).unwrap_or(0));
    } else if lines.get(at).is_some() && lines.iter().any(|line| line.starts_with("collected 0 items")) {
        (found.good, found.bad) = (Some(0), Some(0));
    }
    for line in lines {
        let Some(rest) = line.strip_prefix("FAILED ").or(line.strip_prefix("ERROR ")) else { continue };
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
        (found.class, found.message) = class_and_message(line).unwrap_or_else(|| {
            (if line.starts_with("assert") { "AssertionError" } else { "" }.to_owned(), line.to_owned())
        });
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
pub(super) fn unittest(lines: &[&str]) -> Option<ParsedOutput> {
    let ran = lines.iter().rposition(|line| {
        line.starts_with("Ran ") && (line.contains(" test in ") || line.contains(" tests in "))
    })?;
    let total: u32 = lines[ran].split_whitespace().nth(1)?.parse().ok()?;
    let mut found = ParsedOutput::default();
    let verdict = lines[ran..].iter().skip(1).find(|line| !line.is_empty()).copied().unwrap_or_default();
    let value = |key: &str| {
        let inner = verdict.split_once('(')?.1.trim_end_matches(')');
        inner.split(", ").find_map(|part| part.strip_prefix(key)?.strip_prefix('=')?.parse::<u32>().ok())
    };
    let bad = value("failures").unwrap_or(0).saturating_add(value("errors").unwrap_or(0));
    let skipped = value("skipped").unwrap_or(0);
    found.bad = Some(bad);
    found.skipped = Some(skipped);
    found.good = Some(total.saturating_sub(bad).saturating_sub(skipped));
    for line in lines {
        let test = line.strip_prefix("FAIL: ").or(line.strip_prefix("ERROR: "));
        found.tests.extend(test.map(|test| test.trim().to_owned()));
    }
    let begin = lines.iter().position(|line| line.starts_with("Traceback (most recent call last)"));
    for line in begin.map_or(&[][..], |at| &lines[at + 1..]) {
        if let Some(rest) = line.trim_start().strip_prefix("File \"") {
            let mut parts = rest.splitn(2, '"');
            let (path, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let function = rest.rsplit_once(", in ").map_or("", |(_, name)| name);
            if !is_foreign(path) {
                found.frame =
                    format!("{} {function}", path.rsplit('/').next().unwrap_or(path)).trim_end().to_owned();
            }
        } else if let Some((class, message)) =
            (!line.starts_with(' ')).then(|| class_and_message(line)).flatten()
        {
            (found.class, found.message) = (class, message);
            break;
        }
    }
    Some(found)
}
