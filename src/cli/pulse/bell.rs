//! The pulse's bell: rings for each worker that newly calls the user and that no window shows, during and
//! between beats.

use std::collections::BTreeMap;

use crate::alerts::{self, Attention};
use crate::cli::{App, print, tick};
use crate::config::Config;
use crate::os::clock::Deadline;
use crate::os::detach;
use crate::os::process::tree;
use crate::store::file;
use crate::store::workers::{self, Worker};

/// How long the user's windows may take to open before the pulse prints a line instead, in milliseconds.
const WINDOW_MS: i64 = 800;
/// How often the pulse checks while the windows open, in milliseconds.
const POLL_MS: i64 = 50;

/// The state of the bell: what it has rung for, and the processes that update windows.
pub(super) struct WakeSignals<'a> {
    app: &'a App,
    notified: BTreeMap<String, Attention>,
    poked: Option<String>,
    /// The processes that update windows.
    helpers: tree::Known,
    /// The newest of them, and the deadline until which the pulse waits for it.
    awaited: Option<((u32, u64), Deadline)>,
}

impl<'a> WakeSignals<'a> {
    pub(super) fn new(app: &'a App) -> WakeSignals<'a> {
        let (notified, helpers) = (BTreeMap::new(), tree::Known::new());
        WakeSignals { app, notified, poked: None, helpers, awaited: None }
    }

    /// The time until the next check, in milliseconds; at most `usual_ms`.
    pub(super) fn step_ms(&self, usual_ms: i64) -> i64 {
        if self.awaited.is_some() { usual_ms.min(POLL_MS) } else { usual_ms }
    }

    /// The helper processes that are still running; they end by themselves.
    pub(super) fn helpers(&mut self) -> &tree::Known {
        self.helpers.retain(|helper| is_alive(*helper));
        &self.helpers
    }

    /// Rings if it is time. If no worker's state has changed, this reads only one file's time stamp.
    pub(super) fn poll(&mut self) {
        if let Some((helper, wait_limit)) = &self.awaited {
            if !wait_limit.passed() && is_alive(*helper) {
                return;
            }
            self.awaited = None;
            let silent = self.silent();
            alerts::lines(&silent, &mut self.notified).iter().for_each(|line| print::ring(line));
        }
        let wake = file::open(&self.app.layout.wake()).ok().flatten();
        let poked = wake.and_then(|wake| file::stamp(&wake).ok());
        if poked != self.poked {
            self.poked = poked;
            self.sync_alerts(false);
        }
    }

    /// Updates the windows after a beat: tmux may be new since the last call, or the loop may ask something.
    pub(super) fn after_beat(&mut self, config: &Config) {
        self.sync_alerts(self.app.layout.alerts_lock().exists() || tick::has_news(self.app, config));
    }

    /// Updates the windows if a worker calls and no window shows it, or in any case. A printed line waits for
    /// the windows, so that the user is not notified twice.
    fn sync_alerts(&mut self, at_any_rate: bool) {
        let silent = self.silent();
        if silent.is_empty() && !at_any_rate {
            return;
        }
        let started = detach::helper(&["__sync-windows"], &self.app.env.all());
        let helper = started.ok().and_then(|pid| Some((pid, tree::start_of(pid)?)));
        self.helpers.extend(helper);
        if !alerts::lines(&silent, &mut self.notified.clone()).is_empty() {
            self.awaited = Some((helper.unwrap_or_default(), Deadline::after_ms(WINDOW_MS)));
        }
    }

    /// The workers that call the user and that no window has shown. The beat reports workers that cannot be listed.
    fn silent(&self) -> Vec<Worker> {
        let (all, _) = workers::list(&self.app.layout).unwrap_or_default();
        alerts::unshown(&self.app.layout, all)
    }
}

fn is_alive((pid, start): (u32, u64)) -> bool {
    tree::start_of(pid) == Some(start)
}
