//! What the documents say and the program says are the same: variables of the environment, and texts of errors.

use std::path::{Path, PathBuf};
use std::{collections::BTreeSet, fs};

use super::{ROOT, page, rows};

/// Source files, without tests.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("_tests.rs") {
            found.push(path);
        }
    }
}

fn source() -> String {
    let mut found = Vec::new();
    sources(&Path::new(ROOT).join("src"), &mut found);
    found.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The capitals that follow each of these in a text.
fn names_after(text: &str, before: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let name = |at: usize| -> Option<String> {
        let rest = &text[at + before.len()..];
        let end = rest.find(|c| !is_part(c))?;
        (end > 1 && !rest[..end].ends_with('_') && rest[end..].starts_with('"'))
            .then(|| rest[..end].to_owned())
    };
    text.match_indices(before).filter_map(|(at, _)| name(at)).collect()
}

#[test]
fn every_variable_in_the_code_is_documented_and_the_other_way_round() {
    let code = source();
    let mut used = names_after(&code, "get(\"");
    used.extend(names_after(&code, "var_os(\""));
    used.extend(names_after(&code, "\"").into_iter().filter(|name| name.starts_with("LOOOP_")));
    let named = |(key, _): &(String, String)| key.starts_with(char::is_uppercase).then(|| key.clone());
    let page = page("docs/config.md");
    let mut documented: BTreeSet<String> = rows(&page).iter().filter_map(named).collect();
    // A row may name several; the first is found above.
    let more = page.text.lines().filter(|line| line.starts_with("| `") && line.contains("`, `"));
    for line in more {
        let cell = line.split(" | ").next().unwrap();
        let spans = cell.split('`').skip(1).step_by(2).filter(|span| span.starts_with(char::is_uppercase));
        documented.extend(spans.map(str::to_owned));
    }
    let missing: Vec<&String> = used.difference(&documented).collect();
    assert_eq!(missing, Vec::<&String>::new(), "not in docs/config.md");
    // These are read by the crate that knows where files go, and by the one that reads the clock's zone.
    let by_crates = ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "TZ"].map(str::to_owned);
    let unknown: Vec<&String> =
        documented.difference(&used).filter(|name| !by_crates.contains(name)).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "in docs/config.md, and nowhere in the code");
}

/// A text with each run of white space, and each line break of a string in the source, as one blank.
fn flat(text: &str) -> String {
    let joined = text.replace("\\\n", " ").replace("\\\"", "\"");
    joined.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_error_that_the_troubleshooting_page_quotes_is_one_of_the_program() {
    let code = flat(&source());
    let page = page("docs/troubleshooting.md");
    let mut seen = 0;
    for line in page.text.lines().filter(|line| line.starts_with("| `")) {
        let quoted = line[3..].split('`').next().unwrap();
        // `…` stands for what differs from case to case.
        let mut from = 0;
        for part in quoted.split('…').map(str::trim).filter(|part| part.len() > 2) {
            let found = code.contains(part);
            assert!(
                found,
                "docs/troubleshooting.md quotes {part:?} of {quoted:?}, which the source does not have"
            );
            from += part.len();
        }
        assert!(from > 7, "{quoted:?} says too little to be found");
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} errors");
}
