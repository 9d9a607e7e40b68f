//! The process tree as the kernel tells it: who descends from whom, strays, and processes known by their start.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group};

use super::clock::Deadline;
use super::proc::GRACE_MS;
use super::spawn::{ignore, pause_ms};

/// Makes this process the parent of what its children leave behind, where the system can.
pub fn become_subreaper() {
    #[cfg(target_os = "linux")]
    // Without it strays live on as they do under any other program; nothing else depends on it.
    ignore(rustix::process::set_child_subreaper(Some(rustix::process::getpid())));
}

/// Ends and reaps every child that is left, strays of ended children included. Call it only when no child
/// is meant to live. Returns how many were ended.
pub fn end_strays() -> usize {
    let patience = Deadline::after_ms(GRACE_MS);
    let mut ended = 0;
    while !patience.passed() {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let strays = children();
                ended += strays.len();
                for pid in strays {
                    ignore(kill_process(pid, Signal::KILL));
                }
                pause_ms(1);
            }
            Err(_) => break,
        }
    }
    ended
}

/// The living children of this process, as the kernel lists them.
fn children() -> Vec<Pid> {
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| stat_fields(*pid).is_some_and(|fields| fields.parent == me && fields.state != 'Z'))
        .filter_map(Pid::from_raw)
        .collect()
}

struct StatFields {
    state: char,
    parent: i32,
    start: u64,
}

/// Fields 3, 4 and 22 of `/proc/PID/stat` (proc(5)); the name in field 2 may hold anything, so counting
/// begins behind its last bracket.
fn stat_fields(pid: i32) -> Option<StatFields> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(StatFields { state, parent, start })
}

/// When a process started, in clock ticks since boot; none when it is gone or a zombie.
pub fn start_of(pid: u32) -> Option<u64> {
    let fields = stat_fields(i32::try_from(pid).ok()?)?;
    (fields.state != 'Z').then_some(fields.start)
}

/// The id of this boot; empty where the system has none.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Ends a group whose leader is known by pid and start time. A pid alone is no authority: it may be another's.
/// Returns true when there was something to end.
pub fn end_group(pid: u32, start: u64) -> bool {
    let alive = || start_of(pid) == Some(start);
    let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| alive()) else {
        return false;
    };
    for signal in [Signal::TERM, Signal::KILL] {
        ignore(kill_process_group(group, signal));
        let patience = Deadline::after_ms(GRACE_MS);
        while alive() && !patience.passed() {
            pause_ms(10);
        }
    }
    true
}

/// The processes that this one descends from, nearest first.
pub fn ancestors() -> Vec<u32> {
    let mut all = Vec::new();
    let mut pid = rustix::process::getpid().as_raw_nonzero().get();
    while let Some(fields) = stat_fields(pid).filter(|fields| fields.parent > 0 && all.len() < 1000) {
        pid = fields.parent;
        all.extend(u32::try_from(pid));
    }
    all
}
