//! The whole path: a leanfile in, attempts in a clone, and the state that passed in the project's files.

use std::fs;
use std::io::Write;

use super::adder::{self, CHECK, FIXED, LIB, TESTS};
use super::fixture::{Fixture, of};
use crate::support::profile::git_in;

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
    let ran = fixture.fix(&[]).ok();
    assert!(ran.stdout.contains("1 file of yours was changed, uncommitted: lib.sh"), "{}", ran.stdout);
    assert_eq!(fixture.read("lib.sh"), "add() { echo $(($1 + $2)); }\n# no\n");
    assert_eq!(
        git_in(&fixture.project(), &["status", "--short"]),
        "A  staged.txt\n M lib.sh\n?? mine.txt\n"
            .replace("A  staged.txt\n M lib.sh", " M lib.sh\nA  staged.txt")
    );
    assert_eq!(std::fs::read(fixture.project().join(".git/index")).unwrap(), index);
    let lines = fixture.ledger("add-adds");
    let attempts = of(&lines, "attempt");
    assert_eq!(
        (attempts.len(), &attempts[0]["outcome"], &attempts[1]["outcome"]),
        (2, &"failed".into(), &"passed".into())
    );
    assert_eq!(attempts[1]["hypothesis"], "The check expected another value of the sum");
    assert_eq!(attempts[1]["files"], serde_json::json!(["lib.sh"]));
    let diff = fixture.profile.looop(&["attempt", "diff", "add-adds", "1", "2"]).ok().stdout;
    assert!(
        diff.contains("-add() { echo $(($1 - $2)); }") && diff.contains("+add() { echo $(($1 + $2)); }"),
        "{diff}"
    );
    // The task is in every prompt, with the file, the failure and what was tried.
    for n in [1, 2] {
        let prompt = fixture.prompt(n);
        for part in ["ADD-ITS-TWO-ARGUMENTS", "### lib.sh", "expected 5, got -1"] {
            assert!(prompt.contains(part), "{n}: {part}: {prompt}");
        }
    }
    assert!(
        fixture.prompt(2).contains("The change so far") && fixture.prompt(2).contains("+# no"),
        "{}",
        fixture.prompt(2)
    );
    assert!(fixture.prompt(2).contains("#1 tests fail: +1 -0 in lib.sh"), "{}", fixture.prompt(2));
    assert!(git_in(&fixture.project(), &["for-each-ref", "refs/looop"]).is_empty(), "the base is let go of");
}

#[test]
fn a_branch_takes_it_when_asked_or_when_a_file_changed_meanwhile() {
    let fixture = fixture();
    fixture.agent(FIXED);
    let before = fixture.fingerprint();
    let ran = fixture.fix(&["--branch"]).ok();
    assert!(ran.stdout.contains("branch looop/fix-add-adds"), "{}", ran.stdout);
    assert_eq!(fixture.fingerprint().len(), before.len() + 2, "a branch and its reflog at the most");
    assert_eq!(
        git_in(&fixture.project(), &["show", "looop/fix-add-adds:lib.sh"]),
        "add() { echo $(($1 + $2)); }\n"
    );
    // The user edits the same file while the agent works.
    let lib = fixture.project().join("lib.sh");
    fixture.agent(&format!("{FIXED}; echo '# mine' >>{}", lib.display()));
    let ran = fixture.fix(&["--fresh"]).ok();
    assert!(
        ran.stdout.contains("lib.sh changed in the meantime")
            && ran.stdout.contains("on branch looop/fix-add-adds"),
        "{}",
        ran.stdout
    );
    assert_eq!(fixture.read("lib.sh"), "add() { echo $(($1 - $2)); }\n# mine\n");
}

#[test]
fn a_file_that_an_editor_has_open_at_the_end_is_not_replaced() {
    let wrong = "add() { echo $(($1 - $2)); }\n";
    for (name, text, more) in [("lib.sh", wrong, ""), ("more.txt", "more\n", "; rm more.txt")] {
        let fixture = fixture();
        fixture.write("more.txt", "more\n");
        fixture.agent(&format!("{FIXED}{more}"));
        let mut editor = fs::File::options().append(true).open(fixture.project().join(name)).unwrap();
        let ran = fixture.fix(&[]).ok();
        assert!(ran.stdout.contains(&format!("{name} changed in the meantime")), "{}", ran.stdout);
        assert!(ran.stdout.contains("on branch looop/fix-add-adds"), "{}", ran.stdout);
        editor.write_all(b"# mine\n").unwrap();
        drop(editor);
        assert_eq!(fixture.read(name), format!("{text}# mine\n"));
        assert!(fixture.read("lib.sh").starts_with(wrong), "all of it or nothing");
    }
}

