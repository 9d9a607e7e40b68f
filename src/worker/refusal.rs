//! Why a worker is not started, or a move about a worker is not made. All these refusals are worded here.

use std::path::PathBuf;

use crate::rules::name::Name;
use crate::rules::worker::Phase;
use crate::store::Denied;
use crate::vcs::clone::Unclonable;

/// An error of a start, or of another move about a worker. The requester gets the reason of a refusal.
pub type WorkerError = Denied<WorkerRefusal>;

impl From<WorkerRefusal> for WorkerError {
    fn from(why: WorkerRefusal) -> WorkerError {
        WorkerError::Refused(why)
    }
}

impl From<Denied<Unclonable>> for WorkerError {
    fn from(error: Denied<Unclonable>) -> WorkerError {
        error.map(|refused| WorkerRefusal::Clone(refused.why))
    }
}

/// The reason of a refusal. A text in it was worded where the rule is.
#[derive(Debug, thiserror::Error)]
pub enum WorkerRefusal {
    /// A name or another part of the request breaks a rule.
    #[error("{0}")]
    Invalid(String),
    #[error("the brief is {0} KiB long and {1} KiB is the most")]
    LongBrief(usize, usize),
    #[error("{0:?} is not an entry of `verify` in the config; known: {known}", known = listed(.1))]
    UnknownCheck(String, Vec<String>),
    #[error("`{}` is not a directory", .0.display())]
    NotDirectory(PathBuf),
    #[error("`{0}` is not an executable on the configured PATH")]
    NoProgram(String),
    #[error("`{0}` cannot be run: its first line names {1:?}, which is not an executable")]
    NoInterpreter(String, String),
    #[error("a fix needs a repo")]
    FixWithoutRepo,
    #[error("it could not be sandboxed: {0}")]
    Sandbox(String),
    #[error("it could not be sandboxed: it may not run here: {0}")]
    Directory(String),
    #[error("it could not be sandboxed: a grant: {0}")]
    Grant(String),
    #[error("it could not be sandboxed: a grant: {0:?} is neither a path nor a variable that is set here")]
    NoVariable(String),
    #[error("could not clone it: {0}")]
    Clone(String),
    #[error("`/proc` is not mounted, and looop needs it to find its own program")]
    NoProc,
    #[error("{0} workers live and {1} is the limit (limits.workers)")]
    TooMany(usize, usize),
    /// Why it cannot be resumed.
    #[error("{0}")]
    NotResumable(String),
    /// The worker of this name lives.
    #[error("worker {0} is {1}")]
    Lives(Name, Phase),
    #[error(
        "an ended worker has this name, and its branch could not be fetched yet: {1}; each beat tries again. Take \
         another name, or give its work up with `looop prune {0} --force`"
    )]
    Unfetched(Name, String),
    #[error("{0}")]
    Budget(String),
    /// An interrupted start would start another worker now.
    #[error("the config, the machine or the repository has changed since it was planned")]
    OtherPlan,
    /// What the user approved has changed, or cannot be determined.
    #[error("{0}")]
    Approval(String),
    #[error("{0}")]
    Supervisor(String),
    #[error("worker {0} has ended: {1}")]
    Ended(Name, Phase),
    #[error("the worker {0} does not exist")]
    NoWorker(Name),
    #[error("it is not a move about workers")]
    OtherMove,
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}
