//! `looop sensor`: the programs that observe the world. One is added ready-made, with its settings after a test run, or as
//! a script from stdin.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::compare::DiffArgs;
use super::json_output::{Example, Sensor, SensorTest};
use super::{App, Fault, Name, clip, complete, human_ms, input, pick, print, save, visible};
use crate::rules::digest::Digest;
use crate::rules::time::beat_id;
use crate::rules::world::example::{self, Setting};
use crate::rules::world::sensor::{SensorHeader, stamp_untrusted};
use crate::rules::world::{SensorReading, Trust};
use crate::store::file::{self, Durability};
use crate::store::user_files::{self, SensorFile};
use crate::store::{examples, json_file, layout, lock};
use crate::tick::observe;

#[derive(Debug, clap::Subcommand)]
pub enum SensorVerb {
    /// List the sensors with their last readings.
    #[command(after_help = "Example:\n  looop sensor list")]
    List,
    /// Print a sensor's program.
    #[command(after_help = "Example:\n  looop sensor show disk")]
    Show(SensorArgs),
    /// Add a ready-made sensor, or a script from stdin, which is marked `trust=untrusted`.
    ///
    /// For a ready-made sensor you are asked for its settings. It is tested once, and added if it gave a reading.
    Add(AddArgs),
    /// List the ready-made sensors and their requirements, or print one.
    Examples(ExamplesArgs),
    /// Show the changes since the last commit.
    #[command(after_help = "Example:\n  looop sensor diff disk")]
    Diff(DiffArgs),
    /// Change a sensor in your editor. A script that cannot run is kept, and the sensor stays as it is.
    #[command(after_help = "Example:\n  looop sensor edit disk")]
    Edit(SensorArgs),
    /// Bring back the last committed state of a sensor that was removed or spoiled.
    Restore(SensorRestoreArgs),
    /// Run one sensor, or all, and print the readings.
    Test(TestArgs),
    /// Move a sensor to sensors/archive/.
    #[command(after_help = "Example:\n  looop sensor archive disk")]
    Archive(SensorArgs),
}

