//! Workers whose supervisor is gone, and the processes that they left.

use anyhow::Result;

use crate::os::process::tree;
use crate::rules::worker::Phase;
use crate::store::layout::Layout;
use crate::store::workers::{self, Worker};

/// Lists the workers without a supervisor.
pub(super) fn lost(layout: &Layout) -> Result<Vec<Worker>> {
    let (mut all, _) = workers::list(layout)?;
    all.retain(|worker| worker.state.phase == Phase::Lost);
    Ok(all)
}

/// Ends what workers without a supervisor left running: processes with their sockets in the environment, and the
/// session of their program, whose environment may be closed. The caller holds the store's lock, so that no other
/// process starts a worker of these names in the meantime.
pub fn end_lost(layout: &Layout, lost: &[Worker]) {
    let socket = |worker: &Worker| layout.worker(&worker.spec.id).worker_socket();
    let sockets: Vec<String> =
        lost.iter().map(|worker| socket(worker).to_string_lossy().into_owned()).collect();
    let boot = tree::boot_id();
    let children = lost.iter().filter_map(|worker| worker.state.child.as_ref());
    let children: Vec<_> = children.filter(|child| child.boot == boot).collect();
    tree::end_all(|| {
        let mut left = tree::marked("LOOOP_SOCKET", &sockets);
        left.extend(children.iter().flat_map(|child| tree::session_of(child.pid, child.start)));
        left
    });
}

/// Archives an ended worker, and ends what a lost one left running, because no later check would find that. The caller
/// holds the store's lock.
///
/// # Errors
/// When it still lives, or a file cannot be moved or written; the caller can try again.
pub fn put_away(layout: &Layout, worker: &Worker) -> Result<()> {
    if worker.state.phase == Phase::Lost {
        end_lost(layout, std::slice::from_ref(worker));
    }
    workers::put_away(layout, worker)
}
