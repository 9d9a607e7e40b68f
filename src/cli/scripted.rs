//! `looop __scripted FILE`: a runner that replies with the next line of a file; for the demo and for tests.

use anyhow::{Context, Result};

use super::print;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The script: one reply on each line; the last one is repeated.
    file: std::path::PathBuf,
}

/// Reads the prompt and prints the next reply. A file beside the script counts the replies.
pub fn run(args: &Args) -> Result<u8> {
    let prompt = std::io::read_to_string(std::io::stdin()).context("could not read the prompt")?;
    let counter = args.file.with_extension("count");
    let given: usize =
        std::fs::read_to_string(&counter).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    std::fs::write(&counter, (given + 1).to_string()).context("could not count the reply")?;
    let script = std::fs::read_to_string(&args.file).context("could not read the script")?;
    let replies: Vec<&str> = script.lines().filter(|line| !line.trim().is_empty()).collect();
    anyhow::ensure!(!prompt.is_empty(), "could not answer: the prompt is empty");
    let reply = replies.get(given).or(replies.last()).context("could not answer: the script is empty")?;
    print::done(reply)
}
