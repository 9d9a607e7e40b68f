//! `looop doctor runner`: tests one deciding runner with a real question.

use anyhow::Result;

use crate::agents::{self, Agent, DecideMode, ModelCall, PromptFiles, Runner};
use crate::cli::{App, json_output, print};
use crate::config::Config;
use crate::os::clock::Deadline;
use crate::os::process::{self, Job, OutputLimit, ProcessCommand};
use crate::os::program;
use crate::os::signal::Cancel;
use crate::rules::beat::decision;
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::{Charge, Usage, dollars};
use crate::rules::cost::price::TABLE_DATE;
use crate::rules::fault::Fault;
use crate::rules::time::human_ms;
use crate::store::file;
use crate::store::ledger;
use crate::store::logs;
use crate::store::sandboxes::SandboxBuilder;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop doctor runner claude")]
pub(super) struct Args {
    /// The runner's name. Default: the one that decides.
    name: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
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

/// The result of the test question.
pub(super) struct RunnerCheck {
    took_ms: i64,
    usage: Usage,
    reply: DoctorReply,
}

/// The reply to the test question.
enum DoctorReply {
    ValidMove,
    /// The text says what is wrong with the move.
    InvalidMove(String),
    Failed(Class, String),
}

impl RunnerCheck {
    /// The result in words.
    pub(super) fn words(self) -> Result<String> {
        let took = human_ms(self.took_ms);
        let usage = &self.usage;
        let price = match usage.basis.is_metered() {
            true => dollars(usage.cost_micros),
            false => format!("unmetered (no price is known; the table of {TABLE_DATE} has exact names only)"),
        };
        let tokens = format!(
            "{} tokens in, {} cached, {} out",
            usage.tokens_in,
            usage.tokens_cached + usage.tokens_written,
            usage.tokens_out
        );
        match self.reply {
            DoctorReply::ValidMove => Ok(format!("a valid move in {took}: {tokens}, {price}")),
            DoctorReply::InvalidMove(why) => {
                Ok(format!("in {took}, but with no valid move ({why}): {tokens}, {price}"))
            }
            DoctorReply::Failed(class, why) => {
                let fault = Fault::failed(format!("{class} after {took}: {why}"));
                let remedy = class.remedy();
                Err(if remedy.is_empty() { fault } else { fault.hint(remedy) }.into())
            }
        }
    }
}

/// Asks for one small decision. The prompt and the cost are recorded.
pub(super) fn ask(app: &App, config: &Config, runner: &dyn Runner) -> Result<RunnerCheck> {
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
    let shown = |text: &str| crate::rules::text::visible(&secrets.redact(text), false);
    let (usage, reply) = match asked {
        Ok(reply) => {
            let parsed = decision::parse_reply(&reply.text);
            let is_valid = |_| DoctorReply::ValidMove;
            (reply.usage, parsed.map_or_else(|why| DoctorReply::InvalidMove(shown(&why)), is_valid))
        }
        Err(failed) => (failed.usage.clone(), DoctorReply::Failed(failed.class, shown(&failed.why))),
    };
    let is_spent = !matches!(reply, DoctorReply::Failed(Class::Missing | Class::Down, _));
    if is_spent {
        ledger::append(&app.layout, &Charge::new(app.now, "doctor", runner.name(), usage.clone()))?;
    }
    Ok(RunnerCheck { took_ms, usage, reply })
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
        let here = config.path.parent().unwrap_or(&config.path);
        match program::find_program(runner.program(), &config.settings.path, here) {
            Some(path) => {
                lines.push(("program", path.display().to_string()));
                if let Some((agent, mode)) = agent {
                    lines.push(("version", version(&config, agent, mode, &path, &mut is_well)));
                }
            }
            None => {
                is_well = false;
                let path = &config.settings.path;
                lines.push((
                    "program",
                    format!("`{}` is not on the configured PATH ({path})", runner.program()),
                ));
            }
        }
    }
    lines.push(("tools", tools(agent.map(|(_, mode)| mode), runner.as_ref()).to_owned()));
    if let Some((agent, _)) = agent {
        lines.push(("login", login(&config, agent)));
        let waits = agent.work.as_ref().map_or_else(|why| *why, |work| work.waits);
        lines.push(("as a worker, it says that it waits", waits.to_owned()));
    }
    let answer = ask(app, &config, runner.as_ref())?;
    let tried = json_output::RunnerTrial {
        ok: matches!(answer.reply, DoctorReply::ValidMove) && is_well,
        class: match &answer.reply {
            DoctorReply::Failed(class, _) => Some(class.to_string()),
            _ => None,
        },
        took_ms: answer.took_ms,
        usage: answer.usage.clone(),
    };
    is_well &= matches!(answer.reply, DoctorReply::ValidMove);
    match answer.words() {
        Ok(words) => lines.push(("answers", words)),
        Err(error) => {
            lines.push(("answers", format!("no: {error:#}")));
            let hints = error.downcast_ref::<Fault>().map(|fault| fault.hints.clone()).unwrap_or_default();
            lines.extend(hints.into_iter().map(|hint| ("fix", hint)));
        }
    }
    if args.json {
        let stated = lines.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        print::answer("runner", json_output::RunnerTried { stated, tried })?;
    } else {
        lines.iter().for_each(|(key, value)| print::line(&format!("{key}: {value}")));
    }
    Ok(u8::from(!is_well))
}

fn tools(mode: Option<&DecideMode>, runner: &dyn Runner) -> &'static str {
    match mode {
        Some(mode) => mode.tools,
        None if runner.program().is_empty() => "off: an endpoint is asked for text and has none",
        None => "not known: it is a command of yours, and looop cannot take its hands away",
    }
}

fn login(config: &Config, agent: &Agent) -> String {
    let is_set =
        |key: &&str| config.settings.full_env.iter().any(|(name, value)| name == key && !value.is_empty());
    let set: Vec<&str> = agent.env_names().filter(is_set).collect();
    match set.is_empty() {
        true => format!("none in the environment; what {} keeps itself, if it does", agent.name),
        false => format!("from the environment: {}", set.join(", ")),
    }
}

/// What version it says it has, beside the oldest that has all that is needed and the one that was tried.
fn version(
    config: &Config,
    agent: &Agent,
    mode: &DecideMode,
    path: &std::path::Path,
    is_well: &mut bool,
) -> String {
    // It has no sandbox: the user asks for this check, and no text of a model is involved.
    let command = ProcessCommand::new(path, ["--version"], config.settings.base_env.clone(), "/");
    let job = Job::new(command, OutputLimit::Tail(4096), VERSION_TIMEOUT_MS);
    let ended = Cancel::never().and_then(|cancel| process::run_one(job, &cancel, None));
    let stated = ended.map(|ended| String::from_utf8_lossy(&ended.stdout).into_owned()).unwrap_or_default();
    let (major, minor, patch) = mode.oldest;
    let tested = agent.tested.unwrap_or("no version");
    let tried = format!("{tested} was tried, {major}.{minor}.{patch} is the oldest that has what is needed");
    match number(&stated) {
        Some((found, text)) if found < mode.oldest => {
            *is_well = false;
            format!("{text} is too old: {tried}")
        }
        Some((_, text)) => format!("{text}; {tried}"),
        None => format!("unknown; {tried}"),
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
