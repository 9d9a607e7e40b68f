//! Pure. Leases: who may work on a named thing, until when, and which of two that believe they may is right.
//!
//! A lease is one file, replaced only under the store's lock. Two things decide about it. *Liveness* says when somebody
//! else may have it: at once when its holder is dead, else when it was not renewed for twice its lifetime. *The fence*
//! says who may write: whoever the file names, under the epoch that the file has. A holder that was stopped for an
//! hour still believes; the file does not, and so nothing of it is taken. Only the fence is needed for safety, and it
//! reads no clock.
//!
//! The epochs of a resource strictly rise. The last one given to a resource stands in its file; where the file goes,
//! the *floor* takes over: no epoch that is given out without a file to count from is at or below it.
//!
//! Time is `CLOCK_MONOTONIC`, which stands still while the machine sleeps: nobody can renew then, so nobody should
//! lose a lease by it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::Name;
use super::time::human_ms;
use super::worker::Holding;

mod rules;
pub use rules::{acquire, alive, floor_after, held, renewed};

/// The space of the goals among the resources.
const GOAL: &str = "goal";

/// The resource that stands for a goal: `goal.<id>`.
pub fn goal(id: &Name) -> Name {
    Name::within(GOAL, id)
}

/// A resource that a worker names: any name but those that stand for goals, which only their starter takes.
///
/// # Errors
/// Says why it cannot be one.
pub fn free_name(text: &str) -> Result<Name, String> {
    match Name::parse_new(text)? {
        name if name.as_str().starts_with("goal.") => Err(format!("{text:?} stands for a goal")),
        name => Ok(name),
    }
}

/// Who has a lease: a worker, or a person by hand. As text `fix-ci` or `human:ada`; no name has a colon.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Holder {
    /// A worker, by its supervisor.
    Worker(Name),
    /// A person. No process stands for one, so only time ends the lease.
    Person(String),
}

impl Holder {
    /// The holder in words: `worker fix-ci`, `ada`.
    pub fn words(&self) -> String {
        match self {
            Holder::Worker(name) => format!("worker {name}"),
            Holder::Person(name) => name.clone(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Worker(name) => name.fmt(f),
            Holder::Person(name) => write!(f, "human:{name}"),
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
        let Some(person) = text.strip_prefix("human:") else {
            return Ok(Holder::Worker(Name::parse(&text)?));
        };
        let plain = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
        match !person.is_empty() && person.chars().all(plain) {
            true => Ok(Holder::Person(person.to_owned())),
            false => Err(format!("{text:?} names nobody")),
        }
    }
}

/// For how many seconds a lease is good without being renewed: 5 s to 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Ttl(u32);

impl Ttl {
    /// What a lease has when nobody says otherwise.
    pub const DEFAULT: Ttl = Ttl(60);

    /// In milliseconds.
    pub fn ms(self) -> i64 {
        i64::from(self.0) * 1000
    }
}

impl TryFrom<u64> for Ttl {
    type Error = String;
    fn try_from(seconds: u64) -> Result<Ttl, String> {
        match u32::try_from(seconds) {
            Ok(short @ 5..=86_400) => Ok(Ttl(short)),
            _ => Err(format!("a lease lasts 5s to 24h between two renewals, and not {seconds}s")),
        }
    }
}

impl From<Ttl> for u64 {
    fn from(ttl: Ttl) -> u64 {
        ttl.0.into()
    }
}

/// The form of `claims/<resource>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// What is leased.
    pub resource: Name,
    /// Who has it.
    pub holder: Holder,
    /// The holder's supervisor; 0 for a person.
    pub pid: u32,
    /// Its start in clock ticks since boot: it tells a later process with the same number apart.
    pub pid_start: u64,
    /// The process namespace in which that number means something; 0 where there are none.
    pub pid_ns: u64,
    /// The machine.
    pub host: String,
    /// Its boot.
    pub boot: String,
    /// Rises with each change of holder, for ever.
    pub epoch: u64,
    /// When it was given, in milliseconds since the Unix epoch.
    pub acquired: i64,
    /// When it was last renewed, on the monotonic clock of that boot.
    pub renewed_mono_ms: i64,
    /// For how long it is good from then on.
    pub ttl_s: Ttl,
}

/// Who wants a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Who.
    pub holder: Holder,
    /// As [`Lease::pid`].
    pub pid: u32,
    /// As [`Lease::pid_start`].
    pub pid_start: u64,
    /// As [`Lease::pid_ns`].
    pub pid_ns: u64,
    /// For how long.
    pub ttl: Ttl,
}

