//! Tests of the gate: each reason, each hold and their order, and the cost of a loop that runs for days.

use super::*;
use crate::rules::beat::ask::{AnswerFile, AnsweredQuestion, AskReply, tests::question};
use crate::rules::beat::decision::Move;
use crate::rules::beat::entry::MoveOutcome;
use crate::rules::beat::observed::{Observed, Paused};
use crate::rules::beat::schedule::{FireTime, Schedule};
use crate::rules::beat::state::{Backoff, Failure, Flap, Inflight, Operation, Requeue};
use crate::rules::beat::step::{self, Decided, Effect, LoopEvent};
use crate::rules::beat::{diff, prompt};
use crate::rules::cost::budget::{Budget, Raised, Reserved, Spending, all_exceeded};
use crate::rules::name::tests::name;
use crate::rules::time::beat_id;
use crate::rules::world::{ChangeKind, Goal, LoopStatus, SensorReading, Trust, World};
use serde_json::json;

const S: i64 = 1_000;
const MINUTE: i64 = 60 * S;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const T0: i64 = 1_795_218_410_413;

fn reading(signal: serde_json::Value) -> SensorReading {
    SensorReading { ok: true, trust: Trust::Trusted, signal, detail: serde_json::Value::Null }
}

/// A reply of the scripted decider.
#[derive(Clone, Copy, Debug)]
enum ScriptedReply {
    Noop(Option<u32>),
    Done,
    Refused,
    Fails,
    Cancelled,
}

/// The loop in memory: the gate over the rules of the memory, and a world that the test changes, without files.
struct Loop {
    beat: LoopState,
    observed: Observed,
    limits: Limits,
    now: Now,
    forced: Option<Name>,
    reply: ScriptedReply,
    /// When a runner was asked, and for which reasons.
    asked: Vec<(i64, Vec<Reason>)>,
    saves: usize,
}

impl Loop {
    fn new() -> Loop {
        let goals = [(name("g"), Goal::Text("goal: all is well\n".to_owned()))].into();
        let readings = ["a", "b"].map(|sensor| (name(sensor), reading(json!({ "n": 0 })))).into();
        let world = World { playbook: "Be calm.\n".to_owned(), goals, readings, own: LoopStatus::default() };
        let observed = Observed { world, ..Observed::default() };
        let mut new = Loop {
            beat: LoopState::default(),
            observed,
            limits: Limits::default(),
            now: Now::fixed(T0, 3600),
            forced: None,
            reply: ScriptedReply::Noop(None),
            asked: Vec::new(),
            saves: 0,
        };
        new.look();
        new
    }

    /// A loop after its first decision, which settled its world.
    fn converged() -> Loop {
        let mut new = Loop::new();
        assert_eq!(new.tick(), GateDecision::Decide(vec![Reason::First]));
        new
    }

    /// Reads the world, as `sense` does; a constant world needs it once.
    fn look(&mut self) {
        let (beat, now) = (&self.beat, self.now);
        let schedules = self.observed.schedules.iter();
        let due = schedules.filter_map(|(name, s)| s.due(name, beat.fired.get(name).copied(), now)).collect();
        let fresh = self.observed.asks.values().filter(|pair| !beat.closed_asks.contains(&pair.0.id));
        let answers = fresh.filter_map(|(ask, answer)| match answer.as_ref().map(|a| &a.reply) {
            Some(AskReply::Answer { text }) => Some(AnsweredQuestion {
                ask: ask.id.clone(),
                text: ask.text.clone(),
                state: "answered".to_owned(),
                answer: text.clone(),
                beat: ask.beat.clone(),
            }),
            _ => None,
        });
        let answers = answers.collect();
        self.observed.world.own = LoopStatus { due, answers, ..self.observed.world.own.clone() };
        self.observed.items = self.observed.world.items();
        self.observed.user_files = self.observed.world.user_files_digest();
    }

