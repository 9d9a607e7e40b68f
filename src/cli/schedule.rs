//! `looop schedule`: timers on disk that wake the loop.

use std::collections::BTreeMap;

use anyhow::Result;

use super::json_output::ScheduleJson;
use super::{App, Fault, Name, complete, human_ms, pick, print, save};
use crate::rules::beat::schedule::{FireTime, Schedule};
use crate::rules::time::parse_ms;
use crate::store::{exchange, file, json_file, layout, lock, state_files};

#[derive(Debug, clap::Subcommand)]
pub enum ScheduleVerb {
    /// List the timers and their due times.
    #[command(after_help = "Example:\n  looop schedule list")]
    List,
    /// Set a timer; it replaces a timer of the same name.
    Set(SetArgs),
    /// Remove a timer.
    Remove(RemoveArgs),
    /// Bring back the last committed state of a timer that was removed or replaced.
    Restore(ScheduleRestoreArgs),
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("when").required(true).args(["after", "every", "cron"]))]
#[command(
    after_help = "Examples:\n  looop schedule set standup --cron '0 9 * * 1-5' look at the board\n  looop schedule set later --in 90m look at the build"
)]
pub struct SetArgs {
    /// The timer's name.
    name: Name,
    /// Fire once, after this time: `90s`, `15m`, `12h`.
    #[arg(long = "in", value_name = "DURATION")]
    after: Option<String>,
    /// Fire repeatedly, at this interval; at least 60s.
    #[arg(long, value_name = "DURATION")]
    every: Option<String>,
    /// Fire at the times of a cron expression with five fields, in local time.
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// What the decision should look at when the timer fires.
    #[arg(required = true)]
    note: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop schedule remove standup")]
pub struct RemoveArgs {
    /// The timer, or the unique beginning of its name.
    #[arg(add = complete::schedule_names())]
    name: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop schedule restore standup")]
pub struct ScheduleRestoreArgs {
    /// The timer, by its full name.
    name: Name,
}

/// The timers with their next due times, and files that cannot be read.
pub fn rows(app: &App, fired: &BTreeMap<Name, i64>) -> Result<(Vec<ScheduleJson>, Vec<String>)> {
    let (schedules, problems) = state_files::schedules(&app.layout)?;
    let row = |(name, schedule): (Name, Schedule)| ScheduleJson {
        due_ms: schedule.next_ms(fired.get(&name).copied(), app.now),
        name,
        when: Some(schedule.when),
        note: schedule.note,
    };
    Ok((schedules.into_iter().map(row).collect(), problems))
}

pub fn list(app: &App) -> Result<u8> {
    let (rows, problems) = rows(app, &state_files::peek_beat(&app.layout)?.fired)?;
    let cells = |row: ScheduleJson| vec![row.name.to_string(), due_words(row.due_ms, app), row.note];
    let none = "no timers; `looop schedule set` makes one";
    print::list(app.json, "schedules", rows, cells, none, &problems)
}

pub fn remove(app: &App, args: &RemoveArgs) -> Result<u8> {
    let (schedules, _) = state_files::schedules(&app.layout)?;
    let (name, _) = pick("schedule", &args.name, schedules, |(name, _)| name.as_str())?;
    let _held = lock::store(&app.layout.store_lock())?;
    let path = app.layout.schedules().join(format!("{name}.json"));
    if let Some(seen) = file::digest(&path)? {
        save::made(&format!("remove the schedule {name}"), &exchange::remove(&path, &seen)?)?;
    }
    app.done(&name, &format!("removed {name}"))
}

pub fn restore(app: &App, args: &ScheduleRestoreArgs) -> Result<u8> {
    save::restore(app, "schedule", &args.name, &[layout::schedule_path(&args.name)], 0o600)
}

fn due_words(next: Option<i64>, app: &App) -> String {
    match next {
        Some(at) if at <= app.now.unix_ms => "due".to_owned(),
        Some(at) => format!("in {}", human_ms(at - app.now.unix_ms)),
        None => "never again".to_owned(),
    }
}

pub fn set(app: &App, args: &SetArgs) -> Result<u8> {
    let seconds = |text: &Option<String>| -> Result<Option<u32>> {
        let Some(text) = text else { return Ok(None) };
        let ms = parse_ms(text).map_err(Fault::usage)?;
        Ok(Some(u32::try_from(ms / 1000)?))
    };
    let what = format!("set the schedule {}", args.name);
    let when = FireTime::from_parts(seconds(&args.after)?, seconds(&args.every)?, args.cron.as_deref());
    let when = when.map_err(|why| Fault::usage(format!("could not {what}: {why}")))?;
    let schedule = Schedule { when, note: args.note.join(" "), created_ms: app.now.unix_ms, clean: true };
    let _held = lock::store(&app.layout.store_lock())?;
    let path = app.layout.file(&layout::schedule_path(&args.name));
    let (text, seen) = (json_file::json_text(&schedule)?, save::digest(&path)?);
    save::replace(&what, &path, text.as_bytes(), 0o600, seen.as_ref())?;
    let due = schedule.next_ms(None, app.now);
    app.done(&args.name, &format!("set {}: {}", args.name, due_words(due, app)))
}
