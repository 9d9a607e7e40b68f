//! `looop __exec`: waits for one byte on stdin and then becomes a command; the end of input means never.

use anyhow::{Context, Result};

use super::print;
use crate::model::boxing::Boxed;
use crate::store::coverage::SealedFolders;
use crate::sys::sealed::Sealed;
use crate::sys::{program, sandbox};

/// What to become.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The box to become it in, as JSON.
    #[arg(long = "box", value_name = "JSON")]
    boxed: Option<String>,
    /// Files that must still hold what they held, as JSON: pairs of path and blake3.
    #[arg(long, value_name = "JSON")]
    sealed: Option<String>,
    /// Folders that must still hold what they held, as JSON.
    #[arg(long, value_name = "JSON")]
    folders: Option<String>,
    /// The executable's path.
    program: std::path::PathBuf,
    /// The argument vector, the program's name first.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Becomes the command; returns only when it could not, with the shell's exit code for that.
pub fn run(args: &Args) -> Result<u8> {
    let (name, rest) = args.argv.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
    let boxed = args.boxed.as_deref().map(serde_json::from_str::<Boxed>).transpose();
    let boxed = boxed.context("could not read the box of a command")?;
    let sealed = args.sealed.as_deref().map(serde_json::from_str::<Vec<Sealed>>).transpose();
    let sealed = sealed.context("could not read which files a yes was for")?.unwrap_or_default();
    let folders = args.folders.as_deref().map(serde_json::from_str::<SealedFolders>).transpose();
    let folders = folders.context("could not read which folders a yes was for")?;
    if let Err(error) = program::wait_until_told() {
        print::note(&format!("error: could not run `{}`: {error}", args.program.display()));
        return Ok(126);
    }
    // Looked at from outside: in a sandbox other folders may stand above the same one.
    if let Some(Err(error)) = folders.as_ref().map(SealedFolders::check) {
        return Ok(not_begun(&args.argv, &error));
    }
    let error = program::exec(&args.program, name, rest, boxed.as_ref(), &sealed);
    print::note(&format!("error: could not run `{}`: {error}", args.program.display()));
    Ok(126)
}

/// What to become, within walls that are there already.
#[derive(Debug, clap::Args)]
pub struct BoxArgs {
    /// The descriptor by which the sockets of its network are handed out.
    #[arg(long, value_name = "FD")]
    control: Option<i32>,
    /// The box, as JSON.
    boxed: String,
    /// The command; its first element is a path.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Puts on what belongs inside of a box and becomes the command; returns only when it could not.
pub fn run_boxed(args: &BoxArgs) -> Result<u8> {
    let boxed: Boxed = serde_json::from_str(&args.boxed).context("could not read a box")?;
    let error = program::exec_boxed(&boxed, args.control, &args.argv, print::note);
    Ok(not_begun(&args.argv, &error))
}

/// What to run in a box, and the box, whose network a process outside makes.
#[derive(Debug, clap::Args)]
pub struct NetArgs {
    /// The box, as JSON.
    boxed: String,
    /// The command; its first element is a path.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Makes the network of a box and the box in it; returns when the box has ended or could not begin.
pub fn run_networked(args: &NetArgs) -> Result<u8> {
    let boxed: Boxed = serde_json::from_str(&args.boxed).context("could not read a box")?;
    Ok(sandbox::become_networked(&boxed, &args.argv).unwrap_or_else(|error| not_begun(&args.argv, &error)))
}

/// Says that a command did not begin in its box; the exit code for that.
fn not_begun(argv: &[String], error: &std::io::Error) -> u8 {
    let shown = argv.first().map_or("", String::as_str);
    let (line, code) = sandbox::not_begun(shown, error);
    print::note(&line);
    code.try_into().unwrap_or(u8::MAX)
}
