//! Pure. The windows for waiting workers: which to open, ring, rename and close.

use serde::{Deserialize, Serialize};

use crate::rules::name::Name;
use crate::rules::worker::{Phase, WorkerEnd, WorkerState};

/// The most windows of single workers; further workers share one window.
pub const WINDOWS_MAX: usize = 5;

/// Why a worker needs the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attention {
    /// The number of its flag; 0 means that it has raised none.
    pub flag: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<Name>,
    /// How it ended; only a notifier is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<WorkerEnd>,
    /// For how many usage limits it has waited, with the present one; only a notifier is told.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Attention {
    /// Returns why a worker needs the user; `None` if it does not, or if it has ended and cannot be helped.
    pub fn of(state: &WorkerState) -> Option<Attention> {
        Attention::notice(state).filter(|call| call.end.is_none() && state.needs_user())
    }

    /// Returns what a notifier is told: also the end of a worker, and the flag of one that left work behind.
    pub fn notice(state: &WorkerState) -> Option<Attention> {
        let flag = state.flag.as_ref().map_or(0, |flag| flag.nth);
        let end = state.phase.end();
        let limit = if state.phase == Phase::Limited { state.waits } else { 0 };
        let call = Attention { flag, ask: state.ask.clone(), end, limit };
        (state.needs_user() || end.is_some() || limit > 0).then_some(call)
    }

    /// Returns true if its flag is newer than the one in `before`.
    pub fn has_new_flag(&self, before: &Attention) -> bool {
        self.flag > before.flag
    }

    /// Returns true if its question differs from the one in `before`.
    pub fn has_new_ask(&self, before: &Attention) -> bool {
        self.ask.is_some() && self.ask != before.ask
    }

    /// Returns how it ended, if that differs from what is in `before`.
    pub fn new_end(&self, before: &Attention) -> Option<WorkerEnd> {
        self.end.filter(|end| before.end != Some(*end))
    }

    /// Returns true if its flag or question is new.
    pub fn is_news(&self, before: &Attention) -> bool {
        self.has_new_flag(before) || self.has_new_ask(before)
    }

    /// Returns what was shown, after this was shown too.
    pub fn after(&self, before: &Attention) -> Attention {
        Attention {
            flag: self.flag.max(before.flag),
            ask: self.ask.clone().or_else(|| before.ask.clone()),
            end: self.end.or(before.end),
            limit: self.limit.max(before.limit),
        }
    }
}

/// What the user was shown of a worker; the form of `workers/<id>/surfaced`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShownState {
    /// What a window showed.
    pub shown: Attention,
    /// True if that window showed this worker only.
    pub own: bool,
    /// What the notifier was started with.
    #[serde(alias = "told")]
    pub notified: Attention,
}

/// A worker that waits for the user.
#[derive(Clone, Debug)]
pub struct DesiredWindow {
    /// The label of its window.
    pub key: String,
    pub call: Attention,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// What was shown of it before.
    pub past: ShownState,
}

impl DesiredWindow {
    fn needs_own(&self) -> bool {
        !self.past.own || self.call.is_news(&self.past.shown)
    }
}

/// A pane that looop made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pane {
    /// Its id in tmux.
    pub id: String,
    /// The path of its terminal.
    pub tty: String,
    /// Its label: a worker's key, or `+N`.
    pub key: String,
    /// True while the user looks at it.
    pub watched: bool,
}

impl Pane {
    /// Returns how many workers the label of the shared window names; `None` for the window of one worker.
    fn rest(&self) -> Option<usize> {
        self.key.strip_prefix('+')?.parse().ok()
    }
}

/// One change of the windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowStep {
    /// Open a window of its own for this worker.
    Open(String),
    /// Ring in the window of a worker with a new flag or question.
    Ring(Pane, String),
    /// Show that there are workers without a window, in the shared window or in a new one.
    Rest {
        /// The existing shared window.
        pane: Option<Pane>,
        keys: Vec<String>,
        /// True if one of them has a new flag or question.
        ring: bool,
    },
    /// Close a window that shows no worker.
    Close(Pane),
}

/// Computes the changes that make the windows show the waiting workers. A window that the user closed is not opened
/// again for the same flag. A window that the user looks at is not closed: the next keys would go to another program.
pub fn plan(wanted: &[DesiredWindow], panes: &[Pane]) -> Vec<WindowStep> {
    let mut order: Vec<&DesiredWindow> = wanted.iter().collect();
    order.sort_by_key(|one| (one.since_ms, one.key.as_str()));
    let pane_of = |key: &str| panes.iter().find(|pane| pane.key == key);
    let shared = panes.iter().find(|pane| pane.rest().is_some());

    let (held, loose): (Vec<&DesiredWindow>, Vec<&DesiredWindow>) =
        order.into_iter().partition(|one| pane_of(&one.key).is_some());
    let waiting: Vec<&DesiredWindow> = loose.into_iter().filter(|one| one.needs_own()).collect();
    let free = WINDOWS_MAX.saturating_sub(held.len()).min(waiting.len());
    let (own, rest) = waiting.split_at(free);

    let in_use = |pane: &Pane| {
        let shows = held.iter().any(|one| one.key == pane.key) && pane_of(&pane.key) == Some(pane);
        shows || (!rest.is_empty() && shared == Some(pane))
    };
    let unused = panes.iter().filter(|pane| !in_use(pane) && !pane.watched);
    let mut steps: Vec<WindowStep> = unused.cloned().map(WindowStep::Close).collect();
    for one in held.iter().filter(|one| one.needs_own()) {
        steps.extend(pane_of(&one.key).map(|pane| WindowStep::Ring(pane.clone(), one.key.clone())));
    }
    steps.extend(own.iter().map(|one| WindowStep::Open(one.key.clone())));
    let ring = rest.iter().any(|one| one.call.is_news(&one.past.shown));
    let differs = shared.is_some_and(|pane| pane.rest() != Some(rest.len()));
    if !rest.is_empty() && (ring || differs) {
        let keys = rest.iter().map(|one| one.key.clone()).collect();
        steps.push(WindowStep::Rest { pane: shared.cloned(), keys, ring });
    }
    steps
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
