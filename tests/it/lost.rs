//! A memory that is lost or forged: what was used up stays used up, and nobody's words are taken for a user's.

use std::fs;

use serde_json::json;

use crate::races::{end, left, script, send, wait_for};
use crate::support::profile::{NOOP, Profile, wait_until};

/// What may become of `beat.json`.
type Loss = fn(&Profile);

const LOSSES: [Loss; 3] = [
    |profile| fs::write(profile.data().join("beat.json"), "").unwrap(),
    |profile| fs::remove_file(profile.data().join("beat.json")).unwrap(),
    |profile| {
        fs::remove_file(profile.data().join("beat.json")).unwrap();
        fs::write(profile.data().join("journal.md"), "").unwrap();
    },
];

/// Loses the memory and lets the user go on. Returns what the loop said of the loss.
#[track_caller]
fn lose(profile: &Profile, lose: Loss) -> String {
    lose(profile);
    let ran = profile.looop(&["tick"]).exits(1).prints(&["halted: "]);
    assert!(profile.looop(&["resume"]).ok().stdout.contains("the halt is over"));
    let prompt = profile.looop(&["tick", "--dry-run"]).ok().stdout;
    assert!(prompt.contains("without a line in the journal"), "the decider is told: {prompt}");
    ran.stderr
}

/// Kills the beat while its command runs, which writes its line into `sink` and goes on until there is a file `go`.
fn killed_at_work(profile: &Profile) {
    let tick = profile.spawn(&["tick"]);
    wait_for(profile, "working");
    send(&tick, rustix::process::Signal::KILL);
    assert_eq!(end(tick).code, -1);
}

