//! The requests on the two sockets. The socket decides whether the user or the worker asks, never the content of a
//! request.

use anyhow::{Context, Result};

use super::conns::{Conn, Side};
use super::reporting::Upload;
use super::{Supervisor, now};
use crate::model::json::clip;
use crate::model::lease::{self, Ttl};
use crate::model::name::Name;
use crate::model::wire::{MAX_TEXT, WireReply, WireRequest};
use crate::model::worker::{Flag, Phase};
use crate::store::{claims, logs, mail};
use crate::sys::clock::{self, Deadline};
use crate::sys::detach;
use crate::sys::pty::Size;

/// How many leases a worker may hold at once: each is renewed again and again.
const MAX_LEASES: usize = 64;
/// How many helper processes may run at once.
const MAX_HELPERS: usize = 4;
/// How much of its inbox a worker gets at once, in bytes.
const MAX_NOTIFIED: usize = 32 * 1024;

/// The reason why a request is refused.
pub(super) type Refusal = String;

/// The purpose of a connection.
pub(super) enum ConnectionRole {
    /// Not yet known.
    New,
    /// A viewer; with a size it also types.
    Viewer { size: Option<Size> },
    /// Waits for the answer to this ask.
    Asking(Name),
    /// Hands in a deliverable.
    Reporting(Upload),
}

impl ConnectionRole {
    pub(super) fn size(&self) -> Option<Size> {
        if let ConnectionRole::Viewer { size } = self { *size } else { None }
    }
}

impl Supervisor {
    /// Handles the one request of a connection.
    pub(super) fn open(&mut self, at: usize, request: WireRequest) {
        let done = match (self.conns[at].side, request) {
            (Side::Human, WireRequest::Attach { cols, rows, view }) => {
                self.conns[at].role = ConnectionRole::Viewer { size: (!view).then_some(Size { cols, rows }) };
                self.conns[at].outdate();
                return self.fit();
            }
            (Side::Human, WireRequest::Kill) => {
                self.end(Phase::Killed, "the user or a move ended it");
                Ok(Ok(String::new()))
            }
            (Side::Human, WireRequest::Wake) => {
                self.look_for_answers();
                Ok(Ok(String::new()))
            }
            (_, WireRequest::Flag { text }) => {
                self.raise(&clip(&text, MAX_TEXT), false);
                Ok(Ok(String::new()))
            }
            (_, WireRequest::Unflag) => {
                self.lower();
                Ok(Ok(String::new()))
            }
            (Side::Worker, WireRequest::Ask { text, options, reference }) => {
                match self.ask(at, &text, &options, reference.as_deref()) {
                    Ok(Ok(())) => return,
                    Ok(Err(refusal)) => Ok(Err(refusal)),
                    Err(error) => Err(error),
                }
            }
            (Side::Worker, WireRequest::Done) => {
                self.work_done();
                Ok(Ok(String::new()))
            }
            (Side::Worker, WireRequest::Inbox) => self.notified(),
            (Side::Worker, WireRequest::Claim { resource, ttl_s }) => self.claim(&resource, ttl_s),
            (Side::Worker, WireRequest::Release { resource }) => self.release(&resource),
            (Side::Worker, WireRequest::Report { name }) => match self.begin_report(&name) {
                Ok(report) => {
                    self.conns[at].role = ConnectionRole::Reporting(report);
                    return;
                }
                Err(error) => Err(error),
            },
            (Side::Worker, WireRequest::Spend(spent)) => self.spend(spent.usage()),
            (Side::Worker, WireRequest::HookStatus { state, text }) => self.reported_by_hook(&state, text),
            (Side::Human, _) => Err(anyhow::anyhow!("this is for the worker itself")),
            (Side::Worker, _) => Err(anyhow::anyhow!("this is for the user")),
        };
        self.conns[at].reply(&match done {
            Ok(Ok(text)) => WireReply::Ok(text),
            Ok(Err(refusal)) => WireReply::Error(refusal),
            Err(error) => WireReply::Error(format!("{error:#}")),
        });
    }

    /// Does what only the holder of all its leases may do. The inner error names a lost lease.
    pub(super) fn fenced<T>(&self, write: impl FnOnce() -> Result<T>) -> Result<Result<T, Refusal>> {
        let done = claims::fenced(&self.layout, &self.claimant.holder, &self.state.leases, write);
        done.map(Ok).or_else(|denied| Ok(Err(denied.refusal()?.to_string())))
    }

    /// Raises the flag; returns false if it is raised with the same text already.
    pub(super) fn raise(&mut self, text: &str, guess: bool) -> bool {
        let text = &*self.secrets.redact(text).into_owned();
        if self.state.flag.as_ref().is_some_and(|flag| flag.text == text) || self.state.phase.is_over() {
            return false;
        }
        self.state.flags += 1;
        let flag = Flag { text: text.to_owned(), at_ms: now().unix_ms, nth: self.state.flags, guess };
        self.state.flag = Some(flag);
        self.flag_by_status = false;
        self.need_changed();
        true
    }

    /// Lowers the flag.
    pub(super) fn lower(&mut self) {
        self.flag_by_status = false;
        if self.state.flag.take().is_some() {
            self.need_changed();
        }
    }

