//! The one way to start a process: a command, which is started as a child or replaces this process.
//!
//! # Guarantees
//! - A child with a session of its own leads it and a process group, and has no controlling terminal, except one that
//!   it is started in: opening `/dev/tty` fails at once with `ENXIO`. It begins with an empty signal mask, the default
//!   action for each signal, and no descriptor except its three streams.
//! - A child in [`ChildSession::Shared`] keeps the session, the terminal, the signal mask and the descriptors of this process:
//!   the user works in it, or it is this same command once more.
//!
//! `posix_spawn` starts children: fork copies looop's page tables, which takes longer than most sensors run. A child
//! inherits the restrictions of the calling thread. If it sets a parent death signal, that comes when this thread ends.

#![allow(
    unsafe_code,
    reason = "the standard library has no safe call for the session, the mask and the signal actions of a child"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{io, ptr};

use libc::{SIG_DFL, SIGHUP, SIGPIPE, c_char, c_int};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use super::wait::{exit_watch, ignore, pause_ms, poll_for};
use crate::os::clock::Deadline;
use crate::os::path::find_program;
use crate::os::signal::Cancel;

/// Where programs are searched if the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/bin:/bin";
/// How long a start is tried again while another process still writes the script, in milliseconds.
const BUSY_MS: i64 = 500;

/// Where a standard stream of a command leads.
#[derive(Debug, Default)]
pub enum Stream {
    /// `/dev/null`.
    #[default]
    Null,
    /// The stream of this process.
    Inherited,
    Open(OwnedFd),
}

impl<T: Into<OwnedFd>> From<T> for Stream {
    fn from(open: T) -> Stream {
        Stream::Open(open.into())
    }
}

/// The session of a child.
#[derive(Debug, Default)]
pub enum ChildSession {
    /// Its own, without a terminal.
    #[default]
    Own,
    /// Its own, in the terminal with this name, which is also its three streams.
    Terminal(PathBuf),
    /// That of this process.
    Shared,
}

/// A program to start, or to become.
///
/// It owns the child's ends of pipes: drop it once the child has started, or the other ends never see an end of file.
#[derive(Debug, Default)]
pub struct ProcessCommand {
    /// The executable. A name without a slash is searched on the PATH of `env`.
    pub program: PathBuf,
    /// Argument zero, if it is not the program's path.
    pub argv0: Option<OsString>,
    pub args: Vec<OsString>,
    /// Its whole environment, or what is added to that of this process.
    pub env: Vec<(String, String)>,
    pub inherits_env: bool,
    /// Its working directory; `None` means that of this process.
    pub cwd: Option<PathBuf>,
    pub stdin: Stream,
    pub stdout: Stream,
    pub stderr: Stream,
    pub session: ChildSession,
}

impl ProcessCommand {
    /// Returns a command with a session of its own, without streams, and with this whole environment.
    pub fn new(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        env: Vec<(String, String)>,
        cwd: impl Into<PathBuf>,
    ) -> ProcessCommand {
        let args = args.into_iter().map(Into::into).collect();
        ProcessCommand { program: program.into(), args, env, cwd: Some(cwd.into()), ..Self::default() }
    }

    /// Returns the command of these words: its program, and its arguments. It is otherwise as [`ProcessCommand::new`].
    ///
    /// # Errors
    /// When there are none.
    pub fn of_argv(argv: &[String], env: Vec<(String, String)>, cwd: &Path) -> io::Result<ProcessCommand> {
        let (program, args) = argv.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        Ok(ProcessCommand::new(program, args, env, cwd))
    }

