//! A data dir and a config that looop 0.1 made: `make_0_1.sh` says how. Every view shows the same facts.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::{fs, os::unix::net::UnixListener, process::Command};

use looop::rules::beat::ask::{AnswerFile, AskReply};
use looop::rules::worker::protocol::{Hello, VERSION, WireRequest, encode_json};
use serde_json::{Value, json};

use crate::attach::{Outer, hold};
use crate::support::profile::Profile;

/// Where the data dir was when 0.1 printed the facts.
const OLD_ROOT: &str = "/tmp/looop-0.1";
/// Parts of an answer that depend on the moment or on the machine, or that are looop's own words.
const NOT_FACTS: [&str; 9] = [
    ".age_ms",
    ".free_in_ms",
    ".boot",
    ".renewed_mono_ms",
    ".cost.day",
    ".today_unmetered",
    ".decides_last_hour",
    ".gate.words",
    "status.sandbox",
];

/// The data dir and the config of 0.1, and what 0.1 printed about them.
fn unpacked() -> (Profile, Value) {
    let profile = Profile::empty();
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/upgrade");
    let tar = Command::new("tar")
        .args(["-xzf", &format!("{here}/old.tar.gz"), "--no-same-owner", "-C"])
        .arg(profile.path(""))
        .status()
        .unwrap();
    assert!(tar.success());
    // As if the machine that holds the leases were this one, and had not been restarted.
    for lease in fs::read_dir(profile.data().join("claims")).unwrap() {
        let path = lease.unwrap().path();
        let Ok(mut lease) = serde_json::from_slice::<Value>(&fs::read(&path).unwrap()) else { continue };
        if lease["boot"].is_string() {
            lease["boot"] = looop::os::process::tree::boot_id().into();
            lease["renewed_mono_ms"] = looop::os::clock::mono_ms().into();
            fs::write(&path, lease.to_string()).unwrap();
        }
    }
    let facts = fs::read_to_string(format!("{here}/old.json")).unwrap();
    (profile, serde_json::from_str(&facts).unwrap())
}

/// The verb of today for a verb of 0.1, and the same for keys of its JSON.
fn renamed(word: &str) -> &str {
    match word {
        "attempts" => "attempt list",
        "claims" => "leases",
        "settled" => "converged",
        "again" => "rechecked",
        "human" => "user_files",
        "problems" => "findings",
        "unmetered" => "unpriced",
        "created" => "created_ms",
        "expires" => "expires_ms",
        "since" => "since_ms",
        "started" => "started_ms",
        "acquired" => "acquired_ms",
        "began" => "began_ms",
        other => other,
    }
}

/// Collects the places at which a fact of `old` is missing in `new`.
fn missing(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    if NOT_FACTS.iter().any(|end| path.ends_with(end)) {
        return;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(_)) => {
            old.iter()
                .for_each(|(key, value)| missing(&format!("{path}.{key}"), value, &new[renamed(key)], found));
        }
        (Value::Array(old), Value::Array(items)) if old.len() == items.len() => {
            old.iter().zip(items).for_each(|(old, new)| missing(&format!("{path}[]"), old, new, found));
        }
        _ if old == new => {}
        _ => found.push(format!("{path}: {old} is now {new}")),
    }
}

/// Removes the approvals from a list of asks.
fn without_approvals(mut view: Value) -> Value {
    if let Some(asks) = view["asks"].as_array_mut() {
        asks.retain(|ask| ask["kind"] != "approval");
    }
    view
}

