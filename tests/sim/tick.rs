//! One tick of a simulation: the same steps as the real one, over the same rules, on a disk that fails.

use std::collections::{BTreeMap, VecDeque};

use looop::rules::beat::entry::{self, MoveOutcome};
use looop::rules::beat::gate::{self, GateDecision, Hold, Reason};
use looop::rules::beat::observed::{Observed, Paused};
use looop::rules::beat::state::{Failure, Inflight, Intent, LoopState, Operation};
use looop::rules::beat::step::{
    self, CHANGED, Decided, Effect, Evidence, LoopEvent, ObservedInputs, Probe, UsedApproval,
};
use looop::rules::beat::{ask::QuestionFile, decision::Move, diff, failing::Class, observed, prompt};
use looop::rules::cost::budget::{
    self, Budget, BudgetExceeded, Raised, Reserved, Spending, UNKNOWN_CALL_MICROS,
};
use looop::rules::cost::charge::{Charge, Usage};
use looop::rules::world::{BudgetState, LoopStatus, World as Sight};
use looop::rules::{name::Name, process::Started, time::beat_id};
use looop::store::{json_file::json_text, layout};

use super::outside::{BEAT, Facts, JOURNAL, LEDGER, PLAYBOOK, World, answer_path};
use super::{Mutant, disk::Trouble, judge::tail_of};

/// Why a tick did not come to its end.
#[derive(Debug)]
pub enum Stop {
    Trouble(Trouble),
    Broken(String),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        Stop::Trouble(trouble)
    }
}

/// What the items of a world are made of.
pub type Key = (Facts, Vec<(Name, String)>);

/// What one tick looks at.
struct Look {
    observed: Observed,
    facts: Facts,
}

impl World {
    pub fn tick(&mut self) -> Result<(), Stop> {
        let mut beat = self.recall()?;
        self.settle_leftovers(&mut beat)?;
        let mut look = self.sense(&beat);
        self.judge.sensed(&look.observed.world, &self.asks, &beat, self.wall_ms).map_err(Stop::Broken)?;
        if !self.is(Mutant::SeesNoChange) {
            look.observed.changed = diff::items(&beat.baseline, &look.observed.items);
        }
        let verdict = self.verdict(&beat, &look.observed);
        let before = self.disk.steps;
        self.judge
            .judged(&verdict, &look.facts, &look.observed.world, &self.asks, self.wall_ms)
            .map_err(Stop::Broken)?;
        let ended = match verdict {
            GateDecision::Hold(hold) => {
                self.held(&mut beat, &hold)?;
                let tells = matches!(hold, Hold::OutOfBudget { .. });
                if !tells && self.disk.steps != before {
                    return Err(Stop::Broken(format!("{hold:?} wrote something")));
                }
                Ok(())
            }
            GateDecision::Approved(_) => self.approved(&mut beat, look.observed),
            GateDecision::Decide(reasons) => {
                let ledger = &self.judge.ledger;
                let spent = ledger.spent(&self.now().day());
                let over = |limit: u64| spent >= limit || (spent > 0 && spent + ledger.max_call > limit);
                if self.day_micros.is_some_and(over) {
                    return Err(Stop::Broken(format!(
                        "{spent} of {:?} are spent, and a runner is asked",
                        self.day_micros
                    )));
                }
                self.decide(&mut beat, look, &reasons)
            }
        };
        ended?;
        self.memory = Some(beat);
        Ok(())
    }

    fn verdict(&self, beat: &LoopState, observed: &Observed) -> GateDecision {
        let bent;
        let beat = match self.mutant {
            Some(Mutant::RateIsEndless) => {
                bent = LoopState { decides: Vec::new(), ..beat.clone() };
                &bent
            }
            Some(Mutant::SeesChanges) => {
                bent = LoopState { converged: looop::rules::beat::state::Convergence::No, ..beat.clone() };
                &bent
            }
            _ => beat,
        };
        gate::judge(beat, observed, None, &self.limits, self.now())
    }

    /// The memory. What was kept of it since the last tick is what the file holds.
    fn recall(&mut self) -> Result<LoopState, Stop> {
        if let Some(beat) = self.memory.take() {
            return Ok(beat);
        }
        let Some(text) = self.disk.read(BEAT) else { return Ok(LoopState::default()) };
        let beat: LoopState = serde_json::from_str(text)
            .map_err(|error| Stop::Broken(format!("the memory is no more: {error}: {text:.40}")))?;
        match beat.problem() {
            Some(why) => Err(Stop::Broken(why)),
            None => Ok(beat),
        }
    }

