//! `looop init` creates the data dir and the config, and says the next command. On a terminal it asks who decides, who works
//! and what may be spent a day. The first pulse of a profile on a terminal creates both too, after it has shown the terms.

use anyhow::Result;

use super::json_output::{FoundAgent, InitJson};
use super::pause::parse_usd;
use super::{App, Fault, dollars, print};
use crate::agents::{self, AGENTS, Agent};
use crate::config::{FRESH_DAY_MICROS, FreshConfig, write_fresh};
use crate::os::program;
use crate::store::{lock, state_files};
use crate::vcs::{migrate, seed};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop init\n  looop init --decide claude --worker codex --day-usd 10")]
pub struct Args {
    /// The runner that decides. Without this option you are asked, on a terminal.
    #[arg(long, value_name = "RUNNER", value_parser = decider)]
    decide: Option<String>,
    /// The runner of workers.
    #[arg(long, value_name = "RUNNER", value_parser = worker)]
    worker: Option<String>,
    /// What may be spent a day, in US dollars.
    #[arg(long, value_name = "USD", value_parser = parse_usd)]
    day_usd: Option<u64>,
}

/// A new config defines no runner of its own, so only an agent CLI can be named.
fn decider(name: &str) -> Result<String, String> {
    named(name, |agent| agent.decide.is_ok())
}

fn worker(name: &str) -> Result<String, String> {
    named(name, |agent| agent.work.is_ok())
}

fn named(name: &str, can: fn(&Agent) -> bool) -> Result<String, String> {
    let known: Vec<&str> = AGENTS.into_iter().filter(|agent| can(agent)).map(|agent| agent.name).collect();
    match known.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("there are: {}; add another runner to the config later", known.join(", "))),
    }
}

/// Creates what is missing, and says the next command. A second run changes nothing.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    // Report a config that cannot be read before anything is created.
    let has_config = app.config()?.path.exists();
    let given = args.decide.is_some() || args.worker.is_some() || args.day_usd.is_some();
    if has_config && given {
        let what = format!("could not set up the config: `{}` exists", app.env.config_path().display());
        let day_usd = args.day_usd.map(|micros| (micros as f64 / 1e6).to_string());
        let given =
            [("decide", args.decide.clone()), ("worker", args.worker.clone()), ("budget.day_usd", day_usd)];
        let set =
            given.into_iter().filter_map(|(key, value)| Some(format!("looop config set {key} {}", value?)));
        return Err(set.fold(Fault::usage(what), Fault::hint).into());
    }
    let agents = agents_on_path(app);
    let asks = !has_config && !app.json && print::stdin_is_tty() && print::stderr_is_tty();
    let chosen = choose(args, &agents, asks)?;
    let (data_dir_made, config_made) = set_up(app, &chosen)?;
    app.say_migrated(migrate::between_beats(&app.layout, app.now)?);
    let config = app.config()?;
    let (next, why) = next(&agents, &config.decide);
    let made = InitJson {
        data_dir: app.layout.root().display().to_string(),
        data_dir_made,
        config: config.path.display().to_string(),
        config_made,
        agents,
        decide: config.decide,
        worker: config.settings.workers.runner,
        day_usd: config.settings.budget.day_micros.map(|micros| micros as f64 / 1e6),
        next,
    };
    match app.json {
        true => print::answer_whole(made),
        false => print::page(as_text(app, &made, why)),
    }
}

