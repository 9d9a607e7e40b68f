//! Real runners, driven for real: pi, claude and codex from their packages, and endpoints over HTTP, each against a
//! scripted model server.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::decider::{ALL, Decider, calls, large_world, newest_prompt, profile, shim};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::profile::Profile;

mod bad;
mod endpoint;
mod matrix;
mod overhead;
mod real_pi;
mod spend;

const NOOP: &str = r#"{"move":"noop","why":"nothing to do"}"#;

/// Runs a beat, which must fail with this class and these words; its failure.
#[track_caller]
fn fails(profile: &Profile, class: &str, words: &str) -> Value {
    let ran = profile.looop(&["tick"]);
    let failure = profile.read_json("beat.json")["failure"].clone();
    assert_eq!((ran.code, failure["class"].as_str()), (1, Some(class)), "{failure}: {ran:?}");
    assert!(failure["why"].as_str().unwrap().contains(words), "{words}: {failure}");
    failure
}

/// The processes that run in this profile's home, or in a sandbox into which some of the profile is mounted.
fn left_over(profile: &Profile) -> Vec<String> {
    let marker = format!("HOME={}", profile.path("home").display());
    let at_home = |process: &Path| {
        let environ = fs::read(process.join("environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|var| var == marker.as_bytes())
    };
    processes(|process| at_home(process) || is_sandboxed(profile, process))
}

/// The names of the processes for which this holds. A zombie has no environment and no mounts: it is none of them.
fn processes(is_one: impl Fn(&Path) -> bool) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(|process| is_one(process))
        .map(|process| fs::read_to_string(process.join("comm")).unwrap_or_default())
        .collect()
}

/// What a program calls itself and its variables does not matter to this.
fn is_sandboxed(profile: &Profile, process: &Path) -> bool {
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    mounts.contains(profile.path("home").parent().unwrap().to_str().unwrap())
}

#[test]
#[ignore = "needs agent CLIs"]
fn a_beat_is_decided_and_what_it_used_is_in_the_ledger() {
    for decider in ALL {
        let server = ModelServer::start(vec![Reply::text(NOOP).usage(111, 22, 333, 44)]);
        let Some(profile) = profile(decider, &server.url()) else { continue };
        profile.goal("g", "---\ngoal: all is well\n---\n");
        profile.looop(&["tick"]).ok().prints(&["noop"]);
        assert_eq!(calls(&server).len(), 1, "{decider:?}");
        let usage = &profile.charges()[0]["usage"];
        let count = |key: &str| usage[key].as_u64().unwrap_or(0);
        let tokens = ["tokens_in", "tokens_cached", "tokens_out"].map(count);
        assert_eq!(tokens, [111, 333, 22], "{decider:?}: {usage}");
        // OpenAI's protocols do not tell what was written to a cache.
        let (written, micros, basis) = match decider {
            Decider::Pi => (44, 1005, "reported"),
            Decider::Claude => (44, 585, "reported"),
            Decider::Codex => (0, 0, "tokens"),
            // 111 * 3 + 333 * 0.5 + 22 * 15, rounded.
            Decider::Openai => (0, 830, "priced"),
            Decider::Anthropic => (44, 1006, "priced"),
        };
        let found = (count("tokens_written"), count("cost_micros"), usage["basis"].as_str().unwrap());
        assert_eq!(found, (written, micros, basis), "{decider:?}: {usage}");
        assert_eq!(left_over(&profile), Vec::<String>::new(), "{decider:?}");
    }
}

/// What a cache of the provider sees of a request, in its order: tools, system, messages.
fn as_cached(body: &Value) -> String {
    let parts = [&body["tools"], &body["system"], &body["messages"], &body["input"]];
    parts.iter().filter(|part| !part.is_null()).map(|part| part.to_string()).collect()
}

#[test]
#[ignore = "needs agent CLIs"]
fn a_request_is_little_longer_than_its_prompt_and_mostly_the_same_as_the_last_one() {
    println!("{:<12} {:>14} {:>14} {:>8}", "runner", "request bytes", "prompt bytes", "ratio");
    for decider in ALL {
        let server = ModelServer::start(vec![Reply::text(NOOP)]);
        let Some(profile) = profile(decider, &server.url()) else { continue };
        for reading in 1..=3 {
            large_world(&profile, reading);
            profile.looop(&["tick"]).ok();
        }
        let all = calls(&server);
        assert_eq!(all.len(), 3, "{decider:?}");
        // codex numbers its messages anew in each run; what is said to the model is the same.
        let text = |n: usize| {
            let mut body = all[n].body.clone();
            for item in body["input"].as_array_mut().into_iter().flatten() {
                item.as_object_mut().unwrap().remove("id");
            }
            as_cached(&body)
        };
        let (before, after) = (text(1), text(2));
        let common = before.bytes().zip(after.bytes()).take_while(|(a, b)| a == b).count();
        let share = common * 100 / all[2].bytes;
        println!("{decider:?}: {common} of {} request bytes are as before: {share} %", all[2].bytes);
        assert!(share >= 80, "{decider:?}: {share} %");
        let prompt = newest_prompt(&profile);
        let limit = prompt.len() * 5 / 4 + 1024;
        let (name, bytes) = (format!("{decider:?}").to_lowercase(), all[2].bytes);
        println!("{name:<12} {bytes:>14} {:>14} {:>8.3}", prompt.len(), bytes as f64 / prompt.len() as f64);
        // codex sends three kilobytes about itself, which no option takes away.
        let more = if decider == Decider::Codex { 3 * 1024 } else { 0 };
        assert!(all[2].bytes <= limit + more, "{decider:?}");
    }
}

#[test]
#[ignore = "needs agent CLIs"]
fn a_tool_call_in_the_reply_does_not_run() {
    let rows = [
        (Decider::Pi, "bash", "command"),
        (Decider::Claude, "Bash", "command"),
        (Decider::Codex, "exec_command", "cmd"),
        (Decider::Anthropic, "bash", "command"),
    ];
    for (decider, tool, key) in rows {
        let trap = env::temp_dir().join(format!("looop-trap-{}-{decider:?}", std::process::id()));
        let call = Reply::tool(tool, json!({ key: format!("touch {}", trap.display()) }));
        let server = ModelServer::start(vec![call, Reply::text(NOOP)]);
        let Some(profile) = profile(decider, &server.url()) else { continue };
        let ran = profile.looop(&["tick"]);
        assert!(!trap.exists(), "{decider:?}: {ran:?}");
        let request = &calls(&server)[0].body;
        let tools = request["tools"].as_array().map_or(0, Vec::len);
        // codex keeps one, by which it may ask a user in a mode that it is not in.
        assert_eq!(tools, usize::from(decider == Decider::Codex), "{decider:?}: {}", request["tools"]);
    }
}

#[test]
#[ignore = "needs agent CLIs"]
fn a_long_prompt_arrives_whole_and_an_open_stdin_blocks_no_beat() {
    for decider in ALL {
        let server = ModelServer::start(vec![Reply::text(NOOP)]);
        let Some(profile) = profile(decider, &server.url()) else { continue };
        fs::write(profile.data().join("PLAYBOOK.md"), "A line of judgment.\n".repeat(500)).unwrap();
        for n in 0..6 {
            profile.goal(&format!("g{n}"), &"a line of a goal with some words in it\n".repeat(1500));
        }
        for n in 0..8 {
            let line = r#"printf '{"signal":"%s"}' "$(head -c 13000 /dev/zero | tr '\0' x)""#;
            profile.sensor(&format!("s{n}.sh"), line);
        }
        // A parent that holds a pipe open on the beat's stdin and never writes to it.
        let mut command = profile.command(&["tick"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let held = child.stdin.take();
        assert!(child.wait().unwrap().success(), "{decider:?}");
        drop(held);
        let prompt = newest_prompt(&profile);
        assert!(prompt.len() > 300_000, "{}", prompt.len());
        let sent = calls(&server)[0].body.to_string();
        assert!(sent.len() > prompt.len(), "{decider:?}: {} of {}", sent.len(), prompt.len());
        let marks = ["decide one move", "Budget of the day", "Answer with one JSON object: your move."];
        assert!(marks.iter().all(|mark| sent.contains(mark)), "{decider:?}");
    }
}