    fn sets(&mut self, sensor: &str, n: i64) {
        self.observed.world.readings.insert(name(sensor), reading(json!({ "n": n })));
        self.look();
    }

    fn judge(&self) -> GateDecision {
        let changed = diff::items(&self.beat.baseline, &self.observed.items);
        let observed = Observed { changed, ..self.observed.clone() };
        judge(&self.beat, &observed, self.forced.as_ref(), &self.limits, self.now)
    }

    /// Runs one beat: the gate and, if it decides, a decision that the script answers.
    fn tick(&mut self) -> GateDecision {
        let decision = self.judge();
        if let GateDecision::Decide(reasons) = &decision {
            self.decide(reasons);
        }
        decision
    }

    fn after(&mut self, ms: i64) -> GateDecision {
        self.now.unix_ms += ms;
        self.look();
        self.tick()
    }

    fn decide(&mut self, reasons: &[Reason]) {
        let id = beat_id(self.beat.next_ms(self.now));
        self.asked.push((self.now.unix_ms, reasons.to_vec()));
        let seen = self.seen(&id, reasons);
        let (beat, runner, at_ms) = (id.clone(), "scripted".to_owned(), self.now.unix_ms);
        let (user_files, sensors) = (seen.user_files.clone(), seen.sensors.clone());
        let call = Inflight { beat, runner, at_ms, user_files, sensors, reserved_micros: 0 };
        let charge = Box::new(step::unknown_charge(&call, self.now));
        self.drive(LoopEvent::Asking { call: Box::new(call), committed: Vec::new() });
        let archive = json!({ "move": "archive_goal", "id": "old" });
        let (mut action, outcome) = match self.reply {
            ScriptedReply::Noop(next) => {
                (json!({ "move": "noop", "next_beat_s": next }), MoveOutcome::Done { note: String::new() })
            }
            ScriptedReply::Done => (archive, MoveOutcome::Done { note: id.clone() }),
            ScriptedReply::Refused => (archive, MoveOutcome::Refused { why: "no".to_owned() }),
            ScriptedReply::Cancelled => return self.drive(LoopEvent::Cancelled { charge }),
            ScriptedReply::Fails => {
                let (at_ms, user_files) = (self.now.unix_ms, seen.user_files);
                let (class, why) = (Class::Crashed, "why".to_owned());
                let failure = Failure { beat: id, at_ms, class, retry_at_ms: None, clean: true, why };
                return self.drive(LoopEvent::Failed { failure, charge: Some(charge), user_files });
            }
        };
        action["why"] = "scripted".into();
        let decided = Move::from_json(&action).unwrap();
        let operation = Operation::Nothing;
        let event = Decided { seen, decided, operation, then: outcome, charge: Some(charge), approval: None };
        self.drive(LoopEvent::Decided(Box::new(event)));
    }

    /// Computes what the memory keeps, with the code of the tick itself.
    fn seen(&self, id: &str, reasons: &[Reason]) -> step::ObservedInputs {
        let changed = diff::items(&self.beat.baseline, &self.observed.items);
        let observed = Observed { changed, ..self.observed.clone() };
        observed.inputs(id, self.now, reasons.contains(&Reason::Aged), &prompt::Prompt::default())
    }

    fn drive(&mut self, event: LoopEvent) {
        let saves = &mut self.saves;
        let done: Result<(), ()> = step::drive(&mut &mut self.beat, event, &mut |beat, effect| {
            if let Effect::Save(next) = effect {
                *saves += 1;
                **beat = *next;
            }
            Ok(None)
        });
        done.unwrap();
    }

    /// Runs beats at each `every` for `span`, with `change` before each; returns the number of requests.
    fn runs(&mut self, every: i64, span: i64, change: &mut dyn FnMut(&mut Loop, i64)) -> usize {
        let before = self.asked.len();
        for beat in 0..span / every {
            self.now.unix_ms += every;
            change(self, beat);
            self.tick();
        }
        self.asked.len() - before
    }
}