#[test]
fn every_view_of_a_data_dir_of_0_1_shows_the_same_facts() {
    let (profile, facts) = unpacked();
    let root = profile.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    let view = |args: &str| {
        let args = if args == "claims" { "lease list" } else { renamed(args) };
        let args: Vec<&str> = args.split(' ').chain(["--json"]).collect();
        let ran = profile.looop(&args);
        let text = ran.stdout.replace(root, OLD_ROOT);
        serde_json::from_str::<Value>(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {ran:?}"))
    };
    let mut found = Vec::new();
    // Another test compares the lines of the log.
    let views = facts["views"].as_object().unwrap().iter().filter(|(args, _)| !args.starts_with("log "));
    for (args, old) in views {
        missing(args, &without_approvals(old.clone()), &without_approvals(view(args)), &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
    for (args, old) in facts["texts"].as_object().unwrap() {
        let args: Vec<&str> = args.split(' ').collect();
        assert_eq!(profile.looop(&args).ok().stdout, old.as_str().unwrap(), "{args:?}");
    }
    // The approval of 0.1 would cover less than an approval must now: it is shown, and nobody can give it.
    let approval =
        |asks: Value| asks["asks"].as_array().unwrap().iter().find(|a| a["kind"] == "approval").cloned();
    let (old, new) =
        (approval(facts["views"]["asks --all"].clone()).unwrap(), approval(view("asks --all")).unwrap());
    for key in ["id", "text", "goal", "move", "created", "expires", "hash"] {
        assert_eq!(new[renamed(key)], old[key], "{key}");
    }
    assert_eq!(new["state"], "expired");
    let ran =
        profile.looop(&["approve", old["id"].as_str().unwrap(), "--hash", old["hash"].as_str().unwrap()]);
    assert!(ran.code == 1 && ran.stderr.contains("an earlier version of looop asked for it"), "{ran:?}");
    // Each prompt is shown as it was sent, and fits the trailer of its commit.
    let beats: Vec<String> = fs::read_dir(profile.data().join("runs"))
        .unwrap()
        .map(|beat| beat.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(beats.len() >= 10);
    for beat in beats {
        let sent = profile.read(&format!("runs/{beat}/prompt.md"));
        assert!(sent.contains("PLAYBOOK, written by the human"), "version 1");
        assert_eq!(profile.looop(&["log", &beat, "--prompt"]).ok().stdout, sent, "{beat}");
    }
}

#[test]
fn the_first_beat_on_a_data_dir_of_0_1_migrates_it_and_settles_what_0_1_left() {
    let (profile, facts) = unpacked();
    let intent = profile.read_json("beat.json")["intent"]["beat"].as_str().unwrap().to_owned();
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stderr.contains("the data dir had format 2 and has format 4 now"), "{ran:?}");
    assert!(ran.stdout.contains("noop — done"), "{ran:?}");
    assert!(profile.read_json("beat.json")["intent"].is_null());
    assert_eq!(profile.read(".gitignore").lines().filter(|line| *line == "/pulse.json").count(), 1);
    let old = facts["after"]["beats"].as_array().unwrap();
    let new = profile.looop(&["log", "-n", "100", "--json"]).ok().json()["lines"].clone();
    let new: Vec<_> = new.as_array().unwrap().iter().filter(|line| !line["beat"].is_null()).collect();
    assert_eq!(new.len(), old.len());
    let settled = old.len() - 2;
    for (nth, (old, new)) in old.iter().zip(&new).enumerate() {
        let part = |key: &str| new[key].as_str().unwrap_or_default();
        let text = format!("{} — {}", part("outcome"), part("why"));
        assert_eq!(old["move"], new["kind"]);
        assert!(nth > settled || old["beat"] == new["beat"], "{new}");
        assert!(nth == settled || old["text"].as_str().unwrap().ends_with(&text), "{old} {new}");
    }
    let part = |key: &str| new[settled][key].as_str().unwrap_or_default();
    assert_eq!(["beat", "kind", "object", "goal"].map(part), [&intent, "run", "sleep 600", "release"]);
    assert!(part("outcome").starts_with("unknown: looop was interrupted while it ran"), "{}", new[settled]);
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
    profile.git(&["fsck", "--strict"]);
    assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"));
}

/// What a client of 0.1 sent to a supervisor, and the first frame of its reply, as strace showed them.
const FRAMES: [(&[u8], &[u8]); 4] = [
    (b"J2\0\0\0{\"looop\":1,\"request\":{\"flag\":{\"text\":\"remember\"}}}", b"J\t\0\0\0{\"ok\":\"\"}"),
    (b"J\x1e\0\0\0{\"looop\":1,\"request\":\"unflag\"}", b"J\t\0\0\0{\"ok\":\"\"}"),
    (
        b"JC\0\0\0{\"looop\":1,\"request\":{\"attach\":{\"cols\":80,\"rows\":23,\"view\":false}}}",
        b"JX\0\0\0{\"offset\":7,\"cols\":80,\"rows\":23,\"phase\":\"running\",\"flag\":null,\"ask\":null,\"lost_bytes\":0}",
    ),
    (KILL, b"J\t\0\0\0{\"ok\":\"\"}"),
];
const KILL: &[u8] = b"J\x1c\0\0\0{\"looop\":1,\"request\":\"kill\"}";

/// A supervisor that knows only these frames. It holds the worker's lock until it is told to end the worker.
fn serve(profile: &Profile) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let dir = profile.data().join("workers/live");
    fs::rename(profile.path("live"), &dir).unwrap();
    fs::create_dir(dir.join("clone")).unwrap();
    fs::write(dir.join("alive"), "").unwrap();
    let mut alive = hold(&dir.join("alive"));
    let listener = UnixListener::bind(dir.join("attach.sock")).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            let reply = loop {
                let length = stream.read(&mut buffer).unwrap_or(0);
                bytes.extend_from_slice(&buffer[..length]);
                let known = FRAMES.iter().find(|(request, _)| *request == bytes);
                if length == 0 || known.is_some() {
                    break known;
                }
            };
            notes.lock().unwrap().push(bytes.clone());
            let Some((_, reply)) = reply else { continue };
            stream.write_all(reply).unwrap();
            if bytes == KILL {
                break;
            }
            // A viewer's keys, until it leaves.
            while let Ok(1..) = stream.read(&mut buffer) {}
        }
        let path = dir.join("state.json");
        let state = fs::read_to_string(&path).unwrap().replace("\"running\"", "\"killed\"");
        fs::write(&path, state).unwrap();
        alive.kill().unwrap();
        alive.wait().unwrap();
    });
    heard
}

