//! Spend from end to end: a call that was cut off, reports that add up, and the doctor's question.

use serde_json::{Value, json};

use super::{ALL, Decider, NOOP, charges, is_sandboxed, left_over, processes, profile};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::profile::{Profile, wait_until};

fn cost(profile: &Profile, args: &[&str]) -> String {
    profile.looop(&[&["cost"], args].concat()).ok().stdout
}

#[test]
#[ignore = "needs agent CLIs"]
fn a_call_that_was_cut_off_is_settled_with_what_was_set_aside() {
    for decider in [Decider::Anthropic, Decider::Pi] {
        let replies = vec![
            Reply::text(NOOP).usage(111, 22, 333, 44),
            Reply::hang(),
            Reply::text(NOOP).usage(1, 1, 0, 0),
        ];
        let server = ModelServer::start(replies);
        let Some(profile) = profile(decider, &server.url()) else { continue };
        profile.looop(&["tick"]).ok();
        let paid = charges(&profile)[0]["usage"]["cost_micros"].clone();
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
        let all = charges(&profile);
        let bases: Vec<&str> = all.iter().map(|charge| charge["usage"]["basis"].as_str().unwrap()).collect();
        assert_eq!((bases.len(), bases[1]), (3, "assumed"), "{decider:?}: {bases:?}");
        assert_eq!((&all[1]["usage"]["cost_micros"], &all[1]["beat"]), (&paid, &inflight["beat"]));
        let shown = cost(&profile, &[]);
        assert!(shown.contains("of it assumed"), "{shown}");
        assert_eq!(
            left_over(&profile),
            Vec::<String>::new(),
            "{decider:?}: what the killed beat left is ended"
        );
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
    let ledger: u64 = charges(&profile).iter().map(|c| c["usage"]["cost_micros"].as_u64().unwrap()).sum();
    assert!(ledger > 0);
    for by in ["day", "goal", "worker", "runner", "model", "sensor", "beat"] {
        let value: Value = serde_json::from_str(&cost(&profile, &["all", "--by", by, "--json"])).unwrap();
        assert_eq!((sum(&value), value["total"]["cost_micros"].as_u64()), (ledger, Some(ledger)), "by {by}");
    }
    let table = cost(&profile, &["--by", "sensor"]);
    assert!(table.contains("total") && !table.contains('\u{2588}'), "no bars in a file: {table}");
    let by_beat = cost(&profile, &["--by", "beat"]);
    assert!(by_beat.contains("(23 %)"), "33 of 139 came from the cache: {by_beat}");
    let csv = cost(&profile, &["--by", "runner", "--csv"]);
    assert!(
        csv.starts_with("key,calls,tokens_in,tokens_cached,") && csv.contains("\nmine,3,303,99,15,21,"),
        "{csv}"
    );
    let today = profile.looop(&["status", "--json"]).ok().json()["cost"]["day"].as_str().unwrap().to_owned();
    for since in [today.as_str(), "2000-01-01", "1h"] {
        assert!(
            cost(&profile, &["--since", since, "--by", "runner", "--csv"]).contains("mine,3,"),
            "{since}"
        );
    }
    assert!(cost(&profile, &["--since", "9999-12-31"]).contains("nothing was spent"));
    for bad in ["yesterday", "2026-13-01", "7", ""] {
        let ran = profile.looop(&["cost", "--since", bad]);
        assert_eq!(ran.code, 2, "{bad}: {ran:?}");
    }
}

#[test]
#[ignore = "needs agent CLIs"]
fn the_doctor_asks_each_runner_for_one_small_decision() {
    for decider in ALL {
        let server = ModelServer::start(vec![Reply::text(NOOP).usage(111, 22, 333, 44)]);
        let Some(profile) = profile(decider, &server.url()) else { continue };
        let ran = profile.looop(&["doctor", "runner"]);
        assert_eq!(ran.code, 0, "{decider:?}: {ran:?}");
        let words = ["a valid move in ", "111 tokens in", "22 out", "tools: off"];
        assert!(words.iter().all(|word| ran.stdout.contains(word)), "{decider:?}: {}", ran.stdout);
        assert_eq!(server.requests().iter().filter(|request| request.body.is_object()).count(), 1);
        let has_version = matches!(decider, Decider::Pi | Decider::Claude | Decider::Codex);
        assert_eq!(ran.stdout.contains("was tried"), has_version, "{decider:?}: {}", ran.stdout);
        let charge = &charges(&profile)[0];
        assert_eq!((&charge["beat"], &charge["usage"]["tokens_in"]), (&json!("doctor"), &json!(111)));
    }
}

#[test]
fn the_doctor_says_what_is_wrong_with_a_runner() {
    let refused = r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#;
    let server = ModelServer::start(vec![Reply::status(401, refused)]);
    let Some(profile) = profile(Decider::Anthropic, &server.url()) else { return };
    let ran = profile.looop(&["doctor", "runner", "mine"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("auth after ") && ran.stdout.contains("fix: log in"), "{}", ran.stdout);
    let none = profile.looop(&["doctor", "runner", "cluade"]);
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("did you mean `claude`?"), "{}", none.stderr);
    let missing = profile.looop(&["doctor", "runner", "qwen", "--json"]);
    let value = missing.json();
    assert_eq!((missing.code, &value["runner"]["tried"]["class"]), (1, &json!("missing")), "{value}");
    assert_eq!(charges(&profile).len(), 1, "what was never asked is not in the ledger");
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
