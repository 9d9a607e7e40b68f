//! `looop cost`: what was spent, on what.

use anyhow::Result;
use serde_json::json;

use super::{App, envelope, print};
use crate::model::charge::dollars;
use crate::model::spend::{By, report};
use crate::store::ledger;

/// Arguments of `looop cost`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The local day, or everything.
    #[arg(value_enum, default_value_t)]
    span: Span,
    /// What a row is about.
    #[arg(long, value_enum, default_value_t)]
    by: Key,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Span {
    /// Since local midnight.
    #[default]
    Today,
    /// Everything that the ledger holds.
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Key {
    /// The local day.
    #[default]
    Day,
    /// The goal that the move served.
    Goal,
    /// The worker.
    Worker,
    /// The runner.
    Runner,
    /// The model.
    Model,
    /// The sensor that woke the loop; a beat that several woke counts for each.
    Sensor,
    /// The beat.
    Beat,
}

impl Key {
    fn by(self) -> By {
        match self {
            Key::Day => By::Day,
            Key::Goal => By::Goal,
            Key::Worker => By::Worker,
            Key::Runner => By::Runner,
            Key::Model => By::Model,
            Key::Sensor => By::Sensor,
            Key::Beat => By::Beat,
        }
    }
}

/// Prints the report.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    let today = app.now.day();
    let first = if args.span == Span::Today { app.now.month() } else { String::new() };
    let ledger = ledger::read_from(&app.layout, &first)?;
    let charges: Vec<_> =
        ledger.charges.into_iter().filter(|charge| args.span == Span::All || charge.day == today).collect();
    let rows = report(&charges, args.by.by());
    if ledger.bad_lines > 0 {
        print::note(&format!(
            "warning: {} lines of the ledger could not be read and are not counted",
            ledger.bad_lines
        ));
    }
    if args.json {
        print::json(&envelope("rows", json!(rows)));
        return Ok(0);
    }
    if rows.is_empty() {
        print::line("nothing was spent");
        return Ok(0);
    }
    let mut table = vec![["", "calls", "in", "cached", "out", "cost"].map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|row| {
        let unmetered =
            if row.unmetered > 0 { format!(" + {} unmetered", row.unmetered) } else { String::new() };
        vec![
            row.key.clone(),
            row.calls.to_string(),
            row.tokens_in.to_string(),
            row.tokens_cached.to_string(),
            row.tokens_out.to_string(),
            format!("{}{unmetered}", dollars(row.cost_micros)),
        ]
    }));
    print::raw(print::table(&table).as_bytes());
    Ok(0)
}
