//! The pulse: `looop` in the foreground runs each beat in a child process, so that each beat starts with fresh memory.

mod bell;
mod renew;

use std::io;

use anyhow::{Context, Result};

use super::{App, Cancel, Fault, human_ms, init, print};
use crate::config::Config;
use crate::os::clock::{self, Deadline};
use crate::os::process::{Child, ProcessExit, reaper, wait};
use crate::os::program;
use crate::os::watch::FileWatch;
use crate::rules::beat::gate;
use crate::rules::beat::state::LastResult;
use crate::rules::fault::ErrorKind;
use crate::store::{layout, lock, state_files, workers};
use bell::WakeSignals;
use renew::Renewal;
pub use renew::{AgainArgs, again};

/// The wait after a move, so that the next beat sees its effect, in milliseconds.
const AFTER_MOVE_MS: i64 = 2_000;
/// The longest single wait before the clock is read again, in milliseconds: the clock may be set, or the
/// machine may sleep.
const POLL_MS: i64 = 1_000;
/// How often flags are checked while a beat runs, in milliseconds.
const FLAG_MS: i64 = 250;
/// How often the wait is doubled after a beat during which something changed: up to about a minute.
const MAX_DOUBLINGS: u32 = 5;
/// How long changes must be quiet before they start a beat, in milliseconds.
const QUIET_MS: i64 = 100;
/// How long a beat may take to end after a request to end, in milliseconds.
const END_MS: i64 = 10_000;
/// The time that a beat may need beyond its own timeouts, in milliseconds.
const SLACK_MS: i64 = 60_000;
/// The first and the longest wait after a beat that crashed, in milliseconds.
const BROKEN_MS: (i64, i64) = (5_000, 300_000);

pub fn run(app: &App) -> Result<u8> {
    let renewal = Renewal::new();
    app.no_worker("start the pulse")?;
    init::confirm_pulse(app)?;
    app.ready()?;
    let cancel = Cancel::on_signals()?;
    let held = match lock::tick(&app.layout.pulse_lock()) {
        Err(error) if lock::is_busy(&error) => {
            let who = lock::holder(&app.layout.pulse_lock()).unwrap_or_default();
            let what = format!("could not start the pulse: process {who} is the pulse of this data dir");
            return Err(Fault { kind: ErrorKind::Busy, ..Fault::failed(what) }.into());
        }
        other => other?,
    };
    app.enter_data_dir()?;
    beats(app, &cancel, &held, renewal)
}

/// What a pulse needs between and during beats.
struct BeatLoop<'a> {
    app: &'a App,
    cancel: &'a Cancel,
    bell: WakeSignals<'a>,
    /// The user's files; none if they cannot be watched.
    watch: Option<FileWatch>,
    /// The identity of the data dir at the start.
    data_dir: Option<(u64, u64)>,
}

