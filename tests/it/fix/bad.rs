//! Bad input: each has its defined result, and the project stays as it is.

use std::fs;

use super::adder::{CHECK, FIXED, LIB, TESTS};
use super::fixture::{Fixture, of, program};
use crate::support::profile::git_in;

const TASK: &str = "[[tasks]]\nname = \"add\"\nprompt = \"add must add\"\nfiles = [\"lib.sh\"]\n";

fn fixture(tests: &str, most: u32) -> Fixture {
    let fixture = Fixture::new(&[("lib.sh", LIB), ("check.sh", CHECK), ("tests/more.sh", "echo more\n")]);
    fixture.leanfile(tests, &format!("max_iters_per_task = {most}\nsummarize_errors = false\n{TASK}"));
    fixture
}

/// The outcome of each attempt, and what was said of it.
fn outcomes(fixture: &Fixture) -> Vec<(String, String)> {
    let lines = fixture.ledger("add");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    of(&lines, "attempt").iter().map(|one| (text(&one["outcome"]), text(&one["failure"]))).collect()
}

#[test]
fn a_leanfile_that_cannot_be_read_says_where_and_how_to_mend_it() {
    for (text, place, hint) in [
        ("[lean]\nbinary = x\n", ":2: ", "double quotes"),
        ("[runner]\ncommand = \"a\"\ncommand = \"b\"\n", ":3: ", "once"),
        ("[[tasks]]\nname = \"a\"\nprompt = \"b\"\nfiles = 3\n", ":4: ", "hint"),
        ("[[tasks]]\nname = \"a\"\n", "no prompt", "hint"),
    ] {
        let fixture = fixture(TESTS, 1);
        fs::write(fixture.profile.path("leanfile.toml"), text).unwrap();
        let ran = fixture.fix(&[]);
        assert_eq!(ran.code, 2, "{text}: {}", ran.stderr);
        assert!(ran.stderr.contains(place) && ran.stderr.contains(hint), "{text}: {}", ran.stderr);
        assert_eq!(fixture.calls(), 0);
    }
    let fixture = fixture(TESTS, 1);
    let ran = fixture.profile.looop(&["fix", "-c", "nowhere.toml"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--init"), "{}", ran.stderr);
}

#[test]
fn unknown_keys_are_warned_of_and_a_fresh_leanfile_is_right() {
    let fixture = fixture(TESTS, 1);
    fixture
        .leanfile(TESTS, &format!("max_iter_per_task = 1\n{TASK}promt = \"x\"\nrunner = {{ tmeout = 3 }}\n"));
    fixture.agent(FIXED);
    let ran = fixture.fix(&[]).ok();
    for near in ["`max_iters_per_task`?", "`prompt`?", "`timeout`?"] {
        assert!(ran.stderr.contains(near), "{near}: {}", ran.stderr);
    }
    let path = fixture.profile.path("new.toml");
    fixture.profile.looop(&["fix", "--init", path.to_str().unwrap()]).ok();
    let again = fixture.profile.looop(&["fix", "--init", path.to_str().unwrap()]);
    assert_eq!(again.code, 1, "{}", again.stderr);
    let ran = fixture.profile.looop(&["fix", "-c", path.to_str().unwrap(), "--runner", "nobody"]);
    assert!(
        ran.code == 2 && !ran.stderr.contains("unknown key") && ran.stderr.contains("nobody"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_missing_command_or_agent_ends_it_before_anything_is_called() {
    for (tests, word) in [("command = \"no-such-tests\"", "no-such-tests"), ("", "no test command")] {
        let fixture = fixture(tests, 1);
        let before = fixture.fingerprint();
        let ran = fixture.fix(&[]);
        assert_eq!((ran.code, fixture.calls()), (2, 0), "{}", ran.stderr);
        assert!(ran.stderr.contains(word) && ran.stderr.contains("hint:"), "{}", ran.stderr);
        assert_eq!(fixture.fingerprint(), before);
    }
    let fixture = fixture(TESTS, 1);
    fs::remove_file(fixture.profile.path("agent.sh")).unwrap();
    let ran = fixture.fix(&[]);
    assert!(ran.code == 2 && ran.stderr.contains("agent.sh"), "{}", ran.stderr);
}

#[test]
#[ignore = "slow"]
fn tests_that_hang_flood_or_ask_for_input_have_an_end() {
    for (line, printed) in [
        ("sleep 300", "still running after 1s"),
        ("yes", "still running after 1s"),
        ("read x && echo got it", "exit code 1"),
    ] {
        let fixture = fixture(TESTS, 1);
        let tests = format!("command = \"{line}\"\nshell = true");
        let path = fixture.leanfile(&tests, &format!("max_iters_per_task = 1\n{TASK}"));
        let text = fs::read_to_string(&path).unwrap().replace("timeout = 120", "timeout = 1");
        fs::write(&path, text).unwrap();
        fixture.agent(":");
        assert_eq!(fixture.fix(&[]).code, 1);
        let all = outcomes(&fixture);
        assert!(all[0].0 == "failed" && all[0].1.contains(printed), "{line}: {all:?}");
    }
}

#[test]
#[ignore = "slow"]
fn what_cannot_be_shown_is_reported() {
    let fixture = fixture(TESTS, 1);
    fixture.write("bin.dat", "a\0b");
    fs::File::create(fixture.project().join("huge.txt")).unwrap().set_len(50 << 20).unwrap();
    fixture.leanfile(TESTS, "[[tasks]]\nname = \"add\"\nprompt = \"p\"\nfiles = [\"lib.sh\", \"bin.dat\", \"huge.txt\", \"no/**/*.x\"]\n");
    fixture.agent(FIXED);
    let ran = fixture.fix(&[]).ok();
    for part in ["bin.dat: it is binary", "huge.txt: it is 50 MiB large", "no/**/*.x: matches no file"] {
        assert!(ran.stdout.contains(part) && fixture.prompt(1).contains(part), "{part}: {}", ran.stdout);
    }
}

#[test]
fn tests_that_pass_before_are_nobodys_work() {
    let fixture = fixture(TESTS, 1);
    fixture.write("lib.sh", &LIB.replace('-', "+"));
    let ran = fixture.fix(&[]).ok();
    assert!(ran.stdout.contains("passed before") && !ran.stdout.contains(" done "), "{}", ran.stdout);
    assert_eq!(fixture.calls(), 0);
    fixture.agent(":");
    fixture.fix(&["--force"]).ok();
    assert_eq!(fixture.calls(), 1);
}

#[test]
fn what_tests_leave_behind_is_nobodys_work() {
    let fixture = fixture("command = \"date +%N >junk; echo >>lib.sh; sh check.sh\"\nshell = true", 3);
    fixture.agent(&format!("if [ $n = 3 ]; then {FIXED}; fi"));
    let ran = fixture.fix(&[]).ok();
    assert!(ran.stdout.contains("1 file of yours was changed, uncommitted: lib.sh"), "{}", ran.stdout);
    assert_eq!(fixture.read("lib.sh"), LIB.replace('-', "+"));
    for attempt in of(&fixture.ledger("add"), "attempt").iter().take(2) {
        assert_eq!(attempt["like"]["by"], "no_change", "{attempt}");
    }
}

#[test]
fn what_the_tests_of_a_later_task_leave_behind_is_nobodys_work_either() {
    let tests = "command = \"date +%N >junk; sh check.sh\"\nshell = true";
    let fixture = Fixture::new(&[("lib.sh", LIB), ("check.sh", CHECK), ("more.sh", "[ -e more ]\n")]);
    let more = TASK.replace("\"add\"", "\"more\"");
    let runner = "runner = { command = \"date +%N >junk; sh more.sh\" }\n";
    fixture.leanfile(tests, &format!("max_iters_per_task = 2\n{TASK}{more}{runner}"));
    fixture.agent(&format!("case $n in 1) {FIXED};; 2) ls >$S/seen; touch more;; esac"));
    fixture.fix(&[]).ok();
    let seen = fs::read_to_string(fixture.profile.path("state/seen")).unwrap();
    assert!(seen.contains("more.sh") && !seen.contains("junk"), "the attempt began with {seen}");
}

#[test]
fn tests_that_collect_nothing_do_not_pass() {
    let fixture =
        fixture("command = \"if [ -f empty ]; then echo 1..0; else sh check.sh; fi\"\nshell = true", 1);
    fixture.agent("echo >empty");
    assert_eq!(fixture.fix(&[]).code, 1);
    assert_eq!(outcomes(&fixture), [("nothing_tested".to_owned(), "no test was collected".to_owned())]);
}

#[test]
#[ignore = "slow"]
fn an_attempt_that_changes_the_tests_fails() {
    for body in [
        "echo 'exit 0' >check.sh",
        "rm check.sh; echo 'exit 0' >check.sh; chmod +x check.sh",
        "rm -r tests; echo 'exit 0' >check.sh",
    ] {
        let fixture = fixture(TESTS, 2);
        fixture.agent(&format!(
            "if [ $n = 1 ]; then {body}; else grep -q expected check.sh && ls tests/more.sh && {FIXED}; fi"
        ));
        fixture.fix(&[]).ok();
        let all = outcomes(&fixture);
        assert!(all[0].0 == "tests_changed" && all[0].1.contains("it changed check.sh"), "{body}: {all:?}");
        assert_eq!(
            (fixture.read("check.sh").as_str(), fixture.read("tests/more.sh").as_str()),
            (CHECK, "echo more\n")
        );
    }
}

#[test]
fn fewer_tests_in_the_source_itself_are_seen() {
    let count = "command = \"sh lib.sh\"\nshell = true";
    let fixture =
        Fixture::new(&[("lib.sh", "echo 1..2\necho not ok 1 - a\necho ok 2 - b\nexit 1\n"), ("main.sh", "")]);
    let lib = "command = \"sh -e -c '. ./src.sh'\"\nshell = true";
    fixture.write("src.sh", "echo 1..2\necho not ok 1 - a\necho ok 2 - b\nexit 1\n");
    git_in(&fixture.project(), &["add", "-A"]);
    fixture.leanfile(
        lib,
        "max_iters_per_task = 1\n[[tasks]]\nname = \"add\"\nprompt = \"p\"\nfiles = [\"src.sh\"]\n",
    );
    fixture.agent("printf 'echo 1..1\\necho ok 2 - b\\n' >src.sh");
    assert_eq!(fixture.fix(&[]).code, 1, "{count}");
    let all = outcomes(&fixture);
    assert!(all[0].0 == "tests_changed" && all[0].1.contains("1 tests ran, and 2 before"), "{all:?}");
}

#[test]
fn an_attempt_that_changes_the_test_program_fails() {
    // As much of npm as is needed here.
    let npm = "#!/bin/sh\nexec sh -c \"$(sed -n 's/.*\"test\": *\"\\([^\"]*\\)\".*/\\1/p' package.json)\"\n";
    let tap = "printf '1..2\\nok 1 - a\\nnot ok 2 - b\\n'; exit 1";
    for (tests, file, text, changed) in [
        (
            "npm test",
            "package.json",
            "{\"scripts\": {\"test\": \"sh check.sh\"}}\n",
            "{\"scripts\": {\"test\": \"true\"}}",
        ),
        ("cat own.txt | sh", "own.txt", tap, "true"),
    ] {
        let mut fixture = Fixture::new(&[("lib.sh", LIB), ("check.sh", CHECK), (file, text)]);
        let bin = fixture.profile.path("bin");
        fs::create_dir(&bin).unwrap();
        program(&bin.join("npm"), npm);
        fixture.profile.var("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
        fixture.leanfile(
            &format!("command = \"{tests}\"\nshell = true"),
            &format!("max_iters_per_task = 1\n{TASK}"),
        );
        fixture.agent(&format!("echo '{changed}' >{file}"));
        let ran = fixture.fix(&[]);
        assert_eq!(ran.code, 1, "{tests}: {}", ran.stdout);
        assert_eq!(outcomes(&fixture)[0].0, "tests_changed", "{tests}: {}", ran.stdout);
    }
}

#[test]
fn a_budget_that_no_argument_can_hold_is_lowered_and_reported() {
    let fixture = fixture(TESTS, 1);
    fixture.write("lib.sh", &format!("{LIB}{}", "# a line that says nothing at all\n".repeat(9000)));
    fixture.leanfile(TESTS, &format!("{TASK}context_budget = 400000\n"));
    fixture.agent(FIXED);
    let ran = fixture.fix(&[]).ok();
    let printed = "agent.sh gets its prompt as one argument";
    assert!(ran.stdout.contains("context_budget is 400000 and 100000 was used"), "{}", ran.stdout);
    assert!(ran.stdout.contains(printed) && fixture.prompt(1).len() < 131_000, "{}", ran.stdout);
}

#[test]
fn an_agent_that_says_nothing_fails_or_ends_badly_is_an_attempt() {
    let fixture = fixture(TESTS, 1);
    let state = fixture.profile.path("state/silent");
    program(&fixture.profile.path("agent.sh"), &format!("#!/bin/sh\necho x >>{}\n", state.display()));
    assert_eq!(fixture.fix(&[]).code, 1);
    assert_eq!(fs::read_to_string(state).unwrap().lines().count(), 6);
    assert_eq!(outcomes(&fixture), [("agent_failed".to_owned(), "it printed nothing, 6 times".to_owned())]);
    program(&fixture.profile.path("agent.sh"), "#!/bin/sh\necho so sorry >&2\nexit 4\n");
    assert_eq!(fixture.fix(&[]).code, 1);
    let all = outcomes(&fixture);
    assert!(all[1].1.contains("exit code 4") && all[1].1.contains("so sorry"), "{all:?}");
}

#[test]
#[ignore = "slow"]
fn an_agent_that_deletes_or_commits_or_hides_behind_git_changes_nothing_but_files() {
    for (body, first) in [
        ("rm -rf ./* .git .[a-z]*", "deleted"),
        ("d=$PWD; cd /; rm -rf \"$d\"", "deleted"),
        ("rm -rf .git; echo '# x' >>lib.sh", "failed"),
    ] {
        let fixture = fixture(TESTS, 2);
        let before = fixture.fingerprint();
        fixture.agent(&format!("if [ $n = 1 ]; then {body}; else {FIXED}; fi"));
        let ran = fixture.fix(&["--branch"]).ok();
        let all = outcomes(&fixture);
        assert_eq!((all[0].0.as_str(), all[1].0.as_str()), (first, "passed"), "{body}: {}", ran.stdout);
        assert_eq!(fixture.fingerprint().len(), before.len() + 2, "{}", ran.stdout);
    }
    let fixture = fixture(TESTS, 1);
    fixture.agent(&format!(
        "{FIXED}; git -c user.name=x -c user.email=x@x commit -qam mine; git checkout -q -b other"
    ));
    fixture.fix(&[]).ok();
    assert_eq!(git_in(&fixture.project(), &["status", "--short"]), " M lib.sh\n");
    assert_eq!(git_in(&fixture.project(), &["rev-list", "--count", "--all"]), "1\n");
}

#[test]
fn an_edit_outside_the_clone_is_ignored_and_a_link_out_of_it_is_not_followed() {
    let fixture = fixture(TESTS, 1);
    let lib = fixture.project().join("lib.sh");
    fixture.agent(&format!("sed -i 's/-/+/' {}", lib.display()));
    let ran = fixture.fix(&[]);
    assert_eq!(ran.code, 1, "what happens outside of the clone does not pass its tests: {}", ran.stdout);
    // A directory that became a link meanwhile leads out of the project.
    let fixture = self::fixture(TESTS, 1);
    fs::create_dir(fixture.profile.path("outside")).unwrap();
    let (out, sub) = (fixture.profile.path("outside"), fixture.project().join("sub"));
    fixture.agent(&format!(
        "{FIXED}; mkdir sub; echo new >sub/new.sh; ln -s {} {}",
        out.display(),
        sub.display()
    ));
    let ran = fixture.fix(&[]).ok();
    assert!(ran.stdout.contains("on branch looop/fix-add"), "{}", ran.stdout);
    assert_eq!(fs::read_dir(out).unwrap().count(), 0);
    assert_eq!(fixture.read("lib.sh"), LIB, "none is written where one cannot be");
}
