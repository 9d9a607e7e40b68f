//! Ending a process tree: SIGTERM to every process of it, two seconds later SIGKILL until none is left.

use std::time::Duration;

use super::Supervisor;
use super::stage::{Next, Stage};
use crate::model::worker::Phase;
use crate::sys::clock::Deadline;
use crate::sys::process::{GRACE_MS, tree};

/// How often the tree is checked while it ends, in milliseconds.
const STEP_MS: i64 = 20;
/// After how long a process that survives SIGKILL is left alone, in milliseconds: it may hang in the kernel.
const GIVE_UP_MS: i64 = 30_000;

/// A tree that is being ended.
pub(super) struct Ending {
    next: Next,
    asked: bool,
    grace: Deadline,
    wait_limit: Deadline,
    look: Deadline,
}

impl Ending {
    /// Begins to end everything that is left.
    pub(super) fn begin(next: Next) -> Ending {
        Ending {
            next,
            asked: false,
            grace: Deadline::after_ms(GRACE_MS),
            wait_limit: Deadline::after_ms(GIVE_UP_MS),
            look: Deadline::after_ms(0),
        }
    }

    pub(super) fn wait_limit(&self) -> Duration {
        self.look.left()
    }

    /// Checks what is left; returns the next stage if nothing is. The outer process of a sandbox would kill the
    /// sandboxed program at once, so it is not signalled; it ends with that program.
    pub(super) fn step(&mut self, excluded: &[u32], outer: Option<u32>) -> Option<Next> {
        let left = tree::descendants(excluded);
        if left.is_empty() || self.wait_limit.passed() {
            return Some(self.next);
        }
        if !self.asked || self.grace.passed() {
            let notified = left.into_iter().filter(|(pid, _)| self.asked || Some(*pid) != outer);
            tree::signal_all(&notified.collect::<Vec<_>>(), self.asked);
            self.asked = true;
        }
        self.look = Deadline::after_ms(STEP_MS);
        None
    }
}

impl Supervisor {
    /// Ends the worker with this final state, whatever its processes still do.
    pub(super) fn end(&mut self, phase: Phase, why: &str) {
        if matches!(self.stage, Stage::Over) {
            // Only its last state was still unwritten, and the user does not need that any more.
            self.unsaved = None;
        }
        if self.verdict.is_some() || matches!(self.stage, Stage::Over) {
            return;
        }
        self.verdict = Some((phase, why.to_owned()));
        // A hangup is the clearest signal for many programs; their last output is still kept.
        self.stage = Stage::Ending(Ending::begin(Next::Finish));
    }
}
