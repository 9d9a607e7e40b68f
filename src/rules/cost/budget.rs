//! Pure. Budgets: how much may be spent per hour, per day, per goal and per runner, and when each cap resets.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::charge::dollars;
use crate::rules::time::Now;

/// The assumed cost of a call if its runner has never reported a price, in millionths of a US dollar.
pub const UNKNOWN_CALL_MICROS: u64 = 250_000;

/// Caps in millionths of a US dollar; absent: no cap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Per hour of the local clock.
    pub hour_micros: Option<u64>,
    /// Per local day.
    pub day_micros: Option<u64>,
    /// Per goal and local day.
    pub goal_micros: Option<u64>,
    /// Per local day through one runner, by its name.
    pub runner_micros: BTreeMap<String, u64>,
}

/// What was spent, in millionths of a US dollar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spending {
    /// In the present hour.
    pub hour_micros: u64,
    /// In the present day.
    pub day_micros: u64,
    /// For each goal, in the present day.
    pub goal_micros: BTreeMap<String, u64>,
    /// Through each runner, in the present day.
    pub runner_micros: BTreeMap<String, u64>,
}

impl Spending {
    /// Adds a charge of the present day; if `this_hour` is true, also to the present hour.
    pub fn add(&mut self, micros: u64, goal: Option<&str>, runner: &str, this_hour: bool) {
        let more = |sum: &mut u64| *sum = sum.saturating_add(micros);
        more(&mut self.day_micros);
        if this_hour {
            more(&mut self.hour_micros);
        }
        if micros > 0 {
            more(self.runner_micros.entry(runner.to_owned()).or_default());
            if let Some(goal) = goal {
                more(self.goal_micros.entry(goal.to_owned()).or_default());
            }
        }
    }
}

/// The reservation for a call that is running or about to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserved {
    /// Millionths of a US dollar.
    pub micros: u64,
    /// The goal of the call, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// The runner that makes the call.
    pub runner: String,
}

/// The raises of caps, by the window's name.
pub type Raised = BTreeMap<String, Raise>;

/// A raise of one cap for one window. In a file it is a number, or `{"to_micros":N}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Raise {
    /// Adds the cap itself this many times.
    Times(u32),
    /// Raises the limit to this amount, in millionths of a US dollar.
    To(u64),
}

impl TryFrom<Value> for Raise {
    type Error = String;

    fn try_from(value: Value) -> Result<Raise, String> {
        let times = value.as_u64().and_then(|times| u32::try_from(times).ok()).map(Raise::Times);
        let to = || Some(Raise::To(value.get("to_micros")?.as_u64()?));
        times.or_else(to).ok_or_else(|| format!("{value} does not say how far a budget is raised"))
    }
}

impl From<Raise> for Value {
    fn from(raise: Raise) -> Value {
        match raise {
            Raise::Times(times) => times.into(),
            Raise::To(to_micros) => serde_json::json!({ "to_micros": to_micros }),
        }
    }
}

impl Raise {
    /// Returns the raised limit of a cap.
    pub fn limit(self, cap_micros: u64) -> u64 {
        match self {
            Raise::Times(times) => cap_micros.saturating_mul(u64::from(times).saturating_add(1)),
            Raise::To(limit) => limit.max(cap_micros),
        }
    }
}

/// A cap that leaves no room for one more call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BudgetExceeded {
    /// The cap and the time for which it holds: `day 2026-11-21`, `goal ship 2026-11-21`.
    pub window: String,
    /// The key in the config that sets the cap.
    pub key: String,
    /// The cap in the config, in millionths of a US dollar.
    pub cap_micros: u64,
    /// The cap plus what the user has added to it.
    pub limit_micros: u64,
    /// What was spent.
    pub spent_micros: u64,
    /// What is reserved for calls that are running.
    pub reserved_micros: u64,
    /// What the next call needs.
    pub wants_micros: u64,
    /// When the cap resets, in milliseconds since the Unix epoch.
    pub resets_ms: i64,
}

impl BudgetExceeded {
    /// The message about the cap, with the local time of its reset.
    pub fn words(&self, now: Now) -> String {
        let spent = format!("{} of {} spent", dollars(self.spent_micros), dollars(self.limit_micros));
        let held = match self.reserved_micros {
            0 => String::new(),
            micros => format!(", {} reserved for running calls", dollars(micros)),
        };
        let next = match self.spent_micros < self.limit_micros {
            true => format!(", {} needed for the next call", dollars(self.wants_micros)),
            false => String::new(),
        };
        let until = now.at(self.resets_ms).local().strftime("%Y-%m-%d %H:%M");
        format!("the budget of {} is used up ({spent}{held}{next}); it resets at {until}", self.window)
    }
}