#[test]
fn a_live_worker_of_0_1_is_listed_flagged_attached_to_and_killed() {
    let (profile, _) = unpacked();
    let heard = serve(&profile);
    let row = || profile.looop(&["ls", "--all", "--json"]).ok().json()["workers"][0].clone();
    let state = |row: Value| json!([row["id"], row["state"]]);
    assert_eq!(state(row()), json!(["live", "running"]));
    assert_eq!(profile.looop(&["logs", "live"]).ok().stdout, "hello\n");
    assert_eq!(profile.looop(&["flag", "live", "remember"]).ok().stdout, "live: flagged\n");
    assert_eq!(profile.looop(&["unflag", "live"]).ok().stdout, "live: unflagged\n");
    let mut outer = Outer::start(&profile, &["attach", "live"], 80, 24);
    outer.wait_for("hello");
    outer.wait_for(" live · running");
    outer.type_in(b"\x1c\x1c");
    let (code, text) = outer.end();
    assert!(code == 0 && text.trim().ends_with("detached from live; it is still running"), "{code}: {text}");
    assert_eq!(profile.looop(&["kill", "live"]).ok().stdout, "live: killed\n");
    assert_eq!(state(row()), json!(["live", "killed"]));
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard, FRAMES.map(|(request, _)| request.to_vec()));
}

/// Words that changed in the program after 0.1: files and sockets still have those of 0.1.
#[test]
fn requests_and_answers_have_the_words_of_0_1() {
    let reply = AskReply::Answer { text: "yes".to_owned() };
    let answer = AnswerFile { ask: "ask-1".parse().unwrap(), at_ms: 1, reply };
    let words = json!({ "ask": "ask-1", "at_ms": 1, "said": { "answer": { "text": "yes" } } });
    assert_eq!(serde_json::to_value(answer).unwrap(), words);
    let status = WireRequest::HookStatus { state: "working".to_owned(), text: Some("t".to_owned()) };
    for (request, words) in [
        (WireRequest::Wake, json!("poke")),
        (WireRequest::Inbox, json!("told")),
        (status, json!({ "fares": { "state": "working", "text": "t" } })),
    ] {
        let sent = encode_json(&Hello { looop: VERSION, request });
        let sent: Value = serde_json::from_slice(&sent[5..]).unwrap();
        assert_eq!(sent, json!({ "looop": 1, "request": words }));
    }
}

/// Lists the keys of a schema, with `*` for a name of the user's.
fn keys(node: &Value, path: &str, schema: &Value, found: &mut Vec<String>) {
    let target = node["$ref"].as_str().map(|link| &schema["$defs"][link.rsplit('/').next().unwrap()]);
    let node = target.unwrap_or(node);
    for (name, value) in node["properties"].as_object().into_iter().flatten() {
        found.push(format!("{path}{name}"));
        keys(value, &format!("{path}{name}."), schema, found);
    }
    let variants = [&node["anyOf"], &node["oneOf"]].into_iter().filter_map(Value::as_array).flatten();
    variants.chain(node.get("items")).for_each(|value| keys(value, path, schema, found));
    if node["additionalProperties"].is_object() {
        keys(&node["additionalProperties"], &format!("{path}*."), schema, found);
    }
}

/// One key of the config has a new name, which the error for the old one says. No move was renamed.
#[test]
fn an_old_key_of_the_config_names_the_new_one_and_no_move_was_renamed() {
    let (profile, facts) = unpacked();
    let schema = |what: &str| profile.looop(&["schema", what]).ok().json();
    let (config, mut known) = (schema("config"), Vec::new());
    keys(&config, "", &config, &mut known);
    let old: Vec<String> = serde_json::from_value(facts["keys"].clone()).unwrap();
    let renamed: Vec<&String> = old.iter().filter(|key| !known.contains(key)).collect();
    assert!(old.len() > 60 && renamed == ["fix.nudge"], "{renamed:?}");
    assert!(known.contains(&"fix.warn".to_owned()));
    let (path, as_it_was) = (profile.config_file(), fs::read(profile.config_file()).unwrap());
    fs::write(&path, r#"{"fix": {"nudge": 3}}"#).unwrap();
    let error = profile.looop(&["tick"]).stderr;
    fs::write(&path, as_it_was).unwrap();
    assert!(error.contains("did you mean `warn`?"), "{error}");
    let moves = schema("move");
    for (tag, fields) in facts["moves"].as_object().unwrap() {
        let mut forms = moves["oneOf"].as_array().unwrap().iter();
        let form = forms.find(|form| form["properties"]["move"]["const"] == *tag);
        let now: Vec<&String> = form.expect(tag)["properties"].as_object().unwrap().keys().collect();
        assert_eq!(json!(now), *fields, "{tag}");
    }
    // The config of 0.1 is used as it is.
    let ran = profile.looop(&["tick", "--dry-run"]).ok();
    assert!(!ran.stderr.contains("config"), "{ran:?}");
}
