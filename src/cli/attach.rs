//! `looop attach`: shows a worker's screen on this terminal.

use anyhow::Result;

use super::ls::{self, Chosen};
use super::{App, Fault, Name, complete, pick, print};
use crate::rules::worker::Phase;
use crate::screen::attach::{self, AttachEnd, Options};
use crate::store::workers;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop attach\n  looop attach fix-ci --view")]
pub struct Args {
    /// The worker, or the unique beginning of its name. Default: the newest one that waits for you, or the only one.
    #[arg(add = complete::worker_ids())]
    id: Option<String>,
    /// Watch only: keys are not passed on.
    #[arg(long)]
    view: bool,
}

/// Shows a worker until the user detaches.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    // A worker that is named is shown even if its files cannot be read.
    let id = match &args.id {
        Some(wanted) => pick("worker", wanted, workers::ids(&app.layout)?, Name::as_str)?,
        None => ls::choose(app, None, Chosen::Any)?.spec.id,
    };
    let worker = workers::load(&app.layout, &id).ok().flatten();
    if let Some(worker) = worker.filter(|worker| worker.state.phase == Phase::Suspended) {
        let why = worker.state.why.unwrap_or_default();
        let fault = Fault::failed(format!("could not attach to {id}: {why}"));
        return Err(fault.hint(format!("`looop screen {id}` prints its screen")).into());
    }
    let answer = &mut |ask: &Name| super::asks::answer_on_terminal(app, ask);
    let approval = &mut || super::asks::oldest_approval(app);
    let ended = attach::attach(&app.layout.worker(&id), &id, Options { view: args.view, answer, approval })?;
    match ended {
        AttachEnd::Detached => print::done(&format!("detached from {id}; it is still running")),
        AttachEnd::Over(phase) => print::done(&format!("{id} is {phase}")),
    }
}
