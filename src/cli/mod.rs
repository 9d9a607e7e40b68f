//! The commands: one file each, with its arguments and its `run`. clap lives only here.

mod alerts;
mod app;
mod asks;
mod attach;
mod attempt;
mod backup;
mod collect;
mod compare;
mod complete;
mod config_file;
mod cost;
mod demo;
mod doctor;
mod exec;
mod findings;
mod fix;
mod goal;
mod init;
mod input;
mod json_output;
mod leanfile;
mod lease;
mod log;
mod logs;
mod ls;
mod manual;
mod map;
mod pause;
mod pick;
mod playbook;
mod policy;
mod print;
mod prune;
mod pulse;
mod save;
mod schedule;
mod schema;
mod sensor;
mod service;
mod status;
mod tick;
mod why;
mod worker;
mod worker_api;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::config;
use crate::os::process::reaper;
use crate::os::{privacy, program, signal};
use crate::rules::beat::ask::AskKind;
use crate::worker::supervisor;
use app::App;
use compare::{DiffArgs, Of};
use print::ColorWhen;

// What most commands need; they import these names from here.
use crate::os::signal::Cancel;
use crate::rules::cost::charge::dollars;
use crate::rules::fault::Fault;
use crate::rules::json::clip;
use crate::rules::name::Name;
use crate::rules::text::visible;
use crate::rules::time::human_ms;
use pick::{pick, unknown};

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
    /// Print JSON; `looop schema` has its form.
    #[arg(long, global = true)]
    json: bool,
    /// The words of the command: `goal write`; empty for the pulse.
    #[arg(skip)]
    verb: String,
}

/// The commands that have no JSON, and why.
const WITHOUT_JSON: [(&str, &str); 8] = [
    ("", "the pulse runs until you stop it"),
    ("attach", "it draws a worker's screen"),
    ("worker attach", "it draws a worker's screen"),
    ("completions", "it prints a shell script"),
    ("demo", "it is a text for readers"),
    ("help", "it prints the manual"),
    ("man", "it prints the manual"),
    ("schema", "its schemas are JSON without a flag"),
];

