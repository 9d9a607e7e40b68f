//! Sense: run the sensors side by side and read everything else that a beat looks at, once.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Ctx, log, own};
use crate::model::ask::Ask;
use crate::model::beat::Beat;
use crate::model::budget::Hit;
use crate::model::front_matter;
use crate::model::name::Name;
use crate::model::schedule::Schedule;
use crate::model::secret::Secrets;
use crate::model::sensor::Header;
use crate::model::time::Now;
use crate::model::worker::{Report, WorkerView};
use crate::model::world::{BudgetState, Digest, Goal, Reading, Trust, World};
use crate::store::boxes::{Boxer, Cell};
use crate::store::budget::{self, Wanted};
use crate::store::layout::{self, Layout};
use crate::store::records::Asks;
use crate::store::texts::SensorFile;
use crate::store::{deeds, file, records, texts};
use crate::sys::proc::{self, Ended, Exit, Input, Job, Keep};
use crate::sys::tree;

/// The most that a sensor may print, in bytes; more costs it its life and this much memory.
const MAX_OUTPUT_BYTES: usize = 256 * 1024;
/// How many sensors run at the same time.
const WIDTH: usize = 16;
/// How much of a failed sensor's stderr the decider sees, in bytes.
const STDERR_BYTES: usize = 2_000;
/// The most of one report and of all that the decider sees, in bytes.
const REPORT_BYTES: (usize, usize) = (16 * 1024, 64 * 1024);

/// Everything that one beat looks at.
#[derive(Debug)]
pub struct Sensed {
    /// The world.
    pub world: World,
    /// True when text of strangers is in it, or in what the memory tells of the last decision.
    pub tainted: bool,
    /// Asks that were not put away, with their answers.
    pub asks: Asks,
    /// All timers.
    pub schedules: BTreeMap<Name, Schedule>,
    /// blake3 of the files that a move may replace and the world does not hold as text, by path.
    pub held: BTreeMap<String, Digest>,
    /// The oldest approval that a human gave and no beat has used.
    pub approved: Option<Ask>,
    /// Whether a human has paused the loop, and why.
    pub paused: Option<records::Paused>,
    /// The budget that leaves no room for a call.
    pub capped: Option<Hit>,
}

/// Reads the world. Every failure of a sensor is a reading; what cannot be listed at all is an error.
///
/// # Errors
/// When the playbook or a directory cannot be read, or the human interrupts.
pub fn world(ctx: &mut Ctx, beat: &Beat) -> Result<Sensed> {
    let layout = ctx.layout;
    // Before any of them is read or run: an edit after this moment is one that the decision may not have seen.
    let held = deeds::held(layout)?;
    let playbook = texts::playbook(layout)?;
    let (goals, mut problems) = texts::goals(layout)?;
    problems.extend(goal_problems(&goals));
    let (sensors, more) = texts::sensors(layout)?;
    problems.extend(more);
    let (asks, more) = records::asks(layout)?;
    problems.extend(more);
    let (schedules, more) = records::schedules(layout)?;
    problems.extend(more);
    let (workers, more) = ctx.fleet.workers()?;
    problems.extend(more);
    let reports = reports(layout, &workers, &mut problems);
    let paused = records::paused(layout)?;
    let readings = readings(ctx, &sensors)?;
    // The data dir may have been moved away while they ran: nothing is written in its place, and nothing is paid.
    layout::check(layout)?;
    let now = ctx.now;
    let wanted = Wanted::decision(ctx.runner.name(), ctx.forced.as_ref());
    let money = budget::look(layout, &ctx.settings.budget, wanted, now)?;
    // What is set aside comes and goes, and is no reason to decide.
    let budget = BudgetState::of(money.day_spent_micros, money.day_limit_micros);
    let looked = own::Looked { workers, reports, budget, problems };
    let (own, approved) = own::of(beat, now, &asks, &schedules, looked);
    let world = World { playbook, goals, readings, own };
    let tainted = world.is_tainted(beat);
    Ok(Sensed { tainted, world, asks, schedules, held, approved, paused, capped: money.capped })
}

/// A line for each goal whose front matter lists repositories in a form that cannot be read.
pub fn goal_problems(goals: &BTreeMap<Name, Goal>) -> impl Iterator<Item = String> {
    goals.iter().filter_map(|(id, goal)| match goal {
        Goal::Text(text) => front_matter::repos(text).err().map(|why| format!("goals/{id}.md: {why}")),
        Goal::Unreadable(_) => None,
    })
}

