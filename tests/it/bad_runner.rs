//! Runners that are missing, hang, flood, crash or answer nonsense: each costs one known failure and never a beat.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::crash::processes;
use crate::sense::peak_kib;
use crate::support::profile::{Profile, program, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"nothing to do"}"#;

/// A profile whose decider is this shell script, in the one folder that it may write; each call leaves a line there.
fn decided_by(body: &str) -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    decide_by(&profile, body);
    profile
}

fn decide_by(profile: &Profile, body: &str) {
    decide_with(profile, body, json!({}));
}

/// The same with these keys of the runner besides.
fn decide_with(profile: &Profile, body: &str, more: Value) {
    let script = profile.path("script/decide.sh");
    fs::write(&script, format!("echo x >> {}\n{body}\n", profile.path("script/calls").display())).unwrap();
    let mut mine = json!({ "decide": ["sh", script], "write": [profile.path("script")] });
    mine.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    profile.config(json!({ "decide": "mine", "runners": { "mine": mine } }));
}

/// Checks that nothing is left of a failure, nor of its wait.
#[track_caller]
fn is_well(profile: &Profile) -> Value {
    let beat = profile.read_json("beat.json");
    assert_eq!((&beat["failure"], &beat["backoff"]), (&Value::Null, &Value::Null));
    beat
}

