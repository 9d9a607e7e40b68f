//! `looop prune`: removes what is kept of ended workers, but for work that is nowhere else.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{App, complete, envelope, pick, print};
use crate::model::time::{human_ms, parse_ms};
use crate::model::worker::Spec;
use crate::store::layout::WorkerDir;
use crate::store::workers::{self, Past};
use crate::store::{lock, records};
use crate::sys::signal::Cancel;
use crate::worker::clone::{self, Git};

/// Arguments of `looop prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this worker; all that were put away when absent.
    #[arg(add = complete::worker_ids())]
    id: Option<String>,
    /// Only workers that ended at least so long ago.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_ms)]
    older: i64,
    /// Remove clones whose work is nowhere else, too. There is no way back.
    #[arg(long, requires = "id")]
    force: bool,
    /// Only say what would be removed and what would be kept.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How long git may take for one clone, in milliseconds.
const GIT_MS: i64 = 10 * 60_000;

/// Removes what can go and says what is kept and why.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    put_away_ended(app)?;
    let all = workers::past(&app.layout)?;
    let wanted = match &args.id {
        Some(id) => Some(pick("worker", id, all.iter().map(|past| past.id.as_str()))?.to_owned()),
        None => None,
    };
    let older = |past: &Past| wanted.is_some() || app.now.elapsed_ms(past.ended_ms) >= args.older;
    let chosen =
        all.iter().filter(|past| wanted.as_ref().is_none_or(|id| past.id.as_str() == id) && older(past));
    let cancel = Cancel::on_signals()?;
    let mut rows = Vec::new();
    let mut gone = Vec::new();
    for past in chosen {
        let kept = remove(app, args, past, &cancel)?;
        rows.push(json!({ "id": past.id, "dir": past.dir, "removed": kept.is_none() && !args.dry_run, "kept": kept }));
        if kept.is_none() && !args.dry_run {
            gone.push(past.dir.clone());
        }
    }
    workers::forget(&app.layout, &gone)?;
    say(app, args, &rows, &all);
    Ok(0)
}

/// Workers that have ended and that no beat has put away yet, as where there is no pulse.
fn put_away_ended(app: &App) -> Result<()> {
    let _store = lock::store(&app.layout.store_lock())?;
    let (all, _) = workers::list(&app.layout)?;
    all.iter()
        .filter(|worker| worker.state.phase.is_over())
        .try_for_each(|w| workers::put_away(&app.layout, w))
}

/// Removes one; why it is kept, when it is.
fn remove(app: &App, args: &Args, past: &Past, cancel: &Cancel) -> Result<Option<String>> {
    let dir = WorkerDir(app.layout.past_workers().join(&past.dir));
    let spec = match records::read_json::<Spec>(&dir.spec()) {
        Ok(spec) => spec,
        Err(error) => return Ok(Some(format!("{error:#}"))),
    };
    if let Some(repo) = spec.as_ref().and_then(|spec| spec.repo.as_ref()) {
        let config = app.config()?;
        let git = Git::find(&config.settings.path, GIT_MS, cancel)?;
        let left = if args.dry_run {
            Some(clone::leftovers(&git, repo, &dir.clone_dir()))
                .filter(|left| !args.force && !left.is_empty())
        } else {
            clone::discard(&git, repo, &dir.clone_dir(), args.force)?
        };
        if let Some(left) = left {
            return Ok(Some(left.words()));
        }
    }
    if !args.dry_run {
        match fs::remove_dir_all(dir.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("could not remove `{}`", dir.path().display()));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn say(app: &App, args: &Args, rows: &[Value], all: &[Past]) {
    if args.json {
        return print::json(&envelope("pruned", json!(rows)));
    }
    let word = if args.dry_run { "would remove" } else { "removed" };
    for row in rows {
        let dir = row["dir"].as_str().unwrap_or_default();
        match row["kept"].as_str() {
            None => print::line(&format!("{word} {dir}")),
            Some(why) => print::line(&format!(
                "kept {dir}: {why}; `looop prune {} --force` removes it",
                row["id"].as_str().unwrap_or_default()
            )),
        }
    }
    if rows.is_empty() {
        let count = all.len();
        let words = if count == 0 {
            "nothing was put away".to_owned()
        } else {
            format!("nothing is older than {}: {count} workers are kept", human_ms(args.older))
        };
        print::line(&app.style.dim(&words));
    }
}
