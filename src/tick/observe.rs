//! Observe: runs the sensors in parallel, and reads everything else that a beat needs, once.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ctx::{BeatNotes, Ctx};
use crate::os::process::{self, ChildResult, Job, OutputLimit, ProcessCommand, ProcessExit, reaper};
use crate::rules::beat::observed::{self, Observed};
use crate::rules::beat::state::LoopState;
use crate::rules::name::Name;
use crate::rules::secret::Secrets;
use crate::rules::time::Now;
use crate::rules::worker::{Deliverable, WorkerView};
use crate::rules::world::front_matter::FrontMatter;
use crate::rules::world::sensor::SensorHeader;
use crate::rules::world::{BudgetState, Goal, LoopStatus, SensorReading, Trust, World};
use crate::sandbox;
use crate::store::budget::{self, BudgetRequest};
use crate::store::layout::{self, Layout};
use crate::store::sandboxes::SandboxedEnv;
use crate::store::user_files::{self, SensorFile};
use crate::store::{file, json_file, operations, runner_limits, state_files};

/// The maximum output of a sensor, in bytes; a sensor that prints more is killed. This bounds the memory for it.
const MAX_OUTPUT_BYTES: usize = 256 * 1024;
/// How many sensors run in parallel.
const WIDTH: usize = 16;
/// How much of a failed sensor's stderr the decider sees, in bytes.
const STDERR_BYTES: usize = 2_000;
/// The limits for one report, and for all reports that the decider sees, in bytes.
const REPORT_BYTES: (usize, usize) = (16 * 1024, 64 * 1024);

/// Reads the world. Each failure of a sensor becomes a reading; a directory that cannot be listed is an error.
///
/// # Errors
/// The playbook or a directory cannot be read, or the user cancels.
pub fn world(ctx: &Ctx, beat: &LoopState, notes: &mut BeatNotes) -> Result<Observed> {
    let layout = ctx.layout;
    // Read this first: the decision may not have seen an edit after this moment.
    let held = operations::held(layout)?;
    let playbook = user_files::playbook(layout)?;
    let (goals, mut problems) = user_files::goals(layout)?;
    problems.extend(goal_problems(&goals));
    let (sensors, of_sensors) = user_files::sensors(layout)?;
    let (asks, of_asks) = state_files::asks(layout)?;
    let (schedules, of_schedules) = state_files::schedules(layout)?;
    let (workers, of_workers) = ctx.fleet.workers()?;
    problems.extend([of_sensors, of_asks, of_schedules, of_workers].concat());
    let reports = reports(layout, &workers, &mut problems);
    let paused = state_files::paused(layout)?;
    let readings = readings(ctx, &sensors, notes)?;
    // The data dir may have been moved away while they ran: nothing is written in its place, and nothing is paid.
    layout::check(layout)?;
    let now = ctx.now;
    let wanted = BudgetRequest::decision(ctx.runner.name(), ctx.forced.as_ref());
    let budget_status = budget::status(layout, &ctx.settings.budget, wanted, now)?;
    // Reservations come and go, and are not a reason to decide.
    let budget = BudgetState::of(budget_status.day_spent_micros, budget_status.day_limit_micros);
    let read = LoopStatus { workers, reports, budget, problems, ..LoopStatus::default() };
    let (own, approved) = observed::own_state(read, beat, now, &asks, &schedules);
    let world = World { playbook, goals, readings, own };
    Ok(Observed {
        items: world.items(),
        changed: Vec::new(),
        user_files: world.user_files_digest(),
        tainted: world.is_tainted(beat),
        world,
        asks,
        schedules,
        held,
        approved,
        paused,
        capped: budget_status.capped,
        limited: runner_limits::active(layout, ctx.runner.name(), now.unix_ms),
    })
}

/// Returns a line for each goal whose front matter lists repositories in an invalid format.
pub fn goal_problems(goals: &BTreeMap<Name, Goal>) -> impl Iterator<Item = String> {
    goals.iter().filter_map(|(id, goal)| match goal {
        Goal::Text(text) => FrontMatter::parse(text).err().map(|why| format!("goals/{id}.md: {why}")),
        Goal::Unreadable(_) => None,
    })
}

