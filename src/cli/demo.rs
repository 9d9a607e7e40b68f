//! `looop demo`: real beats over real sensors of this machine, with a scripted runner that is announced as scripted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{App, Cancel, Fault, clip, print};
use crate::os::process::{self, Job, OutputLimit, ProcessCommand, ProcessExit};
use crate::os::{clock, program};
use crate::rules::beat::ask::QuestionFile;
use crate::rules::time::beat_id;
use crate::rules::world::example;
use crate::store::file::{self, Durability};
use crate::store::layout::Layout;
use crate::store::{examples, json_file, state_files};
use crate::vcs::history::{FileEdit, History, Signature};
use crate::vcs::seed;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop demo\n  looop demo --repo ~/src/app")]
pub struct Args {
    /// A git repository to observe; without it the demo makes one.
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// Where to put the demo's files; without it, a new temporary directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

const SENSORS: [&str; 2] = ["disk", "git-repos"];

const GOAL: &str = "---\ngoal: the demo repository has no uncommitted work at the end of a day\n---\nSay what is uncommitted and propose how to finish it.\n";
/// What the demo's user writes in the middle of the demo.
const TIDY_GOAL: &str = "---\ngoal: the demo repository is tidy\n---\nLook at what is uncommitted.\n";

pub fn run(app: &App, args: &Args) -> Result<u8> {
    let style = app.style;
    let dir = demo_dir(app, args)?;
    let repo = match &args.repo {
        Some(repo) => {
            std::fs::canonicalize(repo).with_context(|| format!("could not find `{}`", repo.display()))?
        }
        None => make_repo(app, &dir)?,
    };
    let demo = prepare(app, &dir, &repo)?;
    print::line(&style.bold("looop demo"));
    print::line(
        "The runner here is SCRIPTED: its replies are fixed lines in a file, no model is asked and nothing is spent.",
    );
    print::line("All else is real: the sensors, the gate, the moves, the journal, the commits.");

    let step = |text: &str| print::line(&format!("\n{}", style.bold(text)));
    step("1. The first beat senses this machine and decides: write down a goal.");
    demo.looop(&["tick"])?;
    step("2. The next beat sees its own edit, and decides: noop.");
    demo.looop(&["tick"])?;
    step("3. Nothing changed, so this beat asks nobody and writes nothing.");
    demo.looop(&["tick"])?;
    step("4. Somebody edits a goal; the beat wants to run a command, and that needs your yes.");
    demo.looop(&["goal", "write", "tidy-repo", TIDY_GOAL])?;
    demo.looop(&["tick"])?;
    demo.looop(&["asks"])?;
    step("5. Say yes (the demo does it for you, to exactly this hash), and the next beat makes the move.");
    let (ask, hash) = demo.open_approval()?;
    demo.looop(&["approve", &ask, "--hash", &hash])?;
    demo.looop(&["tick"])?;
    step("6. The journal tells it; so does git.");
    demo.looop(&["log"])?;

    let (data, config) = (demo.layout.root().display(), demo.config.display());
    print::line("");
    print::line(&format!("The files are in {data}; look at them with `git -C {data} log --stat`."));
    print::line(&format!("Continue with `LOOOP_DATA_DIR={data} LOOOP_CONFIG={config} looop status`."));
    print::done(
        "With a real runner: install pi (or name any command as \"decide\" in the config), then `looop init` and `looop`.",
    )
}

fn demo_dir(app: &App, args: &Args) -> Result<PathBuf> {
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => app.env.temp_dir().join(format!("looop-demo-{}", beat_id(app.now.unix_ms))),
    };
    if dir.exists() && std::fs::read_dir(&dir)?.next().is_some() {
        let what = format!("could not put the demo into `{}`: it is not empty", dir.display());
        return Err(Fault::usage(what).hint("choose another directory with --dir").into());
    }
    file::make_dir(&dir)?;
    Ok(dir)
}

struct Demo {
    layout: Layout,
    config: PathBuf,
    env: Vec<(String, String)>,
}

fn prepare(app: &App, dir: &Path, repo: &Path) -> Result<Demo> {
    let config_dir = dir.join("config");
    file::make_dir(&config_dir)?;
    let (config, script) = (config_dir.join("looop.json"), config_dir.join("replies.jsonl"));
    let layout = Layout::new(dir.join("data"), dir.join("cache"));
    let path = app.env.path();
    let has_git = program::find_program("git", &path, dir).is_some();
    file::write(&script, replies(repo, has_git).as_bytes(), 0o600, Durability::Atomic)?;
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_else(|_| program::self_path());
    let file_text = json!({
        "path": path,
        "decide": "scripted",
        "runners": { "scripted": { "decide": [own, "__scripted", script], "write": [config_dir] } },
    });
    json_file::write_json(&config, &file_text, Durability::Atomic)?;
    let set = |key: &str, value: &Path| (key.to_owned(), value.to_string_lossy().into_owned());
    let mut env = app.env.all();
    env.retain(|(key, _)| !key.starts_with("LOOOP_"));
    env.extend([
        set("LOOOP_DATA_DIR", layout.root()),
        set("LOOOP_CONFIG", &config),
        set("XDG_CACHE_HOME", layout.cache()),
    ]);
    seed::set_up(&layout, clock::now())?;
    std::fs::remove_file(layout.goals().join("setup.md"))?;
    std::fs::remove_file(layout.goals().join("playbook-daily.md"))?;
    file::write(&layout.goals().join("clean-repo.md"), GOAL.as_bytes(), 0o600, Durability::Atomic)?;
    for name in SENSORS {
        let script = examples::find(name).unwrap_or_default();
        // The script holds the value itself, because a sensor gets only the environment variables that it asks for.
        let repos = [("REPOS".to_owned(), repo.to_string_lossy().into_owned())];
        let values = if name == "git-repos" { repos.into() } else { BTreeMap::new() };
        let script = example::with_values(script, &values, "").map_err(Fault::failed)?;
        let path = layout.sensors().join(format!("{name}.sh"));
        file::write(&path, script.as_bytes(), 0o700, Durability::Atomic)?;
    }
    Ok(Demo { layout, config, env })
}

