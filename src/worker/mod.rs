//! The edge to workers: what the loop asks of whoever runs them, and the ones of this machine.

pub mod attach;
pub mod client;
pub mod clone;
pub mod export;
pub mod fleet;
mod hush;
pub mod keys;
pub mod paint;
mod recover;
pub mod screen;
pub mod start;
pub mod supervise;
pub mod surface;

use anyhow::Result;

use crate::model::decision::Move;
use crate::model::entry::Outcome;
use crate::model::scope::ApprovalScope;
use crate::model::step::Probe;
use crate::model::worker::WorkerView;

/// What policy has to know about a worker that a move would start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Described {
    /// If true, the process that starts and the checks of its work run in a full sandbox.
    pub is_full: bool,
    /// True when a check is a shell line and no entry of the config.
    pub free_check: bool,
    /// True when it may cost money.
    pub paid: bool,
}

/// Whoever runs workers. A trait because workers are slow and random; the loop is tested with a scripted one.
pub trait Fleet {
    /// Workers that live, and ended ones that no decision has seen; and a line for each that cannot be read.
    ///
    /// # Errors
    /// When they cannot be listed: an error is never taken for "none".
    fn workers(&self) -> Result<(Vec<WorkerView>, Vec<String>)>;

    /// What a move would run; empty for one that runs nothing. The inner error says why it cannot be made at all.
    ///
    /// # Errors
    /// When a file cannot be read.
    fn describe(&self, decided: &Move) -> Result<Result<Described, String>>;

    /// All that a yes to the start of a worker covers, as it is now; `form` and `action` are left to the caller. The inner
    /// error says why it cannot be started at all.
    ///
    /// # Errors
    /// When a file cannot be read.
    fn scope(&self, decided: &Move) -> Result<Result<ApprovalScope, String>>;

    /// Makes a move of this beat about workers. Tainted: text of strangers was in front of who decided it. `approved` is
    /// what a human said yes to: if any part of it differs now, no worker starts.
    ///
    /// # Errors
    /// When it could not be made.
    fn perform(
        &self,
        beat: &str,
        decided: &Move,
        is_tainted: bool,
        approved: Option<&ApprovalScope>,
    ) -> Result<Outcome>;

    /// Finds out whether this beat made the move before it was interrupted.
    ///
    /// # Errors
    /// When that cannot be found out now.
    fn probe(&self, beat: &str, decided: &Move) -> Result<Probe>;

    /// Ends what is left of workers whose supervisors died without ending it, finds out what ended workers left in
    /// their clones where that is not known, and fetches branches that could not be fetched before.
    ///
    /// # Errors
    /// When the workers cannot be listed.
    fn end_lost(&self) -> Result<()>;

    /// Puts away those of these workers that have ended: a decision has seen them.
    ///
    /// # Errors
    /// When one cannot be put away; it is seen again then.
    fn put_away(&self, seen: &[WorkerView]) -> Result<()>;
}