/// A profile whose decider wants that command.
fn at_work() -> Profile {
    let profile = Profile::scripted(&[r#"{"move":"run","argv":["../work.sh"],"why":"w"}"#, NOOP]);
    profile.without_sandbox(&["run"]);
    // Its own path is on its command line, so that the test can see its end.
    let go = profile.path("go").display().to_string();
    script(
        &profile,
        "work.sh",
        &format!("echo ran >>sink\ntouch working\nwhile [ ! -e {go} ]; do sleep 0.01; done"),
    );
    profile
}

#[test]
#[ignore = "slow"]
fn a_yes_that_was_used_is_not_used_again_after_a_loss() {
    for loss in LOSSES {
        let profile = at_work();
        profile.looop(&["tick"]).ok();
        let ask = profile.approve_first();
        let id = ask["id"].as_str().unwrap();
        killed_at_work(&profile);
        let printed = lose(&profile, loss);
        assert!(printed.contains(&format!("each earlier approval counts as used: {id}")), "{printed}");
        for _ in 0..2 {
            profile.looop(&["tick"]).ok();
        }
        fs::write(profile.path("go"), "").unwrap();
        wait_until("the command to end", || left(&profile).is_empty());
        assert_eq!(fs::read_to_string(profile.path("sink")).unwrap(), "ran\n");
        assert!(profile.asks().is_empty());
        assert!(!profile.data().join(format!("asks/{id}.answer.json")).exists(), "it is put away");
    }
}

#[test]
fn a_command_that_was_cut_off_by_a_loss_is_not_made_again_in_silence() {
    for loss in LOSSES {
        let profile = at_work();
        profile.config_more(json!({ "policy": { "allow": [{ "argv": ["../work.sh"] }] } }));
        killed_at_work(&profile);
        fs::write(profile.path("go"), "").unwrap();
        wait_until("the command to end", || left(&profile).is_empty());
        loss(&profile);
        for _ in 0..2 {
            profile.looop(&["tick"]).exits(1).prints(&["a move may have been interrupted"]);
        }
        assert_eq!(fs::read_to_string(profile.path("sink")).unwrap(), "ran\n");
        assert_eq!(profile.asked(), 1);
    }
}

#[test]
fn resume_ends_the_halt_of_a_memory_that_no_beat_has_looked_for() {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop(&["tick"]).ok();
    fs::remove_file(profile.data().join("beat.json")).unwrap();
    profile.looop(&["status"]).exits(1).prints(&["halted: `beat.json` is gone"]);
    assert!(profile.looop(&["resume"]).ok().stdout.contains("the halt is over"));
    profile.looop(&["tick"]).ok();
    assert_eq!(profile.asked(), 2);
}

#[test]
#[ignore = "slow"]
fn after_a_loss_a_goal_is_a_humans_again_when_a_user_edits_it() {
    for loss in LOSSES {
        let profile = Profile::scripted(&[NOOP]);
        profile.goal("g", "goal: who wrote this?\n");
        profile.looop(&["tick"]).ok();
        let prompt = || profile.looop(&["tick", "--dry-run"]).ok().stdout;
        let shown_as_data =
            |prompt: &str| prompt.contains("# goal g, ") && prompt.contains("(data)\n\"goal: ");
        assert!(!shown_as_data(&prompt()));
        let printed = lose(&profile, loss);
        assert!(printed.contains("each goal counts as untrusted until you edit it"), "{printed}");
        assert!(shown_as_data(&prompt()), "{}", prompt());
        profile.looop(&["tick"]).ok();
        assert!(shown_as_data(&prompt()), "a decision takes no mark away");
        profile.goal("g", "goal: I wrote this.\n");
        assert!(!shown_as_data(&prompt()), "{}", prompt());
    }
}

#[test]
fn a_fresh_data_dir_has_lost_nothing() {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "goal: mine\n");
    let ran = profile.looop(&["tick"]).ok();
    assert_eq!(ran.stderr, "");
    assert_eq!(profile.read_json("beat.json")["untrusted_goals"], serde_json::json!([]));
}

#[test]
fn a_memory_with_an_impossible_time_is_corrupt() {
    for odd in [i64::MAX, i64::MIN, 253_402_300_800_000] {
        let profile = Profile::scripted(&[NOOP]);
        profile.looop(&["tick"]).ok();
        let mut beat = profile.read_json("beat.json");
        beat["last_ms"] = odd.into();
        fs::write(profile.data().join("beat.json"), beat.to_string()).unwrap();
        let ran = profile.looop(&["tick"]);
        assert!(ran.code == 1 && ran.stdout.contains("is not a valid time"), "{odd}: {ran:?}");
        profile.looop(&["resume"]).ok();
        profile.looop(&["tick"]).ok();
        assert_eq!(profile.asked(), 2, "{odd}");
    }
}

#[test]
fn odd_times_within_a_memory_do_no_harm() {
    for odd in [i64::MAX, i64::MIN] {
        let profile = Profile::scripted(&[NOOP]);
        profile.goal("g", "goal: g\n");
        profile.looop(&["tick"]).ok();
        let mut beat = profile.read_json("beat.json");
        beat["decides"] = json!([odd]);
        beat["converged"]["noop"]["at_ms"] = odd.into();
        beat["requeue"] = json!({ "set_ms": odd, "wait_ms": odd, "streak": u32::MAX });
        beat["backoff"] = json!({ "fails": u32::MAX, "at_ms": odd, "user_files": "" });
        beat["flaps"] = json!({ "s": { "count": u32::MAX, "at_ms": odd } });
        beat["served"] = json!({ "g": u64::MAX });
        beat["fired"] = json!({ "t": odd });
        fs::write(profile.data().join("beat.json"), beat.to_string()).unwrap();
        let schedule = json!({ "when": { "every_s": 60 }, "note": "n", "created_ms": odd });
        fs::write(profile.data().join("schedules/t.json"), schedule.to_string()).unwrap();
        profile.goal("g", "goal: another\n");
        assert!(profile.looop(&["tick"]).ok().stdout.contains(" noop "), "{odd}");
        profile.looop(&["status"]).ok();
    }
}
