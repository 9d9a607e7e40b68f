//! `looop status` begins with what is broken, in text and JSON, and exits 1; what merely waits is not broken.

use std::fs;

use looop::rules::fix::{FixSession, UnderWay};
use looop::store::{json_file, layout::Layout, lock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::profile::{Profile, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"w"}"#;

/// A change to a profile, the name of its finding, and what status says of it.
type Row = (fn(&Profile), &'static str, &'static str);

#[test]
fn what_is_broken_comes_first_and_makes_the_exit_code_1() {
    let rows: [Row; 9] = [
        (|profile| fs::write(profile.config_file(), "{").unwrap(), "config", "could not read the config"),
        (
            |profile| profile.config_more(json!({ "decide": "clade" })),
            "config",
            "could not find the runner `clade`",
        ),
        (
            |profile| fs::remove_file(profile.data().join("PLAYBOOK.md")).unwrap(),
            "playbook",
            "it does not exist",
        ),
        (
            |profile| fs::write(profile.data().join("goals/g.md"), b"\xff").unwrap(),
            "goals",
            "goals/g.md cannot be read: ",
        ),
        (
            |profile| fs::write(profile.data().join("goals/g.md"), "x".repeat(300 * 1024)).unwrap(),
            "goals",
            "goals/g.md cannot be read: ",
        ),
        (fail_twice, "decisions", "failing since "),
        (die, "pulse", "it is down: the one that began at "),
        (
            |profile| rustix::fs::chmod(profile.data(), 0o500.into()).unwrap(),
            "data dir",
            "you cannot write it (mode 500)",
        ),
        (from_the_future, "clock", "the clock was set back"),
    ];
    for (make, what, words) in rows {
        let profile = Profile::scripted(&[NOOP]);
        profile.looop(&["tick"]).ok();
        profile.looop(&["status"]).ok();
        make(&profile);
        let text = profile.looop(&["status"]).exits(1).stdout;
        let first = text.lines().next().unwrap();
        assert!(first.starts_with(&format!("broken    {what}: ")) && first.contains(words), "{what}: {text}");
        assert!(text.lines().any(|line| line.starts_with("goals ")), "the rest follows: {text}");
        let json = profile.looop(&["status", "--json"]).exits(1).json();
        let found = &json["findings"][0];
        assert_eq!((&found["health"], &found["what"]), (&json!("bad"), &json!(what)), "{json}");
        assert!(json["data_dir"].is_string(), "it is complete: {json}");
        rustix::fs::chmod(profile.data(), 0o700.into()).unwrap();
    }
}

/// The time of the first failure stays when another one follows.
fn fail_twice(profile: &Profile) {
    profile.shell_runner("exit 3");
    profile.goal("g", "goal: one\n");
    profile.looop(&["tick"]).exits(1);
    let first = profile.read_json("beat.json")["backoff"]["at_ms"].clone();
    profile.goal("g", "goal: two\n");
    profile.looop(&["tick"]).exits(1);
    let backoff = &profile.read_json("beat.json")["backoff"];
    assert_eq!((&backoff["fails"], &backoff["since_ms"]), (&json!(2), &first), "{backoff}");
}

fn die(profile: &Profile) {
    let mut pulse = profile.spawn(&[]);
    wait_until("the pulse", || profile.looop(&["status", "--json"]).json()["pulse"]["alive"] == true);
    pulse.kill().unwrap();
    pulse.wait().unwrap();
}

fn from_the_future(profile: &Profile) {
    let mut beat = profile.read_json("beat.json");
    beat["last"]["at_ms"] = (beat["last"]["at_ms"].as_i64().unwrap() + 3_600_000).into();
    fs::write(profile.data().join("beat.json"), beat.to_string()).unwrap();
}

#[test]
fn what_merely_waits_is_not_broken() {
    let profile = Profile::scripted(&[r#"{"move":"ask","text":"Which?","options":[],"why":"w"}"#, NOOP]);
    profile.looop(&["tick"]).ok();
    profile.looop(&["pause", "on holiday"]).ok();
    // A pulse that ends as it was told to is not missed.
    let mut pulse = profile.spawn(&[]);
    wait_until("the pulse", || profile.looop(&["status", "--json"]).json()["pulse"]["alive"] == true);
    kill_process(Pid::from_child(&pulse), Signal::INT).unwrap();
    assert!(pulse.wait().unwrap().success());
    let json = profile.looop(&["status", "--json"]).ok().json();
    assert_eq!(json["findings"], json!([]));
    assert_eq!(json["asks"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_running_fix_has_a_line() {
    let profile = Profile::scripted(&[NOOP]);
    let layout = Layout::new(profile.data(), profile.path("cache"));
    let dir = layout.fixes().join("app");
    fs::create_dir_all(&dir).unwrap();
    let held = lock::tick(&dir.join("lock")).unwrap();
    let under_way = json!({ "goal": "sums", "n": 3, "start": "", "hypothesis": "", "called": null });
    let under_way: UnderWay = serde_json::from_value(under_way).unwrap();
    let session =
        FixSession { project: "/src/app".to_owned(), under_way: Some(under_way), ..FixSession::default() };
    fs::write(dir.join("run.json"), json_file::json_text(&session).unwrap()).unwrap();
    let line = format!("fix       /src/app: sums, attempt 3 (process {})\n", std::process::id());
    profile.looop(&["status"]).shows(&[&line]);
    drop(held);
    assert!(!profile.looop(&["status"]).ok().stdout.contains("/src/app"));
}
