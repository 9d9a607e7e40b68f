//! Pure. The form of `beat.json`: all that the loop remembers between two ticks.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Move;
use super::entry::Outcome;
use super::failing::Class;
use super::name::Name;
use super::scope::ApprovalScope;
use super::time::{LAST_MS, Now};
use super::world::{Digest, Items};

/// The memory of the loop. One atomic replace of its file is the tick's commit point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beat {
    /// The start of the newest beat, in milliseconds; ids are made from it and never reused.
    pub last_ms: i64,
    /// Decisions completed so far.
    pub decisions: u64,
    /// The world that the last completed decision saw.
    pub baseline: Items,
    /// The commit that holds that world, for the diff.
    pub base_commit: Option<String>,
    /// Whether that world is settled.
    pub settled: Settled,
    /// When the decider wants to look again.
    pub nudge: Option<Nudge>,
    /// The starts of the decisions of the last hour, in milliseconds.
    pub decides: Vec<i64>,
    /// Failures in a row.
    pub backoff: Option<Backoff>,
    /// How restless each sensor is.
    pub flaps: BTreeMap<String, Flap>,
    /// For each goal, `decisions` when a move last served it (or when it was first seen).
    pub served: BTreeMap<Name, u64>,
    /// Digests of goal texts that a move wrote after untrusted text was read, newest last. A copy and another name
    /// keep the text; an edit makes another text.
    #[serde(deserialize_with = "goal_digests")]
    pub untrusted_goals: Vec<Digest>,
    /// Digests of goal texts that a move wrote without an approval, newest last. The user wrote any other text.
    #[serde(default)]
    pub written_goals: Vec<Digest>,
    /// True once the user has approved the start of a paid worker.
    #[serde(default)]
    pub paid_start_approved: bool,
    /// Workers that were started after untrusted text was read, as long as they are in the world.
    #[serde(default)]
    pub untrusted_workers: BTreeSet<Name>,
    /// The newest beats whose decisions saw no text of strangers: the words of any other beat's journal line may be
    /// theirs.
    #[serde(default)]
    pub clean_beats: Vec<String>,
    /// A runner call that was begun and not settled.
    pub inflight: Option<Inflight>,
    /// A move that was begun and not settled.
    pub intent: Option<Intent>,
    /// What became of the last move.
    pub last: Option<LastResult>,
    /// Why the last decision failed; cleared by success.
    pub failure: Option<Failure>,
    /// Asks whose answers a decision has seen, and approvals that were used.
    pub closed_asks: Vec<Name>,
    /// Approvals that were used and until when a yes to them is good, in milliseconds. Till then they stay closed,
    /// whether or not their files are there, since files can come back.
    pub used: BTreeMap<Name, i64>,
    /// Rejected subjects and until when they are refused, in milliseconds.
    pub rejected: BTreeMap<Digest, i64>,
    /// When each timer last fired, in milliseconds.
    pub fired: BTreeMap<Name, i64>,
    /// Moves that may not be in git yet.
    pub uncommitted: Vec<CommitNote>,
    /// Set when the memory was lost: no move is made until a human resumes.
    pub halted: Option<String>,
    /// The budget that the human was last told is used up, with the time for which it holds.
    pub budget_told: Option<String>,
}

/// Reads digests of goal texts. An earlier program kept them by the goal's name.
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

/// Whether the decider has nothing more to do about the world it saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Settled {
    /// The last move was not `noop`: the next beat decides again and sees its effect.
    #[default]
    No,
    /// The last move was `noop`, at this time; `again` when it was asked once more after the noop's lifetime.
    Noop {
        /// When, in milliseconds.
        at_ms: i64,
        /// True: it stays settled until the world changes.
        again: bool,
    },
}

/// The decider's wish to look again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nudge {
    /// When it was wished, in milliseconds.
    pub set_ms: i64,
    /// After how long, in milliseconds.
    pub wait_ms: i64,
    /// How many in a row without a change, this one included.
    pub streak: u32,
}

/// Failures in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// How many.
    pub fails: u32,
    /// When the last one was, in milliseconds.
    pub at_ms: i64,
    /// What the human had decided then; an edit ends the present wait and keeps the count.
    pub human: Digest,
}

/// How restless a sensor is: `count` at `at_ms`, decaying by one per quarter of an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flap {
    /// Changes that woke the loop, less what decayed.
    pub count: u32,
    /// When the last one was, in milliseconds.
    pub at_ms: i64,
}

