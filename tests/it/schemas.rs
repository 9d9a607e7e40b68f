//! Every `--json` answer has the form that `looop schema` publishes, and no key that it does not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::lived::lived_in;
use crate::support::profile::{LOOOP, Profile, Ran, wait_until};

/// Each call with `--json`: the name of its schema, and its words. The words in capitals are of the lived-in profile.
const CALLS: &[(&str, &str)] = &[
    ("asks", "asks --json"),
    ("asks", "asks --all --json"),
    ("approval-list", "approval list --all --json"),
    ("question-show", "question show ASK --json"),
    ("approval-show", "approval show APPROVAL --json"),
    ("verb", "answer ASK 1 --json"),
    ("verb", "approve APPROVAL --hash HASH --json"),
    ("verb", "reject --all --yes --json"),
    ("verb", "logs good --json"),
    ("verb", "screen waits --json"),
    ("verb", "tell waits hello --json"),
    ("verb", "flag waits look --json"),
    ("verb", "unflag waits --json"),
    ("verb", "kill waits --json"),
    ("verb", "worker start extra --json -- true"),
    ("verb", "pause a while --json"),
    ("verb", "resume --json"),
    ("verb", "claim bench --json"),
    ("verb", "release bench --json"),
    ("verb", "goal write extra text --json"),
    ("verb", "goal show extra --json"),
    ("verb", "goal diff --json"),
    ("verb", "goal edit extra --json"),
    ("verb", "goal rename extra other --json"),
    ("verb", "goal archive other --json"),
    ("verb", "goal write rest other --json"),
    ("verb", "goal restore rest --json"),
    ("verb", "sensor show s --json"),
    ("verb", "sensor diff --json"),
    ("sensor-test", "sensor test s --json"),
    ("verb", "sensor edit s --json"),
    ("verb", "sensor restore s --json"),
    ("verb", "sensor add disk --yes --json"),
    ("verb", "sensor archive disk --json"),
    ("verb", "playbook show --json"),
    ("verb", "playbook diff --json"),
    ("verb", "playbook write text --json"),
    ("verb", "schedule set extra --in 1h look --json"),
    ("verb", "schedule remove extra --json"),
    ("verb", "schedule set in --in 2h other --json"),
    ("verb", "schedule restore in --json"),
    ("verb", "attempt diff sums 0 1 --json"),
    ("fix", "fix -c project/leanfile.toml --json"),
    ("verb", "leanfile distrust project/leanfile.toml --json"),
    ("verb", "trust project/leanfile.toml --json"),
    ("verb", "service print --kind systemd --json"),
    ("verb", "service install --kind systemd --json"),
    ("verb", "service uninstall --kind systemd --json"),
    ("verb", "version --json"),
    ("attempt-list", "attempt list --json"),
    ("attempt-show", "attempt show sums --json"),
    ("backup", "backup --json whole.tar"),
    ("config-check", "config check --json"),
    ("verb", "config edit --json"),
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

/// What needs things that an empty profile does not have.
const LIVED: [&str; 8] =
    ["approval-show", "attempt-show", "fix", "question-show", "run", "sensor-test", "verb", "worker-show"];

/// What has a scene of its own, here or in the tests of interrupted workers.
const ELSEWHERE: [&str; 3] = ["done", "restore", "worker resume"];

/// The calls of a worker, each with its words.
const IN_WORKER: [&str; 8] = [
    "ask Which?",
    "inbox",
    "flag look",
    "unflag",
    "claim own",
    "release own",
    "report notes.md",
    "spend --usd 0.5",
];

/// The calls that have no JSON.
const WITHOUT: [&str; 8] =
    ["attach", "worker attach", "completions bash", "demo", "help", "man", "schema", ""];

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
    let mut odd = Vec::new();
    odd_moments("", &ran.json(), &mut odd);
    assert!(odd.is_empty(), "looop {call}: moments are milliseconds under a key in `_ms`: {odd:#?}");
}

