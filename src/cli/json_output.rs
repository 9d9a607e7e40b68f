//! The JSON forms: every `--json` output is one of these types, and `looop schema` publishes them.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Name;
use crate::map::{IndexUpdate, Ranked};
use crate::rules::beat::ask::{AskKind, QuestionState as AskState};
use crate::rules::beat::entry::MoveOutcome;
use crate::rules::beat::gate::Hold;
use crate::rules::beat::observed::Paused;
use crate::rules::beat::schedule::FireTime;
use crate::rules::beat::scope::ApprovalScope;
use crate::rules::beat::state::{Backoff, Convergence, Failure, LastResult};
use crate::rules::cost::charge::Usage;
use crate::rules::cost::spend::SpendRow;
use crate::rules::fix::TaskState;
use crate::rules::fix::attempt::LedgerLine;
use crate::rules::lease::Lease;
use crate::rules::sandbox::Level;
use crate::rules::user_side::UserSidePath;
use crate::rules::worker::limit::UsageLimit;
use crate::rules::worker::{CheckResult, Flag, Holding, Objects, Phase, WorkerExit};
use crate::rules::world::example::Setting;
use crate::rules::world::sensor::SensorHeader;
use crate::rules::world::{SensorReading, Trust, WorldChange};

/// What `looop init` has made or found.
#[derive(Serialize, JsonSchema)]
pub struct InitJson {
    /// The data dir.
    pub data_dir: String,
    /// True if the data dir is new.
    pub data_dir_made: bool,
    /// The path of the config.
    pub config: String,
    /// True if the config is new.
    pub config_made: bool,
    /// The agent CLIs on the PATH.
    pub agents: Vec<FoundAgent>,
    /// The runner that decides.
    pub decide: String,
    /// The runner of workers; null if the config names none.
    pub worker: Option<String>,
    /// The limit for a day in US dollars; null if there is none.
    pub day_usd: Option<f64>,
    /// The command to run next.
    pub next: String,
}

/// The config, or the value of one of its keys.
#[derive(Serialize, JsonSchema)]
pub struct ConfigGetJson {
    /// The path of the config.
    pub path: String,
    /// The key; null for the whole config.
    pub key: Option<String>,
    pub value: Value,
}

/// What `looop config set` has changed.
#[derive(Serialize, JsonSchema)]
pub struct ConfigSetJson {
    /// The path of the config.
    pub path: String,
    pub key: String,
    /// The value before; null if there was none.
    pub before: Option<Value>,
    /// The value now.
    pub value: Value,
}

/// What `looop config check` has found.
#[derive(Serialize, JsonSchema)]
pub struct ConfigCheckJson {
    /// The path of the config.
    pub path: String,
    /// In the order of the file; empty if the config can be used.
    pub problems: Vec<ConfigProblemJson>,
    /// Oddities that are not errors.
    pub warnings: Vec<String>,
}

/// One problem of the config.
#[derive(Serialize, JsonSchema)]
pub struct ConfigProblemJson {
    /// The key; empty if the text is not JSON.
    pub key: String,
    /// What is wrong, with the key.
    pub problem: String,
    /// What to do.
    pub hints: Vec<String>,
    /// The line in the file, from 1 on; null if the key is not in the file.
    pub line: Option<usize>,
    /// The column in the line, from 1 on.
    pub column: Option<usize>,
}

/// What policy decides about a command.
#[derive(Serialize, JsonSchema)]
pub struct PolicyTestJson {
    /// The command.
    pub argv: Vec<String>,
    /// Where it would run.
    pub cwd: String,
    #[serde(flatten)]
    pub decision: PolicyDecisionJson,
    /// The same after untrusted text was read.
    pub tainted: PolicyDecisionJson,
}

/// A decision of policy.
#[derive(PartialEq, Serialize, JsonSchema)]
pub struct PolicyDecisionJson {
    /// `free`, `waits` (for your approval) or `refused`.
    pub decision: &'static str,
    /// Why.
    pub why: String,
}

/// What a verb without a form of its own did or shows.
#[derive(Serialize, JsonSchema)]
pub struct DoneJson {
    /// The verb: `goal archive`.
    pub verb: String,
    /// What it worked on; null if that is the whole data dir, or nothing.
    pub object: Option<String>,
    /// True if it changed something.
    pub changed: bool,
    /// What it prints without `--json`, without the last line end.
    pub text: String,
}