fn calls(profile: &Profile) -> usize {
    lines(&profile.path("script/calls"))
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn failure(profile: &Profile) -> Value {
    profile.read_json("beat.json")["failure"].clone()
}

/// Checks that the beat fails with this class after so many calls, is charged once, and that the next one waits.
#[track_caller]
fn fails(profile: &Profile, class: &str, expected_calls: usize) -> String {
    profile.looop(&["tick"]).exits(1).prints(&[&format!("failed — {class}: ")]);
    let failure = failure(profile);
    assert_eq!(failure["class"], class, "{failure}");
    let charges = profile.charges();
    // What could not be started has spent nothing; all else may have.
    assert_eq!(charges.len(), usize::from(class != "missing"), "{charges:?}");
    assert!(charges.iter().all(|charge| charge["beat"] == failure["beat"]));
    profile.looop(&["tick"]).ok().prints(&["backing off for "]);
    assert_eq!(calls(profile), expected_calls, "a beat that waits asks nobody");
    assert!(!profile.data().join("journal.md").exists(), "no move, no line");
    profile.looop(&["status"]).exits(1).prints(&["a failure, the last one", "failing since", class]);
    failure["why"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "slow"]
fn a_call_that_ends_badly_is_one_failure() {
    let rows = [
        (":", "empty", "printed nothing"),
        ("echo; echo ' '", "empty", "printed nothing"),
        ("echo chatter; echo 'no key here' >&2; exit 1", "crashed", "no key here"),
        ("echo '{\"move\":\"noop\",\"why\":\"x\"}'; exit 3", "crashed", "3"),
        ("kill -9 $$", "crashed", "signal 9"),
        ("exec nosuchprogram", "crashed", "not found"),
    ];
    for (body, class, why) in rows {
        let profile = decided_by(body);
        let printed = fails(&profile, class, 1);
        assert!(printed.contains(why), "{body}: {printed}");
    }
}

#[test]
#[ignore = "slow"]
fn a_runner_that_is_not_there_is_missing() {
    for argv in [&["nosuchprogram"][..], &["/nowhere/x"], &["./plain.txt"], &["./bad"]] {
        let profile = Profile::scripted(&[NOOP]);
        fs::write(profile.path("plain.txt"), "not executable").unwrap();
        program(profile.path("bad"), "#!/nowhere/sh\n");
        profile.config(json!({ "decide": "mine", "runners": { "mine": { "decide": argv } } }));
        fails(&profile, "missing", 0);
    }
}

#[test]
#[ignore = "slow"]
fn a_runner_that_hangs_is_ended_with_all_its_children() {
    let profile = Profile::scripted(&[NOOP]);
    let here = profile.path("script").display().to_string();
    // Their command lines name the folder, whatever numbers they have in a sandbox.
    decide_by(&profile, &format!("trap '' TERM; setsid sh -c 'sleep 1000; : {here}' & sleep 1000"));
    profile.config_more(json!({ "limits": { "decide_timeout": "1s" } }));
    let printed = fails(&profile, "timeout", 1);
    assert!(printed.contains("still running after 1s"), "{printed}");
    assert_eq!(processes(&here), Vec::<String>::new(), "nothing of it is still there");
}

#[test]
fn a_runner_that_floods_costs_bounded_memory() {
    let profile = decided_by(&format!("echo '{NOOP}'"));
    let tick = |code| {
        let mut child = profile.command(&["tick"]).stdout(Stdio::null()).spawn().unwrap();
        let peak = peak_kib(&mut child);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        peak
    };
    // Most of it is the program itself, whose size is not what is looked at here.
    let usual = tick(0);
    decide_by(&profile, "exec yes");
    profile.goal("g", "wake\n");
    let peak = tick(1);
    assert!(peak < usual + 96 * 1024, "{peak} KiB instead of {usual}");
    assert_eq!(failure(&profile)["class"], "flood");
    let beat = failure(&profile)["beat"].as_str().unwrap().to_owned();
    let kept = profile.data().join("runs").join(beat).join("reply.txt");
    assert!(fs::metadata(kept).unwrap().len() <= 4 << 20, "what is kept of it is small");
}

#[test]
#[ignore = "slow"]
fn a_reply_without_one_valid_move_is_asked_about_once() {
    let long = |bytes: u32| {
        let begin = r#"{"move":"write_goal","id":"g","why":"x","body":""#;
        format!("printf '{begin}'; head -c {bytes} /dev/zero | tr '\\0' a; echo '\"}}'")
    };
    let rows: [(&str, &str); 17] = [
        (r"printf '\377\376\001\200'", "no complete JSON object"),
        ("echo 'I think that all is well.'", "no complete JSON object"),
        (r#"echo '{"move":"noop","why":"x"}{"move":"noop","why":"y"}'"#, "2 moves"),
        (r#"echo '{"move":"noop","why":"x","extra":1}'"#, "extra"),
        (r#"echo '{"move":"run","argv":["ls"],"why":"x","sudo":true}'"#, "sudo"),
        (r#"echo '{"move":"format_disk","why":"x"}'"#, "format_disk"),
        (r#"echo '{"move":"noop"}'"#, "why"),
        (r#"echo '{"move":"noop","why":""}'"#, "why"),
        (r#"echo '{"move":"run","argv":"ls","why":"x"}'"#, "run"),
        (r#"echo '{"move":"noop","why":"x"'"#, "no complete JSON object"),
        (r#"echo '{"move":"write_goal","id":"../../x","body":"b","why":"x"}'"#, "not a name"),
        (r#"echo '{"move":"write_goal","id":"a/b","body":"b","why":"x"}'"#, "not a name"),
        (r#"echo '{"move":"write_goal","id":"g","body":" ","why":"x"}'"#, "must not be empty"),
        (r#"echo '{"result":"ok"}'"#, "`move`"),
        (&long(5_000_000), "limit"),
        (&long(100_000), "limit"),
        ("i=0; while [ $i -lt 3000 ]; do printf '{\"move\":'; i=$((i+1)); done", ""),
    ];
    for (body, why) in rows {
        let profile = decided_by(body);
        let printed = fails(&profile, "invalid", 2);
        assert!(printed.contains(why), "{body}: {printed}");
        let outside = [profile.path("x.md"), profile.path("x"), profile.data().join("x.md")];
        assert!(outside.iter().all(|path| !path.exists()), "{body}");
        let goals = fs::read_dir(profile.data().join("goals")).unwrap();
        assert_eq!(goals.count(), 1, "only the archive: {body}");
    }
}

#[test]
#[ignore = "slow"]
fn a_move_in_prose_or_fences_is_found() {
    let rows = [
        format!("Let me think.\n\n{NOOP}\n\nThat is all {{not JSON}}."),
        format!("```json\n{NOOP}\n```"),
        format!("<think>{{\"a\": 1}}</think>\n{NOOP}"),
        format!("\u{feff}\r\n{}\r\n", NOOP.replace(':', " :\n")),
        r#"{"move":"noop","why":"a \"quoted\" } brace","goal":null,"next_beat_s":null}"#.to_owned(),
    ];
    for reply in rows {
        let profile = Profile::scripted(&[NOOP]);
        fs::write(profile.path("script/reply"), &reply).unwrap();
        decide_by(&profile, &format!("cat {}", profile.path("script/reply").display()));
        profile.looop(&["tick"]).ok().prints(&[" noop "]);
        assert_eq!(calls(&profile), 1);
    }
}

#[test]
fn one_repair_call_quotes_the_error_and_saves_the_beat() {
    let bad = r#"{"move":"write_goal","id":"no name","body":"b","why":"x"}"#;
    let good = r#"{"move":"write_goal","id":"name","body":"wanted","why":"x"}"#;
    let profile = Profile::scripted(&[bad, good, NOOP]);
    profile.looop(&["tick"]).ok();
    assert_eq!(profile.read("goals/name.md"), "wanted\n");
    assert_eq!((profile.asked(), profile.charges().len()), (2, 1));
    let beat = is_well(&profile);
    assert_eq!(beat["decisions"], 1);
    let run = format!("runs/{}", beat["last"]["beat"].as_str().unwrap());
    let kept = |name: &str| profile.read(&format!("{run}/{name}"));
    let repair = kept("repair-prompt.md");
    assert!(repair.starts_with(&kept("prompt.md")), "the same prompt, and then the error");
    for (file, words) in [
        ("repair-prompt.md", r#"\"no name\" is not a name"#),
        ("repair-prompt.md", r#"write_goal\",\"id\":\"no name"#),
        ("reply.txt", "no name"),
        ("repair-reply.txt", "wanted"),
    ] {
        assert!(kept(file).contains(words), "{file}: {words}: {}", kept(file));
    }
}

#[test]
fn a_paid_call_is_charged_although_the_repair_finds_no_runner() {
    let profile = Profile::scripted(&[NOOP]);
    program(profile.path("once"), "#!/bin/sh\nrm once\necho nonsense\n");
    // It removes itself, which no sandbox lets a runner do.
    profile.without_sandbox(&["decide"]);
    profile.config(json!({ "decide": "mine", "runners": { "mine": { "decide": ["./once"] } } }));
    profile.looop(&["tick"]).prints(&["failed — missing: "]);
    let charges = profile.charges();
    assert_eq!(charges.len(), 1, "{charges:?}");
    let usage = &charges[0]["usage"];
    assert!(usage["tokens_in"].as_u64() > Some(0) && usage["tokens_out"] == 3, "{usage}");
}

#[test]
fn only_success_clears_a_failure_and_a_user_edit_ends_its_wait() {
    let profile = decided_by("echo broken >&2; exit 1");
    fails(&profile, "crashed", 1);
    let dry = profile.looop(&["tick", "--dry-run"]).ok().stdout;
    let (_, shown) = dry.split_once("# Last failure (data)").expect("the next decision sees the failure");
    assert!(shown.contains("broken"), "{shown}");
    // A sensor's change does not end the wait.
    profile.sensor("s.sh", "echo '{\"a\":1}'");
    profile.looop(&["tick"]).ok().prints(&["backing off"]);
    profile.goal("g", "---\ngoal: mend it\n---\n");
    let again = profile.looop(&["tick"]);
    assert_eq!((again.code, calls(&profile)), (1, 2));
    assert_eq!(profile.read_json("beat.json")["backoff"]["fails"], 2, "the count goes on");
    profile.looop(&["tick"]).ok().prints(&["after 2 failures in a row"]);
    decide_by(&profile, &format!("echo '{NOOP}'"));
    // A new runner alone ends nothing.
    profile.looop(&["tick"]).ok().prints(&["backing off"]);
    // A user who wants a move now does not wait.
    profile.looop(&["run", "g"]).ok();
    is_well(&profile);
    assert!(!profile.looop(&["tick", "--dry-run"]).ok().stdout.contains("# Last failure"));
}

#[test]
fn a_transient_error_is_known_by_its_pattern() {
    let profile = Profile::scripted(&[NOOP]);
    let pattern = json!({ "transient": "rate.?limit|5[0-9][0-9]" });
    decide_with(&profile, "echo 'HTTP 529 overloaded' >&2; exit 1", pattern);
    fails(&profile, "transient", 1);
    profile.config_more(json!({ "runners": { "mine": { "decide": ["sh"], "transient": "(" } } }));
    profile.looop(&["tick"]).exits(2).warns(&["runners.mine.transient"]);
}

#[test]
fn a_refusal_is_shown_to_the_next_decision() {
    let request = r#"{"move":"archive_goal","id":"nosuch","why":"done"}"#;
    let worker = r#"{"move":"stop_worker","id":"w","why":"x"}"#;
    let profile = Profile::scripted(&[request, worker, NOOP]);
    profile.looop(&["tick"]).ok().prints(&["refused: there is no such goal"]);
    profile.looop(&["tick", "--dry-run"]).ok().prints(&["there is no such goal"]);
    profile.looop(&["tick"]).ok().prints(&["stop_worker w — refused: "]);
    profile.looop(&["tick"]).ok();
    profile.looop(&["tick"]).ok().prints(&["idle"]);
    assert_eq!(lines(&profile.data().join("journal.md")), 3);
}

#[test]
fn the_decisions_of_an_hour_are_limited() {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({ "limits": { "decides_per_hour": 2 } }));
    for number in 0..4 {
        profile.goal("g", &format!("edit {number}"));
        profile.looop(&["tick"]).ok();
    }
    assert_eq!(profile.asked(), 2);
    profile.looop(&["tick"]).ok().prints(&["all 2 decisions of the hour are used"]);
    profile.looop(&["run", "g"]).exits(1).warns(&["all 2 decisions of the hour are used"]);
    profile.config_more(json!({ "limits": { "decides_per_hour": 0 } }));
    profile.looop(&["tick"]).ok().prints(&["all 0 decisions"]);
    assert_eq!(profile.asked(), 2);
}

#[test]
fn a_used_up_budget_prevents_calls_and_is_reported_once() {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({ "budget": { "day_usd": 0 } }));
    for _ in 0..3 {
        let held = ["held — the budget of day 20", "is used up ($0 of $0 spent)"];
        profile.looop(&["tick"]).ok().prints(&held);
    }
    assert_eq!(profile.asked(), 0);
    let asks = profile.looop(&["asks", "--json"]).ok().json();
    assert_eq!(asks["asks"].as_array().unwrap().len(), 1, "{asks}");
    assert!(asks["asks"][0]["text"].as_str().unwrap().contains("budget"));
    profile.looop(&["answer", "budget", "go on tomorrow"]).ok();
    profile.looop(&["tick"]).ok();
    assert_eq!(profile.looop(&["asks", "--json"]).ok().json()["asks"], json!([]), "and not again");
    profile.config_more(json!({ "budget": { "day_usd": 1 } }));
    profile.looop(&["tick"]).ok();
    assert_eq!(profile.asked(), 1);
    profile.looop(&["tick"]).ok().prints(&["idle"]);
}

#[test]
fn a_large_prompt_travels_by_file_and_the_environment_is_a_list() {
    let mut profile = Profile::scripted(&[NOOP]);
    let out = profile.path("script/out");
    profile.var("MY_SECRET", "s3cret");
    profile.var("MY_TOKEN", "t0ken");
    let goal = "x".repeat(59) + "\n";
    fs::write(profile.data().join("PLAYBOOK.md"), goal.repeat(1000)).unwrap();
    (0..4).for_each(|number| profile.goal(&format!("g{number}"), &goal.repeat(1000)));
    let body = format!(
        "readlink /proc/$$/fd/0 > {0}; tr '\\0' ' ' < /proc/$$/cmdline >> {0}; echo >> {0}; env >> {0}\n\
         wc -c > {0}.bytes; echo '{NOOP}'",
        out.display()
    );
    decide_with(&profile, &body, json!({ "env": ["MY_TOKEN", "NOT_SET"] }));
    profile.looop(&["tick"]).ok();
    let bytes: usize = fs::read_to_string(profile.path("script/out.bytes")).unwrap().trim().parse().unwrap();
    assert!(bytes > 240_000, "{bytes} bytes");
    let text = fs::read_to_string(out).unwrap();
    let mut seen = text.lines();
    let beat = profile.read_json("beat.json")["last"]["beat"].as_str().unwrap().to_owned();
    let prompt = profile.data().join(format!("runs/{beat}/prompt.md"));
    assert_eq!(seen.next(), prompt.to_str());
    let argv = format!("sh {}", profile.path("script/decide.sh").display());
    assert!(seen.next().unwrap().trim_end().ends_with(&argv), "{text}");
    let keys: Vec<&str> = seen.filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(keys.contains(&"MY_TOKEN") && keys.contains(&"HOME") && keys.contains(&"PATH"), "{keys:?}");
    let stranger = |key: &&&str| ["MY_SECRET", "LOOOP_DATA_DIR", "LOOOP_CONFIG", "NOT_SET"].contains(key);
    assert!(!keys.iter().any(|key| stranger(&key)), "{keys:?}");
}

#[test]
fn while_a_runner_thinks_another_beat_does_not_start_and_an_end_is_clean() {
    let profile = Profile::scripted(&[NOOP]);
    let pid = profile.path("script/pid");
    decide_by(&profile, &format!("echo $$ > {}; sleep 1000", pid.display()));
    let mut child = profile.spawn(&["tick"]);
    wait_until("the call", || fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')));
    profile.looop(&["tick"]).exits(75).warns(&[&format!("process {} is in one", child.id())]);
    // Reading and the user's own verbs do not wait for it.
    profile.looop(&["status"]).ok();
    profile.looop_with(&["goal", "write", "g"], "a goal\n").ok();
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let left = processes(&profile.path("script").display().to_string());
    assert_eq!(left, Vec::<String>::new(), "the runner is ended with its beat");
    assert_eq!(profile.charges().len(), 1, "what it may have cost is written down");
    assert_eq!(failure(&profile), Value::Null, "an interruption is no failure");
    decide_by(&profile, &format!("echo '{NOOP}'"));
    profile.looop(&["tick"]).ok().prints(&[" noop "]);
}
