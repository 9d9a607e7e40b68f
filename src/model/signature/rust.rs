//! Pure. Parses the output of cargo test, of the compiler before it, and of nextest if it prints the same lines.

use super::{ParsedOutput, is_foreign};

pub(super) fn read(lines: &[&str]) -> Option<ParsedOutput> {
    let results: Vec<&&str> = lines.iter().filter(|line| line.starts_with("test result: ")).collect();
    let compiler = lines.iter().position(|line| is_compiler_error(line));
    let is_cargo = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("Compiling ")
            || line.starts_with("Running ")
            || line.starts_with("error: could not compile")
            || line.starts_with("Finished `")
            || line.starts_with("Doc-tests ")
            || line.starts_with("error[E")
    };
    if results.is_empty() && !lines.iter().any(is_cargo) {
        return None;
    }
    let mut found = ParsedOutput::default();
    if results.is_empty() {
        // No test ran: the compiler's first error is the failure.
        let at = compiler?;
        let (class, message) = lines[at].split_once(": ").unwrap_or((lines[at], ""));
        (found.class, found.message) = (class.to_owned(), message.to_owned());
        let place = lines[at..].iter().find_map(|line| line.trim_start().strip_prefix("--> "));
        found.frame = place.map(file_of).unwrap_or_default();
        return Some(found);
    }
    let sum = |word: &str| {
        let counts = results.iter().filter_map(|line| {
            line.split(';').find_map(|part| {
                part.trim().strip_suffix(word)?.split_whitespace().last()?.parse::<u32>().ok()
            })
        });
        counts.fold(0, u32::saturating_add)
    };
    (found.good, found.bad, found.skipped) =
        (Some(sum(" passed")), Some(sum(" failed")), Some(sum(" ignored")));
    for line in lines {
        let name = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        // With --quiet, only the heading of its output names it.
        let name = name.or_else(|| line.strip_prefix("---- ")?.strip_suffix(" stdout ----"));
        found.tests.extend(name.map(str::to_owned));
    }
    if let Some(at) =
        lines.iter().position(|line| line.starts_with("thread '") && line.contains("panicked at "))
    {
        let place = lines[at].split("panicked at ").nth(1).unwrap_or_default();
        found.class = "panic".to_owned();
        // Since Rust 1.73, the message is on the lines after the location.
        if let Some((message, place)) = place.strip_prefix('\'').and_then(|rest| rest.rsplit_once("', ")) {
            (found.message, found.frame) = (message.to_owned(), file_of(place));
        } else {
            let rest = lines[at + 1..].iter().take(3).take_while(|line| !line.starts_with("note: "));
            found.message = rest.map(|line| line.trim()).collect::<Vec<_>>().join(" ");
            let path = file_of(place.trim_end_matches(':'));
            found.frame = if is_foreign(&path) { String::new() } else { path };
        }
    } else if found.bad == Some(0)
        && let Some(at) = compiler
    {
        found.class = lines[at].to_owned();
    } else if let Some(line) = lines.iter().find(|line| line.starts_with("Error: ")) {
        (found.class, found.message) = ("Error".to_owned(), line[7..].to_owned());
    }
    Some(found)
}

fn is_compiler_error(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("error[E") || (line.starts_with("error: ") && !line.starts_with("error: test failed"))
}

/// Returns the file of `src/lib.rs:10:5`.
fn file_of(place: &str) -> String {
    place.split(':').next().unwrap_or_default().trim().to_owned()
}
