//! What a worker spends, read from what it prints: where that is the stream of events of an agent CLI, each turn of it
//! is a charge.

use super::Supervisor;
use crate::model::charge::Usage;
use crate::runner::said::Stream;
use crate::runner::table;

/// Reads a worker's output as events and keeps count of what was charged already.
pub(super) struct Meter {
    stream: Stream,
    charged: Usage,
}

impl Meter {
    /// A meter for a command that prints events; none for every other.
    pub(super) fn of(argv: &[String]) -> Option<Meter> {
        let reader = table::streamed_by(argv)?;
        Some(Meter { stream: Stream::new(reader), charged: Usage::nothing() })
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
            self.metered(used);
        }
    }

    /// Charges what is left when the program has ended.
    pub(super) fn meter_rest(&mut self) {
        if let Some(used) = self.meter.take().and_then(Meter::rest) {
            self.metered(used);
        }
    }

    fn metered(&mut self, used: Usage) {
        match self.spend(used, None) {
            Ok(Ok(_)) => {}
            Ok(Err(refusal)) => self.event("spend_not_charged", &refusal),
            Err(error) => self.event("spend_not_charged", &format!("{error:#}")),
        }
    }
}
