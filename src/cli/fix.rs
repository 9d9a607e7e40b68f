//! `looop fix`: works on tasks with an agent in a private clone until their tests pass, and stops one that repeats itself.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{App, input, print};
use crate::config::Config;
use crate::fix::leanfile::{self, Leanfile, SAMPLE, Task, Tests};
use crate::fix::{self, Asked, Finished, Means, Progress, Tone};
use crate::model::ask::visible;
use crate::model::fault::Fault;
use crate::model::fix::{Status, TaskState};
use crate::model::json::clip;
use crate::model::time::human_ms;
use crate::store::file::{self, Keep};
use crate::sys::signal::Cancel;
use crate::sys::tree;

/// The leanfile that is read where none is named.
const LEANFILE: &str = "leanfile.toml";
/// The longest text of an issue, in bytes.
const MAX_ISSUE_BYTES: usize = 1 << 20;

/// Arguments of `looop fix`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A leanfile; several are read one over the other. leanfile.toml where there is one and none is named.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Vec<PathBuf>,
    /// The static config that leanfiles are read over.
    #[arg(short = 'g', long = "global", value_name = "FILE")]
    global: Option<PathBuf>,
    /// Only this task.
    #[arg(long, value_name = "NAME", conflicts_with = "tasks")]
    task: Option<String>,
    /// Only these tasks, by their numbers.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    tasks: Vec<usize>,
    /// One task in words instead of a leanfile's.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["task", "tasks", "issue_file"])]
    issue: Option<String>,
    /// The same from a file; `-` for stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["task", "tasks"])]
    issue_file: Option<PathBuf>,
    /// The project; the leanfile's `project_root` when absent.
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// The test command, as a shell line.
    #[arg(long, value_name = "CMD")]
    test: Option<String>,
    /// The agent for this run: a runner of the config that can fix.
    #[arg(long, value_name = "NAME")]
    runner: Option<String>,
    /// Leave the result on a branch and your files as they are.
    #[arg(long)]
    branch: bool,
    /// Call the agent although the tests pass already.
    #[arg(long)]
    force: bool,
    /// Begin anew instead of going on with a run that was interrupted.
    #[arg(long)]
    fresh: bool,
    /// Write a leanfile to begin with, and end.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = LEANFILE)]
    init: Option<PathBuf>,
    /// List who can be called, and end.
    #[arg(long)]
    list_leaners: bool,
    /// Choose who is called where no leanfile says so, and end.
    #[arg(long, value_name = "NAME")]
    set_leaner: Option<String>,
}

/// Runs the tasks. Exit 0: all are done. 1: one failed. 2: wrong usage. 3: a human is waited for.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    if let Some(path) = &args.init {
        return init(&app.env.here(path));
    }
    let config = app.config()?;
    if args.list_leaners {
        return list_leaners(app, &config);
    }
    if let Some(name) = &args.set_leaner {
        return set_leaner(app, &config, name);
    }
    let asked = asked(app, args)?;
    let cancel = Cancel::on_signals()?;
    tree::become_subreaper();
    let means = Means { layout: &app.layout, settings: &config.settings, cancel: &cancel };
    let began = crate::sys::clock::Deadline::after_ms(0);
    let mut say = |progress: &Progress| {
        let text = visible(&progress.text, false);
        let text = match progress.tone {
            Tone::Plain => text,
            Tone::Good => app.style.green(&text),
            Tone::Warn => app.style.yellow(&text),
            Tone::Bad => app.style.red(&text),
        };
        print::line(&format!("{:>7}  {text}", human_ms(began.spent_ms())));
    };
    let finished = fix::run(&means, &asked, &mut say)?;
    summary(app, &finished, asked.leanfile.defaults.log_token_savings);
    let has = |status: Status| finished.run.tasks.iter().any(|task| task.status == status);
    Ok(match (has(Status::Stuck), finished.run.tasks.iter().all(|task| task.status.is_good())) {
        (true, _) => 3,
        (false, true) => 0,
        (false, false) => 1,
    })
}

fn init(path: &Path) -> Result<u8> {
    if !file::create(path, SAMPLE.as_bytes(), 0o644)? {
        let what = format!("could not write `{}`: it is there already", path.display());
        return Err(Fault::failed(what).hint("name another file with --init FILE").into());
    }
    print::line(&format!("wrote {}; run it with `looop fix -c {}`", path.display(), path.display()));
    Ok(0)
}

