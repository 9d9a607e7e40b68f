//! Bad input: each has its defined result, and the project stays as it is.

use std::fs;

use super::adder::{self, CHECK, FIXED, FIXED_LIB, LIB, TASK, TESTS};
use super::fixture::Fixture;
use crate::support::profile::{git_in, program};

fn fixture(tests: &str, most: u32) -> Fixture {
    let fixture = adder::project(&[("tests/more.sh", "echo more\n")]);
    fixture.leanfile(tests, &format!("max_iters_per_task = {most}\nsummarize_errors = false\n{TASK}"));
    fixture
}

/// The outcome of an attempt, and what was said of it.
#[track_caller]
pub fn outcome(fixture: &Fixture, attempt: usize) -> (String, String) {
    let [outcome, failure] =
        ["outcome", "failure"].map(|key| fixture.attempted("add", key)[attempt - 1].clone());
    (outcome, failure)
}

/// Checks the outcome of an attempt, and that this was said of it.
#[track_caller]
pub fn came_to(fixture: &Fixture, attempt: usize, outcome: &str, words: &str) {
    let found = self::outcome(fixture, attempt);
    assert!(found.0 == outcome && found.1.contains(words), "{outcome}: {words}: {found:?}");
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
        fixture.fix(&[]).exits(2).warns(&[place, hint]);
        assert_eq!(fixture.calls(), 0);
    }
    fixture(TESTS, 1).profile.looop(&["fix", "-c", "nowhere.toml"]).exits(2).warns(&["--init"]);
}

#[test]
fn unknown_keys_are_warned_of_and_a_fresh_leanfile_is_right() {
    let fixture = fixture(TESTS, 1);
    fixture
        .leanfile(TESTS, &format!("max_iter_per_task = 1\n{TASK}promt = \"x\"\nrunner = {{ tmeout = 3 }}\n"));
    fixture.agent(FIXED);
    fixture.fix(&[]).ok().warns(&["`max_iters_per_task`?", "`prompt`?", "`timeout`?"]);
    fixture.profile.looop(&["fix", "--init", "new.toml"]).ok();
    fixture.profile.looop(&["fix", "--init", "new.toml"]).exits(1);
    let printed = fixture.profile.looop(&["fix", "--init", "-"]).ok().stdout;
    assert_eq!(printed, fs::read_to_string(fixture.profile.path("new.toml")).unwrap());
    let ran =
        fixture.profile.looop(&["fix", "-c", "new.toml", "--runner", "nobody"]).exits(2).warns(&["nobody"]);
    assert!(!ran.stderr.contains("unknown key"), "{}", ran.stderr);
}

#[test]
fn a_missing_command_or_agent_ends_it_before_anything_is_called() {
    for (tests, word) in [("command = \"no-such-tests\"", "no-such-tests"), ("", "no test command")] {
        let fixture = fixture(tests, 1);
        let before = fixture.fingerprint();
        fixture.fix(&[]).exits(2).warns(&[word, "hint:"]);
        assert_eq!((fixture.calls(), fixture.fingerprint()), (0, before));
    }
    let fixture = fixture(TESTS, 1);
    fs::remove_file(fixture.profile.path("agent.sh")).unwrap();
    fixture.fix(&[]).exits(2).warns(&["agent.sh"]);
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
        fixture.fix(&[]).exits(1);
        came_to(&fixture, 1, "failed", printed);
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
    let parts = ["bin.dat: it is binary", "huge.txt: it is 50 MiB large", "no/**/*.x: matches no file"];
    fixture.fix(&[]).ok().prints(&parts);
    fixture.asked(1, &parts);
}

#[test]
fn tests_that_pass_before_are_nobodys_work() {
    let fixture = fixture(TESTS, 1);
    fixture.write("lib.sh", &LIB.replace('-', "+"));
    let ran = fixture.fix(&[]).ok().prints(&["passed before"]);
    assert!(!ran.stdout.contains(" done "), "{}", ran.stdout);
    assert_eq!(fixture.calls(), 0);
    fixture.agent(":");
    fixture.fix(&["--force"]).ok();
    assert_eq!(fixture.calls(), 1);
}

#[test]
fn what_tests_leave_behind_is_nobodys_work() {
    let fixture = fixture("command = \"date +%N >junk; echo >>lib.sh; sh check.sh\"\nshell = true", 3);
    fixture.agent(&format!("if [ $n = 3 ]; then {FIXED}; fi"));
    fixture.fix(&[]).ok().prints(&["1 file of yours was changed, uncommitted: lib.sh"]);
    assert_eq!(fixture.read("lib.sh"), FIXED_LIB);
    for attempt in fixture.attempts("add").iter().take(2) {
        assert_eq!(attempt["like"]["by"], "no_change", "{attempt}");
    }
}

