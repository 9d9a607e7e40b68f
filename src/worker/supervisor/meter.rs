//! The spending of a worker: reported by itself, or read from its output if that is the event stream of an agent CLI,
//! where each turn is a charge. Before each turn its possible cost is reserved.

use super::record::Record;
use super::refusal::RequestRefusal;
use crate::agents::{self, stream::EventStream};
use crate::os::clock;
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::{Charge, Usage, dollars};
use crate::rules::json::clip;
use crate::rules::name::Name;
use crate::store::budget::{self, BudgetRequest};
use crate::store::{Denied, ledger, lock};

/// How often a worker may report its spending: each report is a line of the ledger.
const MAX_CHARGES: u32 = 10_000;
/// The longest name of a model that is kept, in characters.
const MAX_MODEL_CHARS: usize = 100;

/// Counts what a worker spends.
pub(super) struct Meter {
    /// The events in its output and what was charged of them, if its command prints events.
    events: Option<(EventStream, Usage)>,
    /// How often its spending was charged.
    charges: u32,
}

impl Meter {
    pub(super) fn of(argv: &[String]) -> Meter {
        let mut meter = Meter { events: None, charges: 0 };
        meter.restart(argv);
        meter
    }

    /// Begins to read the output of the worker's next command.
    pub(super) fn restart(&mut self, argv: &[String]) {
        self.events = agents::events_of(argv).map(|reader| (EventStream::new(reader), Usage::nothing()));
    }

    /// Takes output, and returns the usage since the last charge if a turn has ended in it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<Usage> {
        let (stream, charged) = self.events.as_mut()?;
        // Ignore its limits: a worker may call its model and print as often as it needs.
        stream.feed(bytes);
        let more = stream.settled().beyond(charged)?;
        *charged = stream.settled().clone();
        Some(more)
    }

    /// Returns the usage limit at which the events end: its words, and when it ends, in milliseconds since the Unix epoch.
    pub(super) fn usage_limit(&self) -> Option<(String, Option<i64>)> {
        let (stream, _) = self.events.as_ref()?;
        let failure = stream.failure().filter(|failure| failure.class == Class::Limit)?;
        Some((failure.why.clone(), stream.resets_at_s().map(|seconds| seconds.saturating_mul(1000))))
    }

    /// Returns the uncharged usage after the end of the program: its last turn may have been cut short.
    pub(super) fn rest(&mut self) -> Option<Usage> {
        let (stream, charged) = self.events.take()?;
        stream.end().usage.beyond(&charged)
    }

    /// Counts spending: under the worker's own runner, and within its own budget. Unless it is the last, reserves what
    /// the next turn may cost.
    pub(super) fn charge(
        &mut self,
        record: &mut Record,
        stated: Usage,
        is_last: bool,
    ) -> Result<(), RequestRefusal> {
        if self.charges >= MAX_CHARGES {
            return Err(RequestRefusal::TooManyCharges(MAX_CHARGES));
        }
        let spec = &record.spec;
        let left = budget::own_budget(spec)
            .map_or(u64::MAX, |(micros, _)| micros.saturating_sub(record.state.cost_micros));
        let cost_micros = stated.cost_micros.min(left);
        if cost_micros < stated.cost_micros {
            let stated = dollars(stated.cost_micros);
            let why = format!("it reported {stated}, but its own budget has {} left", dollars(cost_micros));
            record.log("spend_beyond_budget", &why);
        }
        let model = stated.model.as_ref().map(|model| clip(&record.clean(model), MAX_MODEL_CHARS));
        let usage = Usage { cost_micros, model, ..stated };
        let charge = Charge {
            goal: spec.goal.as_ref().map(Name::to_string),
            worker: Some(spec.id.to_string()),
            ..Charge::new(clock::now(), &spec.by, budget::runner_of(spec), usage)
        };
        record.fenced(|| ledger::append(&record.layout, &charge))?;
        self.charges += 1;
        record.state.cost_micros = record.state.cost_micros.saturating_add(cost_micros);
        record.save();
        if is_last { Ok(()) } else { reserve(record) }
    }
}

/// Reserves what the next turn may cost.
fn reserve(record: &Record) -> Result<(), RequestRefusal> {
    let cost_micros = record.state.cost_micros;
    if let Some((micros, key)) = budget::own_budget(&record.spec).filter(|(micros, _)| cost_micros >= *micros)
    {
        let why = format!("it spent its budget of {} ({key})", dollars(micros));
        return Err(RequestRefusal::SpentAll(why));
    }
    let wanted = BudgetRequest::turn(&record.spec, cost_micros);
    let reserved = lock::store(&record.layout.store_lock())
        .map_err(Denied::from)
        .and_then(|_held| budget::reserve(&record.layout, &record.spec.limits.budget, wanted, clock::now()));
    match reserved {
        Ok(()) => Ok(()),
        Err(Denied::Refused(exceeded)) => Err(RequestRefusal::SpentAll(exceeded.words(clock::now()))),
        Err(Denied::Failed(error)) => {
            record.log("turn_not_reserved", &format!("{error:#}"));
            Ok(())
        }
    }
}