#[test]
fn a_folder_without_a_repository_is_fixed_as_well() {
    let fixture = Fixture::plain(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    fixture.leanfile(TESTS, TASK);
    fixture.agent(FIXED);
    fixture.fix(&[]).ok();
    assert_eq!(fixture.read("lib.sh"), "add() { echo $(($1 + $2)); }\n");
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
    assert!(fixture.prompt(1).contains("fix whatever fails"));
    git_in(&fixture.project(), &["checkout", "-q", "lib.sh"]);
    let (repo, global) = (fixture.project(), fixture.profile.path("leanfile.toml"));
    let args = [
        "fix",
        "-g",
        global.to_str().unwrap(),
        "--repo",
        repo.to_str().unwrap(),
        "--issue",
        "make add ADD",
        "--test",
        "sh check.sh",
    ];
    fixture.profile.looop(&args).ok();
    assert_eq!(fixture.read("lib.sh"), "add() { echo $(($1 + $2)); }\n");
    assert!(fixture.prompt(2).contains("make add ADD"));
}

#[test]
fn tasks_build_on_each_other_and_stop_at_the_first_that_fails() {
    let fixture = Fixture::new(&[("a.sh", "a=1\n"), ("b.sh", "b=1\n"), ("c.sh", "c=1\n")]);
    let task = |name: &str, want: &str| {
        format!(
            "[[tasks]]\nname = \"{name}\"\nprompt = \"p\"\nrunner = {{ command = \"grep -q {want} {name}.sh\", args = [], shell = true }}\n"
        )
    };
    fixture.leanfile(
        TESTS,
        &format!(
            "max_iters_per_task = 2\nsummarize_errors = false\n{}{}{}",
            task("a", "a=2"),
            task("b", "b=2"),
            task("c", "c=2")
        ),
    );
    fixture.agent("case $n in 1) echo a=2 >a.sh;; *) grep -q a=2 a.sh || exit 9; echo \"x$n\" >b.sh;; esac");
    let ran = fixture.fix(&[]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stdout.contains("not begun"), "{}", ran.stdout);
    assert_eq!(
        (fixture.read("a.sh").as_str(), fixture.read("b.sh").as_str()),
        ("a=2\n", "b=1\n"),
        "{}",
        ran.stdout
    );
    // Chosen tasks run alone.
    fixture.agent("echo c=2 >c.sh");
    fixture.fix(&["--tasks", "3"]).ok();
    assert_eq!(fixture.read("c.sh"), "c=2\n");
    assert_eq!(fixture.fix(&["--task", "d"]).code, 2);
}

#[test]
fn what_follows_good_work_belongs_to_it_and_can_spoil_it() {
    let fixture = fixture();
    fixture.agent(FIXED);
    fixture.leanfile(
        TESTS,
        &format!("max_iters_per_task = 1\n{TASK}after = [\"echo made >made.txt\", \"cat made.txt\"]\n"),
    );
    fixture.fix(&[]).ok();
    assert_eq!(fixture.read("made.txt"), "made\n");
    git_in(&fixture.project(), &["checkout", "-q", "lib.sh"]);
    fixture.leanfile(TESTS, &format!("max_iters_per_task = 1\n{TASK}after = [\"echo bad luck; false\"]\n"));
    let ran = fixture.fix(&[]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("bad luck"), "{}", ran.stdout);
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
    let ran = fixture.fix(&[]).ok();
    assert_eq!(fs::read_to_string(fixture.project().join(name)).unwrap(), "after\n", "{}", ran.stdout);
    let new = OsStr::from_bytes(b"new-caf\xe9.txt");
    assert_eq!(fs::read_to_string(fixture.project().join(new)).unwrap(), "new\n");
    assert!(ran.stdout.contains("3 files of yours were changed"), "{}", ran.stdout);
    git_in(&fixture.project(), &["checkout", "-q", "."]);
    let ran = fixture.fix(&["--fresh", "--branch"]).ok();
    assert!(ran.stdout.contains("the result is on branch looop/fix-"), "{}", ran.stdout);
}