/// What `looop backup` has written.
#[derive(Serialize, JsonSchema)]
pub struct BackupJson {
    /// The path of the backup.
    pub file: String,
    /// The number of files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What `looop restore` has made.
#[derive(Serialize, JsonSchema)]
pub struct RestoreJson {
    /// The data dir.
    pub data_dir: String,
    /// The path of the config.
    pub config: String,
    /// True if the config is the one of the backup; false if one was there.
    pub config_made: bool,
    /// The number of files.
    pub files: u64,
    /// When the backup was made, in milliseconds since the Unix epoch.
    pub made_ms: i64,
}

/// An agent CLI on the PATH.
#[derive(Clone, Serialize, JsonSchema)]
pub struct FoundAgent {
    /// Its name.
    pub name: String,
    /// The path of its program.
    pub path: String,
    /// The variable or the file with its login; null if there is none.
    pub login: Option<String>,
    /// True if it can decide.
    #[serde(skip)]
    pub decides: bool,
    /// True if it can work in a terminal.
    #[serde(skip)]
    pub works: bool,
}

/// A goal.
#[derive(Serialize, JsonSchema)]
pub struct GoalJson {
    /// The name.
    pub id: Name,
    /// The headline; absent if the file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// The length of its text in bytes; only in `looop goal list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// Why the file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A question or an approval.
#[derive(Serialize, JsonSchema)]
pub struct QuestionJson {
    /// The id.
    pub id: Name,
    /// Question or approval.
    pub kind: AskKind,
    /// The worker that asks; null if the loop asks.
    pub worker: Option<Name>,
    /// The goal that it serves.
    pub goal: Option<Name>,
    /// The question, or the reason for the move, as written by a model or a worker.
    pub text: String,
    /// The answers to choose from.
    pub options: Vec<String>,
    /// The topic, in the words of the asker.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The whole move that waits for approval.
    #[serde(rename = "move")]
    pub decided: Option<Value>,
    /// The exact argument vector of the move.
    pub argv: Vec<String>,
    /// The directory in which the move would run.
    pub cwd: Option<String>,
    /// Why the move waits.
    pub because: Option<String>,
    /// Everything that the approval would cover.
    pub scope: Option<ApprovalScope>,
    /// The changes that the move would make, as a diff.
    pub diff: Option<String>,
    /// The hash to which the approval is bound.
    pub hash: Option<String>,
    /// When it was asked, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ms: Option<i64>,
    /// The state of the ask.
    pub state: AskState,
}

/// A worker.
#[derive(Serialize, JsonSchema)]
pub struct WorkerJson {
    /// The name.
    pub id: Name,
    /// The goal that the worker serves.
    pub goal: Option<Name>,
    /// The kind of worker.
    pub kind: String,
    /// The runner; null for a command that the user started.
    pub runner: Option<String>,
    /// The phase of the worker.
    pub state: Phase,
    /// Since when it is in this phase, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// The flag, if the worker called the user.
    pub flag: Option<Flag>,
    /// The question that the worker waits for.
    pub ask: Option<Name>,
    /// The usage limit that the worker waits for.
    pub limit: Option<UsageLimit>,
    /// The process id of the supervisor; null for an archived worker.
    pub pid: Option<u32>,
    /// When it was started, in milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// For how long it has printed nothing, in seconds; null if it has ended.
    pub idle_s: Option<i64>,
    /// How the command ended.
    pub exit: Option<WorkerExit>,
    /// The result of the checks.
    pub verify: Option<CheckResult>,
    /// The leases that it holds.
    pub lease: Vec<Holding>,
    /// What it reported to have spent, in US dollars.
    pub cost_usd: f64,
    /// True if the worker seems to be stuck.
    pub stuck: bool,
    /// Why it ended, if the exit status does not show it.
    pub why: Option<String>,
    /// The branch with its commits.
    pub branch: Option<String>,
    /// How its clone holds git objects; null without a clone, and for an archived worker.
    pub objects: Option<Objects>,
    /// The repository that it worked on; null without one, and for an archived worker.
    pub repo: Option<String>,
    /// The work that exists only in its clone, in words; null if there is none or this is not known yet.
    pub left: Option<String>,
    /// The commands that merge the work of an ended worker; run them in its repository.
    pub next: Option<String>,
    /// The path of its clone; null without one.
    pub clone: Option<String>,
    /// The paths on that branch that can execute on the user's side.
    pub user_side: Vec<UserSidePath>,
    /// How many bytes of its output could not be stored; null for an archived worker.
    pub lost_bytes: Option<u64>,
    /// The sandbox that it runs in; null for an archived worker.
    pub sandbox: Option<Level>,
    /// Its directory in `workers/past/`; null unless it is archived.
    pub past: Option<String>,
}

/// A file of a project that the user trusts.
#[derive(Serialize, JsonSchema)]
pub struct TrustedFile {
    /// The absolute path.
    pub path: String,
    /// The blake3 digest of the trusted bytes.
    pub digest: String,
    /// When the file was trusted, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Whether the permission is still valid.
    pub state: PermissionState,
}

/// Whether the permission of a file is still valid.
#[derive(strum::AsRefStr, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PermissionState {
    /// The file has the trusted bytes.
    Valid,
    /// The file has changed, or cannot be read.
    Changed,
    /// The file does not exist any more.
    Gone,
}

/// A lease.
#[derive(Serialize, JsonSchema)]
pub struct LeaseJson {
    #[serde(flatten)]
    pub lease: Lease,
    /// The state of the lease.
    pub state: LeaseState,
    /// Why the lease is free.
    pub why: Option<String>,
    /// The time since the last renewal, in milliseconds; null if it cannot be determined.
    pub age_ms: Option<i64>,
    /// When the lease becomes free without a renewal, in milliseconds from now; null if it cannot be determined here.
    pub free_in_ms: Option<i64>,
}

/// The state of a lease.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// A holder on this machine has it.
    Held,
    /// The next claim gets it.
    Free,
    /// A holder on another machine has it.
    Elsewhere,
}

