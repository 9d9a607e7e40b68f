//! The whole path: a leanfile in, attempts in a clone, and the state that passed in the project's files.

use std::fs;
use std::io::Write;

use super::adder::{self, CHECK, FIXED, FIXED_LIB, LIB, TESTS};
use super::fixture::Fixture;
use crate::support::profile::git_in;

/// Its goal is `add-adds`.
const TASK: &str =
    "[[tasks]]\nname = \"add adds\"\nprompt = \"add must ADD-ITS-TWO-ARGUMENTS\"\nfiles = [\"lib.sh\"]\n";

fn fixture() -> Fixture {
    adder::fixture(TASK)
}

#[test]
fn what_passed_is_in_the_files_uncommitted_and_every_attempt_is_kept() {
    let fixture = fixture();
    // Dirty and staged work of the user, which the agent sees and nobody changes.
    fixture.write("mine.txt", "unsaved thoughts\n");
    fixture.write("staged.txt", "staged\n");
    git_in(&fixture.project(), &["add", "staged.txt"]);
    let index = fs::read(fixture.project().join(".git/index")).unwrap();
    fixture.agent(&format!(
        "[ -f mine.txt ] || exit 9\nif [ $n = 1 ]; then echo '# no' >>lib.sh; else {FIXED}; fi"
    ));
    fixture.fix(&[]).ok().prints(&["1 file of yours was changed, uncommitted: lib.sh"]);
    assert_eq!(fixture.read("lib.sh"), format!("{FIXED_LIB}# no\n"));
    let status = git_in(&fixture.project(), &["status", "--short"]);
    assert_eq!(status, " M lib.sh\nA  staged.txt\n?? mine.txt\n");
    assert_eq!(fs::read(fixture.project().join(".git/index")).unwrap(), index);
    assert_eq!(fixture.attempted("add-adds", "outcome"), ["failed", "passed"]);
    let attempts = fixture.attempts("add-adds");
    assert_eq!(attempts[1]["hypothesis"], "The check expected another value of the sum");
    assert_eq!(attempts[1]["files"], serde_json::json!(["lib.sh"]));
    let diff = fixture.profile.looop(&["attempt", "diff", "add-adds", "1", "2"]).ok();
    diff.prints(&["-add() { echo $(($1 - $2)); }", "+add() { echo $(($1 + $2)); }"]);
    // The task is in every prompt, with the file, the failure and what was tried.
    for n in [1, 2] {
        fixture.asked(n, &["ADD-ITS-TWO-ARGUMENTS", "### lib.sh", "expected 5, got -1"]);
    }
    fixture.asked(2, &["The change so far", "+# no", "#1 tests fail: +1 -0 in lib.sh"]);
    assert!(git_in(&fixture.project(), &["for-each-ref", "refs/looop"]).is_empty(), "the base is let go of");
}

#[test]
fn a_branch_takes_it_when_asked_or_when_a_file_changed_meanwhile() {
    let fixture = fixture();
    fixture.agent(FIXED);
    let before = fixture.fingerprint();
    fixture.fix(&["--branch"]).ok().prints(&["branch looop/fix-add-adds"]);
    assert_eq!(fixture.fingerprint().len(), before.len() + 2, "a branch and its reflog at the most");
    assert_eq!(git_in(&fixture.project(), &["show", "looop/fix-add-adds:lib.sh"]), FIXED_LIB);
    // The user edits the same file while the agent works.
    let lib = fixture.project().join("lib.sh");
    fixture.agent(&format!("{FIXED}; echo '# mine' >>{}", lib.display()));
    let ran = fixture.fix(&["--fresh"]).ok();
    ran.prints(&["lib.sh changed in the meantime", "on branch looop/fix-add-adds"]);
    assert_eq!(fixture.read("lib.sh"), format!("{LIB}# mine\n"));
}

#[test]
fn a_file_that_an_editor_has_open_at_the_end_is_not_replaced() {
    for (name, text, more) in [("lib.sh", LIB, ""), ("more.txt", "more\n", "; rm more.txt")] {
        let fixture = fixture();
        fixture.write("more.txt", "more\n");
        fixture.agent(&format!("{FIXED}{more}"));
        let mut editor = fs::File::options().append(true).open(fixture.project().join(name)).unwrap();
        let changed = format!("{name} changed in the meantime");
        fixture.fix(&[]).ok().prints(&[&changed, "on branch looop/fix-add-adds"]);
        editor.write_all(b"# mine\n").unwrap();
        drop(editor);
        assert_eq!(fixture.read(name), format!("{text}# mine\n"));
        assert!(fixture.read("lib.sh").starts_with(LIB), "all of it or nothing");
    }
}

