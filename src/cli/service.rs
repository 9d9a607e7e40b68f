//! `looop service`: runs the pulse under systemd or launchd, or beats from cron.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{App, Fault, print, save};
use crate::os::program;
use crate::rules::beat::diff;
use crate::rules::service::{MARK, Service};
use crate::store::{exchange, file};

#[derive(Debug, clap::Subcommand)]
pub enum ServiceVerb {
    /// Print the service file or the crontab line, and change nothing.
    #[command(after_help = "Examples:\n  looop service print\n  looop service print --kind cron")]
    Print(Which),
    /// Write the service file for this data dir and config, and print how to start it.
    #[command(after_help = "Example:\n  looop service install --now")]
    Install {
        #[command(flatten)]
        which: Which,
        /// Start the service at once.
        #[arg(long)]
        now: bool,
        /// Replace a file with other content.
        #[arg(long)]
        force: bool,
    },
    /// Remove the file that `install` wrote.
    #[command(after_help = "Example:\n  looop service uninstall --now")]
    Uninstall {
        #[command(flatten)]
        which: Which,
        /// Stop the service first.
        #[arg(long)]
        now: bool,
    },
}

/// Arguments that name a service.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The service manager. Default: the one of this system.
    #[arg(long, value_enum)]
    kind: Option<ServiceManager>,
    /// The name of the service. Default: `looop`; for a data dir other than the default one, a name made from
    /// that dir.
    #[arg(long)]
    name: Option<String>,
}

/// A service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ServiceManager {
    /// The systemd user manager; the pulse is a unit.
    Systemd,
    /// launchd of macOS; the pulse is an agent.
    Launchd,
    /// cron; one beat a minute.
    Cron,
}

/// Variables that decide where a profile's files are and which model decides; the service gets those that are set.
const HANDED_ON: [&str; 6] = [
    "LOOOP_INTERVAL",
    "LOOOP_DECIDE",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
];
/// The largest service file that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

impl ServiceManager {
    fn usual() -> ServiceManager {
        match std::env::consts::OS {
            "macos" => ServiceManager::Launchd,
            "linux" => ServiceManager::Systemd,
            _ => ServiceManager::Cron,
        }
    }

    fn setup(self, app: &App, service: &Service) -> ServiceSetup {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match self {
            ServiceManager::Systemd => {
                let systemctl = |words: &[&str]| argv(&[&["systemctl", "--user"], words].concat());
                let dir = app.env.config_dir.join("systemd/user");
                ServiceSetup {
                    path: Some(dir.join(format!("{}.service", service.name))),
                    text: service.systemd(),
                    starts: vec![
                        systemctl(&["daemon-reload"]),
                        systemctl(&["enable", "--now", &service.name]),
                    ],
                    stops: vec![systemctl(&["disable", "--now", &service.name])],
                }
            }
            ServiceManager::Launchd => {
                let path =
                    app.env.home.join("Library/LaunchAgents").join(format!("{}.plist", service.label()));
                let launchctl = |verb: &str| vec![argv(&["launchctl", verb, "-w", &path.to_string_lossy()])];
                let (starts, stops) = (launchctl("load"), launchctl("unload"));
                ServiceSetup { path: Some(path), text: service.launchd(), starts, stops }
            }
            ServiceManager::Cron => ServiceSetup { text: service.cron(), ..ServiceSetup::default() },
        }
    }
}

/// What a service manager needs for one service.
#[derive(Default)]
struct ServiceSetup {
    /// The path of the service file; none for cron.
    path: Option<PathBuf>,
    /// The content of that file, or the crontab line.
    text: String,
    /// The commands that start a service whose file exists.
    starts: Vec<Vec<String>>,
    /// The commands that stop a service whose file still exists.
    stops: Vec<Vec<String>>,
}

pub fn run(app: &App, verb: ServiceVerb) -> Result<u8> {
    match verb {
        ServiceVerb::Print(which) => {
            app.ready_without_profile()?;
            let (kind, service) = service(app, &which)?;
            let text = kind.setup(app, &service).text;
            if app.json { app.shown(Some(&service.name), &text) } else { print::page(text) }
        }
        ServiceVerb::Install { which, now, force } => {
            app.user_only("install a service")?;
            app.ready()?;
            install(app, &which, now, force)
        }
        ServiceVerb::Uninstall { which, now } => {
            app.user_only("remove a service")?;
            uninstall(app, &which, now)
        }
    }
}

fn service(app: &App, which: &Which) -> Result<(ServiceManager, Service)> {
    let kind = which.kind.unwrap_or_else(ServiceManager::usual);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut env = vec![("PATH".to_owned(), app.env.path())];
    let config = app.env.config_path();
    for (key, place) in [("LOOOP_DATA_DIR", app.layout.root()), ("LOOOP_CONFIG", &*config)] {
        env.extend(app.env.get(key).map(|_| (key.to_owned(), text(place))));
    }
    env.extend(HANDED_ON.iter().filter_map(|key| Some(((*key).to_owned(), app.env.get(key)?.to_owned()))));
    let name = which.name.clone().unwrap_or_else(|| usual_name(app));
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_fit) {
        let fault = Fault::usage(format!("could not name a service {name:?}"));
        return Err(fault.hint("use letters, digits, `-`, `_` and `.`").into());
    }
    let log = app.layout.cache().ancestors().nth(2).unwrap_or(app.layout.cache()).join(format!("{name}.log"));
    let service = Service {
        program: text(&program(app)),
        env_file: text(&config.with_extension("env")),
        log: text(&log),
        name,
        env,
    };
    if let Some(odd) = service.flaw() {
        let fault = Fault::failed(format!("could not make a service: a line cannot contain {odd:?}"));
        return Err(fault.hint("rename the path that has control characters in it").into());
    }
    if kind == ServiceManager::Systemd && service.is_odd_for_systemd() {
        let what = format!("could not make a unit: systemd cannot start the program `{}`", service.program);
        let hint = "put looop into a directory without quotes and backslashes in its name";
        return Err(Fault::failed(what).hint(hint).into());
    }
    Ok((kind, service))
}

