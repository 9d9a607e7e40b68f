//! Leases as files: acquired, renewed and released under the store's lock, and the fence around their holders' writes.
//!
//! `claims/<resource>.json` is a lease; a release removes it. `claims/floor` then keeps the epoch, so that no epoch is
//! issued twice. Acquiring and releasing survive a power loss. A renewal need not: its holder does not survive either.

use std::path::PathBuf;

use anyhow::Result;

use super::file::{self, Doing, Durability, ReadError};
use super::json_file::{self, Parsed};
use super::layout::Layout;
use super::{Denied, lock, state_files, workers};
use crate::os::clock;
use crate::os::process::tree;
use crate::rules::lease::{
    self, Alive, Claimant, Here, Holder, Lease, LeaseRead, LeaseStatus, Lost, Refusal, Ttl, floor_after,
    held, renewed,
};
use crate::rules::name::Name;
use crate::rules::worker::{Holding, WorkerState};

/// Returns this machine and this moment, for the rules.
pub fn here() -> Here {
    let (host, boot) = (tree::host(), tree::boot_id());
    Here { host, boot, mono_ms: clock::mono_ms(), unix_ms: clock::now().unix_ms }
}

/// Describes a worker as lease holder, when this process is its supervisor.
pub fn supervisor(id: &Name, ttl: Ttl) -> Claimant {
    let pid = std::process::id();
    let pid_start = tree::start_of(pid).unwrap_or_default();
    Claimant { holder: Holder::Worker(id.clone()), pid, pid_start, pid_ns: tree::pid_namespace(), ttl }
}

/// Describes a user as lease holder.
pub fn by_hand(person: &Holder, ttl: Ttl) -> Claimant {
    Claimant { holder: person.clone(), pid: 0, pid_start: 0, pid_ns: 0, ttl }
}

/// A lease that was acquired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What the holder must remember.
    pub holding: Holding,
    /// What to report: from whom the lease was taken and why, or what was wrong with its file.
    pub note: Option<String>,
}

/// Acquires a lease. A holder that asks again renews its own lease. A corrupt lease file is
/// quarantined and blocks no holder.
///
/// # Errors
/// When another holder has the lease, or when a file cannot be read or written; nothing was acquired then.
pub fn acquire(
    layout: &Layout,
    resource: &Name,
    claimant: &Claimant,
    here: &Here,
) -> Result<Granted, Denied<Refusal>> {
    let _held = lock::store(&layout.store_lock())?;
    let found = find(layout, resource)?;
    let alive = found.lease().map_or(Alive::Unknown, |lease| liveness(layout, lease));
    let floor = floor(layout)?;
    let grant = lease::acquire(resource, &found, floor, claimant, here, alive).map_err(Denied::Refused)?;
    let aside = match found {
        LeaseRead::Corrupt(_) => Some(set_aside(layout, resource)?),
        LeaseRead::Absent | LeaseRead::Lease(_) => None,
    };
    // Write the floor first: if only the lease were on disk and were lost later, its epoch would be issued again.
    raise_floor(layout, floor, grant.floor)?;
    json_file::write_json(&layout.claim(resource), &grant.lease, Durability::Durable)?;
    let kept = aside.map(|path| format!("; it is kept as `{}`", path.display())).unwrap_or_default();
    let note = grant.note.map(|note| note + &kept);
    Ok(Granted { holding: grant.lease.holding(), note })
}

/// Renews these leases if this holder still has them, and returns the lost ones.
///
/// # Errors
/// When a file cannot be read or written; the leases then keep their earlier deadline.
pub fn renew(layout: &Layout, holder: &Holder, holdings: &[Holding], mono_ms: i64) -> Result<Vec<Lost>> {
    let _held = lock::store(&layout.store_lock())?;
    each(layout, holder, holdings, |lease| {
        json_file::write_json(&layout.claim(&lease.resource), &renewed(lease, mono_ms), Durability::Whole)
    })
}

/// Releases these leases if this holder still has them, and returns the lost ones.
///
/// # Errors
/// When a file cannot be read or written; the caller can try again.
pub fn release(layout: &Layout, holder: &Holder, holdings: &[Holding]) -> Result<Vec<Lost>> {
    let _held = lock::store(&layout.store_lock())?;
    each(layout, holder, holdings, |lease| {
        drop_file(layout, &lease.resource, &LeaseRead::Lease(lease.clone()))
    })
}

/// Runs an operation that only the holder of all these leases may do. The store's
/// lock is held meanwhile, so that no lease changes hands between the check and the operation. The operation must not
/// take that lock.
///
/// # Errors
/// Those of the operation; or when a lease is lost or a file cannot be read: the operation did not start then.
pub fn fenced<T>(
    layout: &Layout,
    holder: &Holder,
    holdings: &[Holding],
    operation: impl FnOnce() -> Result<T>,
) -> Result<T, Denied<Lost>> {
    let _held = lock::store(&layout.store_lock())?;
    match each(layout, holder, holdings, |_| Ok(()))?.into_iter().next() {
        Some(lost) => Err(Denied::Refused(lost)),
        None => Ok(operation()?),
    }
}