/// Returns the workers' reports, each worker's in order, within the limits.
fn reports(layout: &Layout, workers: &[WorkerView], problems: &mut Vec<String>) -> Vec<Deliverable> {
    let mut left = REPORT_BYTES.1;
    let mut all = Vec::new();
    for (worker, name) in workers.iter().flat_map(|w| w.reports.iter().map(move |name| (&w.id, name))) {
        match user_files::report(layout, worker, name, REPORT_BYTES.0.min(left)) {
            Ok(Some(report)) => {
                left -= report.text.as_ref().map_or(0, String::len);
                all.push(report);
            }
            // The user has removed it.
            Ok(None) => {}
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    all
}

/// The last run of a sensor with an interval, in the cache. If it is lost, the sensor runs once more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LastRun {
    at_ms: i64,
    stamp: String,
    reading: SensorReading,
}

fn readings(
    ctx: &Ctx,
    sensors: &[SensorFile],
    notes: &mut BeatNotes,
) -> Result<BTreeMap<Name, SensorReading>> {
    let has_interval = |s: &SensorFile| s.header.as_ref().is_ok_and(|h| h.interval_ms.is_some());
    let cache_path = ctx.layout.sensor_runs();
    let mut runs: BTreeMap<Name, LastRun> = match sensors.iter().any(has_interval) {
        // An unreadable record means that the sensor runs again.
        true => json_file::read_json(&cache_path).ok().flatten().unwrap_or_default(),
        false => BTreeMap::new(),
    };
    let (mut readings, mut due, mut jobs) = (BTreeMap::new(), Vec::new(), Vec::new());
    for sensor in sensors {
        let failed =
            |error, why: &str, trust| SensorReading::failed(error, None, json!({ "why": why }), trust);
        let reading = match &sensor.header {
            Err(unfit) => failed(unfit.error, &unfit.why, Trust::Trusted),
            Ok(header) => match still_good(runs.get(&sensor.name), sensor, header, ctx.now) {
                Some(reading) => reading,
                None => match ctx.fleet.sandboxes.sensor(&sensor.name, header) {
                    Err(why) => failed("not_started", &why, header.trust),
                    Ok(sandboxed) => {
                        jobs.push(job(ctx, sensor, header, sandboxed));
                        due.push((sensor, header));
                        continue;
                    }
                },
            },
        };
        readings.insert(sensor.name.clone(), reading);
    }
    let ended = process::run_all(jobs, WIDTH, ctx.cancel, None)?;
    reaper::reap_orphans(&notes.supervisors);
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
            .and_then(|()| json_file::write_json(&cache_path, &runs, file::Durability::Atomic));
        // If the cache cannot be written, those sensors run again, and the beat continues.
        notes.warn_on_error(kept);
    }
    Ok(readings)
}

/// Runs sensors regardless of their intervals.
///
/// # Errors
/// The user cancels.
pub fn fresh_readings(ctx: &Ctx, mut sensors: Vec<SensorFile>) -> Result<BTreeMap<Name, SensorReading>> {
    for header in sensors.iter_mut().filter_map(|sensor| sensor.header.as_mut().ok()) {
        header.interval_ms = None;
    }
    readings(ctx, &sensors, &mut BeatNotes::default())
}

/// Returns the cached reading, if the sensor's interval is not over and its file is unchanged.
fn still_good(
    run: Option<&LastRun>,
    sensor: &SensorFile,
    header: &SensorHeader,
    now: Now,
) -> Option<SensorReading> {
    let run = run?;
    let same = run.stamp == sensor.stamp && run.reading.trust == header.trust;
    (same && !now.waited(run.at_ms, header.interval_ms?)).then(|| run.reading.clone())
}

