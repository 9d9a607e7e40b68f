//! Pure. Parses the output of go test.

use super::{TestReport, base_name, starts_with_any};

/// Parses the output, with or without `-v`.
pub(super) fn read(lines: &[&str]) -> Option<TestReport> {
    const MARKS: [&str; 8] = [
        "ok  \t",
        "FAIL\t",
        "?   \t",
        "--- FAIL: ",
        "=== RUN ",
        "testing: warning: no tests to run",
        "no Go files in",
        "go: ",
    ];
    let is_its = |line: &&str| {
        starts_with_any(line, &MARKS) || line.starts_with('\t') && line.contains("[no test files]")
    };
    lines.iter().find(|line| is_its(line))?;
    let counts = ["ok  \t", "--- PASS: ", "--- FAIL: ", "--- SKIP: "].map(|mark| {
        let counted = |line: &&&str| line.starts_with(mark) && !line.contains("[no tests to run]");
        u32::try_from(lines.iter().filter(counted).count()).unwrap_or(u32::MAX)
    });
    let [packages, passed, failed, skipped] = counts;
    let broken = lines.iter().find(|line| line.starts_with("FAIL\t") && line.contains("failed]"));
    // Without -v, passing tests are not named, but each package that passes contains at least one.
    let mut found = TestReport::counted(passed.max(packages), failed, skipped);
    let failing =
        lines.iter().filter_map(|line| line.trim_start().strip_prefix("--- FAIL: ")?.split(" (").next());
    found.tests = failing.map(str::to_owned).collect();
    if let Some(at) = lines.iter().position(|line| line.starts_with("panic: ")) {
        let message = lines[at][7..].split(" [recovered]").next().unwrap_or_default();
        (found.class, found.stated) = ("panic".to_owned(), message.to_owned());
        let mut frames = lines[at..]
            .iter()
            .filter_map(|line| line.strip_prefix('\t')?.split_once(".go:").map(|(path, _)| path));
        let is_foreign = |path: &str| {
            let parts = ["/src/runtime/", "/src/testing/", "/pkg/mod/"];
            path.starts_with("/usr/") || parts.iter().any(|part| path.contains(part))
        };
        let own = frames.find(|path| !is_foreign(path));
        found.frame = own.map(|path| format!("{}.go", base_name(path))).unwrap_or_default();
        found.bad = Some(failed.max(1));
    } else if broken.is_some() || (failed == 0 && lines.iter().any(|line| line.starts_with("# "))) {
        found.class = "build failed".to_owned();
        (found.good, found.bad) = (None, None);
        if let Some((place, message)) = lines.iter().find_map(|line| place_of(line)) {
            (found.frame, found.stated) = (place, message);
        }
    } else if let Some(at) = lines.iter().position(|line| line.starts_with("--- FAIL: ")) {
        found.class = "failed".to_owned();
        let own = lines[at + 1..].iter().take_while(|line| line.starts_with(' ') || line.starts_with('\t'));
        if let Some((place, message)) = own.into_iter().find_map(|line| place_of(line)) {
            (found.frame, found.stated) = (place, message);
        }
    } else if let Some(line) =
        lines.iter().find(|line| line.starts_with("go: ") && !line.starts_with("go: downloading"))
    {
        (found.class, found.stated) = ("go".to_owned(), line[4..].to_owned());
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
