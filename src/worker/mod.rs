//! Workers: the interface that the loop uses, and its implementation on this machine.

pub mod attach;
pub mod client;
pub mod clone;
pub mod export;
pub mod fleet;
pub mod keys;
pub mod orphans;
pub mod paint;
mod recover;
pub mod screen;
mod secrets_pipe;
pub mod start;
pub mod supervise;
pub mod surface;

use anyhow::Result;

use crate::model::decision::Move;
use crate::model::entry::MoveOutcome;
use crate::model::scope::ApprovalScope;
use crate::model::step::Probe;
use crate::model::worker::{Spec, WorkerView};

/// A worker that a move would start, with the facts that policy needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    pub spec: Spec,
    /// If true, the process that starts and the checks of its work run in a full sandbox.
    pub is_full: bool,
    /// True if a check is a shell line instead of an entry of the config.
    pub free_check: bool,
    /// True if it may cost money.
    pub paid: bool,
}

/// A runner of workers. A trait because workers are slow and random; the loop is tested with a scripted one.
pub trait Fleet {
    /// Lists live workers, and ended ones that no decision has seen; and a line for each unreadable one.
    ///
    /// # Errors
    /// When they cannot be listed: an error never counts as "none".
    fn workers(&self) -> Result<(Vec<WorkerView>, Vec<String>)>;

    /// Describes the worker that a move would start. The inner error says why it cannot be started.
    fn describe(&self, decided: &Move) -> Result<Result<Described, String>>;

    /// Returns what an approval of the start of this worker would cover now; `form` and `action` are left to the
    /// caller. The inner error says why the worker cannot be started.
    fn scope(&self, decided: &Move, spec: &Spec) -> Result<Result<ApprovalScope, String>>;

    /// Makes a move of this beat that concerns workers. `is_tainted` means that the decider read untrusted content.
    /// `approved` is what the user approved: if any part of it differs now, the worker does not start.
    ///
    /// # Errors
    /// When it could not be made.
    fn perform(
        &self,
        beat: &str,
        decided: &Move,
        is_tainted: bool,
        approved: Option<&ApprovalScope>,
    ) -> Result<MoveOutcome>;

    /// Finds out whether this beat made the move before it was interrupted.
    ///
    /// # Errors
    /// When that cannot be found out now.
    fn probe(&self, beat: &str, decided: &Move) -> Result<Probe>;

    /// Ends processes of workers whose supervisors died, finds out what ended workers left in their clones, and fetches
    /// branches that could not be fetched before.
    fn end_lost(&self) -> Result<()>;

    /// Archives those of these workers that have ended: a decision has seen them.
    ///
    /// # Errors
    /// When one cannot be archived; a later decision sees it again then.
    fn put_away(&self, seen: &[WorkerView]) -> Result<()>;
}
