//! Tests of the rules of the memory: what is written for each event, and in which order.

use serde_json::{Value, json};

use super::*;
use crate::rules::beat::ask::AskKind;
use crate::rules::beat::entry;
use crate::rules::beat::failing::Class;
use crate::rules::beat::state::{Backoff, CommitNote, Convergence, LastResult, Requeue};
use crate::rules::name::tests::name;
use crate::rules::process::Started;
use crate::rules::time::beat_id;
use crate::rules::world::Goal;

#[path = "crash_tests.rs"]
mod crash;
#[path = "step_memory_tests.rs"]
mod memory;

const T0: i64 = 1_795_218_410_413;
const NOW: Now = Now::fixed(T0, 3600);
const HOUR: i64 = 3_600_000;

fn decided(mut value: Value) -> Move {
    value["why"] = "because".into();
    Move::from_json(&value).unwrap()
}

fn noop() -> Move {
    decided(json!({ "move": "noop" }))
}

fn done() -> MoveOutcome {
    MoveOutcome::Done { note: String::new() }
}

fn call(beat: &str, at_ms: i64) -> Inflight {
    let (beat, runner, user_files) = (beat.to_owned(), "pi".to_owned(), "edits".to_owned());
    Inflight { beat, runner, at_ms, user_files, sensors: vec!["ci".to_owned()], reserved_micros: 0 }
}

fn asking_for(call: Box<Inflight>) -> LoopEvent {
    LoopEvent::Asking { call, committed: vec![] }
}

fn approval(until_ms: i64) -> Option<UsedApproval> {
    Some(UsedApproval { ask: name("ap-1"), until_ms, committed: vec![] })
}

fn charge(beat: &str, at: Now) -> Box<Charge> {
    Box::new(unknown_charge(&call(beat, at.unix_ms), at))
}

fn seen(beat: &str, at: Now) -> ObservedInputs {
    ObservedInputs {
        beat: beat.to_owned(),
        at,
        items: [("playbook".to_owned(), "p1".to_owned())].into(),
        user_files: "edits".to_owned(),
        commit: Some("c0ffee".to_owned()),
        prompt: "p".to_owned(),
        sensors: vec![],
        unchanged: true,
        aged: false,
        tainted: false,
        goals: vec![name("g")],
        asks: vec![],
        answers: vec![],
        rejected: vec![],
        due: vec![],
        schedules: vec![],
    }
}

fn event(decided: Move, operation: Operation, then: MoveOutcome) -> Decided {
    let charge = Some(charge("b1", NOW));
    Decided { seen: seen("b1", NOW), decided, operation, then, charge, approval: None }
}

/// A `noop` of a decision that saw something special.
fn idle(sees: impl FnOnce(&mut ObservedInputs)) -> Decided {
    let mut one = event(noop(), Operation::Nothing, done());
    sees(&mut one.seen);
    one
}

fn calm() -> Decided {
    idle(|_| {})
}

/// The run of a command.
fn running() -> Decided {
    let (run, operation) = exec();
    event(run, operation, done())
}

fn failure(beat: &str, at_ms: i64) -> Failure {
    let (beat, why) = (beat.to_owned(), "w".to_owned());
    Failure { beat, at_ms, class: Class::Empty, why, retry_at_ms: None, clean: true }
}

fn started() -> Started {
    Started { pid: 7, start: 9, boot: "x".to_owned() }
}

fn writes(path: &str, text: &str) -> Operation {
    Operation::Write { path: path.to_owned(), text: text.to_owned(), executable: false, replaces: None }
}

fn exec() -> (Move, Operation) {
    let (argv, exe, cwd) = (vec!["make".to_owned()], "/bin/make".to_owned(), "/".to_owned());
    let operation = Operation::Exec { argv, exe, cwd, files: Vec::new(), folders: Vec::new() };
    (decided(json!({ "move": "run", "argv": ["make"] })), operation)
}

