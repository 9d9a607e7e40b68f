//! Pure. Protects the files that decide about an agent's work, so that the agent cannot pass by changing them.

use crate::rules::fix::Counts;

/// The files that decide about a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProtectedFiles {
    /// Prefixes of test names: of a part of a path, or of the whole path.
    pub prefixes: Vec<String>,
    /// The task's own test files.
    pub tests: Vec<String>,
    /// The exact paths that the task allows the agent to edit.
    pub allowed: Vec<String>,
    /// Arguments of the test command that may be files.
    pub words: Vec<String>,
}

/// The endings of the stems of test files, by their extensions.
const ENDS: [(&[&str], &[&str]); 3] = [
    (&["go", "rs"], &["_test"]),
    (&["py"], &["_test", "_tests"]),
    (&["js", "ts", "jsx", "tsx", "mjs", "cjs"], &[".test", ".spec"]),
];

impl ProtectedFiles {
    /// True for a file that decides and that the agent may not change.
    pub fn is_test(&self, path: &str) -> bool {
        if self.allowed.iter().any(|allowed| allowed == path) {
            return false;
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        let by_prefix = self.prefixes.iter().any(|prefix| {
            let is_dir = prefix.ends_with('/');
            path.starts_with(prefix.as_str())
                || (is_dir && path.contains(&format!("/{prefix}")))
                || (!is_dir && name.starts_with(prefix.as_str()))
        });
        by_prefix
            || self.tests.iter().any(|test| test == path)
            || self.words.iter().any(|word| word.trim_start_matches("./") == path)
            || is_collector(name)
            || has_test_ending(name)
            || path.split('/').any(|part| part == "__tests__")
    }

    /// The changed files that the agent may not change: test files of the base, and new files that decide which
    /// tests are collected. A new test is allowed: `before` are the files of the base.
    pub fn modified<'a>(&self, changed: &'a [String], before: &[String]) -> Vec<&'a str> {
        let decides = |path: &str| is_collector(path.rsplit('/').next().unwrap_or(path));
        let tests = changed.iter().filter(|path| self.is_test(path));
        tests.filter(|path| before.contains(path) || decides(path)).map(String::as_str).collect()
    }
}

/// True for a file that decides which tests are collected, in any directory.
fn is_collector(name: &str) -> bool {
    matches!(name, "conftest.py" | "pytest.ini" | "tox.ini" | ".pytest.ini")
        || ["jest.config.", "vitest.config."].iter().any(|start| name.starts_with(start))
}

fn has_test_ending(name: &str) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    let of_language = ENDS.iter().filter(|(extensions, _)| extensions.contains(&extension));
    of_language.flat_map(|(_, ends)| *ends).any(|end| stem.ends_with(end))
}

/// The files that a command runs and that may belong to the project: the command itself, the first argument of
/// an interpreter, and the input files of `make` and `just`.
pub fn scripts(argv: &[String]) -> Vec<String> {
    const INTERPRETERS: [&str; 11] =
        ["sh", "bash", "dash", "zsh", "python", "python3", "node", "ruby", "perl", "php", "bun"];
    const RECIPES: [(&str, [&str; 3]); 2] =
        [("make", ["Makefile", "makefile", "GNUmakefile"]), ("just", ["justfile", "Justfile", ".justfile"])];
    let words = words(argv);
    let mut found: Vec<String> = words.first().iter().map(|word| (**word).to_owned()).collect();
    for (at, word) in words.iter().enumerate() {
        let name = word.rsplit('/').next().unwrap_or(word);
        if INTERPRETERS.contains(&name) {
            let script = words[at + 1..].iter().find(|next| !next.starts_with('-'));
            found.extend(script.map(|script| (*script).to_owned()));
        }
        let recipes = RECIPES.iter().filter(|(program, _)| *program == name);
        found.extend(recipes.flat_map(|(_, files)| files.map(str::to_owned)));
    }
    found
}

fn words(argv: &[String]) -> Vec<&str> {
    argv.iter().flat_map(|arg| arg.split_whitespace()).collect()
}

/// True for a command that runs scripts of `package.json`.
pub fn runs_package_scripts(argv: &[String]) -> bool {
    words(argv)
        .iter()
        .any(|word| matches!(word.rsplit('/').next(), Some("npm" | "npx" | "yarn" | "pnpm" | "bun")))
}

