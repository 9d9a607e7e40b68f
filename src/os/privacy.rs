//! Protection of this process's memory and environment from other processes of its user.
//!
//! The user's other processes cannot trace a process that is not dumpable, and cannot read its
//! `/proc/PID/{environ,mem,fd,maps}`. World-readable files stay open: `stat`, `status`, `cgroup` and the lists of
//! children. A program that this process starts or becomes by exec is dumpable again.

/// Closes this process to other processes of its user.
///
/// If `/proc` hides processes that its reader may not trace (`hidepid`), this process would become invisible to other
/// looop processes, and they would take its leases and locks for those of a dead process. On such a system it stays
/// open.
pub fn close() {
    #[cfg(target_os = "linux")]
    {
        use std::fs::File;
        use std::io::BufReader;

        use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
        // In small pieces: a table of many mounts would stay in the memory of each supervisor.
        let mounts = File::open("/proc/self/mountinfo").map(|file| BufReader::with_capacity(1024, file));
        if geteuid().is_root() || !mounts.is_ok_and(hides_processes) {
            // It fails for no valid value; without it this process is as open as any other program.
            super::process::wait::ignore(set_dumpable_behavior(DumpableBehavior::NotDumpable));
        }
    }
}

/// Returns true if the `/proc` of this mount table shows a process only to those that may trace it.
#[cfg(any(target_os = "linux", test))]
fn hides_processes(mountinfo: impl std::io::BufRead) -> bool {
    // proc(5): the fifth field is the mount point; after ` - ` follow type, source and options of the file system.
    let is_proc = |line: &String| line.split(' ').nth(4) == Some("/proc");
    let of_proc = mountinfo.lines().map_while(Result::ok).filter(is_proc).last();
    let options = of_proc.as_ref().and_then(|line| line.split_once(" - ")?.1.split(' ').nth(2));
    let hidepid = options.and_then(|all| all.split(',').find_map(|option| option.strip_prefix("hidepid=")));
    hidepid.is_some_and(|value| !["0", "off"].contains(&value))
}

#[cfg(test)]
mod tests {
    use super::hides_processes;

    #[test]
    fn a_proc_that_hides_processes_is_recognised() {
        let line = |options: &str| format!("24 30 0:22 / /proc rw,nosuid shared:13 - proc proc {options}");
        for hides in ["rw,hidepid=2", "rw,hidepid=invisible", "rw,gid=4,hidepid=1", "rw,hidepid=ptraceable"] {
            assert!(hides_processes(line(hides).as_bytes()), "{hides}");
        }
        for shows in ["rw", "rw,hidepid=0", "rw,hidepid=off"] {
            assert!(!hides_processes(line(shows).as_bytes()), "{shows}");
        }
        let other = "25 30 0:23 / /mnt/proc rw - proc proc rw,hidepid=2";
        assert!(!hides_processes(format!("{}\n{other}", line("rw")).as_bytes()));
        let over = format!("{}\n{}", line("rw,hidepid=2"), line("rw"));
        assert!(!hides_processes(over.as_bytes()), "the upper mount counts");
    }
}
