//! Hostile repositories without any agent: each verb that works on a repository is tried on one whose config, hooks,
//! attributes and submodule name a program. None of it runs, in a box or out of one.

use std::fs;

use serde_json::json;

use crate::clones::commands::hostile;
use crate::clones::yard::{Yard, shell};
use crate::support::profile::{LOOOP, Profile, git_in, wait_until};

fn state(profile: &Profile, id: &str) -> String {
    let all = profile.looop(&["ls", "--all", "--json"]).ok().json();
    let found = all["workers"].as_array().unwrap().iter().find(|worker| worker["id"] == id).cloned();
    found.map_or(String::new(), |worker| worker["state"].as_str().unwrap().to_owned())
}

fn profile() -> Profile {
    let profile = Profile::empty();
    profile.config(json!({}));
    profile.looop(&["init"]).ok();
    profile
}

#[track_caller]
fn nothing_ran(yard: &Yard, verb: &str) {
    let sprung = fs::read_to_string(yard.path("sprung")).unwrap_or_default();
    assert!(!yard.is_sprung() && !yard.path("repo/sprung").exists(), "{verb}: {sprung}");
}

#[test]
fn no_verb_about_workers_runs_what_a_repository_names() {
    let yard = Yard::new();
    let repo = hostile(&yard, "repo");
    let repo_text = repo.to_str().unwrap();
    let profile = profile();
    let script = format!("echo x >new; git add new; git commit -qm new; {LOOOP} done");
    for (id, objects) in [("w1", "shared"), ("w2", "reachable")] {
        profile.config_more(json!({ "objects": objects }));
        profile.looop(&["worker", "start", id, "--repo", repo_text, "--", "sh", "-c", &script]).ok();
        wait_until("the worker is done", || matches!(state(&profile, id).as_str(), "done" | "failed"));
        assert_eq!(state(&profile, id), "done", "{}", profile.looop(&["logs", id]).stdout);
        let told = profile.looop(&["ls", "--all", "--json"]).ok().json();
        let row = told["workers"].as_array().unwrap().iter().find(|worker| worker["id"] == id).cloned();
        assert_eq!(row.unwrap()["objects"], objects);
        let lent = profile.data().join(format!("workers/{id}/clone/.git/objects/info/alternates"));
        assert_eq!(lent.exists(), objects == "shared");
    }
    nothing_ran(&yard, "worker start, collect");
    profile.looop(&["tick"]);
    profile.looop(&["prune", "--older", "0s"]).ok();
    nothing_ran(&yard, "prune");
    profile.looop(&["map", "--root", repo_text, "--query", "file"]).ok();
    nothing_ran(&yard, "map");
    profile.looop(&["worker", "start", "w3", "--repo", repo.join("sub").to_str().unwrap(), "--", "true"]);
    nothing_ran(&yard, "worker start in the submodule");
    git_in(&repo, &["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "rev-parse", "looop/w1"]);
    shell(&repo, "git status");
    assert!(yard.is_sprung(), "the trap works");
}

#[test]
fn no_fix_runs_what_a_repository_names() {
    let yard = Yard::new();
    let repo = hostile(&yard, "repo");
    let profile = profile();
    profile.unboxed(&["fix"]);
    let agent = profile.path("agent.sh");
    crate::clones::yard::program(&agent, "cat >/dev/null; echo mended >file; echo done");
    profile.config_more(json!({ "runners": { "local": { "fix": [agent] } }, "fix": { "runner": "local" } }));
    let args =
        ["fix", "--repo", repo.to_str().unwrap(), "--issue", "mend it", "--test", "grep -q mended file"];
    for more in [&[][..], &["--branch"][..]] {
        let ran = profile.looop(&[&args[..], more].concat());
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        nothing_ran(&yard, "fix");
    }
    assert_eq!(fs::read_to_string(repo.join("file")).unwrap(), "mended\n");
    profile.looop(&["attempts", "--json"]);
    nothing_ran(&yard, "attempts");
    shell(&repo, "git status");
    assert!(yard.is_sprung(), "the trap works");
}
