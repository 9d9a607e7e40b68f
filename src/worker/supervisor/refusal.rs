//! Why a supervisor does not do what a client asks, and the words for it.

use std::fmt;

use crate::rules::lease::{self, LostLease};
use crate::rules::name::Name;
use crate::rules::worker::protocol::{self, MAX_REPORT, MAX_TEXT, WireReply};
use crate::store::Denied;

/// A request that was not carried out.
pub(super) enum RequestRefusal {
    /// The client speaks another version of the protocol.
    Version,
    NoGreeting,
    WrongFrame,
    ForWorker,
    ForUser,
    /// A part of the request is malformed; the text says how.
    Invalid(String),
    /// It could not be done.
    Failed(anyhow::Error),
    LeaseLost(LostLease),
    LeaseTaken(lease::Refusal),
    LeaseUnknown(String),
    LeaseOfGoal,
    /// It has this many leases already.
    TooManyLeases(usize),
    QuestionEmpty,
    QuestionTooLong,
    QuestionOpen(Name),
    QuestionRemoved(Name),
    NoStatus(String),
    ReportTooLong,
    /// It handed in as many reports as it may.
    TooManyReports(usize),
    /// Its reports together are longer than this many bytes.
    ReportsTooLong(usize),
    ReportExists(String),
    TooManyCharges(u32),
    /// It is charged, but may spend no more; the text says why.
    SpentAll(String),
    NotCharged,
    WorkerEnded,
}

impl From<anyhow::Error> for RequestRefusal {
    fn from(error: anyhow::Error) -> RequestRefusal {
        RequestRefusal::Failed(error)
    }
}

impl RequestRefusal {
    /// Turns what the store denied into a refusal of the request.
    pub(super) fn of<R>(denied: Denied<R>, refused: impl FnOnce(R) -> RequestRefusal) -> RequestRefusal {
        denied.refusal().map_or_else(RequestRefusal::Failed, refused)
    }
}

impl fmt::Display for RequestRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use RequestRefusal as R;
        match self {
            R::Version => write!(f, "this supervisor speaks version {} of the protocol", protocol::VERSION),
            R::NoGreeting => f.write_str("this is not a greeting of looop"),
            R::WrongFrame => f.write_str("this frame does not belong here"),
            R::ForWorker => f.write_str("this is for the worker itself"),
            R::ForUser => f.write_str("this is for the user"),
            R::Invalid(why) => f.write_str(why),
            R::Failed(error) => write!(f, "{error:#}"),
            R::LeaseLost(lost) => lost.fmt(f),
            R::LeaseTaken(refusal) => refusal.fmt(f),
            R::LeaseUnknown(resource) => write!(f, "this worker has no lease on {resource:?}"),
            R::LeaseOfGoal => f.write_str("a worker keeps the lease on its goal until it ends"),
            R::TooManyLeases(held) => write!(f, "this worker has {held} leases already"),
            R::QuestionEmpty => f.write_str("the question is empty"),
            R::QuestionTooLong => write!(f, "the question is longer than {} KiB", MAX_TEXT / 1024),
            R::QuestionOpen(id) => write!(f, "{id} is open; one question at a time"),
            R::QuestionRemoved(id) => write!(f, "the question {id} was removed and has no answer"),
            R::NoStatus(state) => write!(f, "{state:?} is not a state"),
            R::ReportTooLong => write!(f, "a report is at most {} MiB", MAX_REPORT >> 20),
            R::TooManyReports(most) => write!(f, "a worker hands in at most {most} reports"),
            R::ReportsTooLong(most) => {
                write!(f, "all reports of a worker are at most {} MiB together", most >> 20)
            }
            R::ReportExists(path) => write!(f, "`{path}` already exists; choose another name"),
            R::TooManyCharges(most) => {
                write!(f, "it reported its spending {most} times, which is the limit")
            }
            R::SpentAll(why) => write!(f, "it is charged, and this worker ends: {why}"),
            R::NotCharged => f.write_str("it is not charged: this worker has ended"),
            R::WorkerEnded => f.write_str("the worker ended"),
        }
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
