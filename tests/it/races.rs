//! Two beats at once, a user beside a thinking model, beats that are interrupted, and verbs tried from inside a beat.

use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{fs, path::PathBuf, sync::OnceLock};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::profile::{LOOOP, NOOP, Profile, Ran, program, wait_until};
use crate::{crash::processes, support::pi::skipped, support::tally::Tally};

/// What a user verb may take while a model thinks: far more than it needs, far less than a model does.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A script in the profile's own directory, outside of the data dir.
pub fn script(profile: &Profile, name: &str, body: &str) -> PathBuf {
    let path = profile.path(name);
    program(&path, format!("#!/bin/sh\ncd {}\n{body}\n", profile.path("").display()));
    path
}

/// Makes a script the decider. Its processes can be found by the profile's path.
pub fn runner(profile: &Profile, body: &str) {
    let path = script(profile, "decide.sh", body);
    profile.shell_runner(&format!("exec sh {}", path.display()));
}

/// A runner that says that it thinks and then waits until the test lets it go on with these words.
fn thinker(profile: &Profile) {
    let made = Command::new("mkfifo").arg(profile.path("words")).status().unwrap();
    assert!(made.success());
    runner(profile, "touch thinking\ncat words");
}

/// A command that never ends by itself and can be found by the profile's path.
pub fn hang(profile: &Profile) -> String {
    format!("tail -f {}", profile.path("looop.json").display())
}

/// What runs of a profile's scripts.
pub fn left(profile: &Profile) -> Vec<String> {
    processes(&profile.path("").display().to_string())
}

pub fn wait_for(profile: &Profile, name: &str) {
    wait_until(name, || profile.path(name).exists());
}

pub fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

pub fn end(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

/// No call and no move is on record as unfinished.
#[track_caller]
pub fn assert_settled(profile: &Profile) {
    let beat = profile.read_json("beat.json");
    assert!(beat["inflight"].is_null() && beat["intent"].is_null(), "{beat}");
}

#[test]
#[ignore = "slow"]
fn of_two_ticks_at_once_one_beats_and_one_says_who() {
    two_ticks_at_once().holds();
}

const ROUNDS: usize = 200;

/// What came of beats that began at the same time.
pub fn two_ticks_at_once() -> &'static Tally {
    static CAME: OnceLock<Tally> = OnceLock::new();
    CAME.get_or_init(|| Tally::of(ROUNDS, race_two_ticks))
}

fn race_two_ticks() {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({"limits": {"decides_per_hour": 10_000}}));
    // A beat ends only when it may, so that the other one always meets it.
    profile.sensor(
        "gate.sh",
        &format!("while [ ! -e {} ]; do sleep 0.01; done\necho '{{}}'", profile.path("go").display()),
    );
    for round in 0..ROUNDS {
        drop(fs::remove_file(profile.path("go")));
        profile.goal("g", &format!("goal: {round}\n"));
        let mut two = [profile.spawn(&["tick"]), profile.spawn(&["tick"])];
        let mut loser = 0;
        wait_until("one of two beats", || {
            let ended = two.iter_mut().position(|one| one.try_wait().unwrap().is_some());
            loser = ended.unwrap_or(loser);
            ended.is_some()
        });
        fs::write(profile.path("go"), "").unwrap();
        let [first, second] = two;
        let (lost, won) = if loser == 0 { (first, second) } else { (second, first) };
        let holder = format!("process {}", won.id());
        let (lost, won) = (end(lost), end(won).ok());
        assert_eq!(lost.code, 75, "round {round}: {lost:?}");
        assert!(lost.stderr.contains(&holder), "round {round}: {} is not in {lost:?}", holder);
        assert!(won.stdout.contains("noop"), "round {round}: {won:?}");
    }
    assert_eq!(profile.asked(), ROUNDS);
    let journal = profile.read("journal.md");
    let mut beats: Vec<&str> = journal.lines().map(|line| line.rsplit_once('[').unwrap().1).collect();
    beats.sort_unstable();
    beats.dedup();
    assert_eq!((journal.lines().count(), beats.len()), (ROUNDS, ROUNDS));
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_look_at_the_lock_never_keeps_a_beat_from_its_start() {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop(&["tick"]).ok();
    // As `looop status` does for a moment, to see whether a beat runs.
    let lock = fs::File::open(profile.data().join("tick.lock")).unwrap();
    lock.lock_shared().unwrap();
    let tick = profile.spawn(&["tick"]);
    wait_until("the beat to be at the lock", || {
        let open = fs::read_dir(format!("/proc/{}/fd", tick.id())).unwrap().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|file| file.ends_with("tick.lock"))
    });
    drop(lock);
    end(tick).ok();
}