#[test]
fn what_the_tests_of_a_later_task_leave_behind_is_nobodys_work_either() {
    let tests = "command = \"date +%N >junk; sh check.sh\"\nshell = true";
    let fixture = adder::project(&[("more.sh", "[ -e more ]\n")]);
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
    let tests = "command = \"if [ -f empty ]; then echo 1..0; else sh check.sh; fi\"\nshell = true";
    let fixture = fixture(tests, 1);
    fixture.agent("echo >empty");
    fixture.fix(&[]).exits(1);
    assert_eq!(fixture.attempted("add", "outcome"), ["nothing_tested"]);
    assert_eq!(fixture.attempted("add", "failure"), ["no test was collected"]);
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
        came_to(&fixture, 1, "tests_changed", "it changed check.sh");
        let tests = ["check.sh", "tests/more.sh"].map(|name| fixture.read(name));
        assert_eq!(tests, [CHECK, "echo more\n"], "{body}");
    }
}

#[test]
fn fewer_tests_in_the_source_itself_are_seen() {
    let fixture = Fixture::new(&[("lib.sh", "echo 1..2\necho not ok 1 - a\necho ok 2 - b\nexit 1\n")]);
    let tests = "command = \"sh -e -c '. ./lib.sh'\"\nshell = true";
    fixture.leanfile(tests, &format!("max_iters_per_task = 1\n{TASK}"));
    fixture.agent("printf 'echo 1..1\\necho ok 2 - b\\n' >lib.sh");
    fixture.fix(&[]).exits(1);
    came_to(&fixture, 1, "tests_changed", "1 tests ran, and 2 before");
}

#[test]
fn an_attempt_that_changes_the_test_program_fails() {
    // As much of npm as is needed here.
    let npm = "#!/bin/sh\nexec sh -c \"$(sed -n 's/.*\"test\": *\"\\([^\"]*\\)\".*/\\1/p' package.json)\"\n";
    let tap = "printf '1..2\\nok 1 - a\\nnot ok 2 - b\\n'; exit 1";
    let [script, other] =
        ["sh check.sh", "true"].map(|test| format!(r#"{{"scripts": {{"test": "{test}"}}}}"#));
    for (tests, file, text, changed) in [
        ("npm test", "package.json", script.as_str(), other.as_str()),
        ("cat own.txt | sh", "own.txt", tap, "true"),
    ] {
        let mut fixture = adder::project(&[(file, text)]);
        let bin = fixture.profile.path("bin");
        program(bin.join("npm"), npm);
        fixture.profile.var("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
        let tests = format!("command = \"{tests}\"\nshell = true");
        fixture.leanfile(&tests, &format!("max_iters_per_task = 1\n{TASK}"));
        fixture.agent(&format!("echo '{changed}' >{file}"));
        fixture.fix(&[]).exits(1);
        came_to(&fixture, 1, "tests_changed", "");
    }
}

#[test]
fn a_budget_that_no_argument_can_hold_is_lowered_and_reported() {
    let fixture = fixture(TESTS, 1);
    fixture.write("lib.sh", &format!("{LIB}{}", "# a line that says nothing at all\n".repeat(9000)));
    fixture.leanfile(TESTS, &format!("{TASK}context_budget = 400000\n"));
    fixture.agent(FIXED);
    let printed =
        ["context_budget is 400000 and 100000 was used", "agent.sh gets its prompt as one argument"];
    fixture.fix(&[]).ok().prints(&printed);
    assert!(fixture.prompt(1).len() < 131_000);
}

#[test]
fn an_agent_that_says_nothing_fails_or_ends_badly_is_an_attempt() {
    let fixture = fixture(TESTS, 1);
    let state = fixture.profile.path("state/silent");
    program(fixture.profile.path("agent.sh"), format!("#!/bin/sh\necho x >>{}\n", state.display()));
    fixture.fix(&[]).exits(1);
    assert_eq!(fs::read_to_string(state).unwrap().lines().count(), 6);
    assert_eq!(fixture.attempted("add", "outcome"), ["agent_failed"]);
    assert_eq!(fixture.attempted("add", "failure"), ["it printed nothing, 6 times"]);
    program(fixture.profile.path("agent.sh"), "#!/bin/sh\necho so sorry >&2\nexit 4\n");
    fixture.fix(&[]).exits(1);
    ["exit code 4", "so sorry"].iter().for_each(|words| came_to(&fixture, 2, "agent_failed", words));
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
        assert_eq!(fixture.attempted("add", "outcome"), [first, "passed"], "{body}: {}", ran.stdout);
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
    // What happens outside of the clone does not pass its tests.
    fixture.fix(&[]).exits(1);
    // A directory that became a link meanwhile leads out of the project.
    let fixture = self::fixture(TESTS, 1);
    let (out, sub) = (fixture.profile.path("outside"), fixture.project().join("sub"));
    fs::create_dir(&out).unwrap();
    let link = format!("ln -s {} {}", out.display(), sub.display());
    fixture.agent(&format!("{FIXED}; mkdir sub; echo new >sub/new.sh; {link}"));
    fixture.fix(&[]).ok().prints(&["on branch looop/fix-add"]);
    assert_eq!(fs::read_dir(out).unwrap().count(), 0);
    assert_eq!(fixture.read("lib.sh"), LIB, "none is written where one cannot be");
}
