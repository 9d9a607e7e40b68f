//! Pure. The content of `beat.json`: the loop's whole memory between two ticks.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Move;
use super::entry::MoveOutcome;
use super::failing::Class;
use super::scope::{ApprovalScope, FolderScope};
use crate::rules::digest::{Digest, Items};
use crate::rules::name::Name;
use crate::rules::process::Started;
use crate::rules::text::visible;
use crate::rules::time::{LAST_MS, Now};
use crate::rules::worker::Spec;

/// The memory of the loop. The atomic replacement of its file is the tick's commit point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopState {
    /// The start of the newest beat, in milliseconds; ids are derived from it and never reused.
    pub last_ms: i64,
    pub decisions: u64,
    /// The world that the last completed decision saw.
    pub baseline: Items,
    /// The commit with that world, for the diff.
    pub base_commit: Option<String>,
    /// Whether the decider is done with that world.
    #[serde(alias = "settled")]
    pub converged: Convergence,
    /// When the decider wants to look again.
    #[serde(alias = "nudge")]
    pub requeue: Option<Requeue>,
    /// The starts of the decisions of the last hour, in milliseconds.
    pub decides: Vec<i64>,
    pub backoff: Option<Backoff>,
    /// How often each sensor changes.
    pub flaps: BTreeMap<String, Flap>,
    /// For each goal, the value of `decisions` when a move last served it (or when it was first seen).
    pub served: BTreeMap<Name, u64>,
    /// Digests of goal texts that a move wrote after untrusted text was read, newest last. A copied or renamed goal
    /// keeps its digest; an edited goal gets another one.
    #[serde(deserialize_with = "goal_digests")]
    pub untrusted_goals: Vec<Digest>,
    /// Digests of goal texts that a move wrote without an approval, newest last. The user wrote or approved any other
    /// text.
    #[serde(default)]
    pub written_goals: Vec<Digest>,
    /// True once the user has approved the start of a paid worker.
    #[serde(default)]
    pub paid_start_approved: bool,
    /// Workers that were started after untrusted text was read, as long as they are in the world.
    #[serde(default)]
    pub untrusted_workers: BTreeSet<Name>,
    /// The newest beats whose decisions saw no untrusted text. The journal lines of all other beats may contain
    /// untrusted text.
    #[serde(default)]
    pub clean_beats: Vec<String>,
    /// A runner call that began and is not settled.
    pub inflight: Option<Inflight>,
    /// A move that began and is not settled.
    pub intent: Option<Intent>,
    /// The result of the last move.
    pub last: Option<LastResult>,
    /// Why the last decision failed; cleared by success.
    pub failure: Option<Failure>,
    /// Asks whose answers a decision has seen, and approvals that were used.
    pub closed_asks: Vec<Name>,
    /// Approvals that were used, and until when each is valid, in milliseconds. Until then they stay closed even if
    /// their files are gone, since files can come back.
    pub used: BTreeMap<Name, i64>,
    /// Rejected scopes, and until when each is refused, in milliseconds.
    pub rejected: BTreeMap<Digest, i64>,
    pub fired: BTreeMap<Name, i64>,
    /// Moves that may not be committed to git yet.
    pub uncommitted: Vec<CommitNote>,
    /// Set when the memory was lost: the loop makes no move until the user resumes it.
    pub halted: Option<String>,
    /// The exhausted budget of which the user was last notified, with the time for which it holds.
    #[serde(alias = "budget_told")]
    pub budget_notice: Option<String>,
}

/// Reads digests of goal texts. An earlier version stored goals by name.
fn goal_digests<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Digest>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum GoalDigests {
        List(Vec<Digest>),
        ByName(BTreeMap<Name, Digest>),
    }
    Ok(match GoalDigests::deserialize(from)? {
        GoalDigests::List(digests) => digests,
        GoalDigests::ByName(digests) => digests.into_values().collect(),
    })
}

/// Whether the decider is done with the world that it saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Convergence {
    /// The last move was not `noop`: the next beat decides again and sees its effect.
    #[default]
    No,
    /// The last move was `noop`, at this time.
    Noop {
        /// The time of the `noop`, in milliseconds.
        at_ms: i64,
        /// True if the decider confirmed the `noop` after its lifetime: it then stays converged until the world changes.
        #[serde(alias = "again")]
        rechecked: bool,
    },
}

