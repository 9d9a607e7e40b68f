//! `looop doctor`: checks the installation and says how to fix each problem.

mod runner;
mod state;

use std::path::PathBuf;

use anyhow::Result;
use strum::IntoEnumIterator;

use super::json_output::{CheckStatus, Finding};
use super::{App, print};
use crate::config::Config;
use crate::os::program;
use crate::rules::fault::Fault;
use crate::rules::sandbox::{Level, NetworkAccess, SandboxMode, SandboxSubject};
use crate::store::layout;
use crate::store::lock;
use crate::store::sandboxes::SandboxBuilder;
use crate::store::state_files;
use crate::store::user_files;
use crate::vcs::commits;
use crate::vcs::history::{Blocked, History, locks};
use crate::vcs::seed;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop doctor\n  looop doctor --ask")]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Ask the runner one real question, which may cost money.
    #[arg(long)]
    ask: bool,
    /// Check one thing in detail.
    #[command(subcommand)]
    what: Option<DoctorCheck>,
}

#[derive(Debug, clap::Subcommand)]
enum DoctorCheck {
    /// Test a runner that decides: version, login, what keeps it from using tools, and one small real decision.
    Runner(runner::Args),
}

/// The findings so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, what: &str, found: impl Into<String>) {
        self.add(CheckStatus::Good, what, found, &[]);
    }

    fn odd(&mut self, what: &str, found: impl Into<String>, fix: &[&str]) {
        self.add(CheckStatus::Odd, what, found, fix);
    }

    fn bad(&mut self, what: &str, found: impl Into<String>, fix: &[&str]) {
        self.add(CheckStatus::Bad, what, found, fix);
    }

    fn error(&mut self, what: &str, error: &anyhow::Error) {
        self.error_or(what, error, &[]);
    }

    /// Adds an error with its hints as the fixes, or with this fix if it has none.
    fn error_or(&mut self, what: &str, error: &anyhow::Error, fix: &[&str]) {
        let hints: Vec<&str> =
            error.downcast_ref::<Fault>().iter().flat_map(|fault| &fault.hints).map(String::as_str).collect();
        self.bad(what, format!("{error:#}"), if hints.is_empty() { fix } else { &hints });
    }

    fn add(&mut self, health: CheckStatus, what: &str, found: impl Into<String>, fix: &[&str]) {
        let fix = fix.iter().map(|fix| (*fix).to_owned()).collect();
        self.0.push(Finding { health, what: what.to_owned(), found: found.into(), fix });
    }
}

/// Finds a program that the config names.
///
/// # Errors
/// Says that the program is missing.
fn program_of(config: &Config, name: &str) -> Result<PathBuf, String> {
    let (path, here) = (&config.settings.path, config.path.parent().unwrap_or(&config.path));
    program::find_program(name, path, here)
        .ok_or_else(|| format!("`{name}` is not on the configured PATH ({path})"))
}

/// Runs all checks; exit status 1 if a finding is bad. Only `--ask` writes something: the prompt, the reply and
/// the cost.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    if let Some(DoctorCheck::Runner(runner)) = &args.what {
        return runner::run(app, runner);
    }
    let mut found = Findings::default();
    state::clock_range(app.now, &mut found);
    config(app, args, &mut found);
    data_dir(app, &mut found);
    tools(app, &mut found);
    let Findings(found) = found;
    if args.json {
        print::answer("findings", &found)?;
    } else {
        let style = app.style;
        for f in &found {
            let mark = match f.health {
                CheckStatus::Good => style.green("ok  "),
                CheckStatus::Odd => style.yellow("odd "),
                CheckStatus::Bad => style.red("BAD "),
            };
            print::line(&format!("{mark} {}: {}", f.what, f.found));
            f.fix.iter().for_each(|fix| print::line(&format!("     fix: {fix}")));
        }
    }
    Ok(u8::from(found.iter().any(|f| f.health == CheckStatus::Bad)))
}

