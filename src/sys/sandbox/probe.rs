//! What this machine can do, found by doing it: a child in each kind of box.

#![allow(clippy::disallowed_methods, reason = "like `proc`, this module starts processes")]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::boxing::{Boxed, Engine, Level, Powers, SCOPES, Walls};
use crate::sys::proc::{Exit, Input, Job, Keep, run_one};
use crate::sys::program::find_program;
use crate::sys::signal::Cancel;
use crate::sys::tree;

/// How long one try may take, in milliseconds.
const TRY_MS: i64 = 20_000;
/// Where the engines are where the PATH does not lead to them.
const USUAL: &str = "/usr/bin:/bin:/usr/local/bin";

fn engines(path: &str) -> [(&'static str, Option<PathBuf>); 2] {
    let find = |name| find_program(name, &format!("{path}:{USUAL}"), Path::new("/"));
    [("bwrap", find("bwrap")), ("unshare", find("unshare"))]
}

/// What the result of [`probe`] holds for: this boot, this user, this program and these engines.
pub fn stamp(path: &str) -> String {
    let file = |path: &Path| {
        let meta = std::fs::metadata(path).ok();
        meta.map_or(String::new(), |meta| format!("{} {} {}", path.display(), meta.len(), meta.mtime()))
    };
    let engines = engines(path).map(|(_, found)| found.map_or(String::new(), |path| file(&path)));
    let me = rustix::process::geteuid().as_raw();
    format!("{} {me} {} {}", tree::boot_id(), file(&super::self_path()), engines.join(" "))
}

/// Tries everything out, layers in the empty directory `scratch`. It takes some 20 ms.
pub fn probe(path: &str, scratch: Option<&Path>, cancel: &Cancel) -> Powers {
    let mut powers = Powers { landlock: landlock(), filter: has_filter(), ..Powers::default() };
    if powers.landlock < SCOPES {
        let found = match powers.landlock {
            0 => "the kernel has no Landlock".to_owned(),
            n => format!(
                "the kernel's Landlock is version {n} and {SCOPES} is needed to fence sockets and signals"
            ),
        };
        powers.missing.push(found);
        powers.fixes.push("run Linux 6.12 or later with `landlock` among its security modules".to_owned());
    }
    if !powers.filter {
        powers.missing.push("no system call filter can be put on".to_owned());
        powers.fixes.push("allow seccomp filters where looop runs".to_owned());
    }
    // Within the file system that an engine makes Landlock is put on, so that without it there is nothing to try.
    for (name, program) in engines(path).into_iter().filter(|_| powers.landlock > 0) {
        let Some(program) = program else {
            powers.missing.push(format!("`{name}` is not there"));
            continue;
        };
        let engine = if name == "bwrap" { Engine::Bubblewrap(program) } else { Engine::Unshare(program) };
        let layered = scratch.map(|dir| try_out(&engine, Some(dir), cancel));
        let tried = match layered {
            Some(Ok(())) => Ok(()),
            _ => try_out(&engine, None, cancel),
        };
        match tried {
            Ok(()) => {
                powers.layers = matches!(layered, Some(Ok(())));
                powers.engine = Some(engine);
                break;
            }
            Err(why) => powers.missing.push(format!("`{name}` does not work: {why}")),
        }
    }
    if powers.engine.is_none() && powers.landlock > 0 {
        powers.fixes.push("install bubblewrap".to_owned());
        powers.fixes.push(
            "allow user namespaces (sysctl user.max_user_namespaces, and AppArmor's rules for them)"
                .to_owned(),
        );
    }
    if powers.level() == Level::Full {
        powers.missing.clear();
        powers.fixes.clear();
    }
    powers
}

/// Starts the system's shell in a box; in one with a layer it writes a file there.
fn try_out(engine: &Engine, scratch: Option<&Path>, cancel: &Cancel) -> Result<(), String> {
    let mut boxed = Boxed::new(Some(engine.clone()), Walls::default());
    let mut command = ["/bin/sh", "-c", "true"].map(str::to_owned).to_vec();
    if let Some(dir) = scratch {
        let (lower, own) = (dir.join("lower"), dir.join("own"));
        for made in super::LAYER_PARTS.map(|part| own.join(part)).iter().chain([&lower]) {
            std::fs::create_dir_all(made).map_err(|e| e.to_string())?;
        }
        command[2] = ": >\"$0\"".to_owned();
        command.push(super::text(&lower.join("file")));
        boxed.walls.layered.push((lower, own));
    }
    let mut argv = super::argv(&boxed, Path::new("/"), &command).map_err(|e| e.to_string())?;
    let program = PathBuf::from(argv.remove(0));
    let job = Job {
        program,
        args: argv,
        env: Vec::new(),
        cwd: PathBuf::from("/"),
        input: Input::Null,
        keep: Keep::Tail(2_000),
        sink: None,
        timeout_ms: TRY_MS,
        gate: None,
        boxed: None,
    };
    let ended = run_one(job, cancel, None).map_err(|e| e.to_string())?;
    match ended.exit {
        Exit::Code(0) => Ok(()),
        exit => {
            let said = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
            Err(format!("{}: {}", exit.words(), crate::model::json::clip(&said, 300)))
        }
    }
}

#[cfg(target_os = "linux")]
fn landlock() -> u8 {
    super::lock::version()
}

#[cfg(target_os = "linux")]
fn has_filter() -> bool {
    use crate::model::boxing::Net;
    let tried = std::thread::spawn(|| {
        // Both need the same promise, which Landlock makes too where there is one.
        rustix::thread::set_no_new_privs(true).is_ok() && super::filter::apply(&Net::On, Level::Full).is_ok()
    });
    tried.join().unwrap_or(false)
}

#[cfg(not(target_os = "linux"))]
fn landlock() -> u8 {
    0
}

#[cfg(not(target_os = "linux"))]
fn has_filter() -> bool {
    false
}
