//! Process trees out of the ordinary: looop as process 1, children that leave their group, children it did not start.

use std::time::{Duration, Instant};
use std::{fs, process::Command};

use rustix::process::Signal;
use serde_json::json;

use crate::races::{hang, left, runner, script, send, wait_for};
use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, NOOP, Profile, Ran, wait_until};
use crate::support::rows::{has_strace, kill};

/// What a deadline of one second may cost: the polite signal, the other one, and a busy machine.
const IN_TIME: Duration = Duration::from_secs(12);

/// Becomes a process that ignores SIGTERM and has a child in a group of its own, which lives on for a minute. Its line
/// can be found by the profile's path.
fn with_another_group(profile: &Profile, then: &str) -> String {
    let code = format!(
        "$SIG{{TERM}} = \"IGNORE\"; if (fork) {{ wait; exit }} setpgrp(0, 0) or die; {then} sleep 60"
    );
    format!("exec perl -e '{code}' {}", profile.path("").display())
}

#[test]
fn a_child_of_a_beat_is_not_the_user_even_if_the_beat_is_process_1() {
    let away = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    if !Command::new("unshare").args(away).arg("true").output().is_ok_and(|ran| ran.status.success()) {
        return skipped("no namespaces for processes");
    }
    let profile = Profile::scripted(&[NOOP]);
    // It tells of it outside.
    profile.without_sandbox(&["sensor"]);
    profile.sensor(
        "s.sh",
        &format!(
            "export LOOOP_CONFIG={0}/looop.json HOME={0}/home\n{LOOOP} pause >{0}/said 2>&1\necho \"{{\\\"by\\\":$PPID}}\"",
            profile.path("").display()
        ),
    );
    let argv: Vec<&str> = away.into_iter().chain([LOOOP, "tick"]).collect();
    Ran::from(profile.other_command("unshare", &argv).output().unwrap()).ok();
    assert_eq!(profile.read_json("snapshots/s.json")["signal"], json!({"by": 1}), "the beat was process 1");
    let printed = fs::read_to_string(profile.path("said")).unwrap();
    assert!(printed.contains("this is for the user"), "{printed}");
    assert!(!profile.data().join("paused.json").exists());
}

#[test]
fn a_child_of_a_beat_is_not_the_user_in_a_namespace_with_the_hosts_proc() {
    if !Command::new("unshare").args(["-Urpf", "true"]).output().is_ok_and(|ran| ran.status.success()) {
        return skipped("no namespaces for processes");
    }
    let profile = Profile::scripted(&[NOOP]);
    // A sandbox has no namespaces within it, and is not what is looked at here.
    profile.without_sandbox(&["sensor", "worker"]);
    let away = format!(
        "export LOOOP_CONFIG={0}/looop.json HOME={0}/home\nunshare -Urpf {LOOOP} pause >{0}/said 2>&1",
        profile.path("").display()
    );
    profile.sensor("s.sh", &format!("{away}\necho '{{}}'"));
    profile.looop(&["tick"]).ok();
    let printed = fs::read_to_string(profile.path("said")).unwrap();
    assert!(printed.contains("this is for the user, and a beat of looop started this process"), "{printed}");
    fs::remove_file(profile.data().join("sensors/s.sh")).unwrap();
    fs::remove_file(profile.path("said")).unwrap();
    profile.looop(&["worker", "start", "w", "--", "sh", "-c", &away]).ok();
    wait_until("the worker to be answered", || {
        fs::read_to_string(profile.path("said")).is_ok_and(|printed| printed.ends_with('\n'))
    });
    let printed = fs::read_to_string(profile.path("said")).unwrap();
    assert!(printed.contains("this is for the user, and a worker started this process"), "{printed}");
    assert!(!profile.data().join("paused.json").exists());
}

#[test]
#[ignore = "slow"]
fn a_child_that_left_the_group_of_a_sensor_is_ended_at_its_deadline() {
    let profile = Profile::scripted(&[NOOP]);
    profile.sensor("away.sh", &format!("# looop: timeout=1s\n{}", with_another_group(&profile, "")));
    let start = Instant::now();
    profile.looop(&["tick"]).ok();
    assert!(start.elapsed() < IN_TIME, "{:?}", start.elapsed());
    assert_eq!(profile.read_json("snapshots/away.json")["signal"], json!({"error": "timeout"}));
    assert_eq!(left(&profile), Vec::<String>::new());
}