fn config(app: &App, args: &Args, found: &mut Findings) {
    let config = match app.config() {
        Ok(config) => config,
        Err(error) => return found.error("config", &error),
    };
    let path = config.path.display().to_string();
    match config.path.exists() {
        true => found.good("config", path),
        false => {
            found.odd("config", format!("{path} does not exist; defaults are used"), &["looop init"]);
        }
    }
    worker(&config, found);
    state::commands(&config, found);
    state::keys(&config, found);
    let runner = match config.decider() {
        Ok(runner) => runner,
        Err(error) => return found.error("runner", &error),
    };
    if runner.program().is_empty() {
        return found.good("runner", format!("{} is an endpoint", runner.name()));
    }
    match program_of(&config, runner.program()) {
        Ok(program) => found.good("runner", format!("{} is {}", runner.name(), program.display())),
        Err(missing) => {
            let install = "install it, or name another runner with \"decide\" in the config";
            return found.bad("runner", missing, &[install, "try `looop demo`, which needs no runner"]);
        }
    }
    if !args.ask {
        return;
    }
    match runner::ask(app, &config, runner.as_ref()).and_then(runner::RunnerCheck::words) {
        Ok(words) => found.good("runner answers", words),
        Err(error) => {
            let fix = format!("fix the cause; `looop doctor runner {}` tests it again", runner.name());
            found.error_or("runner answers", &error, &[&fix]);
        }
    }
}

fn data_dir(app: &App, found: &mut Findings) {
    let layout = &app.layout;
    if !seed::is_set_up(layout) {
        return found.error("data dir", &app.no_profile());
    }
    if let Err(error) = layout::check(layout) {
        return found.error("data dir", &error);
    }
    found.good("data dir", layout.root().display().to_string());
    state::disk(app, found);
    state::records(app, found);
    if let Err(error) = history(app, found) {
        let fix = "restore the `.git` directory, or move its replacement away and run `looop init`";
        found.bad("history", format!("{error:#}"), &[fix]);
    }
    if let Err(error) = user_files::playbook(layout) {
        found.error("playbook", &error);
    }
    match state_files::peek_beat(layout) {
        Err(error) => found.error("memory", &error),
        Ok(beat) => match beat.halted {
            Some(why) => found.bad("memory", why, &["looop resume"]),
            None => state::clock(app, beat.last.as_ref(), found),
        },
    }
    let (sensors, problems) = match user_files::sensors(layout) {
        Ok(sensors) => sensors,
        Err(error) => return found.error("sensors", &error),
    };
    let fix = format!("fix or remove it: {}", layout.sensors().display());
    for (sensor, unfit) in sensors.iter().filter_map(|sensor| Some((sensor, sensor.header.as_ref().err()?))) {
        found.bad(&format!("sensor {}", sensor.name), unfit.why.clone(), &[&fix]);
    }
    problems.iter().for_each(|problem| found.odd("sensors", problem.clone(), &[]));
    let fit = sensors.iter().filter(|sensor| sensor.header.is_ok()).count();
    found.good("sensors", format!("{fit} can be run; `looop sensor test` runs them"));
}

/// Checks the git history of the data dir.
///
/// # Errors
/// The history cannot be opened or read.
fn history(app: &App, found: &mut Findings) -> Result<()> {
    let history = History::open(app.layout.root())?;
    let mut tried = Findings::default();
    try_commit(app, &history, &mut tried)?;
    if let Err(error) = history.check_tip() {
        let fix = "`looop run` returns to the newest readable commit; no file is lost";
        found.bad("history", format!("{error:#}"), &[fix]);
        return Ok(());
    }
    found.0.append(&mut tried.0);
    state::private_in_git(app, found);
    for lock in locks::in_words(app.layout.root()) {
        let fix = "let the program end; a lock that no process holds is removed after a minute";
        found.odd("lock", lock, &[fix]);
    }
    Ok(())
}

/// Makes a test commit and removes it again, unless a beat is committing.
fn try_commit(app: &App, history: &History, found: &mut Findings) -> Result<()> {
    if let Some(blocked) = history.blocked()? {
        found.bad("history", blocked.to_string(), &[&blocked.hint()]);
        return Ok(());
    }
    let _held = match lock::tick(&app.layout.tick_lock()) {
        Err(error) if lock::is_busy(&error) => {
            found.good("history", "a beat is making its commits");
            return Ok(());
        }
        held => held?,
    };
    match history.try_commit(&commits::looop_signature(app.now)) {
        Ok(()) => found.good("history", "commits work: a test commit was made and removed"),
        Err(error) => {
            let writable = "make sure that the data dir is writable and its disk has free space";
            let hint = error.downcast_ref::<Blocked>().map_or(writable.to_owned(), Blocked::hint);
            found.bad("history", format!("{error:#}"), &[&hint]);
        }
    }
    Ok(())
}

