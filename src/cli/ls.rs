//! `looop ls`, `looop worker show` and `looop wait`: the workers, and which of them need the user.

use std::collections::BTreeMap;

use anyhow::Result;

use super::json_output::{WaitJson, Waiting, WorkerJson};
use super::{App, Cancel, Fault, Name, clip, complete, dollars, human_ms, pick, print, visible};
use crate::os::clock::{self, Deadline};
use crate::os::process::wait::wait_readable;
use crate::rules::beat::ask::QuestionState;
use crate::rules::time::{Now, parse_ms};
use crate::rules::user_side;
use crate::rules::worker::{CheckResult, Flag, Phase, WorkerEnd, WorkerExit};
use crate::store::layout::Layout;
use crate::store::workers::{self, Past, Worker};
use crate::store::{lock, state_files};
use crate::worker::fleet;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop ls --watch\n  looop ls --all")]
pub struct Args {
    /// Show archived workers too.
    #[arg(long)]
    all: bool,
    /// Refresh the list every second until interrupted.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

#[derive(Debug, clap::Args)]
pub struct WorkerShowArgs {
    /// The worker, or the unique beginning of its name; archived workers too.
    #[arg(add = complete::worker_ids())]
    id: String,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 3 you are needed, 124 timed out. Without WORKER: 0 nothing is running. With WORKER: 0 it is \
                  done, 1 it failed, 4 you or a move stopped it.\n\nExamples:\n  looop wait --timeout 30m; echo $?\n  \
                  looop wait fix-ci; echo $?"
)]
pub struct WaitArgs {
    /// Wait for the end of this worker, or until it needs you.
    #[arg(add = complete::worker_ids())]
    worker: Option<String>,
    /// The timeout.
    #[arg(long, value_name = "TIME", value_parser = parse_ms)]
    timeout: Option<i64>,
}

/// The longest remark about a worker, in characters; a narrower terminal shows less.
const WORDS_CHARS: usize = 160;
/// How often a waiting command checks, in milliseconds.
const POLL_MS: i64 = 200;

// The exit codes of `looop wait`, besides 0 and 1.
const NEEDED: u8 = 3;
const STOPPED: u8 = 4;
/// As timeout(1) has it.
const TIMED_OUT: u8 = 124;
/// As a shell has it after SIGINT.
const INTERRUPTED: u8 = 130;

/// Which workers a verb accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// Workers that run.
    Live,
    /// All workers that are not archived.
    Any,
}

/// Chooses a worker: by its name or a unique beginning of it, else the newest flagged one, else the only one.
///
/// # Errors
/// None or several workers fit; the error lists them.
pub fn choose(app: &App, wanted: Option<&str>, chosen: Chosen) -> Result<Worker> {
    let (all, _) = workers::list(&app.layout)?;
    let fits: Vec<Worker> =
        all.into_iter().filter(|w| chosen == Chosen::Any || !w.state.phase.is_over()).collect();
    if let Some(wanted) = wanted {
        return pick("worker", wanted, fits, |w| w.spec.id.as_str());
    }
    let since = |w: &Worker| w.state.flag.as_ref().map_or(w.state.since_ms, |flag| flag.at_ms);
    let newest = fits.iter().filter(|w| w.state.needs_user()).max_by_key(|w| since(w));
    if let Some(worker) = newest.or(fits.first().filter(|_| fits.len() == 1)) {
        return Ok(worker.clone());
    }
    let names: Vec<&str> = fits.iter().map(|w| w.spec.id.as_str()).collect();
    let fault = Fault::usage("could not choose a worker: you named none, and none needs you");
    Err(match names.len() {
        0 => fault.hint("no worker exists; `looop worker start` starts one"),
        _ => fault.hint(format!("name one: {}", names.join(", "))),
    }
    .into())
}

/// A worker that a verb for all workers accepts.
pub enum KnownWorker {
    Present(Box<Worker>),
    Archived(Box<Past>),
}

impl KnownWorker {
    /// The public form of the worker.
    fn row(&self, app: &App, now: Now) -> WorkerJson {
        match self {
            KnownWorker::Present(worker) => row(&app.layout, worker, now),
            KnownWorker::Archived(past) => past_row(&app.layout, past),
        }
    }
}

