//! Bad files of a user or of a crash: each has one defined result, which names the file and says how to mend it.

mod dir;
mod git;

use crate::beat::listing;
use crate::support::profile::{NOOP, Profile, Ran};
use serde_json::json;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path, process::Command};

/// Puts something odd at a path.
type Make = fn(&Path);

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Commands that read the config, the pulse among them.
const READERS: [&[&str]; 6] =
    [&["init"], &["tick"], &["status"], &["goal", "list"], &["tick", "--dry-run"], &[]];

/// Checks that this config is refused by every command before anything is made.
#[track_caller]
fn refused(profile: &Profile, expected: &[&str]) {
    let says = |ran: &Ran| ran.code == 2 && expected.iter().all(|text| ran.stderr.contains(text));
    for args in READERS {
        // All but `init` need a profile first and say so; they make none either.
        let ran = profile.looop(args);
        let needs_profile = args != ["init"] && ran.code == 1 && ran.stderr.contains("there is no profile");
        assert!(says(&ran) || needs_profile, "{args:?}: wanted {expected:?} in {ran:?}");
        assert!(!profile.data().exists(), "{args:?} made the data dir");
    }
    let mut init = profile.command(&["init"]);
    init.env("LOOOP_CONFIG", profile.path("good.json")).env_remove("LOOOP_INTERVAL");
    Ran::from(init.output().unwrap()).ok();
    for args in [&["tick"][..], &["tick", "--dry-run"], &[]] {
        let ran = profile.looop(args);
        assert!(says(&ran), "{args:?}: wanted {expected:?} in {ran:?}");
    }
    fs::remove_dir_all(profile.data()).unwrap();
    profile.looop(&["doctor"]).exits(1).prints(&["BAD  config: "]);
}

#[test]
#[ignore = "slow"]
fn a_bad_config_says_where_and_makes_nothing() {
    let rows: [(&str, &[&str]); 21] = [
        ("", &["looop.json:1:0: the text ends within a value"]),
        ("{\"interval\": \"60s\",}", &["looop.json:1:", "trailing comma"]),
        ("{\n  \"intervall\": \"60s\"\n}", &["looop.json:2:16: intervall", "did you mean `interval`?"]),
        ("{\"limits\": {\"decide_timout\": \"1m\"}}", &["looop.json:1:", "did you mean `decide_timeout`?"]),
        ("{\"runners\": {\"x\": {\n\"decid\": []}}}", &["looop.json:2:", "did you mean `decide`?"]),
        (
            "{\"policy\": {\"allow\": [{\"argv\": [\"ls\"], \"cmd\": []}]}}",
            &["policy.allow[0].cmd", "did you mean `cwd`?"],
        ),
        ("{\"budget\": {\"day_us\": 1}}", &["did you mean `day_usd`?"]),
        (
            "{\"budget\": {\"day_usd\": \"20\"}}",
            &["looop.json:1:24: budget.day_usd is \"20\"; expected a number"],
        ),
        ("{\"budget\": {\"day_usd\": -1}}", &["budget.day_usd is -1"]),
        ("{\"interval\": 60}", &["looop.json:1:", "interval is 60; expected a duration"]),
        ("{\"interval\": \"soon\"}", &["looop.json:1:", "`soon` is not a duration", "90s"]),
        ("{\"limits\": {\"sensor_timeout\": \"-1s\"}}", &["`-1s` is not a duration"]),
        ("{\"limits\": {\"noop_ttl\": \"999d\"}}", &["over 366 days"]),
        ("{\"limits\": {\"decides_per_hour\": -1}}", &["looop.json:1:", "-1"]),
        ("{\"policy\": {\"free_moves\": [\"run\"]}}", &["looop.json:1:", "\"run\""]),
        ("{\"sandbox\": {\"worker\": \"most\"}}", &["looop.json:1:", "\"most\""]),
        (
            "{\"sandbox\": {\"network\": {\"worker\": \"some\"}}}",
            &["looop.json:1:", "\"model\", \"off\" or a list of ports"],
        ),
        ("{\"sandbox\": {\"network\": {\"worker\": [70000]}}}", &["looop.json:1:", "from 1 to 65535"]),
        (
            "{\"sandbox\": {\"worker\": \"none\", \"network\": {\"worker\": \"off\"}}}",
            &["sandbox.network.worker"],
        ),
        ("[]", &["looop.json:1:"]),
        ("{\"decide\": \"a\"} {}", &["looop.json:1:", "trailing characters"]),
    ];
    for (text, expected) in rows {
        let profile = Profile::empty();
        fs::write(profile.config_file(), text).unwrap();
        fs::set_permissions(profile.config_file(), fs::Permissions::from_mode(0o600)).unwrap();
        refused(&profile, expected);
    }
}

