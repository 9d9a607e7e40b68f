//! Budgets on disk: money reserved for calls in progress, and caps that the user has raised.
//!
//! `cost/reserved.json` holds one reservation per caller. A reservation counts only while its caller lives, which its
//! lock shows: the kernel releases the lock on any death, so a crash leaves no money reserved.

use std::collections::BTreeMap;

use anyhow::Result;

use super::file::Durability;
use super::layout::Layout;
use super::ledger::{self, Totals};
use super::{Denied, lock, workers};
use crate::rules::cost::budget::{
    self, Budget, BudgetExceeded, Raise, Raised, Reserved, UNKNOWN_CALL_MICROS,
};
use crate::rules::cost::charge::dollars;
use crate::rules::fault::Fault;
use crate::rules::name::Name;
use crate::rules::time::Now;
use crate::rules::worker::Spec;
use crate::store::json_file;

/// The key of the decider's reservation. The parentheses keep it distinct from every worker's name.
const BEAT: &str = "(beat)";

/// A call that a caller wants to make.
#[derive(Clone, Copy, Debug)]
pub struct BudgetRequest<'a> {
    /// The key of its reservation: a worker's name, or that of the beat. Empty for a later caller, for which nothing is
    /// reserved.
    caller: &'a str,
    pub runner: &'a str,
    /// The goal of the call, if known.
    pub goal: Option<&'a Name>,
    /// What its caller may still spend of its own budget, in millionths of a US dollar.
    pub left_micros: Option<u64>,
}

impl<'a> BudgetRequest<'a> {
    /// Describes the beat's next decision.
    pub fn decision(runner: &'a str, goal: Option<&'a Name>) -> BudgetRequest<'a> {
        BudgetRequest { caller: BEAT, runner, goal, left_micros: None }
    }

    /// Describes a worker's next turn, after it has spent `spent_micros`.
    pub fn turn(spec: &'a Spec, spent_micros: u64) -> BudgetRequest<'a> {
        let own = own_budget(spec);
        BudgetRequest {
            caller: spec.id.as_str(),
            runner: runner_of(spec),
            goal: spec.goal.as_ref(),
            left_micros: own.map(|(micros, _)| micros.saturating_sub(spent_micros)),
        }
    }

    /// Computes the reservation from what looop itself has seen this runner cost. Reports of a worker never enlarge it.
    fn reserved(&self, totals: &Totals) -> Reserved {
        let max_call = totals.max_call_cost(self.runner).unwrap_or(UNKNOWN_CALL_MICROS);
        Reserved {
            micros: max_call.min(self.left_micros.unwrap_or(u64::MAX)),
            goal: self.goal.map(Name::to_string),
            runner: self.runner.to_owned(),
        }
    }
}

/// Returns the runner name under which a worker's spending is counted, whatever the worker reports.
pub fn runner_of(spec: &Spec) -> &str {
    spec.runner.as_ref().unwrap_or(&spec.kind)
}

/// Returns the budget of this worker alone, and the config keys that set it.
pub fn own_budget(spec: &Spec) -> Option<(u64, &'static str)> {
    spec.limits.own_budget(spec.goal.as_ref(), runner_of(spec))
}

/// Returns the id of the ask that reports a used-up cap.
pub fn ask_id(exceeded: &BudgetExceeded) -> Name {
    Name::joined("budget", &exceeded.window.to_lowercase().replace(' ', "-"))
}

/// The state of the budget.
#[derive(Debug, Default)]
pub struct BudgetStatus {
    /// The cap that leaves no room for the requested call.
    pub capped: Option<BudgetExceeded>,
    /// Spending of the current day, in millionths of a US dollar; 0 if no cap is set.
    pub day_spent_micros: u64,
    /// The limit of the current day.
    pub day_limit_micros: Option<u64>,
}

/// Checks whether there is room for this call now; reserves nothing.
///
/// # Errors
/// When a file cannot be read: unknown spending never counts as zero.
pub fn status(layout: &Layout, budget: &Budget, wanted: BudgetRequest, now: Now) -> Result<BudgetStatus> {
    if *budget == Budget::default() {
        return Ok(BudgetStatus::default());
    }
    let totals = ledger::totals(layout, now)?;
    Ok(BudgetStatus {
        capped: with_call(layout, budget, wanted, &totals, now)?.1,
        day_spent_micros: totals.spending.day_micros,
        day_limit_micros: budget.day_limit(&raised(layout)?, now),
    })
}