/// A runner call that has been paid for, perhaps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inflight {
    /// The beat that called.
    pub beat: String,
    /// The runner.
    pub runner: String,
    /// When, in milliseconds.
    pub at_ms: i64,
    /// What the human had decided then.
    pub human: Digest,
    /// The sensors whose change woke the beat.
    pub sensors: Vec<String>,
    /// What is set aside for it, in millionths of a US dollar: its price, if nobody ever hears what it cost.
    #[serde(default)]
    pub reserved_micros: u64,
}

/// A move that is about to be made, with all that is needed to settle it after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The beat's id.
    pub beat: String,
    /// When, in milliseconds.
    pub at_ms: i64,
    /// The move.
    pub decided: Move,
    /// What is done to make it.
    pub deed: Deed,
    /// What the journal says when the deed is done.
    pub then: Outcome,
    /// The command's process, known before it may begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Started>,
    /// What the commit will say besides.
    pub note: CommitNote,
    /// True: its decision saw no text of strangers. Where it is not said, it may have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
}

/// What is done to make a move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Deed {
    /// Nothing: the move has no effect outside the journal.
    Nothing,
    /// Replace or create a file of the data dir.
    Write {
        /// Relative to the data dir.
        path: String,
        /// The whole new content.
        text: String,
        /// Whether it is an executable.
        executable: bool,
        /// blake3 of the content that it replaces; none: there must be no file.
        replaces: Option<Digest>,
    },
    /// Move a file within the data dir.
    Rename {
        /// Relative to the data dir.
        from: String,
        /// Relative to the data dir; nothing may be there.
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
    /// Run a command.
    Exec {
        /// The argument vector.
        argv: Vec<String>,
        /// The executable's path.
        exe: String,
        /// Where.
        cwd: String,
        /// What a yes covered of files: path and blake3 of each. They are looked at once more when it begins.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<(String, String)>,
        /// What a yes covered of folders: path and digest of each. They are looked at once more before it begins.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        folders: Vec<(String, String)>,
    },
    /// Something that the fleet of workers does; the move says what.
    Fleet,
    /// Start a worker that a human said yes to. The yes is checked once more when it starts.
    ApprovedStart(Box<ApprovalScope>),
}

/// A process, told apart from a later one with the same number by its start time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The process id.
    pub pid: u32,
    /// Its start in clock ticks since boot, as the kernel tells it.
    pub start: u64,
    /// The boot it belongs to.
    pub boot: String,
}

/// What a commit of a move says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitNote {
    /// The beat's id.
    pub beat: String,
    /// The journal line without its stamp and id; empty until the move is settled.
    pub subject: String,
    /// Digest of the world that the decision saw.
    pub world: Digest,
    /// blake3 of the prompt; empty when no runner was asked.
    pub prompt: Digest,
    /// What the decision cost, in millionths of a dollar.
    pub cost_micros: u64,
    /// Files that the move wrote, relative to the data dir, each with the blake3 of its content; none: it was taken
    /// away. One that is another by now is somebody else's.
    pub paths: BTreeMap<String, Option<Digest>>,
}

/// What became of a move, as the next decision sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LastResult {
    /// The beat's id.
    pub beat: String,
    /// When, in milliseconds.
    pub at_ms: i64,
    /// The move's tag.
    #[serde(rename = "move")]
    pub tag: String,
    /// What the move was about.
    pub object: String,
    /// What became of it.
    pub outcome: Outcome,
    /// True: its decision saw no text of strangers. Where it is not said, it may have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
}

/// Why a decision failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The beat's id.
    pub beat: String,
    /// When, in milliseconds.
    pub at_ms: i64,
    /// What kind of failure it was.
    pub class: Class,
    /// The cause in words.
    pub why: String,
    /// When it makes sense to ask again, in milliseconds, where the runner said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at_ms: Option<i64>,
    /// True: no text of strangers was in front of the decider. Where it is not said, there may have been.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
}

/// How long a flap takes to decay by one, in milliseconds.
pub const FLAP_DECAY_MS: i64 = 15 * 60_000;
/// From this count on a sensor is flapping.
pub const FLAP_LIMIT: u32 = 5;
/// After so many decisions without a move for it a goal is starving.
pub const STARVING_AFTER: u64 = 10;

impl Flap {
    /// The count after decay.
    pub fn level(&self, now: Now) -> u32 {
        let decayed = now.elapsed_ms(self.at_ms) / FLAP_DECAY_MS;
        self.count.saturating_sub(u32::try_from(decayed).unwrap_or(u32::MAX))
    }
}

impl Beat {
    /// What makes a memory of the right form impossible; none when nothing does.
    pub fn is_absurd(&self) -> Option<String> {
        let last = self.last_ms;
        (!(0..=LAST_MS).contains(&last))
            .then(|| format!("its last beat, {last}, is in no year that there is"))
    }

