//! The process tree as the kernel shows it: ancestors, orphans, and processes identified by their start.

use std::collections::BTreeSet;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, waitid,
};

use super::clock::Deadline;
use super::job::GRACE_MS;
use super::wait::{ignore, pause_ms};

/// Processes by number and start, so that a later process with the same number differs.
pub type Known = BTreeSet<(u32, u64)>;

/// Makes this process adopt the orphans of its descendants, if the system can. It must not have children yet
/// ([`has_children`]): it would take orphans of foreign processes for its own.
pub fn become_subreaper() {
    #[cfg(target_os = "linux")]
    // Without it orphans live on, as with any other program; nothing else depends on it.
    ignore(rustix::process::set_child_subreaper(Some(rustix::process::getpid())));
}

/// Returns true if this process has a child, including ended ones. A process that has just started can have children of
/// the program that became it by `exec`.
pub fn has_children() -> bool {
    waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT).is_ok()
}

/// Ends and reaps every remaining child, including orphans of ended children, except those in `spare`. Call it only
/// when no other child should live. Returns how many were ended.
pub fn reap_orphans(spare: &Known) -> usize {
    let wait_limit = Deadline::after_ms(GRACE_MS);
    let mut ended = 0;
    let mut none_seen = false;
    while !wait_limit.passed() {
        match rustix::process::wait(WaitOptions::NOHANG) {
            // This process has adopted the children of the reaped one, and a running scan may have missed them.
            Ok(Some(_)) => none_seen = false,
            Ok(None) if none_seen => break,
            Ok(None) => {
                let fit = |found: Vec<(u32, u64)>| -> Vec<Pid> {
                    let found = found.into_iter().filter(|child| !spare.contains(child));
                    found.filter_map(|(pid, _)| Pid::from_raw(pid.cast_signed())).collect()
                };
                // The short list can miss a child while another one exits. Before concluding that none is left, scan
                // all of /proc.
                let orphans = Some(fit(listed_children())).filter(|found| !found.is_empty());
                let orphans = orphans.unwrap_or_else(|| fit(children()));
                none_seen = orphans.is_empty();
                ended += orphans.len();
                for pid in orphans {
                    ignore(kill_process(pid, Signal::KILL));
                }
                if !none_seen {
                    pause_ms(1);
                }
            }
            Err(_) => break,
        }
    }
    ended
}

/// Lists live children of this process from the lists of its threads, if the kernel has them. A sandbox leaves its
/// first process behind for a moment in each beat, and scanning all processes of a machine is slow.
fn listed_children() -> Vec<(u32, u64)> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists = threads.flatten().filter_map(|one| std::fs::read_to_string(one.path().join("children")).ok());
    let pids: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.into_iter().filter_map(|pid| Some((pid, start_of(pid)?))).collect()
}

/// Lists the live children of this process, from a scan of all processes.
fn children() -> Vec<(u32, u64)> {
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let fields = pids.filter_map(|pid| Some((pid, stat_fields(pid)?)));
    let mine = fields.filter(|(_, fields)| fields.parent == me && fields.state != 'Z');
    mine.map(|(pid, fields)| (pid.cast_unsigned(), fields.start)).collect()
}

struct StatFields {
    state: char,
    parent: i32,
    session: i32,
    start: u64,
}

/// Parses fields 3, 4, 6 and 22 of `/proc/PID/stat` (proc(5)); the name in field 2 may hold anything, so counting
/// begins after its last bracket.
fn stat_fields(pid: i32) -> Option<StatFields> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(15)?.parse().ok()?;
    Some(StatFields { state, parent, session, start })
}

/// Returns when a process started, in clock ticks since boot; `None` if it is gone or a zombie.
pub fn start_of(pid: u32) -> Option<u64> {
    let fields = stat_fields(i32::try_from(pid).ok()?)?;
    (fields.state != 'Z').then_some(fields.start)
}

/// Lists the live processes of the session that this process leads or led, including the leader. `start` is the
/// leader's: the list is empty if another process has its number now.
pub fn session_of(leader: u32, start: u64) -> Vec<(u32, u64)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let Ok(session) = i32::try_from(leader) else { return Vec::new() };
    if stat_fields(session).is_some_and(|fields| fields.start != start) {
        return Vec::new();
    }
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let fields = pids.filter_map(|pid| Some((pid, stat_fields(pid)?)));
    let members = fields.filter(|(_, one)| one.session == session && one.start >= start && one.state != 'Z');
    members.map(|(pid, fields)| (pid.cast_unsigned(), fields.start)).collect()
}

/// Returns true if this process is suspended: a signal or a debugger stopped it, or its cgroup is frozen. False if it
/// is gone.
pub fn is_stopped(pid: u32, start: u64) -> bool {
    let fields = i32::try_from(pid).ok().and_then(stat_fields).filter(|fields| fields.start == start);
    fields.is_some_and(|fields| matches!(fields.state, 'T' | 't') || is_frozen(pid))
}

/// Returns true if the cgroup of a process is frozen, according to cgroups version 2.
fn is_frozen(pid: u32) -> bool {
    let Ok(groups) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else { return false };
    let events = std::fs::read_to_string(format!("/sys/fs/cgroup/{group}/cgroup.events"));
    events.is_ok_and(|events| events.lines().any(|line| line == "frozen 1"))
}

/// Returns the id of this boot; empty if the system has none.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the namespace in which this process has its number; 0 if the system has none.
pub fn pid_namespace() -> u64 {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let text = link.to_string_lossy();
    // As in namespaces(7): `pid:[4026531836]`.
    text.trim_start_matches("pid:[").trim_end_matches(']').parse().unwrap_or(0)
}

/// Ends a process, its group and its session, identified by pid and start time, because a pid alone may belong to
/// another process. Returns true if there was something to end.
pub fn end_group(pid: u32, start: u64) -> bool {
    let alive = || start_of(pid) == Some(start);
    let Some(leader) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| alive()) else {
        return false;
    };
    for signal in [Signal::TERM, Signal::KILL] {
        for (member, _) in session_of(pid, start) {
            ignore(Pid::from_raw(member.cast_signed()).map_or(Ok(()), |pid| kill_process(pid, signal)));
        }
        ignore(kill_process_group(leader, signal));
        // It may have left its group.
        if alive() {
            ignore(kill_process(leader, signal));
        }
        let wait_limit = Deadline::after_ms(GRACE_MS);
        while (alive() || !session_of(pid, start).is_empty()) && !wait_limit.passed() {
            pause_ms(10);
        }
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
    let mut pid = rustix::process::getpid().as_raw_nonzero().get();
    let named = std::fs::read_link("/proc/self").ok()?;
    if named.to_str()?.parse() != Ok(pid) {
        return None;
    }
    let mut all = Vec::new();
    while all.len() < 1000 {
        pid = stat_fields(pid)?.parent;
        if pid == 0 {
            return Some(all);
        }
        all.push(u32::try_from(pid).ok()?);
    }
    None
}