/// A timer.
#[derive(Serialize, JsonSchema)]
pub struct ScheduleJson {
    /// The name.
    pub name: Name,
    /// When it fires; only in `looop schedule list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<FireTime>,
    /// What the decision should look at.
    pub note: String,
    /// When it fires next, in milliseconds since the Unix epoch.
    pub due_ms: Option<i64>,
}

/// A sensor in the status.
#[derive(Serialize, JsonSchema)]
pub struct SensorStatus {
    /// The name.
    pub name: Name,
    /// False if the sensor failed or cannot be run.
    pub ok: bool,
    /// The signal that the last decision saw.
    pub signal: Option<Value>,
    /// Why it cannot be run.
    pub error: Option<String>,
    /// True if the signal changes again and again (flapping).
    pub flapping: bool,
}

/// A sensor in the list.
#[derive(Serialize, JsonSchema)]
pub struct Sensor {
    /// The name.
    pub name: Name,
    /// The path of its file.
    pub path: String,
    /// The shortest time between two runs, in milliseconds.
    pub interval_ms: Option<i64>,
    /// The timeout, in milliseconds.
    pub timeout_ms: Option<i64>,
    /// Whether the user vouches for its text.
    pub trust: Option<Trust>,
    /// Why it cannot be run.
    pub error: Option<String>,
    /// The reading that the last decision saw.
    pub reading: Option<SensorReading>,
}

/// A sensor's reading in a test.
#[derive(Serialize, JsonSchema)]
pub struct SensorTest {
    /// The reading.
    pub reading: SensorReading,
    /// The sensor.
    pub sensor: Name,
}

/// The state of the whole loop.
#[derive(Serialize, JsonSchema)]
pub struct StatusJson {
    /// The pulse and the current beat.
    pub pulse: Pulse,
    /// The results of the last beats.
    pub last_beat: LastBeat,
    /// The gate: what holds the loop back.
    pub gate: Gate,
    /// The goals.
    pub goals: Vec<GoalJson>,
    /// The sensors.
    pub sensors: Vec<SensorStatus>,
    /// The workers, without the archived ones.
    pub workers: Vec<WorkerJson>,
    /// The asks that wait for the user, and approved moves that are not made yet.
    pub asks: Vec<QuestionJson>,
    /// The leases.
    pub leases: Vec<LeaseJson>,
    /// The timers.
    pub schedules: Vec<ScheduleJson>,
    /// The cost of today.
    pub cost: Today,
    /// The sandbox of each kind of child; null if the config cannot be read.
    pub sandbox: Option<SandboxesJson>,
    /// The problems with their fixes. Bad ones come first, and with one of them the exit code is 1.
    pub findings: Vec<Finding>,
    /// The fixes that run.
    pub fixes: Vec<RunningFix>,
    /// The data dir.
    pub data_dir: String,
}

