//! The verbs that a user types: each does what it says, refuses what cannot be meant, and loses nothing.

mod compare;
mod show;

use crate::beat::listing;
use crate::shown::on_terminal;
use crate::support::profile::{LOOOP, Profile, git_in, program, wait_until};
use serde_json::{Value, json};
use std::process::Command;
use std::{fs, os::unix::fs::PermissionsExt};

const NOOP: &str = r#"{"move":"noop","why":"nothing to do"}"#;

#[test]
fn goals_are_written_shown_and_archived() {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop_with(&["goal", "write", "piped"], "---\ngoal: from a pipe\n---\n").ok();
    profile.looop_with(&["goal", "write", "dashed", "-"], "# from a dash\n").ok();
    profile.looop(&["goal", "write", "typed", "as an argument"]).ok();
    profile.looop_with(&["goal", "write", "日本語", "-"], "unicode\n").ok();
    let list = profile.looop(&["goal", "list"]).ok().stdout;
    for line in ["piped   from a pipe", "dashed  from a dash", "typed   as an argument", "日本語  unicode"]
    {
        assert!(list.contains(line), "{line}: {list}");
    }
    let rows = profile.looop(&["goal", "list", "--json"]).ok().json();
    assert_eq!(rows["goals"][0], json!({ "id": "dashed", "goal": "from a dash", "bytes": 14 }));
    assert_eq!(profile.looop(&["goal", "show", "typed"]).ok().stdout, "as an argument\n");
    let mode = fs::metadata(profile.data().join("goals/typed.md")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    profile.looop(&["goal", "write", "typed", "anew"]).ok();
    profile.looop(&["tick"]).ok();
    profile.looop(&["goal", "archive", "typed"]).ok();
    assert!(!profile.data().join("goals/typed.md").exists());
    let kept = fs::read_dir(profile.data().join("goals/archive")).unwrap().next().unwrap().unwrap();
    assert!(kept.file_name().to_string_lossy().starts_with("typed-"));
    assert_eq!(fs::read_to_string(kept.path()).unwrap(), "anew\n");
    profile.looop(&["tick"]).ok();
    let log = profile.git(&["log", "--format=%an: %s"]);
    assert!(log.contains("ada: human: edit goals/"), "{log}");
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_body_that_cannot_be_meant_changes_nothing() {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "---\ngoal: keep me\n---\n");
    fs::write(profile.data().join("PLAYBOOK.md"), "Keep me.\n").unwrap();
    let before = listing(&profile.data());
    let huge = "x".repeat(300 << 10);
    for target in [&["goal", "write", "g"][..], &["playbook", "write"]] {
        let with = |more: &[&str], stdin: &str| {
            let args: Vec<&str> = target.iter().chain(more).copied().collect();
            profile.looop_with(&args, stdin)
        };
        for (more, stdin, why) in [
            (&[][..], "", "the text is empty"),
            (&["-"], " \n\t\n", "the text is empty"),
            (&[""], "", "the text is empty"),
            (&["-x"], "", "looks like a flag"),
            (&["--force"], "", "looks like a flag"),
            (&["--dry-run"], "text", "looks like a flag"),
            (&["-"], &huge, "larger than 256 KiB"),
        ] {
            let ran = with(more, stdin);
            assert_eq!(ran.code, 2, "{target:?} {more:?}: {ran:?}");
            assert!(ran.stderr.contains(why), "{target:?} {more:?}: {ran:?}");
        }
        for flag in ["--help", "-h"] {
            let ran = with(&[flag], "text").ok();
            assert!(ran.stdout.contains("Usage: looop "), "{target:?} {flag}: {ran:?}");
        }
    }
    let bytes =
        profile.command(&["goal", "write", "g"]).stdin(fs::File::open(LOOOP).unwrap()).output().unwrap();
    assert_eq!(bytes.status.code(), Some(2), "a program is no text");
    for help in [
        &["sensor", "add", "s", "--help"][..],
        &["schedule", "set", "--help"],
        &["goal", "archive", "--help"],
    ] {
        assert!(profile.looop_with(help, "#!/bin/sh\n").ok().stdout.contains("Usage: looop "), "{help:?}");
    }
    let mut after = listing(&profile.data());
    // Waiting for the lock of writers makes its file.
    after.retain(|path, _| before.contains_key(path));
    let lost = before.iter().filter(|(path, stat)| path.is_file() && after.get(*path) != Some(stat)).count();
    assert_eq!(lost, 0);
}

#[test]
fn the_editor_of_the_user_is_used_on_a_terminal() {
    let mut profile = Profile::scripted(&[NOOP]);
    let dir = profile.path("");
    let editor = |name: &str, body: &str| {
        let path = dir.join(name);
        program(&path, format!("#!/bin/sh\n{body}\n"));
        path.display().to_string()
    };
    let on_terminal = |profile: &mut Profile, line: &str, editor: &str| {
        profile.var("EDITOR", editor);
        on_terminal(profile, 80, line)
    };
    profile.goal("g", "old text\n");
    let adds = editor("adds", "[ \"$1\" = --flag ] && shift; echo 'new text' >> \"$1\"");
    let Some(ran) = on_terminal(&mut profile, "goal write g", &format!("{adds} --flag")) else { return };
    assert!(ran.code == 0 && ran.stdout.contains("wrote goals/g.md"), "{ran:?}");
    assert_eq!(profile.read("goals/g.md"), "old text\nnew text\n", "it begins with what is there");
    let ran = on_terminal(&mut profile, "playbook write", &editor("sets", "echo Judge. > \"$1\"")).unwrap();
    assert_eq!((ran.code, profile.read("PLAYBOOK.md").as_str()), (0, "Judge.\n"), "{ran:?}");
    let rows = [
        (editor("fails", "echo x > \"$1\"; exit 1"), 1, "the editor failed"),
        (editor("leaves", ":"), 1, "it was not changed"),
        (editor("wipes", ": > \"$1\""), 2, "the text is empty"),
    ];
    for (editor, code, why) in rows {
        let ran = on_terminal(&mut profile, "goal write g", &editor).unwrap();
        assert!(ran.code == code && ran.stdout.contains(why), "{why}: {ran:?}");
        assert_eq!(profile.read("goals/g.md"), "old text\nnew text\n");
    }
    let races = editor(
        "races",
        &format!("echo mine > \"$1\"; echo theirs > {}", profile.data().join("goals/g.md").display()),
    );
    let ran = on_terminal(&mut profile, "goal write g", &races).unwrap();
    assert!(ran.code == 1 && ran.stdout.contains("your text is kept as"), "{ran:?}");
    assert_eq!(profile.read("goals/g.md"), "theirs\n", "what was written meanwhile stands");
    let visual = editor("visual", "echo visual > \"$1\"");
    profile.var("VISUAL", &visual);
    on_terminal(&mut profile, "goal write g", "false").unwrap().ok();
    assert_eq!(profile.read("goals/g.md"), "visual\n", "VISUAL stands above EDITOR");
}

#[test]
fn an_edit_that_breaks_a_file_changes_nothing_and_loses_no_text() {
    let mut profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "old\n");
    profile.sensor("s.sh", "echo '{}'");
    for (verb, text, why) in [
        ("goal edit g", "---\\nrepos: [a\\n---\\n", "line 2 of its front matter"),
        ("goal edit g", " \\n", "the text is empty"),
        ("sensor edit s", "echo\\n", "does not begin with `#!`"),
        ("sensor edit s", "#!/bin/sh\\n# looop: colour=red\\n", "colour"),
    ] {
        profile.var("EDITOR", &format!("printf -- '{text}' >"));
        let before = listing(&profile.data());
        let args: Vec<&str> = verb.split(' ').collect();
        let ran = profile.looop(&args).fails_with(1, &[why, "hint: your text is kept as "]);
        let kept = ran.stderr.rsplit("kept as ").next().unwrap().trim();
        assert_eq!(fs::read_to_string(kept).unwrap(), text.replace("\\n", "\n"), "{verb}");
        let after = listing(&profile.data());
        assert!(before.iter().all(|(path, stat)| !path.is_file() || after.get(path) == Some(stat)), "{verb}");
        // The next edit does not write over it.
        let next =
            profile.looop(&args).fails_with(1, &["an earlier text that could not be saved is kept as "]);
        let kept = next.stderr.split("saved is kept as ").nth(1).unwrap().lines().next().unwrap();
        assert_eq!(fs::read_to_string(kept).unwrap(), text.replace("\\n", "\n"), "{verb}");
    }
    profile.var("EDITOR", "printf '#!/bin/sh\\necho 2\\n' >");
    profile.looop(&["sensor", "edit", "s"]).ok();
    assert_eq!(profile.read("sensors/s.sh"), "#!/bin/sh\necho 2\n");
    let mode = fs::metadata(profile.data().join("sensors/s.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    profile.looop(&["goal", "edit", "none"]).fails_with(2, &["could not find goal"]);
}

#[test]
fn a_renamed_goal_keeps_what_is_kept_under_its_name_and_wakes_nothing() {
    let reply = r#"{"move":"noop","why":"x","goal":"old"}"#;
    let profile = Profile::scripted(&[reply]);
    profile.goal("old", "goal: one\n");
    profile.goal("taken", "goal: two\n");
    profile.looop(&["tick"]).ok();
    profile.looop(&["claim", "goal.old", "--ttl", "1h"]).ok();
    let served = profile.read_json("beat.json")["served"]["old"].clone();
    let spent =
        |profile: &Profile| profile.looop(&["cost", "--by", "goal", "--json"]).ok().json()["rows"][0].clone();
    let before = spent(&profile);
    assert_eq!(before["key"], "old");
    profile.looop(&["goal", "rename", "old", "taken"]).fails_with(2, &["goals/taken.md exists"]);
    profile.looop(&["goal", "rename", "old", "archive"]).fails_with(2, &["the word is reserved"]);
    profile.looop(&["goal", "rename", "ol", "new"]).ok();
    assert_eq!(profile.read("goals/new.md"), "goal: one\n");
    assert!(!profile.data().join("goals/old.md").exists());
    let after = spent(&profile);
    assert_eq!((&after["key"], &after["calls"]), (&json!("new"), &before["calls"]));
    let beat = profile.read_json("beat.json");
    assert_eq!((&beat["served"]["new"], &beat["served"]["old"]), (&served, &Value::Null));
    let leases = profile.looop(&["lease", "list", "--json"]).ok().json()["leases"].clone();
    let held = leases.as_array().unwrap().iter().filter(|lease| lease["state"] == "held");
    assert_eq!(held.map(|lease| &lease["resource"]).collect::<Vec<_>>(), ["goal.new"]);
    profile.looop(&["tick"]).ok().prints(&["idle"]);
    assert_eq!(profile.asked(), 1, "the text is the same");
    // A later goal of the old name has a ledger of its own.
    profile.goal("old", "goal: three\n");
    profile.looop(&["tick"]).ok();
    let keys = profile.looop(&["cost", "--by", "goal", "--json"]).ok().json()["rows"].clone();
    let keys: Vec<&str> = keys.as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["new", "old"]);
    profile.without_sandbox(&["worker"]);
    profile.looop(&["worker", "start", "w1", "--goal", "taken", "--", "sleep", "600"]).ok();
    profile
        .looop(&["goal", "rename", "taken", "given"])
        .fails_with(2, &["the worker w1 works on it", "looop kill w1"]);
}

#[test]
fn the_last_committed_state_of_a_file_comes_back() {
    let profile = Profile::scripted(&[NOOP]);
    // A decision commits what the user did.
    let commit = |text: &str| {
        profile.goal("other", text);
        profile.looop(&["tick"]).ok();
    };
    profile.goal("g", "goal: one\n");
    profile.sensor("s.sh", "echo '{}'");
    profile.sensor("bare", "echo '{}'");
    profile.looop(&["schedule", "set", "t", "--in", "1h", "look"]).ok();
    commit("begin");
    for (kind, id, path) in [
        ("goal", "g", "goals/g.md"),
        ("sensor", "s", "sensors/s.sh"),
        ("sensor", "bare", "sensors/bare"),
        ("schedule", "t", "schedules/t.json"),
    ] {
        let (good, file) = (profile.read(path), profile.data().join(path));
        let restore = || {
            let head = profile.git(&["rev-list", "-1", "HEAD", "--", path]);
            let ran = profile.looop(&["--json", kind, "restore", id]).ok();
            assert_eq!(
                (profile.read(path), ran.json()["object"].clone()),
                (good.clone(), json!(id)),
                "{ran:?}"
            );
            (ran.json()["text"].as_str().unwrap().to_owned(), head)
        };
        fs::write(&file, "spoiled").unwrap();
        let (text, head) = restore();
        assert!(text.starts_with(&format!("restored {path} of commit {}", &head[..10])), "{text} {head}");
        let kept = text.split('`').nth(1).unwrap();
        assert_eq!(fs::read_to_string(kept).unwrap(), "spoiled", "{text}");
        fs::remove_file(&file).unwrap();
        restore();
        // Also if the loss is committed by now.
        fs::remove_file(&file).unwrap();
        commit(&format!("without {path}"));
        assert!(!profile.git(&["ls-files"]).lines().any(|line| line == path));
        restore();
        commit(&format!("with {path}"));
        assert!(profile.git(&["ls-files"]).lines().any(|line| line == path), "{path}");
    }
    profile.looop(&["goal", "restore", "never"]).fails_with(1, &["git has no state of it"]);
}

#[test]
fn a_unique_beginning_is_enough_and_a_doubt_is_reported() {
    let profile = Profile::scripted(&[NOOP]);
    for id in ["alpha", "alps", "al", "beta"] {
        profile.goal(id, &format!("goal of {id}\n"));
        profile.sensor(&format!("{id}.sh"), "echo '{}'");
        profile.looop(&["schedule", "set", id, "--in", "1h", "note"]).ok();
    }
    assert_eq!(profile.looop(&["goal", "show", "alpha"]).ok().stdout, "goal of alpha\n");
    assert_eq!(profile.looop(&["goal", "show", "b"]).ok().stdout, "goal of beta\n");
    assert_eq!(profile.looop(&["goal", "show", "al"]).ok().stdout, "goal of al\n", "an exact name wins");
    let calls = ["goal show", "goal archive", "sensor show", "sensor archive", "schedule remove"];
    for (kind, verb) in calls.map(|call| call.split_once(' ').unwrap()) {
        profile.looop(&[kind, verb, "alp"]).fails_with(2, &["hint: it could be: alpha, alps"]);
        profile.looop(&[kind, verb, "nosuch"]).fails_with(2, &["hint: there are: al, alpha, alps, beta"]);
        assert_eq!(profile.looop(&[kind, verb, ""]).code, 2, "nothing is the beginning of everything");
    }
    profile.looop(&["schedule", "remove", "b"]).ok();
    profile.looop(&["sensor", "archive", "b"]).ok();
    let sensors = profile.looop(&["sensor", "list", "--json"]).ok().json()["sensors"].clone();
    assert_eq!(sensors.as_array().unwrap().len(), 3);
}

#[test]
fn sensors_are_added_stamped_tried_and_removed() {
    let profile = Profile::scripted(&[NOOP]);
    let far = format!("#!/bin/sh\n{}# looop: trust=trusted\necho '{{}}'\n", "\n".repeat(38));
    let wide = format!("#!/bin/sh\n#{}\n# looop: trust=trusted\necho '{{}}'\n", "x".repeat(5000));
    // It says itself that it is untrusted, but further down than a sensor's header is read.
    let deep = format!("#!/bin/sh\n#{}\n# looop: trust=untrusted\necho '{{}}'\n", "x".repeat(5000));
    let cut = format!("#!/bin/sh\n#{}\n# looop: trust=untrusted\necho '{{}}'\n", "x".repeat(4096 - 30));
    let scripts = [
        "#!/bin/sh\necho '{}'\n",
        "#!/bin/sh\n# looop: trust=trusted\necho '{}'",
        &far,
        &wide,
        &deep,
        &cut,
        "#!/bin/sh",
    ];
    let trust = |name: &str| -> Value {
        let rows = profile.looop(&["sensor", "list", "--json"]).ok().json()["sensors"].clone();
        rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap()["trust"].clone()
    };
    for (number, script) in scripts.iter().enumerate() {
        let name = format!("s{number}");
        profile.looop_with(&["sensor", "add", &name], script).ok();
        assert_eq!(trust(&name), "untrusted", "{script:.60}");
        assert!(profile.looop(&["sensor", "show", &name]).ok().stdout.starts_with("#!/bin/sh\n"));
    }
    profile.looop_with(&["sensor", "add", "mine", "--trusted"], "#!/bin/sh\necho '{\"a\":1}'\n").ok();
    assert_eq!(trust("mine"), "trusted");
    // Behind a first line so long the stamp would not be read: such a script is not taken, nor run.
    for length in [1025, 4075, 4090, 5000] {
        let long = format!("#!/bin/sh {}\necho '{{}}'\n", " ".repeat(length - 10));
        profile
            .looop_with(&["sensor", "add", "long"], &long)
            .fails_with(2, &["its first line is longer than 1024 bytes"]);
        profile.sensor("long.sh", "");
        fs::write(profile.data().join("sensors/long.sh"), long).unwrap();
        assert_eq!(trust("long"), Value::Null, "{length}");
    }
    for bad in ["", "echo '{}'\n", "\u{7f}ELF"] {
        profile.looop_with(&["sensor", "add", "bad"], bad).fails_with(2, &["does not begin with `#!`"]);
    }
    let before = listing(&profile.data());
    let tried = profile.looop(&["sensor", "test", "mine"]).ok();
    assert_eq!(tried.json()["reading"]["signal"], json!({ "a": 1 }));
    let all = profile.looop(&["sensor", "test"]);
    assert_eq!((all.code, all.stdout.lines().count()), (1, 9), "one that fails is an exit code: {all:?}");
    assert_eq!(listing(&profile.data()), before, "to try is not to write");
    profile.looop(&["sensor", "archive", "mine"]).ok();
    assert!(!profile.data().join("sensors/mine.sh").exists());
    assert_eq!(fs::read_dir(profile.data().join("sensors/archive")).unwrap().count(), 1);
    profile.looop(&["tick"]).ok();
    assert!(!profile.looop(&["sensor", "list"]).ok().stdout.contains("mine"));
}

#[test]
#[ignore = "slow"]
fn a_timer_wakes_once_when_it_is_due() {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop(&["tick"]).ok();
    for (args, why) in [
        (&["--in", "soon"][..], "is not a duration"),
        (&["--every", "59s"], "60 is the least"),
        (&["--cron", "0 9 * *"], "five fields"),
        (&["--cron", "0 99 * * *"], "not a cron expression"),
        (&["--in", "1m", "--every", "2m"], "cannot be used with"),
        (&[], "required"),
    ] {
        profile.looop(&[&["schedule", "set", "bad"], args, &["note"]].concat()).fails_with(2, &[why]);
    }
    assert_eq!(profile.looop(&["schedule", "set", "bad", "--in", "1m"]).code, 2, "a timer without a note");
    profile.looop(&["schedule", "set", "daily", "--cron", "0 9 * * 1-5", "look", "at", "mail"]).ok();
    profile.looop(&["schedule", "set", "hourly", "--every", "1h", "look"]).ok();
    let rows = profile.looop(&["schedule", "list", "--json"]).ok().json();
    assert_eq!(rows["schedules"][0]["note"], "look at mail");
    assert_eq!(rows["schedules"][1]["when"], json!({ "every_s": 3600 }));
    assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"), "a timer that is not due does not wake");
    profile.looop(&["schedule", "set", "soon", "--in", "1s", "is the oven off?"]).ok();
    wait_until("the timer to be due", || profile.looop(&["schedule", "list"]).ok().stdout.contains("due"));
    assert!(profile.looop(&["tick", "--dry-run"]).ok().stdout.contains("is the oven off?"));
    profile.looop(&["tick"]).ok();
    assert_eq!(profile.asked(), 2);
    for _ in 0..2 {
        assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"));
    }
    assert_eq!(profile.asked(), 2);
    let list = profile.looop(&["schedule", "list"]).ok().stdout;
    assert!(!list.contains("soon") && list.contains("daily"), "a timer that is spent is gone: {list}");
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
    profile.looop(&["schedule", "remove", "daily"]).ok();
    assert_eq!(profile.looop(&["schedule", "list"]).ok().stdout.lines().count(), 1);
}

#[test]
fn a_pause_holds_until_resume() {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop(&["pause", "on", "holiday"]).ok();
    for _ in 0..2 {
        assert!(profile.looop(&["tick"]).ok().stdout.contains("held — paused: on holiday"));
    }
    assert!(profile.looop(&["status"]).ok().stdout.contains("paused: on holiday"));
    profile.looop(&["goal", "write", "g", "text"]).ok();
    profile.looop(&["run", "g"]).fails_with(1, &["paused: on holiday"]);
    assert_eq!(profile.asked(), 0);
    assert!(profile.looop(&["resume"]).ok().stdout.contains("the pause is over"));
    assert!(profile.looop(&["resume"]).ok().stdout.contains("nothing was paused"));
    profile.looop(&["tick"]).ok();
    assert_eq!(profile.asked(), 1);
    profile.looop(&["run", "g"]).ok();
    assert_eq!(profile.asked(), 2, "a human's wish needs no change of the world");
    profile.looop(&["run", "nosuch"]).fails_with(2, &["there is no such goal"]);
}

#[test]
fn init_makes_a_private_data_dir_and_changes_nothing_twice() {
    let profile = Profile::empty();
    profile.looop(&["init"]).ok();
    let mode = fs::metadata(profile.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let config = fs::read_to_string(profile.config_file()).unwrap();
    let path = "\"path\": \"/usr/local/bin:/usr/bin:/bin\"";
    assert!(config.contains(path), "cron finds the same programs: {config}");
    assert!(profile.path("looop.schema.json").is_file());
    fs::remove_file(profile.data().join("goals/setup.md")).unwrap();
    fs::write(profile.data().join("PLAYBOOK.md"), "Mine.\n").unwrap();
    let own = config.replace("60s", "17s");
    fs::write(profile.config_file(), &own).unwrap();
    let before = listing(&profile.data());
    profile.looop(&["init"]).ok();
    assert_eq!(listing(&profile.data()), before);
    assert_eq!(fs::read_to_string(profile.config_file()).unwrap(), own, "nor is the config touched");
    git_in(&profile.data(), &["fsck", "--strict"]);
    // What is not there is not made by a command that only explains itself.
    let empty = Profile::empty();
    for args in
        [&["help"][..], &["version"], &["--version"], &["doctor"], &["tick", "--dry-run"], &["nosuch"]]
    {
        empty.looop(args);
        assert!(!empty.data().exists() && !empty.config_file().exists(), "{args:?}");
    }
}

#[test]
fn a_relative_data_dir_is_one_place_and_profiles_keep_apart() {
    let mut profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "of the first\n");
    let other = Profile::scripted(&[NOOP]);
    let before = listing(&other.data());
    profile.var("LOOOP_DATA_DIR", "data");
    profile.var("LOOOP_CONFIG", "looop.json");
    let status = profile.looop(&["status", "--json"]).ok().json();
    assert_eq!(status["data_dir"], json!(fs::canonicalize(profile.data()).unwrap()));
    profile.sensor("where.sh", "printf '{\"cwd\":\"%s\",\"dir\":\"%s\"}' \"$PWD\" \"$LOOOP_DATA_DIR\"");
    profile.looop(&["tick"]).ok();
    let reading = profile.read_json("snapshots/where.json")["signal"].clone();
    assert_eq!((&reading["cwd"], &reading["dir"]), (&status["data_dir"], &status["data_dir"]));
    assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"), "and one cache");
    // A home of its own is enough: no variable has to name a place.
    let mut home = Profile::empty();
    for key in ["LOOOP_DATA_DIR", "LOOOP_CONFIG"] {
        home.var(key, "");
    }
    home.looop(&["init"]).ok();
    assert!(home.path("home/.local/state/looop/format").is_file());
    assert!(home.path("home/.config/looop.json").is_file());
    assert_eq!(listing(&other.data()), before);
    assert!(other.looop(&["goal", "list"]).ok().stderr.starts_with("no goals"));
    assert!(other.looop(&["log"]).ok().stderr.starts_with("the journal is empty"));
}

#[test]
fn days_and_stamps_are_local() {
    let date = |zone: &str, form: &str| {
        let output = Command::new("date").arg(form).env("TZ", zone).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // Half a day away, on the side where it is another day now.
    let hour: u32 = date("UTC", "+%H").parse().unwrap();
    let (zone, offset) = if hour < 12 { ("ABC12", "-12:00") } else { ("ABC-12", "+12:00") };
    let mut profile = Profile::scripted(&[NOOP]);
    profile.var("TZ", zone);
    profile.looop(&["tick"]).ok();
    let day = date(zone, "+%F");
    assert_ne!(day, date("UTC", "+%F"));
    let journal = profile.read("journal.md");
    assert!(journal.starts_with(&day) && journal[..26].ends_with(offset), "{journal}");
    assert_eq!(profile.looop(&["status", "--json"]).ok().json()["cost"]["day"], json!(day));
    assert_eq!(profile.looop(&["cost", "today", "--json"]).ok().json()["rows"][0]["key"], json!(day));
    assert!(profile.looop(&["tick", "--dry-run"]).ok().stdout.contains(offset));
    assert!(profile.git(&["log", "-1", "--format=%ai"]).trim().ends_with(&offset.replace(':', "")));
    profile.var("TZ", "UTC");
    let utc = profile.looop(&["cost", "all", "--json"]).ok().json();
    assert_eq!(utc["rows"][0]["key"], json!(day), "what was spent stays on the day it was spent");
}
