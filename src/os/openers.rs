//! Which processes use a file or a directory, from `/proc`. Processes that are invisible from here are missing.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::{fs, io};

use super::process::tree::processes;

/// A process, and the command that it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningCommand {
    pub pid: u32,
    pub argv: Vec<String>,
}

/// Returns a process that has this file open; `None` if no visible process has. `writes` excludes readers.
///
/// # Errors
/// When there is no `/proc`.
pub fn opener(file: &fs::Metadata, writes: bool) -> io::Result<Option<u32>> {
    for (pid, process) in processes()? {
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let is_it = fs::metadata(descriptor.path())
                .is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()));
            let info = || process.join("fdinfo").join(descriptor.file_name());
            if is_it && (!writes || fs::read_to_string(info()).is_ok_and(|info| can_write(&info))) {
                return Ok(Some(pid));
            }
        }
    }
    Ok(None)
}

/// Lists the running commands whose program's name starts with `name`, each with its working directory.
///
/// # Errors
/// When there is no `/proc`.
pub fn running(name: &str) -> io::Result<Vec<(RunningCommand, PathBuf)>> {
    let mut found = Vec::new();
    for (pid, process) in processes()? {
        if !fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.starts_with(name)) {
            continue;
        }
        // The directory of a process that has just ended, or of another user's process, cannot be read.
        let (Ok(cwd), Ok(line)) = (fs::read_link(process.join("cwd")), fs::read(process.join("cmdline")))
        else {
            continue;
        };
        let argv = line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned());
        let argv = argv.filter(|arg| !arg.is_empty()).collect();
        found.push((RunningCommand { pid, argv }, cwd));
    }
    Ok(found)
}

/// Parses `flags: 0100001`, as in proc(5): the last two bits are the access mode.
fn can_write(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 3 != 0)
}