/// Finds a worker: one that is not archived, as [`choose`] does, else the newest archived one of that name.
pub fn find(app: &App, wanted: Option<&str>) -> Result<KnownWorker> {
    let unknown = match choose(app, wanted, Chosen::Any) {
        Ok(worker) => return Ok(KnownWorker::Present(Box::new(worker))),
        Err(error) => error,
    };
    let Some(wanted) = wanted else { return Err(unknown) };
    let past = workers::past(&app.layout)?.into_iter().map(|past| (past.id.clone(), past));
    let newest_of_each_name: BTreeMap<Name, Past> = past.collect();
    match pick("worker", wanted, newest_of_each_name, |(id, _)| id.as_str()) {
        Ok((_, past)) => Ok(KnownWorker::Archived(Box::new(past))),
        // This error lists the workers that are not archived.
        Err(_) => Err(unknown),
    }
}

/// Lists workers.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    if !args.watch {
        let (rows, problems) = rows(app, args, app.now)?;
        if app.json {
            problems.iter().for_each(|problem| print::note(&format!("warning: {problem}")));
            return print::answer("workers", rows);
        }
        return print::page(table(app, &rows, &problems, app.now));
    }
    let cancel = Cancel::on_signals()?;
    let mut before = String::new();
    while !cancel.is_set() {
        let now = clock::now();
        let (rows, problems) = rows(app, args, now)?;
        let text = table(app, &rows, &problems, now);
        if text != before {
            print::screen(&text);
            before = text;
        }
        wait_readable(&[&cancel.fd()], 1000);
    }
    Ok(0)
}

fn rows(app: &App, args: &Args, now: Now) -> Result<(Vec<WorkerJson>, Vec<String>)> {
    let (all, problems) = sorted(app)?;
    let mut rows: Vec<WorkerJson> = all.iter().map(|worker| row(&app.layout, worker, now)).collect();
    if args.all {
        rows.extend(workers::past(&app.layout)?.iter().rev().map(|past| past_row(&app.layout, past)));
    }
    Ok((rows, problems))
}

/// Lists the workers that are not archived: first those that need the user, then those that run, newest first.
pub fn sorted(app: &App) -> Result<(Vec<Worker>, Vec<String>)> {
    let (mut all, problems) = workers::list(&app.layout)?;
    all.sort_by_key(|w| (!w.state.needs_user(), w.state.phase.is_over(), -w.spec.created_ms));
    Ok((all, problems))
}

/// The public form of a worker that is not archived: what its archive will say, in full, and its present state.
pub fn row(layout: &Layout, worker: &Worker, now: Now) -> WorkerJson {
    let (spec, state) = (&worker.spec, &worker.state);
    let clone = layout.worker(&spec.id).clone_dir().to_string_lossy().into_owned();
    WorkerJson {
        flag: state.flag.clone(),
        ask: state.ask.clone(),
        limit: state.limit.clone(),
        pid: Some(state.supervisor.pid),
        idle_s: (!state.phase.is_over()).then(|| now.elapsed_ms(worker.printed_ms) / 1000),
        stuck: fleet::is_stuck(worker, now),
        why: state.why.clone(),
        verify: state.verdict.clone(),
        objects: spec.objects,
        repo: spec.repo.as_ref().map(|repo| repo.source.clone()),
        left: state.left_words(),
        next: spec.next_step(state, &clone),
        clone: spec.repo.as_ref().map(|_| clone),
        lease: state.leases.clone(),
        lost_bytes: Some(state.lost_bytes),
        sandbox: Some(spec.level()),
        past: None,
        ..past_row(layout, &Past::of(layout, worker))
    }
}

fn past_row(layout: &Layout, past: &Past) -> WorkerJson {
    let clone = || layout.past_worker(&past.dir).clone_dir().to_string_lossy().into_owned();
    WorkerJson {
        id: past.id.clone(),
        goal: past.goal.clone(),
        kind: past.kind.clone(),
        runner: past.runner.clone(),
        state: past.phase,
        since_ms: past.ended_ms,
        flag: None,
        ask: None,
        limit: None,
        pid: None,
        started_ms: past.created_ms,
        idle_s: None,
        stuck: false,
        exit: past.exit,
        why: past.why.clone(),
        verify: past.verify.clone(),
        branch: past.branch.clone(),
        objects: None,
        repo: None,
        left: past.left.clone(),
        next: past.next.clone(),
        clone: past.next.as_ref().or(past.left.as_ref()).map(|_| clone()),
        user_side: past.user_side.clone(),
        lease: Vec::new(),
        cost_usd: past.cost_micros as f64 / 1e6,
        lost_bytes: None,
        sandbox: None,
        past: Some(past.dir.clone()),
    }
}

