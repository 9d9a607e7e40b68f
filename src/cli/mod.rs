//! The commands: one file each, with its arguments and its `run`. clap lives only here.

mod admit;
mod asks;
mod attach;
mod attempts;
mod bench;
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
use print::{Style, When};

/// A tiny control loop for a person's work: sense, diff, gate, decide one move, act, log.
///
/// Without a command looop is the pulse: it runs a beat every interval, and at once when a goal, the playbook
/// or an answer changes, until it is interrupted.
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
    /// When to colour the output: auto (on a terminal, unless NO_COLOR is set), always or never.
    #[arg(long, value_enum, global = true, default_value_t, value_name = "WHEN")]
    #[arg(hide_possible_values = true)]
    color: When,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
    /// Run one beat and end; for cron. Exit 75: another beat is running.
    Tick(tick::Args),
    /// Decide on one move for a goal now, even if nothing changed.
    Run(tick::RunArgs),
    /// Show where everything stands.
    Status(status::Args),
    /// Show what woke the loop and what would wake it now.
    Why(why::Args),
    /// Show the journal, newest last, or what one beat was asked and answered.
    Log(log::Args),
    /// Show what was spent.
    Cost(cost::Args),
    /// List questions and approvals that wait for you.
    Asks(asks::ListArgs),
    /// Answer a question.
    Answer(asks::AnswerArgs),
    /// Say yes to one exact move.
    Approve(asks::ApproveArgs),
    /// Say no to a move.
    Reject(asks::RejectArgs),
    /// List workers; those that need you first.
    Ls(ls::Args),
    /// Wait until something needs a human. Exit 3: something does. 0: nothing can come. 1: time is up.
    Wait(ls::WaitArgs),
    /// Show a worker's screen and type into it; Ctrl-\ Ctrl-\ leaves it running.
    Attach(attach::Args),
    /// Print what a worker printed.
    Logs(logs::LogsArgs),
    /// Print what stands on a worker's screen.
    Screen(logs::ScreenArgs),
    /// Remove what is kept of ended workers, but for work that is nowhere else.
    Prune(prune::Args),
    /// Work on small tasks with an agent in a private clone until their tests pass. Exit 3: it waits for you.
    Fix(Box<fix::Args>),
    /// Let a leanfile inside a project name agents, addresses, paths and commands.
    Trust(trust::Args),
    /// Show which files of a project matter for a failure or a question, and why.
    Map(map::Args),
    /// Show what was tried for a goal of `looop fix`.
    Attempts(attempts::Args),
    /// Measure the fix loop on seeded bugs with scripted agents.
    #[command(subcommand)]
    Bench(bench::Verb),
    /// List who may work on what.
    Claims(claims::ListArgs),
    /// Take a lease, so that nobody else works on a thing; in a worker: for the worker.
    Claim(claims::ClaimArgs),
    /// Give a lease back.
    Release(claims::ReleaseArgs),
    /// Start a worker by hand.
    #[command(subcommand)]
    Worker(worker::Verb),
    /// End a worker, with everything that it has started.
    Kill(worker::KillArgs),
    /// Call for a human; by hand: flag a worker, so that it is not forgotten.
    Flag(worker::FlagArgs),
    /// Take a flag down.
    Unflag(worker::OneArgs),
    /// Send a text to a worker.
    Tell(worker::TellArgs),
    /// In a worker: put a question to the human and wait; prints the answer alone.
    Ask(inner::AskArgs),
    /// In a worker: print what was sent to it since it last looked.
    #[command(after_help = "Example:\n  looop told")]
    Told,
    /// In a worker: hand in a file from stdin, for people to read.
    Report(inner::ReportArgs),
    /// In a worker: say what it has spent.
    Spend(inner::SpendArgs),
    /// In a worker: say that the work is done, which ends the worker; then the checks run.
    #[command(after_help = "Example:\n  looop done")]
    Done,
    /// List, show, compare, write and archive goals.
    #[command(subcommand)]
    Goal(goal::Verb),
    /// List, show, compare, add, try and remove sensors.
    #[command(subcommand)]
    Sensor(sensor::Verb),
    /// Show, compare and write the playbook.
    #[command(subcommand)]
    Playbook(playbook::Verb),
    /// List, set and drop timers.
    #[command(subcommand)]
    Schedule(schedule::Verb),
    /// Stop deciding until `resume`.
    Pause(pause::PauseArgs),
    /// Decide again after a pause or a halt; with --budget: after a budget was used up.
    Resume(pause::ResumeArgs),
    /// Make the data dir and the config.
    #[command(after_help = "Example:\n  looop init")]
    Init,
    /// Have the pulse run by systemd or launchd, or beats by cron.
    #[command(subcommand)]
    Service(service::Verb),
    /// Check that everything looop needs is there and sound.
    Doctor(doctor::Args),
    /// See looop work in a temporary data dir, with a scripted runner.
    Demo(demo::Args),
    /// Print completions for a shell; worker and ask ids complete too.
    Completions(complete::Args),
    /// Print the manual page, or write one page per command.
    Man(complete::ManArgs),
    /// Print the JSON schema of what a command prints with `--json`, or of the config or a move.
    Schema(schema::Args),
    /// Print the version.
    #[command(after_help = "Example:\n  looop version")]
    Version,
    /// Print the full manual, or the part about one command.
    Help(manual::Args),
    /// Become a command once one byte arrives on stdin.
    #[command(name = "__exec", hide = true)]
    Exec(exec::Args),
    /// Become a command in its box.
    #[command(name = "__box", hide = true)]
    Boxed(exec::BoxArgs),
    /// Make the network of a box and run a command in it.
    #[command(name = "__net", hide = true)]
    Networked(exec::NetArgs),
    /// Bring the commits of a worker back into the repository that it works for.
    #[command(name = "__collect", hide = true)]
    Collect(collect::Args),
    /// Answer with the next line of a script.
    #[command(name = "__scripted", hide = true)]
    Scripted(scripted::Args),
    /// Go on as the pulse that this process was until its program was replaced.
    #[command(name = "__again", hide = true)]
    Again(pulse::AgainArgs),
    /// Say how a worker's program fares, as one of its hooks.
    #[command(name = "__fares", hide = true)]
    Fares(inner::FaresArgs),
    /// Show workers that wait for a human where the human is.
    #[command(name = "__surface", hide = true)]
    Surface,
}

