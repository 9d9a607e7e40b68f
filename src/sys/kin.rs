//! The processes that descend from this one, and how all of them are ended.

use super::clock::Deadline;
use super::proc::GRACE_MS;
use super::spawn::pause_ms;
use super::{detach, tree};

/// A process, told apart from a later one with the same number by its start in clock ticks since boot.
pub type Process = (u32, u64);

/// All living processes that descend from this one, parents before children. As a subreaper this process is the
/// parent of what its descendants leave behind, so a new session or a double fork hides nobody. `spared` are
/// children that are left out with all that descends from them.
pub fn descendants(spared: &[u32]) -> Vec<Process> {
    tree_of(std::process::id(), spared)
}

/// All living processes that descend from this one.
pub fn below(pid: u32) -> Vec<Process> {
    tree_of(pid, &[])
}

fn tree_of(root: u32, spared: &[u32]) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        for child in children_of(pid) {
            if let Some(start) = tree::start_of(child)
                && !spared.contains(&child)
                && !found.contains(&(child, start))
            {
                found.push((child, start));
                next.push(child);
            }
        }
    }
    found
}

/// The children of all threads of a process, as proc(5) lists them.
fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// Kills a process and all that descend from it. It is stopped first, so that it starts nothing more, and killed last,
/// so that what descends from it is found. False: something of it still lives after a while.
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

/// All living processes of this user that have this variable with one of these values in the environment they were
/// started with. A process that cleared it is not found, nor is one that closed its environment ([`super::privacy`]).
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

/// Ends all that have this variable with one of these values, as far as they kept it, by SIGTERM and after a while by
/// SIGKILL.
pub fn end_marked(key: &str, values: &[String]) {
    end_all(|| marked(key, values));
}

/// Ends all processes that this finds, by SIGTERM and after a while by SIGKILL. It is asked again and again, until it
/// finds none.
pub fn end_all(left: impl Fn() -> Vec<Process>) {
    let grace = Deadline::after_ms(GRACE_MS);
    let patience = Deadline::after_ms(2 * GRACE_MS);
    let mut processes = left();
    signal_all(&processes, false);
    while !processes.is_empty() && !patience.passed() {
        pause_ms(10);
        processes = left();
        if grace.passed() {
            signal_all(&processes, true);
        }
    }
}