    /// Returns a command that shares all with this process.
    pub fn shared(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> ProcessCommand {
        ProcessCommand {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            inherits_env: true,
            stdin: Stream::Inherited,
            stdout: Stream::Inherited,
            stderr: Stream::Inherited,
            session: ChildSession::Shared,
            ..Self::default()
        }
    }

    /// Starts the command as a child.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`, `ENOEXEC` and others of exec and chdir, as the kernel returns them; `InvalidInput` when an
    /// argument holds a zero byte.
    pub fn start(&self) -> io::Result<Child> {
        start(self, &if self.is_shared() { Vec::new() } else { inherited_descriptors() })
    }

    /// Becomes the program under the same process id, with these arguments, environment and stdin; session, directory
    /// and the other streams stay. Returns only on failure; stdin is replaced then too.
    pub fn exec(&self) -> io::Error {
        let stdin = match &self.stdin {
            Stream::Inherited => Ok(()),
            Stream::Open(fd) => rustix::stdio::dup2_stdin(fd).map_err(io::Error::from),
            Stream::Null => {
                std::fs::File::open("/dev/null").and_then(|fd| Ok(rustix::stdio::dup2_stdin(fd)?))
            }
        };
        let words = match stdin.and_then(|()| self.words()) {
            Ok(words) => words,
            Err(error) => return error,
        };
        let (argv, envp) = (pointers(&words.argv), pointers(&words.env));
        // SAFETY: every pointer is to a value that lives until the call returns, and both lists end with null. The Rust
        // runtime ignores SIGPIPE, which the program would inherit.
        unsafe {
            let before = libc::signal(SIGPIPE, SIG_DFL);
            libc::execve(words.program.as_ptr(), argv.as_ptr().cast(), envp.as_ptr().cast());
            let error = io::Error::last_os_error();
            libc::signal(SIGPIPE, before);
            error
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self.session, ChildSession::Shared)
    }

    fn words(&self) -> io::Result<CStrings> {
        // If a name has two values, the last one counts; C would take the first.
        let mut env = BTreeMap::new();
        for variable in own_environment().into_iter().filter(|_| self.inherits_env) {
            let name = variable.to_bytes().split(|byte| *byte == b'=').next().unwrap_or_default().to_vec();
            env.insert(name, variable);
        }
        for (name, value) in &self.env {
            env.insert(name.as_bytes().to_vec(), CString::new(format!("{name}={value}"))?);
        }
        let argv0 = self.argv0.as_deref().unwrap_or(self.program.as_os_str());
        let argv = std::iter::once(argv0).chain(self.args.iter().map(OsString::as_os_str)).map(c_string);
        let program = match self.program.to_str().filter(|name| !name.contains('/')) {
            Some(name) => {
                let path = env.get(b"PATH".as_slice()).map(|variable| variable.to_string_lossy());
                let path = path.as_deref().map_or(DEFAULT_PATH, |path| &path["PATH=".len()..]);
                let found = find_program(name, path, Path::new("/"));
                &found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?
            }
            None => &self.program,
        };
        Ok(CStrings {
            program: c_string(program.as_os_str())?,
            argv: argv.collect::<io::Result<_>>()?,
            env: env.into_values().collect(),
        })
    }
}

/// A command as the strings that C expects.
struct CStrings {
    program: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

/// Returns the null-terminated list that C expects.
fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|one| one.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Returns the variables of this process, to hand them on as they are.
fn own_environment() -> Vec<CString> {
    // SAFETY: the list ends with null, and nothing in looop changes it or its strings.
    unsafe {
        let all = (0..).map(|index| *environ.add(index)).take_while(|variable| !variable.is_null());
        all.map(|variable| CStr::from_ptr(variable).to_owned()).collect()
    }
}

/// A started child that is not yet reaped. Dropping it leaves it running.
#[derive(Debug)]
pub struct Child(Pid);

impl Child {
    pub(super) fn pid(&self) -> Pid {
        self.0
    }

