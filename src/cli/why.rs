//! `looop why`: what woke the last beat, what would wake the next one, and what each sensor cost.

use anyhow::Result;

use super::{App, dollars, human_ms, json_output, print, visible};
use crate::rules::cost::spend::{GroupBy, SpendRow, report};
use crate::rules::world::Context;
use crate::store::{json_file, ledger};

const WEEK_MS: i64 = 7 * 86_400_000;

/// Explains the last and the next decision. Runs the sensors once; spends and writes nothing.
pub fn run(app: &App) -> Result<u8> {
    let last: Option<Context> = json_file::read_json(&app.layout.world())?;
    let config = app.config()?;
    let (gate, _) = app.preview(&config)?;
    let since = app.now.at(app.now.unix_ms - WEEK_MS);
    let charges = ledger::read_from(&app.layout, &since.month())?.charges;
    let week: Vec<_> = charges.into_iter().filter(|charge| charge.at_ms >= since.unix_ms).collect();
    let sensors = report(&week, GroupBy::Sensor);
    let words = gate.words();
    if app.json {
        let last = last.map(|c| json_output::Woken {
            at_ms: c.at.unix_ms,
            beat: c.beat,
            woke: c.woke,
            changes: c.changes,
        });
        return print::answer("why", json_output::Why { last, next: words, week_by_sensor: sensors });
    }
    let style = app.style;
    match &last {
        None => print::line("last decision: none"),
        Some(context) => {
            let age = human_ms(app.now.elapsed_ms(context.at.unix_ms));
            print::line(&format!("{} ({age} ago, beat {})", style.bold("the last decision"), context.beat));
            context.woke.iter().for_each(|reason| print::line(&format!("  {reason}")));
            let side = |text: &Option<String>| visible(text.as_deref().unwrap_or("(nothing)"), false);
            for change in &context.changes {
                for path in &change.paths {
                    let (name, old, new) = (visible(&path.path, false), side(&path.old), side(&path.new));
                    print::line(&format!("    {} {name}: {old} -> {new}", change.item));
                }
                let more = change.total.saturating_sub(change.paths.len());
                if more > 0 && !change.paths.is_empty() {
                    print::line(&format!("    {} and {more} more", change.item));
                }
            }
        }
    }
    print::line(&format!("{} {words}", style.bold("now:")));
    if sensors.iter().any(|row| row.key != "(none)") {
        print::line(&style.bold("decisions of the last week, by the sensor that woke them"));
        let cells =
            |row: &SpendRow| vec![format!("  {}", row.key), row.calls.to_string(), dollars(row.cost_micros)];
        print::raw(print::table(&sensors.iter().map(cells).collect::<Vec<_>>()).as_bytes());
    }
    Ok(0)
}
