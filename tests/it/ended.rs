//! Ended workers: what is in their clones, where, and the command that brings it in, in the list, in the journal, in
//! the notice and in the next decision's world.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::profile::{Profile, git_in, program, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"w"}"#;
/// What a worker does to leave a commit.
const WORK: &str = "echo new >new; git add new; git commit -qm work";

/// A profile with a repository that workers clone.
struct Scene {
    profile: Profile,
}

impl Scene {
    fn new() -> Scene {
        let scene = Scene { profile: Profile::scripted(&[NOOP]) };
        let repo = scene.repo();
        fs::create_dir_all(&repo).unwrap();
        git_in(&repo, &["init", "-q"]);
        fs::write(repo.join("file"), "one\n").unwrap();
        git_in(&repo, &["add", "."]);
        git_in(&repo, &["commit", "-qm", "first"]);
        // A notifier that appends what it gets to the file `got`.
        let note = scene.profile.path("note");
        program(&note, format!("#!/bin/sh\ncat >>'{}'\n", scene.profile.path("got").display()));
        let check = json!({ "good": ["true"], "bad": ["false"] });
        scene.profile.config_more(json!({ "verify": check, "notify": [note] }));
        scene
    }

    fn repo(&self) -> PathBuf {
        fs::canonicalize(self.profile.path("home")).unwrap().join("repo")
    }

    fn start(&self, id: &str, check: &str, script: &str) {
        let repo = self.repo();
        let verify: &[&str] = if check.is_empty() { &[] } else { &["--verify", check] };
        let args: [&[&str]; 3] =
            [&["worker", "start", id, "--repo", repo.to_str().unwrap()], verify, &["--", "sh", "-c", script]];
        self.profile.looop(&args.concat()).ok();
    }

    /// Starts a worker that commits and then does this, and waits for its commit.
    #[track_caller]
    fn start_and_commit(&self, id: &str, check: &str, then: &str) {
        self.start(id, check, &format!("{WORK}; touch .git/ready; {then}"));
        wait_until("the commit", || self.clone_of(id).join(".git/ready").exists());
    }

    /// The journal's line of a worker.
    fn journal_line(&self, id: &str) -> String {
        let line = || {
            self.profile
                .read("journal.md")
                .lines()
                .find(|line| line.contains(&format!("[worker {id}]")))
                .map(str::to_owned)
        };
        wait_until("the journal's line", || line().is_some());
        line().unwrap()
    }

    /// The clone of a worker that was archived, as its row names it.
    fn archived_clone(&self, row: &Value) -> PathBuf {
        self.profile.data().join("workers/past").join(row["past"].as_str().unwrap()).join("clone")
    }

    fn row(&self, id: &str) -> Value {
        let all = self.profile.looop(&["ls", "--all", "--json"]).ok().json();
        all["workers"].as_array().unwrap().iter().find(|row| row["id"] == id).cloned().unwrap_or_default()
    }

    #[track_caller]
    fn wait_end(&self, id: &str) -> Value {
        let over = ["exited", "done", "failed", "killed"];
        wait_until(&format!("{id} has ended"), || over.iter().any(|word| self.row(id)["state"] == *word));
        self.row(id)
    }

    fn notices(&self) -> String {
        fs::read_to_string(self.profile.path("got")).unwrap_or_default()
    }

    /// What the next decision is shown.
    fn world(&self) -> String {
        self.profile.looop(&["tick", "--dry-run"]).ok().stdout
    }

    /// Runs a command that looop named, in the repository.
    #[track_caller]
    fn type_in(&self, command: &str) {
        let ran = Command::new("sh").args(["-c", command]).current_dir(self.repo()).output().unwrap();
        assert!(ran.status.success(), "{command}: {ran:?}");
    }

    /// Checks that all of it says these words and this command.
    #[track_caller]
    fn says(&self, id: &str, words: &str, command: &str) {
        let row = self.row(id);
        let [left, next] = ["left", "next"].map(|key| row[key].as_str().unwrap_or_default().to_owned());
        assert!(left.contains(words) && next.contains(command), "{row}");
        assert_eq!(row["clone"], self.clone_of(id).to_str().unwrap(), "{row}");
        // The sign says that it is flagged.
        self.profile.looop(&["ls", "--all"]).ok().prints(&[words, command, &format!("⚑{id}")]);
        let line = self.journal_line(id);
        assert!(line.contains(words) && line.contains(command), "{line}");
        wait_until("the notice", || self.notices().contains(command));
        let world = self.world();
        assert!(world.contains(words) && world.contains(command), "{world}");
    }

