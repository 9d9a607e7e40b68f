//! What the workers of a simulation spend: turns that are under way side by side, each with its money set aside, and a
//! second account of all of it, by which what the rule for budgets allowed is looked at.

use std::collections::BTreeMap;

use looop::rules::cost::budget::{self, Budget, Raise, Raised, Reserved, Spending, hour_of};
use looop::rules::{name::Name, time::Now};

use super::{Mutant, outside::World};
use fastrand::Rng;

const GOALS: [&str; 2] = ["ship", "tidy"];
const RUNNERS: [&str; 2] = ["pi", "codex"];
/// What a runner's dearest turn is taken to cost before it is known, and what no turn costs more than.
const FIRST: u64 = 30_000;
const MOST: usize = 60_000;

/// Whether what is set aside for one call counts where another is looked at.
type Counts = fn(&Reserved, &Reserved) -> bool;

/// A worker's turn that is under way.
#[derive(Clone, Debug)]
struct Turn {
    aside: Reserved,
    /// The clock was set while it was under way, so that it falls into a time that it was not asked for.
    moved: bool,
}

/// What went through a cap's window: what was spent, and how much of that nobody could set aside before.
#[derive(Clone, Copy, Debug, Default)]
struct Went {
    spent: u64,
    unforeseen: u64,
}

#[derive(Debug, Default)]
pub struct BudgetModel {
    rng: Rng,
    budget: Budget,
    /// By the number of the start of the worker that makes it.
    turns: BTreeMap<u64, Turn>,
    max_call: BTreeMap<String, u64>,
    raised: Raised,
    /// By hour, by day, and by day and goal or runner, as they are named below.
    went: BTreeMap<String, Went>,
}

impl BudgetModel {
    pub fn new(seed: u64) -> BudgetModel {
        let runner_micros = BTreeMap::from([("codex".to_owned(), 300_000)]);
        let (hour_micros, day_micros) = (Some(200_000), Some(900_000));
        BudgetModel {
            rng: Rng::with_seed(seed ^ 0x5eed),
            budget: Budget { hour_micros, day_micros, goal_micros: Some(500_000), runner_micros },
            ..BudgetModel::default()
        }
    }

    /// The clock was set: what is under way was set aside for another time.
    pub fn clock_was_set(&mut self) {
        self.turns.values_mut().for_each(|turn| turn.moved = true);
    }

    fn spending(&self, now: Now) -> Spending {
        let spent = |key: String| self.went.get(&key).map_or(0, |went| went.spent);
        let each = |kind: &str, all: &[&str]| {
            all.iter().map(|of| ((*of).to_owned(), spent(format!("{kind} {of} {}", now.day())))).collect()
        };
        Spending {
            hour_micros: spent(format!("hour {}", hour_of(now))),
            day_micros: spent(format!("day {}", now.day())),
            goal_micros: each("goal", &GOALS),
            runner_micros: each("runner", &RUNNERS),
        }
    }

    /// Each cap that a call is under: its limit, the account's name for its window, and whose money counts.
    fn caps(&self, of: &Reserved, now: Now) -> Vec<(u64, String, Counts)> {
        let (day, hour) = (now.day(), now.local().strftime("%Y-%m-%dT%H"));
        let goal = format!("goal {} {day}", of.goal.clone().unwrap_or_default());
        let runner = format!("runner {} {day}", of.runner);
        let limit = |cap: Option<u64>, window: &str| {
            cap.map(|cap| self.raised.get(window).map_or(cap, |raise| raise.limit(cap)))
        };
        let of_hour = limit(self.budget.hour_micros, &format!("hour {hour}"));
        let of_day = limit(self.budget.day_micros, &format!("day {day}"));
        let of_goal = limit(self.budget.goal_micros, &goal);
        let of_runner = limit(self.budget.runner_micros.get(&of.runner).copied(), &runner);
        let all: [(Option<u64>, String, Counts); 4] = [
            (of_hour, format!("hour {}", hour_of(now)), |_, _| true),
            (of_day, format!("day {day}"), |_, _| true),
            (of_goal, goal, |a, b| a.goal == b.goal),
            (of_runner, runner, |a, b| a.runner == b.runner),
        ];
        all.into_iter().filter_map(|(limit, window, counts)| Some((limit?, window, counts))).collect()
    }

