//! Sandboxes: one description of what a child may access, and the mechanisms that enforce it.
//!
//! # Guarantees
//! - `partial` is Landlock and a system call filter, applied to the process that then becomes the child.
//! - An engine first puts the child into a mount, process and IPC namespace, and into a network namespace unless it has
//!   the machine's network: what is not in its [`Access`] does not exist there. The rest is applied inside.
//! - Such a sandbox ends with the thread that started it, also if that thread is killed.
//! - No part of it can be removed again, and it also holds everything that the child starts. If a part cannot be
//!   applied, that is an error, and the child does not begin.

mod bubblewrap;
pub(crate) mod git_dirs;
mod git_watch;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod layer;
#[cfg(target_os = "linux")]
mod network;
pub mod probe;
#[cfg(target_os = "linux")]
mod seccomp;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::os::process::{Layer, ProcessCommand, ProcessExit, Restrictions, Stream};
use crate::os::program::installed_path;
use crate::os::sealed::{self, Sealed};
#[cfg(target_os = "linux")]
use crate::rules::sandbox::Net;
use crate::rules::sandbox::{Access, Engine, Sandbox};

pub use git_watch::GitWatch;
#[cfg(target_os = "linux")]
pub use network::{RESOLVER, become_networked};

/// Directories of the system: they hold programs, and no files of users.
const SYSTEM: [&str; 12] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix",
    "/gnu",
    "/run/current-system",
];
/// Files of the system that hold secrets, if this user can read them.
const SECRET: [&str; 4] = ["/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/etc/gshadow-"];

/// Returns the command that runs this one inside the sandbox; its first element is a path.
///
/// # Errors
/// When a path that the sandbox shows does not exist.
pub fn argv(sandbox: &Sandbox, cwd: &Path, argv: &[String]) -> io::Result<Vec<String>> {
    let whole = inner_argv(sandbox, cwd, argv, None)?;
    if !sandbox.needs_helper() {
        return Ok(whole);
    }
    let helper = [text(&own_file()?), "__net".to_owned(), serde_json::to_string(sandbox)?, "--".to_owned()];
    Ok(helper.into_iter().chain(argv.iter().cloned()).collect())
}

/// Returns the command that runs this one inside the sandbox, when the sandbox's network already exists. `control` is
/// the descriptor over which the inner process sends the listening sockets of its network.
fn inner_argv(
    sandbox: &Sandbox,
    cwd: &Path,
    argv: &[String],
    control: Option<i32>,
) -> io::Result<Vec<String>> {
    let own = own_file()?;
    let mut inner = vec![text(&own), "__sandbox-exec".to_owned()];
    inner.extend(control.iter().flat_map(|fd| ["--control".to_owned(), fd.to_string()]));
    inner.extend([serde_json::to_string(sandbox)?, "--".to_owned()]);
    let outer = match &sandbox.engine {
        None => Vec::new(),
        Some(Engine { bubblewrap, .. }) => bubblewrap::argv(bubblewrap, sandbox, &own, cwd)?,
    };
    Ok(outer.into_iter().chain(inner).chain(argv.iter().cloned()).collect())
}

/// Returns the signal for an exit code of the sandbox's outer process: 128 plus its number, as in a shell.
pub fn signal_of(code: i32) -> Option<i32> {
    (129..160).contains(&code).then(|| code - 128)
}

/// The parts of the line with which the inner process reports that its program did not start, and its exit code.
const NOT_BEGUN: (&str, &str, i32) = ("error: could not run `", "in its sandbox: ", 126);

/// Returns the line and the exit code for a program that could not start in its sandbox.
pub fn not_begun(program: &str, error: &io::Error) -> (String, i32) {
    (format!("{}{program}` {}{error}", NOT_BEGUN.0, NOT_BEGUN.1), NOT_BEGUN.2)
}

