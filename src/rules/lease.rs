//! Pure. Leases: who may work on a named resource, until when, and which of two claimants is right.
//!
//! A lease is one file, replaced only under the store's lock. Two rules decide about it. *Liveness* says when another
//! claimant may take it: at once if its holder is dead, else when it was not renewed for twice its lifetime. *The
//! fence* says who may write: the holder in the file, under the epoch in the file. A holder that was suspended for an
//! hour still believes that it holds the lease, but the file says otherwise, so its writes are rejected. Safety needs
//! only the fence, which reads no clock.
//!
//! The epochs of a resource strictly increase. The newest epoch of a resource is in its file. If the file is removed,
//! the highest epoch, `claims/floor`, replaces it: each epoch that is granted without a file is above it.
//!
//! Time is `CLOCK_MONOTONIC`, which stops while the machine sleeps. A holder cannot renew during sleep, so it must not
//! lose its lease by sleep.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::Name;
use super::process::Started;
use super::time::human_ms;
use super::worker::Holding;

/// The namespace of the goals among the resources.
const GOAL: &str = "goal";
/// More epochs than one resource is ever granted between two unreadable files.
const GAP: u64 = 1 << 32;

/// Returns the resource of a goal: `goal.<id>`.
pub fn goal(id: &Name) -> Name {
    Name::within(GOAL, id)
}

/// Parses the name of a resource that a worker names: any name except those of goals, which only the worker's starter
/// takes.
///
/// # Errors
/// Says why the name is not allowed.
pub fn free_name(text: &str) -> Result<Name, String> {
    match Name::parse_new(text)? {
        name if name.as_str().starts_with("goal.") => Err(format!("{text:?} is reserved for a goal")),
        name => Ok(name),
    }
}

/// The holder of a lease: a worker, or a user by hand. As text `fix-ci` or `human:ada`; a name never contains a colon.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display)]
#[serde(try_from = "String", into = "String")]
pub enum Holder {
    /// A worker, represented by its supervisor.
    #[strum(to_string = "{0}")]
    Worker(Name),
    /// A user. A user has no process to watch, so only time ends the lease.
    #[strum(to_string = "human:{0}")]
    User(String),
}

impl Holder {
    /// The holder as text: `worker fix-ci`, `ada`.
    pub fn words(&self) -> String {
        match self {
            Holder::Worker(name) => format!("worker {name}"),
            Holder::User(name) => name.clone(),
        }
    }
}

impl From<Holder> for String {
    fn from(holder: Holder) -> String {
        holder.to_string()
    }
}

impl TryFrom<String> for Holder {
    type Error = String;
    fn try_from(text: String) -> Result<Holder, String> {
        let Some(user) = text.strip_prefix("human:") else {
            return Ok(Holder::Worker(Name::parse(&text)?));
        };
        let plain = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
        match !user.is_empty() && user.chars().all(plain) {
            true => Ok(Holder::User(user.to_owned())),
            false => Err(format!("{text:?} does not name a user")),
        }
    }
}

/// The lifetime of a lease without renewal, in seconds: 5 s to 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct Ttl(u32);

impl Ttl {
    /// The default lifetime of a lease.
    pub const DEFAULT: Ttl = Ttl(60);

    /// The lifetime in milliseconds.
    pub fn ms(self) -> i64 {
        i64::from(self.0) * 1000
    }
}

impl TryFrom<u64> for Ttl {
    type Error = String;
    fn try_from(seconds: u64) -> Result<Ttl, String> {
        match u32::try_from(seconds) {
            Ok(short @ 5..=86_400) => Ok(Ttl(short)),
            _ => Err(format!("a lease lasts 5s to 24h between two renewals, not {seconds}s")),
        }
    }
}

/// The content of `claims/<resource>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The leased resource.
    pub resource: Name,
    /// The holder: a worker's name, or `human:` and a user's name.
    #[schemars(with = "String")]
    pub holder: Holder,
    /// The process id of the holder's supervisor; 0 for a user.
    pub pid: u32,
    /// Its start in clock ticks since boot, which distinguishes it from a later process with the same id.
    pub pid_start: u64,
    /// The process namespace of that id; 0 if the system has none.
    pub pid_ns: u64,
    pub host: String,
    /// The id of the machine's boot.
    pub boot: String,
    /// Increases with each change of holder and never decreases.
    pub epoch: u64,
    /// When it was granted, in milliseconds since the Unix epoch.
    #[serde(alias = "acquired")]
    pub acquired_ms: i64,
    /// When it was last renewed, on the monotonic clock of that boot.
    pub renewed_mono_ms: i64,
    /// The lifetime after each renewal.
    #[schemars(with = "u64")]
    pub ttl_s: Ttl,
}

