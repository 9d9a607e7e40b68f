//! Pure. The rules of leases: whether a holder is alive, who is granted a lease under which epoch, and who still holds
//! it.

use super::{Alive, Claimant, Grant, Here, Holder, Lease, LeaseRead, LeaseStatus, Lost, Refusal};
use crate::rules::name::Name;
use crate::rules::process::Started;
use crate::rules::worker::Holding;

/// More epochs than one resource is ever granted between two unreadable files.
const GAP: u64 = 1 << 32;

/// Decides if a lease's holder is alive, by the lock that a worker's supervisor holds (`None`: it could not be checked)
/// and by that supervisor's process. A worker with the same name may have been started since.
pub fn alive(lease: &Lease, locked: Option<bool>, supervisor: Option<&Started>) -> Alive {
    match (locked, supervisor) {
        (Some(false), _) => Alive::No,
        (Some(true), Some(now)) => {
            let same = (now.pid, now.start, now.boot.as_str()) == (lease.pid, lease.pid_start, &*lease.boot);
            if same { Alive::Yes } else { Alive::No }
        }
        (Some(true), None) | (None, _) => Alive::Unknown,
    }
}

/// Grants a lease if the claimant may have it. A new holder always gets a new epoch; the present holder keeps its own.
///
/// # Errors
/// A [`Refusal`] while another holder has it.
pub fn acquire(
    resource: &Name,
    found: &LeaseRead,
    floor: u64,
    claimant: &Claimant,
    here: &Here,
    alive: Alive,
) -> Result<Grant, Refusal> {
    let lease = match found {
        LeaseRead::Absent => return Ok(give(resource, floor, floor, claimant, here, None)),
        LeaseRead::Corrupt(why) => {
            let (floor, note) = (floor_after(found, floor), format!("its file was corrupt: {why}"));
            return Ok(give(resource, floor, floor, claimant, here, Some(note)));
        }
        LeaseRead::Lease(lease) => lease,
    };
    let standing = lease.standing(here, alive);
    let is_own = lease.is_of(claimant, here);
    let refuse = |free_in_ms| Refusal { holder: lease.holder.clone(), epoch: lease.epoch, free_in_ms };
    let free = match (&lease.holder, standing) {
        (Holder::Worker(_), _) | (_, LeaseStatus::Held(_)) if is_own => {
            let lease = Lease { renewed_mono_ms: here.mono_ms, ttl_s: claimant.ttl, ..lease.clone() };
            return Ok(Grant { lease, floor, note: None });
        }
        // All workers with one name share one lock, and this claimant holds it.
        (Holder::Worker(_), _) if lease.holder == claimant.holder && lease.boot == here.boot => {
            "it was restarted"
        }
        (_, LeaseStatus::Free(why)) => why,
        (_, LeaseStatus::Held(ms)) => return Err(refuse(Some(ms))),
        (_, LeaseStatus::Foreign) => return Err(refuse(None)),
    };
    let note = format!("taken from {} (epoch {}): {free}", lease.holder.words(), lease.epoch);
    Ok(give(resource, lease.epoch.max(floor), floor, claimant, here, Some(note)))
}

fn give(
    resource: &Name,
    last: u64,
    floor: u64,
    claimant: &Claimant,
    here: &Here,
    note: Option<String>,
) -> Grant {
    let lease = Lease {
        resource: resource.clone(),
        holder: claimant.holder.clone(),
        pid: claimant.pid,
        pid_start: claimant.pid_start,
        pid_ns: claimant.pid_ns,
        host: here.host.clone(),
        boot: here.boot.clone(),
        epoch: last.saturating_add(1),
        acquired: here.unix_ms,
        renewed_mono_ms: here.mono_ms,
        ttl_s: claimant.ttl,
    };
    Grant { lease, floor, note }
}

/// Returns the lease if this holder still has it under this epoch.
///
/// # Errors
/// [`Lost`], with the present holder.
pub fn held<'a>(found: &'a LeaseRead, holder: &Holder, holding: &Holding) -> Result<&'a Lease, Lost> {
    match found.lease() {
        Some(lease) if lease.may_write(holder, holding.epoch) => Ok(lease),
        other => {
            let to = other.map(|lease| (lease.holder.clone(), lease.epoch));
            Err(Lost { holding: holding.clone(), to })
        }
    }
}

/// Returns the same lease, renewed now.
pub fn renewed(lease: &Lease, mono_ms: i64) -> Lease {
    Lease { renewed_mono_ms: mono_ms, ..lease.clone() }
}

/// Returns the floor to write before a file is removed, so that none of its epochs is granted again.
pub fn floor_after(found: &LeaseRead, floor: u64) -> u64 {
    match found {
        LeaseRead::Absent => floor,
        LeaseRead::Corrupt(_) => floor.saturating_add(GAP),
        LeaseRead::Lease(lease) => floor.max(lease.epoch),
    }
}
