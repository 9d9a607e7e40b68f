//! What works in sandboxes of each kind, and what is said where one cannot be made.

mod agents;
mod bad;
mod builds;
mod internet;
mod kept;
mod lacks;
mod network;
mod starts;

use serde_json::json;

pub use kept::pretend;

use crate::support::rows::kill;

use crate::support::pi::skipped;
use crate::support::profile::{NOOP, Profile, git_in, has_bwrap, wait_until};

/// Returns a profile whose decider does nothing; `None` if bubblewrap is missing, and the test is skipped.
fn profile() -> Option<Profile> {
    if !has_bwrap() {
        skipped("missing: bwrap");
        return None;
    }
    Some(Profile::scripted(&[NOOP]))
}

/// Whether as much can be had as this level on this machine.
pub fn has(level: &str) -> bool {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({ "sandbox": { "worker": level } }));
    let had = profile.looop(&["worker", "start", "w1", "--", "true"]).code == 0;
    if !had {
        skipped(&format!("no {level} sandbox"));
    }
    had
}

#[test]
#[ignore = "slow"]
fn a_worker_speaks_to_its_supervisor_from_each_kind_of_box() {
    for level in ["full", "partial", "none"].into_iter().filter(|level| has(level)) {
        let profile = Profile::scripted(&[NOOP]);
        profile.config_more(json!({ "sandbox": { "worker": level } }));
        let script = "echo found | looop report r.md && looop flag help; sleep 600";
        profile.looop(&["worker", "start", "w1", "--", "sh", "-c", script]).ok();
        wait_until("the flag", || profile.worker("w1")["flag"].is_object());
        assert_eq!(profile.worker("w1")["sandbox"], level);
        assert_eq!(profile.read("reports/w1/r.md"), "found\n");
    }
}

#[test]
fn only_a_box_is_refused_a_place_that_holds_the_home_directory() {
    let profile = Profile::scripted(&[NOOP]);
    let place = profile.path("").to_str().unwrap().to_owned();
    let start = |id: &str| profile.looop(&["worker", "start", id, "--cwd", &place, "--", "true"]);
    for kind in ["worker", "verify"] {
        profile.config_more(json!({ "sandbox": { "worker": "none", "verify": "none", kind: "auto" } }));
        let refused = start("w1");
        assert_eq!(refused.code, 1, "{}", refused.stdout);
        assert!(refused.stderr.contains("which holds the home directory"), "{}", refused.stderr);
    }
    profile.config_more(json!({ "sandbox": { "worker": "none", "verify": "none" } }));
    start("w1").ok();
}

/// All processes that were started with this text among their arguments.
fn running(text: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}

#[test]
fn nothing_of_a_worker_in_a_full_box_outlives_its_supervisor() {
    if !has("full") {
        return;
    }
    // By pasta, by the relay, and by bubblewrap alone.
    for network in ["internet", "model", "off"] {
        let profile = Profile::scripted(&[NOOP]);
        profile.config_more(json!({
            "sandbox": { "worker": "full", "network": { "worker": network } },
            "runners": { "sh": { "base_url": "http://127.0.0.1:9" } },
        }));
        let text = profile.path("").display().to_string();
        // Deaf, and one of them in a session of its own.
        let stay = |name: &str, quote: &str| {
            let quiet = format!("trap {quote}{quote} HUP TERM INT");
            format!("{quiet}; touch {name}; while :; do sleep 0.1; done; : {text}")
        };
        let (ready, daemon) = (stay("ready", "'"), stay("daemon", "\""));
        let line = format!("setsid sh -c '{daemon}' & {ready}");
        profile.looop(&["worker", "start", "w1", "--", "sh", "-c", &line]).ok();
        let made = |name: &str| profile.worker_file("w1", name).exists();
        wait_until("it runs", || made("ready") && made("daemon"));
        kill("-KILL", profile.worker_pid("w1", "supervisor"));
        wait_until("all of it to be gone", || running(&text) == 0);
    }
}

