//! The notifier: told once of each call, as JSON on stdin and nowhere else; the documented ones stand hostile text.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use looop::rules::beat::{ask::QuestionFile, card::barred};
use serde_json::{Value, json};

use crate::support::profile::{Profile, program, wait_until};
use crate::support::terminal::TmuxFixture;

const EVIL: &str = "$(touch x)`touch y`'; touch z; \"\\\n.\n~!touch x\n<!channel> {{.Env}} \u{1b}]0;t\u{7}";

/// A notifier that appends what it gets to a file, and its arguments to another.
fn recorder(profile: &Profile, name: &str) -> String {
    let path = profile.path("bin").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let dir = profile.path("").display().to_string();
    let script = format!("#!/bin/sh\ncat >> '{dir}/got'\nprintf '%s\\n' \"$@\" >> '{dir}/args'\necho said\n");
    program(&path, script);
    path.to_str().unwrap().to_owned()
}

fn got(profile: &Profile) -> Vec<Value> {
    let text = fs::read_to_string(profile.path("got")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(terminal: &TmuxFixture) -> Vec<Value> {
    let text = fs::read_to_string(terminal.data().join("events.jsonl")).unwrap_or_default();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|line| line["event"] == "notified").collect()
}

fn ask(terminal: &TmuxFixture, id: &str, text: &str) {
    let ask = QuestionFile {
        worker: Some("a".parse().unwrap()),
        options: vec!["main".to_owned(), "next".to_owned()],
        ..QuestionFile::new(id.parse().unwrap(), "", 1_795_218_430_000, text.to_owned())
    };
    fs::write(terminal.data().join(format!("asks/{id}.json")), serde_json::to_string(&ask).unwrap()).unwrap();
}

#[test]
fn each_flag_and_each_ask_is_notified_once() {
    let terminal = TmuxFixture::new("data");
    // Without a server too: a notifier is for a user who is elsewhere.
    terminal.tmux(&["kill-server"]);
    let program = recorder(&terminal.profile, "note");
    terminal.worker("a").change_spec(|spec| spec.notify = vec![program, "--to".to_owned(), "me".to_owned()]);
    terminal.surface().ok();
    assert_eq!(got(&terminal.profile), [] as [Value; 0]);
    terminal.worker("a").flag(1, EVIL);
    terminal.surface().ok();
    terminal.surface().ok();
    let flag = json!({
        "schema_version": 1, "worker": "a", "goal": null, "kind": "flag", "text": barred(EVIL), "ask": null, "options": [],
        "at_ms": 1_795_218_420_000_i64, "data_dir": terminal.data(),
    });
    assert_eq!(got(&terminal.profile), [flag]);
    ask(&terminal, "q-1", "Which branch?");
    terminal.worker("a").change(|state| state.ask = Some("q-1".parse().unwrap()));
    terminal.surface().ok();
    terminal.surface().ok();
    let all = got(&terminal.profile);
    assert_eq!(all.len(), 2);
    let last = json!(["kind", "text", "ask", "options", "at_ms"].map(|key| &all[1][key]));
    assert_eq!(last, json!(["ask", "Which branch?", "q-1", ["main", "next"], 1_795_218_430_000_i64]));
    terminal.worker("a").unflag();
    terminal.surface().ok();
    assert_eq!(got(&terminal.profile).len(), 2);
    let log = events(&terminal);
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!((&log[0]["end"], &log[0]["output"]), (&"exit code 0".into(), &"said\n".into()));
}

/// Who sleeps hears of what the loop asks too, with a pulse and from cron.
#[test]
#[ignore = "slow"]
fn what_the_loop_asks_is_notified_once() {
    let run = r#"{"move":"run","argv":["date"],"why":"to know the time"}"#;
    let ask = r#"{"move":"ask","text":"Which one?\nap-1 approval","options":["a","b"],"why":"w"}"#;
    let noop = r#"{"move":"noop","why":"w"}"#;
    for in_pulse in [false, true] {
        let profile = Profile::scripted(&[run, ask, noop]);
        profile.config_more(json!({ "notify": [recorder(&profile, "note")], "interval": "1h" }));
        let pulse = in_pulse.then(|| profile.spawn(&[]));
        if pulse.is_none() {
            profile.looop(&["tick"]).ok();
            assert_eq!(got(&profile).len(), 1, "it is told when the beat is over");
            (0..3).for_each(|_| drop(profile.looop(&["tick"]).ok()));
        }
        wait_until("both to be told", || got(&profile).len() >= 2 && profile.asked() == 3);
        if let Some(mut pulse) = pulse {
            // More beats, each with a look at what is open.
            profile.goal("more", "goal: more\n");
            wait_until("one more beat", || profile.asked() == 4);
            drop(pulse.kill());
            drop(pulse.wait());
        }
        let all = got(&profile);
        assert_eq!(all.len(), 2, "{all:?}");
        let open = profile.looop(&["asks", "--json"]).ok().json()["asks"].clone();
        let ids = |all: &[Value], key: &str| {
            all.iter().map(|one| one[key].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
        };
        assert_eq!(ids(&all, "ask"), ids(open.as_array().unwrap(), "id"));
        let shown = json!(["kind", "text", "argv"].map(|key| &all[0][key]));
        assert_eq!(shown, json!(["approval", "run: to know the time", ["date"]]));
        let hash = &open.as_array().unwrap().iter().find(|ask| ask["id"] == all[0]["ask"]).unwrap()["hash"];
        assert_eq!(&all[0]["hash"], hash);
        let shown = json!(["kind", "text", "worker", "options"].map(|key| &all[1][key]));
        assert_eq!(shown, json!(["ask", "| Which one?\n| ap-1 approval", null, ["a", "b"]]));
    }
}

#[test]
fn a_notifier_that_fails_is_logged_and_not_tried_again() {
    let terminal = TmuxFixture::new("data");
    terminal.worker("a").change_spec(|spec| spec.notify = vec!["no-such-program".to_owned()]);
    terminal.worker("a").flag(1, "help");
    terminal.surface().ok();
    terminal.surface().ok();
    let log = events(&terminal);
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0]["end"].as_str().unwrap().starts_with("not started"), "{log:?}");
    assert_eq!(terminal.flags(), ["⚑a"], "the window is there all the same");
}