/// The decider's request to look again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requeue {
    /// When it was requested, in milliseconds.
    pub set_ms: i64,
    /// The delay, in milliseconds.
    pub wait_ms: i64,
    /// How many requests came in a row without a change, including this one.
    pub streak: u32,
}

/// Failures in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// The number of failures.
    pub fails: u32,
    /// When the first of them occurred, in milliseconds; `None` in states of versions that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// When the last failure occurred, in milliseconds.
    pub at_ms: i64,
    /// Digest of the user's files at that time; an edit ends the present wait and keeps the count.
    #[serde(alias = "human")]
    pub user_files: Digest,
}

/// How often a sensor changes: `count` at `at_ms`, which decays by one every quarter of an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flap {
    /// Changes that woke the loop, minus the decay.
    pub count: u32,
    /// When the last change came, in milliseconds.
    pub at_ms: i64,
}

/// A runner call that may have cost money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inflight {
    /// The id of the beat that called.
    pub beat: String,
    pub runner: String,
    /// When the call began, in milliseconds.
    pub at_ms: i64,
    /// Digest of the user's files at that time.
    #[serde(alias = "human")]
    pub user_files: Digest,
    /// The sensors whose change woke the beat.
    pub sensors: Vec<String>,
    /// What is reserved for the call, in millionths of a US dollar; it is charged if the real cost stays unknown.
    #[serde(default)]
    pub reserved_micros: u64,
}

/// A move that is about to be made, with everything that settles it after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    pub beat: String,
    /// When it began, in milliseconds.
    pub at_ms: i64,
    pub decided: Move,
    /// The operation that makes the move.
    #[serde(alias = "deed")]
    pub operation: Operation,
    /// The outcome for the journal once the operation is done.
    pub then: MoveOutcome,
    /// The command's process, recorded before the command may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Started>,
    /// What else the commit message will say.
    pub note: CommitNote,
    /// True if its decision saw no untrusted text. If the key is missing, it may have seen some.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
}

/// The operation that makes a move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// None: the move has no effect outside the journal.
    Nothing,
    /// Replace or create a file of the data dir.
    Write {
        /// Relative to the data dir.
        path: String,
        /// The whole new content.
        text: String,
        executable: bool,
        /// blake3 of the content that it replaces; `None`: the file must not exist.
        replaces: Option<Digest>,
    },
    /// Move a file within the data dir.
    Rename {
        /// Relative to the data dir.
        from: String,
        /// Relative to the data dir; the path must be free.
        to: String,
        /// blake3 of the content.
        content: Digest,
    },
    /// Remove a file of the data dir.
    Remove {
        /// Relative to the data dir.
        path: String,
        /// blake3 of the content.
        content: Digest,
    },
    Exec {
        argv: Vec<String>,
        /// The path of the executable.
        exe: String,
        /// The working directory.
        cwd: String,
        /// The files that the approval covered, as path and blake3. They are checked once more when the command starts.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<(String, String)>,
        /// The folders that the approval covered, as path and digest. They are checked once more before it begins.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        folders: Vec<(String, String)>,
    },
    /// Stop a worker, or send it a text; the move says which. In the memory of an earlier version also a start that
    /// needed no approval.
    Fleet,
    #[serde(alias = "approved_start", deserialize_with = "planned_start")]
    StartWorker(Box<PlannedStart>),
}

/// The start of a worker as policy judged it, and as the user approved it if policy asked for that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStart {
    /// What starts. `None` in the memory of an earlier version, which planned an approved start again when it made it:
    /// such a start is void.
    #[serde(deserialize_with = "Option::deserialize")]
    pub spec: Option<Spec>,
    /// True if the worker costs money.
    pub paid: bool,
    /// What the approval covers: it must still be so when the worker starts. `None` without an approval.
    #[serde(default)]
    pub approved: Option<ApprovalScope>,
}

impl PlannedStart {
    /// True if another plan starts the same worker in the same sandbox. Only the name of its runner may differ: the
    /// command of the runner is compared.
    pub fn is_same_worker(&self, other: &PlannedStart) -> bool {
        let compared = |start: &PlannedStart| start.spec.clone().map(|spec| Spec { runner: None, ..spec });
        self.spec.is_some() && compared(self) == compared(other)
    }
}

/// Reads a planned start, or what 0.1 wrote for an approved one: the scope of its approval, without a worker.
fn planned_start<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Box<PlannedStart>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    match value.get("form").is_some() && value.get("action").is_some() {
        true => Ok(Box::default()),
        false => serde_json::from_value(value).map_err(serde::de::Error::custom),
    }
}