#[test]
fn a_config_that_is_not_a_plain_file_is_refused() {
    let make: [(Make, &str); 5] = [
        (|path| fs::write(path, b"{\"decide\":\"\xff\"}").unwrap(), "not UTF-8"),
        (|path| fs::write(path, " ".repeat(2 << 20)).unwrap(), "larger than 1024 KiB"),
        (|path| symlink("/nowhere", path).unwrap(), "it is a link to `/nowhere`, which does not exist"),
        (fifo, "not a regular file"),
        (|path| fs::create_dir(path).unwrap(), "not a regular file"),
    ];
    for (make, why) in make {
        let profile = Profile::empty();
        make(&profile.config_file());
        refused(&profile, &["could not read the config", "looop.json", why]);
    }
    let profile = Profile::empty();
    profile.config(json!({}));
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(profile.config_file(), fs::Permissions::from_mode(mode)).unwrap();
        refused(&profile, &["others can write it", "hint: chmod go-w "]);
    }
}

#[test]
#[ignore = "slow"]
fn the_environment_is_checked_like_the_config() {
    let mut profile = Profile::empty();
    profile.config(json!({ "interval": "30s" }));
    for bad in ["soon", "10", "-1s", "1.5s", "0s", "99999999999999999999s"] {
        profile.var("LOOOP_INTERVAL", bad);
        refused(&profile, &["could not read LOOOP_INTERVAL: "]);
    }
    profile.var("LOOOP_INTERVAL", "1ms");
    profile.looop(&["init"]).ok();
    profile.var("LOOOP_DECIDE", "nosuch");
    profile.looop(&["tick"]).exits(2).warns(&["could not find the runner `nosuch`", "known runners:"]);
    profile.script(&[NOOP]);
    profile.var("LOOOP_DECIDE", "scripted");
    let ran = profile.looop(&["tick"]).ok();
    assert_eq!(ran.stderr.matches("the interval is shorter than 1s; 1s is used").count(), 1, "{ran:?}");
}

/// Ways in which a text file is none, and the cause that is said.
const ODD: [(Make, &str); 5] = [
    (|path| symlink("/etc/hostname", path).unwrap(), "not a regular file"),
    (|path| symlink("/nowhere", path).unwrap(), "not a regular file"),
    (fifo, "not a regular file"),
    (|path| fs::write(path, b"goal: \xff\xfe").unwrap(), "not UTF-8"),
    (|path| fs::write(path, vec![b'x'; 10 << 20]).unwrap(), "larger than 256 KiB"),
];

#[test]
#[ignore = "slow"]
fn an_unreadable_goal_is_shown_as_one() {
    for (make, why) in ODD {
        let profile = Profile::scripted(&[NOOP]);
        profile.goal("good", "---\ngoal: fine\n---\n");
        make(&profile.data().join("goals/odd.md"));
        let prompt = profile.looop(&["tick", "--dry-run"]).ok().stdout;
        let (_, shown) = prompt.split_once("# goal odd cannot be read (data)").expect("it is named");
        assert!(shown.lines().nth(1).is_some_and(|line| line.contains(why)), "{why}");
        profile.looop(&["goal", "list"]).ok().prints(&["odd", &format!("(cannot be read: it is {why}")]);
        assert!(profile.looop(&["status", "--json"]).exits(1).json()["goals"][1]["error"].as_str().is_some());
        profile.looop(&["goal", "show", "odd"]).exits(1).warns(&["could not read the goal odd"]);
        profile.looop(&["tick"]).ok();
        assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"), "the same cause is the same world");
        let beat = profile.read_json("beat.json")["last"]["beat"].as_str().unwrap().to_owned();
        let rebuilt = profile.looop(&["log", &beat, "--prompt"]).ok().stdout;
        assert_eq!(rebuilt, profile.read(&format!("runs/{beat}/prompt.md")));
    }
}

#[test]
#[ignore = "slow"]
fn without_a_playbook_nothing_is_decided() {
    let missing: (Make, &str) = (|_| (), "does not exist");
    for (make, why) in ODD.into_iter().chain([missing]) {
        let profile = Profile::scripted(&[NOOP]);
        fs::remove_file(profile.data().join("PLAYBOOK.md")).unwrap();
        make(&profile.data().join("PLAYBOOK.md"));
        for _ in 0..2 {
            let ran = profile.looop(&["tick"]);
            assert_eq!((ran.code, profile.asked()), (1, 0), "{ran:?}");
            assert!(ran.stderr.contains("PLAYBOOK.md") && ran.stderr.contains(why), "{ran:?}");
            assert!(ran.stderr.contains("hint: "), "{ran:?}");
        }
        profile.looop(&["doctor"]).exits(1).prints(&["BAD  playbook"]);
        profile.looop_with(&["playbook", "write", "-"], "Be kind.\n").ok();
        profile.looop(&["tick"]).ok();
        assert_eq!(profile.asked(), 1);
    }
}