impl Verb {
    /// True for the verbs that end what their children leave behind: a beat in this process, a fix, and the fixes of a bench.
    fn sweeps(&self) -> bool {
        matches!(self, Verb::Tick(_) | Verb::Run(_) | Verb::Fix(_) | Verb::Bench(_))
    }

    /// True for a verb that goes through the worker's supervisor.
    fn is_workers(&self) -> bool {
        use Verb::{Ask, Claim, Done, Fares, Flag, Release, Report, Spend, Told, Unflag};
        matches!(
            self,
            Ask(_)
                | Claim(_)
                | Done
                | Fares(_)
                | Flag(_)
                | Release(_)
                | Report(_)
                | Spend(_)
                | Told
                | Unflag(_)
        )
    }

    /// What the verb does, when only a human may do it. A claim or a flag is a human's only outside of a worker, and
    /// asks itself.
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
            Verb::Goal(goal::Verb::Write { .. } | goal::Verb::Archive { .. }) => Some("change a goal"),
            Verb::Sensor(sensor::Verb::Add(_) | sensor::Verb::Remove { .. }) => Some("change a sensor"),
            Verb::Playbook(playbook::Verb::Write { .. }) => Some("change the playbook"),
            Verb::Schedule(schedule::Verb::Set(_) | schedule::Verb::Drop { .. }) => Some("change a schedule"),
            _ => None,
        }
    }
}