/// Checks the runner of workers. A missing default runner is not a fault.
fn worker(config: &Config, found: &mut Findings) {
    let workers = &config.settings.workers;
    let program = workers.runner(None).and_then(|(name, runner)| {
        let program = runner.argv.first().map_or("", String::as_str);
        let path = program_of(config, program)?;
        Ok(format!("{name} is {}{}", path.display(), unknown_model(config, name, program)))
    });
    match program {
        Ok(program) => found.good("worker runner", program),
        Err(why) => {
            let health = if workers.runner.is_some() { CheckStatus::Bad } else { CheckStatus::Odd };
            let fix = "install it, or name another runner with \"worker\" in the config";
            found.add(health, "worker runner", why, &[fix]);
        }
    }
}

/// A hint if looop does not know the address of a worker's model: the sandbox blocks the loopback of this machine.
fn unknown_model(config: &Config, name: &str, program: &str) -> String {
    let sandboxes = &config.settings.sandbox;
    let program = program.rsplit('/').next().unwrap_or_default();
    let worker = sandboxes.request(SandboxSubject::Worker);
    let has_loopback = worker.mode == SandboxMode::None || worker.net == NetworkAccess::On;
    match has_loopback || sandboxes.endpoint(&[name, program]).is_some() {
        true => String::new(),
        false => format!(
            "; looop does not know the address of its model. If the model runs on this machine, set \
             `runners.{name}.base_url`, even if a variable or a file of the runner names the address"
        ),
    }
}

fn tools(app: &App, found: &mut Findings) {
    let path = app.config().map_or_else(|_| app.env.path(), |config| config.settings.path);
    let has = |name: &str| program::find_program(name, &path, app.layout.root()).is_some();
    match has("git") {
        true => found.good("git", "is installed, for workers in a repository and for the history"),
        false => {
            let what = "is not on the PATH; workers cannot get a repository, everything else works";
            found.odd("git", what, &["install git"]);
        }
    }
    match has("tmux") {
        true => found.good("tmux", "is installed, to show workers that wait for you"),
        false => {
            let what = "is not on the PATH; the pulse rings and prints who waits for you instead";
            found.odd("tmux", what, &["install tmux to get a window for each of them"]);
        }
    }
    sandbox(app, found);
}

/// Tests which sandbox this machine can make, and reports the level of each kind of child.
fn sandbox(app: &App, found: &mut Findings) {
    if !program::finds_itself() {
        let what = "is not mounted: without it looop can neither make a sandbox, nor start a worker, nor see which processes run";
        found.bad("/proc", what, &["mount it: mount -t proc proc /proc"]);
    }
    if rustix::process::geteuid().is_root() {
        let what = "root, against whom file modes do not protect: a child without a full sandbox can do more";
        found.odd("user", what, &["run looop as an ordinary user"]);
    }
    // The config check has reported why it cannot be read.
    let Ok(config) = app.config() else { return };
    let keep = seed::is_set_up(&app.layout);
    let capabilities = SandboxBuilder::new(&app.layout, &config.settings, keep).probe_again();
    let sandboxes = SandboxBuilder::with(&app.layout, &config.settings, capabilities.clone());
    let fixes: Vec<&str> = capabilities.fixes.iter().map(String::as_str).collect();
    let (level, engine) = (capabilities.level(), sandboxes.engine());
    let had = format!("{level} is available (Landlock {}, {engine})", capabilities.landlock);
    match level {
        Level::Full if capabilities.missing.is_empty() => found.good("sandbox", had),
        _ => found.odd("sandbox", format!("{had}: {}", capabilities.missing.join("; ")), &fixes),
    }
    if let Some(lost) = sandboxes.downgrade() {
        found.odd("sandbox before", lost, &fixes);
    }
    if keep && level == Level::Full && !capabilities.overlays {
        let found_so = "are read-only in a sandbox: overlays are not available here";
        let fix = "move the data dir and the cache to a file system that overlayfs can write to";
        found.odd("caches of builds", found_so, &[fix]);
    }
    for kind in SandboxSubject::iter() {
        let what = format!("sandbox of {kind}");
        match sandboxes.level(kind) {
            Ok(Level::None) => found.odd(&what, "none: it runs as you", &[]),
            Ok(level) => found.good(&what, level.as_ref()),
            Err(why) => found.bad(&what, why, &fixes),
        }
    }
}