/// Runs beats until interrupted.
fn beats(app: &App, cancel: &Cancel, held: &lock::Held, mut renewal: Renewal) -> Result<u8> {
    reaper::become_subreaper();
    super::app::check_clock(clock::now(), "start the pulse")?;
    let config = app.config()?;
    config.decider()?;
    let (interval, decide) = (human_ms(config.interval_ms), &config.decide);
    let root = app.layout.root().display();
    print::note(&format!("looop: {root} · {decide} decides · a beat every {interval} · Ctrl-C ends it"));
    print::warn_of(state_files::begin_pulse(&app.layout, app.now));
    let watch = watch(app)
        .inspect_err(|e| print::note(&format!("warning: {e:#}; changes wait for the interval")))
        .ok();
    let (bell, data_dir) = (WakeSignals::new(app), layout::identity(&app.layout));
    let mut pulse = BeatLoop { app, cancel, bell, watch, data_dir };
    let (mut broken, mut self_triggered) = (0_u32, 0_u32);
    while !cancel.is_set() && !pulse.is_gone() {
        // The config is read again for each beat, so that an edit takes effect without a restart. If it cannot
        // be read, the beat itself reports that.
        let config = app.config().unwrap_or_else(|_| config.clone());
        renewal.poll(app, &mut pulse.bell, cancel, held);
        let before = last_move(app);
        let good = pulse.beat(&config)?;
        if pulse.is_gone() {
            break;
        }
        pulse.bell.after_beat(&config);
        broken = if good { 0 } else { broken.saturating_add(1) };
        let moved = last_move(app).filter(|last| before.as_ref() != Some(last));
        let moved = moved.is_some_and(|last| last.tag != "noop");
        let notified = pulse.settle();
        self_triggered = if notified && !moved { self_triggered.saturating_add(1) } else { 0 };
        let wait_ms = wait_after(app, &config, broken, moved).min(echo_wait(self_triggered));
        pulse.sleep(wait_ms);
    }
    if print::stderr_is_tty() {
        print::redraw("");
    }
    if pulse.is_gone() {
        let what = format!("could not continue: the data dir is gone: `{root}` was moved or replaced");
        let fault = Fault::failed(what).hint("mount it or move it back, and start the pulse again");
        return Err(fault.hint("the pulse has created nothing in its place").into());
    }
    print::warn_of(state_files::end_pulse(&app.layout));
    print::note("looop: ended; nothing is lost");
    Ok(0)
}

impl BeatLoop<'_> {
    /// Runs one beat as a child. False if it crashed: by a panic, a signal or its timeout. The beat itself or this
    /// function prints the cause.
    fn beat(&mut self, config: &Config) -> Result<bool> {
        let child = program::spawn_self(&["tick", "--pulse"], self.app.env.places())
            .context("could not start a beat")?;
        let limits = &config.settings.limits;
        let longest_ms =
            limits.sensor_timeout_ms * 2 + limits.decide_timeout_ms * 2 + limits.run_timeout_ms + SLACK_MS;
        let deadline = Deadline::after_ms(longest_ms);
        let ended = loop {
            self.bell.poll();
            let ended = child.wait_ms(Some(self.cancel), self.bell.step_ms(FLAG_MS))?;
            if ended.is_some() || deadline.passed() || self.cancel.is_set() {
                break ended;
            }
        };
        let exit = match ended {
            Some(exit) => exit,
            None => {
                if !self.cancel.is_set() {
                    let limit = human_ms(longest_ms);
                    print::note(&format!("error: the beat did not end within {limit}; it was killed"));
                }
                end(&child)?
            }
        };
        // This process has adopted the orphans of a beat that died.
        match workers::supervisors(&self.app.layout) {
            // Without the data dir the supervisors are unknown, and every one would be killed as an orphan.
            _ if self.is_gone() => {}
            Ok(supervisors) => {
                reaper::reap_orphans(
                    &supervisors.into_iter().chain(self.bell.helpers().iter().copied()).collect(),
                );
            }
            // An orphan may live on; killing a worker by mistake would be worse.
            Err(error) => print::note(&format!("warning: {error:#}")),
        }
        Ok(match exit {
            ProcessExit::Code(0 | 1 | 75) => true,
            // The beat has printed what is wrong with the config.
            ProcessExit::Code(2) => false,
            ProcessExit::Code(code) => {
                print::note(&format!("error: the beat ended with exit code {code}"));
                false
            }
            ProcessExit::Signal(signal) => {
                print::note(&format!("error: the beat was ended by signal {signal}"));
                self.cancel.is_set()
            }
            _ => false,
        })
    }

    /// Waits until the time is up, something changes, or the user interrupts.
    fn sleep(&mut self, wait_ms: i64) {
        let until_ms = clock::uptime_ms() + wait_ms;
        loop {
            let left_ms = until_ms - clock::uptime_ms();
            if left_ms <= 0 || self.cancel.is_set() || self.is_gone() {
                return;
            }
            self.bell.poll();
            if self.changes_within(self.bell.step_ms(left_ms.min(POLL_MS))) {
                self.settle();
                return;
            }
        }
    }

    /// Waits up to a second until a burst of changes ends, so that one save starts one beat. True if something changed.
    fn settle(&mut self) -> bool {
        let wait_limit = Deadline::after_ms(1_000);
        let mut any = false;
        while !wait_limit.passed() && !self.cancel.is_set() {
            self.bell.poll();
            if !self.changes_within(QUIET_MS) {
                break;
            }
            any = true;
        }
        any
    }

    /// Waits until a file changes, the user interrupts, or the time is up. True if a file changed.
    fn changes_within(&self, wait_ms: i64) -> bool {
        let cancel_fd = self.cancel.fd();
        match &self.watch {
            Some(watch) => {
                wait::wait_readable(&[&cancel_fd, &watch.fd()], wait_ms);
                watch.drain()
            }
            None => {
                wait::wait_readable(&[&cancel_fd], wait_ms);
                false
            }
        }
    }

    /// True if the data dir was moved or replaced.
    fn is_gone(&self) -> bool {
        layout::identity(&self.app.layout) != self.data_dir
    }
}

