//! The beat end to end with the real program: what a decision leaves, what an idle beat does not, and what wakes.

use std::path::{Path, PathBuf};
use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt};

use crate::support::decider::newest_prompt;
use crate::support::profile::{Profile, program};

const NOOP: &str = r#"{"move":"noop","why":"nothing to do"}"#;

/// Every file and directory with all that changes when something is written: inode, size, change time.
pub fn listing(dir: &Path) -> BTreeMap<PathBuf, (u64, u64, i64, i64)> {
    let mut all = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(path, (meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()));
    }
    all
}

#[test]
fn a_settled_world_costs_nothing_and_writes_nothing() {
    let profile = Profile::scripted(&[NOOP]);
    profile.sensor("s.sh", "echo '{\"n\":1}'");
    profile.goal("g", "---\ngoal: g\n---\n");
    profile.looop(&["tick"]).ok();
    assert_eq!(profile.asked(), 1);
    let before = listing(&profile.data());
    let head = profile.git(&["rev-parse", "HEAD"]);
    for _ in 0..3 {
        let idle = profile.looop(&["tick"]).ok();
        assert!(idle.stdout.contains("idle — nothing changed"), "{}", idle.stdout);
    }
    assert_eq!(profile.asked(), 1);
    assert_eq!(profile.git(&["rev-parse", "HEAD"]), head);
    // `git rev-parse` itself writes nothing, so what is compared is looop's doing.
    assert_eq!(listing(&profile.data()), before);
}

