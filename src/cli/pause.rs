//! `looop pause` and `looop resume`: the human's hand on the brake.

use anyhow::Result;

use super::{App, print};
use crate::model::charge::dollars;
use crate::model::name::Name;
use crate::store::file::Keep;
use crate::store::records::{self, Paused};
use crate::store::{budget, file, lock, texts};
use crate::sys::signal::Cancel;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop pause 'on holiday'")]
pub struct PauseArgs {
    /// Why, for whoever looks.
    why: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop resume\n  looop resume --budget")]
pub struct ResumeArgs {
    /// Raise each budget that is used up, by itself, until it begins anew.
    #[arg(long)]
    budget: bool,
}

/// How long `resume` waits for the present beat to end, in milliseconds.
const PATIENCE_MS: i64 = 60_000;

/// Stops deciding. A beat that is thinking makes no move any more; the next one holds.
pub fn pause(app: &App, args: &PauseArgs) -> Result<u8> {
    let _held = lock::store(&app.layout.store_lock())?;
    let paused = Paused { since_ms: app.now.unix_ms, why: args.why.join(" ") };
    records::write_json(&app.layout.paused(), &paused, Keep::Durable)?;
    print::line("paused; `looop resume` goes on");
    Ok(0)
}

/// Decides again: ends a pause, and a halt after the memory was lost. A budget is raised where that is asked for.
pub fn resume(app: &App, args: &ResumeArgs) -> Result<u8> {
    if args.budget {
        return raise(app);
    }
    let beat = records::peek_beat(&app.layout)?;
    let mut ended = false;
    if beat.halted.is_some() {
        // The memory is the tick's: its lock keeps a running beat from writing over this.
        let _tick = lock::tick_patiently(&app.layout.tick_lock(), PATIENCE_MS, &Cancel::on_signals()?)?;
        let (mut beat, _) = records::load_beat(&app.layout, app.now)?;
        beat.halted = None;
        records::save_beat(&app.layout, &beat)?;
        print::line("the halt is over; the next beat decides afresh");
        ended = true;
    }
    if records::paused(&app.layout)?.is_some() {
        let _held = lock::store(&app.layout.store_lock())?;
        file::remove(&app.layout.paused())?;
        print::line("the pause is over");
        ended = true;
    }
    if !ended {
        print::line("nothing was paused");
    }
    Ok(0)
}

fn raise(app: &App) -> Result<u8> {
    let config = app.config()?;
    let (goals, _) = texts::goals(&app.layout)?;
    let mut runners = config.decider_names();
    runners.extend(config.settings.workers.runners.keys().cloned());
    runners.push(config.decide.clone());
    runners.sort();
    runners.dedup();
    let goals: Vec<Name> = goals.into_keys().collect();
    let hits = budget::raise(&app.layout, &config.settings.budget, &runners, &goals, app.now)?;
    for hit in &hits {
        let times = u64::from(hit.raises().unwrap_or(0)).saturating_add(1);
        let until = app.now.at(hit.resets_ms).stamp();
        let now_is = dollars(hit.cap_micros.saturating_mul(times));
        print::line(&format!("the budget of {} is {now_is} until {until}", hit.window));
    }
    if hits.is_empty() {
        print::line("no budget is used up");
    }
    Ok(0)
}
