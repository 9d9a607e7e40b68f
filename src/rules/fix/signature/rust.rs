//! Pure. Parses the output of cargo test, of the compiler before it, and of nextest if it prints the same lines.

use super::{TestReport, is_foreign, path_in, starts_with_any};

/// How lines of cargo start.
const MARKS: [&str; 6] =
    ["Compiling ", "Running ", "error: could not compile", "Finished `", "Doc-tests ", "error[E"];

pub(super) fn read(lines: &[&str]) -> Option<TestReport> {
    let results: Vec<&&str> = lines.iter().filter(|line| line.starts_with("test result: ")).collect();
    let compiler = lines.iter().position(|line| is_compiler_error(line));
    if results.is_empty() {
        lines.iter().find(|line| starts_with_any(line.trim_start(), &MARKS))?;
        // No test ran: the compiler's first error is the failure.
        let at = compiler?;
        let (class, message) = lines[at].split_once(": ").unwrap_or((lines[at], ""));
        let place = lines[at..].iter().find_map(|line| line.trim_start().strip_prefix("--> "));
        let [class, stated, frame] = [class, message, place.map_or("", path_in)].map(str::to_owned);
        return Some(TestReport { class, stated, frame, ..TestReport::default() });
    }
    let sum = |word: &str| {
        let counts = results.iter().filter_map(|line| {
            line.split(';').find_map(|part| {
                part.trim().strip_suffix(word)?.split_whitespace().last()?.parse::<u32>().ok()
            })
        });
        counts.fold(0, u32::saturating_add)
    };
    let mut found = TestReport::counted(sum(" passed"), sum(" failed"), sum(" ignored"));
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
            (found.stated, found.frame) = (message.to_owned(), path_in(place).to_owned());
        } else {
            let rest = lines[at + 1..].iter().take(3).take_while(|line| !line.starts_with("note: "));
            found.stated = rest.map(|line| line.trim()).collect::<Vec<_>>().join(" ");
            let path = path_in(place);
            found.frame = if is_foreign(path) { String::new() } else { path.to_owned() };
        }
    } else if found.bad == Some(0)
        && let Some(at) = compiler
    {
        found.class = lines[at].to_owned();
    } else if let Some(line) = lines.iter().find(|line| line.starts_with("Error: ")) {
        (found.class, found.stated) = ("Error".to_owned(), line[7..].to_owned());
    }
    Some(found)
}

fn is_compiler_error(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("error[E") || (line.starts_with("error: ") && !line.starts_with("error: test failed"))
}
