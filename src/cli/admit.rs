//! Permission checks: verbs for the user are refused to processes that a beat or a worker started.

use anyhow::Result;

use super::{App, Fault, print};
use crate::os::process::tree;
use crate::store::{fixes, layout, lock, workers};
use crate::vcs::migrate::{self, Migrated};
use crate::vcs::seed;

impl App {
    /// Admits a verb that talks to a worker's supervisor, also from a sandbox without the data dir.
    pub(super) fn for_worker(self) -> Result<App> {
        if self.has_supervisor() && !self.sees_data_dir() { Ok(self) } else { self.admit(None, App::ready) }
    }

    /// True if the data dir can be read. In a full sandbox of a worker its files are absent; in a partial one they
    /// cannot be opened.
    fn sees_data_dir(&self) -> bool {
        std::fs::File::open(self.layout.format()).is_ok()
    }

    /// Admits a verb. `user_only` is its action if only the user may run it; `ready` checks the profile.
    pub(super) fn admit(self, user_only: Option<&str>, ready: fn(&App) -> Result<()>) -> Result<App> {
        let inside = self.has_supervisor();
        match user_only {
            Some(what) if inside => return Err(not_for(what, "a worker")),
            // A worker must not create a second data dir in its sandbox.
            _ if inside && !self.sees_data_dir() => {
                let what = "could not do this: a worker's sandbox does not contain the data dir";
                return Err(Fault::failed(what).into());
            }
            _ => ready(&self)?,
        }
        if let Some(what) = user_only {
            self.user_only(what)?;
            if seed::is_set_up(&self.layout) {
                self.say_migrated(migrate::between_beats(&self.layout, self.now)?);
            }
        }
        Ok(self)
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
    pub(super) fn user_only(&self, verb: &str) -> Result<()> {
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