/// What every command works with.
struct App {
    env: Env,
    layout: Layout,
    style: Style,
    now: Now,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    print::print_panics();
    if let Err(error) = session::reset_inherited() {
        print::note(&format!("error: could not reset the signals of this process: {error}"));
        return ExitCode::FAILURE;
    }
    if config::holds_secrets() {
        privacy::close();
    }
    // Before the arguments are parsed: what that needs in memory a supervisor would keep for as long as it lives.
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
        Some(Verb::Boxed(args)) => return exec::run_boxed(args),
        Some(Verb::Networked(args)) => return exec::run_networked(args),
        Some(Verb::Scripted(args)) => return scripted::run(args),
        Some(Verb::Completions(args)) => return complete::run(args),
        Some(Verb::Man(args)) => return complete::man(args),
        Some(Verb::Schema(args)) => return schema::run(args),
        Some(Verb::Version) => return manual::version(),
        Some(Verb::Help(args)) => return manual::run(args),
        _ => {}
    }
    // It ends what its own children leave behind; those that a shell had before it became looop stay apart.
    if cli.command.as_ref().is_none_or(Verb::sweeps) && tree::has_children() {
        return Ok(program::run_again(&config::own_args())?);
    }
    let env = Env::read()?;
    let style = Style::new(cli.color, env.get("NO_COLOR").is_some());
    let app = App { layout: env.layout(), env, style, now: clock::now() };
    if app.env.is_dir_gone() {
        program::work_in(std::path::Path::new("/")).context("could not leave a directory that is gone")?;
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
        Some(Verb::Bench(verb)) => bench::run(&app, verb),
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
                Verb::Told => inner::told(&app),
                Verb::Report(args) => inner::report(&app, &args),
                Verb::Spend(args) => inner::spend(&app, &args),
                Verb::Done => inner::done(&app),
                verb => run_other(&app, verb),
            }
        }
    }
}

/// What has nothing to do with workers.
fn run_other(app: &App, verb: Verb) -> Result<u8> {
    match verb {
        Verb::Fares(args) => inner::fares(app, &args),
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
    /// Checks that this program may use the profile, and makes directories that are missing in it. Only `init`, `demo`
    /// and a first pulse on a terminal make a profile.
    ///
    /// # Errors
    /// When there is no profile, or one that cannot be used.
    fn ready(&self) -> Result<()> {
        if !seed::is_set_up(&self.layout) {
            return Err(self.no_profile());
        }
        layout::check(&self.layout)?;
        seed::make_dirs(&self.layout)
    }

    /// Why there is no profile to use.
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

    /// Allows a command that keeps its own state to run without a profile.
    ///
    /// # Errors
    /// When there is a profile that cannot be used, or LOOOP_DATA_DIR names a directory without one.
    fn ready_without_profile(&self) -> Result<()> {
        match seed::is_set_up(&self.layout) {
            true => self.ready(),
            false if self.has_supervisor() || self.env.get("LOOOP_DATA_DIR").is_none() => Ok(()),
            false => Err(self.no_profile()),
        }
    }

    /// Says once where a command keeps its own state, where there is no profile.
    fn note_own_state(&self, dir: &std::path::Path) {
        if !seed::is_set_up(&self.layout) && !self.has_supervisor() {
            let dir = dir.display();
            print::note(&format!("looop: there is no profile; what this command keeps is in `{dir}`"));
        }
    }

    /// Leaves the directory that this process was started in, which may be removed while it runs. Paths of the caller are
    /// absolute by then.
    fn enter_data_dir(&self) -> Result<()> {
        let root = self.layout.root();
        program::work_in(root).with_context(|| format!("could not enter the data dir `{}`", root.display()))
    }

    fn config(&self) -> Result<Config> {
        config::load(&self.env)
    }

    /// The socket of the supervisor, when this process is a worker's.
    fn inside_worker(&self) -> Option<std::path::PathBuf> {
        self.env.get("LOOOP_SOCKET").map(std::path::PathBuf::from)
    }
}

/// The envelope of every `--json` answer. It takes the value as it is: `json!` would copy all of it.
fn envelope(key: &str, value: serde_json::Value) -> serde_json::Value {
    let fields = [("schema_version".to_owned(), 1.into()), (key.to_owned(), value)];
    serde_json::Value::Object(fields.into_iter().collect())
}

/// The envelope around several keys.
fn envelope_with(mut value: serde_json::Value) -> serde_json::Value {
    value["schema_version"] = 1.into();
    value
}