fn watch(app: &App) -> Result<FileWatch> {
    let layout = &app.layout;
    let all: &[&str] = &[];
    let config = app.env.config_path();
    let config_dir = config.parent().unwrap_or(layout.root());
    let config_name = config.file_name().unwrap_or_default().to_string_lossy();
    FileWatch::new(&[
        (config_dir, &[&config_name]),
        (layout.root(), &["PLAYBOOK.md", "paused.json"]),
        (&layout.goals(), all),
        (&layout.sensors(), all),
        (&layout.schedules(), all),
        (&layout.asks(), all),
        (&layout.workers(), &[".poke"]),
    ])
}

fn end(child: &Child) -> io::Result<ProcessExit> {
    child.signal(false);
    if let Some(exit) = child.wait_ms(None, END_MS)? {
        return Ok(exit);
    }
    child.signal(true);
    Ok(child.wait_ms(None, END_MS)?.unwrap_or(ProcessExit::Signal(9)))
}

/// The wait if something changed during each of the last `self_triggered` beats. Either the user changed it after the
/// beat had read it, or a sensor of the beat did, and would do so again each time.
fn echo_wait(self_triggered: u32) -> i64 {
    match self_triggered {
        0 => i64::MAX,
        more => AFTER_MOVE_MS << (more - 1).min(MAX_DOUBLINGS),
    }
}

fn last_move(app: &App) -> Option<LastResult> {
    state_files::peek_beat(&app.layout).ok()?.last
}

/// The wait until the next beat, from files alone. A due time that has passed never shortens the wait: the
/// cause that keeps the gate closed would be checked again and again.
fn wait_after(app: &App, config: &Config, broken: u32, moved: bool) -> i64 {
    if broken > 0 {
        let doubled = BROKEN_MS.0.saturating_mul(1 << broken.saturating_sub(1).min(10));
        return doubled.min(BROKEN_MS.1);
    }
    if moved {
        return AFTER_MOVE_MS.min(config.interval_ms);
    }
    let Ok(beat) = state_files::peek_beat(&app.layout) else { return config.interval_ms };
    let now = clock::now();
    let next = gate::next_beat_due_ms(&beat, &config.settings.limits, now);
    let timers = state_files::schedules(&app.layout).map(|(timers, _)| timers).unwrap_or_default();
    let due = timers.iter().filter_map(|(name, timer)| timer.next_ms(beat.fired.get(name).copied(), now));
    let deadlines = next.into_iter().chain(due.map(|at| at - now.unix_ms)).filter(|ms| *ms > 0);
    deadlines.chain([config.interval_ms]).min().unwrap_or(config.interval_ms)
}
