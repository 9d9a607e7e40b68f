//! Why a supervisor does not do what a client asks, and the words for it.

use crate::rules::lease::{self, LostLease};
use crate::rules::name::Name;
use crate::rules::worker::protocol::{self, MAX_REPORT, MAX_TEXT, WireReply};
use crate::store::Denied;

/// A request that was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestRefusal {
    /// The client speaks another version of the protocol.
    #[error("this supervisor speaks version {} of the protocol", protocol::VERSION)]
    Version,
    #[error("this is not a greeting of looop")]
    NoGreeting,
    #[error("this frame does not belong here")]
    WrongFrame,
    #[error("this is for the worker itself")]
    ForWorker,
    #[error("this is for the user")]
    ForUser,
    /// A part of the request is malformed; the text says how.
    #[error("{0}")]
    Invalid(String),
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    #[error("{0}")]
    LeaseLost(LostLease),
    #[error("{0}")]
    LeaseTaken(lease::Refusal),
    #[error("this worker has no lease on {0:?}")]
    LeaseUnknown(String),
    #[error("a worker keeps the lease on its goal until it ends")]
    LeaseOfGoal,
    #[error("this worker has {0} leases already")]
    TooManyLeases(usize),
    #[error("the question is empty")]
    QuestionEmpty,
    #[error("the question is longer than {} KiB", MAX_TEXT / 1024)]
    QuestionTooLong,
    #[error("{0} is open; one question at a time")]
    QuestionOpen(Name),
    #[error("the question {0} was removed and has no answer")]
    QuestionRemoved(Name),
    #[error("{0:?} is not a state")]
    NoStatus(String),
    #[error("a report is at most {} MiB", MAX_REPORT >> 20)]
    ReportTooLong,
    #[error("a worker hands in at most {0} reports")]
    TooManyReports(usize),
    /// Its reports together are longer than this many bytes.
    #[error("all reports of a worker are at most {} MiB together", .0 >> 20)]
    ReportsTooLong(usize),
    #[error("`{0}` already exists; choose another name")]
    ReportExists(String),
    #[error("it reported its spending {0} times, which is the limit")]
    TooManyCharges(u32),
    /// It is charged, but may spend no more; the text says why.
    #[error("it is charged, and this worker ends: {0}")]
    SpentAll(String),
    #[error("it is not charged: this worker has ended")]
    NotCharged,
    #[error("the worker ended")]
    WorkerEnded,
}

impl RequestRefusal {
    /// Turns what the store denied into a refusal of the request.
    pub(super) fn of<R>(denied: Denied<R>, refused: impl FnOnce(R) -> RequestRefusal) -> RequestRefusal {
        denied.refusal().map_or_else(RequestRefusal::Failed, refused)
    }
}

/// Returns the reply to a request.
pub(super) fn reply(result: Result<String, RequestRefusal>) -> WireReply {
    match result {
        Ok(text) => WireReply::Ok(text),
        Err(RequestRefusal::Version) => WireReply::Version(protocol::VERSION),
        Err(refusal) => WireReply::Error(refusal.to_string()),
    }
}
