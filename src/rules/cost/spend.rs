//! Pure. Reports over the spend ledger: rows whose sum is exact to the micro-dollar.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::charge::{Charge, CostSource, Usage};

/// The grouping of a spend report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// The local day.
    Day,
    Goal,
    Worker,
    Runner,
    Model,
    /// The sensor that woke the beat. If several sensors woke it, the call counts for each, and its tokens and price
    /// are divided.
    Sensor,
    Beat,
}

/// One row of a spend report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct SpendRow {
    /// The key of the group.
    pub key: String,
    /// Number of runner calls.
    pub calls: u64,
    /// Input tokens that did not come from a cache.
    pub tokens_in: u64,
    /// Input tokens read from a cache.
    pub tokens_cached: u64,
    /// Input tokens written to a cache.
    pub tokens_written: u64,
    /// Output tokens.
    pub tokens_out: u64,
    /// How many of the output tokens were reasoning.
    pub tokens_reasoning: u64,
    /// How many of all tokens runners used for internal purposes.
    pub tokens_background: u64,
    /// Millionths of a US dollar.
    pub cost_micros: u64,
    /// How many of them were assumed, because the call was interrupted.
    pub assumed_micros: u64,
    /// Number of calls with an unknown price.
    pub unpriced: u64,
}

impl SpendRow {
    /// Adds the part with this index of a usage that `parts` rows divide without a remainder.
    fn add(&mut self, usage: &Usage, index: u64, parts: u64) {
        let add = |sum: &mut u64, whole: u64| {
            *sum = sum.saturating_add(whole / parts + u64::from(index < whole % parts));
        };
        self.calls += 1;
        add(&mut self.tokens_in, usage.tokens_in);
        add(&mut self.tokens_cached, usage.tokens_cached);
        add(&mut self.tokens_written, usage.tokens_written);
        add(&mut self.tokens_out, usage.tokens_out);
        add(&mut self.tokens_reasoning, usage.tokens_reasoning);
        add(&mut self.tokens_background, usage.tokens_background);
        add(&mut self.cost_micros, usage.cost_micros);
        if usage.basis == CostSource::Assumed {
            add(&mut self.assumed_micros, usage.cost_micros);
        }
        self.unpriced += u64::from(!usage.basis.is_metered());
    }

    /// The percentage of the input that came from a cache; `None` without input.
    pub fn cached_percent(&self) -> Option<u64> {
        let all =
            u128::from(self.tokens_in) + u128::from(self.tokens_cached) + u128::from(self.tokens_written);
        (all > 0).then(|| u64::try_from(u128::from(self.tokens_cached) * 100 / all).unwrap_or(100))
    }
}

/// Sums charges into rows, sorted by key.
pub fn report(charges: &[Charge], by: GroupBy) -> Vec<SpendRow> {
    let mut rows: BTreeMap<String, SpendRow> = BTreeMap::new();
    for charge in charges {
        let keys = keys(charge, by);
        let parts = keys.len() as u64;
        for (index, key) in (0..).zip(keys) {
            let row = rows.entry(key.clone()).or_insert_with(|| SpendRow { key, ..SpendRow::default() });
            row.add(&charge.usage, index, parts);
        }
    }
    rows.into_values().collect()
}

/// Sums all charges into one row.
pub fn total(charges: &[Charge]) -> SpendRow {
    let mut row = SpendRow { key: "total".to_owned(), ..SpendRow::default() };
    charges.iter().for_each(|charge| row.add(&charge.usage, 0, 1));
    row
}

fn keys(charge: &Charge, by: GroupBy) -> Vec<String> {
    let or_none = |text: &Option<String>| vec![text.clone().unwrap_or_else(|| "(none)".to_owned())];
    match by {
        GroupBy::Day => vec![charge.day.clone()],
        GroupBy::Goal => or_none(&charge.goal),
        GroupBy::Worker => or_none(&charge.worker),
        GroupBy::Runner => vec![charge.runner.clone()],
        GroupBy::Model => or_none(&charge.usage.model),
        GroupBy::Sensor if charge.sensors.is_empty() => vec!["(none)".to_owned()],
        GroupBy::Sensor => charge.sensors.clone(),
        GroupBy::Beat => vec![charge.beat.clone()],
    }
}

/// The columns of a report in CSV format, in this order.
const COLUMNS: &str = "key,calls,tokens_in,tokens_cached,tokens_written,tokens_out,tokens_reasoning,\
                       tokens_background,cost_micros,assumed_micros,unpriced\n";

