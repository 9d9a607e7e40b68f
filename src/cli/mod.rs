//! The commands: one file each, with its arguments and its `run`. clap lives only here.

mod admit;
mod asks;
mod attach;
mod attempts;
mod claims;
mod collect;
mod compare;
mod complete;
mod cost;
mod demo;
mod doctor;
mod exec;
mod fix;
mod forms;
mod goal;
mod init;
mod inner;
mod input;
mod log;
mod logs;
mod ls;
mod manual;
mod map;
mod pause;
mod pick;
mod playbook;
mod print;
mod prune;
mod pulse;
mod save;
mod schedule;
mod schema;
mod scripted;
mod sensor;
mod service;
mod status;
mod surface;
mod tick;
mod trust;
mod why;
mod worker;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::config::{self, Config, Env};
use crate::model::fault::Fault;
use crate::model::time::Now;
use crate::store::layout::{self, Layout};
use crate::store::seed;
use crate::sys::clock;
use crate::sys::privacy;
use crate::sys::program;
use crate::sys::session;
use crate::sys::tree;
use crate::worker::supervise;
use pick::pick;
use print::{ColorWhen, Style};

/// A tiny control loop for your work: sense, diff, gate, decide one move, act, log.
///
/// Without a command, looop starts the pulse: it runs a beat at each interval, and at once when a goal, the
/// playbook or an answer changes, until you interrupt it.
#[derive(Debug, Parser)]
#[command(
    name = "looop",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Examples:\n  looop demo\n  looop init\n  looop"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Verb>,
    /// When to use colours: auto (on a terminal, unless NO_COLOR is set), always or never.
    #[arg(long, value_enum, global = true, default_value_t, value_name = "WHEN")]
    #[arg(hide_possible_values = true)]
    color: ColorWhen,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
    /// Run one beat and exit; for cron. Exit status 75: another beat is running.
    Tick(tick::Args),
    /// Decide on one move for a goal now, even if nothing changed.
    Run(tick::RunArgs),
    /// Show the state of the loop, its goals, sensors, workers and budget.
    Status(status::Args),
    /// Show what woke the loop last and what would wake it now.
    Why(why::Args),
    /// Show the journal, newest line last, or the prompt and the reply of one beat.
    Log(log::Args),
    /// Show what was spent.
    Cost(cost::Args),
    /// List questions and approvals that wait for you.
    Asks(asks::AsksArgs),
    /// Answer a question.
    Answer(asks::AnswerArgs),
    /// Approve one exact move.
    Approve(asks::ApproveArgs),
    /// Reject a move.
    Reject(asks::RejectArgs),
    /// List workers; those that need you come first.
    Ls(ls::Args),
    /// Block until something needs you. Exit status: 3 you are needed, 0 nothing is running, 1 timed out.
    Wait(ls::WaitArgs),
    /// Show a worker's screen and type into it; Ctrl-\ Ctrl-\ leaves it running.
    Attach(attach::Args),
    /// Print the output of a worker.
    Logs(logs::LogsArgs),
    /// Print the current screen of a worker.
    Screen(logs::ScreenArgs),
    /// Delete the data of ended workers; a clone with unmerged work stays unless --force.
    Prune(prune::Args),
    /// Let an agent work on small tasks in a private clone until their tests pass. Exit status 3: it waits for you.
    Fix(Box<fix::Args>),
    /// Allow a leanfile inside a project to name agents, addresses, paths and commands.
    Trust(trust::Args),
    /// Show which files of a project matter for a failure or a question, and why.
    Map(map::Args),
    /// Show the attempts for a goal of `looop fix`.
    Attempts(attempts::Args),
    /// List who may work on what.
    Claims(claims::ClaimsArgs),
    /// Take a lease, so that only you work on a resource; in a worker: for the worker.
    Claim(claims::ClaimArgs),
    /// Release a lease.
    Release(claims::ReleaseArgs),
    /// Start a worker yourself.
    #[command(subcommand)]
    Worker(worker::WorkerVerb),
    /// End a worker and all processes that it started.
    Kill(worker::KillArgs),
    /// In a worker: call the user. Outside: flag a worker, as a reminder for you.
    Flag(worker::FlagArgs),
    /// Clear a flag.
    Unflag(worker::OneArgs),
    /// Send a text to a worker.
    Tell(worker::TellArgs),
    /// In a worker: ask the user a question and wait; prints only the answer.
    Ask(inner::AskArgs),
    /// In a worker: print the messages that arrived since the last call.
    #[command(after_help = "Example:\n  looop inbox")]
    Inbox,
    /// In a worker: hand in a file for the user, from stdin.
    Report(inner::ReportArgs),
    /// In a worker: report what the worker has spent.
    Spend(inner::SpendArgs),
    /// In a worker: declare the work done. This ends the worker; then the checks run.
    #[command(after_help = "Example:\n  looop done")]
    Done,
    /// List, show, compare, write and archive goals.
    #[command(subcommand)]
    Goal(goal::GoalVerb),
    /// List, show, compare, add, test and remove sensors.
    #[command(subcommand)]
    Sensor(sensor::SensorVerb),
    /// Show, compare and write the playbook.
    #[command(subcommand)]
    Playbook(playbook::PlaybookVerb),
    /// List, set and remove timers.
    #[command(subcommand)]
    Schedule(schedule::ScheduleVerb),
    /// Stop deciding until `looop resume`.
    Pause(pause::PauseArgs),
    /// Decide again after a pause or a halt; with --budget: after a budget is used up.
    Resume(pause::ResumeArgs),
    /// Create the data dir and the config.
    #[command(after_help = "Example:\n  looop init")]
    Init,
    /// Run the pulse under systemd or launchd, or beats from cron.
    #[command(subcommand)]
    Service(service::ServiceVerb),
    /// Check that looop has all that it needs.
    Doctor(doctor::Args),
    /// Watch looop work in a temporary data dir, with a scripted runner.
    Demo(demo::Args),
    /// Print the completion script of a shell; it completes worker and ask ids too.
    Completions(complete::Args),
    /// Print the manual page, or write one page per command.
    Man(complete::ManArgs),
    /// Print the JSON schema of a command's `--json` output, of the config or of a move.
    Schema(schema::Args),
    /// Print the version.
    #[command(after_help = "Example:\n  looop version")]
    Version,
    /// Print the full manual, or the help of one command.
    Help(manual::Args),
    /// Execute a command once one byte arrives on stdin.
    #[command(name = "__exec-gated", hide = true)]
    Exec(exec::Args),
    /// Execute a command inside its sandbox.
    #[command(name = "__sandbox-exec", hide = true)]
    Sandbox(exec::BoxArgs),
    /// Create the network of a sandbox and run a command in it.
    #[command(name = "__net", hide = true)]
    Networked(exec::NetArgs),
    /// Fetch the commits of a worker into the repository that it works for.
    #[command(name = "__fetch-branch", hide = true)]
    Collect(collect::Args),
    /// Reply with the next line of a script.
    #[command(name = "__scripted", hide = true)]
    Scripted(scripted::Args),
    /// Continue as the pulse after an upgrade replaced the program of this process.
    #[command(name = "__reexec", alias = "__again", hide = true)]
    Again(pulse::AgainArgs),
    /// Report the status of a worker's program; called by one of its hooks.
    #[command(name = "__hook-status", alias = "__fares", hide = true)]
    HookStatus(inner::HookStatusArgs),
    /// Show workers that wait for the user in tmux and to the notifier.
    #[command(name = "__sync-windows", hide = true)]
    Surface,
}