fn chosen(app: &App) -> Result<Option<String>> {
    let path = app.layout.fixes().join("leaner");
    let text =
        file::read_text(&path, 4096).with_context(|| format!("could not read `{}`", path.display()))?;
    Ok(text.map(|text| text.trim().to_owned()).filter(|name| !name.is_empty()))
}

fn list_leaners(app: &App, config: &Config) -> Result<u8> {
    let fixes = &config.settings.fixes;
    let now = chosen(app)?.or_else(|| fixes.runner.clone());
    let mut rows = vec![["LEANER", "", "COMMAND"].map(|cell| app.style.dim(cell)).into()];
    for (name, runner) in &fixes.runners {
        let program = runner.argv.first().map_or("", String::as_str);
        let found = crate::sys::program::find_program(program, &config.settings.path, Path::new("/"));
        let mark = match (now.as_ref() == Some(name), found) {
            (true, _) => "chosen",
            (false, Some(_)) => "",
            (false, None) => "not installed",
        };
        rows.push(vec![name.clone(), mark.to_owned(), crate::model::ask::quote_argv(&runner.argv)]);
    }
    print::raw(print::table(&rows).as_bytes());
    Ok(0)
}

fn set_leaner(app: &App, config: &Config, name: &str) -> Result<u8> {
    let runners = &config.settings.fixes.runners;
    if !runners.contains_key(name) {
        let known: Vec<&str> = runners.keys().map(String::as_str).collect();
        let fault = Fault::usage(format!("could not choose {name:?}: it is no runner that can fix"));
        return Err(fault.hint(format!("there are: {}", known.join(", "))).into());
    }
    file::make_dir(&app.layout.fixes())?;
    file::write(&app.layout.fixes().join("leaner"), format!("{name}\n").as_bytes(), 0o600, Keep::Durable)?;
    print::line(&format!("{name} is called where no leanfile names another"));
    Ok(0)
}

/// What the arguments and leanfiles ask for.
fn asked(app: &App, args: &Args) -> Result<Asked> {
    let repo = args.repo.as_ref().map(|dir| app.env.here(dir));
    let here = repo.clone().unwrap_or_else(|| app.env.here(Path::new("")));
    let mut files: Vec<PathBuf> = args.config.iter().map(|path| app.env.here(path)).collect();
    if files.is_empty() && here.join(LEANFILE).is_file() {
        files.push(here.join(LEANFILE));
    }
    let fixed = app.env.leanloop(args.global.as_deref());
    if let Some(path) = args.global.as_ref().filter(|_| !fixed.is_file()) {
        return Err(Fault::usage(format!(
            "could not read the static config `{}`: it does not exist",
            path.display()
        ))
        .into());
    }
    let read = leanfile::read(Some(&fixed), &files, &here)?;
    for warning in &read.warnings {
        print::note(&format!("warning: {warning}"));
    }
    let mut leanfile = read.leanfile;
    if let Some(line) = &args.test {
        let tests = Tests { command: line.clone(), args: Vec::new(), shell: true, ..leanfile.runner.clone() };
        // A whole suite by hand may take longer than the tests of one small task.
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
    let leaner = match (&args.runner, &leanfile.lean.binary) {
        (Some(name), _) => Some(name.clone()),
        (None, Some(_)) if names_binary(&files)? => None,
        (None, _) => chosen(app)?,
    };
    Ok(Asked {
        tasks,
        root: repo.unwrap_or(read.root),
        near: fixed.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned),
        leanfile,
        key,
        leaner,
        branch: args.branch,
        force: args.force,
        fresh: args.fresh,
        socket: app.inside_worker(),
    })
}

/// True when a leanfile, and not only the static config, names the agent.
fn names_binary(files: &[PathBuf]) -> Result<bool> {
    let own = leanfile::read(None, files, Path::new("/"))?;
    Ok(own.leanfile.lean.binary.is_some())
}