    fn clone_of(&self, id: &str) -> PathBuf {
        self.profile.data().join("workers").join(id).join("clone")
    }
}

fn tip(dir: &Path, name: &str) -> String {
    git_in(dir, &["rev-parse", name]).trim().to_owned()
}

#[test]
#[ignore = "slow"]
fn commits_on_a_detached_head_and_on_another_branch_come_back() {
    let scene = Scene::new();
    for (id, script) in [
        ("detached", "git checkout -q --detach"),
        ("other", "git switch -qc topic"),
        ("orphan", "git switch -q --orphan topic"),
    ] {
        scene.start(id, "good", &format!("{script}; {WORK}"));
        let row = scene.wait_end(id);
        let branch = format!("looop/{id}");
        assert_eq!((&row["state"], &row["branch"]), (&json!("done"), &json!(branch)), "{row}");
        assert_eq!(row["next"], format!("git merge {branch}"), "{row}");
        assert_eq!((&row["left"], &row["flag"]), (&Value::Null, &Value::Null), "{row}");
        assert_eq!(git_in(&scene.repo(), &["show", &format!("{branch}:new")]), "new\n");
    }
    let journal = scene.profile.read("journal.md");
    assert!(journal.contains("branch looop/other; next: git merge looop/other [worker other]"), "{journal}");
    assert!(scene.world().contains("git merge looop/detached"), "the decider is told too");
}

#[test]
#[ignore = "slow"]
fn what_is_nowhere_else_is_named_with_a_command_that_brings_it_in() {
    let scene = Scene::new();
    let script = "git switch -qc topic; echo t >topic; git add topic; git commit -qm topic
        echo s >>file; git stash -q; git switch -q looop/w1
        echo new >new; git add new; git commit -qm work; echo more >>file; echo loose >'loose file'";
    scene.start("w1", "good", script);
    let row = scene.wait_end("w1");
    assert_eq!((&row["state"], &row["branch"]), (&json!("done"), &json!("looop/w1")), "{row}");
    let topic = tip(&scene.clone_of("w1"), "topic");
    let words = "1 commit that is nowhere else (`refs/heads/topic`); 1 stash";
    scene.says("w1", words, &format!("{topic}:refs/heads/looop/w1-topic"));
    for command in row["next"].as_str().unwrap().split("; ") {
        scene.type_in(command);
    }
    let repo = scene.repo();
    assert_eq!(git_in(&repo, &["show", "looop/w1-topic:topic"]), "t\n");
    assert_eq!(git_in(&repo, &["show", "looop/w1-stash-0:file"]), "one\ns\n");
    assert_eq!(fs::read_to_string(repo.join("file")).unwrap(), "one\nmore\n");
    assert_eq!(fs::read_to_string(repo.join("loose file")).unwrap(), "loose\n");
    assert!(repo.join("new").exists(), "the branch is merged");
    scene.profile.looop(&["unflag", "w1"]).ok();
    assert_eq!(scene.row("w1")["flag"], Value::Null);
    // Without the flag, too, the next decision is told what is there and what brings it in.
    let world = scene.world();
    // Once in the journal, and once with the worker.
    for words in ["1 commit that is nowhere else", &topic] {
        assert!(world.matches(words).count() > 1, "{words}: {world}");
    }
}

#[test]
#[ignore = "slow"]
fn work_that_did_not_pass_its_check_or_was_killed_is_named() {
    let scene = Scene::new();
    scene.start("unchecked", "bad", WORK);
    scene.start("crashed", "good", &format!("{WORK}; exit 3"));
    scene.start_and_commit("killed", "good", "sleep 600");
    scene.profile.looop(&["kill", "killed"]).ok();
    for (id, state) in [("unchecked", "failed"), ("crashed", "failed"), ("killed", "killed")] {
        let row = scene.wait_end(id);
        assert_eq!((&row["state"], &row["branch"]), (&json!(state), &Value::Null), "{row}");
        let commit = tip(&scene.clone_of(id), "HEAD");
        let fetch = format!("git fetch {} {commit}:refs/heads/looop/{id}", scene.clone_of(id).display());
        scene.says(id, "1 commit that is nowhere else (`HEAD`, ", &fetch);
        scene.type_in(&fetch);
        assert_eq!(tip(&scene.repo(), &format!("looop/{id}")), commit);
    }
}

