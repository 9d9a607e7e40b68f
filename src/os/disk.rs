//! The disk under a directory: how much space it has, whether it is writable, and whether it is local.

use std::io;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

/// Facts about a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Space for this user, in bytes.
    pub free_bytes: u64,
    /// False if no more file can be made, whatever its size.
    pub has_inodes: bool,
    pub is_read_only: bool,
    /// The kind of file system, if other machines may share it.
    pub remote: Option<&'static str>,
}

/// Reads the facts about the file system that holds a path.
pub fn space(path: &Path) -> io::Result<Disk> {
    let stat = statvfs(path)?;
    Ok(Disk {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        // Some file systems have no fixed number of inodes, and report 0.
        has_inodes: stat.f_files == 0 || stat.f_favail > 0,
        is_read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        remote: remote(path)?,
    })
}

#[cfg(target_os = "linux")]
fn remote(path: &Path) -> io::Result<Option<&'static str>> {
    // A magic number has 32 bits, whatever the width of the field.
    Ok(network(rustix::fs::statfs(path)?.f_type as u32))
}

#[cfg(not(target_os = "linux"))]
fn remote(_: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// Returns the kind of a file system that other machines may share, by its number in the Linux kernel.
#[cfg(any(target_os = "linux", test))]
fn network(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        0x0102_1997 => "9P",
        0x00C3_6400 => "Ceph",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x6573_5546 => "FUSE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_disk_differs_from_a_shared_one() {
        let here = space(Path::new("/proc")).unwrap();
        assert_eq!(here.remote, None);
        assert!(space(&std::env::temp_dir()).unwrap().free_bytes > 0);
        assert_eq!((network(0x6969), network(0xFE53_4D42)), (Some("NFS"), Some("SMB")));
        for local in [0xEF53, 0x9123_683E, 0x5846_5342, 0x0102_1994, 0x794C_7630, 0x2FC1_2FC1] {
            assert_eq!(network(local), None, "{local:x}");
        }
        assert!(space(Path::new("/nonexistent")).is_err());
    }
}