/// What workers have handed in, each in order, as far as there is room.
fn reports(layout: &Layout, workers: &[WorkerView], problems: &mut Vec<String>) -> Vec<Report> {
    let mut left = REPORT_BYTES.1;
    let mut all = Vec::new();
    for (worker, name) in workers.iter().flat_map(|w| w.reports.iter().map(move |name| (&w.id, name))) {
        match texts::report(layout, worker, name, REPORT_BYTES.0.min(left)) {
            Ok(Some(report)) => {
                left -= report.text.as_ref().map_or(0, String::len);
                all.push(report);
            }
            // A human has taken it away.
            Ok(None) => {}
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    all
}

/// The last run of a sensor with an interval, in the cache; losing it costs one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LastRun {
    at_ms: i64,
    stamp: String,
    reading: Reading,
}

type LastRuns = BTreeMap<Name, LastRun>;

fn readings(ctx: &mut Ctx, sensors: &[SensorFile]) -> Result<BTreeMap<Name, Reading>> {
    let has_interval = |s: &SensorFile| s.header.as_ref().is_ok_and(|h| h.interval_ms.is_some());
    let cache_path = ctx.layout.sensor_runs();
    let mut runs: LastRuns = match sensors.iter().any(has_interval) {
        // What cannot be read is run again.
        true => records::read_json(&cache_path).ok().flatten().unwrap_or_default(),
        false => LastRuns::new(),
    };
    let mut readings = BTreeMap::new();
    let mut due = Vec::new();
    for sensor in sensors {
        match &sensor.header {
            Err(unfit) => {
                let detail = json!({ "why": unfit.why });
                readings
                    .insert(sensor.name.clone(), Reading::failed(unfit.error, None, detail, Trust::Trusted));
            }
            Ok(header) => match still_good(runs.get(&sensor.name), sensor, header, ctx.now) {
                Some(reading) => {
                    readings.insert(sensor.name.clone(), reading);
                }
                None => due.push((sensor, header)),
            },
        }
    }
    let boxer = Boxer::new(ctx.layout, ctx.settings, !ctx.dry);
    let mut jobs = Vec::with_capacity(due.len());
    due.retain(|(sensor, header)| match boxer.sensor(&sensor.name, header) {
        Ok(cell) => {
            jobs.push(job(ctx, sensor, header, cell));
            true
        }
        Err(why) => {
            let detail = json!({ "why": why });
            readings.insert(sensor.name.clone(), Reading::failed("not_started", None, detail, header.trust));
            false
        }
    });
    let ended = proc::run_all(jobs, WIDTH, ctx.cancel, None)?;
    tree::end_strays(&ctx.spared);
    ctx.go_on()?;
    let mut ran_timed = false;
    for ((sensor, header), ended) in due.into_iter().zip(ended) {
        let reading = interpret(ended, header.trust, &ctx.settings.secrets);
        if header.interval_ms.is_some() {
            ran_timed = true;
            let run =
                LastRun { at_ms: ctx.now.unix_ms, stamp: sensor.stamp.clone(), reading: reading.clone() };
            runs.insert(sensor.name.clone(), run);
        }
        readings.insert(sensor.name.clone(), reading);
    }
    if ran_timed && !ctx.dry {
        runs.retain(|name, _| readings.contains_key(name));
        let kept = file::make_dir(ctx.layout.cache())
            .and_then(|()| records::write_json(&cache_path, &runs, file::Keep::Whole));
        // What cannot be kept costs a run of those sensors, not the beat.
        log::warn_on_error(ctx, kept);
    }
    Ok(readings)
}

/// Runs one sensor, or all, whatever their intervals say.
///
/// # Errors
/// When the sensors cannot be listed, or the human interrupts.
pub fn fresh_readings(ctx: &mut Ctx, one: Option<&str>) -> Result<BTreeMap<Name, Reading>> {
    let (mut sensors, _) = texts::sensors(ctx.layout)?;
    sensors.retain(|sensor| one.is_none_or(|name| sensor.name.as_str() == name));
    for sensor in &mut sensors {
        if let Ok(header) = &mut sensor.header {
            header.interval_ms = None;
        }
    }
    readings(ctx, &sensors)
}

/// Runs a sensor that does not count yet, once.
///
/// # Errors
/// When the human interrupts.
pub fn try_out(ctx: &mut Ctx, mut sensor: SensorFile) -> Result<Reading> {
    if let Ok(header) = &mut sensor.header {
        header.interval_ms = None;
    }
    let name = sensor.name.clone();
    let mut readings = readings(ctx, &[sensor])?;
    readings.remove(&name).with_context(|| format!("could not run the sensor {name}"))
}

/// The cached reading, when the sensor's interval is not over and its file is the same.
fn still_good(run: Option<&LastRun>, sensor: &SensorFile, header: &Header, now: Now) -> Option<Reading> {
    let run = run?;
    let same = run.stamp == sensor.stamp && run.reading.trust == header.trust;
    (same && !now.waited(run.at_ms, header.interval_ms?)).then(|| run.reading.clone())
}

fn job(ctx: &Ctx, sensor: &SensorFile, header: &Header, cell: Cell) -> Job<'static> {
    let settings = ctx.settings;
    let granted = settings.full_env.iter().filter(|(key, _)| header.env.contains(key));
    let mut env: Vec<(String, String)> = settings.base_env.iter().chain(granted).cloned().collect();
    env.push(("LOOOP_DATA_DIR".to_owned(), ctx.layout.root().to_string_lossy().into_owned()));
    env.extend(cell.env);
    Job {
        program: sensor.path.clone(),
        args: Vec::new(),
        env,
        cwd: ctx.layout.root().to_owned(),
        input: Input::Null,
        keep: Keep::All(MAX_OUTPUT_BYTES),
        timeout_ms: header.timeout_ms.unwrap_or(settings.limits.sensor_timeout_ms),
        sink: None,
        gate: None,
        boxed: cell.boxed,
    }
}

