//! Every `--json` answer has the form that `looop schema` publishes, and no key that it does not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::lived::lived_in;
use crate::support::profile::{Profile, Ran};

/// Each call with `--json`: the name of its schema, and its words.
const CALLS: &[(&str, &str)] = &[
    ("asks", "asks --json"),
    ("asks", "asks --all --json"),
    ("approval-list", "approval list --all --json"),
    ("attempt-list", "attempt list --json"),
    ("attempt-show", "attempt show sums --json"),
    ("backup", "backup --json whole.tar"),
    ("config-check", "config check --json"),
    ("config-get", "config get --json"),
    ("config-get", "config get path --json"),
    ("config-set", "config set budget.day_usd 20 --json"),
    ("cost", "cost --json"),
    ("cost", "cost all --by sensor --json"),
    ("cost", "cost all --by model --json"),
    ("doctor", "doctor --json"),
    ("doctor-runner", "doctor runner --json"),
    ("goal-list", "goal list --json"),
    ("init", "init --json"),
    ("leanfile-list", "leanfile list --json"),
    ("lease-list", "lease list --json"),
    ("log", "log --json"),
    ("ls", "ls --json"),
    ("ls", "ls --all --json"),
    ("map", "map --json --root project --query total"),
    ("map", "map --json --root project --query total --tokens 100"),
    ("policy-test", "policy test --json -- df -h"),
    ("prune", "prune --dry-run --older 0s --json"),
    ("question-list", "question list --all --json"),
    ("run", "run rest --json"),
    ("schedule-list", "schedule list --json"),
    ("sensor-examples", "sensor examples --json"),
    ("sensor-list", "sensor list --json"),
    ("status", "status --json"),
    ("tick", "tick --json"),
    ("wait", "wait --timeout 1s --json"),
    ("why", "why --json"),
    ("worker-list", "worker list --all --json"),
    ("worker-show", "worker show early --json"),
    ("worker-show", "worker show waits --json"),
    ("worker-prune", "worker prune --dry-run --older 0s --json"),
    ("worker-wait", "worker wait --timeout 1s --json"),
];

fn schema(profile: &Profile, name: &str) -> Value {
    profile.looop(&["schema", name]).ok().json()
}

/// The same schema, which allows no key that it does not name.
fn closed(mut schema: Value) -> Value {
    fn close(value: &mut Value) {
        match value {
            Value::Object(map) => {
                if map.get("properties").is_some_and(Value::is_object) {
                    map.entry("additionalProperties").or_insert(json!(false));
                }
                map.values_mut().for_each(close);
            }
            Value::Array(all) => all.iter_mut().for_each(close),
            _ => {}
        }
    }
    close(&mut schema);
    schema
}

