//! Programs: finding one, becoming one, and starting this one again.

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
use super::proc::Exit;
use super::sealed::{self, Sealed};
use super::signal::Cancel;
use super::spawn::{exit_watch, ignore, timespec};
use super::{sandbox, session};
use crate::model::boxing::Boxed;

/// How much of a script the kernel looks at for its interpreter, in bytes.
const MAX_FIRST_LINE_BYTES: u64 = 256;

/// Finds a program: as it stands when it has a slash, else on `path`. Only executable regular files count.
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

/// The interpreter that the first line of a script names, where there is no such program: the kernel does not begin
/// that script, whatever its mode says.
pub fn missing_interpreter(script: &Path) -> Option<String> {
    let mut first = Vec::new();
    File::open(script).ok()?.take(MAX_FIRST_LINE_BYTES).read_to_end(&mut first).ok()?;
    let line = first.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let named = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
    (named.starts_with('/') && !is_program(Path::new(named))).then(|| named.to_owned())
}

/// Waits for one byte on stdin; the end of file means that nothing must begin.
///
/// # Errors
/// Why nothing must begin.
pub fn wait_until_told() -> io::Result<()> {
    let mut byte = [0_u8; 1];
    match rustix::io::read(rustix::stdio::stdin(), &mut byte)? {
        1 => Ok(()),
        _ => Err(io::Error::other("it was not told to begin")),
    }
}

/// Becomes another program; with a box it becomes it within. Only on files that are still what they were. Returns only
/// when it did not begin.
pub fn exec(
    program: &Path,
    argv0: &str,
    args: &[String],
    boxed: Option<&Boxed>,
    files: &[Sealed],
) -> io::Error {
    match boxed {
        Some(boxed) if boxed.has_files() => match outer(boxed, program, args) {
            Ok(mut command) => command.stdin(Stdio::null()).exec(),
            Err(error) => error,
        },
        Some(boxed) if let Err(error) = sandbox::enter(boxed, None) => error,
        _ => match sealed::check(files, program) {
            Ok(begins) => Command::new(&begins.path).arg0(argv0).args(args).stdin(Stdio::null()).exec(),
            Err(error) => error,
        },
    }
}

fn outer(boxed: &Boxed, program: &Path, args: &[String]) -> io::Result<Command> {
    let inner: Vec<String> =
        std::iter::once(program.to_string_lossy().into_owned()).chain(args.iter().cloned()).collect();
    let cwd = rustix::process::getcwd(Vec::new())?;
    let cwd = Path::new(std::ffi::OsStr::from_bytes(cwd.as_bytes()));
    let argv = sandbox::argv(boxed, cwd, &inner)?;
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]);
    Ok(command)
}

/// Becomes another program within walls that are built around this process first. Returns only when it could not.
/// `tell` gets what the program has less than it was meant to have.
pub fn exec_boxed(boxed: &Boxed, control: Option<i32>, argv: &[String], tell: fn(&str)) -> io::Error {
    let Some((program, args)) = argv.split_first() else { return io::Error::other("the command is empty") };
    match sandbox::enter(boxed, control) {
        Ok(less) => {
            less.iter().for_each(|line| tell(line));
            match sealed::check(&boxed.sealed, Path::new(program)) {
                Ok(begins) => Command::new(&begins.path).arg0(program).args(args).exec(),
                Err(error) => error,
            }
        }
        Err(error) => error,
    }
}

/// Starts this program again as a child for the pulse: it shares stdout and stderr, and has a session of its own. `env`
/// goes on top of this process's own environment.
///
/// # Errors
/// When it cannot be started.
pub fn spawn_self(args: &[&str], env: &[(String, String)]) -> io::Result<Child> {
    let env = env.iter().map(|(key, value)| (key, value));
    session::isolate(Command::new(self_path()).args(args).envs(env).stdin(Stdio::null())).spawn()
}

