//! `looop goal`: the desired state, in files of the user.

use anyhow::{Result, bail};

use super::compare::DiffArgs;
use super::json_output::GoalJson;
use super::{App, Cancel, Fault, Name, clip, complete, pick, print, save, visible};
use crate::rules::beat::step::LoopEvent;
use crate::rules::lease::{self, Holder, LeaseStatus};
use crate::rules::time::beat_id;
use crate::rules::world::Goal;
use crate::rules::world::front_matter::FrontMatter;
use crate::store::state_files::StateFile;
use crate::store::{budget, exchange, layout, leases, lock, user_files, workers};

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
    /// Change a goal in your editor. A text that cannot be used is kept, and the goal stays as it is.
    #[command(after_help = "Example:\n  looop goal edit release")]
    Edit(GoalArgs),
    /// Give a goal another name; what it spent, its leases and its place in the loop stay with it.
    Rename(GoalRenameArgs),
    /// Bring back the last committed state of a goal that was removed or spoiled.
    Restore(GoalRestoreArgs),
    /// Move a goal to goals/archive/.
    #[command(after_help = "Example:\n  looop goal archive release")]
    Archive(GoalArgs),
}

#[derive(Debug, clap::Args)]
pub struct GoalArgs {
    /// The goal, or the unique beginning of its name.
    #[arg(add = complete::goal_ids())]
    id: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop goal rename release release-2.0")]
pub struct GoalRenameArgs {
    /// The goal, or the unique beginning of its name.
    #[arg(add = complete::goal_ids())]
    id: String,
    /// Its new name.
    to: Name,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop goal restore release")]
pub struct GoalRestoreArgs {
    /// The goal, by its full name.
    id: Name,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop goal write release 'The release is out by Friday.'\n  looop goal write release < release.md"
)]
pub struct GoalWriteArgs {
    /// The goal.
    #[arg(add = complete::goal_ids())]
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

pub fn edit(app: &App, args: &GoalArgs) -> Result<u8> {
    let (id, _) = find(app, args)?;
    let target = app.layout.file(&layout::goal_path(&id));
    save::edit(app, &format!("the goal {id}"), &target, 0o600, |text| FrontMatter::parse(text).map(drop))?;
    app.done(&id, &format!("wrote goals/{id}.md; the next beat sees it"))
}

pub fn restore(app: &App, args: &GoalRestoreArgs) -> Result<u8> {
    save::restore(app, "goal", &args.id, &[layout::goal_path(&args.id)], 0o600)
}

/// How long a rename waits for the current beat to end, in milliseconds.
const WAIT_LIMIT_MS: i64 = 60_000;

/// Moves the file, and everything that is kept under the goal's name. The journal and git keep the old name.
pub fn rename(app: &App, args: &GoalRenameArgs) -> Result<u8> {
    let (from, _) = find(app, &GoalArgs { id: args.id.clone() })?;
    let fail = |why: String| Fault::usage(format!("could not rename the goal {from}: {why}"));
    let to = Name::parse_new(args.to.as_str()).map_err(&fail)?;
    // A beat that runs has the old name in its memory and in its reservations.
    let _tick = lock::tick_patiently(&app.layout.tick_lock(), WAIT_LIMIT_MS, &Cancel::on_signals()?)?;
    let held = lock::store(&app.layout.store_lock())?;
    let [old, new] = [&from, &to].map(|id| app.layout.file(&layout::goal_path(id)));
    if new.symlink_metadata().is_ok() {
        return Err(fail(format!("goals/{to}.md exists")).hint("choose another name").into());
    }
    let (workers, _) = workers::list(&app.layout)?;
    if let Some(worker) =
        workers.iter().find(|one| one.spec.goal.as_ref() == Some(&from) && !one.state.phase.is_over())
    {
        let id = &worker.spec.id;
        return Err(fail(format!("the worker {id} works on it"))
            .hint(format!("end it with `looop kill {id}`"))
            .into());
    }
    let here = leases::here();
    let resources = [&from, &to].map(lease::goal);
    let lease = leases::list(&app.layout, &here)?
        .0
        .into_iter()
        .find(|(lease, status)| lease.resource == resources[0] && !matches!(status, LeaseStatus::Free(_)));
    let user = Holder::User(app.env.user_name());
    if let Some((lease, _)) = lease.as_ref().filter(|(lease, _)| lease.holder != user) {
        let fault = fail(format!("{} has its lease", lease.holder.words()));
        return Err(fault
            .hint(format!("`looop release {} --force` takes it from them", lease.resource))
            .into());
    }
    save::made(&format!("rename the goal {from}"), &exchange::put_away(&old, &new)?)?;
    budget::rename_goal(&app.layout, &from, &to, app.now)?;
    drop(held);
    if let Some((lease, _)) = lease {
        leases::release_for_user(&app.layout, &resources[0], &user, false)?;
        let acquired =
            leases::acquire(&app.layout, &resources[1], &leases::by_hand(&user, lease.ttl_s), &here);
        if let Err(denied) = acquired {
            print::warn(&[format!("the lease {} is lost: {}", resources[1], denied.refusal()?)]);
        }
    }
    let renamed = LoopEvent::GoalRenamed { from: from.clone(), to: to.clone() };
    StateFile::load(&app.layout, app.now)?.0.apply(renamed)?;
    app.done(&to, &format!("renamed goals/{from}.md to goals/{to}.md; the journal keeps the name {from}"))
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
