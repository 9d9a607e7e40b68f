//! Pure. Parses TAP, and the output of node's own test runner: TAP, or its own human-readable format.

use super::{TestReport, after_any, base_name, class_and_message, is_foreign, path_in};

pub(super) fn read(lines: &[&str]) -> Option<TestReport> {
    let trimmed = || lines.iter().map(|line| line.trim());
    let is_plan = |line: &str| {
        line.strip_prefix("1..").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let result = |line: &str| line.starts_with("ok ") || line.starts_with("not ok ");
    let tally = |word: &str| {
        let of = |line: &str| after_any(line, &["# ", "ℹ "])?.strip_prefix(word)?.trim().parse::<u32>().ok();
        trimmed().filter_map(of).next_back()
    };
    let has_plan = trimmed().any(|line| is_plan(line) || line.starts_with("TAP version "));
    let node = tally("pass ").zip(tally("fail "));
    if !(has_plan && (trimmed().any(result) || trimmed().any(|line| line.starts_with("1..0"))))
        && node.is_none()
    {
        return None;
    }
    let (mut good, mut bad, mut skipped) = (0_u32, 0_u32, 0_u32);
    for line in lines.iter().filter(|line| result(line)) {
        let lower = line.to_ascii_lowercase();
        match (line.starts_with("ok "), lower.contains("# skip"), lower.contains("# todo")) {
            (_, true, _) => skipped += 1,
            (_, _, true) | (true, ..) => good += 1,
            (false, ..) => bad += 1,
        }
    }
    if let Some((pass, fail)) = node {
        (good, bad) = (pass, fail.saturating_add(tally("cancelled ").unwrap_or(0)));
        skipped = tally("skipped ").unwrap_or(0).saturating_add(tally("todo ").unwrap_or(0));
    }
    let mut found = TestReport::counted(good, bad, skipped);
    for line in trimmed() {
        let name = line.strip_prefix("not ok ").filter(|rest| !rest.to_ascii_lowercase().contains("# todo"));
        let name = name.map(|rest| {
            rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(" -").trim()
        });
        let name = name.or_else(|| line.strip_prefix("✖ ").filter(|name| *name != "failing tests:"));
        // The time after a name does not belong to it.
        let name = name.map(|name| {
            name.rsplit_once(" (").filter(|(_, rest)| rest.ends_with("ms)")).map_or(name, |(name, _)| name)
        });
        found.tests.extend(name.map(str::to_owned));
    }
    read_error(&trimmed().collect::<Vec<_>>(), &mut found);
    Some(found)
}

/// Reads the first error of a YAML block, or of a stack trace.
fn read_error(lines: &[&str], found: &mut TestReport) {
    let value = |key: &str| {
        let at = lines
            .iter()
            .position(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(": ")))?;
        let text = lines[at][key.len() + 2..].trim_matches(['\'', '"']);
        // A block of text starts on the next line.
        let text = if matches!(text, "|-" | "|" | ">-" | ">") {
            lines.get(at + 1).copied().unwrap_or_default()
        } else {
            text
        };
        Some(text.to_owned())
    };
    let begins = |line: &&&str| class_and_message(line).is_some();
    if let Some(message) = value("error").or_else(|| value("message")) {
        found.class = value("name").or_else(|| value("code")).unwrap_or_else(|| "failed".to_owned());
        found.stated = message;
    } else if let Some((class, message)) = lines.iter().find(begins).and_then(|line| class_and_message(line))
    {
        (found.class, found.stated) = (class, message);
    }
    let mut stack = lines.iter().filter_map(|line| line.strip_prefix("at "));
    let own =
        stack.find(|place| !is_foreign(place) && path_in(place).contains('.')).map(|own| (*own).to_owned());
    let own = own.or_else(|| value("location")).unwrap_or_default();
    found.frame = base_name(path_in(&own)).to_owned();
}
