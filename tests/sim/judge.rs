//! What really happened in a simulation, apart from all that looop remembers, and whether the promises were kept.

use std::collections::{BTreeMap, BTreeSet};

use looop::rules::beat::ask::{Approval, AskReply, Asks, QuestionFile};
use looop::rules::beat::decision::{Action, Move};
use looop::rules::beat::entry::{self, MoveOutcome};
use looop::rules::beat::gate::{GateDecision, Hold};
use looop::rules::beat::state::{Intent, LoopState, Operation, STARVED_AFTER};
use looop::rules::beat::{observed::Observed, schedule::FireTime};
use looop::rules::world::{Goal, Trust, World as Sight};
use looop::rules::{cost::charge::Charge, name::Name};

use super::outside::{DAY, Facts, HOUR, JOURNAL, MINUTE, PLAYBOOK};
use super::{disk::Disk, tick::outcome};

/// How many decisions in a row may say that there is nothing to do while nothing changes: the one that settled the world
/// and three that it wished for, and one more when the last of them is old.
const QUIET: u32 = 5;

/// An approval that a user gave, and what was seen then.
#[derive(Clone, Debug)]
struct Yes {
    decided: Move,
    argv: Vec<String>,
    script: Option<String>,
    until_ms: i64,
    used: bool,
}

/// What a decision saw that is not yet known to have been completed.
#[derive(Debug)]
struct Pending {
    true_ms: i64,
    decisions: u64,
    facts: Facts,
    closed: Vec<(Name, i64)>,
    fired: Vec<(Name, i64)>,
    goals: Vec<Name>,
    aim: Option<Name>,
    is_noop: bool,
    news: bool,
}

/// The end of the journal, as far as the memory could still be about it.
pub fn tail_of(disk: &Disk) -> &str {
    let journal = disk.text(JOURNAL);
    &journal[journal.floor_char_boundary(journal.len().saturating_sub(64 * 1024))..]
}

/// The spend ledger as it can be read.
#[derive(Debug, Default)]
pub struct Ledger {
    lines: BTreeMap<String, u32>,
    days: BTreeMap<String, u64>,
    read: usize,
    /// The beat and the price of a last line that lacks its end.
    tail: Option<(String, String, u64)>,
    pub max_call: u64,
}

impl Ledger {
    /// Reads what is new; a file that is shorter than it was, or whose last line was torn, is read from its beginning.
    pub fn read(&mut self, text: &str) {
        if text.len() < self.read || !text.is_char_boundary(self.read) {
            *self = Ledger::default();
        }
        self.tail = None;
        for line in text[self.read..].split_inclusive('\n') {
            if !line.ends_with('\n') {
                let charge = serde_json::from_str::<Charge>(line).ok();
                self.tail = charge.map(|charge| (charge.beat, charge.day, charge.usage.cost_micros));
                break;
            }
            self.read += line.len();
            let Ok(charge) = serde_json::from_str::<Charge>(line) else { continue };
            *self.lines.entry(charge.beat).or_default() += 1;
            *self.days.entry(charge.day).or_default() += charge.usage.cost_micros;
            self.max_call = self.max_call.max(charge.usage.cost_micros);
        }
    }

    /// How many lines there are of a call.
    pub fn lines(&self, beat: &str) -> u32 {
        let last = self.tail.as_ref().is_some_and(|tail| tail.0 == beat);
        self.lines.get(beat).copied().unwrap_or(0) + u32::from(last)
    }

    pub fn spent(&self, day: &str) -> u64 {
        let last = self.tail.as_ref().filter(|tail| tail.1 == day).map_or(0, |tail| tail.2);
        self.days.get(day).copied().unwrap_or(0) + last
    }
}

#[derive(Debug, Default)]
pub struct Judge {
    pub ledger: Ledger,
    /// The move that is made now.
    pub acting: Option<Intent>,
    /// The facts as the last completed decision saw them.
    seen: Option<Facts>,
    pending: Option<Pending>,
    /// Asks that a decision saw closed, and approvals that were used.
    handled: BTreeSet<(Name, i64)>,
    using: Option<(Name, i64)>,
    /// The goal that an approved move serves.
    serving: Option<Name>,
    /// How often each timer fired in all, how often since a time, and that time.
    fired: BTreeMap<(Name, i64), (u32, u32, i64)>,
    quiet: u32,
    /// When runners were asked, and when the clock or the machine last jumped.
    asked: Vec<i64>,
    jumped_ms: i64,
    ids: BTreeSet<String>,
    calls: BTreeSet<String>,
    yes: Vec<Yes>,
    ran: BTreeSet<String>,
    unsent: Vec<String>,
    /// The last beats that are settled, and whether they stand in the ledger (else: in the journal).
    kept: Vec<(String, bool)>,
    /// Something may be lost since they were looked at.
    doubtful: bool,
    messages: BTreeSet<String>,
    /// What the last command printed is in front of the decider.
    output: bool,
    tainted: bool,
    since: BTreeMap<Name, u64>,
}

