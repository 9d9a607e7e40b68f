//! Where a program is found.

use std::path::{Path, PathBuf};

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
