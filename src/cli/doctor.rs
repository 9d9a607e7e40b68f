//! `looop doctor`: what is there, what is not, and how to mend it.

mod runner;
mod state;

use anyhow::Result;
use serde_json::json;

use super::forms::{Finding, Health};
use super::{App, envelope, print};
use crate::config::Config;
use crate::model::boxing::{Kind, Level, NetworkAccess, Wanted};
use crate::model::fault::Fault;
use crate::store::boxes::Boxer;
use crate::store::history::{Blocked, History, locks};
use crate::store::{commits, layout, lock, seed, texts};
use crate::sys::program;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop doctor\n  looop doctor --ask")]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Ask the runner one real question, which may cost something.
    #[arg(long)]
    ask: bool,
    /// Look closer at one thing.
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Try a runner that decides: version, login, what keeps it from acting, and one small real decision.
    Runner(runner::Args),
}

fn finding(health: Health, what: &str, found: impl Into<String>, fix: &[&str]) -> Finding {
    let fix = fix.iter().map(|fix| (*fix).to_owned()).collect();
    Finding { health, what: what.to_owned(), found: found.into(), fix }
}

fn from_error(what: &str, error: &anyhow::Error) -> Finding {
    let hints: Vec<String> =
        error.downcast_ref::<Fault>().map(|fault| fault.hints.clone()).unwrap_or_default();
    Finding { health: Health::Bad, what: what.to_owned(), found: format!("{error:#}"), fix: hints }
}

/// Checks everything; exit 1 when something is bad. Only `--ask` leaves something: question and cost are kept.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    if let Some(What::Runner(runner)) = &args.what {
        return runner::run(app, runner);
    }
    let mut found: Vec<Finding> = state::clock_flaw_finding(app.now).into_iter().collect();
    config(app, args, &mut found);
    data_dir(app, &mut found);
    tools(app, &mut found);
    if args.json {
        print::json(&envelope("findings", json!(found)));
    } else {
        let style = app.style;
        for f in &found {
            let mark = match f.health {
                Health::Good => style.green("ok  "),
                Health::Odd => style.yellow("odd "),
                Health::Bad => style.red("BAD "),
            };
            print::line(&format!("{mark} {}: {}", f.what, f.found));
            f.fix.iter().for_each(|fix| print::line(&format!("     fix: {fix}")));
        }
    }
    Ok(u8::from(found.iter().any(|f| f.health == Health::Bad)))
}

