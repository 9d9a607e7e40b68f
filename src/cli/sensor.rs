//! `looop sensor`: the programs that observe the world.

mod add;

use anyhow::{Context, Result};
use serde_json::json;

use super::compare::DiffArgs;
use super::json_output::{self, Sensor};
use super::{App, JsonArgs, complete, input, pick, print, save, tick};
use crate::rules::json::clip;
use crate::rules::name::Name;
use crate::rules::text::visible;
use crate::rules::time::{beat_id, human_ms};
use crate::rules::world::SensorReading;
use crate::store::user_files::{self, SensorFile};
use crate::store::{file, json_file};
use crate::tick::observe;

pub use add::{add, examples};

#[derive(Debug, clap::Subcommand)]
pub enum SensorVerb {
    /// List the sensors with their last readings.
    #[command(after_help = "Example:\n  looop sensor list")]
    List(JsonArgs),
    /// Print a sensor's program.
    #[command(after_help = "Example:\n  looop sensor show disk")]
    Show(SensorArgs),
    /// Add a ready-made sensor, or a script from stdin, which is marked `trust=untrusted`.
    ///
    /// For a ready-made sensor you are asked for its settings. It is tested once, and added if it gave a reading.
    Add(add::AddArgs),
    /// List the ready-made sensors and their requirements, or print one.
    Examples(add::ExamplesArgs),
    /// Show the changes since the last commit.
    #[command(after_help = "Example:\n  looop sensor diff disk")]
    Diff(DiffArgs),
    /// Run one sensor, or all, and print the readings.
    Test(TestArgs),
    /// Move a sensor to sensors/archive/.
    #[command(after_help = "Example:\n  looop sensor archive disk")]
    Archive(SensorArgs),
}

#[derive(Debug, clap::Args)]
pub struct SensorArgs {
    /// The sensor, or the unique beginning of its name.
    name: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop sensor test\n  looop sensor test disk")]
pub struct TestArgs {
    /// The sensor, or the unique beginning of its name. Default: all.
    name: Option<String>,
}

fn find(app: &App, wanted: &str) -> Result<SensorFile> {
    pick("sensor", wanted, user_files::sensors(&app.layout)?.0, |sensor| sensor.name.as_str())
}

pub fn show(app: &App, args: &SensorArgs) -> Result<u8> {
    let path = find(app, &args.name)?.path;
    let script = file::read(&path, 16 << 20);
    let script = script.with_context(|| format!("could not read `{}`", path.display()))?;
    print::page(script.unwrap_or_default())
}

pub fn archive(app: &App, args: &SensorArgs) -> Result<u8> {
    let SensorFile { name, path, .. } = find(app, &args.name)?;
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let id = beat_id(app.now.unix_ms);
    save::archive(app, &format!("sensor {name}"), &path, &format!("{file_name}-{id}"))
}

/// The reading of a sensor that the last decision saw.
pub fn last_reading(app: &App, name: &Name) -> Option<SensorReading> {
    json_file::read_json(&app.layout.snapshots().join(format!("{name}.json"))).ok().flatten()
}

pub fn list(app: &App, args: &JsonArgs) -> Result<u8> {
    let (sensors, problems) = user_files::sensors(&app.layout)?;
    let row = |SensorFile { name, path, header, .. }: SensorFile| {
        let known = header.as_ref().ok();
        Sensor {
            path: path.display().to_string(),
            interval_ms: known.and_then(|header| header.interval_ms),
            timeout_ms: known.and_then(|header| header.timeout_ms),
            trust: known.map(|header| header.trust),
            reading: last_reading(app, &name),
            error: header.err().map(|unfit| unfit.why),
            name,
        }
    };
    let cells = |row: Sensor| match row.error {
        Some(why) => vec![row.name.to_string(), "unfit".to_owned(), why],
        None => {
            let last = row.reading.map_or("(no reading yet)".to_owned(), |last| last.signal.to_string());
            vec![row.name.to_string(), every(row.interval_ms), clip(&visible(&last, false), 80)]
        }
    };
    let rows = sensors.into_iter().map(row).collect();
    let none = "no sensors; `looop sensor add` makes one";
    print::list(args.json, "sensors", rows, cells, none, &problems)
}

/// How often a sensor runs.
fn every(interval_ms: Option<i64>) -> String {
    interval_ms.map_or("each beat".to_owned(), |ms| format!("every {}", human_ms(ms)))
}

pub fn test(app: &App, args: &TestArgs) -> Result<u8> {
    let one = args.name.as_deref().map(|name| find(app, name)).transpose()?;
    let config = app.config()?;
    let runner = config.decider()?;
    let sensors = match one {
        Some(sensor) => vec![sensor],
        None => user_files::sensors(&app.layout)?.0,
    };
    let readings = tick::dry(app, &config, runner.as_ref(), |ctx| observe::fresh_readings(ctx, sensors))?;
    for (name, reading) in &readings {
        print::json(&json!({ "sensor": name, "reading": reading }));
    }
    Ok(u8::from(readings.values().any(|reading| !reading.ok)))
}