/// The prefix of bubblewrap's messages when it made no sandbox, and its exit code then.
const NOT_MADE: (&str, i32) = ("bwrap: ", 1);

/// Interprets the end of a sandboxed program, from the exit code of the outer process and the end of its output. If the
/// output consists only of an engine's error messages, the program did not start.
pub fn outer_exit(code: i32, stated: &[u8]) -> ProcessExit {
    if let Some(signal) = signal_of(code) {
        return ProcessExit::Signal(signal);
    }
    let stated = String::from_utf8_lossy(stated);
    let is_engines = |line: &str| line.starts_with(NOT_MADE.0);
    if code == NOT_MADE.1 && !stated.trim().is_empty() && stated.lines().all(is_engines) {
        let why = format!("its sandbox could not be made: {} (`looop doctor` tries again)", stated.trim());
        return ProcessExit::NotStarted(why);
    }
    helper_exit(code, &stated)
}

/// Interprets the end of the process that applied the inner part of a sandbox and then became the program.
fn helper_exit(code: i32, stated: &str) -> ProcessExit {
    let line = stated.lines().next_back().filter(|line| code == NOT_BEGUN.2 && line.starts_with(NOT_BEGUN.0));
    match line.and_then(|line| line.split_once(NOT_BEGUN.1)) {
        Some((_, why)) => ProcessExit::NotStarted(why.to_owned()),
        None => ProcessExit::Code(code),
    }
}

/// Builds the sandbox around this process, which then becomes the child. The namespaces already exist. `control` is the
/// descriptor over which listening sockets are sent. Returns one line for each access that the child lacks although it
/// should have it; the child never has more.
///
/// # Errors
/// Names what could not be applied. The process must not become the child then.
#[cfg(target_os = "linux")]
fn enter(sandbox: &Sandbox, control: Option<i32>) -> io::Result<Vec<String>> {
    let access = &sandbox.access;
    let has_layers = sandbox.has_files() && !access.overlays.is_empty();
    let less = if has_layers { layer::lay_all(access)? } else { Vec::new() };
    if let Some(control) = control {
        network::listen(&access.forward, control)?;
    }
    if has_layers || control.is_some() {
        layer::give_up()?;
    }
    landlock::landlock(sandbox)?;
    lock_calls(sandbox)?;
    Ok(less)
}

/// This system has no sandbox.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
fn enter(_sandbox: &Sandbox, _control: Option<i32>) -> io::Result<Vec<String>> {
    Err(io::Error::other("this system has no sandbox that looop knows"))
}

/// Gives this process, which has one thread, a namespace of its own.
#[cfg(target_os = "linux")]
fn unshare(namespace: rustix::thread::UnshareFlags) -> io::Result<()> {
    #[allow(
        deprecated,
        reason = "the other form is unsafe for descriptors that threads share, and there is one thread"
    )]
    Ok(rustix::thread::unshare(namespace)?)
}

/// The directories that exist in an overlay's own directory before the sandbox is made.
pub const LAYER_PARTS: [&str; 2] = ["up", "work"];

/// Applies the filter to this thread, and to everything that it starts from now on.
///
/// # Errors
/// Names what could not be applied.
#[cfg(target_os = "linux")]
fn lock_calls(sandbox: &Sandbox) -> io::Result<()> {
    match seccomp::apply(&sandbox.access.net, sandbox.has_files()) {
        // These networks work without a filter; those that need one were refused before.
        Err(_) if matches!(sandbox.access.net, Net::On | Net::Internet) => Ok(()),
        Err(_) if sandbox.access.net == Net::Off && sandbox.has_files() => Ok(()),
        put => put,
    }
}

