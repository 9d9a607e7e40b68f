//! The sandbox as arguments of bubblewrap.

use std::io;
use std::path::Path;

use super::{Mount, mounts, text};
use crate::rules::sandbox::{Net, Sandbox};

/// Returns the command up to the program that it will start.
pub(super) fn argv(program: &Path, sandbox: &Sandbox, own: &Path, cwd: &Path) -> io::Result<Vec<String>> {
    let access = &sandbox.access;
    let mut argv = vec![text(program)];
    let mut add = |args: &[&str]| argv.extend(args.iter().map(|arg| (*arg).to_owned()));
    add(&["--unshare-user", "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL", "--die-with-parent"]);
    if !access.overlays.is_empty() {
        // The inner process mounts the overlays and then drops these capabilities.
        add(&["--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_DAC_OVERRIDE"]);
    }
    if access.net == Net::Off {
        add(&["--unshare-net"]);
        if sandbox.has_relay() {
            // The inner process listens at the endpoint's address and then drops these capabilities.
            add(&["--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_NET_ADMIN"]);
            add(&["--cap-add", "CAP_NET_BIND_SERVICE"]);
        }
    }
    if sandbox.has_pasta() {
        // In pasta's namespace every user is its root.
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        add(&["--uid", &uid.to_string(), "--gid", &gid.to_string()]);
    }
    if access.allow_all {
        add(&["--ro-bind", "/", "/"]);
    }
    add(&["--dev", "/dev", "--proc", "/proc"]);
    for (at, mount) in mounts(access, own)? {
        let at = text(&at);
        match mount {
            Mount::Link(target) => add(&["--symlink", &text(&target), &at]),
            Mount::Read(what) => add(&["--ro-bind", &text(&what), &at]),
            Mount::Write(what) => add(&["--bind", &text(&what), &at]),
            Mount::Layer(what, own) => {
                let own = text(&own);
                add(&["--ro-bind", &text(&what), &at, "--bind", &own, &own]);
            }
            Mount::Nothing => add(&["--perms", "0700", "--tmpfs", &at]),
            Mount::Blank => add(&["--ro-bind", "/dev/null", &at]),
        }
    }
    add(&["--chdir", &text(cwd), "--"]);
    Ok(argv)
}
