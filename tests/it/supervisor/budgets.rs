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
#[ignore = "slow"]
fn workers_side_by_side_end_at_the_days_cap_and_a_user_raises_it() {
    early_in_the_hour();
    let profile = spenders(json!({ "day_usd": 1.0, "worker_usd": 1.0 }));
    for id in ["w1", "w2", "w3"] {
        start(&profile, id, &[]).ok();
    }
    wait_until("all of them to end", || rows(&profile).iter().all(|row| row["state"] == "failed"));
    let spent = cents(&profile);
    // A turn may cost $0.25, so that the last worker stops where no other turn has room.
    assert!((74..=100).contains(&spent), "{spent} cents of 100");
    for row in rows(&profile) {
        let why = row["why"].as_str().unwrap();
        assert!(why.contains("the budget of day 20") && why.contains("it resets at"), "{why}");
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
    let ask = profile.asks();
    assert!(ask.len() == 1 && ask[0]["ref"] == "budget.day_usd" && ask[0]["expires_ms"].is_i64(), "{ask:?}");
    let id = ask[0]["id"].as_str().unwrap();
    let raised = profile.looop(&["resume", "--budget"]).ok().stdout;
    assert!(raised.contains("the budget of day 20") && raised.contains("is $2.00 until"), "{raised}");
    assert!(raised.contains(&format!("{id} is closed")) && raised.lines().count() == 1, "{raised}");
    assert!(profile.asks().is_empty(), "the ask is answered");
    assert!(profile.looop(&["resume", "--budget"]).ok().stdout.contains("no budget is used up"));
    assert!(profile.looop(&["tick"]).ok().stdout.contains("noop"), "it decides again");
    start(&profile, "w5", &[]).ok();
    wait_until("the next cap", || rows(&profile).iter().all(|row| row["state"] == "failed"));
    assert!((170..=200).contains(&cents(&profile)), "{} cents of 200", cents(&profile));
    assert!(profile.looop(&["tick"]).ok().stdout.contains("held — the budget of day 20"));
    assert_eq!(profile.asks().len(), 1, "the raised cap is used up, which is another question");
    let low = profile.looop(&["resume", "--budget", "2"]);
    assert!(low.code != 0 && low.stderr.contains("is $2.00 already"), "{low:?}");
    let raised = profile.looop(&["resume", "--budget", "3.5"]).ok().stdout;
    assert!(raised.contains("is $3.50 until") && raised.lines().count() == 1, "{raised}");
    assert!(profile.asks().is_empty());
}

#[test]
fn a_bad_amount_raises_nothing() {
    let profile = spenders(json!({ "day_usd": 0 }));
    for bad in ["-1", "NaN", "inf", "0", "1e300", "two"] {
        let refused = profile.looop(&["resume", &format!("--budget={bad}")]);
        assert!(refused.code == 2 && refused.stderr.contains("is not an amount"), "{bad}: {refused:?}");
    }
    assert!(!profile.data().join("cost/raised.json").exists());
}

#[test]
fn a_lie_about_money_costs_a_worker_its_own_budget_and_stops_no_decision() {
    let profile = Profile::scripted(&[NOOP]);
    let mut runner = profile.scripted_runner();
    // The worker runs under the decider's own runner, so that a lie would be that runner's dearest call.
    let lies =
        "looop spend --usd 1000000; looop spend --usd 1000000 --tokens-in 18446744073709551615; sleep 600";
    runner["worker"] = json!(["sh", "-c", lies, "{brief}"]);
    for (budget, words, counted) in [
        (json!({ "day_usd": 1.0 }), "it spent its budget of $0.50 (half of budget.day_usd)", 50),
        (json!({ "hour_usd": 1.0 }), "it spent its budget of $0.50 (half of budget.hour_usd)", 100),
        (
            json!({ "day_usd": 2.0, "worker_usd": 0.2 }),
            "it spent its budget of $0.20 (budget.worker_usd)",
            120,
        ),
    ] {
        early_in_the_hour();
        let before = cents(&profile);
        profile.config_more(json!({ "budget": budget, "runners": { "scripted": runner } }));
        profile.looop(&["worker", "start", "liar", "do it", "--runner", "scripted"]).ok();
        wait_until("its end", || rows(&profile)[0]["state"] == "failed");
        let row = &rows(&profile)[0];
        assert!(row["why"].as_str().unwrap().contains(words), "{row}");
        assert_eq!(cents(&profile), counted, "{before} cents before");
        assert_eq!(row["cost_usd"].as_f64().unwrap() * 100.0, (counted - before) as f64);
        if before == 0 {
            let decided = profile.looop(&["tick"]).ok().stdout;
            assert!(decided.contains("noop"), "a decision has room: {decided}");
        }
    }
}

#[test]
#[ignore = "slow"]
fn what_a_worker_says_names_no_other_runner_and_a_bad_figure_counts_nothing() {
    let terminal =
        super::TmuxFixture::with(spenders(json!({ "day_usd": 10.0, "worker_usd": 3.0 })), &[], "sleep 600");
    let says = |spent: Value| {
        let mut stream = terminal.connect("worker.sock");
        let hello =
            json!({ "looop": looop::rules::worker::protocol::VERSION, "request": { "spend": spent } });
        std::io::Write::write_all(&mut stream, &looop::rules::worker::protocol::encode_json(&hello)).unwrap();
        super::reply(&mut stream)
    };
    for bad in [json!(-1), json!(0.5), json!("NaN"), json!(null), json!(1e30)] {
        let printed = says(json!({ "cost_micros": bad }));
        assert!(matches!(printed, looop::rules::worker::protocol::WireReply::Error(_)), "{bad}: {printed:?}");
    }
    assert_eq!(cents(&terminal.profile), 0);
    let long = "m".repeat(5_000);
    says(json!({ "cost_micros": 1_000_000, "runner": "scripted", "model": long, "basis": "assumed" }));
    says(json!({ "cost_micros": u64::MAX, "runner": "mine", "model": "claude-opus" }));
    terminal.wait_state("failed");
    assert_eq!(cents(&terminal.profile), 300);
    let by = |key: &str| {
        let all = terminal.profile.looop(&["cost", "all", "--by", key, "--json"]).ok().json();
        let rows = all["rows"].as_array().unwrap().iter();
        rows.map(|row| row["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((by("runner"), by("worker")), (vec!["command".to_owned()], vec!["w1".to_owned()]));
    assert!(by("model").iter().all(|model| model.len() <= 110), "{:?}", by("model"));
    // Its socket is gone with it, and a late word is an error that counts nothing.
    let socket = terminal.dir().join("worker.sock");
    let late =
        terminal.profile.command(&["spend", "--usd", "1"]).env("LOOOP_SOCKET", socket).output().unwrap();
    assert!(!late.status.success(), "{late:?}");
    assert_eq!(cents(&terminal.profile), 300);
}

#[test]
#[ignore = "slow"]
fn a_goal_an_hour_and_a_runner_have_caps_of_their_own() {
    for (budget, cap) in [
        (json!({ "goal_usd": 0.3 }), "goal g 20"),
        (json!({ "hour_usd": 0.3 }), "hour 20"),
        (json!({ "runner_usd": { "mine": 0.3 } }), "runner mine 20"),
    ] {
        early_in_the_hour();
        let mut budget = budget;
        budget["worker_usd"] = json!(1.0);
        let profile = spenders(budget.clone());
        profile.goal("g", "Spend it.\n");
        start(&profile, "w1", &["--goal", "g"]).ok();
        wait_until("its end", || rows(&profile)[0]["state"] == "failed");
        let why = rows(&profile)[0]["why"].as_str().unwrap().to_owned();
        assert!(why.contains(&format!("the budget of {cap}")), "{budget}: {why}");
        assert!((5..=30).contains(&cents(&profile)), "{budget}: {}", cents(&profile));
        assert!(start(&profile, "w2", &["--goal", "g"]).stderr.contains(&format!("the budget of {cap}")));
        let other = start(&profile, "w3", &[]);
        assert_eq!(other.code == 0, cap.starts_with("goal"), "{budget}: {other:?}");
        profile.looop(&["resume", "--budget"]).ok().prints(&[&format!("the budget of {cap}"), "is $0.60"]);
        start(&profile, "w4", &["--goal", "g"]).ok();
    }
}

#[test]
fn a_program_that_has_ended_is_checked_although_its_last_turn_used_the_budget_up() {
    let profile = Profile::scripted(&[NOOP]);
    let messages = json!({ "type": "result", "subtype": "success", "is_error": false, "result": "done",
        "total_cost_usd": 3.0, "usage": { "input_tokens": 1, "output_tokens": 1 }, "modelUsage": {} });
    // Without a line's end it is read when the program is gone.
    let script = format!("#!/bin/sh\nprintf '%s' '{messages}'\n");
    profile.stand_in("claude", &script, "/usr/local/bin:/usr/bin:/bin");
    profile.config_more(json!({
        "budget": { "day_usd": 1, "worker_usd": 1 },
        "verify": { "tests": ["true"] },
    }));
    let command = ["claude", "-p", "--output-format", "stream-json"];
    profile.looop(&[&["worker", "start", "w1", "--verify", "tests", "--"], &command[..]].concat()).ok();
    let row = profile.wait_worker("w1", &["done", "failed"]);
    assert_eq!((row["state"].as_str(), &row["cost_usd"]), (Some("done"), &json!(1.0)), "{row}");
}