    /// Whether each cap has room, counted apart from the rule.
    fn has_room(&self, wanted: &Reserved, now: Now) -> bool {
        self.caps(wanted, now).into_iter().all(|(limit, window, counts)| {
            let spent = self.went.get(&window).map_or(0, |went| went.spent);
            let others = self.turns.values().filter(|turn| counts(&turn.aside, wanted));
            let aside: u64 = others.map(|turn| turn.aside.micros).sum();
            spent < limit && spent + aside + wanted.micros.min(limit) <= limit
        })
    }

    /// What was set aside for workers that have ended is free again; their turns were never reported.
    pub fn only(&mut self, live: &[u64]) {
        self.turns.retain(|start, _| live.contains(start));
    }

    fn settle(&mut self, start: u64, now: Now) -> Result<(), String> {
        let Some(Turn { aside, moved }) = self.turns.remove(&start) else { return Ok(()) };
        let cost = self.rng.usize(0..MOST) as u64;
        let max_call = self.max_call.entry(aside.runner.clone()).or_default();
        *max_call = (*max_call).max(cost);
        for (limit, window, _) in self.caps(&aside, now) {
            let went = self.went.entry(window.clone()).or_default();
            went.spent += cost;
            went.unforeseen += if moved { cost } else { cost.saturating_sub(aside.micros.min(limit)) };
            if went.spent > limit + went.unforeseen {
                return Err(format!("{} of {limit} were spent in {window}: {went:?}", went.spent));
            }
        }
        Ok(())
    }
}

impl World {
    /// A worker begins a turn, or ends the one that is under way.
    pub fn spends(&mut self, id: &Name, start: u64) -> Result<(), String> {
        let now = self.now();
        if self.budget_model.turns.contains_key(&start) {
            return match self.budget_model.rng.usize(..1000) < 400 {
                true => self.budget_model.settle(start, now),
                false => Ok(()),
            };
        }
        let runner = RUNNERS[start as usize % 2].to_owned();
        let goal = Some(GOALS[start as usize / 2 % 2].to_owned());
        let micros = self.budget_model.max_call.get(&runner).copied().unwrap_or(FIRST);
        let wanted = Reserved { micros, goal, runner };
        let (quiet, haunted) = (self.is(Mutant::SpendsAlone), self.is(Mutant::TheDeadReserve));
        let budget_model = &mut self.budget_model;
        let mut others: Vec<Reserved> = budget_model.turns.values().map(|turn| turn.aside.clone()).collect();
        if quiet {
            others.clear();
        }
        if haunted {
            others.push(Reserved { micros: 3 * FIRST, goal: None, runner: "pi".to_owned() });
        }
        let spent = budget_model.spending(now);
        let spent = match self.mutant {
            Some(Mutant::HoursAreEndless) => Spending { hour_micros: 0, ..spent },
            Some(Mutant::GoalsAreEndless) => Spending { goal_micros: BTreeMap::new(), ..spent },
            Some(Mutant::RunnersAreEndless) => Spending { runner_micros: BTreeMap::new(), ..spent },
            _ => spent,
        };
        match budget::all_exceeded(&budget_model.budget, &spent, &others, &budget_model.raised, &wanted, now)
            .pop()
        {
            None => {
                self.tally.count("worker turns");
                budget_model.turns.insert(start, Turn { aside: wanted, moved: false });
            }
            Some(hit) => {
                if budget_model.has_room(&wanted, now) {
                    return Err(format!("{id} is refused a turn while there is room: {}", hit.words(now)));
                }
                if hit.resets_ms <= now.unix_ms {
                    return Err(format!("{} begins anew in the past", hit.window));
                }
                self.tally.count("refused turns");
                if hit.cap_micros > 0 && budget_model.rng.usize(..1000) < 20 {
                    self.tally.count("raised caps");
                    let limit = hit.limit_micros.saturating_add(hit.cap_micros);
                    budget_model.raised.insert(hit.window.clone(), Raise::To(limit));
                }
            }
        }
        Ok(())
    }
}
