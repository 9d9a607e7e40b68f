//! This program's own file: whether another took its place since this process began, and becoming that one.

#![allow(clippy::disallowed_methods, reason = "like `proc`, this module starts processes")]

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::{installed_path, self_path};

/// What tells two files apart that have had the same name.
type Mark = (u64, u64, u64, i64, i64);

fn mark(meta: &Metadata) -> Mark {
    (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
}

/// The file that this process began from, by its name, and the last one that was seen there.
#[derive(Debug)]
pub struct Own {
    path: PathBuf,
    seen: Option<Mark>,
}

impl Own {
    /// The file of this process. To be asked for early: the name is that of this moment.
    pub fn file() -> Own {
        // The first is the running file itself, also where its name is another's already.
        let running = fs::metadata(self_path()).ok();
        Own { path: installed_path(), seen: running.as_ref().map(mark) }
    }

    /// The name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True when another file stands there than the last one seen, which from now on is this one. None there is no
    /// other: who replaces a file may remove it first.
    pub fn is_replaced(&mut self) -> bool {
        let Ok(meta) = fs::metadata(&self.path) else { return false };
        let now = Some(mark(&meta));
        let replaced = self.seen.is_some() && self.seen != now;
        self.seen = now;
        replaced
    }
}

/// Becomes a program under the same process number, with this file as its stdin, so that a lock on it is never given
/// up. `env` goes on top of this process's own environment. Returns only when it could not; stdin is then what it was made.
pub fn become_with(program: &Path, args: &[OsString], env: &[(String, String)], stdin: File) -> io::Error {
    let env = env.iter().map(|(key, value)| (key, value));
    Command::new(program).args(args).envs(env).stdin(stdin).exec()
}

/// Takes the file over that stands at stdin, which is nothing from then on.
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
    fn a_file_that_took_the_place_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("looop");
        let replace = |text: &str| {
            fs::write(dir.path().join("new"), text).unwrap();
            fs::rename(dir.path().join("new"), &path).unwrap();
        };
        replace("one");
        let mut own = Own { path: path.clone(), seen: Some(mark(&fs::metadata(&path).unwrap())) };
        assert!(!own.is_replaced());
        fs::remove_file(&path).unwrap();
        assert!(!own.is_replaced(), "who replaces it may remove it first");
        replace("two");
        assert!(own.is_replaced());
        assert!(!own.is_replaced());
        assert!(!Own::file().is_replaced());
    }
}
