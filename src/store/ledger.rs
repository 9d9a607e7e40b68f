//! The spend ledger: one line per runner call in a file per month, and the day's total beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::file::{self, Doing, Durability};
use super::json_file::{json_line, parse_lines, read_json, write_json};
use super::layout::Layout;
use crate::rules::cost::budget::{self, Spending};
use crate::rules::cost::charge::Charge;
use crate::rules::name::Name;
use crate::rules::time::Now;

/// The longest month file that is read, in bytes: some three million lines.
const MAX_LEDGER_BYTES: usize = 1 << 30;

const DAY_MS: i64 = 86_400_000;

/// A month of the ledger, with the number of unreadable lines.
#[derive(Debug, Default)]
pub struct Month {
    /// The charges in the order of the file.
    pub charges: Vec<Charge>,
    /// Lines that are not charges: torn by a power loss, or edited.
    pub bad_lines: usize,
}

/// A goal got another name: earlier charges of the old name count for the new one. The ledger is only appended to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoalRename {
    at_ms: i64,
    from: String,
    to: String,
}

/// The form of `cost/renamed.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoalRenames {
    /// Oldest first.
    goals: Vec<GoalRename>,
}

const RENAMED: &str = "renamed.json";

fn renames(layout: &Layout) -> Result<GoalRenames> {
    Ok(read_json(&layout.cost().join(RENAMED))?.unwrap_or_default())
}

/// The charge under the present name of its goal.
fn renamed(mut charge: Charge, renames: &GoalRenames) -> Charge {
    for rename in renames.goals.iter().filter(|rename| charge.at_ms <= rename.at_ms) {
        if charge.goal.as_ref() == Some(&rename.from) {
            charge.goal = Some(rename.to.clone());
        }
    }
    charge
}

/// Counts what was charged to a goal so far for its new name.
pub fn rename_goal(layout: &Layout, from: &Name, to: &Name, now: Now) -> Result<()> {
    let mut all = renames(layout)?;
    all.goals.push(GoalRename { at_ms: now.unix_ms, from: from.to_string(), to: to.to_string() });
    write_json(&layout.cost().join(RENAMED), &all, Durability::Durable)?;
    // The sums hold the old name; without them the ledger is summed up again.
    file::remove(&layout.cost().join("totals.json"))
}

/// The form of `cost/totals.json`: sums over the first bytes of the ledger, updated from the bytes behind them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    day: String,
    hour: i64,
    /// Spending of the current hour and day.
    pub spending: Spending,
    /// The number of calls of the day without a reported cost.
    pub unpriced: u64,
    /// The price of each runner's most expensive decision of the month.
    max_call_costs: BTreeMap<String, u64>,
    ledger_bytes: u64,
}

impl Totals {
    /// Returns the price of this runner's most expensive decision of the month, in millionths of a US dollar: the
    /// estimate for a call of unknown cost. `None` if no decision had a price.
    pub fn max_call_cost(&self, runner: &str) -> Option<u64> {
        self.max_call_costs.get(runner).copied()
    }

    fn add(&mut self, charge: &Charge, now: Now) {
        let usage = &charge.usage;
        // A worker reports its own figures, so they do not estimate other calls.
        if usage.basis.is_metered() && charge.worker.is_none() {
            let most = self.max_call_costs.entry(charge.runner.clone()).or_default();
            *most = usage.cost_micros.max(*most);
        }
        if charge.day == self.day {
            let this_hour = budget::hour_of(now.at(charge.at_ms)) == self.hour;
            self.spending.add(usage.cost_micros, charge.goal.as_deref(), &charge.runner, this_hour);
            self.unpriced += u64::from(!usage.basis.is_metered());
        }
    }
}

/// Appends a charge, durably.
pub fn append(layout: &Layout, charge: &Charge) -> Result<()> {
    let month = charge.day.get(..7).unwrap_or("unknown");
    file::append_line(&layout.cost().join(format!("{month}.jsonl")), &json_line(charge)?, Durability::Durable)
}

