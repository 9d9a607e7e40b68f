//! `looop fix`: lets an agent work on tasks in a private clone until their tests pass, and stops an agent that
//! repeats itself.

mod show;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{App, Cancel, Fault, clip, complete, input, print, unknown, visible};
use crate::config::Config;
use crate::fix::leanfile::source::{self, LeanfileOrigin, LeanfileSource};
use crate::fix::leanfile::{self, Leanfile, Task, Tests};
use crate::fix::{self, FixDeps, FixRequest};
use crate::os::process::reaper;
use crate::os::program::find_program;
use crate::rules::fix::TaskStatus;
use crate::rules::text::quote_argv;
use crate::store::file::{self, Durability};
use crate::store::trust;
use crate::vcs::seed;

use show::ProgressView;

/// The leanfile that is read if none is named.
const LEANFILE: &str = "leanfile.toml";
/// The longest text of an issue, in bytes.
const MAX_ISSUE_BYTES: usize = 1 << 20;
/// The longest file of a project that says how it is tested, in bytes.
const MAX_PROJECT_BYTES: usize = 1 << 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 all tasks are done, 1 one failed, 3 it waits for you.\n\nExamples:\n  looop fix --issue 'total() is wrong for an empty list' --repo ~/src/app --test 'pytest -q'\n  looop fix --init\n  looop fix --task parse-dates --branch"
)]
pub struct Args {
    /// A leanfile; values of a later one replace those of an earlier one. Default: leanfile.toml, if it exists.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Vec<PathBuf>,
    /// The static config; leanfiles replace its values.
    #[arg(short = 'g', long = "global", value_name = "FILE")]
    global: Option<PathBuf>,
    /// Work on this task only.
    #[arg(long, value_name = "NAME", conflicts_with = "tasks")]
    task: Option<String>,
    /// Work on these tasks only, by number.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    tasks: Vec<usize>,
    /// The description of one task, instead of the tasks of a leanfile.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["task", "tasks", "issue_file"])]
    issue: Option<String>,
    /// A file with the description of one task; `-` for stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["task", "tasks"])]
    issue_file: Option<PathBuf>,
    /// The project. Default: `project_root` of the leanfile.
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// The test command, as a shell line.
    #[arg(long, value_name = "CMD")]
    test: Option<String>,
    /// The agent for this run: a runner of the config that can fix.
    #[arg(long, value_name = "NAME", add = complete::runner_names())]
    runner: Option<String>,
    /// Leave the result on a branch, and your files unchanged.
    #[arg(long)]
    branch: bool,
    /// Call the agent even if the tests pass already.
    #[arg(long)]
    force: bool,
    /// Start over instead of resuming an interrupted run.
    #[arg(long)]
    fresh: bool,
    /// Write a leanfile that fits the project in its folder, and exit; `-` prints it.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = LEANFILE)]
    init: Option<PathBuf>,
    /// List the agents that can be called, and exit.
    #[arg(long)]
    list_leaners: bool,
    /// Set the agent that is called if no leanfile names one, and exit.
    #[arg(long, value_name = "NAME")]
    set_leaner: Option<String>,
}

/// Runs the tasks. Exit status: 0 all are done, 1 one failed, 2 wrong usage, 3 it waits for the user.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    if let Some(path) = &args.init {
        return init(app, path);
    }
    let config = app.config()?;
    if args.list_leaners {
        return list_leaners(app, &config);
    }
    if let Some(name) = &args.set_leaner {
        return set_leaner(app, &config, name);
    }
    let asked = asked(app, args)?;
    app.note_own_state(&app.layout.fixes());
    if seed::is_set_up(&app.layout) {
        app.enter_data_dir()?;
    }
    let cancel = Cancel::on_signals()?;
    reaper::become_subreaper();
    let endpoints = config.endpoints()?;
    let screen = RefCell::new(ProgressView::new(app));
    let deps = FixDeps {
        layout: &app.layout,
        settings: &config.settings,
        endpoints: &endpoints,
        cancel: &cancel,
        socket: app.inside_worker(),
        report: &|progress| screen.borrow_mut().take(progress),
        live: show::is_watched(),
    };
    let finished = fix::run(&deps, &asked);
    screen.borrow_mut().clear();
    let finished = finished?;
    show::summary(app, &finished, asked.leanfile.defaults.log_token_savings)?;
    let tasks = &finished.run.tasks;
    Ok(match tasks.iter().any(|task| task.status == TaskStatus::Stuck) {
        true => 3,
        false => u8::from(!tasks.iter().all(|task| task.status.is_good())),
    })
}

