//! Moves that wait for a user, and the verbs of humans themselves, killed anywhere: a word is said whole or not at all, and
//! what it allowed is done once or told.

use std::fs;

use serde_json::{Value, json};

use super::{After, BODY, Scene, approve, scene, wait};
use crate::support::profile::Profile;

const SENSOR: &str = "#!/bin/sh\necho '{\"n\":2}'\n";

pub fn scenes() -> Vec<Scene> {
    let playbook = json!({"move": "write_playbook", "body": BODY, "why": "w"});
    let sensor = json!({"move": "write_sensor", "name": "two.sh", "script": SENSOR, "why": "w"});
    let question = json!({"move": "ask", "text": "Which?", "why": "w"});
    let timer = json!({"move": "drop_schedule", "name": "later", "why": "w"});
    vec![
        Scene {
            every: 30,
            prepare: approve,
            ..scene("approved write_playbook", playbook.clone(), playbook_written)
        },
        Scene { every: 30, prepare: approve, ..scene("approved write_sensor", sensor, sensor_written) },
        Scene { every: 30, prepare: set_timer, ..scene("drop_schedule", timer, dropped) },
        Scene { prepare: wait, verb: &["answer", "ask", "red"], ..scene("answer", question, answered) },
        Scene { prepare: wait, verb: &["reject", "ap", "no"], ..scene("reject", playbook, rejected) },
        Scene { verb: &["claim", "thing", "--ttl", "1h"], ..scene("claim", noop(), claimed) },
        Scene { prepare: hold, verb: &["release", "thing"], ..scene("release", noop(), claimed) },
        Scene { verb: &["pause", "tea"], settle: resume, ..scene("pause", noop(), |_| None) },
        Scene {
            verb: &["goal", "archive", "keep"],
            settle: again,
            ..scene("goal archive", noop(), |_| None)
        },
    ]
}

fn noop() -> Value {
    json!({"move": "noop", "why": "w"})
}

fn set_timer(profile: &Profile) {
    profile.looop(&["schedule", "set", "later", "--in", "1h", "n"]).ok();
}

fn hold(profile: &Profile) {
    profile.looop(&["claim", "thing", "--ttl", "1h"]).ok();
}

fn resume(profile: &Profile) {
    profile.looop(&["resume"]).ok();
}

/// The goal that the second beat is for, where it was archived.
fn again(profile: &Profile) {
    profile.goal("keep", "goal: stay as you are\n");
}

fn playbook_written(after: &After) -> Option<String> {
    let text = after.text("PLAYBOOK.md").unwrap_or_default();
    messages(after, "write_playbook", text == BODY)
}

fn sensor_written(after: &After) -> Option<String> {
    let text = after.text("sensors/two.sh");
    let torn = text.as_ref().is_some_and(|text| !text.contains("\"n\":2}'\n"));
    if torn { Some(format!("torn: {text:?}")) } else { messages(after, "write_sensor", text.is_some()) }
}

/// An approval is never lost without a word, and what the journal is sure of is true.
fn messages(after: &After, tag: &str, made: bool) -> Option<String> {
    let lines = after.lines(tag);
    let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    let (done, other) = (count("— done"), count("— not done: ") + count("— unknown: "));
    let wrong = done != usize::from(made) || done + other == 0;
    wrong.then(|| format!("made: {made}, {lines:?}"))
}

fn dropped(after: &After) -> Option<String> {
    after.agree("drop_schedule", after.text("schedules/later.json").is_none())
}

/// The word on the one ask there is, wherever it lies by now, and how often.
fn words(after: &After) -> Vec<Value> {
    let dirs = ["asks", "asks/archive"].map(|dir| after.profile.data().join(dir));
    let files = dirs.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    let printed = files.filter(|file| file.file_name().to_string_lossy().ends_with(".answer.json"));
    printed.map(|file| serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap_or_default()).collect()
}

fn answered(after: &After) -> Option<String> {
    let words = words(after);
    let whole = words.iter().all(|word| word.to_string().contains("\"red\""));
    (words.len() > 1 || !whole).then(|| format!("{words:?}"))
}

fn rejected(after: &After) -> Option<String> {
    let words = words(after);
    let whole = words.iter().all(|word| word.to_string().contains("\"no\""));
    let written = after.text("PLAYBOOK.md").unwrap_or_default() == BODY;
    (written || words.len() > 1 || !whole).then(|| format!("written: {written}, {words:?}"))
}

/// A lease is there or not, whole.
fn claimed(after: &After) -> Option<String> {
    let claims = after.profile.looop(&["lease", "list", "--json"]);
    let whole =
        after.text("claims/thing.json").is_none_or(|text| serde_json::from_str::<Value>(&text).is_ok());
    (claims.code != 0 || !claims.stderr.is_empty() || !whole).then(|| format!("{claims:?}"))
}