/// Reads all charges of the months from `first` on (`2026-11`; empty for all), oldest first.
pub fn read_from(layout: &Layout, first: &str) -> Result<Month> {
    let mut months = file::names(&layout.cost()).context("could not list the spend ledger")?;
    months.retain(|name| name.ends_with(".jsonl") && name.as_str() >= first);
    let (mut all, renames) = (Month::default(), renames(layout)?);
    for name in months {
        let path = layout.cost().join(name);
        let bytes = file::read(&path, MAX_LEDGER_BYTES).doing("read", &path)?.unwrap_or_default();
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.is_empty()) {
            match serde_json::from_str(line) {
                Ok(charge) => all.charges.push(renamed(charge, &renames)),
                Err(_) => all.bad_lines += 1,
            }
        }
    }
    Ok(all)
}

/// Reads the sums beside the ledger and adds what was appended since; on another day, computes them again.
///
/// # Errors
/// Names the unreadable file: an unreadable ledger never counts as unspent.
pub fn totals(layout: &Layout, now: Now) -> Result<Totals> {
    let month = layout.cost().join(format!("{}.jsonl", now.month()));
    let (day, hour) = (now.day(), budget::hour_of(now));
    let known = read_json::<Totals>(&layout.cost().join("totals.json")).ok().flatten();
    // If the clock was set back, a stored hour can be in the future.
    let known = known.filter(|known| known.day == day && known.hour <= hour);
    let empty = || Totals { day: day.clone(), hour, ..Totals::default() };
    let mut totals = known.unwrap_or_else(empty);
    let mut tail = behind(&month, totals.ledger_bytes)?;
    if tail.is_none() {
        // The ledger is shorter than what was summed up, or was edited: sum up all of it again.
        totals = empty();
        tail = behind(&month, 0)?;
    }
    if totals.hour != hour {
        (totals.hour, totals.spending.hour_micros) = (hour, 0);
    }
    let (bytes, renames) = (tail.unwrap_or_default(), renames(layout)?);
    for charge in parse_lines(&String::from_utf8_lossy(&bytes)) {
        totals.add(&renamed(charge, &renames), now);
    }
    totals.ledger_bytes += bytes.len() as u64;
    Ok(totals)
}

/// Reads the whole lines of a file after the line end at `from`; `None` if no line ends there.
fn behind(path: &Path, from: u64) -> Result<Option<Vec<u8>>> {
    let read = || -> std::io::Result<Option<Vec<u8>>> {
        let Some(mut file) = file::present(File::open(path))? else { return Ok((from == 0).then(Vec::new)) };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from.saturating_sub(1)))?;
        file.take(MAX_LEDGER_BYTES as u64).read_to_end(&mut bytes)?;
        if from > 0 && bytes.first() != Some(&b'\n') {
            return Ok(None);
        }
        bytes.drain(..usize::from(from > 0));
        // A line that is still being written has no line end yet; it is read once it has one.
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        Ok(Some(bytes))
    };
    read().doing("read", path)
}

/// Writes the sums beside the ledger, so that these lines are not read again.
pub fn save_totals(layout: &Layout, totals: &Totals) -> Result<()> {
    file::write(&layout.cost().join("totals.json"), json_line(totals)?.as_bytes(), 0o600, Durability::Atomic)
}

/// Syncs the whole ledger.
pub fn sync(layout: &Layout) -> Result<()> {
    let names = file::names(&layout.cost()).context("could not list the spend ledger")?;
    let mut months = names.iter().filter(|name| name.ends_with(".jsonl"));
    months.try_for_each(|name| file::sync(&layout.cost().join(name)))
}

