//! The edge to workers: what the loop asks of whoever runs them.

use crate::model::decision::Action;
use crate::model::entry::Outcome;
use crate::model::worker::WorkerView;

/// Whoever runs workers. A trait because workers are slow and random; the loop is tested with a scripted one.
pub trait Fleet {
    /// Workers that live, and ended ones that no decision has seen.
    ///
    /// # Errors
    /// When they cannot be listed: an error is never taken for "none".
    fn workers(&self) -> anyhow::Result<Vec<WorkerView>>;

    /// Why a move about workers cannot be made at all; none when it can.
    fn refuses(&self, action: &Action) -> Option<String>;

    /// Makes a move about workers.
    ///
    /// # Errors
    /// When it could not be made.
    fn perform(&self, action: &Action) -> anyhow::Result<Outcome>;
}

/// A machine without workers: every move about them is refused in words that reach the next decision.
#[derive(Clone, Copy, Debug)]
pub struct NoFleet;

impl Fleet for NoFleet {
    fn workers(&self) -> anyhow::Result<Vec<WorkerView>> {
        Ok(Vec::new())
    }

    fn refuses(&self, _: &Action) -> Option<String> {
        Some("no worker support yet".to_owned())
    }

    fn perform(&self, action: &Action) -> anyhow::Result<Outcome> {
        Ok(Outcome::Refused { why: self.refuses(action).unwrap_or_default() })
    }
}
