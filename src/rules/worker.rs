//! Pure. A worker: its specification, its state, and the part of it that the world shows.

pub mod bring_in;
pub mod leftovers;
pub mod lifecycle;
pub mod limit;
pub mod protocol;
pub mod query;
pub mod silence;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

pub use super::beat::scope::Check;
use super::cost::budget::Budget;
use super::name::Name;
use super::sandbox::{Level, Net, Sandbox};
use super::user_side::{self, UserSidePath};
use super::worker::leftovers::Leftovers;
use super::worker::limit::{OnLimit, UsageLimit};
use crate::rules::process::Started;

/// The specification of a worker; the content of `spec.json`. Written once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub id: Name,
    pub goal: Option<Name>,
    /// The kind of worker: `agent`, or `command` if the user gave the argument vector.
    pub kind: String,
    /// The runner whose worker command it is; `None` if the user gave the argument vector.
    pub runner: Option<String>,
    /// The command; the first element is an absolute path.
    pub argv: Vec<String>,
    /// The command that continues its agent's session; empty: it cannot be continued.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resume: Vec<String>,
    /// The id of its agent's session, which takes the place of `{session}` in both commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The working directory, absolute.
    pub cwd: String,
    /// Its whole environment, except the variables that looop adds.
    pub env: Vec<(String, String)>,
    /// The commands that check its work, in order; empty: its work is not checked.
    pub verify: Vec<Check>,
    /// Names of resources that only this worker may work on, besides its goal.
    pub claims: Vec<String>,
    /// The repository of which it has a private clone.
    pub repo: Option<Repo>,
    /// Which objects of that repository its clone contains; `None` if it has no clone, or an earlier version made it.
    pub objects: Option<Objects>,
    /// Its sandbox; `None`: it runs with the user's access.
    #[serde(alias = "boxed")]
    pub sandbox: Option<Sandbox>,
    /// The sandbox of its checks.
    #[serde(alias = "checks_boxed")]
    pub checks_sandbox: Option<Sandbox>,
    pub limits: WorkerLimits,
    /// A command that gets each flag and ask as JSON on stdin; empty: none.
    #[serde(default)]
    pub notify: Vec<String>,
    /// The tmux server of the user who is shown its flags: the value of `TMUX`.
    pub tmux: Option<String>,
    /// Who started it: a beat's id, or `human`.
    pub by: String,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_ms: i64,
}

impl Spec {
    /// The level of its sandbox.
    pub fn level(&self) -> Level {
        level_of(&self.sandbox)
    }

    /// True if it has access to any network.
    pub fn has_network(&self) -> bool {
        self.sandbox.as_ref().is_none_or(|sandbox| sandbox.access.net != Net::Off)
    }

    /// True if the process that really starts and the checks of its work run in a full sandbox: the checks execute what
    /// the worker wrote.
    pub fn is_full(&self) -> bool {
        [&self.sandbox, &self.checks_sandbox].map(level_of) == [Level::Full; 2]
    }

    /// Describes its sandbox and that of its checks, for an approval.
    pub fn sandbox_words(&self) -> String {
        format!("{}; its checks: {}", level_of(&self.sandbox), level_of(&self.checks_sandbox))
    }

    /// Describes the network access of the worker and its checks, for an approval.
    pub fn network_words(&self) -> String {
        let words = |sandbox: &Option<Sandbox>| match sandbox {
            Some(sandbox) => network_words(&sandbox.access.net, !sandbox.access.forward.is_empty()),
            None => network_words(&Net::On, false),
        };
        format!("{}; its checks: {}", words(&self.sandbox), words(&self.checks_sandbox))
    }
}

fn level_of(sandbox: &Option<Sandbox>) -> Level {
    sandbox.as_ref().map_or(Level::None, Sandbox::level)
}

