//! Self-upgrade: detects a replacement of this program's file, and becomes the new program by exec.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::process::ProcessCommand;
use super::program::{installed_path, self_path};

/// Distinguishes two files that have had the same name.
type Mark = (u64, u64, u64, i64, i64);

fn mark(meta: &Metadata) -> Mark {
    (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
}

/// The file from which this process started, by its name, and the last file that was seen there.
#[derive(Debug)]
pub struct RunningProgram {
    pub path: PathBuf,
    seen: Option<Mark>,
}

impl RunningProgram {
    /// Returns the file of this process. Call it early, because it records the current name.
    pub fn file() -> RunningProgram {
        // The running file itself, even if its name belongs to another file by now.
        let running = fs::metadata(self_path()).ok();
        RunningProgram { path: installed_path(), seen: running.as_ref().map(mark) }
    }

    /// Returns true if the name has another file than last time, and remembers the new one. A missing file does not
    /// count: a replacement may remove the old file first.
    pub fn is_replaced(&mut self) -> bool {
        let Ok(meta) = fs::metadata(&self.path) else { return false };
        let now = Some(mark(&meta));
        let replaced = self.seen.is_some() && self.seen != now;
        self.seen = now;
        replaced
    }
}

/// Becomes a program under the same process number, with this file as its stdin, so that a lock on the file is never
/// released. `env` is added to this process's own environment. Returns only on failure; stdin then stays this file.
pub fn become_with(program: &Path, args: &[OsString], env: Vec<(String, String)>, stdin: File) -> io::Error {
    ProcessCommand { env, stdin: stdin.into(), ..ProcessCommand::shared(program, args) }.exec()
}

/// Takes the file on stdin, and replaces stdin with `/dev/null`.
///
/// # Errors
/// When there is no stdin, or no `/dev/null`.
pub fn take_stdin() -> io::Result<File> {
    let file = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("looop");
        let replace = |text: &str| {
            fs::write(dir.path().join("new"), text).unwrap();
            fs::rename(dir.path().join("new"), &path).unwrap();
        };
        replace("one");
        let mut own = RunningProgram { path: path.clone(), seen: Some(mark(&fs::metadata(&path).unwrap())) };
        assert!(!own.is_replaced());
        fs::remove_file(&path).unwrap();
        assert!(!own.is_replaced(), "a replacement may remove it first");
        replace("two");
        assert!(own.is_replaced());
        assert!(!own.is_replaced());
        assert!(!RunningProgram::file().is_replaced());
    }
}
