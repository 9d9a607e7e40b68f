//! Files that must hold what a human said yes to, looked at in the last moment before a program begins.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file by its path, and the blake3 of what it must hold.
pub type Sealed = (String, String);

/// A program that is about to begin.
pub struct Begins {
    /// What to execute.
    pub path: PathBuf,
    /// The program's file, where `path` goes by its descriptor: so it is the file that was looked at that begins, whatever
    /// has taken its name by then.
    _file: Option<File>,
}

/// Looks at each file again. One that is not there has nothing in it that could be other than it was.
///
/// # Errors
/// Names the file that is not what it was, or cannot be read.
pub fn check(sealed: &[Sealed], program: &Path) -> io::Result<Begins> {
    let mut begins = Begins { path: program.to_owned(), _file: None };
    for (path, digest) in sealed {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("`{path}` cannot be read: {error}")));
            }
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut file)?;
        if hasher.finalize().to_hex().as_str() != digest {
            return Err(changed(path));
        }
        if Path::new(path) == program && is_binary(&file)? {
            let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            if by_descriptor.exists() {
                begins = Begins { path: by_descriptor, _file: Some(file) };
            }
        }
    }
    Ok(begins)
}

/// The error for something that differs from what a human said yes to.
pub fn changed(path: &str) -> io::Error {
    io::Error::other(format!("`{path}` is not what it was when a human said yes to it"))
}

/// A script is handed to its interpreter by its name, and so cannot begin by a descriptor that ends with this process.
/// The file that was looked at is asked, and not what has its name by now.
fn is_binary(file: &File) -> io::Result<bool> {
    let mut head = [0_u8; 4];
    Ok(file.read_at(&mut head, 0)? == head.len() && head == *b"\x7fELF")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_is_named_and_a_binary_begins_by_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let digest = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("script"), b"#!/bin/sh\n").unwrap();
        std::fs::write(path("binary"), b"\x7fELF and more").unwrap();
        let sealed = [
            (path("script"), digest(b"#!/bin/sh\n")),
            (path("binary"), digest(b"\x7fELF and more")),
            (path("gone"), digest(b"was")),
        ];
        let script = check(&sealed, Path::new(&path("script"))).unwrap();
        assert_eq!(script.path, Path::new(&path("script")));
        let binary = check(&sealed, Path::new(&path("binary"))).unwrap();
        std::fs::rename(path("script"), path("binary")).unwrap();
        assert_eq!(
            std::fs::read(&binary.path).unwrap(),
            b"\x7fELF and more",
            "another file has its name by now"
        );
        let why = check(&sealed, Path::new("/bin/sh")).err().unwrap().to_string();
        assert!(why.starts_with(&format!("`{}` is not what it was", path("binary"))), "{why}");
    }
}