#[test]
#[ignore = "slow"]
fn a_child_that_left_the_group_of_a_command_is_ended_by_the_beat_after_a_crash() {
    let profile = Profile::scripted(&[r#"{"move":"run","argv":["../work.sh"],"why":"w"}"#, NOOP]);
    profile.without_sandbox(&["run"]);
    profile.config_more(json!({"policy": {"allow": [{"argv": ["../work.sh"]}]}}));
    script(&profile, "work.sh", &with_another_group(&profile, "open(F, \">working\"); close(F);"));
    let mut tick = profile.spawn(&["tick"]);
    wait_for(&profile, "working");
    send(&tick, Signal::KILL);
    tick.wait().unwrap();
    profile.looop(&["tick"]).ok();
    assert_eq!(left(&profile), Vec::<String>::new());
    let journal = profile.read("journal.md");
    assert!(journal.contains("it was still running and was ended"), "{journal}");
}

#[test]
fn a_runner_that_outlived_a_killed_beat_is_ended_before_the_next_one_asks() {
    let profile = Profile::scripted(&[NOOP]);
    let hang = hang(&profile);
    let here = profile.path("").display().to_string();
    runner(&profile, &format!("cd {here}\necho >>asked\n({hang}) >/dev/null &\n{hang} >/dev/null"));
    let mut tick = profile.spawn(&["tick"]);
    wait_for(&profile, "asked");
    wait_until("both to think", || {
        left(&profile).iter().filter(|line| line.starts_with("tail")).count() == 2
    });
    send(&tick, Signal::KILL);
    tick.wait().unwrap();
    assert!(!left(&profile).is_empty(), "the kill alone ends nobody");
    profile.looop(&["tick"]);
    assert_eq!(left(&profile), Vec::<String>::new());
    assert_eq!(fs::read_to_string(profile.path("asked")).unwrap().lines().count(), 1);
}

#[test]
#[ignore = "slow"]
fn a_command_that_cannot_be_watched_never_begins() {
    if !has_strace() {
        return skipped("no strace");
    }
    let profile = Profile::scripted(&[r#"{"move":"run","argv":["../work.sh"],"why":"w"}"#, NOOP]);
    profile.without_sandbox(&["run"]);
    profile.config_more(json!({"policy": {"allow": [{"argv": ["../work.sh"]}]}}));
    script(&profile, "work.sh", "touch began");
    profile.looop(&["status"]).ok();
    // The first watch is for the runner. The other one fails after a wait in which a command could begin.
    let inject = "inject=pidfd_open:error=EMFILE:delay_enter=1000000:when=2+";
    let strace = ["-qq", "-o", "/dev/null", "-e", "trace=pidfd_open", "-e", inject, LOOOP, "tick"];
    Ran::from(profile.other_command("strace", &strace).output().unwrap()).ok().prints(&["not done: "]);
    assert!(!profile.path("began").exists(), "it is called not done, and it began");
}

#[test]
fn what_a_child_that_looop_did_not_start_leaves_behind_is_left_alone() {
    let profile = Profile::scripted(&[NOOP]);
    let here = profile.path("").display().to_string();
    let wait_for = |file: &str| format!("while [ ! -s {here}/{file} ]; do sleep 0.02; done");
    profile.without_sandbox(&["sensor"]);
    profile.sensor("s.sh", &format!("echo y >{here}/sensed; {}; echo '{{}}'", wait_for("pid")));
    let job = format!("({}; sleep 300 >/dev/null 2>&1 & echo $! >{here}/pid)", wait_for("sensed"));
    let line = format!("{job} >/dev/null 2>&1 & exec {LOOOP} tick");
    Ran::from(profile.other_command("sh", &["-c", &line]).output().unwrap()).ok();
    let pid = profile.read("../pid");
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.trim())).unwrap_or_default();
    assert_eq!(name, "sleep\n", "it was ended with the beat");
    kill("-TERM", pid.trim().parse().unwrap());
}

#[test]
fn a_beat_beside_children_that_it_did_not_start_ends_as_one_alone() {
    let profile = Profile::scripted(&[NOOP]);
    let line = |verb: &str| format!("sleep 1 >/dev/null 2>&1 & exec {LOOOP} {verb}");
    let ran = |verb: &str| Ran::from(profile.other_command("sh", &["-c", &line(verb)]).output().unwrap());
    assert_eq!(ran("tick --dry-run").code, 0);
    assert_eq!(ran("run nothing-here").code, 2);
    let body = format!("cd {}; echo >>asked; {}", profile.path("").display(), hang(&profile));
    runner(&profile, &body);
    let mut tick = profile.other_command("sh", &["-c", &line("tick")]).spawn().unwrap();
    wait_until("it to think", || profile.path("asked").exists());
    send(&tick, Signal::TERM);
    assert!(tick.wait().unwrap().code().is_some(), "it was asked to end, and said how it ended");
    assert_eq!(left(&profile), Vec::<String>::new());
}

#[test]
fn children_that_looop_did_not_start_are_left_alone() {
    let profile = Profile::scripted(&[NOOP]);
    // A stray of its own sensor is ended in the same beat.
    profile.sensor("s.sh", &format!("setsid {} >/dev/null 2>&1 &\necho '{{}}'", hang(&profile)));
    let line =
        format!("sleep 300 >/dev/null 2>&1 & echo $! >{}; exec {LOOOP} tick", profile.path("pid").display());
    let start = Instant::now();
    Ran::from(profile.other_command("sh", &["-c", &line]).output().unwrap()).ok();
    assert!(start.elapsed() < IN_TIME, "{:?}", start.elapsed());
    assert_eq!(left(&profile), Vec::<String>::new());
    let pid = fs::read_to_string(profile.path("pid")).unwrap();
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.trim())).unwrap_or_default();
    assert_eq!(name, "sleep\n", "the child that was there before is gone");
    kill("-TERM", pid.trim().parse().unwrap());
    wait_until("it to end", || !fs::exists(format!("/proc/{}/exe", pid.trim())).unwrap_or(false));
}
