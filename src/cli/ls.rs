//! `looop ls` and `looop wait`: the workers, and which of them need the user.

use anyhow::Result;

use super::{App, json_output, pick, print};
use crate::model::charge::dollars;
use crate::model::fault::Fault;
use crate::model::json::clip;
use crate::model::name::Name;
use crate::model::text::visible;
use crate::model::time::{Now, human_ms, parse_ms};
use crate::model::user_side::{self, UserSidePath};
use crate::model::worker::{CheckResult, Phase, WorkerExit};
use crate::store::layout::{Layout, WorkerDir};
use crate::store::workers::{self, Past, Worker};
use crate::store::{lock, records};
use crate::sys::clock::{self, Deadline};
use crate::sys::process::wait::wait_readable;
use crate::sys::signal::Cancel;
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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 3 something needs you, 0 nothing is running, 1 timed out.\n\nExample:\n  looop wait --timeout 30m; echo $?"
)]
pub struct WaitArgs {
    /// The timeout.
    #[arg(long, value_name = "TIME", value_parser = parse_ms)]
    timeout: Option<i64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The longest remark about a worker, in characters; a narrower terminal shows less.
const WORDS_CHARS: usize = 160;
/// How often a waiting command checks, in milliseconds.
const LOOK_MS: i64 = 200;

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
    let newest = fits.iter().filter(|w| w.state.needs_human()).max_by_key(|w| since(w));
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

/// Lists workers.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    if !args.watch {
        return show(app, args, app.now).map(|()| 0);
    }
    let cancel = Cancel::on_signals()?;
    let mut before = String::new();
    while !cancel.is_set() {
        let text = table(app, args, clock::now())?;
        if text != before {
            print::screen(&text);
            before = text;
        }
        wait_readable(&[&cancel.fd()], 1000);
    }
    Ok(0)
}

fn show(app: &App, args: &Args, now: Now) -> Result<()> {
    if !args.json {
        print::raw(table(app, args, now)?.as_bytes());
        return Ok(());
    }
    let (all, problems) = sorted(app)?;
    let mut rows: Vec<json_output::WorkerJson> =
        all.iter().map(|worker| row(&app.layout, worker, now)).collect();
    if args.all {
        rows.extend(workers::past(&app.layout)?.iter().rev().map(|past| past_row(&app.layout, past)));
    }
    problems.iter().for_each(|problem| print::note(&format!("warning: {problem}")));
    print::answer("workers", rows).map(drop)
}

/// Lists the workers that are not archived: first those that need the user, then those that run, newest first.
pub fn sorted(app: &App) -> Result<(Vec<Worker>, Vec<String>)> {
    let (mut all, problems) = workers::list(&app.layout)?;
    all.sort_by_key(|w| (!w.state.needs_human(), w.state.phase.is_over(), -w.spec.created_ms));
    Ok((all, problems))
}

/// The public form of a worker.
pub fn row(layout: &Layout, worker: &Worker, now: Now) -> json_output::WorkerJson {
    let (spec, state) = (&worker.spec, &worker.state);
    let clone = layout.worker(&spec.id).clone_dir().to_string_lossy().into_owned();
    json_output::WorkerJson {
        id: spec.id.clone(),
        goal: spec.goal.clone(),
        kind: spec.kind.clone(),
        runner: spec.runner.clone(),
        state: state.phase,
        since: state.since_ms,
        flag: state.flag.clone(),
        ask: state.ask.clone(),
        pid: Some(state.supervisor.pid),
        started: spec.created_ms,
        idle_s: (!state.phase.is_over()).then(|| now.elapsed_ms(worker.printed_ms) / 1000),
        stuck: fleet::is_stuck(worker, now),
        exit: state.exit,
        why: state.why.clone(),
        verify: state.verdict.clone(),
        branch: state.branch.clone(),
        objects: spec.objects,
        repo: spec.repo.as_ref().map(|repo| repo.source.clone()),
        left: state.left_words(),
        next: spec.next_step(state, &clone),
        clone: spec.repo.as_ref().map(|_| clone),
        user_side: state.user_side.clone(),
        lease: state.leases.clone(),
        cost_usd: state.cost_micros as f64 / 1e6,
        lost_bytes: Some(state.lost_bytes),
        sandbox: Some(spec.level()),
        past: None,
    }
}

