//! Five leanfiles over real test runners, each with an agent that makes it on call k, for k = 1 to the last.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::adder::{FIXED, LIB};
use super::fixture::{Fixture, of};
use crate::support::pi::skipped;

struct Toolchain {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    tests: &'static str,
    task: &'static str,
    /// What makes the tests pass, and what does not.
    good: &'static str,
    /// How many attempts there may be.
    most: u32,
    /// A failing test, as the ledger has it.
    test: &'static str,
}

/// Each agent that is not there yet edits something else in another way, so that it is not stopped before.
fn check(tool: &Toolchain) {
    check_in(None, tool);
}

/// The same with the programs of this folder first.
fn check_in(dir: Option<&Path>, tool: &Toolchain) {
    for k in 1..=tool.most {
        let mut fixture = Fixture::new(tool.files);
        if let Some(dir) = dir {
            let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dir.display());
            fixture.profile.var("PATH", &path);
            fixture.profile.config_more(serde_json::json!({ "path": path }));
        }
        let keep = format!(
            "max_iters_per_task = {}\nsummarize_errors = false\n[[tasks]]\nname = \"t\"\nprompt = \"p\"\n{}",
            tool.most, tool.task
        );
        fixture.leanfile(tool.tests, &keep);
        let good = tool.good;
        fixture.agent(&format!("if [ $n = {k} ]; then {good}; else echo \"note $n\" >notes$n.md; fi"));
        let ran = fixture.fix(&[]);
        assert_eq!((ran.code, fixture.calls()), (0, k as usize), "{} {k}: {ran:?}", tool.name);
        let lines = fixture.ledger("t");
        let begin = of(&lines, "begin")[0];
        assert_eq!(begin["failures"], 1, "{}: {begin}", tool.name);
        for attempt in of(&lines, "attempt").iter().take(k as usize - 1) {
            // Two runs of one failure have one signature, and it names the test.
            assert_eq!(attempt["signature"], begin["signature"], "{} {k}: {attempt}", tool.name);
            assert!(attempt["failure"].as_str().unwrap().contains(tool.test), "{} {k}: {attempt}", tool.name);
        }
        assert!(["target", "__pycache__"].iter().all(|name| !fixture.project().join(name).exists()));
    }
}

fn has(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}

#[test]
#[ignore = "needs toolchains"]
fn pytest() {
    // Debian's python, whatever stands first on the caller's PATH.
    if !has("/usr/bin/python3", &["-m", "pytest", "--version"]) {
        return skipped("no pytest");
    }
    check(&Toolchain {
        name: "pytest",
        files: &[
            ("calc.py", "def add(a, b):\n    return a - b\n\n\ndef one():\n    return 1\n"),
            (
                "tests/test_calc.py",
                "import sys, time\nsys.path.insert(0, '.')\nfrom calc import add, one\n\n\ndef test_add(tmp_path):\n    print(tmp_path, time.time())\n    assert add(2, 3) == 5, str(tmp_path)\n\n\ndef test_one():\n    assert one() == 1\n",
            ),
        ],
        tests: "command = \"/usr/bin/python3\"\nargs = [\"-m\", \"pytest\", \"-q\", \"-p\", \"no:cacheprovider\"]",
        task: "files = [\"calc.py\"]\ntest_files = [\"tests/test_calc.py\"]\n",
        good: "sed -i 's/a - b/a + b/' calc.py",
        most: 3,
        test: "test_calc.py::test_add",
    });
}

#[test]
#[ignore = "needs toolchains"]
fn go_test() {
    if !has("go", &["version"]) {
        return skipped("no go");
    }
    check(&Toolchain {
        name: "go",
        files: &[
            ("go.mod", "module calc\n\ngo 1.19\n"),
            ("calc.go", "package calc\n\nfunc Add(a, b int) int { return a - b }\n"),
            (
                "calc_test.go",
                "package calc\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tif got := Add(2, 3); got != 5 {\n\t\tt.Errorf(\"Add(2, 3) = %d\", got)\n\t}\n}\n",
            ),
        ],
        tests: "command = \"go\"\nargs = [\"test\", \"-vet=off\"]\nenv = { GOFLAGS = \"-mod=mod\", GOPROXY = \"off\", CGO_ENABLED = \"0\" }",
        task: "files = [\"*.go\"]\ntest_files = [\"calc_test.go\"]\n",
        good: "sed -i 's/a - b/a + b/' calc.go",
        most: 2,
        test: "TestAdd",
    });
}

#[test]
#[ignore = "needs toolchains"]
fn cargo_test() {
    // The toolchain itself, and not a proxy that looks for one in the home.
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from(env!("CARGO")), PathBuf::from);
    let real = fs::canonicalize(&cargo).unwrap();
    let tool = Toolchain {
        name: "cargo",
        files: &[
            (
                "Cargo.toml",
                "[package]\nname = \"calc\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[profile.test]\ndebug = 0\n",
            ),
            ("Cargo.lock", "version = 3\n\n[[package]]\nname = \"calc\"\nversion = \"0.1.0\"\n"),
            (".gitignore", "target\n"),
            (
                "src/lib.rs",
                "pub fn add(a: i32, b: i32) -> i32 {\n    a - b\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn adds() {\n        assert_eq!(super::add(2, 3), 5);\n    }\n\n    #[test]\n    fn stands() {}\n}\n",
            ),
        ],
        tests: "command = \"cargo\"\nargs = [\"test\", \"--offline\", \"--lib\", \"--quiet\"]",
        task: "files = [\"src/lib.rs\"]\n",
        good: "sed -i 's/a - b/a + b/' src/lib.rs",
        most: 2,
        test: "1 of 2 fail: tests::adds",
    };
    check_in(real.parent(), &tool);
}

#[test]
#[ignore = "needs toolchains"]
fn node_test() {
    if !has("node", &["--test", "--help"]) {
        return skipped("no node with a test runner");
    }
    check(&Toolchain {
        name: "node",
        files: &[
            ("calc.js", "exports.add = (a, b) => a - b;\n"),
            (
                "calc.test.js",
                "const test = require('node:test');\nconst assert = require('node:assert');\nconst { add } = require('./calc.js');\ntest('it adds', () => { assert.strictEqual(add(2, 3), 5); });\ntest('it stands', () => {});\n",
            ),
        ],
        tests: "command = \"node\"\nargs = [\"--test\"]",
        task: "files = [\"calc.js\"]\n",
        good: "sed -i 's/a - b/a + b/' calc.js",
        most: 3,
        test: "it adds",
    });
}

#[test]
#[ignore = "slow"]
fn a_shell() {
    check(&Toolchain {
        name: "shell",
        files: &[
            ("lib.sh", LIB),
            (
                "check.sh",
                ". ./lib.sh\necho 1..1\nif [ $(add 2 3) = 5 ]; then echo ok 1 - adds; else echo \"# took $(date +%s%N) ns as $$\"; echo not ok 1 - adds; exit 1; fi\n",
            ),
        ],
        tests: "command = \"sh check.sh\"\nshell = true",
        task: "files = [\"lib.sh\"]\n",
        good: FIXED,
        most: 5,
        test: "adds",
    });
}
