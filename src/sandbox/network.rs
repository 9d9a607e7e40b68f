//! The network of a sandbox: the internet through pasta, or one endpoint through a relay.
//!
//! # Guarantees
//! - pasta, in which bubblewrap runs, is killed when the process that started it ends; bubblewrap and everything in the
//!   sandbox are killed when pasta ends.
//! - The relay connects only to the endpoints of the sandbox. The sandbox has a network with only a loopback; its inner
//!   process listens there at the endpoint's own address and sends the listening socket to the relay.
//! - Keys typed in the sandbox's terminal interrupt its program, not pasta or the relay.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socket_with,
};
use rustix::thread::UnshareFlags;

use super::text;
use crate::os::process::ProcessCommand;
use crate::rules::sandbox::{Endpoint, Sandbox};

/// Arguments of pasta: configure the network, and forward nothing to or from this machine's loopback.
const PASTA: [&str; 12] =
    ["-q", "--config-net", "--no-map-gw", "-t", "none", "-u", "none", "-U", "none", "-l", "/dev/null", "-T"];
/// The address in the sandbox that forwards to the name server on this machine's loopback.
pub const RESOLVER: &str = "169.254.1.53";
/// How long a connection to an endpoint may take.
const CONNECT: Duration = Duration::from_secs(20);
/// How many connections the relay holds at a time.
const MAX_CONNECTIONS: usize = 256;
/// How many endpoints a sandbox may have.
const MAX_ENDPOINTS: usize = 16;

/// Becomes the sandbox together with its network. Returns when the sandbox has ended, with its exit code, or when it
/// could not start.
///
/// # Errors
/// Says why it could not start.
pub fn become_networked(sandbox: &Sandbox, argv: &[String]) -> io::Result<u8> {
    let cwd = std::env::current_dir()?;
    if sandbox.has_pasta() { become_pasta(sandbox, &cwd, argv) } else { relay(sandbox, &cwd, argv) }
}

/// Returns true if this machine has a default route. Without one pasta fails, and there is no internet to forward.
fn has_route() -> bool {
    let has = |file: &str, is_default: fn(&[&str]) -> bool| {
        let table = std::fs::read_to_string(file).unwrap_or_default();
        table.lines().any(|line| is_default(&line.split_whitespace().collect::<Vec<_>>()))
    };
    has("/proc/net/route", |fields| matches!(fields, [_, "00000000", _, _, _, _, _, "00000000", ..]))
        || has(
            "/proc/net/ipv6_route",
            |fields| matches!(fields, [_, "00", _, _, _, _, _, _, _, device, ..] if *device != "lo"),
        )
}

fn become_pasta(sandbox: &Sandbox, cwd: &Path, argv: &[String]) -> io::Result<u8> {
    let pasta = sandbox.engine.as_ref().and_then(|engine| engine.pasta.as_ref());
    let Some(pasta) = pasta else { return Err(io::Error::other("`pasta` is not installed")) };
    let mut inner = super::inner_argv(sandbox, cwd, argv, None)?;
    // pasta and bubblewrap keep this setting: neither changes its user, and their namespaces belong to that user.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let mut all = Vec::new();
    // On a terminal pasta's own warnings would look like the program's, so drop them there.
    let is_quiet = has_route() && shares_terminal()?;
    if has_route() {
        open_tun()?;
        let mut add = |words: &[&str]| all.extend(words.iter().map(|word| (*word).to_owned()));
        add(&[&text(pasta)]);
        add(&PASTA);
        let ports = sandbox.access.forward.iter().filter(|at| at.is_loopback());
        let ports: Vec<String> = ports.map(|at| at.port.to_string()).collect();
        add(&[if ports.is_empty() { "none".to_owned() } else { ports.join(",") }.as_str()]);
        if sandbox.access.read_only_binds.iter().any(|(_, at)| at.ends_with("resolv.conf")) {
            add(&["--dns-forward", RESOLVER]);
        }
        if rustix::process::geteuid().is_root() {
            // Root can make a network without a user namespace; pasta drops the capabilities that such a namespace
            // needs.
            add(&["--runas", "0", "--netns-only"]);
            own_mounts()?;
        }
        add(&["--"]);
        if is_quiet {
            add(&["/bin/sh", "-c", "exec \"$@\" 2>&1", "sh"]);
        }
    } else {
        // A machine without a route has no internet to forward.
        inner.insert(1, "--unshare-net".to_owned());
    }
    all.extend(inner);
    keep_signals()?;
    let own = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3)?;
    if is_quiet {
        rustix::stdio::dup2_stderr(std::fs::File::options().write(true).open("/dev/null")?)?;
    }
    let error = ProcessCommand::shared(all.remove(0), all).exec();
    rustix::stdio::dup2_stderr(own)?;
    Err(error)
}