/// Nothing is told before it is written down that it is.
#[test]
fn what_cannot_be_written_down_gives_no_notice() {
    let terminal = TmuxFixture::new("data");
    let program = recorder(&terminal.profile, "note");
    terminal.worker("a").change_spec(|spec| spec.notify = vec![program]);
    terminal.worker("a").flag(1, "help");
    fs::create_dir(terminal.data().join("workers/a/surfaced")).unwrap();
    assert_eq!(terminal.surface().code, 1);
    assert_eq!(got(&terminal.profile), [] as [Value; 0]);
}

/// A notifier that hangs does not keep the next call's window from opening.
#[test]
fn a_slow_notifier_does_not_delay_the_next_window() {
    let terminal = TmuxFixture::new("data");
    let fifo = terminal.profile.path("gate");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let line = format!("read x < '{}'", fifo.display());
    terminal.worker("a").change_spec(|spec| spec.notify = ["sh", "-c", &line].map(str::to_owned).to_vec());
    terminal.worker("a").flag(1, "help");
    let mut slow = terminal.start_surface();
    wait_until("the first window", || terminal.flags() == ["⚑a"]);
    terminal.worker("b").flag_at(1, "help", 1);
    terminal.surface().ok();
    assert_eq!(terminal.flags(), ["⚑a", "⚑b"]);
    assert!(slow.try_wait().unwrap().is_none(), "the notifier still runs");
    fs::write(&fifo, "go\n").unwrap();
    assert!(slow.wait().unwrap().success());
}

#[test]
fn the_documented_notifiers_stand_hostile_text() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/notify.md")).unwrap();
    let blocks: Vec<&str> = page.split("```json looop-notify\n").skip(1).collect();
    assert_eq!(blocks.len(), 3, "ntfy, Slack and mail");
    for block in blocks {
        let config: Value = serde_json::from_str(block.split("```").next().unwrap()).unwrap();
        let mut terminal = TmuxFixture::new("data");
        recorder(&terminal.profile, "curl");
        recorder(&terminal.profile, "mail");
        terminal.profile.var("SLACK_WEBHOOK", "https://slack.invalid/hook");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", terminal.profile.path("bin").display());
        terminal.profile.config_more(json!({ "notify": config["notify"], "path": path }));
        terminal.profile.looop(&["status"]).ok();
        let argv: Vec<String> = serde_json::from_value(config["notify"].clone()).unwrap();
        terminal.worker("a").change_spec(|spec| spec.notify = argv.clone());
        terminal.worker("a").flag(1, EVIL);
        terminal.surface().ok();
        let log = events(&terminal);
        assert_eq!(log[0]["end"], "exit code 0", "{log:?}");
        let all = got(&terminal.profile);
        assert_eq!(all.len(), 1, "{argv:?}: {all:?}");
        let text = all[0].pointer("/blocks/0/text/text").unwrap_or(&all[0]["text"]).as_str().unwrap();
        assert!(text.ends_with(&barred(EVIL)), "{text}");
        let args = fs::read_to_string(terminal.profile.path("args")).unwrap();
        assert!(!args.contains("touch"), "{args}");
        assert_eq!(terminal.touched(), [] as [std::path::PathBuf; 0]);
    }
}
