//! Whether the breaker halts agents that go round in circles and lets others work: each kind on each seed, breaker on and off.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agents::{self, Kind};
use super::project::Project;
use super::trial::{self, Came, Place, Setup};
use crate::model::fault::Fault;
use crate::sys::proc::{self, Exit, Input, Job, Keep};
use crate::sys::program;
use crate::sys::signal::Cancel;

/// How many processes work at a time.
pub const WIDTH: usize = 2;
/// The most that one of them may print, in bytes.
const MAX_ROWS_BYTES: usize = 64 << 20;
/// How long one of them may take for each case, in milliseconds.
const CASE_MS: i64 = 120_000;

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The first seed.
    pub seed: u64,
    /// How many seeds.
    pub seeds: u64,
    /// The kinds.
    pub kinds: Vec<Kind>,
}

/// What came of one kind on one seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The kind's name.
    pub kind: String,
    /// The seed.
    pub seed: u64,
    /// With the breaker.
    pub on: Came,
    /// Without it.
    pub off: Came,
}

impl Plan {
    fn cases(&self) -> Vec<(u64, Kind)> {
        let seeds = self.seed..self.seed.saturating_add(self.seeds);
        seeds.flat_map(|seed| self.kinds.iter().map(move |kind| (seed, *kind))).collect()
    }
}

/// Runs every [`WIDTH`]th case from the `share`th on, one after the other, and hands on each row. The process must have
/// no other children: what agents leave behind is ended.
///
/// # Errors
/// When a file cannot be written, git is not there, or a human interrupts.
pub fn share(plan: &Plan, share: usize, temp: &Path, path: &str, row: &mut dyn FnMut(&Row)) -> Result<()> {
    let cancel = Cancel::on_signals()?;
    let around = Place::new(temp.join(format!("looop-bench-{}-{share}", std::process::id())))?;
    for (nth, (seed, kind)) in plan.cases().into_iter().enumerate().filter(|(nth, _)| nth % WIDTH == share) {
        let dir = |word: &str| around.dir().join(format!("{nth}-{word}"));
        let on = one(kind, seed, true, dir("on"), path, &cancel)?;
        let off = one(kind, seed, false, dir("off"), path, &cancel)?;
        row(&Row { kind: kind.word().to_owned(), seed, on, off });
    }
    Ok(())
}

fn one(kind: Kind, seed: u64, breaker: bool, dir: PathBuf, path: &str, cancel: &Cancel) -> Result<Came> {
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
    let ran = trial::run(&setup, dir, path, cancel);
    ran.map(|(came, _)| came).with_context(|| format!("could not run {:?} with seed {seed}", kind.word()))
}

/// Runs all cases in [`WIDTH`] processes of this program. `args` are those that make one of them run a share: its number
/// is added. `frame` is called about ten times a second with how many cases are done, of how many.
///
/// # Errors
/// When one of them fails, or a human interrupts.
pub fn run(
    plan: &Plan,
    args: &[String],
    env: &[(String, String)],
    cwd: &Path,
    frame: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Row>> {
    let cancel = Cancel::on_signals()?;
    let cases = plan.cases();
    // Each prints a line for each case that is done.
    let done = Cell::new(0);
    let count = |bytes: &[u8]| {
        done.set(done.get() + bytes.iter().filter(|byte| **byte == b'\n').count());
        true
    };
    let jobs = (0..WIDTH).map(|share| Job {
        program: program::installed_path(),
        args: args.iter().cloned().chain([share.to_string()]).collect(),
        env: env.to_vec(),
        cwd: cwd.to_owned(),
        input: Input::Null,
        keep: Keep::All(MAX_ROWS_BYTES),
        sink: Some(Box::new(count)),
        timeout_ms: CASE_MS.saturating_mul(i64::try_from(cases.len().max(1)).unwrap_or(i64::MAX)),
        gate: None,
        boxed: None,
    });
    let mut turn = || frame(done.get(), cases.len());
    let all = proc::run_all(jobs.collect(), WIDTH, &cancel, Some(&mut turn))?;
    let mut rows = Vec::new();
    for ended in all {
        if ended.exit != Exit::Code(0) {
            let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
            return Err(Fault::failed(format!("could not finish: {}: {said}", ended.exit.words())).into());
        }
        for line in String::from_utf8_lossy(&ended.stdout).lines() {
            rows.push(
                serde_json::from_str::<Row>(line)
                    .context("could not read what a part of the bench printed")?,
            );
        }
    }
    // Shares end in any order; the table does not depend on it.
    let at = |row: &Row| cases.iter().position(|(seed, kind)| *seed == row.seed && kind.word() == row.kind);
    rows.sort_by_key(at);
    Ok(rows)
}