impl Operation {
    /// Adds what an approval covers, which is compared once more when the command or the worker starts.
    pub fn with_scope(mut self, scope: &ApprovalScope) -> Operation {
        match &mut self {
            Operation::Exec { files, folders, .. } => {
                *files = scope.files.iter().map(|file| (file.path.clone(), file.content.clone())).collect();
                let covered = |folder: &FolderScope| (folder.path.clone(), folder.content.clone());
                *folders = scope.folders.iter().map(covered).collect();
            }
            Operation::StartWorker(start) => start.approved = Some(scope.clone()),
            Operation::Nothing
            | Operation::Fleet
            | Operation::Write { .. }
            | Operation::Rename { .. }
            | Operation::Remove { .. } => {}
        }
        self
    }
}

/// The content of a move's commit message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitNote {
    pub beat: String,
    /// The journal line without time and id; empty until the move is settled.
    pub subject: String,
    /// Digest of the world that the decision saw.
    pub world: Digest,
    /// blake3 of the prompt; empty if no runner was asked.
    pub prompt: Digest,
    /// What the decision cost, in millionths of a US dollar.
    pub cost_micros: u64,
    /// Files that the move wrote, relative to the data dir, each with the blake3 of its content; `None`: the move
    /// removed it. If the content differs by now, somebody else changed the file.
    pub paths: BTreeMap<String, Option<Digest>>,
}

/// The result of a move, as the next decision sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LastResult {
    /// The id of the beat.
    pub beat: String,
    /// When the move ended, in milliseconds.
    pub at_ms: i64,
    /// The tag of the move.
    #[serde(rename = "move")]
    pub tag: String,
    /// What the move was about.
    pub object: String,
    /// The outcome of the move.
    pub outcome: MoveOutcome,
    /// True if its decision saw no untrusted text. If the key is missing, it may have seen some.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
}

/// Why a decision failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The id of the beat.
    pub beat: String,
    /// When it failed, in milliseconds.
    pub at_ms: i64,
    /// The kind of failure.
    pub class: Class,
    /// The cause as text.
    pub why: String,
    /// When to ask again, in milliseconds, if the runner said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at_ms: Option<i64>,
    /// True if the decider had read no untrusted text. If the key is missing, it may have read some.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
}

impl Failure {
    /// Its class and cause, as a terminal may show them.
    pub fn words(&self) -> String {
        format!("{}: {}", self.class, visible(&self.why, false))
    }
}

/// How long a flap takes to decay by one, in milliseconds.
pub const FLAP_DECAY_MS: i64 = 15 * 60_000;
/// From this count on, a sensor is flapping.
pub const FLAP_LIMIT: u32 = 5;
/// After this number of decisions without a move for it, a goal is starved.
pub const STARVED_AFTER: u64 = 10;

impl Flap {
    /// The count after decay.
    pub fn level(&self, now: Now) -> u32 {
        let decayed = now.elapsed_ms(self.at_ms) / FLAP_DECAY_MS;
        self.count.saturating_sub(u32::try_from(decayed).unwrap_or(u32::MAX))
    }
}

impl LoopState {
    /// Says why these values are impossible although the format is right; `None` if they are possible.
    pub fn problem(&self) -> Option<String> {
        let last = self.last_ms;
        (!(0..=LAST_MS).contains(&last)).then(|| format!("its last beat, {last}, is not a valid time"))
    }

    /// Returns the start of the next beat: now, or just after the last one if the clock was set back.
    pub fn next_ms(&self, now: Now) -> i64 {
        now.unix_ms.max(self.last_ms.saturating_add(1))
    }

    /// True if the next decision sees the output of a command, which is untrusted text.
    pub fn shows_output(&self) -> bool {
        matches!(self.last.as_ref().map(|last| &last.outcome), Some(MoveOutcome::Ran { tail, .. }) if !tail.is_empty())
    }

    /// True if the next decision sees text from a decision that had read untrusted text, or why such a decision failed.
    /// A `noop` adds no text of its own, so the loop is clean again once it is settled.
    pub fn repeats(&self) -> bool {
        let last = self.last.as_ref().is_some_and(|last| !last.clean && last.tag != "noop");
        last || self.failure.as_ref().is_some_and(|failure| !failure.clean)
    }

