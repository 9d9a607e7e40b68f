//! `looop help` and `looop version`. The manual is made from the argument parser.

use anyhow::Result;
use clap::{CommandFactory, builder::StyledStr};

use super::{Cli, print};
use crate::model::fault::Fault;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop help goal write")]
pub struct Args {
    /// The command to explain, such as `goal write`. Default: the whole manual.
    command: Vec<String>,
}

pub fn run(args: &Args) -> Result<u8> {
    let mut root = Cli::command();
    root.build();
    let mut command = &mut root;
    for name in &args.command {
        let known: Vec<String> = shown(command).map(|sub| sub.get_name().to_owned()).collect();
        command = match command.find_subcommand_mut(name) {
            Some(sub) => sub,
            None => {
                let fault = Fault::usage(format!("could not explain `{name}`: no such command exists"));
                return Err(fault.hint(format!("there are: {}", known.join(", "))).into());
            }
        };
    }
    let mut text = String::new();
    write(command, args.command.is_empty(), &mut text);
    print::raw(text.as_bytes());
    Ok(0)
}

fn shown(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set())
}

fn write(command: &mut clap::Command, deep: bool, out: &mut String) {
    let help: StyledStr = command.render_long_help();
    let text = help.to_string();
    out.push_str(text.trim_end());
    out.push('\n');
    if deep {
        out.push_str(MANUAL);
    }
    let names: Vec<String> = shown(command).map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        if let Some(sub) = command.find_subcommand_mut(&name) {
            let title = sub.get_bin_name().unwrap_or(&name).to_owned();
            out.push_str(&format!("\n{title}\n{}\n", "-".repeat(title.len())));
            write(sub, false, out);
        }
    }
}

/// The part of the manual that belongs to no single command.
const MANUAL: &str = "
Files
  $LOOOP_DATA_DIR, else $XDG_STATE_HOME/looop     the data dir, a git repository
    PLAYBOOK.md  goals/*.md  sensors/*            what you write
    journal.md  world.json  snapshots/            what looop writes, committed
    asks/  schedules/                             questions, approvals, timers
    claims/                                       leases: who may work on what; not in git
    beat.json  cost/  runs/  events.jsonl         looop's memory, spend, archive, log; not in git
  $LOOOP_CONFIG, else $XDG_CONFIG_HOME/looop.json the config; its $schema names every key

Environment
  LOOOP_DATA_DIR  LOOOP_CONFIG  LOOOP_INTERVAL  LOOOP_DECIDE  LOOOP_WORKER  NO_COLOR  VISUAL  EDITOR

Exit codes
  0 done   1 failed   2 usage   3 wait, fix: you are needed   75 another beat holds the lock
";

/// Prints an error in the arguments, or the help that they asked for. Returns the exit code.
pub fn unread(error: &clap::Error) -> u8 {
    let text = error.render();
    match error.use_stderr() {
        // The text repeats arguments, which may be foreign text.
        true => print::note(text.to_string().trim_end()),
        false if print::stdout_is_tty() => {
            print::as_is(format!("{}\n", text.ansi().to_string().trim_end()).as_bytes());
        }
        false => print::line(text.to_string().trim_end()),
    }
    u8::try_from(error.exit_code()).unwrap_or(2)
}

pub fn version() -> Result<u8> {
    print::line(&format!("looop {}", env!("CARGO_PKG_VERSION")));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a shell line up to the first shell operator.
    fn words(line: &str) -> Vec<String> {
        let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                '|' | '<' | '>' | ';' | ')' if !quoted => break,
                ' ' if !quoted => all.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
                c => word.push(c),
            }
        }
        all.extend(Some(word).filter(|word| !word.is_empty()));
        all
    }

    fn examples(command: &clap::Command) -> Vec<String> {
        let text = command.get_after_help().map(StyledStr::to_string).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with("  "));
        lines.map(str::to_owned).collect()
    }

    fn walk(command: &clap::Command, name: &str, seen: &mut usize) {
        let is_leaf = shown(command).next().is_none();
        let examples = examples(command);
        assert!(!is_leaf || !examples.is_empty(), "`{name} --help` has no example");
        for line in examples {
            // The text before it is another program, or belongs to the shell.
            let at = line.find("looop ").unwrap_or_else(|| line.find("looop").unwrap());
            let words = words(&line[at..]);
            let whole = words.join(" ");
            assert!(whole.starts_with(name), "{line:?} is no example of `{name}`");
            let parsed = Cli::command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            *seen += 1;
        }
        for sub in shown(command) {
            walk(sub, &format!("{name} {}", sub.get_name()), seen);
        }
    }

    /// Arguments that are built on demand bring the help text of their own type along.
    #[test]
    fn a_command_has_the_same_summary_in_the_list_and_in_its_own_help() {
        let listed = Cli::command();
        let mut built = listed.clone();
        built.build();
        let words = |command: &clap::Command| command.get_about().map(StyledStr::to_string);
        for command in shown(&listed) {
            let own = built.find_subcommand(command.get_name()).unwrap();
            assert!(words(command).is_some() && words(command) == words(own), "{}", command.get_name());
            assert_eq!(own.get_long_about().map(StyledStr::to_string), None, "{}", command.get_name());
        }
    }

    #[test]
    fn the_help_of_each_command_has_an_example_and_each_parses() {
        let mut root = Cli::command();
        root.build();
        let mut seen = 0;
        walk(&root, "looop", &mut seen);
        assert!(seen > 60, "only {seen} examples");
    }
}