fn acted(outcome: &MoveOutcome) -> LoopEvent {
    LoopEvent::Acted { at: NOW, outcome: outcome.clone() }
}

/// Returns the names of effects, in order.
fn order(effects: &[Effect]) -> Vec<&'static str> {
    let name = |effect: &Effect| match effect {
        Effect::Charge(_) => "charge",
        Effect::Save(_) => "save",
        Effect::Act(_) => "act",
        Effect::Flag(_) => "flag",
        Effect::Journal(_) => "journal",
        Effect::Sync(_) => "sync",
    };
    effects.iter().map(name).collect()
}

fn saved(effects: &[Effect]) -> LoopState {
    let last = effects.iter().rev().find_map(|effect| match effect {
        Effect::Save(beat) => Some(beat.as_ref().clone()),
        _ => None,
    });
    last.expect("nothing was saved")
}

fn after(beat: &LoopState, event: Decided) -> LoopState {
    saved(&decide(beat, event))
}

fn decide(beat: &LoopState, event: Decided) -> Vec<Effect> {
    step(beat, LoopEvent::Decided(Box::new(event)))
}

fn asking() -> LoopState {
    saved(&step(&LoopState::default(), asking_for(Box::new(call("b1", T0)))))
}

/// A memory with a command that began and is not settled.
fn acting() -> LoopState {
    after(&asking(), running())
}

fn line_of(effects: &[Effect]) -> String {
    let line = effects.iter().find_map(|effect| match effect {
        Effect::Journal(line) => Some(line.clone()),
        _ => None,
    });
    line.expect("nothing was journaled")
}

#[test]
fn a_call_is_counted_before_it_is_made() {
    let beat = LoopState { decides: vec![T0 - HOUR, T0 - HOUR + 1, T0 + 9 * HOUR], ..LoopState::default() };
    let effects = step(&beat, asking_for(Box::new(call("b1", T0))));
    assert_eq!(order(&effects), ["save"]);
    let next = saved(&effects);
    assert_eq!(next.decides, [T0 - HOUR + 1, T0, T0], "a start in the future counts as now");
    assert_eq!(next.inflight, Some(call("b1", T0)));
    assert!(next.last_ms >= T0);
}

#[test]
fn failures_count_until_a_decision_succeeds() {
    let requeue = Some(Requeue { set_ms: T0, wait_ms: 30_000, streak: 1 });
    let mut beat = LoopState { requeue, baseline: seen("b0", NOW).items, ..asking() };
    for fails in 1..=3 {
        let (failure, charge) = (failure("b1", T0 + 5), Some(charge("b1", NOW)));
        let failed = LoopEvent::Failed { failure: failure.clone(), charge, user_files: "edits".to_owned() };
        let effects = step(&beat, failed);
        assert_eq!(order(&effects), ["charge", "save"]);
        let backoff =
            Some(Backoff { fails, since_ms: Some(T0 + 5), at_ms: T0 + 5, user_files: "edits".to_owned() });
        let failure = Some(failure);
        let expected = LoopState { inflight: None, requeue: None, backoff, failure, ..beat.clone() };
        assert_eq!(saved(&effects), expected, "and nothing else");
        beat = saved(&effects);
    }
    let cancelled = step(&beat, LoopEvent::Cancelled { charge: charge("b1", NOW) });
    assert_eq!(saved(&cancelled).backoff, beat.backoff, "only success clears it");
    let next = after(&beat, calm());
    assert_eq!((next.backoff, next.failure), (None, None));
}

#[test]
fn an_interrupted_call_leaves_no_trace_but_its_cost() {
    let effects = step(&asking(), LoopEvent::Cancelled { charge: charge("b1", NOW) });
    assert_eq!(order(&effects), ["charge", "save"]);
    assert_eq!(saved(&effects), LoopState { inflight: None, ..asking() });
}

