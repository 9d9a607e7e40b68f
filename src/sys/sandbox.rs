//! Sandboxes: one description of what a child may touch, and the walls that are built from it.
//!
//! # Guarantees
//! - `partial` is Landlock and a system call filter, put on the thread or process that then becomes the child.
//! - An engine puts the child into a mount, process and IPC namespace first, and into a network namespace unless its
//!   network is the machine's: what is not in its [`Walls`] does not exist there. The rest is put on within.
//! - Such a box ends with the thread that started it, also where that is killed.
//! - Nothing of it can be taken off again, and all that the child starts is behind it too. What cannot be put on is
//!   an error, and the child does not begin.

mod bubblewrap;
#[cfg(target_os = "linux")]
mod filter;
mod git_dirs;
mod git_watch;
#[cfg(target_os = "linux")]
mod layer;
#[cfg(target_os = "linux")]
mod lock;
#[cfg(target_os = "linux")]
mod network;
mod probe;

use std::io;
use std::path::{Path, PathBuf};

use super::proc::Exit;
use super::program::{installed_path, self_path};
#[cfg(target_os = "linux")]
use crate::model::boxing::Net;
use crate::model::boxing::{Boxed, Engine, Walls};

pub use git_watch::GitWatch;
#[cfg(target_os = "linux")]
pub use network::{RESOLVER, become_networked};
pub use probe::{probe, stamp, try_internet};

/// Directories of the system: what programs are made of, and nothing of any user.
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
/// Files of the system that hold secrets, where this user can read them.
const SECRET: [&str; 4] = ["/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/etc/gshadow-"];

/// The command that becomes this one within the box; its first element is a path.
///
/// # Errors
/// When what the box is to hold is not there.
pub fn argv(boxed: &Boxed, cwd: &Path, argv: &[String]) -> io::Result<Vec<String>> {
    let whole = inner_argv(boxed, cwd, argv, None)?;
    if !boxed.needs_helper() {
        return Ok(whole);
    }
    let helper = [text(&own_file()?), "__net".to_owned(), serde_json::to_string(boxed)?, "--".to_owned()];
    Ok(helper.into_iter().chain(argv.iter().cloned()).collect())
}

/// The command that becomes this one within the box, from within the network that the box is to have. `control` is the
/// descriptor by which the inner side hands out what listens in its network.
fn inner_argv(boxed: &Boxed, cwd: &Path, argv: &[String], control: Option<i32>) -> io::Result<Vec<String>> {
    let own = own_file()?;
    let mut inner = vec![text(&own), "__box".to_owned()];
    inner.extend(control.iter().flat_map(|fd| ["--control".to_owned(), fd.to_string()]));
    inner.extend([serde_json::to_string(boxed)?, "--".to_owned()]);
    let outer = match &boxed.engine {
        None => Vec::new(),
        Some(Engine { bubblewrap, .. }) => bubblewrap::argv(bubblewrap, boxed, &own, cwd)?,
    };
    Ok(outer.into_iter().chain(inner).chain(argv.iter().cloned()).collect())
}

/// The signal that an exit code of the outer side of a box stands for: 128 and its number, as a shell tells it.
pub fn signal_of(code: i32) -> Option<i32> {
    (129..160).contains(&code).then(|| code - 128)
}

/// How the line begins and ends by which the inner side of a box says that its program did not begin, and its code.
const NOT_BEGUN: (&str, &str, i32) = ("error: could not run `", "in its box: ", 126);

/// The line and the exit code of a program that could not begin in its box.
pub fn not_begun(program: &str, error: &io::Error) -> (String, i32) {
    (format!("{}{program}` {}{error}", NOT_BEGUN.0, NOT_BEGUN.1), NOT_BEGUN.2)
}

/// How the lines begin by which bubblewrap says that it made no box, and its code then.
const NOT_MADE: (&str, i32) = ("bwrap: ", 1);

/// What became of a program in a box, from the exit code of the box's outer side and the last that was said. A program
/// that says nothing but what an engine says when it fails is taken for one that did not begin.
pub fn outer_exit(code: i32, said: &[u8]) -> Exit {
    if let Some(signal) = signal_of(code) {
        return Exit::Signal(signal);
    }
    let said = String::from_utf8_lossy(said);
    let is_engines = |line: &str| line.starts_with(NOT_MADE.0);
    if code == NOT_MADE.1 && !said.trim().is_empty() && said.lines().all(is_engines) {
        let why = format!("its box could not be made: {} (`looop doctor` tries again)", said.trim());
        return Exit::NotStarted(why);
    }
    let line = said.lines().next_back().filter(|line| code == NOT_BEGUN.2 && line.starts_with(NOT_BEGUN.0));
    match line.and_then(|line| line.split_once(NOT_BEGUN.1)) {
        Some((_, why)) => Exit::NotStarted(why.to_owned()),
        None => Exit::Code(code),
    }
}

/// Builds the walls around this process, which then becomes the child. The namespaces are there already. `control` is
/// where what listens in its network is handed to. What comes back is what the child has less than it was meant to have,
/// one line each: never more.
///
/// # Errors
/// What could not be put on. The process must not go on as the child then.
#[cfg(target_os = "linux")]
pub fn enter(boxed: &Boxed, control: Option<i32>) -> io::Result<Vec<String>> {
    let walls = &boxed.walls;
    let has_layers = boxed.has_files() && !walls.layered.is_empty();
    let less = if has_layers { layer::lay_all(walls)? } else { Vec::new() };
    if let Some(control) = control {
        network::listen(&walls.forward, control)?;
    }
    if has_layers || control.is_some() {
        layer::give_up()?;
    }
    lock(boxed)?;
    Ok(less)
}

