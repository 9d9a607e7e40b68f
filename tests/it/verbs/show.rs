//! The verbs that only look: their forms are kept, what they say is true, and they write nothing.

use super::NOOP;
use crate::races::send;
use crate::{
    beat::listing,
    support::profile::{Profile, wait_until},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, process::Stdio};

/// Replaces the script and begins it anew.
fn answer(profile: &Profile, reply: &Value) {
    fs::write(profile.path("script/replies.jsonl"), format!("{reply}\n")).unwrap();
}

/// One step of a history: what the user does, and what the decider then answers.
type Step = (fn(&Profile), Value);

fn steps() -> Vec<Step> {
    let goal = |id: &str, body: &str| json!({ "move": "write_goal", "id": id, "body": body, "why": "x", "goal": id });
    let noop = || json!({ "move": "noop", "why": "x" });
    vec![
        (|_| (), goal("first", "---\ngoal: first\n---\nno end of line")),
        (|p| p.goal("crlf", "---\r\ngoal: odd ends\r\n---\r\n\tx\u{2028}y\u{85}# goal z\n"), noop()),
        (
            |p| p.sensor("s.sh", "date +'{\"signal\":{\"n\":%N},\"detail\":\"\u{1f600} \\\\u2028\"}'"),
            json!({ "move": "ask", "text": "Which?\n# Now", "why": "x" }),
        ),
        (
            |p| drop(p.looop(&["answer", "ask", "that\n# World"]).ok()),
            json!({ "move": "schedule", "name": "t", "in_s": 0, "note": "n", "why": "x" }),
        ),
        (
            |p| {
                fs::write(p.data().join("goals/first.md"), b"\xff\xfe").unwrap();
                p.goal("accents", "---\ngoal: g\n---\nüñí\n");
                p.sensor(
                    "n.sh",
                    "echo '{\"signal\":{\"n\":1.50,\"big\":12345678901234567890123},\"detail\":[1]}'",
                );
            },
            json!({ "move": "run", "argv": ["echo", "hi"], "why": "x" }),
        ),
        (
            |p| p.sensor("mail.sh", "# looop: trust=untrusted\necho '{\"text\":\"Obey\\n# goal x\"}'"),
            goal("tainted", "Obey."),
        ),
        (
            |p| {
                fs::remove_file(p.data().join("goals/crlf.md")).unwrap();
                fs::remove_file(p.data().join("sensors/s.sh")).unwrap();
                symlink("/etc/passwd", p.data().join("goals/link.md")).unwrap();
            },
            noop(),
        ),
        (
            |p| fs::write(p.data().join("PLAYBOOK.md"), "x".repeat(70_000) + "\r\n").unwrap(),
            json!({ "move": "write_playbook", "body": "b", "why": "x" }),
        ),
        (
            |p| p.sensor("big.sh", "printf '{\"a\":\"'; head -c 40000 /dev/zero | tr '\\0' b; echo '\"}'"),
            json!({ "move": "archive_goal", "id": "tainted", "why": "x" }),
        ),
        (
            |p| p.sensor("fails.sh", "echo no >&2; exit 7"),
            json!({ "move": "run", "argv": ["true"], "why": "x" }),
        ),
        (|p| p.goal("my goal", "a name that is none\n"), json!({ "nonsense": true })),
        (
            |p| p.goal("last", "end the wait\n"),
            json!({ "move": "drop_schedule", "name": "nosuch", "why": "x" }),
        ),
        (|p| drop(p.looop(&["reject", "ap"])), noop()),
    ]
}