    /// True if the sensor changes so often that its change alone does not wake the loop.
    pub fn is_flapping(&self, sensor: &str, now: Now) -> bool {
        self.flaps.get(sensor).is_some_and(|flap| flap.level(now) >= FLAP_LIMIT)
    }

    /// Returns the goals without a move for some time, with the number of decisions since the last one.
    pub fn starved<'a>(&self, goals: impl Iterator<Item = &'a Name>) -> Vec<(Name, u64)> {
        let since = |goal: &Name| {
            self.decisions.saturating_sub(self.served.get(goal).copied().unwrap_or(self.decisions))
        };
        let mut all: Vec<(Name, u64)> = goals.map(|goal| (goal.clone(), since(goal))).collect();
        all.retain(|(_, count)| *count >= STARVED_AFTER);
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flaps_decay_by_one_each_quarter_of_an_hour() {
        let flap = Flap { count: 5, at_ms: 0 };
        let at = |minutes: i64| Now::fixed(minutes * 60_000, 0);
        assert_eq!(flap.level(at(14)), 5);
        assert_eq!(flap.level(at(15)), 4);
        assert_eq!(flap.level(at(600)), 0);
        assert_eq!(flap.level(at(-600)), 5, "a clock that was set back does not change the count");
    }

    #[test]
    fn any_number_in_the_file_can_be_read() {
        let now = Now::fixed(1, 0);
        for odd in [i64::MIN, -1, LAST_MS + 1, i64::MAX] {
            let beat = LoopState { last_ms: odd, ..LoopState::default() };
            assert!(beat.problem().is_some() && beat.next_ms(now) >= 1, "{odd}");
            assert!(Flap { count: 1, at_ms: odd }.level(now) <= 1);
        }
        let served = [(Name::parse("g").unwrap(), 9)].into();
        let beat = LoopState { last_ms: LAST_MS, served, ..LoopState::default() };
        assert_eq!((beat.problem(), beat.starved(beat.served.keys())), (None, vec![]));
    }

    #[test]
    fn goals_starve_by_decisions_not_by_time() {
        let name = |text| Name::parse(text).unwrap();
        let served = [(name("loud"), 30), (name("quiet"), 12)].into();
        let beat = LoopState { decisions: 30, served, ..LoopState::default() };
        let goals = [name("loud"), name("quiet"), name("new")];
        assert_eq!(beat.starved(goals.iter()), [(name("quiet"), 18)]);
    }

    #[test]
    fn a_memory_that_stores_untrusted_goals_by_name_is_read() {
        let mut old = serde_json::to_value(LoopState::default()).unwrap();
        old["untrusted_goals"] = serde_json::json!({ "a": "d1", "b": "d2" });
        assert_eq!(serde_json::from_value::<LoopState>(old).unwrap().untrusted_goals, ["d1", "d2"]);
    }

    #[test]
    fn an_approved_start_of_an_earlier_version_is_read_and_holds_no_worker() {
        let old = r#"{"approved_start":{"form":2,"action":"{}","grants":[],"command":null,"checks":[]}}"#;
        let read: Operation = serde_json::from_str(old).unwrap();
        assert_eq!(read, Operation::StartWorker(Box::default()));
    }

    #[test]
    fn a_planned_start_with_an_unknown_or_a_missing_key_is_corruption() {
        let start = serde_json::to_value(Operation::StartWorker(Box::default())).unwrap();
        assert!(serde_json::from_value::<Operation>(start.clone()).is_ok());
        for key in ["spec", "paid"] {
            let mut less = start.clone();
            less["start_worker"].as_object_mut().unwrap().remove(key);
            assert!(serde_json::from_value::<Operation>(less).is_err(), "{key}");
        }
        let mut odd = start;
        odd["start_worker"]["surprise"] = 1.into();
        assert!(serde_json::from_value::<Operation>(odd).is_err());
    }

    #[test]
    fn an_unknown_or_a_missing_key_is_corruption() {
        let fresh = serde_json::to_value(LoopState::default()).unwrap();
        assert_eq!(serde_json::from_value::<LoopState>(fresh.clone()).unwrap(), LoopState::default());
        let mut odd = fresh.clone();
        odd["surprise"] = 1.into();
        assert!(serde_json::from_value::<LoopState>(odd).is_err());
        for key in ["last_ms", "closed_asks", "used", "untrusted_goals", "rejected"] {
            let mut less = fresh.clone();
            less.as_object_mut().unwrap().remove(key);
            assert!(serde_json::from_value::<LoopState>(less).is_err(), "{key}");
        }
    }
}
