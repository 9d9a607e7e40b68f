//! Access to the data dir: the only place that knows file names. Other modules ask by meaning.

pub mod budget;
pub mod coverage;
pub mod examples;
pub mod exchange;
pub mod file;
pub mod fixes;
pub mod git_watch;
pub mod identity;
pub mod inbox;
pub mod json_file;
pub mod layout;
pub mod leases;
pub mod ledger;
pub mod lock;
pub mod logs;
pub mod operations;
pub mod runner_limits;
pub mod sandboxes;
pub mod state_files;
pub mod transcript;
pub mod trust;
pub mod user_files;
pub mod workers;

/// Why something was not done.
#[derive(Debug)]
pub enum Denied<R> {
    /// A rule refused it.
    Refused(R),
    /// It failed.
    Failed(anyhow::Error),
}

impl<R> Denied<R> {
    /// Returns the refusal, or the failure as an error.
    pub fn refusal(self) -> anyhow::Result<R> {
        match self {
            Denied::Refused(refusal) => Ok(refusal),
            Denied::Failed(error) => Err(error),
        }
    }

    /// Turns the refusal into another.
    pub fn map<T>(self, turn: impl FnOnce(R) -> T) -> Denied<T> {
        match self {
            Denied::Refused(refusal) => Denied::Refused(turn(refusal)),
            Denied::Failed(error) => Denied::Failed(error),
        }
    }
}

impl<R: std::fmt::Display> Denied<R> {
    /// Returns the refusal or the failure as an error.
    pub fn error(self) -> anyhow::Error {
        self.refusal().map_or_else(|failed| failed, |refusal| anyhow::anyhow!("{refusal}"))
    }
}

impl<R> From<anyhow::Error> for Denied<R> {
    fn from(error: anyhow::Error) -> Denied<R> {
        Denied::Failed(error)
    }
}
