//! Starting a child by `posix_spawn`: fork copies looop's page tables, which takes longer than most sensors run.
//!
//! The child inherits the restrictions of the calling thread: Landlock rules and a system call filter. If it sets a
//! parent death signal, that comes when this thread ends.

#![allow(
    unsafe_code,
    reason = "the standard library gives up posix_spawn for a child that has a session of its own"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A child to start. It leads a session of its own and has default signals, see [`super::session`].
///
/// It owns the child's ends of the pipes: drop it once the child has started, or the other ends never see an end of
/// file.
pub(super) struct Start {
    /// The path of the executable, which is also its argument zero.
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    /// Its whole environment.
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: PathBuf,
    pub(super) streams: Streams,
}

/// The standard streams of a child. `None` means `/dev/null`.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// A started child that is not yet waited for. Dropping it leaves it running.
#[derive(Debug)]
pub(super) struct Child(Pid);

impl Child {
    pub(super) fn pid(&self) -> Pid {
        self.0
    }

    pub(super) fn id(&self) -> u32 {
        self.0.as_raw_nonzero().get().unsigned_abs()
    }

    /// Kills it. It is not an error if it has ended already.
    pub(super) fn kill(&self) {
        super::wait::ignore(kill_process(self.0, Signal::KILL));
    }

    /// Waits for its end. Call it once: another process may get its number afterwards.
    pub(super) fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            match waitpid(Some(self.0), WaitOptions::empty()) {
                Ok(Some((_, status))) => {
                    return Ok(std::os::unix::process::ExitStatusExt::from_raw(status.as_raw()));
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::spawn;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::ffi::{CStr, CString, OsStr};
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::ptr;

    use rustix::process::Pid;

    use super::{Child, Start};

    /// Starts the child.
    ///
    /// # Errors
    /// `ENOENT`, `EACCES`, `ENOEXEC` and others of exec and chdir, as the kernel returns them; `InvalidInput` when an
    /// argument holds a zero byte.
    pub(in super::super) fn spawn(start: &Start) -> io::Result<Child> {
        let program = c_string(start.program.as_os_str())?;
        let cwd = c_string(start.cwd.as_os_str())?;
        let args = start.args.iter().map(|arg| c_string(OsStr::new(arg))).collect::<io::Result<Vec<_>>>()?;
        // If a name has two values, the last one counts, as for `Command`; C would take the first.
        let env: BTreeMap<_, _> = start.env.iter().map(|(key, value)| (key, value)).collect();
        let pairs = env.into_iter().map(|(key, value)| CString::new(format!("{key}={value}")));
        let env = pairs.collect::<Result<Vec<_>, _>>()?;
        let argv = pointers(std::iter::once(&program).chain(&args));
        let envp = pointers(&env);
        let mut actions = Actions::new()?;
        let streams = [&start.streams.stdin, &start.streams.stdout, &start.streams.stderr];
        for (number, stream) in (0..).zip(streams) {
            actions.stream(number, stream.as_ref().map(AsRawFd::as_raw_fd))?;
        }
        actions.chdir(&cwd)?;
        let attributes = Attributes::new()?;
        let mut pid = 0;
        // SAFETY: every pointer is to a value that lives until the call returns, and both lists end with null.
        check(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                &raw const actions.0,
                &raw const attributes.0,
                argv.as_ptr(),
                envp.as_ptr(),
            )
        })?;
        Pid::from_raw(pid).map(Child).ok_or_else(|| io::Error::other("the system gave no process id"))
    }

    fn c_string(text: &OsStr) -> io::Result<CString> {
        Ok(CString::new(text.as_bytes())?)
    }