/// This system has no sandbox.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn become_networked(_sandbox: &Sandbox, _argv: &[String]) -> io::Result<u8> {
    Err(io::Error::other("this system has no sandbox that looop knows"))
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
        Some(sandbox) if sandbox.has_files() => match sandbox.wrap(ProcessCommand::shared(program, args)) {
            Ok(command) => ProcessCommand { stdin: Stream::Null, ..command }.exec(),
            Err(error) => error,
        },
        Some(sandbox) if let Err(error) = enter(sandbox, None) => error,
        _ => exec_approved(program, argv0, args, Stream::Null, files),
    }
}

/// Becomes another program inside a sandbox that is built around this process first. Returns only on failure. `tell`
/// receives a message for each access that the program lacks although it should have it.
pub fn exec_sandboxed(sandbox: &Sandbox, control: Option<i32>, argv: &[String], tell: fn(&str)) -> io::Error {
    let Some((program, args)) = argv.split_first() else { return io::Error::other("the command is empty") };
    match enter(sandbox, control) {
        Ok(less) => {
            less.iter().for_each(|line| tell(line));
            exec_approved(Path::new(program), program, args, Stream::Inherited, &sandbox.sealed)
        }
        Err(error) => error,
    }
}

/// Becomes a program whose approved files are unchanged. The check holds the program's file open until then.
fn exec_approved(program: &Path, argv0: &str, args: &[String], stdin: Stream, files: &[Sealed]) -> io::Error {
    match sealed::check(files, program) {
        Ok((path, _file)) => {
            let command = ProcessCommand::shared(path, args);
            ProcessCommand { argv0: Some(argv0.into()), stdin, ..command }.exec()
        }
        Err(error) => error,
    }
}

/// Returns the sandbox as a layer over a command.
pub fn layer(sandbox: Option<Sandbox>) -> Option<Box<dyn Layer>> {
    sandbox.map(|sandbox| -> Box<dyn Layer> { Box::new(sandbox) })
}

impl Layer for Sandbox {
    fn wrap(&self, command: ProcessCommand) -> io::Result<ProcessCommand> {
        let args = command.args.iter().map(|arg| arg.to_string_lossy().into_owned());
        let words: Vec<String> = std::iter::once(text(&command.program)).chain(args).collect();
        let cwd = command.cwd.clone().map_or_else(std::env::current_dir, Ok)?;
        let mut argv = argv(self, &cwd, &words)?;
        Ok(ProcessCommand {
            program: PathBuf::from(argv.remove(0)),
            args: argv.into_iter().map(OsString::from).collect(),
            ..command
        })
    }

    #[cfg(target_os = "linux")]
    fn restrictions(&self) -> Option<Restrictions> {
        if self.has_files() {
            return None;
        }
        let (shared, own) = (self.clone(), self.clone());
        Some(Restrictions {
            shared: (format!("{:?}", self.access.net), Box::new(move || lock_calls(&shared))),
            own: Box::new(move || landlock::landlock(&own)),
        })
    }

    fn has_outer(&self) -> bool {
        self.has_files()
    }

    fn exit(&self, code: i32, output: &[u8]) -> ProcessExit {
        match self.has_files() {
            true => outer_exit(code, output),
            false => helper_exit(code, &String::from_utf8_lossy(output)),
        }
    }
}

/// Returns this program's file under a name that is valid inside a sandbox: the new file if it was replaced.
fn own_file() -> io::Result<PathBuf> {
    std::fs::canonicalize(installed_path()).map_err(|e| {
        io::Error::new(e.kind(), format!("could not find looop's own program (is `/proc` mounted?): {e}"))
    })
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// One entry of a mount table, ordered by its path.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mount {
    /// A symbolic link to this target.
    Link(PathBuf),
    /// A path of the host, read-only.
    Read(PathBuf),
    /// A path of the host, read and write.
    Write(PathBuf),
    /// A path of the host, and the directory that receives writes to it.
    Layer(PathBuf, PathBuf),
    /// An empty directory.
    Nothing,
    /// An empty file.
    Blank,
}

