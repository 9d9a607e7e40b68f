//! Landlock: which files a thread may still read and write, and which signals and sockets it may still reach.

use std::io;
use std::path::Path;

use landlock::{
    ABI, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::SYSTEM;
use crate::rules::sandbox::{Access, Net, PORTS, SCOPES, Sandbox};

/// The last version that added an access from which children are kept. Device calls, which came later, stay open: a
/// terminal needs them.
const FILES: ABI = ABI::V3;
/// Devices that every child may write.
const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/shm"];
/// What a child with restricted reads may read besides the system's directories.
const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys/devices/system/cpu"];

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("could not apply Landlock: {error}"))
}

/// Capabilities of an administrator that bypass Landlock: above all, reading the environment of every process.
const BYPASSES: CapabilitySet =
    CapabilitySet::SYS_ADMIN.union(CapabilitySet::PERFMON).union(CapabilitySet::SYS_PTRACE);

/// Drops capabilities of this thread that bypass Landlock, if an administrator runs it. No child gets them back,
/// because Landlock requires `no_new_privs`.
fn drop_bypasses() -> io::Result<()> {
    let CapabilitySets { effective, permitted, inheritable } = capabilities(None)?;
    if !permitted.intersects(BYPASSES) {
        return Ok(());
    }
    let [effective, permitted, inheritable] = [effective, permitted, inheritable].map(|set| set & !BYPASSES);
    Ok(set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?)
}

/// Applies Landlock to this thread, in the version that the sandbox says the kernel has.
pub(super) fn landlock(sandbox: &Sandbox) -> io::Result<()> {
    let access: &Access = &sandbox.access;
    drop_bypasses()?;
    let files = match sandbox.landlock {
        0 if sandbox.has_files() => return Ok(()),
        0 | 1 => ABI::V1,
        2 => ABI::V2,
        _ => FILES,
    };
    let handled = AccessFs::from_write(files);
    // If an administrator could make a device there, the child could open the disk itself.
    let write = handled & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let read = AccessFs::from_read(files);
    // With a file system of its own, the child may read all that it can see.
    let reads_all = access.allow_all || sandbox.has_files();
    let ports = match &access.net {
        Net::On | Net::Internet => None,
        Net::Off => Some(&[][..]).filter(|_| !sandbox.has_files() && sandbox.landlock >= PORTS),
        Net::Ports(ports) => Some(ports.as_slice()),
    };
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(if reads_all { handled } else { read | handled })
        .map_err(failed)?;
    if ports.is_some() {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp).map_err(failed)?;
    }
    if sandbox.landlock >= SCOPES {
        ruleset = ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket).map_err(failed)?;
    }
    let mut rules = ruleset.create().map_err(failed)?;
    let own;
    // Each path, what is allowed there, and whether it must exist.
    let mut allowed = DEVICES.map(|device| (Path::new(device), write, false)).to_vec();
    if !reads_all {
        allowed.extend(SYSTEM.iter().chain(&KERNEL).map(|path| (Path::new(path), read, false)));
        allowed.extend(access.read.iter().map(|path| (path.as_path(), read, true)));
        // A worker runs this program to reach its supervisor, wherever it is installed.
        own = super::own_file()?;
        allowed.push((&own, read, true));
    }
    // With a file system of its own the child finds bind mounts at their new place, otherwise at their old one.
    let moved = access.binds.iter().map(|(what, at)| if sandbox.has_files() { at } else { what });
    let layered = access.overlays.iter().map(|(what, _)| what);
    let write = if reads_all { write } else { read | write };
    allowed.extend(access.write.iter().chain(moved).chain(layered).map(|path| (path.as_path(), write, true)));
    for (path, access, must) in allowed {
        // This call, not the crate's own: with musl, std drops the flag, and the file would be opened for reading, which
        // fails for a socket.
        let fd = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(_) if !must => continue,
            Err(error) => {
                return Err(io::Error::other(format!("could not find `{}`: {error}", path.display())));
            }
        };
        let kind = rustix::fs::fstat(&fd).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
        // A file only gets access rights that apply to files.
        let access =
            if kind.is_ok_and(|kind| kind.is_dir()) { access } else { access & AccessFs::from_file(FILES) };
        rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(failed)?;
    }
    for port in ports.into_iter().flatten() {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(failed)?;
    }
    let status = rules.restrict_self().map_err(failed)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(failed("the kernel has none")),
        _ => Ok(()),
    }
}

/// Returns the kernel's version of Landlock; 0 means none. Applies it to a thread of its own.
pub(super) fn version() -> u8 {
    let tried = std::thread::spawn(|| {
        let ruleset = Ruleset::default().handle_access(AccessFs::from_write(FILES)).ok()?;
        match ruleset.create().ok()?.restrict_self().ok()?.landlock {
            LandlockStatus::Available { effective_abi, .. } => Some(effective_abi as u8),
            _ => None,
        }
    });
    tried.join().ok().flatten().unwrap_or(0)
}
