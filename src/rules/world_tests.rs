//! Tests of the world: what counts as a change, what taints, and how much budget is left.

use serde_json::json;

use super::*;
use crate::rules::beat::entry::MoveOutcome;
use crate::rules::name::tests::name;

fn reading(text: &str) -> SensorReading {
    SensorReading::from_output(serde_json::from_str(text).unwrap(), Trust::Trusted)
}

#[test]
fn only_the_signal_counts() {
    let a = reading(r#"{"signal":{"n":1},"detail":{"t":1}}"#);
    let b = reading(r#"{ "detail": {"t": 2}, "signal": {"n": 1.0} }"#);
    let c = reading(r#"{"signal":{"n":2},"detail":{"t":1}}"#);
    assert_eq!(a.digest(), b.digest());
    assert_ne!(a.digest(), c.digest());
    assert_ne!(reading(r#"{"signal":1,"x":2}"#).digest(), reading(r#"{"signal":1,"x":3}"#).digest());
}

#[test]
fn a_failure_is_never_taken_for_a_reading() {
    let failed = SensorReading::failed("exit", Some(1), json!({"stderr": "a"}), Trust::Trusted);
    let again = SensorReading::failed("exit", Some(1), json!({"stderr": "b"}), Trust::Trusted);
    assert_eq!(failed.digest(), again.digest());
    assert_ne!(failed.digest(), reading(r#"{"error":"exit","exit_code":1}"#).digest());
}

#[test]
fn an_unreadable_goal_differs_from_a_goal_with_its_reason_as_text() {
    let why = "not UTF-8".to_owned();
    assert_ne!(Goal::Unreadable(why.clone()).digest(), Goal::Text(why).digest());
}

#[test]
fn digests_depend_on_where_the_parts_are_split() {
    assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    assert_ne!(digest(&[b"ab"]), digest(&[b"ab", b""]));
}

#[test]
fn the_budget_runs_low_and_out() {
    assert_eq!(BudgetState::of(100, None), BudgetState::Ok);
    assert_eq!(BudgetState::of(79, Some(100)), BudgetState::Ok);
    assert_eq!(BudgetState::of(80, Some(100)), BudgetState::Low);
    assert_eq!(BudgetState::of(100, Some(100)), BudgetState::Out);
}

/// Each kind of untrusted text that a decider can read, one at a time.
#[test]
fn any_untrusted_text_taints_and_nothing_else_does() {
    let goal = Goal::Text("text".to_owned());
    let worker = json!({ "id": "w1", "goal": null, "kind": "text", "state": "text", "started_ms": 1 });
    let worker: WorkerView = serde_json::from_value(worker).unwrap();
    let own = LoopStatus { workers: vec![worker.clone()], budget: BudgetState::Low, ..LoopStatus::default() };
    let reading = |trust| SensorReading { ok: true, trust, signal: json!("text"), detail: json!(null) };
    let goals = [(name("mine"), goal.clone())].into();
    let readings = [(name("ours"), reading(Trust::Trusted))].into();
    let clean = World { playbook: "text".to_owned(), goals, readings, own };
    let memory = LoopState::default();
    assert!(!clean.is_tainted(&memory));
    let mut world = clean.clone();
    world.readings.insert(name("theirs"), reading(Trust::Untrusted));
    assert!(world.is_tainted(&memory), "a reading");
    for (what, own) in [
        ("words of a worker", LoopStatus { worker_words: true, ..clean.own.clone() }),
        ("what was written after such words", LoopStatus { repeats_untrusted: true, ..clean.own.clone() }),
    ] {
        assert!(World { own, ..clean.clone() }.is_tainted(&memory), "{what}");
    }
    let named = LoopState { untrusted_workers: [worker.id].into(), ..LoopState::default() };
    assert!(clean.is_tainted(&named), "the name of a worker");
    let other = LoopState { untrusted_workers: [name("gone")].into(), ..LoopState::default() };
    assert!(!clean.is_tainted(&other), "a worker that is not there");
    let wrote = LoopState { untrusted_goals: vec![goal.digest()], ..LoopState::default() };
    assert!(clean.is_tainted(&wrote), "a goal, whatever its name is now");
    let other =
        LoopState { untrusted_goals: vec![Goal::Text("x".to_owned()).digest()], ..LoopState::default() };
    assert!(!clean.is_tainted(&other), "another text under the same name");
    let outcome = MoveOutcome::Ran { status: "exit 0".to_owned(), tail: "text".to_owned(), took_ms: 1 };
    for (what, clean_beat) in [("the output of a command", true), ("what such a beat did", false)] {
        let (beat, tag, object) = ("b".to_owned(), "run".to_owned(), "ls".to_owned());
        let last = LastResult { beat, at_ms: 1, tag, object, outcome: outcome.clone(), clean: clean_beat };
        let memory = LoopState { last: Some(last), ..LoopState::default() };
        assert!(clean.is_tainted(&memory), "{what}");
    }
}