/// Removes mounts at the place of a link that the sandbox already shows with its directory: nothing can be mounted over
/// a link.
fn without_seen_links(all: Vec<(PathBuf, Mount)>) -> Vec<(PathBuf, Mount)> {
    let is_shown_link = |at: &Path| {
        let above = all.iter().filter_map(|(above, mount)| match mount {
            Mount::Read(what) | Mount::Write(what) | Mount::Layer(what, _) if at != above => {
                Some((above, what.join(at.strip_prefix(above).ok()?)))
            }
            _ => None,
        });
        let nearest = above.max_by_key(|(above, _)| above.components().count());
        nearest.is_some_and(|(_, source)| source.symlink_metadata().is_ok_and(|meta| meta.is_symlink()))
    };
    let shown: Vec<bool> = all.iter().map(|(at, _)| is_shown_link(at)).collect();
    all.into_iter().zip(shown).filter(|(_, is_shown)| !is_shown).map(|(one, _)| one).collect()
}

/// Lists the mounts of a sandbox's file system, parents before children; `/`, `/dev` and `/proc` come before.
///
/// # Errors
/// Names a path that does not exist.
fn mounts(access: &Access, own: &Path) -> io::Result<Vec<(PathBuf, Mount)>> {
    let mut all: Vec<(PathBuf, Mount)> = Vec::new();
    let found = |path: &Path| {
        std::fs::canonicalize(path)
            .map_err(|e| io::Error::new(e.kind(), format!("could not find `{}`: {e}", path.display())))
    };
    if !access.allow_all {
        for dir in SYSTEM.map(PathBuf::from) {
            match std::fs::read_link(&dir) {
                Ok(target) => all.push((dir, Mount::Link(target))),
                Err(_) if dir.exists() => all.push((dir.clone(), Mount::Read(dir))),
                Err(_) => {}
            }
        }
        // The name server file may be a link to any place.
        let names = std::fs::canonicalize("/etc/resolv.conf").ok().filter(|file| !file.starts_with("/etc"));
        let names = names.filter(|file| !access.read_only_binds.iter().any(|(_, at)| at == file));
        all.extend(names.map(|file| (file.clone(), Mount::Read(file))));
    }
    for (what, at) in &access.binds {
        all.push((at.clone(), Mount::Write(found(what)?)));
    }
    // A path below an already visible place needs no mount, unless a mount covers that place.
    let covers = access.binds.iter().map(|(_, at)| at).chain(&access.masks).chain(&access.write);
    let covers: Vec<&PathBuf> = covers.collect();
    let is_seen = |path: &Path| match access.allow_all {
        true => !covers.iter().any(|cover| path.starts_with(cover)),
        false => SYSTEM.iter().any(|dir| path.starts_with(dir)),
    };
    for path in access.read.iter().map(PathBuf::as_path).chain([own]).filter(|path| !is_seen(path)) {
        all.push((path.to_owned(), Mount::Read(found(path)?)));
    }
    for path in &access.write {
        all.push((path.clone(), Mount::Write(found(path)?)));
        for (at, is_write) in git_dirs::mounts(path) {
            all.push((at.clone(), if is_write { Mount::Write(at) } else { Mount::Read(at) }));
        }
    }
    for (what, own) in &access.overlays {
        all.push((what.clone(), Mount::Layer(found(what)?, found(own)?)));
    }
    for (what, at) in &access.read_only_binds {
        all.push((at.clone(), Mount::Read(found(what)?)));
    }
    for path in access.masks.iter().cloned().chain(SECRET.map(PathBuf::from)) {
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => all.push((path, Mount::Nothing)),
            Ok(_) => all.push((path, Mount::Blank)),
            // A path that is invisible outside is also invisible inside.
            Err(_) => {}
        }
    }
    let mut all = without_seen_links(all);
    all.sort_by(|(a, m), (b, n)| (a.components().count(), a, m).cmp(&(b.components().count(), b, n)));
    all.dedup();
    Ok(all)
}
