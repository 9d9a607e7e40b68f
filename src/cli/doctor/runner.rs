//! `looop doctor runner`: tests one deciding runner with a real question.

use std::path::Path;

use anyhow::Result;

use crate::agents::{self, Agent, DecideMode, ModelCall, PromptFiles, Runner};
use crate::cli::findings::program_of;
use crate::cli::json_output::{RunnerTrial, RunnerTried};
use crate::cli::{App, Cancel, Fault, complete, dollars, human_ms, print, visible};
use crate::config::Config;
use crate::os::clock::Deadline;
use crate::os::process::{self, Job, OutputLimit, ProcessCommand};
use crate::rules::beat::decision;
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::{Charge, CostSource};
use crate::rules::cost::price::TABLE_DATE;
use crate::store::sandboxes::SandboxBuilder;
use crate::store::{file, ledger, logs};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop doctor runner claude")]
pub(super) struct Args {
    /// The runner's name. Default: the one that decides.
    #[arg(add = complete::runner_names())]
    name: Option<String>,
}

/// How long the runner may take to answer, in milliseconds.
const ASK_TIMEOUT_MS: i64 = 60_000;
/// How long a program may take to print its version, in milliseconds.
const VERSION_TIMEOUT_MS: i64 = 20_000;

/// The stable part of the prompt: the minimum for a valid move.
const SYSTEM: &str =
    "You decide one move for a control loop. Answer with one JSON object and nothing else.\n";
/// The rest of the prompt.
const QUESTION: &str = "Answer with exactly this object: {\"move\":\"noop\",\"why\":\"the doctor asked\"}\n";

/// Asks for one small decision. The prompt and the cost are recorded. Also returns the answer in words, or why the
/// runner did not answer.
pub(super) fn ask(
    app: &App,
    config: &Config,
    runner: &dyn Runner,
) -> Result<(RunnerTrial, Result<String, Fault>)> {
    let keep = |name: &str, part: &str| logs::archive(&app.layout, "doctor", name, part.as_bytes());
    let whole = format!("{SYSTEM}{QUESTION}");
    let prompt = PromptFiles {
        user: keep("user.md", QUESTION)?,
        system: keep("system.md", SYSTEM)?,
        whole: keep("prompt.md", &whole)?,
        bytes: whole.len(),
    };
    file::make_dir(&app.layout.empty_dir())?;
    let cancel = Cancel::on_signals()?;
    let sandboxes = SandboxBuilder::new(&app.layout, &config.settings, true);
    let call = ModelCall {
        prompt: &prompt,
        now: app.now,
        timeout_ms: ASK_TIMEOUT_MS,
        sandboxes: &sandboxes,
        mark: None,
        key: None,
        cancel: &cancel,
        frame: None,
    };
    let started = Deadline::after_ms(0);
    let asked = runner.decide(&call);
    let took_ms = started.spent_ms();
    let secrets = &config.settings.secrets;
    let shown = |text: &str| visible(&secrets.redact(text), false);
    let (usage, class, verdict) = match asked {
        Ok(reply) => (reply.usage, None, decision::parse_reply(&reply.text).map(drop)),
        Err(failed) => (failed.usage, Some(failed.class), Err(failed.why)),
    };
    if !matches!(class, Some(Class::Missing | Class::Down)) {
        ledger::append(&app.layout, &Charge::new(app.now, "doctor", runner.name(), usage.clone()))?;
    }
    let took = human_ms(took_ms);
    let cached = usage.tokens_cached + usage.tokens_written;
    let tokens = format!("{} tokens in, {cached} cached, {} out", usage.tokens_in, usage.tokens_out);
    let price = match usage.basis {
        CostSource::Reported => dollars(usage.cost_micros),
        CostSource::Priced if config.has_price(runner.name()) => {
            format!("{} by runners.{}.price", dollars(usage.cost_micros), runner.name())
        }
        CostSource::Priced => format!("{} by the list prices of {TABLE_DATE}", dollars(usage.cost_micros)),
        _ => format!("unpriced (no price is known; the table of {TABLE_DATE} has exact names only)"),
    };
    let why = verdict.as_ref().err().map(|why| shown(why)).unwrap_or_default();
    let words = match class {
        None if verdict.is_ok() => Ok(format!("a valid move in {took}: {tokens}, {price}")),
        None => Ok(format!("in {took}, but with no valid move ({why}): {tokens}, {price}")),
        Some(class) => {
            let fault = Fault::failed(format!("{class} after {took}: {why}"));
            let remedy = class.remedy();
            Err(if remedy.is_empty() { fault } else { fault.hint(remedy) })
        }
    };
    let class = class.map(|class| class.to_string());
    Ok((RunnerTrial { ok: verdict.is_ok(), class, took_ms, usage }, words))
}