#[derive(Debug, clap::Args)]
pub struct SensorArgs {
    /// The sensor, or the unique beginning of its name.
    #[arg(add = complete::sensor_names())]
    name: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop sensor restore disk")]
pub struct SensorRestoreArgs {
    /// The sensor, by its full name.
    name: Name,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop sensor test\n  looop sensor test disk")]
pub struct TestArgs {
    /// The sensor, or the unique beginning of its name. Default: all.
    #[arg(add = complete::sensor_names())]
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop sensor add github-prs\n  looop sensor add disk --set STEP=10 --yes\n  looop sensor add mine < mine.sh"
)]
pub struct AddArgs {
    /// A ready-made sensor (`looop sensor examples` lists them), or the name for a script from stdin.
    #[arg(value_name = "NAME", add = complete::example_names())]
    what: Name,
    /// A name for the ready-made sensor, instead of its own.
    #[arg(long)]
    name: Option<Name>,
    /// The value of a setting of the ready-made sensor; may be given several times.
    #[arg(long, value_name = "SETTING=VALUE")]
    set: Vec<String>,
    /// Ask nothing: use the defaults of settings that are not set, and replace a sensor of the same name.
    #[arg(long)]
    yes: bool,
    /// For a script from stdin: you vouch for every text that it prints, so it is not marked as untrusted.
    #[arg(long, conflicts_with_all = ["name", "set", "yes"])]
    trusted: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop sensor examples\n  looop sensor examples disk")]
pub struct ExamplesArgs {
    /// Print the script of this sensor.
    #[arg(conflicts_with = "json", add = complete::example_names())]
    name: Option<String>,
}

/// How often the user is asked again after an invalid value.
const TRIES: usize = 5;
/// How much of a reading, or of a failed sensor's message, is shown, in bytes.
const SHOWN_BYTES: usize = 2_000;

fn find(app: &App, wanted: &str) -> Result<SensorFile> {
    pick("sensor", wanted, user_files::sensors(&app.layout)?.0, |sensor| sensor.name.as_str())
}

pub fn show(app: &App, args: &SensorArgs) -> Result<u8> {
    let SensorFile { name, path, .. } = find(app, &args.name)?;
    let script = file::read(&path, 16 << 20);
    let script = script.with_context(|| format!("could not read `{}`", path.display()))?;
    let script = script.unwrap_or_default();
    if app.json {
        app.shown(Some(name.as_str()), &String::from_utf8_lossy(&script))
    } else {
        print::page(script)
    }
}

pub fn edit(app: &App, args: &SensorArgs) -> Result<u8> {
    let SensorFile { name, path, .. } = find(app, &args.name)?;
    save::edit(app, &format!("the sensor {name}"), &path, 0o700, |script| match script.starts_with("#!") {
        true => SensorHeader::parse(script.as_bytes()).map(drop),
        false => Err("the script does not begin with `#!`".to_owned()),
    })?;
    app.done(&name, &format!("wrote {name}; try it with `looop sensor test {name}`"))
}

pub fn restore(app: &App, args: &SensorRestoreArgs) -> Result<u8> {
    let name = &args.name;
    let paths = [format!("sensors/{name}"), format!("sensors/{name}.sh")];
    save::restore(app, "sensor", name, &paths, 0o700)
}

pub fn archive(app: &App, args: &SensorArgs) -> Result<u8> {
    let SensorFile { name, path, .. } = find(app, &args.name)?;
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let id = beat_id(app.now.unix_ms);
    save::archive(app, "sensor", &name, &path, &format!("{file_name}-{id}"))
}

/// The reading of a sensor that the last decision saw.
pub fn last_reading(app: &App, name: &Name) -> Option<SensorReading> {
    json_file::read_json(&app.layout.snapshots().join(format!("{name}.json"))).ok().flatten()
}

pub fn list(app: &App) -> Result<u8> {
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
    print::list(app.json, "sensors", rows, cells, none, &problems)
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
    let readings = app.dry(&config, runner.as_ref(), |ctx| observe::fresh_readings(ctx, sensors))?;
    let failed = readings.values().any(|reading| !reading.ok);
    let tests = readings.into_iter().map(|(sensor, reading)| SensorTest { sensor, reading });
    match app.json {
        true => drop(print::answer("readings", tests.collect::<Vec<_>>())?),
        false => tests.for_each(|test| print::json(&json!(test))),
    }
    Ok(u8::from(failed))
}

pub fn add(app: &App, args: &AddArgs) -> Result<u8> {
    let meant = args.name.is_some() || args.yes || !args.set.is_empty();
    let script = examples::find(args.what.as_str());
    match script {
        Some(script) if meant || (!args.trusted && print::stdin_is_tty()) => {
            return from_example(app, args, script);
        }
        None if meant => {
            let names: Vec<&str> = examples::ALL.iter().map(|(name, _)| *name).collect();
            let fault = refused(&args.what)("no ready-made sensor has this name");
            return Err(fault.hint(format!("there are: {}", names.join(", "))).into());
        }
        None if print::stdin_is_tty() => {
            print::note(&format!("{} is not one of `looop sensor examples`", args.what));
        }
        _ => {}
    }
    let given = input::stdin(&format!("the sensor {}", args.what))?;
    match script {
        Some(script) if given.trim().is_empty() && !args.trusted => from_example(app, args, script),
        _ => from_script(app, args, &given),
    }
}

fn from_script(app: &App, args: &AddArgs, script: &str) -> Result<u8> {
    let name = &args.what;
    if !script.starts_with("#!") {
        let fault = refused(name)("the script does not begin with `#!`");
        let fault = fault.hint("begin it with a line like `#!/bin/sh`");
        return Err(fault.hint("`looop sensor examples` lists ready-made ones, which need no script").into());
    }
    let script =
        if args.trusted { script.to_owned() } else { stamp_untrusted(script).map_err(refused(name))? };
    let _held = lock::store(&app.layout.store_lock())?;
    no_twin(app, name)?;
    write(app, name, &script, save::digest(&target(app, name))?)?;
    app.done(name, &format!("added {name}; try it with `looop sensor test {name}`"))
}

/// Writes a sensor's script. `seen` is the digest of the file that it replaces.
fn write(app: &App, name: &Name, script: &str, seen: Option<Digest>) -> Result<()> {
    let what = format!("add the sensor {name}");
    save::replace(&what, &target(app, name), script.as_bytes(), 0o700, seen.as_ref())
}

/// Makes the error for a sensor that is not added, from the reason.
fn refused<E: std::fmt::Display>(name: &Name) -> impl Fn(E) -> Fault {
    move |why| Fault::usage(format!("could not add the sensor {name}: {why}"))
}

fn target(app: &App, name: &Name) -> PathBuf {
    app.layout.file(&layout::sensor_path(name))
}

/// True if a sensor of this name exists in the file that looop would write.
///
/// # Errors
/// A sensor of this name exists in another file: of two sensors with one name only one runs.
fn no_twin(app: &App, name: &Name) -> Result<bool> {
    let (sensors, _) = user_files::sensors(&app.layout)?;
    let Some(there) = sensors.iter().find(|sensor| sensor.name == *name) else { return Ok(false) };
    if there.path != target(app, name) {
        let fault = refused(name)(format!("`{}` has that name", there.path.display()));
        return Err(fault.hint(format!("`looop sensor archive {name}` puts it away")).into());
    }
    Ok(true)
}

fn from_example(app: &App, args: &AddArgs, script: &str) -> Result<u8> {
    let name = args.name.as_ref().unwrap_or(&args.what).as_str();
    let name = Name::parse_new(name).map_err(refused(&args.what))?;
    let asks = !args.yes && print::stdin_is_tty();
    let replaces = no_twin(app, &name)?;
    let seen = save::digest(&target(app, &name))?;
    if replaces && !args.yes && !(asks && print::agreed(&format!("A sensor {name} is there. Replace it?"))) {
        let fault = refused(&name)("there is one of this name");
        return Err(fault.hint("replace it with --yes, or name this one with --name").into());
    }
    let mut values = given(&args.set).map_err(refused(&name))?;
    if asks {
        print::note(&format!("{}: {}", args.what, example::about(script)));
        print::note(&format!("needs {}", example::needs(script)));
        ask_for(&example::settings(script), &mut values).map_err(refused(&name))?;
    }
    let home = app.env.get("HOME").unwrap_or_default();
    let script = example::with_values(script, &values, home).map_err(|why| {
        let what = &args.what;
        let fault = refused(&name)(why);
        let fault = fault.hint(format!("give it with `looop sensor add {what} --set SETTING=VALUE`"));
        fault.hint(format!("`looop sensor examples {what}` prints it with all its settings"))
    })?;
    let header = SensorHeader::parse(script.as_bytes()).map_err(refused(&name))?;
    let reading = trial(app, &name, &script)?;
    if reading.ok {
        let text = |value: &Value| visible(&clip(&value.to_string(), SHOWN_BYTES), false);
        app.line(&format!("{name} {}", app.style.green("reads")));
        app.line(&format!("  signal {}", text(&reading.signal)));
        app.line(&format!("  detail {}", app.style.dim(&text(&reading.detail))));
    } else {
        all_the_same(&name, &failure(&reading), asks)?;
    }
    let _held = lock::store(&app.layout.store_lock())?;
    // Another process may have added one while the user was asked.
    if no_twin(app, &name)? && seen.is_none() {
        bail!("could not add the sensor {name}: another process just added it");
    }
    write(app, &name, &script, seen)?;
    let trust = if header.trust == Trust::Untrusted { "untrusted" } else { "trusted" };
    app.done(&name, &format!("added {name}; it runs {}, {trust}", every(header.interval_ms)))
}

/// Adds a sensor whose test run failed only if the user confirms it.
fn all_the_same(name: &Name, failure: &str, asks: bool) -> Result<()> {
    let why = match asks {
        true if print::agreed(&format!("{failure}\nAdd it anyway?")) => return Ok(()),
        // The question has shown the cause.
        true => "its trial run failed",
        false => failure,
    };
    let fault = Fault::failed(format!("could not add the sensor {name}: {why}"));
    Err(fault.hint("nothing was added; fix the cause, and add it again").into())
}

fn given(set: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for pair in set {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(format!("`--set {}` is not of the form SETTING=VALUE", visible(pair, false)));
        };
        if values.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("`--set {}` is given twice", visible(key, false)));
        }
    }
    Ok(values)
}