/// Reserves what this call may cost, in place of the caller's earlier reservation. The caller holds the store's lock, so that two callers never take the same money.
///
/// # Errors
/// As [`status`], when a cap has no room for the call, and when the reservation cannot be written.
pub fn reserve(
    layout: &Layout,
    budget: &Budget,
    wanted: BudgetRequest,
    now: Now,
) -> Result<(), Denied<BudgetExceeded>> {
    if *budget == Budget::default() {
        return Ok(());
    }
    let totals = ledger::totals(layout, now)?;
    ledger::save_totals(layout, &totals)?;
    let (reservations, exceeded) = with_call(layout, budget, wanted, &totals, now)?;
    json_file::write_json(&layout.reserved(), &reservations, Durability::Atomic)?;
    exceeded.map_or(Ok(()), |exceeded| Err(Denied::Refused(exceeded)))
}

/// Returns the reservations of callers that live, with this call if there is room, and the cap that has no room for it.
fn with_call(
    layout: &Layout,
    budget: &Budget,
    wanted: BudgetRequest,
    totals: &Totals,
    now: Now,
) -> Result<(BTreeMap<String, Reserved>, Option<BudgetExceeded>)> {
    let mut reservations = others(layout, wanted.caller)?;
    let others: Vec<Reserved> = reservations.values().cloned().collect();
    let reserved = wanted.reserved(totals);
    let exceeded =
        budget::all_exceeded(budget, &totals.spending, &others, &raised(layout)?, &reserved, now).pop();
    if exceeded.is_none() {
        reservations.insert(wanted.caller.to_owned(), reserved);
    }
    Ok((reservations, exceeded))
}

/// A cap that was raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapRaise {
    /// The cap as it was before.
    pub exceeded: BudgetExceeded,
    /// Its new limit, in millionths of a US dollar.
    pub limit_micros: u64,
}

/// Raises each cap that leaves no room for a call through one of these runners, or for one of these goals: once, by the
/// cap itself or to `amount`. Each raise holds until its window ends.
///
/// # Errors
/// As [`status`]; when a cap is 0 and no amount is given; when the amount raises nothing; and when the raise cannot be
/// written.
pub fn raise(
    layout: &Layout,
    budget: &Budget,
    runners: &[String],
    goals: &[Name],
    amount: Option<u64>,
    now: Now,
) -> Result<Vec<CapRaise>> {
    let _held = lock::store(&layout.store_lock())?;
    let totals = ledger::totals(layout, now)?;
    let others: Vec<Reserved> = others(layout, "")?.into_values().collect();
    let mut raised = raised(layout)?;
    let before = raised.clone();
    // Raises for another day have expired.
    raised.retain(|window, _| window.contains(&now.day()));
    let mut caps: Vec<CapRaise> = Vec::new();
    let each_goal = || [None].into_iter().chain(goals.iter().map(Some));
    for (runner, goal) in runners.iter().flat_map(|runner| each_goal().map(move |goal| (runner, goal))) {
        let wanted = BudgetRequest { caller: "", runner, goal, left_micros: None }.reserved(&totals);
        for exceeded in budget::all_exceeded(budget, &totals.spending, &others, &before, &wanted, now) {
            if caps.iter().any(|cap| cap.exceeded.window == exceeded.window) {
                continue;
            }
            let raise = next_raise(&exceeded, before.get(&exceeded.window).copied(), amount)?;
            raised.insert(exceeded.window.clone(), raise);
            caps.push(CapRaise { limit_micros: raise.limit(exceeded.cap_micros), exceeded });
        }
    }
    if !caps.is_empty() {
        json_file::write_json(&layout.raised(), &raised, Durability::Durable)?;
    }
    Ok(caps)
}

fn next_raise(exceeded: &BudgetExceeded, before: Option<Raise>, amount: Option<u64>) -> Result<Raise> {
    match (amount, before) {
        (Some(amount), _) if amount <= exceeded.limit_micros => {
            let what = format!("could not raise {} to {}", exceeded.key, dollars(amount));
            let limit = dollars(exceeded.limit_micros);
            Err(Fault::usage(format!("{what}: the budget of {} is {limit} already", exceeded.window))
                .hint(format!("name more than {limit}, or leave the amount out"))
                .into())
        }
        (Some(amount), _) => Ok(Raise::To(amount)),
        (None, _) if exceeded.cap_micros == 0 => {
            Err(Fault::failed(format!("could not raise {}: it is 0", exceeded.key))
                .hint("name an amount, as `looop resume --budget 5`")
                .into())
        }
        (None, Some(Raise::Times(times))) => Ok(Raise::Times(times.saturating_add(1))),
        (None, Some(Raise::To(limit))) => Ok(Raise::To(limit.saturating_add(exceeded.cap_micros))),
        (None, None) => Ok(Raise::Times(1)),
    }
}

