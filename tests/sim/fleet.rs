//! The workers of a simulation: processes that live, stop and die, the leases that they take, and what they write.

use std::collections::BTreeMap;

use looop::rules::beat::decision::{Action, Move};
use looop::rules::beat::{entry::MoveOutcome, state::Intent, step::Probe};
use looop::rules::lease::{
    Alive, Here, Holder, HolderIdentity, Lease, LeaseRead, Ttl, acquire, alive, held, max_epoch_after,
    renewed,
};
use looop::rules::worker::{Holding, WorkerView};
use looop::rules::{name::Name, process::Started};

use super::outside::{World, name};
use serde_json::json;

use super::{Mutant, disk::Disk, tick::Stop};

const MAX_EPOCH: &str = "claims/floor";
const RESOURCES: [&str; 2] = ["db", "door"];
const TTL_MS: i64 = 60_000;

/// A worker's supervisor.
#[derive(Clone, Debug, Default)]
pub struct Life {
    began_ms: i64,
    pid: u32,
    start: u64,
    lives: bool,
    /// It is stopped, and does nothing until it goes on.
    stopped: bool,
    holds: BTreeMap<Name, u64>,
    flagged: bool,
}

#[derive(Debug, Default)]
pub struct Fleet {
    lives: BTreeMap<Name, Life>,
    starts: u64,
    /// Beats by which a worker was started.
    started: BTreeMap<String, u32>,
    leases: BTreeMap<Name, LeaseRead>,
    max_epoch: u64,
    /// The newest epoch that was given on each resource, and the newest under which something was written.
    given: BTreeMap<Name, u64>,
    written: BTreeMap<Name, u64>,
}

fn claim(resource: &Name) -> String {
    format!("claims/{resource}.json")
}

impl Fleet {
    pub fn lost_power(&mut self) {
        self.lives.values_mut().for_each(Life::ends);
    }

    /// Reads the leases and the floor anew.
    pub fn read(&mut self, disk: &Disk) {
        self.max_epoch = disk.text(MAX_EPOCH).trim().parse().unwrap_or(0);
        for resource in RESOURCES.map(name) {
            let found = match disk.read(&claim(&resource)) {
                None => LeaseRead::Absent,
                Some(text) => match serde_json::from_str::<Lease>(text) {
                    Ok(lease) => LeaseRead::Lease(lease),
                    Err(error) => LeaseRead::Corrupt(error.to_string()),
                },
            };
            self.leases.insert(resource, found);
        }
    }

    pub fn facts(&self) -> Vec<(Name, i64, &'static str)> {
        self.lives.iter().map(|(id, life)| (id.clone(), life.began_ms, life.state())).collect()
    }

    pub fn views(&self) -> Vec<WorkerView> {
        let view = |(id, life): (&Name, &Life)| WorkerView {
            started_ms: Some(life.began_ms),
            stuck: life.flagged,
            ..serde_json::from_value(json!({ "id": id, "kind": "agent", "state": life.state() }))
                .expect("a view")
        };
        self.lives.iter().map(view).collect()
    }

    /// Puts away whose end a decision has seen.
    pub fn put_away(&mut self, seen: &[WorkerView]) {
        self.lives.retain(|id, life| {
            life.lives
                || !seen.iter().any(|view| {
                    view.id == *id && view.state == "exited" && view.started_ms == Some(life.began_ms)
                })
        });
    }

    pub fn probe(&self, beat: &str, decided: &Move) -> Probe {
        match &decided.action {
            Action::StartWorker { .. } if self.started.contains_key(beat) => Probe::Made,
            _ => Probe::NotMade,
        }
    }

    fn process(&self, id: &Name, boot: u32) -> Option<Started> {
        let life = self.lives.get(id)?;
        Some(Started { pid: life.pid, start: life.start, boot: boot.to_string() })
    }
}

impl Life {
    fn ends(&mut self) {
        self.lives = false;
        self.holds.clear();
    }

    fn state(&self) -> &'static str {
        match (self.lives, self.flagged) {
            (true, false) => "running",
            (true, true) => "flagged",
            (false, _) => "exited",
        }
    }
}

