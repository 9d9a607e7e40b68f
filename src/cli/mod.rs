//! The commands: one file each, with its arguments and its `run`. clap lives only here.

mod asks;
mod cost;
mod demo;
mod doctor;
mod exec;
mod goal;
mod init;
mod input;
mod log;
mod manual;
mod pause;
mod playbook;
mod print;
mod pulse;
mod schedule;
mod scripted;
mod sensor;
mod status;
mod tick;
mod why;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::config::{self, Config, Env};
use crate::model::fault::{Fault, Kind};
use crate::model::time::Now;
use crate::store::layout::{self, Layout};
use crate::store::lock;
use crate::store::seed;
use crate::sys::clock;
use crate::sys::tree;
use print::{Style, When};

/// A tiny control loop for a person's work: sense, diff, gate, decide one move, act, log.
///
/// Without a command looop is the pulse: it runs a beat every interval, and at once when a goal, the playbook
/// or an answer changes, until it is interrupted.
#[derive(Debug, Parser)]
#[command(name = "looop", version, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Verb>,
    /// When to colour the output.
    #[arg(long, value_enum, global = true, default_value_t, value_name = "WHEN")]
    color: When,
}

#[derive(Debug, Subcommand)]
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
    /// List, show, write and archive goals.
    #[command(subcommand)]
    Goal(goal::Verb),
    /// List, show, add, try and remove sensors.
    #[command(subcommand)]
    Sensor(sensor::Verb),
    /// Show and write the playbook.
    #[command(subcommand)]
    Playbook(playbook::Verb),
    /// List, set and drop timers.
    #[command(subcommand)]
    Schedule(schedule::Verb),
    /// Stop deciding until `resume`.
    Pause(pause::PauseArgs),
    /// Decide again after a pause or a halt.
    Resume,
    /// Make the data dir and the config.
    Init,
    /// Check that everything looop needs is there and sound.
    Doctor(doctor::Args),
    /// See looop work in a temporary data dir, with a scripted runner.
    Demo(demo::Args),
    /// Print the version.
    Version,
    /// Print the full manual, or the part about one command.
    Help(manual::Args),
    /// Become a command once one byte arrives on stdin.
    #[command(name = "__exec", hide = true)]
    Exec(exec::Args),
    /// Answer with the next line of a script.
    #[command(name = "__scripted", hide = true)]
    Scripted(scripted::Args),
}

impl Verb {
    /// What the verb does, when only a human may do it.
    fn human_only(&self) -> Option<&'static str> {
        match self {
            Verb::Answer(_) => Some("answer"),
            Verb::Approve(_) => Some("approve"),
            Verb::Reject(_) => Some("reject"),
            Verb::Pause(_) => Some("pause"),
            Verb::Resume => Some("resume"),
            Verb::Goal(goal::Verb::Write { .. } | goal::Verb::Archive { .. }) => Some("change a goal"),
            Verb::Sensor(sensor::Verb::Add { .. } | sensor::Verb::Remove { .. }) => Some("change a sensor"),
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
    // Before anything else, because the child must not do more than wait and become the command.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let text = error.render();
            let ansi = if error.use_stderr() { print::stderr_is_tty() } else { print::stdout_is_tty() };
            let text = if ansi { text.ansi().to_string() } else { text.to_string() };
            if error.use_stderr() {
                print::note(text.trim_end())
            } else {
                print::raw(text.as_bytes())
            }
            return ExitCode::from(code);
        }
    };
    ExitCode::from(dispatch(cli).unwrap_or_else(|error| print::error(&error)))
}

