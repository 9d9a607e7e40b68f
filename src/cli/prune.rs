//! `looop prune`: deletes the data of ended workers; work that exists only there stays unless --force.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;

use super::{App, Cancel, complete, human_ms, json_output, pick, print, visible};
use crate::rules::time::parse_ms;
use crate::rules::worker::{Repo, Spec};
use crate::store::layout::WorkerDir;
use crate::store::workers::{self, Past, Worker};
use crate::store::{file, json_file, lock};
use crate::vcs::clone::{self, Git};
use crate::worker::orphans;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop prune --dry-run\n  looop prune --older 7d")]
pub struct Args {
    /// Only the ended workers of this name, or the one in this directory (`fix-ci@1795278270053`).
    #[arg(add = complete::worker_ids())]
    id: Option<String>,
    /// Only workers that ended at least this long ago.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_ms)]
    older: i64,
    /// Delete also work that exists nowhere else. It cannot be recovered.
    #[arg(long, requires = "id")]
    force: bool,
    /// Only print what would be deleted and what would be kept.
    #[arg(long)]
    dry_run: bool,
}

/// The timeout of git for one clone, in milliseconds.
const GIT_MS: i64 = 10 * 60_000;

/// An ended worker and its directory.
struct EndedWorker {
    past: Past,
    dir: WorkerDir,
    /// The worker, if no decision has seen its end yet.
    unseen: Option<Worker>,
}

/// Deletes the data of ended workers and prints what is kept and why.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    let all = ended(app)?;
    let wanted = args.id.as_deref().map(|id| named(id, &all)).transpose()?;
    let is_chosen = |past: &Past| match wanted {
        Some(wanted) => past.id.as_str() == wanted || past.dir == wanted,
        None => app.now.elapsed_ms(past.ended_ms) >= args.older,
    };
    let cancel = Cancel::on_signals()?;
    let mut rows = Vec::new();
    let mut gone = Vec::new();
    for one in all.iter().filter(|one| is_chosen(&one.past)) {
        let past = &one.past;
        let kept =
            if args.dry_run { look(app, args, &one.dir, &cancel)? } else { remove(app, args, one, &cancel)? };
        let removed = kept.is_none() && !args.dry_run;
        rows.push(json_output::Pruned { id: past.id.clone(), dir: past.dir.clone(), removed, kept });
        if removed {
            gone.push(past.dir.clone());
        }
    }
    workers::forget(&app.layout, &gone)?;
    if app.json {
        return print::answer("pruned", rows);
    }
    say(app, args, &rows, all.len());
    Ok(0)
}

/// Lists all ended workers: the archived ones, and those whose end no decision has seen.
fn ended(app: &App) -> Result<Vec<EndedWorker>> {
    let (unseen, _) = workers::list(&app.layout)?;
    let unseen = unseen.into_iter().filter(|worker| worker.state.phase.is_over()).map(|worker| EndedWorker {
        past: Past::of(&app.layout, &worker),
        dir: app.layout.worker(&worker.spec.id),
        unseen: Some(worker),
    });
    let mut all: Vec<EndedWorker> = unseen.collect();
    for past in workers::past(&app.layout)? {
        // The archive's line is written before the directory moves, so a worker may be listed already.
        if all.iter().all(|other| other.past.dir != past.dir) {
            let dir = app.layout.past_worker(&past.dir);
            all.push(EndedWorker { past, dir, unseen: None });
        }
    }
    Ok(all)
}

/// Finds the workers to prune: one by its directory, or all of one name.
fn named<'a>(wanted: &str, all: &'a [EndedWorker]) -> Result<&'a str> {
    if let Some(one) = all.iter().find(|one| one.past.dir == wanted) {
        return Ok(&one.past.dir);
    }
    let ids: BTreeSet<&str> = all.iter().map(|one| one.past.id.as_str()).collect();
    pick("worker", wanted, ids, |id| id)
}

/// The reason to keep a worker, if one exists.
fn look(app: &App, args: &Args, dir: &WorkerDir, cancel: &Cancel) -> Result<Option<String>> {
    let repo = match repo(dir) {
        _ if args.force => return Ok(None),
        Ok(repo) => repo,
        Err(why) => return Ok(Some(why)),
    };
    let Some(repo) = repo else { return Ok(own_files(dir)) };
    let config = app.config()?;
    let git = Git::find(&config.settings.path, GIT_MS, cancel)?;
    let left = clone::leftovers(&git, &repo, &dir.clone_dir());
    Ok((!left.is_empty()).then(|| left.words()))
}

/// Deletes a worker's data. Returns the reason if it is kept.
fn remove(app: &App, args: &Args, one: &EndedWorker, cancel: &Cancel) -> Result<Option<String>> {
    if let Some(worker) = &one.unseen {
        // A worker that is kept stays where it is, so that a decision can see its end.
        if let Some(why) = look(app, args, &one.dir, cancel)? {
            return Ok(Some(why));
        }
        let _store = lock::store(&app.layout.store_lock())?;
        orphans::put_away(&app.layout, worker)?;
    }
    let dir = app.layout.past_worker(&one.past.dir);
    let repo = match repo(&dir) {
        Ok(None) if !args.force && own_files(&dir).is_some() => return Ok(own_files(&dir)),
        Ok(repo) => repo,
        Err(_) if args.force => None,
        Err(why) => return Ok(Some(why)),
    };
    if let Some(repo) = repo {
        let config = app.config()?;
        let git = Git::find(&config.settings.path, GIT_MS, cancel)?;
        if let Some(left) = clone::discard(&git, &repo, &dir.clone_dir(), args.force)? {
            return Ok(Some(left.words()));
        }
    }
    file::remove_tree(dir.path()).map(|()| None)
}

/// The files of a worker without a clone, in words: they exist only in its own directory.
fn own_files(dir: &WorkerDir) -> Option<String> {
    const NAMED: usize = 5;
    let entries = fs::read_dir(dir.clone_dir()).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| visible(&entry.file_name().to_string_lossy(), false)).collect();
    names.sort_unstable();
    let more = if names.len() > NAMED { ", …" } else { "" };
    let first = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| format!("its own directory has {first}{more}"))
}

/// The repository of the worker's clone; none without a clone. The inner error says why it is unknown; then it
/// is also unknown which work exists only in the clone.
fn repo(dir: &WorkerDir) -> Result<Option<Repo>, String> {
    match json_file::read_json::<Spec>(&dir.spec()) {
        Ok(Some(spec)) => Ok(spec.repo),
        Ok(None) if fs::symlink_metadata(dir.clone_dir()).is_err() => Ok(None),
        Ok(None) => {
            Err("its spec.json is missing, so it is unknown whether its work exists elsewhere".to_owned())
        }
        Err(error) => Err(format!("{error:#}")),
    }
}

fn say(app: &App, args: &Args, rows: &[json_output::Pruned], count: usize) {
    let word = if args.dry_run { "would remove" } else { "removed" };
    for row in rows {
        let dir = &row.dir;
        match &row.kept {
            None => print::line(&format!("{word} {dir}")),
            Some(why) => print::line(&format!("kept {dir}: {why}; `looop prune {dir} --force` removes it")),
        }
    }
    if rows.is_empty() {
        let words = if count == 0 {
            "no worker has ended".to_owned()
        } else {
            format!("nothing is older than {}: {count} workers are kept", human_ms(args.older))
        };
        print::line(&app.style.dim(&words));
    }
}
