//! Permission checks: verbs for the user are refused to processes that a beat or a worker started.

use anyhow::Result;

use super::{App, Verb, print};
use crate::model::fault::Fault;
use crate::store::migrate::{self, Migrated};
use crate::store::{fixes, layout, lock, seed, workers};
use crate::sys::process::tree;

impl App {
    /// Admits a verb if a data dir exists, or if the verb works without one in a worker's sandbox. It refuses
    /// verbs that act to a process that may only watch.
    pub(super) fn admit(&self, verb: &Verb) -> Result<()> {
        // In its sandbox a worker sees only its own part of the data dir. It must not create a second data dir there.
        let inside = self.has_supervisor();
        if let (true, Some(what)) = (inside, verb.human_only()) {
            return Err(not_for(what, "a worker"));
        }
        // In a full sandbox the file is absent; in a partial one it cannot be opened.
        if !inside || std::fs::File::open(self.layout.format()).is_ok() {
            match verb {
                Verb::Fix(_) | Verb::Attempts(_) | Verb::Trust(_) => self.ready_without_profile()?,
                _ => self.ready()?,
            }
        } else if !verb.is_workers() {
            return Err(
                Fault::failed("could not do this: a worker's sandbox does not contain the data dir").into()
            );
        }
        let Some(what) = verb.human_only() else { return Ok(()) };
        self.human_only(what)?;
        if seed::is_set_up(&self.layout) {
            self.say_migrated(migrate::between_beats(&self.layout, self.now)?);
        }
        Ok(())
    }

    /// Prints that the data dir was migrated from an older format.
    pub(super) fn say_migrated(&self, migrated: Option<Migrated>) {
        let Some(Migrated { from, uncommitted }) = migrated else { return };
        print::note(&format!("looop: the data dir had format {from} and has format {} now", layout::FORMAT));
        if let Some(why) = uncommitted {
            print::note(&format!("warning: the migration is not committed yet: {why}"));
        }
    }

    /// Refuses a verb that only the user may use to every process that a beat or a fix of this data dir has
    /// started. A beat that is invisible from here may be the parent of this process, so it counts as one.
    pub(super) fn human_only(&self, verb: &str) -> Result<()> {
        refuse(verb, "a beat of looop", lock::holders([self.layout.tick_lock()]))?;
        refuse(verb, "a beat of looop", lock::readers(&self.layout.look_lock()))?;
        refuse(verb, "an agent or a test of `looop fix`", lock::holders(fixes::locks(&self.layout)))?;
        self.no_worker(verb)
    }

    /// Refuses a verb to workers. Beats are included: the process that starts a beat chooses its config, and
    /// so which moves need no approval.
    pub(super) fn no_worker(&self, verb: &str) -> Result<()> {
        match self.has_supervisor() {
            true => Err(not_for(verb, "a worker")),
            false => refuse(verb, "a worker", workers::supervising(&self.layout)),
        }
    }

    /// True if a supervisor's socket is set. In a full sandbox nothing else shows that this is a worker.
    pub(super) fn has_supervisor(&self) -> bool {
        self.inside_worker().is_some_and(|socket| socket.exists())
    }
}

/// Refuses a verb if this process descends from a holder of these locks, or if that cannot be determined.
fn refuse(verb: &str, who: &str, holders: lock::Holders) -> Result<()> {
    match holders {
        lock::Holders::Nobody => Ok(()),
        lock::Holders::Seen(pids) if !tree::may_descend_from(&pids) => Ok(()),
        lock::Holders::Seen(_) | lock::Holders::Unseen => Err(not_for(verb, who)),
    }
}

fn not_for(verb: &str, who: &str) -> anyhow::Error {
    Fault::failed(format!("could not {verb}: this is for the user, and {who} started this process")).into()
}