fn init(app: &App, file: &Path) -> Result<u8> {
    let path = &app.env.here(file);
    let is_printed = file == Path::new("-");
    let folder = path.parent().unwrap_or(Path::new("."));
    let text = leanfile::sample_for(|name| file::read_text(&folder.join(name), MAX_PROJECT_BYTES).ok()?);
    if is_printed {
        return print::page(text);
    }
    if !file::create(path, text.as_bytes(), 0o644)? {
        let what = format!("could not write `{}`: it exists already", path.display());
        return Err(Fault::failed(what).hint("name another file with --init FILE").into());
    }
    if app.user_only("trust a file").is_ok() {
        app.note_own_state(&app.layout.fixes());
        // The user asked for this text, and looop itself is its author.
        trust::allow(&app.layout, &source::place_of(path)?, &text, app.now)?;
    }
    let shown = path.display();
    let next = format!("allow it with `looop trust {shown}`, then run it with `looop fix -c {shown}`");
    app.done(&shown, &format!("wrote {shown}; edit it, {next}"))
}

fn chosen(app: &App) -> Result<Option<String>> {
    let path = app.layout.fixes().join("leaner");
    let text = file::read_text(&path, 4096);
    let text = text.with_context(|| format!("could not read `{}`", path.display()))?;
    Ok(text.map(|text| text.trim().to_owned()).filter(|name| !name.is_empty()))
}

fn list_leaners(app: &App, config: &Config) -> Result<u8> {
    let fixes = &config.settings.fixes;
    let now = chosen(app)?.or_else(|| fixes.runner.clone());
    let endpoints = config.endpoints()?;
    let mut rows = vec![["LEANER", "", "COMMAND"].map(|cell| app.style.dim(cell)).into()];
    for (name, runner) in &fixes.runners {
        let program = runner.argv.first().map_or("", String::as_str);
        let found = find_program(program, &config.settings.path, Path::new("/"));
        let endpoint = endpoints.get(name);
        let is_there = found.is_some() || endpoint.is_some();
        let mark = match (now.as_ref() == Some(name), is_there) {
            (true, true) => "chosen",
            (true, false) => "chosen, not installed",
            (false, true) => "",
            (false, false) => "not installed",
        };
        let command = match endpoint {
            Some(http) => format!("{} at {}, with looop's own tools", http.model, http.base_url),
            None => quote_argv(&runner.argv),
        };
        rows.push(vec![name.clone(), mark.to_owned(), command]);
    }
    app.shown(None, &print::table(&rows))
}

fn set_leaner(app: &App, config: &Config, name: &str) -> Result<u8> {
    let runners = &config.settings.fixes.runners;
    if !runners.contains_key(name) {
        let known = runners.keys().map(String::as_str);
        return Err(unknown(format!("unknown fix runner {name:?}"), known).into());
    }
    app.note_own_state(&app.layout.fixes());
    file::make_dir(&app.layout.fixes())?;
    let path = app.layout.fixes().join("leaner");
    file::write(&path, format!("{name}\n").as_bytes(), 0o600, Durability::Durable)?;
    app.done(name, &format!("{name} is called if no leanfile names another"))
}