/// The moments of an answer that are not a number under a key that ends in `_ms`.
fn odd_moments(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| odd_moments(&format!("{path}.{key}"), value, found));
        }
        Value::Array(all) => all.iter().for_each(|value| odd_moments(path, value, found)),
        // From the year 2001 to 2128 in seconds, in milliseconds and in nanoseconds.
        Value::Number(number) => {
            let is_moment = |unit: f64| (1e9..5e9).contains(&(number.as_f64().unwrap() / unit));
            let is_odd = is_moment(1.0) || is_moment(1e9) || (is_moment(1e3) && !path.ends_with("_ms"));
            // The number of a process namespace is as large as a moment in seconds.
            found.extend((is_odd && !path.ends_with(".pid_ns")).then(|| format!("{path}: {number}")));
        }
        Value::String(text) => {
            let is_stamp = text.len() < 40 && text.get(10..11).is_some_and(|c| c == " " || c == "T");
            let is_odd = is_stamp && text.starts_with("20") && text.as_bytes()[4] == b'-';
            found.extend(is_odd.then(|| format!("{path}: {text}")));
        }
        _ => {}
    }
}

/// Each property that a schema describes as a moment has a name that ends in `_ms` and holds a whole number.
fn odd_properties(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            for (name, form) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let text = form.to_string().to_lowercase();
                let is_moment = ["unix epoch", "rfc 3339", "date-time"].iter().any(|of| text.contains(of));
                let is_number =
                    form["type"].as_str() == Some("integer") || form["type"] == json!(["integer", "null"]);
                let is_odd =
                    is_moment && !text.contains("properties") && !(name.ends_with("_ms") && is_number);
                found.extend(is_odd.then(|| format!("{name}: {form}")));
            }
            map.values().for_each(|value| odd_properties(value, found));
        }
        Value::Array(all) => all.iter().for_each(|value| odd_properties(value, found)),
        _ => {}
    }
}

#[test]
fn a_moment_has_one_form_in_every_schema() {
    let profile = Profile::empty();
    for line in profile.looop(&["schema"]).ok().stdout.lines() {
        let (name, mut found) = (line.split(' ').next().unwrap(), Vec::new());
        odd_properties(&schema(&profile, name), &mut found);
        assert!(name == "config" || found.is_empty(), "{name}: {found:#?}");
    }
    let odd =
        json!({ "properties": { "at": { "type": "integer", "description": "Since the Unix epoch." } } });
    let (mut property, mut value) = (Vec::new(), Vec::new());
    odd_properties(&odd, &mut property);
    odd_moments(
        "",
        &json!({ "at": 1_795_218_410_413_i64, "b": [{ "on": "2026-11-21 00:46:50 +01:00" }] }),
        &mut value,
    );
    assert_eq!((property.len(), value.len()), (1, 2), "{property:?} {value:?}");
}

