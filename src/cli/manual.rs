//! `looop help` and `looop version`: the manual is made from the same tree that parses the arguments.

use anyhow::Result;
use clap::{CommandFactory, builder::StyledStr};

use super::{Cli, print};
use crate::model::fault::Fault;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command to explain, as `goal write`; without it the whole manual.
    command: Vec<String>,
}

/// Prints the manual.
pub fn run(args: &Args) -> Result<u8> {
    let mut root = Cli::command();
    root.build();
    let mut command = &mut root;
    for name in &args.command {
        let known: Vec<String> = shown(command).map(|sub| sub.get_name().to_owned()).collect();
        command = match command.find_subcommand_mut(name) {
            Some(sub) => sub,
            None => {
                let fault = Fault::usage(format!("could not explain `{name}`: there is no such command"));
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

/// What no single command's help says.
const MANUAL: &str = "
Files
  $LOOOP_DATA_DIR, else $XDG_STATE_HOME/looop     the data dir, a git repository
    PLAYBOOK.md  goals/*.md  sensors/*            what you write
    journal.md  world.json  snapshots/            what looop writes, committed
    asks/  schedules/                             questions, approvals, timers
    claims/                                       who works on what; not in git
    beat.json  cost/  runs/  events.jsonl         looop's memory, spend, archive, log; not in git
  $LOOOP_CONFIG, else $XDG_CONFIG_HOME/looop.json the config; its $schema names every key

Environment
  LOOOP_DATA_DIR  LOOOP_CONFIG  LOOOP_INTERVAL  LOOOP_DECIDE  NO_COLOR  VISUAL  EDITOR

Exit codes
  0 done   1 failed   2 usage   75 another beat holds the lock
";

/// Prints the version.
pub fn version() -> Result<u8> {
    print::line(&format!("looop {}", env!("CARGO_PKG_VERSION")));
    Ok(0)
}
