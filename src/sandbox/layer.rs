//! Overlays: a directory that a sandbox reads as it is outside, while writes go into another directory.

use std::io;
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use rustix::thread::UnshareFlags;

use crate::rules::sandbox::Access;

/// Mounts an overlay at `at`, with `lower` below and the directory `own` for writes.
fn lay(lower: &Path, own: &Path, at: &Path) -> io::Result<()> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "lowerdir+", lower)?;
    for (key, part) in ["upperdir", "workdir"].into_iter().zip(super::LAYER_PARTS) {
        // In these two options, unlike the first, the kernel treats a backslash as an escape.
        let path = super::text(&own.join(part)).replace('\\', "\\\\");
        fsconfig_set_string(&fs, key, path)?;
    }
    // Use extended attributes that an ordinary user outside may set.
    fsconfig_set_flag(&fs, "userxattr")?;
    fsconfig_create(&fs)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let made = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    Ok(move_mount(&made, "", rustix::fs::CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Mounts all overlays over the paths that bubblewrap has mounted. Returns a message for each overlay that failed: its
/// path stays readable. The caller must still drop the capabilities.
pub(super) fn lay_all(access: &Access) -> io::Result<Vec<String>> {
    // The namespace that bubblewrap made may belong to an outer one, and mounts would be refused.
    super::unshare(UnshareFlags::NEWNS)?;
    let failed = access.overlays.iter().filter_map(|(what, own)| {
        let error = lay(what, own, what).err()?;
        Some(format!("note: `{}` is read-only in this sandbox: {error}", what.display()))
    });
    Ok(failed.collect())
}

/// Drops all capabilities. The filter and `no_new_privs` keep them away.
pub(super) fn give_up() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities};
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}
