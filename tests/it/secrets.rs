//! A planted secret reaches no file of the data dir and no commit, whoever prints it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::profile::{Profile, wait_until};

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
        // What a human wrote into their own files is theirs: the script, and the file that the command read.
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
    let ran = profile.looop(&["tick"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("401 for key ‹redacted:LEAK_TOKEN›"), "{ran:?}");
    assert_eq!(holders(&profile.data(), SECRET), Vec::<String>::new());
}

#[test]
fn what_a_worker_says_is_redacted_before_it_is_kept_and_on_its_way_out() {
    let profile = profile();
    // Printed in two halves, as a terminal may get it.
    let lines = [
        "printf \"one ${LEAK_TOKEN%????????}\"; printf \"${LEAK_TOKEN#????????????} two\\n\"",
        "looop flag \"flag $LEAK_TOKEN\"",
        "looop unflag",
        "echo \"report $LEAK_TOKEN\" | looop report found.md",
        "looop ask \"ask $LEAK_TOKEN\" --options \"this $LEAK_TOKEN\" || echo unheard",
    ];
    let check = "echo \"401 for $LEAK_TOKEN\"; exit 3";
    profile.config_more(json!({ "verify": { "leaks": ["sh", "-c", check] } }));
    let args = ["worker", "start", "w1", "--grant", "LEAK_TOKEN", "--verify", "leaks", "--", "sh", "-c"];
    profile.looop(&[&args[..], &[&lines.join("\n")]].concat()).ok();
    let row = || profile.looop(&["ls", "--all", "--json"]).ok().json()["workers"][0].clone();
    wait_until("the worker asks", || row()["ask"].is_string());
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
        assert!(!ran.stdout.contains(SECRET), "{verb:?}");
    }
    let mut found = holders(&profile.data(), SECRET);
    // What the worker was given, and what it printed, byte for byte: for its supervisor, and in no commit.
    found.retain(|path| !path.ends_with("/w1/spec.json") && !path.contains("/w1/transcript"));
    assert_eq!(found, Vec::<String>::new());
}