/// A process or user that requests a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderIdentity {
    pub holder: Holder,
    /// As [`Lease::pid`].
    pub pid: u32,
    /// As [`Lease::pid_start`].
    pub pid_start: u64,
    /// As [`Lease::pid_ns`].
    pub pid_ns: u64,
    /// The requested lifetime.
    pub ttl: Ttl,
}

/// The place and time at which a rule is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    pub host: String,
    /// The id of this boot.
    pub boot: String,
    pub mono_ms: i64,
    /// The wall clock, which is only recorded.
    pub unix_ms: i64,
}

/// Whether the very process that took a lease is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alive {
    Yes,
    No,
    /// Unknown; never treated as dead.
    Unknown,
}

/// The status of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStatus {
    /// It is held, and becomes free after this number of milliseconds unless it is renewed.
    Held(i64),
    /// The next claimant may take it, for this reason.
    Free(&'static str),
    /// A holder on another machine has it, whose state cannot be checked from here.
    Foreign,
}

impl Lease {
    /// Returns the status of the lease.
    pub fn status(&self, here: &Here, alive: Alive) -> LeaseStatus {
        if self.boot != here.boot {
            return match self.host == here.host {
                true => LeaseStatus::Free("its machine was restarted"),
                false => LeaseStatus::Foreign,
            };
        }
        let (wait_limit_ms, late) = match (&self.holder, alive) {
            (Holder::Worker(_), Alive::No) => return LeaseStatus::Free("its worker is gone"),
            (Holder::Worker(_), _) => (2 * self.ttl_s.ms(), "it was not renewed in time"),
            (Holder::User(_), _) => (self.ttl_s.ms(), "its time is over"),
        };
        match wait_limit_ms - self.age_ms(here) {
            left if left > 0 => LeaseStatus::Held(left),
            _ => LeaseStatus::Free(late),
        }
    }

    /// Returns the time since its last renewal, in milliseconds; meaningless in another boot. A time in the future
    /// counts as now.
    pub fn age_ms(&self, here: &Here) -> i64 {
        here.mono_ms.saturating_sub(self.renewed_mono_ms).max(0)
    }

    /// The fence: true while this holder has the lease under this epoch.
    pub fn may_write(&self, holder: &Holder, epoch: u64) -> bool {
        self.holder == *holder && self.epoch == epoch
    }

    /// Returns what its holder remembers of it.
    pub fn holding(&self) -> Holding {
        Holding { resource: self.resource.clone(), epoch: self.epoch }
    }

    /// True if this claimant is the holder itself, and not a successor with the same name.
    fn is_of(&self, identity: &HolderIdentity, here: &Here) -> bool {
        let process = (identity.pid, identity.pid_start, identity.pid_ns);
        self.holder == identity.holder
            && self.boot == here.boot
            && process == (self.pid, self.pid_start, self.pid_ns)
    }
}

/// The content at the path of a lease's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseRead {
    /// Nothing: the lease was never granted, or it was released.
    Absent,
    /// An invalid file, with the reason.
    Corrupt(String),
    Lease(Lease),
}

impl LeaseRead {
    /// Returns the lease, if there is one.
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            LeaseRead::Lease(lease) => Some(lease),
            LeaseRead::Absent | LeaseRead::Corrupt(_) => None,
        }
    }
}

/// A lease that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcquiredLease {
    /// The new content of the file.
    pub lease: Lease,
    /// The highest epoch, which must be written before the file.
    pub max_epoch: u64,
    /// A remark; `None` if the lease was free or already held by the claimant.
    pub note: Option<String>,
}

/// A lease that was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The present holder.
    pub holder: Holder,
    /// The present epoch.
    pub epoch: u64,
    /// When it becomes free unless it is renewed, in milliseconds; `None`: only the user can release it.
    pub free_in_ms: Option<i64>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, epoch) = (self.holder.words(), self.epoch);
        match self.free_in_ms {
            Some(ms) => write!(f, "{who} has it (epoch {epoch}), for {} unless it is renewed", human_ms(ms)),
            None => {
                write!(f, "{who} on another machine has it (epoch {epoch}); only the user can release it")
            }
        }
    }
}

