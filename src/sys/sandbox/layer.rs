//! Layers: a directory that is read as it is outside, and written into another one.

use std::io;
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::model::boxing::Walls;

/// Lays the directory `own` over `lower`, to be seen at `at`.
fn lay(lower: &Path, own: &Path, at: &Path) -> io::Result<()> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "lowerdir+", lower)?;
    for (key, part) in ["upperdir", "workdir"].into_iter().zip(super::LAYER_PARTS) {
        // Of these two, unlike the first, the kernel takes a backslash for an escape.
        let path = super::text(&own.join(part)).replace('\\', "\\\\");
        fsconfig_set_string(&fs, key, path)?;
    }
    // Attributes that who is no administrator outside may set.
    fsconfig_set_flag(&fs, "userxattr")?;
    fsconfig_create(&fs)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let made = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    Ok(move_mount(&made, "", rustix::fs::CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Lays all layers where bubblewrap has put what is beneath them. Says which
/// could not be laid: they can be read. What was needed for it is still to be given up.
pub(super) fn lay_all(walls: &Walls) -> io::Result<Vec<String>> {
    // The namespace that bubblewrap made may belong to one above this, which alone could mount there.
    #[allow(
        deprecated,
        reason = "the other form is unsafe for descriptors that threads share, and there is one thread"
    )]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS)?;
    let said =
        walls.layered.iter().filter_map(|(what, own)| Some(not_laid(what, &lay(what, own, what).err()?)));
    Ok(said.collect())
}

/// Gives up all capabilities. The filter and the promise to gain nothing keep them away.
pub(super) fn give_up() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities};
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// The words for a layer that could not be laid.
fn not_laid(what: &Path, error: &io::Error) -> String {
    format!("note: `{}` can only be read in this box: {error}", what.display())
}
