//! Moves about workers in a beat that is killed: a worker is started, told and ended at most once, and never without a
//! word.

use std::fs;

use serde_json::json;

use super::{After, Scene, add_record, approve, scene};
use crate::support::profile::{Profile, wait_until};

/// A worker that leaves its line in the sink and ends; approved before the beat.
pub fn start() -> Scene {
    let reply = json!({"move": "start_worker", "id": "w1", "brief": "Record.", "goal": "keep", "why": "w"});
    let prepare = |profile: &Profile| {
        add_record(profile);
        let mut config = profile.config_value();
        config["runners"]["scripted"]["worker"] = json!([profile.path("record.sh"), "{brief}"]);
        config["worker"] = "scripted".into();
        // With a whole sandbox in force nobody would be asked, and it would leave no trace outside.
        config["sandbox"]["worker"] = "none".into();
        profile.config(config);
        approve(profile);
    };
    Scene { prepare, settle: |profile| wait_over(profile), ..scene("start_worker", reply, started_once) }
}

pub fn stop() -> Scene {
    let reply = json!({"move": "stop_worker", "id": "w1", "why": "w"});
    let settle = |profile: &Profile| {
        // A kill that was said is heard, or the journal says that it was not.
        let journal = fs::read_to_string(profile.data().join("journal.md")).unwrap_or_default();
        if journal.contains(" stop_worker ") {
            wait_over(profile);
        }
        end(profile);
    };
    Scene { begin: live, settle, ..scene("stop_worker", reply, stopped) }
}

pub fn tell() -> Scene {
    let reply = json!({"move": "tell_worker", "id": "w1", "text": "Hear, hear.", "why": "w"});
    Scene { begin: live, settle: end, ..scene("tell_worker", reply, notified_once) }
}

fn live(profile: &Profile) {
    profile.looop(&["worker", "start", "w1", "--", "sleep", "600"]).ok();
}

fn states(profile: &Profile) -> Vec<String> {
    let all = profile.looop(&["ls", "--json"]).ok().json();
    all["workers"].as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect()
}

fn wait_over(profile: &Profile) {
    let over = |state: &String| ["exited", "failed", "killed", "lost"].contains(&state.as_str());
    wait_until("workers have ended", || states(profile).iter().all(over));
}

/// A user ends what is left.
fn end(profile: &Profile) {
    // One that has ended already is no error here.
    let _ended = profile.looop(&["kill", "w1"]);
    wait_over(profile);
}

/// The directories of all workers there ever were.
fn dirs(after: &After) -> Vec<std::path::PathBuf> {
    let mut dirs = Vec::new();
    for below in ["workers", "workers/past"] {
        let entries = fs::read_dir(after.profile.data().join(below)).into_iter().flatten().flatten();
        dirs.extend(entries.map(|entry| entry.path()).filter(|path| path.join("spec.json").exists()));
    }
    dirs
}

fn started_once(after: &After) -> Option<String> {
    let ran = fs::read_to_string(after.profile.path("sink")).unwrap_or_default().lines().count();
    let messages = after.lines("start_worker");
    let lost = after.profile.looop(&["ls", "--all", "--json"]).ok().stdout.contains("\"state\":\"lost\"");
    let sure = |words: &str| messages.iter().any(|line| line.contains(words));
    // Started and never run is said by the worker, which stands as lost.
    let right = match (ran, messages.len(), dirs(after).len()) {
        (1, 1, 1) => sure("— done") || sure("— unknown: "),
        (0, 1, 1) => lost && (sure("— done") || sure("— unknown: ")),
        (0, 1, 0) => sure("— not done: ") || sure("— unknown: "),
        _ => false,
    };
    let staged = after.count("workers", ".new-");
    let state = format!("{} workers, it ran {ran} times, lost: {lost}, {messages:?}", dirs(after).len());
    (!right || staged > 0).then_some(state)
}

fn stopped(after: &After) -> Option<String> {
    let messages = after.lines("stop_worker");
    let ends = fs::read_to_string(after.profile.data().join("journal.md")).unwrap_or_default();
    let by_move = ends.contains("worker w1 — killed");
    (messages.len() > 1 || !by_move || dirs(after).len() != 1).then(|| format!("{messages:?}, {ends}"))
}

fn notified_once(after: &After) -> Option<String> {
    let read = |dir: &std::path::PathBuf| fs::read_to_string(dir.join("told.jsonl")).unwrap_or_default();
    let texts: usize = dirs(after).iter().map(|dir| read(dir).lines().count()).sum();
    let messages = after.lines("tell_worker");
    let done = messages.iter().filter(|line| line.contains("— done")).count();
    (messages.len() > 1 || texts != done).then(|| format!("{texts} texts, {messages:?}"))
}