#[test]
fn a_check_in_a_full_box_does_not_outlive_its_supervisor() {
    if !has("full") {
        return;
    }
    let profile = Profile::scripted(&[NOOP]);
    let text = profile.path("").display().to_string();
    let line = format!("trap '' HUP TERM INT; touch ready; while :; do sleep 0.1; done; : {text}");
    profile.config_more(json!({ "verify": { "stays": ["sh", "-c", line] } }));
    profile.looop(&["worker", "start", "w1", "--verify", "stays", "--", "true"]).ok();
    wait_until("it runs", || profile.worker_file("w1", "ready").exists());
    kill("-KILL", profile.worker_pid("w1", "supervisor"));
    wait_until("all of it to be gone", || running(&text) == 0);
}

#[test]
#[ignore = "slow"]
fn only_full_sandboxes_free_a_worker_and_its_checks_from_an_approval() {
    if !has("full") {
        return;
    }
    let wanted = r#"{"move":"start_worker","id":"w1","brief":"b","why":"w","verify":"tests"}"#;
    for (worker, verify) in [("full", "full"), ("full", "partial"), ("partial", "full"), ("none", "full")] {
        let profile = Profile::scripted(&[wanted, NOOP]);
        profile.config_more(json!({
            "worker": "mine",
            "runners": { "scripted": profile.scripted_runner(), "mine": { "worker": ["true", "{brief}"] } },
            "verify": { "tests": ["true"] },
            "sandbox": { "worker": worker, "verify": verify },
        }));
        profile.looop(&["tick"]).ok();
        let is_free = (worker, verify) == ("full", "full");
        assert_eq!(profile.asks().len(), usize::from(!is_free), "{worker} {verify}");
        assert_eq!(profile.data().join("workers/w1").exists(), is_free, "{worker} {verify}");
    }
}

/// Each command of the config is `sh` with a script beside the config; the worker's is a link to another folder.
#[test]
fn scripts_beside_the_config_are_found_and_shown_in_each_kind_of_box() {
    for level in ["full", "partial", "none"].into_iter().filter(|level| has(level)) {
        let profile = Profile::scripted(&[NOOP]);
        let script = |name: &str, body: &str| std::fs::write(profile.path(name), body).unwrap();
        std::fs::create_dir(profile.path("dotfiles")).unwrap();
        script("dotfiles/work.sh", "cat \"$1\" >brief.txt; echo ended");
        std::os::unix::fs::symlink("dotfiles/work.sh", profile.path("work.sh")).unwrap();
        script("check.sh", "grep -q 'THE WORK' brief.txt");
        script("fix.sh", "cat >/dev/null; echo fixed >state.txt; echo ended");
        script("notify.sh", &format!("cat >>{}", profile.path("told").display()));
        profile.config_more(json!({
            "runners": { "mine": { "worker": ["sh", "work.sh", "{brief}"], "fix": ["sh", "fix.sh"] } },
            "worker": "mine",
            "verify": { "ok": ["sh", "check.sh"] },
            "notify": ["sh", "notify.sh"],
            "sandbox": { "worker": level, "verify": level, "fix": level },
        }));
        profile.looop(&["worker", "start", "w1", "THE WORK", "--verify", "ok"]).ok();
        wait_until("its end", || {
            ["done", "failed"].contains(&profile.worker("w1")["state"].as_str().unwrap())
        });
        let worker = profile.worker("w1");
        assert_eq!((&worker["sandbox"], &worker["state"]), (&json!(level), &json!("done")), "{worker}");
        wait_until("the notifier", || profile.path("told").exists());

        let repo = profile.path("repo");
        std::fs::create_dir(&repo).unwrap();
        git_in(&repo, &["init", "-q"]);
        git_in(&repo, &["commit", "-qm", "one", "--allow-empty"]);
        let test = "grep -q fixed state.txt";
        let words =
            ["fix", "--repo", repo.to_str().unwrap(), "--issue", "x", "--test", test, "--runner", "mine"];
        profile.looop(&words).ok();
        assert_eq!(std::fs::read_to_string(repo.join("state.txt")).unwrap(), "fixed\n");
    }
}
