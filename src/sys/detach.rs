//! Starting a process of this program that outlives its starter, and signalling known processes.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, WaitOptions};

use super::clock::Deadline;
use super::executable::{find_program, self_path};

use super::start::{self, Child, Start, Streams};
use super::tree;
use super::wait::{ignore, wait_readable};

/// The longest message of a detached process about its start, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// A new process of this program that outlives its launcher. It waits for its input, and exits if the input never
/// comes, so that it can be launched while its input is still being prepared.
pub struct Launched {
    child: Child,
    stdin: Option<PipeWriter>,
    stdout: PipeReader,
    started: bool,
}

/// Describes a start of this program with these arguments, in the root folder.
fn this_program(args: &[&str], env: &[(String, String)], streams: Streams) -> Start {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Start { program: self_path(), args, env: env.to_vec(), cwd: PathBuf::from("/"), streams }
}

impl Launched {
    /// Launches this program with these arguments. It gets no descriptor of the caller, and in its environment only a
    /// shell: code that opens terminals looks for one, and would otherwise read the system's list of users.
    pub fn new(args: &[&str]) -> io::Result<Launched> {
        let (input, stdin) = io::pipe()?;
        let (stdout, output) = io::pipe()?;
        let streams = Streams { stdin: Some(input.into()), stdout: Some(output.into()), stderr: None };
        let env = [("SHELL".to_owned(), "/bin/sh".to_owned())];
        let child = start::spawn(&this_program(args, &env, streams))?;
        Ok(Launched { child, stdin: Some(stdin), stdout, started: false })
    }

    /// Lets it begin, with `input` on its stdin. `input` must not be empty nor longer than a pipe holds.
    ///
    /// # Errors
    /// When the input cannot be written.
    pub fn tell(&mut self, input: &[u8]) -> io::Result<()> {
        let Some(mut stdin) = self.stdin.take() else { return Ok(()) };
        rustix::io::ioctl_fionbio(&stdin, true)?;
        match stdin.write_all(input) {
            // It has already ended, and its message says why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => self.started = true,
        }
        Ok(())
    }

    /// Waits for the one line in which it reports its start.
    ///
    /// # Errors
    /// When it ends or stays silent until the timeout; it is then told to end.
    pub fn handshake(mut self, wait_ms: i64) -> io::Result<String> {
        let deadline = Deadline::after_ms(wait_ms);
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            if !wait_readable(&[&self.stdout], i64::try_from(deadline.left().as_millis()).unwrap_or(0)) {
                ignore(rustix::process::kill_process(self.child.pid(), Signal::TERM));
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not report its start in time"));
            }
            let mut buffer = [0_u8; 4096];
            let count = self.stdout.read(&mut buffer)?;
            if count == 0 || line.len() > MAX_MESSAGE_BYTES {
                drop(self.child.wait());
                return Err(io::Error::other("it ended without a message"));
            }
            line.extend_from_slice(&buffer[..count]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if !self.started {
            self.child.kill();
            drop(self.child.wait());
        }
    }
}

/// Reads what the starter sent to this process, at most `max` bytes. Does not use the standard library's own stdin,
/// whose buffer would stay for the whole life of the process.
///
/// # Errors
/// When there is no stdin, or it cannot be read.
pub fn input(max: u64) -> io::Result<Vec<u8>> {
    let stdin = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 0)?);
    let mut text = Vec::new();
    stdin.take(max).read_to_end(&mut text)?;
    Ok(text)
}

/// Closes the caller's pipe: a process that waits for its end must not wait for this process.
///
/// # Errors
/// When /dev/null cannot be opened.
pub fn close_stdout() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}

/// Starts a command with its output in one pipe that never blocks, in a session of its own, without input. Returns the
/// pipe and the process id; the caller reaps it.
pub fn spawn_piped(
    argv: &[String],
    env: &[(String, String)],
    cwd: &Path,
    with_stderr: bool,
) -> io::Result<(File, u32)> {
    let (program, args) = argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let path = env.iter().find(|(key, _)| key == "PATH").map_or("", |(_, path)| path);
    let program = find_program(program, path, cwd).ok_or(io::ErrorKind::NotFound)?;
    let (read, write) = io::pipe()?;
    rustix::io::ioctl_fionbio(&read, true)?;
    let stderr = if with_stderr { Some(write.try_clone()?.into()) } else { None };
    let streams = Streams { stdin: None, stdout: Some(write.into()), stderr };
    let start = Start { program, args: args.to_vec(), env: env.to_vec(), cwd: cwd.to_owned(), streams };
    Ok((File::from(OwnedFd::from(read)), start::spawn(&start)?.id()))
}

/// Starts this program as a helper process: its starter waits neither for its end nor for its output.
pub fn helper(args: &[&str], env: &[(String, String)]) -> io::Result<u32> {
    Ok(start::spawn(&this_program(args, env, Streams::default()))?.id())
}

/// Reaps one child that has ended, including adopted ones; `None` if there is none. Never waits.
pub fn reap() -> Option<(u32, ExitStatus)> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok().flatten()?;
    let pid = u32::try_from(pid.as_raw_nonzero().get()).ok()?;
    Some((pid, ExitStatus::from_raw(status.as_raw())))
}

/// Signals the process with this pid and start time, and no later process with the same pid. Returns true if there was
/// such a process.
pub fn signal(pid: u32, start: u64, kill: bool) -> bool {
    send_to(pid, start, if kill { Signal::KILL } else { Signal::TERM })
}

/// Stops a process, identified as in [`signal`]. Returns true if there was such a process.
pub fn stop(pid: u32, start: u64) -> bool {
    send_to(pid, start, Signal::STOP)
}

fn send_to(pid: u32, start: u64, signal: Signal) -> bool {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    send(raw, signal, || tree::start_of(pid) == Some(start))
}

/// Opens the descriptor before reading the start time, so that the signal reaches the process that was checked.
#[cfg(target_os = "linux")]
fn send(pid: Pid, signal: Signal, is_meant: impl FnOnce() -> bool) -> bool {
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    is_meant() && pidfd_send_signal(&pidfd, signal).is_ok()
}

/// Without process descriptors, the pid may be reused between the check and the signal.
#[cfg(not(target_os = "linux"))]
fn send(pid: Pid, signal: Signal, is_meant: impl FnOnce() -> bool) -> bool {
    is_meant() && rustix::process::kill_process(pid, signal).is_ok()
}