type Checked = Result<(), String>;

fn must(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl Judge {
    pub fn jumped(&mut self, true_ms: i64) {
        (self.jumped_ms, self.doubtful) = (true_ms, true);
        // What repeats may do so once more.
        self.fired.values_mut().for_each(|times| (times.1, times.2) = (0, true_ms));
    }

    /// A user saw an approval and says yes to it.
    pub fn approved(&mut self, ask: &QuestionFile, approval: &Approval) {
        self.yes.push(Yes {
            decided: approval.decided.clone(),
            argv: approval.scope.command.iter().flat_map(|command| command.argv.clone()).collect(),
            script: approval.scope.files.first().map(|file| file.content.clone()),
            until_ms: ask.expires_ms.unwrap_or(i64::MAX),
            used: false,
        });
    }

    pub fn used(&mut self, ask: &QuestionFile) {
        self.using = Some((ask.id.clone(), ask.created_ms));
        self.serving = ask.goal.clone();
    }

    /// What the memory of a new tick says about what the one before had begun.
    fn catch_up(&mut self, beat: &LoopState) {
        if let Some(using) = self.using.take_if(|using| beat.used.contains_key(&using.0)) {
            self.handled.insert(using);
            // What it did may be seen.
            self.quiet = 0;
            if let Some(goal) = self.serving.take() {
                self.since.insert(goal, 0);
            }
        }
        let Some(pending) = self.pending.take() else { return };
        if beat.decisions <= pending.decisions {
            return;
        }
        self.quiet = match (pending.is_noop, pending.news) {
            (true, false) => self.quiet + 1,
            _ => 0,
        };
        self.seen = Some(pending.facts);
        self.handled.extend(pending.closed);
        for fired in pending.fired {
            let times = self.fired.entry(fired).or_insert((0, 0, pending.true_ms));
            (times.0, times.1) = (times.0 + 1, times.1 + 1);
        }
        self.since.retain(|goal, _| pending.goals.contains(goal));
        for goal in pending.goals {
            self.since.entry(goal).and_modify(|since| *since += 1).or_insert(0);
        }
        if let Some(goal) = pending.aim {
            self.since.insert(goal, 0);
        }
    }

    /// Each ask that nobody has dealt with is in front of the decider or of the user, and none that is over is open.
    pub fn sensed(&mut self, sight: &Sight, asks: &Asks, beat: &LoopState, wall_ms: i64) -> Checked {
        self.catch_up(beat);
        for (id, (ask, answer)) in asks {
            let late = ask.expires_ms.is_some_and(|end| wall_ms >= end);
            let is_open = sight.own.open.iter().any(|open| open.0 == *id);
            must(!(late && is_open), || format!("{id} is open after its time"))?;
            let is_lost = !is_open
                && !self.handled.contains(&(id.clone(), ask.created_ms))
                && !beat.closed_asks.contains(id)
                && !sight.own.answers.iter().any(|answered| answered.ask == *id)
                && !matches!(answer.as_ref().map(|a| &a.reply), Some(AskReply::Approve { .. }) if !late);
            must(!is_lost, || format!("{id} is neither open nor answered nor dealt with"))?;
        }
        Ok(())
    }

    /// Asks that are closed and of which no completed decision knows.
    fn unseen(&self, asks: &Asks, wall_ms: i64) -> Vec<(Name, i64)> {
        let closed = |(ask, answer): &&(QuestionFile, Option<looop::rules::beat::ask::AnswerFile>)| {
            let reply = matches!(
                answer.as_ref().map(|a| &a.reply),
                Some(AskReply::Answer { .. } | AskReply::Reject { .. })
            );
            reply || ask.expires_ms.is_some_and(|end| wall_ms >= end)
        };
        let keys = asks.values().filter(closed).map(|(ask, _)| (ask.id.clone(), ask.created_ms));
        keys.filter(|key| !self.handled.contains(key) && self.using.as_ref() != Some(key)).collect()
    }

    /// Whether the gate was right: it holds back only for a while or while nothing is new, and asks only for a reason.
    pub fn judged(
        &mut self,
        verdict: &GateDecision,
        facts: &Facts,
        sight: &Sight,
        asks: &Asks,
        wall_ms: i64,
    ) -> Checked {
        let news =
            self.has_news(facts, true) || !self.unseen(asks, wall_ms).is_empty() || !sight.own.due.is_empty();
        match verdict {
            GateDecision::Hold(Hold::Idle) => must(!news && self.seen.is_some(), || {
                format!("idle, and there is news: {facts:?} after {:?}", self.seen)
            }),
            GateDecision::Hold(Hold::Flapping { .. }) => {
                must(!self.has_news(facts, false), || "a change is hidden by a restless sensor".to_owned())
            }
            GateDecision::Hold(Hold::BackingOff { left_ms, .. }) => {
                must((0..=DAY).contains(left_ms), || format!("it waits for {left_ms} ms"))
            }
            GateDecision::Hold(Hold::RateLimited { left_ms, .. }) => {
                must((0..=HOUR).contains(left_ms), || format!("it waits for {left_ms} ms"))
            }
            GateDecision::Hold(Hold::Halted { why }) => Err(format!("halted: {why}")),
            GateDecision::Hold(Hold::RunnerLimited { why, .. }) => Err(format!("limited: {why}")),
            GateDecision::Hold(Hold::Paused { .. } | Hold::OutOfBudget { .. })
            | GateDecision::Approved(_) => Ok(()),
            GateDecision::Decide(reasons) if !news => must(self.quiet < QUIET, || {
                format!("nothing changed, and {} decisions were asked for: {reasons:?}", self.quiet + 1)
            }),
            GateDecision::Decide(_) => Ok(()),
        }
    }

    /// True when there is something that the last completed decision did not see. A worker that was put away is none.
    fn has_news(&self, facts: &Facts, sensors: bool) -> bool {
        let Some(seen) = &self.seen else { return true };
        (sensors && seen.sensors != facts.sensors)
            || seen.texts != facts.texts
            || seen.budget != facts.budget
            || facts.workers.iter().any(|worker| !seen.workers.contains(worker))
    }

    /// A runner is asked, and has been paid for from now on.
    pub fn asked(&mut self, beat: &str, true_ms: i64, per_hour: usize) -> Checked {
        must(self.ids.insert(beat.to_owned()), || format!("{beat} is the id of two beats"))?;
        self.calls.insert(beat.to_owned());
        self.asked.retain(|at| true_ms - at < HOUR);
        self.asked.push(true_ms);
        let steady = true_ms - self.jumped_ms > HOUR;
        must(!steady || self.asked.len() <= per_hour, || {
            format!("{} decisions in an hour of {per_hour}", self.asked.len())
        })
    }

    /// A call that never was.
    pub fn forget_call(&mut self, beat: &str) {
        self.calls.remove(beat);
    }

    /// A decision is made on this world.
    pub fn decided(
        &mut self,
        facts: &Facts,
        sight: &Sight,
        sensed: &Observed,
        decided: &Move,
        beat: &LoopState,
        true_ms: i64,
    ) {
        let (asks, timers) = (&sensed.asks, &sensed.schedules);
        self.tainted =
            self.output || sight.readings.values().any(|reading| reading.trust == Trust::Untrusted);
        self.output = false;
        let closed: Vec<(Name, i64)> = sight
            .own
            .answers
            .iter()
            .filter_map(|answered| {
                asks.get(&answered.ask).map(|pair| (answered.ask.clone(), pair.0.created_ms))
            })
            .collect();
        let news = self.has_news(facts, true) || !closed.is_empty() || !sight.own.due.is_empty();
        self.pending = Some(Pending {
            true_ms,
            decisions: beat.decisions,
            facts: facts.clone(),
            closed,
            fired: sight
                .own
                .due
                .iter()
                .filter_map(|due| Some((due.name.clone(), timers.get(&due.name)?.created_ms)))
                .collect(),
            goals: sight.goals.keys().cloned().collect(),
            aim: match &decided.action {
                Action::WriteGoal { id, .. } => Some(id.clone()),
                _ => decided.goal.clone(),
            },
            is_noop: matches!(decided.action, Action::Noop {}),
            news,
        });
    }

    /// Each goal that no move served for long is shown as such.
    pub fn starves(
        &mut self,
        beat: &LoopState,
        shown: &[(Name, u64)],
        goals: &BTreeMap<Name, Goal>,
    ) -> Checked {
        self.catch_up(beat);
        // A power loss may take back a decision that was counted here.
        let hidden = self.since.iter().find(|(goal, since)| {
            **since > STARVED_AFTER + 2
                && goals.contains_key(*goal)
                && !shown.iter().any(|(other, _)| other == *goal)
        });
        must(hidden.is_none(), || format!("{hidden:?} starves and is not shown"))
    }

    /// A command gets its byte: somebody allowed exactly this, ahead of time or with an approval that is still good.
    pub fn runs(&mut self, intent: &Intent, argv: &[String], script: u64, prints: bool) -> Checked {
        must(self.ran.insert(intent.beat.clone()), || format!("{argv:?} runs twice in {}", intent.beat))?;
        self.unsent.push(intent.beat.clone());
        self.output = prints;
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        let allowed = match words.as_slice() {
            ["status"] => true,
            ["show", _] => !self.tainted,
            _ => false,
        };
        if allowed {
            return Ok(());
        }
        let script = Some(script.to_string());
        let yes = self
            .yes
            .iter_mut()
            .find(|yes| !yes.used && yes.argv == argv && yes.script == script && intent.at_ms < yes.until_ms);
        let Some(yes) = yes else { return Err(format!("{argv:?} runs without an approval")) };
        yes.used = true;
        Ok(())
    }

    /// A file is changed: what decides how looop judges only with an approval.
    pub fn writes(&mut self, intent: &Intent) -> Checked {
        let path = match &intent.operation {
            Operation::Write { path, .. } => path.as_str(),
            Operation::Rename { from, .. } => from,
            Operation::Remove { path, .. } => path,
            _ => "",
        };
        must(!path.starts_with(".git") && !path.starts_with("claims/"), || {
            format!("{path} is changed by a move")
        })?;
        if path != PLAYBOOK {
            return Ok(());
        }
        let yes = self
            .yes
            .iter_mut()
            .find(|yes| yes.decided.action == intent.decided.action && intent.at_ms < yes.until_ms);
        must(yes.is_some(), || "the playbook is changed without an approval".to_owned())
    }

    /// The journal has a line more: it says what is so, and nothing twice.
    pub fn journaled(&mut self, line: &str, disk: &Disk) -> Checked {
        let Some(entry) = entry::parse(line) else { return Err(format!("no line of a journal: {line}")) };
        // A power loss may have taken the first one.
        let end = format!(" [{}]", entry.beat);
        let is_twice = !self.messages.insert(entry.beat.clone())
            && tail_of(disk).lines().filter(|l| l.ends_with(&end)).count() > 1;
        must(!is_twice, || format!("{} has two lines", entry.beat))?;
        let Some(intent) = self.acting.as_ref().filter(|intent| intent.beat == entry.beat) else {
            return Ok(());
        };
        let says_made =
            matches!(outcome(line, &intent.decided), MoveOutcome::Done { .. } | MoveOutcome::Waits { .. });
        let is_made = match &intent.operation {
            Operation::Write { path, text, .. } => disk.read(path) == Some(text),
            Operation::Rename { from, to, .. } => !disk.has(from) && disk.has(to),
            Operation::Remove { path, .. } => !disk.has(path),
            _ => return Ok(()),
        };
        must(!says_made || is_made, || format!("the journal says what is not so: {line}"))
    }

    /// A tick came to its end: nothing is under way, and all that was done is told, once, and paid for, once.
    pub fn settled(&mut self, disk: &Disk, memory: Option<&LoopState>) -> Checked {
        let Some(beat) = memory else { return Ok(()) };
        must(beat.intent.is_none() && beat.inflight.is_none(), || "something is left unsettled".to_owned())?;
        for (id, is_call) in self.kept.iter().filter(|_| self.doubtful) {
            let stands = match is_call {
                true => self.ledger.lines(id) == 1,
                false => entry::find(tail_of(disk), id).is_some(),
            };
            must(stands, || format!("what was known of {id} is lost"))?;
        }
        self.doubtful = false;
        for id in std::mem::take(&mut self.unsent) {
            let line = entry::find(tail_of(disk), &id);
            must(line.is_some_and(|line| line.contains("exit 0") || line.contains("unknown")), || {
                format!("{id} ran without a trace")
            })?;
            self.kept.push((id, false));
        }
        for call in std::mem::take(&mut self.calls) {
            let lines = self.ledger.lines(&call);
            must(lines == 1, || format!("the call of {call} stands {lines} times in the ledger"))?;
            self.kept.push((call, true));
        }
        let old = self.kept.len().saturating_sub(6);
        self.kept.drain(..old);
        Ok(())
    }

    /// A timer that fires once fires once, and one that repeats no more often than it says.
    pub fn timers(
        &self,
        true_ms: i64,
        made: &BTreeMap<Name, looop::rules::beat::schedule::Schedule>,
    ) -> Checked {
        for (id, timer) in made {
            let (all, lately, since_ms) =
                self.fired.get(&(id.clone(), timer.created_ms)).copied().unwrap_or_default();
            let (count, most) = match timer.when {
                FireTime::InS(_) => (all, 1),
                // On a fixed grid, once for any that was missed before, and once when the clock jumped.
                FireTime::EveryS(s) => (lately, 3 + (true_ms - since_ms + MINUTE) / (i64::from(s) * 1000)),
                FireTime::Cron(_) => continue,
            };
            must(i64::from(count) <= most, || {
                format!("the timer {id} fired {count} times, where {most} are the most")
            })?;
        }
        Ok(())
    }
}
