//! A probe of this machine's sandboxes: it starts a child in each kind.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::os::process::{Job, OutputLimit, ProcessCommand, ProcessExit, run_one, tree};
use crate::os::program::{find_program, self_path};
use crate::os::signal::Cancel;
use crate::rules::sandbox::{Access, Capabilities, Engine, Net, Sandbox};
use crate::sandbox;

/// How long one trial may take, in milliseconds.
const TRY_MS: i64 = 20_000;
/// Where to look for engines that are not on the PATH.
const USUAL: &str = "/usr/bin:/bin:/usr/local/bin";

/// The programs that make an engine, and the packages that contain them.
const PROGRAMS: [(&str, &str); 2] = [("bwrap", "bubblewrap"), ("pasta", "passt")];
/// The kernel's setting with which AppArmor restricts user namespaces to named programs.
const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

fn programs(path: &str) -> [Option<PathBuf>; 2] {
    PROGRAMS.map(|(name, _)| find_program(name, &format!("{path}:{USUAL}"), Path::new("/")))
}

/// Returns the conditions under which a result of [`probe`] is valid: this boot, user, mount namespace, program and
/// engines.
pub fn stamp(path: &str) -> String {
    let file = |path: &Path| {
        let meta = std::fs::metadata(path).ok();
        meta.map_or(String::new(), |meta| format!("{} {} {}", path.display(), meta.len(), meta.mtime()))
    };
    let programs = programs(path).map(|found| found.map_or(String::new(), |path| file(&path)));
    let me = rustix::process::geteuid().as_raw();
    let mounts = std::fs::metadata("/proc/self/ns/mnt").map_or(0, |meta| meta.ino());
    format!("{} {me} {mounts} {} {}", tree::boot_id(), file(&self_path()), programs.join(" "))
}

/// Tries everything out, overlays in the empty directory `scratch`. Takes some 20 ms, and 200 ms with pasta.
pub fn probe(path: &str, scratch: Option<&Path>, cancel: &Cancel) -> Capabilities {
    #[cfg(target_os = "linux")]
    let (landlock, filter) = (sandbox::landlock::version(), has_filter());
    #[cfg(not(target_os = "linux"))]
    let (landlock, filter) = (0, false);
    let mut found = Capabilities { landlock, filter, ..Capabilities::default() };
    let [bwrap, pasta] = programs(path);
    match bwrap.map(|bubblewrap| Engine { bubblewrap, pasta: None }) {
        None => found.missing.push("`bwrap` is not installed".to_owned()),
        Some(engine) => {
            let tried = |scratch| try_out(landlock, &engine, Net::Off, scratch, cancel);
            found.overlays = scratch.is_some_and(|dir| tried(Some(dir)).is_ok());
            match if found.overlays { Ok(()) } else { tried(None) } {
                Ok(()) => found.engine = Some(engine),
                Err(why) => {
                    found.failed = true;
                    found.missing.push(format!("`bwrap` does not work: {why}"));
                }
            }
        }
    }
    match (&found.engine, pasta) {
        (None, _) => {
            found.fixes.push(install(PROGRAMS[0].1));
            found.fixes.extend(namespace_fixes());
        }
        (Some(_), None) => {
            found.missing.push(
                "`pasta` is not installed, so a sandbox with internet also reaches this machine's own services".to_owned(),
            );
            found.fixes.push(install(PROGRAMS[1].1));
        }
        (Some(engine), Some(pasta)) => {
            let engine = Engine { pasta: Some(pasta), ..engine.clone() };
            match try_out(landlock, &engine, Net::Internet, None, cancel) {
                Ok(()) => found.engine = Some(engine),
                Err(why) => {
                    found.failed = true;
                    found.missing.push(format!("`pasta` does not work: {why}"));
                    found.fixes.push("let your user open /dev/net/tun (module `tun`, mode 0666), and allow user namespaces".to_owned());
                }
            }
        }
    }
    if found.engine.is_none() && found.landlock == 0 {
        found.missing.push("the kernel has no Landlock".to_owned());
        found.fixes.push("run a kernel with `landlock` among its security modules".to_owned());
    }
    if found.engine.is_none() && !found.filter {
        found.missing.push("a system call filter cannot be applied".to_owned());
        found.fixes.push("allow seccomp filters where looop runs".to_owned());
    }
    found
}