/// Shows one worker with all that the list knows of it.
pub fn show(app: &App, args: &WorkerShowArgs) -> Result<u8> {
    let worker = find(app, Some(&args.id))?.row(app, app.now);
    if app.json {
        return print::answer("worker", worker);
    }
    let since = |ms| human_ms(app.now.elapsed_ms(ms));
    let stuck = if worker.stuck { "; it may be stuck" } else { "" };
    let flag = |flag: Flag| format!("{}{}", flag.text, if flag.guess { " (a guess)" } else { "" });
    let leases = worker.lease.iter().map(|lease| format!("{} (epoch {})", lease.resource, lease.epoch));
    let leases = leases.collect::<Vec<_>>().join(", ");
    let check =
        |check: CheckResult| format!("{} {} in {}", check.name, check.status, human_ms(check.took_ms));
    let rows = [
        ("worker", Some(worker.id.to_string())),
        ("state", Some(format!("{} for {}", worker.state, since(worker.since_ms)))),
        ("goal", worker.goal.map(|goal| goal.to_string())),
        ("runner", worker.runner.or(Some(worker.kind))),
        ("started", Some(format!("{} ago", since(worker.started_ms)))),
        ("silent", worker.idle_s.map(|seconds| format!("for {}{stuck}", human_ms(seconds * 1000)))),
        ("flag", worker.flag.map(flag)),
        ("question", worker.ask.map(|ask| ask.to_string())),
        ("reason", worker.why),
        ("exit", worker.exit.map(|exit| exit.to_string())),
        ("check", worker.verify.map(check)),
        ("leases", Some(leases).filter(|leases| !leases.is_empty())),
        ("spent", Some(dollars((worker.cost_usd * 1e6).round() as u64))),
        ("sandbox", worker.sandbox.map(|level| level.to_string())),
        ("process", worker.pid.map(|pid| pid.to_string())),
        ("repo", worker.repo),
        ("clone", worker.clone),
        ("branch", worker.branch),
        ("beware", Some(user_side::words(&worker.user_side)).filter(|_| !worker.user_side.is_empty())),
        ("left", worker.left),
        ("archive", worker.past.map(|dir| format!("workers/past/{dir}"))),
        ("next", worker.next),
    ];
    for (key, text) in rows.iter().filter_map(|(key, text)| Some((key, text.as_ref()?))) {
        print::line(&format!("{} {}", app.style.bold(&format!("{key:<8}")), visible(text, false)));
    }
    Ok(0)
}

fn table(app: &App, workers: &[WorkerJson], problems: &[String], now: Now) -> String {
    let head = ["WORKER", "STATE", "GOAL", "AGE", "IDLE", "SPENT", ""].map(|cell| app.style.dim(cell));
    let rows: Vec<Vec<String>> =
        std::iter::once(head.to_vec()).chain(workers.iter().map(|worker| cells(app, worker, now))).collect();
    let mut out = if workers.is_empty() { "no workers\n".to_owned() } else { print::table(&rows) };
    for worker in workers {
        let id = worker.past.as_deref().unwrap_or(worker.id.as_str());
        let left = worker.left.as_ref().map(|left| format!(" left in its clone: {left};"));
        let left = left.unwrap_or_default();
        out.extend(worker.next.as_ref().map(|next| format!("{id}:{left} next: {next}\n")));
    }
    out.extend(problems.iter().map(|problem| format!("warning: {problem}\n")));
    out
}

