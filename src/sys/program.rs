//! Programs: finding one, becoming one by exec, and starting this one again.

#![allow(clippy::disallowed_methods, reason = "like `proc`, this module starts processes")]

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::clock::Deadline;
pub use super::executable::{find_program, finds_itself, installed_path, missing_interpreter, self_path};
use super::job::ProcessExit;
use super::sealed::{self, Sealed};
use super::signal::Cancel;
use super::wait::{exit_watch, ignore, timespec};
use super::{sandbox, session};
use crate::model::sandbox::Sandbox;

/// Waits for one byte on stdin, which permits the start; the end of file forbids it.
///
/// # Errors
/// Says why the program must not start.
pub fn wait_for_start_byte() -> io::Result<()> {
    let mut byte = [0_u8; 1];
    match rustix::io::read(rustix::stdio::stdin(), &mut byte)? {
        1 => Ok(()),
        _ => Err(io::Error::other("it did not get permission to begin")),
    }
}

/// Becomes another program, inside the sandbox if there is one. Requires that the approved files are unchanged. Returns
/// only if the program did not begin.
pub fn exec(
    program: &Path,
    argv0: &str,
    args: &[String],
    sandbox: Option<&Sandbox>,
    files: &[Sealed],
) -> io::Error {
    match sandbox {
        Some(sandbox) if sandbox.has_files() => match outer(sandbox, program, args) {
            Ok(mut command) => command.stdin(Stdio::null()).exec(),
            Err(error) => error,
        },
        Some(sandbox) if let Err(error) = sandbox::enter(sandbox, None) => error,
        _ => match sealed::check(files, program) {
            Ok(begins) => Command::new(&begins.path).arg0(argv0).args(args).stdin(Stdio::null()).exec(),
            Err(error) => error,
        },
    }
}

fn outer(sandbox: &Sandbox, program: &Path, args: &[String]) -> io::Result<Command> {
    let inner: Vec<String> =
        std::iter::once(program.to_string_lossy().into_owned()).chain(args.iter().cloned()).collect();
    let cwd = rustix::process::getcwd(Vec::new())?;
    let cwd = Path::new(std::ffi::OsStr::from_bytes(cwd.as_bytes()));
    let argv = sandbox::argv(sandbox, cwd, &inner)?;
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]);
    Ok(command)
}

/// Becomes another program inside a sandbox that is built around this process first. Returns only on failure. `tell`
/// receives a message for each access that the program lacks although it should have it.
pub fn exec_sandboxed(sandbox: &Sandbox, control: Option<i32>, argv: &[String], tell: fn(&str)) -> io::Error {
    let Some((program, args)) = argv.split_first() else { return io::Error::other("the command is empty") };
    match sandbox::enter(sandbox, control) {
        Ok(less) => {
            less.iter().for_each(|line| tell(line));
            match sealed::check(&sandbox.sealed, Path::new(program)) {
                Ok(begins) => Command::new(&begins.path).arg0(program).args(args).exec(),
                Err(error) => error,
            }
        }
        Err(error) => error,
    }
}

/// Starts this program again as a child for the pulse: it shares stdout and stderr, and has a session of its own. `env`
/// is added to this process's own environment.
pub fn spawn_self(args: &[&str], env: &[(String, String)]) -> io::Result<Child> {
    let env = env.iter().map(|(key, value)| (key, value));
    session::isolate(Command::new(self_path()).args(args).envs(env).stdin(Stdio::null())).spawn()
}

/// Makes a directory the working directory of this process, so that another one can be removed.
///
/// # Errors
/// When it cannot be entered.
pub fn work_in(dir: &Path) -> io::Result<()> {
    Ok(rustix::process::chdir(dir)?)
}

/// Runs this program once more as a child with the same arguments, terminal and group, and returns its exit code, or
/// 128 plus a signal's number, as a shell does. Forwards signals that ask it to end.
///
/// # Errors
/// When it cannot be started or watched.
pub fn run_again(args: &[OsString]) -> io::Result<u8> {
    let cancel = Cancel::on_signals()?;
    let mut child = Command::new(self_path()).args(args).spawn()?;
    let mut handed_on = false;
    loop {
        let cancel = Some(&cancel).filter(|_| !handed_on);
        match wait_child(&mut child, cancel, i64::from(u32::MAX))? {
            Some(ProcessExit::Code(code)) => return Ok(u8::try_from(code).unwrap_or(1)),
            Some(ProcessExit::Signal(signal)) => return Ok(u8::try_from(128 + signal).unwrap_or(1)),
            Some(_) => return Ok(1),
            None if cancel.is_some_and(Cancel::is_set) => {
                signal_child(&child, false);
                handed_on = true;
            }
            None => {}
        }
    }
}

/// Waits for a child of [`spawn_self`] until it ends or the deadline passes; `None` means that it is still alive.
///
/// # Errors
/// When the child cannot be watched.
pub fn wait_child(
    child: &mut Child,
    cancel: Option<&Cancel>,
    wait_ms: i64,
) -> io::Result<Option<ProcessExit>> {
    let exited = exit_watch(Pid::from_child(child))?;
    let deadline = Deadline::after_ms(wait_ms);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(match (status.code(), status.signal()) {
                (Some(code), _) => ProcessExit::Code(code),
                (None, signal) => ProcessExit::Signal(signal.unwrap_or(0)),
            }));
        }
        if deadline.passed() || cancel.is_some_and(Cancel::is_set) {
            return Ok(None);
        }
        let cancel_fd = cancel.map(Cancel::fd);
        let mut fds = vec![PollFd::new(&exited, PollFlags::IN)];
        fds.extend(cancel_fd.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // If a signal interrupts the wait, the next turn of the loop handles it.
        ignore(poll(&mut fds, Some(&timespec(deadline.left()))));
    }
}

/// Sends a signal to a child that is not reaped yet.
pub fn signal_child(child: &Child, kill: bool) {
    ignore(kill_process(Pid::from_child(child), if kill { Signal::KILL } else { Signal::TERM }));
}

/// Runs a command in the foreground of the user's terminal; returns true if it succeeded.
pub fn run_here(argv: &[String]) -> io::Result<bool> {
    let (program, args) = argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    Ok(Command::new(program).args(args).status()?.success())
}

/// Runs the user's editor on a file, in the foreground of the terminal; returns true if it succeeded. The editor is a
/// shell line, as for git.
pub fn run_interactive(editor: &str, file: &Path) -> io::Result<bool> {
    let line = format!("{editor} \"$@\"");
    let status = Command::new("sh").arg("-c").arg(line).arg(editor).arg(file).status()?;
    Ok(status.success())
}