/// The top-level verbs, in the order of the help. [`manual::GROUPS`] says with which verb a group begins.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
    /// List workers; those that need you come first.
    Ls(ls::Args),
    /// List questions and approvals that wait for you.
    Asks(asks::AsksArgs),
    /// Answer a question.
    Answer(asks::AnswerArgs),
    /// Approve one exact move.
    Approve(asks::ApproveArgs),
    /// Reject a move.
    #[command(visible_alias = "deny")]
    Reject(asks::RejectArgs),
    /// Show a worker's screen and type into it; Ctrl-\ Ctrl-\ leaves it.
    Attach(attach::Args),
    /// Print the output of a worker.
    Logs(logs::LogsArgs),
    /// Print the current screen of a worker.
    Screen(logs::ScreenArgs),
    /// Send a text to a worker.
    Tell(worker::TellArgs),
    /// End a worker and all processes that it started.
    Kill(worker::KillArgs),
    /// Block until something needs you.
    Wait(ls::WaitArgs),
    /// Delete the data of ended workers; unmerged work stays.
    Prune(prune::Args),
    /// Run one beat and exit; for cron.
    Tick(tick::Args),
    /// Decide on one move for a goal now, even if nothing changed.
    Run(tick::RunArgs),
    /// Show the state of the loop, its goals, sensors and workers.
    #[command(after_help = "Examples:\n  looop status\n  looop status --json | jq .gate.words")]
    Status,
    /// Show what woke the loop last and what would wake it now.
    #[command(after_help = "Example:\n  looop why")]
    Why,
    /// Show the journal, or the prompt and the reply of one beat.
    Log(log::Args),
    /// Show what was spent.
    Cost(cost::Args),
    /// Stop deciding until `looop resume`.
    Pause(pause::PauseArgs),
    /// Decide again after a pause, a halt or a used-up budget.
    Resume(pause::ResumeArgs),
    /// List, show, start, watch and end workers.
    #[command(subcommand)]
    Worker(worker::WorkerVerb),
    /// List, claim and release leases: who may work on what.
    #[command(subcommand)]
    Lease(lease::LeaseVerb),
    /// List, show and answer questions.
    #[command(subcommand)]
    Question(asks::QuestionVerb),
    /// List, show, approve and reject moves that wait for approval.
    #[command(subcommand)]
    Approval(asks::ApprovalVerb),
    /// Say what policy decides about a command.
    #[command(subcommand)]
    Policy(policy::PolicyVerb),
    /// List, show, write, edit, rename, archive and restore goals.
    #[command(subcommand)]
    Goal(goal::GoalVerb),
    /// List, show, add, edit, test, archive and restore sensors.
    #[command(subcommand)]
    Sensor(sensor::SensorVerb),
    /// Show, compare and write the playbook.
    #[command(subcommand)]
    Playbook(playbook::PlaybookVerb),
    /// List, set, remove and restore timers.
    #[command(subcommand)]
    Schedule(schedule::ScheduleVerb),
    /// Let an agent work in a private clone until the tests pass.
    Fix(Box<fix::Args>),
    /// List, show and compare the attempts of `looop fix`.
    #[command(subcommand)]
    Attempt(attempt::AttemptVerb),
    /// List, trust and distrust leanfiles inside projects.
    #[command(subcommand)]
    Leanfile(leanfile::LeanfileVerb),
    /// Trust a leanfile with its present content.
    #[command(after_help = "Example:\n  looop trust leanfile.toml")]
    Trust(leanfile::FileArgs),
    /// Show which files matter for a failure or a question, and why.
    Map(map::Args),
    /// Create the data dir and the config.
    Init(init::Args),
    /// Print, change and check the config.
    #[command(subcommand)]
    Config(config_file::ConfigVerb),
    /// Run the pulse under systemd or launchd, or beats from cron.
    #[command(subcommand)]
    Service(service::ServiceVerb),
    /// Write the data dir and the config into one tar file.
    Backup(backup::BackupArgs),
    /// Make a profile of a backup, where there is none.
    Restore(backup::RestoreArgs),
    /// Check that looop has all that it needs.
    Doctor(doctor::Args),
    /// Watch looop work in a temporary data dir, with a scripted runner.
    Demo(demo::Args),
    /// Print the completion script of a shell.
    Completions(complete::Args),
    /// Print the manual page, or write one page per command.
    Man(complete::ManArgs),
    /// Print the JSON schema of an output, of the config or of a move.
    Schema(schema::Args),
    /// Print the version.
    #[command(after_help = "Example:\n  looop version")]
    Version,
    /// Print the full manual, or the help of one command.
    Help(manual::Args),
    /// Ask the user a question and wait; prints only the answer.
    Ask(worker_api::AskArgs),
    /// Print the messages that arrived since the last call.
    #[command(after_help = "Example:\n  looop inbox")]
    Inbox,
    /// Call the user. Outside of a worker: flag one for yourself.
    Flag(worker::FlagArgs),
    /// Clear a flag.
    Unflag(worker::UnflagArgs),
    /// Hand in a file for the user, from stdin.
    Report(worker_api::ReportArgs),
    /// Take or renew a lease: only its holder works on the resource.
    Claim(lease::ClaimArgs),
    /// Release a lease.
    Release(lease::ReleaseArgs),
    /// Report what the worker has spent.
    Spend(worker_api::SpendArgs),
    /// Declare the work done: ends the worker, then runs the checks.
    #[command(after_help = "Example:\n  looop done")]
    Done,
    /// Execute a command once one byte arrives on stdin.
    #[command(name = "__exec-gated", hide = true)]
    Exec(exec::Args),
    /// Execute a command inside its sandbox.
    #[command(name = "__sandbox-exec", hide = true)]
    Sandbox(exec::SandboxArgs),
    /// Create the network of a sandbox and run a command in it.
    #[command(name = "__net", hide = true)]
    Networked(exec::NetArgs),
    /// Fetch the commits of a worker into the repository that it works for.
    #[command(name = "__fetch-branch", hide = true)]
    Collect(collect::Args),
    /// Reply with the next line of a script.
    #[command(name = "__scripted", hide = true)]
    Scripted(demo::ScriptedArgs),
    /// Continue as the pulse after an upgrade replaced the program of this process.
    #[command(name = "__reexec", alias = "__again", hide = true)]
    Again(pulse::AgainArgs),
    /// Report the status of a worker's program; called by one of its hooks.
    #[command(name = "__hook-status", alias = "__fares", hide = true)]
    HookStatus(worker_api::HookStatusArgs),
    /// Show workers that wait for the user in tmux and to the notifier.
    #[command(name = "__sync-windows", hide = true)]
    SyncAlerts,
}