/// The replies of the scripted runner, one on each line.
fn replies(repo: &Path, has_git: bool) -> String {
    let repo = repo.to_string_lossy();
    let argv = match has_git {
        true => json!(["git", "status", "--short", "--branch"]),
        false => json!(["ls", "-l"]),
    };
    let all = [
        json!({
            "move": "write_goal",
            "id": "finish-today",
            "body": "---\ngoal: what is uncommitted in the repository is finished today\n---\nThe git-repos sensor counts dirty files; this goal is reached when it reads 0.",
            "goal": "clean-repo",
            "why": "the repository has uncommitted files and no goal names them",
        }),
        json!({ "move": "noop", "why": "the goal is written down; the next step is for the user" }),
        json!({
            "move": "run",
            "argv": argv,
            "cwd": repo,
            "goal": "tidy-repo",
            "why": "the exact list of uncommitted files is needed before anything can be proposed",
        }),
        json!({ "move": "noop", "why": "the list is in the journal; finishing the work is for the user" }),
    ];
    all.iter().map(|reply: &Value| format!("{reply}\n")).collect()
}

/// A small repository with one commit, one edited and one new file. It needs no git program.
fn make_repo(app: &App, dir: &Path) -> Result<PathBuf> {
    let repo = dir.join("repo");
    file::make_dir(&repo)?;
    let who = Signature {
        name: "demo".to_owned(),
        email: "demo@localhost".to_owned(),
        unix_s: app.now.unix_ms / 1000,
        utc_offset_s: 0,
    };
    let edits = [FileEdit { path: "README.md".into(), bytes: Some(b"# A demo\n".into()), executable: false }];
    let message = "the first commit\n";
    History::init(&repo)?.commit(message, &who, &who, &edits)?;
    let edited = concat!("# A demo\n\nTO", "DO: say what it is\n");
    file::write(&repo.join("README.md"), edited.as_bytes(), 0o600, Durability::Atomic)?;
    file::write(&repo.join("notes.txt"), b"unfinished\n", 0o600, Durability::Atomic)?;
    Ok(repo)
}

impl Demo {
    /// Runs looop itself in the demo's data dir and prints what the user would see.
    fn looop(&self, args: &[&str]) -> Result<()> {
        let shown: Vec<String> = args.iter().map(|arg| clip(arg.lines().next().unwrap_or(""), 40)).collect();
        print::line(&format!("$ looop {}", shown.join(" ")));
        let command = ProcessCommand::new(program::self_path(), args, self.env.clone(), self.layout.root());
        let job = Job::new(command, OutputLimit::Tail(64 * 1024), 60_000);
        let ended = process::run_one(job, &Cancel::on_signals()?, None)?;
        print::raw(&ended.stdout);
        let is_well = ended.exit == ProcessExit::Code(0);
        ensure!(is_well, "could not continue the demo: `looop {}` failed", shown.join(" "));
        Ok(())
    }

    fn open_approval(&self) -> Result<(String, String)> {
        let (asks, _) = state_files::asks(&self.layout)?;
        let hash = |ask: &QuestionFile| Some((ask.id.to_string(), ask.approval.as_ref()?.hash.clone()));
        let open = asks.values().find_map(|(ask, _)| hash(ask));
        open.context("could not continue the demo: no approval is open")
    }
}

/// Arguments of `__scripted`, the runner of the demo and of tests.
#[derive(Debug, clap::Args)]
pub struct ScriptedArgs {
    /// The script: one reply on each line; the last one is repeated.
    file: PathBuf,
}

/// Reads the prompt and prints the next reply. A file beside the script counts the replies.
pub fn scripted(args: &ScriptedArgs) -> Result<u8> {
    let prompt = std::io::read_to_string(std::io::stdin()).context("could not read the prompt")?;
    let counter = args.file.with_extension("count");
    let given: usize =
        std::fs::read_to_string(&counter).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    std::fs::write(&counter, (given + 1).to_string()).context("could not count the reply")?;
    let script = std::fs::read_to_string(&args.file).context("could not read the script")?;
    let replies: Vec<&str> = script.lines().filter(|line| !line.trim().is_empty()).collect();
    ensure!(!prompt.is_empty(), "could not answer: the prompt is empty");
    let reply = replies.get(given).or(replies.last()).context("could not answer: the script is empty")?;
    print::done(reply)
}
