//! `looop worker start`, and the verbs of a human on one worker: `kill`, `flag`, `unflag`, `tell`.

use std::path::PathBuf;

use anyhow::Result;

use super::ls::Chosen;
use super::{App, complete, input, ls, print};
use crate::map;
use crate::model::entry;
use crate::model::fault::Fault;
use crate::model::lease::Holder;
use crate::model::name::Name;
use crate::model::wire::Request;
use crate::model::worker::{Phase, State};
use crate::store::workers::Worker;
use crate::store::{claims, layout, lock, logs, mail, workers};
use crate::sys::clock::{self, Deadline};
use crate::sys::signal::Cancel;
use crate::sys::spawn::pause_ms;
use crate::sys::{detach, kin, tree};
use crate::worker::start::{Starter, Wanted};
use crate::worker::{client, fleet};

/// What there is about workers besides the verbs on one of them.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Start a worker by hand. Prints its id.
    Start(StartArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop worker start fix-ci 'make the build green' --goal release --repo ~/src/app --verify tests\n  looop worker start count -- sh -c 'sleep 5; echo done'"
)]
pub struct StartArgs {
    /// The worker's name.
    id: String,
    /// What it is told; `-` for stdin.
    brief: Option<String>,
    /// The goal that it works for; no other worker can work for it meanwhile.
    #[arg(long, value_name = "GOAL")]
    goal: Option<Name>,
    /// What kind of worker: `fix` works as `looop fix` on its brief.
    #[arg(long, value_name = "KIND", conflicts_with = "argv")]
    kind: Option<String>,
    /// The runner; the config's when absent.
    #[arg(long, value_name = "NAME", conflicts_with = "argv")]
    runner: Option<String>,
    /// A git repository: it works on a private clone, and its commits come back as branch `looop/<id>`.
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// An entry of `verify` in the config; it decides whether the work is done.
    #[arg(long, value_name = "NAME")]
    verify: Vec<String>,
    /// Something that only this worker may work on.
    #[arg(long, value_name = "NAME")]
    claim: Vec<String>,
    /// The directory it runs in; an empty one of its own when absent.
    #[arg(long, value_name = "DIR", conflicts_with = "repo")]
    cwd: Option<PathBuf>,
    /// A path that it may read in its box, or a variable of yours that it gets; may be given several times.
    #[arg(long, value_name = "PATH|NAME")]
    grant: Vec<String>,
    /// A command to run instead of a runner's.
    #[arg(last = true)]
    argv: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop unflag fix-ci")]
pub struct OneArgs {
    /// The worker, or the unique beginning of its name; the newest flagged one when absent.
    #[arg(add = complete::worker_ids())]
    id: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop kill fix-ci\n  looop kill --force fix-ci")]
pub struct KillArgs {
    /// The worker, or the unique beginning of its name.
    #[arg(add = complete::worker_ids())]
    id: String,
    /// Kill its supervisor and all that it started at once, also when the supervisor is stopped.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop flag 'which database may I use?'")]
pub struct FlagArgs {
    /// For a human: the worker. Inside a worker: what a human is needed for.
    words: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop tell fix-ci 'the tests moved to tests/it'")]
pub struct TellArgs {
    /// The worker, or the unique beginning of its name.
    #[arg(add = complete::worker_ids())]
    id: String,
    /// The text; `-` for stdin.
    text: String,
}

/// How long a worker may take to end, in milliseconds.
const END_MS: i64 = 45_000;
/// After how long a command says what it waits for, in milliseconds.
const SAY_MS: i64 = 2_000;

/// Starts a worker.
pub fn run(app: &App, verb: Verb) -> Result<u8> {
    let Verb::Start(args) = verb;
    let brief = match args.brief.as_deref() {
        Some("-") => input::stdin("the brief")?,
        Some(text) => text.to_owned(),
        None => String::new(),
    };
    let config = app.config()?;
    let cancel = Cancel::on_signals()?;
    let starter = Starter {
        layout: &app.layout,
        settings: &config.settings,
        cancel: &cancel,
        now: app.now,
        leads: map::leads,
    };
    let wanted = Wanted {
        id: args.id.clone(),
        goal: args.goal,
        kind: args.kind,
        runner: args.runner,
        argv: args.argv,
        brief,
        verify: args.verify,
        free_check: false,
        claims: args.claim,
        grant: args.grant,
        repo: args.repo.map(|dir| app.env.here(&dir)),
        is_tainted: false,
        cwd: args.cwd.map(|dir| app.env.here(&dir)),
        by: "human".to_owned(),
        approved: None,
    };
    match starter.start(&wanted)? {
        Ok(spec) => {
            if let Some(goal) = spec.goal.as_ref().filter(|goal| !has_goal(app, goal)) {
                print::note(&format!(
                    "warning: there is no goal {goal}; the worker has its lease all the same"
                ));
            }
            print::line(spec.id.as_str());
            Ok(0)
        }
        Err(why) => Err(Fault::failed(format!("could not start worker {}: {why}", args.id)).into()),
    }
}

fn has_goal(app: &App, goal: &Name) -> bool {
    app.layout.file(&layout::goal_path(goal)).exists()
}

/// Ends a worker and waits for its end.
pub fn kill(app: &App, args: &KillArgs) -> Result<u8> {
    let worker = ls::choose(app, Some(&args.id), Chosen::Any)?;
    let id = worker.spec.id.clone();
    if worker.state.phase == Phase::Lost {
        let _store = lock::store(&app.layout.store_lock())?;
        let now = workers::load(&app.layout, &id)?.filter(|now| now.state.phase == Phase::Lost);
        fleet::end_lost(&app.layout, now.as_slice());
    }
    if worker.state.phase.is_over() {
        let word = worker.state.phase.word();
        return Err(Fault::failed(format!("could not end worker {id}: it has ended already ({word})")).into());
    }
    if args.force {
        return kill_by_force(app, &worker);
    }
    let dir = app.layout.worker(&id);
    let supervisor = &worker.state.supervisor;
    let begun = Deadline::after_ms(SAY_MS);
    let mut is_printed = false;
    // A supervisor that does not listen is told by a signal, which it heeds as well.
    if client::call(&dir.attach_socket(), Request::Kill).is_err() {
        detach::signal(supervisor.pid, supervisor.start, false);
    }
    let deadline = Deadline::after_ms(END_MS);
    while workers::is_alive(&dir)? {
        if deadline.passed() {
            let fault = Fault::failed(format!("could not end worker {id}: its supervisor still lives"));
            let fault = fault.hint(format!("process {} is its supervisor", supervisor.pid));
            return Err(fault
                .hint(format!("`looop kill --force {id}` kills it and all that it started"))
                .into());
        }
        if begun.passed() && !is_printed {
            is_printed = true;
            print::note(&match tree::is_stopped(supervisor.pid, supervisor.start) {
                true => format!(
                    "waiting for {id}: its supervisor, process {0}, is stopped; `kill -CONT {0}` lets it go on, and `looop kill --force {id}` ends it",
                    supervisor.pid
                ),
                false => format!("waiting for {id}: its supervisor ends what the worker started"),
            });
        }
        pause_ms(10);
    }
    let phase = workers::load(&app.layout, &id)?.map_or("put away", |worker| worker.state.phase.word());
    print::line(&format!("{id}: {phase}"));
    Ok(0)
}

/// Kills a supervisor and all that it started, and does for the worker what the supervisor cannot do any more: it
/// writes the state, gives the leases back, and removes the sockets.
fn kill_by_force(app: &App, worker: &Worker) -> Result<u8> {
    let id = &worker.spec.id;
    let (dir, supervisor) = (app.layout.worker(id), &worker.state.supervisor);
    let fail = |why: &str| Fault::failed(format!("could not end worker {id}: {why}"));
    if !kin::kill_tree((supervisor.pid, supervisor.start)) {
        let fault = fail("a process of it heeds no signal");
        return Err(fault.hint(format!("look at process {} and those below it", supervisor.pid)).into());
    }
    if workers::is_alive(&dir)? {
        return Err(fail("another process holds its lock")
            .hint("see who holds it with `looop doctor`")
            .into());
    }
    let store = lock::store(&app.layout.store_lock())?;
    let lost = workers::load(&app.layout, id)?.filter(|now| now.spec.created_ms == worker.spec.created_ms);
    let Some(lost) = lost.filter(|now| now.state.phase == Phase::Lost) else {
        print::line(&format!("{id}: ended"));
        return Ok(0);
    };
    fleet::end_lost(&app.layout, std::slice::from_ref(&lost));
    let leases = lost.state.leases.clone();
    let state = State {
        phase: Phase::Killed,
        since_ms: clock::now().unix_ms,
        why: Some("a human ended it by force".to_owned()),
        leases: Vec::new(),
        ..lost.state
    };
    workers::save_state(&dir, &state)?;
    drop(store);
    claims::release(&app.layout, &Holder::Worker(id.clone()), &leases)?;
    let next = lost.spec.next_step(&state, &dir.clone_dir().to_string_lossy());
    logs::journal(&app.layout, &entry::worker_line(&lost.spec, &state, next.as_deref(), clock::now()))?;
    for socket in [dir.attach_socket(), dir.worker_socket()] {
        // A socket without a listener does no harm; the next worker of this name replaces it.
        drop(std::fs::remove_file(socket));
    }
    print::line(&format!("{id}: {}", state.phase.word()));
    Ok(0)
}

/// Says that a supervisor is stopped, where a text or an answer for its worker waits for it.
pub fn note_if_stopped(worker: &Worker) {
    if worker.state.phase == Phase::Stopped {
        let why = worker.state.why.as_deref().unwrap_or_default();
        print::note(&format!("note: {} gets it later: {why}", worker.spec.id));
    }
}

/// Inside a worker: calls for a human. By hand: flags a worker, so that it is not forgotten.
pub fn flag(app: &App, args: &FlagArgs) -> Result<u8> {
    if let Some(socket) = app.inside_worker() {
        client::call(&socket, Request::Flag { text: args.words.join(" ") })?;
        return Ok(0);
    }
    app.human_only("flag a worker")?;
    let id = args.words.first().map(String::as_str);
    let worker = ls::choose(app, id, Chosen::Live)?;
    let text = args.words.get(1..).unwrap_or_default().join(" ");
    let text = if text.is_empty() { "flagged by hand".to_owned() } else { text };
    client::call(&app.layout.worker(&worker.spec.id).attach_socket(), Request::Flag { text })?;
    print::line(&format!("{}: flagged", worker.spec.id));
    Ok(0)
}

/// Takes a flag down.
pub fn unflag(app: &App, args: &OneArgs) -> Result<u8> {
    if let Some(socket) = app.inside_worker() {
        client::call(&socket, Request::Unflag)?;
        return Ok(0);
    }
    app.human_only("unflag a worker")?;
    let any = ls::choose(app, args.id.as_deref(), Chosen::Any).ok();
    // One that has ended keeps its flag while work is in its clone alone.
    let ended = any.filter(|worker| worker.state.phase.is_over() && worker.state.flag.is_some());
    let worker = match &ended {
        Some(worker) => worker.clone(),
        None => ls::choose(app, args.id.as_deref(), Chosen::Live)?,
    };
    if ended.is_some() {
        let _store = lock::store(&app.layout.store_lock())?;
        let same = |now: &workers::Worker| now.spec == worker.spec && now.state.phase.is_over();
        if let Some(now) = workers::load(&app.layout, &worker.spec.id)?.filter(same) {
            let state = State { flag: None, ..now.state };
            workers::save_state(&app.layout.worker(&worker.spec.id), &state)?;
        }
    } else {
        client::call(&app.layout.worker(&worker.spec.id).attach_socket(), Request::Unflag)?;
    }
    print::line(&format!("{}: unflagged", worker.spec.id));
    Ok(0)
}

/// Sends a text to a worker.
pub fn tell(app: &App, args: &TellArgs) -> Result<u8> {
    let worker = ls::choose(app, Some(&args.id), Chosen::Live)?;
    let text = if args.text == "-" { input::stdin("the text")? } else { args.text.clone() };
    if text.trim().is_empty() {
        return Err(Fault::usage("could not tell the worker: the text is empty").into());
    }
    if text.len() > crate::model::decision::MAX_TEXT_BYTES {
        return Err(Fault::usage("could not tell the worker: the text is too long").into());
    }
    let told = mail::Told { by: "human".to_owned(), at_ms: clock::now().unix_ms, text };
    let _store = lock::store(&app.layout.store_lock())?;
    mail::tell(&app.layout.worker(&worker.spec.id), &told)?;
    print::line(&format!("told {}; it reads it with `looop told`", worker.spec.id));
    note_if_stopped(&worker);
    Ok(0)
}
