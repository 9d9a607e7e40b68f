//! Notification of the user about a waiting worker: a tmux window, a notifier, or a line if there is neither.
//!
//! Level-triggered: each run reads all workers, inspects the existing windows, and makes the difference. It is a short
//! process of its own, so that its starter never waits for tmux.

mod notify;
mod plan;
mod tmux;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::os::program;
use crate::rules::text::visible;
use crate::rules::time::Now;
use crate::store::file::Durability;
use crate::store::layout::Layout;
use crate::store::workers::{self, Worker};
use crate::store::{json_file, lock};
use notify::Notice;
pub use notify::unsent;
pub use plan::{Attention, ShownState};
use plan::{DesiredWindow, WindowStep};
use tmux::Server;

/// How long to wait for another run, in milliseconds.
const LOCK_WAIT_MS: i64 = 5_000;
/// How much of a flag is in a line, in characters.
const LINE_CHARS: usize = 200;

/// The ways to reach the user, from the environment.
#[derive(Clone, Debug, Default)]
pub struct AlertTargets {
    /// The value of `TMUX`.
    pub tmux: Option<String>,
    /// The value of `TMUX_TMPDIR`, otherwise `/tmp`.
    pub tmux_dir: PathBuf,
    /// The search path of programs.
    pub path: String,
    /// The environment of this process.
    pub env: Vec<(String, String)>,
    /// The config file, for programs in the windows.
    pub config: PathBuf,
    /// The notifier for questions of the loop itself. A worker has the notifier with which it was started.
    pub notify: Vec<String>,
}

/// Notes a failure as one line of the run's problems.
fn note<T>(problems: &mut Vec<String>, result: Result<T>) -> Option<T> {
    result.map_err(|error| problems.push(format!("{error:#}"))).ok()
}

/// A worker, and what the user was shown of it.
struct ShownWorker {
    worker: Worker,
    past: ShownState,
}

/// Updates the user's windows and notifications to match the waiting workers.
///
/// # Errors
/// When the workers cannot be listed, or another run holds the lock for too long. The failure of one worker or one
/// server does not stop the others; it is a line of the result.
pub fn reconcile(layout: &Layout, targets: &AlertTargets, now: Now) -> Result<Vec<String>> {
    let calls = |worker: &Worker| match worker.spec.notify.is_empty() {
        true => Attention::of(&worker.state).is_some(),
        false => Attention::notice(&worker.state).is_some(),
    };
    let asked = || anyhow::Ok(!targets.notify.is_empty() && !unsent(layout, now)?.is_empty());
    // If there was never anything to say, write nothing and do not call tmux.
    if !layout.alerts_lock().exists() && !workers::list(layout)?.0.iter().any(calls) && !asked()? {
        return Ok(Vec::new());
    }
    let held = lock::within(&layout.alerts_lock(), LOCK_WAIT_MS)?;
    let (listed, mut problems) = workers::list(layout)?;
    let mut all = BTreeMap::new();
    for worker in listed {
        let key = format!("{}@{}", worker.spec.id, worker.spec.created_ms);
        let past = note(&mut problems, past(layout, &worker)).unwrap_or_default();
        all.insert(key, ShownWorker { worker, past });
    }
    windows(layout, targets, &mut all, &mut problems);
    let mut due: Vec<(PathBuf, Vec<Notice>)> = due_notices(layout, &mut all, &mut problems, now);
    let own = note(&mut problems, notify::due_asks(layout, &targets.notify, now)).unwrap_or_default();
    due.push((layout.notice(), own));
    // A notifier may be slow, and the windows must not wait for it.
    drop(held);
    for (file, notices) in due {
        note(&mut problems, notify::send(layout, &file, &notices, targets, now));
    }
    Ok(problems)
}

type All = BTreeMap<String, ShownWorker>;

fn windows(layout: &Layout, targets: &AlertTargets, all: &mut All, problems: &mut Vec<String>) {
    let profile = &blake3::hash(layout.root().as_os_str().as_encoded_bytes()).to_hex()[..16];
    let Some(tmux) = program::find_program("tmux", &targets.path, &targets.config) else { return };
    let locale = |(key, _): &&(String, String)| key == "LANG" || key.starts_with("LC_");
    let locale: Vec<(String, String)> = targets.env.iter().filter(locale).cloned().collect();
    let own = |worker: &Worker| worker.spec.tmux.as_deref().and_then(tmux::socket_of);
    let usual =
        [targets.tmux.as_deref().and_then(tmux::socket_of), Some(tmux::default_socket(&targets.tmux_dir))];

    let mut servers: BTreeMap<PathBuf, Server> = BTreeMap::new();
    let sockets = all.values().filter_map(|seen| own(&seen.worker)).chain(usual.iter().flatten().cloned());
    for socket in sockets.collect::<BTreeSet<PathBuf>>() {
        let server = note(problems, Server::find(&tmux, &socket, &locale, profile)).flatten();
        servers.extend(server.map(|server| (socket, server)));
    }
    let home = |worker: &Worker| {
        let mut places = [own(worker)].into_iter().chain(usual.clone()).flatten();
        places.find(|socket| servers.contains_key(socket))
    };
    let mut wanted: BTreeMap<PathBuf, Vec<DesiredWindow>> = BTreeMap::new();
    for (key, ShownWorker { worker, past }) in all.iter() {
        if let (Some(call), Some(socket)) = (Attention::of(&worker.state), home(worker)) {
            let since_ms = worker.state.flag.as_ref().map_or(worker.state.since_ms, |flag| flag.at_ms);
            let one = DesiredWindow { key: key.clone(), call, since_ms, past: past.clone() };
            wanted.entry(socket).or_default().push(one);
        }
    }
    for (socket, server) in &servers {
        for step in plan::plan(wanted.get(socket).map_or(&[], Vec::as_slice), &server.panes) {
            let done = take(layout, &targets.config, server, &step, all);
            note(problems, done);
        }
    }
}

