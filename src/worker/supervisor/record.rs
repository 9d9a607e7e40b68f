//! What a supervisor writes about its worker: its state, its leases, the machine log and the journal. The parts of the
//! supervisor share it, and nothing else.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::refusal::RequestRefusal;
use crate::os::clock::{self, Deadline};
use crate::os::path;
use crate::os::process::tree;
use crate::rules::beat::entry;
use crate::rules::lease::{self, HolderIdentity, Ttl};
use crate::rules::name::Name;
use crate::rules::process::Started;
use crate::rules::secret::Secrets;
use crate::rules::worker::lifecycle::{EndCause, WorkerOutcome};
use crate::rules::worker::{Phase, Spec, WorkerState};
use crate::store::layout::{Layout, WorkerDir};
use crate::store::{json_file, leases, logs, workers};

/// How often a failed write is retried, in milliseconds.
const RETRY_MS: i64 = 1_000;
/// How many leases a worker may hold at once: each is renewed again and again.
const MAX_LEASES: usize = 64;

/// A worker on disk.
pub(super) struct Record {
    pub(super) layout: Layout,
    pub(super) dir: WorkerDir,
    pub(super) spec: Box<Spec>,
    /// Secrets that must not appear in what the supervisor writes.
    pub(super) secrets: Secrets,
    pub(super) state: WorkerState,
    /// When to write a state that is out of date or whose write failed.
    pub(super) unsaved: Option<Deadline>,
    identity: HolderIdentity,
    renew: Deadline,
}

impl Record {
    /// Writes the first state of a worker.
    pub(super) fn begin(layout: Layout, dir: WorkerDir, spec: Box<Spec>, secrets: Secrets) -> Result<Record> {
        let secrets = secrets.and(Secrets::of(&spec.env, &path::is_there));
        let ttl = Ttl::try_from(spec.limits.ttl_s).map_err(anyhow::Error::msg)?;
        let identity = leases::supervisor(&spec.id, ttl);
        let me = Started { pid: identity.pid, start: identity.pid_start, boot: tree::boot_id() };
        let fresh = WorkerState::new(spec.id.clone(), clock::unix_ms(), me);
        // A worker that is resumed keeps what it has done and spent.
        let state = match json_file::read_json::<WorkerState>(&dir.state())? {
            Some(WorkerState { child, cost_micros, lost_bytes, flags, reports, resumes, .. }) => {
                let resumes = resumes + 1;
                WorkerState { child, cost_micros, lost_bytes, flags, reports, resumes, ..fresh }
            }
            None => fresh,
        };
        workers::save_state(&dir, &state)?;
        let renew = Deadline::after_ms(ttl.ms() / 3);
        Ok(Record { layout, dir, spec, secrets, state, unsaved: None, identity, renew })
    }

    /// Writes the state.
    pub(super) fn save(&mut self) {
        let was_unsaved = self.unsaved.take().is_some();
        if let Err(error) = workers::save_state(&self.dir, &self.state) {
            self.save_soon();
            if !was_unsaved {
                self.log("state_not_written", &format!("{error:#}"));
            }
        }
        // The pulse watches this file: a beat should check the workers. Without it the pulse checks at its interval.
        drop(std::fs::write(self.layout.wake(), b""));
    }

    /// Writes the state within a second.
    pub(super) fn save_soon(&mut self) {
        self.unsaved.get_or_insert_with(|| Deadline::after_ms(RETRY_MS));
    }

    /// Writes a phase.
    pub(super) fn enter(&mut self, phase: Phase) {
        if phase != Phase::Limited {
            self.state.limit = None;
        }
        if self.state.phase != phase {
            self.state.phase = phase;
            self.state.since_ms = clock::unix_ms();
        }
        self.save();
    }

    /// Writes how the worker ended. A flag says if work is left in its clone.
    pub(super) fn end(&mut self, outcome: WorkerOutcome) {
        (self.state.flag, self.state.ask, self.state.limit) = (None, None, None);
        self.state.why = outcome.why.map(|why| self.clean(&why));
        (self.state.phase, self.state.since_ms) = (outcome.phase, clock::unix_ms());
        let next = self.next_step();
        self.state.flag_leftovers(next.as_deref(), self.state.since_ms);
        self.save();
    }

    /// Returns a text without secrets.
    pub(super) fn clean(&self, text: &str) -> String {
        self.secrets.redact(text).into_owned()
    }

    /// Appends to the machine log.
    pub(super) fn log(&self, what: &str, why: &str) {
        let fields = json!({ "worker": self.spec.id, "why": self.secrets.redact(why) });
        // The machine log is the last place for a report, so its own failure cannot be reported.
        drop(logs::event(&self.layout, clock::now(), what, fields));
    }

