//! `looop __fetch-branch`: fetches the commits of one worker in its own process, so that the supervisor never waits.

use std::path::PathBuf;

use anyhow::Result;

use super::{App, Cancel, Fault, Name, print};
use crate::rules::lease::Holder;
use crate::store::layout::Layout;
use crate::store::{leases, workers};
use crate::vcs::clone::{self, Collected, Git};

/// The timeout for fetching commits, in milliseconds.
const COLLECT_MS: i64 = 10 * 60_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data dir.
    root: PathBuf,
    /// The worker.
    id: Name,
    /// Fetch nothing; only report the work that exists only in the clone.
    #[arg(long)]
    look: bool,
}

/// Prints one line of JSON: `collected`, or `error` and exit status 1.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    match collect(app, args) {
        Ok(collected) => print::answer("collected", collected),
        Err(error) => print::answer("error", format!("{error:#}")).map(|_| 1),
    }
}

fn collect(app: &App, args: &Args) -> Result<Collected> {
    let layout = Layout::new(args.root.clone(), app.layout.cache().to_owned());
    let none = |what: &str| Fault::failed(format!("could not fetch commits: worker {} {what}", args.id));
    let worker = workers::load(&layout, &args.id)?.ok_or_else(|| none("does not exist"))?;
    let repo = worker.spec.repo.ok_or_else(|| none("has no repository"))?;
    let cancel = Cancel::on_signals()?;
    let git = Git::find(&app.config()?.settings.path, COLLECT_MS, &cancel)?;
    let clone = layout.worker(&args.id).clone_dir();
    if args.look {
        let left = clone::leftovers(&git, &repo, &clone);
        return Ok(Collected { branch: None, tip: None, commits: 0, user_side: Vec::new(), left });
    }
    // A lease may change its holder while git works. The holder at the moment when the branch is written counts.
    let (holder, leases) = (Holder::Worker(args.id.clone()), worker.state.leases);
    let fence = |place: &mut dyn FnMut() -> Result<String>| {
        leases::fenced(&layout, &holder, &leases, place).map_err(|denied| match denied.refusal() {
            Ok(lost) => Fault::failed(format!("could not fetch commits: {lost}")).into(),
            Err(error) => error,
        })
    };
    clone::collect_within(&git, &repo, &clone, &fence)
}
