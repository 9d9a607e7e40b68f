//! `looop __exec`: waits for one byte on stdin and then becomes a command; the end of input means never.

use anyhow::Result;

use super::print;
use crate::sys::program;

/// What to become.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The executable's path.
    program: std::path::PathBuf,
    /// The argument vector, the program's name first.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Becomes the command; returns only when it could not, with the shell's exit code for that.
pub fn run(args: &Args) -> Result<u8> {
    let (name, rest) = args.argv.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
    let error = program::exec_when_told(&args.program, name, rest);
    print::note(&format!("error: could not run `{}`: {error}", args.program.display()));
    Ok(126)
}
