//! Real input: the real pi CLI against a scripted model server, and sensors that read a real git repository.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::beat::listing;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi::{MODEL, PiHome, pi};
use crate::support::profile::{Profile, git_in};

const GOAL: &str = r#"{"move":"write_goal","id":"push-work","body":"---\ngoal: two commits are pushed\n---\nThey are ahead of upstream.\n","why":"two commits are ahead and no goal says so"}"#;
const NOOP: &str = r#"Here is my move: {"move":"noop","why":"the goal is written down"}"#;

/// A repository with an upstream: two commits ahead, one edited and one new file, one mark of unfinished work.
fn repository(profile: &Profile) -> PathBuf {
    let upstream = profile.path("upstream.git");
    let repo = profile.path("repo");
    fs::create_dir(&repo).unwrap();
    git_in(&repo, &["init", "-q"]);
    let commit = |text: &str| {
        fs::write(repo.join("a.txt"), text).unwrap();
        git_in(&repo, &["add", "."]);
        git_in(&repo, &["commit", "-q", "-m", text]);
    };
    commit("one");
    git_in(&repo, &["clone", "-q", "--bare", ".", upstream.to_str().unwrap()]);
    git_in(&repo, &["remote", "add", "origin", upstream.to_str().unwrap()]);
    git_in(&repo, &["fetch", "-q", "origin"]);
    git_in(&repo, &["branch", "-q", "--set-upstream-to=origin/main"]);
    commit("two");
    commit(concat!("three TO", "DO: finish"));
    fs::write(repo.join("a.txt"), concat!("edited TO", "DO: finish\n")).unwrap();
    fs::write(repo.join("new.txt"), "new\n").unwrap();
    repo
}

fn git_sensor(profile: &Profile, repo: &Path) {
    let example = include_str!("../../sensors-examples/git-repo.sh");
    let text: Vec<String> = example
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.starts_with("# looop:"))
        .map(|(_, line)| line.replace("$HOME/src/app", repo.to_str().unwrap()))
        .collect();
    let body = text[1..].join("\n");
    profile.sensor("git-repo.sh", &body);
}

fn profile_with(home: &PiHome) -> Profile {
    let mut profile = Profile::scripted(&[NOOP]);
    profile.var("HOME", home.path().to_str().unwrap());
    profile.config(json!({
        "path": home.search_path(),
        "decide": "pi",
        "runners": { "pi": { "model": MODEL } },
    }));
    profile
}

#[test]
fn real_beats_over_a_real_repository() {
    let Some(install) = pi() else { return };
    let server = ModelServer::start(vec![Reply::text(GOAL).usage(111, 22, 334, 44), Reply::text(NOOP)]);
    let home = install.home(&server.url());
    let profile = profile_with(&home);
    let repo = repository(&profile);
    git_sensor(&profile, &repo);
    profile.goal("work", "---\ngoal: no work is left unpushed at the end of a day\n---\n");

    let first = profile.looop(&["tick"]).ok();
    assert!(first.stdout.contains("write_goal push-work — done"), "{}", first.stdout);
    assert_eq!(server.requests().len(), 1);
    let signal = profile.read_json("snapshots/git-repo.json")["signal"].clone();
    assert_eq!(
        (&signal["branch"], &signal["dirty_files"], &signal["ahead"], &signal["todo"]),
        (&json!("main"), &json!(2), &json!(2), &json!(1)),
        "{signal}"
    );
    assert!(profile.read("goals/push-work.md").contains("two commits are pushed"));
    assert_eq!(profile.read("journal.md").lines().count(), 1);
    let log = profile.git(&["log", "--format=%s"]);
    let kinds: Vec<&str> = log.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(kinds, ["move", "world", "human", "init"]);
    // The prices of the test's model: 111 in, 22 out, 334 read from and 44 written to the cache.
    let row = profile.looop(&["cost", "--json"]).ok().json()["rows"][0].clone();
    assert_eq!(
        (&row["calls"], &row["cost_micros"], &row["unmetered"]),
        (&json!(1), &json!(1006), &json!(0)),
        "{row}"
    );

    let second = profile.looop(&["tick"]).ok();
    assert!(second.stdout.contains("noop — done"), "{}", second.stdout);
    assert_eq!(server.requests().len(), 2, "its own edit is seen, with one request");
    let before = listing(&profile.data());
    let head = profile.git(&["rev-parse", "HEAD"]);
    let third = profile.looop(&["tick"]).ok();
    assert!(third.stdout.contains("idle"), "{}", third.stdout);
    assert_eq!(server.requests().len(), 2);
    assert_eq!(profile.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(listing(&profile.data()), before);
}

#[test]
fn the_request_holds_the_prompt_and_hardly_more_and_no_tool() {
    let Some(install) = pi() else { return };
    let server = ModelServer::start(vec![Reply::text(NOOP)]);
    let home = install.home(&server.url());
    let profile = profile_with(&home);
    profile.goal("g", &"a line of a goal with some words in it\n".repeat(200));
    profile.looop(&["tick"]).ok();
    let request = &server.requests()[0];
    let beat = profile.read_json("beat.json")["last"]["beat"].as_str().unwrap().to_owned();
    let prompt = profile.read(&format!("runs/{beat}/prompt.md"));
    let limit = prompt.len() * 5 / 4 + 1024;
    println!("pi: {} request bytes for a prompt of {} (limit {limit})", request.bytes, prompt.len());
    assert!(request.bytes <= limit, "{} > {limit}", request.bytes);
    assert!(request.body.get("tools").is_none_or(|tools| tools.as_array().is_some_and(Vec::is_empty)));
    let sent = request.body["messages"].to_string();
    assert!(sent.contains("decide one move"), "the prompt travels whole");
}

#[test]
fn a_tool_call_in_the_reply_does_not_run() {
    let Some(install) = pi() else { return };
    let trap = std::env::temp_dir().join(format!("looop-trap-{}", std::process::id()));
    let call = Reply::tool("bash", json!({ "command": format!("touch {}", trap.display()) }));
    let server = ModelServer::start(vec![call, Reply::text(NOOP)]);
    let home = install.home(&server.url());
    let profile = profile_with(&home);
    let ran = profile.looop(&["tick"]);
    assert!(!trap.exists(), "{}", ran.stdout);
}

#[test]
fn pis_failures_are_failures_although_it_exits_0() {
    let Some(install) = pi() else { return };
    for (status, class) in [(401, "auth"), (500, "transient"), (429, "transient")] {
        let server = ModelServer::start(vec![Reply::status(status, "no")]);
        let home = install.home(&server.url());
        let profile = profile_with(&home);
        let ran = profile.looop(&["tick"]);
        assert_eq!(ran.code, 1, "{status}: {}", ran.stdout);
        let beat = profile.read_json("beat.json");
        assert_eq!(beat["failure"]["class"], class, "{status}: {}", beat["failure"]);
        assert_eq!(beat["backoff"]["fails"], 1);
    }
}

#[test]
fn a_hanging_model_is_ended_at_the_deadline_with_no_process_left() {
    let Some(install) = pi() else { return };
    let server = ModelServer::start(vec![Reply::hang()]);
    let home = install.home(&server.url());
    let profile = profile_with(&home);
    profile.config_more(json!({ "limits": { "decide_timeout": "3s" } }));
    let ran = profile.looop(&["tick"]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert_eq!(profile.read_json("beat.json")["failure"]["class"], "timeout");
    let marker = format!("HOME={}", home.path().display());
    let alive = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environ).split('\0').any(|var| var == marker)
    });
    assert_eq!(alive.count(), 0);
}
