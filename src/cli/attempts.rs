//! `looop attempts`: the attempts for a goal of `looop fix`, and the difference between two of them.

use anyhow::Result;
use serde_json::json;

use super::{App, envelope_with, json_output, print};
use crate::fix::attempt_line;
use crate::model::attempt::{LedgerLine, Ruling, rule, standing};
use crate::model::fault::Fault;
use crate::model::name::Name;
use crate::model::text::visible;
use crate::model::time::human_ms;
use crate::store::fixes;
use crate::store::layout::FixDir;
use crate::sys::signal::Cancel;
use crate::worker::clone::{Git, Trees};

/// The timeout of git, in milliseconds.
const GIT_MS: i64 = 120_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop attempts\n  looop attempts parse-dates --diff 2 3")]
pub struct Args {
    /// The goal, or the unique beginning of its name. Default: list all goals. Write FIX/GOAL if two fixes have
    /// a goal of this name.
    goal: Option<String>,
    /// Show the difference between the results of two attempts; 0 is the start.
    #[arg(long, num_args = 2, value_names = ["N", "M"], requires = "goal")]
    diff: Vec<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8> {
    let all = fixes::goals(&app.layout)?;
    let Some(wanted) = &args.goal else { return list(args, &all) };
    let names: Vec<String> = all.iter().map(|(dir, goal)| full(dir, goal)).collect();
    let is_short = |name: &str| name.rsplit_once('/').is_some_and(|(_, goal)| goal == wanted);
    let shorts: Vec<&String> = names.iter().filter(|name| is_short(name)).collect();
    let chosen = match shorts.as_slice() {
        [one] => one.as_str(),
        [] => {
            let by_goal = names
                .iter()
                .filter(|name| name.rsplit('/').next().is_some_and(|goal| goal.starts_with(wanted.as_str())));
            let some: Vec<&String> = by_goal.collect();
            match some.as_slice() {
                [one] => one.as_str(),
                _ => super::pick("goal", wanted, names.iter().map(String::as_str))?,
            }
        }
        many => {
            let fault = Fault::usage(format!("{wanted:?} is not unique"));
            let names: Vec<&str> = many.iter().map(|name| name.as_str()).collect();
            return Err(fault.hint(format!("it could be: {}", names.join(", "))).into());
        }
    };
    let (dir, goal) = &all[names.iter().position(|name| name == chosen).unwrap_or_default()];
    let lines = fixes::ledger(dir, goal)?;
    if let [from, to] = args.diff.as_slice() {
        return diff(app, dir, &lines, *from, *to);
    }
    show(app, args, goal, &lines)
}

fn full(dir: &FixDir, goal: &Name) -> String {
    format!("{}/{goal}", dir.path().file_name().unwrap_or_default().to_string_lossy())
}

fn list(args: &Args, all: &[(FixDir, Name)]) -> Result<u8> {
    if args.json {
        let names: Vec<String> = all.iter().map(|(dir, goal)| full(dir, goal)).collect();
        print::json(&envelope_with(json!(json_output::Attempted { goals: names })));
        return Ok(0);
    }
    for (dir, goal) in all {
        print::line(&full(dir, goal));
    }
    if all.is_empty() {
        print::line("no attempts; `looop fix` makes them");
    }
    Ok(0)
}

fn show(app: &App, args: &Args, goal: &Name, lines: &[LedgerLine]) -> Result<u8> {
    let limits = app.config()?.settings.fixes.thresholds;
    let now = standing(lines);
    let next = match now.attempts.last() {
        Some(last) if last.outcome.is_good() => "nothing: the last attempt was good",
        _ => word(&rule(lines, &limits)),
    };
    if args.json {
        let (goal, lines, next) = (goal.clone(), lines.to_vec(), next.to_owned());
        print::json(&envelope_with(json!(json_output::Attempts { goal, lines, row: now.row, next })));
        return Ok(0);
    }
    for line in lines {
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
    print::line(&app.style.dim(&format!("next: {next}{row}")));
    Ok(0)
}

fn word(next: &Ruling) -> &'static str {
    match next {
        Ruling::GoOn => "an attempt",
        Ruling::Replan => "a new plan",
        Ruling::RollBack => "back to the base",
        Ruling::Ask(_) => "a question to you",
        Ruling::Parked(_) => "your answer",
    }
}

fn diff(app: &App, dir: &FixDir, lines: &[LedgerLine], from: u32, to: u32) -> Result<u8> {
    let tree = |n: u32| {
        let found = lines.iter().rev().find_map(|line| match line {
            LedgerLine::Begin(begin) if n == 0 => Some(begin.base.clone()),
            LedgerLine::Attempt(attempt) if attempt.n == n => Some(attempt.end.clone()),
            _ => None,
        });
        found.ok_or_else(|| {
            Fault::usage(format!("could not find attempt {n}")).hint("`looop attempts GOAL` lists them")
        })
    };
    let (from, to) = (tree(from)?, tree(to)?);
    let config = app.config()?;
    let cancel = Cancel::on_signals()?;
    let git = Git::find(&config.settings.path, GIT_MS, &cancel)?;
    let trees = Trees::open(&git, &dir.attempts(), None)?;
    let text = trees.diff(&git, &from, &to, 3)?;
    print::patch(app.style, &text);
    Ok(0)
}
