//! Paths as the kernel resolves them, even if their end does not exist, renames that never replace anything, and the
//! search for a program.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// How many symbolic links are followed: as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Resolves an absolute path: follows each symbolic link, also a dangling one, and takes `..` from the link's target.
/// Leaves paths below /proc unchanged: their links differ for each process.
pub fn followed(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    let mut left = reversed(path);
    let mut links = 0;
    while let Some(part) = left.pop() {
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) if out.starts_with("/proc") => out.push(".."),
            Some(Component::RootDir) => out = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(out.pop()),
            Some(Component::Normal(name)) => {
                let next = out.join(name);
                let target = (links < MAX_LINKS && !next.starts_with("/proc")).then(|| next.read_link().ok());
                match target.flatten() {
                    Some(target) => {
                        links += 1;
                        left.extend(reversed(&target));
                    }
                    None => out = next,
                }
            }
            _ => {}
        }
    }
    out
}

/// Returns true for an absolute path that exists, even as a dangling link.
pub fn is_there(path: &str) -> bool {
    path.starts_with('/') && std::fs::symlink_metadata(path).is_ok()
}

fn reversed(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
}

/// Renames a file or directory to a free name.
///
/// # Errors
/// `EXIST` if the name is taken; `INVAL` or `NOSYS` if the file system or the system cannot do this in one step.
pub fn rename_new(from: &Path, to: &Path) -> rustix::io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    return renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    return lacks_the_call(from, to);
}

/// Exchanges the targets of two names, in one step.
///
/// # Errors
/// `NOENT` if one of them does not exist; `INVAL` or `NOSYS` if the file system or the system cannot do this.
pub fn exchange(one: &Path, other: &Path) -> rustix::io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    return renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    return lacks_the_call(one, other);
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn lacks_the_call(_: &Path, _: &Path) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::NOSYS)
}

/// Finds a program: by its path if it has a slash, otherwise on `path`. Only executable regular files count.
pub fn find_program(name: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(cwd.join(name)).filter(|file| is_program(file));
    }
    let dirs = path.split(':').filter(|dir| dir.starts_with('/'));
    dirs.map(|dir| Path::new(dir).join(name)).find(|file| is_program(file))
}

pub fn is_program(file: &Path) -> bool {
    let regular = std::fs::metadata(file).is_ok_and(|meta| meta.is_file());
    regular && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_as_the_kernel_does() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        symlink(".", root.join("here")).unwrap();
        symlink(root.join("a/b"), root.join("deep")).unwrap();
        symlink("a/new", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for (path, leads) in [
            ("x/../y", "y"),
            ("here/here/.git/z", ".git/z"),
            ("deep/../c", "a/c"),
            ("dangling", "a/new"),
            ("loop", "loop"),
        ] {
            assert_eq!(followed(&root.join(path)), root.join(leads), "{path}");
        }
        for path in ["/proc/self/cwd/x", "/proc/self/cwd/../x"] {
            assert_eq!(followed(Path::new(path)), Path::new(path));
        }
    }
}
