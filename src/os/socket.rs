//! Unix sockets: at paths of any length, for their owner alone, and in place of what a dead process left.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// The longest path in a socket address, in bytes: Linux has 108 with the final zero, and BSD has 104.
const PATH_BYTES: usize = 103;

/// How the directory of a socket is held open: without read permission, if the system can.
#[cfg(target_os = "linux")]
const HOLD: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const HOLD: OFlags = OFlags::RDONLY;

/// Returns a short name of a path, and the directory that must stay open while the name is used.
fn short(path: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    if path.as_os_str().len() <= PATH_BYTES {
        return Ok((path.to_owned(), None));
    }
    let too_long = || io::Error::new(io::ErrorKind::InvalidFilename, "the path is too long for a socket");
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(too_long()) };
    let dir = rustix::fs::openat(CWD, parent, HOLD | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    if !through.exists() {
        return Err(too_long());
    }
    Ok((through.join(name), Some(dir)))
}

/// Connects to a socket of the caller's user, within `wait`. Each write to it has the same timeout.
///
/// # Errors
/// `NotFound` and `ConnectionRefused` mean that no process listens; `PermissionDenied` that another user listens;
/// `TimedOut` that the listener's queue is full.
pub fn connect(path: &Path, wait: Duration) -> io::Result<UnixStream> {
    // Check the owner of the file, not the process behind it: in the namespace of a sandboxed agent that process has no
    // number.
    if fs::metadata(path)?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (short, _dir) = short(path)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The kernel waits for room in the listener's queue for as long as a write may take.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(wait))?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(&short)?) {
        Ok(()) => Ok(socket.into()),
        Err(rustix::io::Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the process that listens at the other end; `None` if it has no number in the namespace of this process.
pub fn peer(stream: &UnixStream) -> Option<u32> {
    #[cfg(target_os = "linux")]
    return u32::try_from(sockopt::socket_peercred(stream).ok()?.pid.as_raw_nonzero().get()).ok();
    #[cfg(not(target_os = "linux"))]
    return Some(stream).and(None);
}

/// Listens on a socket that only its owner can reach. Replaces a socket file that a dead process left; the caller holds
/// the lock that proves that no live process listens there.
///
/// # Errors
/// `AddrInUse` if a process listens there, or if another kind of file is there.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    let (short, _dir) = short(path)?;
    if let Ok(meta) = fs::symlink_metadata(path) {
        let dead = meta.file_type().is_socket()
            && UnixStream::connect(&short)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if !dead {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(&short)?;
    // Only the owner can enter the directory, so no other user can connect between these two steps.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Checks that the process at the other end runs as the same user.
///
/// # Errors
/// `PermissionDenied` if it does not.
pub fn check_peer(stream: &UnixStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if sockopt::socket_peercred(stream)?.uid != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    #[cfg(not(target_os = "linux"))]
    // Only the owner can enter the socket's directory on this system too.
    let _same_directory = stream;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    const SOON: Duration = Duration::from_millis(200);

    #[test]
    fn a_socket_works_at_any_depth() {
        let temp = tempfile::tempdir().unwrap();
        for depth in [0, 1, 20] {
            let dir = temp.path().join("a-directory-of-some-length/".repeat(depth));
            fs::create_dir_all(&dir).unwrap();
            let path = dir.join("attach.sock");
            let listener = listen(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let mut near = connect(&path, SOON).unwrap();
            let (mut far, _) = listener.accept().unwrap();
            check_peer(&far).unwrap();
            near.write_all(b"hi").unwrap();
            let mut got = [0; 2];
            far.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hi");
            assert!(listener.accept().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock));
            let flags = rustix::io::fcntl_getfd(near.as_fd()).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn connecting_to_a_full_queue_times_out() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        let _listener = listen(&path).unwrap();
        let mut streams = Vec::new();
        let error = loop {
            match connect(&path, SOON) {
                Ok(stream) => streams.push(stream),
                Err(error) => break error,
            }
            assert!(streams.len() < 100_000, "a queue has an end");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // The other end does not read: a write must end, too.
        let sent = streams[0].write_all(&vec![0; 64 << 20]).unwrap_err();
        assert_eq!(sent.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn only_a_socket_of_a_dead_process_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        assert_eq!(connect(&path, SOON).unwrap_err().kind(), io::ErrorKind::NotFound);
        let live = listen(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(live);
        assert_eq!(connect(&path, SOON).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(listen(&path).unwrap());
        let file = temp.path().join("f");
        fs::write(&file, "kept").unwrap();
        assert_eq!(listen(&file).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }
}
