//! What the code map is worth to a fix: five bugs that lie where only imports lead, with and without it, and an agent that
//! can mend only what it is shown.

mod fixture;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::Output;
use crate::product::{Cancel, become_subreaper};
use crate::trial::{self, Outcome, Setup};
use fixture::BUGS;

/// How many attempts there are at most.
const MOST: u32 = 3;

/// What one run showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sight {
    /// The files of the first prompt, in its order.
    pub files: Vec<String>,
    /// The length of the first prompt, in bytes.
    pub bytes: usize,
    /// How it ended.
    pub outcome: Outcome,
}

/// One bug, with the map and without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// What the task says.
    #[serde(rename = "task")]
    pub prompt: &'static str,
    /// The file with the bug.
    pub faulty: String,
    /// How many files the project has.
    #[serde(rename = "files")]
    pub all: usize,
    /// How many bytes they have.
    #[serde(rename = "bytes")]
    pub all_bytes: usize,
    /// With the map.
    pub with: Sight,
    /// Without it.
    pub without: Sight,
}

#[derive(clap::Args)]
pub struct Args {
    /// The seed; the same seed gives the same result.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    output: Output,
}

/// Runs the benchmark; returns how many bugs are not solved with the map.
pub fn bench(args: &Args) -> Result<usize> {
    // What an agent leaves behind is ended as a child of this process.
    become_subreaper();
    let pairs = run(args.seed)?;
    let tables = format!("`cargo xtask bench map --seed {}`\n\n{}", args.seed, markdown(&pairs));
    let missed = pairs.iter().filter(|pair| !pair.with.outcome.solved).count();
    args.output.put("bench map", &tables, &Report { seed: args.seed, bugs: pairs })?;
    Ok(missed)
}

/// Runs all of it, one after the other.
fn run(seed: u64) -> Result<Vec<Pair>> {
    let cancel = Cancel::on_signals()?;
    let path = std::env::var("PATH").context("there is no PATH")?;
    let around = tempfile::tempdir()?;
    let one = |which: usize, map: bool| -> Result<Sight> {
        let fixture = fixture::fixture(which, seed);
        let setup = Setup {
            files: &fixture.files,
            script: &fixture::script(&fixture),
            listed: vec![fixture.listed.clone()],
            prompt: fixture.prompt,
            check: &["python3", "-m", "unittest", "discover", "-s", "tests", "-t", "."],
            breaker: true,
            map,
            most: MOST,
        };
        let dir = around.path().join(format!("{which}-{map}"));
        let (outcome, prompt) = trial::run(&setup, &dir, &path, &cancel)?;
        let prompt =
            prompt.with_context(|| format!("could not find what the agent was told: {outcome:?}"))?;
        // Where it lies differs from run to run.
        let prompt = prompt.replace(&*around.path().to_string_lossy(), "");
        let files = prompt.lines().filter_map(|line| line.strip_prefix("### ")?.split(' ').next());
        Ok(Sight { files: files.map(str::to_owned).collect(), bytes: prompt.len(), outcome })
    };
    (0..BUGS)
        .map(|which| {
            let fixture = fixture::fixture(which, seed);
            Ok(Pair {
                prompt: fixture.prompt,
                faulty: fixture.faulty,
                all: fixture.files.len(),
                all_bytes: fixture.files.iter().map(|(_, text)| text.len()).sum(),
                with: one(which, true)?,
                without: one(which, false)?,
            })
        })
        .collect()
}

/// The table as Markdown.
fn markdown(pairs: &[Pair]) -> String {
    let mut out = String::from(
        "| task | the bug is in | project | files shown, with / without the map | bytes of the prompt | bug shown as | solved |\n|---|---|---|---|---|---|---|\n",
    );
    let yes = |is: bool| if is { "yes" } else { "no" };
    for pair in pairs {
        let (with, without) = (&pair.with, &pair.without);
        let rank = with.files.iter().position(|file| *file == pair.faulty);
        out.push_str(&format!(
            "| {} | `{}` | {} files, {} bytes | {} / {} | {} / {} | {} / – | {} / {} |\n",
            pair.prompt,
            pair.faulty,
            pair.all,
            pair.all_bytes,
            with.files.len(),
            without.files.len(),
            with.bytes,
            without.bytes,
            rank.map_or("–".to_owned(), |at| (at + 1).to_string()),
            yes(with.outcome.solved),
            yes(without.outcome.solved),
        ));
    }
    out
}

/// The result as `--json` prints it.
#[derive(Serialize)]
struct Report {
    seed: u64,
    /// Each bug, with the map and without it.
    bugs: Vec<Pair>,
}
