//! `looop doctor`: checks the installation and says how to fix each problem.

mod runner;
mod state;

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

impl Finding {
    fn good(what: &str, found: impl Into<String>) -> Finding {
        finding(CheckStatus::Good, what, found, &[])
    }

    fn odd(what: &str, found: impl Into<String>, fix: &[&str]) -> Finding {
        finding(CheckStatus::Odd, what, found, fix)
    }

    fn bad(what: &str, found: impl Into<String>, fix: &[&str]) -> Finding {
        finding(CheckStatus::Bad, what, found, fix)
    }
}

fn finding(health: CheckStatus, what: &str, found: impl Into<String>, fix: &[&str]) -> Finding {
    let fix = fix.iter().map(|fix| (*fix).to_owned()).collect();
    Finding { health, what: what.to_owned(), found: found.into(), fix }
}

fn from_error(what: &str, error: &anyhow::Error) -> Finding {
    let hints: Vec<String> =
        error.downcast_ref::<Fault>().map(|fault| fault.hints.clone()).unwrap_or_default();
    Finding { health: CheckStatus::Bad, what: what.to_owned(), found: format!("{error:#}"), fix: hints }
}

/// Runs all checks; exit status 1 if a finding is bad. Only `--ask` writes something: the prompt, the reply and
/// the cost.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    if let Some(DoctorCheck::Runner(runner)) = &args.what {
        return runner::run(app, runner);
    }
    let mut found: Vec<Finding> = state::clock_flaw_finding(app.now).into_iter().collect();
    config(app, args, &mut found);
    data_dir(app, &mut found);
    tools(app, &mut found);
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

fn config(app: &App, args: &Args, found: &mut Vec<Finding>) {
    let config = match app.config() {
        Ok(config) => config,
        Err(error) => return found.push(from_error("config", &error)),
    };
    let path = config.path.display().to_string();
    match config.path.exists() {
        true => found.push(Finding::good("config", path)),
        false => found.push(Finding::odd(
            "config",
            format!("{path} does not exist; defaults are used"),
            &["looop init"],
        )),
    }
    worker(&config, found);
    state::commands(&config, found);
    state::keys(&config, found);
    let runner = match config.decider() {
        Ok(runner) => runner,
        Err(error) => return found.push(from_error("runner", &error)),
    };
    if runner.program().is_empty() {
        return found.push(Finding::good("runner", format!("{} is an endpoint", runner.name())));
    }
    let Some(program) = program::find_program(
        runner.program(),
        &config.settings.path,
        config.path.parent().unwrap_or(&config.path),
    ) else {
        let what = format!("`{}` is not on the configured PATH ({})", runner.program(), config.settings.path);
        let fix = [
            "install it, or name another runner with \"decide\" in the config",
            "try `looop demo`, which needs no runner",
        ];
        return found.push(Finding::bad("runner", what, &fix));
    };
    found.push(Finding::good("runner", format!("{} is {}", runner.name(), program.display())));
    if args.ask {
        found.push(match runner::ask(app, &config, runner.as_ref()).and_then(runner::RunnerCheck::words) {
            Ok(words) => Finding::good("runner answers", words),
            Err(error) => {
                let mut finding = from_error("runner answers", &error);
                if finding.fix.is_empty() {
                    finding.fix.push(format!(
                        "fix the cause; `looop doctor runner {}` tests it again",
                        runner.name()
                    ));
                }
                finding
            }
        });
    }
}

