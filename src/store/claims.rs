//! Leases as files: given, renewed and given back under the store's lock, and the fence around what their holders write.
//!
//! `claims/<resource>.json` is a lease; it goes when it is released. `claims/floor` then keeps the epoch, so that none
//! comes back. Taking and giving back survive a power loss. A renewal need not: no holder does either.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::file::{self, Keep, ReadError};
use super::layout::Layout;
use super::records::{self, Parsed};
use super::{lock, workers};
use crate::model::lease::{
    self, Alive, Claimant, Found, Here, Holder, Lease, Lost, Refusal, Standing, Ttl, floor_after, held,
    renewed,
};
use crate::model::name::Name;
use crate::model::worker::{Holding, State};
use crate::sys::{clock, tree};

/// This machine and this moment, for the rules.
pub fn here() -> Here {
    let (host, boot) = (tree::host(), tree::boot_id());
    Here { host, boot, mono_ms: clock::mono_ms(), unix_ms: clock::now().unix_ms }
}

/// A worker as claimant, when this process is its supervisor.
pub fn supervisor(id: &Name, ttl: Ttl) -> Claimant {
    let pid = std::process::id();
    let pid_start = tree::start_of(pid).unwrap_or_default();
    Claimant { holder: Holder::Worker(id.clone()), pid, pid_start, pid_ns: tree::pid_namespace(), ttl }
}

/// A person as claimant.
pub fn by_hand(person: &Holder, ttl: Ttl) -> Claimant {
    Claimant { holder: person.clone(), pid: 0, pid_start: 0, pid_ns: 0, ttl }
}

/// A lease that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What the holder has to remember.
    pub holding: Holding,
    /// What is worth telling somebody: from whom it was taken and why, or what was wrong with the file.
    pub note: Option<String>,
}

/// Takes a lease, or says who has it. A holder that asks again renews its own. A file that is no lease is set aside
/// and holds nobody up.
///
/// # Errors
/// When a file cannot be read or written; nothing was given then.
pub fn acquire(
    layout: &Layout,
    resource: &Name,
    claimant: &Claimant,
    here: &Here,
) -> Result<Result<Granted, Refusal>> {
    let _held = lock::store(&layout.store_lock())?;
    let found = find(layout, resource)?;
    let alive = found.lease().map_or(Alive::Unknown, |lease| liveness(layout, lease));
    let floor = floor(layout)?;
    let grant = match lease::acquire(resource, &found, floor, claimant, here, alive) {
        Ok(grant) => grant,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let aside = set_aside(layout, resource, &found)?;
    // The floor first: with the lease alone on the disk, a file that is lost later would bring its epoch back.
    raise_floor(layout, floor, grant.floor)?;
    records::write_json(&layout.claim(resource), &grant.lease, Keep::Durable)?;
    let kept = aside.map(|path| format!("; it is kept as `{}`", path.display())).unwrap_or_default();
    let note = grant.note.map(|note| note + &kept);
    Ok(Ok(Granted { holding: grant.lease.holding(), note }))
}

/// Renews these leases, as far as this holder still has them, and returns the others.
///
/// # Errors
/// When a file cannot be read or written; the leases then run on as they did.
pub fn renew(layout: &Layout, holder: &Holder, holdings: &[Holding], mono_ms: i64) -> Result<Vec<Lost>> {
    let _held = lock::store(&layout.store_lock())?;
    each(layout, holder, holdings, |lease| {
        records::write_json(&layout.claim(&lease.resource), &renewed(lease, mono_ms), Keep::Whole)
    })
}

/// Gives these leases back, as far as this holder still has them, and returns the others.
///
/// # Errors
/// When a file cannot be read or written; it can be tried again then.
pub fn release(layout: &Layout, holder: &Holder, holdings: &[Holding]) -> Result<Vec<Lost>> {
    let _held = lock::store(&layout.store_lock())?;
    each(layout, holder, holdings, |lease| drop_file(layout, &lease.resource, &Found::Lease(lease.clone())))
}

/// Does something that only the holder of all these leases may do, and nothing when one of them is lost. The store's
/// lock is held meanwhile, so that no lease changes hands between the look and the deed; the deed cannot take it.
///
/// # Errors
/// The deed's own, or when a file cannot be read; the deed was not begun then.
pub fn fenced<T>(
    layout: &Layout,
    holder: &Holder,
    holdings: &[Holding],
    deed: impl FnOnce() -> Result<T>,
) -> Result<Result<T, Lost>> {
    let _held = lock::store(&layout.store_lock())?;
    match each(layout, holder, holdings, |_| Ok(()))?.into_iter().next() {
        Some(lost) => Ok(Err(lost)),
        None => deed().map(Ok),
    }
}

/// What a human's release came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freed {
    /// Nobody had it.
    Nobody,
    /// This lease is no more.
    Lease(Lease),
    /// What was there was no lease; where it is kept.
    Corrupt(PathBuf),
    /// Somebody else has it, and still has.
    NotTheirs(Lease),
}