#[test]
#[ignore = "slow"]
fn a_clone_in_an_odd_state_is_named_and_its_worker_flagged() {
    let scene = Scene::new();
    let conflict =
        "echo a >file; git commit -qam a; git switch -qc side HEAD~1; echo b >file; git commit -qam b
        git rebase -q looop/rebase; true";
    for (id, script, words) in [
        ("rebase", conflict, "a rebase that is not finished"),
        ("unborn", "git switch -q --orphan empty; echo x >x", "a branch without a commit is checked out"),
        ("gone", "rm -rf .git; echo x >x", "not everything could be checked"),
        (
            "sub",
            "git init -q sub; git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub; git commit -qm sub; echo x >sub/x",
            "the submodule `sub` has files",
        ),
    ] {
        scene.start(id, "", script);
        let row = scene.wait_end(id);
        assert!(row["left"].as_str().unwrap_or_default().contains(words), "{id}: {row}");
        let flag = row["flag"]["text"].as_str().unwrap();
        assert!(row["next"].is_string() && flag.contains(words), "{id}: {row}");
    }
    let row = scene.row("rebase");
    assert_eq!(row["branch"], "looop/rebase", "{row}");
    let side = tip(&scene.clone_of("rebase"), "side");
    assert!(row["next"].as_str().unwrap().contains(&format!("{side}:refs/heads/looop/rebase-side")), "{row}");
}

#[test]
fn a_beat_says_what_a_worker_without_a_supervisor_left() {
    let scene = Scene::new();
    scene.start_and_commit("lost", "good", "sleep 600");
    let commit = tip(&scene.clone_of("lost"), "HEAD");
    let state = scene.profile.read_json("workers/lost/state.json");
    let pid = state["supervisor"]["pid"].as_u64().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    wait_until("it is lost", || scene.row("lost")["state"] == "lost");
    // The beat that finds it has the notifier told, and the next decision puts the worker away.
    scene.profile.looop(&["tick"]).ok();
    assert_eq!(scene.row("lost")["past"], Value::Null, "it is not put away before the notice");
    assert!(scene.notices().contains(&commit), "{}", scene.notices());
    scene.profile.goal("g", "Something new.\n");
    scene.profile.looop(&["tick"]).ok();
    let row = scene.row("lost");
    let fetch = format!("git fetch {} {commit}:refs/heads/looop/lost", scene.archived_clone(&row).display());
    assert_eq!(row["next"].as_str().unwrap().split("; ").next(), Some(fetch.as_str()), "{row}");
    scene.type_in(&fetch);
    assert!(row["why"].as_str().unwrap().contains("its supervisor ended"), "{row}");
    let line = scene.journal_line("lost");
    assert!(line.contains("1 commit that is nowhere else") && line.contains(&commit), "{line}");
    let world = scene.profile.git(&["log", "-p", "--", "world.json"]);
    assert!(world.contains("1 commit that is nowhere else"), "the decision was shown it");
}