/// Where and when a rule is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// This machine.
    pub host: String,
    /// This boot.
    pub boot: String,
    /// The monotonic clock.
    pub mono_ms: i64,
    /// The wall clock, which decides nothing.
    pub unix_ms: i64,
}

/// Whether the very process that took a lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alive {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// That could not be found out; never taken for death.
    Unknown,
}

/// How a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody has it, and unless it is renewed it is free in so many milliseconds.
    Held(i64),
    /// Whoever asks first may have it; why.
    Free(&'static str),
    /// Another machine has it, and nothing can be known of that from here.
    Foreign,
}

impl Lease {
    /// How it stands.
    pub fn standing(&self, here: &Here, alive: Alive) -> Standing {
        if self.boot != here.boot {
            let rebooted = self.host == here.host;
            return if rebooted { Standing::Free("its machine was restarted") } else { Standing::Foreign };
        }
        let (patience_ms, late) = match (&self.holder, alive) {
            (Holder::Worker(_), Alive::No) => return Standing::Free("its worker is gone"),
            (Holder::Worker(_), _) => (2 * self.ttl_s.ms(), "it was not renewed in time"),
            (Holder::Person(_), _) => (self.ttl_s.ms(), "its time is over"),
        };
        match patience_ms - self.age_ms(here) {
            left if left > 0 => Standing::Held(left),
            _ => Standing::Free(late),
        }
    }

    /// How long ago it was renewed, in milliseconds; meaningless in another boot. A time that is still to come is now.
    pub fn age_ms(&self, here: &Here) -> i64 {
        here.mono_ms.saturating_sub(self.renewed_mono_ms).max(0)
    }

    /// The fence: true while this holder has the lease under this epoch.
    pub fn may_write(&self, holder: &Holder, epoch: u64) -> bool {
        self.holder == *holder && self.epoch == epoch
    }

    /// What its holder remembers of it.
    pub fn holding(&self) -> Holding {
        Holding { resource: self.resource.clone(), epoch: self.epoch }
    }

    /// True when this claimant is the holder itself, and not one of the same name that came after it.
    fn is_of(&self, claimant: &Claimant, here: &Here) -> bool {
        let process = (claimant.pid, claimant.pid_start, claimant.pid_ns);
        self.holder == claimant.holder
            && self.boot == here.boot
            && process == (self.pid, self.pid_start, self.pid_ns)
    }
}

/// What stands in the place of a lease's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// Nothing: nobody has it, or it was released.
    Absent,
    /// Something that is no lease; why.
    Corrupt(String),
    /// A lease.
    Lease(Lease),
}

impl Found {
    /// The lease, where there is one.
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Found::Lease(lease) => Some(lease),
            Found::Absent | Found::Corrupt(_) => None,
        }
    }
}

/// A lease that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What the file is to hold.
    pub lease: Lease,
    /// What the floor is to be before that.
    pub floor: u64,
    /// What is worth saying about it; none when nobody had it or the claimant did.
    pub note: Option<String>,
}

/// A lease that was not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who has it.
    pub holder: Holder,
    /// Under which epoch.
    pub epoch: u64,
    /// When it is free if it is not renewed, in milliseconds; none: only a human can release it.
    pub free_in_ms: Option<i64>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, epoch) = (self.holder.words(), self.epoch);
        match self.free_in_ms {
            Some(ms) => write!(f, "{who} has it (epoch {epoch}), for {} unless it is renewed", human_ms(ms)),
            None => write!(f, "{who} on another machine has it (epoch {epoch}); only a human can release it"),
        }
    }
}

/// A lease that somebody held and does not hold any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What was held.
    pub holding: Holding,
    /// Who has it now, under which epoch; none when nobody does.
    pub to: Option<(Holder, u64)>,
}

impl fmt::Display for Lost {
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

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "lease_model_tests.rs"]
mod model_tests;