/// Tests one runner; exit status 1 if it cannot decide.
pub(super) fn run(app: &App, args: &Args) -> Result<u8> {
    let config = app.config()?;
    let name = args.name.as_deref().unwrap_or(&config.decide);
    let runner = config.decider_named(name)?;
    let agent = agents::find(name).filter(|agent| agent.name == runner.program());
    let agent = agent.and_then(|agent| Some((agent, agent.decide.as_ref().ok()?)));
    let mut lines: Vec<(&str, String)> = vec![("runner", name.to_owned())];
    let mut is_well = true;
    if !runner.program().is_empty() {
        match program_of(&config, runner.program()) {
            Ok(path) => {
                lines.push(("program", path.display().to_string()));
                if let Some((agent, mode)) = agent {
                    let (version, is_new) = version(&config, agent, mode, &path);
                    lines.push(("version", version));
                    is_well = is_new;
                }
            }
            Err(missing) => {
                lines.push(("program", missing));
                is_well = false;
            }
        }
    }
    let tools = match agent {
        Some((_, mode)) => mode.tools,
        None if runner.program().is_empty() => "off: an endpoint is asked for text and has none",
        None => "not known: it is a command of yours, and looop cannot take its hands away",
    };
    lines.push(("tools", tools.to_owned()));
    if let Some((agent, _)) = agent {
        lines.push(("login", login(app, &config, agent)));
        let waits = agent.work.as_ref().map_or_else(|why| *why, |work| work.waits);
        lines.push(("as a worker, it says that it waits", waits.to_owned()));
    }
    let (mut tried, words) = ask(app, &config, runner.as_ref())?;
    tried.ok &= is_well;
    let is_well = tried.ok;
    match words {
        Ok(words) => lines.push(("answers", words)),
        Err(fault) => {
            lines.push(("answers", format!("no: {fault}")));
            lines.extend(fault.hints.into_iter().map(|hint| ("fix", hint)));
        }
    }
    if app.json {
        let stated = lines.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        print::answer("runner", RunnerTried { stated, tried })?;
    } else {
        lines.iter().for_each(|(key, value)| print::line(&format!("{key}: {value}")));
    }
    Ok(u8::from(!is_well))
}

fn login(app: &App, config: &Config, agent: &Agent) -> String {
    match agent.login(app.env.home(), &config.settings.full_env) {
        Some(login) => format!("by {login}"),
        None => format!("none is there; log in with `{}`", agent.name),
    }
}

/// The version that it prints, beside the oldest that has all that is needed and the one that was tried. False if it is
/// too old.
fn version(config: &Config, agent: &Agent, mode: &DecideMode, path: &Path) -> (String, bool) {
    // It has no sandbox: the user asks for this check, and no text of a model is involved.
    let command = ProcessCommand::new(path, ["--version"], config.settings.base_env.clone(), "/");
    let job = Job::new(command, OutputLimit::Tail(4096), VERSION_TIMEOUT_MS);
    let ended = Cancel::never().and_then(|cancel| process::run_one(job, &cancel, None));
    let stated = ended.map(|ended| String::from_utf8_lossy(&ended.stdout).into_owned()).unwrap_or_default();
    let (major, minor, patch) = mode.oldest;
    let tested = agent.tested.unwrap_or("no version");
    let tried = format!("{tested} was tried, {major}.{minor}.{patch} is the oldest that has what is needed");
    match number(&stated) {
        Some((found, text)) if found < mode.oldest => (format!("{text} is too old: {tried}"), false),
        Some((_, text)) => (format!("{text}; {tried}"), true),
        None => (format!("unknown; {tried}"), true),
    }
}

/// The first number of the form 1.2.3 in a text.
fn number(text: &str) -> Option<((u32, u32, u32), &str)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut parts = word.split('.').map(str::parse);
        let found = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        Some((found, word))
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_version_number_is_found_in_program_output() {
        assert_eq!(number("2.1.329 (Claude Code)"), Some(((2, 1, 329), "2.1.329")));
        assert_eq!(number("codex-cli 0.169.0\n"), Some(((0, 169, 0), "0.169.0")));
        for none in ["", "none", "1.2", "99999999999.1.1"] {
            assert_eq!(number(none), None, "{none}");
        }
    }
}