    /// Writes one line about the worker's end to the journal, once its state is written.
    pub(super) fn journal_end(&self) {
        if self.unsaved.is_none() {
            self.journal(&self.state.end_words(self.next_step().as_deref()));
        }
    }

    /// Writes a line about the worker to the journal.
    pub(super) fn journal(&self, words: &str) {
        let line = entry::worker_line(&self.spec, words, clock::now());
        if let Err(error) = logs::journal(&self.layout, &self.secrets.redact(&line)) {
            self.log("not_journaled", &format!("{error:#}"));
        }
    }

    /// Returns the commands that merge its work.
    fn next_step(&self) -> Option<String> {
        self.spec.next_step(&self.state, &self.dir.clone_dir().to_string_lossy())
    }

    /// Does what only the holder of all its leases may do.
    pub(super) fn fenced<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<T, RequestRefusal> {
        leases::fenced(&self.layout, &self.identity.holder, &self.state.leases, write)
            .map_err(|denied| RequestRefusal::of(denied, RequestRefusal::LeaseLost))
    }

    /// Takes the lease on the goal and on each claim of the spec, or fails at the first one.
    pub(super) fn take_leases(&mut self) -> Result<()> {
        let mut wanted: Vec<Name> = self.spec.goal.iter().map(lease::goal).collect();
        for claim in &self.spec.claims {
            wanted.push(lease::free_name(claim).map_err(anyhow::Error::msg)?);
        }
        for resource in wanted {
            match leases::acquire(&self.layout, &resource, &self.identity, &leases::here()) {
                Ok(acquired) => self.state.leases.push(acquired.holding),
                Err(denied) => anyhow::bail!("could not take the lease on {resource}: {}", denied.refusal()?),
            }
        }
        Ok(())
    }

    /// Takes a lease that the worker asks for, and returns its epoch.
    pub(super) fn claim(&mut self, resource: &str, ttl_s: Option<u64>) -> Result<String, RequestRefusal> {
        let resource = lease::free_name(resource).map_err(RequestRefusal::Invalid)?;
        self.fenced(|| Ok(()))?;
        let held = self.state.leases.len();
        if held >= MAX_LEASES {
            return Err(RequestRefusal::TooManyLeases(held));
        }
        let mut identity = self.identity.clone();
        if let Some(ttl_s) = ttl_s {
            // All leases are renewed together, at a third of the shortest time.
            identity.ttl = Ttl::try_from(ttl_s).map_err(RequestRefusal::Invalid)?;
            self.identity.ttl = self.identity.ttl.min(identity.ttl);
        }
        let acquired = leases::acquire(&self.layout, &resource, &identity, &leases::here())
            .map_err(|denied| RequestRefusal::of(denied, RequestRefusal::LeaseTaken))?;
        let epoch = acquired.holding.epoch.to_string();
        self.state.leases.retain(|other| other.resource != acquired.holding.resource);
        self.state.leases.push(acquired.holding);
        self.save();
        Ok(epoch)
    }

    /// Returns the time until the leases are renewed.
    pub(super) fn renew_due(&self) -> Option<Duration> {
        (!self.state.leases.is_empty()).then(|| self.renew.left())
    }

    /// Renews the leases. A worker that lost one must not write any more, so its loss ends the worker.
    pub(super) fn renew(&mut self) -> Option<EndCause> {
        self.renew = Deadline::after_ms(self.identity.ttl.ms() / 3);
        match leases::renew(&self.layout, &self.identity.holder, &self.state.leases, clock::mono_ms()) {
            Ok(lost) if lost.is_empty() => None,
            Ok(lost) => {
                let words: Vec<String> = lost.iter().map(ToString::to_string).collect();
                Some(EndCause::Leases(words.join("; ")))
            }
            Err(error) => {
                self.log("lease_not_renewed", &format!("{error:#}"));
                None
            }
        }
    }

    /// Releases one lease. The one on the goal stays until the end.
    pub(super) fn release(&mut self, resource: &str) -> Result<(), RequestRefusal> {
        let held = self.state.leases.iter().position(|lease| lease.resource.as_str() == resource);
        let index = held.ok_or_else(|| RequestRefusal::LeaseUnknown(resource.to_owned()))?;
        lease::free_name(resource).map_err(|_| RequestRefusal::LeaseOfGoal)?;
        let released = self.state.leases.remove(index);
        leases::release(&self.layout, &self.identity.holder, &[released])?;
        self.save();
        Ok(())
    }

    /// Releases all leases, at the end.
    pub(super) fn release_all(&mut self) {
        if let Err(error) = leases::release(&self.layout, &self.identity.holder, &self.state.leases) {
            self.log("lease_not_released", &format!("{error:#}"));
        }
        self.state.leases.clear();
    }
}