#[test]
fn only_a_changed_signal_wakes() {
    let profile = Profile::scripted(&[NOOP]);
    let file = profile.path("value");
    profile.sensor("s.sh", &format!("cat {}", file.display()));
    let sense = |text: &str| {
        fs::write(&file, text).unwrap();
        let before = profile.asked();
        profile.looop(&["tick"]).ok();
        profile.asked() - before
    };
    assert_eq!(sense(r#"{"signal":{"n":1,"m":[1,2]},"detail":{"at":1}}"#), 1);
    for same in [
        r#"{"signal":{"n":1,"m":[1,2]},"detail":{"at":2}}"#,
        r#"{ "detail": {"at":3, "more":"x"}, "signal": { "m": [ 1, 2 ], "n": 1.0 } }"#,
        r#"{"signal":{"n":1e0,"m":[1.00,20e-1]}}"#,
    ] {
        assert_eq!(sense(same), 0, "{same}");
    }
    assert_eq!(sense(r#"{"signal":{"n":2,"m":[1,2]},"detail":{"at":2}}"#), 1);
    let changes = profile.read_json("world.json")["changes"].clone();
    assert_eq!(changes[0]["item"], "sensor/s");
    assert_eq!(changes[0]["paths"][0]["path"], ".n");
    assert_eq!((&changes[0]["paths"][0]["old"], &changes[0]["paths"][0]["new"]), (&"1".into(), &"2".into()));
}

#[test]
fn a_move_is_committed_with_its_world_and_the_humans_edits_apart() {
    let goal =
        r#"{"move":"write_goal","id":"new","body":"---\ngoal: new\n---\n","why":"it is missing","goal":"g"}"#;
    let profile = Profile::scripted(&[goal, NOOP]);
    profile.goal("g", "---\ngoal: g\n---\n");
    profile.looop(&["tick"]).ok();
    let log = profile.git(&["log", "--format=%an|%s"]);
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].starts_with("looop|move: write_goal new for g — done — it is missing"), "{log}");
    assert!(lines[1].starts_with("looop|world: "), "{log}");
    assert!(lines[2].starts_with("ada|human: edit "), "{log}");
    assert_eq!(lines[3], "looop|init: a fresh data dir");
    let names = |rev: &str| profile.git(&["show", "--name-only", "--format=", rev]);
    assert_eq!(names("HEAD"), "goals/new.md\njournal.md\n");
    assert_eq!(names("HEAD~1"), "world.json\n");
    let body = profile.git(&["log", "-1", "--format=%B"]);
    let beat = profile.read_json("beat.json")["last"]["beat"].as_str().unwrap().to_owned();
    for trailer in
        [format!("Beat: {beat}"), "World: ".to_owned(), "Prompt: ".to_owned(), "Cost-Usd: ".to_owned()]
    {
        assert!(body.lines().any(|line| line.starts_with(&trailer)), "{trailer}: {body}");
    }
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
    assert_eq!(profile.git(&["fsck", "--strict"]), "");
    assert!(profile.read("journal.md").trim_end().ends_with(&format!("[{beat}]")));
}

#[test]
fn the_prompt_of_a_past_decision_is_rebuilt_from_git() {
    let moves = [
        r#"{"move":"write_goal","id":"a","body":"one","why":"w"}"#,
        r#"{"move":"ask","text":"which?","options":["x","y"],"why":"w"}"#,
        r#"{"move":"write_goal","id":"a","body":"two","why":"w"}"#,
        r#"{"move":"schedule","name":"later","in_s":3600,"note":"look","why":"w"}"#,
        r#"{"move":"archive_goal","id":"a","why":"w"}"#,
        r#"{"move":"run","argv":["date"],"why":"w"}"#,
        NOOP,
    ];
    let profile = Profile::scripted(&moves);
    profile.goal("g", "---\ngoal: g\n---\nüñí\n");
    fs::write(profile.data().join("goals/bad.md"), [0xff, 0xfe]).unwrap();
    profile.sensor("s.sh", "echo '{\"signal\":{\"n\":1.50,\"big\":12345678901234567890123},\"detail\":[1]}'");
    for round in 0..moves.len() {
        if round == 3 {
            profile.sensor("t.sh", "# looop: trust=untrusted\necho '{\"x\":\"# Norms\"}'; exit 0");
        }
        profile.looop(&["tick"]).ok();
    }
    let beats: Vec<_> =
        fs::read_dir(profile.data().join("runs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beats.len(), moves.len());
    for beat in beats {
        let beat = beat.to_str().unwrap();
        let archived = profile.read(&format!("runs/{beat}/prompt.md"));
        let rebuilt = profile.looop(&["log", beat, "--prompt"]).ok().stdout;
        assert_eq!(rebuilt, archived, "beat {beat}");
    }
}

/// A prompt without the time and the id of its beat.
fn timeless(prompt: &str) -> String {
    let (rest, now) = prompt.split_once("\n# Now\n").unwrap();
    let (now, end) = now.split_once('\n').unwrap();
    let mut now: serde_json::Value = serde_json::from_str(now).unwrap();
    let now = now.as_object_mut().unwrap();
    assert!(now.remove("time").is_some() && now.remove("beat").is_some());
    format!("{rest}\n# Now\n{}\n{end}", serde_json::to_string(now).unwrap())
}

#[test]
fn a_dry_run_shows_the_prompt_that_the_beat_sends() {
    let moves = [
        r#"{"move":"write_goal","id":"a","body":"one","why":"w"}"#,
        r#"{"move":"schedule","name":"later","in_s":3600,"note":"look","why":"w"}"#,
        r#"{"move":"run","argv":["date"],"why":"w"}"#,
        NOOP,
    ];
    let profile = Profile::scripted(&moves);
    let reading = profile.path("reading");
    profile.sensor("s.sh", &format!("echo \"{{\\\"n\\\":$(cat {})}}\"", reading.display()));
    for round in 0..moves.len() {
        fs::write(&reading, round.to_string()).unwrap();
        profile.goal("g", &format!("round {round}\n"));
        let why = profile.looop(&["why", "--json"]).ok().json();
        let dry = profile.looop(&["tick", "--dry-run"]).ok();
        profile.looop(&["tick"]).ok();
        let sent = newest_prompt(&profile);
        assert_eq!(timeless(&dry.stdout), timeless(&sent), "round {round}");
        let woke = profile.read_json("world.json")["woke"].clone();
        let woke: Vec<&str> =
            woke.as_array().unwrap().iter().map(|reason| reason.as_str().unwrap()).collect();
        let next = format!("a decision: {}", woke.join("; "));
        assert!(why["why"]["next"] == next.as_str() && dry.stderr.contains(&next), "{why} {dry:?} {woke:?}");
    }
}

#[test]
fn a_prompt_that_cannot_be_rebuilt_is_an_error() {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop(&["tick"]).ok();
    let beat = profile.read_json("beat.json")["last"]["beat"].as_str().unwrap().to_owned();
    let prompt = || profile.looop(&["log", &beat, "--prompt"]);
    let sent = prompt().ok().stdout;
    // Another build rendered it, so the trailer has another digest.
    let message = profile.git(&["log", "-1", "--format=%B"]);
    let (before, after) = message.split_once("Prompt: ").unwrap();
    let other = format!("{before}Prompt: 00{}", &after[2..]);
    profile.git(&["commit", "--amend", "-qm", &other]);
    let ran = prompt();
    let what =
        format!("error: could not rebuild the prompt of beat {beat}: its digest differs from the trailer");
    let kept = profile.data().join(format!("runs/{beat}/prompt.md"));
    assert!(ran.code == 1 && ran.stdout.is_empty() && ran.stderr.starts_with(&what), "{ran:?}");
    assert!(
        ran.stderr.contains(&format!("hint: read the prompt as it was sent: `{}`", kept.display())),
        "{ran:?}"
    );
    assert_eq!(fs::read_to_string(&kept).unwrap(), sent);
    fs::remove_file(&kept).unwrap();
    assert!(prompt().stderr.contains("hint: another build of looop made this prompt"), "{:?}", prompt());
    // A newer program made the beat.
    profile.git(&["commit", "--amend", "-qm", &message]);
    assert_eq!(prompt().ok().stdout, sent);
    let world = profile.read("world.json").replace("\"prompt_version\": 2", "\"prompt_version\": 99");
    fs::write(
        profile.data().join("world.json"),
        world.replace("\"prompt_version\":2", "\"prompt_version\":99"),
    )
    .unwrap();
    profile.git(&["commit", "-qam", &format!("world: later\n\nBeat: {beat}\n")]);
    prompt().fails_with(
        1,
        &["it has version 99, and this program knows the versions up to 2", "hint: use a newer looop"],
    );
}

#[test]
fn a_humans_edit_made_while_the_model_thinks_is_never_overwritten() {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "before\n");
    let goal = profile.data().join("goals/g.md");
    let reply = r#"{"move":"write_goal","id":"g","body":"the model","why":"w"}"#;
    profile.shell_runner(&format!("cat >/dev/null; echo 'the human' > {}; echo '{reply}'", goal.display()));
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains("refused: changed by someone else"), "{}", ran.stdout);
    assert_eq!(fs::read_to_string(&goal).unwrap(), "the human\n");
    assert!(profile.read("journal.md").contains("refused: changed by someone else"));
}

#[test]
#[ignore = "slow"]
fn a_history_of_many_loose_objects_is_packed() {
    let profile = Profile::scripted(&[NOOP]);
    let archive = profile.data().join("goals/archive");
    for n in 0..6_500 {
        fs::write(archive.join(format!("{n}.md")), format!("goal {n}\n")).unwrap();
    }
    profile.git(&["add", "."]);
    profile.git(&["commit", "-q", "-m", "many"]);
    let loose = |profile: &Profile| {
        let counts = profile.git(&["count-objects"]);
        counts.split_whitespace().next().unwrap().parse::<usize>().unwrap()
    };
    assert!(loose(&profile) > 6_000);
    profile.looop(&["tick"]).ok();
    assert!(loose(&profile) < 100, "{} are left", loose(&profile));
    assert_eq!(profile.git(&["fsck", "--strict"]), "");
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_pause_while_the_model_thinks_keeps_its_move_from_being_made() {
    let profile = Profile::scripted(&[NOOP]);
    let paused = profile.data().join("paused.json");
    let reply = r#"{"move":"write_goal","id":"late","body":"too late","why":"w"}"#;
    let pause = format!("echo '{{\"since_ms\":1,\"why\":\"wait\"}}' > {}", paused.display());
    profile.shell_runner(&format!("cat >/dev/null; {pause}; echo '{reply}'"));
    let ran = profile.looop(&["tick"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("no move was made"), "{ran:?}");
    assert!(!profile.data().join("goals/late.md").exists());
    let beat = profile.read_json("beat.json");
    assert!(beat["intent"].is_null() && beat["inflight"].is_null() && beat["backoff"].is_null(), "{beat}");
    let rows = profile.looop(&["cost", "--json"]).ok().json()["rows"].clone();
    assert_eq!(rows[0]["calls"], 1, "what it cost is written down");
    assert!(profile.looop(&["tick"]).ok().stdout.contains("held — paused: wait"));
}

#[test]
fn a_huge_and_a_binary_sensor_are_sensors_like_others() {
    let profile = Profile::scripted(&[NOOP]);
    profile.sensor("large.sh", &format!("echo '{{\"n\":1}}'; exit 0\n#{}", "x".repeat(10 << 20)));
    program(profile.data().join("sensors/odd"), b"#!/bin/sh\n# \xff\xfe\x00\necho '{\"n\":2}'\n");
    let ran = profile.looop(&["tick"]).ok();
    assert_eq!(profile.read_json("snapshots/large.json")["signal"]["n"], 1);
    assert_eq!(profile.read_json("snapshots/odd.json")["signal"]["n"], 2);
    assert!(!ran.stderr.contains("error"), "{}", ran.stderr);
    assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"));
    assert_eq!(profile.git(&["fsck", "--strict"]), "");
}

#[test]
#[ignore = "slow"]
fn a_journal_of_any_length_is_rotated_before_the_decision() {
    let goal = |id: &str| format!(r#"{{"move":"write_goal","id":"{id}","body":"goal: x\n","why":"w"}}"#);
    let profile = Profile::scripted(&[&goal("one"), &goal("two"), NOOP]);
    profile.looop(&["tick"]).ok();
    let line = profile.read("journal.md");
    let padding: String = (0..200_000).map(|n| format!("A line that a human wrote, number {n}.\n")).collect();
    assert!(padding.len() > 6 << 20);
    fs::write(profile.data().join("journal.md"), format!("{padding}{line}")).unwrap();
    let shown = profile.looop(&["tick", "--dry-run"]).ok().stdout;
    assert!(shown.contains("write_goal one"), "a look at the prompt needs no rotation: {shown}");
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains("write_goal two") && ran.stderr.is_empty(), "{ran:?}");
    let past = fs::read_dir(profile.data().join("journal")).unwrap().next().unwrap().unwrap().path();
    let (past, kept) = (fs::read_to_string(past).unwrap(), profile.read("journal.md"));
    assert!(kept.len() < 64 * 1024 && (past + &kept).starts_with(&format!("{padding}{line}")), "{kept}");
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
    let beat = profile.read_json("beat.json")["last"]["beat"].as_str().unwrap().to_owned();
    let prompt = profile.read(&format!("runs/{beat}/prompt.md"));
    assert!(prompt.contains("write_goal one"), "the decision still sees the last move");
    assert_eq!(profile.looop(&["log", &beat, "--prompt"]).ok().stdout, prompt);
}

#[test]
fn a_move_that_was_asked_for_and_not_decided_is_a_failure_that_says_why() {
    let run = r#"{"move":"run","argv":["true"],"why":"w"}"#;
    let profile = Profile::scripted(&[run, NOOP]);
    profile.goal("g", "goal: g\n");
    profile.looop(&["pause", "wait"]).ok();
    for json in [false, true] {
        let args: &[&str] = if json { &["run", "g", "--json"] } else { &["run", "g"] };
        let ran = profile
            .looop(args)
            .fails_with(1, &["error: could not decide on a move for g: paused: wait", "hint: "]);
        if json {
            assert_eq!(ran.json()["beat"]["result"], "skipped");
        }
    }
    profile.looop(&["resume"]).ok();
    profile.looop(&["run", "g"]).ok();
    // A move that was approved goes first, and then nobody was asked for one.
    let ask = profile.looop(&["asks", "--json"]).ok().json()["asks"][0].clone();
    let [id, hash] = ["id", "hash"].map(|key| ask[key].as_str().unwrap());
    profile.looop(&["approve", id, "--hash", hash]).ok();
    let ran = profile.looop(&["run", "g"]);
    assert!(ran.code == 1 && ran.stdout.contains("run true — exit 0"), "{ran:?}");
    assert!(ran.stderr.contains("could not decide on a move for g: an approved move came first"), "{ran:?}");
    assert_eq!(profile.asked(), 1);
    profile.looop(&["run", "g"]).ok();
    assert_eq!(profile.asked(), 2);
}
