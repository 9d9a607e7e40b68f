//! `looop status`: the state of the loop, for the user and, with `--json`, for programs.

use anyhow::Result;
use strum::IntoEnumIterator;

use super::findings::{self, Findings};
use super::json_output::{
    CheckStatus, Finding, Gate, GoalJson, InForce, LastBeat, Pulse, RunningFix, SandboxesJson, SensorStatus,
    StatusJson, Today, WorkerJson,
};
use super::{App, asks, clip, dollars, goal, human_ms, lease, ls, print, schedule, sensor, visible};
use crate::rules::beat::ask::QuestionState;
use crate::rules::beat::observed::Paused;
use crate::rules::beat::state::{Convergence, LoopState};
use crate::rules::beat::{gate, step};
use crate::rules::fix::FixSession;
use crate::rules::sandbox::{Level, SandboxSubject};
use crate::store::sandboxes::SandboxBuilder;
use crate::store::user_files::{self, SensorFile};
use crate::store::{file, fixes, ledger, lock, state_files};
use crate::vcs::history::locks;

/// Prints the status, and first what is broken: then the exit status is 1. It only reads files: it runs no sensor and
/// writes nothing.
pub fn run(app: &App) -> Result<u8> {
    let status = gather(app)?;
    let exit_code = u8::from(status.findings.iter().any(|found| found.health == CheckStatus::Bad));
    match app.json {
        true => print::answer_whole(status)?,
        false => print::page(as_text(app, &status))?,
    };
    Ok(exit_code)
}

fn gather(app: &App) -> Result<StatusJson> {
    let layout = &app.layout;
    let mut found = findings::look(app);
    // What cannot be read is a finding already, and the rest is shown all the same.
    let beat = state_files::peek_beat(layout).unwrap_or_default();
    let (goals, _) = user_files::goals(layout).unwrap_or_default();
    let (sensors, _) = user_files::sensors(layout).unwrap_or_default();
    let (asks, _) = asks::not_closed(app).unwrap_or_default();
    let (workers, _) = ls::sorted(app).unwrap_or_default();
    let (mut schedules, _) = schedule::rows(app, &beat.fired).unwrap_or_default();
    schedules.iter_mut().for_each(|schedule| schedule.when = None);
    let (leases, problems) = found.ok("leases", lease::rows(app), &[]).unwrap_or_default();
    problems.into_iter().for_each(|problem| found.bad("leases", problem, &[]));
    locks::in_words(layout.root()).into_iter().for_each(|lock| found.odd("lock", lock, &[]));
    let fixes = found.ok("fixes", fixes::running(layout), &[]).unwrap_or_default();
    let paused = found.ok("pause", state_files::paused(layout), &[]).flatten();
    let today = found.ok("ledger", ledger::totals(layout, app.now), &[]).unwrap_or_default();
    let Findings(mut findings) = found;
    findings.retain(|found| found.health != CheckStatus::Good);
    findings.sort_by_key(|found| found.health != CheckStatus::Bad);
    let idle = file::read_text(&layout.idle(), 64).ok().flatten();
    let pulse = lock::holder(&layout.pulse_lock());
    let ticking = lock::holder(&layout.tick_lock());
    let sensor = |SensorFile { name, header, .. }| {
        let (reading, error) = (sensor::last_reading(app, &name), header.err().map(|unfit| unfit.why));
        SensorStatus {
            ok: error.is_none() && reading.as_ref().is_none_or(|r| r.ok),
            signal: reading.map(|r| r.signal),
            error,
            flapping: beat.is_flapping(name.as_str(), app.now),
            name,
        }
    };
    Ok(StatusJson {
        pulse: Pulse {
            alive: pulse.is_some(),
            pid: pulse,
            ticking,
            idle_at_ms: idle.and_then(|text| text.trim().parse().ok()),
        },
        goals: goals.iter().map(|goal| GoalJson { bytes: None, ..goal::row(goal) }).collect(),
        sensors: sensors.into_iter().map(sensor).collect(),
        workers: workers.iter().map(|worker| ls::row(layout, worker, app.now)).collect(),
        asks: asks
            .iter()
            .filter(|(_, state)| matches!(state, QuestionState::Open | QuestionState::Approved))
            .map(|(ask, state)| asks::row(ask, *state))
            .collect(),
        leases,
        schedules,
        cost: Today {
            today_micros: today.spending.day_micros,
            today_unpriced: today.unpriced,
            day: app.now.day(),
        },
        sandbox: sandbox(app),
        findings,
        fixes: fixes.into_iter().map(running_fix).collect(),
        data_dir: layout.root().display().to_string(),
        gate: Gate {
            words: gate_words(app, &beat, paused.as_ref(), ticking.is_some()),
            halted: beat.halted,
            paused,
            backoff: beat.backoff,
            converged: beat.converged,
            decides_last_hour: step::recent(&beat.decides, app.now.unix_ms).len(),
        },
        last_beat: LastBeat { last: beat.last, failure: beat.failure, decisions: beat.decisions },
    })
}