/// The result of a release by the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freed {
    /// The lease was not held.
    Nobody,
    /// This lease was released.
    Lease(Lease),
    /// The file was corrupt; it is kept under this path.
    Corrupt(PathBuf),
    /// Another holder has the lease and keeps it.
    NotTheirs(Lease),
}

/// Releases a lease for a user: the user's own, or any with `force`.
pub fn free(layout: &Layout, resource: &Name, person: &Holder, force: bool) -> Result<Freed> {
    let _held = lock::store(&layout.store_lock())?;
    let found = find(layout, resource)?;
    let freed = match &found {
        LeaseRead::Absent => return Ok(Freed::Nobody),
        LeaseRead::Lease(lease) if lease.holder != *person && !force => {
            return Ok(Freed::NotTheirs(lease.clone()));
        }
        LeaseRead::Lease(lease) => Freed::Lease(lease.clone()),
        LeaseRead::Corrupt(_) => Freed::Corrupt(set_aside(layout, resource)?),
    };
    drop_file(layout, resource, &found)?;
    Ok(freed)
}

/// Leases with their status.
pub type Leases = Vec<(Lease, LeaseStatus)>;

/// Lists all leases by name, and a line for each corrupt file. Writes nothing.
pub fn list(layout: &Layout, here: &Here) -> Result<(Leases, Vec<String>)> {
    let (mut leases, mut problems) = (Vec::new(), Vec::new());
    for name in state_files::json_names(&layout.claims())? {
        let found = Name::parse_new(&name).map_err(anyhow::Error::msg).and_then(|name| find(layout, &name));
        match found {
            Ok(LeaseRead::Absent) => {}
            Ok(LeaseRead::Lease(lease)) => {
                let standing = lease.standing(here, liveness(layout, &lease));
                leases.push((lease, standing));
            }
            Ok(LeaseRead::Corrupt(why)) => problems.push(format!("claims/{name}.json is corrupt: {why}")),
            Err(error) => problems.push(format!("claims/{} is not used: {error:#}", name.escape_debug())),
        }
    }
    Ok((leases, problems))
}

/// Calls a function for each lease that this holder still has, and returns the others.
fn each(
    layout: &Layout,
    holder: &Holder,
    holdings: &[Holding],
    mut with: impl FnMut(&Lease) -> Result<()>,
) -> Result<Vec<Lost>> {
    let mut lost = Vec::new();
    for holding in holdings {
        match held(&find(layout, &holding.resource)?, holder, holding) {
            Ok(lease) => with(lease)?,
            Err(one) => lost.push(one),
        }
    }
    Ok(lost)
}

fn find(layout: &Layout, resource: &Name) -> Result<LeaseRead> {
    Ok(match json_file::parse::<Lease>(&layout.claim(resource))? {
        Parsed::Absent => LeaseRead::Absent,
        Parsed::Corrupt(why) => LeaseRead::Corrupt(why),
        Parsed::Good(lease) if lease.resource == *resource => LeaseRead::Lease(lease),
        Parsed::Good(lease) => LeaseRead::Corrupt(format!("it names the resource {}", lease.resource)),
    })
}

fn liveness(layout: &Layout, lease: &Lease) -> Alive {
    let Holder::Worker(id) = &lease.holder else { return Alive::Unknown };
    let dir = layout.worker(id);
    let locked = workers::is_alive(&dir).ok();
    let state = json_file::read_json::<WorkerState>(&dir.state()).ok().flatten();
    lease::alive(lease, locked, state.as_ref().map(|state| &state.supervisor))
}

fn set_aside(layout: &Layout, resource: &Name) -> Result<PathBuf> {
    file::copy_aside(&layout.claim(resource), clock::now().unix_ms)
}

fn drop_file(layout: &Layout, resource: &Name, found: &LeaseRead) -> Result<()> {
    let floor = floor(layout)?;
    raise_floor(layout, floor, floor_after(found, floor))?;
    file::remove(&layout.claim(resource))
}

/// Returns the highest epoch of all released leases. An unreadable floor is replaced by the clock's milliseconds, which
/// are surely higher: epochs are counted one by one.
fn floor(layout: &Layout) -> Result<u64> {
    let path = layout.claims_floor();
    let known = match file::read_text(&path, 64) {
        Ok(None) => Some(0),
        Ok(Some(text)) => text.trim().parse().ok(),
        Err(ReadError::Unreadable(why)) => return Err(anyhow::Error::msg(why)).doing("read", &path),
        Err(_) => None,
    };
    if let Some(floor) = known {
        return Ok(floor);
    }
    let now = clock::now().unix_ms;
    file::copy_aside(&path, now)?;
    raise_floor(layout, 0, now.unsigned_abs())?;
    Ok(now.unsigned_abs())
}

fn raise_floor(layout: &Layout, from: u64, to: u64) -> Result<()> {
    match to > from {
        true => file::write(&layout.claims_floor(), format!("{to}\n").as_bytes(), 0o600, Durability::Durable),
        false => Ok(()),
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
