//! What an approval to the start of a worker covers: its program, grants, checks, goal, and the commit that it starts from.

use std::fs::{self, Permissions, create_dir_all, rename, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{NOOP, Swap, waiting};
use crate::support::profile::{Profile, Ran, git_in, program, wait_until};
use crate::{sandbox, support::rows::copy_all};

/// A profile whose decider wants a worker with all that a worker can have.
fn scene() -> Profile {
    let grant = ["~/link", "~/key", "DEPLOY_KEY"];
    scene_of(&json!({ "goal": "g1", "verify": "tests", "repo": "~/repo", "grant": grant }))
}

/// A profile whose decider wants a worker with these fields.
fn scene_of(fields: &Value) -> Profile {
    scene_with(fields, &["worker", "verify"])
}

/// The same, with a sandbox for all kinds of children but these.
fn scene_with(fields: &Value, without_sandbox: &[&'static str]) -> Profile {
    let mut profile = Profile::scripted(&[NOOP]);
    profile.var("DEPLOY_KEY", "canary-value");
    profile.without_sandbox(without_sandbox);
    let [agent, check] = ["home/bin/agent", "home/bin/check"].map(|name| profile.path(name));
    program(&agent, "#!/bin/sh\nexec sleep 600\n");
    program(&check, "#!/bin/sh\nexit 0\n");
    for file in ["home/granted/file", "home/other/file", "home/rules.txt", "home/key", "home/.bashrc"] {
        create_dir_all(profile.path(file).parent().unwrap()).unwrap();
        write(profile.path(file), "text\n").unwrap();
    }
    symlink("granted", profile.path("home/link")).unwrap();
    let repo = profile.path("home/repo");
    fs::create_dir(&repo).unwrap();
    git_in(&repo, &["init", "-q"]);
    git_in(&repo, &["commit", "-qm", "one", "--allow-empty"]);
    profile.goal("g1", "goal: be good\n");
    let mut wanted = json!({ "move": "start_worker", "id": "w1", "brief": "Do it.", "why": "w" });
    wanted.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    profile.script(&[&wanted.to_string()]);
    let mut scripted = profile.scripted_runner();
    scripted["worker"] = json!([agent, "--rules", profile.path("home/rules.txt"), "{brief}"]);
    profile.config_more(json!({
        "runners": { "scripted": scripted }, "worker": "scripted", "verify": { "tests": [check] },
    }));
    profile
}

#[test]
#[ignore = "slow"]
fn each_kind_of_swap_voids_an_approval_to_a_worker() {
    let profile = scene();
    let swaps: [(&str, Swap); 15] = [
        ("program", |p| write(p.path("home/bin/agent"), "#!/bin/sh\nexec sleep 601\n").unwrap()),
        ("the mode of the program", |p| {
            fs::set_permissions(p.path("home/bin/agent"), Permissions::from_mode(0o700)).unwrap();
        }),
        ("the time of the program", |p| {
            let past = SystemTime::now() - Duration::from_secs(9000);
            fs::File::open(p.path("home/bin/agent")).unwrap().set_modified(past).unwrap();
        }),
        ("a file that its command names", |p| write(p.path("home/rules.txt"), "evil\n").unwrap()),
        ("the target of a grant", |p| {
            fs::remove_file(p.path("home/link")).unwrap();
            symlink("other", p.path("home/link")).unwrap();
        }),
        ("a granted folder", |p| {
            rename(p.path("home/other"), p.path("home/was")).unwrap();
            fs::create_dir(p.path("home/other")).unwrap();
        }),
        ("a granted file", |p| write(p.path("home/key"), "evil\n").unwrap()),
        ("a granted file with its time kept", |p| {
            let time = fs::metadata(p.path("home/key")).unwrap().modified().unwrap();
            write(p.path("home/key"), "EVIL\n").unwrap();
            fs::File::open(p.path("home/key")).unwrap().set_modified(time).unwrap();
        }),
        ("goal", |p| p.goal("g1", "goal: be bad\n")),
        ("the program of a check", |p| {
            write(p.path("home/bin/check"), "#!/bin/sh\nexit 0 # evil\n").unwrap()
        }),
        ("an argument of its command", another_command),
        ("check", |p| p.config_more(json!({ "verify": { "tests": ["false"] } }))),
        ("base commit", |p| drop(git_in(&p.path("home/repo"), &["commit", "-qm", "two", "--allow-empty"]))),
        ("ref", |p| drop(git_in(&p.path("home/repo"), &["checkout", "-qb", "evil"]))),
        ("repository", |p| {
            rename(p.path("home/repo"), p.path("home/old")).unwrap();
            copy_all(&p.path("home/old"), &p.path("home/repo"));
        }),
    ];
    for (what, swap) in swaps {
        let ask = waiting(&profile, what);
        profile.approve(&ask).ok();
        swap(&profile);
        let ran = profile.looop(&["tick"]).ok();
        assert!(
            ran.stdout.contains("something that the approval covered has changed since"),
            "{what}: {ran:?}"
        );
        assert!(!profile.data().join("workers/w1").exists(), "{what}");
    }
}

/// Lets the beat of an approved worker go on to where the worker starts, changes something there, and lets it start.
fn approved_with_a_change_at_the_start(profile: &Profile, ask: &Value, change: Swap) -> Ran {
    profile.approve(ask).ok();
    let lock = fs::File::open(profile.data().join("store.lock")).unwrap();
    lock.lock().unwrap();
    let child = profile.spawn(&["tick"]);
    wait_until("the intent", || !profile.read_json("beat.json")["intent"].is_null());
    change(profile);
    drop(lock);
    child.wait_with_output().unwrap().into()
}

/// A commit of the user's while the clone is made does not cost them their approval: the clone is made from the commit
/// that they approved.
#[test]
fn a_commit_during_the_start_leaves_the_approved_commit() {
    let profile = scene();
    let ask = waiting(&profile, "a commit");
    let base = git_in(&profile.path("home/repo"), &["rev-parse", "HEAD"]);
    let ran = approved_with_a_change_at_the_start(&profile, &ask, |p| {
        drop(git_in(&p.path("home/repo"), &["commit", "-qm", "two", "--allow-empty"]));
    });
    let spec = profile.read_json("workers/w1/spec.json");
    assert_eq!(spec["repo"]["base"], *base.trim(), "{ran:?}");
    assert_eq!(git_in(&profile.worker_file("w1", ""), &["rev-parse", "HEAD"]), base);
    profile.looop(&["kill", "w1"]).ok();
}

/// What a worker may read is not on the card, so a change of it voids an approval too.
#[test]
fn a_sandbox_that_may_read_other_files_voids_an_approval() {
    let profile = scene_of(&json!({ "goal": "g1", "verify": "tests", "repo": "~/repo" }));
    let mut config = profile.config_value();
    config["sandbox"] = json!({ "read": [profile.path("home/other")] });
    fs::write(profile.config_file(), config.to_string()).unwrap();
    let ask = waiting(&profile, "a sandbox");
    profile.approve(&ask).ok();
    config["sandbox"] = json!({});
    fs::write(profile.config_file(), config.to_string()).unwrap();
    let ran = profile.looop(&["tick"]).ok();
    let words = "something that the approval covered has changed since: the worker's sandbox or its checks";
    assert!(ran.stdout.contains(words), "{ran:?}");
    assert!(!profile.data().join("workers/w1").exists());
}

#[test]
#[ignore = "slow"]
fn a_change_between_the_plan_and_the_start_voids_an_approval_to_a_worker() {
    let swaps: [(&str, &str, Swap); 5] = [
        ("program", "a file", |p| write(p.path("home/bin/agent"), "#!/bin/sh\nexec sleep 601\n").unwrap()),
        ("the target of a grant", "a grant", |p| {
            fs::remove_file(p.path("home/link")).unwrap();
            symlink("other", p.path("home/link")).unwrap();
        }),
        ("a granted file", "a grant", |p| write(p.path("home/key"), "evil\n").unwrap()),
        ("a file that its command names", "a file", |p| write(p.path("home/rules.txt"), "evil\n").unwrap()),
        ("goal", "the goal", |p| p.goal("g1", "goal: be bad\n")),
    ];
    for (what, part, swap) in swaps {
        let profile = scene();
        let ask = waiting(&profile, what);
        let ran = approved_with_a_change_at_the_start(&profile, &ask, swap);
        let words = format!("refused: something that the approval covered has changed since: {part}");
        assert!(ran.stdout.contains(&words), "{what}: {ran:?}");
        assert!(!profile.data().join("workers/w1").exists(), "{what}");
        let refs = git_in(&profile.path("home/repo"), &["for-each-ref", "refs/looop"]);
        assert_eq!(refs, "", "{what}: nothing is kept for the worker");
        let again = waiting(&profile, what);
        assert_ne!(ask["hash"], again["hash"], "{what}: the move waits again, for another yes");
        profile.approve(&again).ok();
        let ran = profile.looop(&["tick"]).ok();
        assert!(profile.data().join("workers/w1/spec.json").exists(), "{what}: {ran:?}");
        profile.looop(&["kill", "w1"]).ok();
    }
}

#[test]
fn another_value_of_a_variable_voids_an_approval() {
    let profile = scene();
    for (name, part) in [("LANG", "the program, the folder or the environment"), ("DEPLOY_KEY", "a grant")] {
        let ask = waiting(&profile, name);
        profile.approve(&ask).ok();
        let ran = Ran::from(profile.command(&["tick"]).env(name, "other").output().unwrap());
        ran.prints(&[&format!("something that the approval covered has changed since: {part}")]);
        assert!(!profile.data().join("workers/w1").exists(), "{name}");
    }
    let ask = waiting(&profile, "no variable");
    let id = ask["id"].as_str().unwrap();
    for file in ["journal.md", &format!("asks/{id}.json")] {
        let text = fs::read_to_string(profile.data().join(file)).unwrap();
        assert!(!text.contains("canary-value"), "no value is written down: {file}");
    }
    assert!(!ask.to_string().contains("canary-value"), "no value is shown");
}

#[test]
fn the_worker_that_starts_is_the_one_that_was_approved() {
    let profile = scene();
    let ask = waiting(&profile, "the plan");
    let id = ask["id"].as_str().unwrap();
    let planned =
        &profile.read_json(&format!("asks/{id}.json"))["approval"]["operation"]["start_worker"]["spec"];
    profile.approve(&ask).ok();
    // Another runner with the same command: nothing that the user saw differs.
    let mut config = profile.config_value();
    config["runners"]["other"] = config["runners"]["scripted"].clone();
    config["worker"] = json!("other");
    profile.config(config);
    profile.looop(&["tick"]).ok();
    let started = profile.read_json("workers/w1/spec.json");
    assert_eq!(started["runner"], "scripted");
    for (key, value) in planned.as_object().unwrap() {
        let filled = ["env", "limits", "notify", "tmux", "by", "created_ms"].contains(&key.as_str());
        assert!(filled || started[key] == *value, "{key}: {} is not {value}", started[key]);
    }
    assert!(started["env"].as_array().unwrap().contains(&json!(["DEPLOY_KEY", "canary-value"])));
    profile.looop(&["kill", "w1"]).ok();
}

/// Changes the command of the runner.
fn another_command(profile: &Profile) {
    let mut config = profile.config_value();
    config["runners"]["scripted"]["worker"][1] = json!("--no-rules");
    profile.config(config);
}

/// Kills the next beat before its worker starts, leaves a half-made directory of such a worker, changes something, and
/// runs a beat.
fn killed_before_the_start(profile: &Profile, change: Swap) {
    let lock = fs::File::open(profile.data().join("store.lock")).unwrap();
    lock.lock().unwrap();
    let mut child = profile.spawn(&["tick"]);
    let state = profile.data().join("beat.json");
    wait_until("the intent", || state.exists() && !profile.read_json("beat.json")["intent"].is_null());
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lock);
    fs::create_dir_all(profile.data().join("workers/.new-w1-1")).unwrap();
    change(profile);
    profile.looop(&["tick"]).ok();
    assert!(!profile.data().join("workers/.new-w1-1").exists(), "{}", profile.read("journal.md"));
}

#[test]
fn an_interrupted_start_is_void_if_the_config_asks_for_another_worker() {
    let profile = scene();
    let ask = waiting(&profile, "an interruption");
    profile.approve(&ask).ok();
    killed_before_the_start(&profile, another_command);
    let journal = profile.read("journal.md");
    assert!(journal.contains("something that the approval covered has changed since"), "{journal}");
    assert!(!profile.data().join("workers/w1").exists(), "{journal}");
}

/// The same for a start that needed no approval: its plan is of before the interruption, and no policy judges it again.
#[test]
fn an_interrupted_free_start_is_dropped_if_the_config_asks_for_another_worker() {
    if !sandbox::has("full") {
        return;
    }
    let profile = scene_with(&json!({ "goal": "g1", "repo": "~/repo" }), &[]);
    profile.config_more(json!({ "repos": [profile.path("home/repo")] }));
    killed_before_the_start(&profile, another_command);
    let journal = profile.read("journal.md");
    assert!(
        journal.contains("not done: the config, the machine or the repository has changed since"),
        "{journal}"
    );
    // The decider was asked again, and the worker is that of the config of now.
    assert_eq!(profile.read_json("workers/w1/spec.json")["argv"][1], "--no-rules");
    profile.looop(&["kill", "w1"]).ok();
}

/// A start that cannot even be planned any more is dropped: an error at this point would stop every beat.
#[test]
fn an_interrupted_start_that_cannot_be_planned_again_is_dropped() {
    if !sandbox::has("full") {
        return;
    }
    let profile = scene_with(&json!({ "goal": "g1" }), &[]);
    killed_before_the_start(&profile, |p| fs::write(p.data().join("goals/g1.md"), b"\xff\n").unwrap());
    let journal = profile.read("journal.md");
    assert!(journal.contains("not done: could not read the goal"), "{journal}");
}

#[test]
fn grants_are_first_on_the_screen_and_resolved() {
    let profile = scene();
    let ask = waiting(&profile, "screen");
    let shown = profile.looop(&["asks"]).ok();
    let at = |path: &str| fs::canonicalize(profile.path(path)).unwrap().display().to_string();
    let head = git_in(&profile.path("home/repo"), &["rev-parse", "HEAD"]);
    let grants = [
        format!("  grants   the folder {}, named as ~/link", at("home/granted")),
        format!("  grants   the file {}, named as ~/key", at("home/key")),
        "  grants   the variable DEPLOY_KEY".to_owned(),
    ];
    let lines: Vec<&str> = shown.stdout.lines().collect();
    for (line, grant) in lines[1..4].iter().zip(&grants) {
        assert!(line.starts_with(grant), "{grant}: {shown:?}");
    }
    let parts = [
        "move     start_worker",
        &format!("clone of {}", at("home/repo")),
        &format!("base     {}, which is ref: refs/heads/main", head.trim()),
        &format!("check    tests: {}", profile.path("home/bin/check").display()),
        "sandbox  none; its checks: none",
        "network  the whole network, and the services of this machine; its checks: the whole network",
        "writes   everything that you may write",
        &format!("{}: its contents", at("home/granted")),
        "because it grants a credential or a path",
    ];
    shown.prints(&parts);
    assert_eq!(ask["scope"]["repo"]["base"], head.trim());
    assert_eq!(ask["scope"]["grants"][0]["path"], json!(at("home/granted")));
}

#[test]
fn a_grant_of_a_file_that_executes_on_the_users_side_is_on_the_card() {
    let profile = scene_of(&json!({ "grant": ["~/.bashrc"], "verify": "cp x .git/hooks/pre-commit" }));
    waiting(&profile, "a grant");
    profile.looop(&["asks"]).ok().prints(&[
        "home/.bashrc executes on your side: the shell runs it when you enter the folder or open a shell",
        ".git/hooks/pre-commit executes on your side: git runs or obeys it",
    ]);
}