/// Returns true if stdout and stderr are one terminal.
fn shares_terminal() -> io::Result<bool> {
    let (out, err) = (rustix::fs::fstat(io::stdout())?, rustix::fs::fstat(io::stderr())?);
    Ok(rustix::termios::isatty(io::stderr()) && (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino))
}

/// Hides pasta's mounts from the host. If a user namespace is made, the kernel does that.
fn own_mounts() -> io::Result<()> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    super::unshare(UnshareFlags::NEWNS)?;
    Ok(mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?)
}

/// Opens the device that pasta needs, because pasta reports a failure only to its dropped log.
fn open_tun() -> io::Result<()> {
    let device = "/dev/net/tun";
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(device);
    opened.map(drop).map_err(|error| {
        io::Error::new(error.kind(), format!("pasta cannot open `{device}`: {error} (load the module `tun`)"))
    })
}

/// Blocks signals of the terminal, and those that ask for an end, for this process and its successor. The sandboxed
/// program is not affected: a new program starts with all signals unblocked.
fn keep_signals() -> io::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let all = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP];
    Ok(all.into_iter().collect::<SigSet>().thread_block()?)
}

/// Runs the sandbox and relays connections that arrive at its endpoints' addresses.
fn relay(sandbox: &Sandbox, cwd: &Path, argv: &[String]) -> io::Result<u8> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    keep_signals()?;
    let (ours, theirs) = UnixStream::pair()?;
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
    let control = std::os::fd::AsRawFd::as_raw_fd(&theirs);
    let mut argv = super::inner_argv(sandbox, cwd, argv, Some(control))?;
    let child = ProcessCommand::shared(argv.remove(0), argv).start()?;
    drop(theirs);
    let endpoints = sandbox.access.forward.clone();
    thread::spawn(move || serve(&ours, &endpoints));
    Ok(child.wait()?.shell_code())
}