#[test]
fn a_user_never_waits_for_a_thinking_model_and_is_never_overwritten() {
    let profile = Profile::scripted(&[r#"{"move":"ask","text":"Which?","why":"w"}"#]);
    profile.goal("g", "goal: old\n");
    profile.looop(&["tick"]).ok();
    let ask = profile.looop(&["asks", "--json"]).ok().json()["asks"][0]["id"].as_str().unwrap().to_owned();
    thinker(&profile);
    let tick = profile.spawn(&["tick"]);
    wait_for(&profile, "thinking");
    let start = Instant::now();
    profile.looop(&["tick"]).exits(75).warns(&[&format!("process {}", tick.id())]);
    profile.looop(&["status", "--json"]).ok().json();
    let user = "goal: new\n\nA human's own words, \u{e9}.\n";
    profile.looop_with(&["goal", "write", "g", "-"], user).ok();
    profile.looop(&["answer", &ask, "this one"]).ok();
    profile.looop(&["schedule", "set", "later", "--in", "1h", "note"]).ok();
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    let reply = json!({"move": "write_goal", "id": "g", "body": "goal: the model's\n", "why": "w"});
    fs::write(profile.path("words"), reply.to_string()).unwrap();
    let ran = end(tick).ok();
    assert!(ran.stdout.contains("refused: changed by someone else"), "{ran:?}");
    assert!(profile.read("journal.md").contains("write_goal g — refused: changed by someone else"));
    assert_eq!(profile.read("goals/g.md"), user);
    // The next decision sees what the user said meanwhile.
    runner(&profile, &format!("cat >prompt\necho '{NOOP}'"));
    profile.looop(&["tick"]).ok();
    let prompt = fs::read_to_string(profile.path("prompt")).unwrap();
    for seen in ["this one", "A human's own words", "refused: changed by someone else"] {
        assert!(prompt.contains(seen), "{seen:?} is not in {prompt}");
    }
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
}

#[test]
#[ignore = "slow"]
fn an_interrupted_decision_leaves_no_runner_and_is_made_again() {
    let bodies = ["touch thinking\nexec {hang}", "trap '' TERM INT\ntouch thinking\nexec {hang}"];
    for (signal, body) in [Signal::INT, Signal::TERM].into_iter().flat_map(|s| bodies.map(|body| (s, body))) {
        let profile = Profile::scripted(&[NOOP]);
        runner(&profile, &body.replace("{hang}", &hang(&profile)));
        let tick = profile.spawn(&["tick"]);
        wait_for(&profile, "thinking");
        let start = Instant::now();
        send(&tick, signal);
        let ran = end(tick);
        assert!(start.elapsed() < AT_ONCE, "{signal:?} {body}: {:?}", start.elapsed());
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_eq!(left(&profile), Vec::<String>::new(), "{signal:?} {body}");
        assert_settled(&profile);
        profile.script(&[NOOP]);
        assert!(profile.looop(&["tick"]).ok().stdout.contains("noop"));
        assert_eq!((profile.asked(), profile.read("journal.md").lines().count()), (1, 1));
        assert_eq!(profile.git(&["status", "--porcelain"]), "");
    }
}

#[test]
#[ignore = "slow"]
fn an_interrupted_command_is_ended_and_reported() {
    let profile = Profile::scripted(&[r#"{"move":"run","argv":["../work.sh"],"why":"w"}"#, NOOP]);
    profile.without_sandbox(&["run"]);
    profile.config_more(json!({"policy": {"allow": [{"argv": ["../work.sh"]}]}}));
    script(
        &profile,
        "work.sh",
        &format!("trap '' TERM INT\nsetsid {} &\ntouch working\nexec {}", hang(&profile), hang(&profile)),
    );
    let tick = profile.spawn(&["tick"]);
    wait_for(&profile, "working");
    let start = Instant::now();
    send(&tick, Signal::TERM);
    let ran = end(tick);
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert!(ran.code <= 1, "{ran:?}");
    assert_eq!(left(&profile), Vec::<String>::new());
    assert_settled(&profile);
    let journal = profile.read("journal.md");
    assert!(journal.contains("run ../work.sh — interrupted, perhaps half done"), "{journal}");
}

#[test]
#[ignore = "slow"]
fn what_a_runner_leaves_behind_is_ended() {
    let hang_on = "setsid {hang} &\n(setsid {hang} 2>&1 &)\necho '{noop}'";
    let quiet = "trap '' TERM\nsetsid {hang} &\nexec {hang}";
    for (body, limit, code) in [(hang_on, "10m", 0), (quiet, "1s", 1)] {
        let profile = Profile::scripted(&[NOOP]);
        runner(&profile, &body.replace("{hang}", &hang(&profile)).replace("{noop}", NOOP));
        profile.config_more(json!({"limits": {"decide_timeout": limit}}));
        let start = Instant::now();
        let ran = profile.looop(&["tick"]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(start.elapsed() < AT_ONCE + Duration::from_secs(1), "{body}: {:?}", start.elapsed());
        assert_eq!(left(&profile), Vec::<String>::new(), "{body}");
        assert_settled(&profile);
    }
}

#[test]
fn a_forced_move_waits_for_the_present_beat() {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "goal: g\n");
    thinker(&profile);
    let tick = profile.spawn(&["tick"]);
    wait_for(&profile, "thinking");
    let mut run = profile.spawn(&["run", "g"]);
    profile.looop(&["status"]).ok();
    profile.script(&[NOOP]);
    assert!(run.try_wait().unwrap().is_none(), "it did not wait");
    fs::write(profile.path("words"), NOOP).unwrap();
    for one in [tick, run] {
        let ran = end(one).ok();
        assert!(ran.stdout.contains("noop"), "{ran:?}");
    }
    let journal = profile.read("journal.md");
    assert_eq!(journal.lines().count(), 2, "{journal}");
}

#[test]
fn a_beat_that_is_not_visible_is_not_the_user() {
    // Root inside its own namespaces, where the beat has no process id.
    let away = "unshare --user --map-root-user --pid --fork --mount-proc";
    let probe = Command::new("sh").args(["-c", &format!("{away} true")]).output().unwrap();
    if !probe.status.success() {
        return skipped("no namespaces for users");
    }
    let profile = Profile::scripted(&[r#"{"move":"run","argv":["../try.sh"],"why":"w"}"#, NOOP]);
    // A sandbox has no namespaces within it.
    profile.without_sandbox(&["run"]);
    profile.config_more(json!({"policy": {"allow": [{"argv": ["../try.sh"]}]}}));
    let vars = "export LOOOP_DATA_DIR=data LOOOP_CONFIG=looop.json HOME=home";
    script(&profile, "try.sh", &format!("{vars}\n{away} {LOOOP} goal write x y >said 2>&1"));
    profile.looop(&["tick"]).ok();
    let printed = fs::read_to_string(profile.path("said")).unwrap();
    assert!(printed.contains("this is for the user"), "{printed}");
    assert!(!profile.data().join("goals/x.md").exists());
}

/// Ways to get away from the beat that are still no way to be a user.
const GUISES: [&str; 5] =
    ["", "env -i LOOOP_DATA_DIR=data LOOOP_CONFIG=looop.json HOME=home", "setsid", "nohup", "setsid -f -w"];

/// What only a user may do, and what would show that it was done.
const VERBS: [&str; 11] = [
    "goal write x y",
    "goal archive g",
    "playbook write mine",
    "schedule set t --in 1h note",
    "schedule remove timer",
    "sensor archive s.sh",
    "pause",
    "resume",
    "run g",
    "answer none yes",
    "approve none --hash 00",
];

/// Shell lines that try each verb in each guise and keep what was said.
fn attempts() -> String {
    let mut lines = String::from("export LOOOP_DATA_DIR=data LOOOP_CONFIG=looop.json HOME=home\n");
    for guise in GUISES {
        for verb in VERBS {
            lines += &format!("{guise} {LOOOP} {verb} >>said 2>&1; echo \"$? {guise}: {verb}\" >>codes\n");
        }
        // An orphan of an orphan: its parent is gone before it begins.
        lines += &format!(
            "( ( {guise} sh -c '{LOOOP} goal write x y >>said 2>&1; echo \"$? orphan {guise}\" >>codes' & ) & )\n"
        );
    }
    lines + "while [ $(wc -l <codes) -lt 60 ]; do sleep 0.01; done"
}

#[test]
#[ignore = "slow"]
fn nothing_that_a_beat_started_can_use_a_user_verb() {
    assert_eq!(GUISES.len() * (VERBS.len() + 1), 60);
    for place in ["run", "runner", "sensor"] {
        let profile = Profile::scripted(&[r#"{"move":"run","argv":["../try.sh"],"why":"w"}"#, NOOP]);
        // The wall behind the sandbox is what is looked at here.
        profile.without_sandbox(&["run", "sensor"]);
        profile.goal("g", "goal: g\n");
        profile.sensor("s.sh", "echo '{}'");
        profile.looop(&["schedule", "set", "timer", "--in", "9h", "note"]).ok();
        let path = script(&profile, "try.sh", &attempts());
        match place {
            "run" => profile.config_more(json!({"policy": {"allow": [{"argv": ["../try.sh"]}]}})),
            "runner" => runner(&profile, &format!("sh {}\necho '{NOOP}'", path.display())),
            _ => profile.sensor("try.sh", &format!("sh {} >/dev/null 2>&1\necho '{{}}'", path.display())),
        }
        profile.looop(&["tick"]).ok();
        let printed = fs::read_to_string(profile.path("said")).unwrap();
        let codes = fs::read_to_string(profile.path("codes")).unwrap();
        assert_eq!(codes.lines().count(), 60, "{place}: {codes}\n{printed}");
        for line in codes.lines() {
            assert!(line.starts_with("1 "), "{place}: {line}\n{printed}");
        }
        let refusals =
            printed.matches("this is for the user, and a beat of looop started this process").count();
        assert_eq!(refusals, 60, "{place}: {printed}");
        let there = |name: &str| profile.data().join(name).exists();
        assert!(there("goals/g.md") && there("schedules/timer.json") && there("sensors/s.sh"), "{place}");
        assert!(!there("goals/x.md") && !there("schedules/t.json") && !there("paused.json"), "{place}");
        assert_eq!(left(&profile), Vec::<String>::new(), "{place}");
    }
}