pub fn main() -> ExitCode {
    print::print_panics();
    if let Err(error) = signal::reset_inherited() {
        print::note(&format!("error: could not reset the signals of this process: {error}"));
        return ExitCode::FAILURE;
    }
    if config::holds_secrets() {
        privacy::close();
    }
    // Handle the supervisor before clap runs: memory that clap touches would stay resident for the supervisor's
    // whole life.
    if let Some((root, cache, id)) = config::supervisor_args() {
        return ExitCode::from(u8::from(supervisor::run(root, cache, &id).is_err()));
    }
    if complete::asked() {
        return ExitCode::SUCCESS;
    }
    let cli = match manual::parse() {
        Ok(cli) => cli,
        Err(exit_code) => return ExitCode::from(exit_code),
    };
    ExitCode::from(dispatch(cli).unwrap_or_else(|error| print::error(&error, &config::secrets())))
}

/// Admits and runs a verb: here, and nowhere else. A short verb and the same verb of a noun share an arm.
fn dispatch(cli: Cli) -> Result<u8> {
    use asks::{ApprovalVerb, QuestionVerb};
    use attempt::AttemptVerb;
    use config_file::ConfigVerb;
    use goal::GoalVerb;
    use leanfile::LeanfileVerb;
    use lease::LeaseVerb;
    use playbook::PlaybookVerb;
    use policy::PolicyVerb;
    use schedule::ScheduleVerb;
    use sensor::SensorVerb;
    use worker::WorkerVerb;

    if let Some((verb, why)) = WITHOUT_JSON.iter().find(|(verb, _)| cli.json && *verb == cli.verb) {
        let call = format!("looop {verb}");
        let fault = Fault::usage(format!("could not print JSON of `{}`: {why}", call.trim_end()));
        return Err(fault.hint("leave --json out").into());
    }
    let open = || App::open(&cli.verb, cli.json, cli.color);
    let watch = || open()?.admit(None, App::ready);
    let user = |what| open()?.admit(Some(what), App::ready);
    let worker = || open()?.for_worker();
    let own_state = || open()?.admit(None, App::ready_without_profile);
    let trust = || open()?.admit(Some("trust a file"), App::ready_without_profile);
    let set_up = || open()?.admit(Some("change the config"), App::ready_without_profile);
    let Some(verb) = cli.command else { return childless(|| pulse::run(&open()?)) };
    match verb {
        Verb::Exec(args) => exec::run(&args),
        Verb::Sandbox(args) => exec::run_sandboxed(&args),
        Verb::Networked(args) => exec::run_networked(&args),
        Verb::Scripted(args) => demo::scripted(&args),
        Verb::Completions(args) => complete::run(&args),
        Verb::Man(args) => complete::man(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Version => manual::version(cli.json),
        Verb::Help(args) => manual::run(&args),

        Verb::Again(args) => pulse::again(&open()?, &args),
        Verb::Collect(args) => collect::run(&open()?, &args),
        Verb::SyncAlerts => alerts::run(&open()?),
        Verb::Init(args) => init::run(&open()?, &args),
        Verb::Config(ConfigVerb::Get(args)) => config_file::get(&open()?, &args),
        Verb::Config(ConfigVerb::Set(args)) => config_file::set(&set_up()?, &args),
        Verb::Config(ConfigVerb::Edit) => config_file::edit(&set_up()?),
        Verb::Config(ConfigVerb::Check) => config_file::check_all(&open()?),
        Verb::Backup(args) => backup::backup(&user("make a backup")?, &args),
        Verb::Restore(args) => backup::restore(&open()?.admit(Some("restore"), |_| Ok(()))?, &args),
        Verb::Service(verb) => service::run(&open()?, verb),
        Verb::Demo(args) => demo::run(&open()?, &args),
        Verb::Doctor(args) => doctor::run(&open()?, &args),
        Verb::Map(args) => map::run(&open()?, &args),
        Verb::Tick(args) => childless(|| tick::run(&open()?, &args)),
        Verb::Run(args) => childless(|| tick::run_goal(&open()?, &args)),

        Verb::Fix(args) => childless(|| fix::run(&own_state()?, &args)),
        Verb::Attempt(AttemptVerb::List) => attempt::list(&own_state()?),
        Verb::Attempt(AttemptVerb::Show(args)) => attempt::show(&own_state()?, &args),
        Verb::Attempt(AttemptVerb::Diff(args)) => attempt::diff(&own_state()?, &args),
        Verb::Leanfile(LeanfileVerb::List) => leanfile::list(&own_state()?),
        Verb::Trust(args) | Verb::Leanfile(LeanfileVerb::Trust(args)) => leanfile::trust(&trust()?, &args),
        Verb::Leanfile(LeanfileVerb::Distrust(args)) => leanfile::distrust(&trust()?, &args),

        Verb::Status => status::run(&watch()?),
        Verb::Why => why::run(&watch()?),
        Verb::Log(args) => log::run(&watch()?, &args),
        Verb::Cost(args) => cost::run(&watch()?, &args),
        Verb::Pause(args) => pause::pause(&user("pause")?, &args),
        Verb::Resume(args) => pause::resume(&user("resume")?, &args),

        Verb::Asks(args) => asks::list(&watch()?, &args, None),
        Verb::Question(QuestionVerb::List(args)) => asks::list(&watch()?, &args, Some(AskKind::Question)),
        Verb::Question(QuestionVerb::Show(args)) => asks::show(&watch()?, &args, AskKind::Question),
        Verb::Answer(args) | Verb::Question(QuestionVerb::Answer(args)) => {
            asks::answer(&user("answer")?, &args)
        }
        Verb::Approval(ApprovalVerb::List(args)) => asks::list(&watch()?, &args, Some(AskKind::Approval)),
        Verb::Approval(ApprovalVerb::Show(args)) => asks::show(&watch()?, &args, AskKind::Approval),
        Verb::Approve(args) | Verb::Approval(ApprovalVerb::Approve(args)) => {
            asks::approve(&user("approve")?, &args)
        }
        Verb::Reject(args) | Verb::Approval(ApprovalVerb::Reject(args)) => {
            asks::reject(&user("reject")?, &args)
        }

        Verb::Policy(PolicyVerb::Test(args)) => policy::test(&watch()?, &args),

        Verb::Worker(WorkerVerb::Start(args)) => worker::start(&user("start a worker")?, *args),
        Verb::Worker(WorkerVerb::Resume(args)) => worker::resume(&user("resume a worker")?, &args),
        Verb::Ls(args) | Verb::Worker(WorkerVerb::List(args)) => ls::run(&watch()?, &args),
        Verb::Worker(WorkerVerb::Show(args)) => ls::show(&watch()?, &args),
        Verb::Attach(args) | Verb::Worker(WorkerVerb::Attach(args)) => attach::run(&user("attach")?, &args),
        Verb::Logs(args) | Verb::Worker(WorkerVerb::Logs(args)) => logs::logs(&watch()?, &args),
        Verb::Screen(args) | Verb::Worker(WorkerVerb::Screen(args)) => logs::screen(&watch()?, &args),
        Verb::Tell(args) | Verb::Worker(WorkerVerb::Tell(args)) => {
            worker::tell(&user("tell a worker")?, &args)
        }
        Verb::Kill(args) | Verb::Worker(WorkerVerb::Kill(args)) => {
            worker::kill(&user("end a worker")?, &args)
        }
        Verb::Wait(args) | Verb::Worker(WorkerVerb::Wait(args)) => ls::wait(&watch()?, &args),
        Verb::Prune(args) | Verb::Worker(WorkerVerb::Prune(args)) => prune::run(&user("prune")?, &args),
        Verb::Flag(args) | Verb::Worker(WorkerVerb::Flag(args)) => worker::flag(&worker()?, &args),
        Verb::Unflag(args) | Verb::Worker(WorkerVerb::Unflag(args)) => worker::unflag(&worker()?, &args),

        Verb::Lease(LeaseVerb::List) => lease::list(&watch()?),
        Verb::Claim(args) | Verb::Lease(LeaseVerb::Claim(args)) => lease::claim(&worker()?, &args),
        Verb::Release(args) | Verb::Lease(LeaseVerb::Release(args)) => lease::release(&worker()?, &args),

        Verb::Ask(args) => worker_api::ask(&worker()?, &args),
        Verb::Inbox => worker_api::inbox(&worker()?),
        Verb::Report(args) => worker_api::report(&worker()?, &args),
        Verb::Spend(args) => worker_api::spend(&worker()?, &args),
        Verb::Done => worker_api::done(&worker()?),
        Verb::HookStatus(args) => worker_api::hook_status(&worker()?, &args),

        Verb::Goal(GoalVerb::List) => goal::list(&watch()?),
        Verb::Goal(GoalVerb::Show(args)) => goal::show(&watch()?, &args),
        Verb::Goal(GoalVerb::Diff(args)) => compare::run(&watch()?, Of::Goals, &args),
        Verb::Goal(GoalVerb::Write(args)) => goal::write(&user("change a goal")?, &args),
        Verb::Goal(GoalVerb::Edit(args)) => goal::edit(&user("change a goal")?, &args),
        Verb::Goal(GoalVerb::Rename(args)) => goal::rename(&user("change a goal")?, &args),
        Verb::Goal(GoalVerb::Restore(args)) => goal::restore(&user("change a goal")?, &args),
        Verb::Goal(GoalVerb::Archive(args)) => goal::archive(&user("change a goal")?, &args),
        Verb::Sensor(SensorVerb::List) => sensor::list(&watch()?),
        Verb::Sensor(SensorVerb::Show(args)) => sensor::show(&watch()?, &args),
        Verb::Sensor(SensorVerb::Diff(args)) => compare::run(&watch()?, Of::Sensors, &args),
        Verb::Sensor(SensorVerb::Examples(args)) => sensor::examples(&watch()?, &args),
        Verb::Sensor(SensorVerb::Test(args)) => sensor::test(&watch()?, &args),
        Verb::Sensor(SensorVerb::Add(args)) => sensor::add(&user("change a sensor")?, &args),
        Verb::Sensor(SensorVerb::Edit(args)) => sensor::edit(&user("change a sensor")?, &args),
        Verb::Sensor(SensorVerb::Restore(args)) => sensor::restore(&user("change a sensor")?, &args),
        Verb::Sensor(SensorVerb::Archive(args)) => sensor::archive(&user("change a sensor")?, &args),
        Verb::Playbook(PlaybookVerb::Show) => playbook::show(&watch()?),
        Verb::Playbook(PlaybookVerb::Diff(since)) => {
            compare::run(&watch()?, Of::Playbook, &DiffArgs { name: None, since })
        }
        Verb::Playbook(PlaybookVerb::Write(args)) => playbook::write(&user("change the playbook")?, &args),
        Verb::Schedule(ScheduleVerb::List) => schedule::list(&watch()?),
        Verb::Schedule(ScheduleVerb::Set(args)) => schedule::set(&user("change a schedule")?, &args),
        Verb::Schedule(ScheduleVerb::Remove(args)) => schedule::remove(&user("change a schedule")?, &args),
        Verb::Schedule(ScheduleVerb::Restore(args)) => schedule::restore(&user("change a schedule")?, &args),
    }
}

/// Runs a verb that reaps orphans in a process without children. Children that the shell had before it executed
/// looop must not be among the orphans.
fn childless(run: impl FnOnce() -> Result<u8>) -> Result<u8> {
    match reaper::has_children() {
        true => Ok(program::run_again(&config::own_args())?),
        false => run(),
    }
}