/// Describes network access as text.
pub fn network_words(net: &Net, to_model: bool) -> String {
    match net {
        Net::On => "the whole network, and the services of this machine".to_owned(),
        Net::Internet => "the internet, without the services of this machine".to_owned(),
        Net::Off if to_model => "only its model".to_owned(),
        Net::Off => "none".to_owned(),
        Net::Ports(ports) => format!("ports {ports:?}"),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repo {
    /// The user's repository, absolute.
    pub source: String,
    /// The commit that the clone started from.
    pub base: String,
    /// The branch to which the worker's commits are fetched.
    pub branch: String,
}

/// Which objects of a repository a worker's clone contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Objects {
    /// All of them, shared with the repository: also other branches, stashes, and content that was staged once.
    #[default]
    Shared,
    /// Those that its first commit needs, as a pack of its own.
    Reachable,
}

impl Objects {
    /// Returns the config's choice, or the default. A worker with both untrusted text and a network could leak content
    /// that is only in the history.
    pub fn chosen(config: Option<Objects>, is_tainted: bool, has_network: bool) -> Objects {
        let by_itself = if is_tainted && has_network { Objects::Reachable } else { Objects::Shared };
        config.unwrap_or(by_itself)
    }

    /// Describes the choice for an approval, before it is made.
    pub fn words(config: Option<Objects>, has_network: bool) -> String {
        match (config, has_network) {
            (None, true) => "reachable if untrusted text was read, else shared".to_owned(),
            (config, _) => config.unwrap_or_default().to_string(),
        }
    }
}

/// A worker's limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, SmartDefault)]
#[serde(deny_unknown_fields)]
pub struct WorkerLimits {
    /// Its longest run time, in milliseconds.
    #[default(12 * 3_600_000)]
    pub wall_ms: i64,
    /// After how long without output it counts as stuck, in milliseconds.
    #[default(15 * 60_000)]
    pub idle_ms: i64,
    /// The timeout of each check, in milliseconds.
    #[default(30 * 60_000)]
    pub verify_ms: i64,
    /// What it does when its agent hits a usage limit.
    #[serde(default)]
    pub on_limit: OnLimit,
    /// How long after the end of a usage limit it goes on, in milliseconds.
    #[default(60_000)]
    #[serde(default = "minute")]
    pub limit_margin_ms: i64,
    /// For how many usage limits it waits.
    #[default(2)]
    #[serde(default = "two")]
    pub limit_waits: u32,
    /// How much of its output is kept, in bytes.
    #[default(256 << 20)]
    pub keep_bytes: u64,
    /// How much it may print before it is ended, in bytes.
    #[default(4 << 30)]
    pub output_bytes: u64,
    /// How much it may spend before it is ended, in millionths of a US dollar.
    pub cost_micros: Option<u64>,
    /// The shared budget of all workers and decisions.
    #[serde(default)]
    pub budget: Budget,
    /// The lifetime of its leases between two renewals, in seconds.
    #[default(60)]
    pub ttl_s: u64,
}

// The limits of a worker that an earlier version started.
fn two() -> u32 {
    WorkerLimits::default().limit_waits
}

fn minute() -> i64 {
    WorkerLimits::default().limit_margin_ms
}

impl WorkerLimits {
    /// Returns the budget of one worker, in millionths of a US dollar, and the config keys that set it. A worker without a
    /// budget of its own may spend half of the smallest shared cap that applies to it. `None` if no cap is set.
    pub fn own_budget(&self, goal: Option<&Name>, runner: &str) -> Option<(u64, &'static str)> {
        if let Some(micros) = self.cost_micros {
            return Some((micros, "budget.worker_usd"));
        }
        let caps = [
            (self.budget.hour_micros, "half of budget.hour_usd"),
            (self.budget.day_micros, "half of budget.day_usd"),
            (self.budget.goal_micros.filter(|_| goal.is_some()), "half of budget.goal_usd"),
            (self.budget.runner_micros.get(runner).copied(), "half of budget.runner_usd"),
        ];
        caps.into_iter().filter_map(|(cap, key)| Some((cap? / 2, key))).min()
    }
}

/// The phase of a worker.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::AsRefStr,
    strum::Display,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// Its command has not started.
    Starting,
    /// Its command runs.
    Running,
    /// Its command runs and waits for the user: there is a flag or an ask.
    Waiting,
    /// Its agent is at a usage limit, and goes on when that ends.
    Limited,
    /// Its command succeeded, and there is no check for its work.
    Exited,
    /// Its command succeeded, and its work is being checked.
    Verifying,
    /// Its work was checked and is good.
    Done,
    /// Its command or a check failed, or a limit was reached.
    Failed,
    /// The user or a move ended it.
    Killed,
    /// Its supervisor is gone without having recorded an end.
    Lost,
    /// Its supervisor is suspended or frozen, and does not respond. A supervisor never writes this phase: others detect
    /// it.
    Suspended,
}