fn past_row(layout: &Layout, past: &Past) -> json_output::WorkerJson {
    let clone =
        || WorkerDir(layout.past_workers().join(&past.dir)).clone_dir().to_string_lossy().into_owned();
    json_output::WorkerJson {
        id: past.id.clone(),
        goal: past.goal.clone(),
        kind: past.kind.clone(),
        runner: past.runner.clone(),
        state: past.phase,
        since: past.ended_ms,
        flag: None,
        ask: None,
        pid: None,
        started: past.created_ms,
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

/// A worker's name, the work that exists only in its clone, and the commands that merge its work.
type NextStep = (String, Option<String>, Option<String>);

fn table(app: &App, args: &Args, now: Now) -> Result<String> {
    let (all, problems) = sorted(app)?;
    let mut rows: Vec<Vec<String>> = all.iter().map(|worker| cells(app, worker, now)).collect();
    let next = |worker: &Worker| {
        let row = row(&app.layout, worker, now);
        (row.id.to_string(), row.left, row.next)
    };
    let mut nexts: Vec<NextStep> = all.iter().map(next).collect();
    if args.all {
        for past in workers::past(&app.layout)?.iter().rev() {
            let age = human_ms(now.elapsed_ms(past.created_ms));
            let goal = past.goal.as_ref().map(Name::to_string).unwrap_or_default();
            let spent = if past.cost_micros == 0 { String::new() } else { dollars(past.cost_micros) };
            let end = WorkerEnd {
                why: &past.why,
                verdict: &past.verify,
                branch: &past.branch,
                exit: past.exit,
                user_side: &past.user_side,
            };
            let words = ["archived".to_owned(), end.words()];
            let words = words.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
            nexts.push((past.dir.clone(), past.left.clone(), past.next.clone()));
            rows.push(vec![
                past.id.to_string(),
                past.phase.word().to_owned(),
                goal,
                age,
                String::new(),
                spent,
                app.style.dim(&words),
            ]);
        }
    }
    let mut out = if rows.is_empty() {
        "no workers\n".to_owned()
    } else {
        let head = ["WORKER", "STATE", "GOAL", "AGE", "IDLE", "SPENT", ""].map(|cell| app.style.dim(cell));
        rows.insert(0, head.into());
        print::table(&rows)
    };
    for (id, left, next) in nexts {
        let left = left.map(|left| format!(" left in its clone: {left};")).unwrap_or_default();
        out.extend(next.map(|next| format!("{id}:{left} next: {next}\n")));
    }
    for problem in problems {
        out.push_str(&format!("warning: {problem}\n"));
    }
    Ok(out)
}

fn cells(app: &App, worker: &Worker, now: Now) -> Vec<String> {
    let (spec, state) = (&worker.spec, &worker.state);
    let style = app.style;
    let flag = if state.needs_human() { "⚑" } else { "" };
    let stuck = fleet::is_stuck(worker, now);
    let word = match state.phase {
        Phase::Waiting => style.yellow("waiting"),
        Phase::Done => style.green("done"),
        Phase::Failed | Phase::Lost | Phase::Stopped => style.red(state.phase.word()),
        Phase::Running if stuck => style.yellow("stuck?"),
        phase => phase.word().to_owned(),
    };
    let idle =
        if state.phase.is_over() { String::new() } else { human_ms(now.elapsed_ms(worker.printed_ms)) };
    let spent = if state.cost_micros == 0 { String::new() } else { dollars(state.cost_micros) };
    let goal = spec.goal.as_ref().map(Name::to_string).unwrap_or_default();
    let age = human_ms(now.elapsed_ms(spec.created_ms));
    vec![format!("{flag}{}", spec.id), word, goal, age, idle, spent, words(app, worker)]
}

/// A short remark about a worker.
fn words(app: &App, worker: &Worker) -> String {
    let state = &worker.state;
    let short = |text: &str| clip(&visible(text, false), WORDS_CHARS);
    if let (Phase::Stopped, Some(why)) = (state.phase, &state.why) {
        return app.style.red(&short(why));
    }
    if let Some(flag) = &state.flag {
        let guess = if flag.guess { " (a guess)" } else { "" };
        return app.style.yellow(&format!("{}{guess}", short(&flag.text)));
    }
    if let Some(ask) = &state.ask {
        let text =
            records::ask(&app.layout, ask).ok().flatten().map(|ask| short(&ask.text)).unwrap_or_default();
        return app.style.yellow(&format!("{ask}: {text}"));
    }
    let exit = state.exit.filter(|_| state.phase.is_over());
    let (why, verdict, branch) = (&state.why, &state.verdict, &state.branch);
    WorkerEnd { why, verdict, branch, exit, user_side: &state.user_side }.words()
}

/// How a worker ended, as far as it is known.
struct WorkerEnd<'a> {
    why: &'a Option<String>,
    verdict: &'a Option<CheckResult>,
    branch: &'a Option<String>,
    exit: Option<WorkerExit>,
    user_side: &'a [UserSidePath],
}

impl WorkerEnd<'_> {
    /// The end in a few words, beginning with paths that run on the user's side; may be empty.
    fn words(&self) -> String {
        let short = |text: &str| clip(&visible(text, false), WORDS_CHARS);
        let user_side = match self.user_side {
            [] => String::new(),
            paths => format!("runs on your side: {}; ", user_side::words(paths)),
        };
        if let Some(why) = self.why {
            return short(&format!("{user_side}{why}"));
        }
        match (self.verdict, self.branch, self.exit) {
            (Some(verdict), branch, _) => {
                let branch = branch.as_ref().map(|branch| format!(", branch {branch}")).unwrap_or_default();
                short(&format!("{user_side}{} {}{branch}", verdict.name, verdict.status))
            }
            (None, Some(branch), _) => short(&format!("{user_side}branch {branch}")),
            (None, None, Some(WorkerExit::Code(code))) => short(&format!("{user_side}exit code {code}")),
            _ => short(user_side.trim_end_matches("; ")),
        }
    }
}