/// Receives listening sockets, each with the number of its endpoint, and serves them until the relay ends.
fn serve(control: &UnixStream, endpoints: &[Endpoint]) {
    let live = Arc::new(AtomicUsize::new(0));
    // Two sockets for each endpoint at most; the sender may be hostile.
    for _ in 0..2 * MAX_ENDPOINTS {
        let Ok(Some((index, listener))) = take_listener(control) else { return };
        let Some(endpoint) = endpoints.get(index).cloned() else { continue };
        let live = Arc::clone(&live);
        thread::spawn(move || {
            for inner in listener.incoming() {
                let Ok(inner) = inner else { return };
                if live.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                    live.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                let (endpoint, live) = (endpoint.clone(), Arc::clone(&live));
                thread::spawn(move || {
                    // If a connection fails, it is closed, which its program notices.
                    drop(join(&inner, &endpoint));
                    live.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
    }
}

/// Connects to the endpoint and copies both ways until both sides have ended.
fn join(inner: &TcpStream, endpoint: &Endpoint) -> io::Result<()> {
    let outer = connect(endpoint)?;
    let (up_from, up_to) = (inner.try_clone()?, outer.try_clone()?);
    let up = thread::spawn(move || copy(&up_from, &up_to));
    copy(&outer, inner);
    drop(up.join());
    Ok(())
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let copied = io::copy(&mut from, &mut to);
    let how = if copied.is_ok() { Shutdown::Write } else { Shutdown::Both };
    // The other side may be gone already.
    drop(to.shutdown(how));
}

fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in (endpoint.host.as_str(), endpoint.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Receives one listening socket and the number of its endpoint; `None` if the other end is closed.
fn take_listener(control: &UnixStream) -> io::Result<Option<(usize, TcpListener)>> {
    let mut index = [0_u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(control, &mut [IoSliceMut::new(&mut index)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fd: Option<OwnedFd> = fds.flatten().next();
    Ok(fd.filter(|_| got.bytes == 1).map(|fd| (usize::from(index[0]), TcpListener::from(fd))))
}

/// Makes a network with only a loopback, listens in it at each endpoint's address and port, and sends the sockets out.
pub(super) fn listen(endpoints: &[Endpoint], control: i32) -> io::Result<()> {
    // The network that bubblewrap made may belong to an outer user namespace.
    super::unshare(UnshareFlags::NEWNET)?;
    loopback_up()?;
    // Open it again by its name: the number is only an argument, and this process does not own it.
    let control = own_copy(control)?;
    for (index, endpoint) in endpoints.iter().take(MAX_ENDPOINTS).enumerate() {
        let addresses = match endpoint.address() {
            Some(address) => vec![address],
            None => vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        };
        let mut sockets = Vec::new();
        for address in &addresses {
            if !address.is_loopback() {
                add_address(*address)?;
            }
            sockets.push(TcpListener::bind(SocketAddr::new(*address, endpoint.port)));
        }
        // A kernel without IPv6 still has IPv4.
        if sockets.iter().all(Result::is_err) {
            sockets.into_iter().collect::<io::Result<Vec<_>>>()?;
            continue;
        }
        for socket in sockets.into_iter().flatten() {
            give(&control, index, socket.as_fd())?;
        }
    }
    Ok(())
}

/// Returns the inherited descriptor of this number as one that is closed on exec; closes the number itself.
fn own_copy(number: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::getpid();
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let copy = rustix::process::pidfd_getfd(&process, number, rustix::process::PidfdGetfdFlags::empty())?;
    nix::unistd::close(number)?;
    Ok(copy)
}

fn give(control: &OwnedFd, index: usize, socket: BorrowedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [socket];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("a socket could not be sent"));
    }
    let index = [u8::try_from(index).unwrap_or(u8::MAX)];
    sendmsg(control, &[IoSlice::new(&index)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Kinds of netlink messages: a change of a link, and a new address.
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
/// The number of the loopback in every network.
const LOOPBACK: u32 = 1;
const UP: u32 = 1;

/// Switches the loopback on: in a new network it is down.
fn loopback_up() -> io::Result<()> {
    let mut link = vec![0; 4];
    link.extend([LOOPBACK, UP, UP].map(u32::to_ne_bytes).concat());
    netlink(NEW_LINK, &link)
}

/// Adds an address to the loopback.
fn add_address(address: IpAddr) -> io::Result<()> {
    /// The netlink attribute of an address on its link.
    const LOCAL: u16 = 2;
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (AddressFamily::INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AddressFamily::INET6, v6.octets().to_vec()),
    };
    let bits = u8::try_from(bytes.len() * 8).unwrap_or(u8::MAX);
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    let mut message = vec![family, bits, 0, 0];
    message.extend(LOOPBACK.to_ne_bytes());
    message
        .extend([u16::try_from(bytes.len() + 4).unwrap_or_default(), LOCAL].map(u16::to_ne_bytes).concat());
    message.extend(bytes);
    netlink(NEW_ADDRESS, &message)
}

/// Sends one request to the kernel and waits for its answer.
fn netlink(kind: u16, body: &[u8]) -> io::Result<()> {
    const REQUEST_WITH_ANSWER: u16 = 1 | 4;
    const CREATE: u16 = 0x400;
    const HEADER: usize = 16;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = Vec::new();
    message.extend(u32::try_from(HEADER + body.len()).unwrap_or_default().to_ne_bytes());
    message.extend([kind, REQUEST_WITH_ANSWER | CREATE].map(u16::to_ne_bytes).concat());
    // The number of the request and of its sender, which are not used here.
    message.extend([0; 8]);
    message.extend(body);
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0_u8; 256];
    let (_, got) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // After the header comes the error as a negative number; zero means success.
    let code = answer[..got].get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel did not answer")),
    }
}