/// A fix that has ended.
#[derive(Serialize, JsonSchema)]
pub struct FixJson {
    /// The id of the fix.
    pub fix: Name,
    /// The tasks with their results.
    pub tasks: Vec<TaskState>,
    /// Where the result is, in words.
    pub applied: String,
}

/// A fix that runs.
#[derive(Serialize, JsonSchema)]
pub struct RunningFix {
    /// Its process id.
    pub pid: u32,
    /// The root directory of the project.
    pub project: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub began_ms: i64,
    /// The task that it works on; null between two tasks.
    pub goal: Option<Name>,
    /// The number of the running attempt.
    pub attempt: Option<u32>,
}

/// The pulse and the current beat.
#[derive(Serialize, JsonSchema)]
pub struct Pulse {
    /// True if a pulse runs.
    pub alive: bool,
    /// The process id of the pulse.
    pub pid: Option<u32>,
    /// The process id of the current beat.
    pub ticking: Option<u32>,
    /// The time of the last idle beat, in milliseconds since the Unix epoch.
    pub idle_at_ms: Option<i64>,
}

/// The results of the last beats.
#[derive(Serialize, JsonSchema)]
pub struct LastBeat {
    /// The last move.
    pub last: Option<LastResult>,
    /// Why the last decision failed.
    pub failure: Option<Failure>,
    /// The number of decisions so far.
    pub decisions: u64,
}

/// The gate: what holds the loop back.
#[derive(Serialize, JsonSchema)]
pub struct Gate {
    /// The state of the gate in words.
    pub words: String,
    /// Why the loop is halted.
    pub halted: Option<String>,
    /// Since when and why the loop is paused.
    pub paused: Option<Paused>,
    /// The failures in a row.
    pub backoff: Option<Backoff>,
    /// Whether the last decision was to do nothing.
    pub converged: Convergence,
    /// The number of decisions in the last 60 minutes.
    pub decides_last_hour: usize,
}

/// The cost of today.
#[derive(Serialize, JsonSchema)]
pub struct Today {
    /// The cost in millionths of a US dollar.
    pub today_micros: u64,
    /// The number of calls without a known price.
    pub today_unpriced: u64,
    /// The local day.
    pub day: String,
}

/// The sandbox of each kind of child.
#[derive(Serialize, JsonSchema)]
pub struct SandboxesJson {
    /// The sandbox engine of this machine.
    pub engine: String,
    /// What the machine lacks for a stronger sandbox.
    pub missing: Vec<String>,
    /// The sandbox features that this machine had before and lacks now.
    pub lost: Option<String>,
    /// The sandbox of a deciding runner.
    pub decide: InForce,
    /// The sandbox of a sensor.
    pub sensor: InForce,
    /// The sandbox of a `run` move.
    pub run: InForce,
    /// The sandbox of a check.
    pub verify: InForce,
    /// The sandbox of a worker.
    pub worker: InForce,
    /// The sandbox of the processes of `looop fix` by hand.
    pub fix: InForce,
}

/// A sandbox level, or why the sandbox is missing.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub enum InForce {
    /// The sandbox is available.
    Level(Level),
    /// The sandbox is required and not available.
    Refused {
        /// The reason.
        error: String,
    },
}

/// The result of a beat.
#[derive(Default, Serialize, JsonSchema)]
pub struct BeatJson {
    /// The kind of result.
    pub result: BeatStatus,
    /// Only if skipped: the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Hold>,
    /// Only if applied: the tag of the move.
    #[serde(rename = "move", skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Only if applied: the id of the beat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beat: Option<String>,
    /// Only if applied: the outcome of the move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<MoveOutcome>,
    /// Only if failed: the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// The usage of the model call.
    pub usage: Option<Usage>,
    /// The latest time of the next beat, in milliseconds from now.
    pub next_beat_due_ms: Option<i64>,
}

/// The kind of a beat's result.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BeatStatus {
    /// The beat asked no model.
    #[default]
    Skipped,
    /// The beat made a move.
    Applied,
    /// The decision failed.
    Failed,
    /// It was interrupted or paused; no move was made.
    Cancelled,
    /// It decided, and the next beat makes the move.
    Waiting,
}

/// What woke the loop last, and what would wake it now.
#[derive(Serialize, JsonSchema)]
pub struct Why {
    /// The last decision.
    pub last: Option<Woken>,
    /// What the next beat would do, in words.
    pub next: String,
    /// What each sensor woke and cost in the last seven days.
    pub week_by_sensor: Vec<SpendRow>,
}

