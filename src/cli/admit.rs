//! Who may do what: a verb for humans is refused to what a beat or a worker started.

use anyhow::Result;

use super::{App, Verb};
use crate::model::fault::Fault;
use crate::store::{lock, workers};
use crate::sys::tree;

impl App {
    /// Whether a verb may go on: there is a data dir, or it needs none in its worker's box, and whoever may only
    /// watch does not act.
    pub(super) fn admit(&self, verb: &Verb) -> Result<()> {
        // In its box a worker sees nothing of the data dir but what is its own, and may make one of its own there.
        let inside = self.inside_worker().is_some_and(|socket| socket.exists());
        if let (true, Some(what)) = (inside, verb.human_only()) {
            return Err(not_for(what, "a worker"));
        }
        if !inside || self.layout.format().exists() {
            self.ready()?;
        } else if !verb.is_workers() {
            return Err(
                Fault::failed("could not do this: a worker's box holds nothing of the data dir").into()
            );
        }
        verb.human_only().map_or(Ok(()), |what| self.human_only(what))
    }

    /// Refuses a verb that only a human may use to everything that a beat of this data dir has started. A beat
    /// that cannot be seen from here may be the one that started this process, so that counts as one.
    pub(super) fn human_only(&self, verb: &str) -> Result<()> {
        let is_of = |holders: lock::Holders| match holders {
            lock::Holders::Nobody => false,
            lock::Holders::Seen(pids) => tree::may_descend_from(&pids),
            lock::Holders::Unseen => true,
        };
        let who = if is_of(lock::holders([self.layout.tick_lock()]))
            || is_of(lock::lookers(&self.layout.look_lock()))
        {
            "a beat of looop"
        } else if is_of(workers::supervising(&self.layout)) {
            "a worker"
        } else {
            return Ok(());
        };
        Err(not_for(verb, who))
    }
}

fn not_for(verb: &str, who: &str) -> anyhow::Error {
    Fault::failed(format!("could not {verb}: this is for a human, and {who} started this process")).into()
}
