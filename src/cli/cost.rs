//! `looop cost`: the cost, grouped by day, goal, worker, runner, model, sensor or beat.

use anyhow::Result;

use super::{App, Fault, dollars, json_output, print, visible};
use crate::rules::cost::charge::{Charge, CostSource};
use crate::rules::cost::price::TABLE_DATE;
use crate::rules::cost::spend::{GroupBy, SpendRow, csv, report, total};
use crate::rules::time::{Now, parse_since};
use crate::store::ledger;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop cost\n  looop cost all --by goal\n  looop cost --since 7d --by sensor --csv"
)]
pub struct Args {
    /// Today, or everything in the ledger.
    #[arg(value_enum, default_value_t)]
    span: CostSpan,
    /// Count from this local day (2026-11-21) or from this long ago (7d, 12h).
    #[arg(long, value_name = "WHEN", conflicts_with = "span")]
    since: Option<String>,
    /// The grouping of the rows.
    #[arg(long, value_enum, default_value_t)]
    by: Key,
    /// Print comma-separated values.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum CostSpan {
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
    /// The sensor that woke the loop. A call that several sensors woke counts for each; its price is divided
    /// among them.
    Sensor,
    /// The beat.
    Beat,
}

impl Key {
    fn by(self) -> GroupBy {
        match self {
            Key::Day => GroupBy::Day,
            Key::Goal => GroupBy::Goal,
            Key::Worker => GroupBy::Worker,
            Key::Runner => GroupBy::Runner,
            Key::Model => GroupBy::Model,
            Key::Sensor => GroupBy::Sensor,
            Key::Beat => GroupBy::Beat,
        }
    }
}

/// The start of the counted period: its month for the ledger, and its local day or its moment. What is empty, or the
/// lowest number, excludes nothing.
///
/// # Errors
/// `--since` has no form that is known.
fn start(args: &Args, now: Now) -> Result<(String, String, i64)> {
    let from_day = |day: String| (day[..7].to_owned(), day, i64::MIN);
    let Some(text) = &args.since else {
        return Ok(match args.span {
            CostSpan::Today => from_day(now.day()),
            CostSpan::All => (String::new(), String::new(), i64::MIN),
        });
    };
    if text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok() {
        return Ok(from_day(text.clone()));
    }
    let at_ms = parse_since(text, now).map_err(Fault::usage)?;
    Ok((now.at(at_ms).month(), String::new(), at_ms))
}

pub fn run(app: &App, args: &Args) -> Result<u8> {
    let (month, day, at_ms) = start(args, app.now)?;
    let ledger = ledger::read_from(&app.layout, &month)?;
    let is_counted = |charge: &Charge| charge.day >= day && charge.at_ms >= at_ms;
    let charges: Vec<_> = ledger.charges.into_iter().filter(is_counted).collect();
    let (rows, total) = (report(&charges, args.by.by()), total(&charges));
    if ledger.bad_lines > 0 {
        let lines = format!("{} lines of the ledger", ledger.bad_lines);
        print::note(&format!("warning: {lines} could not be read and are not counted"));
    }
    if app.json {
        print::answer_whole(json_output::Cost { rows, total, price_list_day: TABLE_DATE })
    } else if args.csv {
        print::page(csv(&rows))
    } else if rows.is_empty() {
        print::done("nothing was spent")
    } else {
        let table = print::table(&table(&rows, &total, print::stdout_is_tty()));
        print::page(table + &notes(&charges, &total))
    }
}

/// Says which prices are computed, and which are not known.
fn notes(charges: &[Charge], total: &SpendRow) -> String {
    let mut notes = String::new();
    let priced = charges.iter().filter(|charge| charge.usage.basis == CostSource::Priced).count();
    if priced > 0 {
        let from = format!("`runners.NAME.price`, else the list prices of {TABLE_DATE}");
        notes.push_str(&format!("computed for {priced} calls from their tokens: {from}\n"));
    }
    if total.unpriced > 0 {
        let what = format!("unpriced: {} calls, also by the price list of {TABLE_DATE}", total.unpriced);
        notes.push_str(&format!("{what};\n  set `runners.NAME.price`\n"));
    }
    notes
}

/// The rows and, if there are several, their sum.
fn table(rows: &[SpendRow], total: &SpendRow, bars: bool) -> Vec<Vec<String>> {
    let heads = ["", "calls", "in", "cached", "out", "cost"];
    let mut table = vec![heads.map(str::to_owned).to_vec()];
    let most = rows.iter().map(|row| row.cost_micros).max().unwrap_or(0);
    for row in rows {
        let mut line = cells(row);
        line.extend((bars && most > 0).then(|| bar(row.cost_micros, most)));
        table.push(line);
    }
    if rows.len() > 1 {
        table.push(cells(total));
    }
    table
}

fn cells(row: &SpendRow) -> Vec<String> {
    let cached = match row.cached_percent() {
        Some(percent) if row.tokens_cached > 0 => format!("{} ({percent} %)", row.tokens_cached),
        _ => row.tokens_cached.to_string(),
    };
    let mut cost = dollars(row.cost_micros);
    if row.assumed_micros > 0 {
        cost.push_str(&format!(", {} of it assumed", dollars(row.assumed_micros)));
    }
    match row.unpriced {
        0 => {}
        // No price at all is not a price of 0.
        all if all == row.calls && row.cost_micros == 0 => cost = format!("{all} unpriced"),
        some => cost.push_str(&format!(" + {some} unpriced")),
    }
    vec![
        visible(&row.key, false),
        row.calls.to_string(),
        (row.tokens_in.saturating_add(row.tokens_written)).to_string(),
        cached,
        row.tokens_out.to_string(),
        cost,
    ]
}

/// The length of the longest bar, in columns.
const BAR_CELLS: u128 = 20;

fn bar(part: u64, most: u64) -> String {
    let cells = (u128::from(part) * BAR_CELLS).div_ceil(u128::from(most.max(1)));
    "\u{2588}".repeat(usize::try_from(cells).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        let lengths = [0, 1, 50, 100].map(|part| bar(part, 100).chars().count());
        assert_eq!(lengths, [0, 1, 10, 20]);
        let row = |key: &str, cost_micros| SpendRow {
            key: key.to_owned(),
            calls: 1,
            cost_micros,
            ..SpendRow::default()
        };
        let rows = [row("a", 30_000), row("b\u{1b}[2J", 10_000)];
        let shown = table(&rows, &row("total", 40_000), true);
        assert_eq!((shown.len(), shown[1].len(), shown[3].len()), (4, 7, 6));
        assert!(!shown[2][0].contains('\u{1b}'), "a name from outside draws nothing");
        assert_eq!(table(&rows[..1], &rows[0], false).len(), 2);
    }
}
