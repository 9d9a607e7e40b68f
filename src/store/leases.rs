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
    self, Alive, Here, Holder, HolderIdentity, Lease, LeaseRead, LeaseStatus, LostLease, Refusal, Ttl, held,
    max_epoch_after, renewed,
};
use crate::rules::name::Name;
use crate::rules::worker::{Holding, WorkerState};

/// Returns this machine and this moment, for the rules.
pub fn here() -> Here {
    let (host, boot) = (tree::host(), tree::boot_id());
    Here { host, boot, mono_ms: clock::mono_ms(), unix_ms: clock::now().unix_ms }
}

/// Describes a worker as lease holder, when this process is its supervisor.
pub fn supervisor(id: &Name, ttl: Ttl) -> HolderIdentity {
    let pid = std::process::id();
    let pid_start = tree::start_of(pid).unwrap_or_default();
    HolderIdentity { holder: Holder::Worker(id.clone()), pid, pid_start, pid_ns: tree::pid_namespace(), ttl }
}

/// Describes a user as lease holder.
pub fn by_hand(user: &Holder, ttl: Ttl) -> HolderIdentity {
    HolderIdentity { holder: user.clone(), pid: 0, pid_start: 0, pid_ns: 0, ttl }
}

/// A lease that was acquired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquired {
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
    identity: &HolderIdentity,
    here: &Here,
) -> Result<Acquired, Denied<Refusal>> {
    let _held = lock::store(&layout.store_lock())?;
    let found = find(layout, resource)?;
    let alive = found.lease().map_or(Alive::Unknown, |lease| liveness(layout, lease));
    let max_epoch = max_epoch(layout)?;
    let grant =
        lease::acquire(resource, &found, max_epoch, identity, here, alive).map_err(Denied::Refused)?;
    let aside = match found {
        LeaseRead::Corrupt(_) => Some(set_aside(layout, resource)?),
        LeaseRead::Absent | LeaseRead::Lease(_) => None,
    };
    // Write the highest epoch first: if only the lease were on disk and were lost later, its epoch would be issued again.
    raise_max_epoch(layout, max_epoch, grant.max_epoch)?;
    json_file::write_json(&layout.claim(resource), &grant.lease, Durability::Durable)?;
    let kept = aside.map(|path| format!("; it is kept as `{}`", path.display())).unwrap_or_default();
    let note = grant.note.map(|note| note + &kept);
    Ok(Acquired { holding: grant.lease.holding(), note })
}

/// Renews these leases if this holder still has them, and returns the lost ones.
///
/// # Errors
/// When a file cannot be read or written; the leases then keep their earlier deadline.
pub fn renew(layout: &Layout, holder: &Holder, holdings: &[Holding], mono_ms: i64) -> Result<Vec<LostLease>> {
    let _held = lock::store(&layout.store_lock())?;
    each(layout, holder, holdings, |lease| {
        json_file::write_json(&layout.claim(&lease.resource), &renewed(lease, mono_ms), Durability::Atomic)
    })
}

/// Releases these leases if this holder still has them, and returns the lost ones.
///
/// # Errors
/// When a file cannot be read or written; the caller can try again.
pub fn release(layout: &Layout, holder: &Holder, holdings: &[Holding]) -> Result<Vec<LostLease>> {
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
) -> Result<T, Denied<LostLease>> {
    let _held = lock::store(&layout.store_lock())?;
    match each(layout, holder, holdings, |_| Ok(()))?.into_iter().next() {
        Some(lost) => Err(Denied::Refused(lost)),
        None => Ok(operation()?),
    }
}

/// The result of a release by the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
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
pub fn release_for_user(layout: &Layout, resource: &Name, user: &Holder, force: bool) -> Result<Released> {
    let _held = lock::store(&layout.store_lock())?;
    let found = find(layout, resource)?;
    let released = match &found {
        LeaseRead::Absent => return Ok(Released::Nobody),
        LeaseRead::Lease(lease) if lease.holder != *user && !force => {
            return Ok(Released::NotTheirs(lease.clone()));
        }
        LeaseRead::Lease(lease) => Released::Lease(lease.clone()),
        LeaseRead::Corrupt(_) => Released::Corrupt(set_aside(layout, resource)?),
    };
    drop_file(layout, resource, &found)?;
    Ok(released)
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
                let status = lease.status(here, liveness(layout, &lease));
                leases.push((lease, status));
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
) -> Result<Vec<LostLease>> {
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
    let max_epoch = max_epoch(layout)?;
    raise_max_epoch(layout, max_epoch, max_epoch_after(found, max_epoch))?;
    file::remove(&layout.claim(resource))
}

/// Returns the highest epoch of all released leases. An unreadable number is replaced by the clock's milliseconds, which
/// are surely higher: epochs are counted one by one.
fn max_epoch(layout: &Layout) -> Result<u64> {
    let path = layout.claims_max_epoch();
    let known = match file::read_text(&path, 64) {
        Ok(None) => Some(0),
        Ok(Some(text)) => text.trim().parse().ok(),
        Err(ReadError::Unreadable(why)) => return Err(anyhow::Error::msg(why)).doing("read", &path),
        Err(_) => None,
    };
    if let Some(max_epoch) = known {
        return Ok(max_epoch);
    }
    let now = clock::now().unix_ms;
    file::copy_aside(&path, now)?;
    raise_max_epoch(layout, 0, now.unsigned_abs())?;
    Ok(now.unsigned_abs())
}

fn raise_max_epoch(layout: &Layout, from: u64, to: u64) -> Result<()> {
    match to > from {
        true => {
            file::write(&layout.claims_max_epoch(), format!("{to}\n").as_bytes(), 0o600, Durability::Durable)
        }
        false => Ok(()),
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
