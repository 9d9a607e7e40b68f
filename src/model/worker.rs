//! Pure. A worker: what it was started with, where it stands, and what of it the world shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::beat::Started;
use super::boxing::{Boxed, Level, Net};
use super::budget::Budget;
use super::leftovers::{Leftovers, next_step};
use super::name::Name;
use super::user_side::UserSidePath;

/// What a worker was started with; the form of `spec.json`. Written once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The worker's name.
    pub id: Name,
    /// The goal that it works for.
    pub goal: Option<Name>,
    /// What kind of worker: `agent`, or `command` where a human gave the argument vector.
    pub kind: String,
    /// The runner whose worker command it is; none where a human gave the argument vector.
    pub runner: Option<String>,
    /// The command; the first element is an absolute path.
    pub argv: Vec<String>,
    /// The directory it runs in, absolute.
    pub cwd: String,
    /// Its whole environment but for the variables that looop adds.
    pub env: Vec<(String, String)>,
    /// The commands that decide whether its work is done, in order; empty: nobody decides.
    pub verify: Vec<Check>,
    /// Names of things that only this worker may work on, besides its goal.
    pub claims: Vec<String>,
    /// The repository that it works on a private clone of.
    pub repo: Option<Repo>,
    /// Which objects of that repository its clone holds; none where it has no clone, or an earlier version made it.
    #[serde(default)]
    pub objects: Option<Objects>,
    /// Its box; none: it runs as the human.
    #[serde(default)]
    pub boxed: Option<Boxed>,
    /// The box of its checks.
    #[serde(default)]
    pub checks_boxed: Option<Boxed>,
    /// Its limits.
    pub limits: WorkerLimits,
    /// A command that gets each flag and ask as JSON on stdin; empty: none.
    #[serde(default)]
    pub notify: Vec<String>,
    /// The tmux server of the human who is to be shown its flags: the value of `TMUX`.
    #[serde(default)]
    pub tmux: Option<String>,
    /// Who started it: a beat's id, or `human`.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_ms: i64,
}

impl Spec {
    /// What to do next with its work, as commands. `clone` is its clone's path.
    pub fn next_step(&self, state: &State, clone: &str) -> Option<String> {
        let repo = self.repo.as_ref().filter(|_| state.phase.is_over())?;
        next_step(repo, state, clone)
    }

    /// How much of a sandbox it runs in.
    pub fn level(&self) -> Level {
        self.boxed.as_ref().map_or(Level::None, Boxed::level)
    }

    /// True where it can reach anything but itself.
    pub fn has_network(&self) -> bool {
        self.boxed.as_ref().is_none_or(|boxed| boxed.walls.net != Net::Off)
    }

    /// If true, the process that really starts and the checks of its work run in a full sandbox: the checks run what
    /// it wrote.
    pub fn is_full(&self) -> bool {
        let is_full =
            |boxed: &Option<Boxed>| boxed.as_ref().is_some_and(|boxed| boxed.level() == Level::Full);
        is_full(&self.boxed) && is_full(&self.checks_boxed)
    }

    /// How it and its checks are boxed, for a human who is asked.
    pub fn box_words(&self) -> String {
        let words = |boxed: &Option<Boxed>| boxed.as_ref().map_or(Level::None, Boxed::level).word();
        format!("{}; its checks: {}", words(&self.boxed), words(&self.checks_boxed))
    }

    /// What of the network it and its checks have, for a human who is asked.
    pub fn network_words(&self) -> String {
        let words = |boxed: &Option<Boxed>| match boxed {
            Some(boxed) => network_words(&boxed.walls.net, !boxed.walls.forward.is_empty()),
            None => network_words(&Net::On, false),
        };
        format!("{}; its checks: {}", words(&self.boxed), words(&self.checks_boxed))
    }
}

/// What there is of the network, in words.
pub fn network_words(net: &Net, to_model: bool) -> String {
    match net {
        Net::On => "all, and the services of this machine".to_owned(),
        Net::Internet => "the internet, not the services of this machine".to_owned(),
        Net::Off if to_model => "its model alone".to_owned(),
        Net::Off => "none".to_owned(),
        Net::Ports(ports) => format!("ports {ports:?}"),
    }
}

/// One command that decides whether work is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The entry's name in the config or goal.
    pub name: String,
    /// The command; it runs in the worker's directory.
    pub argv: Vec<String>,
}

/// The repository of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repo {
    /// The human's repository, absolute.
    pub source: String,
    /// The commit that the clone began with.
    pub base: String,
    /// The branch that the worker's commits come back on.
    pub branch: String,
}