fn job(ctx: &Ctx, sensor: &SensorFile, header: &SensorHeader, sandboxed: SandboxedEnv) -> Job<'static> {
    let settings = ctx.settings;
    let granted = settings.full_env.iter().filter(|(key, _)| header.env.contains(key));
    let mut env: Vec<(String, String)> = settings.base_env.iter().chain(granted).cloned().collect();
    env.push(("LOOOP_DATA_DIR".to_owned(), ctx.layout.root().to_string_lossy().into_owned()));
    env.extend(sandboxed.env);
    let command = ProcessCommand::new(&sensor.path, [""; 0], env, ctx.layout.root());
    let timeout_ms = header.timeout_ms.unwrap_or(settings.limits.sensor_timeout_ms);
    Job {
        layer: sandbox::layer(sandboxed.sandbox),
        ..Job::new(command, OutputLimit::All(MAX_OUTPUT_BYTES), timeout_ms)
    }
}

/// Converts a sensor's exit to a reading, without secrets. Parts that differ from run to run go to the detail, so that
/// a sensor that fails twice in the same way has the same signal twice.
pub fn interpret(ended: ChildResult, trust: Trust, secrets: &Secrets) -> SensorReading {
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let stderr = secrets.redact(&stderr);
    let from = stderr.len().saturating_sub(STDERR_BYTES);
    let from = (from..=stderr.len()).find(|at| stderr.is_char_boundary(*at)).unwrap_or(0);
    let mut detail =
        json!({ "stderr": stderr[from..], "took_ms": ended.took_ms, "printed_bytes": ended.stdout.len() });
    let (error, code) = match ended.exit {
        ProcessExit::Code(0) => match parse_one_object(&ended.stdout) {
            Ok(mut value) => {
                secrets.redact_json(&mut value);
                return SensorReading::from_output(value, trust);
            }
            Err(error) => (error, None),
        },
        ProcessExit::Code(code) => ("exit", Some(code)),
        ProcessExit::Signal(signal) => ("signal", Some(signal)),
        ProcessExit::Timeout => ("timeout", None),
        ProcessExit::TooMuch => ("too_large", None),
        ProcessExit::NotStarted(why) => {
            detail = json!({ "why": why });
            ("not_started", None)
        }
        ProcessExit::Cancelled => ("interrupted", None),
    };
    SensorReading::failed(error, code, detail, trust)
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

    fn ended(exit: ProcessExit, stdout: &str) -> ChildResult {
        ChildResult { exit, stdout: stdout.as_bytes().to_vec(), stderr: b"oops".to_vec(), took_ms: 7 }
    }

    #[test]
    fn every_exit_becomes_a_reading() {
        let rows = [
            (ended(ProcessExit::Code(0), "{\"a\":1}"), true, json!({"a":1})),
            (ended(ProcessExit::Code(0), " \n"), false, json!({"error":"empty"})),
            (ended(ProcessExit::Code(0), "[1]"), false, json!({"error":"not_an_object"})),
            (ended(ProcessExit::Code(0), "{\"a\":1}{\"b\":2}"), false, json!({"error":"not_json"})),
            (ended(ProcessExit::Code(0), "{\"a\":\"\u{0}\"}"), false, json!({"error":"not_json"})),
            (ended(ProcessExit::Code(3), "{\"a\":1}"), false, json!({"error":"exit","exit_code":3})),
            (ended(ProcessExit::Code(200), ""), false, json!({"error":"exit","exit_code":200})),
            (ended(ProcessExit::Signal(9), ""), false, json!({"error":"signal","exit_code":9})),
            (ended(ProcessExit::Timeout, "{"), false, json!({"error":"timeout"})),
            (ended(ProcessExit::TooMuch, ""), false, json!({"error":"too_large"})),
        ];
        for (end, ok, signal) in rows {
            let shown = format!("{end:?}");
            let reading = interpret(end, Trust::Trusted, &Secrets::default());
            assert_eq!((reading.ok, reading.signal), (ok, signal), "{shown}");
        }
    }

    #[test]
    fn stderr_reaches_the_detail_and_not_the_signal() {
        let reading = interpret(ended(ProcessExit::Code(1), ""), Trust::Untrusted, &Secrets::default());
        assert_eq!(reading.detail["stderr"], "oops");
        assert_eq!(reading.trust, Trust::Untrusted);
        assert_eq!(reading.signal, json!({"error":"exit","exit_code":1}));
    }
}
