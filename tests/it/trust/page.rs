//! The page that tells of trust names tests; each of them must be there, so that no promise points at nothing.

use std::path::{Path, PathBuf};
use std::{fs, process::Command};

use super::scene::walk;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What `cargo test` is asked for on a page: which tests, and the filter.
fn asked(text: &str) -> Vec<(String, String)> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    text.split("cargo test ")
        .skip(1)
        .filter_map(|rest| {
            let words = words(rest.split(['`', '\n']).next()?);
            match words.first()?.as_str() {
                "--lib" => Some(("--lib".to_owned(), words.get(1)?.clone())),
                "--test" => Some(("--test".to_owned(), words.get(2)?.clone())),
                _ => None,
            }
        })
        .collect()
}

#[test]
fn each_promise_names_tests_that_are_there() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/trust.md")).unwrap();
    let here = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let here = String::from_utf8(here.stdout).unwrap();
    let is_source = |path: &PathBuf| path.extension().is_some_and(|end| end == "rs");
    let lib: Vec<PathBuf> = walk(&Path::new(ROOT).join("src")).into_iter().filter(is_source).collect();
    let asked = asked(&page);
    assert!(asked.len() >= 8, "{asked:?}");
    for (which, filter) in asked {
        let found = match which.as_str() {
            "--lib" => {
                let module = format!("mod {};", filter.rsplit("::").next().unwrap());
                lib.iter().any(|path| fs::read_to_string(path).unwrap().contains(&module))
            }
            _ => here.lines().any(|line| line.ends_with(": test") && line.starts_with(&filter)),
        };
        assert!(found, "docs/trust.md: `cargo test {which} … {filter}` would try nothing");
    }
}
