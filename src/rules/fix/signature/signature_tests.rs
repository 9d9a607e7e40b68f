//! Tests of signatures: the output of each test framework, twice for the same failure, and once for another one.

use super::*;

/// The same failure as printed in two runs: other times, addresses, process ids, ports, paths, line numbers.
struct Case {
    kind: TestFramework,
    one: &'static str,
    again: &'static str,
    /// A part of `one`, and its replacement in another failure.
    other: (&'static str, &'static str),
    counts: (u32, u32),
    tests: &'static [&'static str],
    class_and_frame: (&'static str, &'static str),
}

const CASES: [Case; 9] = [
    Case {
        kind: TestFramework::Pytest,
        one: "============================= test session starts ==============================\ncollected 3 items\n\ntests/test_a.py F..\n\n    def test_add(tmp_path):\n>       assert add(2, 3) == 5, str(tmp_path)\nE       AssertionError: /tmp/pytest-of-ada/pytest-1/x0 at 0x7f01\nE       assert -1 == 5\n\ntests/test_a.py:11: AssertionError\n=========================== short test summary info ============================\nFAILED tests/test_a.py::test_add - AssertionError: /tmp/pytest-of-ada/pytest-1...\n========================= 1 failed, 2 passed in 0.05s ==========================",
        again: "============================= test session starts ==============================\ncollected 3 items\n\ntests/test_a.py F..\n\n    def test_add(tmp_path):\n>       assert add(2, 3) == 5, str(tmp_path)\nE       AssertionError: /tmp/pytest-of-ada/pytest-77/x0 at 0x55aa\nE       assert -1 == 5\n\ntests/test_a.py:19: AssertionError\n=========================== short test summary info ============================\nFAILED tests/test_a.py::test_add - AssertionError: /tmp/pytest-of-ada/pytest-7...\n========================= 1 failed, 2 passed in 12.40s =========================",
        other: ("::test_add", "::test_sub"),
        counts: (2, 1),
        tests: &["tests/test_a.py::test_add"],
        class_and_frame: ("AssertionError", "tests/test_a.py"),
    },
    Case {
        kind: TestFramework::Unittest,
        one: ".E\n======================================================================\nERROR: test_open (test_a.Files.test_open)\n----------------------------------------------------------------------\nTraceback (most recent call last):\n  File \"/home/a/app/test_a.py\", line 9, in test_open\n    load(self.path)\n  File \"/home/a/app/app.py\", line 4, in load\n    return open(path)\n  File \"/usr/lib/python3.11/io.py\", line 1, in open\n    x()\nFileNotFoundError: [Errno 2] No such file: '/tmp/x81/a.txt'\n\n----------------------------------------------------------------------\nRan 2 tests in 0.003s\n\nFAILED (errors=1)",
        again: ".E\n======================================================================\nERROR: test_open (test_a.Files.test_open)\n----------------------------------------------------------------------\nTraceback (most recent call last):\n  File \"/home/b/app/test_a.py\", line 12, in test_open\n    load(self.path)\n  File \"/home/b/app/app.py\", line 40, in load\n    return open(path)\n  File \"/usr/lib/python3.11/io.py\", line 1, in open\n    x()\nFileNotFoundError: [Errno 2] No such file: '/tmp/y9/a.txt'\n\n----------------------------------------------------------------------\nRan 2 tests in 1.250s\n\nFAILED (errors=1)",
        other: ("in load", "in store"),
        counts: (1, 1),
        tests: &["test_open (test_a.Files.test_open)"],
        class_and_frame: ("FileNotFoundError", "app.py load"),
    },
    Case {
        kind: TestFramework::Cargo,
        one: "   Compiling app v0.1.0 (/home/a/app)\n    Finished `test` profile [unoptimized] target(s) in 0.81s\n     Running unittests src/lib.rs (target/debug/deps/app-1a2b3c4d5e6f7788)\n\nrunning 2 tests\ntest tests::stands ... ok\ntest tests::adds ... FAILED\n\n---- tests::adds stdout ----\n\nthread 'tests::adds' (4711) panicked at src/lib.rs:9:9:\nassertion `left == right` failed: after 12ms\n  left: -1\n right: 5\nnote: run with `RUST_BACKTRACE=1`\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        again: "   Compiling app v0.1.0 (/home/b/app)\n    Finished `test` profile [unoptimized] target(s) in 9.10s\n     Running unittests src/lib.rs (target/debug/deps/app-99f00aa1b2c3d4e5)\n\nrunning 2 tests\ntest tests::adds ... FAILED\ntest tests::stands ... ok\n\n---- tests::adds stdout ----\n\nthread 'tests::adds' (12) panicked at src/lib.rs:31:5:\nassertion `left == right` failed: after 7ms\n  left: -1\n right: 5\nnote: run with `RUST_BACKTRACE=1`\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s",
        other: ("panicked at src/lib.rs", "panicked at src/deep.rs"),
        counts: (1, 1),
        tests: &["tests::adds"],
        class_and_frame: ("panic", "src/lib.rs"),
    },
    Case {
        kind: TestFramework::Go,
        one: "--- FAIL: TestAdd (0.00s)\n    calc_test.go:7: dial tcp 127.0.0.1:40123: refused\nFAIL\nFAIL\tcalc\t0.003s\nok  \tcalc/sub\t0.010s",
        again: "--- FAIL: TestAdd (1.20s)\n    calc_test.go:19: dial tcp 127.0.0.1:51999: refused\nFAIL\nFAIL\tcalc\t1.231s\nok  \tcalc/sub\t(cached)",
        other: ("refused", "reset"),
        counts: (1, 1),
        tests: &["TestAdd"],
        class_and_frame: ("failed", "calc_test.go"),
    },
    Case {
        kind: TestFramework::Go,
        one: "--- FAIL: TestDeep (0.00s)\npanic: nil map [recovered]\n\tpanic: nil map\n\ngoroutine 7 [running]:\ntesting.tRunner.func1.2({0x4f2, 0x5a})\n\t/usr/local/go/src/testing/testing.go:1545 +0x238\ncalc.Deep(...)\n\t/home/a/calc/calc.go:5\nFAIL\tcalc\t0.004s",
        again: "--- FAIL: TestDeep (0.09s)\npanic: nil map [recovered]\n\tpanic: nil map\n\ngoroutine 19 [running]:\ntesting.tRunner.func1.2({0x1, 0x2})\n\t/usr/local/go/src/testing/testing.go:1545 +0x238\ncalc.Deep(...)\n\t/home/b/calc/calc.go:88\nFAIL\tcalc\t0.104s",
        other: ("calc.go:5", "deep.go:5"),
        counts: (0, 1),
        tests: &["TestDeep"],
        class_and_frame: ("panic", "calc.go"),
    },
    Case {
        kind: TestFramework::Jest,
        one: "FAIL src/sum.test.js\n  ● sums > adds\n\n    expect(received).toBe(expected)\n\n    Expected: 5\n    Received: -1\n\n      at Object.toBe (node_modules/expect/build/index.js:1:1)\n      at Object.<anonymous> (src/sum.test.js:4:21)\n\nTests:       1 failed, 3 passed, 4 total\nTime:        0.512 s",
        again: "FAIL src/sum.test.js\n  ● sums > adds\n\n    expect(received).toBe(expected)\n\n    Expected: 5\n    Received: -1\n\n      at Object.toBe (node_modules/expect/build/index.js:1:1)\n      at Object.<anonymous> (src/sum.test.js:44:3)\n\nTests:       1 failed, 3 passed, 4 total\nTime:        2.9 s",
        other: ("sums > adds", "sums > takes away"),
        counts: (3, 1),
        tests: &["sums > adds"],
        class_and_frame: ("failed", "src/sum.test.js"),
    },
    Case {
        kind: TestFramework::Jest,
        one: " ❯ src/sum.test.ts (2 tests | 1 failed) 5ms\n\n FAIL  src/sum.test.ts > adds\nAssertionError: expected -1 to be 5 // Object.is equality\n ❯ src/sum.test.ts:5:22\n\n Test Files  1 failed (1)\n      Tests  1 failed | 1 passed (2)\n   Duration  250ms",
        again: " ❯ src/sum.test.ts (2 tests | 1 failed) 51ms\n\n FAIL  src/sum.test.ts > adds\nAssertionError: expected -1 to be 5 // Object.is equality\n ❯ src/sum.test.ts:9:1\n\n Test Files  1 failed (1)\n      Tests  1 failed | 1 passed (2)\n   Duration  1.25s",
        other: ("AssertionError", "TypeError"),
        counts: (1, 1),
        tests: &["src/sum.test.ts > adds"],
        class_and_frame: ("AssertionError", "src/sum.test.ts"),
    },
    Case {
        kind: TestFramework::Tap,
        one: "TAP version 13\nok 1 - stands\nnot ok 2 - adds\n  ---\n  duration_ms: 0.81\n  location: '/home/a/calc.test.js:4:1'\n  error: 'Expected 5, got -1 (pid 4711)'\n  code: 'ERR_ASSERTION'\n  name: 'AssertionError'\n  stack: |-\n    TestContext.<anonymous> (/home/a/calc.test.js:4:30)\n  ...\n1..2",
        again: "TAP version 13\nok 1 - stands\nnot ok 2 - adds\n  ---\n  duration_ms: 11.2\n  location: '/home/b/calc.test.js:40:1'\n  error: 'Expected 5, got -1 (pid 9)'\n  code: 'ERR_ASSERTION'\n  name: 'AssertionError'\n  stack: |-\n    TestContext.<anonymous> (/home/b/calc.test.js:40:30)\n  ...\n1..2",
        other: ("Expected 5", "Wanted 5"),
        counts: (1, 1),
        tests: &["adds"],
        class_and_frame: ("AssertionError", "calc.test.js"),
    },
    Case {
        kind: TestFramework::Generic,
        one: "building in /tmp/build.8a1\napp.c:12: error: 'x' undeclared (build 2026-11-21)\nmake: *** [Makefile:3: all] Error 1",
        again: "building in /tmp/build.zz\napp.c:90: error: 'x' undeclared (build 2027-01-02)\nmake: *** [Makefile:9: all] Error 2",
        other: ("Makefile:3: all", "Makefile:3: most"),
        counts: (0, 0),
        tests: &[],
        class_and_frame: ("exit code 1", "app.c"),
    },
];

