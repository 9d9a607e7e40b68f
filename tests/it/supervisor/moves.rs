//! Workers that a move wants: what is shown is what is run, and what died half way is cleared away.

use std::{fs, os::unix::fs::symlink};

use serde_json::json;

use crate::support::profile::{LOOOP, Profile, git_in};

/// A profile in which the decider wants this worker.
fn wants(more: serde_json::Value) -> Profile {
    let mut wanted =
        json!({"move": "start_worker", "id": "w1", "brief": "Do it well.\nThen rest.", "why": "w"});
    wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let profile = Profile::scripted(&[&wanted.to_string(), super::NOOP]);
    // In a full sandbox nobody would be asked.
    profile.without_sandbox(&["worker", "verify"]);
    let mut scripted = profile.scripted_runner();
    scripted["worker"] = json!(["sh", "-c", "sleep 600", "{brief}"]);
    profile.config_more(json!({
        "runners": { "scripted": scripted },
        "worker": "scripted",
        "verify": { "first": ["true"], "second": ["test", "-e", "b.txt"] },
    }));
    for (dir, file) in [("home/repo", "a.txt"), ("home/other", "b.txt")] {
        profile.repository(dir, file, "text\n");
    }
    profile
}

#[test]
fn what_an_approval_covers_is_shown_and_is_what_is_cloned() {
    let profile = wants(json!({ "repo": "~/link", "goal": "g1", "claims": ["thing"] }));
    profile.goal("g1", "---\ngoal: be good\nverify: second\n---\n");
    let link = profile.path("home/link");
    symlink(profile.path("home/repo"), &link).unwrap();
    // From anywhere else it would be another directory.
    let tick = || {
        let ran = profile.command(&["tick"]).current_dir("/").output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
    };
    tick();
    let repo = fs::canonicalize(profile.path("home/repo")).unwrap();
    profile.looop(&["asks"]).ok().prints(&["worker   w1", "goal     g1", "claims   thing"]).prints(&[
        &format!("clone of {}", repo.display()),
        "check    second: test -e b.txt",
        "brief    22 bytes, ",
        "+Do it well.\n",
        "+Then rest.\n",
    ]);
    profile.approve_first();
    // The link points elsewhere now, and the approval was not for that.
    fs::remove_file(&link).unwrap();
    symlink(profile.path("home/other"), &link).unwrap();
    tick();
    assert!(profile.read("journal.md").contains("something that the approval covered has changed since"));
    assert!(!profile.data().join("workers/w1").exists());
    profile.script(&[]);
}

#[test]
fn an_approved_worker_gets_the_clone_and_the_check_of_its_goal() {
    let profile = wants(json!({ "repo": "../home/repo", "goal": "g1" }));
    profile.goal("g1", "---\ngoal: be good\nverify: first\n---\n");
    profile.looop(&["tick"]).ok();
    profile.approve_first();
    profile.looop(&["tick"]).ok();
    let spec = profile.read_json("workers/w1/spec.json");
    assert_eq!(
        spec["repo"]["source"],
        fs::canonicalize(profile.path("home/repo")).unwrap().to_str().unwrap()
    );
    assert_eq!(spec["verify"], json!([{ "name": "first", "argv": ["true"] }]));
    assert!(profile.data().join("workers/w1/clone/a.txt").exists());
}

#[test]
#[ignore = "slow"]
fn no_worker_gets_what_is_looops_own() {
    for (more, words) in [
        (json!({ "repo": "." }), "its repo is looop's own"),
        (json!({ "repo": "workers" }), "its repo is looop's own"),
        (json!({ "repo": "~/into" }), "its repo is looop's own"),
        (json!({ "repo": "~/worktree" }), "it belongs to looop"),
        (json!({ "repo": "~/nowhere" }), "its repo is not a directory"),
    ] {
        let profile = wants(more.clone());
        symlink(profile.data(), profile.path("home/into")).unwrap();
        profile.git(&["worktree", "add", "-q", profile.path("home/worktree").to_str().unwrap()]);
        profile.looop(&["tick"]).ok();
        assert_eq!(profile.asks(), [json!(null); 0], "{more}: nobody is asked for what cannot start");
        let journal = profile.read("journal.md");
        assert!(journal.contains(words), "{more}: {journal}");
        assert!(!profile.data().join("workers/w1").exists());
    }
}