fn as_text(app: &App, made: &InitJson, why: &str) -> String {
    let mut out = String::new();
    let mut put = |name: &str, text: String| out.push_str(&app.style.row(name, &text));
    let state = |made: bool| if made { "made" } else { "exists already" };
    put("data dir", format!("{} ({})", made.data_dir, state(made.data_dir_made)));
    put("config", format!("{} ({})", made.config, state(made.config_made)));
    for agent in &made.agents {
        put("agent", agent_words(agent));
    }
    if made.agents.is_empty() {
        put(
            "agent",
            format!("none on the PATH; known: {}", agents::deciders().collect::<Vec<_>>().join(", ")),
        );
        put("", "an endpoint or any program of yours can decide too: docs/runners.md".to_owned());
    }
    put("decides", made.decide.clone());
    put("works", made.worker.clone().unwrap_or_else(|| "the default; see docs/workers.md".to_owned()));
    put("a day", made.day_usd.map_or("no limit".to_owned(), |usd| format!("at most ${usd:.2}")));
    let then = [
        ("looop goal write ID", "say what you want (the text on stdin or in $EDITOR)"),
        ("looop tick --dry-run", "read the prompt that a decision would get"),
        ("looop", "start the loop; Ctrl-C ends it"),
    ];
    let step = |command: &str, why: &str| format!("  {command:<28}  {why}\n");
    let then: String = then.iter().map(|(command, why)| step(command, why)).collect();
    out + &format!("\nNext:\n{}Then:\n{then}", step(&made.next, why))
}

fn agent_words(agent: &FoundAgent) -> String {
    let login = match &agent.login {
        Some(login) => format!("logged in by {login}"),
        None => "not logged in".to_owned(),
    };
    format!("{} is {}, {login}", agent.name, agent.path)
}

/// The command to run next, and what it does. It depends on what the runner that decides lacks.
fn next(agents: &[FoundAgent], decide: &str) -> (String, &'static str) {
    match agents.iter().find(|agent| agent.name == decide) {
        Some(agent) if agent.login.is_some() => {
            (format!("looop doctor runner {decide}"), "ask it one small question, to see that it answers")
        }
        Some(_) => (decide.to_owned(), "log in there; `looop doctor runner` then tries it"),
        None => ("looop demo".to_owned(), "see real beats with a scripted runner; costs nothing"),
    }
}

/// Waits for Enter before the first pulse on a terminal, and creates a missing profile. Without a terminal it
/// does nothing, as a service and cron require.
///
/// # Errors
/// The input ends without Enter, or the profile cannot be created.
pub fn confirm_pulse(app: &App) -> Result<()> {
    let has_profile = seed::is_set_up(&app.layout);
    // A user who names a directory expects a profile there.
    let may_make = app.env.get("LOOOP_DATA_DIR").is_none();
    if !print::stdin_is_tty() || !print::stderr_is_tty() || !(has_profile || may_make) {
        return Ok(());
    }
    if has_profile
        && (state_files::is_pulse_confirmed(&app.layout) || lock::holder(&app.layout.pulse_lock()).is_some())
    {
        return Ok(());
    }
    let chosen = defaults(&agents_on_path(app));
    show_terms(app, has_profile, &chosen)?;
    if print::prompt("Press Enter to start, Ctrl-C to leave: ").is_none() {
        let what = "could not start the pulse: the input ended without Enter";
        return Err(Fault::failed(what).hint("nothing was started").into());
    }
    if !has_profile {
        set_up(app, &chosen)?;
        let root = app.layout.root().display();
        print::note(&format!("looop: made the data dir `{root}`; `looop init` says what to do next"));
    }
    state_files::confirm_pulse(&app.layout, app.now)
}

/// Shows the terms that the user agrees to.
fn show_terms(app: &App, has_profile: bool, fresh: &FreshConfig) -> Result<()> {
    let config = app.config()?;
    let has_config = config.path.exists();
    let (decider, limit) = match has_config {
        true => (config.decide, config.settings.budget.day_micros),
        false => (fresh.decide.clone(), Some(fresh.day_micros)),
    };
    let spending = match limit {
        Some(limit) => format!("up to {} a day (budget.day_usd)", dollars(limit)),
        None => "without a limit: budget.day_usd is not set".to_owned(),
    };
    let made = if has_profile { "" } else { ", made after Enter" };
    let config_made = if has_config { "" } else { made };
    print::note("looop: this is the first pulse of this profile.");
    print::note(&format!("  decides    {decider}, when something changes"));
    print::note(&format!("  may spend  {spending}"));
    print::note("  workers    the first one that costs money waits for your approval");
    print::note(&format!("  data dir   {}{made}", app.layout.root().display()));
    print::note(&format!("  config     {}{config_made}", config.path.display()));
    Ok(())
}