impl Budget {
    /// Returns the limit of the present day, including what the user has added.
    pub fn day_limit(&self, raised: &Raised, now: Now) -> Option<u64> {
        let window = format!("day {}", DAY.name(now));
        self.day_micros.map(|cap| with_raises(cap, raised, &window))
    }
}

fn with_raises(cap_micros: u64, raised: &Raised, window: &str) -> u64 {
    raised.get(window).map_or(cap_micros, |raise| raise.limit(cap_micros))
}

/// Returns each cap that leaves no room for this call, given what was spent and what is reserved for others; the one that
/// resets last is at the end. A call that needs more than a whole cap has room as long as nothing was spent.
pub fn all_exceeded(
    budget: &Budget,
    spent: &Spending,
    others: &[Reserved],
    raised: &Raised,
    wanted: &Reserved,
    now: Now,
) -> Vec<BudgetExceeded> {
    let reserved = |counts: &dyn Fn(&Reserved) -> bool| {
        others.iter().filter(|one| counts(one)).fold(0_u64, |sum, one| sum.saturating_add(one.micros))
    };
    let of = |sums: &BTreeMap<String, u64>, key: &str| sums.get(key).copied().unwrap_or(0);
    let all = reserved(&|_| true);
    let runner = &wanted.runner;
    let goal = wanted.goal.as_deref().unwrap_or_default();
    let of_goal = reserved(&|one| one.goal == wanted.goal);
    let of_runner = reserved(&|one| one.runner == *runner);
    let goal_cap = budget.goal_micros.filter(|_| wanted.goal.is_some());
    let runner_cap = budget.runner_micros.get(runner).copied();
    let [goal_spent, runner_spent] = [of(&spent.goal_micros, goal), of(&spent.runner_micros, runner)];
    let caps = [
        ("hour".to_owned(), "budget.hour_usd", budget.hour_micros, spent.hour_micros, all, HOUR),
        ("day".to_owned(), "budget.day_usd", budget.day_micros, spent.day_micros, all, DAY),
        (format!("goal {goal}"), "budget.goal_usd", goal_cap, goal_spent, of_goal, DAY),
        (format!("runner {runner}"), "budget.runner_usd", runner_cap, runner_spent, of_runner, DAY),
    ];
    let mut hits = Vec::new();
    for (what, key, cap_micros, spent_micros, reserved_micros, period) in caps {
        let Some(cap_micros) = cap_micros else { continue };
        let window = format!("{what} {}", period.name(now));
        let limit_micros = with_raises(cap_micros, raised, &window);
        let left = limit_micros.saturating_sub(spent_micros).saturating_sub(reserved_micros);
        if spent_micros >= limit_micros || wanted.micros.min(limit_micros) > left {
            hits.push(BudgetExceeded {
                window,
                key: key.to_owned(),
                cap_micros,
                limit_micros,
                spent_micros,
                reserved_micros,
                wants_micros: wanted.micros,
                resets_ms: period.end_ms(now),
            });
        }
    }
    hits
}

/// The span of local time for which a cap holds.
#[derive(Clone, Copy)]
struct BudgetPeriod {
    span_ms: i64,
    /// The format of its name.
    name: &'static str,
}

const HOUR: BudgetPeriod = BudgetPeriod { span_ms: 3_600_000, name: "%Y-%m-%dT%H" };
const DAY: BudgetPeriod = BudgetPeriod { span_ms: 86_400_000, name: "%Y-%m-%d" };

impl BudgetPeriod {
    fn name(self, now: Now) -> String {
        now.local().strftime(self.name).to_string()
    }

    /// Returns the number of completed spans of local time since the epoch.
    fn nth(self, now: Now) -> i64 {
        now.unix_ms.saturating_add(i64::from(now.offset_s()) * 1000).div_euclid(self.span_ms)
    }

    fn end_ms(self, now: Now) -> i64 {
        let next = self.nth(now).saturating_add(1).saturating_mul(self.span_ms);
        let end = |offset_s: i32| next.saturating_sub(i64::from(offset_s) * 1000);
        // Summer time may begin or end before that. An hour that it skips has no end of its own.
        let first = end(now.offset_s());
        Some(end(now.at(first).offset_s())).filter(|end| *end > now.unix_ms).unwrap_or(first)
    }
}

/// Returns the number of the local hour since the epoch.
pub fn hour_of(now: Now) -> i64 {
    HOUR.nth(now)
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