#[test]
fn a_call_that_was_cut_off_is_a_failure_at_its_own_time() {
    let at = NOW.at(T0 + HOUR);
    let effects = step(&asking(), LoopEvent::CutOff { at, charge: Some(charge("b1", at)) });
    assert_eq!(order(&effects), ["sync", "charge", "save"]);
    let charged = step(&asking(), LoopEvent::CutOff { at, charge: None });
    assert_eq!(order(&charged), ["sync", "sync", "save"], "the ledger has it");
    let next = saved(&effects);
    assert_eq!(
        next.backoff,
        Some(Backoff {
            fails: 1,
            since_ms: Some(T0 + HOUR),
            at_ms: T0 + HOUR,
            user_files: "edits".to_owned()
        })
    );
    let failure = next.failure.unwrap();
    assert_eq!((failure.beat.as_str(), failure.class, next.inflight), ("b1", Class::CutOff, None));
}

#[test]
fn a_move_without_an_effect_is_journaled_and_then_saved() {
    let effects = decide(&asking(), calm());
    assert_eq!(order(&effects), ["charge", "journal", "save"]);
    let next = saved(&effects);
    assert!(entry::find(&line_of(&effects), "b1").is_some());
    assert_eq!((next.inflight.clone(), next.intent.clone(), next.decisions), (None, None, 1));
    assert_eq!(next.converged, Convergence::Noop { at_ms: T0, rechecked: false });
    assert_eq!((next.baseline, next.base_commit), (seen("b1", NOW).items, Some("c0ffee".to_owned())));
    let (beat, tag, object) = ("b1".to_owned(), "noop".to_owned(), String::new());
    assert_eq!(next.last, Some(LastResult { beat, at_ms: T0, tag, object, outcome: done(), clean: true }));
    assert_eq!(next.uncommitted[0].subject, "noop — done — because");
}

#[test]
fn an_intent_is_saved_before_its_operation_and_kept_until_its_journal_line() {
    let (run, operation) = exec();
    let effects = decide(&asking(), running());
    assert_eq!(order(&effects), ["charge", "save", "act"]);
    let intent = saved(&effects).intent.unwrap();
    assert_eq!(effects[2], Effect::Act(Box::new(intent.clone())));
    assert_eq!((&intent.decided, &intent.operation, intent.beat.as_str()), (&run, &operation, "b1"));
    assert_eq!((intent.started, intent.note.paths.len()), (None, 0));
    let outcome = MoveOutcome::Ran { status: "exit 0".to_owned(), tail: "ok".to_owned(), took_ms: 7 };
    let effects = step(&acting(), LoopEvent::Acted { at: NOW, outcome: outcome.clone() });
    assert_eq!(order(&effects), ["journal", "save"]);
    assert!(line_of(&effects).contains("exit 0") && entry::find(&line_of(&effects), "b1").is_some());
    let next = saved(&effects);
    assert_eq!((next.intent, next.last.unwrap().outcome, next.converged), (None, outcome, Convergence::No));
}

#[test]
fn an_unknown_outcome_is_flagged_before_it_is_journaled() {
    let outcome = MoveOutcome::Unknown { why: "the lights went out".to_owned() };
    let effects = step(&acting(), acted(&outcome));
    assert_eq!(order(&effects), ["flag", "journal", "save"]);
    let Effect::Flag(ask) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!((ask.id.as_str(), ask.kind), ("unknown-b1", AskKind::Question));
    assert!(ask.text.contains("make") && ask.text.contains("the lights went out"), "{}", ask.text);
    assert_eq!(saved(&effects).last.unwrap().outcome, outcome, "the next decision sees it");
}

#[test]
fn the_process_of_a_command_is_saved_in_its_intent() {
    let effects = step(&acting(), LoopEvent::Spawned(started()));
    assert_eq!(order(&effects), ["save"]);
    let mut expected = acting();
    expected.intent.as_mut().unwrap().started = Some(started());
    assert_eq!(saved(&effects), expected, "nothing else changes");
    assert_eq!(saved(&step(&expected, acted(&done()))).intent, None, "its end still settles the move");
    assert_eq!(step(&asking(), LoopEvent::Spawned(started())), [], "it changes nothing without an intent");
}