fn data_dir(app: &App, found: &mut Vec<Finding>) {
    let root = app.layout.root().display().to_string();
    if !seed::is_set_up(&app.layout) {
        return found.push(from_error("data dir", &app.no_profile()));
    }
    if let Err(error) = layout::check(&app.layout) {
        return found.push(from_error("data dir", &error));
    }
    found.push(Finding::good("data dir", root));
    state::disk(app, found);
    state::records(app, found);
    let tip = |history: &History| match history.check_tip() {
        Ok(()) => None,
        Err(error) => {
            let fix = "`looop run` returns to the newest readable commit; no file is lost";
            Some(Finding::bad("history", format!("{error:#}"), &[fix]))
        }
    };
    match History::open(app.layout.root()).and_then(|history| Ok((tip(&history), try_commit(app, &history)?)))
    {
        Ok((Some(unreadable), _)) => found.push(unreadable),
        Ok((None, tried)) => {
            found.push(tried);
            state::private_in_git(app, found);
            for lock in locks::in_words(app.layout.root()) {
                let fix = "let the program end; a lock that no process holds is removed after a minute";
                found.push(Finding::odd("lock", lock, &[fix]));
            }
        }
        Err(error) => {
            let fix = "restore the `.git` directory, or move its replacement away and run `looop init`";
            found.push(Finding::bad("history", format!("{error:#}"), &[fix]));
        }
    }
    if let Err(error) = user_files::playbook(&app.layout) {
        found.push(from_error("playbook", &error));
    }
    match crate::store::state_files::peek_beat(&app.layout) {
        Err(error) => found.push(from_error("memory", &error)),
        Ok(beat) if beat.halted.is_some() => {
            found.push(Finding::bad("memory", beat.halted.unwrap_or_default(), &["looop resume"]));
        }
        Ok(beat) => state::clock(app, &beat, found),
    }
    let sensors = user_files::sensors(&app.layout);
    match &sensors {
        Err(error) => found.push(from_error("sensors", error)),
        Ok((sensors, problems)) => {
            let unfit = sensors.iter().filter_map(|s| Some((s.name.as_str(), s.header.as_ref().err()?)));
            found.extend(unfit.map(|(name, unfit)| {
                let fix = format!("fix or remove it: {}", app.layout.sensors().display());
                Finding::bad(&format!("sensor {name}"), unfit.why.clone(), &[&fix])
            }));
            found.extend(problems.iter().map(|problem| Finding::odd("sensors", problem.clone(), &[])));
            let fit = sensors.iter().filter(|sensor| sensor.header.is_ok()).count();
            found.push(Finding::good("sensors", format!("{fit} can be run; `looop sensor test` runs them")));
        }
    }
}

/// Makes a test commit and removes it again, unless a beat is committing.
fn try_commit(app: &App, history: &History) -> Result<Finding> {
    if let Some(blocked) = history.blocked()? {
        return Ok(Finding::bad("history", blocked.to_string(), &[&blocked.hint()]));
    }
    let _held = match lock::tick(&app.layout.tick_lock()) {
        Err(error) if lock::is_busy(&error) => {
            return Ok(Finding::good("history", "a beat is making its commits"));
        }
        held => held?,
    };
    Ok(match history.try_commit(&commits::looop_signature(app.now)) {
        Ok(()) => Finding::good("history", "commits work: a test commit was made and removed"),
        Err(error) => {
            let hint = error.downcast_ref::<Blocked>().map(Blocked::hint);
            let hint = hint
                .unwrap_or("make sure that the data dir is writable and its disk has free space".to_owned());
            Finding::bad("history", format!("{error:#}"), &[&hint])
        }
    })
}

/// Checks the runner of workers. A missing default runner is not a fault.
fn worker(config: &Config, found: &mut Vec<Finding>) {
    let workers = &config.settings.workers;
    let ill = if workers.runner.is_some() { CheckStatus::Bad } else { CheckStatus::Odd };
    let fix = "install it, or name another runner with \"worker\" in the config";
    let (name, argv) = match workers.runner(None) {
        Ok((name, runner)) => (name, &runner.argv),
        Err(why) => return found.push(finding(ill, "worker runner", why, &[fix])),
    };
    let program = argv.first().map_or("", String::as_str);
    let here = config.path.parent().unwrap_or(&config.path);
    found.push(match program::find_program(program, &config.settings.path, here) {
        Some(path) => {
            let what = format!("{name} is {}{}", path.display(), unknown_model(config, name, program));
            Finding::good("worker runner", what)
        }
        None => {
            let what = format!("`{program}` is not on the configured PATH ({})", config.settings.path);
            finding(ill, "worker runner", what, &[fix])
        }
    });
}

