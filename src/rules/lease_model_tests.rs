//! Tests the rules of leases over every order of events: workers that start, stop, die and write, clock jumps, reboots.
//!
//! A suspended worker is one without events, for any time, so the orders contain every pause. The rules are the
//! product's own code. Each mutant changes the input or the output of a rule, and the search must find each of them.

#![allow(clippy::disallowed_macros, reason = "the size of a search is worth a line")]

use stateright::{Checker, Model, Property};
use strum::IntoEnumIterator;

use super::*;
use crate::rules::process::Started;
use crate::rules::search_tests::broken_by;

/// The lifetime of every lease here, and the step of the clock.
const TTL_MS: i64 = 5_000;
/// The bounds of the search: reboots, clock steps per boot, starts, changes of holder, corrupted files.
const BOUND: Bound = Bound { boots: 1, mono: 2, starts: 3, grants: 3, corruptions: 1 };

#[derive(Clone, Copy)]
struct Bound {
    boots: u8,
    mono: u8,
    starts: u8,
    grants: u8,
    corruptions: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, strum::EnumIter)]
enum LeaseMutant {
    TakeoverKeepsEpoch,
    PidWithoutStart,
    HalfTheGraceAndNoFence,
    FenceOutsideTheLock,
    ReleaseForgetsEpoch,
    CorruptIsAbsent,
    UnknownIsDead,
}

/// A worker's supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Life {
    pid: u32,
    start: u64,
    /// The epoch under which it believes to hold the lease.
    epoch: Option<u64>,
    /// True if it passed the fence and has not written yet; only a mutant releases the lock in between.
    passed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LeaseWorld {
    found: LeaseRead,
    max_epoch: u64,
    boot: u8,
    mono: u8,
    /// The number of processes since boot, per machine: the start time of the next one.
    clocks: [u64; 2],
    workers: Vec<Option<Life>>,
    /// The newest epoch that was granted, and the newest under which a worker wrote.
    given: u64,
    written: u64,
    counts: (u8, u8, u8),
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Start(usize),
    Crash(usize),
    /// The second value: true if the holder's state can be checked.
    Acquire(usize, bool),
    Renew(usize),
    Release(usize),
    Write(usize),
    UserReleases,
    Corrupt,
    Tick,
    ClockBack,
    Reboot,
}

struct Leases {
    workers: usize,
    /// If true, the last worker runs on another machine that shares the files.
    far: bool,
    mutant: Option<LeaseMutant>,
}

impl Leases {
    fn is_far(&self, w: usize) -> bool {
        self.far && w + 1 == self.workers
    }

