//! Programs: finding one, becoming one by exec, and starting this one again.

#![allow(clippy::disallowed_methods, reason = "like `proc`, this module starts processes")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::clock::Deadline;
use super::proc::ProcessExit;
use super::sealed::{self, Sealed};
use super::signal::Cancel;
use super::spawn::{exit_watch, ignore, timespec};
use super::{sandbox, session};
use crate::model::boxing::Sandbox;

/// How much of a script the kernel reads to find its interpreter, in bytes.
const MAX_FIRST_LINE_BYTES: u64 = 256;

/// Finds a program: by its path if it has a slash, otherwise on `path`. Only executable regular files count.
pub fn find_program(name: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(cwd.join(name)).filter(|file| is_program(file));
    }
    let dirs = path.split(':').filter(|dir| dir.starts_with('/'));
    dirs.map(|dir| Path::new(dir).join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    let regular = std::fs::metadata(file).is_ok_and(|meta| meta.is_file());
    regular && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Returns the interpreter in the first line of a script, if that program does not exist: the kernel does not start
/// such a script, whatever its mode is.
pub fn missing_interpreter(script: &Path) -> Option<String> {
    let mut first = Vec::new();
    File::open(script).ok()?.take(MAX_FIRST_LINE_BYTES).read_to_end(&mut first).ok()?;
    let line = first.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let named = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
    (named.starts_with('/') && !is_program(Path::new(named))).then(|| named.to_owned())
}

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

/// Refuses a file that the kernel would not execute. The C library would pass such a file to a shell, which would run
/// it as a script although no approval covers that.
///
/// # Errors
/// `ENOEXEC`, as from the kernel.
pub fn check_format(program: &Path) -> io::Result<()> {
    let mut start = [0_u8; 4];
    // An unreadable file may still be executable: the kernel decides then.
    let Ok(read) = std::fs::File::open(program).and_then(|mut file| io::Read::read(&mut file, &mut start))
    else {
        return Ok(());
    };
    let is_known = start.starts_with(b"#!") || start == *b"\x7fELF";
    // The administrator may have registered formats that are unknown here.
    let registered = || std::fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|all| all.count() > 2);
    if is_known || read == 0 || !cfg!(target_os = "linux") || registered() {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::ENOEXEC))
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

/// Returns this program's own file. On Linux it stays the running one even if the file was replaced.
pub fn self_path() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() { link.to_owned() } else { std::env::current_exe().unwrap_or_else(|_| link.to_owned()) }
}

/// Returns true if [`self_path`] exists: on Linux it needs `/proc`.
pub fn finds_itself() -> bool {
    self_path().exists()
}

/// Returns this program's file under a name that stays valid after this process ends, so that another process can start
/// it. If the file was replaced, it is the new one.
pub fn installed_path() -> PathBuf {
    let link = self_path();
    let path = std::fs::read_link(&link).unwrap_or(link);
    // The kernel marks a file that has no name any more.
    let was = path.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map(PathBuf::from);
    was.filter(|_| !path.exists()).unwrap_or(path)
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
