//! `looop sensor`: the programs that observe the world.

mod add;

use anyhow::{Context, Result};
use serde_json::json;

use super::compare::DiffArgs;
use super::{App, JsonArgs, complete, input, json_output, pick, print, save};
use crate::os::signal::Cancel;
use crate::rules::json::clip;
use crate::rules::name::Name;
use crate::rules::text::visible;
use crate::rules::time::human_ms;
use crate::rules::world::SensorReading;
use crate::store::file;
use crate::store::json_file;
use crate::store::lock;
use crate::store::user_files;
use crate::store::user_files::SensorFile;
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
    let bytes =
        file::read(&path, 16 << 20).with_context(|| format!("could not read `{}`", path.display()))?;
    print::raw(&bytes.unwrap_or_default());
    Ok(0)
}

pub fn archive(app: &App, args: &SensorArgs) -> Result<u8> {
    let SensorFile { name, path, .. } = find(app, &args.name)?;
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let id = crate::rules::time::beat_id(app.now.unix_ms);
    save::archive(app, &format!("sensor {name}"), &path, &format!("{file_name}-{id}"))?;
    Ok(0)
}

/// The reading of a sensor that the last decision saw.
pub fn last_reading(app: &App, name: &Name) -> Option<SensorReading> {
    json_file::read_json(&app.layout.snapshots().join(format!("{name}.json"))).ok().flatten()
}

pub fn list(app: &App, args: &JsonArgs) -> Result<u8> {
    let (sensors, problems) = user_files::sensors(&app.layout)?;
    if args.json {
        let row = |sensor: &SensorFile| {
            let header = sensor.header.as_ref();
            json_output::Sensor {
                name: sensor.name.clone(),
                path: sensor.path.display().to_string(),
                interval_ms: header.ok().and_then(|h| h.interval_ms),
                timeout_ms: header.ok().and_then(|h| h.timeout_ms),
                trust: header.ok().map(|h| h.trust),
                error: header.err().map(|unfit| unfit.why.clone()),
                reading: last_reading(app, &sensor.name),
            }
        };
        return print::answer("sensors", sensors.iter().map(row).collect::<Vec<_>>());
    }
    let row = |sensor: &SensorFile| match &sensor.header {
        Err(unfit) => vec![sensor.name.to_string(), "unfit".to_owned(), unfit.why.clone()],
        Ok(header) => {
            let every =
                header.interval_ms.map_or("each beat".to_owned(), |ms| format!("every {}", human_ms(ms)));
            let last = last_reading(app, &sensor.name);
            let last = last.map_or("(no reading yet)".to_owned(), |reading| reading.signal.to_string());
            vec![sensor.name.to_string(), every, clip(&visible(&last, false), 80)]
        }
    };
    let rows: Vec<_> = sensors.iter().map(row).collect();
    print::list(&rows, "no sensors; `looop sensor add` makes one", &problems);
    Ok(0)
}

pub fn test(app: &App, args: &TestArgs) -> Result<u8> {
    let one = args.name.as_deref().map(|name| find(app, name)).transpose()?;
    let config = app.config()?;
    let cancel = Cancel::on_signals()?;
    let runner = config.decider()?;
    let _look = lock::look(&app.layout.look_lock())?;
    let fleet = super::tick::fleet(app, &config, &cancel, true);
    let ctx = super::tick::ctx(app, &config, runner.as_ref(), &fleet, &cancel, true);
    let readings = observe::fresh_readings(&ctx, one.as_ref().map(|sensor| sensor.name.as_str()))?;
    let failed = readings.values().any(|reading| !reading.ok);
    for (name, reading) in &readings {
        print::json(&json!({ "sensor": name, "reading": reading }));
    }
    Ok(u8::from(failed))
}
