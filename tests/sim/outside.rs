//! The world of a simulation: clock, disk, sensors, people and what was really done, with the faults that befall them.

use std::collections::{BTreeMap, BTreeSet};

use looop::rules::beat::ask::{AnswerFile, AskKind, AskReply, Asks, QuestionFile};
use looop::rules::beat::settings::{Limits, PolicyRules, RunRule};
use looop::rules::beat::{schedule::Schedule, state::LoopState};
use looop::rules::world::{BudgetState, Goal, SensorReading, Trust};
use looop::rules::{digest::Items, name::Name, time::Now};
use looop::store::{json_file::json_text, layout};
use serde_json::json;

use super::disk::{Disk, Op};
use super::{Mutant, Tally, budget_model::BudgetModel, fleet::Fleet, judge::Judge};
use fastrand::Rng;

pub const T0: i64 = 1_795_218_410_413;
pub const S: i64 = 1_000;
pub const MINUTE: i64 = 60 * S;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

pub const BEAT: &str = "beat.json";
pub const JOURNAL: &str = "journal.md";
pub const LEDGER: &str = "cost/2026-11.jsonl";
pub const PLAYBOOK: &str = "PLAYBOOK.md";

/// Everything that must have gone wrong at least now and then, else nothing is proven about it.
pub const FAULTS: &str = "clock jumps, power losses, killed ticks, full disks, torn lines, lost writes, sensor faults, \
                          runner faults, bad replies, late answers, forged answers, changed scripts, worker deaths, \
                          worker stops, unseen workers, corrupt leases, refused turns, raised caps";

/// Seeds of which a fifth leaves this are those of machines that fail again and again.
pub const HARSH: u64 = 4;

/// A sensor as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensor {
    pub n: i64,
    pub fails: bool,
}

/// What somebody must know of when it changes, apart from all digests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub sensors: BTreeMap<Name, Sensor>,
    pub texts: BTreeMap<String, String>,
    pub workers: Vec<(Name, i64, &'static str)>,
    pub budget: BudgetState,
}

/// What a user plans to say to an ask, and when, in true time.
#[derive(Clone, Debug)]
pub struct Plan {
    at_ms: i64,
    reply: AskReply,
    forged: bool,
}

#[derive(Default)]
pub struct World {
    pub rng: Rng,
    pub disk: Disk,
    pub mutant: Option<Mutant>,
    pub tally: Tally,
    /// What the clock on the wall says, and how long it has been, in milliseconds.
    pub wall_ms: i64,
    pub true_ms: i64,
    pub boot: u32,
    pub mono_ms: i64,
    pub limits: Limits,
    pub rules: PolicyRules,
    pub day_micros: Option<u64>,
    /// The memory as the last tick left it; none: it is read anew.
    pub memory: Option<LoopState>,
    pub sensors: BTreeMap<Name, Sensor>,
    pub tainted: bool,
    pub paused: bool,
    shaky: u32,
    /// It fails again and again.
    harsh: bool,
    /// The script that commands name, as it is now.
    pub script: u64,
    pub asks: Asks,
    pub goals: BTreeMap<Name, Goal>,
    pub schedules: BTreeMap<Name, Schedule>,
    pub plans: BTreeMap<(Name, i64), Plan>,
    pub fleet: Fleet,
    pub budget_model: BudgetModel,
    pub judge: Judge,
    /// The world's items and their cause, while nothing changes.
    pub known: Option<(super::tick::Key, Items, String)>,
    edits: u64,
}

pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>) -> World {
        let mut rng = Rng::with_seed(seed);
        let mut disk = Disk::new(&[
            (JOURNAL, ""),
            (LEDGER, ""),
            (PLAYBOOK, "Be calm.\n"),
            ("goals/g0.md", "goal: all is well\n"),
            ("goals/g1.md", "goal: nobody waits\n"),
        ]);
        disk.syncs = mutant != Some(Mutant::SkipsSync);
        let limits = Limits {
            decides_per_hour: *rng.choice(&[6, 12, 120]).unwrap(),
            noop_ttl_ms: *rng.choice(&[Some(6 * HOUR), Some(20 * MINUTE), None]).unwrap(),
            approval_ttl_ms: *rng.choice(&[2 * HOUR, 24 * HOUR]).unwrap(),
            ..Limits::default()
        };
        let rule = |argv: &[&str]| RunRule { argv: strings(argv), cwd: Vec::new(), note: None };
        let rules =
            PolicyRules { allow: vec![rule(&["status"]), rule(&["show", "*"])], ..PolicyRules::default() };
        let day_micros = *rng.choice(&[None, Some(200_000), Some(1_000_000)]).unwrap();
        let sensors = ["ci", "mail", "disk"].map(|sensor| (name(sensor), Sensor { n: 0, fails: false }));
        let mut world = World {
            disk,
            mutant,
            wall_ms: T0,
            limits,
            rules,
            day_micros,
            sensors: sensors.into(),
            tainted: rng.usize(..1000) < 300,
            harsh: seed % 5 == HARSH,
            budget_model: BudgetModel::new(seed),
            rng,
            ..World::default()
        };
        world.read_all();
        world
    }

    pub fn now(&self) -> Now {
        Now::fixed(self.wall_ms, 3600)
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// One beat of the world: time goes by, things happen, and a tick looks at them.
    pub fn beat(&mut self) -> Result<(), String> {
        self.time_goes_by();
        self.sensors_change();
        self.people_act()?;
        self.workers_act()?;
        self.machine_fails();
        let ended = self.tick();
        self.after_tick(ended)?;
        self.look()
    }

    fn time_goes_by(&mut self) {
        let span = match self.rng.usize(0..100) {
            0..70 => self.rng.i64(20 * S..90 * S),
            70..92 => self.rng.i64(5 * MINUTE..30 * MINUTE),
            _ => self.rng.i64(HOUR..8 * HOUR),
        };
        self.true_ms += span;
        self.mono_ms += span;
        self.wall_ms += span;
        if self.rng.usize(..1000) < 3 {
            self.tally.count("clock jumps");
            let far = *self.rng.choice(&[3_650 * DAY, DAY, HOUR, 40 * S]).unwrap();
            let back = self.rng.usize(..1000) < 500 && self.wall_ms - far > DAY;
            self.wall_ms += if back { -far } else { far };
            // Far ahead of all years that there are, a clock is put right again.
            if self.wall_ms > T0 + 80_000 * DAY {
                self.wall_ms = T0;
            }
            self.judge.jumped(self.true_ms);
            self.budget_model.clock_was_set();
        }
    }

    fn sensors_change(&mut self) {
        let all: Vec<Name> = self.sensors.keys().cloned().collect();
        // One of them changes much more often than the others.
        let often = self.rng.usize(..1000) < 200;
        for (at, sensor) in all.iter().enumerate() {
            let changes = self.rng.usize(..1000) < if at == 0 && often { 100 } else { 6 };
            let fails = self.rng.usize(..1000) < 4;
            let Some(sensor) = self.sensors.get_mut(sensor) else { continue };
            if fails {
                self.tally.count("sensor faults");
                sensor.fails = !sensor.fails;
            } else if changes {
                // It may be what it was before.
                sensor.n = (sensor.n + 1) % 4;
            }
        }
        if self.rng.usize(..1000) < 3 {
            self.tainted = !self.tainted;
        }
    }

    pub fn readings(&self) -> BTreeMap<Name, SensorReading> {
        let trust = |sensor: &Name| match self.tainted && sensor.as_str() == "mail" {
            true => Trust::Untrusted,
            false => Trust::Trusted,
        };
        let reading = |(id, sensor): (&Name, &Sensor)| {
            let reading = match sensor.fails {
                true => SensorReading::failed("timeout", None, json!({ "at": self.true_ms }), trust(id)),
                false => SensorReading::from_output(json!({ "n": sensor.n }), trust(id)),
            };
            (id.clone(), reading)
        };
        self.sensors.iter().map(reading).collect()
    }

    fn people_act(&mut self) -> Result<(), String> {
        if self.rng.usize(..1000) < 8 {
            self.edits += 1;
            let goal = *self.rng.choice(&["g0", "g1", "g2"]).unwrap();
            let path = format!("goals/{goal}.md");
            self.disk.place(&path, &format!("goal: edit {}\n", self.edits));
            self.refresh(&path);
        }
        if self.rng.usize(..1000) < 4 {
            self.tally.count("changed scripts");
            self.script += 1;
        }
        self.paused = if self.paused { self.rng.usize(..1000) >= 300 } else { self.rng.usize(..1000) < 3 };
        self.plan_answers();
        let due: Vec<(Name, i64)> = self
            .plans
            .iter()
            .filter(|(_, plan)| plan.at_ms <= self.true_ms)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            if let Some(plan) = self.plans.remove(&key) {
                self.answers(&key, plan);
            }
        }
        Ok(())
    }

    /// A user sees what is asked and makes up their mind; some never do.
    fn plan_answers(&mut self) {
        let open: Vec<QuestionFile> =
            self.asks.values().filter(|pair| pair.1.is_none()).map(|pair| pair.0.clone()).collect();
        for ask in open {
            let key = (ask.id.clone(), ask.created_ms);
            if self.plans.contains_key(&key) {
                continue;
            }
            let delay = match self.rng.usize(0..10) {
                0..4 => self.rng.i64(10 * S..10 * MINUTE),
                4..8 => self.rng.i64(10 * MINUTE..20 * HOUR),
                8 => 30 * DAY,
                _ => self.rng.i64(DAY..3 * DAY),
            };
            if delay > DAY {
                self.tally.count("late answers");
            }
            let forged = ask.kind == AskKind::Approval && self.rng.usize(..1000) < 60;
            let reply = match &ask.approval {
                None => AskReply::Answer { text: "the second".to_owned() },
                Some(_) if forged => AskReply::Approve { hash: "0".repeat(64) },
                Some(approval) if self.rng.usize(..1000) < 700 => {
                    AskReply::Approve { hash: approval.hash.clone() }
                }
                Some(_) => AskReply::Reject { text: "no".to_owned() },
            };
            self.plans.insert(key, Plan { at_ms: self.true_ms + delay, reply, forged });
        }
    }

    /// The answer is made by exclusive create, so that only the first one counts.
    fn answers(&mut self, (id, created_ms): &(Name, i64), plan: Plan) {
        let Some((ask, None)) = self.asks.get(id).cloned() else { return };
        if ask.created_ms != *created_ms {
            return;
        }
        if plan.forged {
            self.tally.count("forged answers");
        } else if let (AskReply::Approve { .. }, Some(approval)) = (&plan.reply, &ask.approval) {
            self.judge.approved(&ask, approval);
        }
        let answer = AnswerFile { ask: id.clone(), at_ms: self.wall_ms, reply: plan.reply };
        let path = answer_path(id);
        self.disk.place(&path, &json_text(&answer).expect("an answer has a form"));
        self.refresh(&path);
    }

    /// What befalls the machine in this beat.
    fn machine_fails(&mut self) {
        if self.rng.usize(..1000) < 50 {
            self.disk.settle();
        }
        self.disk.full = self.rng.usize(..1000) < 6;
        if self.disk.full {
            self.tally.count("full disks");
        }
        // What fails once fails again soon.
        let risk = if self.shaky > 0 || self.harsh { 200 } else { 25 };
        self.shaky = self.shaky.saturating_sub(1);
        if self.rng.usize(..1000) < risk / 8 {
            self.power_fails();
        }
        self.disk.fuse = match self.rng.usize(..1000) < risk {
            true => self.disk.steps + self.rng.usize(0..30),
            false => usize::MAX,
        };
    }

    /// A process that is killed loses its memory; a machine without power also what was not synced.
    pub fn crash(&mut self) {
        self.memory = None;
        if self.rng.usize(..1000) < 500 {
            self.tally.count("killed ticks");
            self.shaky = 3;
            self.disk.fuse = usize::MAX;
            return;
        }
        self.power_fails();
    }

    fn power_fails(&mut self) {
        self.tally.count("power losses");
        (self.memory, self.known) = (None, None);
        let mut kept: Vec<Op> = Vec::new();
        let share = *self.rng.choice(&[0, 500, 900]).unwrap();
        for op in self.disk.pending() {
            match op {
                Op::Append { file, bytes } if self.rng.usize(..1000) < 300 => {
                    self.tally.count("torn lines");
                    let cut = bytes.floor_char_boundary(self.rng.usize(0..bytes.len().max(1)));
                    kept.push(Op::Append { file: *file, bytes: bytes[..cut].to_owned() });
                }
                op if self.rng.usize(..1000) < share => kept.push(op.clone()),
                _ => self.tally.count("lost writes"),
            }
        }
        self.disk = self.disk.wreck(&kept);
        (self.boot, self.mono_ms) = (self.boot + 1, 0);
        self.true_ms += MINUTE;
        self.fleet.lost_power();
        self.judge.jumped(self.true_ms);
        self.read_all();
        self.read_ledger();
    }

    /// Reads all files anew.
    fn read_all(&mut self) {
        (self.asks, self.goals, self.schedules) = Default::default();
        let all: Vec<String> = self.disk.list("").map(str::to_owned).collect();
        all.iter().for_each(|path| self.refresh(path));
        self.fleet.read(&self.disk);
    }

    /// Reads a file anew.
    pub fn refresh(&mut self, path: &str) {
        let text = self.disk.read(path);
        let Some((dir, file)) = path.split_once('/') else { return };
        let Some((stem, "")) = file.rsplit_once(".json").or_else(|| file.rsplit_once(".md")) else { return };
        let set = |id: &str| Name::parse(id).ok();
        match dir {
            "goals" if !stem.contains('/') => {
                let Some(id) = set(stem) else { return };
                match text {
                    Some(text) => drop(self.goals.insert(id, Goal::Text(text.to_owned()))),
                    None => drop(self.goals.remove(&id)),
                }
            }
            "schedules" => {
                let Some(id) = set(stem) else { return };
                match text.and_then(|text| serde_json::from_str(text).ok()) {
                    Some(timer) => drop(self.schedules.insert(id, timer)),
                    None => drop(self.schedules.remove(&id)),
                }
            }
            "asks" if !stem.contains('/') => {
                let id = name(stem.strip_suffix(".answer").unwrap_or(stem));
                let ask =
                    self.disk.read(&layout::ask_path(&id)).and_then(|text| serde_json::from_str(text).ok());
                let answer =
                    self.disk.read(&answer_path(&id)).and_then(|text| serde_json::from_str(text).ok());
                match ask {
                    Some(ask) => drop(self.asks.insert(id, (ask, answer))),
                    None => drop(self.asks.remove(&id)),
                }
            }
            _ => {}
        }
    }

    pub fn facts(&self, budget: BudgetState) -> Facts {
        let text = |goal: &Goal| match goal {
            Goal::Text(text) | Goal::Unreadable(text) => text.clone(),
        };
        let mut texts: BTreeMap<String, String> =
            self.goals.iter().map(|(id, goal)| (id.to_string(), text(goal))).collect();
        texts.insert(PLAYBOOK.to_owned(), self.disk.text(PLAYBOOK).to_owned());
        Facts {
            // Of one that fails nobody sees more than that.
            sensors: self
                .sensors
                .iter()
                .map(|(id, s)| (id.clone(), Sensor { n: if s.fails { 0 } else { s.n }, ..*s }))
                .collect(),
            texts,
            workers: self.fleet.facts(),
            budget,
        }
    }

    /// Names of all asks with a file.
    pub fn ask_names(&self) -> BTreeSet<Name> {
        self.asks.keys().cloned().collect()
    }
}

pub fn answer_path(id: &Name) -> String {
    format!("asks/{id}.answer.json")
}