/// There is no such thing here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn enter(boxed: &Boxed, _control: Option<i32>) -> io::Result<Vec<String>> {
    lock(boxed).map(|()| Vec::new())
}

/// The directories that a layer's own directory holds before the box is made.
pub const LAYER_PARTS: [&str; 2] = ["up", "work"];

/// Puts Landlock and the filter on this thread, and on what it starts from now on.
///
/// # Errors
/// What could not be put on.
pub fn lock(boxed: &Boxed) -> io::Result<()> {
    lock_files(boxed)?;
    lock_calls(boxed)
}

/// Puts Landlock on this thread, and on what it starts from now on.
///
/// # Errors
/// What could not be put on.
#[cfg(target_os = "linux")]
pub fn lock_files(boxed: &Boxed) -> io::Result<()> {
    lock::landlock(boxed)
}

/// Puts the filter on this thread, and on what it starts from now on.
///
/// # Errors
/// What could not be put on.
#[cfg(target_os = "linux")]
pub fn lock_calls(boxed: &Boxed) -> io::Result<()> {
    match filter::apply(&boxed.walls.net, boxed.has_files()) {
        // Without a filter this is as much as there can be; what needs one was refused before.
        Err(_) if boxed.walls.net == Net::On || boxed.has_files() && boxed.walls.net == Net::Off => Ok(()),
        Err(_) if boxed.walls.net == Net::Internet => Ok(()),
        put => put,
    }
}

/// There is no such thing here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn lock_files(_boxed: &Boxed) -> io::Result<()> {
    Err(io::Error::other("this system has no sandbox that looop knows"))
}

/// There is no such thing here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn lock_calls(_boxed: &Boxed) -> io::Result<()> {
    Err(io::Error::other("this system has no sandbox that looop knows"))
}

/// There is no such thing here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn become_networked(_boxed: &Boxed, _argv: &[String]) -> io::Result<u8> {
    Err(io::Error::other("this system has no sandbox that looop knows"))
}

/// This program's file under a name that is good within a box: where it was replaced since, the one that did.
fn own_file() -> io::Result<PathBuf> {
    std::fs::canonicalize(installed_path()).map_err(|e| {
        io::Error::new(e.kind(), format!("could not find looop's own program (is `/proc` mounted?): {e}"))
    })
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// One thing of a file system that is put together, by the place where it is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mount {
    /// A link to what stands there.
    Link(PathBuf),
    /// What is there outside, to be read.
    Read(PathBuf),
    /// What is there outside, to be read and written.
    Write(PathBuf),
    /// What is there outside, to be read, and the directory that what is written goes into.
    Layer(PathBuf, PathBuf),
    /// An empty directory.
    Nothing,
    /// An empty file.
    Blank,
}

/// The same mounts without those in the place of a link that the box shows already, because it shows the link's directory:
/// nothing can be mounted over a link.
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

/// The mounts that make a box's file system, parents before what is in them, after the root, `/dev` and `/proc`.
///
/// # Errors
/// Names what is not there.
fn mounts(walls: &Walls, own: &Path) -> io::Result<Vec<(PathBuf, Mount)>> {
    let mut all: Vec<(PathBuf, Mount)> = Vec::new();
    let found = |path: &Path| {
        std::fs::canonicalize(path)
            .map_err(|e| io::Error::new(e.kind(), format!("could not find `{}`: {e}", path.display())))
    };
    if !walls.whole {
        for dir in SYSTEM.map(PathBuf::from) {
            match std::fs::read_link(&dir) {
                Ok(target) => all.push((dir, Mount::Link(target))),
                Err(_) if dir.exists() => all.push((dir.clone(), Mount::Read(dir))),
                Err(_) => {}
            }
        }
        // Names are looked up by what may lie anywhere.
        let names = std::fs::canonicalize("/etc/resolv.conf").ok().filter(|file| !file.starts_with("/etc"));
        let names = names.filter(|file| !walls.placed.iter().any(|(_, at)| at == file));
        all.extend(names.map(|file| (file.clone(), Mount::Read(file))));
    }
    for (what, at) in &walls.moved {
        all.push((at.clone(), Mount::Write(found(what)?)));
    }
    // What lies in a place that can be seen anyway needs no mount, unless something else was put over it.
    let covers = walls.moved.iter().map(|(_, at)| at).chain(&walls.hide).chain(&walls.write);
    let covers: Vec<&PathBuf> = covers.collect();
    let is_seen = |path: &Path| match walls.whole {
        true => !covers.iter().any(|cover| path.starts_with(cover)),
        false => SYSTEM.iter().any(|dir| path.starts_with(dir)),
    };
    for path in walls.read.iter().map(PathBuf::as_path).chain([own]).filter(|path| !is_seen(path)) {
        all.push((path.to_owned(), Mount::Read(found(path)?)));
    }
    for path in &walls.write {
        all.push((path.clone(), Mount::Write(found(path)?)));
        for (at, is_write) in git_dirs::mounts(path) {
            all.push((at.clone(), if is_write { Mount::Write(at) } else { Mount::Read(at) }));
        }
    }
    for (what, own) in &walls.layered {
        all.push((what.clone(), Mount::Layer(found(what)?, found(own)?)));
    }
    for (what, at) in &walls.placed {
        all.push((at.clone(), Mount::Read(found(what)?)));
    }
    for path in walls.hide.iter().cloned().chain(SECRET.map(PathBuf::from)) {
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => all.push((path, Mount::Nothing)),
            Ok(_) => all.push((path, Mount::Blank)),
            // What cannot be seen from outside cannot be seen from inside.
            Err(_) => {}
        }
    }
    let mut all = without_seen_links(all);
    all.sort_by(|(a, m), (b, n)| (a.components().count(), a, m).cmp(&(b.components().count(), b, n)));
    all.dedup();
    Ok(all)
}