fn of(text: &str) -> TestReport {
    read(text, Some("exit code 1"), "/home/a/app")
}

#[test]
fn two_runs_of_one_failure_have_one_signature_and_another_failure_has_another() {
    for case in &CASES {
        let report = of(case.one);
        assert_eq!(report.kind, case.kind, "{report:?}");
        let counts = (report.good.unwrap_or(0), report.bad.unwrap_or(0));
        assert_eq!(counts, case.counts, "{report:?}");
        assert_eq!(report.tests, case.tests, "{report:?}");
        assert_eq!((report.class.as_str(), report.frame.as_str()), case.class_and_frame, "{report:?}");
        assert!(!report.passed && !report.empty, "{report:?}");
        assert_eq!(report.signature(), of(case.again).signature(), "{report:?}\n{:?}", of(case.again));
        assert!(case.one.contains(case.other.0), "{}", case.other.0);
        let other = case.one.replace(case.other.0, case.other.1);
        assert_ne!(report.signature(), of(&other).signature(), "{report:?}\n{:?}", of(&other));
    }
}

#[test]
fn a_compiler_error_before_any_test_is_the_failure() {
    let rust = "   Compiling app v0.1.0\nerror[E0308]: mismatched types\n --> src/lib.rs:2:5\nerror: could not compile `app`";
    let report = of(rust);
    assert_eq!((report.class.as_str(), report.frame.as_str()), ("error[E0308]", "src/lib.rs"), "{report:?}");
    assert_eq!(report.signature(), of(&rust.replace(":2:5", ":9:1")).signature());
    let go = "# calc [calc.test]\n./calc.go:3:2: undefined: x\nFAIL\tcalc [build failed]";
    let report = of(go);
    assert_eq!((report.class.as_str(), report.frame.as_str()), ("build failed", "calc.go"), "{report:?}");
    assert_eq!(report.failures(), None, "worse than any number of failing tests");
}