/// Creates what is missing. Returns whether something of the data dir was, and whether the config was.
fn set_up(app: &App, chosen: &FreshConfig) -> Result<(bool, bool)> {
    let made = !seed::set_up(&app.layout, app.now)?.is_empty();
    Ok((made, write_fresh(&app.env, chosen)?))
}

/// What a new config says: the options, else what the user answers, else the defaults.
fn choose(args: &Args, agents: &[FoundAgent], asks: bool) -> Result<FreshConfig> {
    let defaults = defaults(agents);
    if asks {
        agents.iter().for_each(|agent| print::note(&agent_words(agent)));
    }
    let decide = match &args.decide {
        Some(name) => name.clone(),
        None => ask_runner("Who decides", agents, |agent| agent.decides, defaults.decide, asks)?,
    };
    let worker = match (&args.worker, defaults.worker) {
        (Some(name), _) => Some(name.clone()),
        (None, Some(default)) => Some(ask_runner("Who works", agents, |agent| agent.works, default, asks)?),
        (None, None) => None,
    };
    let day_micros = match args.day_usd {
        None if asks => ask("What may be spent a day, in US dollars", &dollars(FRESH_DAY_MICROS), parse_usd)?,
        given => given.unwrap_or(FRESH_DAY_MICROS),
    };
    Ok(FreshConfig { decide, worker, day_micros })
}

/// Asks for one of several agents. With fewer than two it takes the default.
fn ask_runner(
    question: &str,
    agents: &[FoundAgent],
    can: impl Fn(&FoundAgent) -> bool,
    default: String,
    asks: bool,
) -> Result<String> {
    let names: Vec<&str> =
        agents.iter().filter(|agent| can(agent)).map(|agent| agent.name.as_str()).collect();
    if !asks || names.len() < 2 {
        return Ok(default);
    }
    ask(&format!("{question} ({})", names.join(", ")), &default, |name| match names.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name:?} is none of them")),
    })
}

/// Asks until the answer is one; an empty line takes the default.
fn ask<T>(question: &str, default: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T> {
    loop {
        let Some(line) = print::prompt(&format!("{question} [{default}]: ")) else {
            let fault = Fault::failed("could not set up a profile: the input ended");
            return Err(fault.hint("nothing was made").into());
        };
        match parse(if line.is_empty() { default } else { &line }) {
            Ok(value) => return Ok(value),
            Err(why) => print::note(&why),
        }
    }
}

/// The choice without an answer: for each role the first agent that is logged in, else the first.
fn defaults(agents: &[FoundAgent]) -> FreshConfig {
    let first = |can: fn(&FoundAgent) -> bool| {
        let mut fit: Vec<&FoundAgent> = agents.iter().filter(|agent| can(agent)).collect();
        fit.sort_by_key(|agent| agent.login.is_none());
        fit.first().map(|agent| agent.name.clone())
    };
    let decide = first(|agent| agent.decides).unwrap_or_else(|| AGENTS[0].name.to_owned());
    FreshConfig { decide, worker: first(|agent| agent.works), day_micros: FRESH_DAY_MICROS }
}

/// The agent CLIs on the PATH.
fn agents_on_path(app: &App) -> Vec<FoundAgent> {
    let (path, env) = (app.env.path(), app.env.all());
    let found = |agent: &'static Agent| {
        let program = program::find_program(agent.name, &path, app.layout.root())?;
        Some(FoundAgent {
            name: agent.name.to_owned(),
            path: program.display().to_string(),
            login: agent.login(app.env.home(), &env),
            decides: agent.decide.is_ok(),
            works: agent.work.is_ok(),
        })
    };
    AGENTS.into_iter().filter_map(found).collect()
}
