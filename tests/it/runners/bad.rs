//! Runners that are named wrongly, are too old or too new, or answer something else than one move.

use std::process::Stdio;

use serde_json::json;

use super::{Decider, NOOP, profile};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::profile::Profile;

/// A profile in which a shell script stands in for the program `name`.
fn with_program(name: &str, body: &str) -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.config(json!({ "decide": name }));
    profile.stand_in(name, &format!("#!/bin/sh\n{body}\n"), "/usr/bin:/bin");
    profile
}

#[track_caller]
fn fails(profile: &Profile, class: &str, words: &str) {
    super::fails(profile, class, words);
    assert_eq!(profile.charges().len(), 1, "it is billed once");
}

#[test]
fn a_program_that_is_too_old_or_too_new_is_named_as() {
    let old = "case $1 in --version) echo 1.0.0; exit;; esac; cat > /dev/null; echo \"error: unknown option '--bare'\" >&2; exit 1";
    let profile = with_program("claude", old);
    fails(&profile, "crashed", "looop needs claude 2.1.300 or later");
    profile.looop(&["doctor", "runner", "claude"]).exits(1).prints(&["1.0.0 is too old"]);
    let new = r#"cat > /dev/null; echo '{"kind":"turn","of":"another form"}'"#;
    fails(&with_program("codex", new), "crashed", "0.169.0 is the version that was tried");
    fails(&with_program("pi", "cat > /dev/null"), "empty", "ended without an answer");
}

#[test]
fn a_program_that_asks_its_model_for_ever_is_ended() {
    let step = r#"{"type":"step_finish","part":{"tokens":{"input":1,"output":1},"cost":0.001}}"#;
    let profile =
        with_program("opencode", &format!("cat > /dev/null; while :; do echo '{step}'; sleep 0.01; done"));
    fails(&profile, "crashed", "asked its model 31 times for one answer");
    // What it used is known.
    let usage = &profile.charges()[0]["usage"];
    assert_eq!((&usage["tokens_in"], &usage["cost_micros"]), (&json!(31), &json!(31_000)), "{usage}");
}

#[test]
#[ignore = "slow"]
fn a_stream_of_100_mb_is_read_in_bounded_memory() {
    let answer = json!({ "type": "message_end", "message": {
        "role": "assistant", "stopReason": "stop", "content": [{ "type": "text", "text": NOOP }],
        "usage": { "input": 5, "output": 1, "cost": { "total": 0.01 } } } });
    let body = format!(
        "cat > /dev/null; line=$(head -c 1000000 /dev/zero | tr '\\0' y); i=0\n\
         while [ $i -lt 100 ]; do printf '{{\"type\":\"message_update\",\"text\":\"%s\"}}\\n' \"$line\"; i=$((i+1)); done\n\
         cat <<'END'\n{answer}\nEND"
    );
    let profile = with_program("pi", &body);
    let mut child = profile.command(&["tick"]).stdout(Stdio::null()).spawn().unwrap();
    let peak = crate::sense::peak_kib(&mut child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    println!("100 MB of events: {peak} KiB at most");
    assert!(peak < 64 * 1024, "{peak} KiB");
    assert_eq!(profile.charges()[0]["usage"]["cost_micros"], 10_000);
}

#[test]
fn a_usage_limit_is_waited_for() {
    let lines = concat!(
        r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":4102444800}}"#,
        "\n",
        r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":429,"result":"limit","usage":{}}"#,
    );
    let profile = with_program("claude", &format!("cat > /dev/null; cat <<'END'\n{lines}\nEND\nexit 1"));
    fails(&profile, "limit", "limit");
    let next = profile.looop(&["tick"]).ok().stdout;
    // The year 2100 is not believed.
    let waits = ["23h", "24h", "1d"].map(|time| format!("backing off for {time}"));
    assert!(waits.iter().any(|wait| next.contains(wait)), "{next}");
}

/// What a model may answer besides one move, and what becomes of it: two calls, one line in the ledger, no move.
#[test]
#[ignore = "slow"]
fn an_invalid_move_causes_one_repair_call() {
    let long = format!("{{\"move\":\"noop\",\"why\":\"{}\"}}", "x".repeat(5 << 20));
    let two = format!("{NOOP} {}", NOOP.replace("why", "goal\":\"g\",\"why"));
    let rows = [
        ("Ich kann das nicht entscheiden.", "no complete JSON object"),
        (two.as_str(), "contains 2 moves"),
        (long.as_str(), "is the limit"),
        ("I'm sorry, but I can't help with that.", "no complete JSON object"),
    ];
    for (answer, words) in rows {
        let server = ModelServer::start(vec![Reply::text(answer)]);
        let Some(profile) = profile(Decider::Openai, &server.url()) else { return };
        fails(&profile, "invalid", words);
        assert_eq!(server.requests().len(), 2);
        assert_eq!(profile.charges()[0]["usage"]["tokens_in"], 200, "both calls are in the one line");
    }
}