#[test]
#[ignore = "slow"]
fn the_reason_and_the_next_step_stay_in_the_list_when_a_worker_is_archived() {
    let scene = Scene::new();
    scene.start("good", "good", "echo new >new; echo x >.envrc; git add new .envrc; git commit -qm work");
    scene.start("bad", "bad", WORK);
    scene.start("code", "", "exit 7");
    for id in ["good", "bad", "code"] {
        scene.wait_end(id);
    }
    wait_until("the notice", || scene.notices().contains("looop/bad"));
    scene.profile.looop(&["tick"]).ok();
    let [good, bad, code] = ["good", "bad", "code"].map(|id| scene.row(id));
    assert!([&good, &bad, &code].iter().all(|row| row["past"].is_string()), "{good} {bad} {code}");
    assert_eq!((&good["branch"], &good["exit"]), (&json!("looop/good"), &json!({ "code": 0 })), "{good}");
    assert!(good["verify"]["ok"] == true && good["next"] == "git merge looop/good", "{good}");
    assert!(good["user_side"].to_string().contains(".envrc"), "{good}");
    assert!(bad["left"].as_str().unwrap().contains("1 commit that is nowhere else"), "{bad}");
    assert_eq!(bad["verify"]["name"], "bad", "{bad}");
    assert!(bad["why"].as_str().unwrap().contains("the check `bad` failed"), "{bad}");
    let fetch = format!("git fetch {} ", scene.archived_clone(&bad).display());
    assert!(bad["next"].as_str().unwrap().starts_with(&fetch), "{bad}");
    assert_eq!((&code["exit"], &code["why"]), (&json!({ "code": 7 }), &json!("exit code 7")), "{code}");
    let words = ["git merge looop/good", "the check `bad` failed", "exit code 7"];
    scene.profile.looop(&["ls", "--all"]).ok().prints(&words);
    for (id, row, words) in [
        ("good", &good, "good exit code 0 in "),
        ("bad", &bad, "the check `bad` failed"),
        ("code", &code, "exit     exit code 7"),
    ] {
        let one = scene.profile.looop(&["worker", "show", id, "--json"]).ok().json();
        assert_eq!(one["worker"], *row, "{id}");
        let text = scene.profile.looop(&["worker", "show", id]).ok().stdout;
        let archive = format!("archive  workers/past/{}", row["past"].as_str().unwrap());
        assert!(text.contains(words) && text.contains(&archive), "{words}: {text}");
        let next = row["next"].as_str().is_none_or(|next| text.contains(&format!("next     {next}")));
        assert!(next && text.contains(row["branch"].as_str().unwrap_or_default()), "{text}");
    }
    // A line of an earlier version has none of this, and is read.
    let index = scene.profile.data().join("workers/past/index.jsonl");
    let old = r#"{"dir":"old@5","id":"old","goal":null,"kind":"agent","runner":null,"by":"user","phase":"done","created_ms":5,"ended_ms":6,"cost_micros":7}"#;
    let lines = fs::read_to_string(&index).unwrap();
    fs::write(&index, format!("{old}\n{lines}")).unwrap();
    let row = scene.row("old");
    assert!(row["state"] == "done" && row["why"].is_null() && row["next"].is_null(), "{row}");
}

/// Starts `w1`, which commits, and renames its repository before it ends. Returns both paths of the repository.
fn source_goes_away(scene: &Scene) -> (PathBuf, PathBuf) {
    let (repo, away) = (scene.repo(), scene.repo().with_file_name("away"));
    scene.start_and_commit("w1", "", "while [ ! -e .git/go ]; do sleep 0.02; done");
    fs::rename(&repo, &away).unwrap();
    fs::write(scene.clone_of("w1").join(".git/go"), "").unwrap();
    (repo, away)
}

#[test]
#[ignore = "slow"]
fn a_branch_that_could_not_be_fetched_is_tried_again_by_each_beat() {
    let scene = Scene::new();
    let (repo, away) = source_goes_away(&scene);
    let row = scene.wait_end("w1");
    let why = row["why"].as_str().unwrap().to_owned();
    let words = ["its branch could not be fetched: ", "cannot be opened"];
    assert!(why.starts_with(words[0]) && why.contains(words[1]), "{why}");
    assert!(!why.contains('{') && !why.contains("schema_version"), "the inner sentence alone: {why}");
    assert_eq!(row["state"], "failed");
    // The source is gone: beats change nothing, and the clone stays where it is.
    scene.profile.looop(&["tick"]).ok();
    let before = scene.profile.read("workers/w1/state.json");
    scene.profile.looop(&["tick"]).ok();
    assert_eq!(scene.profile.read("workers/w1/state.json"), before);
    assert_eq!(scene.row("w1")["past"], Value::Null, "it waits for its branch");
    // Another worker of its name would end these tries.
    let again = scene.profile.looop(&["worker", "start", "w1", "--", "true"]).exits(1);
    again.warns(&["its branch could not be fetched yet", "looop prune w1 --force"]);
    fs::rename(&away, &repo).unwrap();
    scene.profile.looop(&["tick"]).ok();
    let row = scene.row("w1");
    assert_eq!((&row["state"], &row["branch"]), (&json!("exited"), &json!("looop/w1")), "{row}");
    assert_eq!((&row["why"], &row["next"]), (&Value::Null, &json!("git merge looop/w1")), "{row}");
    assert_eq!(git_in(&repo, &["show", "looop/w1:new"]), "new\n");
    let journal = scene.profile.read("journal.md");
    assert!(journal.contains("next: git merge looop/w1 [worker w1]"), "{journal}");
    scene.start("w1", "", "true");
    scene.wait_end("w1");
}

