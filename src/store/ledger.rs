//! The spend ledger: one line per runner call in a file per month, and the day's total beside it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::file::{self, Keep};
use super::layout::Layout;
use crate::model::charge::Charge;
use crate::model::time::Now;

/// The longest month file that is read, in bytes: some three million lines.
const MAX_LEDGER_BYTES: usize = 1 << 30;

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// A month of the ledger, with the lines that could not be read.
#[derive(Debug, Default)]
pub struct Month {
    /// The charges in the order of the file.
    pub charges: Vec<Charge>,
    /// Lines that are no charge: torn by a power loss, or edited.
    pub bad_lines: usize,
}

/// The form of `cost/totals.json`: a sum that is recomputed when the month file has another length.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Totals {
    day: String,
    spent: Spent,
    /// The price of each runner's dearest decision of the month.
    dearest: BTreeMap<String, u64>,
    ledger_bytes: u64,
}

/// What was spent on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// Millionths of a US dollar, of calls whose cost was reported.
    pub cost_micros: u64,
    /// Calls whose cost nobody reported.
    pub unmetered: u64,
}

/// Appends a charge, durably.
///
/// # Errors
/// Names the file.
pub fn append(layout: &Layout, charge: &Charge) -> Result<()> {
    let month = charge.day.get(..7).unwrap_or("unknown");
    let line = serde_json::to_string(charge).context("could not write a charge as JSON")?;
    file::append_line(&layout.cost().join(format!("{month}.jsonl")), &line, Keep::Durable)
}

/// All charges of the months from `first` on (`2026-11`; empty for all), oldest first.
///
/// # Errors
/// Names the file that could not be read.
pub fn read_from(layout: &Layout, first: &str) -> Result<Month> {
    let mut months: Vec<String> = match std::fs::read_dir(layout.cost()) {
        Ok(entries) => entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context("could not list the spend ledger"),
    };
    months.retain(|name| name.ends_with(".jsonl") && name.as_str() >= first);
    months.sort();
    let mut all = Month::default();
    for name in months {
        let path = layout.cost().join(name);
        let bytes = file::read(&path, MAX_LEDGER_BYTES)
            .with_context(|| format!("could not read `{}`", path.display()))?
            .unwrap_or_default();
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.is_empty()) {
            match serde_json::from_str(line) {
                Ok(charge) => all.charges.push(charge),
                Err(_) => all.bad_lines += 1,
            }
        }
    }
    Ok(all)
}

/// What was spent on the local day of `now`.
///
/// # Errors
/// Names the file that could not be read: a budget is never taken for unspent because its ledger is unreadable.
pub fn spent_today(layout: &Layout, now: Now) -> Result<Spent> {
    totals(layout, now).map(|totals| totals.spent)
}

/// The price of this runner's dearest decision of the month of `now`, in millionths of a US dollar: what a call may
/// cost that nobody has heard of yet. Zero where there was none with a price.
///
/// # Errors
/// As [`spent_today`].
pub fn dearest(layout: &Layout, runner: &str, now: Now) -> Result<u64> {
    totals(layout, now).map(|totals| totals.dearest.get(runner).copied().unwrap_or(0))
}

/// The sums as they stand beside the ledger, or summed up anew where they are of another day or length.
fn totals(layout: &Layout, now: Now) -> Result<Totals> {
    let (day, month) = (now.day(), layout.cost().join(format!("{}.jsonl", now.month())));
    let ledger_bytes = match std::fs::metadata(&month) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Totals::default()),
        Err(error) => return Err(error).with_context(|| format!("could not read `{}`", month.display())),
    };
    let path = layout.cost().join("totals.json");
    let known = file::read_text(&path, 64 * 1024).ok().flatten();
    let known: Option<Totals> = known.and_then(|text| serde_json::from_str(&text).ok());
    if let Some(totals) = known.filter(|totals| totals.day == day && totals.ledger_bytes == ledger_bytes) {
        return Ok(totals);
    }
    let mut totals = Totals { day, ledger_bytes, ..Totals::default() };
    for charge in read_from(layout, &now.month())?.charges {
        let usage = &charge.usage;
        if charge.worker.is_none() && usage.basis.is_metered() {
            let most = totals.dearest.entry(charge.runner.clone()).or_default();
            *most = usage.cost_micros.max(*most);
        }
        if charge.day == totals.day {
            let spent = &mut totals.spent;
            spent.cost_micros = spent.cost_micros.saturating_add(usage.cost_micros);
            spent.unmetered += u64::from(!usage.basis.is_metered());
        }
    }
    Ok(totals)
}