    /// The next beat's start: now, or just after the last one where the clock was set back.
    pub fn next_ms(&self, now: Now) -> i64 {
        now.unix_ms.max(self.last_ms.saturating_add(1))
    }

    /// True when the next decision sees what a command printed: nobody vouches for that text.
    pub fn shows_output(&self) -> bool {
        matches!(self.last.as_ref().map(|last| &last.outcome), Some(Outcome::Ran { tail, .. }) if !tail.is_empty())
    }

    /// True when the next decision sees words that a decision wrote which had text of strangers in front of it, or why
    /// such a decision failed. A `noop` has no words of its own there, so a loop that comes to rest is clean again.
    pub fn retells(&self) -> bool {
        let last = self.last.as_ref().is_some_and(|last| !last.clean && last.tag != "noop");
        last || self.failure.as_ref().is_some_and(|failure| !failure.clean)
    }

    /// True when the sensor changes so often that its change alone does not wake the loop.
    pub fn is_flapping(&self, sensor: &str, now: Now) -> bool {
        self.flaps.get(sensor).is_some_and(|flap| flap.level(now) >= FLAP_LIMIT)
    }

    /// Goals that no move has served for a while, with the number of decisions since.
    pub fn starving<'a>(&self, goals: impl Iterator<Item = &'a Name>) -> Vec<(Name, u64)> {
        let since = |goal: &Name| {
            self.decisions.saturating_sub(self.served.get(goal).copied().unwrap_or(self.decisions))
        };
        let mut all: Vec<(Name, u64)> = goals.map(|goal| (goal.clone(), since(goal))).collect();
        all.retain(|(_, count)| *count >= STARVING_AFTER);
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flaps_decay_by_one_a_quarter_of_an_hour() {
        let flap = Flap { count: 5, at_ms: 0 };
        let at = |minutes: i64| Now { unix_ms: minutes * 60_000, offset_s: 0 };
        assert_eq!(flap.level(at(14)), 5);
        assert_eq!(flap.level(at(15)), 4);
        assert_eq!(flap.level(at(600)), 0);
        assert_eq!(flap.level(at(-600)), 5, "a clock that was set back keeps the count");
    }

    #[test]
    fn no_number_in_the_file_is_too_odd_to_be_read() {
        let now = Now { unix_ms: 1, offset_s: 0 };
        for odd in [i64::MIN, -1, LAST_MS + 1, i64::MAX] {
            let beat = Beat { last_ms: odd, ..Beat::default() };
            assert!(beat.is_absurd().is_some() && beat.next_ms(now) >= 1, "{odd}");
            assert!(Flap { count: 1, at_ms: odd }.level(now) <= 1);
        }
        let beat =
            Beat { last_ms: LAST_MS, served: [(Name::parse("g").unwrap(), 9)].into(), ..Beat::default() };
        assert_eq!((beat.is_absurd(), beat.starving(beat.served.keys())), (None, vec![]));
    }

    #[test]
    fn goals_starve_by_decisions_not_by_time() {
        let name = |text| Name::parse(text).unwrap();
        let served = [(name("loud"), 30), (name("quiet"), 12)].into();
        let beat = Beat { decisions: 30, served, ..Beat::default() };
        let goals = [name("loud"), name("quiet"), name("new")];
        assert_eq!(beat.starving(goals.iter()), [(name("quiet"), 18)]);
    }

    #[test]
    fn a_memory_that_knows_untrusted_goals_by_name_is_read() {
        let mut old = serde_json::to_value(Beat::default()).unwrap();
        old["untrusted_goals"] = serde_json::json!({ "a": "d1", "b": "d2" });
        assert_eq!(serde_json::from_value::<Beat>(old).unwrap().untrusted_goals, ["d1", "d2"]);
    }

    #[test]
    fn an_unknown_or_a_missing_key_is_corruption() {
        let fresh = serde_json::to_value(Beat::default()).unwrap();
        assert_eq!(serde_json::from_value::<Beat>(fresh.clone()).unwrap(), Beat::default());
        let mut odd = fresh.clone();
        odd["surprise"] = 1.into();
        assert!(serde_json::from_value::<Beat>(odd).is_err());
        for key in ["last_ms", "closed_asks", "used", "untrusted_goals", "rejected"] {
            let mut less = fresh.clone();
            less.as_object_mut().unwrap().remove(key);
            assert!(serde_json::from_value::<Beat>(less).is_err(), "{key}");
        }
    }
}