    fn settle_leftovers(&mut self, beat: &mut LoopState) -> Result<(), Stop> {
        let at = self.now();
        if let Some(call) = beat.inflight.clone() {
            let known = self.judge.ledger.lines(&call.beat) > 0 || self.is(Mutant::ForgetsCall);
            let charge = (!known).then(|| Box::new(step::unknown_charge(&call, at)));
            self.drive(beat, LoopEvent::CutOff { at, charge })?;
        }
        let Some(intent) = beat.intent.clone() else { return Ok(()) };
        let tail = tail_of(&self.disk);
        let looked: Result<Probe, ()> = match (&intent.operation, self.is(Mutant::RunsAgain)) {
            (Operation::Exec { .. }, true) => Ok(Probe::NotMade),
            _ => step::probe(&intent, tail, &mut |_| false, &mut |intent| match &intent.operation {
                Operation::Fleet | Operation::StartWorker(_) => {
                    Ok(self.fleet.probe(&intent.beat, &intent.decided))
                }
                operation => step::compare(operation, &mut |path| Ok(self.digest(path))),
            }),
        };
        let probe = looked.unwrap_or(Probe::Made);
        self.judge.acting = Some(intent);
        self.drive(beat, LoopEvent::Unfinished { at, probe })
    }

    pub fn digest(&self, path: &str) -> Option<String> {
        self.disk.read(path).map(|text| blake3::hash(text.as_bytes()).to_hex().to_string())
    }

    fn sense(&mut self, beat: &LoopState) -> Look {
        let now = self.now();
        let read = LoopStatus { workers: self.fleet.views(), budget: self.budget(), ..LoopStatus::default() };
        let when = if self.is(Mutant::NeverExpires) { now.at(0) } else { now };
        let fired = if self.is(Mutant::FiresAgain) { BTreeMap::new() } else { beat.fired.clone() };
        let bent = LoopState { fired, closed_asks: beat.closed_asks.clone(), ..LoopState::default() };
        let (mut own, approved) = observed::own_state(read, &bent, when, &self.asks, &BTreeMap::new());
        own.due =
            observed::own_state(LoopStatus::default(), &bent, now, &Default::default(), &self.schedules)
                .0
                .due;
        if self.is(Mutant::LosesAnswers) {
            own.answers.clear();
        }
        let goals = self.goals.clone();
        let playbook = self.disk.text(PLAYBOOK).to_owned();
        let sight = Sight { playbook, goals, readings: self.readings(), own };
        let key = (
            self.facts(sight.own.budget),
            sight.own.answers.iter().map(|a| (a.ask.clone(), a.answer.clone())).collect(),
        );
        let known = self.known.take().filter(|known| known.0 == key);
        let known = known.unwrap_or_else(|| (key, sight.items(), sight.user_files_digest()));
        let (facts, items, user_files) = (known.0.0.clone(), known.1.clone(), known.2.clone());
        self.known = Some(known);
        let paused = self.paused.then(|| Paused { since_ms: 0, why: "a human".to_owned() });
        let capped = self.capped();
        let observed =
            Observed { world: sight, approved, items, user_files, paused, capped, ..Observed::default() };
        Look { observed, facts }
    }

    /// What the budget's state is, from the ledger as it can be read.
    pub fn budget(&self) -> BudgetState {
        match self.day_micros {
            Some(_) => BudgetState::of(self.judge.ledger.spent(&self.now().day()), self.day_micros),
            None => BudgetState::Ok,
        }
    }

    /// The cap that leaves no room for what the next call may cost.
    fn capped(&self) -> Option<BudgetExceeded> {
        self.day_micros.filter(|_| !self.is(Mutant::BudgetIsEndless))?;
        let (ledger, now) = (&self.judge.ledger, self.now());
        let spent = Spending { day_micros: ledger.spent(&now.day()), ..Spending::default() };
        let budget = Budget { day_micros: self.day_micros, ..Budget::default() };
        let micros = if ledger.max_call > 0 { ledger.max_call } else { UNKNOWN_CALL_MICROS };
        let wanted = Reserved { micros, goal: None, runner: "pi".to_owned() };
        budget::all_exceeded(&budget, &spent, &[], &Raised::default(), &wanted, now).pop()
    }