#[test]
fn a_goal_file_with_a_bad_name_is_reported_and_kept() {
    let profile = Profile::scripted(&[NOOP]);
    let names: [&[u8]; 6] =
        [b"my goal.md", b"a..b.md", b"-rf.md", b"line\nbreak.md", b"archive.md", b"x\xff.md"];
    for name in names {
        fs::write(profile.data().join("goals").join(OsStr::from_bytes(name)), "text\n").unwrap();
    }
    let messages = profile.looop(&["tick"]).ok();
    for text in
        [profile.looop(&["status"]).exits(1).stdout, profile.looop(&["tick", "--dry-run"]).ok().stdout]
    {
        for name in
            ["goals/my goal.md is not read", "goals/a..b.md", "goals/-rf.md", "break.md", "goals/archive.md"]
        {
            assert!(text.contains(name), "{name}: {text}");
        }
        assert!(!text.contains("line\nbreak"), "a name cannot break a line");
    }
    let list = profile.looop(&["goal", "list"]).ok();
    assert!(list.stdout.is_empty() && list.stderr.contains("my goal.md is not read"), "{list:?}");
    assert!(messages.stdout.contains(" noop "), "{messages:?}");
    assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"));
    // It is the user's file all the same, and the history has it.
    assert!(profile.git(&["ls-files", "goals"]).contains("my goal.md"));
}

#[test]
fn a_name_never_leaves_its_directory() {
    let profile = Profile::scripted(&[NOOP]);
    let before = listing(&profile.data());
    for id in ["../../x", "../x", "a/b", "..", ".hidden", "-x", "a b", "archive", "", "x\n"] {
        for args in [["goal", "write", "--", id], ["sensor", "add", "--", id]] {
            let ran = profile.looop_with(&args, "#!/bin/sh\necho '{}'\n");
            assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        }
        let set = profile.looop(&["schedule", "set", "--in", "5m", "--", id, "note"]);
        assert_eq!(set.code, 2, "{id}: {set:?}");
    }
    for args in [
        ["goal", "show", "../PLAYBOOK"],
        ["goal", "archive", "../PLAYBOOK"],
        ["sensor", "archive", "../format"],
    ] {
        assert_eq!(profile.looop(&args).code, 2, "{args:?}");
    }
    assert_eq!(profile.looop(&["log", "../../..", "--reply"]).code, 1);
    assert_eq!(listing(&profile.data()), before);
    assert!(!profile.path("x.md").exists());
}

/// Checks that the one move is refused for this cause, that the odd thing stays, and that the next beat goes on.
#[track_caller]
fn refuses_the_move(make: Make, path: &str, decided: &str, why: &str) {
    let profile = Profile::scripted(&[decided, NOOP]);
    fs::remove_file(profile.data().join(path)).ok();
    make(&profile.data().join(path));
    let kind = fs::symlink_metadata(profile.data().join(path)).unwrap().file_type();
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains("refused: ") && ran.stdout.contains(why), "{decided}: {ran:?}");
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains(" noop "), "{decided}: {ran:?}");
    assert_eq!(fs::symlink_metadata(profile.data().join(path)).unwrap().file_type(), kind);
    assert_eq!(profile.read("journal.md").lines().count(), 2);
}

#[test]
#[ignore = "slow"]
fn a_move_on_a_file_of_another_kind_is_refused_and_blocks_nothing() {
    let write = r#"{"move":"write_goal","id":"odd","body":"b","why":"x"}"#;
    let archive = r#"{"move":"archive_goal","id":"odd","why":"x"}"#;
    for (make, _) in ODD {
        refuses_the_move(make, "goals/odd.md", write, "");
    }
    for (make, why) in &ODD[..3] {
        refuses_the_move(*make, "goals/odd.md", archive, why);
    }
    let dir: Make = |path| fs::create_dir(path).unwrap();
    refuses_the_move(dir, "goals/odd.md", write, "not a regular file");
    refuses_the_move(dir, "goals/odd.md", archive, "there is no such goal");
    let sensor = r##"{"move":"write_sensor","name":"odd","script":"#!/bin/sh\necho {}","why":"x"}"##;
    refuses_the_move(ODD[0].0, "sensors/odd.sh", sensor, "not a regular file");
    let timer = r#"{"move":"schedule","name":"odd","in_s":600,"note":"n","why":"x"}"#;
    refuses_the_move(dir, "schedules/odd.json", timer, "not a regular file");
    let drop = r#"{"move":"drop_schedule","name":"odd","why":"x"}"#;
    refuses_the_move(fifo, "schedules/odd.json", drop, "not a regular file");
}