/// Which objects of a repository a worker's clone holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objects {
    /// All of them, by a place that the clone borrows from: other branches, stashes, and what was staged once.
    #[default]
    Shared,
    /// Those that its first commit needs, as a pack of its own.
    Reachable,
}

impl Objects {
    /// The choice as the one word of the config and of JSON.
    pub fn word(self) -> &'static str {
        match self {
            Objects::Shared => "shared",
            Objects::Reachable => "reachable",
        }
    }

    /// What a worker gets where the config says nothing: text of strangers and a network together could carry away
    /// what only the history holds.
    pub fn chosen(config: Option<Objects>, is_tainted: bool, has_network: bool) -> Objects {
        let by_itself = if is_tainted && has_network { Objects::Reachable } else { Objects::Shared };
        config.unwrap_or(by_itself)
    }

    /// The choice in words, for a person who is asked before it is made.
    pub fn words(config: Option<Objects>, has_network: bool) -> &'static str {
        match (config, has_network) {
            (None, true) => "reachable if text of strangers was read, else shared",
            (config, _) => config.unwrap_or_default().word(),
        }
    }
}

/// A worker's limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerLimits {
    /// Its longest life, in milliseconds.
    pub wall_ms: i64,
    /// After how long without output it counts as stuck, in milliseconds.
    pub idle_ms: i64,
    /// The deadline of each check, in milliseconds.
    pub verify_ms: i64,
    /// How much of its output is kept, in bytes.
    pub keep_bytes: u64,
    /// How much it may print before it is ended, in bytes.
    pub output_bytes: u64,
    /// How much it may spend before it is ended, in millionths of a US dollar.
    pub cost_micros: Option<u64>,
    /// What all may spend together.
    #[serde(default)]
    pub budget: Budget,
    /// The lifetime of its leases between two renewals, in seconds.
    pub ttl_s: u64,
}

impl Default for WorkerLimits {
    fn default() -> WorkerLimits {
        WorkerLimits {
            wall_ms: 12 * 3_600_000,
            idle_ms: 15 * 60_000,
            verify_ms: 30 * 60_000,
            keep_bytes: 256 << 20,
            output_bytes: 4 << 30,
            cost_micros: None,
            budget: Budget::default(),
            ttl_s: 60,
        }
    }
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its command has not begun.
    Starting,
    /// Its command runs.
    Running,
    /// Its command runs and a human is waited for: there is a flag or an ask.
    Waiting,
    /// Its command ended well and nobody was told to check the work.
    Exited,
    /// Its command ended well and the work is being checked.
    Verifying,
    /// The work was checked and is good.
    Done,
    /// Its command or a check ended badly, or a limit was reached.
    Failed,
    /// A human or a move ended it.
    Killed,
    /// Its supervisor is gone and nobody saw the end.
    Lost,
    /// Its supervisor is stopped or frozen, and does not answer. No supervisor writes this: it is seen from outside.
    Stopped,
}

impl Phase {
    /// True when nothing more comes.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Exited | Phase::Done | Phase::Failed | Phase::Killed | Phase::Lost)
    }

    /// The phase as the one word that is its form in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Waiting => "waiting",
            Phase::Exited => "exited",
            Phase::Verifying => "verifying",
            Phase::Done => "done",
            Phase::Failed => "failed",
            Phase::Killed => "killed",
            Phase::Lost => "lost",
            Phase::Stopped => "stopped",
        }
    }
}

/// A worker's call for a human.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// What it needs, in its own words; untrusted text.
    pub text: String,
    /// When it was raised, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// How many flags this worker had raised with this one; a flag is surfaced once.
    pub nth: u32,
    /// True when nobody said so and it only looks like it.
    #[serde(default)]
    pub guess: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The end in words: `exit code 3`, `signal 9`.
    pub fn words(self) -> String {
        match self {
            Exit::Code(code) => format!("exit code {code}"),
            Exit::Signal(signal) => format!("signal {signal}"),
        }
    }
}

/// What the checks of a worker's work said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// True: all of them passed.
    pub ok: bool,
    /// The check that failed, or the last one.
    pub name: String,
    /// How that check ended, in words.
    pub status: String,
    /// The end of what it printed; untrusted text.
    pub tail: String,
    /// How long the checks took, in milliseconds.
    pub took_ms: i64,
}

/// A lease as its holder remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// What is leased.
    pub resource: Name,
    /// The epoch under which it was acquired.
    pub epoch: u64,
}

