//! One data dir on two machines, which push to and pull from a bare repository.

use std::fs;
use std::process::Command;

use crate::support::profile::{Profile, git_in};

const NOOP: &str = r#"{"move":"noop","why":"w"}"#;

/// A profile whose data dir is a clone of this one's, as `looop init` completes it.
fn second(first: &Profile) -> Profile {
    let bare = first.path("bare.git");
    git_in(&first.data(), &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    first.git(&["remote", "add", "origin", bare.to_str().unwrap()]);
    first.git(&["fetch", "-q"]);
    first.git(&["branch", "-q", "--set-upstream-to=origin/main"]);
    let second = Profile::empty();
    second.script(&[NOOP]);
    git_in(&second.path(""), &["clone", "-q", bare.to_str().unwrap(), second.data().to_str().unwrap()]);
    rustix::fs::chmod(second.data(), 0o700.into()).unwrap();
    second.looop(&["init"]).ok();
    // A clone has no loop state: its loop stands still until its user lets it run.
    second.looop(&["tick"]).exits(1).prints(&["halted: "]);
    second.looop(&["resume"]).ok();
    second
}

/// A profile with a sensor that reads a file of the machine.
fn first() -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.sensor("load.sh", "cat \"$HOME/load\"");
    change(&profile, "one");
    profile
}

/// A change of the user and of the machine, and a beat that sees them.
fn change(profile: &Profile, name: &str) {
    fs::write(profile.path("home/load"), format!("{{\"signal\":\"{name}\"}}")).unwrap();
    profile.goal(name, &format!("goal: {name}\n"));
    profile.looop(&["tick"]).ok().prints(&["noop"]);
}

#[test]
fn a_pull_merges_the_journals_and_touches_no_state() {
    let first = first();
    let second = second(&first);
    for (round, profile, other) in [("a", &first, &second), ("b", &second, &first)] {
        change(profile, &format!("first-{round}"));
        change(other, &format!("second-{round}"));
        let state = profile.read("beat.json");
        let world = profile.read("world.json");
        other.git(&["pull", "-q", "--no-rebase"]);
        other.git(&["push", "-q"]);
        profile.git(&["pull", "-q", "--no-rebase"]);
        profile.git(&["push", "-q"]);
        other.git(&["pull", "-q", "--no-rebase"]);
        assert_eq!((profile.read("beat.json"), profile.read("world.json")), (state, world));
        for one in [profile, other] {
            assert_eq!(one.git(&["status", "--porcelain"]), "");
            one.looop(&["status"]).ok();
            let log = one.looop(&["log", "-n", "100", "--json"]).ok().json();
            let beats = log["lines"].as_array().unwrap().len();
            assert_eq!(beats, one.read("journal.md").lines().count(), "each line is whole");
            one.looop(&["tick"]).ok();
            one.git(&["fsck", "--strict"]);
        }
    }
    let mut lines: Vec<Vec<String>> = Vec::new();
    for one in [&first, &second] {
        one.git(&["pull", "-q", "--no-rebase"]);
        one.git(&["push", "-q"]);
    }
    first.git(&["pull", "-q", "--no-rebase"]);
    for one in [&first, &second] {
        let mut own: Vec<String> = one.read("journal.md").lines().map(str::to_owned).collect();
        own.sort();
        lines.push(own);
    }
    assert_eq!(lines[0], lines[1], "both have all lines");
    assert!(lines[0].windows(2).all(|pair| pair[0] != pair[1]), "each line once");
}

#[test]
fn a_conflict_in_a_goal_is_named_and_nothing_is_committed_until_it_is_resolved() {
    let first = first();
    let second = second(&first);
    first.goal("one", "goal: this\n");
    second.goal("one", "goal: that\n");
    for one in [&first, &second] {
        one.looop(&["tick"]).ok();
    }
    second.git(&["push", "-q"]);
    let mut pull = Command::new("git");
    let pulled = pull.args(["pull", "-q", "--no-rebase"]).current_dir(first.data()).output().unwrap();
    assert!(!pulled.status.success(), "both have edited the goal: {pulled:?}");
    let head = first.git(&["rev-parse", "HEAD"]);
    first.looop(&["doctor"]).exits(1).prints(&["a git merge is in progress"]);
    first.looop(&["tick"]).ok();
    assert_eq!(first.git(&["rev-parse", "HEAD"]), head);
    fs::write(first.data().join("goals/one.md"), "goal: both\n").unwrap();
    first.git(&["add", "-A"]);
    first.git(&["commit", "-qm", "both"]);
    first.looop(&["tick"]).ok();
    first.looop(&["doctor"]).prints(&["ok   history"]);
    assert_eq!(first.git(&["status", "--porcelain"]), "");
}
