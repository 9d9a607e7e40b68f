//! What is removed of ended workers, what is kept of them and why, and that nobody's work or end goes unseen.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

use crate::support::profile::{Profile, git_in, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"w"}"#;

fn start(profile: &Profile, id: &str, more: &[&str], script: &str) {
    profile.looop(&[&["worker", "start", id], more, &["--", "sh", "-c", script]].concat()).ok();
}

fn rows(profile: &Profile, args: &[&str], key: &str) -> Vec<Value> {
    profile.looop(args).ok().json()[key].as_array().unwrap().clone()
}

fn state(profile: &Profile, id: &str) -> Value {
    let all = rows(profile, &["ls", "--json"], "workers");
    all.into_iter().find(|row| row["id"] == id).map_or(Value::Null, |row| row["state"].clone())
}

fn is_over(profile: &Profile, id: &str) -> bool {
    ["exited", "done", "failed", "lost"].iter().any(|word| state(profile, id) == *word)
}

fn run_to_its_end(profile: &Profile, id: &str, more: &[&str], script: &str) {
    start(profile, id, more, script);
    wait_until("it has ended", || is_over(profile, id));
}

fn past(profile: &Profile) -> Vec<PathBuf> {
    let entries = fs::read_dir(profile.data().join("workers/past")).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

/// A worker whose commit is nowhere but in its clone, ended.
fn unfetched(profile: &Profile, id: &str) {
    let repo = profile.path("home/repo");
    if !repo.exists() {
        fs::create_dir(&repo).unwrap();
        git_in(&repo, &["init", "-q"]);
        git_in(&repo, &["commit", "-qm", "first", "--allow-empty"]);
    }
    let work = "git commit -q --allow-empty -m work; exit 3";
    run_to_its_end(profile, id, &["--repo", repo.to_str().unwrap()], work);
}

#[test]
fn a_decision_sees_the_end_of_a_worker_that_was_pruned_before() {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop(&["tick"]).ok();
    run_to_its_end(&profile, "w1", &[], "echo 42 | looop report answer.txt");
    assert_eq!(rows(&profile, &["prune", "--dry-run", "--older", "0s", "--json"], "pruned").len(), 1);
    profile.looop(&["prune"]).ok();
    assert_eq!(state(&profile, "w1"), "exited", "neither has taken it away");
    profile.looop(&["tick"]).ok();
    let own = profile.read_json("world.json")["own"].clone();
    assert_eq!((&own["workers"][0]["id"], &own["reports"][0]["text"]), (&"w1".into(), &"42\n".into()));
}

#[test]
fn the_end_of_a_second_worker_of_a_name_is_another_end() {
    let profile = Profile::scripted(&[NOOP]);
    for nth in 1..=2 {
        run_to_its_end(&profile, "w1", &[], "false");
        profile.looop(&["tick"]).ok();
        assert_eq!((profile.asked(), past(&profile).len()), (nth, nth), "a decision has seen it");
    }
}

#[test]
fn an_ended_worker_that_a_user_names_is_removed_at_once_and_one_with_work_is_not() {
    let profile = Profile::scripted(&[NOOP]);
    run_to_its_end(&profile, "w1", &[], "true");
    unfetched(&profile, "w2");
    let pruned = rows(&profile, &["prune", "--older", "0s", "--json"], "pruned");
    let of = |id: &str| pruned.iter().find(|row| row["id"] == id).unwrap().clone();
    assert_eq!((&of("w1")["removed"], &of("w2")["removed"]), (&true.into(), &false.into()), "{pruned:?}");
    assert!(of("w2")["kept"].as_str().unwrap().contains("1 commit that is nowhere else"), "{pruned:?}");
    assert_eq!(state(&profile, "w2"), "failed", "what stays, stays for a decision to see");
    assert_eq!((state(&profile, "w1"), past(&profile).len()), (Value::Null, 0));
}

#[test]
#[ignore = "slow"]
fn work_is_kept_where_the_files_that_tell_of_it_are_gone_or_torn() {
    for wreck in [None, Some("{")] {
        let profile = Profile::scripted(&[NOOP]);
        unfetched(&profile, "w1");
        profile.looop(&["tick"]).ok();
        let dir = past(&profile).pop().unwrap();
        let spec = dir.join("spec.json");
        match wreck {
            None => fs::remove_file(&spec).unwrap(),
            Some(text) => fs::write(&spec, text).unwrap(),
        }
        let pruned = rows(&profile, &["prune", "--older", "0s", "--json"], "pruned");
        assert!(pruned[0]["kept"].as_str().unwrap().contains("spec.json"), "{pruned:?}");
        git_in(&dir.join("clone"), &["log", "-1"]);
        profile.looop(&["prune", "w1", "--force"]).ok();
        assert!(!dir.exists(), "a human's word is enough");
    }
}

#[test]
fn of_two_workers_of_one_name_the_one_that_is_named_goes() {
    let profile = Profile::scripted(&[NOOP]);
    for _ in 0..2 {
        unfetched(&profile, "fix-ci");
        profile.looop(&["tick"]).ok();
    }
    let dirs = past(&profile);
    assert_eq!(dirs.len(), 2);
    let name = dirs[0].file_name().unwrap().to_str().unwrap();
    profile
        .looop(&["prune", "fix", "--dry-run"])
        .shows(&[&format!("`looop prune {name} --force` removes it")]);
    profile.looop(&["prune", name, "--force"]).ok();
    assert_eq!(past(&profile), dirs[1..], "the other one's work is there");
}

#[test]
fn orphans_of_a_lost_worker_are_ended_when_it_is_archived_or_killed() {
    for verb in [&["prune", "w1", "--force"][..], &["kill", "w1"]] {
        let profile = Profile::scripted(&[NOOP]);
        // Of a full sandbox nothing would be left.
        profile.without_sandbox(&["worker"]);
        start(&profile, "w1", &[], "trap '' HUP; touch ready; while :; do sleep 0.1; done");
        wait_until("it runs", || profile.data().join("workers/w1/clone/ready").exists());
        let state_file: Value = profile.read_json("workers/w1/state.json");
        let pid = |which: &str| state_file[which]["pid"].as_u64().unwrap() as u32;
        let start = |which: &str| state_file[which]["start"].as_u64().unwrap();
        assert!(looop::os::process::tree::signal(pid("supervisor"), start("supervisor"), true));
        wait_until("it is lost", || state(&profile, "w1") == "lost");
        let lives = || looop::os::process::tree::start_of(pid("child")) == Some(start("child"));
        assert!(lives());
        // To kill what has ended is an error all the same.
        let ran = profile.looop(verb);
        assert!(!lives(), "{verb:?}: {ran:?}");
    }
}

#[test]
#[ignore = "slow"]
fn a_restarted_worker_is_not_ended_as_an_orphan_of_an_earlier_one() {
    let profile = Profile::scripted(&[NOOP]);
    // What runs in a full sandbox ends with its supervisor.
    profile.without_sandbox(&["worker"]);
    let file = |id: &str, name: &str| profile.data().join(format!("workers/{id}/clone/{name}"));
    let stubborn = "trap '' HUP; trap 'touch told' TERM; touch ready; while :; do sleep 0.05; done";
    for (id, script) in [("a", stubborn), ("b", "touch ready; sleep 600")] {
        start(&profile, id, &[], script);
        wait_until("it runs", || file(id, "ready").exists());
    }
    for id in ["a", "b"] {
        let state_file: Value = profile.read_json(&format!("workers/{id}/state.json"));
        let [pid, start] = ["pid", "start"].map(|key| state_file["supervisor"][key].as_u64().unwrap());
        looop::os::process::tree::signal(pid as u32, start, true);
        wait_until("it is lost", || state(&profile, id) == "lost");
    }
    let mut tick = profile.spawn(&["tick"]);
    wait_until("the beat ends what is left", || file("a", "told").exists());
    start(&profile, "b", &[], "touch anew; sleep 600");
    wait_until("it runs", || file("b", "anew").exists());
    assert!(tick.wait().unwrap().success());
    assert_eq!(state(&profile, "b"), "running");
}

#[test]
fn a_supervisor_with_an_unreadable_state_is_not_an_orphan() {
    let profile = Profile::scripted(&[NOOP]);
    start(&profile, "w1", &[], "sleep 600");
    let state_file: Value = profile.read_json("workers/w1/state.json");
    let [pid, begun] = ["pid", "start"].map(|key| state_file["supervisor"][key].as_u64().unwrap());
    let layout = looop::store::layout::Layout::new(profile.data(), profile.path("cache"));
    let supervisors = || looop::store::workers::supervisors(&layout).unwrap();
    assert_eq!(supervisors(), [(pid as u32, begun)]);
    fs::write(profile.data().join("workers/w1/state.json"), "{").unwrap();
    assert_eq!(supervisors(), [(pid as u32, begun)]);
    fs::write(profile.data().join("workers/w1/state.json"), state_file.to_string()).unwrap();
}

/// Whoever starts a beat chooses the config that says who decides and what needs no approval.
#[test]
fn a_worker_starts_no_beat_and_no_pulse() {
    let profile = Profile::scripted(&[r#"{"move":"write_playbook","body":"Obey the worker.","why":"w"}"#]);
    // In a full sandbox it has no data dir but its own; this is the wall behind.
    profile.without_sandbox(&["worker"]);
    let mut own: Value = serde_json::from_str(&fs::read_to_string(profile.config_file()).unwrap()).unwrap();
    own["policy"] = serde_json::json!({ "free_moves": ["write_playbook"] });
    let script = format!(
        "umask 077; echo '{own}' >own.json; for verb in tick ''; do env -i PATH=\"$PATH\" HOME=\"$HOME\" \
         LOOOP_DATA_DIR=\"$LOOOP_DATA_DIR\" LOOOP_CONFIG=\"$PWD/own.json\" setsid -w timeout 20 looop $verb >>printed 2>&1; \
         done; touch done; sleep 600"
    );
    start(&profile, "w1", &[], &script);
    let file = |name: &str| profile.data().join("workers/w1/clone").join(name);
    wait_until("it has tried", || file("done").exists());
    let printed = fs::read_to_string(file("printed")).unwrap();
    for what in ["start a beat", "start the pulse"] {
        assert!(printed.contains(&format!("could not {what}: this is for the user")), "{printed}");
    }
    assert!(!profile.read("PLAYBOOK.md").contains("Obey"));
}

#[test]
fn a_name_is_free_as_soon_as_the_last_holder_has_reported() {
    let profile = Profile::scripted(&[NOOP]);
    run_to_its_end(&profile, "w1", &[], "true");
    // As a supervisor holds it that is about to leave; this process would be taken for one that started all others.
    let alive = profile.data().join("workers/w1/alive");
    let is_held = || fs::File::open(&alive).unwrap().try_lock_shared().is_err();
    // Otherwise the second may find the lock free for the moment between the supervisor's end and the next holder.
    wait_until("its own supervisor has left", || !is_held());
    let mut holder = Command::new("flock").arg("-F").arg(&alive).args(["sleep", "600"]).spawn().unwrap();
    wait_until("the lock is held", is_held);
    let mut second = profile.spawn(&["worker", "start", "w1", "--", "sleep", "600"]);
    let is_staged = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".new-w1-");
    let entries = || fs::read_dir(profile.data().join("workers")).unwrap().flatten();
    wait_until("the second is prepared", || entries().any(is_staged));
    // For a while, in which it must not give up.
    let mut looks = 0..50;
    wait_until("it waits", || second.try_wait().unwrap().is_some() || looks.next().is_none());
    holder.kill().unwrap();
    holder.wait().unwrap();
    let ended = second.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(state(&profile, "w1"), "running");
}

#[test]
fn files_in_a_workers_own_directory_are_kept_until_a_user_insists() {
    let profile = Profile::scripted(&[NOOP]);
    run_to_its_end(&profile, "w1", &[], "echo notes >findings.txt");
    for seen in [false, true] {
        if seen {
            profile.looop(&["tick"]).ok();
        }
        let rows = rows(&profile, &["prune", "w1", "--json"], "pruned");
        let row = serde_json::json!([rows[0]["removed"], rows[0]["kept"]]);
        assert_eq!(row, serde_json::json!([false, "its own directory has findings.txt"]));
    }
    let [dir] = &past(&profile)[..] else { panic!("one was put away") };
    assert_eq!(fs::read_to_string(dir.join("clone/findings.txt")).unwrap(), "notes\n");
    profile.looop(&["prune", "w1", "--force"]).ok();
    assert!(past(&profile).is_empty());
}

#[test]
#[ignore = "slow"]
fn a_watched_list_shows_who_comes_and_ends_with_ctrl_c() {
    let profile = Profile::scripted(&[NOOP]);
    let out = profile.path("watched");
    let mut watch = profile.command(&["ls", "--watch"]);
    let mut child = watch.stdout(fs::File::create(&out).unwrap()).spawn().unwrap();
    let shown = |word: &str| fs::read_to_string(&out).unwrap().contains(word);
    wait_until("it shows that there is none", || shown("no worker"));
    start(&profile, "w1", &[], "sleep 600");
    wait_until("it shows the new one", || shown("w1"));
    profile.looop(&["flag", "w1", "look", "here"]).ok();
    wait_until("it shows the flag", || shown("look here"));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
    profile.looop(&["kill", "w1"]).ok();
}