    fn has(&self, mutant: LeaseMutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn here(&self, world: &LeaseWorld, w: usize) -> Here {
        let (host, boot) = if self.is_far(w) { ("far", 99) } else { ("box", world.boot) };
        let mono_ms = i64::from(world.mono) * TTL_MS;
        Here { host: host.to_owned(), boot: boot.to_string(), mono_ms, unix_ms: 0 }
    }

    fn started(&self, world: &LeaseWorld, w: usize) -> Option<Started> {
        let life = world.workers[w].as_ref()?;
        let start = if self.has(LeaseMutant::PidWithoutStart) { 0 } else { life.start };
        Some(Started { pid: life.pid, start, boot: self.here(world, w).boot })
    }

    fn identity(&self, world: &LeaseWorld, w: usize) -> Option<HolderIdentity> {
        let Started { pid, start, .. } = self.started(world, w)?;
        let ttl = Ttl::try_from(5).unwrap();
        Some(HolderIdentity { holder: holder(w), pid, pid_start: start, pid_ns: 1, ttl })
    }

    /// The living process that really took this lease.
    fn owner(&self, world: &LeaseWorld, lease: &Lease) -> Option<usize> {
        (0..self.workers).find(|w| {
            let life = world.workers[*w].as_ref();
            lease.holder == holder(*w) && life.is_some_and(|life| life.epoch == Some(lease.epoch))
        })
    }

    /// Evaluates the rule under test, as the store does.
    fn ask(&self, world: &LeaseWorld, w: usize, sees: bool) -> Option<Result<AcquiredLease, Refusal>> {
        let identity = self.identity(world, w)?;
        let mut here = self.here(world, w);
        let life = world.found.lease().map_or(Alive::Unknown, |lease| {
            let of = (0..self.workers).find(|of| lease.holder == holder(*of)).unwrap();
            let locked = (sees && !self.is_far(w) && !self.is_far(of)).then_some(world.workers[of].is_some());
            alive(lease, locked, self.started(world, of).as_ref())
        });
        let life = match life {
            Alive::Unknown if self.has(LeaseMutant::UnknownIsDead) => Alive::No,
            other => other,
        };
        if self.has(LeaseMutant::HalfTheGraceAndNoFence) {
            here.mono_ms += TTL_MS;
        }
        let found = match &world.found {
            LeaseRead::Corrupt(_) if self.has(LeaseMutant::CorruptIsAbsent) => &LeaseRead::Absent,
            other => other,
        };
        let mut asked = acquire(&door(), found, world.max_epoch, &identity, &here, life);
        if let (Ok(grant), Some(old), true) =
            (&mut asked, world.found.lease(), self.has(LeaseMutant::TakeoverKeepsEpoch))
        {
            grant.lease.epoch = old.epoch;
        }
        Some(asked)
    }

    fn passes(&self, world: &LeaseWorld, w: usize) -> bool {
        let epoch = world.workers[w].as_ref().and_then(|life| life.epoch);
        epoch.is_some_and(|epoch| {
            let holding = Holding { resource: door(), epoch };
            self.has(LeaseMutant::HalfTheGraceAndNoFence) || held(&world.found, &holder(w), &holding).is_ok()
        })
    }

    fn acquire(&self, world: &mut LeaseWorld, w: usize, sees: bool) -> Option<()> {
        let grant = self.ask(world, w, sees)?.ok()?;
        let epoch = grant.lease.epoch;
        let again = world.workers[w].as_ref()?.epoch == Some(epoch) && world.given == epoch;
        if !again && epoch <= world.given {
            world.broken = Some("an epoch was given twice");
        }
        let robbed = world.found.lease().filter(|old| self.owner(world, old).is_some_and(|of| of != w));
        if robbed.is_some_and(|old| old.age_ms(&self.here(world, w)) < 2 * TTL_MS) {
            world.broken = Some("a lease was taken from a living holder before its time");
        }
        world.given = world.given.max(epoch);
        world.counts.1 += u8::from(!again);
        (world.max_epoch, world.found) = (grant.max_epoch, LeaseRead::Lease(grant.lease));
        world.workers[w].as_mut()?.epoch = Some(epoch);
        Some(())
    }

    fn write(&self, world: &mut LeaseWorld, w: usize) -> Option<()> {
        let passes = self.passes(world, w);
        let life = world.workers[w].as_mut()?;
        if self.has(LeaseMutant::FenceOutsideTheLock) && !life.passed {
            life.passed = passes;
            return passes.then_some(());
        }
        if !passes && !life.passed {
            return None;
        }
        life.passed = false;
        let epoch = life.epoch?;
        if epoch < world.written {
            world.broken = Some("an older epoch wrote after a newer one");
        }
        world.written = world.written.max(epoch);
        Some(())
    }

    /// The file is removed, by its holder or by the user.
    fn release(&self, world: &mut LeaseWorld) {
        if !self.has(LeaseMutant::ReleaseForgetsEpoch) {
            world.max_epoch = max_epoch_after(&world.found, world.max_epoch);
        }
        world.found = LeaseRead::Absent;
    }
}

fn door() -> Name {
    Name::parse("door").unwrap()
}

fn holder(w: usize) -> Holder {
    Holder::Worker(Name::parse(&format!("w{w}")).unwrap())
}

impl Model for Leases {
    type State = LeaseWorld;
    type Action = Event;

    fn init_states(&self) -> Vec<LeaseWorld> {
        vec![LeaseWorld {
            found: LeaseRead::Absent,
            max_epoch: 0,
            boot: 0,
            mono: 0,
            clocks: [0, 0],
            workers: vec![None; self.workers],
            given: 0,
            written: 0,
            counts: (0, 0, 0),
            broken: None,
        }]
    }

    fn actions(&self, world: &LeaseWorld, events: &mut Vec<Event>) {
        for (w, life) in world.workers.iter().enumerate() {
            match life {
                None => events.push(Event::Start(w)),
                Some(_) => events.extend([
                    Event::Crash(w),
                    Event::Acquire(w, true),
                    Event::Acquire(w, false),
                    Event::Renew(w),
                    Event::Release(w),
                    Event::Write(w),
                ]),
            }
        }
        events.extend([Event::UserReleases, Event::Corrupt, Event::Tick, Event::ClockBack, Event::Reboot]);
    }

