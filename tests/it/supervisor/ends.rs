//! Ends: by limits, by signals, twice, with many children, and what does not end a worker.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{NOOP, TmuxFixture};
use crate::support::profile::{Profile, wait_until};

#[test]
#[ignore = "slow"]
fn limits_end_a_worker_and_say_which() {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({ "budget": { "worker_usd": 1 }, "limits": { "worker_wall": "1s" } }));
    let terminal = TmuxFixture::with(profile, &[], "sleep 600");
    terminal.wait_state("failed");
    assert!(terminal.row()["why"].as_str().unwrap().contains("it ran for 1s"), "{}", terminal.row());
    terminal.profile.config_more(json!({ "limits": {} }));
    let script =
        "looop spend --usd 0.4; looop spend --usd 0.59; touch poor; looop spend --usd 0.02; sleep 600";
    terminal.profile.looop(&["worker", "start", "w1", "--", "sh", "-c", script]).ok();
    terminal.wait_state("failed");
    assert!(terminal.file("poor").exists(), "a budget that is not spent ends nothing");
    let row = terminal.row();
    assert!(row["why"].as_str().unwrap().contains("it spent its budget of $1"), "{row}");
    assert_eq!(row["cost_usd"], 1.0, "no more than its budget is counted");
}

/// Starts the supervisor of a worker whose limits nobody could configure so.
#[test]
fn too_much_output_ends_a_worker() {
    let terminal = TmuxFixture::start(&[], "true");
    terminal.wait_state("exited");
    let mut spec: Value = terminal.profile.read_json("workers/w1/spec.json");
    spec["id"] = "w2".into();
    spec["argv"] = json!(["/bin/sh", "-c", "yes"]);
    spec["cwd"] = "/".into();
    spec["sandbox"] = Value::Null;
    spec["limits"]["output_bytes"] = 3_000_000.into();
    let dir = terminal.profile.data().join("workers/w2");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("spec.json"), spec.to_string()).unwrap();
    let (root, cache) = (terminal.profile.data(), terminal.profile.path("cache"));
    let args = ["__supervise", root.to_str().unwrap(), cache.to_str().unwrap(), "w2"];
    for cut_short in ["", r#"[["TOKEN","se"#] {
        let ran = terminal.profile.looop_with(&args, cut_short);
        assert!(ran.code == 1 && ran.stdout.is_empty(), "its starter is gone: {cut_short:?}: {ran:?}");
    }
    assert!(!dir.join("state.json").exists() && !dir.join("attach.sock").exists());
    let printed = terminal.profile.looop_with(&args, "[]");
    assert_eq!(printed.stdout, "ok\n");
    let row = terminal.profile.wait_worker("w2", &["failed"]);
    assert!(row["why"].as_str().unwrap().contains("it printed more than 2 MiB"), "{row}");
    let length = dir.join("transcript.raw").metadata().unwrap().len();
    assert!((3_000_000..30_000_000).contains(&length), "{length}");
}

#[test]
#[ignore = "slow"]
fn what_was_killed_is_killed_once_and_takes_no_more_requests() {
    let terminal = TmuxFixture::start(&[], "trap '' HUP TERM; touch ready; while :; do sleep 0.1; done");
    terminal.wait_file("ready");
    let kills = [terminal.profile.spawn(&["kill", "w1"]), terminal.profile.spawn(&["kill", "w1"])];
    for kill in kills {
        let ran = kill.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "w1: killed\n", "{ran:?}");
    }
    for verb in [&["kill", "w1"][..], &["flag", "w1", "x"], &["unflag", "w1"], &["tell", "w1", "x"]] {
        let ran = terminal.profile.looop(verb);
        assert!(ran.code != 0 && ran.stderr.starts_with("error: "), "{verb:?}: {ran:?}");
    }
    let journal = terminal.profile.read("journal.md");
    assert_eq!(journal.matches("worker w1 — killed").count(), 1, "{journal}");
    let names = fs::read_dir(terminal.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let sockets = names.filter(|name| name.to_string_lossy().ends_with(".sock")).count();
    assert_eq!(sockets, 0, "nobody is asked who is not there");
}

#[test]
fn a_supervisor_that_is_asked_to_end_ends_its_worker_first() {
    let child = format!("sleep 616.{}", std::process::id());
    let terminal = TmuxFixture::start(&["--goal", "g1"], &format!("{child} & touch ready; wait"));
    terminal.wait_file("ready");
    terminal.signal("-TERM");
    terminal.wait_state("killed");
    let left = Command::new("pgrep").args(["-fc", &format!("^{child}$")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "0", "a child is left");
    assert!(!terminal.profile.data().join("claims/goal.g1.json").exists(), "the lease is given back");
}

#[test]
fn hundreds_of_children_that_heed_nothing_end_with_their_worker_and_orphans_are_reaped_before() {
    let script = r#"
        i=0; while [ $i -lt 200 ]; do (sleep 0.01 &); i=$((i+1)); done
        i=0; while [ $i -lt 300 ]; do (trap '' TERM HUP; exec setsid sleep 60606) & i=$((i+1)); done
        touch ready; wait"#;
    let terminal = TmuxFixture::start(&[], script);
    terminal.wait_file("ready");
    let supervisor = terminal.supervisor();
    let children = |state: char| {
        let out =
            Command::new("ps").args(["-o", "stat=", "--ppid", &supervisor.to_string()]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).lines().filter(|line| line.starts_with(state)).count()
    };
    wait_until("orphans are reaped", || children('Z') == 0);
    assert_eq!(terminal.profile.looop(&["kill", "w1"]).ok().stdout, "w1: killed\n");
    let left = Command::new("pgrep").args(["-fc", "^sleep 60606"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "0");
}

/// A program may let go of its terminal for a while, as daemons and some build tools do.
#[test]
fn a_worker_without_open_terminal_is_not_hung_up_on() {
    let terminal = TmuxFixture::start(
        &[],
        "exec </dev/null >/dev/null 2>&1; sleep 0.5; looop spend --usd 0.1; echo back >/dev/tty",
    );
    terminal.wait_state("exited");
    assert_eq!(terminal.profile.read("workers/w1/transcript.raw"), "back\r\n");
}

#[test]
#[ignore = "slow"]
fn a_check_that_closes_its_output_does_not_keep_the_supervisor_busy() {
    let profile = Profile::scripted(&[NOOP]);
    let check = "exec >/dev/null 2>&1; sleep 1; touch slept; while [ ! -e go ]; do sleep 0.02; done";
    profile.config_more(json!({ "verify": { "quiet": ["sh", "-c", check] } }));
    let terminal = TmuxFixture::with(profile, &["--verify", "quiet"], "true");
    terminal.wait_file("slept");
    let stat = fs::read_to_string(format!("/proc/{}/stat", terminal.supervisor())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    assert!(ticks < 40, "it was busy for {ticks} ticks of its second");
    fs::write(terminal.file("go"), "").unwrap();
    terminal.wait_state("done");
}

#[test]
#[ignore = "slow"]
fn one_worker_cannot_hold_leases_without_end() {
    let script =
        "i=0; while [ $i -lt 70 ]; do looop claim c$i >>out 2>&1; i=$((i+1)); done; touch done; sleep 600";
    let terminal = TmuxFixture::start(&[], script);
    terminal.wait_file("done");
    let claims = fs::read_dir(terminal.profile.data().join("claims")).unwrap();
    let names = claims.map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().starts_with('c')).count(), 64);
    assert!(terminal.text("out").contains("has 64 leases already"));
}