fn config(app: &App, args: &Args, found: &mut Vec<Finding>) {
    let config = match app.config() {
        Ok(config) => config,
        Err(error) => return found.push(from_error("config", &error)),
    };
    let path = config.path.display().to_string();
    match config.path.exists() {
        true => found.push(finding(Health::Good, "config", path, &[])),
        false => found.push(finding(
            Health::Odd,
            "config",
            format!("{path} is not there; all defaults"),
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
        return found.push(finding(Health::Good, "runner", format!("{} is an endpoint", runner.name()), &[]));
    }
    let Some(program) = program::find_program(
        runner.program(),
        &config.settings.path,
        config.path.parent().unwrap_or(&config.path),
    ) else {
        let what = format!("`{}` is not on the configured PATH ({})", runner.program(), config.settings.path);
        let fix = [
            "install it, or name another runner with \"decide\" in the config",
            "try `looop demo`, which needs none",
        ];
        return found.push(finding(Health::Bad, "runner", what, &fix));
    };
    found.push(finding(Health::Good, "runner", format!("{} is {}", runner.name(), program.display()), &[]));
    if args.ask {
        found.push(match runner::ask(app, &config, runner.as_ref()).and_then(runner::Answer::words) {
            Ok(words) => finding(Health::Good, "runner answers", words, &[]),
            Err(error) => {
                let mut finding = from_error("runner answers", &error);
                if finding.fix.is_empty() {
                    finding
                        .fix
                        .push(format!("mend it there; `looop doctor runner {}` tries again", runner.name()));
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
    found.push(finding(Health::Good, "data dir", root, &[]));
    state::disk(app, found);
    state::records(app, found);
    let tip = |history: &History| match history.check_tip() {
        Ok(()) => None,
        Err(error) => {
            let fix = "`looop run` goes back to the newest commit that can be read; no file is lost";
            Some(finding(Health::Bad, "history", format!("{error:#}"), &[fix]))
        }
    };
    match History::open(app.layout.root()).and_then(|history| Ok((tip(&history), try_commit(app, &history)?)))
    {
        Ok((Some(unreadable), _)) => found.push(unreadable),
        Ok((None, tried)) => {
            found.push(tried);
            state::private_in_git(app, found);
            for lock in locks::in_words(app.layout.root()) {
                let fix =
                    "let the program end; a lock that no process has open is removed when it is a minute old";
                found.push(finding(Health::Odd, "lock", lock, &[fix]));
            }
        }
        Err(error) => {
            let fix = "put the `.git` directory back, or move what is there away and run `looop init`";
            found.push(finding(Health::Bad, "history", format!("{error:#}"), &[fix]));
        }
    }
    if let Err(error) = texts::playbook(&app.layout) {
        found.push(from_error("playbook", &error));
    }
    match crate::store::records::peek_beat(&app.layout) {
        Err(error) => found.push(from_error("memory", &error)),
        Ok(beat) if beat.halted.is_some() => {
            found.push(finding(Health::Bad, "memory", beat.halted.unwrap_or_default(), &["looop resume"]));
        }
        Ok(beat) => state::clock(app, &beat, found),
    }
    let sensors = texts::sensors(&app.layout);
    match &sensors {
        Err(error) => found.push(from_error("sensors", error)),
        Ok((sensors, problems)) => {
            let unfit = sensors.iter().filter_map(|s| Some((s.name.as_str(), s.header.as_ref().err()?)));
            found.extend(unfit.map(|(name, unfit)| {
                let fix = format!("mend or remove it: {}", app.layout.sensors().display());
                finding(Health::Bad, &format!("sensor {name}"), unfit.why.clone(), &[&fix])
            }));
            found
                .extend(problems.iter().map(|problem| finding(Health::Odd, "sensors", problem.clone(), &[])));
            let fit = sensors.iter().filter(|sensor| sensor.header.is_ok()).count();
            found.push(finding(
                Health::Good,
                "sensors",
                format!("{fit} can be run; `looop sensor test` runs them"),
                &[],
            ));
        }
    }
}

/// Makes a commit and takes it back, while no beat makes one.
fn try_commit(app: &App, history: &History) -> Result<Finding> {
    if let Some(blocked) = history.blocked()? {
        return Ok(finding(Health::Bad, "history", blocked.to_string(), &[&blocked.hint()]));
    }
    let _held = match lock::tick(&app.layout.tick_lock()) {
        Err(error) if lock::is_busy(&error) => {
            return Ok(finding(Health::Good, "history", "a beat is making its commits", &[]));
        }
        held => held?,
    };
    Ok(match history.try_commit(&commits::looop_signature(app.now)) {
        Ok(()) => finding(Health::Good, "history", "commits can be made: one was made and taken back", &[]),
        Err(error) => {
            let hint = error.downcast_ref::<Blocked>().map(Blocked::hint);
            let hint =
                hint.unwrap_or("see to it that the data dir can be written and its disk has room".to_owned());
            finding(Health::Bad, "history", format!("{error:#}"), &[&hint])
        }
    })
}

/// What runs workers. Where nobody chose it, its absence is no fault.
fn worker(config: &Config, found: &mut Vec<Finding>) {
    let workers = &config.settings.workers;
    let ill = if workers.runner.is_some() { Health::Bad } else { Health::Odd };
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
            finding(Health::Good, "worker runner", what, &[])
        }
        None => {
            let what = format!("`{program}` is not on the configured PATH ({})", config.settings.path);
            finding(ill, "worker runner", what, &[fix])
        }
    });
}

/// What to know where looop cannot tell where a worker's model is, in words: a sandbox keeps this machine's loopback out.
fn unknown_model(config: &Config, name: &str, program: &str) -> String {
    let boxes = &config.settings.boxes;
    let program = program.rsplit('/').next().unwrap_or_default();
    let has_loopback = boxes.worker.wanted == Wanted::None || boxes.worker.net == NetworkAccess::On;
    match has_loopback || boxes.endpoint(&[name, program]).is_some() {
        true => String::new(),
        false => format!(
            "; where its model is cannot be told: for one on this machine, also one that only a variable or a file of its own \
             names, set `runners.{name}.base_url`"
        ),
    }
}

fn tools(app: &App, found: &mut Vec<Finding>) {
    let path = app.config().map_or_else(|_| app.env.path(), |config| config.settings.path);
    let has = |name: &str| program::find_program(name, &path, app.layout.root()).is_some();
    found.push(match has("git") {
        true => {
            finding(Health::Good, "git", "is there, for workers in a repository and for the history", &[])
        }
        false => finding(
            Health::Odd,
            "git",
            "is not on the PATH; no worker can get a repository, all else runs without it",
            &["install git"],
        ),
    });
    found.push(match has("tmux") {
        true => finding(Health::Good, "tmux", "is there, to show workers that wait for you", &[]),
        false => finding(
            Health::Odd,
            "tmux",
            "is not on the PATH; the pulse rings and says who waits for you instead",
            &["install tmux to get a window for each of them"],
        ),
    });
    sandbox(app, found);
}

/// What boxes can be had, tried out now, and what each kind of child gets.
fn sandbox(app: &App, found: &mut Vec<Finding>) {
    if !program::finds_itself() {
        let what = "is not mounted: no box can be made, no worker be started, and nobody's life be told";
        found.push(finding(Health::Bad, "/proc", what, &["mount it: mount -t proc proc /proc"]));
    }
    if rustix::process::geteuid().is_root() {
        let what =
            "root, from whom a file's mode protects nothing: what has no box, or a partial one, can do more";
        found.push(finding(Health::Odd, "user", what, &["run looop as a user of your own"]));
    }
    // Why there is no config is said already.
    let Ok(config) = app.config() else { return };
    let keep = seed::is_set_up(&app.layout);
    let powers = Boxer::new(&app.layout, &config.settings, keep).probe_again();
    let boxer = Boxer::with(&app.layout, &config.settings, powers.clone());
    let fixes: Vec<&str> = powers.fixes.iter().map(String::as_str).collect();
    let had =
        format!("{} can be had (Landlock {}, {})", powers.level().word(), powers.landlock, boxer.engine());
    found.push(match powers.level() {
        Level::Full if powers.missing.is_empty() => finding(Health::Good, "sandbox", had, &[]),
        _ => finding(Health::Odd, "sandbox", format!("{had}: {}", powers.missing.join("; ")), &fixes),
    });
    if let Some(lost) = boxer.downgrade() {
        found.push(finding(Health::Odd, "sandbox before", lost, &fixes));
    }
    if keep && powers.level() == Level::Full && !powers.layers {
        let found_so = "can be read in a box, and nothing be added to them: overlays cannot be had here";
        let fix = "keep the data dir and the cache on a file system that the kernel's overlayfs can write to";
        found.push(finding(Health::Odd, "caches of builds", found_so, &[fix]));
    }
    for kind in Kind::ALL {
        let what = format!("sandbox of {}", kind.word());
        found.push(match boxer.level(kind) {
            Ok(Level::None) => finding(Health::Odd, &what, "none: it runs as you", &[]),
            Ok(level) => finding(Health::Good, &what, level.word(), &[]),
            Err(why) => finding(Health::Bad, &what, why, &fixes),
        });
    }
}
