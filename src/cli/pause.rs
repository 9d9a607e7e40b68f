//! `looop pause` and `looop resume`.

use anyhow::Result;

use super::{App, Cancel, Name, dollars};
use crate::rules::beat::observed::Paused;
use crate::rules::beat::step::LoopEvent;
use crate::store::file::{self, Durability};
use crate::store::state_files::{self, StateFile};
use crate::store::{budget, json_file, lock, operations, user_files};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop pause 'on holiday'")]
pub struct PauseArgs {
    /// The reason, shown in the status.
    why: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop resume\n  looop resume --budget\n  looop resume --budget 12.50")]
pub struct ResumeArgs {
    /// Raise each used-up budget: by its own amount once, or to this many US dollars. The raise ends with the
    /// budget's period.
    #[arg(long, value_name = "AMOUNT", value_parser = parse_usd)]
    budget: Option<Option<u64>>,
}

/// The highest limit of a budget, in US dollars.
const MAX_USD: f64 = 1e6;

/// Parses an amount in US dollars as millionths.
pub fn parse_usd(text: &str) -> Result<u64, String> {
    let usd = text.strip_prefix('$').unwrap_or(text).parse::<f64>().ok();
    match usd.filter(|usd| *usd >= 1e-6 && *usd <= MAX_USD) {
        Some(usd) => Ok((usd * 1e6).round() as u64),
        None => Err(format!("{text:?} is not an amount: expected 0.000001 to {MAX_USD} US dollars")),
    }
}

/// How long `resume` waits for the current beat to end, in milliseconds.
const WAIT_LIMIT_MS: i64 = 60_000;

/// Stops deciding. A beat that waits for a model makes no move any more; the next beat holds.
pub fn pause(app: &App, args: &PauseArgs) -> Result<u8> {
    let _held = lock::store(&app.layout.store_lock())?;
    let paused = Paused { since_ms: app.now.unix_ms, why: args.why.join(" ") };
    json_file::write_json(&app.layout.paused(), &paused, Durability::Durable)?;
    app.outcome(None, true, "paused; `looop resume` continues")
}

/// Decides again: ends a pause, and a halt after a lost memory. Raises a budget if asked to.
pub fn resume(app: &App, args: &ResumeArgs) -> Result<u8> {
    if let Some(limit) = args.budget {
        return raise(app, limit);
    }
    let beat = state_files::peek_beat(&app.layout)?;
    let mut ended = Vec::new();
    if beat.halted.is_some() {
        // The memory belongs to the tick; its lock keeps a running beat from overwriting this change.
        let _tick = lock::tick_patiently(&app.layout.tick_lock(), WAIT_LIMIT_MS, &Cancel::on_signals()?)?;
        StateFile::load(&app.layout, app.now)?.0.apply(LoopEvent::Resumed)?;
        ended.push("the halt is over; the next beat decides from scratch");
    }
    if state_files::paused(&app.layout)?.is_some() {
        let _held = lock::store(&app.layout.store_lock())?;
        file::remove(&app.layout.paused())?;
        ended.push("the pause is over");
    }
    match ended.is_empty() {
        true => app.shown(None, "nothing was paused"),
        false => app.outcome(None, true, &ended.join("\n")),
    }
}

/// Raises each used-up budget by its own amount, or to a limit in millionths of a US dollar.
fn raise(app: &App, limit: Option<u64>) -> Result<u8> {
    let config = app.config()?;
    let (goals, _) = user_files::goals(&app.layout)?;
    let mut runners = config.decider_names();
    runners.extend(config.settings.workers.runners.keys().cloned());
    runners.push(config.decide.clone());
    runners.sort();
    runners.dedup();
    let goals: Vec<Name> = goals.into_keys().collect();
    let caps = budget::raise(&app.layout, &config.settings.budget, &runners, &goals, limit, app.now)?;
    let asks = state_files::asks(&app.layout)?.0;
    let mut parts = Vec::new();
    for cap in &caps {
        let (limit, until) = (dollars(cap.limit_micros), app.now.at(cap.exceeded.resets_ms).stamp());
        parts.push(format!("the budget of {} is {limit} until {until}", cap.exceeded.window));
        let id = budget::ask_id(&cap.exceeded);
        if asks.contains_key(&id) {
            operations::put_away_ask(&app.layout, &id)?;
            parts.push(format!("{id} is closed"));
        }
    }
    match parts.is_empty() {
        true => app.shown(None, "no budget is used up"),
        false => app.outcome(None, true, &parts.join("; ")),
    }
}
