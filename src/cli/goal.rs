//! `looop goal`: the desired state, in files of the user.

use anyhow::Result;

use super::compare::DiffArgs;
use super::{App, JsonArgs, input, json_output, pick, print, save};
use crate::rules::fault::Fault;
use crate::rules::json::clip;
use crate::rules::name::Name;
use crate::rules::world::Goal;
use crate::store::exchange;
use crate::store::layout;
use crate::store::user_files;

#[derive(Debug, clap::Subcommand)]
pub enum GoalVerb {
    /// List the goals.
    #[command(after_help = "Example:\n  looop goal list")]
    List(JsonArgs),
    /// Print a goal's text.
    #[command(after_help = "Example:\n  looop goal show release")]
    Show(GoalArgs),
    /// Show the changes since the last commit.
    #[command(after_help = "Example:\n  looop goal diff release")]
    Diff(DiffArgs),
    /// Create or replace a goal; the text comes from stdin or your editor.
    Write(GoalWriteArgs),
    /// Move a goal to goals/archive/.
    #[command(after_help = "Example:\n  looop goal archive release")]
    Archive(GoalArgs),
}

#[derive(Debug, clap::Args)]
pub struct GoalArgs {
    /// The goal, or the unique beginning of its name.
    id: String,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop goal write release 'The release is out by Friday.'\n  looop goal write release < release.md"
)]
pub struct GoalWriteArgs {
    /// The goal.
    id: Name,
    /// The text; `-` for stdin.
    #[arg(allow_hyphen_values = true)]
    text: Option<String>,
}

pub fn list(app: &App, args: &JsonArgs) -> Result<u8> {
    let (goals, problems) = user_files::goals(&app.layout)?;
    if args.json {
        let rows: Vec<_> = goals.iter().map(|(id, goal)| row(id, goal)).collect();
        return print::answer("goals", rows);
    }
    let rows: Vec<_> = goals.iter().map(|(id, goal)| vec![id.to_string(), summary(goal)]).collect();
    if rows.is_empty() {
        print::note("no goals; `looop goal write NAME` makes one");
    }
    print::raw(print::table(&rows).as_bytes());
    problems.iter().for_each(|problem| print::note(&format!("warning: {problem}")));
    Ok(0)
}

pub fn show(app: &App, args: &GoalArgs) -> Result<u8> {
    match find(app, args)? {
        (_, Goal::Text(text)) => print::raw(text.as_bytes()),
        (id, Goal::Unreadable(why)) => {
            return Err(Fault::failed(format!("could not read the goal {id}: {why}")).into());
        }
    }
    Ok(0)
}

pub fn write(app: &App, args: &GoalWriteArgs) -> Result<u8> {
    let id = &args.id;
    let target = app.layout.file(&layout::goal_path(id));
    let (present, seen) = match user_files::goals(&app.layout)?.0.remove(id) {
        Some(Goal::Text(text)) => (text.clone(), Some(exchange::digest_of(text.as_bytes()))),
        _ => (format!("---\ngoal: {id}\n---\n"), save::digest(&target)?),
    };
    let what = format!("the goal {id}");
    let text = input::text(app, &what, args.text.as_deref(), &present)?;
    save::text(app, &what, &target, &text, seen.as_ref())?;
    print::line(&format!("wrote goals/{id}.md; the next beat sees it"));
    Ok(0)
}

pub fn archive(app: &App, args: &GoalArgs) -> Result<u8> {
    let (id, _) = find(app, args)?;
    let name = format!("{id}-{}.md", crate::rules::time::beat_id(app.now.unix_ms));
    save::archive(app, &format!("goal {id}"), &app.layout.file(&layout::goal_path(&id)), &name)?;
    Ok(0)
}

fn find(app: &App, args: &GoalArgs) -> Result<(Name, Goal)> {
    pick("goal", &args.id, user_files::goals(&app.layout)?.0, |(id, _)| id.as_str())
}

pub fn row(id: &Name, goal: &Goal) -> json_output::GoalJson {
    match goal {
        Goal::Text(text) => json_output::GoalJson {
            id: id.clone(),
            goal: Some(headline(text).to_string()),
            bytes: Some(text.len()),
            error: None,
        },
        Goal::Unreadable(why) => {
            json_output::GoalJson { id: id.clone(), goal: None, bytes: None, error: Some(why.clone()) }
        }
    }
}

fn summary(goal: &Goal) -> String {
    match goal {
        Goal::Text(text) => clip(&crate::rules::text::visible(&headline(text), false), 100),
        Goal::Unreadable(why) => format!("(cannot be read: {why})"),
    }
}

/// The `goal:` line of the front matter, else the first line of text.
pub fn headline(text: &str) -> String {
    let marked = crate::rules::world::marked(text, "goal");
    let first = || text.lines().find(|line| !line.trim().is_empty() && line.trim() != "---");
    marked.or_else(first).unwrap_or("").trim().trim_start_matches("# ").to_owned()
}
