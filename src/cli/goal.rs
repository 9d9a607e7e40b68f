//! `looop goal`: the desired state, in files of the user.

use anyhow::{Result, bail};

use super::compare::DiffArgs;
use super::json_output::GoalJson;
use super::{App, Name, clip, pick, print, save, visible};
use crate::rules::time::beat_id;
use crate::rules::world::Goal;
use crate::rules::world::front_matter::FrontMatter;
use crate::store::{layout, user_files};

#[derive(Debug, clap::Subcommand)]
pub enum GoalVerb {
    /// List the goals.
    #[command(after_help = "Example:\n  looop goal list")]
    List,
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

pub fn list(app: &App) -> Result<u8> {
    let (goals, problems) = user_files::goals(&app.layout)?;
    if goals.is_empty() && !app.json {
        print::note("no goals; `looop goal write NAME` makes one");
        print::warn(&problems);
        return Ok(0);
    }
    let cells = |row: GoalJson| {
        let unreadable = |why| format!("(cannot be read: {why})");
        let summary = row.goal.map(|goal| clip(&visible(&goal, false), 100));
        vec![row.id.to_string(), summary.or(row.error.map(unreadable)).unwrap_or_default()]
    };
    print::list(app.json, "goals", goals.iter().map(row).collect(), cells, "", &problems)
}

pub fn show(app: &App, args: &GoalArgs) -> Result<u8> {
    match find(app, args)? {
        (id, Goal::Text(text)) if app.json => app.shown(Some(id.as_str()), &text),
        (_, Goal::Text(text)) => print::page(text),
        (id, Goal::Unreadable(why)) => bail!("could not read the goal {id}: {why}"),
    }
}

pub fn write(app: &App, args: &GoalWriteArgs) -> Result<u8> {
    let id = &args.id;
    let (what, template) = (format!("the goal {id}"), format!("---\ngoal: {id}\n---\n"));
    let target = app.layout.file(&layout::goal_path(id));
    save::text(app, &what, &target, args.text.as_deref(), &template)?;
    app.done(id, &format!("wrote goals/{id}.md; the next beat sees it"))
}

pub fn archive(app: &App, args: &GoalArgs) -> Result<u8> {
    let (id, _) = find(app, args)?;
    let name = format!("{id}-{}.md", beat_id(app.now.unix_ms));
    save::archive(app, "goal", &id, &app.layout.file(&layout::goal_path(&id)), &name)
}

fn find(app: &App, args: &GoalArgs) -> Result<(Name, Goal)> {
    pick("goal", &args.id, user_files::goals(&app.layout)?.0, |(id, _)| id.as_str())
}

/// The public form of a goal.
pub fn row((id, goal): (&Name, &Goal)) -> GoalJson {
    let (goal, bytes, error) = match goal {
        Goal::Text(text) => (Some(headline(text)), Some(text.len()), None),
        Goal::Unreadable(why) => (None, None, Some(why.clone())),
    };
    GoalJson { id: id.clone(), goal, bytes, error }
}

/// The `goal:` line of the front matter, else the first line of text.
fn headline(text: &str) -> String {
    let first = text.lines().find(|line| !line.trim().is_empty() && line.trim() != "---");
    let written = FrontMatter::parse(text).ok().and_then(|parsed| parsed.goal);
    written.unwrap_or_else(|| first.unwrap_or_default().trim().trim_start_matches("# ").to_owned())
}