impl Verb {
    /// True for the verbs that end what their children leave behind: a beat in this process and a fix.
    fn sweeps(&self) -> bool {
        matches!(self, Verb::Tick(_) | Verb::Run(_) | Verb::Fix(_))
    }

    /// True for a verb that talks to the worker's supervisor.
    fn is_workers(&self) -> bool {
        use Verb::{Ask, Claim, Done, Flag, HookStatus, Inbox, Release, Report, Spend, Unflag};
        matches!(
            self,
            Ask(_)
                | Claim(_)
                | Done
                | HookStatus(_)
                | Flag(_)
                | Release(_)
                | Report(_)
                | Spend(_)
                | Inbox
                | Unflag(_)
        )
    }

    /// The verb's action, if only the user may do it. `claim` and `flag` are for the user only outside of a
    /// worker; they check that themselves.
    fn human_only(&self) -> Option<&'static str> {
        match self {
            Verb::Answer(_) => Some("answer"),
            Verb::Approve(_) => Some("approve"),
            Verb::Reject(_) => Some("reject"),
            Verb::Pause(_) => Some("pause"),
            Verb::Resume(_) => Some("resume"),
            Verb::Attach(_) => Some("attach"),
            Verb::Prune(_) => Some("prune"),
            Verb::Trust(args) if args.changes() => Some("trust a file"),
            Verb::Worker(_) => Some("start a worker"),
            Verb::Kill(_) => Some("end a worker"),
            Verb::Tell(_) => Some("tell a worker"),
            Verb::Goal(goal::GoalVerb::Write { .. } | goal::GoalVerb::Archive { .. }) => {
                Some("change a goal")
            }
            Verb::Sensor(sensor::SensorVerb::Add(_) | sensor::SensorVerb::Remove { .. }) => {
                Some("change a sensor")
            }
            Verb::Playbook(playbook::PlaybookVerb::Write { .. }) => Some("change the playbook"),
            Verb::Schedule(schedule::ScheduleVerb::Set(_) | schedule::ScheduleVerb::Drop { .. }) => {
                Some("change a schedule")
            }
            _ => None,
        }
    }
}