#[test]
#[ignore = "slow"]
fn every_answer_has_its_published_form() {
    let empty = Profile::scripted(&[r#"{"move":"noop","why":"x"}"#]);
    std::fs::create_dir(empty.path("project")).unwrap();
    for (mut profile, is_empty) in [(empty, true), (lived_in(), false)] {
        profile.var("EDITOR", "sed -i '$s/$/ /'");
        for (name, call) in CALLS {
            if is_empty && LIVED.contains(name) {
                continue;
            }
            let asks = profile.looop(&["asks", "--json"]).ok().json()["asks"].clone();
            let of = |kind: &str, key: &str| {
                let ask = asks.as_array().unwrap().iter().find(|ask| ask["kind"] == kind);
                ask.and_then(|ask| ask[key].as_str()).unwrap_or_default().to_owned()
            };
            let filled = call.replace("ASK", &of("question", "id"));
            let filled =
                filled.replace("APPROVAL", &of("approval", "id")).replace("HASH", &of("approval", "hash"));
            let ran = profile.looop(&filled.split(' ').collect::<Vec<_>>());
            assert!(!ran.stdout.is_empty() && (ran.code == 0 || *name != "verb"), "{call}: {ran:?}");
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
fn the_verbs_of_a_worker_have_the_form_of_a_verb() {
    let profile = Profile::scripted(&[r#"{"move":"noop","why":"x"}"#]);
    profile.without_sandbox(&["worker"]);
    let out = profile.path("out");
    std::fs::create_dir(&out).unwrap();
    let mut script = format!("cd {}; ", out.display());
    for call in IN_WORKER {
        script += &format!("echo text | {LOOOP} {call} --json > {}.json; ", call.split(' ').next().unwrap());
    }
    profile
        .looop(&["worker", "start", "w1", "--", "sh", "-c", &(script + &format!("{LOOOP} done --json"))])
        .ok();
    wait_until("the question", || profile.looop(&["answer", "w1", "main"]).code == 0);
    wait_until("the last call", || {
        std::fs::metadata(out.join("spend.json")).is_ok_and(|file| file.len() > 0)
    });
    let schema = closed(schema(&profile, "verb"));
    for call in IN_WORKER {
        let text =
            std::fs::read_to_string(out.join(format!("{}.json", call.split(' ').next().unwrap()))).unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (faults(&schema, &answer), &answer["verb"]),
            (vec![], &json!(call.split(' ').next().unwrap()))
        );
    }
    let words = std::fs::read_to_string(out.join("ask.json")).unwrap();
    assert!(words.contains(r#""text":"main""#), "{words}");
}

#[test]
fn a_verb_without_json_says_so() {
    let profile = Profile::scripted(&[]);
    for call in WITHOUT {
        let args: Vec<&str> = call.split_terminator(' ').chain(["--json"]).collect();
        let verb = call.trim_end_matches(" bash");
        let what = format!("could not print JSON of `{}`: it", ["looop", verb].join(" ").trim_end());
        let what = if call.is_empty() { "could not print JSON of `looop`: the pulse" } else { &what };
        profile.looop(&args).fails_with(2, &[what, "hint: leave --json out"]);
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

/// Every command without commands below it, from the manual.
fn verbs(profile: &Profile) -> BTreeSet<String> {
    let manual = profile.looop(&["help"]).ok().stdout;
    let lines: Vec<&str> = manual.lines().collect();
    let (mut name, mut found) = (String::new(), BTreeSet::new());
    for (n, line) in lines.iter().enumerate() {
        if line.starts_with("looop ") && lines.get(n + 1).is_some_and(|next| next.starts_with("---")) {
            name = line["looop ".len()..].to_owned();
        }
        // `doctor` works also without the command below it.
        if line.starts_with("Usage: looop ") && !line.ends_with("<COMMAND>") && !name.is_empty() {
            found.insert(name.clone());
        }
    }
    found
}

#[test]
fn each_command_has_a_schema_and_a_test_or_refuses_json_and_the_page_names_it() {
    let profile = Profile::empty();
    let listed = profile.looop(&["schema"]).ok().stdout;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schemas.md")).unwrap();
    let names: BTreeSet<String> =
        listed.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    let (verbs, begins) =
        (verbs(&profile), |call: &str, verb: &str| format!("{call} ").starts_with(&format!("{verb} ")));
    assert!(verbs.len() > 70, "{verbs:?}");
    for verb in &verbs {
        // A short verb and the verb of its noun are one.
        let short = verb.rsplit(' ').next().unwrap();
        let mut calls = CALLS.iter().map(|(_, call)| *call).chain(WITHOUT).chain(IN_WORKER).chain(ELSEWHERE);
        let is_short = verbs.contains(short);
        let is_tried = calls.any(|call| begins(call, verb) || (is_short && begins(call, short)));
        assert!(is_tried, "no test calls `looop {verb} --json`");
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
        // A verb with a form of its own does not print the general one.
        let verb = name.replace('-', " ");
        let is_general = CALLS.iter().any(|(tried, call)| *tried == "verb" && begins(call, &verb));
        assert!(!is_general || *name == "config", "{name}");
    }
    profile.looop(&["schema", "nosuch"]).fails_with(2, &["hint: there are: approval-list, approval-show, "]);
}
