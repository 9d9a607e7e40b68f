//! `looop worker`: `start`, `kill`, `flag`, `unflag` and `tell`; the other verbs of the noun have files of their own.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};

use super::logs::{LogsArgs, ScreenArgs};
use super::ls::{self, Chosen};
use super::{App, Cancel, Fault, Name, attach, complete, input, print, prune};
use crate::os::clock::{self, Deadline};
use crate::os::process::tree;
use crate::os::process::wait::pause_ms;
use crate::rules::beat::entry;
use crate::rules::lease::Holder;
use crate::rules::worker::protocol::WireRequest;
use crate::rules::worker::{Phase, WorkerState};
use crate::store::workers::{self, Worker};
use crate::store::{inbox, layout, leases, lock, logs};
use crate::worker::plan::{WorkerProgram, WorkerRequest, Workplace};
use crate::worker::refusal::WorkerError;
use crate::worker::{client, orphans};

#[derive(Debug, clap::Subcommand)]
pub enum WorkerVerb {
    /// List workers; those that need you come first.
    #[command(after_help = "Example:\n  looop worker list --all")]
    List(ls::Args),
    /// Show the state of a worker.
    #[command(after_help = "Example:\n  looop worker show fix-ci")]
    Show(ls::WorkerShowArgs),
    /// Start a worker yourself. Prints its id.
    Start(Box<StartArgs>),
    /// Show a worker's screen and type into it; Ctrl-\ Ctrl-\ leaves it.
    #[command(after_help = "Example:\n  looop worker attach fix-ci")]
    Attach(attach::Args),
    /// Print the output of a worker.
    #[command(after_help = "Example:\n  looop worker logs fix-ci -f")]
    Logs(LogsArgs),
    /// Print the current screen of a worker.
    #[command(after_help = "Example:\n  looop worker screen fix-ci")]
    Screen(ScreenArgs),
    /// Send a text to a worker.
    #[command(after_help = "Example:\n  looop worker tell fix-ci 'the tests moved to tests/it'")]
    Tell(TellArgs),
    /// End a worker and all processes that it started.
    #[command(after_help = "Example:\n  looop worker kill fix-ci")]
    Kill(KillArgs),
    /// Start an ended agent again where it stopped: in its clone, with its own session.
    Resume(WorkerResumeArgs),
    /// Flag a worker, as a reminder for you.
    #[command(after_help = "Example:\n  looop worker flag fix-ci 'look at this'")]
    Flag(FlagArgs),
    /// Clear a flag.
    #[command(after_help = "Example:\n  looop worker unflag fix-ci")]
    Unflag(UnflagArgs),
    /// Block until something needs you.
    #[command(after_help = "Example:\n  looop worker wait --timeout 30m")]
    Wait(ls::WaitArgs),
    /// Delete the data of ended workers; unmerged work stays.
    #[command(after_help = "Example:\n  looop worker prune --dry-run")]
    Prune(prune::Args),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop worker start fix-ci 'make the build green' --goal release --repo ~/src/app --verify tests\n  looop worker start count -- sh -c 'sleep 5; echo done'"
)]
pub struct StartArgs {
    /// The name of the worker.
    id: String,
    /// The brief; `-` for stdin.
    brief: Option<String>,
    /// The goal that the worker serves; the worker holds its lease, so that no other worker can serve it.
    #[arg(long, value_name = "GOAL", add = complete::goal_ids())]
    goal: Option<Name>,
    /// The kind of the worker: `fix` works on its brief as `looop fix` does.
    #[arg(long, value_name = "KIND", conflicts_with = "argv")]
    kind: Option<String>,
    /// The runner. Default: the one in the config.
    #[arg(long, value_name = "NAME", conflicts_with = "argv", add = complete::runner_names())]
    runner: Option<String>,
    /// A git repository. The worker gets a private clone; its commits come back as branch `looop/<id>`.
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// An entry of `verify` in the config; its checks decide whether the work is done.
    #[arg(long, value_name = "NAME", add = complete::check_names())]
    verify: Vec<String>,
    /// A resource that only this worker may work on.
    #[arg(long, value_name = "NAME")]
    claim: Vec<String>,
    /// The working directory. Default: an empty directory of its own.
    #[arg(long, value_name = "DIR", conflicts_with = "repo")]
    cwd: Option<PathBuf>,
    /// A path that the worker may read in its sandbox, or an environment variable that it gets; may be given
    /// several times.
    #[arg(long, value_name = "PATH|NAME")]
    grant: Vec<String>,
    /// A command to run instead of a runner.
    #[arg(last = true)]
    argv: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop unflag fix-ci")]
pub struct UnflagArgs {
    /// The worker, or the unique beginning of its name. Default: the newest flagged worker.
    #[arg(add = complete::worker_ids())]
    id: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop kill fix-ci\n  looop kill --force fix-ci")]
pub struct KillArgs {
    /// The worker, or the unique beginning of its name.
    #[arg(add = complete::worker_ids())]
    id: String,
    /// Kill the supervisor and all processes that the worker started at once; works also if the supervisor is suspended.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop worker resume fix-ci")]
pub struct WorkerResumeArgs {
    /// The worker, or the unique beginning of its name.
    #[arg(add = complete::worker_ids())]
    id: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop flag 'which database may I use?'")]
pub struct FlagArgs {
    /// Outside of a worker: the worker's name, then a text. In a worker: what it needs the user for.
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
/// After how long a command prints what it waits for, in milliseconds.
const SAY_MS: i64 = 2_000;

pub fn start(app: &App, args: StartArgs) -> Result<u8> {
    let brief = match args.brief.as_deref() {
        Some("-") => input::stdin("the brief")?,
        Some(text) => text.to_owned(),
        None => String::new(),
    };
    if args.argv.is_empty() && brief.trim().is_empty() {
        let fault =
            Fault::usage(format!("could not start {}: it has neither a brief nor a command", args.id));
        let example = format!("say what it should do: looop worker start {} 'make the build green'", args.id);
        return Err(fault.hint(example).into());
    }
    let config = app.config()?;
    let cancel = Cancel::on_signals()?;
    let fleet = app.fleet(&config, &cancel, false);
    let wanted = WorkerRequest {
        id: args.id.clone(),
        goal: args.goal,
        program: WorkerProgram::choose(args.argv, args.kind.as_deref(), args.runner),
        place: match (args.repo, args.cwd) {
            (Some(dir), _) => Workplace::Clone(app.env.here(&dir)),
            (None, Some(dir)) => Workplace::Directory(app.env.here(&dir)),
            (None, None) => Workplace::Empty,
        },
        brief,
        verify: args.verify,
        free_check: false,
        claims: args.claim,
        grant: args.grant,
        is_tainted: false,
    };
    let started =
        fleet.plan(&wanted).and_then(|plan| fleet.start(plan, "human", &wanted.brief, &wanted.grant, None));
    let spec = started.map_err(|error| not_started("start", &args.id, error))?;
    let is_missing = |goal: &&Name| !app.layout.file(&layout::goal_path(goal)).exists();
    if let Some(goal) = spec.goal.as_ref().filter(is_missing) {
        print::note(&format!("warning: the goal {goal} does not exist; the worker holds its lease anyway"));
    }
    app.done(&spec.id, spec.id.as_str())
}

fn not_started(verb: &str, id: &str, error: WorkerError) -> anyhow::Error {
    match error {
        WorkerError::Refused(why) => anyhow!("could not {verb} worker {id}: {why}"),
        WorkerError::Failed(error) => error,
    }
}

/// Resumes an ended worker. Prints its id.
pub fn resume(app: &App, args: &WorkerResumeArgs) -> Result<u8> {
    let id = ls::choose(app, Some(&args.id), Chosen::Any)?.spec.id;
    let config = app.config()?;
    let cancel = Cancel::on_signals()?;
    let resumed = app.fleet(&config, &cancel, false).resume(&id);
    let spec = resumed.map_err(|error| not_started("resume", id.as_str(), error))?;
    app.done(&spec.id, spec.id.as_str())
}

/// Ends a worker and waits until it has ended.
pub fn kill(app: &App, args: &KillArgs) -> Result<u8> {
    let worker = ls::choose(app, Some(&args.id), Chosen::Any)?;
    let id = worker.spec.id.clone();
    if worker.state.phase == Phase::Lost {
        let _store = lock::store(&app.layout.store_lock())?;
        let now = workers::load(&app.layout, &id)?.filter(|now| now.state.phase == Phase::Lost);
        orphans::end_lost(&app.layout, now.as_slice());
    }
    if worker.state.phase.is_over() {
        bail!("could not end worker {id}: it has ended already ({})", worker.state.phase);
    }
    if args.force {
        return kill_by_force(app, &worker);
    }
    let dir = app.layout.worker(&id);
    let supervisor = &worker.state.supervisor;
    let pid = supervisor.pid;
    let mut notice_due = Some(Deadline::after_ms(SAY_MS));
    // A supervisor whose socket does not answer gets a signal instead.
    if client::call(&dir.attach_socket(), WireRequest::Kill).is_err() {
        tree::signal(pid, supervisor.start, false);
    }
    let deadline = Deadline::after_ms(END_MS);
    while workers::is_alive(&dir)? {
        if deadline.passed() {
            let fault = Fault::failed(format!("could not end worker {id}: its supervisor is still running"));
            let fault = fault.hint(format!("process {pid} is its supervisor"));
            let force = format!("`looop kill --force {id}` kills the supervisor and all processes");
            return Err(fault.hint(format!("{force} that the worker started")).into());
        }
        if notice_due.take_if(|due| due.passed()).is_some() {
            print::note(&match tree::is_stopped(pid, supervisor.start) {
                true => format!(
                    "waiting for {id}: its supervisor, process {pid}, is suspended; `kill -CONT {pid}` resumes it, and `looop kill --force {id}` ends it"
                ),
                false => format!("waiting for {id}: its supervisor ends the worker's processes"),
            });
        }
        pause_ms(10);
    }
    let phase = workers::load(&app.layout, &id)?.map(|worker| worker.state.phase);
    app.done(&id, &format!("{id}: {}", phase.as_ref().map_or("archived", Phase::as_ref)))
}

/// Kills a supervisor and all processes that the worker started, and does the rest of the supervisor's work: it
/// writes the state, releases the leases and removes the sockets.
fn kill_by_force(app: &App, worker: &Worker) -> Result<u8> {
    let id = &worker.spec.id;
    let (dir, supervisor) = (app.layout.worker(id), &worker.state.supervisor);
    let fail = |why: &str| Fault::failed(format!("could not end worker {id}: {why}"));
    if !tree::kill_tree((supervisor.pid, supervisor.start)) {
        let fault = fail("one of its processes does not react to signals");
        return Err(fault.hint(format!("inspect process {} and its descendants", supervisor.pid)).into());
    }
    if workers::is_alive(&dir)? {
        let fault = fail("another process holds its lock");
        return Err(fault.hint("see who holds it with `looop doctor`").into());
    }
    let store = lock::store(&app.layout.store_lock())?;
    let lost = workers::load(&app.layout, id)?.filter(|now| now.spec.created_ms == worker.spec.created_ms);
    let Some(lost) = lost.filter(|now| now.state.phase == Phase::Lost) else {
        return app.done(id, &format!("{id}: ended"));
    };
    orphans::end_lost(&app.layout, std::slice::from_ref(&lost));
    let leases = lost.state.leases.clone();
    let state = WorkerState {
        phase: Phase::Killed,
        since_ms: clock::now().unix_ms,
        why: Some("the user killed it with --force".to_owned()),
        leases: Vec::new(),
        ..lost.state
    };
    workers::save_state(&dir, &state)?;
    drop(store);
    leases::release(&app.layout, &Holder::Worker(id.clone()), &leases)?;
    let next = lost.spec.next_step(&state, &dir.clone_dir().to_string_lossy());
    logs::journal(
        &app.layout,
        &entry::worker_line(&lost.spec, &state.end_words(next.as_deref()), clock::now()),
    )?;
    for socket in [dir.attach_socket(), dir.worker_socket()] {
        // A socket without a listener does no harm; the next worker of this name replaces it.
        drop(std::fs::remove_file(socket));
    }
    app.done(id, &format!("{id}: {}", state.phase))
}

/// In a worker: calls the user. Outside: flags a worker as a reminder.
pub fn flag(app: &App, args: &FlagArgs) -> Result<u8> {
    if let Some(socket) = app.inside_worker() {
        client::call(&socket, WireRequest::Flag { text: args.words.join(" ") })?;
        return app.outcome(None, true, "");
    }
    app.user_only("flag a worker")?;
    let id = ls::choose(app, args.words.first().map(String::as_str), Chosen::Live)?.spec.id;
    let text = args.words.get(1..).unwrap_or_default().join(" ");
    let text = if text.is_empty() { "flagged by hand".to_owned() } else { text };
    client::call(&app.layout.worker(&id).attach_socket(), WireRequest::Flag { text })?;
    app.done(&id, &format!("{id}: flagged"))
}

/// Clears a flag.
pub fn unflag(app: &App, args: &UnflagArgs) -> Result<u8> {
    if let Some(socket) = app.inside_worker() {
        client::call(&socket, WireRequest::Unflag)?;
        return app.outcome(None, true, "");
    }
    app.user_only("unflag a worker")?;
    let any = ls::choose(app, args.id.as_deref(), Chosen::Any).ok();
    // A worker that has ended keeps its flag while work exists only in its clone.
    let ended = any.filter(|worker| worker.state.phase.is_over() && worker.state.flag.is_some());
    let id = if let Some(Worker { spec, .. }) = ended {
        let _store = lock::store(&app.layout.store_lock())?;
        let same = |now: &Worker| now.spec == spec && now.state.phase.is_over();
        if let Some(now) = workers::load(&app.layout, &spec.id)?.filter(same) {
            let state = WorkerState { flag: None, ..now.state };
            workers::save_state(&app.layout.worker(&spec.id), &state)?;
        }
        spec.id
    } else {
        let id = ls::choose(app, args.id.as_deref(), Chosen::Live)?.spec.id;
        client::call(&app.layout.worker(&id).attach_socket(), WireRequest::Unflag)?;
        id
    };
    app.done(&id, &format!("{id}: unflagged"))
}

pub fn tell(app: &App, args: &TellArgs) -> Result<u8> {
    let worker = ls::choose(app, Some(&args.id), Chosen::Live)?;
    let text = if args.text == "-" { input::stdin("the text")? } else { args.text.clone() };
    if text.trim().is_empty() {
        return Err(Fault::usage("could not tell the worker: the text is empty").into());
    }
    if text.len() > crate::rules::beat::decision::MAX_TEXT_BYTES {
        return Err(Fault::usage("could not tell the worker: the text is too long").into());
    }
    let notified = inbox::InboxMessage { by: "human".to_owned(), at_ms: clock::now().unix_ms, text };
    let _store = lock::store(&app.layout.store_lock())?;
    inbox::tell(&app.layout.worker(&worker.spec.id), &notified)?;
    ls::note_if_stopped(&worker);
    app.done(&worker.spec.id, &format!("told {}; it reads it with `looop inbox`", worker.spec.id))
}
