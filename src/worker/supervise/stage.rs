//! The stages of a supervisor, one after the other: the command in its terminal, the checks of its work, and the fetch
//! of its branch.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::ending::Ending;
use super::output::{TAIL_BYTES, exit_of, is_for_now, plain};
use super::{Supervisor, now};
use crate::model::json::clip;
use crate::model::leftovers::Leftovers;
use crate::model::process::Started;
use crate::model::sandbox::{Level, Sandbox};
use crate::model::worker::{CheckResult, Phase, Spec, WorkerExit, WorkerState};
use crate::store::layout::WorkerDir;
use crate::store::{boxes, claims, file, git_watch};
use crate::sys::clock::Deadline;
use crate::sys::process::{ProcessExit, reaper, tree};
use crate::sys::pty::{self, Size, Terminal};
use crate::sys::{detach, program, sandbox, sandbox_probe};
use crate::vcs::clone::Collected;

/// The timeout for fetching the branch, in milliseconds.
const COLLECT_MS: i64 = 10 * 60_000;
/// The timeout for finding out what a clone holds, in milliseconds.
const LEFT_MS: i64 = 30_000;
/// The longest reason of a failed fetch that is kept, in characters.
const MAX_WHY_CHARS: usize = 500;

/// The current stage.
pub(super) enum Stage {
    /// The worker's command, in the terminal.
    Agent { pid: u32 },
    /// A process ended, and the processes that it left behind are being ended.
    Ending(Ending),
    /// A check of the work.
    Check { index: usize, piped: Piped },
    /// The fetch of the worker's branch, or, if `looks`, only the search for work that exists only in its clone.
    Collect { piped: Piped, looks: bool },
    /// The supervisor ends.
    Over,
}

/// A process whose output comes through a pipe.
pub(super) struct Piped {
    pid: u32,
    /// Its output; `None` once it has closed the pipe.
    pub(super) out: Option<File>,
    pub(super) tail: Vec<u8>,
    deadline: Deadline,
    began: Deadline,
}

/// The stage after an ending.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// The first check, the fetch, or the end, depending on the command's exit.
    Work,
    /// The next check, the fetch, or the end.
    AfterCheck(usize),
    Finish,
}

impl Stage {
    /// Returns how long the stage needs no check.
    pub(super) fn wait_limit(&self) -> Duration {
        match self {
            Stage::Agent { .. } | Stage::Over => Duration::from_secs(3600),
            Stage::Ending(ending) => ending.wait_limit(),
            Stage::Check { piped, .. } | Stage::Collect { piped, .. } => piped.deadline.left(),
        }
    }
}

/// Starts the worker's command.
pub(super) fn start_agent(
    dir: &WorkerDir,
    spec: &Spec,
    state: &mut WorkerState,
    size: Size,
) -> Result<Terminal> {
    let env = environment(dir, spec);
    let program = spec.argv.first().map_or("", String::as_str);
    let argv = sandbox_argv(spec.sandbox.as_ref(), Path::new(&spec.cwd), &spec.argv)?;
    let (terminal, pid) = pty::spawn(&argv, &env, Path::new(&spec.cwd), size)
        .with_context(|| format!("could not start `{program}`"))?;
    state.child =
        Some(Started { pid, start: tree::start_of(pid).unwrap_or_default(), boot: tree::boot_id() });
    Ok(terminal)
}

/// Returns the command inside its sandbox.
fn sandbox_argv(sandbox: Option<&Sandbox>, cwd: &Path, argv: &[String]) -> std::io::Result<Vec<String>> {
    match sandbox {
        None => Ok(argv.to_vec()),
        Some(sandbox) => sandbox::argv(sandbox, cwd, argv).map_err(|error| {
            std::io::Error::new(error.kind(), format!("could not sandbox `{}`: {error}", argv.join(" ")))
        }),
    }
}

/// Checks that the program exists: inside a sandbox its absence would look like its own failure.
fn is_there(argv: &[String], env: &[(String, String)], cwd: &Path) -> std::io::Result<()> {
    let path = env.iter().find(|(key, _)| key == "PATH").map_or("", |(_, path)| path.as_str());
    let found = argv.first().and_then(|program| program::find_program(program, path, cwd));
    found.map(drop).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
}

