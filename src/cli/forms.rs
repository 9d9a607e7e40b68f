//! The forms of `--json`: what the commands print is one of these types, and `looop schema` publishes them.

mod told;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::model::ask::{AskKind, State as AskState};
use crate::model::beat::{Backoff, Failure, LastResult, Settled};
use crate::model::boxing::Level;
use crate::model::name::Name;
use crate::model::schedule::When;
use crate::model::scope::ApprovalScope;
use crate::model::user_side::UserSidePath;
use crate::model::worker::{Exit, Flag, Holding, Objects, Phase, Verdict};
use crate::model::world::{Reading, Trust};
use crate::store::records::Paused;

pub use told::*;

/// A goal.
#[derive(Serialize, JsonSchema)]
pub struct Goal {
    /// Its name.
    pub id: Name,
    /// Its headline; absent where the file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// How long its text is, in bytes; only in `looop goal list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A question or an approval.
#[derive(Serialize, JsonSchema)]
pub struct Ask {
    /// Its id.
    pub id: Name,
    /// What it wants.
    pub kind: AskKind,
    /// The worker that asks.
    pub worker: Option<Name>,
    /// The goal that it is for.
    pub goal: Option<Name>,
    /// The question, or the reason for the move: words of a model or a worker.
    pub text: String,
    /// Answers to choose from.
    pub options: Vec<String>,
    /// What it is about, in the asker's words.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The whole move that waits.
    #[serde(rename = "move")]
    pub decided: Option<Value>,
    /// The exact argument vector of the move.
    pub argv: Vec<String>,
    /// The folder in which it would run.
    pub cwd: Option<String>,
    /// Why the move waits.
    pub because: Option<String>,
    /// All that a yes covers.
    pub scope: Option<ApprovalScope>,
    /// What the move would change, as a diff.
    pub diff: Option<String>,
    /// What a yes is bound to.
    pub hash: Option<String>,
    /// When it was asked, in milliseconds since the Unix epoch.
    pub created: i64,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires: Option<i64>,
    /// Where it stands.
    pub state: AskState,
}

/// A worker.
#[derive(Serialize, JsonSchema)]
pub struct Worker {
    /// Its name.
    pub id: Name,
    /// The goal that it works for.
    pub goal: Option<Name>,
    /// What kind of worker it is.
    pub kind: String,
    /// Its runner; null for a command by hand.
    pub runner: Option<String>,
    /// Where it stands.
    pub state: Phase,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: i64,
    /// Its call for a human.
    pub flag: Option<Flag>,
    /// The question that it waits on.
    pub ask: Option<Name>,
    /// The supervisor's process; null for one that was put away.
    pub pid: Option<u32>,
    /// When it was started, in milliseconds since the Unix epoch.
    pub started: i64,
    /// For how long it has printed nothing, in seconds; null when it has ended.
    pub idle_s: Option<i64>,
    /// How its command ended.
    pub exit: Option<Exit>,
    /// What the checks said.
    pub verify: Option<Verdict>,
    /// The leases that it holds.
    pub lease: Vec<Holding>,
    /// What it said to have spent, in US dollars.
    pub cost_usd: f64,
    /// Whether it seems to be stuck.
    pub stuck: bool,
    /// Why it ended as it did, where the exit does not say it.
    pub why: Option<String>,
    /// The branch on which its commits are.
    pub branch: Option<String>,
    /// Which objects of its repository its clone holds; null for one without a clone, and for one that was put away.
    pub objects: Option<Objects>,
    /// The repository that it worked on; null where it had none, and for one that was put away.
    pub repo: Option<String>,
    /// What of its work is in its clone alone, in words; null where that is nothing, or is not known yet.
    pub left: Option<String>,
    /// The commands that bring an ended worker's work in, to be typed in its repository.
    pub next: Option<String>,
    /// Its clone; null where it has none.
    pub clone: Option<String>,
    /// The paths on that branch that execute on the user's side.
    pub user_side: Vec<UserSidePath>,
    /// How much of its output could not be kept, in bytes; null for one that was put away.
    pub lost_bytes: Option<u64>,
    /// The box that it runs in; null for one that was put away.
    pub sandbox: Option<Level>,
    /// Its directory in `workers/past/`; null for one that was not put away.
    pub past: Option<String>,
}

/// A file of a project that a person allowed.
#[derive(Serialize, JsonSchema)]
pub struct TrustedFile {
    /// Its absolute path.
    pub path: String,
    /// blake3 of the bytes that are allowed.
    pub digest: String,
    /// When it was allowed, in milliseconds since the Unix epoch.
    pub at: i64,
    /// Whether the permission still holds.
    pub state: PermissionState,
}

/// Whether the permission of a file still holds.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PermissionState {
    /// The file has the bytes that were allowed.
    Valid,
    /// It has others, or cannot be read.
    Changed,
    /// It does not exist any more.
    Gone,
}

