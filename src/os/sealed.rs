//! Pinned files: they must hold what the user approved, which is checked right before a program begins.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file by its path, and the blake3 digest that it must have.
pub type Sealed = (String, String);

/// Checks each file again. A missing file cannot hold anything that was not approved. Returns the path by which the
/// program begins, and the program's file if that path goes through its descriptor: while it is open, exactly the checked
/// file begins, even if another file has its name by now.
///
/// # Errors
/// Names the file that was changed, or that cannot be read.
pub fn check(sealed: &[Sealed], program: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let mut begins = (program.to_owned(), None);
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
                begins = (by_descriptor, Some(file));
            }
        }
    }
    Ok(begins)
}

/// Makes the error for a file or folder that differs from what the user approved.
pub fn changed(path: &str) -> io::Error {
    io::Error::other(format!("`{path}` has changed since the user approved it"))
}

/// Returns true unless the file is a script: its interpreter opens it by name, and a descriptor of this process is
/// closed by then. Checks the opened file, not what has its name by now.
fn is_binary(file: &File) -> io::Result<bool> {
    let mut head = [0_u8; 4];
    Ok(file.read_at(&mut head, 0)? == head.len() && head == *b"\x7fELF")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_named_and_a_binary_begins_by_its_descriptor() {
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
        let (script, _) = check(&sealed, Path::new(&path("script"))).unwrap();
        assert_eq!(script, Path::new(&path("script")));
        let (binary, _file) = check(&sealed, Path::new(&path("binary"))).unwrap();
        std::fs::rename(path("script"), path("binary")).unwrap();
        assert_eq!(std::fs::read(&binary).unwrap(), b"\x7fELF and more", "another file has its name by now");
        let why = check(&sealed, Path::new("/bin/sh")).err().unwrap().to_string();
        assert!(why.starts_with(&format!("`{}` has changed", path("binary"))), "{why}");
    }
}