/// Where a worker stands; the form of `state.json`. Replaced as a whole at each transition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The worker's name.
    pub id: Name,
    /// Where it stands.
    pub phase: Phase,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// The supervisor's process.
    pub supervisor: Started,
    /// The command's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<Started>,
    /// Its call for a human.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<Flag>,
    /// The question that it waits on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Name>,
    /// How its command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Why it ended as it did, where the exit does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the checks said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The branch on which its commits are in the human's repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Why its branch could not be fetched; each beat tries it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfetched: Option<String>,
    /// What of its work is in its clone alone; none until somebody has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Leftovers>,
    /// The paths on that branch that execute on the user's side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_side: Vec<UserSidePath>,
    /// The leases that it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Holding>,
    /// What it reported to have spent, in millionths of a US dollar.
    #[serde(default)]
    pub cost_micros: u64,
    /// How much of its output could not be written down, in bytes.
    #[serde(default)]
    pub lost_bytes: u64,
    /// How many flags it has raised.
    #[serde(default)]
    pub flags: u32,
    /// What it has handed in, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<Name>,
}

impl State {
    /// The state of a worker that has not begun.
    pub fn new(id: Name, now_ms: i64, supervisor: Started) -> State {
        State {
            id,
            phase: Phase::Starting,
            since_ms: now_ms,
            supervisor,
            child: None,
            flag: None,
            ask: None,
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
        }
    }

    /// What of its work is in its clone alone, in words; none where that is nothing.
    pub fn left_words(&self) -> Option<String> {
        self.left.as_ref().filter(|left| !left.is_empty()).map(Leftovers::words)
    }

    /// Calls for the user where an ended worker's work is in its clone alone: `next` brings it in.
    pub fn flag_leftovers(&mut self, next: Option<&str>, now_ms: i64) {
        let Some(words) = self.left_words() else { return };
        let next = next.map(|next| format!("; next: {next}")).unwrap_or_default();
        let text = format!("work is left in its clone: {words}{next}");
        self.flags += 1;
        self.flag = Some(Flag { text, at_ms: now_ms, nth: self.flags, guess: false });
    }

    /// The commands by which a person sees what the worker calls for. One that has ended has no screen to attach to.
    pub fn look_commands(&self) -> String {
        let id = &self.id;
        match self.phase.is_over() {
            true => format!("looop ls --all, looop logs {id}"),
            false => format!("looop attach {id}"),
        }
    }

    /// True while a human is waited for.
    pub fn needs_human(&self) -> bool {
        self.flag.is_some() || self.ask.is_some()
    }
}

/// A report as the decider sees it; the name and the text are the worker's and untrusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Who handed it in.
    pub worker: Name,
    /// Its file's name.
    pub name: Name,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// Its text, or the beginning of it; none where it is no text.
    pub text: Option<String>,
    /// True when there is more of it than the text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// The part of a worker whose change wakes the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerView {
    /// The worker's name.
    pub id: Name,
    /// When it was started, in milliseconds since the Unix epoch: one of a name that was there before is another
    /// worker, and its end is another end. None in worlds of before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// The goal that it works for.
    pub goal: Option<Name>,
    /// What kind of worker.
    pub kind: String,
    /// Where it stands, as `running` or `done`.
    pub state: String,
    /// How its command ended, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// Why it ended as it did, where the exit does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it needs a human for; untrusted text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// The question that it waits on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Name>,
    /// What the checks said, with the end of their output; untrusted text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// The branch on which its commits are in the human's repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What of its work is in its clone alone; untrusted text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// The commands that bring its work in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What it has handed in. A report is never replaced, so that its name stands for its bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<Name>,
    /// True when it was silent for longer than its limit and raised no flag.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stuck: bool,
}

#[cfg(test)]
mod tests {
    use super::Objects::{Reachable, Shared};
    use super::*;

    #[test]
    fn the_choice_of_objects_is_named_in_words() {
        assert_eq!(Objects::words(None, true), "reachable if text of strangers was read, else shared");
        assert_eq!(Objects::words(None, false), "shared");
        assert_eq!(Objects::words(Some(Shared), true), "shared");
        assert_eq!(Objects::words(Some(Reachable), false), "reachable");
    }

    #[test]
    fn objects_are_reachable_by_themselves_only_after_text_of_strangers_and_with_a_network() {
        for (is_tainted, has_network, by_itself) in
            [(true, true, Reachable), (true, false, Shared), (false, true, Shared), (false, false, Shared)]
        {
            assert_eq!(Objects::chosen(None, is_tainted, has_network), by_itself);
            for said in [Shared, Reachable] {
                assert_eq!(Objects::chosen(Some(said), is_tainted, has_network), said, "the config counts");
            }
        }
    }
}