#[test]
fn a_used_up_budget_is_announced_once_before_that_is_saved() {
    let unknown = MoveOutcome::Unknown { why: "the lights went out".to_owned() };
    let [Effect::Flag(ask), ..] = &step(&acting(), acted(&unknown))[..] else { panic!("nothing is flagged") };
    let event = |notice: &str| LoopEvent::OutOfBudget { notice: notice.to_owned(), ask: ask.clone() };
    let effects = step(&asking(), event("day"));
    assert_eq!(order(&effects), ["flag", "save"]);
    let next = saved(&effects);
    assert_eq!(next, LoopState { budget_notice: Some("day".to_owned()), ..asking() }, "nothing else changes");
    assert_eq!(step(&next, event("day")), [], "the user knows it");
    assert_eq!(order(&step(&next, event("day of $2"))), ["flag", "save"], "it is another limit");
}

#[test]
fn the_removal_of_a_timer_is_noted_with_the_newest_move() {
    let path = "schedules/t.json".to_owned();
    let beat = after(&asking(), calm());
    let effects = step(&beat, LoopEvent::TimerSpent { path: path.clone() });
    assert_eq!(order(&effects), ["save"]);
    let mut expected = beat;
    expected.uncommitted.last_mut().unwrap().paths.insert(path.clone(), None);
    assert_eq!(saved(&effects), expected, "nothing else changes");
    assert_eq!(step(&asking(), LoopEvent::TimerSpent { path }), [], "no commit is to come");
}

#[test]
fn only_a_halted_loop_can_be_resumed() {
    let halted = LoopState { halted: Some("lost".to_owned()), ..asking() };
    let effects = step(&halted, LoopEvent::Resumed);
    assert_eq!((order(&effects), saved(&effects)), (vec!["save"], asking()));
    assert_eq!(step(&asking(), LoopEvent::Resumed), []);
    let began = step(&LoopState::default(), LoopEvent::Began(Box::new(halted.clone())));
    assert_eq!((order(&began), saved(&began)), (vec!["save"], halted));
}

#[test]
fn a_call_and_an_approved_move_drop_the_moves_that_git_holds() {
    let note = |beat: &str| CommitNote { beat: beat.to_owned(), ..CommitNote::default() };
    let beat = LoopState { uncommitted: vec![note("b7"), note("b8")], ..LoopState::default() };
    let committed = || vec!["b7".to_owned()];
    let asking = LoopEvent::Asking { call: Box::new(call("b9", T0)), committed: committed() };
    assert_eq!(saved(&step(&beat, asking)).uncommitted, [note("b8")]);
    let used = UsedApproval { ask: name("ap-1"), until_ms: T0, committed: committed() };
    let approved = Decided { charge: None, approval: Some(used), ..running() };
    assert_eq!(after(&beat, approved).uncommitted, [note("b8")]);
}

#[test]
fn an_approval_is_used_up_together_with_its_intent() {
    let backoff = Some(Backoff { fails: 2, since_ms: None, at_ms: T0, user_files: String::new() });
    let beat = LoopState { decisions: 7, backoff, ..LoopState::default() };
    let rows = [(exec().1, vec!["save", "act"]), (Operation::Nothing, vec!["save", "journal", "save"])];
    for (operation, names) in rows {
        let approval = approval(T0 + 24 * HOUR);
        let effects = decide(&beat, Decided { charge: None, approval, operation, ..running() });
        assert_eq!(order(&effects), names);
        let next = saved(&effects);
        assert_eq!(next.closed_asks, [name("ap-1")], "in the first save");
        let kept = (7, &beat.baseline, &beat.backoff);
        assert_eq!((next.decisions, &next.baseline, &next.backoff), kept, "no runner saw it");
        assert_eq!(next.converged, Convergence::No, "the next decision sees the result");
    }
}

