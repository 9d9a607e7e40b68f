//! `looop attempt`: the attempts for a goal of `looop fix`, and the difference between two of them.

use anyhow::Result;

use super::pick::{ambiguous, pick};
use super::{App, Cancel, Fault, Name, human_ms, json_output, print, visible};
use crate::fix::attempt_line;
use crate::rules::fix::attempt::{LedgerLine, NextAction, episode_state, rule};
use crate::store::fixes;
use crate::store::layout::FixDir;
use crate::vcs::clone::{Git, Trees};

/// The timeout of git, in milliseconds.
const GIT_MS: i64 = 120_000;

#[derive(Debug, clap::Subcommand)]
pub enum AttemptVerb {
    /// List the goals with attempts.
    #[command(after_help = "Example:\n  looop attempt list")]
    List,
    /// Show what was tried for a goal, and what follows.
    Show(AttemptShowArgs),
    /// Show the difference between the results of two attempts.
    Diff(AttemptDiffArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop attempt show parse-dates")]
pub struct AttemptShowArgs {
    /// The goal, or the unique beginning of its name. Write FIX/GOAL if two fixes have a goal of this name.
    goal: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop attempt diff parse-dates 2 3")]
pub struct AttemptDiffArgs {
    /// The goal, as for `show`.
    goal: String,
    /// The number of an attempt; 0 is the start.
    #[arg(value_name = "N")]
    from: u32,
    /// The number of another one.
    #[arg(value_name = "M")]
    to: u32,
}

/// A goal of a fix: its full name, the fix's directory and the goal's own name.
type FixGoal = (String, FixDir, Name);

fn goals(app: &App) -> Result<Vec<FixGoal>> {
    let full = |dir: &FixDir, goal: &Name| {
        format!("{}/{goal}", dir.path().file_name().unwrap_or_default().to_string_lossy())
    };
    Ok(fixes::goals(&app.layout)?.into_iter().map(|(dir, goal)| (full(&dir, &goal), dir, goal)).collect())
}

/// Finds a goal by its own name, if only one fix has it, else by its full name.
fn find(app: &App, wanted: &str) -> Result<FixGoal> {
    let all = goals(app)?;
    let begins: Vec<&FixGoal> = all.iter().filter(|(.., goal)| goal.as_str().starts_with(wanted)).collect();
    let exact: Vec<&FixGoal> = all.iter().filter(|(.., goal)| goal.as_str() == wanted).collect();
    match (exact.as_slice(), begins.as_slice()) {
        ([one], _) | ([], [one]) => Ok((*one).clone()),
        ([], _) => pick("goal", wanted, all, |(name, ..)| name),
        (many, _) => Err(ambiguous(wanted, many.iter().map(|(name, ..)| name.as_str())).into()),
    }
}

pub fn list(app: &App) -> Result<u8> {
    let goals: Vec<String> = goals(app)?.into_iter().map(|(name, ..)| name).collect();
    print::list(app.json, "goals", goals, |goal| vec![goal], "no attempts; `looop fix` makes them", &[])
}

pub fn show(app: &App, args: &AttemptShowArgs) -> Result<u8> {
    let (_, dir, goal) = find(app, &args.goal)?;
    let lines = fixes::ledger(&dir, &goal)?;
    let limits = app.config()?.settings.fixes.thresholds;
    let now = episode_state(&lines);
    let next = match now.attempts.last() {
        Some(last) if last.outcome.is_good() => "nothing: the last attempt was good",
        _ => word(&rule(&lines, &limits)),
    };
    if app.json {
        let (row, next) = (now.row, next.to_owned());
        return print::answer_whole(json_output::Attempts { goal, lines, row, next });
    }
    for line in &lines {
        let text = match line {
            LedgerLine::Begin(begin) => match begin.failures {
                Some(failures) => format!("starts with {failures} failing"),
                None => "begins".to_owned(),
            },
            LedgerLine::Attempt(attempt) => {
                let about = if attempt.estimated { "~" } else { "" };
                let took = human_ms(attempt.took_ms);
                format!("{} ({took}, {about}{} tokens)", attempt_line(attempt), attempt.tokens)
            }
            LedgerLine::Plan(plan) => match &plan.refused {
                Some(why) => format!("a plan of {} was refused: {why}", plan.runner),
                None => format!("plan of {}: {}; {}", plan.runner, plan.hypothesis, plan.different),
            },
            LedgerLine::Rollback(rollback) => format!("rolled back to the state after #{}", rollback.after),
            LedgerLine::Asked(asked) => format!("you were asked ({}): {}", asked.ask, asked.why),
            LedgerLine::Answer(answer) => format!("you answered: {}", answer.text),
        };
        print::line(&visible(&text, false));
    }
    let row = if now.row > 1 { format!("; {} in a row are alike", now.row) } else { String::new() };
    print::done(&app.style.dim(&format!("next: {next}{row}")))
}

fn word(next: &NextAction) -> &'static str {
    match next {
        NextAction::Continue => "an attempt",
        NextAction::Replan => "a new plan",
        NextAction::RollBack => "back to the base",
        NextAction::Ask(_) => "a question to you",
        NextAction::Blocked(_) => "your answer",
    }
}

pub fn diff(app: &App, args: &AttemptDiffArgs) -> Result<u8> {
    let (_, dir, goal) = find(app, &args.goal)?;
    let lines = fixes::ledger(&dir, &goal)?;
    let tree = |n: u32| {
        let found = lines.iter().rev().find_map(|line| match line {
            LedgerLine::Begin(begin) if n == 0 => Some(begin.base.clone()),
            LedgerLine::Attempt(attempt) if attempt.n == n => Some(attempt.end.clone()),
            _ => None,
        });
        found.ok_or_else(|| {
            Fault::usage(format!("could not find attempt {n}")).hint("`looop attempt show GOAL` lists them")
        })
    };
    let (from, to) = (tree(args.from)?, tree(args.to)?);
    let config = app.config()?;
    let cancel = Cancel::on_signals()?;
    let git = Git::find(&config.settings.path, GIT_MS, &cancel)?;
    let trees = Trees::open(&git, &dir.attempts(), None)?;
    let text = trees.diff(&git, &from, &to, 3)?;
    if app.json {
        return app.shown(Some(goal.as_str()), &text);
    }
    print::patch(app.style, &text);
    Ok(0)
}