/// Asks for the settings that are not set; an empty answer takes the default.
fn ask_for(settings: &[Setting], values: &mut BTreeMap<String, String>) -> Result<(), String> {
    for setting in settings {
        if !values.contains_key(&setting.name) {
            let answer = ask_once(setting)?;
            values.extend((!answer.is_empty()).then(|| (setting.name.clone(), answer)));
        }
    }
    Ok(())
}

fn ask_once(setting: &Setting) -> Result<String, String> {
    let default = match setting.default.as_str() {
        "" if setting.needed => String::new(),
        "" => " [nothing]".to_owned(),
        default => format!(" [{default}]"),
    };
    for _ in 0..TRIES {
        let Some(answer) = print::prompt(&format!("{}: {}{default}: ", setting.name, setting.about)) else {
            print::note("");
            return Err("the input ended".to_owned());
        };
        match example::check(&answer) {
            Err(why) => print::note(&format!("that {why}")),
            Ok(()) if answer.is_empty() && setting.needed => print::note("this setting needs a value"),
            Ok(()) => return Ok(answer),
        }
    }
    Err(format!("the setting {} is missing: {}", setting.name, setting.about))
}

/// Runs a script that is not in the data dir yet once, in the sandbox that it will have.
fn trial(app: &App, name: &Name, script: &str) -> Result<SensorReading> {
    let config = app.config()?;
    let runner = config.decider()?;
    let dir = app.layout.cache().join(format!("try-{}", beat_id(app.now.unix_ms)));
    file::make_dir(&dir)?;
    let path = dir.join(name.as_str());
    let tried = file::write(&path, script.as_bytes(), 0o700, Durability::Atomic).and_then(|()| {
        let sensor = user_files::sensor_at(name.clone(), path);
        let mut readings =
            app.dry(&config, runner.as_ref(), |ctx| observe::fresh_readings(ctx, vec![sensor]))?;
        readings.remove(name).with_context(|| format!("could not run the sensor {name}"))
    });
    file::remove_tree(&dir)?;
    tried
}