fn install(package: &str) -> String {
    format!("install {package} (the name of the package in Debian, Ubuntu, Fedora and Arch)")
}

/// Lists the fixes that allow user namespaces here.
fn namespace_fixes() -> Vec<String> {
    let is_restricted = std::fs::read_to_string(APPARMOR).is_ok_and(|text| text.trim() == "1");
    let mut fixes = vec!["allow user namespaces: sysctl user.max_user_namespaces".to_owned()];
    if is_restricted {
        fixes.push(
            "AppArmor keeps them from bwrap (Ubuntu 24.04): write `abi <abi/4.0>, include <tunables/global> profile bwrap /usr/bin/bwrap flags=(unconfined) { userns, }` to /etc/apparmor.d/bwrap, one for /usr/bin/passt beside it, and run `sudo apparmor_parser -r /etc/apparmor.d/bwrap`; or `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`".to_owned(),
        );
    }
    fixes
}

/// Tries again whether a sandbox like this one can have the internet.
///
/// # Errors
/// Says why it cannot.
pub fn try_internet(sandbox: &Sandbox) -> Result<(), String> {
    let engine = sandbox.engine.as_ref().ok_or("it has no file system of its own")?;
    let cancel = Cancel::never().map_err(|error| error.to_string())?;
    try_out(sandbox.landlock, engine, Net::Internet, None, &cancel)
}

/// Starts the system's shell in a sandbox; with an overlay it writes a file there.
fn try_out(
    landlock: u8,
    engine: &Engine,
    net: Net,
    scratch: Option<&Path>,
    cancel: &Cancel,
) -> Result<(), String> {
    let access = Access { net, ..Access::default() };
    let mut sandbox = Sandbox { landlock, ..Sandbox::new(Some(engine.clone()), access) };
    let mut args = ["-c", "true"].map(str::to_owned).to_vec();
    if let Some(dir) = scratch {
        let (lower, own) = (dir.join("lower"), dir.join("own"));
        for made in sandbox::LAYER_PARTS.map(|part| own.join(part)).iter().chain([&lower]) {
            std::fs::create_dir_all(made).map_err(|e| e.to_string())?;
        }
        args[1] = ": >\"$0\"".to_owned();
        args.push(sandbox::text(&lower.join("file")));
        sandbox.access.overlays.push((lower, own));
    }
    let command = ProcessCommand::new("/bin/sh", args, Vec::new(), "/");
    let job =
        Job { layer: sandbox::layer(Some(sandbox)), ..Job::new(command, OutputLimit::Tail(2_000), TRY_MS) };
    let ended = run_one(job, cancel, None).map_err(|e| e.to_string())?;
    match ended.exit {
        ProcessExit::Code(0) => Ok(()),
        exit => {
            let stated = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
            Err(format!("{exit}: {}", crate::rules::json::clip(&stated, 300)))
        }
    }
}

#[cfg(target_os = "linux")]
fn has_filter() -> bool {
    let tried = std::thread::spawn(|| {
        // Both need `no_new_privs`, which Landlock sets too if the kernel has it.
        rustix::thread::set_no_new_privs(true).is_ok() && sandbox::seccomp::apply(&Net::On, true).is_ok()
    });
    tried.join().unwrap_or(false)
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::stamp;

    #[test]
    fn a_result_holds_for_one_user() {
        let user = |stamp: String| stamp.split(' ').nth(1).map(str::to_owned);
        let me = rustix::process::geteuid();
        assert_eq!(user(stamp("")), Some(me.as_raw().to_string()));
        if me.is_root() {
            let nobody = rustix::process::Uid::from_raw(65534);
            let other = std::thread::spawn(move || {
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                user(stamp(""))
            });
            assert_eq!(other.join().unwrap(), Some("65534".to_owned()));
        }
    }
}