/// What is wrong with an answer.
fn faults(schema: &Value, answer: &Value) -> Vec<String> {
    let validator = jsonschema::draft202012::new(schema).unwrap();
    validator.iter_errors(answer).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[track_caller]
fn check(profile: &Profile, name: &str, call: &str, ran: &Ran) {
    let faults = faults(&closed(schema(profile, name)), &ran.json());
    assert!(faults.is_empty(), "looop {call}: {faults:#?}\n{}", ran.stdout);
}

#[test]
#[ignore = "slow"]
fn every_answer_has_its_published_form() {
    let empty = Profile::scripted(&[r#"{"move":"noop","why":"x"}"#]);
    std::fs::create_dir(empty.path("project")).unwrap();
    for (profile, is_empty) in [(empty, true), (lived_in(), false)] {
        for (name, call) in CALLS {
            if is_empty && matches!(*name, "attempt-show" | "run" | "worker-show") {
                continue;
            }
            let ran = profile.looop(&call.split(' ').collect::<Vec<_>>());
            assert!(!ran.stdout.is_empty(), "{call}: {ran:?}");
            check(&profile, name, call, &ran);
        }
        // It needs a place without a profile.
        let (file, call) = (profile.path("whole.tar"), "restore --json");
        let other = Profile::empty();
        let ran = other.looop(&["restore", "--json", file.to_str().unwrap()]);
        check(&other, "restore", call, &ran);
    }
}

#[test]
fn a_beat_that_moved_failed_or_was_held_has_the_same_form() {
    let profile = Profile::scripted(&[
        r#"{"move":"schedule","name":"t","in_s":900,"note":"look","why":"x"}"#,
        r#"{"move":"noop","why":"x"}"#,
    ]);
    let mut seen = BTreeSet::new();
    let mut beat = |args: &[&str]| {
        let ran = profile.looop(args);
        check(&profile, "tick", "tick --json", &ran);
        seen.insert(ran.json()["beat"]["result"].as_str().unwrap().to_owned());
    };
    (0..3).for_each(|_| beat(&["tick", "--json"]));
    std::fs::write(profile.path("script/replies.jsonl"), "no move\n").unwrap();
    profile.goal("g", "goal: x\n");
    beat(&["tick", "--json"]);
    profile.looop(&["pause", "a while"]).ok();
    beat(&["tick", "--json"]);
    check(&profile, "status", "status --json", &profile.looop(&["status", "--json"]));
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["applied", "failed", "skipped"]);
}

#[test]
fn a_key_that_no_schema_names_would_be_seen() {
    let profile = Profile::scripted(&[r#"{"move":"noop","why":"x"}"#]);
    let schema = closed(schema(&profile, "status"));
    let good = profile.looop(&["status", "--json"]).ok().json();
    assert_eq!(faults(&schema, &good), Vec::<String>::new());
    let changes: [(&str, Value); 3] = [("news", json!(1)), ("goals", json!("none")), ("gate", json!({}))];
    for (key, value) in changes {
        let mut bad = good.clone();
        bad[key] = value;
        assert!(!faults(&schema, &bad).is_empty(), "{key}");
    }
    let mut inner = good.clone();
    inner["pulse"]["mood"] = json!("fair");
    assert!(!faults(&schema, &inner).is_empty());
    let mut less = good;
    less.as_object_mut().unwrap().remove("leases");
    assert!(!faults(&schema, &less).is_empty());
}

/// Every command that has `--json`, from the manual.
fn with_json(profile: &Profile) -> BTreeSet<String> {
    let manual = profile.looop(&["help"]).ok().stdout;
    let lines: Vec<&str> = manual.lines().collect();
    let (mut name, mut found) = (String::new(), BTreeSet::new());
    for (n, line) in lines.iter().enumerate() {
        if line.starts_with("looop ") && lines.get(n + 1).is_some_and(|next| next.starts_with("---")) {
            name = line["looop ".len()..].replace(' ', "-");
        }
        if line.trim_start().starts_with("--json") {
            found.insert(name.clone());
        }
    }
    found
}

#[test]
fn each_command_with_json_has_a_schema_and_a_test_and_the_page_names_it() {
    let profile = Profile::empty();
    let listed = profile.looop(&["schema"]).ok().stdout;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schemas.md")).unwrap();
    let names: BTreeSet<String> =
        listed.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    for command in with_json(&profile) {
        assert!(names.contains(&command), "no schema for {command}");
    }
    for name in &names {
        let schema = schema(&profile, name);
        assert!(jsonschema::meta::is_valid(&schema), "{name} is no schema");
        assert!(
            page.contains(&format!("`{name}` |")) || page.contains(&format!("| `{name}`, ")),
            "docs/schemas.md does not name {name}"
        );
        let is_tried = CALLS.iter().any(|(tried, _)| tried == name);
        assert!(is_tried || ["config", "move", "restore"].contains(&name.as_str()), "no test calls {name}");
    }
    profile.looop(&["schema", "nosuch"]).fails_with(2, &["hint: there are: approval-list, asks, "]);
}
