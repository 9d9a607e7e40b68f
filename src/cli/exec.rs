//! `looop __exec-gated`: waits for one byte on stdin, then executes a command. At end of input it executes nothing.

use anyhow::{Context, Result};

use super::print;
use crate::os::program;
use crate::os::sealed::Sealed;
use crate::rules::sandbox::Sandbox;
use crate::sandbox;
use crate::store::coverage::SealedFolders;

/// Arguments of `__exec-gated`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sandbox of the command, as JSON.
    #[arg(long = "sandbox", value_name = "JSON")]
    sandbox: Option<String>,
    /// Files whose content must be unchanged, as JSON: pairs of path and blake3 digest.
    #[arg(long, value_name = "JSON")]
    sealed: Option<String>,
    /// Directories whose content must be unchanged, as JSON.
    #[arg(long, value_name = "JSON")]
    folders: Option<String>,
    /// The executable's path.
    program: std::path::PathBuf,
    /// The argument vector, with the program's name first.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Executes the command. Returns only if that failed, with the shell's exit code for it.
pub fn run(args: &Args) -> Result<u8> {
    let (name, rest) = args.argv.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
    let sandbox = args.sandbox.as_deref().map(serde_json::from_str::<Sandbox>).transpose();
    let sandbox = sandbox.context("could not read the sandbox of a command")?;
    let sealed = args.sealed.as_deref().map(serde_json::from_str::<Vec<Sealed>>).transpose();
    let sealed = sealed.context("could not read which files the approval covers")?.unwrap_or_default();
    let folders = args.folders.as_deref().map(serde_json::from_str::<SealedFolders>).transpose();
    let folders = folders.context("could not read which directories the approval covers")?;
    if let Err(error) = program::wait_for_start_byte() {
        print::note(&format!("error: could not run `{}`: {error}", args.program.display()));
        return Ok(126);
    }
    // Checked outside of the sandbox: inside, other directories may be mounted above the same one.
    if let Some(Err(error)) = folders.as_ref().map(SealedFolders::check) {
        return Ok(not_begun(&args.argv, &error));
    }
    let error = sandbox::exec(&args.program, name, rest, sandbox.as_ref(), &sealed);
    print::note(&format!("error: could not run `{}`: {error}", args.program.display()));
    Ok(126)
}

/// Arguments of `__sandbox-exec`: a command to execute in namespaces that exist already.
#[derive(Debug, clap::Args)]
pub struct SandboxArgs {
    /// The file descriptor over which the sockets of its network are passed.
    #[arg(long, value_name = "FD")]
    control: Option<i32>,
    /// The sandbox, as JSON.
    sandbox: String,
    /// The command; its first element is a path.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Applies the inner part of the sandbox and executes the command; returns only if that failed.
pub fn run_sandboxed(args: &SandboxArgs) -> Result<u8> {
    let sandbox: Sandbox = serde_json::from_str(&args.sandbox).context("could not read a sandbox")?;
    let error = sandbox::exec_sandboxed(&sandbox, args.control, &args.argv, print::note);
    Ok(not_begun(&args.argv, &error))
}

/// Arguments of `__net`: a sandbox, whose network a process outside creates, and a command to run in it.
#[derive(Debug, clap::Args)]
pub struct NetArgs {
    /// The sandbox, as JSON.
    sandbox: String,
    /// The command; its first element is a path.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Creates the network of a sandbox and the sandbox in it. Returns when the sandboxed command has ended or
/// could not start.
pub fn run_networked(args: &NetArgs) -> Result<u8> {
    let sandbox: Sandbox = serde_json::from_str(&args.sandbox).context("could not read a sandbox")?;
    Ok(sandbox::become_networked(&sandbox, &args.argv).unwrap_or_else(|error| not_begun(&args.argv, &error)))
}

/// Prints that a command could not start in its sandbox, and returns the exit code for that.
fn not_begun(argv: &[String], error: &std::io::Error) -> u8 {
    let shown = argv.first().map_or("", String::as_str);
    let (line, code) = sandbox::not_begun(shown, error);
    print::note(&line);
    code.try_into().unwrap_or(u8::MAX)
}