fn issue(app: &App, args: &Args) -> Result<Option<String>> {
    let text = match (&args.issue, &args.issue_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) if path.as_os_str() == "-" => input::stdin("the issue")?,
        (None, Some(path)) => {
            let path = app.env.here(path);
            let text = file::read_text(&path, MAX_ISSUE_BYTES)
                .map_err(|error| Fault::usage(format!("could not read `{}`: {error}", path.display())))?;
            text.ok_or_else(|| {
                Fault::usage(format!("could not read `{}`: it does not exist", path.display()))
            })?
        }
        (None, None) => return Ok(None),
    };
    if text.trim().is_empty() {
        return Err(Fault::usage("could not begin: the issue is empty").into());
    }
    Ok(Some(text))
}

fn choose(args: &Args, leanfile: &Leanfile, issue: Option<&str>) -> Result<Vec<Task>> {
    if let Some(text) = issue {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        return Ok(vec![Task {
            name: clip(&visible(first.trim(), false), 60),
            prompt: text.to_owned(),
            runner: leanfile.runner.clone(),
            ..Task::default()
        }]);
    }
    if leanfile.tasks.is_empty() {
        if args.task.is_some() || !args.tasks.is_empty() {
            return Err(Fault::usage("could not choose a task: the leanfile has none").into());
        }
        let prompt = "Make the tests pass: fix whatever fails.".to_owned();
        let name = "whatever fails".to_owned();
        return Ok(vec![Task { name, prompt, runner: leanfile.runner.clone(), ..Task::default() }]);
    }
    let names = || leanfile.tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = &args.task {
        let found = leanfile.tasks.iter().find(|task| task.name == *name);
        let fault = || {
            Fault::usage(format!("could not find the task {name:?}")).hint(format!("there are: {}", names()))
        };
        return Ok(vec![found.cloned().ok_or_else(fault)?]);
    }
    if args.tasks.is_empty() {
        return Ok(leanfile.tasks.clone());
    }
    let pick = |number: &usize| {
        let found = number.checked_sub(1).and_then(|at| leanfile.tasks.get(at)).cloned();
        let fault = || {
            Fault::usage(format!("could not find task {number}")).hint(format!(
                "there are {}: {}",
                leanfile.tasks.len(),
                names()
            ))
        };
        found.ok_or_else(fault)
    };
    Ok(args.tasks.iter().map(pick).collect::<Result<Vec<Task>, Fault>>()?)
}

fn summary(app: &App, finished: &Finished, savings: bool) {
    let head = ["TASK", "RESULT", "TIME", "TOKENS", ""].map(|cell| app.style.dim(cell));
    let mut rows: Vec<Vec<String>> = vec![head.into()];
    let count = |tokens: u64, estimated: bool| format!("{}{tokens}", if estimated { "~" } else { "" });
    for task in &finished.run.tasks {
        let word = task.status.words();
        let word = match task.status {
            Status::Failed => app.style.red(word),
            Status::Stuck => app.style.yellow(word),
            status if status.is_good() => app.style.green(word),
            _ => word.to_owned(),
        };
        let note = match task.status {
            Status::Stuck => format!("looop answer {}", task.note),
            _ => clip(&visible(&task.note, false), 100),
        };
        let tokens = count(task.tokens, task.estimated);
        rows.push(vec![task.title.clone(), word, human_ms(task.took_ms), tokens, note]);
    }
    print::line("");
    print::raw(print::table(&rows).as_bytes());
    print::line(&visible(&finished.landed.words(), false));
    let sum = |of: fn(&TaskState) -> u64| finished.run.tasks.iter().map(of).fold(0, u64::saturating_add);
    let local = sum(|task| task.local_tokens);
    if savings && local > 0 {
        let estimated = finished.run.tasks.iter().any(|task| task.estimated);
        let words = if estimated { " (an estimate)" } else { "" };
        print::line(&format!(
            "{} tokens stayed with the first agent and cost no other{words}",
            count(local, estimated)
        ));
    }
    if finished.run.tasks.iter().any(|task| matches!(task.status, Status::Failed | Status::Stuck)) {
        let goal = finished.run.tasks.iter().find(|task| !task.status.is_good());
        let goal = goal.map_or("", |task| task.goal.as_str());
        print::line(&format!("what was tried: looop attempts {goal}"));
    }
    // A pipe that is closed is noticed now and not at the end of the process.
    drop(std::io::stdout().flush());
}