impl Phase {
    /// True for a final phase.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Exited | Phase::Done | Phase::Failed | Phase::Killed | Phase::Lost)
    }

    /// The end that a final phase is; `None` for a phase that is not final.
    pub fn end(self) -> Option<WorkerEnd> {
        match self {
            Phase::Exited | Phase::Done => Some(WorkerEnd::Done),
            Phase::Failed | Phase::Lost => Some(WorkerEnd::Failed),
            Phase::Killed => Some(WorkerEnd::Stopped),
            Phase::Starting
            | Phase::Running
            | Phase::Waiting
            | Phase::Limited
            | Phase::Verifying
            | Phase::Suspended => None,
        }
    }

    /// The commands by which the user sees what a worker calls for. One that has ended has no screen to attach to.
    pub fn look_commands(self, id: &Name) -> String {
        match self.is_over() {
            true => format!("looop ls --all, looop logs {id}"),
            false => format!("looop attach {id}"),
        }
    }
}

/// How a worker ended, as its notice and the exit code of `looop wait WORKER` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::AsRefStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum WorkerEnd {
    /// It succeeded, and so did its checks, if there are any.
    Done,
    /// Its command or a check failed, a limit was reached, or its supervisor is gone.
    Failed,
    /// The user or a move ended it.
    Stopped,
}

/// A worker's request for the user's attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// What it needs, in its own words; untrusted text.
    pub text: String,
    /// When it was set, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// How many flags this worker has set, including this one; each flag is announced once.
    pub nth: u32,
    /// True if looop guessed from the output that the worker waits.
    #[serde(default)]
    pub guess: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkerExit {
    /// It exited with this code.
    #[strum(to_string = "exit code {0}")]
    Code(i32),
    /// This signal ended it.
    #[strum(to_string = "signal {0}")]
    Signal(i32),
}

/// The result of the checks of a worker's work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    /// True if all of them passed.
    pub ok: bool,
    /// The check that failed, or the last one.
    pub name: String,
    /// How that check ended, as text.
    pub status: String,
    /// The end of its output; untrusted text.
    pub tail: String,
    /// How long the checks took, in milliseconds.
    pub took_ms: i64,
}

impl CheckResult {
    /// Describes the result without its output.
    pub fn words(&self) -> String {
        match self.ok {
            true => format!("the check `{}` passed", self.name),
            false => format!("the check `{}` failed: {}", self.name, self.status),
        }
    }
}

/// A lease as its holder remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// The leased resource.
    pub resource: Name,
    /// The epoch under which it was acquired.
    pub epoch: u64,
}

/// The state of a worker; the content of `state.json`. It is replaced as a whole at each transition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerState {
    pub id: Name,
    pub phase: Phase,
    /// When the phase began, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// The supervisor's process.
    pub supervisor: Started,
    /// The command's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<Started>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<Flag>,
    /// The question that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Name>,
    /// The usage limit that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<UsageLimit>,
    /// For how many usage limits it has waited.
    #[serde(default)]
    pub waits: u32,
    /// How its command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<WorkerExit>,
    /// Why it ended, if the exit status does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<CheckResult>,
    /// The branch in the user's repository with its commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Why its branch could not be fetched; each beat tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfetched: Option<String>,
    /// The part of its work that exists only in its clone; `None` until it was examined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Leftovers>,
    /// The paths on that branch that execute on the user's side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_side: Vec<UserSidePath>,
    /// The leases that it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Holding>,
    /// What it reported as spent, in millionths of a US dollar.
    #[serde(default)]
    pub cost_micros: u64,
    /// How much of its output could not be written, in bytes.
    #[serde(default)]
    pub lost_bytes: u64,
    /// The number of flags that it has set.
    #[serde(default)]
    pub flags: u32,
    /// Its reports, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<Name>,
    /// How often it was resumed after its end.
    #[serde(default)]
    pub resumes: u32,
}

impl WorkerState {
    /// Creates the state of a worker that has not started.
    pub fn new(id: Name, now_ms: i64, supervisor: Started) -> WorkerState {
        WorkerState {
            id,
            phase: Phase::Starting,
            since_ms: now_ms,
            supervisor,
            child: None,
            flag: None,
            ask: None,
            limit: None,
            waits: 0,
            exit: None,
            why: None,
            verdict: None,
            branch: None,
            unfetched: None,
            left: None,
            user_side: Vec::new(),
            leases: Vec::new(),
            cost_micros: 0,
            lost_bytes: 0,
            flags: 0,
            reports: Vec::new(),
            resumes: 0,
        }
    }

    /// Describes the part of its work that exists only in its clone; `None` if there is none.
    pub fn left_words(&self) -> Option<String> {
        self.left.as_ref().filter(|left| !left.is_empty()).map(Leftovers::words)
    }