/// Writes the day's total beside the ledger, so that the next beat need not sum it up again.
///
/// # Errors
/// Names the file.
pub fn save_total(layout: &Layout, now: Now) -> Result<()> {
    let mut totals = totals(layout, now)?;
    totals.day = now.day();
    let text = serde_json::to_string(&totals).context("could not write totals as JSON")?;
    file::write(&layout.cost().join("totals.json"), text.as_bytes(), 0o600, file::Keep::Whole)
}

/// True when the ledger has a charge of this beat, whose call began at `at_ms`.
///
/// # Errors
/// Names the file that could not be read.
pub fn has_beat(layout: &Layout, beat: &str, at_ms: i64, now: Now) -> Result<bool> {
    // A charge is of the day of the call's end; the day before its start covers a zone that was another.
    let first = now.at(at_ms.min(now.unix_ms) - DAY_MS).month();
    Ok(read_from(layout, &first)?.charges.iter().any(|charge| charge.beat == beat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::charge::Usage;

    const NOV_30: Now = Now { unix_ms: 1_796_081_400_000, offset_s: 0 };

    fn charge(beat: &str, at: Now) -> Charge {
        Charge {
            at_ms: at.unix_ms,
            day: at.day(),
            beat: beat.to_owned(),
            goal: None,
            worker: None,
            runner: "r".to_owned(),
            sensors: Vec::new(),
            usage: Usage::unknown(),
        }
    }

    #[test]
    fn the_dearest_decision_is_what_a_lost_one_may_have_cost() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned(), dir.path().join("cache"));
        file::make_dir(&layout.cost()).unwrap();
        let add = |runner: &str, worker: Option<&str>, usage: Usage| {
            let (runner, worker) = (runner.to_owned(), worker.map(str::to_owned));
            append(&layout, &Charge { runner, worker, usage, ..charge("b", NOV_30) }).unwrap();
        };
        let cost = |cost_micros| Usage { cost_micros, ..Usage::nothing() };
        add("a", None, cost(30));
        add("a", None, cost(10));
        add("a", Some("w"), cost(500));
        add("a", None, Usage::assumed(900));
        add("b", None, Usage::estimate(4, 4));
        for _ in 0..2 {
            let dearest = ["a", "b", "c"].map(|runner| dearest(&layout, runner, NOV_30).unwrap());
            assert_eq!(dearest, [30, 0, 0], "an assumed price is no measure of another");
            let spent = spent_today(&layout, NOV_30).unwrap();
            assert_eq!((spent.cost_micros, spent.unmetered), (1440, 2));
            save_total(&layout, NOV_30).unwrap();
        }
    }

    #[test]
    fn a_charge_is_found_behind_others_and_in_another_month() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned(), dir.path().join("cache"));
        let has = |beat, at: Now, now: Now| has_beat(&layout, beat, at.unix_ms, now).unwrap();
        let next_day = NOV_30.at(NOV_30.unix_ms + DAY_MS);
        assert_eq!((NOV_30.day().as_str(), next_day.month().as_str()), ("2026-11-30", "2026-12"));
        assert!(!has("b1", NOV_30, NOV_30), "there is no ledger");
        file::make_dir(&layout.cost()).unwrap();
        append(&layout, &charge("b1", NOV_30)).unwrap();
        append(&layout, &charge("worker", NOV_30)).unwrap();
        append(&layout, &charge("b2", next_day)).unwrap();
        assert!(has("b1", NOV_30, NOV_30) && has("b1", NOV_30, next_day));
        assert!(has("b2", NOV_30, next_day), "a call that ended in the next month");
        assert!(!has("b3", NOV_30, next_day));
        assert!(has("b2", NOV_30.at(i64::MAX), next_day), "the clock was set back");
    }
}