/// Formats a report as CSV with a heading, as in RFC 4180 except for the line ends.
pub fn csv(rows: &[SpendRow]) -> String {
    let mut text = COLUMNS.to_owned();
    for row in rows {
        // Spreadsheets treat such a text as a formula, and names of models come from outside.
        let formula = row.key.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let key = format!("{}{}", if formula { "'" } else { "" }, row.key);
        let quoted = key.contains([',', '"', '\n', '\r']);
        let key = if quoted { format!("\"{}\"", key.replace('"', "\"\"")) } else { key };
        let figures = [
            row.calls,
            row.tokens_in,
            row.tokens_cached,
            row.tokens_written,
            row.tokens_out,
            row.tokens_reasoning,
            row.tokens_background,
            row.cost_micros,
            row.assumed_micros,
            row.unpriced,
        ];
        let figures: String = figures.iter().map(|figure| format!(",{figure}")).collect();
        text.push_str(&format!("{key}{figures}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::time::Now;
    use proptest::prelude::*;

    fn charge(day: &str, sensors: &[&str], micros: u64, basis: CostSource) -> Charge {
        let usage = Usage { cost_micros: micros, basis, ..Usage::estimate(40, 8) };
        let sensors = sensors.iter().map(|s| (*s).to_owned()).collect();
        let now = Now::fixed(0, 0);
        Charge { day: day.to_owned(), sensors, ..Charge::new(now, "b", "pi", usage) }
    }

    #[test]
    fn rows_sum_and_report_unpriced_calls() {
        let all = [
            charge("d1", &["git", "ci"], 100, CostSource::Reported),
            charge("d1", &["git"], 0, CostSource::Estimated),
            charge("d2", &[], 50, CostSource::Priced),
            charge("d3", &[], 7, CostSource::Assumed),
        ];
        let days = report(&all, GroupBy::Day);
        let row = |row: &SpendRow| (row.key.clone(), row.calls, row.cost_micros, row.unpriced);
        assert_eq!(row(&days[0]), ("d1".to_owned(), 2, 100, 1));
        assert_eq!((days[1].unpriced, days[2].unpriced, days[2].assumed_micros), (0, 1, 7));
        let sensors = report(&all, GroupBy::Sensor);
        let calls: Vec<(&str, u64)> = sensors.iter().map(|r| (r.key.as_str(), r.calls)).collect();
        assert_eq!(calls, [("(none)", 2), ("ci", 1), ("git", 2)]);
        assert_eq!(sensors[1].cost_micros + sensors[2].cost_micros, 100, "divided, not counted twice");
    }

    #[test]
    fn the_cached_share_is_of_all_input() {
        let row = SpendRow { tokens_in: 10, tokens_cached: 80, tokens_written: 10, ..SpendRow::default() };
        assert_eq!((row.cached_percent(), SpendRow::default().cached_percent()), (Some(80), None));
    }

    #[test]
    fn a_hostile_key_stays_one_field() {
        let row = SpendRow { key: "=cmd(\"x\"),\ny".to_owned(), calls: 1, ..SpendRow::default() };
        let text = csv(&[row]);
        assert!(text.contains("\n\"'=cmd(\"\"x\"\"),\ny\",1,0,"), "{text}");
        assert_eq!(COLUMNS.matches(',').count(), 10);
    }

    proptest! {
        #[test]
        fn rows_add_up_to_the_total_whatever_they_are_grouped_by(
            all in proptest::collection::vec((0_u64..1 << 40, 0_usize..5, 0_u64..1000), 0..40),
        ) {
            let names = ["a", "b", "c", "d"];
            let charges: Vec<Charge> = all
                .iter()
                .map(|(micros, sensors, tokens)| {
                    let mut one = charge("d", &names[..*sensors], *micros, CostSource::Reported);
                    one.usage.tokens_out = *tokens;
                    one
                })
                .collect();
            let whole = total(&charges);
            for by in [GroupBy::Day, GroupBy::Goal, GroupBy::Sensor, GroupBy::Model, GroupBy::Beat, GroupBy::Runner, GroupBy::Worker] {
                let rows = report(&charges, by);
                prop_assert_eq!(rows.iter().map(|r| r.cost_micros).sum::<u64>(), whole.cost_micros);
                prop_assert_eq!(rows.iter().map(|r| r.tokens_out).sum::<u64>(), whole.tokens_out);
            }
        }
    }
}