    fn held(&mut self, beat: &mut LoopState, hold: &Hold) -> Result<(), Stop> {
        if let Hold::OutOfBudget { exceeded, .. } = hold
            && beat.budget_notice.as_ref() != Some(&exceeded.window)
        {
            let now_ms = self.now().unix_ms;
            let text = "No decision is made.".to_owned();
            let ask = QuestionFile {
                expires_ms: Some(exceeded.resets_ms),
                ..QuestionFile::new(Name::joined("budget", "day"), &beat_id(now_ms), now_ms, text)
            };
            self.drive(beat, LoopEvent::OutOfBudget { notice: exceeded.window.clone(), ask: Box::new(ask) })?;
        }
        Ok(())
    }

    /// Adds what only a move needs.
    fn sensed(&self, beat: &LoopState, observed: Observed) -> Observed {
        let held = self.schedules.keys().filter_map(|id| {
            let path = layout::schedule_path(id);
            Some((path.clone(), self.digest(&path)?))
        });
        Observed {
            asks: self.asks.clone(),
            schedules: self.schedules.clone(),
            held: held.collect(),
            tainted: observed.world.is_tainted(beat) && !self.is(Mutant::ForgetsTaint),
            ..observed
        }
    }

    fn approved(&mut self, beat: &mut LoopState, observed: Observed) -> Result<(), Stop> {
        let Some(ask) = observed.approved.clone() else { return Ok(()) };
        let sensed = self.sensed(beat, observed);
        let id = beat_id(beat.next_ms(self.now()));
        let (decided, plan) = self.plan_approved(&sensed, &ask);
        let prompt = prompt::Prompt::default();
        let seen = ObservedInputs {
            prompt: String::new(),
            unchanged: true,
            tainted: false,
            ..sensed.inputs(&id, self.now(), false, &prompt)
        };
        let until_ms = ask.expires_ms.unwrap_or(i64::MAX);
        let approval = Some(UsedApproval { ask: ask.id.clone(), until_ms, committed: Vec::new() });
        self.tally.count("approved moves");
        self.judge.used(&ask);
        let decided =
            Decided { seen, decided, operation: plan.operation, then: plan.then, charge: None, approval };
        self.drive(beat, LoopEvent::Decided(Box::new(decided)))?;
        self.tidy(beat)
    }

    fn decide(&mut self, beat: &mut LoopState, look: Look, reasons: &[Reason]) -> Result<(), Stop> {
        let Look { observed, facts } = look;
        let sensed = self.sensed(beat, observed);
        let id = beat_id(beat.next_ms(self.now()));
        // What the memory keeps, computed by the code of the tick itself.
        let prompt = prompt::Prompt::default();
        let seen = sensed.inputs(&id, self.now(), reasons.contains(&Reason::Aged), &prompt);
        self.disk.write("runs/prompt.md", &id, false)?;
        // Git takes what is not in it yet, most of the time.
        let committed = match self.rng.usize(..1000) >= 50 {
            true => beat.uncommitted.iter().map(|note| note.beat.clone()).collect(),
            false => Vec::new(),
        };
        let call = Inflight {
            beat: id.clone(),
            runner: "pi".to_owned(),
            at_ms: self.now().unix_ms,
            user_files: seen.user_files.clone(),
            sensors: seen.sensors.clone(),
            reserved_micros: self.judge.ledger.max_call,
        };
        self.drive(beat, LoopEvent::Asking { call: Box::new(call), committed })?;
        self.tally.count("calls");
        self.judge.asked(&id, self.true_ms, self.limits.decides_per_hour).map_err(Stop::Broken)?;
        self.disk.point()?;
        let usage = Usage { cost_micros: self.rng.usize(0..40_000) as u64, ..Usage::nothing() };
        let charge = |usage: Usage, now: looop::rules::time::Now| {
            Box::new(Charge {
                at_ms: now.unix_ms,
                day: now.day(),
                beat: id.clone(),
                goal: None,
                worker: None,
                runner: "pi".to_owned(),
                sensors: seen.sensors.clone(),
                usage,
            })
        };
        // Thinking takes time.
        let took = self.rng.i64(1_000..60_000);
        (self.wall_ms, self.true_ms, self.mono_ms) =
            (self.wall_ms + took, self.true_ms + took, self.mono_ms + took);
        let now = self.now();
        let user_files = seen.user_files.clone();
        let event = match self.reply() {
            Err(Class::Cancelled) => LoopEvent::Cancelled { charge: charge(usage, now) },
            Err(class) => {
                let retry_at_ms =
                    (class == Class::Limit).then(|| now.unix_ms + self.rng.i64(-5_000..100_000_000));
                let failure = Failure {
                    beat: id.clone(),
                    at_ms: now.unix_ms,
                    class,
                    why: "w".to_owned(),
                    retry_at_ms,
                    clean: false,
                };
                let charge = (class != Class::Down).then(|| charge(usage, now));
                if charge.is_none() {
                    self.judge.forget_call(&id);
                }
                LoopEvent::Failed { failure, charge, user_files }
            }
            Ok(decided) => {
                let plan = self.plan(beat, &sensed, &id, &decided);
                self.judge.decided(&facts, &sensed.world, &sensed, &decided, beat, self.true_ms);
                self.tally.count("decided moves");
                let charge = Some(charge(usage, now));
                let (operation, then) = (plan.operation, plan.then);
                LoopEvent::Decided(Box::new(Decided {
                    seen,
                    decided,
                    operation,
                    then,
                    charge,
                    approval: None,
                }))
            }
        };
        let is_move = matches!(event, LoopEvent::Decided(_));
        self.drive(beat, event)?;
        self.tidy(beat)?;
        if is_move {
            self.fleet.put_away(&sensed.world.own.workers);
            let starved = beat.starved(self.goals.keys());
            let starved = if self.is(Mutant::HidesStarved) { Vec::new() } else { starved };
            self.judge.starves(beat, &starved, &self.goals).map_err(Stop::Broken)?;
        }
        Ok(())
    }

