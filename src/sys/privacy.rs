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
        use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if geteuid().is_root() || !hides_processes(&mounts) {
            // It fails for no valid value; without it this process is as open as any other program.
            super::process::wait::ignore(set_dumpable_behavior(DumpableBehavior::NotDumpable));
        }
    }
}

/// Returns true if the `/proc` of this mount table shows a process only to those that may trace it.
#[cfg(any(target_os = "linux", test))]
fn hides_processes(mountinfo: &str) -> bool {
    // proc(5): the fifth field is the mount point; after ` - ` follow type, source and options of the file system.
    let mut of_proc = mountinfo.lines().filter(|line| line.split(' ').nth(4) == Some("/proc"));
    let options = of_proc.next_back().and_then(|line| line.split_once(" - ")?.1.split(' ').nth(2));
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
            assert!(hides_processes(&line(hides)), "{hides}");
        }
        for shows in ["rw", "rw,hidepid=0", "rw,hidepid=off"] {
            assert!(!hides_processes(&line(shows)), "{shows}");
        }
        let other = "25 30 0:23 / /mnt/proc rw - proc proc rw,hidepid=2";
        assert!(!hides_processes(&format!("{}\n{other}", line("rw"))));
        assert!(
            !hides_processes(&format!("{}\n{}", line("rw,hidepid=2"), line("rw"))),
            "the upper mount counts"
        );
    }
}