/// Counts what a goal has spent, and the raises of its cap, for its new name. The caller holds the store's lock.
pub fn rename_goal(layout: &Layout, from: &Name, to: &Name, now: Now) -> Result<()> {
    let before = raised(layout)?;
    let window = |goal: &Name| format!("goal {goal} ");
    let moved = |(name, raise): (&String, &Raise)| match name.strip_prefix(&window(from)) {
        Some(period) => (window(to) + period, *raise),
        None => (name.clone(), *raise),
    };
    let after: Raised = before.iter().map(moved).collect();
    if after != before {
        json_file::write_json(&layout.raised(), &after, Durability::Durable)?;
    }
    ledger::rename_goal(layout, from, to, now)
}

fn raised(layout: &Layout) -> Result<Raised> {
    Ok(json_file::read_json(&layout.raised())?.unwrap_or_default())
}

/// Sums the reservations of other callers that live.
fn others(layout: &Layout, own: &str) -> Result<BTreeMap<String, Reserved>> {
    // The file is not synced. A power loss can tear it, but then no caller that had reserved something still lives.
    let known = json_file::read_json::<BTreeMap<String, Reserved>>(&layout.reserved());
    let mut all = known.ok().flatten().unwrap_or_default();
    all.remove(own);
    let mut alive = BTreeMap::new();
    for (key, reserved) in all {
        if lives(layout, &key)? {
            alive.insert(key, reserved);
        }
    }
    Ok(alive)
}

