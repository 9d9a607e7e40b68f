//! The process tree as the kernel shows it: ancestors, descendants, sessions, and processes identified by their start.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::wait::{GRACE_MS, ignore, wait_until};

/// A process, identified by its number and its start time in clock ticks since boot.
pub type Process = (u32, u64);

/// Processes by number and start, so that a later process with the same number differs.
pub type Known = BTreeSet<Process>;

/// Lists all processes that are visible from here, each with its folder.
///
/// # Errors
/// When there is no `/proc`.
pub fn processes() -> io::Result<impl Iterator<Item = (u32, PathBuf)>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))))
}

struct StatFields {
    state: char,
    parent: u32,
    session: u32,
    start: u64,
}

/// Parses fields 3, 4, 6 and 22 of `/proc/PID/stat` (proc(5)); the name in field 2 may hold anything, so counting
/// begins after its last bracket.
fn stat_fields(pid: u32) -> Option<StatFields> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(15)?.parse().ok()?;
    Some(StatFields { state, parent, session, start })
}

/// Returns when a process started, in clock ticks since boot; `None` if it is gone or a zombie.
pub fn start_of(pid: u32) -> Option<u64> {
    stat_fields(pid).filter(|fields| fields.state != 'Z').map(|fields| fields.start)
}

/// Lists the live processes that fit, from a scan of all of them.
fn live(fits: impl Fn(u32, &StatFields) -> bool) -> Vec<Process> {
    let fields = processes().into_iter().flatten().filter_map(|(pid, _)| Some((pid, stat_fields(pid)?)));
    let fit = fields.filter(|(pid, fields)| fields.state != 'Z' && fits(*pid, fields));
    fit.map(|(pid, fields)| (pid, fields.start)).collect()
}

/// Lists the live children of a process from a scan of all processes.
pub(super) fn all_children_of(pid: u32) -> Vec<Process> {
    live(|_, fields| fields.parent == pid)
}

/// Lists the live children of a process from the lists of its threads, if the kernel has them, as in proc(5).
pub(super) fn children_of(pid: u32) -> Vec<Process> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids = lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    pids.filter_map(|pid| pid.parse().ok()).filter_map(|pid| Some((pid, start_of(pid)?))).collect()
}

/// Lists all live descendants of a process, parents before children, without the children in `excluded` and their
/// descendants. A subreaper adopts the orphans of its descendants: a new session or a double fork hides no process.
pub fn below(root: u32, excluded: &[u32]) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        for child in children_of(pid) {
            if !excluded.contains(&child.0) && !found.contains(&child) {
                found.push(child);
                next.push(child.0);
            }
        }
    }
    found
}

/// Lists the live processes of the session that this process leads or led, including the leader. `start` is the
/// leader's: the list is empty if another process has its number now.
pub fn session_of(leader: u32, start: u64) -> Vec<Process> {
    if stat_fields(leader).is_some_and(|fields| fields.start != start) {
        return Vec::new();
    }
    live(|_, one| one.session == leader && one.start >= start)
}

/// Lists all live processes of this user whose initial environment had this variable with one of these values. Misses a
/// process that cleared it, and one that closed its environment ([`crate::os::privacy`]).
pub fn marked(key: &str, values: &[String]) -> Vec<Process> {
    let wanted: Vec<String> = values.iter().map(|value| format!("{key}={value}")).collect();
    live(|pid, _| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| wanted.iter().any(|one| variable == one.as_bytes()))
    })
}

/// Returns true if this process is suspended: a signal or a debugger stopped it, or its cgroup is frozen. False if it
/// is gone.
pub fn is_stopped(pid: u32, start: u64) -> bool {
    let fields = stat_fields(pid).filter(|fields| fields.start == start);
    fields.is_some_and(|fields| matches!(fields.state, 'T' | 't') || is_frozen(pid))
}

