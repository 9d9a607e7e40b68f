//! The pulse's bell: rings for each worker that calls anew and no window shows, while a beat runs and between beats.

use std::collections::BTreeMap;

use super::super::{App, print, tick};
use crate::config::Config;
use crate::store::file;
use crate::store::workers::{self, Worker};
use crate::sys::clock::Deadline;
use crate::sys::{detach, tree};
use crate::worker::surface::{self, Call};

/// How long the human's windows may take to open before a line says what they do not show, in milliseconds.
const WINDOW_MS: i64 = 800;
/// How often one looks while they open, in milliseconds.
const LOOK_MS: i64 = 50;

/// What was rung for, and what goes on.
pub(super) struct Bell<'a> {
    app: &'a App,
    told: BTreeMap<String, Call>,
    poked: Option<String>,
    /// Processes that bring windows in line.
    errands: tree::Known,
    /// The newest of them, and how long it is waited for.
    awaited: Option<((u32, u64), Deadline)>,
}

impl<'a> Bell<'a> {
    pub(super) fn new(app: &'a App) -> Bell<'a> {
        let (told, errands) = (BTreeMap::new(), tree::Known::new());
        Bell { app, told, poked: None, errands, awaited: None }
    }

    /// How long may pass until the next look where `usual_ms` may else, in milliseconds.
    pub(super) fn step_ms(&self, usual_ms: i64) -> i64 {
        if self.awaited.is_some() { usual_ms.min(LOOK_MS) } else { usual_ms }
    }

    /// Processes that end by themselves.
    pub(super) fn errands(&mut self) -> &tree::Known {
        self.errands.retain(|errand| is_alive(*errand));
        &self.errands
    }

    /// Rings when it is time. Where no worker's state has changed this is a look at one file.
    pub(super) fn look(&mut self) {
        if let Some((errand, patience)) = &self.awaited {
            if !patience.passed() && is_alive(*errand) {
                return;
            }
            self.awaited = None;
            let silent = self.silent();
            surface::lines(&silent, &mut self.told).iter().for_each(|line| print::ring(line));
        }
        let poke = file::open(&self.app.layout.poke()).ok().flatten();
        let poked = poke.and_then(|poke| file::stamp(&poke).ok());
        if poked != self.poked {
            self.poked = poked;
            self.surface(false);
        }
    }

    /// Has windows brought in line after a beat: tmux may have come since the last call, or the loop asks something.
    pub(super) fn after_beat(&mut self, config: &Config) {
        self.surface(self.app.layout.surface_lock().exists() || tick::has_news(self.app, config));
    }

    /// Has windows brought in line when somebody calls whom none shows, or at any rate. A line waits for that, so
    /// that nobody is told twice.
    fn surface(&mut self, at_any_rate: bool) {
        let silent = self.silent();
        if silent.is_empty() && !at_any_rate {
            return;
        }
        let started = detach::errand(&["__surface"], &self.app.env.all());
        let errand = started.ok().and_then(|pid| Some((pid, tree::start_of(pid)?)));
        self.errands.extend(errand);
        if !surface::lines(&silent, &mut self.told.clone()).is_empty() {
            self.awaited = Some((errand.unwrap_or_default(), Deadline::after_ms(WINDOW_MS)));
        }
    }

    /// Those that call and that no window has shown. What cannot be listed is said by the beat.
    fn silent(&self) -> Vec<Worker> {
        let (all, _) = workers::list(&self.app.layout).unwrap_or_default();
        surface::unshown(&self.app.layout, all)
    }
}

fn is_alive((pid, start): (u32, u64)) -> bool {
    tree::start_of(pid) == Some(start)
}