fn cells(app: &App, worker: &WorkerJson, now: Now) -> Vec<String> {
    let style = app.style;
    let flag = if worker.flag.is_some() || worker.ask.is_some() { "⚑" } else { "" };
    let word = match worker.state {
        phase if worker.past.is_some() => phase.to_string(),
        Phase::Waiting => style.yellow("waiting"),
        Phase::Done => style.green("done"),
        Phase::Failed | Phase::Lost | Phase::Suspended => style.red(worker.state.as_ref()),
        Phase::Running if worker.stuck => style.yellow("stuck?"),
        Phase::Limited => match &worker.limit {
            Some(limit) => format!("limited until {}", limit.until(now)),
            None => style.yellow("limited"),
        },
        phase => phase.to_string(),
    };
    let idle = worker.idle_s.map(|seconds| human_ms(seconds * 1000)).unwrap_or_default();
    let micros = (worker.cost_usd * 1e6).round() as u64;
    let spent = if micros == 0 { String::new() } else { dollars(micros) };
    let goal = worker.goal.as_ref().map(Name::to_string).unwrap_or_default();
    let age = human_ms(now.elapsed_ms(worker.started_ms));
    vec![format!("{flag}{}", worker.id), word, goal, age, idle, spent, words(app, worker)]
}

/// A short remark about a worker.
fn words(app: &App, worker: &WorkerJson) -> String {
    let short = |text: &str| clip(&visible(text, false), WORDS_CHARS);
    if let (Phase::Suspended, Some(why)) = (worker.state, &worker.why) {
        return app.style.red(&short(why));
    }
    if let Some(flag) = &worker.flag {
        let guess = if flag.guess { " (a guess)" } else { "" };
        return app.style.yellow(&format!("{}{guess}", short(&flag.text)));
    }
    if let Some(ask) = &worker.ask {
        let text =
            state_files::ask(&app.layout, ask).ok().flatten().map(|ask| short(&ask.text)).unwrap_or_default();
        return app.style.yellow(&format!("{ask}: {text}"));
    }
    if let Some(limit) = &worker.limit {
        return app.style.dim(&short(&limit.why));
    }
    let end = end_words(worker);
    match &worker.past {
        None => end,
        Some(_) if end.is_empty() => app.style.dim("archived"),
        Some(_) => app.style.dim(&format!("archived, {end}")),
    }
}

/// How a worker ended, in a few words, beginning with paths that run on the user's side; may be empty.
fn end_words(worker: &WorkerJson) -> String {
    let has_paths = !worker.user_side.is_empty();
    let paths = has_paths.then(|| format!("runs on your side: {}", user_side::words(&worker.user_side)));
    let result = worker.verify.iter().map(CheckResult::words);
    let branch = worker.branch.iter().map(|branch| format!("branch {branch}"));
    let work = result.chain(branch).collect::<Vec<_>>().join(", ");
    let end = match worker.exit {
        _ if worker.why.is_some() => worker.why.clone(),
        _ if !work.is_empty() => Some(work),
        Some(WorkerExit::Code(code)) if worker.state.is_over() => Some(format!("exit code {code}")),
        _ => None,
    };
    let words = paths.into_iter().chain(end).collect::<Vec<_>>().join("; ");
    clip(&visible(&words, false), WORDS_CHARS)
}

/// Prints a note if the supervisor is suspended, because the worker gets a message or an answer only later.
pub fn note_if_stopped(worker: &Worker) {
    if worker.state.phase == Phase::Suspended {
        let why = worker.state.why.as_deref().unwrap_or_default();
        print::note(&format!("note: {} gets it later: {why}", worker.spec.id));
    }
}

/// Lists who waits for the user.
fn waiting(app: &App) -> Result<Vec<Waiting>> {
    let (all, _) = workers::list(&app.layout)?;
    let (asks, _) = state_files::asks(&app.layout)?;
    let mut found = Vec::new();
    for worker in all.iter().filter(|worker| worker.state.needs_user()) {
        let question = worker.state.ask.as_ref().and_then(|id| asks.get(id)).map(|(ask, _)| &ask.text);
        let text = worker.state.flag.as_ref().map(|flag| &flag.text).or(question).cloned();
        let (id, ask) = (worker.spec.id.clone(), worker.state.ask.clone());
        let look = worker.state.phase.look_commands(&id);
        found.push(Waiting { worker: Some(id), ask, text, look });
    }
    let closed = state_files::peek_beat(&app.layout)?.closed_asks;
    for (ask, answer) in asks.values().filter(|(ask, _)| !closed.contains(&ask.id) && ask.worker.is_none()) {
        if ask.state(answer.as_ref(), clock::now()) == QuestionState::Open {
            let (id, text) = (Some(ask.id.clone()), Some(ask.text.clone()));
            found.push(Waiting { worker: None, ask: id, text, look: String::new() });
        }
    }
    Ok(found)
}

