//! Executable files: where a program is found, whether the kernel would start it, and which file is looop itself.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How much of a script the kernel reads to find its interpreter, in bytes.
const MAX_FIRST_LINE_BYTES: u64 = 256;

/// Finds a program: by its path if it has a slash, otherwise on `path`. Only executable regular files count.
pub fn find_program(name: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(cwd.join(name)).filter(|file| is_program(file));
    }
    let dirs = path.split(':').filter(|dir| dir.starts_with('/'));
    dirs.map(|dir| Path::new(dir).join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    let regular = std::fs::metadata(file).is_ok_and(|meta| meta.is_file());
    regular && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Returns the interpreter in the first line of a script, if that program does not exist: the kernel does not start
/// such a script, whatever its mode is.
pub fn missing_interpreter(script: &Path) -> Option<String> {
    let mut first = Vec::new();
    File::open(script).ok()?.take(MAX_FIRST_LINE_BYTES).read_to_end(&mut first).ok()?;
    let line = first.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let named = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
    (named.starts_with('/') && !is_program(Path::new(named))).then(|| named.to_owned())
}

/// Refuses a file that the kernel would not execute. The C library would pass such a file to a shell, which would run
/// it as a script although no approval covers that.
///
/// # Errors
/// `ENOEXEC`, as from the kernel.
pub fn check_format(program: &Path) -> io::Result<()> {
    let mut start = [0_u8; 4];
    // An unreadable file may still be executable: the kernel decides then.
    let Ok(read) = std::fs::File::open(program).and_then(|mut file| io::Read::read(&mut file, &mut start))
    else {
        return Ok(());
    };
    let is_known = start.starts_with(b"#!") || start == *b"\x7fELF";
    // The administrator may have registered formats that are unknown here.
    let registered = || std::fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|all| all.count() > 2);
    if is_known || read == 0 || !cfg!(target_os = "linux") || registered() {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::ENOEXEC))
}

/// Returns this program's own file. On Linux it stays the running one even if the file was replaced.
pub fn self_path() -> PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() { link.to_owned() } else { std::env::current_exe().unwrap_or_else(|_| link.to_owned()) }
}

/// Returns true if [`self_path`] exists: on Linux it needs `/proc`.
pub fn finds_itself() -> bool {
    self_path().exists()
}

/// Returns this program's file under a name that stays valid after this process ends, so that another process can start
/// it. If the file was replaced, it is the new one.
pub fn installed_path() -> PathBuf {
    let link = self_path();
    let path = std::fs::read_link(&link).unwrap_or(link);
    // The kernel marks a file that has no name any more.
    let was = path.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map(PathBuf::from);
    was.filter(|_| !path.exists()).unwrap_or(path)
}