/// A hint if looop does not know the address of a worker's model: the sandbox blocks the loopback of this machine.
fn unknown_model(config: &Config, name: &str, program: &str) -> String {
    let boxes = &config.settings.sandbox;
    let program = program.rsplit('/').next().unwrap_or_default();
    let worker = boxes.request(SandboxSubject::Worker);
    let has_loopback = worker.mode == SandboxMode::None || worker.net == NetworkAccess::On;
    match has_loopback || boxes.endpoint(&[name, program]).is_some() {
        true => String::new(),
        false => format!(
            "; looop does not know the address of its model. If the model runs on this machine, set \
             `runners.{name}.base_url`, even if a variable or a file of the runner names the address"
        ),
    }
}

fn tools(app: &App, found: &mut Vec<Finding>) {
    let path = app.config().map_or_else(|_| app.env.path(), |config| config.settings.path);
    let has = |name: &str| program::find_program(name, &path, app.layout.root()).is_some();
    found.push(match has("git") {
        true => Finding::good("git", "is installed, for workers in a repository and for the history"),
        false => Finding::odd(
            "git",
            "is not on the PATH; workers cannot get a repository, everything else works",
            &["install git"],
        ),
    });
    found.push(match has("tmux") {
        true => Finding::good("tmux", "is installed, to show workers that wait for you"),
        false => Finding::odd(
            "tmux",
            "is not on the PATH; the pulse rings and prints who waits for you instead",
            &["install tmux to get a window for each of them"],
        ),
    });
    sandbox(app, found);
}

/// Tests which sandbox this machine can make, and reports the level of each kind of child.
fn sandbox(app: &App, found: &mut Vec<Finding>) {
    if !program::finds_itself() {
        let what = "is not mounted: without it looop can neither make a sandbox, nor start a worker, nor see which processes run";
        found.push(Finding::bad("/proc", what, &["mount it: mount -t proc proc /proc"]));
    }
    if rustix::process::geteuid().is_root() {
        let what = "root, against whom file modes do not protect: a child without a full sandbox can do more";
        found.push(Finding::odd("user", what, &["run looop as an ordinary user"]));
    }
    // The config check has reported why it cannot be read.
    let Ok(config) = app.config() else { return };
    let keep = seed::is_set_up(&app.layout);
    let powers = SandboxBuilder::new(&app.layout, &config.settings, keep).probe_again();
    let sandboxes = SandboxBuilder::with(&app.layout, &config.settings, powers.clone());
    let fixes: Vec<&str> = powers.fixes.iter().map(String::as_str).collect();
    let had =
        format!("{} is available (Landlock {}, {})", powers.level(), powers.landlock, sandboxes.engine());
    found.push(match powers.level() {
        Level::Full if powers.missing.is_empty() => Finding::good("sandbox", had),
        _ => Finding::odd("sandbox", format!("{had}: {}", powers.missing.join("; ")), &fixes),
    });
    if let Some(lost) = sandboxes.downgrade() {
        found.push(Finding::odd("sandbox before", lost, &fixes));
    }
    if keep && powers.level() == Level::Full && !powers.overlays {
        let found_so = "are read-only in a sandbox: overlays are not available here";
        let fix = "move the data dir and the cache to a file system that overlayfs can write to";
        found.push(Finding::odd("caches of builds", found_so, &[fix]));
    }
    for kind in SandboxSubject::iter() {
        let what = format!("sandbox of {kind}");
        found.push(match sandboxes.level(kind) {
            Ok(Level::None) => Finding::odd(&what, "none: it runs as you", &[]),
            Ok(level) => Finding::good(&what, level.as_ref()),
            Err(why) => Finding::bad(&what, why, &fixes),
        });
    }
}