fn lives(layout: &Layout, key: &str) -> Result<bool> {
    if key != BEAT {
        return Name::parse(key).map_or(Ok(false), |id| workers::is_alive(&layout.worker(&id)));
    }
    lock::is_taken(&layout.tick_lock())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use std::fs::File;

    use crate::rules::cost::charge::{Charge, Usage};
    use crate::store::file;

    const NOW: Now = Now::fixed(1_795_265_100_000, 0);
    const CAP: u64 = 1_000;
    const MAX_CALL: u64 = 100;

    struct BudgetModel {
        dir: tempfile::TempDir,
        budget: Budget,
        alive: BTreeMap<String, lock::Held>,
    }

    impl BudgetModel {
        /// Makes a profile in which one decision has cost [`MAX_CALL`], on another day.
        fn new(budget: Budget) -> BudgetModel {
            let model = BudgetModel { dir: tempfile::tempdir().unwrap(), budget, alive: BTreeMap::new() };
            file::make_dir(&model.layout().cost()).unwrap();
            let beat_never_ran = model.layout().tick_lock();
            File::create(beat_never_ran).unwrap();
            model.charge(None, MAX_CALL, NOW.at(NOW.unix_ms - 86_400_000));
            model
        }

        fn layout(&self) -> Layout {
            Layout::new(self.dir.path().to_owned(), self.dir.path().join("cache"))
        }

        fn begins(&mut self, worker: &str) {
            let alive = self.layout().worker(&worker.parse().unwrap()).alive();
            file::make_dir(alive.parent().unwrap()).unwrap();
            self.alive.insert(worker.to_owned(), lock::store(&alive).unwrap());
        }

        fn spend(&self, worker: &str, cost_micros: u64) {
            self.charge(Some(worker), cost_micros, NOW);
        }

        fn charge(&self, worker: Option<&str>, cost_micros: u64, at: Now) {
            let charge = Charge::new(at, "b", "pi", Usage { cost_micros, ..Usage::nothing() });
            let worker = worker.map(str::to_owned);
            ledger::append(&self.layout(), &Charge { worker, ..charge }).unwrap();
        }

        fn reserves(&self, worker: &str) -> bool {
            let id: Name = worker.parse().unwrap();
            let wanted = BudgetRequest { caller: id.as_str(), runner: "pi", goal: None, left_micros: None };
            reserves(reserve(&self.layout(), &self.budget, wanted, NOW))
        }
    }

    fn reserves(reserved: Result<(), Denied<BudgetExceeded>>) -> bool {
        reserved.map_err(|denied| denied.refusal().unwrap()).is_ok()
    }

    fn day(micros: u64) -> Budget {
        Budget { day_micros: Some(micros), ..Budget::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Workers run in parallel, in any order, each with a turn in progress: together they stay below the cap, plus
        /// at most what one turn costs more than the runner's most expensive decision.
        #[test]
        fn workers_side_by_side_keep_to_a_cap(steps in proptest::collection::vec((0..5_usize, 1..=MAX_CALL), 1..80), costly in 0..80_usize) {
            let mut model = BudgetModel::new(day(CAP));
            let mut under_way = [false; 5];
            let names = ["w1", "w2", "w3", "w4", "w5"];
            names.iter().for_each(|name| model.begins(name));
            let (mut sum, mut excess) = (0, 0);
            for (nth, (worker, cost)) in steps.into_iter().enumerate() {
                if under_way[worker] {
                    let cost = if nth == costly { MAX_CALL * 2 } else { cost };
                    excess = excess.max(cost.saturating_sub(MAX_CALL));
                    model.spend(names[worker], cost);
                    sum += cost;
                }
                under_way[worker] = model.reserves(names[worker]);
            }
            prop_assert!(sum <= CAP + excess, "{sum} of {CAP}, {excess} over the dearest");
        }
    }

    #[test]
    fn a_reservation_ends_when_its_caller_dies() {
        let mut model = BudgetModel::new(day(150));
        model.begins("w1");
        assert!(model.reserves("w1"));
        model.begins("w2");
        assert!(!model.reserves("w2"), "two turns of 100 have no room in 150");
        model.alive.remove("w1");
        assert!(model.reserves("w2"));
        assert!(model.reserves("w2"), "a caller's next turn replaces its last one");
        std::fs::write(model.layout().reserved(), b"{ torn").unwrap();
        assert!(model.reserves("w2"), "after a power loss, no caller with a reservation lives");
    }

    #[test]
    fn a_decision_under_way_counts_while_its_beat_runs() {
        let mut model = BudgetModel::new(day(UNKNOWN_CALL_MICROS + 50));
        let beat = lock::store(&model.layout().tick_lock()).unwrap();
        let wanted = BudgetRequest::decision("claude", None);
        assert!(reserves(reserve(&model.layout(), &model.budget, wanted, NOW)));
        model.begins("w1");
        assert!(!model.reserves("w1"));
        drop(beat);
        assert!(model.reserves("w1"));
    }

    fn raised_to(model: &BudgetModel, amount: Option<u64>) -> Result<Vec<(String, u64)>> {
        let goals = ["g".parse().unwrap()];
        let caps = raise(&model.layout(), &model.budget, &["pi".to_owned()], &goals, amount, NOW)?;
        Ok(caps.into_iter().map(|cap| (cap.exceeded.window, cap.limit_micros)).collect())
    }

    fn to(limit: u64) -> [(String, u64); 1] {
        [("day 2026-11-21".to_owned(), limit)]
    }

    #[test]
    fn a_raise_adds_one_day_to_used_up_caps_only() {
        let model = BudgetModel::new(Budget { goal_micros: Some(200), ..day(150) });
        assert_eq!(raised_to(&model, None).unwrap(), [], "there is room");
        model.spend("w1", 149);
        assert!(!model.reserves("w1"));
        assert_eq!(raised_to(&model, None).unwrap(), to(300));
        assert!(model.reserves("w1"));
        assert_eq!(raised_to(&model, None).unwrap(), []);
        model.spend("w1", 10_000);
        assert_eq!(raised_to(&model, None).unwrap(), to(450), "once, whatever was spent");
        assert_eq!(raised_to(&model, None).unwrap(), to(600));
        let nothing = BudgetModel::new(day(0));
        let refused = raised_to(&nothing, None).unwrap_err();
        assert!(refused.to_string().contains("could not raise budget.day_usd: it is 0"));
        assert_eq!(raised_to(&nothing, Some(500)).unwrap(), to(500));
        assert!(nothing.reserves("w1"));
    }

    #[test]
    fn a_raise_to_an_amount_never_lowers_the_limit() {
        let model = BudgetModel::new(day(150));
        model.spend("w1", 140);
        for low in [0, 149, 150] {
            let refused = raised_to(&model, Some(low)).unwrap_err().to_string();
            assert!(refused.contains("could not raise budget.day_usd to $"), "{refused}");
        }
        assert_eq!(raised_to(&model, Some(180)).unwrap(), to(180));
        assert!(!model.reserves("w1"), "40 are left, and a turn may cost 100");
        assert_eq!(raised_to(&model, None).unwrap(), to(330));
        assert!(model.reserves("w1"));
        std::fs::write(model.layout().raised(), r#"{"day 2026-11-21":1}"#).unwrap();
        assert!(model.reserves("w1"), "the form of an earlier version, of 300");
    }

    #[test]
    fn reports_of_a_worker_do_not_change_a_reservation() {
        let mut model = BudgetModel::new(day(1_000));
        model.begins("w1");
        model.spend("w2", 700);
        assert!(model.reserves("w1"), "a decision has cost 100, whatever a worker reports");
        let reserved = || std::fs::read_to_string(model.layout().reserved()).unwrap();
        assert!(reserved().contains("\"micros\": 100"), "{}", reserved());
        let id: Name = "w1".parse().unwrap();
        let last = BudgetRequest { caller: id.as_str(), runner: "pi", goal: None, left_micros: Some(30) };
        assert!(reserves(reserve(&model.layout(), &model.budget, last, NOW)));
        assert!(reserved().contains("\"micros\": 30"), "no more than its own budget leaves: {}", reserved());
    }
}