    /// Returns the null-terminated list that C expects.
    fn pointers<'a>(strings: impl IntoIterator<Item = &'a CString>) -> Vec<*mut libc::c_char> {
        strings.into_iter().map(|one| one.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
    }

    /// These calls return the error instead of setting `errno`.
    fn check(result: libc::c_int) -> io::Result<()> {
        if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
    }

    struct Actions(libc::posix_spawn_file_actions_t);

    impl Actions {
        fn new() -> io::Result<Actions> {
            let mut actions = MaybeUninit::uninit();
            // SAFETY: the value is only taken as initialised after the initialising call succeeded.
            unsafe {
                check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
                Ok(Actions(actions.assume_init()))
            }
        }

        /// Gives the child this descriptor under this number; `None` means `/dev/null`.
        fn stream(&mut self, number: libc::c_int, fd: Option<libc::c_int>) -> io::Result<()> {
            let null: &CStr = c"/dev/null";
            let mode = if number == 0 { libc::O_RDONLY } else { libc::O_WRONLY };
            // SAFETY: the list is initialised, and it copies the path.
            check(unsafe {
                match fd {
                    Some(fd) => libc::posix_spawn_file_actions_adddup2(&raw mut self.0, fd, number),
                    None => {
                        let list = &raw mut self.0;
                        libc::posix_spawn_file_actions_addopen(list, number, null.as_ptr(), mode, 0)
                    }
                }
            })
        }

        fn chdir(&mut self, cwd: &CStr) -> io::Result<()> {
            // SAFETY: the list is initialised, and it copies the path.
            check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut self.0, cwd.as_ptr()) })
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
        /// A session of its own, an empty signal mask, and the default action for the two signals that looop itself may
        /// ignore.
        fn new() -> io::Result<Attributes> {
            let mut made = MaybeUninit::uninit();
            // SAFETY: the value is only taken as initialised after the initialising call succeeded.
            let mut attributes = unsafe {
                check(libc::posix_spawnattr_init(made.as_mut_ptr()))?;
                Attributes(made.assume_init())
            };
            let flags = libc::POSIX_SPAWN_SETSID
                | libc::POSIX_SPAWN_SETSIGMASK as libc::c_short
                | libc::POSIX_SPAWN_SETSIGDEF as libc::c_short;
            let this = &raw mut attributes.0;
            let mut set = MaybeUninit::uninit();
            // SAFETY: `sigemptyset` initialises the set before it is read, and the attributes copy it.
            unsafe {
                libc::sigemptyset(set.as_mut_ptr());
                check(libc::posix_spawnattr_setsigmask(this, set.as_ptr()))?;
                libc::sigaddset(set.as_mut_ptr(), libc::SIGHUP);
                libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
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
///
/// # Errors
/// As on Linux.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::disallowed_methods, reason = "like `proc`, this module starts processes")]
pub(super) fn spawn(start: &Start) -> io::Result<Child> {
    use std::process::{Command, Stdio};
    let mut command = Command::new(&start.program);
    command.args(&start.args).env_clear().envs(start.env.iter().map(|(k, v)| (k, v))).current_dir(&start.cwd);
    let stdio = |fd: &Option<OwnedFd>| {
        fd.as_ref().map_or_else(|| Ok(Stdio::null()), |fd| fd.try_clone().map(Stdio::from))
    };
    let Streams { stdin, stdout, stderr } = &start.streams;
    command.stdin(stdio(stdin)?).stdout(stdio(stdout)?).stderr(stdio(stderr)?);
    let child = super::session::isolate(&mut command).spawn()?;
    Ok(Child(Pid::from_child(&child)))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn output(script: &str, env: &[(&str, &str)]) -> String {
        let (mut read, write) = io::pipe().unwrap();
        let streams = Streams { stdout: Some(write.into()), ..Streams::default() };
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let args = vec!["-c".to_owned(), script.to_owned()];
        let start =
            Start { program: PathBuf::from("/bin/sh"), args, env, cwd: PathBuf::from("/usr"), streams };
        let child = spawn(&start).unwrap();
        drop(start);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        text
    }

    #[test]
    fn a_child_has_its_own_environment_folder_streams_and_session() {
        let stated = output(
            "echo $A $B; pwd; cat; : >&2; cut -d' ' -f6,7 /proc/$$/stat; echo $$",
            &[("A", "first"), ("A", "last"), ("PATH", "/usr/bin:/bin")],
        );
        let lines: Vec<&str> = stated.lines().collect();
        let pid = lines[3];
        // The session is its own, and there is no terminal.
        assert_eq!(lines, ["last", "/usr", &format!("{pid} 0"), pid]);
    }

    #[test]
    fn a_failed_start_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        std::fs::write(&text, "echo ran").unwrap();
        std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let kind = |program: &std::path::Path, cwd: &str| {
            let (program, cwd) = (program.to_owned(), PathBuf::from(cwd));
            let start = Start { program, args: vec![], env: vec![], cwd, streams: Streams::default() };
            spawn(&start).unwrap_err().raw_os_error()
        };
        assert_eq!(kind(&dir.path().join("none"), "/"), Some(libc::ENOENT));
        assert_eq!(kind(std::path::Path::new("/bin/true"), "/nowhere"), Some(libc::ENOENT));
        assert_eq!(kind(&text, "/"), Some(libc::ENOEXEC));
    }
}
