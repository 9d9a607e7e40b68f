//! Real input: the real pi CLI against a scripted model server, and sensors that read a real git repository.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::beat::listing;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi::{MODEL, pi};
use crate::support::profile::{Profile, git_in};

const GOAL: &str = r#"{"move":"write_goal","id":"push-work","body":"---\ngoal: two commits are pushed\n---\nThey are ahead of upstream.\n","why":"two commits are ahead and no goal says so"}"#;
const NOOP: &str = r#"Here is my move: {"move":"noop","why":"the goal is written down"}"#;

/// A repository with an upstream: two commits ahead, one edited and one new file.
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
    commit("three");
    fs::write(repo.join("a.txt"), "edited\n").unwrap();
    fs::write(repo.join("new.txt"), "new\n").unwrap();
    repo
}

#[test]
#[ignore = "needs agent CLIs"]
fn real_beats_over_a_real_repository() {
    let Some(install) = pi() else { return };
    let server = ModelServer::start(vec![Reply::text(GOAL).usage(111, 22, 334, 44), Reply::text(NOOP)]);
    let home = install.home(&server.url());
    let mut profile = Profile::scripted(&[NOOP]);
    profile.var("HOME", home.path().to_str().unwrap());
    let runners = json!({ "pi": { "model": MODEL } });
    profile.config(json!({ "path": home.search_path(), "decide": "pi", "runners": runners }));
    let repo = repository(&profile);
    let example = include_str!("../../../sensors-examples/git-repos.sh");
    let lines: Vec<&str> = example.lines().skip(1).filter(|line| !line.starts_with("# looop:")).collect();
    profile.sensor("git-repos.sh", &lines.join("\n").replace("$HOME/src/app", repo.to_str().unwrap()));
    profile.goal("work", "---\ngoal: no work is left unpushed at the end of a day\n---\n");

    profile.looop(&["tick"]).ok().prints(&["write_goal push-work — done"]);
    assert_eq!(server.requests().len(), 1);
    let signal = &profile.read_json("snapshots/git-repos.json")["signal"][repo.to_str().unwrap()];
    let found = ["branch", "dirty_files", "ahead", "stale_branches"].map(|key| &signal[key]);
    assert_eq!(found, [&json!("main"), &json!(2), &json!(2), &json!(0)], "{signal}");
    assert!(profile.read("goals/push-work.md").contains("two commits are pushed"));
    assert_eq!(profile.read("journal.md").lines().count(), 1);
    let log = profile.git(&["log", "--format=%s"]);
    let kinds: Vec<&str> = log.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(kinds, ["move", "world", "human", "init"]);
    // The prices of the test's model: 111 in, 22 out, 334 read from and 44 written to the cache.
    let row = profile.looop(&["cost", "--json"]).ok().json()["rows"][0].clone();
    assert_eq!(["calls", "cost_micros", "unpriced"].map(|key| &row[key]), [1, 1006, 0], "{row}");

    profile.looop(&["tick"]).ok().prints(&["noop — done"]);
    assert_eq!(server.requests().len(), 2, "its own edit is seen, with one request");
    let before = listing(&profile.data());
    let head = profile.git(&["rev-parse", "HEAD"]);
    profile.looop(&["tick"]).ok().prints(&["idle"]);
    assert_eq!(server.requests().len(), 2);
    assert_eq!(profile.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(listing(&profile.data()), before);
}
