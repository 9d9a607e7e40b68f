//! The process tree below this process, and how to end all of it.

use super::clock::Deadline;
use super::job::GRACE_MS;
use super::wait::pause_ms;
use super::{detach, tree};

/// A process, identified by its number and its start time in clock ticks since boot.
pub type Process = (u32, u64);

/// Lists all live descendants of this process, parents before children. This process is a subreaper, so it adopts the
/// orphans of its descendants: a new session or a double fork hides no process. Leaves out the children in `excluded`
/// with their descendants.
pub fn descendants(excluded: &[u32]) -> Vec<Process> {
    tree_of(std::process::id(), excluded)
}

/// Lists all live descendants of a process.
pub fn below(pid: u32) -> Vec<Process> {
    tree_of(pid, &[])
}

fn tree_of(root: u32, excluded: &[u32]) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        for child in children_of(pid) {
            if let Some(start) = tree::start_of(child)
                && !excluded.contains(&child)
                && !found.contains(&(child, start))
            {
                found.push((child, start));
                next.push(child);
            }
        }
    }
    found
}

/// Lists the children of all threads of a process, as in proc(5).
fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// Kills a process and all its descendants. Stops it first, so that it starts nothing more, and kills it last, so that
/// its descendants are found. Returns false if one of them still lives after a while.
pub fn kill_tree((pid, start): Process) -> bool {
    detach::stop(pid, start);
    let deadline = Deadline::after_ms(2 * GRACE_MS);
    let mut left = below(pid);
    while !left.is_empty() && !deadline.passed() {
        signal_all(&left, true);
        pause_ms(10);
        left = below(pid);
    }
    detach::signal(pid, start, true);
    let is_alive = || tree::start_of(pid) == Some(start);
    let deadline = Deadline::after_ms(GRACE_MS);
    while is_alive() && !deadline.passed() {
        pause_ms(10);
    }
    left.is_empty() && !is_alive()
}

/// Sends SIGTERM or SIGKILL to each of these processes.
pub fn signal_all(processes: &[Process], kill: bool) {
    for (pid, start) in processes {
        detach::signal(*pid, *start, kill);
    }
}

/// Lists all live processes of this user whose initial environment had this variable with one of these values. Misses a
/// process that cleared it, and one that closed its environment ([`super::privacy`]).
pub fn marked(key: &str, values: &[String]) -> Vec<Process> {
    let wanted: Vec<String> = values.iter().map(|value| format!("{key}={value}")).collect();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let starts = pids.filter_map(|pid| Some((pid, tree::start_of(pid)?)));
    starts
        .filter(|(pid, _)| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ
                .split(|byte| *byte == 0)
                .any(|variable| wanted.iter().any(|one| variable == one.as_bytes()))
        })
        .collect()
}

/// Ends all processes that [`marked`] finds, by SIGTERM and after a while by SIGKILL.
pub fn end_marked(key: &str, values: &[String]) {
    end_all(|| marked(key, values));
}

/// Ends all processes that `left` finds, by SIGTERM and after a while by SIGKILL. Calls it again and again, until it
/// finds none.
pub fn end_all(left: impl Fn() -> Vec<Process>) {
    let grace = Deadline::after_ms(GRACE_MS);
    let wait_limit = Deadline::after_ms(2 * GRACE_MS);
    let mut processes = left();
    signal_all(&processes, false);
    while !processes.is_empty() && !wait_limit.passed() {
        pause_ms(10);
        processes = left();
        if grace.passed() {
            signal_all(&processes, true);
        }
    }
}