impl World {
    pub fn act_on_fleet(&mut self, intent: &Intent) -> Result<MoveOutcome, Stop> {
        self.disk.point()?;
        match &intent.decided.action {
            Action::StartWorker { id, .. } => {
                if self.fleet.lives.get(id).is_some_and(|life| life.lives) {
                    return Ok(MoveOutcome::Refused { why: "it runs".to_owned() });
                }
                let times = self.fleet.started.entry(intent.beat.clone()).or_default();
                *times += 1;
                if *times > 1 {
                    return Err(Stop::Broken(format!("{} started two workers", intent.beat)));
                }
                self.fleet.starts += 1;
                let start = self.fleet.starts;
                let life = Life {
                    began_ms: self.wall_ms,
                    // Numbers come back soon.
                    pid: (start % 3) as u32 + 2,
                    start,
                    lives: true,
                    ..Life::default()
                };
                self.fleet.lives.insert(id.clone(), life);
                self.disk.point()?;
            }
            Action::StopWorker { id } => {
                let Some(life) = self.fleet.lives.get_mut(id) else {
                    return Ok(MoveOutcome::Refused { why: "there is no such worker".to_owned() });
                };
                life.ends();
            }
            _ => {}
        }
        Ok(intent.then.clone())
    }

    fn here(&self) -> Here {
        Here {
            host: "box".to_owned(),
            boot: self.boot.to_string(),
            mono_ms: self.mono_ms,
            unix_ms: self.wall_ms,
        }
    }

    /// What workers do between two ticks.
    pub fn workers_act(&mut self) -> Result<(), String> {
        if self.rng.usize(..1000) < 2 {
            let resource = name(RESOURCES[self.rng.usize(0..RESOURCES.len())]);
            if self.disk.has(&claim(&resource)) {
                self.tally.count("corrupt leases");
                self.disk.place(&claim(&resource), "{\"resource\":");
                self.fleet.leases.insert(resource, LeaseRead::Corrupt("torn".to_owned()));
            }
        }
        let all: Vec<Name> = self.fleet.lives.keys().cloned().collect();
        let living = self.fleet.lives.values().filter(|life| life.lives);
        self.budget_model.only(&living.map(|life| life.start).collect::<Vec<_>>());
        for id in all {
            let Some(life) = self.fleet.lives.get_mut(&id).filter(|life| life.lives) else { continue };
            match self.rng.usize(0..1000) {
                0..15 => {
                    self.tally.count("worker deaths");
                    life.ends();
                    continue;
                }
                15..30 => {
                    self.tally.count("worker stops");
                    life.stopped = true;
                }
                30..40 => life.flagged = !life.flagged,
                _ => life.stopped &= self.rng.usize(..1000) >= 200,
            }
            if !life.stopped {
                let start = life.start;
                self.worker_acts(&id)?;
                self.spends(&id, start)?;
            }
        }
        Ok(())
    }

    fn worker_acts(&mut self, id: &Name) -> Result<(), String> {
        // One that was stopped believes still, and writes before it renews.
        if self.rng.usize(..1000) < 300 {
            self.writes(id)?;
        }
        self.renews(id);
        let resource = name(RESOURCES[self.rng.usize(0..RESOURCES.len())]);
        match self.rng.usize(0..100) {
            0..8 => self.acquires(id, &resource)?,
            8..10 => self.releases(id, &resource),
            _ => {}
        }
        Ok(())
    }

    fn passes(&self, id: &Name, resource: &Name, epoch: u64) -> bool {
        let holding = Holding { resource: resource.clone(), epoch };
        let found = &self.fleet.leases[resource];
        self.is(Mutant::NoFence) || held(found, &Holder::Worker(id.clone()), &holding).is_ok()
    }

    fn writes(&mut self, id: &Name) -> Result<(), String> {
        let holds = self.fleet.lives[id].holds.clone();
        for (resource, epoch) in holds {
            if !self.passes(id, &resource, epoch) {
                continue;
            }
            let last = self.fleet.written.entry(resource.clone()).or_default();
            if epoch < *last {
                return Err(format!("{id} writes under the epoch {epoch} of {resource} after {last}"));
            }
            *last = epoch;
        }
        Ok(())
    }

    fn renews(&mut self, id: &Name) {
        let holds = self.fleet.lives[id].holds.clone();
        for (resource, epoch) in holds {
            let passes = self.passes(id, &resource, epoch);
            match self.fleet.leases[&resource].lease().filter(|_| passes) {
                Some(lease) => {
                    let lease = renewed(lease, self.mono_ms);
                    self.keeps(&resource, lease, false);
                }
                None => drop(self.fleet.lives.get_mut(id).map(|life| life.holds.remove(&resource))),
            }
        }
    }

    fn keeps(&mut self, resource: &Name, lease: Lease, durable: bool) {
        let text = serde_json::to_string(&lease).expect("a lease has a form");
        match durable {
            true => self.disk.place(&claim(resource), &text),
            false => drop(self.disk.write(&claim(resource), &text, false)),
        }
        self.fleet.leases.insert(resource.clone(), LeaseRead::Lease(lease));
    }

    fn raises_max_epoch(&mut self, to: u64) {
        if to > self.fleet.max_epoch {
            self.fleet.max_epoch = to;
            self.disk.place(MAX_EPOCH, &to.to_string());
        }
    }

