//! The engine `unshare` of util-linux: it makes the namespaces, and this program puts the file system together in them.
//! The shell in between is process 1 there: it reaps, and signals do for a program what they always do.

#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "what puts the file system together is for Linux")
)]

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
#[cfg(target_os = "linux")]
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::text;
#[cfg(target_os = "linux")]
use super::{Mount, layer, mounts};
use crate::model::boxing::{Net, Walls};

/// Where the outside is while the inside is put together.
const OUTSIDE: &str = "/outside";
/// Where the inside is until it is the root.
const INSIDE: &str = "/inside";
/// Devices that every child has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// The command up to the program that it is to start.
pub(super) fn argv(program: &Path, net: &Net) -> Vec<String> {
    let flags = [
        "--user",
        "--map-current-user",
        "--keep-caps",
        "--mount",
        "--pid",
        "--ipc",
        "--fork",
        "--kill-child",
    ];
    let net = (*net == Net::Off).then_some("--net");
    let shell = ["--", "/bin/sh", "-c", "\"$@\"; exit $?", "sh"];
    let words = flags.into_iter().chain(net).chain(shell).map(str::to_owned);
    std::iter::once(text(program)).chain(words).collect()
}

/// Puts the file system together and gives up what was needed for it.
#[cfg(target_os = "linux")]
pub(super) fn build(walls: &Walls, own: &Path) -> io::Result<Vec<String>> {
    use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind_recursive, unmount};
    use rustix::process::{chdir, getcwd, pivot_root};
    let cwd = getcwd(Vec::new())?;
    let wanted = mounts(walls, own)?;
    let none = None::<&std::ffi::CStr>;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    // Any directory will do: it is covered only until the outside has moved away from over it.
    mount("tmpfs", "/tmp", "tmpfs", plain, none)?;
    fs::create_dir("/tmp/outside")?;
    fs::create_dir("/tmp/inside")?;
    pivot_root("/tmp", "/tmp/outside")?;
    chdir("/")?;
    if walls.whole {
        mount_bind_recursive(OUTSIDE, INSIDE)?;
        read_only(Path::new(INSIDE))?;
    } else {
        mount("tmpfs", INSIDE, "tmpfs", plain, none)?;
    }
    devices()?;
    place(Path::new("/proc"), true)?;
    mount("proc", inside(Path::new("/proc")), "proc", plain | MountFlags::NOEXEC, none)?;
    let mut less = Vec::new();
    for (at, what) in &wanted {
        put(at, what)
            .map_err(|e| io::Error::new(e.kind(), format!("could not put `{}` there: {e}", at.display())))?;
        if let Mount::Layer(lower, own) = what {
            let laid = layer::lay(&below(OUTSIDE, lower), &below(OUTSIDE, own), &inside(at));
            less.extend(laid.err().map(|error| layer::not_laid(at, &error)));
        }
    }
    chdir(INSIDE)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir(cwd.as_c_str())?;
    if walls.net == Net::Off {
        loopback_up()?;
    }
    give_up()?;
    Ok(less)
}

/// There are no namespaces here.
#[cfg(not(target_os = "linux"))]
pub(super) fn build(_walls: &Walls, _own: &Path) -> io::Result<Vec<String>> {
    Err(io::Error::other("this system has no namespaces"))
}

fn below(base: &str, path: &Path) -> PathBuf {
    Path::new(base).join(path.strip_prefix("/").unwrap_or(path))
}

fn inside(path: &Path) -> PathBuf {
    below(INSIDE, path)
}

/// Makes the place where something is to be mounted, unless it is there.
fn place(at: &Path, is_dir: bool) -> io::Result<()> {
    let at = inside(at);
    if at.symlink_metadata().is_ok() {
        return Ok(());
    }
    if is_dir {
        return fs::create_dir_all(at);
    }
    if let Some(dir) = at.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(at).map(drop)
}

