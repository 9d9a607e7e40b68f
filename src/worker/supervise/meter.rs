//! What a worker spends: told by itself, or read from what it prints where that is the stream of events of an agent CLI,
//! each turn of which is a charge. Before each turn what it may cost is set aside.

use anyhow::Result;

use super::serve::Refusal;
use super::stage::Stage;
use super::{Supervisor, now};
use crate::agents::{self, stream::EventStream};
use crate::model::charge::{Charge, Usage, dollars};
use crate::model::json::clip;
use crate::model::name::Name;
use crate::model::worker::Phase;
use crate::store::budget::{self, Wanted};
use crate::store::{ledger, lock};

/// How often a worker may say what it spent: each time is a line of the ledger.
const MAX_CHARGES: u32 = 10_000;
/// The longest name of a model that is kept, in characters.
const MAX_MODEL_CHARS: usize = 100;

/// Reads a worker's output as events and keeps count of what was charged already.
pub(super) struct Meter {
    stream: EventStream,
    charged: Usage,
}

impl Meter {
    /// A meter for a command that prints events; none for every other.
    pub(super) fn of(argv: &[String]) -> Option<Meter> {
        let reader = agents::events_of(argv)?;
        Some(Meter { stream: EventStream::new(reader), charged: Usage::nothing() })
    }

    /// Takes output, and tells what was used since the last charge, where a turn has ended in it.
    fn take(&mut self, bytes: &[u8]) -> Option<Usage> {
        // It may ask its model as often as it likes and print as much: it has work to do.
        self.stream.feed(bytes).ok();
        let more = self.stream.settled().beyond(&self.charged)?;
        self.charged = self.stream.settled().clone();
        Some(more)
    }

    /// What was used and not charged when the program is gone: its last turn may have had no end.
    fn rest(self) -> Option<Usage> {
        self.stream.end().usage.beyond(&self.charged)
    }
}

impl Supervisor {
    /// Charges what the events in this output tell of.
    pub(super) fn meter(&mut self, bytes: &[u8]) {
        if let Some(used) = self.meter.as_mut().and_then(|meter| meter.take(bytes)) {
            let charged = self.charge(used);
            if matches!(charged, Ok(Ok(()))) {
                self.reserve();
            }
            self.tell_uncharged(charged);
        }
    }

    /// Charges what is left when the program has ended. It spends no more, so no cap keeps its work from its checks.
    pub(super) fn meter_rest(&mut self) {
        if let Some(used) = self.meter.take().and_then(Meter::rest) {
            let charged = self.charge(used);
            self.tell_uncharged(charged);
        }
    }

    fn tell_uncharged(&self, charged: Result<Result<(), Refusal>>) {
        match charged {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => self.event("spend_not_charged", &refusal),
            Err(error) => self.event("spend_not_charged", &format!("{error:#}")),
        }
    }

    /// Takes what a turn has cost. Where no cap has room for another one, the worker ends; its clone stays.
    pub(super) fn spend(&mut self, usage: Usage) -> Result<Result<String, Refusal>> {
        if matches!(self.stage, Stage::Over) {
            return Ok(Err("it is not charged: this worker has ended".to_owned()));
        }
        Ok(self.charge(usage)?.and_then(|()| match self.reserve() {
            None => Ok(String::new()),
            // Whoever goes on as long as it is let stops here, and not when it is ended.
            Some(why) => Err(format!("it is charged, and this worker ends: {why}")),
        }))
    }

    /// Counts what the worker says that it spent: under its own runner, and within its own budget.
    fn charge(&mut self, said: Usage) -> Result<Result<(), Refusal>> {
        if self.charges >= MAX_CHARGES {
            let why = format!("it said {MAX_CHARGES} times what it spent, and no more is counted");
            self.end(Phase::Failed, &why);
            return Ok(Err(why));
        }
        let at = now();
        let left = budget::own_budget(&self.spec)
            .map_or(u64::MAX, |(micros, _)| micros.saturating_sub(self.state.cost_micros));
        let cost_micros = said.cost_micros.min(left);
        if cost_micros < said.cost_micros {
            let said = dollars(said.cost_micros);
            let why = format!("it said {said}, and its own budget has {} left", dollars(cost_micros));
            self.event("spend_beyond_budget", &why);
        }
        let model = said.model.as_ref().map(|model| clip(&self.secrets.redact(model), MAX_MODEL_CHARS));
        let charge = Charge {
            at_ms: at.unix_ms,
            day: at.day(),
            beat: self.spec.by.clone(),
            goal: self.spec.goal.as_ref().map(Name::to_string),
            worker: Some(self.spec.id.to_string()),
            runner: budget::runner_of(&self.spec).to_owned(),
            sensors: Vec::new(),
            usage: Usage { cost_micros, model, ..said },
        };
        let charged = self.fenced(|| ledger::append(&self.layout, &charge))?;
        if charged.is_ok() {
            self.charges += 1;
            self.state.cost_micros = self.state.cost_micros.saturating_add(cost_micros);
            self.save();
        }
        Ok(charged)
    }

    /// Sets aside what the next turn may cost, or ends the worker and says why.
    fn reserve(&mut self) -> Option<String> {
        let own = budget::own_budget(&self.spec).filter(|(micros, _)| self.state.cost_micros >= *micros);
        if let Some((micros, key)) = own {
            return Some(self.spent_all(format!("it spent its budget of {} ({key})", dollars(micros))));
        }
        let wanted = Wanted::turn(&self.spec, self.state.cost_micros);
        let reserved = lock::store(&self.layout.store_lock())
            .and_then(|_held| budget::reserve(&self.layout, &self.spec.limits.budget, wanted, now()));
        match reserved {
            Ok(Ok(())) => None,
            Ok(Err(hit)) => Some(self.spent_all(hit.words(now()))),
            Err(error) => {
                self.event("turn_not_reserved", &format!("{error:#}"));
                None
            }
        }
    }

    fn spent_all(&mut self, why: String) -> String {
        self.end(Phase::Failed, &why);
        why
    }
}