/// Returns the variables of the worker's processes besides the spec's environment.
fn environment(dir: &WorkerDir, spec: &Spec) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut env = spec.env.clone();
    env.extend([
        ("TERM".to_owned(), "xterm-256color".to_owned()),
        ("LOOOP_ID".to_owned(), spec.id.to_string()),
        ("LOOOP_SOCKET".to_owned(), text(&dir.worker_socket())),
        ("LOOOP_BRIEF".to_owned(), text(&dir.brief())),
    ]);
    env
}

/// Returns why the program did not start in this sandbox, from the end of the outer process.
fn not_begun(sandbox: Option<&Sandbox>, exit: WorkerExit, stated: &[u8]) -> Option<String> {
    sandbox.and_then(|sandbox| sandbox.engine.as_ref())?;
    let WorkerExit::Code(code) = exit else { return None };
    match sandbox::outer_exit(code, stated) {
        ProcessExit::NotStarted(why) => Some(why),
        _ => None,
    }
}

impl Supervisor {
    /// Returns the current source of output.
    pub(super) fn output(&self) -> Option<&File> {
        match &self.stage {
            Stage::Check { piped, .. } | Stage::Collect { piped, .. } => piped.out.as_ref(),
            _ => self.terminal.as_ref().map(Terminal::file),
        }
    }

    /// Writes typed keys, as many as the terminal takes.
    pub(super) fn type_keys(&mut self) {
        let Some(mut terminal) = self.terminal.as_ref().map(Terminal::file) else { return self.keys.clear() };
        match terminal.write(&self.keys) {
            Ok(count) => drop(self.keys.drain(..count)),
            Err(error) if is_for_now(&error) => {}
            Err(_) => self.keys.clear(),
        }
    }

    /// Handles each process that has ended.
    pub(super) fn reap(&mut self) {
        while let Some((pid, status)) = reaper::reap() {
            self.helper_ended(pid);
            let is_main = match &self.stage {
                Stage::Agent { pid: agent } => *agent == pid,
                Stage::Check { piped, .. } | Stage::Collect { piped, .. } => piped.pid == pid,
                _ => false,
            };
            if is_main {
                // The rest of the pipe or terminal belongs to it.
                self.drain();
                self.ended(exit_of(status, self.outer == Some(pid)));
            } else if self.state.child.as_ref().is_some_and(|child| child.pid == pid)
                && self.state.exit.is_none()
            {
                self.state.exit = Some(exit_of(status, self.spec.level() == Level::Full));
            }
        }
    }