/// A lease that its holder has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostLease {
    /// What was held.
    pub holding: Holding,
    /// The present holder and epoch; `None` if the lease is free.
    pub to: Option<(Holder, u64)>,
}

impl fmt::Display for LostLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holding { resource, epoch } = &self.holding;
        match &self.to {
            Some((holder, newer)) => {
                write!(f, "the lease {resource} (epoch {epoch}) went to {} (epoch {newer})", holder.words())
            }
            None => write!(f, "the lease {resource} (epoch {epoch}) was released"),
        }
    }
}

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
    max_epoch: u64,
    identity: &HolderIdentity,
    here: &Here,
    alive: Alive,
) -> Result<AcquiredLease, Refusal> {
    let grant_after = |last_epoch: u64, max_epoch: u64, note: Option<String>| {
        let lease = Lease {
            resource: resource.clone(),
            holder: identity.holder.clone(),
            pid: identity.pid,
            pid_start: identity.pid_start,
            pid_ns: identity.pid_ns,
            host: here.host.clone(),
            boot: here.boot.clone(),
            epoch: last_epoch.saturating_add(1),
            acquired_ms: here.unix_ms,
            renewed_mono_ms: here.mono_ms,
            ttl_s: identity.ttl,
        };
        Ok(AcquiredLease { lease, max_epoch, note })
    };
    let lease = match found {
        LeaseRead::Absent => return grant_after(max_epoch, max_epoch, None),
        LeaseRead::Corrupt(why) => {
            let max_epoch = max_epoch_after(found, max_epoch);
            return grant_after(max_epoch, max_epoch, Some(format!("its file was corrupt: {why}")));
        }
        LeaseRead::Lease(lease) => lease,
    };
    let is_own = lease.is_of(identity, here);
    let refuse = |free_in_ms| Err(Refusal { holder: lease.holder.clone(), epoch: lease.epoch, free_in_ms });
    let free = match (&lease.holder, lease.status(here, alive)) {
        (Holder::Worker(_), _) | (_, LeaseStatus::Held(_)) if is_own => {
            let lease = Lease { ttl_s: identity.ttl, ..renewed(lease, here.mono_ms) };
            return Ok(AcquiredLease { lease, max_epoch, note: None });
        }
        // All workers with one name share one lock, and this claimant holds it.
        (Holder::Worker(_), _) if lease.holder == identity.holder && lease.boot == here.boot => {
            "it was restarted"
        }
        (_, LeaseStatus::Free(why)) => why,
        (_, LeaseStatus::Held(ms)) => return refuse(Some(ms)),
        (_, LeaseStatus::Foreign) => return refuse(None),
    };
    let note = format!("taken from {} (epoch {}): {free}", lease.holder.words(), lease.epoch);
    grant_after(lease.epoch.max(max_epoch), max_epoch, Some(note))
}

/// Returns the lease if this holder still has it under this epoch.
///
/// # Errors
/// [`LostLease`], with the present holder.
pub fn held<'a>(found: &'a LeaseRead, holder: &Holder, holding: &Holding) -> Result<&'a Lease, LostLease> {
    match found.lease() {
        Some(lease) if lease.may_write(holder, holding.epoch) => Ok(lease),
        other => {
            let to = other.map(|lease| (lease.holder.clone(), lease.epoch));
            Err(LostLease { holding: holding.clone(), to })
        }
    }
}

/// Returns the same lease, renewed now.
pub fn renewed(lease: &Lease, mono_ms: i64) -> Lease {
    Lease { renewed_mono_ms: mono_ms, ..lease.clone() }
}

/// Returns the highest epoch to write before a file is removed, so that none of its epochs is granted again.
pub fn max_epoch_after(found: &LeaseRead, max_epoch: u64) -> u64 {
    match found {
        LeaseRead::Absent => max_epoch,
        LeaseRead::Corrupt(_) => max_epoch.saturating_add(GAP),
        LeaseRead::Lease(lease) => max_epoch.max(lease.epoch),
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "lease_model_tests.rs"]
mod model_tests;
