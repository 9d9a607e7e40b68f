//! The user's tmux: lists windows, and opens, rings, renames or closes one.
//!
//! Text of a worker never gets here, because tmux runs the contents of `#(…)`. A command reaches tmux as an argument
//! vector, so no shell reads it. Windows are identified by a user option on their pane, never by their name.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};

use super::plan::Pane;
use crate::os::process::{self, ChildResult, Job, OutputLimit, ProcessCommand, ProcessExit};
use crate::os::signal::Cancel;
use crate::rules::fault::Fault;

/// The pane option that names the owner of a window.
const LABEL: &str = "@looop";
/// The timeout of one call of tmux, in milliseconds.
const CALL_MS: i64 = 5_000;
/// The most that tmux may print, in bytes.
const OUTPUT_BYTES: usize = 4 << 20;
/// The queried fields of panes, clients and sessions. The label is last, because it may hold any text.
const PANE: &str =
    "pane #{pane_id} #{pane_tty} #{session_attached} #{window_active} #{pane_active} #{@looop}";
const CLIENT: &str = "client #{client_activity} #{session_id}";
const SESSION: &str = "session #{session_activity} #{session_id}";

/// One tmux server of the user.
#[derive(Debug)]
pub struct Server<'a> {
    program: &'a Path,
    socket: PathBuf,
    /// The user's locale.
    locale: &'a [(String, String)],
    profile: &'a str,
    /// The session that the user used last, by its id in tmux.
    session: String,
    /// The panes of this profile.
    pub panes: Vec<Pane>,
}

/// Returns the socket in a value of `TMUX`: `socket,pid,session`. The path may hold commas.
pub fn socket_of(value: &str) -> Option<PathBuf> {
    let socket = value.rsplitn(3, ',').nth(2)?;
    socket.starts_with('/').then(|| PathBuf::from(socket))
}

/// Returns the socket of the server that plain `tmux` uses.
pub fn default_socket(tmux_dir: &Path) -> PathBuf {
    tmux_dir.join(format!("tmux-{}", rustix::process::geteuid().as_raw())).join("default")
}

impl<'a> Server<'a> {
    /// Finds the tmux server of a socket and lists its windows of this profile. `None` if no server runs, or it has no
    /// session.
    ///
    /// # Errors
    /// When tmux does not answer in time.
    pub fn find(
        program: &'a Path,
        socket: &Path,
        locale: &'a [(String, String)],
        profile: &'a str,
    ) -> Result<Option<Server<'a>>> {
        if !is_socket_of(socket, rustix::process::geteuid().as_raw()) {
            return Ok(None);
        }
        let (socket, session, panes) = (socket.to_owned(), String::new(), Vec::new());
        let server = Server { program, socket, locale, profile, session, panes };
        let panes = ["list-panes", "-a", "-F", PANE, ";"];
        let others = ["list-clients", "-F", CLIENT, ";", "list-sessions", "-F", SESSION];
        let ended = server.call(panes.into_iter().chain(others))?;
        // The socket of an ended server does not count.
        let shown = (ended.exit == ProcessExit::Code(0)).then(|| read(&ended.stdout, profile)).flatten();
        Ok(shown.map(|(session, panes)| Server { session, panes, ..server }))
    }

    /// Opens a window at the end of the session without selecting it, and rings in it. The label is set afterwards: a
    /// command that ends at once closes its window, which is not an error.
    ///
    /// # Errors
    /// When tmux did not open it.
    pub fn open(&self, name: &str, key: &str, env: &[String], argv: &[String]) -> Result<()> {
        let session = format!("{}:", self.session);
        let make = ["new-window", "-d", "-P", "-F", "#{pane_id} #{pane_tty}", "-n", name, "-t", &session];
        let env = env.iter().flat_map(|variable| ["-e".to_owned(), literal(variable)]);
        let words: Vec<String> = env.chain(argv.iter().map(|arg| literal(arg))).collect();
        let made = self.call(make.into_iter().chain(words.iter().map(String::as_str)))?;
        let made = good(made, "open a window")?;
        let made = String::from_utf8_lossy(&made.stdout);
        let (pane, tty) = made.trim().split_once(' ').context("could not read what tmux printed")?;
        // The program in the window must not change its name.
        let label = self.label(key);
        let options =
            [("-p", LABEL, &*label), ("-w", "automatic-rename", "off"), ("-w", "allow-rename", "off")];
        let set = |(scope, option, value)| ["set-option", scope, "-t", pane, option, value, ";"];
        self.call(options.into_iter().flat_map(set))?;
        ring(tty);
        Ok(())
    }

    /// Gives a window another name and label.
    pub fn rename(&self, pane: &str, name: &str, key: &str) -> Result<()> {
        let label = self.label(key);
        let calls = ["rename-window", "-t", pane, name, ";", "set-option", "-p", "-t", pane, LABEL, &label];
        good(self.call(calls)?, "rename a window").map(drop)
    }

    /// Closes a pane, and its window if that has no other pane.
    ///
    /// # Errors
    /// When tmux does not answer. It is not an error if the pane is already gone.
    pub fn close(&self, pane: &str) -> Result<()> {
        self.call(["kill-pane", "-t", pane]).map(drop)
    }

    fn label(&self, key: &str) -> String {
        format!("{}/{key}", self.profile)
    }

    /// Runs tmux to its end. Passes only the locale of the caller's environment: `TMUX` may name another server.
    fn call<'b>(&'b self, args: impl IntoIterator<Item = &'b str>) -> Result<ChildResult> {
        let socket = self.socket.to_str().context("could not use a tmux socket: its path is not UTF-8")?;
        let args = ["-u", "-S", socket].into_iter().chain(args);
        let command = ProcessCommand::new(self.program, args, self.locale.to_vec(), "/");
        let job = Job::new(command, OutputLimit::All(OUTPUT_BYTES), CALL_MS);
        let ended = process::run_one(job, &Cancel::never()?, None).context("could not call tmux")?;
        match &ended.exit {
            ProcessExit::Code(_) => Ok(ended),
            other => Err(Fault::failed(format!("could not call tmux: {other}")).into()),
        }
    }
}