/// The context of every command.
struct App {
    env: Env,
    layout: Layout,
    style: Style,
    now: Now,
}

pub fn main() -> ExitCode {
    print::print_panics();
    if let Err(error) = session::reset_inherited() {
        print::note(&format!("error: could not reset the signals of this process: {error}"));
        return ExitCode::FAILURE;
    }
    if config::holds_secrets() {
        privacy::close();
    }
    // Handle the supervisor before clap runs: memory that clap touches would stay resident for the supervisor's
    // whole life.
    if let Some((root, cache, id)) = config::supervisor_args() {
        return ExitCode::from(u8::from(supervise::run(root, cache, &id).is_err()));
    }
    if complete::asked() {
        return ExitCode::SUCCESS;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(manual::unread(&error)),
    };
    ExitCode::from(dispatch(cli).unwrap_or_else(|error| print::error(&error, &config::secrets())))
}

fn dispatch(cli: Cli) -> Result<u8> {
    match &cli.command {
        Some(Verb::Exec(args)) => return exec::run(args),
        Some(Verb::Sandbox(args)) => return exec::run_sandboxed(args),
        Some(Verb::Networked(args)) => return exec::run_networked(args),
        Some(Verb::Scripted(args)) => return scripted::run(args),
        Some(Verb::Completions(args)) => return complete::run(args),
        Some(Verb::Man(args)) => return complete::man(args),
        Some(Verb::Schema(args)) => return schema::run(args),
        Some(Verb::Version) => return manual::version(),
        Some(Verb::Help(args)) => return manual::run(args),
        _ => {}
    }
    // These verbs reap orphans. Children that the shell had before it executed looop must not be among them.
    if cli.command.as_ref().is_none_or(Verb::sweeps) && tree::has_children() {
        return Ok(program::run_again(&config::own_args())?);
    }
    let env = Env::read()?;
    let style = Style::new(cli.color, env.get("NO_COLOR").is_some());
    let app = App { layout: env.layout(), env, style, now: clock::now() };
    if app.env.is_dir_gone() {
        program::work_in(std::path::Path::new("/"))
            .context("could not leave the current directory, which was deleted")?;
    }
    match cli.command {
        None => pulse::run(&app),
        Some(Verb::Again(args)) => pulse::again(&app, &args),
        Some(Verb::Collect(args)) => collect::run(&app, &args),
        Some(Verb::Init) => init::run(&app),
        Some(Verb::Service(verb)) => service::run(&app, verb),
        Some(Verb::Surface) => surface::run(&app),
        Some(Verb::Demo(args)) => demo::run(&app, &args),
        Some(Verb::Doctor(args)) => doctor::run(&app, &args),
        Some(Verb::Map(args)) => map::run(&app, &args),
        Some(Verb::Tick(args)) => tick::run(&app, &args),
        Some(Verb::Run(args)) => tick::run_goal(&app, &args),
        Some(verb) => {
            app.admit(&verb)?;
            match verb {
                Verb::Status(args) => status::run(&app, &args),
                Verb::Why(args) => why::run(&app, &args),
                Verb::Log(args) => log::run(&app, &args),
                Verb::Cost(args) => cost::run(&app, &args),
                Verb::Asks(args) => asks::list(&app, &args),
                Verb::Answer(args) => asks::answer(&app, &args),
                Verb::Approve(args) => asks::approve(&app, &args),
                Verb::Reject(args) => asks::reject(&app, &args),
                Verb::Ls(args) => ls::run(&app, &args),
                Verb::Wait(args) => ls::wait(&app, &args),
                Verb::Attach(args) => attach::run(&app, &args),
                Verb::Logs(args) => logs::logs(&app, &args),
                Verb::Screen(args) => logs::screen(&app, &args),
                Verb::Prune(args) => prune::run(&app, &args),
                Verb::Claims(args) => claims::list(&app, &args),
                Verb::Claim(args) => claims::claim(&app, &args),
                Verb::Release(args) => claims::release(&app, &args),
                Verb::Worker(verb) => worker::run(&app, verb),
                Verb::Kill(args) => worker::kill(&app, &args),
                Verb::Flag(args) => worker::flag(&app, &args),
                Verb::Unflag(args) => worker::unflag(&app, &args),
                Verb::Tell(args) => worker::tell(&app, &args),
                Verb::Ask(args) => inner::ask(&app, &args),
                Verb::Inbox => inner::notified(&app),
                Verb::Report(args) => inner::report(&app, &args),
                Verb::Spend(args) => inner::spend(&app, &args),
                Verb::Done => inner::done(&app),
                verb => run_other(&app, verb),
            }
        }
    }
}