#[cfg(target_os = "linux")]
fn put(at: &Path, what: &Mount) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount, mount_bind_recursive};
    match what {
        Mount::Link(target) => symlink(target, inside(at)),
        Mount::Read(from) | Mount::Write(from) | Mount::Layer(from, _) => {
            let from = below(OUTSIDE, from);
            place(at, from.is_dir())?;
            mount_bind_recursive(from, inside(at))?;
            if matches!(what, Mount::Write(_)) { Ok(()) } else { read_only(&inside(at)) }
        }
        Mount::Nothing => {
            place(at, true)?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            Ok(mount("tmpfs", inside(at), "tmpfs", flags, None::<&std::ffi::CStr>)?)
        }
        Mount::Blank => {
            place(at, false)?;
            mount_bind_recursive(below(OUTSIDE, Path::new("/dev/null")), inside(at))?;
            Ok(())
        }
    }
}

/// Makes a mount and all that is mounted in it read-only. What else it was mounted with must stay: the kernel lets
/// nobody loosen that here.
#[cfg(target_os = "linux")]
fn read_only(path: &Path) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount_remount};
    let table = fs::read_to_string(below(OUTSIDE, Path::new("/proc/self/mountinfo")))?;
    for line in table.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(at), Some(options)) = (fields.next(), fields.next()) else { continue };
        let at = PathBuf::from(unescape(at));
        if !at.starts_with(path) {
            continue;
        }
        let mut flags = MountFlags::BIND | MountFlags::RDONLY;
        for option in options.split(',') {
            flags |= match option {
                "nosuid" => MountFlags::NOSUID,
                "nodev" => MountFlags::NODEV,
                "noexec" => MountFlags::NOEXEC,
                "noatime" => MountFlags::NOATIME,
                "nodiratime" => MountFlags::NODIRATIME,
                "relatime" => MountFlags::RELATIME,
                _ => MountFlags::empty(),
            };
        }
        match mount_remount(&at, flags, "") {
            Ok(()) => {}
            // What another mount covers cannot be reached, by nobody.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) if at != path => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A path as the kernel's table of mounts writes it: blanks and the like by their number in octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(target_os = "linux")]
fn devices() -> io::Result<()> {
    use rustix::mount::{MountFlags, mount, mount_bind};
    let dev = Path::new("/dev");
    let none = None::<&std::ffi::CStr>;
    place(dev, true)?;
    mount("tmpfs", inside(dev), "tmpfs", MountFlags::NOSUID, none)?;
    for name in DEVICES {
        let device = dev.join(name);
        place(&device, false)?;
        mount_bind(below(OUTSIDE, &device), inside(&device))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, inside(&dev.join(name)))?;
    }
    for name in ["pts", "shm"] {
        place(&dev.join(name), true)?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", inside(&dev.join("pts")), "devpts", flags, Some(c"newinstance,ptmxmode=0666,mode=620"))?;
    Ok(mount("tmpfs", inside(&dev.join("shm")), "tmpfs", flags | MountFlags::NODEV, none)?)
}

/// Switches the loopback of a new network on: the one interface in it, which is down there, and tests talk over it.
#[cfg(target_os = "linux")]
fn loopback_up() -> io::Result<()> {
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
    };
    const NEW_LINK: u16 = 16;
    const ASKS_FOR_ANSWER: u16 = 1 | 4;
    const LOOPBACK: i32 = 1;
    const UP: u32 = 1;
    // The protocol that stands for none is the one of interfaces.
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    let mut ask = Vec::new();
    ask.extend(32_u32.to_ne_bytes());
    ask.extend(NEW_LINK.to_ne_bytes());
    ask.extend(ASKS_FOR_ANSWER.to_ne_bytes());
    // Number, sender, family and kind: none of them matters here.
    ask.extend([0; 12]);
    ask.extend(LOOPBACK.to_ne_bytes());
    // The flags, and which of them are meant.
    ask.extend([UP.to_ne_bytes(), UP.to_ne_bytes()].concat());
    send(&socket, &ask, SendFlags::empty())?;
    let mut answer = [0_u8; 256];
    let (_, got) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // Behind the header stands the error as a negative number; zero is none.
    let code = answer[..got].get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel did not say whether the loopback is up")),
    }
}

/// Gives up all capabilities. The filter and the missing right to new ones keep them away.
#[cfg(target_os = "linux")]
pub(super) fn give_up() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities};
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}