    fn next_state(&self, last: &LeaseWorld, event: Event) -> Option<LeaseWorld> {
        let mut world = last.clone();
        match event {
            Event::Start(w) => {
                // The lowest free process id, so that ids are reused as early as possible.
                let taken = |pid: u32| world.workers.iter().flatten().any(|life| life.pid == pid);
                let pid = (1..).find(|pid| !taken(*pid))?;
                let clock = &mut world.clocks[usize::from(self.is_far(w))];
                let start = *clock;
                *clock += 1;
                world.workers[w] = Some(Life { pid, start, epoch: None, passed: false });
                world.counts.0 += 1;
            }
            Event::Crash(w) => world.workers[w] = None,
            Event::Acquire(w, sees) => self.acquire(&mut world, w, sees)?,
            Event::Renew(w) if self.passes(&world, w) => {
                let lease = renewed(world.found.lease()?, self.here(&world, w).mono_ms);
                world.found = LeaseRead::Lease(lease);
            }
            Event::Release(w) if self.passes(&world, w) => {
                self.release(&mut world);
                world.workers[w].as_mut()?.epoch = None;
            }
            Event::Renew(_) | Event::Release(_) => return None,
            Event::Write(w) => self.write(&mut world, w)?,
            Event::UserReleases if world.found != LeaseRead::Absent => self.release(&mut world),
            Event::UserReleases => return None,
            Event::Corrupt if matches!(world.found, LeaseRead::Corrupt(_)) => return None,
            Event::Corrupt => {
                world.found = LeaseRead::Corrupt(String::new());
                world.counts.2 += 1;
            }
            Event::Tick => world.mono += 1,
            Event::ClockBack => world.mono = 0,
            Event::Reboot => {
                (world.boot, world.mono, world.clocks[0]) = (world.boot + 1, 0, 0);
                let near = (0..self.workers).filter(|w| !self.is_far(*w));
                near.for_each(|w| world.workers[w] = None);
            }
        }
        Some(world)
    }

    fn within_boundary(&self, world: &LeaseWorld) -> bool {
        let (starts, grants, corruptions) = world.counts;
        world.boot <= BOUND.boots
            && world.mono <= BOUND.mono
            && starts <= BOUND.starts
            && grants <= BOUND.grants
            && corruptions <= BOUND.corruptions
    }

    fn properties(&self) -> Vec<Property<Leases>> {
        vec![
            Property::always("at most one passes the fence", |leases: &Leases, world: &LeaseWorld| {
                (0..leases.workers).filter(|w| leases.passes(world, *w)).count() <= 1
            }),
            Property::always("no step is wrong", |_, world: &LeaseWorld| world.broken.is_none()),
            Property::always(
                "a dead holder's lease can be acquired",
                |leases: &Leases, world: &LeaseWorld| {
                    let Some(lease) = world.found.lease() else { return true };
                    let dead = lease.host == "box" && leases.owner(world, lease).is_none();
                    let mut near = (0..leases.workers).filter(|w| !leases.is_far(*w));
                    !dead || near.all(|w| leases.ask(world, w, true).is_none_or(|asked| asked.is_ok()))
                },
            ),
            Property::always(
                "a lease without renewals can be acquired",
                |leases: &Leases, world: &LeaseWorld| {
                    let Some(lease) = world.found.lease() else { return true };
                    let late = |w| {
                        let here = leases.here(world, w);
                        here.host == lease.host && lease.age_ms(&here) >= 2 * TTL_MS
                    };
                    let mut all = (0..leases.workers).filter(|w| late(*w));
                    all.all(|w| leases.ask(world, w, false).is_none_or(|asked| asked.is_ok()))
                },
            ),
            // States that the search must reach; otherwise it proves nothing.
            Property::sometimes("a living claimant is refused", |leases: &Leases, world: &LeaseWorld| {
                let believes = |w: usize| world.workers[w].as_ref().is_some_and(|life| life.epoch.is_some());
                (0..leases.workers).filter(|w| believes(*w)).count() > 1 && world.written == world.given
            }),
            Property::sometimes(
                "a process id was reused by a worker of the same name",
                |_, world: &LeaseWorld| {
                    world.found.lease().is_some_and(|lease| {
                        world.workers.iter().enumerate().any(|(w, life)| {
                            let life = life.as_ref().filter(|_| lease.holder == holder(w));
                            life.is_some_and(|life| life.pid == lease.pid && life.start != lease.pid_start)
                        })
                    })
                },
            ),
        ]
    }
}

fn search(workers: usize, far: bool, depth: usize) {
    let checked = Leases { workers, far, mutant: None }.checker().target_max_depth(depth).spawn_bfs().join();
    println!(
        "{workers} workers{}: {} states, of them {} unlike each other, depth {}",
        if far { ", one far away" } else { "" },
        checked.state_count(),
        checked.unique_state_count(),
        checked.max_depth()
    );
    checked.assert_properties();
}

#[test]
fn every_order_of_events_keeps_the_guarantees() {
    search(2, false, 30);
    search(2, true, 30);
}

#[test]
#[ignore = "long search"]
fn every_order_of_events_of_three_workers_keeps_the_promises() {
    search(3, false, 9);
    search(3, true, 9);
}

#[test]
fn every_mutant_of_the_rules_is_found() {
    for mutant in LeaseMutant::iter() {
        broken_by(&mutant, Leases { workers: 2, far: false, mutant: Some(mutant) });
    }
}
