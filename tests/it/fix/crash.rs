//! kill -9 at any point: the next start goes on at the attempt, no edit is lost, and until the end the project is as it was.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::adder::{self, CHECK, FIXED, FIXED_LIB, TASK};
use super::fixture::Fixture;
use crate::support::pi::skipped;
use crate::support::profile::LOOOP;

/// Calls with an effect, among them the starts of processes.
const EFFECTS: &str = "write,pwrite64,writev,fsync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,\
                       ftruncate,fchmod,clone,clone3,fork,vfork";
/// How many points are tried by the daily tests and by the gate, evenly over the run.
const SAMPLE: usize = 3;
const GATE: usize = 20;

fn fixture() -> Fixture {
    let fixture = adder::fixture(&format!("{TASK}after = [\"echo made >made.txt\"]\n"));
    fixture.write("dirty.txt", "of the human\n");
    fixture
}

/// Checks that the attempts have the numbers from 1 on.
#[track_caller]
fn attempts_are_numbered(fixture: &Fixture, place: &str) {
    let numbers: Vec<u64> = fixture.attempts("add").iter().map(|one| one["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{place}");
}

/// The names of the project's files, without git's.
fn files(fixture: &Fixture) -> Vec<String> {
    let names = fixture.fingerprint().into_iter().map(|(name, _)| name);
    names.filter(|name| !name.starts_with(".git/")).collect()
}

/// An agent that needs three calls, and kills looop, which called it, once at a given point.
fn deadly(fixture: &Fixture, at: &str) {
    let mark = fixture.profile.path("state/killed");
    // What outlives looop would go on to edit, late.
    let rest = if at == "lingers" { "sleep 300 >/dev/null 2>&1;" } else { "exit 0;" };
    let kill = |point: &str| match at == point || (at == "lingers" && point == "before") {
        true => format!("[ -f {0} ] || {{ touch {0}; kill -9 $PPID; {rest} }};", mark.display()),
        false => String::new(),
    };
    let (before, middle, after) = (kill("before"), kill("middle"), kill("after"));
    fixture.agent(&format!(
        "{before} echo \"# edit $n\" >>lib.sh; {middle} if [ $n -ge 3 ]; then {FIXED}; fi; {after}"
    ));
    let tests = kill("tests");
    fixture.write("check.sh", &format!("{tests}\n{CHECK}"));
}

#[test]
#[ignore = "slow"]
fn after_a_kill_by_its_agent_or_tests_a_fix_keeps_the_edits() {
    for point in ["before", "middle", "after", "tests", "lingers"] {
        let fixture = fixture();
        deadly(&fixture, point);
        let before = fixture.fingerprint();
        fixture.fix(&[]).exits(-1);
        assert_eq!(fixture.fingerprint(), before, "{point}");
        let calls = fixture.calls();
        let ran = fixture.fix(&[]).ok();
        assert!(point == "tests" || ran.stdout.contains("resuming the interrupted run"), "{}", ran.stdout);
        let (lib, edits) = (fixture.read("lib.sh"), if matches!(point, "middle" | "after") { 1 } else { 0 });
        assert!(lib.contains("$1 + $2"), "{point}: {lib}");
        let edits = edits.max(usize::from(calls == 0 || point == "tests"));
        assert_eq!(lib.matches("# edit 1").count(), edits, "{point}: {lib}");
        attempts_are_numbered(&fixture, point);
        assert_eq!(fixture.read("made.txt"), "made\n");
    }
}

#[test]
fn what_killed_tests_left_behind_is_not_the_agents_work() {
    let fixture = fixture();
    fixture.agent(FIXED);
    let mark = fixture.profile.path("state/killed");
    let kill = format!(
        "if grep -q '1 + ' lib.sh && [ ! -f {0} ]; then touch {0}; echo x >litter.txt; kill -9 $PPID; exit 1; fi",
        mark.display()
    );
    fixture.write("check.sh", &format!("{kill}\n{CHECK}"));
    fixture.fix(&[]).exits(-1);
    fixture.fix(&[]).ok().prints(&["resuming the interrupted run"]);
    assert_eq!(fixture.read("lib.sh"), FIXED_LIB);
    assert_eq!(files(&fixture), ["check.sh", "dirty.txt", "lib.sh", "made.txt"], "no litter.txt");
    assert_eq!(fixture.calls(), 1, "the agent is not called again");
}

/// Runs the fix under strace. What it printed of the calls of looop's main thread, and how it ended.
fn strace(fixture: &Fixture, args: &[&str]) -> (String, bool) {
    let all = [&["-qqq", "-o", "strace.log"], args, &[LOOOP, "fix", "-c", "leanfile.toml"]].concat();
    let ended = fixture.profile.other_command("strace", &all).output().unwrap();
    let log = fs::read_to_string(fixture.profile.path("strace.log")).unwrap_or_default();
    (log, ended.status.success())
}

/// Each call with an effect that a whole fix makes, in order: its name, and the how manieth of that name it is.
fn points() -> Vec<(String, usize)> {
    let (log, is_well) = strace(&two_calls(), &["-e", &format!("trace={EFFECTS}")]);
    assert!(is_well, "{log}");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let names = log.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name.trim().to_owned());
    names
        .map(|name| {
            let nth = seen.entry(name.clone()).or_default();
            *nth += 1;
            (name, *nth)
        })
        .collect()
}