    pub fn id(&self) -> u32 {
        self.0.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends SIGTERM or SIGKILL. It is not an error if the child has ended already.
    pub fn signal(&self, kill: bool) {
        ignore(kill_process(self.0, if kill { Signal::KILL } else { Signal::TERM }));
    }

    /// Waits for its end and reaps it. Call it once: another process may get its number afterwards.
    pub fn wait(&self) -> io::Result<ProcessExit> {
        loop {
            match self.reap(WaitOptions::empty()) {
                Ok(Some(exit)) => return Ok(exit),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits as [`Child::wait`] until the time is up or `cancel` fires; `None` means that it is still alive.
    ///
    /// # Errors
    /// When the child cannot be watched.
    pub fn wait_ms(&self, cancel: Option<&Cancel>, wait_ms: i64) -> io::Result<Option<ProcessExit>> {
        let exited = exit_watch(self.0)?;
        let deadline = Deadline::after_ms(wait_ms);
        loop {
            let exit = self.reap(WaitOptions::NOHANG)?;
            if exit.is_some() || deadline.passed() || cancel.is_some_and(Cancel::is_set) {
                return Ok(exit);
            }
            let mut fds = vec![PollFd::new(&exited, PollFlags::IN)];
            fds.extend(cancel.map(|cancel| PollFd::from_borrowed_fd(cancel.fd(), PollFlags::IN)));
            poll_for(&mut fds, deadline.left())?;
        }
    }

    fn reap(&self, options: WaitOptions) -> rustix::io::Result<Option<ProcessExit>> {
        Ok(waitpid(Some(self.0), options)?.map(|(_, status)| status.into()))
    }
}

/// How a child ended. Displayed as a part of a sentence: `exit code 3`, `signal 9`.
#[derive(Clone, Debug, PartialEq, Eq, strum::Display)]
pub enum ProcessExit {
    #[strum(to_string = "exit code {0}")]
    Code(i32),
    /// A signal of another process killed it.
    #[strum(to_string = "signal {0}")]
    Signal(i32),
    #[strum(to_string = "its deadline")]
    Timeout,
    /// It printed more than it may.
    #[strum(to_string = "too much output")]
    TooMuch,
    /// It did not start, with the reason.
    #[strum(to_string = "not started: {0}")]
    NotStarted(String),
    /// The user interrupted.
    #[strum(to_string = "an interruption")]
    Cancelled,
}

impl ProcessExit {
    /// Returns the exit code that a shell shows for it: 128 plus a signal's number.
    pub fn shell_code(&self) -> u8 {
        let code = match self {
            ProcessExit::Code(code) => *code,
            ProcessExit::Signal(signal) => 128 + signal,
            _ => 1,
        };
        u8::try_from(code).unwrap_or(1)
    }
}

impl From<WaitStatus> for ProcessExit {
    fn from(status: WaitStatus) -> ProcessExit {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ProcessExit::Code(code),
            (None, Some(signal)) => ProcessExit::Signal(signal),
            (None, None) => ProcessExit::NotStarted("its exit status is unknown".to_owned()),
        }
    }
}

/// These calls return the error instead of setting `errno`.
fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// Lists the descriptors that looop has from the program that started it, and that a child must not get. Those that
/// looop opens close on exec.
pub(super) fn inherited_descriptors() -> Vec<c_int> {
    let names = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.parse().ok()).filter(|fd| *fd > 2);
    // SAFETY: the call reads the flags of a number; one that was closed meanwhile has none.
    numbers.filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } == 0).collect()
}

/// Starts a command as [`ProcessCommand::start`] does, without these descriptors. If another process is still writing the
/// script, it tries again for a short time.
pub(super) fn start_retrying(command: &ProcessCommand, descriptors: &[c_int]) -> io::Result<Child> {
    let wait_limit = Deadline::after_ms(BUSY_MS);
    loop {
        match start(command, descriptors) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && !wait_limit.passed() => {
                pause_ms(5)
            }
            other => return other,
        }
    }
}

#[cfg(target_os = "linux")]
use linux::start;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::AsRawFd;

    use super::*;

