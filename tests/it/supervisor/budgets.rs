//! Budgets that workers share with each other and with the beat.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::NOOP;
use crate::support::profile::{Profile, Ran, wait_until};

/// What agents of a runner do: say that they spent a cent, again and again, as long as they are let.
const SPENDER: &str = "while looop spend --usd 0.01; do :; done; sleep 600";

fn spenders(budget: Value) -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({
        "budget": budget,
        "runners": { "mine": { "worker": ["sh", "-c", SPENDER, "{brief}"] }, "scripted": profile.scripted_runner() },
    }));
    profile
}

/// A cap that began anew in the middle would let more through.
fn early_in_the_hour() {
    let ms = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() % 1_800_000;
    wait_until("half an hour with twenty seconds left", || ms() < 1_780_000);
}

fn rows(profile: &Profile) -> Vec<Value> {
    profile.looop(&["ls", "--all", "--json"]).ok().json()["workers"].as_array().unwrap().clone()
}

fn start(profile: &Profile, id: &str, more: &[&str]) -> Ran {
    profile.looop(&[&["worker", "start", id, "do it", "--runner", "mine"], more].concat())
}

fn cents(profile: &Profile) -> u64 {
    let rows = profile.looop(&["cost", "all", "--by", "worker", "--json"]).ok().json();
    let micros = rows["rows"].as_array().unwrap().iter().map(|row| row["cost_micros"].as_u64().unwrap());
    micros.sum::<u64>() / 10_000
}

#[test]
fn workers_side_by_side_end_at_the_days_cap_and_a_human_raises_it() {
    early_in_the_hour();
    let profile = spenders(json!({ "day_usd": 1.0 }));
    for id in ["w1", "w2", "w3"] {
        start(&profile, id, &[]).ok();
    }
    wait_until("all of them to end", || rows(&profile).iter().all(|row| row["state"] == "failed"));
    let spent = cents(&profile);
    // Each turn costs what the dearest before it did, so not one goes beyond; the last has room for no other's.
    assert!((97..=100).contains(&spent), "{spent} cents of 100");
    for row in rows(&profile) {
        let why = row["why"].as_str().unwrap();
        assert!(why.contains("the budget of day 20") && why.contains("it begins anew at"), "{why}");
    }
    let refused = start(&profile, "w4", &[]);
    assert!(refused.code == 1 && refused.stderr.contains("the budget of day"), "{refused:?}");
    for _ in 0..2 {
        let held = profile.looop(&["tick"]).ok().stdout;
        assert!(
            held.contains("held — the budget of day 20") && held.contains("looop resume --budget"),
            "{held}"
        );
    }
    let asks = profile.looop(&["asks", "--json"]).ok().json();
    let ask = &asks["asks"].as_array().unwrap()[..];
    assert!(ask.len() == 1 && ask[0]["ref"] == "budget.day_usd" && ask[0]["expires"].is_i64(), "{asks}");
    let raised = profile.looop(&["resume", "--budget"]).ok().stdout;
    assert!(raised.contains("the budget of day 20") && raised.contains("is $2.00 until"), "{raised}");
    assert!(profile.looop(&["resume", "--budget"]).ok().stdout.contains("no budget is used up"));
    assert!(profile.looop(&["tick"]).ok().stdout.contains("noop"), "it decides again");
    start(&profile, "w5", &[]).ok();
    wait_until("the next cap", || rows(&profile).iter().all(|row| row["state"] == "failed"));
    assert!((197..=200).contains(&cents(&profile)), "{} cents of 200", cents(&profile));
}

#[test]
fn a_goal_an_hour_and_a_runner_have_caps_of_their_own() {
    for (budget, cap) in [
        (json!({ "goal_usd": 0.3 }), "goal g 20"),
        (json!({ "hour_usd": 0.3 }), "hour 20"),
        (json!({ "runner_usd": { "mine": 0.3 } }), "runner mine 20"),
    ] {
        early_in_the_hour();
        let profile = spenders(budget.clone());
        profile.goal("g", "Spend it.\n");
        start(&profile, "w1", &["--goal", "g"]).ok();
        wait_until("its end", || rows(&profile)[0]["state"] == "failed");
        let why = rows(&profile)[0]["why"].as_str().unwrap().to_owned();
        assert!(why.contains(&format!("the budget of {cap}")), "{budget}: {why}");
        assert!((29..=30).contains(&cents(&profile)), "{budget}: {}", cents(&profile));
        assert!(start(&profile, "w2", &["--goal", "g"]).stderr.contains(&format!("the budget of {cap}")));
        let other = start(&profile, "w3", &[]);
        assert_eq!(other.code == 0, cap.starts_with("goal"), "{budget}: {other:?}");
        let raised = profile.looop(&["resume", "--budget"]).ok().stdout;
        assert!(raised.contains(&format!("the budget of {cap}")) && raised.contains("is $0.60"), "{raised}");
        start(&profile, "w4", &["--goal", "g"]).ok();
    }
}

#[test]
fn a_program_that_has_ended_is_checked_although_its_last_turn_used_the_budget_up() {
    let profile = Profile::scripted(&[NOOP]);
    let told = json!({ "type": "result", "subtype": "success", "is_error": false, "result": "done",
        "total_cost_usd": 3.0, "usage": { "input_tokens": 1, "output_tokens": 1 }, "modelUsage": {} });
    // Without a line's end it is read when the program is gone.
    let script = format!("#!/bin/sh\nprintf '%s' '{told}'\n");
    profile.stand_in("claude", &script, "/usr/local/bin:/usr/bin:/bin");
    profile.config_more(json!({
        "budget": { "day_usd": 1, "worker_usd": 1 },
        "verify": { "tests": ["true"] },
    }));
    let argv = [
        "worker",
        "start",
        "w1",
        "--verify",
        "tests",
        "--",
        "claude",
        "-p",
        "--output-format",
        "stream-json",
    ];
    profile.looop(&argv).ok();
    let is_over = |row: &Value| ["done", "failed"].contains(&row["state"].as_str().unwrap());
    wait_until("its verdict", || rows(&profile).iter().all(is_over));
    let row = &rows(&profile)[0];
    assert_eq!((row["state"].as_str(), &row["cost_usd"]), (Some("done"), &json!(3.0)), "{row}");
}
