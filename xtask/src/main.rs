//! What developers run and users do not get: `cargo xtask bench NAME`. Each benchmark fails when a target is missed.

mod beat;
mod code_map;
mod index;
mod measure;
mod product;
mod seed;
mod stuck;
mod trial;
mod workers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Serialize;

#[derive(Parser)]
#[command(name = "cargo xtask", version, about = "What developers run and users do not get")]
enum Cli {
    /// Run one benchmark.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Time ticks and listings against floors that are measured in the same run.
    Beat(Rounds),
    /// Time workers and measure their supervisors' memory, with the program as it is released.
    Workers(Rounds),
    /// Time the code map over a project of 2,000 files.
    Index(Rounds),
    /// Count how often the breaker confuses a tweak with another change, on real diffs.
    Measure {
        /// More repositories whose history is read.
        dirs: Vec<PathBuf>,
    },
    /// Count how often the breaker halts scripted agents that repeat themselves, and agents that do not.
    Stuck(stuck::Args),
    /// Compare fixes with the code map and without it, on five projects with a bug.
    Map(code_map::Args),
}

/// How thorough a benchmark is.
#[derive(clap::Args)]
struct Rounds {
    /// Take fewer rounds, with targets for a busy machine.
    #[arg(long)]
    quick: bool,
}

/// How a benchmark prints its result.
#[derive(clap::Args)]
struct Output {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write the tables into a Markdown page: between the marks of an earlier report, or at the end.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Cli::Bench(bench) = Cli::parse();
    let result = match bench {
        Bench::Beat(rounds) => looop("release").map(|program| beat::run(&program, rounds.quick)),
        // Releases are built as `dist`, which takes minutes of its own; the gate does without.
        Bench::Workers(rounds) => looop(if rounds.quick { "release" } else { "dist" })
            .map(|program| workers::run(&program, rounds.quick)),
        Bench::Index(rounds) => Ok(index::run(rounds.quick)),
        Bench::Measure { dirs } => Ok(measure::run(dirs)),
        Bench::Stuck(args) => stuck::bench(&args),
        Bench::Map(args) => code_map::bench(&args),
    };
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("{missed} targets missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Builds `looop` with a profile and returns its path.
fn looop(profile: &str) -> Result<PathBuf> {
    let build = ["build", "--locked", "--quiet", "--package", "looop-loop", "--bin", "looop", "--profile"];
    let mut cargo = Command::new("cargo");
    cargo.args(build).arg(profile).current_dir(root());
    // `cargo run` sets these for this program. The build script of `ring` looks at them, so that with them all that needs
    // it is built again, and once more for the next benchmark.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            cargo.env_remove(name);
        }
    }
    ensure!(cargo.status().context("could not start cargo")?.success(), "could not build looop");
    // This program is `target/PROFILE/xtask`.
    let own = std::env::current_exe().context("could not find the path of this program")?;
    let target = own.ancestors().nth(2).context("this program is not in a target directory")?;
    Ok(target.join(profile).join("looop"))
}

/// The repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

impl Output {
    /// Prints a result, and writes its tables into the page.
    fn put(&self, name: &str, tables: &str, json: &impl Serialize) -> Result<()> {
        if let Some(path) = &self.report {
            let page = match fs::read_to_string(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
                read => read,
            };
            let page = page.with_context(|| format!("could not read `{}`", path.display()))?;
            fs::write(path, insert(&page, name, tables))
                .with_context(|| format!("could not write `{}`", path.display()))?;
        }
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(json)?),
            false => println!("{}", tables.trim_end()),
        }
        Ok(())
    }
}

/// Puts a text between the marks of this name in a page. A page without them gets the marks and the text at its end.
fn insert(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let inside = format!("{begin}\n{}\n{end}", text.trim_end());
    let place = page.find(&begin).and_then(|from| Some((from, from + page[from..].find(&end)? + end.len())));
    match place {
        Some((from, to)) => format!("{}{inside}{}", &page[..from], &page[to..]),
        None if page.is_empty() => format!("{inside}\n"),
        None => format!("{}\n\n{inside}\n", page.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::insert;

    #[test]
    fn a_report_keeps_the_rest_of_its_page() {
        let page = insert("# T\n", "x", "one");
        assert_eq!(page, "# T\n\n<!-- x: begin -->\none\n<!-- x: end -->\n");
        assert_eq!(
            insert(&format!("{page}\nend\n"), "x", "two"),
            "# T\n\n<!-- x: begin -->\ntwo\n<!-- x: end -->\n\nend\n"
        );
    }
}