/// True if two versions of a `package.json` run the same: a new dependency is allowed.
pub fn same_scripts(old: &[u8], new: &[u8]) -> bool {
    let of = |bytes: &[u8]| {
        let json: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        ["scripts", "jest", "mocha", "ava", "vitest"].map(|key| json[key].clone())
    };
    of(old) == of(new)
}

/// Why a passing run is worth less than the run before the work: fewer tests ran, more were skipped, or they
/// cannot be counted any more. This also covers tests inside source files, which names do not show.
pub fn shrunk(before: &Counts, after: &Counts) -> Option<String> {
    let ran = before.ran?;
    let Some(runs) = after.ran else {
        return (ran > 0).then(|| format!("{ran} tests ran before, and none can be counted now"));
    };
    if before.kind != after.kind || runs >= ran {
        return None;
    }
    Some(match after.skipped.saturating_sub(before.skipped) {
        0 => format!("{runs} tests ran, and {ran} before"),
        skipped => format!("{skipped} tests are skipped that were not before"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fix::signature::read;

    fn protected() -> ProtectedFiles {
        ProtectedFiles {
            prefixes: ["tests/", "test_", "scripts/"].map(str::to_owned).into(),
            tests: vec!["spec/a.rb".to_owned()],
            allowed: vec!["tests/helper.py".to_owned()],
            words: vec!["./check.sh".to_owned(), "-q".to_owned()],
        }
    }

    #[test]
    fn protected_files_are_recognized_by_name() {
        let protected = protected();
        for test in [
            "tests/a.py",
            "pkg/tests/a.py",
            "test_a.py",
            "a/test_b.py",
            "x/y_test.go",
            "spec/a.rb",
            "check.sh",
            "conftest.py",
            "web/vitest.config.mts",
            "src/__tests__/a.js",
            "a.spec.ts",
            "b.spec.mjs",
            "c_tests.py",
        ] {
            assert!(protected.is_test(test), "{test}");
        }
        for source in ["src/a.py", "tests/helper.py", "latest/a.py", "contest.py", "mytest_a.py"] {
            assert!(!protected.is_test(source), "{source}");
        }
    }

    #[test]
    fn a_new_test_is_allowed_and_a_new_collector_is_not() {
        let before = ["tests/a.py".to_owned()];
        let changed = ["tests/a.py", "tests/b.py", "conftest.py", "src/x.py"].map(str::to_owned);
        assert_eq!(protected().modified(&changed, &before), ["tests/a.py", "conftest.py"]);
    }

    #[test]
    fn fewer_tests_or_more_skips_are_seen() {
        let run = |line: &str| Counts::of(&read(line, None, "/x"));
        let before = run("2 failed, 3 passed in 0.1s");
        assert_eq!(shrunk(&before, &run("5 passed in 0.1s")), None);
        assert_eq!(shrunk(&before, &run("6 passed in 0.1s")), None);
        assert!(shrunk(&before, &run("3 passed in 0.1s")).is_some());
        assert!(shrunk(&before, &run("3 passed, 2 skipped in 0.1s")).is_some());
        assert_eq!(shrunk(&run("1 error in 0.1s"), &run("5 passed in 0.1s")), None);
        assert!(shrunk(&before, &run("fine")).is_some_and(|why| why.contains("5 tests ran before")));
        assert_eq!(shrunk(&run("not fine"), &run("fine")), None, "the runs were never counted");
    }

    #[test]
    fn the_scripts_of_a_command_are_found() {
        let of = |line: &str| scripts(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("./check.sh -q"), ["./check.sh"]);
        assert_eq!(of("bash -e tools/run.sh x"), ["bash", "tools/run.sh"]);
        assert!(of("sh -c make test").contains(&"Makefile".to_owned()));
        assert!(of("just test").contains(&"justfile".to_owned()) && of("pytest -q") == ["pytest"]);
        let npm = |line: &str| runs_package_scripts(&[line.to_owned()]);
        assert!(npm("CI=1 npm test") && npm("/usr/bin/yarn") && !npm("node x.js"));
        let base = br#"{"scripts":{"test":"jest"}}"#;
        assert!(same_scripts(base, br#"{"scripts":{"test":"jest"},"dependencies":{"x":"1"}}"#));
        for other in
            [&br#"{"scripts":{"test":"true"}}"#[..], b"{}", b"", br#"{"scripts":{"test":"jest"},"jest":{}}"#]
        {
            assert!(!same_scripts(base, other));
        }
    }
}
