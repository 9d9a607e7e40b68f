//! Programs: where one is found, which file is looop itself, and starting this one or one of the user again.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use super::path::find_program;
use super::path::is_program;
use super::process::{Child, ChildSession, ProcessCommand, ProcessExit, Stream};
use super::signal::Cancel;

/// How much of a script the kernel reads to find its interpreter, in bytes.
const MAX_HEAD_BYTES: u64 = 256;

/// Reads as much of a script as the kernel does to find its interpreter.
pub fn head_of(script: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(script).ok()?.take(MAX_HEAD_BYTES).read_to_end(&mut head).ok()?;
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Returns the interpreter in the first line of a script, if that program does not exist: the kernel does not start
/// such a script, whatever its mode is.
pub fn missing_interpreter(script: &Path) -> Option<String> {
    let head = head_of(script)?;
    let line = head.strip_prefix("#!")?.split('\n').next()?;
    let named = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
    (named.starts_with('/') && !is_program(Path::new(named))).then(|| named.to_owned())
}

/// Returns the program in the first line of a script, and the name of the program that it looks up if it is `env`.
pub fn interpreter_in(script: &str) -> Option<(PathBuf, Option<&str>)> {
    let mut words = script.strip_prefix("#!")?.lines().next()?.split_whitespace();
    let first = PathBuf::from(words.next()?);
    let is_env = first.file_name().is_some_and(|name| name == "env");
    let looked_up = words.find(|word| is_env && !word.starts_with('-') && !word.contains('='));
    Some((first, looked_up))
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

/// Starts this program again as a child for the pulse: it shares stdout and stderr, and has a session of its own. `env`
/// is added to this process's own environment.
pub fn spawn_self(args: &[&str], env: Vec<(String, String)>) -> io::Result<Child> {
    let command = ProcessCommand::shared(self_path(), args);
    ProcessCommand { env, stdin: Stream::Null, session: ChildSession::Own, ..command }.start()
}

/// Makes a directory the working directory of this process, so that another one can be removed.
///
/// # Errors
/// When it cannot be entered.
pub fn work_in(dir: &Path) -> io::Result<()> {
    Ok(rustix::process::chdir(dir)?)
}

/// Runs this program once more as a child with the same arguments, terminal and group, and returns its exit code as a
/// shell does. Forwards signals that ask it to end.
///
/// # Errors
/// When it cannot be started or watched.
pub fn run_again(args: &[OsString]) -> io::Result<u8> {
    let cancel = Cancel::on_signals()?;
    let child = ProcessCommand::shared(self_path(), args).start()?;
    let mut waits = Some(&cancel);
    loop {
        match child.wait_ms(waits, i64::from(u32::MAX))? {
            Some(exit) => return Ok(exit.shell_code()),
            None if waits.is_some_and(Cancel::is_set) => {
                child.signal(false);
                waits = None;
            }
            None => {}
        }
    }
}

/// Runs a command in the foreground of the user's terminal; returns true if it succeeded.
pub fn run_here(argv: &[String]) -> io::Result<bool> {
    let (program, args) = argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    Ok(ProcessCommand::shared(program, args).start()?.wait()? == ProcessExit::Code(0))
}

/// Runs the user's editor on a file, in the foreground of the terminal; returns true if it succeeded. The editor is a
/// shell line, as for git.
pub fn run_interactive(editor: &str, file: &Path) -> io::Result<bool> {
    let line = format!("{editor} \"$@\"");
    let args = ["-c".into(), line.into(), editor.into(), file.as_os_str().to_owned()];
    Ok(ProcessCommand::shared("sh", args as [OsString; 4]).start()?.wait()? == ProcessExit::Code(0))
}