/// The reasons of a decision.
#[derive(Serialize, JsonSchema)]
pub struct Woken {
    /// The beat's id.
    pub beat: String,
    /// When it decided, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The reasons in words.
    pub woke: Vec<String>,
    /// The changes that the decision saw.
    pub changes: Vec<WorldChange>,
}

/// The cost in a period.
#[derive(Serialize, JsonSchema)]
pub struct Cost {
    /// One row for each key.
    pub rows: Vec<SpendRow>,
    /// The sum.
    pub total: SpendRow,
    /// The day of the list prices that looop has of some models: `2025-11-30`.
    pub price_list_day: &'static str,
}

/// What a wait has found.
#[derive(Serialize, JsonSchema)]
pub struct WaitJson {
    /// Everything that waits for the user; with a worker, what it waits for.
    pub waiting: Vec<Waiting>,
    /// The worker that was named.
    pub worker: Option<WorkerJson>,
}

/// Something that waits for the user.
#[derive(Serialize, JsonSchema)]
pub struct Waiting {
    /// The worker; null if the loop itself asks.
    pub worker: Option<Name>,
    /// The id of the ask; null for a flag.
    pub ask: Option<Name>,
    /// The flag's or the question's text.
    pub text: Option<String>,
    /// The commands that show more, for the text form.
    #[serde(skip)]
    pub look: String,
}

/// What `looop prune` did with one worker.
#[derive(Serialize, JsonSchema)]
pub struct Pruned {
    /// The name of the worker.
    pub id: Name,
    /// The worker's directory in `workers/past/`.
    pub dir: String,
    /// True if the worker's data was deleted.
    pub removed: bool,
    /// Why the data is kept.
    pub kept: Option<String>,
}

/// The attempts for one goal of `looop fix`.
#[derive(Serialize, JsonSchema)]
pub struct Attempts {
    /// The goal.
    pub goal: Name,
    /// The ledger, oldest first.
    pub lines: Vec<LedgerLine>,
    /// How many of the latest attempts are alike.
    pub row: u32,
    /// The next step, in words.
    pub next: String,
}

/// The files of a project that matter for a question.
#[derive(Serialize, JsonSchema)]
pub struct Mapped {
    /// The path of the project.
    pub root: String,
    /// False if no question was given, or none of its words occur in the project.
    pub aimed: bool,
    /// The files, most important first.
    pub files: Vec<Ranked>,
    /// What was read for the answer.
    pub index: Indexed,
    /// The files as an agent gets them; only with `--tokens`.
    pub text: Option<String>,
    /// The estimated number of tokens of that text.
    pub tokens: Option<usize>,
}

/// What was read of a project.
#[derive(Serialize, JsonSchema)]
pub struct Indexed {
    #[serde(flatten)]
    pub update: IndexUpdate,
    /// The duration in milliseconds.
    pub took_ms: i64,
    /// The gaps of the map, in words.
    pub gaps: Vec<String>,
}

/// A finding of the doctor.
#[derive(Serialize, JsonSchema)]
pub struct Finding {
    /// How serious the finding is.
    pub health: CheckStatus,
    /// The checked thing.
    pub what: String,
    /// The result of the check.
    pub found: String,
    /// How to fix it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<String>,
}

/// How serious a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Everything is in order.
    Good,
    /// It works with restrictions.
    Odd,
    /// It must be fixed.
    Bad,
    /// It was wrong, and `--fix` has mended it.
    Mended,
}

/// The test of a runner.
#[derive(Serialize, JsonSchema)]
pub struct RunnerTried {
    /// Each fact in words.
    pub stated: Map<String, Value>,
    /// The result of the test question.
    pub tried: RunnerTrial,
}

/// The result of a test question to a runner.
#[derive(Serialize, JsonSchema)]
pub struct RunnerTrial {
    /// True if the runner can decide.
    pub ok: bool,
    /// The kind of failure.
    pub class: Option<String>,
    /// The duration in milliseconds.
    pub took_ms: i64,
    /// The usage of the call.
    pub usage: Usage,
}

/// A ready-made sensor.
#[derive(Serialize, JsonSchema)]
pub struct Example {
    /// The name.
    pub name: String,
    /// What it observes.
    pub about: String,
    /// What it requires.
    pub needs: String,
    #[serde(flatten)]
    pub header: SensorHeader,
    /// The settings.
    pub settings: Vec<Setting>,
}
