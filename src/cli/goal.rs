//! `looop goal`: the desired state, in files of the user.

use anyhow::{Context, Result};
use serde_json::json;

use super::compare::{self, Of, Since};
use super::{App, envelope, input, json_output, pick, print, save};
use crate::model::fault::Fault;
use crate::model::json::clip;
use crate::model::name::Name;
use crate::model::world::Goal;
use crate::store::{exchange, file, layout, lock, texts};

#[derive(Debug, clap::Subcommand)]
pub enum GoalVerb {
    /// List the goals.
    #[command(after_help = "Example:\n  looop goal list")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a goal's text.
    #[command(after_help = "Example:\n  looop goal show release")]
    Show {
        /// The goal, or the unique beginning of its name.
        id: String,
    },
    /// Show the changes since the last commit.
    #[command(after_help = "Example:\n  looop goal diff release")]
    Diff {
        /// The goal, or the unique beginning of its name. Default: all goals.
        id: Option<String>,
        #[command(flatten)]
        since: Since,
    },
    /// Create or replace a goal; the text comes from stdin or your editor.
    #[command(
        after_help = "Examples:\n  looop goal write release 'The release is out by Friday.'\n  looop goal write release < release.md"
    )]
    Write {
        /// The goal.
        id: Name,
        /// The text; `-` for stdin.
        #[arg(allow_hyphen_values = true)]
        text: Option<String>,
    },
    /// Move a goal to goals/archive/.
    #[command(after_help = "Example:\n  looop goal archive release")]
    Archive {
        /// The goal, or the unique beginning of its name.
        id: String,
    },
}

pub fn run(app: &App, verb: GoalVerb) -> Result<u8> {
    let (goals, problems) = texts::goals(&app.layout)?;
    let names = || goals.keys().map(Name::as_str);
    match verb {
        GoalVerb::List { json: true } => {
            let rows: Vec<_> = goals.iter().map(|(id, goal)| row(id, goal)).collect();
            print::json(&envelope("goals", json!(rows)));
        }
        GoalVerb::List { json: false } => {
            let rows: Vec<Vec<String>> =
                goals.iter().map(|(id, goal)| vec![id.to_string(), summary(goal)]).collect();
            if rows.is_empty() {
                print::note("no goals; `looop goal write NAME` makes one");
            }
            print::raw(print::table(&rows).as_bytes());
            problems.iter().for_each(|problem| print::note(&format!("warning: {problem}")));
        }
        GoalVerb::Show { id } => {
            let id = pick("goal", &id, names())?;
            match goals.iter().find(|(name, _)| name.as_str() == id).map(|(_, goal)| goal) {
                Some(Goal::Text(text)) => print::raw(text.as_bytes()),
                Some(Goal::Unreadable(why)) => {
                    return Err(Fault::failed(format!("could not read the goal {id}: {why}")).into());
                }
                None => {}
            }
        }
        GoalVerb::Diff { id, since } => return compare::run(app, &Of::Goals(id.as_deref()), &since),
        GoalVerb::Write { id, text } => {
            let present = match goals.get(&id) {
                Some(Goal::Text(text)) => text.clone(),
                _ => format!("---\ngoal: {id}\n---\n"),
            };
            let target = app.layout.file(&layout::goal_path(&id));
            let seen = match goals.get(&id) {
                Some(Goal::Text(text)) => Some(exchange::digest_of(text.as_bytes())),
                _ => save::digest(&target)?,
            };
            let what = format!("the goal {id}");
            let text = input::text(app, &what, text.as_deref(), &present)?;
            save::text(app, &what, &target, &text, seen.as_ref())?;
            print::line(&format!("wrote goals/{id}.md; the next beat sees it"));
        }
        GoalVerb::Archive { id } => {
            let id = pick("goal", &id, names())?.to_owned();
            let name = Name::parse(&id).map_err(anyhow::Error::msg).context("could not archive the goal")?;
            let _held = lock::store(&app.layout.store_lock())?;
            let to = app.layout.goals().join("archive");
            file::make_dir(&to)?;
            let aside = to.join(format!("{id}-{}.md", crate::model::time::beat_id(app.now.unix_ms)));
            let path = app.layout.file(&layout::goal_path(&name));
            save::made(&format!("archive the goal {id}"), &exchange::put_away(&path, &aside)?)?;
            print::line(&format!("archived {id}"));
        }
    }
    Ok(0)
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
        Goal::Text(text) => clip(&crate::model::text::visible(&headline(text), false), 100),
        Goal::Unreadable(why) => format!("(cannot be read: {why})"),
    }
}

/// The `goal:` line of the front matter, else the first line of text.
pub fn headline(text: &str) -> String {
    let marked = crate::model::world::marked(text, "goal");
    let first = || text.lines().find(|line| !line.trim().is_empty() && line.trim() != "---");
    marked.or_else(first).unwrap_or("").trim().trim_start_matches("# ").to_owned()
}