    /// Describes how it ended; `next` has the commands that bring its work in.
    pub fn end_words(&self, next: Option<&str>) -> String {
        let side_paths = (!self.user_side.is_empty()).then(|| user_side::words(&self.user_side));
        // The reason names a check that failed.
        let passed = self.verdict.as_ref().filter(|result| result.ok || self.why.is_none());
        let parts = [
            side_paths.map(|paths| format!(", changed files that run on your side: {paths}")),
            passed.map(|result| format!(": {}", result.words())),
            self.branch.as_ref().map(|branch| format!(", branch {branch}")),
            self.why.as_ref().map(|why| format!(" — {why}")),
            next.map(|next| format!("; next: {next}")),
            self.left_words().map(|left| format!("; left in its clone: {left}")),
        ];
        self.phase.to_string() + &parts.into_iter().flatten().collect::<String>()
    }

    /// Sets a flag for the user if work of an ended worker exists only in its clone: `next` brings it in.
    pub fn flag_leftovers(&mut self, next: Option<&str>, now_ms: i64) {
        let Some(words) = self.left_words() else { return };
        let next = next.map(|next| format!("; next: {next}")).unwrap_or_default();
        let text = format!("work is only in its clone: {words}{next}");
        self.flags += 1;
        self.flag = Some(Flag { text, at_ms: now_ms, nth: self.flags, guess: false });
    }

    /// True while a user is waited for.
    pub fn needs_user(&self) -> bool {
        self.flag.is_some() || self.ask.is_some()
    }
}

/// A report as the decider sees it; its name and its text come from the worker and are untrusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deliverable {
    /// The worker that delivered it.
    pub worker: Name,
    /// The name of its file.
    pub name: Name,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its text, or the start of it; `None` if it is not text.
    pub text: Option<String>,
    /// True if the text was truncated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// The part of a worker whose change wakes the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerView {
    pub id: Name,
    /// When it was started, in milliseconds since the Unix epoch. It distinguishes a worker from an earlier one with
    /// the same name. `None` in worlds of versions that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    pub goal: Option<Name>,
    pub kind: String,
    /// Its phase, such as `running` or `done`.
    pub state: String,
    /// How its command ended, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// Why it ended, if the exit status does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Why it needs the user; untrusted text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// The question that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Name>,
    /// The result of the checks, with the end of their output; untrusted text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The branch in the user's repository with its commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The part of its work that exists only in its clone; untrusted text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// The commands that bring its work in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Its reports. A report is never replaced, so its name identifies its bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<Name>,
    /// True if it was silent for longer than its limit and has no flag.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stuck: bool,
}

#[cfg(test)]
mod tests {
    use super::Objects::{Reachable, Shared};
    use super::*;

    #[test]
    fn the_choice_of_objects_is_named_in_words() {
        assert_eq!(Objects::words(None, true), "reachable if untrusted text was read, else shared");
        assert_eq!(Objects::words(None, false), "shared");
        assert_eq!(Objects::words(Some(Shared), true), "shared");
        assert_eq!(Objects::words(Some(Reachable), false), "reachable");
    }

    #[test]
    fn objects_are_reachable_by_themselves_only_after_untrusted_text_and_with_a_network() {
        for (is_tainted, has_network, by_itself) in
            [(true, true, Reachable), (true, false, Shared), (false, true, Shared), (false, false, Shared)]
        {
            assert_eq!(Objects::chosen(None, is_tainted, has_network), by_itself);
            for stated in [Shared, Reachable] {
                let chosen = Objects::chosen(Some(stated), is_tainted, has_network);
                assert_eq!(chosen, stated, "the config counts");
            }
        }
    }

    #[test]
    fn a_worker_without_its_own_budget_has_half_of_the_smallest_shared_cap() {
        let runner_micros = [("pi".to_owned(), 20)].into();
        let shared =
            Budget { hour_micros: None, day_micros: Some(100), goal_micros: Some(60), runner_micros };
        let goal: Name = "g".parse().unwrap();
        let own = |cost_micros, budget: &Budget, goal: Option<&Name>, runner| {
            let limits = WorkerLimits { cost_micros, budget: budget.clone(), ..WorkerLimits::default() };
            limits.own_budget(goal, runner).map(|(micros, _)| micros)
        };
        assert_eq!(own(Some(7), &shared, Some(&goal), "pi"), Some(7));
        assert_eq!(own(None, &shared, Some(&goal), "pi"), Some(10));
        assert_eq!(own(None, &shared, Some(&goal), "codex"), Some(30));
        assert_eq!(own(None, &shared, None, "codex"), Some(50));
        let hourly = Budget { hour_micros: Some(8), ..shared.clone() };
        assert_eq!(own(None, &hourly, None, "codex"), Some(4));
        assert_eq!(own(None, &Budget::default(), Some(&goal), "pi"), None);
    }
}