fn hold(decision: &GateDecision) -> &Hold {
    match decision {
        GateDecision::Hold(hold) => hold,
        other => panic!("it did not hold: {other:?}"),
    }
}

const IDLE: GateDecision = GateDecision::Hold(Hold::Idle);

fn only(reason: Reason) -> GateDecision {
    GateDecision::Decide(vec![reason])
}

/// A decision because of a change of this sensor.
fn changed(sensor: &str) -> GateDecision {
    only(Reason::Changed(format!("sensor/{sensor}")))
}

#[test]
fn a_settled_world_is_idle_and_each_reason_wakes_it_alone() {
    type Change = fn(&mut Loop);
    const REQUEUE: Requeue = Requeue { set_ms: T0 - MINUTE, wait_ms: MINUTE, streak: 1 };
    let rows: [(Change, Reason); 8] = [
        (|l| l.beat = LoopState::default(), Reason::First),
        (|l| l.sets("a", 1), Reason::Changed("sensor/a".to_owned())),
        (|l| l.beat.converged = Convergence::No, Reason::AfterMove),
        (|l| l.now.unix_ms += 6 * HOUR, Reason::Aged),
        (|l| l.beat.requeue = Some(REQUEUE), Reason::Requeue),
        (|l| l.forced = Some(name("g")), Reason::Forced(name("g"))),
        (|l| answer(l, "ask-1"), Reason::Answer(name("ask-1"))),
        (|l| timer(l, FireTime::InS(0)), Reason::Due(name("t"))),
    ];
    for (change, reason) in rows {
        let mut looped = Loop::converged();
        assert_eq!(looped.tick(), IDLE);
        change(&mut looped);
        assert!(!reason.to_string().is_empty());
        assert_eq!(looped.tick(), only(reason));
        looped.forced = None;
        assert_eq!(looped.after(0), IDLE, "a decision that saw the change settles the world");
    }
}

fn answer(looped: &mut Loop, id: &str) {
    let reply = AskReply::Answer { text: "yes".to_owned() };
    let answer = AnswerFile { ask: name(id), at_ms: T0, reply };
    looped.observed.asks.insert(name(id), (question(id), Some(answer)));
    looped.look();
}

fn timer(looped: &mut Loop, when: FireTime) {
    let schedule = Schedule { when, note: "look".to_owned(), created_ms: looped.now.unix_ms, clean: true };
    looped.observed.schedules.insert(name("t"), schedule);
    looped.look();
}

#[test]
fn timers_and_answers_wake_once_until_the_next_time() {
    let mut looped = Loop::converged();
    answer(&mut looped, "ask-1");
    timer(&mut looped, FireTime::EveryS(600));
    looped.reply = ScriptedReply::Fails;
    assert_eq!(looped.tick(), only(Reason::Answer(name("ask-1"))));
    looped.reply = ScriptedReply::Noop(None);
    assert_eq!(looped.after(MINUTE), only(Reason::Answer(name("ask-1"))), "no decision has seen it yet");
    let woke = looped.runs(MINUTE, HOUR, &mut |l, _| l.look());
    assert_eq!(woke, 6, "once per period, for whole beats after it is due: {:?}", looped.asked);
    assert!(looped.asked[3..].iter().all(|(_, why)| *why == [Reason::Due(name("t"))]), "{:?}", looped.asked);
}

