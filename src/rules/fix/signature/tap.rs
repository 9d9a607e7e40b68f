//! Pure. Parses TAP, and the output of node's own test runner: TAP, or its own human-readable format.

use super::{TestReport, after_any, base_name, class_and_message, is_foreign, path_in, starts_with_any};

pub(super) fn read(lines: &[&str]) -> Option<TestReport> {
    let trimmed: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    let mut found = tally(&trimmed).or_else(|| results(lines, &trimmed))?;
    for line in &trimmed {
        let name = match line.strip_prefix("not ok ") {
            Some(rest) if rest.to_ascii_lowercase().contains("# todo") => None,
            Some(rest) => {
                Some(rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(" -").trim())
            }
            None => line.strip_prefix("✖ ").filter(|name| *name != "failing tests:"),
        };
        // The time after a name does not belong to it.
        let timed = name.and_then(|name| name.rsplit_once(" (")).filter(|(_, rest)| rest.ends_with("ms)"));
        found.tests.extend(timed.map(|(name, _)| name).or(name).map(str::to_owned));
    }
    read_error(&trimmed, &mut found);
    Some(found)
}

/// The counts in the summary of node's runner, if there is one.
fn tally(lines: &[&str]) -> Option<TestReport> {
    let count = |word: &str| {
        let of = |line: &&str| after_any(line, &["# ", "ℹ "])?.strip_prefix(word)?.trim().parse::<u32>().ok();
        lines.iter().filter_map(of).next_back()
    };
    let [cancelled, skipped, todo] = ["cancelled ", "skipped ", "todo "].map(|word| count(word).unwrap_or(0));
    Some(TestReport::counted(
        count("pass ")?,
        count("fail ")?.saturating_add(cancelled),
        skipped.saturating_add(todo),
    ))
}

/// Counts the results of TAP; those of nested tests are indented and do not count.
fn results(lines: &[&str], trimmed: &[&str]) -> Option<TestReport> {
    let is_plan = |line: &&str| {
        let rest = line.strip_prefix("1..");
        line.starts_with("TAP version ")
            || rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_result = |line: &str| starts_with_any(line, &["ok ", "not ok "]);
    trimmed.iter().find(|line| is_plan(line))?;
    trimmed.iter().find(|line| is_result(line) || line.starts_with("1..0"))?;
    let (mut good, mut bad, mut skipped) = (0, 0, 0);
    for line in lines.iter().filter(|line| is_result(line)) {
        let lower = line.to_ascii_lowercase();
        match (line.starts_with("ok "), lower.contains("# skip"), lower.contains("# todo")) {
            (_, true, _) => skipped += 1,
            (_, _, true) | (true, ..) => good += 1,
            (false, ..) => bad += 1,
        }
    }
    Some(TestReport::counted(good, bad, skipped))
}

/// Reads the first error of a YAML block, or of a stack trace.
fn read_error(lines: &[&str], found: &mut TestReport) {
    let value = |key: &str| {
        let mut below = lines.iter().skip_while(|line| !line.starts_with(key));
        let text = below.next()?.strip_prefix(key)?.trim_matches(['\'', '"']);
        // A block of text starts on the next line.
        let is_block = matches!(text, "|-" | "|" | ">-" | ">");
        Some(if is_block { below.next().copied().unwrap_or_default() } else { text }.to_owned())
    };
    let begins = |line: &&&str| class_and_message(line).is_some();
    if let Some(message) = value("error: ").or_else(|| value("message: ")) {
        found.class = value("name: ").or_else(|| value("code: ")).unwrap_or_else(|| "failed".to_owned());
        found.stated = message;
    } else if let Some((class, message)) = lines.iter().find(begins).and_then(|line| class_and_message(line))
    {
        (found.class, found.stated) = (class, message);
    }
    let mut stack = lines.iter().filter_map(|line| line.strip_prefix("at "));
    let own =
        stack.find(|place| !is_foreign(place) && path_in(place).contains('.')).map(|own| (*own).to_owned());
    let own = own.or_else(|| value("location: ")).unwrap_or_default();
    found.frame = base_name(path_in(&own)).to_owned();
}
