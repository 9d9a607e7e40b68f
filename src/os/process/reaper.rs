//! The reaper: it collects ended children, and ends orphans of theirs.

use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid};

use super::command::ProcessExit;
use super::tree::{self, Known, Process};
use super::wait::{GRACE_MS, ignore, pause_ms};
use crate::os::clock::Deadline;

/// Makes this process adopt the orphans of its descendants, if the system can. It must not have children yet
/// ([`has_children`]): it would take orphans of foreign processes for its own.
pub fn become_subreaper() {
    #[cfg(target_os = "linux")]
    // Without it orphans live on, as with any other program; nothing else depends on it.
    ignore(rustix::process::set_child_subreaper(Some(rustix::process::getpid())));
}

/// Returns true if this process has a child, including ended ones. A process that has just started can have children of
/// the program that became it by `exec`.
pub fn has_children() -> bool {
    waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT).is_ok()
}

/// Reaps one child that has ended, including adopted ones; `None` if there is none. Never waits.
pub fn reap() -> Option<(u32, ProcessExit)> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok().flatten()?;
    Some((pid.as_raw_nonzero().get().unsigned_abs(), status.into()))
}

/// Ends and reaps every remaining child, including orphans of ended children, except those in `spare`. Call it only
/// when no other child should live. Returns how many were ended.
pub fn reap_orphans(spare: &Known) -> usize {
    let wait_limit = Deadline::after_ms(GRACE_MS);
    let me = std::process::id();
    let mut ended = 0;
    let mut none_seen = false;
    while !wait_limit.passed() {
        match rustix::process::wait(WaitOptions::NOHANG) {
            // This process has adopted the children of the reaped one, and a running scan may have missed them.
            Ok(Some(_)) => none_seen = false,
            Ok(None) if none_seen => break,
            Ok(None) => {
                let fit = |mut found: Vec<Process>| {
                    found.retain(|child| !spare.contains(child));
                    found
                };
                // The short list can miss a child while another one exits. Before concluding that none is left, scan
                // all of /proc. A sandbox leaves its first process behind for a moment in each beat, and scanning all
                // processes of a machine is slow.
                let orphans = Some(fit(tree::children_of(me))).filter(|found| !found.is_empty());
                let orphans = orphans.unwrap_or_else(|| fit(tree::all_children_of(me)));
                none_seen = orphans.is_empty();
                ended += orphans.len();
                tree::signal_all(&orphans, true);
                if !none_seen {
                    pause_ms(1);
                }
            }
            Err(_) => break,
        }
    }
    ended
}
