//! Pure. Parses the output of go test.

use super::ParsedOutput;

/// Parses the output, with or without `-v`.
pub(super) fn read(lines: &[&str]) -> Option<ParsedOutput> {
    let is_its = |line: &&str| {
        line.starts_with("ok  \t")
            || line.starts_with("FAIL\t")
            || line.starts_with("?   \t")
            || line.starts_with("--- FAIL: ")
            || line.starts_with("=== RUN ")
            || line.starts_with("\t") && line.contains("[no test files]")
            || line.starts_with("testing: warning: no tests to run")
            || line.starts_with("no Go files in")
            || line.starts_with("go: ")
    };
    lines.iter().find(|line| is_its(line))?;
    let mut found = ParsedOutput::default();
    let count = |mark: &str| {
        u32::try_from(lines.iter().filter(|line| line.starts_with(mark)).count()).unwrap_or(u32::MAX)
    };
    let packages =
        lines.iter().filter(|line| line.starts_with("ok  \t") && !line.contains("[no tests to run]")).count();
    let (verbose, failed) = (count("--- PASS: "), count("--- FAIL: "));
    let broken = lines.iter().find(|line| line.starts_with("FAIL\t") && line.contains("failed]"));
    // Without -v, passing tests are not named, but each package that passes contains at least one.
    found.good = Some(verbose.max(u32::try_from(packages).unwrap_or(u32::MAX)));
    found.bad = Some(failed);
    found.skipped = Some(count("--- SKIP: "));
    for line in lines {
        let Some(rest) = line.trim_start().strip_prefix("--- FAIL: ") else { continue };
        found.tests.push(rest.split(" (").next().unwrap_or(rest).to_owned());
    }
    if let Some(at) = lines.iter().position(|line| line.starts_with("panic: ")) {
        let message = lines[at][7..].split(" [recovered]").next().unwrap_or_default();
        (found.class, found.message) = ("panic".to_owned(), message.to_owned());
        let frames = lines[at..]
            .iter()
            .filter_map(|line| line.strip_prefix('\t')?.split_once(".go:").map(|(path, _)| path));
        let own = frames.map(|path| format!("{path}.go")).find(|path| {
            !path.starts_with("/usr/")
                && !path.contains("/src/runtime/")
                && !path.contains("/src/testing/")
                && !path.contains("/pkg/mod/")
        });
        found.frame = own.map(|path| path.rsplit('/').next().unwrap_or(&path).to_owned()).unwrap_or_default();
        found.bad = Some(failed.max(1));
    } else if broken.is_some() || (failed == 0 && lines.iter().any(|line| line.starts_with("# "))) {
        found.class = "build failed".to_owned();
        (found.good, found.bad) = (None, None);
        if let Some((place, message)) = lines.iter().find_map(|line| place_of(line)) {
            (found.frame, found.message) = (place, message);
        }
    } else if let Some(at) = lines.iter().position(|line| line.starts_with("--- FAIL: ")) {
        found.class = "failed".to_owned();
        let own = lines[at + 1..].iter().take_while(|line| line.starts_with(' ') || line.starts_with('\t'));
        if let Some((place, message)) = own.into_iter().find_map(|line| place_of(line)) {
            (found.frame, found.message) = (place, message);
        }
    } else if let Some(line) =
        lines.iter().find(|line| line.starts_with("go: ") && !line.starts_with("go: downloading"))
    {
        (found.class, found.message) = ("go".to_owned(), line[4..].to_owned());
    }
    Some(found)
}

/// Splits `    x_test.go:10: message` and `./x.go:5:2: message` into file and message.
fn place_of(line: &str) -> Option<(String, String)> {
    let (path, rest) = line.trim_start().split_once(".go:")?;
    if path.contains(' ') {
        return None;
    }
    let message = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
    Some((format!("{}.go", path.trim_start_matches("./")), message.trim().to_owned()))
}