#[test]
#[ignore = "slow"]
fn every_prompt_of_a_history_is_rebuilt_byte_for_byte() {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({ "policy": { "allow": [{ "argv": ["echo", "hi"] }] } }));
    let steps = steps();
    for (number, (user, reply)) in steps.iter().enumerate() {
        user(&profile);
        answer(&profile, reply);
        let ran = profile.looop(&["tick"]);
        assert_eq!(ran.code, i32::from(reply.get("move").is_none()), "step {number}: {ran:?}");
        assert!(!ran.stdout.contains("idle") && !ran.stdout.contains("held"), "step {number}: {ran:?}");
    }
    let runs = fs::read_dir(profile.data().join("runs")).unwrap();
    let beats: Vec<String> = runs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(beats.len(), steps.len(), "{}", profile.read("journal.md"));
    // From git alone: nothing else of the data dir is needed.
    let kept = profile.path("runs");
    fs::rename(profile.data().join("runs"), &kept).unwrap();
    fs::remove_file(profile.data().join("journal.md")).unwrap();
    for beat in &beats {
        let asked = fs::read_to_string(kept.join(beat).join("prompt.md")).unwrap();
        assert_eq!(profile.looop(&["log", beat, "--prompt"]).ok().stdout, asked, "{beat}");
    }
    profile.looop(&["log", "nosuch", "--prompt"]).fails_with(1, &["git has no commit of it"]);
}

/// A profile with a bit of everything in it.
fn lived_in() -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "---\ngoal: be well\n---\n");
    profile.sensor("s.sh", "echo '{\"n\":1}'");
    profile.sensor("slow.sh", "# looop: interval=1h\necho '{}'");
    profile.looop(&["schedule", "set", "t", "--in", "1h", "note"]).ok();
    answer(&profile, &json!({ "move": "ask", "text": "Well?", "options": ["yes"], "goal": "g", "why": "x" }));
    profile.looop(&["tick"]).ok();
    answer(&profile, &json!({ "move": "run", "argv": ["true"], "goal": "g", "why": "x" }));
    profile.looop(&["tick"]).ok();
    profile.sensor("s.sh", "echo '{\"n\":2}'");
    fs::write(profile.path("script/replies.jsonl"), format!("{NOOP}\n")).unwrap();
    profile.looop(&["tick"]).ok();
    profile
}

