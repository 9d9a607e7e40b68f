//! Whether the breaker halts agents that repeat themselves and lets others work: each kind of scripted agent on each seed,
//! with the breaker and without.

mod agents;
mod bodies;
mod project;
mod table;

use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::Output;
use crate::product::{Cancel, become_subreaper};
use crate::trial::{self, Outcome, Setup};
use agents::{KINDS, Kind};
use project::Project;

/// How many processes work at a time.
const WIDTH: usize = 2;

#[derive(clap::Args)]
pub struct Args {
    /// The first seed; the same seeds give the same result.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Only these kinds of agents, as the table names them.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kind: Vec<Kind>,
    #[command(flatten)]
    output: Output,
    /// Run a part of it and print one row for each case.
    #[arg(long, hide = true)]
    share: Option<usize>,
}

fn kind(word: &str) -> Result<Kind, String> {
    KINDS.into_iter().find(|kind| kind.word() == word).ok_or_else(|| {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.word()).collect();
        format!("there are: {}", known.join(", "))
    })
}

/// The result of one kind on one seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The kind's name.
    pub kind: String,
    /// The seed.
    pub seed: u64,
    /// With the breaker.
    pub on: Outcome,
    /// Without it.
    pub off: Outcome,
}

impl Args {
    fn kinds(&self) -> &[Kind] {
        if self.kind.is_empty() { &KINDS } else { &self.kind }
    }

    fn cases(&self) -> Vec<(u64, Kind)> {
        let seeds = self.seed..self.seed.saturating_add(self.seeds);
        seeds.flat_map(|seed| self.kinds().iter().map(move |kind| (seed, *kind))).collect()
    }
}

/// Runs the benchmark; returns how many figures were missed.
pub fn bench(args: &Args) -> Result<usize> {
    if let Some(share) = args.share {
        return run_share(args, share).map(|()| 0);
    }
    let began = Instant::now();
    let rows = run(args)?;
    let lines = table::lines(&rows);
    let figures = table::figures(&lines);
    let command = format!("cargo xtask bench stuck --seed {} --seeds {}", args.seed, args.seeds);
    let tables = format!("`{command}`\n\n{}\n{}", table::markdown(&lines), table::figures_markdown(&figures));
    let runs = rows.len() * 2;
    args.output.put("bench stuck", &tables, &table::report(args.seed, args.seeds, rows))?;
    eprintln!("{runs} runs in {} s", began.elapsed().as_secs());
    Ok(figures.iter().filter(|one| !one.met).count())
}

/// Runs every [`WIDTH`]th case from the `share`th on and prints each row. What an agent leaves behind is ended as a child
/// of this process, so each share has a process of its own.
fn run_share(args: &Args, share: usize) -> Result<()> {
    become_subreaper();
    let cancel = Cancel::on_signals()?;
    let path = std::env::var("PATH").context("there is no PATH")?;
    for (seed, kind) in args.cases().into_iter().skip(share).step_by(WIDTH) {
        let run = |breaker| one(kind, seed, breaker, &path, &cancel);
        let row = Row { kind: kind.word().to_owned(), seed, on: run(true)?, off: run(false)? };
        println!("{}", serde_json::to_string(&row)?);
    }
    Ok(())
}

fn one(kind: Kind, seed: u64, breaker: bool, path: &str, cancel: &Cancel) -> Result<Outcome> {
    let project = Project::new(seed, kind == Kind::FlakySignature);
    let setup = Setup {
        files: &project.files(),
        script: &agents::script(kind, seed, &project),
        listed: project.modules().into_iter().map(str::to_owned).collect(),
        prompt: "Some functions of the shop compute the wrong thing. Mend them.",
        check: &["sh", "check.sh"],
        breaker,
        map: true,
        most: agents::MOST as u32,
    };
    let dir = tempfile::tempdir()?;
    let ran = trial::run(&setup, dir.path(), path, cancel);
    ran.map(|(outcome, _)| outcome)
        .with_context(|| format!("could not run {:?} with seed {seed}", kind.word()))
}

/// Runs all cases in [`WIDTH`] processes of this program. On a terminal, stderr shows how many cases are done.
fn run(args: &Args) -> Result<Vec<Row>> {
    let cases = args.cases();
    let done = AtomicUsize::new(0);
    let collected = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..WIDTH)
            .map(|share| {
                let (done, all) = (&done, cases.len());
                scope.spawn(move || rows_of(start_share(args, share)?, done, all))
            })
            .collect();
        shares.into_iter().map(|share| share.join().map_err(|_| ())).collect::<Vec<_>>()
    });
    let mut rows = Vec::new();
    for share in collected {
        let Ok(share) = share else { bail!("a part of the benchmark panicked") };
        rows.extend(share?);
    }
    // The shares end in any order; the table does not depend on it.
    rows.sort_by_key(|row| {
        cases.iter().position(|(seed, kind)| *seed == row.seed && kind.word() == row.kind)
    });
    Ok(rows)
}

fn start_share(args: &Args, share: usize) -> Result<Child> {
    let kinds: Vec<&str> = args.kinds().iter().map(|kind| kind.word()).collect();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "stuck", "--seed", &args.seed.to_string(), "--seeds", &args.seeds.to_string()]);
    command.args(["--kind", &kinds.join(","), "--share", &share.to_string()]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start a part of the benchmark")
}

fn rows_of(mut share: Child, done: &AtomicUsize, all: usize) -> Result<Vec<Row>> {
    let stdout = share.stdout.take().context("a part of the benchmark has no stdout")?;
    let mut rows = Vec::new();
    for line in BufReader::new(stdout).lines() {
        rows.push(serde_json::from_str(&line?).context("could not read a row")?);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if std::io::stderr().is_terminal() {
            eprint!("\r{done} of {all} cases{}", if done == all { "\n" } else { "" });
        }
    }
    let status = share.wait()?;
    ensure!(status.success(), "a part of the benchmark failed: {status}");
    Ok(rows)
}