/// Returns true if this user owns the socket: a server obeys the owner of its socket, and can run things in its client.
fn is_socket_of(path: &Path, user: u32) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket() && meta.uid() == user)
}

/// Escapes an argument for tmux: a semicolon at the end would begin another command.
fn literal(arg: &str) -> String {
    arg.strip_suffix(';').map_or_else(|| arg.to_owned(), |rest| format!("{rest}\\;"))
}

fn good(ended: ChildResult, what: &str) -> Result<ChildResult> {
    if ended.exit == ProcessExit::Code(0) {
        return Ok(ended);
    }
    let stated = String::from_utf8_lossy(&ended.stderr);
    Err(Fault::failed(format!("could not {what}: tmux said: {}", stated.trim())).into())
}

/// Rings in a pane, so that tmux marks its window. A failure has no other effect.
pub fn ring(tty: &str) {
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = tty.starts_with("/dev/").then(|| rustix::fs::open(tty, flags, Mode::empty()));
    if let Some(Ok(terminal)) = opened
        && rustix::termios::isatty(&terminal)
    {
        drop(File::from(terminal).write(b"\x07"));
    }
}

/// Reads the session that was used last, and the panes of the profile.
fn read(printed: &[u8], profile: &str) -> Option<(String, Vec<Pane>)> {
    let printed = String::from_utf8_lossy(printed);
    let lines = || printed.lines().filter_map(|line| line.split_once(' '));
    let latest = |kind: &str| {
        let of_kind = lines().filter(|(word, _)| *word == kind);
        let timed = of_kind.filter_map(|(_, rest)| {
            let (time, session) = rest.split_once(' ')?;
            Some((time.parse::<u64>().ok()?, session))
        });
        timed.max_by_key(|(time, _)| *time).map(|(_, session)| session.to_owned())
    };
    let mut panes: Vec<Pane> = Vec::new();
    let own = lines().filter_map(|(word, rest)| (word == "pane").then(|| read_pane(rest, profile))?);
    for pane in own {
        // A window that is linked into several sessions is listed in each.
        match panes.iter_mut().find(|one| one.id == pane.id) {
            Some(one) => one.watched |= pane.watched,
            None => panes.push(pane),
        }
    }
    Some((latest("client").or_else(|| latest("session"))?, panes))
}

fn read_pane(line: &str, profile: &str) -> Option<Pane> {
    let mut fields = line.splitn(6, ' ');
    let mut next = || fields.next().map(str::to_owned);
    let (id, tty) = (next()?, next()?);
    let watched = next()? != "0" && next()? == "1" && next()? == "1";
    let label = line.splitn(6, ' ').nth(5)?;
    let key = label.strip_prefix(profile)?.strip_prefix('/')?.to_owned();
    Some(Pane { id, tty, key, watched })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_part_before_the_last_two_commas() {
        assert_eq!(socket_of("/tmp/a,b/s,123,0"), Some(PathBuf::from("/tmp/a,b/s")));
        for bad in ["", "/tmp/s", "/tmp/s,1", "relative,1,0"] {
            assert_eq!(socket_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_panes_of_this_profile_are_read_and_attached_clients_come_first() {
        let printed = "\
pane %0 /dev/pts/1 1 1 1 
pane %1 /dev/pts/2 1 0 1 p1/w1@1
pane %1 /dev/pts/2 1 1 1 p1/w1@1
pane %2 /dev/pts/3 0 1 1 p1/日本語@1
pane %3 /dev/pts/4 1 1 1 p2/w1@1
pane %4 /dev/pts/5 1 1 1 p1
client 10 $0
client 12 $1
session 99 $2
";
        let (session, panes) = read(printed.as_bytes(), "p1").unwrap();
        assert_eq!(session, "$1");
        let panes: Vec<_> = panes.iter().map(|p| (p.id.as_str(), p.key.as_str(), p.watched)).collect();
        assert_eq!(panes, [("%1", "w1@1", true), ("%2", "日本語@1", false)]);
        assert_eq!(read(b"session 1 $4\nsession 3 $5\n", "p1").unwrap().0, "$5");
        assert_eq!(read(b"", "p1"), None);
    }

    #[test]
    fn only_a_socket_of_the_user_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, file) = (dir.path().join("s"), dir.path().join("f"));
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(&file, "").unwrap();
        let me = rustix::process::geteuid().as_raw();
        assert!(is_socket_of(&socket, me));
        assert!(!is_socket_of(&socket, me + 1), "another's");
        assert!(!is_socket_of(&file, me) && !is_socket_of(&dir.path().join("none"), me));
    }

    #[test]
    fn a_semicolon_at_the_end_stays_one() {
        assert_eq!(literal("a;b"), "a;b");
        assert_eq!(literal("a;"), "a\\;");
        assert_eq!(literal("a\\;"), "a\\\\;");
    }
}
