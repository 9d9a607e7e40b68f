//! Children in the background: a process of this program that outlives its starter, helpers, and commands with their
//! output in a pipe.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;

use super::clock::Deadline;
use super::process::wait::wait_readable;
use super::process::{Child, ProcessCommand, Stream};
use super::program::self_path;

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

impl Launched {
    /// Launches this program with these arguments. It gets no descriptor and no variable of the caller.
    pub fn new(args: &[&str]) -> io::Result<Launched> {
        let (input, stdin) = io::pipe()?;
        let (stdout, output) = io::pipe()?;
        let command = ProcessCommand::new(self_path(), args, Vec::new(), "/");
        let child = ProcessCommand { stdin: input.into(), stdout: output.into(), ..command }.start()?;
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
                self.child.signal(false);
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
            self.child.signal(true);
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
pub fn spawn_piped(command: ProcessCommand, with_stderr: bool) -> io::Result<(File, u32)> {
    let (read, write) = io::pipe()?;
    rustix::io::ioctl_fionbio(&read, true)?;
    let stderr = if with_stderr { write.try_clone()?.into() } else { Stream::Null };
    let child = ProcessCommand { stdout: write.into(), stderr, ..command }.start()?;
    Ok((File::from(OwnedFd::from(read)), child.id()))
}

/// Starts this program as a helper process: its starter waits neither for its end nor for its output.
pub fn helper(args: &[&str], env: &[(String, String)]) -> io::Result<u32> {
    Ok(ProcessCommand::new(self_path(), args, env.to_vec(), "/").start()?.id())
}