/// A sensor's end as a reading, without secrets. What varies from run to run goes to the detail, so that a sensor which
/// fails in the same way twice is the same signal twice.
pub fn interpret(ended: Ended, trust: Trust, secrets: &Secrets) -> Reading {
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let stderr = secrets.redact(&stderr);
    let from = stderr.len().saturating_sub(STDERR_BYTES);
    let from = (from..=stderr.len()).find(|at| stderr.is_char_boundary(*at)).unwrap_or(0);
    let detail =
        json!({ "stderr": stderr[from..], "took_ms": ended.took_ms, "printed_bytes": ended.stdout.len() });
    let failed = |error, code| Reading::failed(error, code, detail, trust);
    match ended.exit {
        Exit::Code(0) => match parse_one_object(&ended.stdout) {
            Ok(mut value) => {
                secrets.redact_json(&mut value);
                Reading::from_output(value, trust)
            }
            Err(error) => failed(error, None),
        },
        Exit::Code(code) => failed("exit", Some(code)),
        Exit::Signal(signal) => failed("signal", Some(signal)),
        Exit::Timeout => failed("timeout", None),
        Exit::TooMuch => failed("too_large", None),
        Exit::NotStarted(why) => Reading::failed("not_started", None, json!({ "why": why }), trust),
        Exit::Cancelled => failed("interrupted", None),
    }
}

fn parse_one_object(bytes: &[u8]) -> Result<Value, &'static str> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("empty");
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("not_an_object"),
        Err(_) => Err("not_json"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit: Exit, stdout: &str) -> Ended {
        Ended { exit, stdout: stdout.as_bytes().to_vec(), stderr: b"oops".to_vec(), took_ms: 7 }
    }

    #[test]
    fn every_end_is_a_reading() {
        let rows = [
            (ended(Exit::Code(0), "{\"a\":1}"), true, json!({"a":1})),
            (ended(Exit::Code(0), " \n"), false, json!({"error":"empty"})),
            (ended(Exit::Code(0), "[1]"), false, json!({"error":"not_an_object"})),
            (ended(Exit::Code(0), "{\"a\":1}{\"b\":2}"), false, json!({"error":"not_json"})),
            (ended(Exit::Code(0), "{\"a\":\"\u{0}\"}"), false, json!({"error":"not_json"})),
            (ended(Exit::Code(3), "{\"a\":1}"), false, json!({"error":"exit","exit_code":3})),
            (ended(Exit::Code(200), ""), false, json!({"error":"exit","exit_code":200})),
            (ended(Exit::Signal(9), ""), false, json!({"error":"signal","exit_code":9})),
            (ended(Exit::Timeout, "{"), false, json!({"error":"timeout"})),
            (ended(Exit::TooMuch, ""), false, json!({"error":"too_large"})),
        ];
        for (end, ok, signal) in rows {
            let shown = format!("{end:?}");
            let reading = interpret(end, Trust::Trusted, &Secrets::default());
            assert_eq!((reading.ok, reading.signal), (ok, signal), "{shown}");
        }
    }

    #[test]
    fn stderr_reaches_the_detail_and_not_the_signal() {
        let reading = interpret(ended(Exit::Code(1), ""), Trust::Untrusted, &Secrets::default());
        assert_eq!(reading.detail["stderr"], "oops");
        assert_eq!(reading.trust, Trust::Untrusted);
        assert_eq!(reading.signal, json!({"error":"exit","exit_code":1}));
    }
}