/// Blocks until the user is needed, nothing can need them, or a named worker has ended.
pub fn wait(app: &App, args: &WaitArgs) -> Result<u8> {
    let cancel = Cancel::on_signals()?;
    let deadline = args.timeout.map(Deadline::after_ms);
    // The name in full: another worker may have the same beginning later.
    let worker = args.worker.as_deref().map(|wanted| find(app, Some(wanted))).transpose()?;
    let worker = worker.map(|known| known.row(app, app.now).id);
    let (found, exit_code) = loop {
        let found = match &worker {
            Some(worker) => ended_or_waiting(app, worker)?,
            None => needed_or_idle(app)?,
        };
        if let (found, Some(exit_code)) = found {
            break (found, exit_code);
        }
        if cancel.is_set() || deadline.as_ref().is_some_and(Deadline::passed) {
            break (found.0, if cancel.is_set() { INTERRUPTED } else { TIMED_OUT });
        }
        let left =
            deadline.as_ref().map_or(POLL_MS, |d| i64::try_from(d.left().as_millis()).unwrap_or(POLL_MS));
        wait_readable(&[&cancel.fd()], left.clamp(1, POLL_MS));
    };
    if app.json {
        return print::answer_whole(found).map(|_| exit_code);
    }
    match &found.worker {
        Some(row) if row.state.is_over() => print::line(&end_line(row)),
        None if exit_code == 0 => print::line("nothing can come: neither a pulse nor a worker runs"),
        _ => found.waiting.iter().for_each(say_waiting),
    }
    Ok(exit_code)
}

/// Lists who needs the user now. The exit code is `None` while a worker or the pulse can still need the user.
fn needed_or_idle(app: &App) -> Result<(WaitJson, Option<u8>)> {
    let waiting = waiting(app)?;
    if !waiting.is_empty() {
        return Ok((WaitJson { waiting, worker: None }, Some(NEEDED)));
    }
    let (all, problems) = workers::list(&app.layout)?;
    let live = all.iter().any(|worker| !worker.state.phase.is_over()) || !problems.is_empty();
    let is_idle = !live && lock::holder(&app.layout.pulse_lock()).is_none();
    Ok((WaitJson { waiting, worker: None }, is_idle.then_some(0)))
}

/// Reads the state of a worker. The exit code is `None` while the worker neither has ended nor needs the user.
fn ended_or_waiting(app: &App, id: &Name) -> Result<(WaitJson, Option<u8>)> {
    let row = find(app, Some(id.as_str()))?.row(app, clock::now());
    let mut waiting = waiting(app)?;
    waiting.retain(|item| item.worker.as_ref() == Some(id) && !row.state.is_over());
    let exit_code = match row.state.end() {
        Some(WorkerEnd::Done) => Some(0),
        Some(WorkerEnd::Failed) => Some(1),
        Some(WorkerEnd::Stopped) => Some(STOPPED),
        None => (!waiting.is_empty()).then_some(NEEDED),
    };
    Ok((WaitJson { waiting, worker: Some(row) }, exit_code))
}

/// The end of a worker in one line, with what to do next.
fn end_line(worker: &WorkerJson) -> String {
    let words = end_words(worker);
    let next = worker.next.as_ref().map(|next| format!("next: {}", visible(next, false)));
    let rest: Vec<String> = [words].into_iter().filter(|words| !words.is_empty()).chain(next).collect();
    let colon = if rest.is_empty() { "" } else { ": " };
    format!("{} {}{colon}{}", worker.id, worker.state, rest.join("; "))
}

fn say_waiting(item: &Waiting) {
    let text = clip(&visible(item.text.as_deref().unwrap_or_default(), false), 100);
    match (&item.worker, &item.ask) {
        (Some(worker), None) => print::line(&format!("⚑ {worker}: {text} ({})", item.look)),
        (worker, Some(ask)) => {
            let worker = worker.as_ref().map(|worker| format!("{worker}, ")).unwrap_or_default();
            print::line(&format!("⚑ {worker}{ask}: {text} (looop asks)"));
        }
        (None, None) => {}
    }
}
