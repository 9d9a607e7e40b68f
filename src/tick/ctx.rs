//! The context of a tick: everything that the tick does not decide itself. It is only read; what a beat notes on its way
//! is in [`BeatNotes`], which the tick owns.

use anyhow::Result;
use serde_json::Value;

use crate::agents::Runner;
use crate::os::process::tree;
use crate::os::signal::Cancel;
use crate::rules::beat::settings::Settings;
use crate::rules::fault::Fault;
use crate::rules::name::Name;
use crate::rules::time::Now;
use crate::store::layout::Layout;
use crate::store::logs;
use crate::vcs::history::Blocked;
use crate::worker::Fleet;

/// The context of a tick. The caller holds the tick's lock.
pub struct Ctx<'a> {
    pub layout: &'a Layout,
    pub settings: &'a Settings,
    /// The decider.
    pub runner: &'a dyn Runner,
    /// The part that starts and stops workers.
    pub fleet: Fleet<'a>,
    /// Cancellation by the user.
    pub cancel: &'a Cancel,
    /// The time of the beat, read once.
    pub now: Now,
    /// The clock, to measure durations.
    pub clock: &'a dyn Fn() -> Now,
    /// The goal for which the user requested a move now.
    pub forced: Option<Name>,
    /// The author name of commits with the user's edits.
    pub user: String,
    /// Called while the runner works, to show progress.
    pub on_wait: Option<Box<dyn Fn() + 'a>>,
    /// If true, nothing is written, not even to the cache.
    pub dry: bool,
}

impl Ctx<'_> {
    /// Fails if the user has cancelled the beat.
    pub fn go_on(&self) -> Result<()> {
        if self.cancel.is_set() {
            return Err(Fault::failed("could not finish the beat: interrupted").into());
        }
        Ok(())
    }

    /// Returns the variable that marks a runner and its children, with its value for a beat. It identifies processes
    /// that a killed tick left running.
    pub fn mark(&self, beat: &str) -> (String, String) {
        ("LOOOP_BEAT".to_owned(), format!("{beat} {}", self.layout.root().display()))
    }
}

/// What a beat notes on its way.
#[derive(Debug, Default)]
pub struct BeatNotes {
    /// Problems that did not end the beat.
    pub warnings: Vec<String>,
    /// Supervisors that this beat started: children that outlive it.
    pub supervisors: tree::Known,
}

impl BeatNotes {
    /// Turns an error that must not end the beat into a warning.
    pub fn warn_on_error<T>(&mut self, result: Result<T>) -> Option<T> {
        let warn = |error: anyhow::Error| {
            let hint = error.downcast_ref::<Blocked>().map(|blocked| format!("; {}", blocked.hint()));
            self.warnings.push(format!("{error:#}{}", hint.unwrap_or_default()));
        };
        result.map_err(warn).ok()
    }

    /// Appends to the machine log; on failure, the beat continues with a warning.
    pub fn event(&mut self, ctx: &Ctx, name: &str, mut fields: Value) {
        ctx.settings.secrets.redact_json(&mut fields);
        self.warn_on_error(logs::event(ctx.layout, (ctx.clock)(), name, fields));
    }
}