fn running_fix((pid, session): (u32, FixSession)) -> RunningFix {
    let (goal, attempt) = session.under_way.map(|attempt| (attempt.goal, attempt.n)).unzip();
    RunningFix { pid, project: session.project, began_ms: session.began_ms, goal, attempt }
}

fn gate_words(app: &App, beat: &LoopState, paused: Option<&Paused>, is_ticking: bool) -> String {
    if let Some(why) = &beat.halted {
        return format!("halted: {why}; `looop resume` continues");
    }
    if let Some(paused) = paused {
        return if paused.why.is_empty() { "paused".to_owned() } else { format!("paused: {}", paused.why) };
    }
    if beat.intent.is_some() && !is_ticking {
        return "a move waits for the next beat".to_owned();
    }
    match (&beat.backoff, &beat.converged) {
        (Some(backoff), _) => {
            let ago = human_ms(app.now.elapsed_ms(backoff.at_ms));
            let why = beat.failure.as_ref().map(|failure| format!(": {}", failure.words()));
            format!("{}, the last one {ago} ago{}", gate::in_a_row(backoff.fails), why.unwrap_or_default())
        }
        (None, _) if beat.decisions == 0 => "no decision yet".to_owned(),
        (None, Convergence::No) => "the next beat decides".to_owned(),
        (None, Convergence::Noop { at_ms, .. }) => {
            format!("settled since {}", human_ms(app.now.elapsed_ms(*at_ms)))
        }
    }
}

fn as_text(app: &App, json: &StatusJson) -> String {
    let style = app.style;
    let mut out = String::new();
    let mut put = |name: &str, text: String| out.push_str(&app.style.row(name, &text));
    let (bad, odd): (Vec<&Finding>, _) =
        json.findings.iter().partition(|found| found.health == CheckStatus::Bad);
    for found in bad {
        put("broken", style.red(&format!("{}: {}", found.what, found.found)));
        found.fix.iter().for_each(|fix| put("  fix", fix.clone()));
    }
    put("data dir", app.layout.root().display().to_string());
    let pulse = match json.pulse.pid {
        Some(pid) => style.green(&format!("running (process {pid})")),
        None => style.dim("not running"),
    };
    put("pulse", pulse);
    put("gate", json.gate.words.clone());
    if let Some(last) = &json.last_beat.last {
        let ago = human_ms(app.now.elapsed_ms(last.at_ms));
        let made = format!("{} {}", last.tag, clip(&visible(&last.object, false), 60));
        let became = visible(&last.outcome.words(), false);
        put("last move", format!("{} — {became} ({ago} ago)", made.trim_end()));
    }
    let unpriced = json.cost.today_unpriced;
    let more = if unpriced > 0 { format!(" + {unpriced} unpriced calls") } else { String::new() };
    put("today", format!("{}{more}", dollars(json.cost.today_micros)));
    put("goals", names(json.goals.iter().map(|goal| goal.id.as_str())));
    put("sensors", sensor_words(app, &json.sensors));
    put("workers", worker_words(app, &json.workers));
    if !json.schedules.is_empty() {
        put("schedules", names(json.schedules.iter().map(|timer| timer.name.as_str())));
    }
    if !json.leases.is_empty() {
        put("leases", names(json.leases.iter().map(|lease| lease.lease.resource.as_str())));
    }
    if let Some(sandboxes) = &json.sandbox {
        put("sandbox", sandbox_words(app, sandboxes));
    }
    let asks = match json.asks.len() {
        0 => "nothing waits for you".to_owned(),
        n => {
            let ids = names(json.asks.iter().map(|ask| &ask.id));
            style.yellow(&format!("{n} waiting: {ids} (looop asks)"))
        }
    };
    put("asks", asks);
    for fix in &json.fixes {
        let attempt = fix.attempt.map(|n| format!(", attempt {n}")).unwrap_or_default();
        let goal = fix.goal.as_ref().map(|goal| format!(": {goal}{attempt}")).unwrap_or_default();
        put("fix", format!("{}{goal} (process {})", fix.project, fix.pid));
    }
    for found in odd {
        put("problem", style.yellow(&format!("{}: {}", found.what, found.found)));
    }
    out
}

