//! `looop bench`: what the fix loop is measured by, on seeded bugs, with scripted agents.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use serde_json::json;

use super::{App, envelope_with, print};
use crate::fix::trials::agents::{KINDS, Kind};
use crate::fix::trials::{shown, stuck, table};
use crate::model::fault::Fault;
use crate::model::time::human_ms;
use crate::store::file::{self, Keep};
use crate::sys::clock::Deadline;
use crate::sys::tree;

/// The largest page that a report is put into, in bytes.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// The benches.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Whether agents that go round in circles are halted, and others not. Exit 1: a figure is missed.
    Stuck(StuckArgs),
    /// What the code map is worth to a fix. Exit 1: a bug is not solved with it.
    Map(MapArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop bench map --seed 7")]
pub struct MapArgs {
    /// The seed; the same seed gives the same result.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write the table into a Markdown page: between the marks that an earlier report left there, else at its end.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop bench stuck --seeds 5 --kind tweak,oscillate")]
pub struct StuckArgs {
    /// The first seed; the same seeds give the same result.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Only these kinds of agents, as the table names them.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write the tables into a Markdown page: between the marks that an earlier report left there, else at its end.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Run a part of it and print one row for each case.
    #[arg(long, hide = true)]
    share: Option<usize>,
}

/// Runs a bench.
pub fn run(app: &App, verb: Verb) -> Result<u8> {
    match verb {
        Verb::Stuck(args) => stuck_bench(app, &args),
        Verb::Map(args) => map_bench(app, &args),
    }
}

fn stuck_bench(app: &App, args: &StuckArgs) -> Result<u8> {
    let plan = stuck::Plan { seed: args.seed, seeds: args.seeds, kinds: kinds(&args.kind)? };
    if let Some(share) = args.share {
        tree::become_subreaper();
        let mut row = |row: &stuck::Row| {
            // A row of numbers and words is JSON, whatever is in it.
            print::json_text(&(serde_json::to_string(row).unwrap_or_default() + "\n"));
        };
        stuck::share(&plan, share, &app.env.temp_dir(), &app.env.path(), &mut row)?;
        return Ok(0);
    }
    let names: Vec<&str> = plan.kinds.iter().map(|kind| kind.word()).collect();
    let mut words = vec!["bench".to_owned(), "stuck".to_owned()];
    let pairs =
        [("--seed", args.seed.to_string()), ("--seeds", args.seeds.to_string()), ("--kind", names.join(","))];
    words.extend(pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
    words.push("--share".to_owned());
    let began = Deadline::after_ms(0);
    let on_screen = print::stderr_is_tty();
    let mut told = |done, all| {
        if on_screen {
            print::redraw(&app.style.dim(&format!("{done} of {all} cases · {}", human_ms(began.spent_ms()))));
        }
    };
    let rows = stuck::run(&plan, &words, &app.env.all(), &app.env.here(Path::new("")), &mut told);
    if on_screen {
        print::redraw("");
    }
    let rows = rows?;
    let lines = table::lines(&rows);
    let figures = table::figures(&lines);
    let missed = figures.iter().filter(|one| !one.met).count();
    let runs = rows.len() * 2;
    let command = format!("looop bench stuck --seed {} --seeds {}", args.seed, args.seeds);
    let report = format!("`{command}`\n\n{}\n{}", table::markdown(&lines), table::figures_markdown(&figures));
    if let Some(path) = &args.report {
        write(&app.env.here(path), "bench stuck", &report)?;
    }
    match args.json {
        true => print::json(&envelope_with(json!(table::told(args.seed, args.seeds, rows)))),
        false => print::line(&report),
    }
    print::note(&format!("{runs} runs in {}", human_ms(began.spent_ms())));
    if missed > 0 {
        print::note(&format!("{missed} figures missed"));
        return Ok(1);
    }
    Ok(0)
}

fn map_bench(app: &App, args: &MapArgs) -> Result<u8> {
    tree::become_subreaper();
    let pairs = shown::run(args.seed, &app.env.temp_dir(), &app.env.path())?;
    let report = format!("`looop bench map --seed {}`\n\n{}", args.seed, shown::markdown(&pairs));
    if let Some(path) = &args.report {
        write(&app.env.here(path), "bench map", &report)?;
    }
    let all_solved = pairs.iter().all(|pair| pair.with.came.solved);
    match args.json {
        true => print::json(&envelope_with(json!(shown::told(args.seed, pairs)))),
        false => print::line(report.trim_end()),
    }
    Ok(u8::from(!all_solved))
}

fn kinds(names: &[String]) -> Result<Vec<Kind>> {
    if names.is_empty() {
        return Ok(KINDS.to_vec());
    }
    let find = |name: &String| {
        KINDS.into_iter().find(|kind| kind.word() == name).ok_or_else(|| {
            let known: Vec<&str> = KINDS.iter().map(|kind| kind.word()).collect();
            Fault::usage(format!("could not find the kind {name:?}"))
                .hint(format!("there are: {}", known.join(", ")))
        })
    };
    Ok(names.iter().map(find).collect::<Result<Vec<Kind>, Fault>>()?)
}

fn write(path: &Path, name: &str, report: &str) -> Result<()> {
    let shown = path.display();
    let page = file::read_text(path, MAX_PAGE_BYTES).with_context(|| format!("could not read `{shown}`"))?;
    let page = table::insert(&page.unwrap_or_default(), name, report);
    file::write(path, page.as_bytes(), 0o644, Keep::Whole)
}