#[test]
fn an_unfinished_move_is_settled_by_the_findings() {
    let found = |probe| step(&acting(), LoopEvent::Unfinished { at: NOW.at(T0 + HOUR), probe });
    let outcome = |effects: &[Effect]| saved(effects).last.unwrap().outcome;
    let why = || "why".to_owned();
    let refused = entry::line(NOW, "b1", &exec().0, &MoveOutcome::Refused { why: why() });
    let found_done = MoveOutcome::Done { note: "found done after an interruption".to_owned() };
    let rows = [
        (Probe::Journaled(refused), vec!["sync", "sync", "save"], MoveOutcome::Refused { why: why() }),
        (Probe::Made, vec!["sync", "sync", "journal", "save"], found_done),
        (Probe::Dropped(why()), vec!["sync", "journal", "save"], MoveOutcome::NotDone { why: why() }),
        (Probe::Unknown(why()), vec!["sync", "flag", "journal", "save"], MoveOutcome::Unknown { why: why() }),
    ];
    for (probe, names, expected) in rows {
        let effects = found(probe.clone());
        assert_eq!((order(&effects), outcome(&effects)), (names, expected), "{probe:?}");
        assert_eq!(saved(&effects).intent, None, "{probe:?}");
        assert_eq!(saved(&effects).uncommitted.len(), 1, "{probe:?}");
    }
    let note =
        saved(&found(Probe::Journaled(line_of(&found(Probe::Dropped(why())))))).uncommitted.pop().unwrap();
    assert!(note.subject.contains("not done: why"), "the commit message equals the line: {}", note.subject);
    let again = [Effect::Sync(Evidence::Memory), Effect::Act(Box::new(acting().intent.unwrap()))];
    assert_eq!(found(Probe::NotMade), again, "a second try");
    let mut waits = acting();
    waits.intent.as_mut().unwrap().then =
        MoveOutcome::Waits { ask: "ap-1".to_owned(), because: "b".to_owned() };
    let effects = step(&waits, LoopEvent::Unfinished { at: NOW, probe: Probe::Made });
    assert!(matches!(outcome(&effects), MoveOutcome::Waits { .. }), "a created ask still waits");
}

#[test]
fn an_event_that_does_not_fit_has_no_effect() {
    let (idle, at) = (LoopState::default(), NOW);
    for probe in [Probe::Journaled(String::new()), Probe::Made, Probe::NotMade, Probe::Unknown(String::new())]
    {
        assert_eq!(step(&idle, LoopEvent::Unfinished { at, probe }), []);
    }
    assert_eq!(step(&idle, LoopEvent::Acted { at, outcome: done() }), []);
    assert_eq!(step(&asking(), LoopEvent::Acted { at, outcome: done() }), []);
    assert_eq!(step(&idle, LoopEvent::CutOff { at, charge: Some(charge("b1", at)) }), []);
    assert_eq!(step(&acting(), LoopEvent::CutOff { at, charge: None }), []);
}

#[test]
fn the_memory_follows_each_save_and_stops_at_an_error() {
    let whole = || LoopEvent::Decided(Box::new(running()));
    let total = ["charge", "save", "act", "journal", "save"];
    for fails_at in 0..=total.len() {
        let (mut beat, mut disk, mut performed) = (asking(), asking(), Vec::new());
        let result = drive(&mut &mut beat, whole(), &mut |beat, effect| {
            if performed.len() == fails_at {
                return Err("no space");
            }
            performed.extend(order(std::slice::from_ref(&effect)));
            let acted = matches!(effect, Effect::Act(_));
            if let Effect::Save(next) = effect {
                disk = next.as_ref().clone();
                **beat = *next;
            }
            Ok(acted.then(|| LoopEvent::Acted { at: NOW, outcome: done() }))
        });
        assert_eq!((result.is_err(), performed), (fails_at < total.len(), total[..fails_at].to_vec()));
        assert_eq!(beat, disk, "the memory equals the file");
        assert_eq!(beat.intent.is_some(), (2..5).contains(&fails_at));
    }
}