    pub(super) fn start(command: &ProcessCommand, descriptors: &[c_int]) -> io::Result<Child> {
        let words = command.words()?;
        let (argv, envp) = (pointers(&words.argv), pointers(&words.env));
        let actions = Actions::of(command, descriptors)?;
        let attributes = Attributes::of(command.is_shared())?;
        let mut pid = 0;
        // SAFETY: every pointer is to a value that lives until the call returns, and both lists end with null.
        check(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                words.program.as_ptr(),
                &raw const actions.0,
                &raw const attributes.0,
                argv.as_ptr(),
                envp.as_ptr(),
            )
        })?;
        Pid::from_raw(pid).map(Child).ok_or_else(|| io::Error::other("the system gave no process id"))
    }

    struct Actions(libc::posix_spawn_file_actions_t);

    impl Actions {
        fn of(command: &ProcessCommand, descriptors: &[c_int]) -> io::Result<Actions> {
            let mut made = MaybeUninit::uninit();
            // SAFETY: the value is only taken as initialised after the initialising call succeeded.
            let mut actions = unsafe {
                check(libc::posix_spawn_file_actions_init(made.as_mut_ptr()))?;
                Actions(made.assume_init())
            };
            if let ChildSession::Terminal(name) = &command.session {
                // The leader of a session without a terminal gets the one that it opens first.
                actions.open(0, name, libc::O_RDWR)?;
                actions.copy(0, 1)?;
                actions.copy(0, 2)?;
            } else {
                for (number, stream) in (0..).zip([&command.stdin, &command.stdout, &command.stderr]) {
                    let mode = if number == 0 { libc::O_RDONLY } else { libc::O_WRONLY };
                    match stream {
                        Stream::Null => actions.open(number, Path::new("/dev/null"), mode)?,
                        Stream::Inherited => {}
                        Stream::Open(fd) => actions.copy(fd.as_raw_fd(), number)?,
                    }
                }
            }
            if let Some(cwd) = &command.cwd {
                let cwd = c_string(cwd.as_os_str())?;
                // SAFETY: the list is initialised, and it copies the path.
                check(unsafe {
                    libc::posix_spawn_file_actions_addchdir_np(&raw mut actions.0, cwd.as_ptr())
                })?;
            }
            for fd in descriptors {
                // SAFETY: the list is initialised. Closing a descriptor twice is allowed there.
                check(unsafe { libc::posix_spawn_file_actions_addclose(&raw mut actions.0, *fd) })?;
            }
            Ok(actions)
        }

        fn open(&mut self, number: c_int, path: &Path, mode: c_int) -> io::Result<()> {
            let path = c_string(path.as_os_str())?;
            let list = &raw mut self.0;
            // SAFETY: the list is initialised, and it copies the path.
            check(unsafe { libc::posix_spawn_file_actions_addopen(list, number, path.as_ptr(), mode, 0) })
        }

        fn copy(&mut self, fd: c_int, number: c_int) -> io::Result<()> {
            // SAFETY: the list is initialised.
            check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, fd, number) })
        }
    }

    impl Drop for Actions {
        fn drop(&mut self) {
            // SAFETY: it was initialised, and it is not used afterwards.
            unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
        }
    }

    struct Attributes(libc::posix_spawnattr_t);

    impl Attributes {
        /// Sets the session, and resets the signals: looop itself may ignore only these two, see [`crate::os::signal::reset_inherited`].
        fn of(is_shared: bool) -> io::Result<Attributes> {
            let mut made = MaybeUninit::uninit();
            // SAFETY: the value is only taken as initialised after the initialising call succeeded.
            let mut attributes = unsafe {
                check(libc::posix_spawnattr_init(made.as_mut_ptr()))?;
                Attributes(made.assume_init())
            };
            let mut flags = libc::POSIX_SPAWN_SETSIGDEF as libc::c_short;
            let this = &raw mut attributes.0;
            let mut set = MaybeUninit::uninit();
            // SAFETY: `sigemptyset` initialises the set before it is read, and the attributes copy it.
            unsafe {
                libc::sigemptyset(set.as_mut_ptr());
                if !is_shared {
                    flags |= libc::POSIX_SPAWN_SETSID | libc::POSIX_SPAWN_SETSIGMASK as libc::c_short;
                    check(libc::posix_spawnattr_setsigmask(this, set.as_ptr()))?;
                    libc::sigaddset(set.as_mut_ptr(), SIGHUP);
                }
                libc::sigaddset(set.as_mut_ptr(), SIGPIPE);
                check(libc::posix_spawnattr_setsigdefault(this, set.as_ptr()))?;
                check(libc::posix_spawnattr_setflags(this, flags))?;
            }
            Ok(attributes)
        }
    }

    impl Drop for Attributes {
        fn drop(&mut self) {
            // SAFETY: it was initialised, and it is not used afterwards.
            unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
        }
    }
}