/// Returns true if the cgroup of a process is frozen, according to cgroups version 2.
fn is_frozen(pid: u32) -> bool {
    let Ok(groups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else { return false };
    let events = fs::read_to_string(format!("/sys/fs/cgroup/{group}/cgroup.events"));
    events.is_ok_and(|events| events.lines().any(|line| line == "frozen 1"))
}

/// Returns the id of this boot; empty if the system has none.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the namespace in which this process has its number; 0 if the system has none.
pub fn pid_namespace() -> u64 {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = link.to_string_lossy();
    // As in namespaces(7): `pid:[4026531836]`.
    text.trim_start_matches("pid:[").trim_end_matches(']').parse().unwrap_or(0)
}

/// Signals the process with this pid and start time, and no later process with the same pid. Returns true if there was
/// such a process.
pub fn signal(pid: u32, start: u64, kill: bool) -> bool {
    send_to(pid, start, if kill { Signal::KILL } else { Signal::TERM })
}

fn send_to(pid: u32, start: u64, signal: Signal) -> bool {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    send(raw, signal, || start_of(pid) == Some(start))
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

/// Kills a process and all its descendants. Stops it first, so that it starts nothing more, and kills it last, so that
/// its descendants are found. Returns false if one of them still lives after a while.
pub fn kill_tree((pid, start): Process) -> bool {
    send_to(pid, start, Signal::STOP);
    let has_none_below = kill_all(2 * GRACE_MS, || below(pid, &[]));
    signal(pid, start, true);
    wait_until(GRACE_MS, || start_of(pid) != Some(start)) && has_none_below
}

/// Kills all processes that `left` finds, until it finds none; false if the time is up before.
fn kill_all(wait_ms: i64, left: impl Fn() -> Vec<Process>) -> bool {
    wait_until(wait_ms, || {
        let processes = left();
        signal_all(&processes, true);
        processes.is_empty()
    })
}

/// Sends SIGTERM or SIGKILL to each of these processes.
pub fn signal_all(processes: &[Process], kill: bool) {
    for (pid, start) in processes {
        signal(*pid, *start, kill);
    }
}

/// Ends all processes that `left` finds, by SIGTERM and after a while by SIGKILL, until it finds none.
pub fn end_all(left: impl Fn() -> Vec<Process>) {
    let first = left();
    signal_all(&first, false);
    if !first.is_empty() && !wait_until(GRACE_MS, || left().is_empty()) {
        kill_all(GRACE_MS, left);
    }
}

/// Ends a process, its group and its session, identified by pid and start time, because a pid alone may belong to
/// another process. Returns true if there was something to end.
pub fn end_group(pid: u32, start: u64) -> bool {
    let alive = || start_of(pid) == Some(start);
    let Some(leader) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| alive()) else {
        return false;
    };
    for signal in [Signal::TERM, Signal::KILL] {
        for (member, since) in session_of(pid, start) {
            send_to(member, since, signal);
        }
        ignore(kill_process_group(leader, signal));
        // It may have left its group.
        if alive() {
            ignore(kill_process(leader, signal));
        }
        wait_until(GRACE_MS, || !alive() && session_of(pid, start).is_empty());
    }
    true
}

/// Returns true if this process descends from one of these, or if that cannot be found out.
pub fn may_descend_from(pids: &[u32]) -> bool {
    !pids.is_empty() && ancestors().is_none_or(|all| all.iter().any(|pid| pids.contains(pid)))
}

/// Returns the ancestors of this process, nearest first; `None` if they cannot be followed to the first. A /proc of
/// another process namespace, in which this process has another number, gives no answer.
fn ancestors() -> Option<Vec<u32>> {
    let mut pid = std::process::id();
    let named = fs::read_link("/proc/self").ok()?;
    if named.to_str()?.parse() != Ok(pid) {
        return None;
    }
    let mut all = Vec::new();
    while all.len() < 1000 {
        pid = stat_fields(pid)?.parent;
        if pid == 0 {
            return Some(all);
        }
        all.push(pid);
    }
    None
}
