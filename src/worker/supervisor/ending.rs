//! Ending a process tree: SIGTERM to every process of it, two seconds later SIGKILL until none is left.

use std::time::Duration;

use crate::os::clock::Deadline;
use crate::os::process::{GRACE_MS, tree};

/// How often the tree is checked while it ends, in milliseconds.
const STEP_MS: i64 = 20;
/// After how long a process that survives SIGKILL is left alone, in milliseconds: it may hang in the kernel.
const GIVE_UP_MS: i64 = 30_000;

/// The tree below this process while it is being ended.
pub(super) struct Ending {
    asked: bool,
    grace: Deadline,
    give_up: Deadline,
    poll: Deadline,
}

impl Ending {
    /// Begins to end everything that is left.
    pub(super) fn begin() -> Ending {
        Ending {
            asked: false,
            grace: Deadline::after_ms(GRACE_MS),
            give_up: Deadline::after_ms(GIVE_UP_MS),
            poll: Deadline::after_ms(0),
        }
    }

    pub(super) fn due(&self) -> Duration {
        self.poll.left()
    }

    /// Checks what is left besides these processes; returns true if nothing is. The outer process of a sandbox would
    /// kill the sandboxed program at once, so it is not signalled; it ends with that program.
    pub(super) fn is_over(&mut self, excluded: &[u32], outer: Option<u32>) -> bool {
        let left = tree::below(std::process::id(), excluded);
        if left.is_empty() || self.give_up.passed() {
            return true;
        }
        if !self.asked || self.grace.passed() {
            let notified = left.into_iter().filter(|(pid, _)| self.asked || Some(*pid) != outer);
            tree::signal_all(&notified.collect::<Vec<_>>(), self.asked);
            self.asked = true;
        }
        self.poll = Deadline::after_ms(STEP_MS);
        false
    }
}