/// A check that the config does not have is a shell line, of the move or of the goal; a user sees it whole.
#[test]
fn a_check_in_free_text_waits_and_is_run_as_it_was_shown() {
    for more in [json!({ "verify": "test -e made && echo seen" }), json!({ "goal": "g2" })] {
        let profile = wants(more.clone());
        profile.goal("g2", "---\ngoal: x\nverify: test -e made && echo seen\n---\n");
        let mut scripted = profile.scripted_runner();
        scripted["worker"] = json!(["sh", "-c", "touch made", "{brief}"]);
        profile.config_more(json!({
            "runners": { "scripted": scripted },
            "policy": { "free_moves": [] },
        }));
        profile.looop(&["tick"]).ok();
        assert!(!profile.data().join("workers/w1").exists(), "{more}");
        let journal = profile.read("journal.md");
        assert!(journal.contains("a shell line"), "{journal}");
        profile.looop(&["asks"]).ok().prints(&["sh -c 'test -e made && echo seen'"]);
        profile.approve_first();
        profile.looop(&["tick"]).ok();
        profile.wait_worker("w1", &["done"]);
        let verdict = profile.read_json("workers/w1/state.json")["verdict"].take();
        assert!(verdict["tail"].as_str().unwrap().contains("seen"), "{verdict}");
    }
    let profile = wants(json!({}));
    let ran = profile.looop(&["worker", "start", "w2", "--verify", "echo hi", "--", "true"]);
    assert!(ran.code == 1 && ran.stderr.contains("is not an entry of `verify`"), "{ran:?}");
}

#[test]
fn what_a_starter_that_died_had_prepared_goes_at_the_next_start() {
    let profile = wants(json!({}));
    let repo = profile.path("home/repo");
    let repo = repo.to_str().unwrap();
    let start = ["worker", "start", "w1", "--repo", repo, "--", "sleep", "600"];
    // Killed while it gives the worker its name: the clone is whole then.
    let mut killed = profile.other_command("strace", &["-qq", "-o", "/dev/null", "-e", "trace=renameat2"]);
    killed.args(["-e", "inject=renameat2:signal=SIGKILL", LOOOP]).args(start);
    if killed.output().is_err() {
        return crate::support::pi::skipped("no strace");
    }
    let workers = profile.data().join("workers");
    let staged = || {
        let names = fs::read_dir(&workers).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with(".new-")).count()
    };
    let bases = || git_in(repo.as_ref(), &["for-each-ref", "refs/looop"]).lines().count();
    assert_eq!((staged(), bases()), (1, 1));
    profile.looop(&["worker", "start", "w2", "--", "sleep", "600"]).ok();
    assert_eq!((staged(), bases()), (0, 0), "the clone is gone and lets go of its base");
    profile.looop(&start).ok();
    assert_eq!((staged(), bases()), (0, 1));
}

/// A beat ends what it finds astray, but not the worker that it has just started in the place of an earlier beat.
#[test]
fn a_start_that_was_cut_off_is_made_by_the_next_beat_and_lives() {
    let profile = wants(json!({}));
    profile.sensor("one.sh", "echo '{\"n\":1}'");
    profile.looop(&["tick"]).ok();
    profile.approve_first();
    let lock = profile.data().join("store.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    assert_eq!(profile.looop(&["tick"]).code, 1, "it cannot be started without the lock");
    assert!(profile.read_json("beat.json")["intent"].is_object());
    fs::remove_dir(&lock).unwrap();
    profile.looop(&["tick"]).ok();
    assert!(profile.read("journal.md").contains("start_worker w1 — done"));
    assert_eq!(profile.looop(&["ls", "--json"]).ok().json()["workers"][0]["state"], "running");
}
