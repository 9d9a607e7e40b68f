//! `looop sensor`: the programs that observe the world.

mod add;

use anyhow::{Context, Result};
use serde_json::json;

use super::compare::{self, Of, Since};
use super::{App, complete, envelope, input, json_output, pick, print, save};
use crate::model::name::Name;
use crate::model::time::human_ms;
use crate::store::json_file;
use crate::store::{exchange, file, lock, texts};
use crate::sys::signal::Cancel;
use crate::tick::sense;

#[derive(Debug, clap::Subcommand)]
pub enum SensorVerb {
    /// List the sensors with their last readings.
    #[command(after_help = "Example:\n  looop sensor list")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a sensor's program.
    #[command(after_help = "Example:\n  looop sensor show disk")]
    Show {
        /// The sensor, or the unique beginning of its name.
        name: String,
    },
    /// Add a ready-made sensor, or a script from stdin, which is marked `trust=untrusted`.
    ///
    /// For a ready-made sensor you are asked for its settings. It is tested once, and added if it gave a reading.
    Add(add::Args),
    /// List the ready-made sensors and their requirements, or print one.
    Examples(add::ExamplesArgs),
    /// Show the changes since the last commit.
    #[command(after_help = "Example:\n  looop sensor diff disk")]
    Diff {
        /// The sensor, or the unique beginning of its name. Default: all sensors.
        name: Option<String>,
        #[command(flatten)]
        since: Since,
    },
    /// Run one sensor, or all, and print the readings.
    #[command(after_help = "Examples:\n  looop sensor test\n  looop sensor test disk")]
    Test {
        /// The sensor, or the unique beginning of its name.
        name: Option<String>,
    },
    /// Move a sensor to sensors/archive/.
    #[command(after_help = "Example:\n  looop sensor remove disk")]
    Remove {
        /// The sensor, or the unique beginning of its name.
        name: String,
    },
}

pub fn run(app: &App, verb: SensorVerb) -> Result<u8> {
    let (sensors, problems) = texts::sensors(&app.layout)?;
    let names = || sensors.iter().map(|sensor| sensor.name.as_str());
    match verb {
        SensorVerb::List { json } => list(app, &sensors, &problems, json)?,
        SensorVerb::Show { name } => {
            let name = pick("sensor", &name, names())?;
            let path =
                sensors.iter().find(|s| s.name.as_str() == name).map(|s| s.path.clone()).unwrap_or_default();
            let bytes = file::read(&path, 16 << 20)
                .with_context(|| format!("could not read `{}`", path.display()))?;
            print::raw(&bytes.unwrap_or_default());
        }
        SensorVerb::Add(args) => return add::run(app, &args),
        SensorVerb::Examples(args) => return add::examples(app, &args),
        SensorVerb::Diff { name, since } => return compare::run(app, &Of::Sensors(name.as_deref()), &since),
        SensorVerb::Test { name } => {
            let one = name.map(|name| pick("sensor", &name, names()).map(str::to_owned)).transpose()?;
            return test(app, one.as_deref());
        }
        SensorVerb::Remove { name } => {
            let name = pick("sensor", &name, names())?;
            let path =
                sensors.iter().find(|s| s.name.as_str() == name).map(|s| s.path.clone()).unwrap_or_default();
            let to = app.layout.sensors().join("archive");
            let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let _held = lock::store(&app.layout.store_lock())?;
            file::make_dir(&to)?;
            let id = crate::model::time::beat_id(app.now.unix_ms);
            let done = exchange::put_away(&path, &to.join(format!("{file_name}-{id}")))?;
            save::made(&format!("remove the sensor {name}"), &done)?;
            print::line(&format!("removed {name}; it is kept in sensors/archive/"));
        }
    }
    Ok(0)
}

fn list(app: &App, sensors: &[texts::SensorFile], problems: &[String], as_json: bool) -> Result<()> {
    let snapshot = |name: &Name| -> Option<crate::model::world::SensorReading> {
        json_file::read_json(&app.layout.snapshots().join(format!("{name}.json"))).ok().flatten()
    };
    if as_json {
        let rows: Vec<_> = sensors
            .iter()
            .map(|sensor| {
                let header = sensor.header.as_ref();
                json_output::Sensor {
                    name: sensor.name.clone(),
                    path: sensor.path.display().to_string(),
                    interval_ms: header.ok().and_then(|h| h.interval_ms),
                    timeout_ms: header.ok().and_then(|h| h.timeout_ms),
                    trust: header.ok().map(|h| h.trust),
                    error: header.err().map(|unfit| unfit.why.clone()),
                    reading: snapshot(&sensor.name),
                }
            })
            .collect();
        print::json(&envelope("sensors", json!(rows)));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = sensors
        .iter()
        .map(|sensor| match &sensor.header {
            Err(unfit) => vec![sensor.name.to_string(), "unfit".to_owned(), unfit.why.clone()],
            Ok(header) => {
                let every =
                    header.interval_ms.map_or("each beat".to_owned(), |ms| format!("every {}", human_ms(ms)));
                let last =
                    snapshot(&sensor.name).map_or("(no reading yet)".to_owned(), |r| r.signal.to_string());
                vec![
                    sensor.name.to_string(),
                    every,
                    crate::model::json::clip(&crate::model::text::visible(&last, false), 80),
                ]
            }
        })
        .collect();
    if rows.is_empty() {
        print::line("no sensors; `looop sensor add` makes one");
    }
    print::raw(print::table(&rows).as_bytes());
    problems.iter().for_each(|problem| print::note(&format!("warning: {problem}")));
    Ok(())
}

fn test(app: &App, one: Option<&str>) -> Result<u8> {
    let config = app.config()?;
    let cancel = Cancel::on_signals()?;
    let runner = config.decider()?;
    let _look = lock::look(&app.layout.look_lock())?;
    let fleet = super::tick::fleet(app, &config, &cancel);
    let mut ctx = super::tick::ctx(app, &config, runner.as_ref(), &fleet, &cancel);
    ctx.dry = true;
    let readings = sense::fresh_readings(&mut ctx, one)?;
    let failed = readings.values().any(|reading| !reading.ok);
    for (name, reading) in &readings {
        print::json(&json!({ "sensor": name, "reading": reading }));
    }
    Ok(u8::from(failed))
}
