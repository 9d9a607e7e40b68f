//! `looop schedule`: timers on disk that wake the loop.

use anyhow::Result;
use serde_json::json;

use super::{App, envelope, json_output, pick, print, save};
use crate::model::fault::Fault;
use crate::model::name::Name;
use crate::model::schedule::{FireTime, Schedule};
use crate::model::time::{human_ms, parse_ms};
use crate::store::exchange::{self, Fallback};
use crate::store::json_file;
use crate::store::{file, layout, lock, records};

#[derive(Debug, clap::Subcommand)]
pub enum ScheduleVerb {
    /// List the timers and their due times.
    #[command(after_help = "Example:\n  looop schedule list")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Set a timer; it replaces a timer of the same name.
    Set(SetArgs),
    /// Remove a timer.
    #[command(after_help = "Example:\n  looop schedule drop standup")]
    Drop {
        /// The timer, or the unique beginning of its name.
        name: String,
    },
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

pub fn run(app: &App, verb: ScheduleVerb) -> Result<u8> {
    let (schedules, problems) = records::schedules(&app.layout)?;
    match verb {
        ScheduleVerb::List { json } => {
            let fired = records::peek_beat(&app.layout)?.fired;
            let next = |name: &Name, s: &Schedule| s.next_ms(fired.get(name).copied(), app.now);
            if json {
                let rows: Vec<_> = schedules
                    .iter()
                    .map(|(name, s)| json_output::ScheduleJson {
                        name: name.clone(),
                        when: Some(s.when.clone()),
                        note: s.note.clone(),
                        due_ms: next(name, s),
                    })
                    .collect();
                print::json(&envelope("schedules", json!(rows)));
                return Ok(0);
            }
            let rows: Vec<Vec<String>> = schedules
                .iter()
                .map(|(name, s)| vec![name.to_string(), due_words(next(name, s), app), s.note.clone()])
                .collect();
            if rows.is_empty() {
                print::line("no timers; `looop schedule set` makes one");
            }
            print::raw(print::table(&rows).as_bytes());
            problems.iter().for_each(|problem| print::note(&format!("warning: {problem}")));
        }
        ScheduleVerb::Set(args) => set(app, args)?,
        ScheduleVerb::Drop { name } => {
            let name = pick("schedule", &name, schedules.keys().map(Name::as_str))?;
            let _held = lock::store(&app.layout.store_lock())?;
            let path = app.layout.schedules().join(format!("{name}.json"));
            if let Some(seen) = file::digest(&path)? {
                save::made(&format!("drop the schedule {name}"), &exchange::remove(&path, &seen)?)?;
            }
            print::line(&format!("dropped {name}"));
        }
    }
    Ok(0)
}

fn due_words(next: Option<i64>, app: &App) -> String {
    match next {
        Some(at) if at <= app.now.unix_ms => "due".to_owned(),
        Some(at) => format!("in {}", human_ms(at - app.now.unix_ms)),
        None => "never again".to_owned(),
    }
}

fn set(app: &App, args: SetArgs) -> Result<()> {
    let seconds = |text: &Option<String>| -> Result<Option<u32>> {
        let Some(text) = text else { return Ok(None) };
        let ms = parse_ms(text).map_err(Fault::usage)?;
        Ok(Some(u32::try_from(ms / 1000)?))
    };
    let when = FireTime::from_parts(seconds(&args.after)?, seconds(&args.every)?, args.cron.as_deref());
    let when =
        when.map_err(|why| Fault::usage(format!("could not set the schedule {}: {why}", args.name)))?;
    let schedule = Schedule { when, note: args.note.join(" "), created_ms: app.now.unix_ms, clean: true };
    let _held = lock::store(&app.layout.store_lock())?;
    let path = app.layout.file(&layout::schedule_path(&args.name));
    let (text, seen) = (json_file::json_text(&schedule)?, save::digest(&path)?);
    let done = exchange::write(&path, text.as_bytes(), 0o600, seen.as_ref(), Fallback::Steps)?;
    save::made(&format!("set the schedule {}", args.name), &done)?;
    let due = schedule.next_ms(None, app.now);
    print::line(&format!("set {}: {}", args.name, due_words(due, app)));
    Ok(())
}