    fn ended(&mut self, exit: WorkerExit) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Agent { .. } => {
                self.meter_rest();
                self.state.exit = Some(exit);
                if let Some(why) = self.agent_not_begun(exit) {
                    self.verdict.get_or_insert((Phase::Failed, why));
                }
                self.flag_by_status = false;
                if self.state.ask.take().is_some() | self.state.flag.take().is_some() {
                    self.need_changed();
                }
                self.stage = Stage::Ending(Ending::begin(Next::Work));
            }
            Stage::Check { index, piped } => {
                self.judge(index, &piped, exit);
                self.stage = Stage::Ending(Ending::begin(Next::AfterCheck(index)));
            }
            Stage::Collect { piped, looks } => {
                self.collected(&piped, exit, looks);
                self.stage = Stage::Ending(Ending::begin(Next::Finish));
            }
            other => self.stage = other,
        }
    }

    /// Returns why its command did not start, if its sandbox could not be made: then its terminal holds nothing else.
    fn agent_not_begun(&self, exit: WorkerExit) -> Option<String> {
        let stated = file::read(&self.dir.transcript(), TAIL_BYTES).ok().flatten()?;
        not_begun(self.spec.sandbox.as_ref(), exit, &stated).or_else(|| self.network_failed(exit, &stated))
    }

    /// Returns why pasta did not make the network. The terminal does not show pasta's messages, so this tries pasta
    /// once more, and deletes the cached probe so that the next start does not rely on it.
    fn network_failed(&self, exit: WorkerExit, stated: &[u8]) -> Option<String> {
        let sandbox = self.spec.sandbox.as_ref().filter(|sandbox| sandbox.has_pasta())?;
        if exit != WorkerExit::Code(1) || !stated.is_empty() {
            return None;
        }
        let why = sandbox_probe::try_internet(sandbox).err()?;
        boxes::forget_powers(&self.layout);
        Some(format!("the network of its sandbox could not be made: {why} (`looop doctor` tries again)"))
    }

    /// Handles the worker's report that its work is done: the end of the program is not a failure then.
    pub(super) fn work_done(&mut self) {
        if matches!(self.stage, Stage::Agent { .. }) {
            self.ended(WorkerExit::Code(0));
        }
    }

    fn judge(&mut self, index: usize, piped: &Piped, exit: WorkerExit) {
        let Some(check) = self.spec.verify.get(index) else { return };
        let late = piped.deadline.passed();
        let status = match not_begun(self.spec.checks_sandbox.as_ref(), exit, &piped.tail) {
            _ if late => "ended at its deadline".to_owned(),
            Some(why) => format!("it could not be started: {why}"),
            None => exit.words(),
        };
        let from = piped.tail.len().saturating_sub(TAIL_BYTES);
        let before = self.state.verdict.as_ref().map_or(0, |verdict| verdict.took_ms);
        self.state.verdict = Some(CheckResult {
            ok: exit == WorkerExit::Code(0) && !late,
            name: check.name.clone(),
            status,
            tail: self.secrets.redact(&plain(&piped.tail[from..])).into_owned(),
            took_ms: before.saturating_add(piped.began.spent_ms()),
        });
    }

    fn collected(&mut self, piped: &Piped, exit: WorkerExit, looks: bool) {
        let stated = self.secrets.redact(&String::from_utf8_lossy(&piped.tail)).into_owned();
        let stated: serde_json::Value = serde_json::from_str(stated.trim()).unwrap_or(stated.trim().into());
        let found = serde_json::from_value::<Collected>(stated["collected"].clone()).ok();
        match (exit, found) {
            (WorkerExit::Code(0), Some(found)) => {
                if found.branch.is_some() {
                    (self.state.branch, self.state.user_side) = (found.branch, found.user_side);
                }
                self.state.left = Some(found.left);
                self.looked = true;
            }
            _ => {
                let notified =
                    stated["error"].as_str().or(stated.as_str()).filter(|notified| !notified.is_empty());
                let why = match (piped.deadline.passed(), notified) {
                    (true, _) => "it ran into its timeout".to_owned(),
                    (false, Some(notified)) => clip(notified, MAX_WHY_CHARS),
                    (false, None) => exit.words(),
                };
                if looks {
                    self.state.left = Some(Leftovers { unclear: Some(why), ..Leftovers::default() });
                } else {
                    self.verdict = Some((Phase::Failed, format!("its branch could not be fetched: {why}")));
                    self.state.unfetched = Some(why);
                }
            }
        }
    }

    /// Starts the next stage when the current one is finished.
    pub(super) fn advance(&mut self) {
        if matches!(&self.stage, Stage::Check { piped, .. } | Stage::Collect { piped, .. } if piped.deadline.passed())
        {
            // A process that runs on is ended with everything else that is left.
            self.ended(WorkerExit::Signal(0));
        }
        let Stage::Ending(ending) = &mut self.stage else { return };
        let Some(next) = ending.step(&self.helpers, self.outer) else { return };
        self.drain();
        let ended_well = self.state.exit == Some(WorkerExit::Code(0)) && self.verdict.is_none();
        match next {
            Next::Work if ended_well => self.check(0),
            Next::AfterCheck(index) if self.verdict.is_none() && self.passed() => self.check(index + 1),
            _ => self.close(),
        }
    }

    fn passed(&self) -> bool {
        self.state.verdict.as_ref().is_some_and(|verdict| verdict.ok)
    }

    /// Starts the check with this number; after the last one comes the fetch.
    fn check(&mut self, index: usize) {
        let Some(check) = self.spec.verify.get(index).cloned() else { return self.collect() };
        self.turn_to(Phase::Verifying);
        let env = environment(&self.dir, &self.spec);
        let cwd = Path::new(&self.spec.cwd);
        let sandbox = self.spec.checks_sandbox.as_ref();
        let begun = is_there(&check.argv, &env, cwd)
            .and_then(|()| sandbox_argv(sandbox, cwd, &check.argv))
            .and_then(|argv| detach::spawn_piped(&argv, &env, cwd, true));
        match begun {
            Ok((out, pid)) => {
                self.terminal = None;
                self.outer = self.spec.checks_sandbox.as_ref().and_then(|b| b.engine.as_ref().map(|_| pid));
                self.stage = Stage::Check { index, piped: Piped::new(pid, out, self.spec.limits.verify_ms) };
            }
            Err(error) => {
                self.state.verdict = Some(CheckResult {
                    ok: false,
                    name: check.name,
                    status: format!("it could not be started: {error}"),
                    tail: String::new(),
                    took_ms: 0,
                });
                self.close();
            }
        }
    }

    /// Starts the fetch of the branch, if there is a repository and the leases are still held.
    fn collect(&mut self) {
        if self.spec.repo.is_none() {
            return self.finish();
        }
        let fence = self.fenced(|| Ok(self.start_collect(&[])?));
        match fence {
            Ok(Ok((out, pid))) => {
                self.stage = Stage::Collect { piped: Piped::new(pid, out, COLLECT_MS), looks: false };
            }
            Ok(Err(refusal)) => self.fail(&format!("its branch was not fetched: {refusal}")),
            Err(error) => self.fail(&format!("its branch could not be fetched: {error:#}")),
        }
    }

    fn start_collect(&self, more: &[&str]) -> std::io::Result<(File, u32)> {
        let root = self.layout.root().to_string_lossy().into_owned();
        let own = program::self_path().to_string_lossy().into_owned();
        let mut argv = vec![own, "__fetch-branch".to_owned(), root, self.spec.id.to_string()];
        argv.extend(more.iter().map(|arg| (*arg).to_owned()));
        detach::spawn_piped(&argv, &self.spec.env, Path::new("/"), false)
    }

    /// Finds out which work exists only in the clone, if that is unknown, and finishes.
    fn close(&mut self) {
        if self.spec.repo.is_none() || std::mem::replace(&mut self.looked, true) {
            return self.finish();
        }
        match self.start_collect(&["--look"]) {
            Ok((out, pid)) => {
                self.terminal = None;
                self.stage = Stage::Collect { piped: Piped::new(pid, out, LEFT_MS), looks: true };
            }
            Err(error) => {
                self.state.left =
                    Some(Leftovers { unclear: Some(error.to_string()), ..Leftovers::default() });
                self.finish();
            }
        }
    }

    fn fail(&mut self, why: &str) {
        self.verdict = Some((Phase::Failed, why.to_owned()));
        self.close();
    }

    /// Everything has ended: writes the final state of the worker and releases its leases.
    fn finish(&mut self) {
        match git_watch::end(&self.dir.git_watch()) {
            Ok(new) => self.state.user_side.extend(new),
            // The next beat tries again.
            Err(error) => self.state.why = Some(format!("{error:#}")),
        }
        let (phase, why) = match self.verdict.take() {
            Some((phase, why)) => (phase, Some(why)),
            None => self.outcome(),
        };
        // A result does not count if another holder has a lease by now.
        let fence = self.fenced(|| Ok(()));
        let (phase, why) = match fence {
            Ok(Err(refusal)) if phase == Phase::Done || phase == Phase::Exited => {
                self.state.verdict = None;
                (Phase::Failed, Some(format!("its end does not count: {refusal}")))
            }
            _ => (phase, why),
        };
        let was_needed = self.state.needs_human();
        self.state.flag = None;
        self.state.ask = None;
        self.state.why = why.map(|why| self.secrets.redact(&why).into_owned());
        self.stage = Stage::Over;
        self.wall = Deadline::after_ms(super::LAST_MS);
        if let Err(error) = claims::release(&self.layout, &self.claimant.holder, &self.state.leases) {
            self.event("lease_not_released", &format!("{error:#}"));
        }
        self.state.leases.clear();
        self.state.phase = phase;
        self.state.since_ms = now().unix_ms;
        let next = self.next_step();
        self.state.flag_leftovers(next.as_deref(), now().unix_ms);
        self.save();
        if self.unsaved.is_none() {
            self.journal();
        }
        if was_needed || self.state.needs_human() {
            self.surface();
        }
    }

    fn outcome(&self) -> (Phase, Option<String>) {
        match (self.state.exit, &self.state.verdict) {
            (Some(WorkerExit::Code(0)), None) => (Phase::Exited, None),
            (Some(WorkerExit::Code(0)), Some(verdict)) if verdict.ok => (Phase::Done, None),
            (Some(WorkerExit::Code(0)), Some(verdict)) => {
                (Phase::Failed, Some(format!("the check `{}` failed: {}", verdict.name, verdict.status)))
            }
            (Some(exit), _) => (Phase::Failed, Some(exit.words())),
            (None, _) => (Phase::Failed, Some("its end was not observed".to_owned())),
        }
    }
}

impl Piped {
    fn new(pid: u32, out: File, timeout_ms: i64) -> Piped {
        let deadline = Deadline::after_ms(timeout_ms);
        Piped { pid, out: Some(out), tail: Vec::new(), deadline, began: Deadline::after_ms(0) }
    }
}
