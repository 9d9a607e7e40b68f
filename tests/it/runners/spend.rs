//! Spend from end to end: a call that was cut off, reports that add up, and the doctor's question.

use serde_json::{Value, json};

use super::{ALL, Decider, NOOP, is_sandboxed, left_over, processes, profile};
use crate::support::decider::calls;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::profile::{Profile, wait_until};

fn cost(profile: &Profile, args: &[&str]) -> String {
    profile.looop(&[&["cost"], args].concat()).ok().stdout
}

#[test]
#[ignore = "needs agent CLIs"]
fn a_call_that_was_cut_off_is_settled_with_what_was_set_aside() {
    for decider in [Decider::Anthropic, Decider::Pi] {
        let [first, last] =
            [(111, 22, 333, 44), (1, 1, 0, 0)].map(|(i, o, r, w)| Reply::text(NOOP).usage(i, o, r, w));
        let server = ModelServer::start(vec![first, Reply::hang(), last]);
        let Some(profile) = profile(decider, &server.url()) else { continue };
        profile.looop(&["tick"]).ok();
        let paid = profile.charges()[0]["usage"]["cost_micros"].clone();
        profile.goal("g", "---\ngoal: something new\n---\n");
        let mut child = profile.spawn(&["tick"]);
        server.wait_for_requests(2);
        let inflight = profile.read_json("beat.json")["inflight"].clone();
        assert_eq!(inflight["reserved_micros"], paid, "{decider:?}: {inflight}");
        let in_box = processes(|process| is_sandboxed(&profile, process));
        assert_eq!(!in_box.is_empty(), decider.is_program(), "{decider:?}: what works is seen: {in_box:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        profile.looop(&["run", "g"]).ok();
        let all = profile.charges();
        let bases: Vec<&str> = all.iter().map(|charge| charge["usage"]["basis"].as_str().unwrap()).collect();
        assert_eq!((bases.len(), bases[1]), (3, "assumed"), "{decider:?}: {bases:?}");
        assert_eq!((&all[1]["usage"]["cost_micros"], &all[1]["beat"]), (&paid, &inflight["beat"]));
        profile.looop(&["cost"]).ok().prints(&["of it assumed"]);
        let left = left_over(&profile);
        assert!(left.is_empty(), "{decider:?}: what the killed beat left is ended: {left:?}");
    }
}

#[test]
fn reports_add_up_whatever_they_are_grouped_by() {
    let server = ModelServer::start(vec![Reply::text(NOOP).usage(101, 7, 33, 5)]);
    let Some(profile) = profile(Decider::Anthropic, &server.url()) else { return };
    for beat in 0..3 {
        for name in ["a", "b", "c"] {
            profile.sensor(&format!("{name}.sh"), &format!(r#"echo '{{"signal":{beat},"detail":null}}'"#));
        }
        profile.looop(&["tick"]).ok();
    }
    let sum = |value: &Value| {
        value["rows"].as_array().unwrap().iter().map(|row| row["cost_micros"].as_u64().unwrap()).sum::<u64>()
    };
    let ledger: u64 = profile.charges().iter().map(|c| c["usage"]["cost_micros"].as_u64().unwrap()).sum();
    assert!(ledger > 0);
    for by in ["day", "goal", "worker", "runner", "model", "sensor", "beat"] {
        let value: Value = serde_json::from_str(&cost(&profile, &["all", "--by", by, "--json"])).unwrap();
        assert_eq!((sum(&value), value["total"]["cost_micros"].as_u64()), (ledger, Some(ledger)), "by {by}");
    }
    let table = cost(&profile, &["--by", "sensor"]);
    assert!(table.contains("total") && !table.contains('\u{2588}'), "no bars in a file: {table}");
    // 33 of 139 came from the cache.
    profile.looop(&["cost", "--by", "beat"]).ok().prints(&["(23 %)"]);
    let csv = cost(&profile, &["--by", "runner", "--csv"]);
    let begin = csv.starts_with("key,calls,tokens_in,tokens_cached,");
    assert!(begin && csv.contains("\nmine,3,303,99,15,21,"), "{csv}");
    let today = profile.looop(&["status", "--json"]).ok().json()["cost"]["day"].as_str().unwrap().to_owned();
    for since in [today.as_str(), "2000-01-01", "1h"] {
        profile.looop(&["cost", "--since", since, "--by", "runner", "--csv"]).ok().prints(&["mine,3,"]);
    }
    profile.looop(&["cost", "--since", "9999-12-31"]).ok().prints(&["nothing was spent"]);
    for bad in ["yesterday", "2026-13-01", "7", ""] {
        profile.looop(&["cost", "--since", bad]).exits(2);
    }
}

#[test]
#[ignore = "needs agent CLIs"]
fn the_doctor_asks_each_runner_for_one_small_decision() {
    for decider in ALL {
        let server = ModelServer::start(vec![Reply::text(NOOP).usage(111, 22, 333, 44)]);
        let Some(profile) = profile(decider, &server.url()) else { continue };
        let words = ["a valid move in ", "111 tokens in", "22 out", "tools: off"];
        let ran = profile.looop(&["doctor", "runner"]).ok().prints(&words);
        assert_eq!(calls(&server).len(), 1);
        assert_eq!(ran.stdout.contains("was tried"), decider.is_program(), "{decider:?}: {}", ran.stdout);
        let charge = &profile.charges()[0];
        assert_eq!((&charge["beat"], &charge["usage"]["tokens_in"]), (&json!("doctor"), &json!(111)));
    }
}

#[test]
fn the_doctor_says_what_is_wrong_with_a_runner() {
    let refused = r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#;
    let server = ModelServer::start(vec![Reply::status(401, refused)]);
    let Some(profile) = profile(Decider::Anthropic, &server.url()) else { return };
    profile.looop(&["doctor", "runner", "mine"]).exits(1).prints(&["auth after ", "fix: log in"]);
    profile.looop(&["doctor", "runner", "cluade"]).exits(2).warns(&["did you mean `claude`?"]);
    let missing = profile.looop(&["doctor", "runner", "qwen", "--json"]);
    let value = missing.json();
    assert_eq!((missing.code, &value["runner"]["tried"]["class"]), (1, &json!("missing")), "{value}");
    assert_eq!(profile.charges().len(), 1, "what was never asked is not in the ledger");
}

#[test]
fn an_interrupted_call_ends_at_once() {
    let server = ModelServer::start(vec![Reply::hang()]);
    let Some(profile) = profile(Decider::Openai, &server.url()) else { return };
    let mut child = profile.spawn(&["tick"]);
    server.wait_for_requests(1);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    wait_until("the beat ends", || child.try_wait().unwrap().is_some());
    assert_eq!(profile.read_json("beat.json")["failure"], Value::Null, "that is no failure");
}