/// Returns true if the ledger has a charge of this beat, whose call began at `at_ms`.
pub fn has_beat(layout: &Layout, beat: &str, at_ms: i64, now: Now) -> Result<bool> {
    // A charge has the day of the call's end; the day before its start covers a change of the time zone.
    let first = now.at(at_ms.min(now.unix_ms) - DAY_MS).month();
    Ok(read_from(layout, &first)?.charges.iter().any(|charge| charge.beat == beat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::cost::charge::Usage;
    use crate::store::layout::tests::temporary;

    const NOV_30: Now = Now::fixed(1_796_081_400_000, 0);

    fn charge(beat: &str, at: Now) -> Charge {
        Charge::new(at, beat, "r", Usage::unknown())
    }

    #[test]
    fn the_most_expensive_decision_estimates_a_lost_call() {
        let (_dir, layout) = temporary();
        file::make_dir(&layout.cost()).unwrap();
        let add = |runner: &str, worker: Option<&str>, usage: Usage| {
            let (runner, worker) = (runner.to_owned(), worker.map(str::to_owned));
            append(&layout, &Charge { runner, worker, usage, ..charge("b", NOV_30) }).unwrap();
        };
        let cost = |cost_micros| Usage { cost_micros, ..Usage::nothing() };
        add("a", None, cost(30));
        add("a", None, cost(10));
        add("a", Some("w"), cost(500));
        add("c", Some("w"), cost(500));
        add("a", None, Usage::assumed(900));
        add("b", None, Usage::estimate(4, 4));
        for _ in 0..2 {
            let totals = totals(&layout, NOV_30).unwrap();
            let max_call = ["a", "b", "c"].map(|runner| totals.max_call_cost(runner));
            assert_eq!(max_call, [Some(30), None, None], "assumed prices and workers' words measure nothing");
            assert_eq!((totals.spending.day_micros, totals.unpriced), (1940, 2));
            save_totals(&layout, &totals).unwrap();
        }
    }

    #[test]
    fn a_charge_is_found_after_others_and_in_another_month() {
        let (_dir, layout) = temporary();
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

    #[test]
    fn sums_follow_a_ledger_that_grows_is_torn_or_edited() {
        const MORNING: Now = Now::fixed(NOV_30.unix_ms - 12 * 3_600_000, 0);
        let (_dir, layout) = temporary();
        file::make_dir(&layout.cost()).unwrap();
        let path = layout.cost().join("2026-11.jsonl");
        let spend = |at: Now, micros| {
            let usage = Usage { cost_micros: micros, ..Usage::nothing() };
            append(&layout, &Charge { goal: Some("g".to_owned()), usage, ..charge("b", at) }).unwrap();
        };
        let sums = |now: Now| {
            let totals = totals(&layout, now).unwrap();
            save_totals(&layout, &totals).unwrap();
            let spent = totals.spending;
            let of = |map: &BTreeMap<String, u64>, key: &str| map.get(key).copied().unwrap_or(0);
            (spent.hour_micros, spent.day_micros, of(&spent.goal_micros, "g"), of(&spent.runner_micros, "r"))
        };
        assert_eq!(sums(MORNING), (0, 0, 0, 0), "there is no ledger");
        spend(MORNING, 5);
        assert_eq!(sums(MORNING), (5, 5, 5, 5));
        spend(MORNING, 7);
        assert_eq!(sums(MORNING), (12, 12, 12, 12), "what came behind what was summed up");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], b"{\"at_ms\":1"].concat()).unwrap();
        assert_eq!(sums(MORNING), (12, 12, 12, 12), "a line that is torn, or being written");
        spend(MORNING, 1);
        assert_eq!(sums(MORNING), (13, 13, 13, 13));
        let later = MORNING.at(MORNING.unix_ms + 3_600_000);
        assert_eq!(later.day(), MORNING.day());
        assert_eq!(sums(later), (0, 13, 13, 13), "another hour");
        spend(later, 2);
        assert_eq!(sums(later), (2, 15, 15, 15));
        assert_eq!(sums(MORNING), (13, 15, 15, 15), "a clock that was set back");
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(sums(MORNING), (5, 5, 5, 5), "a ledger that a human has cut");
        std::fs::write(&path, [b"#".repeat(whole.len()), whole].concat()).unwrap();
        // Its first line is invalid, and its sums are new.
        assert_eq!(sums(MORNING), (7, 7, 7, 7), "or rewritten");
    }
}