/// Checks a memory that cannot be used: kept aside, no move until a user resumes.
#[track_caller]
fn halts(make: Make) {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop(&["tick"]).ok();
    let path = profile.data().join("beat.json");
    fs::remove_file(&path).unwrap();
    make(&path);
    profile.goal("g", "---\ngoal: new\n---\n");
    profile.looop(&["status"]).exits(1).prints(&["broken    memory: ", "beat.json"]);
    profile.looop(&["doctor"]).exits(1).prints(&["BAD  memory", "fix: "]);
    for _ in 0..2 {
        profile.looop(&["tick"]).exits(1).prints(&["halted: "]);
        assert_eq!(profile.asked(), 1, "no runner is asked");
    }
    let kept = fs::read_dir(profile.data()).unwrap().map(|entry| entry.unwrap().file_name());
    let kept = kept.filter(|name| name.to_string_lossy().starts_with("beat.json.corrupt-")).count();
    assert_eq!(kept, 1, "what was there is kept");
    profile.looop(&["status"]).exits(1).prints(&["halted: ", "beat.json.corrupt-"]);
    profile.looop(&["doctor"]).exits(1).prints(&["fix: looop resume"]);
    assert!(profile.looop(&["resume"]).ok().stdout.contains("the halt is over"));
    assert!(profile.looop(&["tick"]).ok().stdout.contains(" noop "));
    assert_eq!(profile.asked(), 2);
}

#[test]
#[ignore = "slow"]
fn a_corrupt_memory_halts_the_loop_until_a_user_resumes() {
    let make: [Make; 11] = [
        |path| fs::write(path, "garbage").unwrap(),
        |path| fs::write(path, "{}").unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| fs::write(path, b"\0\0\0\0\xff").unwrap(),
        |path| fs::write(path, "{\"last_ms\": 5, \"decisions\": ").unwrap(),
        |path| fs::write(path, "{\"surprise\": 1}").unwrap(),
        |path| fs::write(path, "[]").unwrap(),
        |path| fs::write(path, "{\"last_ms\": \"5\"}").unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/etc/hostname", path).unwrap(),
        fifo,
    ];
    make.into_iter().for_each(halts);
}

#[test]
fn corrupt_records_are_reported_and_not_used() {
    let profile = Profile::scripted(&[r#"{"move":"ask","text":"Which one?","why":"x"}"#, NOOP]);
    profile.looop(&["tick"]).ok();
    let ask = profile.looop(&["asks", "--json"]).ok().json()["asks"][0]["id"].as_str().unwrap().to_owned();
    fs::write(profile.data().join("asks/bad.json"), "{").unwrap();
    fs::write(profile.data().join("asks/...json"), "{").unwrap();
    fs::write(profile.data().join("asks/a\\b.json"), "{}").unwrap();
    fifo(&profile.data().join("asks/pipe.json"));
    fs::write(profile.data().join("schedules/bad.json"), "{\"when\":{\"cron\":5}}").unwrap();
    fs::write(profile.data().join("schedules/a b.json"), "{}").unwrap();
    let expected = ["asks/bad.json", "asks/pipe.json", "schedules/bad.json", "schedules/a b.json"];
    let printed =
        |text: &str| expected.iter().for_each(|name| assert!(text.contains(name), "{name}: {text}"));
    printed(&profile.looop(&["status"]).exits(1).stdout);
    printed(&profile.looop(&["tick", "--dry-run"]).ok().stdout);
    assert!(profile.looop(&["asks"]).ok().stderr.contains("asks/bad.json"));
    assert!(profile.looop(&["schedule", "list"]).ok().stderr.contains("schedules/bad.json"));
    profile.looop(&["tick"]).ok();
    assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"));
    // An answer that is none answers nothing, whatever kind of ask it claims to fit.
    for answer in ["{", "{\"ask\":\"other\",\"at_ms\":1,\"said\":\"expired\"}", "[]"] {
        fs::write(profile.data().join(format!("asks/{ask}.answer.json")), answer).unwrap();
        profile.looop(&["status"]).exits(1).prints(&[&format!("asks/{ask}.")]);
        profile.looop(&["tick"]).ok();
    }
    let yes = json!({ "ask": ask, "at_ms": 1, "reply": { "approve": { "hash": "h" } } });
    fs::write(profile.data().join(format!("asks/{ask}.answer.json")), yes.to_string()).unwrap();
    profile.looop(&["tick"]).ok();
    // A pause that cannot be read is a pause.
    fs::write(profile.data().join("paused.json"), "{").unwrap();
    assert!(profile.looop(&["tick"]).ok().stdout.contains("paused: `paused.json` is corrupt"));
    profile.looop(&["resume"]).ok();
    profile.looop(&["tick"]).ok();
}