/// The name of the service. The default data dir's service has the program's own name.
fn usual_name(app: &App) -> String {
    let dir = app.layout.root().file_name().unwrap_or_default().to_string_lossy().into_owned();
    if app.env.get("LOOOP_DATA_DIR").is_none() || dir == "looop" {
        return "looop".to_owned();
    }
    let plain: String =
        dir.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    format!("looop-{}", plain.strip_prefix("looop-").unwrap_or(&plain))
}

/// The path of this program: its entry on the PATH, because that survives an upgrade; else its file.
fn program(app: &App) -> PathBuf {
    let own = program::installed_path();
    let own = std::fs::canonicalize(&own).unwrap_or(own);
    let named = program::find_program("looop", &app.env.path(), Path::new("/"));
    named.filter(|named| std::fs::canonicalize(named).is_ok_and(|file| file == own)).unwrap_or(own)
}

fn install(app: &App, which: &Which, now: bool, force: bool) -> Result<u8> {
    let (kind, service) = service(app, which)?;
    let ServiceSetup { path, text, starts, .. } = kind.setup(app, &service);
    let Some(path) = path else {
        let fault = Fault::failed("could not install a cron line: looop does not edit your crontab");
        return Err(fault.hint("(crontab -l; looop service print --kind cron) | crontab -").into());
    };
    let shown = path.to_string_lossy();
    let present = file::read_text(&path, MAX_BYTES).with_context(|| format!("could not read `{shown}`"))?;
    let mut lines = Vec::new();
    match &present {
        Some(present) if *present == text => lines.push(format!("{shown} exists already")),
        Some(present) if !force => {
            print::patch(app.style, &diff::unified(&shown, "new", present, &text));
            let fault = Fault::failed(format!("could not install the service: `{shown}` has other content"));
            return Err(fault.hint("replace it with --force, or choose another --name").into());
        }
        _ => {
            for dir in [path.parent(), Path::new(&service.log).parent()].into_iter().flatten() {
                std::fs::create_dir_all(dir)
                    .with_context(|| format!("could not make `{}`", dir.display()))?;
            }
            let seen = present.as_ref().map(|present| exchange::digest_of(present.as_bytes()));
            save::replace("install the service", &path, text.as_bytes(), 0o644, seen.as_ref())?;
            lines.push(format!("wrote {shown}"));
        }
    }
    if now {
        lines.extend(run_all(&starts)?);
        return app.done(&service.name, &lines.join("\n"));
    }
    lines.push("start it, now and at each login:".to_owned());
    lines.extend(starts.iter().map(|argv| format!("  {}", argv.join(" "))));
    if kind == ServiceManager::Systemd {
        lines.push("to keep it running after you log out:\n  loginctl enable-linger".to_owned());
    }
    app.done(&service.name, &lines.join("\n"))
}

fn uninstall(app: &App, which: &Which, now: bool) -> Result<u8> {
    let (kind, service) = service(app, which)?;
    let ServiceSetup { path, stops, .. } = kind.setup(app, &service);
    let Some(path) = path else {
        let fault = Fault::failed("could not remove a cron line: looop does not edit your crontab");
        return Err(fault.hint("crontab -e").into());
    };
    let shown = path.to_string_lossy();
    let present = file::read_text(&path, MAX_BYTES).with_context(|| format!("could not read `{shown}`"))?;
    let Some(text) = present else {
        return app.shown(Some(&service.name), &format!("{shown} does not exist"));
    };
    if !text.contains(MARK) {
        let fault = Fault::failed(format!("could not remove `{shown}`: looop did not write it"));
        return Err(fault.hint("remove it by hand").into());
    }
    let mut lines = if now { run_all(&stops)? } else { Vec::new() };
    let seen = exchange::digest_of(text.as_bytes());
    save::made("remove the service", &exchange::remove(&path, &seen)?)?;
    if kind == ServiceManager::Systemd {
        // The link that starts it at login points to nothing now.
        let wants = path.with_file_name("default.target.wants").join(format!("{}.service", service.name));
        if std::fs::symlink_metadata(&wants).is_ok() {
            file::remove(&wants)?;
        }
    }
    lines.push(format!("removed {shown}"));
    if !now && kind == ServiceManager::Systemd {
        lines.push(format!("if it still runs, stop it with:\n  systemctl --user stop {}", service.name));
    }
    app.done(&service.name, &lines.join("\n"))
}

/// Runs commands one after the other. Returns a line for each.
fn run_all(commands: &[Vec<String>]) -> Result<Vec<String>> {
    let run = |argv: &Vec<String>| {
        let shown = argv.join(" ");
        let done = program::run_here(argv).with_context(|| format!("could not run `{shown}`"))?;
        if !done {
            let fault = Fault::failed(format!("could not finish: `{shown}` failed"));
            return Err(fault.hint("its own message is above").into());
        }
        Ok(format!("ran {shown}"))
    };
    commands.iter().map(run).collect()
}
