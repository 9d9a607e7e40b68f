//! The context of a tick: everything that the tick does not decide itself.

use anyhow::Result;

use crate::agents::Runner;
use crate::model::charge::Usage;
use crate::model::fault::Fault;
use crate::model::name::Name;
use crate::model::settings::Settings;
use crate::model::time::Now;
use crate::store::layout::Layout;
use crate::sys::process::tree;
use crate::sys::signal::Cancel;
use crate::worker::Fleet;

/// The context of a tick. The caller holds the tick's lock.
pub struct Ctx<'a> {
    pub layout: &'a Layout,
    pub settings: &'a Settings,
    /// The decider.
    pub runner: &'a dyn Runner,
    /// The part that starts and stops workers.
    pub fleet: &'a Fleet<'a>,
    /// Cancellation by the user.
    pub cancel: &'a Cancel,
    /// The time of the beat, read once.
    pub now: Now,
    /// The clock, to measure durations.
    pub clock: &'a dyn Fn() -> Now,
    /// The goal for which the user requested a move now.
    pub forced: Option<Name>,
    /// The author name of commits with the user's edits.
    pub person: String,
    /// Called while the runner works, to show progress.
    pub frame: Option<Box<dyn FnMut() + 'a>>,
    /// If true, nothing is written, not even to the cache.
    pub dry: bool,
    /// Supervisors that this beat started: children that outlive it.
    pub excluded: tree::Known,
    /// True while a move of an earlier beat is settled.
    pub settles: bool,
    /// Why the beat's move waits for the next beat.
    pub waits: Option<String>,
    /// What the beat's call used.
    pub usage: Option<Usage>,
    /// Problems that did not end the beat.
    pub warnings: Vec<String>,
}

impl Ctx<'_> {
    /// Fails if the user has cancelled the beat.
    pub fn go_on(&self) -> Result<()> {
        if self.cancel.is_set() {
            return Err(Fault::failed("could not finish the beat: interrupted").into());
        }
        Ok(())
    }
}