    fn releases(&mut self, id: &Name, resource: &Name) {
        let Some(epoch) = self.fleet.lives[id].holds.get(resource).copied() else { return };
        if self.passes(id, resource, epoch) {
            let max_epoch = max_epoch_after(&self.fleet.leases[resource], self.fleet.max_epoch);
            self.raises_max_epoch(max_epoch);
            self.disk.take(&claim(resource));
            self.fleet.leases.insert(resource.clone(), LeaseRead::Absent);
        }
        self.fleet.lives.get_mut(id).map(|life| life.holds.remove(resource));
    }

    /// The process that really has this lease, where it lives.
    fn owner<'a>(&self, lease: &'a Lease) -> Option<&'a Name> {
        let Holder::Worker(id) = &lease.holder else { return None };
        let life = self.fleet.lives.get(id).filter(|life| life.lives)?;
        (life.holds.get(&lease.resource) == Some(&lease.epoch)).then_some(id)
    }

    fn acquires(&mut self, id: &Name, resource: &Name) -> Result<(), String> {
        let Some(Started { pid, start, .. }) = self.fleet.process(id, self.boot) else { return Ok(()) };
        let here = self.here();
        let ttl = Ttl::try_from(60).expect("a lifetime");
        let identity =
            HolderIdentity { holder: Holder::Worker(id.clone()), pid, pid_start: start, pid_ns: 1, ttl };
        let found = self.fleet.leases[resource].clone();
        let sees = self.rng.usize(..1000) >= 100;
        if !sees {
            self.tally.count("unseen workers");
        }
        let life = found.lease().map_or(Alive::Unknown, |lease| self.liveness(lease, sees));
        let owner = found.lease().and_then(|lease| self.owner(lease)).cloned();
        let age_ms = found.lease().map_or(0, |lease| lease.age_ms(&here));
        match acquire(resource, &found, self.fleet.max_epoch, &identity, &here, life) {
            Ok(mut grant) => {
                if let (true, Some(old)) = (self.is(Mutant::EpochStays), found.lease()) {
                    grant.lease.epoch = old.epoch;
                }
                let epoch = grant.lease.epoch;
                let last = self.fleet.given.get(resource).copied().unwrap_or(0);
                let again = owner.as_ref() == Some(id);
                if !again && epoch <= last {
                    return Err(format!("the epoch {epoch} of {resource} is given after {last}"));
                }
                if owner.is_some_and(|of| of != *id) && age_ms < 2 * TTL_MS {
                    return Err(format!("{resource} is taken from a living worker after {age_ms} ms"));
                }
                self.fleet.given.insert(resource.clone(), epoch.max(last));
                self.raises_max_epoch(grant.max_epoch);
                self.keeps(resource, grant.lease, true);
                self.fleet.lives.get_mut(id).map(|life| life.holds.insert(resource.clone(), epoch));
            }
            Err(refusal) => {
                let is_dead = owner.is_none() && sees;
                if is_dead || age_ms >= 2 * TTL_MS {
                    return Err(format!("{resource} cannot be had of {refusal}, which nobody has"));
                }
            }
        }
        let believers = self.fleet.lives.iter().filter(|(id, life)| {
            life.lives && life.holds.get(resource).is_some_and(|epoch| self.passes(id, resource, *epoch))
        });
        match believers.count() {
            0 | 1 => Ok(()),
            n => Err(format!("{n} workers pass the fence of {resource}")),
        }
    }

    /// Whether a lease's holder lives, as far as this can be seen.
    fn liveness(&self, lease: &Lease, sees: bool) -> Alive {
        let Holder::Worker(id) = &lease.holder else { return Alive::Unknown };
        let locked = sees.then(|| self.fleet.lives.get(id).is_some_and(|life| life.lives));
        match alive(lease, locked, self.fleet.process(id, self.boot).as_ref()) {
            Alive::Unknown if self.is(Mutant::UnknownIsDead) => Alive::No,
            Alive::No if self.is(Mutant::DeadHolds) => Alive::Yes,
            other => other,
        }
    }

    /// After each beat: no lease stands longer than its time for one that is not there.
    pub fn look(&mut self) -> Result<(), String> {
        let here = self.here();
        for found in self.fleet.leases.values() {
            let Some(lease) = found.lease() else { continue };
            let is_free = matches!(
                lease.status(&here, self.liveness(lease, true)),
                looop::rules::lease::LeaseStatus::Free(_)
            );
            let must = self.owner(lease).is_none() || lease.age_ms(&here) >= 2 * TTL_MS;
            if must && !is_free {
                return Err(format!("the lease {} of a worker that is gone is not free", lease.resource));
            }
        }
        self.judge.timers(self.true_ms, &self.schedules)
    }
}
