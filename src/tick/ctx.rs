//! What a tick works with: everything that it does not decide itself is handed to it here.

use anyhow::Result;

use crate::agents::Runner;
use crate::model::charge::Usage;
use crate::model::fault::Fault;
use crate::model::name::Name;
use crate::model::settings::Settings;
use crate::model::time::Now;
use crate::store::layout::Layout;
use crate::sys::signal::Cancel;
use crate::sys::tree;
use crate::worker::Fleet;

/// All that a tick works with. The caller holds the tick's lock.
pub struct Ctx<'a> {
    /// Where everything is.
    pub layout: &'a Layout,
    /// What the config decides.
    pub settings: &'a Settings,
    /// Who decides.
    pub runner: &'a dyn Runner,
    /// Who runs workers.
    pub fleet: &'a dyn Fleet,
    /// Interruption by a human.
    pub cancel: &'a Cancel,
    /// The beat's moment, read once.
    pub now: Now,
    /// The clock, for how long things took.
    pub clock: &'a dyn Fn() -> Now,
    /// The goal that the human wants a move for now.
    pub forced: Option<Name>,
    /// The name under which a human's edits are committed.
    pub person: String,
    /// Drawn while the runner thinks.
    pub frame: Option<Box<dyn FnMut() + 'a>>,
    /// True: nothing is written, not even to the cache.
    pub dry: bool,
    /// Supervisors that this beat started: children of its own that outlive it.
    pub spared: tree::Known,
    /// True while a move of an earlier beat is settled.
    pub settles: bool,
    /// Why the beat's move waits for the next one.
    pub waits: Option<String>,
    /// What the beat's call cost.
    pub usage: Option<Usage>,
    /// What went wrong without ending the beat.
    pub warnings: Vec<String>,
}

impl Ctx<'_> {
    /// Ends the beat here when the human interrupted it.
    ///
    /// # Errors
    /// When so.
    pub fn go_on(&self) -> Result<()> {
        if self.cancel.is_set() {
            return Err(Fault::failed("could not finish the beat: interrupted").into());
        }
        Ok(())
    }
}