/// Makes a step, and then records what the user was shown by it. If it is interrupted in between, the next run finds the
/// window by its label and rings in it.
fn take(layout: &Layout, config: &Path, server: &Server, step: &WindowStep, all: &mut All) -> Result<()> {
    let open = |name: &str, key: &str, args: &[&str]| -> Result<()> {
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.with_context(|| format!("could not open a window: `{}` is not UTF-8", path.display()))
        };
        let env =
            [format!("LOOOP_DATA_DIR={}", text(layout.root())?), format!("LOOOP_CONFIG={}", text(config)?)];
        let mut argv = vec![text(&program::installed_path())?];
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        server.open(name, key, &env, &argv)
    };
    match step {
        WindowStep::Open(key) => {
            let Some(seen) = all.get(key) else { return Ok(()) };
            let id = seen.worker.spec.id.to_string();
            open(&format!("⚑{id}"), key, &["attach", &id])?;
            shown(layout, std::slice::from_ref(key), true, all)
        }
        WindowStep::Ring(pane, key) => {
            tmux::ring(&pane.tty);
            shown(layout, std::slice::from_ref(key), true, all)
        }
        WindowStep::Rest { pane, keys, ring } => {
            let (name, key) = (format!("⚑ +{}", keys.len()), format!("+{}", keys.len()));
            match pane {
                None => open(&name, &key, &["ls", "--watch"])?,
                Some(pane) => {
                    server.rename(&pane.id, &name, &key)?;
                    if *ring {
                        tmux::ring(&pane.tty);
                    }
                }
            }
            shown(layout, keys, false, all)
        }
        WindowStep::Close(pane) => server.close(&pane.id),
    }
}

fn shown(layout: &Layout, keys: &[String], own: bool, all: &mut All) -> Result<()> {
    for key in keys {
        let Some(seen) = all.get_mut(key) else { continue };
        let Some(call) = Attention::of(&seen.worker.state) else { continue };
        (seen.past.shown, seen.past.own) = (call.after(&seen.past.shown), own);
        save(layout, seen)?;
    }
    Ok(())
}

/// Reads what the user was shown of a worker.
fn past(layout: &Layout, worker: &Worker) -> Result<ShownState> {
    let past = json_file::read_json(&layout.worker(&worker.spec.id).shown_state())?;
    Ok(past.unwrap_or_default())
}

fn save(layout: &Layout, seen: &ShownWorker) -> Result<()> {
    json_file::write_json(&layout.worker(&seen.worker.spec.id).shown_state(), &seen.past, Durability::Atomic)
}

/// Returns the notices to send, and their files. They are recorded before, so that each is sent at most once.
fn due_notices(
    layout: &Layout,
    all: &mut All,
    problems: &mut Vec<String>,
    now: Now,
) -> Vec<(PathBuf, Vec<Notice>)> {
    let mut due = Vec::new();
    for seen in all.values_mut() {
        let Some(call) = Attention::notice(&seen.worker.state) else { continue };
        let notices = notify::notices(layout, &seen.worker, &call, &seen.past.notified, now);
        if notices.is_empty() {
            continue;
        }
        seen.past.notified = call.after(&seen.past.notified);
        if note(problems, save(layout, seen)).is_some() {
            due.push((layout.worker(&seen.worker.spec.id).notice(), notices));
        }
    }
    due
}

/// Returns true if the notifier of an ended worker was not told how the worker ended, or what it left behind.
pub fn is_unsent(layout: &Layout, worker: &Worker) -> bool {
    let call = Attention::notice(&worker.state).filter(|_| worker.state.phase.is_over());
    let notified = || past(layout, worker).unwrap_or_default().notified;
    !worker.spec.notify.is_empty()
        && call.is_some_and(|call| {
            let notified = notified();
            call.has_new_flag(&notified) || call.new_end(&notified).is_some()
        })
}

/// Returns those of these workers that need the user for something that no window has shown.
pub fn unshown(layout: &Layout, workers: Vec<Worker>) -> Vec<Worker> {
    let is_unshown = |worker: &Worker| {
        let Some(call) = Attention::of(&worker.state) else { return false };
        // An unreadable record counts as not shown.
        call.is_news(&past(layout, worker).unwrap_or_default().shown)
    };
    workers.into_iter().filter(is_unshown).collect()
}

/// Returns a line for each worker with a new flag or question, for a terminal without tmux; the caller rings.
pub fn lines(workers: &[Worker], notified: &mut BTreeMap<String, Attention>) -> Vec<String> {
    let none = Attention::default();
    let mut now = BTreeMap::new();
    let mut lines = Vec::new();
    for Worker { spec, state, .. } in workers {
        let Some(call) = Attention::of(state) else { continue };
        let key = format!("{}@{}", spec.id, spec.created_ms);
        let before = notified.get(&key).unwrap_or(&none);
        let text = match (&state.flag, &call.ask) {
            (_, Some(ask)) if call.has_new_ask(before) => Some(format!("asks {ask}")),
            (Some(flag), _) if call.has_new_flag(before) => {
                let shown: String = flag.text.chars().take(LINE_CHARS).collect();
                Some(visible(&shown, false))
            }
            _ => None,
        };
        lines.extend(
            text.map(|text| format!("⚑ {}: {text} — {}", spec.id, state.phase.look_commands(&spec.id))),
        );
        now.insert(key, call.after(before));
    }
    // Keep the number of a lowered flag, so that the same flag is not printed again.
    notified.append(&mut now);
    lines
}
