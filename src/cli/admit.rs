//! Who may do what: a verb for humans is refused to what a beat or a worker started.

use anyhow::Result;

use super::{App, Verb, print};
use crate::model::fault::Fault;
use crate::store::migrate::{self, Migrated};
use crate::store::{fixes, layout, lock, seed, workers};
use crate::sys::tree;

impl App {
    /// Whether a verb may go on: there is a data dir, or it needs none in its worker's box, and whoever may only
    /// watch does not act.
    pub(super) fn admit(&self, verb: &Verb) -> Result<()> {
        // In its box a worker sees nothing of the data dir but what is its own, and may make one of its own there.
        let inside = self.has_supervisor();
        if let (true, Some(what)) = (inside, verb.human_only()) {
            return Err(not_for(what, "a worker"));
        }
        // In a full box it is not there, in a partial one it cannot be opened.
        if !inside || std::fs::File::open(self.layout.format()).is_ok() {
            match verb {
                Verb::Fix(_) | Verb::Attempts(_) | Verb::Trust(_) => self.ready_without_profile()?,
                _ => self.ready()?,
            }
        } else if !verb.is_workers() {
            return Err(
                Fault::failed("could not do this: a worker's box holds nothing of the data dir").into()
            );
        }
        let Some(what) = verb.human_only() else { return Ok(()) };
        self.human_only(what)?;
        if seed::is_set_up(&self.layout) {
            self.say_migrated(migrate::between_beats(&self.layout, self.now)?);
        }
        Ok(())
    }

    /// Says what became of a data dir of an older layout.
    pub(super) fn say_migrated(&self, migrated: Option<Migrated>) {
        let Some(Migrated { from, uncommitted }) = migrated else { return };
        print::note(&format!("looop: the data dir had format {from} and has format {} now", layout::FORMAT));
        if let Some(why) = uncommitted {
            print::note(&format!("warning: git does not have that yet: {why}"));
        }
    }

    /// Refuses a verb that only a human may use to everything that a beat or a fix of this data dir has started. A beat
    /// that cannot be seen from here may be the one that started this process, so that counts as one.
    pub(super) fn human_only(&self, verb: &str) -> Result<()> {
        refuse(verb, "a beat of looop", lock::holders([self.layout.tick_lock()]))?;
        refuse(verb, "a beat of looop", lock::lookers(&self.layout.look_lock()))?;
        refuse(verb, "an agent or a test of `looop fix`", lock::holders(fixes::locks(&self.layout)))?;
        self.no_worker(verb)
    }

    /// Refuses a verb to workers. A beat is one: whoever starts it chooses its config, and so what is free.
    pub(super) fn no_worker(&self, verb: &str) -> Result<()> {
        match self.has_supervisor() {
            true => Err(not_for(verb, "a worker")),
            false => refuse(verb, "a worker", workers::supervising(&self.layout)),
        }
    }

    /// True where a supervisor's socket is at hand. In a full box nothing else tells.
    pub(super) fn has_supervisor(&self) -> bool {
        self.inside_worker().is_some_and(|socket| socket.exists())
    }
}

/// Refuses a verb where this process descends from a holder of these locks, or where that cannot be told.
fn refuse(verb: &str, who: &str, holders: lock::Holders) -> Result<()> {
    match holders {
        lock::Holders::Nobody => Ok(()),
        lock::Holders::Seen(pids) if !tree::may_descend_from(&pids) => Ok(()),
        lock::Holders::Seen(_) | lock::Holders::Unseen => Err(not_for(verb, who)),
    }
}

fn not_for(verb: &str, who: &str) -> anyhow::Error {
    Fault::failed(format!("could not {verb}: this is for a human, and {who} started this process")).into()
}
