//! Why a worker is not started, or a move about a worker is not made. All these refusals are worded here.

use std::fmt;
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
#[derive(Debug)]
pub enum WorkerRefusal {
    /// A name or another part of the request breaks a rule.
    Invalid(String),
    /// The brief is longer than this limit; both in KiB.
    LongBrief(usize, usize),
    /// It is not one of the checks in the config.
    UnknownCheck(String, Vec<String>),
    NotDirectory(PathBuf),
    NoProgram(String),
    /// The first line of the program names this interpreter, which cannot be executed.
    NoInterpreter(String, String),
    FixWithoutRepo,
    Sandbox(String),
    /// The sandbox may not contain the directory.
    Directory(String),
    Grant(String),
    /// A grant names this variable, which is not set.
    NoVariable(String),
    Clone(String),
    /// `/proc` is not mounted.
    NoProc,
    /// So many workers live, and this is the limit.
    TooMany(usize, usize),
    /// The worker of this name lives.
    Lives(Name, Phase),
    /// The branch of an ended worker of this name was not fetched, for this reason.
    Unfetched(Name, String),
    Budget(String),
    /// What the user approved has changed, or cannot be determined.
    Approval(String),
    Supervisor(String),
    Ended(Name, Phase),
    NoWorker(Name),
    OtherMove,
}

impl fmt::Display for WorkerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use WorkerRefusal::*;
        match self {
            Invalid(why) | Budget(why) | Approval(why) | Supervisor(why) => f.write_str(why),
            LongBrief(long, most) => write!(f, "the brief is {long} KiB long and {most} KiB is the most"),
            UnknownCheck(name, known) => {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                write!(f, "{name:?} is not an entry of `verify` in the config; known: {known}")
            }
            NotDirectory(path) => write!(f, "`{}` is not a directory", path.display()),
            NoProgram(name) => write!(f, "`{name}` is not an executable on the configured PATH"),
            NoInterpreter(program, missing) => write!(
                f,
                "`{program}` cannot be run: its first line names {missing:?}, which is not an executable"
            ),
            FixWithoutRepo => f.write_str("a fix needs a repo"),
            Sandbox(why) => write!(f, "it could not be sandboxed: {why}"),
            Directory(why) => write!(f, "it could not be sandboxed: it may not run here: {why}"),
            Grant(why) => write!(f, "it could not be sandboxed: a grant: {why}"),
            NoVariable(name) => write!(
                f,
                "it could not be sandboxed: a grant: {name:?} is neither a path nor a variable that is set here"
            ),
            Clone(why) => write!(f, "could not clone it: {why}"),
            NoProc => f.write_str("`/proc` is not mounted, and looop needs it to find its own program"),
            TooMany(live, most) => {
                write!(f, "{live} workers live and {most} is the limit (limits.workers)")
            }
            Lives(id, phase) => write!(f, "worker {id} is {phase}"),
            Unfetched(id, why) => write!(
                f,
                "an ended worker has this name, and its branch could not be fetched yet: {why}; each beat tries \
                 again. Take another name, or give its work up with `looop prune {id} --force`"
            ),
            Ended(id, phase) => write!(f, "worker {id} has ended: {phase}"),
            NoWorker(id) => write!(f, "the worker {id} does not exist"),
            OtherMove => f.write_str("it is not a move about workers"),
        }
    }
}