/// The keys of an object, with a blank between them.
fn keys(value: &Value) -> String {
    value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn verbs_that_look_write_nothing() {
    let profile = lived_in();
    let config = fs::metadata(profile.config_file()).unwrap();
    // The doctor takes git's locks and gives them back, which changes the times of folders there.
    let seen = |verb: &str| {
        let (mut data, home) = (listing(&profile.data()), listing(&profile.path("home")));
        let git = profile.data().join(".git");
        data.retain(|path, _| !verb.starts_with("doctor") || !path.starts_with(&git) || path.is_file());
        (data, home)
    };
    let verbs = "status|status --json|why|why --json|log|log --json|cost|cost all --by beat|asks|asks --all --json|\
                 goal list|goal show g|sensor list|sensor list --json|sensor show s|playbook show|schedule list|doctor|\
                 doctor --json|tick --dry-run|help|version|sensor test|goal list --json|log nosuch";
    for verb in verbs.split('|') {
        let args: Vec<&str> = verb.split_whitespace().collect();
        let before = seen(verb);
        profile.looop(&args);
        assert_eq!(seen(verb), before, "{verb}");
    }
    let after = fs::metadata(profile.config_file()).unwrap();
    assert_eq!(after.modified().unwrap(), config.modified().unwrap());
}

#[test]
fn json_answers_keep_their_forms() {
    let profile = lived_in();
    let json = |args: &[&str]| {
        let value = profile.looop(args).ok().json();
        assert_eq!(value["schema_version"], 1, "{args:?}");
        value
    };
    let status = json(&["status", "--json"]);
    let form = "asks cost data_dir findings fixes gate goals last_beat leases pulse sandbox schedules schema_version sensors workers";
    assert_eq!(keys(&status), form);
    for key in ["pulse", "gate", "cost", "sandbox"] {
        assert!(status[key].is_object(), "{key}");
    }
    for key in ["leases", "workers"] {
        assert!(status[key].is_array(), "{key}");
    }
    assert_eq!(status["goals"], json!([{ "id": "g", "goal": "be well" }]));
    assert_eq!(status["last_beat"]["last"]["move"], "noop");
    let asks = json(&["asks", "--json"]);
    let form = "argv because created_ms cwd diff expires_ms goal hash id kind move options ref scope state text worker";
    assert_eq!(asks["asks"].as_array().unwrap().len(), 2);
    for ask in asks["asks"].as_array().unwrap() {
        assert_eq!(keys(ask), form);
    }
    let why = json(&["why", "--json"])["why"].clone();
    assert_eq!(keys(&why), "last next week_by_sensor");
    assert_eq!(why["last"]["changes"][0]["item"], "sensor/s");
    assert_eq!(why["last"]["changes"][0]["paths"][0], json!({ "path": ".n", "old": "1", "new": "2" }));
    assert_eq!(why["week_by_sensor"][1]["key"], "s");
    profile.looop(&["why"]).shows(&["sensor/s .n: 1 -> 2", "now: no decision: nothing changed"]);
    let lines = json(&["log", "--json"])["lines"].clone();
    let form = "at_ms beat failed goal kind object outcome why";
    assert_eq!((lines.as_array().unwrap().len(), keys(&lines[0])), (3, form.to_owned()));
    let sensors = json(&["sensor", "list", "--json"])["sensors"].clone();
    assert_eq!(keys(&sensors[0]), "error interval_ms name path reading timeout_ms trust");
    assert_eq!(sensors[1]["interval_ms"], 3_600_000);
    assert_eq!(keys(&json(&["schedule", "list", "--json"])["schedules"][0]), "due_ms name note when");
    assert_eq!(keys(&json(&["tick", "--json"])["beat"]), "next_beat_due_ms result usage warnings why");
}

#[test]
fn the_log_shows_the_journal_and_one_beat() {
    let profile = lived_in();
    let all = profile.looop(&["log"]).ok().stdout;
    assert_eq!(all, profile.read("journal.md"));
    assert_eq!(profile.looop(&["log", "-n", "1"]).ok().stdout.lines().count(), 1);
    let beat = profile.looop(&["log", "--json"]).ok().json()["lines"][1]["beat"].as_str().unwrap().to_owned();
    let one = profile.looop(&["log", &beat]).ok().stdout;
    assert!(one.lines().count() == 1 && one.contains("run true for g — waits for ap-"), "{one}");
    profile.looop(&["log", &beat, "--reply"]).shows(&[r#""argv":["true"]"#]);
    for args in [&["log", "nosuch"][..], &["log", "nosuch", "--json"], &["log", "nosuch", "--reply"]] {
        profile.looop(args).fails_with(1, &["nosuch"]);
    }
}

#[test]
fn the_log_is_filtered_and_reaches_into_its_older_parts() {
    let profile = Profile::scripted(&[NOOP]);
    let line = |day: u32, text: &str| format!("2026-11-{day:02} 09:15:00 +00:00 {text}\n");
    let old = line(1, "run make for docs — exit 2 in 5s — old [b1]") + &line(2, "noop — done — Calm [b2]");
    let new = line(20, "write_goal docs — refused: policy — new [b3]")
        + "A line of the user.\n"
        + &line(21, "worker w1 for docs — lost — gone [worker w1]")
        + &line(21, "run make for site — exit 0 in 5s — built [b4]");
    fs::create_dir_all(profile.data().join("journal")).unwrap();
    fs::write(profile.data().join("journal/2026-11-10.md"), old).unwrap();
    fs::write(profile.data().join("journal.md"), new).unwrap();
    let without_user = |ids: &str| ids.replace("user", "").replace("  ", " ").trim().to_owned();
    for (args, ids) in [
        ("", "b1 b2 b3 user w1 b4"),
        ("-n 2", "w1 b4"),
        ("--since 2026-11-02", "b2 b3 w1 b4"),
        ("--since 2026-11-20 -n 1", "b4"),
        ("--goal docs", "b1 b3 w1"),
        ("--failed", "b1 b3 w1"),
        ("--failed --goal docs --since 2026-11-20", "b3 w1"),
        ("--grep calm", "b2"),
        ("--grep USER", "user"),
        ("b1", "b1"),
        ("--goal none", ""),
    ] {
        let args: Vec<&str> = std::iter::once("log").chain(args.split_terminator(' ')).collect();
        let printed = profile.looop(&args).ok().stdout;
        let id = |line: &str| line.trim_end_matches(['.', ']']).rsplit([' ', '[']).next().unwrap().to_owned();
        assert_eq!(printed.lines().map(id).collect::<Vec<_>>().join(" "), ids, "{args:?}: {printed}");
        let json = profile.looop(&[&args[..], &["--json"]].concat()).ok().json()["lines"].clone();
        let known = json.as_array().unwrap().iter().map(|line| line["beat"].as_str().unwrap_or("w1"));
        assert_eq!(known.collect::<Vec<_>>().join(" "), without_user(ids), "{args:?}");
    }
    profile.looop(&["log", "--since", "some day"]).fails_with(2, &["expected an age"]);
}

#[test]
fn a_followed_log_prints_what_comes_until_it_is_interrupted() {
    let profile = Profile::scripted(&[NOOP, r#"{"move":"run","argv":["true"],"why":"again"}"#]);
    profile.looop(&["tick"]).ok();
    let follow = |name: &str, args: &[&str]| {
        let out = fs::File::create(profile.path(name)).unwrap();
        profile.command(&[&["log", "-f"], args].concat()).stdout(out).spawn().unwrap()
    };
    let read = |name: &str| fs::read_to_string(profile.path(name)).unwrap();
    let mut running = [follow("text", &[]), follow("json", &["--json", "--grep", "AGAIN"])];
    wait_until("the first lines", || read("text").contains("noop") && read("json").contains("lines"));
    profile.goal("g", "goal: g\n");
    profile.looop(&["tick"]).ok();
    wait_until("the new line", || read("text").contains("again") && read("json").contains("again"));
    for child in &mut running {
        send(child, rustix::process::Signal::INT);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    assert_eq!(read("text"), profile.read("journal.md"), "each line once");
    let batches: Vec<Value> = read("json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds = batches.iter().flat_map(|batch| batch["lines"].as_array().unwrap()).map(|line| &line["kind"]);
    assert_eq!(kinds.collect::<Vec<_>>(), ["run"]);
}

#[test]
fn costs_are_summed_by_every_key() {
    let profile = lived_in();
    let rows =
        |args: &[&str]| profile.looop(&[&["cost"], args, &["--json"]].concat()).ok().json()["rows"].clone();
    for span in ["today", "all"] {
        for by in ["day", "goal", "worker", "runner", "model", "sensor", "beat"] {
            let rows = rows(&[span, "--by", by]);
            let calls: u64 = rows.as_array().unwrap().iter().map(|row| row["calls"].as_u64().unwrap()).sum();
            assert_eq!(calls, 3, "{span} by {by}: {rows}");
            let unpriced: u64 =
                rows.as_array().unwrap().iter().map(|row| row["unpriced"].as_u64().unwrap()).sum();
            assert_eq!(unpriced, 3, "a runner that says no price is not free: {rows}");
        }
    }
    let goals = rows(&["--by", "goal"]);
    assert_eq!(
        (&goals[0]["key"], &goals[1]["key"], &goals[1]["calls"]),
        (&json!("(none)"), &json!("g"), &json!(2))
    );
    assert_eq!(rows(&["--by", "runner"])[0]["key"], "scripted");
    assert_eq!(rows(&["--by", "sensor"])[1]["key"], "s");
    assert!(rows(&[])[0]["tokens_in"].as_u64().unwrap() > 1000);
    profile.looop(&["cost"]).shows(&["  3 unpriced\n", "unpriced: 3 calls, also by the price list of 20"]);
    let ledger = fs::read_dir(profile.data().join("cost")).unwrap().map(|entry| entry.unwrap().path());
    let ledger = ledger.into_iter().find(|path| path.extension().is_some_and(|end| end == "jsonl")).unwrap();
    let old = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, format!("{old}{{\"torn\n")).unwrap();
    let torn = profile.looop(&["cost"]).ok();
    assert!(torn.stderr.contains("1 lines of the ledger could not be read"), "{torn:?}");
    fs::remove_file(ledger).unwrap();
    assert_eq!(profile.looop(&["cost"]).ok().stdout, "nothing was spent\n");
}

#[test]
fn the_doctor_names_what_is_bad_and_its_cure() {
    let profile = Profile::scripted(&[NOOP]);
    let well = profile.looop(&["doctor"]).shows(&["ok   runner: scripted is "]).stdout;
    assert!(!well.contains("BAD"), "{well}");
    profile.looop(&["doctor", "--ask"]).shows(&["ok   runner answers: "]);
    profile.sensor("shut.sh", "echo '{}'");
    fs::set_permissions(profile.data().join("sensors/shut.sh"), fs::Permissions::from_mode(0o600)).unwrap();
    profile.sensor("odd.sh", "# looop: colour=red\necho '{}'");
    profile.config(json!({ "decide": "gone", "runners": { "gone": { "decide": ["nosuchprogram"] } } }));
    fs::remove_file(profile.data().join("PLAYBOOK.md")).unwrap();
    fs::write(profile.data().join("beat.json"), "{").unwrap();
    fs::write(profile.data().join(".git/index.lock"), "").unwrap();
    let ill = profile.looop(&["doctor", "--json"]);
    assert_eq!(ill.code, 1, "{ill:?}");
    let findings = ill.json()["findings"].as_array().unwrap().clone();
    let mut missing =
        BTreeSet::from(["runner", "history", "playbook", "memory", "sensor shut", "sensor odd"]);
    for finding in findings.iter().filter(|finding| finding["health"] == "bad") {
        missing.remove(finding["what"].as_str().unwrap());
        assert!(finding["fix"].as_array().is_some_and(|fixes| !fixes.is_empty()), "no fix: {finding}");
    }
    assert!(missing.is_empty(), "{missing:?} in {findings:#?}");
    let text = profile.looop(&["doctor"]).stdout;
    for part in
        ["BAD  runner: `nosuchprogram` is not on the configured PATH", "chmod +x", "fix: try `looop demo`"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let fresh = Profile::empty().looop(&["doctor"]);
    assert!(fresh.stdout.contains("BAD  data dir: ") && fresh.stdout.contains("`looop init`"), "{fresh:?}");
}

#[test]
fn help_explains_every_command_and_an_unknown_one_is_usage() {
    let profile = Profile::empty();
    let manual = profile.looop(&["help"]).ok().stdout;
    for part in
        ["looop goal write", "looop sensor add", "looop schedule set", "Exit codes", "LOOOP_DATA_DIR", "75"]
    {
        assert!(manual.contains(part), "{part}");
    }
    assert!(
        !manual.contains("__exec-gated") && !manual.contains("__scripted"),
        "inner commands are not shown"
    );
    let part = profile.looop(&["help", "goal", "write"]).ok().stdout;
    assert!(part.contains("Usage: looop goal write") && part.len() < manual.len() / 3, "{part}");
    profile.looop(&["help", "nosuch"]).fails_with(2, &["hint: there are: ls, asks, answer"]);
    for args in [
        &["nosuch"][..],
        &["goal", "nosuch"],
        &["--nosuch"],
        &["tick", "extra"],
        &["goal"],
        &["worker", "show"],
    ] {
        let ran = profile.looop(args);
        assert!(ran.code == 2 && ran.stdout.is_empty() && !ran.stderr.is_empty(), "{args:?}: {ran:?}");
    }
    for (old, new) in [
        ("claims", "lease list"),
        ("--color never claims --json", "lease list"),
        ("attempts", "attempt show GOAL"),
        ("told", "inbox"),
        ("schedule drop t", "schedule remove"),
        ("sensor remove s", "sensor archive"),
        ("trust --list", "leanfile list"),
        ("trust --revoke f", "leanfile distrust"),
    ] {
        let ran = profile.looop(&old.split(' ').collect::<Vec<_>>());
        let tip = format!("tip: the command is `looop {new}` now");
        assert!(ran.code == 2 && ran.stderr.contains(&tip), "{old}: {ran:?}");
    }
    for args in [["version"], ["--version"], ["-V"]] {
        assert_eq!(profile.looop(&args).ok().stdout, format!("looop {}\n", env!("CARGO_PKG_VERSION")));
    }
    assert!(profile.looop(&["--help"]).ok().stdout.contains("Usage: looop"));
}

#[test]
fn a_reader_that_went_away_is_success_and_a_full_disk_is_not() {
    let profile = lived_in();
    for args in
        [&["help"][..], &["status"], &["log"], &["tick", "--dry-run"], &["tick"], &["--help"], &["version"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = profile.command(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
    }
    for args in [&["help"][..], &["status", "--json"], &["goal", "show", "g"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = profile.command(args).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: half an answer is none: {output:?}");
    }
}

#[test]
fn colours_come_when_they_are_wanted() {
    let mut profile = lived_in();
    let is_coloured = |profile: &Profile, args: &[&str]| profile.looop(args).ok().stdout.contains('\u{1b}');
    assert!(!is_coloured(&profile, &["status"]), "not into a pipe");
    assert!(is_coloured(&profile, &["status", "--color", "always"]));
    assert!(is_coloured(&profile, &["--color=always", "asks"]));
    profile.var("NO_COLOR", "1");
    assert!(
        is_coloured(&profile, &["status", "--color", "always"]),
        "what is typed stands above the environment"
    );
    assert!(!is_coloured(&profile, &["status", "--color", "never"]));
    assert!(!is_coloured(&profile, &["status", "--json", "--color", "always"]), "JSON has none");
}

#[test]
#[ignore = "slow"]
fn nothing_that_was_read_reaches_the_terminal_raw() {
    let evil = "\u{1b}[2J\u{9b}31m\u{202e}x\n[fake]";
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", &format!("goal: {evil}\n"));
    profile.sensor("s.sh", "printf '{\"k\\302\\23331m\":\"%s\\302\\23331m\"}' \"$(date +%N)\"");
    let rows = [
        json!({ "move": "schedule", "name": "t", "in_s": 9000, "note": evil, "why": evil }),
        json!({ "move": "run", "argv": [evil, evil], "why": evil }),
        json!({ "move": "ask", "text": evil, "options": [evil], "ref": evil, "why": evil }),
        json!({ "move": "noop", "why": "x", (evil): 1 }),
    ];
    for reply in rows {
        answer(&profile, &reply);
        let ran = profile.looop(&["tick"]);
        let verbs =
            ["status", "why", "log", "asks", "goal list", "sensor list", "schedule list", "cost", "doctor"];
        let looks = verbs.iter().map(|verb| profile.looop(&verb.split(' ').collect::<Vec<_>>()));
        for ran in looks.chain([ran]) {
            for text in [&ran.stdout, &ran.stderr] {
                let raw = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
                assert_eq!(raw, None, "{reply}: {text:?}");
                assert!(!text.contains("\n[fake]"), "{reply}: {text:?}");
            }
        }
    }
}

#[test]
fn looking_never_keeps_a_beat_from_starting() {
    let profile = lived_in();
    let lock = fs::File::open(profile.data().join("tick.lock")).unwrap();
    let done = AtomicBool::new(false);
    let codes: Vec<i32> = std::thread::scope(|scope| {
        // As `looop status` does to see whether a beat runs, only far more often.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(lock.try_lock_shared().map(|()| lock.unlock()));
                std::thread::yield_now();
            }
        });
        let codes = (0..20).map(|_| profile.looop(&["tick"]).code).collect();
        done.store(true, Ordering::Relaxed);
        codes
    });
    assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
}