fn dispatch(cli: Cli) -> Result<u8> {
    match &cli.command {
        Some(Verb::Exec(args)) => return exec::run(args),
        Some(Verb::Scripted(args)) => return scripted::run(args),
        Some(Verb::Version) => return manual::version(),
        Some(Verb::Help(args)) => return manual::run(args),
        _ => {}
    }
    let env = Env::read()?;
    let style = Style::new(cli.color, env.get("NO_COLOR").is_some());
    let app = App { layout: env.layout(), env, style, now: clock::now() };
    match cli.command {
        None => pulse::run(&app),
        Some(Verb::Init) => init::run(&app),
        Some(Verb::Demo(args)) => demo::run(&app, &args),
        Some(Verb::Doctor(args)) => doctor::run(&app, &args),
        Some(Verb::Tick(args)) => tick::run(&app, &args),
        Some(Verb::Run(args)) => tick::run_goal(&app, &args),
        Some(verb) => {
            app.ready()?;
            if let Some(what) = verb.human_only() {
                app.human_only(what)?;
            }
            match verb {
                Verb::Status(args) => status::run(&app, &args),
                Verb::Why(args) => why::run(&app, &args),
                Verb::Log(args) => log::run(&app, &args),
                Verb::Cost(args) => cost::run(&app, &args),
                Verb::Asks(args) => asks::list(&app, &args),
                Verb::Answer(args) => asks::answer(&app, &args),
                Verb::Approve(args) => asks::approve(&app, &args),
                Verb::Reject(args) => asks::reject(&app, &args),
                Verb::Goal(verb) => goal::run(&app, verb),
                Verb::Sensor(verb) => sensor::run(&app, verb),
                Verb::Playbook(verb) => playbook::run(&app, verb),
                Verb::Schedule(verb) => schedule::run(&app, verb),
                Verb::Pause(args) => pause::pause(&app, &args),
                Verb::Resume => pause::resume(&app),
                _ => Ok(0),
            }
        }
    }
}

impl App {
    /// Makes sure that there is a data dir this program may use; the first command makes it and says so.
    fn ready(&self) -> Result<()> {
        if !seed::is_set_up(&self.layout) {
            init::first_run(self)?;
        }
        layout::check(&self.layout)?;
        seed::make_dirs(&self.layout)
    }

    fn config(&self) -> Result<Config> {
        config::load(&self.env)
    }

    /// Refuses a verb that only a human may use to everything that a beat of this data dir has started. A beat
    /// that cannot be seen from here may be the one that started this process, so that counts as one.
    fn human_only(&self, verb: &str) -> Result<()> {
        let refused = match lock::holders(&self.layout.tick_lock()) {
            lock::Holders::Nobody => false,
            lock::Holders::Seen(pids) => tree::ancestors().iter().any(|pid| pids.contains(pid)),
            lock::Holders::Unseen => true,
        };
        let looking = lock::lookers(&self.layout.look_lock());
        if !refused && !tree::ancestors().iter().any(|pid| looking.contains(pid)) {
            return Ok(());
        }
        let what = format!("could not {verb}: this is for a human, and a beat of looop started this process");
        Err(Fault::failed(what).into())
    }
}

/// The envelope of every `--json` answer.
fn envelope(key: &str, value: serde_json::Value) -> serde_json::Value {
    serde_json::json!({ "schema_version": 1, key: value })
}

/// The envelope around several keys.
fn envelope_with(mut value: serde_json::Value) -> serde_json::Value {
    value["schema_version"] = 1.into();
    value
}

/// Finds the one id that is meant: an exact one, else a unique prefix.
fn pick<'a>(kind: &str, wanted: &str, all: impl Iterator<Item = &'a str>) -> Result<&'a str> {
    let all: Vec<&str> = all.collect();
    if let Some(exact) = all.iter().find(|id| **id == wanted) {
        return Ok(exact);
    }
    let hits: Vec<&str> =
        all.iter().copied().filter(|id| !wanted.is_empty() && id.starts_with(wanted)).collect();
    match hits.as_slice() {
        [one] => Ok(one),
        [] if all.is_empty() => {
            Err(Fault::usage(format!("could not find {kind} {wanted:?}: there is none")).into())
        }
        [] => {
            let fault = Fault::usage(format!("could not find {kind} {wanted:?}"));
            Err(fault.hint(format!("there are: {}", all.join(", "))).into())
        }
        many => {
            let fault =
                Fault { kind: Kind::Usage, what: format!("{wanted:?} is not unique"), hints: Vec::new() };
            Err(fault.hint(format!("it could be: {}", many.join(", "))).into())
        }
    }
}