/// Runs the verbs that do not concern workers.
fn run_other(app: &App, verb: Verb) -> Result<u8> {
    match verb {
        Verb::HookStatus(args) => inner::hook_status(app, &args),
        Verb::Goal(verb) => goal::run(app, verb),
        Verb::Sensor(verb) => sensor::run(app, verb),
        Verb::Playbook(verb) => playbook::run(app, verb),
        Verb::Schedule(verb) => schedule::run(app, verb),
        Verb::Pause(args) => pause::pause(app, &args),
        Verb::Resume(args) => pause::resume(app, &args),
        Verb::Fix(args) => fix::run(app, &args),
        Verb::Attempts(args) => attempts::run(app, &args),
        Verb::Trust(args) => trust::run(app, &args),
        _ => Ok(0),
    }
}

impl App {
    /// Checks that the profile can be used, and creates the directories that it lacks. Only `init`, `demo` and
    /// a first pulse on a terminal create a profile.
    ///
    /// # Errors
    /// The profile does not exist, or cannot be used.
    fn ready(&self) -> Result<()> {
        if !seed::is_set_up(&self.layout) {
            return Err(self.no_profile());
        }
        layout::check(&self.layout)?;
        seed::make_dirs(&self.layout)
    }

    /// The error for a missing or unusable profile.
    fn no_profile(&self) -> anyhow::Error {
        let root = self.layout.root();
        if root.symlink_metadata().is_ok()
            && let Err(error) = layout::check_root(&self.layout)
        {
            return error;
        }
        match self.env.get("LOOOP_DATA_DIR") {
            Some(_) => {
                let what =
                    format!("could not use LOOOP_DATA_DIR: there is no profile at `{}`", root.display());
                Fault::failed(what).hint("correct LOOOP_DATA_DIR, or make a profile there with `looop init`")
            }
            None => {
                let what = format!("could not find a profile: there is none at `{}`", root.display());
                Fault::failed(what).hint("make one with `looop init`")
            }
        }
        .into()
    }

    /// Like [`App::ready`], for a command that keeps its own state and so can run without a profile.
    ///
    /// # Errors
    /// The profile cannot be used, or LOOOP_DATA_DIR names a directory without one.
    fn ready_without_profile(&self) -> Result<()> {
        match seed::is_set_up(&self.layout) {
            true => self.ready(),
            false if self.has_supervisor() || self.env.get("LOOOP_DATA_DIR").is_none() => Ok(()),
            false => Err(self.no_profile()),
        }
    }

    /// Notes where a command keeps its state if no profile exists.
    fn note_own_state(&self, dir: &std::path::Path) {
        if !seed::is_set_up(&self.layout) && !self.has_supervisor() {
            let dir = dir.display();
            print::note(&format!("looop: no profile exists; this command keeps its state in `{dir}`"));
        }
    }

    /// Changes to the data dir, because the directory in which this process started may be removed while it
    /// runs. The caller must have made its paths absolute.
    fn enter_data_dir(&self) -> Result<()> {
        let root = self.layout.root();
        program::work_in(root).with_context(|| format!("could not enter the data dir `{}`", root.display()))
    }

    fn config(&self) -> Result<Config> {
        config::load(&self.env)
    }

    /// The supervisor's socket, if this process belongs to a worker.
    fn inside_worker(&self) -> Option<std::path::PathBuf> {
        self.env.get("LOOOP_SOCKET").map(std::path::PathBuf::from)
    }
}

/// The envelope of every `--json` answer. It moves the value in; `json!` would copy it.
fn envelope(key: &str, value: serde_json::Value) -> serde_json::Value {
    let fields = [("schema_version".to_owned(), 1.into()), (key.to_owned(), value)];
    serde_json::Value::Object(fields.into_iter().collect())
}

/// The envelope of an answer with several keys.
fn envelope_with(mut value: serde_json::Value) -> serde_json::Value {
    value["schema_version"] = 1.into();
    value
}