/// Why a test run failed, on one line.
fn failure(reading: &SensorReading) -> String {
    let stated = ["stderr", "why"].map(|key| reading.detail[key].as_str().unwrap_or_default()).concat();
    let code = reading.signal["exit_code"].as_i64().map_or(String::new(), |code| format!(" {code}"));
    let error = reading.signal["error"].as_str().unwrap_or_default();
    let how = format!("its trial run failed ({error}{code})");
    match stated.trim() {
        "" => how,
        stated => format!("{how}: {}", visible(&clip(&stated.replace('\n', "; "), SHOWN_BYTES), false)),
    }
}

pub fn examples(app: &App, args: &ExamplesArgs) -> Result<u8> {
    if let Some(name) = &args.name {
        let (_, script) = pick("the ready-made sensor", name, examples::ALL, |(name, _)| name)?;
        return print::page(script);
    }
    let rows = examples::ALL.iter().map(|(name, script)| Example {
        name: (*name).to_owned(),
        about: example::about(script).to_string(),
        needs: example::needs(script).to_string(),
        header: SensorHeader::parse(script.as_bytes()).unwrap_or_default(),
        settings: example::settings(script),
    });
    if app.json {
        return print::answer("examples", rows.collect::<Vec<_>>());
    }
    for row in rows {
        print::line(&format!("{}  {}", app.style.bold(&row.name), row.about));
        print::line(&app.style.dim(&format!("    needs {}", row.needs)));
    }
    print::note("add one with `looop sensor add NAME`; `looop sensor examples NAME` prints it");
    Ok(0)
}
