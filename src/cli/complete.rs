//! `looop completions` and `looop man`: shell completions and manual pages, made from the argument parser.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;
use clap_mangen::Man;

use super::{Cli, Name, manual, print, unknown};
use crate::config::{self, Env};
use crate::rules::beat::entry;
use crate::store::layout::Layout;
use crate::store::{examples, file, logs, state_files, user_files, workers};

/// How much of the end of the journal is searched for beats, in bytes.
const JOURNAL_BYTES: usize = 64 * 1024;
/// The environment variable by which a shell's script asks for completions.
const VARIABLE: &str = "LOOOP_COMPLETE";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  looop completions bash > ~/.local/share/bash-completion/completions/looop"
)]
pub struct Args {
    /// The shell: bash, zsh, fish, elvish or powershell.
    shell: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop man | man -l -\n  looop man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// A directory for one page per command. Without it, the page of looop itself goes to stdout.
    dir: Option<std::path::PathBuf>,
}

/// Answers a shell that asks for completions. False if this call is for another purpose.
pub fn asked() -> bool {
    let done = CompleteEnv::with_factory(Cli::command).var(VARIABLE).try_complete(std::env::args_os(), None);
    // A malformed request gets no completions.
    done.unwrap_or(true)
}

/// Prints the script for a shell's startup file.
pub fn run(args: &Args) -> Result<u8> {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&args.shell) else {
        let what = format!("could not complete for the shell {:?}", args.shell);
        return Err(unknown(what, shells.names()).into());
    };
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "looop", "looop", "looop", &mut script)
        .context("could not write the completions")?;
    print::page(&script)
}

pub fn man(args: &ManArgs) -> Result<u8> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let Some(dir) = &args.dir else {
        return print::page(&page(&root, "looop")?);
    };
    std::fs::create_dir_all(dir).with_context(|| format!("could not make `{}`", dir.display()))?;
    write_pages(&root, "looop", dir).map(|()| 0)
}

fn write_pages(command: &clap::Command, name: &str, dir: &Path) -> Result<()> {
    file::write(&dir.join(format!("{name}.1")), &page(command, name)?, 0o644, file::Durability::Atomic)?;
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    shown.into_iter().try_for_each(|sub| write_pages(sub, &format!("{name}-{}", sub.get_name()), dir))
}

fn page(command: &clap::Command, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let man = Man::new(command.clone()).title(name);
    let written = if name == "looop" { root_page(&man, command, &mut bytes) } else { man.render(&mut bytes) };
    written.context("could not write a manual page")?;
    Ok(bytes)
}

/// Writes the page of looop itself, with the verbs in groups.
fn root_page(man: &Man, root: &clap::Command, out: &mut Vec<u8>) -> std::io::Result<()> {
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    for (heading, verbs) in manual::groups(root) {
        let group = clap::Command::default().name("looop").disable_help_subcommand(true);
        let group = group.subcommand_help_heading(heading).subcommands(verbs.into_iter().cloned());
        Man::new(group).render_subcommands_section(out)?;
    }
    man.render_extra_section(out)?;
    man.render_version_section(out)
}

/// Completes the name of a worker that is not archived.
pub fn worker_ids() -> ArgValueCompleter {
    completer(|layout| Some(workers::ids(layout).ok()?.iter().map(Name::to_string).collect()))
}

/// Completes the id of an open ask.
pub fn ask_ids() -> ArgValueCompleter {
    completer(|layout| {
        let (asks, _) = state_files::asks(layout).ok()?;
        let open = asks.values().filter(|(_, answer)| answer.is_none());
        Some(open.map(|(ask, _)| ask.id.to_string()).collect())
    })
}

/// Completes the name of a ready-made sensor.
pub fn example_names() -> ArgValueCompleter {
    completer(|_| Some(examples::ALL.iter().map(|(name, _)| (*name).to_owned()).collect()))
}

/// Completes the name of a goal.
pub fn goal_ids() -> ArgValueCompleter {
    completer(|layout| {
        let files = file::names(&layout.goals()).ok()?.into_iter();
        Some(files.filter_map(|name| name.strip_suffix(".md").map(str::to_owned)).collect())
    })
}

/// Completes the name of a sensor.
pub fn sensor_names() -> ArgValueCompleter {
    completer(|layout| {
        let (sensors, _) = user_files::sensors(layout).ok()?;
        Some(sensors.into_iter().map(|sensor| sensor.name.to_string()).collect())
    })
}

/// Completes the name of a timer.
pub fn schedule_names() -> ArgValueCompleter {
    completer(|layout| Some(state_files::schedules(layout).ok()?.0.keys().map(Name::to_string).collect()))
}

/// Completes what is leased.
pub fn lease_names() -> ArgValueCompleter {
    completer(|layout| {
        let files = file::names(&layout.claims()).ok()?.into_iter();
        Some(files.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect())
    })
}

/// Completes the id of a beat of which the end of the journal tells.
pub fn beat_ids() -> ArgValueCompleter {
    completer(|layout| {
        let journal = logs::journal_tail(layout, JOURNAL_BYTES).ok()?;
        Some(journal.lines().filter_map(|line| Some(entry::parse(line)?.beat)).collect())
    })
}

/// Completes the name of a runner.
pub fn runner_names() -> ArgValueCompleter {
    completer_of(|env| Some(config::load(env).ok()?.runner_names()))
}

/// Completes the name of an entry of `verify` in the config.
pub fn check_names() -> ArgValueCompleter {
    completer_of(|env| Some(config::load(env).ok()?.settings.workers.verify.into_keys().collect()))
}

/// Completes one of the names that `list` returns for the data dir.
pub fn completer(list: fn(&Layout) -> Option<Vec<String>>) -> ArgValueCompleter {
    completer_of(move |env| list(&env.layout()))
}

fn completer_of(list: impl Fn(&Env) -> Option<Vec<String>> + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let Some(typed) = typed.to_str() else { return Vec::new() };
        let all = Env::read().ok().and_then(|env| list(&env)).unwrap_or_default();
        all.into_iter().filter(|name| name.starts_with(typed)).map(CompletionCandidate::new).collect()
    })
}