/// A lease.
#[derive(Serialize, JsonSchema)]
pub struct Claim {
    /// What is leased.
    pub resource: Name,
    /// Who has it: a worker's name, or `human:` and a person's.
    pub holder: String,
    /// The holder's supervisor; 0 for a person.
    pub pid: u32,
    /// Its start in clock ticks since boot.
    pub pid_start: u64,
    /// The process namespace of that number; 0 where there are none.
    pub pid_ns: u64,
    /// The machine.
    pub host: String,
    /// Its boot.
    pub boot: String,
    /// Rises with each change of holder.
    pub epoch: u64,
    /// When it was given, in milliseconds since the Unix epoch.
    pub acquired: i64,
    /// When it was last renewed, on the monotonic clock of that boot.
    pub renewed_mono_ms: i64,
    /// For how long it is good without being renewed, in seconds.
    pub ttl_s: u64,
    /// How it stands.
    pub state: ClaimState,
    /// Why it is free.
    pub why: Option<String>,
    /// How long ago it was renewed, in milliseconds; null where that cannot be known.
    pub age_ms: Option<i64>,
    /// When it is free unless it is renewed, in milliseconds; null where nobody here can know.
    pub free_in_ms: Option<i64>,
}

/// How a lease stands.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimState {
    /// Somebody has it.
    Held,
    /// Whoever asks first may have it.
    Free,
    /// Another machine has it.
    Elsewhere,
}

/// A timer.
#[derive(Serialize, JsonSchema)]
pub struct Schedule {
    /// Its name.
    pub name: Name,
    /// When it fires; only in `looop schedule list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// What to look at then.
    pub note: String,
    /// When it fires next, in milliseconds since the Unix epoch.
    pub due_ms: Option<i64>,
}

/// A sensor in the status.
#[derive(Serialize, JsonSchema)]
pub struct SensorStatus {
    /// Its name.
    pub name: Name,
    /// False: it failed, or cannot be run.
    pub ok: bool,
    /// The signal that the last decision saw.
    pub signal: Option<Value>,
    /// Why it cannot be run.
    pub error: Option<String>,
    /// Whether it changes all the time.
    pub flapping: bool,
}

/// A sensor in the list.
#[derive(Serialize, JsonSchema)]
pub struct Sensor {
    /// Its name.
    pub name: Name,
    /// Its file.
    pub path: String,
    /// How often it runs at most, in milliseconds.
    pub interval_ms: Option<i64>,
    /// Its deadline, in milliseconds.
    pub timeout_ms: Option<i64>,
    /// Whether its text is vouched for.
    pub trust: Option<Trust>,
    /// Why it cannot be run.
    pub error: Option<String>,
    /// What the last decision saw of it.
    pub reading: Option<Reading>,
}

/// Where everything stands.
#[derive(Serialize, JsonSchema)]
pub struct Status {
    /// What runs.
    pub pulse: Pulse,
    /// The memory of the last beats.
    pub last_beat: LastBeat,
    /// What holds the loop.
    pub gate: Gate,
    /// The goals.
    pub goals: Vec<Goal>,
    /// The sensors.
    pub sensors: Vec<SensorStatus>,
    /// The workers that were not put away.
    pub workers: Vec<Worker>,
    /// What waits for a human, and what was approved and is not made yet.
    pub asks: Vec<Ask>,
    /// Who works on what.
    pub claims: Vec<Claim>,
    /// The timers.
    pub schedules: Vec<Schedule>,
    /// What was spent today.
    pub cost: Today,
    /// The box that each kind of child gets; null where the config cannot be read.
    pub sandbox: Option<Boxes>,
    /// Files that cannot be used.
    pub problems: Vec<String>,
    /// The data dir.
    pub data_dir: String,
}

/// What runs.
#[derive(Serialize, JsonSchema)]
pub struct Pulse {
    /// Whether there is a pulse.
    pub alive: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// The process of the beat that runs now.
    pub ticking: Option<u32>,
    /// When the last idle beat was, in milliseconds since the Unix epoch.
    pub idle_at_ms: Option<i64>,
}

/// The memory of the last beats.
#[derive(Serialize, JsonSchema)]
pub struct LastBeat {
    /// The last move.
    pub last: Option<LastResult>,
    /// Why the last decision failed.
    pub failure: Option<Failure>,
    /// How many decisions there were.
    pub decisions: u64,
}

/// What holds the loop.
#[derive(Serialize, JsonSchema)]
pub struct Gate {
    /// The same in words.
    pub words: String,
    /// Why it is halted.
    pub halted: Option<String>,
    /// Since when and why it is paused.
    pub paused: Option<Paused>,
    /// Failures in a row.
    pub backoff: Option<Backoff>,
    /// Whether the last decision was to do nothing.
    pub settled: Settled,
    /// Decisions in the last 60 minutes.
    pub decides_last_hour: usize,
}

/// What was spent today.
#[derive(Serialize, JsonSchema)]
pub struct Today {
    /// Millionths of a US dollar.
    pub today_micros: u64,
    /// Calls without a price.
    pub today_unmetered: u64,
    /// The local day.
    pub day: String,
}

/// What box each kind of child gets.
#[derive(Serialize, JsonSchema)]
pub struct Boxes {
    /// What makes boxes here.
    pub engine: String,
    /// What is missing for more.
    pub missing: Vec<String>,
    /// What is less than it was on this machine.
    pub lost: Option<String>,
    /// A runner that decides.
    pub decide: InForce,
    /// A sensor.
    pub sensor: InForce,
    /// A `run` move.
    pub run: InForce,
    /// A check of a worker's work.
    pub verify: InForce,
    /// A worker.
    pub worker: InForce,
    /// What `looop fix` starts by hand.
    pub fix: InForce,
}

/// A box, or why there is none.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub enum InForce {
    /// It is had.
    Level(Level),
    /// It was asked for and cannot be had.
    Refused {
        /// Why.
        error: String,
    },
}