    /// Updates the state and the user's windows, because the need for the user has changed.
    pub(super) fn need_changed(&mut self) {
        let live = matches!(self.state.phase, Phase::Running | Phase::Waiting);
        if live {
            self.turn_to(if self.state.needs_human() { Phase::Waiting } else { Phase::Running });
        } else {
            self.save();
        }
        self.surface();
    }

    /// Starts a helper process that updates the user's windows. A worker that raises flags all the time does not start
    /// many of them: the next one sees all changes before its start.
    pub(super) fn surface(&mut self) {
        if self.helpers.len() >= MAX_HELPERS {
            self.helper_due = true;
            return;
        }
        match detach::helper(&["__sync-windows"], &self.spec.env) {
            Ok(pid) => self.helpers.push(pid),
            Err(error) => self.event("flag_not_surfaced", &error.to_string()),
        }
    }

    /// Handles the end of a process that may be a helper.
    pub(super) fn helper_ended(&mut self, pid: u32) {
        self.helpers.retain(|helper| *helper != pid);
        if self.helper_due && self.helpers.len() < MAX_HELPERS {
            self.helper_due = false;
            self.surface();
        }
    }

    /// Sends the final state to all clients.
    pub(super) fn shutdown(&mut self) {
        self.conns.iter_mut().for_each(Conn::outdate);
        self.tell_viewers();
        for conn in self.conns.iter_mut().filter(|conn| matches!(conn.role, ConnectionRole::Asking(_))) {
            conn.reply(&WireReply::Error("the worker ended".to_owned()));
        }
        self.serve_conns(&vec![rustix::event::PollFlags::empty(); self.conns.len()]);
    }

    fn notified(&mut self) -> Result<Result<String, Refusal>> {
        let taken = self.fenced(|| mail::take(&self.dir, MAX_NOTIFIED))?;
        Ok(taken.map(|notified| {
            notified.into_iter().map(|notified| notified.text).collect::<Vec<_>>().join("\n\n")
        }))
    }

    fn claim(&mut self, resource: &str, ttl_s: Option<u64>) -> Result<Result<String, Refusal>> {
        let resource = lease::free_name(resource).map_err(anyhow::Error::msg)?;
        if let Err(refusal) = self.fenced(|| Ok(()))? {
            return Ok(Err(refusal));
        }
        let held = self.state.leases.len();
        anyhow::ensure!(held < MAX_LEASES, "this worker has {held} leases already");
        let mut claimant = self.claimant.clone();
        if let Some(ttl_s) = ttl_s {
            // All leases are renewed together, at a third of the shortest time.
            claimant.ttl = Ttl::try_from(ttl_s).map_err(anyhow::Error::msg)?;
            self.claimant.ttl = self.claimant.ttl.min(claimant.ttl);
        }
        let granted = match claims::acquire(&self.layout, &resource, &claimant, &claims::here()) {
            Ok(granted) => granted,
            Err(denied) => return Ok(Err(denied.refusal()?.to_string())),
        };
        let epoch = granted.holding.epoch.to_string();
        self.state.leases.retain(|other| other.resource != granted.holding.resource);
        self.state.leases.push(granted.holding);
        self.renew_leases();
        self.save();
        Ok(Ok(epoch))
    }

    /// Renews the leases. A worker that lost a lease must not write any more.
    pub(super) fn renew_leases(&mut self) {
        self.renew = Deadline::after_ms(self.claimant.ttl.ms() / 3);
        match claims::renew(&self.layout, &self.claimant.holder, &self.state.leases, clock::mono_ms()) {
            Ok(lost) if lost.is_empty() => {}
            Ok(lost) => {
                let words: Vec<String> = lost.iter().map(ToString::to_string).collect();
                self.end(Phase::Failed, &format!("it lost its lease: {}", words.join("; ")));
            }
            Err(error) => self.event("lease_not_renewed", &format!("{error:#}")),
        }
    }

    fn release(&mut self, resource: &str) -> Result<Result<String, Refusal>> {
        let held = self.state.leases.iter().position(|lease| lease.resource.as_str() == resource);
        let index = held.with_context(|| format!("this worker has no lease on {resource:?}"))?;
        anyhow::ensure!(
            lease::free_name(resource).is_ok(),
            "a worker keeps the lease on its goal until it ends"
        );
        let given_back = self.state.leases.remove(index);
        claims::release(&self.layout, &self.claimant.holder, &[given_back])?;
        self.save();
        Ok(Ok(String::new()))
    }

    /// Appends to the machine log.
    pub(super) fn event(&self, what: &str, why: &str) {
        let why = self.secrets.redact(why);
        let fields = [("worker", self.spec.id.as_str()), ("why", &*why)];
        let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        // The machine log is the last place for a report, so its own failure cannot be reported.
        drop(crate::store::logs::event(&self.layout, now(), what, fields));
    }

    /// Returns the commands that merge its work.
    pub(super) fn next_step(&self) -> Option<String> {
        self.spec.next_step(&self.state, &self.dir.clone_dir().to_string_lossy())
    }

    /// Writes one line about the worker's end to the journal.
    pub(super) fn journal(&self) {
        let next = self.next_step();
        let line = crate::model::entry::worker_line(&self.spec, &self.state, next.as_deref(), now());
        if let Err(error) = logs::journal(&self.layout, &self.secrets.redact(&line)) {
            self.event("end_not_journaled", &format!("{error:#}"));
        }
    }
}