#[test]
fn a_branch_that_cannot_be_fetched_keeps_its_name_until_its_work_is_given_up() {
    let scene = Scene::new();
    source_goes_away(&scene);
    scene.wait_end("w1");
    assert_eq!(scene.profile.looop(&["worker", "start", "w1", "--", "true"]).code, 1);
    scene.profile.looop(&["prune", "w1", "--force"]).ok();
    scene.profile.looop(&["worker", "start", "w1", "--", "true"]).ok();
    assert_eq!(scene.wait_end("w1")["state"], "exited");
}

/// The notifier hears of each end once, and `wait` exits with it; a lost worker is found by a beat.
#[test]
fn each_end_is_notified_once_and_is_the_exit_code_of_a_wait() {
    let scene = Scene::new();
    let rest = "sleep 600";
    let rows = [
        (
            "good",
            "good",
            WORK,
            "done",
            0,
            "good done: the check `good` passed, branch looop/good; next: git merge looop/good\n",
        ),
        ("plain", "", "true", "done", 0, "plain exited: exit code 0\n"),
        (
            "bad",
            "bad",
            WORK,
            "failed",
            1,
            "bad failed: the check `bad` failed: exit code 1; next: git fetch /",
        ),
        ("ended", "", rest, "stopped", 4, "ended killed: the user or a move ended it\n"),
        ("gone", "", rest, "failed", 1, "gone lost: its supervisor ended while it was running\n"),
    ];
    for (id, check, script, ..) in rows {
        scene.start(id, check, script);
    }
    assert_eq!(scene.profile.looop(&["wait", "gone", "--timeout", "50ms"]).code, 124);
    scene.profile.looop(&["kill", "ended"]).ok();
    let pid = scene.row("gone")["pid"].as_i64().unwrap();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    for (id, _, _, _, code, line) in rows {
        let waited = scene.profile.looop(&["wait", id, "--timeout", "60s"]).exits(code);
        assert!(waited.stdout.starts_with(line), "{}", waited.stdout);
    }
    let sent = || -> Vec<Value> {
        scene.notices().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    wait_until("the supervisors' notices", || sent().len() == 4);
    // The first beat finds the lost worker, and archives those whose notice was sent before.
    scene.profile.looop(&["tick"]).ok();
    scene.profile.looop(&["tick"]).ok();
    let all = sent();
    assert_eq!(all.len(), rows.len(), "{all:?}");
    for (id, _, _, kind, code, _) in rows {
        let notice = all.iter().find(|notice| notice["worker"] == id).unwrap();
        assert_eq!(notice["kind"], kind, "{notice}");
        let wanted = if id == "good" {
            "done: the check `good` passed, branch looop/good; next: git merge looop/good"
        } else {
            ""
        };
        assert!(notice["text"].as_str().unwrap().contains(wanted), "{notice}");
        assert_eq!(scene.profile.looop(&["wait", id]).code, code, "archived or not");
    }
    assert!(scene.row("good")["past"].is_string());
    assert_eq!(sent().len(), rows.len());
}

#[test]
fn the_commands_that_are_named_for_an_ended_worker_work() {
    let scene = Scene::new();
    scene.start("w1", "", "echo seen; echo new >new");
    scene.wait_end("w1");
    let look = "looop ls --all, looop logs w1";
    scene.profile.looop(&["wait"]).exits(3).prints(&[look]);
    let status = scene.profile.looop(&["status"]).ok().prints(&[look]).stdout;
    assert!(!status.contains("looop attach"), "{status}");
    scene.profile.looop(&["logs", "w1"]).ok().prints(&["seen"]);
    assert_ne!(scene.profile.looop(&["attach", "w1"]).code, 0);
}
