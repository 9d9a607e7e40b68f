//! `looop policy test`: what policy would decide about a command. And the rule that `looop approve --always` adds.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::config_file::ConfigChange;
use super::json_output::{PolicyDecisionJson, PolicyTestJson};
use super::{App, Fault, clip, print, visible};
use crate::config::Config;
use crate::os::{path, program};
use crate::rules::beat::ask::{Approval, QuestionFile};
use crate::rules::beat::decision::{Action, Move, RunCommand};
use crate::rules::beat::policy::{self, PolicyDecision, PolicyFacts};
use crate::rules::beat::settings::{PolicyRules, RunRule};
use crate::rules::text::quote_argv;

/// How much of a move's reason is in the note of a rule, in characters.
const NOTE_CHARS: usize = 120;

#[derive(Debug, clap::Subcommand)]
pub enum PolicyVerb {
    /// Say what would happen to a command as a move: free, waits for you, or refused. Nothing is run.
    Test(PolicyTestArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop policy test -- df -h\n  looop policy test --cwd ~/src/app -- git fetch --quiet"
)]
pub struct PolicyTestArgs {
    /// Where the command would run. Default: the data dir.
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

pub fn test(app: &App, args: &PolicyTestArgs) -> Result<u8> {
    let config = app.config()?;
    let dir = args.cwd.as_ref().map_or(app.layout.root().to_owned(), |dir| app.env.here(dir));
    let decided = |tainted| {
        let rules = &config.settings.rules;
        let decision = judge(app, &config, rules, &args.argv, &dir, tainted);
        // The first rule that frees the command by itself.
        let is_enough = |rule: &RunRule| {
            let alone = PolicyRules { allow: vec![rule.clone()], ..PolicyRules::default() };
            judge(app, &config, &alone, &args.argv, &dir, tainted) == PolicyDecision::Free
        };
        let rule = rules.allow.iter().position(is_enough).map(|nth| format!("policy.allow[{nth}]"));
        let (decision, why) = match decision {
            PolicyDecision::Free => {
                ("free", rule.map(|rule| format!("{rule} allows it")).unwrap_or_default())
            }
            PolicyDecision::Waits(why) => ("waits", why),
            PolicyDecision::Refused(why) => ("refused", why),
        };
        PolicyDecisionJson { decision, why }
    };
    let (decision, tainted) = (decided(false), decided(true));
    if app.json {
        let cwd = dir.display().to_string();
        return print::answer_whole(PolicyTestJson { argv: args.argv.clone(), cwd, decision, tainted });
    }
    let words = |PolicyDecisionJson { decision, why }: &PolicyDecisionJson| match *decision {
        "waits" => format!("needs your approval: {why}"),
        other => format!("{other}: {why}"),
    };
    print::line(&words(&decision));
    if tainted != decision {
        print::line(&format!("after untrusted text was read: {}", words(&tainted)));
    }
    Ok(0)
}

/// What policy decides about a command in a directory, under these rules.
fn judge(
    app: &App,
    config: &Config,
    rules: &PolicyRules,
    argv: &[String],
    dir: &Path,
    tainted: bool,
) -> PolicyDecision {
    let place = dir.canonicalize().ok().filter(|dir| dir.is_dir());
    let data_dir = path::followed(app.layout.root());
    let facts = PolicyFacts {
        rules,
        tainted,
        data_dir: &data_dir,
        place: place.as_deref(),
        protected: &config.settings.protected,
        resolve: path::followed,
        was_truncated: false,
        sandbox: false,
        proposed: false,
        free_check: false,
        repo_listed: false,
        first_paid: false,
    };
    let run = RunCommand { argv: argv.to_vec(), sh: None, cwd: None };
    let decided = Move { action: Action::Run(run), why: String::new(), goal: None, next_beat_s: None };
    let program = argv.first().map_or("", String::as_str);
    match policy::judge(&decided, &facts) {
        refused @ PolicyDecision::Refused(_) => refused,
        _ if program::find_program(program, &config.settings.path, dir).is_none() => {
            PolicyDecision::Refused(format!("`{program}` is not an executable on the configured PATH"))
        }
        decision => decision,
    }
}

/// Plans the rule that frees exactly the command of an approval from now on. `None` if a rule does so already.
///
/// # Errors
/// No rule can free it, or the config cannot be changed.
pub fn exact_rule(app: &App, ask: &QuestionFile, approval: &Approval) -> Result<Option<ConfigChange>> {
    let refuse = |why: &str| Fault::usage(format!("could not approve {} always: {why}", ask.id));
    let (Action::Run(RunCommand { sh: None, .. }), Some(command)) =
        (&approval.decided.action, &approval.scope.command)
    else {
        let fault =
            refuse("a rule frees one program with its arguments, and this move is not such a command");
        return Err(fault.hint("approve it without --always").into());
    };
    if let Some(arg) = command.argv.iter().find(|arg| arg.contains('*')) {
        return Err(
            refuse(&format!("{arg:?} would be a wildcard in a rule, which frees more than this")).into()
        );
    }
    let config = app.config()?;
    let dir = PathBuf::from(&command.cwd);
    let judged = |rules: &PolicyRules| judge(app, &config, rules, &command.argv, &dir, true);
    let mut rules = config.settings.rules.clone();
    if judged(&rules) == PolicyDecision::Free {
        return Ok(None);
    }
    let nth = rules.allow.len();
    rules.allow.push(RunRule { argv: command.argv.clone(), cwd: vec![dir.clone()], note: None });
    if let PolicyDecision::Waits(why) | PolicyDecision::Refused(why) = judged(&rules) {
        return Err(refuse(&why).into());
    }
    let why = clip(&visible(&approval.decided.why, false), NOTE_CHARS);
    let note = format!("{}: approved always as {}: {why}", app.now.day(), ask.id);
    let rule = json!({ "argv": command.argv, "cwd": [command.cwd], "note": note });
    ConfigChange::plan(app, &format!("policy.allow[{nth}]"), &rule).map(Some)
}

/// Says what a rule frees, before it is added.
pub fn rule_words(change: &ConfigChange, approval: &Approval) -> String {
    let argv = approval.scope.command.as_ref().map_or(String::new(), |command| quote_argv(&command.argv));
    format!(
        "This rule in {} frees `{argv}` in that folder from now on, also after its files have changed or untrusted text \
         was read:\n  {}: {}",
        change.path.display(),
        change.key,
        change.value
    )
}
