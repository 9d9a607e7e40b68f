//! Pure. Which windows show which workers that wait for a human: what is made, rung, renamed and closed.

use serde::{Deserialize, Serialize};

use crate::model::name::Name;
use crate::model::worker::State;

/// The most windows of single workers; what is more shares one window.
pub const WINDOWS_MAX: usize = 5;

/// What a worker waits for a human with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Call {
    /// The number of its flag; 0: it has raised none.
    pub flag: u32,
    /// Its question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<Name>,
}

impl Call {
    /// The call of a worker; none when it waits for nobody, or is over and nobody could help it.
    pub fn of(state: &State) -> Option<Call> {
        let flag = state.flag.as_ref().map_or(0, |flag| flag.nth);
        let waits = state.needs_human() && !state.phase.is_over();
        waits.then(|| Call { flag, ask: state.ask.clone() })
    }

    /// What a notifier is told of: also the flag of a worker that has ended and left work behind.
    pub fn notice(state: &State) -> Option<Call> {
        let flag = state.flag.as_ref().map_or(0, |flag| flag.nth);
        state.needs_human().then(|| Call { flag, ask: state.ask.clone() })
    }

    /// True when its flag is not in what was said before.
    pub fn has_new_flag(&self, before: &Call) -> bool {
        self.flag > before.flag
    }

    /// True when its question is not in what was said before.
    pub fn has_new_ask(&self, before: &Call) -> bool {
        self.ask.is_some() && self.ask != before.ask
    }

    /// True when something of it is not in what was said before.
    pub fn is_news(&self, before: &Call) -> bool {
        self.has_new_flag(before) || self.has_new_ask(before)
    }

    /// What was said, after this was said too.
    pub fn after(&self, before: &Call) -> Call {
        Call { flag: self.flag.max(before.flag), ask: self.ask.clone().or_else(|| before.ask.clone()) }
    }
}

/// What a human was shown of a worker; the form of `workers/<id>/surfaced`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Surfaced {
    /// What a window showed.
    pub shown: Call,
    /// True when that was a window of its own.
    pub own: bool,
    /// What the notifier was started with.
    pub told: Call,
}

/// A worker that waits for a human.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What its window is labelled with.
    pub key: String,
    /// What it waits with.
    pub call: Call,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// What was shown of it.
    pub past: Surfaced,
}

impl Wanted {
    fn needs_own(&self) -> bool {
        !self.past.own || self.call.is_news(&self.past.shown)
    }
}

/// A pane that looop made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pane {
    /// What tmux calls it.
    pub id: String,
    /// Its terminal's path.
    pub tty: String,
    /// Its label: a worker's key, or `+N`.
    pub key: String,
    /// True while a human looks at it.
    pub watched: bool,
}

impl Pane {
    /// How many workers the shared window is labelled with; none for a worker's own window.
    fn rest(&self) -> Option<usize> {
        self.key.strip_prefix('+')?.parse().ok()
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Open a window of its own for this worker.
    Open(String),
    /// Ring in a worker's window, because it has called anew.
    Ring(Pane, String),
    /// Show that there are workers without a window, in the window that says so or in a new one.
    Rest {
        /// The window that is there.
        pane: Option<Pane>,
        /// These workers.
        keys: Vec<String>,
        /// True when one of them has called anew.
        ring: bool,
    },
    /// Close a window that shows nobody.
    Close(Pane),
}

/// What to do so that the windows show who waits. A window that a human closed is not opened again for the same
/// call. One that a human looks at is not closed: what they type next would go to another program.
pub fn plan(wanted: &[Wanted], panes: &[Pane]) -> Vec<Step> {
    let mut order: Vec<&Wanted> = wanted.iter().collect();
    order.sort_by_key(|one| (one.since_ms, one.key.as_str()));
    let pane_of = |key: &str| panes.iter().find(|pane| pane.key == key);
    let shared = panes.iter().find(|pane| pane.rest().is_some());

    let (held, loose): (Vec<&Wanted>, Vec<&Wanted>) =
        order.into_iter().partition(|one| pane_of(&one.key).is_some());
    let waiting: Vec<&Wanted> = loose.into_iter().filter(|one| one.needs_own()).collect();
    let free = WINDOWS_MAX.saturating_sub(held.len()).min(waiting.len());
    let (own, rest) = waiting.split_at(free);

    let in_use = |pane: &Pane| {
        let shows = held.iter().any(|one| one.key == pane.key) && pane_of(&pane.key) == Some(pane);
        shows || (!rest.is_empty() && shared == Some(pane))
    };
    let unused = panes.iter().filter(|pane| !in_use(pane) && !pane.watched);
    let mut steps: Vec<Step> = unused.cloned().map(Step::Close).collect();
    for one in held.iter().filter(|one| one.needs_own()) {
        steps.extend(pane_of(&one.key).map(|pane| Step::Ring(pane.clone(), one.key.clone())));
    }
    steps.extend(own.iter().map(|one| Step::Open(one.key.clone())));
    let ring = rest.iter().any(|one| one.call.is_news(&one.past.shown));
    let differs = shared.is_some_and(|pane| pane.rest() != Some(rest.len()));
    if !rest.is_empty() && (ring || differs) {
        let keys = rest.iter().map(|one| one.key.clone()).collect();
        steps.push(Step::Rest { pane: shared.cloned(), keys, ring });
    }
    steps
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