#[test]
fn holds_are_checked_in_order() {
    let mut looped = Loop::converged();
    let nothing = Budget { day_micros: Some(0), ..Budget::default() };
    let wanted = Reserved { micros: 0, goal: None, runner: "pi".to_owned() };
    let spent = Spending::default();
    let exceeded = all_exceeded(&nothing, &spent, &[], &Raised::new(), &wanted, looped.now).remove(0);
    looped.observed.capped = Some(exceeded.clone());
    looped.limits.decides_per_hour = 1;
    let beat = &mut looped.beat;
    beat.halted = Some("lost".to_owned());
    beat.backoff =
        Some(Backoff { fails: 3, since_ms: None, at_ms: T0, user_files: looped.observed.user_files.clone() });
    /// What the gate says when these facts hold as well.
    fn with(l: &Loop, facts: &[&str]) -> GateDecision {
        let has = |fact: &str| facts.contains(&fact);
        let change = ("playbook".to_owned(), ChangeKind::Changed);
        let observed = Observed {
            paused: has("paused").then(|| Paused { since_ms: 0, why: "tea".to_owned() }),
            approved: has("approved").then(|| question("ap-1")),
            changed: has("changed").then_some(change).into_iter().collect(),
            ..l.observed.clone()
        };
        judge(&l.beat, &observed, l.forced.as_ref(), &l.limits, l.now)
    }
    let halted = GateDecision::Hold(Hold::Halted { why: "lost".to_owned() });
    assert_eq!(with(&looped, &["paused", "approved", "changed"]), halted);
    looped.beat.halted = None;
    let paused = GateDecision::Hold(Hold::Paused { why: "tea".to_owned() });
    assert_eq!(with(&looped, &["paused", "approved", "changed"]), paused);
    looped.forced = Some(name("g"));
    assert_eq!(with(&looped, &["paused", "changed"]), paused, "a pause takes precedence over a forced move");
    looped.forced = None;
    assert_eq!(with(&looped, &["approved", "changed"]), GateDecision::Approved(name("ap-1")));
    assert_eq!(with(&looped, &[]), IDLE, "no reason to hold");
    assert_eq!(
        hold(&with(&looped, &["changed"])),
        &Hold::BackingOff { fails: 3, left_ms: 60 * S, why: String::new() }
    );
    looped.observed.limited =
        Some(RunnerLimit { runner: "pi".to_owned(), until_ms: looped.now.unix_ms + 9, why: "w".to_owned() });
    let limited = Hold::RunnerLimited { runner: "pi".to_owned(), left_ms: 9, why: "w".to_owned() };
    let backoff = looped.beat.backoff.take();
    assert_eq!(hold(&with(&looped, &["changed"])), &limited);
    looped.beat.backoff = backoff;
    looped.forced = Some(name("g"));
    let rate = GateDecision::Hold(Hold::RateLimited { per_hour: 1, left_ms: HOUR });
    assert_eq!(with(&looped, &[]), rate, "a forced move overrides idle and backoff, but not the rate");
    (looped.beat.backoff, looped.forced, looped.observed.limited) = (None, None, None);
    assert_eq!(with(&looped, &["changed"]), rate);
    looped.limits.decides_per_hour = 2;
    let out = GateDecision::Hold(Hold::capped(exceeded, looped.now));
    assert_eq!(with(&looped, &["changed"]), out);
    looped.forced = Some(name("g"));
    assert_eq!(with(&looped, &[]), out, "a forced move does not override the budget");
    looped.observed.capped = None;
    assert_eq!(with(&looped, &[]), only(Reason::Forced(name("g"))));
}

#[test]
fn a_backoff_doubles_up_to_five_minutes_for_any_count() {
    let mut looped = Loop::converged();
    looped.sets("a", 1);
    for fails in 1..=200_u32 {
        let wait = 15 * S * (1 << (fails - 1).min(5));
        looped.beat.backoff = Some(Backoff {
            fails,
            since_ms: None,
            at_ms: T0,
            user_files: looped.observed.user_files.clone(),
        });
        let wait = wait.min(300 * S);
        looped.now.unix_ms = T0 + wait - 1;
        assert_eq!(
            hold(&looped.judge()),
            &Hold::BackingOff { fails, left_ms: 1, why: String::new() },
            "after {fails} failures"
        );
        looped.now.unix_ms = T0 + wait;
        assert!(matches!(looped.judge(), GateDecision::Decide(_)), "after {fails} failures");
    }
}

#[path = "gate_days_tests.rs"]
mod days;