#[test]
fn a_folder_without_a_repository_is_fixed_as_well() {
    let fixture = Fixture::plain(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    fixture.leanfile(TESTS, TASK);
    fixture.agent(FIXED);
    fixture.fix(&[]).ok();
    assert_eq!(fixture.read("lib.sh"), FIXED_LIB);
    assert!(!fixture.project().join(".git").exists());
    assert_eq!(fixture.ledger("add-adds").len(), 2);
}

#[test]
#[ignore = "slow"]
fn the_last_attempt_is_tested_and_counts_and_one_more_is_not_made() {
    for (needed, code) in [(3, 0), (4, 1)] {
        let fixture = fixture();
        fixture.leanfile(TESTS, &format!("max_iters_per_task = 3\n{TASK}"));
        fixture.agent(&format!(
            "if [ $n = {needed} ]; then {FIXED}; else echo \"v$n() {{ w$n x$n y$n $n; }}\" >f$n.sh; fi"
        ));
        let before = fixture.fingerprint();
        let ran = fixture.fix(&[]);
        assert_eq!((ran.code, fixture.calls()), (code, 3), "{}", ran.stdout);
        if code == 1 {
            assert_eq!(fixture.fingerprint(), before);
            assert!(ran.stdout.contains("looop attempt show add-adds"), "{}", ran.stdout);
        }
    }
}

#[test]
fn without_tasks_whatever_fails_is_fixed_and_an_issue_is_a_task() {
    let fixture = fixture();
    fixture.leanfile(TESTS, "");
    fixture.agent(FIXED);
    fixture.fix(&[]).ok();
    fixture.asked(1, &["fix whatever fails"]);
    git_in(&fixture.project(), &["checkout", "-q", "lib.sh"]);
    let args = [
        "fix",
        "-g",
        "leanfile.toml",
        "--repo",
        "project",
        "--issue",
        "make add ADD",
        "--test",
        "sh check.sh",
    ];
    fixture.profile.looop(&args).ok();
    assert_eq!(fixture.read("lib.sh"), FIXED_LIB);
    fixture.asked(2, &["make add ADD"]);
}

#[test]
fn tasks_build_on_each_other_and_stop_at_the_first_that_fails() {
    let fixture = Fixture::new(&[("a.sh", "a=1\n"), ("b.sh", "b=1\n"), ("c.sh", "c=1\n")]);
    let tasks = ["a", "b", "c"].map(|name| {
        format!(
            "[[tasks]]\nname = \"{name}\"\nprompt = \"p\"\nrunner = {{ command = \"grep -q {name}=2 {name}.sh\", args = [], shell = true }}\n"
        )
    });
    fixture.leanfile(TESTS, &format!("max_iters_per_task = 2\nsummarize_errors = false\n{}", tasks.concat()));
    fixture.agent("case $n in 1) echo a=2 >a.sh;; *) grep -q a=2 a.sh || exit 9; echo \"x$n\" >b.sh;; esac");
    fixture.fix(&[]).exits(1).prints(&["not begun"]);
    assert_eq!(["a.sh", "b.sh"].map(|name| fixture.read(name)), ["a=2\n", "b=1\n"]);
    // Chosen tasks run alone.
    fixture.agent("echo c=2 >c.sh");
    fixture.fix(&["--tasks", "3"]).ok();
    assert_eq!(fixture.read("c.sh"), "c=2\n");
    fixture.fix(&["--task", "d"]).exits(2);
}

#[test]
fn what_follows_good_work_belongs_to_it_and_can_spoil_it() {
    let fixture = fixture();
    fixture.agent(FIXED);
    let after =
        |lines: &str| fixture.leanfile(TESTS, &format!("max_iters_per_task = 1\n{TASK}after = [{lines}]\n"));
    after("\"echo made >made.txt\", \"cat made.txt\"");
    fixture.fix(&[]).ok();
    assert_eq!(fixture.read("made.txt"), "made\n");
    git_in(&fixture.project(), &["checkout", "-q", "lib.sh"]);
    after("\"echo bad luck; false\"");
    fixture.fix(&[]).exits(1).prints(&["bad luck"]);
}

#[test]
fn a_file_whose_name_is_not_text_is_fixed_like_any_other() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let fixture = fixture();
    let name = OsStr::from_bytes(b"caf\xe9.txt");
    fs::write(fixture.project().join(name), "before\n").unwrap();
    git_in(&fixture.project(), &["add", "-A"]);
    git_in(&fixture.project(), &["commit", "-qm", "a name of another time"]);
    fixture.leanfile(TESTS, &format!("max_iters_per_task = 2\n{TASK}"));
    fixture.agent(&format!("{FIXED}; f=$(printf 'caf\\351.txt'); echo after >\"$f\"; echo new >\"new-$f\""));
    fixture.fix(&[]).ok().prints(&["3 files of yours were changed"]);
    for (name, text) in [(name, "after\n"), (OsStr::from_bytes(b"new-caf\xe9.txt"), "new\n")] {
        assert_eq!(fs::read_to_string(fixture.project().join(name)).unwrap(), text);
    }
    git_in(&fixture.project(), &["checkout", "-q", "."]);
    fixture.fix(&["--fresh", "--branch"]).ok().prints(&["the result is on branch looop/fix-"]);
}