/// Lists who waits for the user.
fn waiting(app: &App) -> Result<Vec<json_output::Waiting>> {
    let (all, _) = workers::list(&app.layout)?;
    let (asks, _) = records::asks(&app.layout)?;
    let mut found = Vec::new();
    for worker in all.iter().filter(|worker| worker.state.needs_human()) {
        let question = worker.state.ask.as_ref().and_then(|id| asks.get(id)).map(|(ask, _)| &ask.text);
        let text = worker.state.flag.as_ref().map(|flag| &flag.text).or(question).cloned();
        let (id, ask) = (Some(worker.spec.id.clone()), worker.state.ask.clone());
        found.push(json_output::Waiting { worker: id, ask, text, look: worker.state.look_commands() });
    }
    let closed = records::peek_beat(&app.layout)?.closed_asks;
    for (ask, answer) in asks.values().filter(|(ask, _)| !closed.contains(&ask.id) && ask.worker.is_none()) {
        if ask.state(answer.as_ref(), clock::now()) == crate::model::ask::QuestionState::Open {
            let (id, text) = (Some(ask.id.clone()), Some(ask.text.clone()));
            found.push(json_output::Waiting { worker: None, ask: id, text, look: String::new() });
        }
    }
    Ok(found)
}

/// Blocks until the user is needed. Exit status: 3 with the name of who needs the user, 0 nothing is running, 1
/// timed out.
pub fn wait(app: &App, args: &WaitArgs) -> Result<u8> {
    let cancel = Cancel::on_signals()?;
    let deadline = args.timeout.map(Deadline::after_ms);
    let (found, exit_code) = loop {
        let found = waiting(app)?;
        if !found.is_empty() {
            break (found, 3);
        }
        let (all, problems) = workers::list(&app.layout)?;
        let live = all.iter().any(|worker| !worker.state.phase.is_over()) || !problems.is_empty();
        if !live && lock::holder(&app.layout.pulse_lock()).is_none() {
            break (found, 0);
        }
        if deadline.as_ref().is_some_and(Deadline::passed) || cancel.is_set() {
            break (found, 1);
        }
        let left =
            deadline.as_ref().map_or(LOOK_MS, |d| i64::try_from(d.left().as_millis()).unwrap_or(LOOK_MS));
        wait_readable(&[&cancel.fd()], left.clamp(1, LOOK_MS));
    };
    if args.json {
        print::answer("waiting", found)?;
    } else if exit_code == 0 {
        print::line("nothing can come: neither a pulse nor a worker runs");
    } else {
        found.iter().for_each(say_waiting);
    }
    Ok(exit_code)
}

fn say_waiting(item: &json_output::Waiting) {
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