/// Starts the child. FreeBSD's `posix_spawn` makes no session, so this uses fork and exec.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
fn start(from: &ProcessCommand, descriptors: &[c_int]) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    let mut command = Command::new(&from.program);
    command.args(&from.args).arg0(from.argv0.as_deref().unwrap_or(from.program.as_os_str()));
    if !from.inherits_env {
        command.env_clear();
    }
    command.envs(from.env.iter().map(|(name, value)| (name, value)));
    from.cwd.iter().for_each(|cwd| drop(command.current_dir(cwd)));
    let terminal = match &from.session {
        ChildSession::Terminal(name) => Some(rustix::fs::open(
            name,
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?),
        _ => None,
    };
    let stdio = |stream: &Stream| match (&terminal, stream) {
        (Some(fd), _) | (None, Stream::Open(fd)) => fd.try_clone().map(Stdio::from),
        (None, Stream::Null) => Ok(Stdio::null()),
        (None, Stream::Inherited) => Ok(Stdio::inherit()),
    };
    command.stdin(stdio(&from.stdin)?).stdout(stdio(&from.stdout)?).stderr(stdio(&from.stderr)?);
    if !from.is_shared() {
        let (fds, has_terminal) = (descriptors.to_vec(), terminal.is_some());
        // SAFETY: between fork and exec the closure makes only async-signal-safe calls, and it allocates nothing.
        unsafe {
            command.pre_exec(move || {
                rustix::process::setsid()?;
                if has_terminal {
                    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                }
                fds.iter().for_each(|fd| drop(libc::close(*fd)));
                // Of all signals, looop itself may ignore only these two, see `signal::reset_inherited`.
                for signal in [SIGHUP, SIGPIPE] {
                    libc::signal(signal, SIG_DFL);
                }
                crate::os::signal::unblock_all()
            });
        }
    }
    Ok(Child(Pid::from_child(&command.spawn()?)))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn output(script: &str, command: ProcessCommand) -> String {
        let (mut read, write) = io::pipe().unwrap();
        let command = ProcessCommand {
            program: PathBuf::from("/bin/sh"),
            args: vec!["-c".into(), script.into()],
            stdout: write.into(),
            ..command
        };
        let child = command.start().unwrap();
        drop(command);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap(), ProcessExit::Code(0));
        text
    }

    #[test]
    fn a_child_has_its_own_environment_folder_streams_and_session() {
        let env = [("A", "first"), ("A", "last"), ("PATH", "/usr/bin:/bin")];
        let env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let stated = output(
            "echo $A $B; pwd; cat; : >&2; cut -d' ' -f6,7 /proc/$$/stat; echo $$",
            ProcessCommand { env, cwd: Some(PathBuf::from("/usr")), ..ProcessCommand::default() },
        );
        let lines: Vec<&str> = stated.lines().collect();
        let pid = lines[3];
        // The child leads its own session and has no terminal.
        assert_eq!(lines, ["last", "/usr", &format!("{pid} 0"), pid]);
    }

    #[test]
    fn a_child_gets_no_descriptor_that_was_left_open() {
        let left = std::fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&left, rustix::io::FdFlags::empty()).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&left);
        let script = format!("test -e /proc/self/fd/{fd} && echo open || echo closed");
        assert_eq!(output(&script, ProcessCommand::default()), "closed\n");
        assert_eq!(output(&script, ProcessCommand::shared("", [""; 0])), "open\n");
    }

    #[test]
    fn a_child_that_shares_all_has_the_session_and_the_environment_of_this_process() {
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        let session = own.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap();
        let more = vec![("MORE".to_owned(), "set".to_owned())];
        let command = ProcessCommand { env: more, ..ProcessCommand::shared("", [""; 0]) };
        let stated = output("cut -d' ' -f6 /proc/$$/stat; echo $MORE; echo ${PATH:+path}", command);
        assert_eq!(stated, format!("{session}\nset\npath\n"));
    }

    #[test]
    fn a_failed_start_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        std::fs::write(&text, "echo ran").unwrap();
        std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let kind = |program: &Path, cwd: &str| {
            ProcessCommand::new(program, [""; 0], vec![], cwd).start().unwrap_err().raw_os_error()
        };
        assert_eq!(kind(&dir.path().join("none"), "/"), Some(libc::ENOENT));
        assert_eq!(kind(Path::new("/bin/true"), "/nowhere"), Some(libc::ENOENT));
        // The C library would pass such a file to a shell, which would run it as a script although no approval covers
        // that.
        assert_eq!(kind(&text, "/"), Some(libc::ENOEXEC));
    }
}
