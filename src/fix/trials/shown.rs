//! What the code map is worth to a fix: five bugs that lie where only imports lead, with and without it, and an agent that
//! can mend only what it is shown.

use std::path::Path;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Serialize;

use super::shop::{self, BUGS};
use super::trial::{self, Came, Place, Setup};
use crate::model::fault::Fault;
use crate::sys::program;
use crate::sys::signal::Cancel;

/// How many attempts there are at most.
const MOST: u32 = 3;

/// What one run showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Sight {
    /// The files of the first prompt, in its order.
    pub files: Vec<String>,
    /// The length of the first prompt, in bytes.
    pub bytes: usize,
    /// How it ended.
    pub came: Came,
}

/// One bug, with the map and without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
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

/// Runs all of it, one after the other. The process must have no other children.
///
/// # Errors
/// When there is no `python3`, a file cannot be written, or a human interrupts.
pub fn run(seed: u64, temp: &Path, path: &str) -> Result<Vec<Pair>> {
    if program::find_program("python3", path, temp).is_none() {
        let fault = Fault::usage("could not run the bench: `python3` is not on the PATH");
        return Err(fault.hint("install Python 3; the projects of this bench are written in it").into());
    }
    let cancel = Cancel::on_signals()?;
    let around = Place::new(temp.join(format!("looop-bench-map-{}", std::process::id())))?;
    let one = |which: usize, map: bool| -> Result<Sight> {
        let shop = shop::shop(which, seed);
        let setup = Setup {
            files: &shop.files,
            script: &shop::script(&shop),
            listed: vec![shop.listed.clone()],
            prompt: shop.prompt,
            check: &["python3", "-m", "unittest", "discover", "-s", "tests", "-t", "."],
            breaker: true,
            map,
            most: MOST,
        };
        let (came, prompt) = trial::run(&setup, around.dir().join(format!("{which}-{map}")), path, &cancel)?;
        let prompt = prompt.with_context(|| format!("could not find what the agent was told: {came:?}"))?;
        // Where it lies differs from run to run.
        let prompt = prompt.replace(&*around.dir().to_string_lossy(), "");
        let files = prompt.lines().filter_map(|line| line.strip_prefix("### ")?.split(' ').next());
        Ok(Sight { files: files.map(str::to_owned).collect(), bytes: prompt.len(), came })
    };
    (0..BUGS)
        .map(|which| {
            let shop = shop::shop(which, seed);
            Ok(Pair {
                prompt: shop.prompt,
                faulty: shop.faulty,
                all: shop.files.len(),
                all_bytes: shop.files.iter().map(|(_, text)| text.len()).sum(),
                with: one(which, true)?,
                without: one(which, false)?,
            })
        })
        .collect()
}

/// The table as Markdown.
pub fn markdown(pairs: &[Pair]) -> String {
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
            yes(with.came.solved),
            yes(without.came.solved),
        ));
    }
    out
}

/// The bench as `looop bench map --json` prints it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Told {
    seed: u64,
    /// Each bug, fixed with the map and without it.
    bugs: Vec<Pair>,
}

/// The bench in the form in which it is printed.
pub fn told(seed: u64, bugs: Vec<Pair>) -> Told {
    Told { seed, bugs }
}