/// The request that the arguments and leanfiles make.
fn asked(app: &App, args: &Args) -> Result<FixRequest> {
    let repo = args.repo.as_ref().map(|dir| app.env.here(dir));
    let here = repo.clone().unwrap_or_else(|| app.env.here(Path::new("")));
    let mut files: Vec<PathBuf> = args.config.iter().map(|path| app.env.here(path)).collect();
    let is_found = files.is_empty() && here.join(LEANFILE).is_file();
    if is_found {
        files.push(here.join(LEANFILE));
    }
    let fixed = app.env.leanloop(args.global.as_deref());
    let is_usual = args.global.is_none() && app.env.get("LEANLOOP_CONFIG").is_none();
    if let Some(path) = args.global.as_ref().filter(|_| !fixed.is_file()) {
        let what = format!("could not read the static config `{}`: it does not exist", path.display());
        return Err(Fault::usage(what).into());
    }
    let origin = if is_usual { LeanfileOrigin::Usual } else { LeanfileOrigin::Static };
    let own = if is_found { LeanfileOrigin::Found } else { LeanfileOrigin::Named };
    let all = files.iter().map(|file| (file.clone(), own));
    let all: Vec<_> = std::iter::once((fixed.clone(), origin)).chain(all).collect();
    let mut sources = source::open(&all, &here)?;
    let base = files.last().and_then(|file| file.parent()).unwrap_or(&here);
    if !is_found && !files.is_empty() {
        let root = repo.clone().map_or_else(|| root_of(&sources, base), Ok)?;
        source::claim(&mut sources, Some(&fixed), &root);
    }
    super::leanfile::settle(app, &mut sources)?;
    let read = leanfile::combined(&sources, base)?;
    print::warn(&read.warnings);
    let mut leanfile = read.leanfile;
    if let Some(line) = &args.test {
        let tests = Tests { command: line.clone(), args: Vec::new(), shell: true, ..leanfile.runner.clone() };
        // A whole test suite may take longer than the tests of one small task.
        leanfile.runner = Tests { timeout: tests.timeout.max(600), ..tests };
        let runner = leanfile.runner.clone();
        leanfile.tasks.iter_mut().for_each(|task| task.runner = runner.clone());
    }
    let issue = issue(app, args)?;
    let tasks = choose(args, &leanfile, issue.as_deref())?;
    let key = match &issue {
        Some(text) => format!("issue {text}"),
        None => format!("{files:?}"),
    };
    let leaner = match &args.runner {
        Some(name) => Some(name.clone()),
        None if names_agent(&sources, &fixed, base)? => None,
        None => chosen(app)?,
    };
    Ok(FixRequest {
        tasks,
        inside: read.inside.filter(|_| repo.is_none()),
        root: repo.unwrap_or(read.root),
        near: fixed.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned),
        leanfile,
        key,
        leaner,
        branch: args.branch,
        force: args.force,
        fresh: args.fresh,
    })
}

/// The project folder that the leanfiles name, if all of them are trusted.
fn root_of(sources: &[LeanfileSource], base: &Path) -> Result<PathBuf> {
    let as_trusted = |source: &LeanfileSource| LeanfileSource { project: None, ..source.clone() };
    Ok(leanfile::combined(&sources.iter().map(as_trusted).collect::<Vec<_>>(), base)?.root)
}

/// True if a leanfile, and not only the static config, names the agent: a program, or an endpoint.
fn names_agent(sources: &[LeanfileSource], fixed: &Path, base: &Path) -> Result<bool> {
    let own: Vec<LeanfileSource> = sources.iter().filter(|source| source.path != fixed).cloned().collect();
    Ok(leanfile::combined(&own, base)?.leanfile.lean.names_agent())
}

fn issue(app: &App, args: &Args) -> Result<Option<String>> {
    let text = match (&args.issue, &args.issue_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) if path.as_os_str() == "-" => input::stdin("the issue")?,
        (None, Some(path)) => input::file(app, path, |path| file::read_text(path, MAX_ISSUE_BYTES))?,
        (None, None) => return Ok(None),
    };
    if text.trim().is_empty() {
        return Err(Fault::usage("could not start the fix: the issue is empty").into());
    }
    Ok(Some(text))
}

fn choose(args: &Args, leanfile: &Leanfile, issue: Option<&str>) -> Result<Vec<Task>> {
    let tasks = &leanfile.tasks;
    let only = |name: String, prompt: &str| {
        let (prompt, runner) = (prompt.to_owned(), leanfile.runner.clone());
        Ok(vec![Task { name, prompt, runner, ..Task::default() }])
    };
    if let Some(text) = issue {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        return only(clip(&visible(first.trim(), false), 60), text);
    }
    if tasks.is_empty() {
        if args.task.is_some() || !args.tasks.is_empty() {
            return Err(Fault::usage("could not find a task: the leanfile has none").into());
        }
        return only("whatever fails".to_owned(), "Make the tests pass: fix whatever fails.");
    }
    let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
    if let Some(name) = &args.task {
        let found = tasks.iter().find(|task| task.name == *name).cloned();
        return Ok(vec![found.ok_or(unknown(format!("could not find the task {name:?}"), names))?]);
    }
    if args.tasks.is_empty() {
        return Ok(tasks.clone());
    }
    let pick = |number: &usize| {
        let found = number.checked_sub(1).and_then(|at| tasks.get(at)).cloned();
        let fault = Fault::usage(format!("could not find task {number}"));
        found.ok_or(fault.hint(format!("there are {}: {}", tasks.len(), names.join(", "))).into())
    };
    args.tasks.iter().map(pick).collect()
}