/// Refuses a file that the kernel would not execute. The C library gives such a file to a shell instead, which would run
/// something that no approval saw as a script.
///
/// # Errors
/// `ENOEXEC`, as from the kernel.
pub fn check_format(program: &Path) -> io::Result<()> {
    let mut start = [0_u8; 4];
    // What cannot be read may still be executed: the kernel answers then.
    let Ok(read) = std::fs::File::open(program).and_then(|mut file| io::Read::read(&mut file, &mut start))
    else {
        return Ok(());
    };
    let is_known = start.starts_with(b"#!") || start == *b"\x7fELF";
    // Formats that the machine's administrator registered are unknown here.
    let registered = || std::fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|all| all.count() > 2);
    if is_known || read == 0 || !cfg!(target_os = "linux") || registered() {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::ENOEXEC))
}

/// Makes a directory this process's own, so that another one may be removed.
///
/// # Errors
/// When it cannot be entered.
pub fn work_in(dir: &Path) -> io::Result<()> {
    Ok(rustix::process::chdir(dir)?)
}

/// Runs this program once more as a child with the same arguments, terminal and group, and ends as it ends: an exit
/// code, or 128 and a signal's number, as a shell tells it. Signals that ask it to end are handed on.
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
            Some(Exit::Code(code)) => return Ok(u8::try_from(code).unwrap_or(1)),
            Some(Exit::Signal(signal)) => return Ok(u8::try_from(128 + signal).unwrap_or(1)),
            Some(_) => return Ok(1),
            None if cancel.is_some_and(Cancel::is_set) => {
                signal_child(&child, false);
                handed_on = true;
            }
            None => {}
        }
    }
}

/// This program's own file. On Linux it stays the running one even when the file was replaced.
pub fn self_path() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() { link.to_owned() } else { std::env::current_exe().unwrap_or_else(|_| link.to_owned()) }
}

/// Whether [`self_path`] leads anywhere: on Linux not without `/proc`.
pub fn finds_itself() -> bool {
    self_path().exists()
}

/// This program's file under a name that is good after this process, for another one to start it by. Where the
/// file was replaced it is the new one.
pub fn installed_path() -> PathBuf {
    let link = self_path();
    let path = std::fs::read_link(&link).unwrap_or(link);
    // The kernel's mark of a file that has no name any more.
    let was = path.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map(PathBuf::from);
    was.filter(|_| !path.exists()).unwrap_or(path)
}

/// Waits for a child of [`spawn_self`] until it ends or the deadline passes; none: it is still alive.
///
/// # Errors
/// When the child cannot be watched.
pub fn wait_child(child: &mut Child, cancel: Option<&Cancel>, wait_ms: i64) -> io::Result<Option<Exit>> {
    let exited = exit_watch(Pid::from_child(child))?;
    let deadline = Deadline::after_ms(wait_ms);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(match (status.code(), status.signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, signal) => Exit::Signal(signal.unwrap_or(0)),
            }));
        }
        if deadline.passed() || cancel.is_some_and(Cancel::is_set) {
            return Ok(None);
        }
        let cancel_fd = cancel.map(Cancel::fd);
        let mut fds = vec![PollFd::new(&exited, PollFlags::IN)];
        fds.extend(cancel_fd.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // A signal that interrupts the wait is seen by the next turn of the loop.
        ignore(poll(&mut fds, Some(&timespec(deadline.left()))));
    }
}

/// Sends a signal to a child that was not waited for yet.
pub fn signal_child(child: &Child, kill: bool) {
    ignore(kill_process(Pid::from_child(child), if kill { Signal::KILL } else { Signal::TERM }));
}

/// Runs a command in the foreground of the human's terminal; true when it ended well.
///
/// # Errors
/// When it cannot be started.
pub fn run_here(argv: &[String]) -> io::Result<bool> {
    let (program, args) = argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    Ok(Command::new(program).args(args).status()?.success())
}

/// Runs the human's editor on a file, in the foreground of their terminal; true when it ended well.
/// The editor is a shell line, as it is for git.
///
/// # Errors
/// When it cannot be started.
pub fn run_interactive(editor: &str, file: &Path) -> io::Result<bool> {
    let line = format!("{editor} \"$@\"");
    let status = Command::new("sh").arg("-c").arg(line).arg(editor).arg(file).status()?;
    Ok(status.success())
}
