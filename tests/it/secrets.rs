//! A planted secret reaches no file of the data dir and no commit, whoever prints it.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use crate::support::profile::{NOOP, Profile, wait_until};

const SECRET: &str = "pl4nted-s3cret-value";

/// All files below a directory that hold the text, and all objects of its history that do.
fn holders(dir: &Path, text: &str) -> Vec<String> {
    let found = Command::new("grep").args(["-rlaF", text]).arg(dir).output().unwrap();
    let mut all: Vec<String> = String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
    let objects = "git cat-file --batch-all-objects --batch";
    let history = Command::new("sh").args(["-c", objects]).current_dir(dir).output().unwrap();
    assert!(history.status.success(), "{history:?}");
    if String::from_utf8_lossy(&history.stdout).contains(text) {
        all.push("the history".to_owned());
    }
    all
}

fn profile() -> Profile {
    let mut profile =
        Profile::scripted(&[r#"{"move":"run","why":"w","argv":["sh","-c","echo $LEAK_TOKEN; cat leak"]}"#]);
    profile.var("LEAK_TOKEN", SECRET);
    profile
}

#[test]
fn what_sensors_and_commands_print_is_redacted_before_it_is_kept() {
    let profile = profile();
    let github = format!("ghp_{}", "Zz09".repeat(9));
    profile.sensor("good.sh", &format!("# looop: env=LEAK_TOKEN\necho \"{{\\\"a\\\":\\\"$LEAK_TOKEN\\\",\\\"$LEAK_TOKEN\\\":1,\\\"t\\\":\\\"{github}\\\"}}\""));
    profile.sensor("bad.sh", "# looop: env=LEAK_TOKEN\necho \"error: bad token $LEAK_TOKEN\" >&2; exit 3");
    fs::write(profile.data().join("leak"), format!("say {SECRET}\n")).unwrap();
    let leak = profile.data().join("leak");
    profile.config_more(
        json!({ "policy": { "allow": [{ "argv": ["sh", "-c", "echo $LEAK_TOKEN; cat leak"] }] } }),
    );
    profile.looop(&["tick"]).ok();
    assert!(profile.read("journal.md").contains("run "), "{}", profile.read("journal.md"));
    profile.looop(&["tick"]).ok();
    fs::remove_file(leak).unwrap();
    let reading = profile.read("snapshots/good.json");
    assert!(reading.contains("‹redacted:LEAK_TOKEN›") && reading.contains("‹redacted:token›"), "{reading}");
    assert!(profile.read("snapshots/bad.json").contains("bad token ‹redacted:LEAK_TOKEN›"));
    for text in [SECRET, github.as_str()] {
        let mut found = holders(&profile.data(), text);
        // What a user wrote into their own files is theirs: the script, and the file that the command read.
        found.retain(|path| !path.ends_with("sensors/good.sh") && path != "the history");
        assert_eq!(found, Vec::<String>::new());
    }
    let history = profile.git(&["log", "-p", "--", "snapshots", "world.json", "journal.md", "asks"]);
    assert!(!history.contains(SECRET) && !history.contains(&github));
    for verb in [&["status", "--json"][..], &["log"], &["why"], &["tick", "--dry-run"]] {
        let ran = profile.looop(verb).ok();
        assert!(!ran.stdout.contains(SECRET) && !ran.stderr.contains(SECRET), "{verb:?}");
    }
}

#[test]
fn what_a_runner_complains_of_is_redacted_before_it_is_kept() {
    let profile = profile();
    let line = "echo \"{$LEAK_TOKEN\"; echo \"401 for key $LEAK_TOKEN\" >&2; exit 4";
    let runner = json!({ "decide": ["sh", "-c", line], "env": ["LEAK_TOKEN"] });
    profile.config(json!({ "decide": "sh", "runners": { "sh": runner } }));
    profile.looop(&["tick"]).exits(1).prints(&["401 for key ‹redacted:LEAK_TOKEN›"]);
    assert_eq!(holders(&profile.data(), SECRET), Vec::<String>::new());
}

#[test]
fn what_a_worker_says_is_redacted_before_it_is_kept_and_on_its_way_out() {
    let profile = profile();
    // Printed in two halves, as a terminal may get it.
    let lines = [
        "printf \"one ${LEAK_TOKEN%????????}\"; printf \"${LEAK_TOKEN#????????????} two\\n\"",
        "looop flag \"flag $LEAK_TOKEN\"",
        "echo \"report $LEAK_TOKEN\" | looop report found.md",
        // As a program prints a text in JSON, and in two halves.
        "printf '%s' '{\"key\":\"\\u0070l4n'; printf '%s\\n' 'ted\\u002ds3cret-value\"}'",
        "printf '%s' '{\"key\":\"\\u0070l4nted\\u002ds3cret-value\"}' | looop report spelled.json",
        "looop ask \"ask $LEAK_TOKEN\" --options \"this $LEAK_TOKEN\" || echo unheard",
        "looop unflag",
    ];
    let check = "echo \"401 for $LEAK_TOKEN\"; exit 3";
    profile.config_more(json!({ "verify": { "leaks": ["sh", "-c", check] } }));
    let args = ["worker", "start", "w1", "--grant", "LEAK_TOKEN", "--verify", "leaks", "--", "sh", "-c"];
    profile.looop(&[&args[..], &[&lines.join("\n")]].concat()).ok();
    let row = || profile.worker("w1");
    wait_until("the worker asks", || row()["ask"].is_string());
    assert!(row().to_string().contains("flag ‹redacted:LEAK_TOKEN›"), "{}", row());
    let asks = profile.looop(&["asks", "--json"]).ok().json()["asks"][0].clone();
    assert!(asks["text"].as_str().unwrap().contains("ask ‹redacted:LEAK_TOKEN›"), "{asks}");
    profile.looop(&["answer", asks["id"].as_str().unwrap(), "fine"]).ok();
    wait_until("the worker to end", || row()["state"] == "failed");
    assert!(row()["verify"]["tail"].as_str().unwrap().contains("401 for ‹redacted:LEAK_TOKEN›"), "{}", row());
    assert!(profile.read("reports/w1/found.md").contains("report ‹redacted:LEAK_TOKEN›"));
    profile.looop(&["tick"]).ok();
    for verb in [&["logs", "w1"][..], &["logs", "--cast", "w1"], &["logs", "--raw", "w1"], &["screen", "w1"]]
    {
        let ran = profile.looop(verb).ok();
        assert!(ran.stdout.contains("one ‹redacted:LEAK_TOKEN› two"), "{verb:?}: {}", ran.stdout);
        assert!(!ran.stdout.contains("s3cret-value"), "{verb:?}: {}", ran.stdout);
        let spelled = ran.stdout.contains("{\"key\":\"‹redacted:LEAK_TOKEN›\"}");
        assert!(spelled || verb.contains(&"--cast"), "{}", ran.stdout);
    }
    assert_eq!(profile.read("reports/w1/spelled.json"), "{\"key\":\"‹redacted:LEAK_TOKEN›\"}");
    let mut found = holders(&profile.data(), "s3cret-value");
    // What the worker was given, and what it printed, byte for byte: for its supervisor, and in no commit.
    found.retain(|path| !path.ends_with("/w1/spec.json") && !path.contains("/w1/transcript"));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
#[ignore = "slow"]
fn a_secret_that_a_reply_spells_with_escapes_is_in_no_file_and_in_no_commit() {
    let spelled: String = SECRET.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
    let why = format!("the key is {spelled}");
    let ask =
        format!(r#"{{"move":"ask","text":"send {spelled}?","options":["{spelled}","no"],"why":"{why}"}}"#);
    let goal = format!(r##"{{"move":"write_goal","id":"g","body":"# goal: {spelled}","why":"{why}"}}"##);
    let run = format!(r#"{{"move":"run","argv":["echo","{spelled}"],"why":"{why}"}}"#);
    let name = format!(r#"{{"move":"archive_goal","id":"{spelled}","why":"{why}"}}"#);
    for (reply, is_made) in [(ask, true), (goal, true), (run, true), (name, false)] {
        let mut profile = Profile::scripted(&[&reply]);
        profile.var("LEAK_TOKEN", SECRET);
        profile.looop(&["tick"]);
        let journal = fs::read_to_string(profile.data().join("journal.md")).unwrap_or_default();
        assert_eq!(journal.contains("‹redacted:LEAK_TOKEN›"), is_made, "{reply}: {journal}");
        for text in [SECRET, spelled.as_str()] {
            assert_eq!(holders(&profile.data(), text), Vec::<String>::new(), "{reply}");
        }
    }
}

#[test]
fn a_secret_in_a_file_that_a_move_would_replace_is_not_in_the_diff_of_the_approval() {
    let reply = r#"{"move":"write_playbook","body":"new","why":"w"}"#;
    let mut profile = Profile::scripted(&[reply]);
    profile.var("LEAK_TOKEN", SECRET);
    fs::write(profile.data().join("PLAYBOOK.md"), format!("the key is {SECRET}\n")).unwrap();
    profile.looop(&["tick"]).ok();
    let ask = profile.looop(&["asks", "--json"]).ok().json()["asks"][0].clone();
    let diff = ask["diff"].as_str().unwrap();
    assert!(diff.contains("-the key is ‹redacted:LEAK_TOKEN›\n+new"), "{ask}");
    assert!(!profile.looop(&["asks"]).ok().stdout.contains(SECRET));
    let id = ask["id"].as_str().unwrap();
    assert!(!profile.read(&format!("asks/{id}.json")).contains(SECRET));
    // The yes covers the file as it is.
    profile.approve(&ask).ok();
    profile.looop(&["tick"]).ok();
    assert_eq!(profile.read("PLAYBOOK.md"), "new\n");
}

#[test]
fn passwords_of_addresses_and_secrets_that_look_like_paths_are_redacted() {
    let mut profile = Profile::scripted(&[NOOP]);
    let there = profile.path("home").display().to_string();
    for (name, value) in [
        ("DATABASE_URL", "postgres://ada:db-p4ss%2Fw0rd@db.example/app"),
        ("HTTP_PROXY", "http://ada:proxy-p4ssword@proxy.example:3128"),
        ("CI_TOKEN", "/begins+like+a/path=="),
        ("SSH_PASSPHRASE", "correct horse battery"),
        ("TEAM_WEBHOOK", "https://hooks.example/services/T000/B000"),
        ("CACHE_KEY", &there),
    ] {
        profile.var(name, value);
    }
    let says = [
        "postgres://ada:db-p4ss%2Fw0rd@db.example/app",
        "decoded db-p4ss/w0rd",
        "proxy-p4ssword",
        "/begins+like+a/path==",
        "correct horse battery",
        "https://hooks.example/services/T000/B000",
        "correct%20horse%20battery",
    ];
    let lines: String = says.iter().map(|text| format!("echo '{text}' >&2\n")).collect();
    profile.sensor("leak.sh", &format!("{lines}echo '{there}' >&2; exit 3"));
    profile.looop(&["tick"]).ok();
    let reading = profile.read("snapshots/leak.json");
    for text in ["p4ss", "begins+like", "correct", "services/T000"] {
        assert!(!reading.contains(text), "{text}: {reading}");
    }
    assert!(reading.contains(&there), "the path of what exists is no secret: {reading}");
    for name in ["DATABASE_URL", "HTTP_PROXY", "CI_TOKEN", "SSH_PASSPHRASE", "TEAM_WEBHOOK"] {
        assert!(reading.contains(&format!("‹redacted:{name}›")), "{name}: {reading}");
    }
}