/// The sandbox of each kind of child, and why a child has less than it could. Other parts report a config that
/// cannot be read.
fn sandbox(app: &App) -> Option<SandboxesJson> {
    let config = app.config().ok()?;
    let sandboxes = SandboxBuilder::new(&app.layout, &config.settings, true);
    let in_force = |kind: SandboxSubject| {
        sandboxes.level(kind).map_or_else(|error| InForce::Refused { error }, InForce::Level)
    };
    Some(SandboxesJson {
        engine: sandboxes.engine().to_owned(),
        missing: sandboxes.capabilities().missing.clone(),
        lost: sandboxes.downgrade(),
        decide: in_force(SandboxSubject::Decide),
        sensor: in_force(SandboxSubject::Sensor),
        run: in_force(SandboxSubject::Run),
        verify: in_force(SandboxSubject::Verify),
        worker: in_force(SandboxSubject::Worker),
        fix: in_force(SandboxSubject::Fix),
    })
}

fn sandbox_words(app: &App, all: &SandboxesJson) -> String {
    let sandboxes = [&all.decide, &all.sensor, &all.run, &all.verify, &all.worker, &all.fix];
    let word = |(kind, had): (SandboxSubject, &InForce)| match had {
        InForce::Level(Level::None) => app.style.yellow(&format!("{kind} none")),
        InForce::Level(level) => format!("{kind} {level}"),
        InForce::Refused { .. } => app.style.red(&format!("{kind} not available; looop doctor")),
    };
    let mut words = SandboxSubject::iter().zip(sandboxes).map(word).collect::<Vec<_>>().join(", ");
    if let Some(lost) = &all.lost {
        words.push_str(&format!("; {}", app.style.red(lost)));
    }
    words
}

fn names<T: ToString>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn worker_words(app: &App, workers: &[WorkerJson]) -> String {
    names(workers.iter().map(|worker| {
        let (id, phase) = (&worker.id, worker.state);
        match worker.flag.is_some() || worker.ask.is_some() {
            true => app.style.yellow(&format!("⚑{id} ({phase}; {})", phase.look_commands(id))),
            false => format!("{id} ({phase})"),
        }
    }))
}

fn sensor_words(app: &App, sensors: &[SensorStatus]) -> String {
    names(sensors.iter().map(|row| {
        let name = &row.name;
        match (row.ok, row.flapping) {
            (false, _) => app.style.red(&format!("{name} (failing)")),
            (true, true) => app.style.yellow(&format!("{name} (flapping)")),
            (true, false) => name.to_string(),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::print::{ColorWhen, Style};
    use crate::config::Env;
    use crate::rules::time::Now;
    use crate::rules::time::Zone;
    use crate::store::layout::Layout;
    use crate::vcs::seed;

    #[test]
    fn a_clock_outside_of_1970_to_9999_is_a_problem_and_the_status_still_works() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("data"), dir.path().join("cache"));
        seed::set_up(&layout, Now::fixed(1_795_218_410_413, 0)).unwrap();
        for (seconds, flaw) in [(-1, "before 1970"), (i64::MAX, "after the year 9999")] {
            let now = Now::from_clock(seconds, 0, Zone::Fixed(0));
            let style = Style::new(ColorWhen::Never, true);
            let (verb, env) = (String::new(), Env::default());
            let app = App { verb, json: false, env, layout: layout.clone(), style, now };
            let status = gather(&app).unwrap();
            let found = status.findings.iter().find(|found| found.what == "clock").unwrap();
            assert!(found.health == CheckStatus::Bad && found.found.contains(flaw), "{}", found.found);
            assert!(as_text(&app, &status).contains(flaw));
            assert!(serde_json::to_string(&status).unwrap().contains(flaw));
        }
    }
}