fn two_calls() -> Fixture {
    let fixture = fixture();
    fixture.agent(&format!("if [ $n -ge 2 ]; then {FIXED}; else echo '# one' >>lib.sh; fi"));
    fixture
}

#[test]
#[ignore = "slow"]
fn killed_before_some_calls_with_an_effect_it_goes_on_and_ends_the_same() {
    sweep(SAMPLE);
}

#[test]
#[ignore = "long search"]
fn killed_before_any_call_with_an_effect_it_goes_on_and_ends_the_same() {
    sweep(GATE);
}

#[test]
#[ignore = "exhaustive"]
fn exhaustive_fix() {
    sweep(usize::MAX);
}

/// Kills a fix at so many points.
fn sweep(most: usize) {
    if Command::new("strace").arg("-V").output().is_err() {
        return skipped("no strace");
    }
    let points = points();
    let step = points.len().div_ceil(most);
    // The last one is that of the landing: always.
    let last = points.last().filter(|_| !(points.len() - 1).is_multiple_of(step));
    let chosen = points.iter().step_by(step).chain(last);
    let (mut tried, mut killed) = (0, 0);
    for (call, nth) in chosen {
        tried += 1;
        killed += usize::from(killed_at(call, *nth));
    }
    eprintln!("killed at {killed} of {} points, and each went on", points.len());
    // How often it writes depends a little on the moment, so that the very last points may not be reached.
    let unreached = (tried / 10).max(1);
    assert!(killed + unreached >= tried && points.len() > 50, "{killed} of {tried} of {}", points.len());
}

fn killed_at(call: &str, nth: usize) -> bool {
    let fixture = two_calls();
    let before = fixture.fingerprint();
    let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
    let (_, is_well) = strace(&fixture, &["-e", &format!("trace={call}"), "-e", &inject]);
    if is_well {
        return false;
    }
    let is_applied = fix_run(&fixture).is_some_and(|run| run["applying"] == true);
    if !is_applied {
        assert_eq!(fixture.fingerprint(), before, "{call} {nth}");
    }
    let ran = fixture.fix(&[]);
    let place = format!("{call} {nth}: {}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, 0, "{place}");
    assert_eq!(fixture.read("lib.sh"), format!("{FIXED_LIB}# one\n"), "no edit is lost: {place}");
    let left = files(&fixture);
    assert_eq!(left, ["check.sh", "dirty.txt", "lib.sh", "made.txt"], "nothing is left behind: {place}");
    for (name, mark) in &before {
        let is_same = fixture.fingerprint().iter().any(|(other, now)| other == name && now == mark);
        assert!(is_same || name == "lib.sh", "{name} is as it was: {place}");
    }
    attempts_are_numbered(&fixture, &place);
    assert!(fixture.calls() <= 4, "{} calls: {place}", fixture.calls());
    true
}

fn fix_run(fixture: &Fixture) -> Option<serde_json::Value> {
    let entries = fs::read_dir(fixture.profile.data().join("fix")).ok()?;
    let dir = entries.flatten().find(|entry| entry.path().join("run.json").is_file())?;
    serde_json::from_str(&fs::read_to_string(dir.path().join("run.json")).ok()?).ok()
}