    /// Puts closed asks and spent timers away.
    fn tidy(&mut self, beat: &mut LoopState) -> Result<(), Stop> {
        for id in self.ask_names() {
            if beat.closed_asks.contains(&id) {
                for path in [answer_path(&id), layout::ask_path(&id)] {
                    if self.disk.has(&path) {
                        self.disk.remove(&path)?;
                    }
                }
                self.refresh(&layout::ask_path(&id));
            }
        }
        let now = self.now();
        let spent: Vec<Name> = self
            .schedules
            .iter()
            .filter(|(id, timer)| timer.is_spent(beat.fired.get(*id).copied(), now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in spent {
            self.drive(beat, LoopEvent::TimerSpent { path: layout::schedule_path(&id) })?;
            self.disk.remove(&layout::schedule_path(&id))?;
            self.refresh(&layout::schedule_path(&id));
        }
        Ok(())
    }

    pub fn drive(&mut self, mut beat: &mut LoopState, event: LoopEvent) -> Result<(), Stop> {
        if let LoopEvent::Decided(decided) = &event {
            self.judge.acting = Some(Intent {
                beat: decided.seen.beat.clone(),
                at_ms: decided.seen.at.unix_ms,
                decided: decided.decided.clone(),
                operation: decided.operation.clone(),
                then: decided.then.clone(),
                started: None,
                clean: false,
                note: Default::default(),
            });
        }
        let Some(mutant) = self.mutant else {
            return step::drive(&mut beat, event, &mut |beat, effect| self.perform(beat, effect));
        };
        let mut queue: VecDeque<Effect> = bend(step::step(beat, event), mutant).into();
        while let Some(effect) = queue.pop_front() {
            let back = self.perform(beat, effect)?;
            queue.extend(back.into_iter().flat_map(|event| bend(step::step(beat, event), mutant)));
        }
        Ok(())
    }

    fn perform(&mut self, beat: &mut LoopState, effect: Effect) -> Result<Option<LoopEvent>, Stop> {
        match effect {
            Effect::Charge(charge) => {
                self.disk.append(LEDGER, &serde_json::to_string(&charge).expect("a charge has a form"))?;
            }
            Effect::Save(next) => {
                self.disk.write(BEAT, &serde_json::to_string(&next).expect("a memory has a form"), true)?;
                *beat = *next;
            }
            Effect::Journal(line) => {
                self.disk.append(JOURNAL, &line)?;
                self.judge.journaled(&line, &self.disk).map_err(Stop::Broken)?;
            }
            Effect::Sync(_) if self.is(Mutant::BelievesUnsynced) => {}
            Effect::Sync(found) => {
                let paths = match &found {
                    Evidence::Memory => vec![BEAT],
                    Evidence::Charge => vec![LEDGER],
                    Evidence::Line => vec![JOURNAL],
                    Evidence::Change(Operation::Write { path, .. } | Operation::Remove { path, .. }) => {
                        vec![path.as_str()]
                    }
                    Evidence::Change(Operation::Rename { from, to, .. }) => vec![to.as_str(), from.as_str()],
                    Evidence::Change(_) => Vec::new(),
                };
                paths.into_iter().try_for_each(|path| self.disk.sync_found(path))?;
            }
            Effect::Flag(ask) => {
                let path = layout::ask_path(&ask.id);
                if !self.disk.has(&path) {
                    self.disk.write(&path, &json_text(ask.as_ref()).expect("an ask has a form"), true)?;
                    self.refresh(&path);
                }
            }
            Effect::Act(intent) => {
                let outcome = self.act(beat, &intent)?;
                return Ok(Some(LoopEvent::Acted { at: self.now(), outcome }));
            }
        }
        Ok(None)
    }

    fn act(&mut self, beat: &mut LoopState, intent: &Intent) -> Result<MoveOutcome, Stop> {
        match &intent.operation {
            Operation::Exec { argv, .. } => {
                if !self.is(Mutant::SkipsStarted) {
                    let started = Started { pid: 7, start: 9, boot: self.boot.to_string() };
                    self.drive(beat, LoopEvent::Spawned(started))?;
                }
                // The byte that lets it go.
                self.disk.point()?;
                let tail = if self.rng.usize(..1000) < 300 { "out" } else { "" };
                self.judge.runs(intent, argv, self.script, !tail.is_empty()).map_err(Stop::Broken)?;
                self.tally.count("commands");
                // It is cut off in the middle.
                self.disk.point()?;
                Ok(MoveOutcome::Ran { status: "exit 0".to_owned(), tail: tail.to_owned(), took_ms: 1 })
            }
            Operation::Fleet | Operation::StartWorker(_) => self.act_on_fleet(intent),
            operation => match step::compare::<()>(operation, &mut |path| Ok(self.digest(path))) {
                Ok(Probe::NotMade) => {
                    self.judge.writes(intent).map_err(Stop::Broken)?;
                    self.change(operation)?;
                    Ok(intent.then.clone())
                }
                Ok(Probe::Made) => Ok(intent.then.clone()),
                _ => Ok(MoveOutcome::Refused { why: CHANGED.to_owned() }),
            },
        }
    }

    fn change(&mut self, operation: &Operation) -> Result<(), Stop> {
        let (changed, paths): (_, Vec<&String>) = match operation {
            Operation::Write { path, text, .. } => (self.disk.write(path, text, true), vec![path]),
            Operation::Rename { from, to, .. } => (self.disk.move_synced(from, to), vec![from, to]),
            Operation::Remove { path, .. } => (self.disk.remove(path), vec![path]),
            _ => return Ok(()),
        };
        // What was made before the power went may be there.
        paths.into_iter().for_each(|path| self.refresh(path));
        Ok(changed?)
    }

    pub fn after_tick(&mut self, ended: Result<(), Stop>) -> Result<(), String> {
        self.disk.full = false;
        match ended {
            Ok(()) => {
                self.disk.fuse = usize::MAX;
                self.read_ledger();
                self.judge.settled(&self.disk, self.memory.as_ref())
            }
            Err(Stop::Broken(what)) => Err(what),
            Err(Stop::Trouble(trouble)) => {
                self.memory = None;
                self.known = None;
                if trouble == Trouble::Power {
                    self.crash();
                }
                self.disk.fuse = usize::MAX;
                self.read_ledger();
                Ok(())
            }
        }
    }

    pub fn read_ledger(&mut self) {
        self.judge.ledger.read(self.disk.text(LEDGER));
    }
}

fn bend(mut effects: Vec<Effect>, mutant: Mutant) -> Vec<Effect> {
    match mutant {
        Mutant::ActsBeforeIntent => effects.sort_by_key(|effect| !matches!(effect, Effect::Act(_))),
        Mutant::SavesBeforeJournal => effects.sort_by_key(|effect| matches!(effect, Effect::Journal(_))),
        Mutant::KeepsApproval => effects.iter_mut().for_each(|effect| {
            if let Effect::Save(beat) = effect {
                beat.closed_asks.retain(|id| !beat.used.contains_key(id));
                beat.used.clear();
            }
        }),
        _ => {}
    }
    effects
}

/// What a journal's line says became of its move.
pub fn outcome(line: &str, decided: &Move) -> MoveOutcome {
    entry::outcome(line, decided)
}
