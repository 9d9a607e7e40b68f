//! `looop help` and `looop version`. The manual is made from the argument parser.

use anyhow::Result;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches};

use super::json_output::DoneJson;
use super::{Cli, print, unknown};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop help goal write")]
pub struct Args {
    /// The command to explain, such as `goal write`. Default: the whole manual.
    command: Vec<String>,
}

/// The groups of the top-level verbs: the first verb of each, and its heading. The other verbs of a group are
/// those that follow in [`super::Verb`], so that each verb is in a group.
pub const GROUPS: [(&str, &str); 8] = [
    ("ls", "Every day"),
    ("tick", "The loop"),
    ("worker", "Workers and leases"),
    ("question", "Questions and approvals"),
    ("goal", "Goals, sensors, playbook and schedule"),
    ("fix", "Fixes"),
    ("init", "Set-up"),
    ("ask", "Inside a worker"),
];

/// The visible verbs by group.
pub fn groups(root: &clap::Command) -> Vec<(&'static str, Vec<&clap::Command>)> {
    let mut groups: Vec<(&str, Vec<&clap::Command>)> = Vec::new();
    for verb in shown(root) {
        let heading = GROUPS.iter().find(|(first, _)| *first == verb.get_name());
        groups.extend(heading.map(|(_, heading)| (*heading, Vec::new())));
        groups.iter_mut().last().into_iter().for_each(|(_, verbs)| verbs.push(verb));
    }
    groups
}

/// The argument parser, whose help lists the verbs by group.
pub fn tree() -> clap::Command {
    let root = Cli::command();
    let (head, name) = (*root.get_styles().get_header(), *root.get_styles().get_literal());
    let mut text = String::new();
    for (heading, verbs) in groups(&root) {
        text.push_str(&format!("{head}{heading}:{head:#}\n"));
        for verb in verbs {
            let about = verb.get_about().map(StyledStr::to_string).unwrap_or_default();
            text.push_str(&format!("  {name}{:<11}{name:#}  {about}\n", verb.get_name()));
        }
        text.push('\n');
    }
    root.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{text}{head}Options:{head:#}\n{{options}}{{after-help}}"
    ))
}

/// Parses the arguments of this process. If they are wrong or ask for the help, prints that and returns the exit code.
pub fn parse() -> Result<Cli, u8> {
    let parsed = tree().try_get_matches().and_then(|matches| {
        let (mut verb, mut at) = (Vec::new(), &matches);
        while let Some((name, below)) = at.subcommand() {
            verb.push(name.to_owned());
            at = below;
        }
        Ok(Cli { verb: verb.join(" "), ..Cli::from_arg_matches(&matches)? })
    });
    parsed.map_err(unread)
}

pub fn run(args: &Args) -> Result<u8> {
    let mut root = tree();
    root.build();
    let mut command = &mut root;
    for name in &args.command {
        let what = format!("could not explain `{name}`: no such command exists");
        let fault = unknown(what, shown(command).map(clap::Command::get_name));
        command = command.find_subcommand_mut(name).ok_or(fault)?;
    }
    let mut text = String::new();
    write(command, args.command.is_empty(), &mut text);
    print::page(text)
}

/// Commands of earlier versions, and today's ones.
const RENAMED: [(&str, &str); 7] = [
    ("attempts", "attempt show GOAL"),
    ("claims", "lease list"),
    ("schedule drop", "schedule remove"),
    ("sensor remove", "sensor archive"),
    ("told", "inbox"),
    ("trust --list", "leanfile list"),
    ("trust --revoke", "leanfile distrust"),
];

/// Adds today's command to an error about one of an earlier version.
fn name_new_word(error: &mut clap::Error) {
    let wrong = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg].map(|kind| error.get(kind));
    let Some(ContextValue::String(wrong)) = wrong.into_iter().flatten().next() else { return };
    let typed: Vec<String> = std::env::args().collect();
    let is_meant = |old: &str| {
        let words: Vec<&str> = old.split(' ').collect();
        words.last() == Some(&wrong.as_str()) && typed.windows(words.len()).any(|some| some == words)
    };
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| is_meant(old)) {
        let tip = StyledStr::from(format!("the command is `looop {new}` now"));
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
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
fn unread(mut error: clap::Error) -> u8 {
    name_new_word(&mut error);
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

pub fn version(json: bool) -> Result<u8> {
    let text = format!("looop {}", env!("CARGO_PKG_VERSION"));
    let printed = DoneJson { verb: "version".to_owned(), object: None, changed: false, text };
    if json { print::answer_whole(printed) } else { print::done(&printed.text) }
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
    fn each_verb_is_in_one_group_of_the_help() {
        let root = tree();
        let groups = groups(&root);
        let headings: Vec<&str> = groups.iter().map(|(heading, _)| *heading).collect();
        assert_eq!(headings, GROUPS.map(|(_, heading)| heading));
        let grouped: Vec<&str> =
            groups.iter().flat_map(|(_, verbs)| verbs.iter().map(|verb| verb.get_name())).collect();
        assert_eq!(grouped, shown(&root).map(clap::Command::get_name).collect::<Vec<_>>());
        let (_, in_worker) = groups.last().unwrap();
        let in_worker: Vec<&str> = in_worker.iter().map(|verb| verb.get_name()).collect();
        let expected = ["ask", "inbox", "flag", "unflag", "report", "claim", "release", "spend", "done"];
        assert_eq!(in_worker, expected);
        let help = root.clone().render_help().to_string();
        for name in grouped {
            let line = help.lines().find(|line| line.starts_with(&format!("  {name} ")));
            assert!(line.is_some_and(|line| line.len() <= 80), "{name}: {line:?}");
        }
    }

    #[test]
    fn each_noun_can_be_listed_and_a_short_verb_is_the_verb_of_its_noun() {
        let root = tree();
        let nouns = || shown(&root).filter(|noun| !["service", "doctor"].contains(&noun.get_name()));
        let mut short = 0;
        for noun in nouns().filter(|noun| noun.has_subcommands()) {
            let name = noun.get_name();
            let is_one = ["playbook", "config", "policy"].contains(&name);
            assert!(is_one || noun.find_subcommand("list").is_some(), "{name} has no list");
            // Some verbs of nouns have the name of another verb.
            for verb in shown(noun).filter(|verb| !["flag", "restore", "resume"].contains(&verb.get_name())) {
                if let Some(same) = root.find_subcommand(verb.get_name()) {
                    let about = |verb: &clap::Command| verb.get_about().map(StyledStr::to_string);
                    assert_eq!(about(same), about(verb), "{name} {}", verb.get_name());
                    assert!(!same.has_subcommands(), "{name}: a noun has the name of a verb");
                    short += 1;
                }
            }
        }
        assert_eq!(short, 14, "attach … wait, answer, approve, reject, trust, claim, release");
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