/// Ends a lease by a human's hand: the person's own, or with `force` anybody's.
///
/// # Errors
/// When a file cannot be read or written.
pub fn free(layout: &Layout, resource: &Name, person: &Holder, force: bool) -> Result<Freed> {
    let _held = lock::store(&layout.store_lock())?;
    let found = find(layout, resource)?;
    let freed = match &found {
        Found::Absent => return Ok(Freed::Nobody),
        Found::Lease(lease) if lease.holder != *person && !force => {
            return Ok(Freed::NotTheirs(lease.clone()));
        }
        Found::Lease(lease) => Freed::Lease(lease.clone()),
        Found::Corrupt(_) => Freed::Corrupt(set_aside(layout, resource, &found)?.unwrap_or_default()),
    };
    drop_file(layout, resource, &found)?;
    Ok(freed)
}

/// Leases and how they stand.
pub type Leases = Vec<(Lease, Standing)>;

/// All leases by name, and a line for each file that is none. Nothing is written.
///
/// # Errors
/// When the directory cannot be listed.
pub fn list(layout: &Layout, here: &Here) -> Result<(Leases, Vec<String>)> {
    let (mut leases, mut problems) = (Vec::new(), Vec::new());
    for name in records::json_names(&layout.claims())? {
        let found = Name::parse_new(&name).map_err(anyhow::Error::msg).and_then(|name| find(layout, &name));
        match found {
            Ok(Found::Absent) => {}
            Ok(Found::Lease(lease)) => {
                let standing = lease.standing(here, liveness(layout, &lease));
                leases.push((lease, standing));
            }
            Ok(Found::Corrupt(why)) => problems.push(format!("claims/{name}.json is no lease: {why}")),
            Err(error) => problems.push(format!("claims/{} is not used: {error:#}", name.escape_debug())),
        }
    }
    Ok((leases, problems))
}

/// Does something with each lease that this holder still has, and returns the others.
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

fn find(layout: &Layout, resource: &Name) -> Result<Found> {
    Ok(match records::parse::<Lease>(&layout.claim(resource))? {
        Parsed::Absent => Found::Absent,
        Parsed::Corrupt(why) => Found::Corrupt(why),
        Parsed::Good(lease) if lease.resource == *resource => Found::Lease(lease),
        Parsed::Good(lease) => Found::Corrupt(format!("it is about {}", lease.resource)),
    })
}

fn liveness(layout: &Layout, lease: &Lease) -> Alive {
    let Holder::Worker(id) = &lease.holder else { return Alive::Unknown };
    let dir = layout.worker(id);
    let locked = workers::is_alive(&dir).ok();
    let state = records::read_json::<State>(&dir.state()).ok().flatten();
    lease::alive(lease, locked, state.as_ref().map(|state| &state.supervisor))
}

fn set_aside(layout: &Layout, resource: &Name, found: &Found) -> Result<Option<PathBuf>> {
    match found {
        Found::Corrupt(_) => {
            let stamp = clock::now().unix_ms.to_string();
            file::copy_aside(&layout.claim(resource), &stamp).map(Some)
        }
        Found::Absent | Found::Lease(_) => Ok(None),
    }
}

fn drop_file(layout: &Layout, resource: &Name, found: &Found) -> Result<()> {
    let floor = floor(layout)?;
    raise_floor(layout, floor, floor_after(found, floor))?;
    file::remove(&layout.claim(resource))
}

/// The highest epoch of all files that are gone. A floor that cannot be read is taken for one that is surely higher:
/// epochs are counted one by one, and the clock counts milliseconds.
fn floor(layout: &Layout) -> Result<u64> {
    let path = layout.claims_floor();
    match file::read_text(&path, 64) {
        Ok(None) => Ok(0),
        Ok(Some(text)) => match text.trim().parse() {
            Ok(floor) => Ok(floor),
            Err(_) => lost_floor(layout),
        },
        Err(ReadError::Unreadable(why)) => {
            Err(anyhow::Error::msg(why)).with_context(|| format!("could not read `{}`", path.display()))
        }
        Err(_) => lost_floor(layout),
    }
}

fn lost_floor(layout: &Layout) -> Result<u64> {
    let now = clock::now().unix_ms;
    file::copy_aside(&layout.claims_floor(), &now.to_string())?;
    raise_floor(layout, 0, now.unsigned_abs())?;
    Ok(now.unsigned_abs())
}

fn raise_floor(layout: &Layout, from: u64, to: u64) -> Result<()> {
    match to > from {
        true => file::write(&layout.claims_floor(), format!("{to}\n").as_bytes(), 0o600, Keep::Durable),
        false => Ok(()),
    }
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
