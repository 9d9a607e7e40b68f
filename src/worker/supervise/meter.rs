//! The spending of a worker: reported by itself, or read from its output if that is the event stream of an agent CLI,
//! where each turn is a charge. Before each turn its possible cost is reserved.

use anyhow::Result;

use super::serve::Refusal;
use super::stage::Stage;
use super::{Supervisor, now};
use crate::agents::{self, stream::EventStream};
use crate::model::charge::{Charge, Usage, dollars};
use crate::model::json::clip;
use crate::model::name::Name;
use crate::model::worker::Phase;
use crate::store::budget::{self, BudgetRequest};
use crate::store::{Denied, ledger, lock};

/// How often a worker may report its spending: each report is a line of the ledger.
const MAX_CHARGES: u32 = 10_000;
/// The longest name of a model that is kept, in characters.
const MAX_MODEL_CHARS: usize = 100;

/// Reads a worker's output as events, and tracks what was charged already.
pub(super) struct Meter {
    stream: EventStream,
    charged: Usage,
}

impl Meter {
    /// Makes a meter for a command that prints events; `None` for every other command.
    pub(super) fn of(argv: &[String]) -> Option<Meter> {
        let reader = agents::events_of(argv)?;
        Some(Meter { stream: EventStream::new(reader), charged: Usage::nothing() })
    }

    /// Takes output, and returns the usage since the last charge if a turn has ended in it.
    fn take(&mut self, bytes: &[u8]) -> Option<Usage> {
        // Ignore its limits: a worker may call its model and print as often as it needs.
        self.stream.feed(bytes).ok();
        let more = self.stream.settled().beyond(&self.charged)?;
        self.charged = self.stream.settled().clone();
        Some(more)
    }

    /// Returns the uncharged usage after the end of the program: its last turn may have been cut short.
    fn rest(self) -> Option<Usage> {
        self.stream.end().usage.beyond(&self.charged)
    }
}

impl Supervisor {
    /// Charges the usage in these events.
    pub(super) fn meter(&mut self, bytes: &[u8]) {
        if let Some(used) = self.meter.as_mut().and_then(|meter| meter.take(bytes)) {
            let charged = self.charge(used);
            if matches!(charged, Ok(Ok(()))) {
                self.reserve();
            }
            self.tell_uncharged(charged);
        }
    }

    /// Charges the rest when the program has ended. It spends no more, so no cap keeps its work from its checks.
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

    /// Takes the cost of a turn. If no cap has room for another turn, the worker ends; its clone stays.
    pub(super) fn spend(&mut self, usage: Usage) -> Result<Result<String, Refusal>> {
        if matches!(self.stage, Stage::Over) {
            return Ok(Err("it is not charged: this worker has ended".to_owned()));
        }
        Ok(self.charge(usage)?.and_then(|()| match self.reserve() {
            None => Ok(String::new()),
            // An agent that continues as long as it is allowed stops here, before it is ended.
            Some(why) => Err(format!("it is charged, and this worker ends: {why}")),
        }))
    }

    /// Counts reported spending: under the worker's own runner, and within its own budget.
    fn charge(&mut self, stated: Usage) -> Result<Result<(), Refusal>> {
        if self.charges >= MAX_CHARGES {
            let why = format!("it reported its spending {MAX_CHARGES} times, which is the limit");
            self.end(Phase::Failed, &why);
            return Ok(Err(why));
        }
        let at = now();
        let left = budget::own_budget(&self.spec)
            .map_or(u64::MAX, |(micros, _)| micros.saturating_sub(self.state.cost_micros));
        let cost_micros = stated.cost_micros.min(left);
        if cost_micros < stated.cost_micros {
            let stated = dollars(stated.cost_micros);
            let why = format!("it reported {stated}, but its own budget has {} left", dollars(cost_micros));
            self.event("spend_beyond_budget", &why);
        }
        let model = stated.model.as_ref().map(|model| clip(&self.secrets.redact(model), MAX_MODEL_CHARS));
        let charge = Charge {
            at_ms: at.unix_ms,
            day: at.day(),
            beat: self.spec.by.clone(),
            goal: self.spec.goal.as_ref().map(Name::to_string),
            worker: Some(self.spec.id.to_string()),
            runner: budget::runner_of(&self.spec).to_owned(),
            sensors: Vec::new(),
            usage: Usage { cost_micros, model, ..stated },
        };
        let charged = self.fenced(|| ledger::append(&self.layout, &charge))?;
        if charged.is_ok() {
            self.charges += 1;
            self.state.cost_micros = self.state.cost_micros.saturating_add(cost_micros);
            self.save();
        }
        Ok(charged)
    }

    /// Reserves what the next turn may cost, or ends the worker and returns why.
    fn reserve(&mut self) -> Option<String> {
        let own = budget::own_budget(&self.spec).filter(|(micros, _)| self.state.cost_micros >= *micros);
        if let Some((micros, key)) = own {
            return Some(self.spent_all(format!("it spent its budget of {} ({key})", dollars(micros))));
        }
        let wanted = BudgetRequest::turn(&self.spec, self.state.cost_micros);
        let reserved = lock::store(&self.layout.store_lock())
            .map_err(Denied::from)
            .and_then(|_held| budget::reserve(&self.layout, &self.spec.limits.budget, wanted, now()));
        match reserved {
            Ok(()) => None,
            Err(Denied::Refused(hit)) => Some(self.spent_all(hit.words(now()))),
            Err(Denied::Failed(error)) => {
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
