//! Self-upgrade of the pulse: before a beat it executes the new program that replaced its own, with the same
//! process id and without releasing its lock. If the new program cannot continue, the old one does.

use anyhow::Result;

use super::bell::WakeSignals;
use crate::cli::{App, Cancel, clip, print};
use crate::config;
use crate::os::process::{self, Job, OutputLimit, ProcessCommand, ProcessExit};
use crate::os::renew::{self, RunningProgram};
use crate::store::lock::{self, Held};

/// The command by which a new program continues.
const VERB: &str = "__reexec";
/// The same command in version 0.1, whose pulse calls it.
const OLD_VERB: &str = "__again";
/// The flag of the test call, which the new program answers with its version.
const READY: &str = "--ready";
/// How long it may take to answer, in milliseconds.
const ANSWER_MS: i64 = 10_000;

/// Arguments of `__reexec`.
#[derive(Debug, clap::Args)]
pub struct AgainArgs {
    /// Only report that this program can continue as the pulse.
    #[arg(long)]
    ready: bool,
}

/// Continues as the pulse; the file descriptor of its lock is stdin.
pub fn again(app: &App, args: &AgainArgs) -> Result<u8> {
    if args.ready {
        return super::super::manual::version(false);
    }
    // Before anything that may take time: an interrupt must work from now on.
    let cancel = Cancel::on_signals()?;
    let renewal = Renewal::new();
    app.no_worker("start the pulse")?;
    let held = lock::inherit(&app.layout.pulse_lock(), renew::take_stdin()?)?;
    app.ready()?;
    app.enter_data_dir()?;
    print::note(&format!("looop: the program was replaced; version {} continues", env!("CARGO_PKG_VERSION")));
    super::beats(app, &cancel, &held, renewal)
}

/// The pulse's own program, and whether another one has replaced it.
pub(super) struct Renewal {
    own: RunningProgram,
    is_due: bool,
}

impl Renewal {
    pub(super) fn new() -> Renewal {
        Renewal { own: RunningProgram::file(), is_due: false }
    }

    /// Executes the new program, if one exists and can continue. A failure is reported once.
    pub(super) fn poll(&mut self, app: &App, bell: &mut WakeSignals, cancel: &Cancel, held: &Held) {
        self.is_due |= self.own.is_replaced();
        // Only this program knows its helper processes: the new one would kill them as orphans.
        if !self.is_due || !bell.helpers().is_empty() {
            return;
        }
        self.is_due = false;
        let path = self.own.path.display();
        if let Err(why) = self.ask(app, cancel).and_then(|()| self.go(app, cancel, held)) {
            print::note(&format!("warning: `{path}` was replaced and cannot continue as the pulse: {why}"));
            print::note("warning: the old program continues; restart the pulse to use the new one");
        }
    }

    /// Checks that the new program starts and can continue as the pulse.
    fn ask(&self, app: &App, cancel: &Cancel) -> Result<(), String> {
        let command = ProcessCommand::new(&self.own.path, [VERB, READY], app.env.all(), "/");
        let job = Job::new(command, OutputLimit::Tail(4096), ANSWER_MS);
        let ended = process::run_one(job, cancel, None).map_err(|error| error.to_string())?;
        let stated = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
        match ended.exit {
            ProcessExit::Code(0) if stated.starts_with("looop ") => Ok(()),
            exit => Err(format!("{exit} {}", clip(&crate::rules::text::visible(&stated, false), 200))),
        }
    }

    fn go(&self, app: &App, cancel: &Cancel, held: &Held) -> Result<(), String> {
        let lock = held.twin().map_err(|error| error.to_string())?;
        // Global arguments stay; a pulse has no others.
        let args = config::own_args().into_iter().filter(|arg| arg != VERB && arg != OLD_VERB);
        let args: Vec<_> = args.chain([VERB.into()]).collect();
        cancel.set_default_action(true);
        // A signal that arrived before ends this program as usual.
        let tried =
            (!cancel.is_set()).then(|| renew::become_with(&self.own.path, &args, app.env.places(), lock));
        cancel.set_default_action(false);
        tried.map_or(Ok(()), |error| Err(error.to_string()))
    }
}