#[test]
fn a_run_without_tests_never_passes() {
    for text in [
        "============================= test session starts ====\ncollected 0 items\n\n============================ no tests ran in 0.01s =====",
        "----------------------------------------------------------------------\nRan 0 tests in 0.000s\n\nOK",
        "     Running unittests src/lib.rs\n\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        "?   \tcalc\t[no test files]",
        "testing: warning: no tests to run\nPASS\nok  \tcalc\t0.001s [no tests to run]",
        "No tests found, exiting with code 0",
        "TAP version 13\n1..0",
        "ℹ tests 0\nℹ pass 0\nℹ fail 0",
        "3 skipped in 0.01s",
    ] {
        let report = read(text, None, "/x");
        assert!(report.empty && !report.passed, "{text}: {report:?}");
        assert_eq!(report.words(), "no test was collected");
        assert!(report.signature().is_some());
    }
}

#[test]
fn a_pass_needs_the_exit_code_and_the_counts() {
    let good = "3 passed in 0.1s";
    assert!(read(good, None, "/x").passed);
    assert!(!read(good, Some("exit code 1"), "/x").passed, "the exit code was a failure");
    assert!(!read("1 failed, 3 passed in 0.1s", None, "/x").passed, "a wrapper that hides the code");
    assert!(read("", None, "/x").passed, "a program without output that succeeds");
    let hung = read("", Some("it was still running after 1s"), "/x");
    assert!(!hung.passed && hung.words().contains("still running"), "{}", hung.words());
}

proptest::proptest! {
    #[test]
    fn no_output_panics(text in "(.|\n|\t){0,400}", root in ".{0,20}") {
        for ended in [None, Some("exit code 1")] {
            let report = read(&text, ended, &root);
            proptest::prop_assert!(report.passed == report.signature().is_none());
        }
    }

    #[test]
    fn no_line_of_a_runner_panics(lines in proptest::collection::vec(0_usize..200, 0..12)) {
        let all: Vec<&str> = CASES.iter().flat_map(|case| case.one.lines()).collect();
        let text: Vec<&str> = lines.iter().map(|at| all[at % all.len()]).collect();
        drop(of(&text.join("\n")).words());
    }
}
