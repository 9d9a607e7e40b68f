//! `looop doctor`: checks the installation and says how to fix each problem.

mod runner;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use strum::IntoEnumIterator;

use super::findings::{self, Findings, program_of};
use super::json_output::{CheckStatus, Finding};
use super::{App, print, visible};
use crate::agents;
use crate::config::Config;
use crate::os::program;
use crate::rules::sandbox::{Level, NetworkAccess, SandboxMode, SandboxSubject};
use crate::rules::text::quote_argv;
use crate::store::file::{self, Doing};
use crate::store::sandboxes::SandboxBuilder;
use crate::store::{layout, lock};
use crate::vcs::history::{Blocked, History, locks};
use crate::vcs::{commits, migrate, seed};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop doctor\n  looop doctor --fix\n  looop doctor --ask")]
pub struct Args {
    /// First mend what needs no question: modes of files, stale git locks, a commit that a crash broke, an older format.
    #[arg(long)]
    fix: bool,
    /// Ask the runner one real question, which may cost money.
    #[arg(long)]
    ask: bool,
    /// Check one thing in detail.
    #[command(subcommand)]
    what: Option<DoctorCheck>,
}

#[derive(Debug, clap::Subcommand)]
enum DoctorCheck {
    /// Test a runner that decides: version, login, what keeps it from using tools, and one small real decision.
    Runner(runner::Args),
}

/// A file of keys beside the config, which a service gets as its environment.
const KEYS_FILE: &str = "looop.env";

/// Runs all checks; exit status 1 if a finding is bad. Only `--fix` and `--ask` write something; `--ask` writes the prompt,
/// the reply and the cost.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    if let Some(DoctorCheck::Runner(runner)) = &args.what {
        return runner::run(app, runner);
    }
    let mended = if args.fix { mend(app)? } else { Vec::new() };
    let mut found = findings::look(app);
    if let Ok(config) = app.config() {
        worker(&config, &mut found);
        logins(app, &config, &mut found);
        commands(&config, &mut found);
        keys(&config, &mut found);
        if args.ask {
            ask(app, &config, &mut found);
        }
    }
    if app.check_profile().is_ok()
        && let Err(error) = history(app, &mut found)
    {
        let fix = "restore the `.git` directory, or move its replacement away and run `looop init`";
        found.bad("history", format!("{error:#}"), &[fix]);
    }
    tools(app, &mut found);
    let found: Vec<Finding> = mended.into_iter().chain(found.0).collect();
    if app.json {
        print::answer("findings", &found)?;
    } else {
        let style = app.style;
        for f in &found {
            let mark = match f.health {
                CheckStatus::Mended => style.green("mend"),
                CheckStatus::Good => style.green("ok  "),
                CheckStatus::Odd => style.yellow("odd "),
                CheckStatus::Bad => style.red("BAD "),
            };
            print::line(&format!("{mark} {}: {}", f.what, f.found));
            f.fix.iter().for_each(|fix| print::line(&format!("     fix: {fix}")));
        }
    }
    Ok(u8::from(found.iter().any(|f| f.health == CheckStatus::Bad)))
}

/// Mends what has one right answer and loses nothing. Returns what it did.
///
/// # Errors
/// When this process is not the user's.
fn mend(app: &App) -> Result<Vec<Finding>> {
    app.user_only("mend a profile")?;
    let mut found = Findings::default();
    let mut modes: Vec<(PathBuf, u32)> = Vec::new();
    modes.extend(seed::is_set_up(&app.layout).then(|| (app.layout.root().to_owned(), 0o700)));
    modes.extend(app.config().ok().and_then(|config| keys_file(&config)).map(|path| (path, 0o600)));
    for (path, mode) in modes {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.mode() & 0o777 & !mode != 0 && !meta.is_symlink() {
            let what = format!("`{}` had mode {:o}", path.display(), meta.mode() & 0o777);
            let done =
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).doing("chmod", &path);
            found.mended("mode", what, &format!("chmod {mode:o} {}", path.display()), done);
        }
    }
    if app.check_profile().is_err() {
        return Ok(found.0);
    }
    if let Some(Some(migrated)) = found.ok("format", migrate::between_beats(&app.layout, app.now), &[]) {
        let what = format!("the data dir had format {}", migrated.from);
        found.mended("format", what, &format!("it has format {} now", layout::FORMAT), Ok(()));
    }
    // A beat mends its history itself.
    if let Ok(_beat) = lock::tick(&app.layout.tick_lock())
        && let Some(history) = found.ok("history", History::open(app.layout.root()), &[])
    {
        let broken = history.check_tip().err().map(|error| format!("{error:#}"));
        let locks: Vec<String> = found.ok("history", history.heal(), &[]).unwrap_or_default();
        for what in broken.into_iter().filter(|_| history.check_tip().is_ok()).chain(locks) {
            found.mended("history", what, "mended; no file was lost", Ok(()));
        }
        found.ok("history", history.name_merge_driver(), &[]);
    }
    Ok(found.0)
}

/// Asks the runner that decides one real question.
fn ask(app: &App, config: &Config, found: &mut Findings) {
    let Ok(runner) = config.decider() else { return };
    let answer = runner::ask(app, config, runner.as_ref()).and_then(|(_, words)| Ok(words?));
    let fix = format!("fix the cause; `looop doctor runner {}` tests it again", runner.name());
    if let Some(words) = found.ok("runner answers", answer, &[&fix]) {
        found.good("runner answers", words);
    }
}

/// Checks the git history of the data dir.
///
/// # Errors
/// The history cannot be opened or read.
fn history(app: &App, found: &mut Findings) -> Result<()> {
    let history = History::open(app.layout.root())?;
    let mut tried = Findings::default();
    try_commit(app, &history, &mut tried)?;
    if let Err(error) = history.check_tip() {
        let fix = "`looop run` returns to the newest readable commit; no file is lost";
        found.bad("history", format!("{error:#}"), &[fix]);
        return Ok(());
    }
    found.0.append(&mut tried.0);
    private_in_git(app, &history, found);
    for lock in locks::in_words(app.layout.root()) {
        let fix = "let the program end; a lock that no process holds is removed after a minute";
        found.odd("lock", lock, &[fix]);
    }
    Ok(())
}

/// Makes a test commit and removes it again, unless a beat is committing.
fn try_commit(app: &App, history: &History, found: &mut Findings) -> Result<()> {
    if let Some(blocked) = history.blocked()? {
        found.bad("history", blocked.to_string(), &[&blocked.hint()]);
        return Ok(());
    }
    let _held = match lock::tick(&app.layout.tick_lock()) {
        Err(error) if lock::is_busy(&error) => {
            found.good("history", "a beat is making its commits");
            return Ok(());
        }
        held => held?,
    };
    match history.try_commit(&commits::looop_signature(app.now)) {
        Ok(()) => found.good("history", "commits work: a test commit was made and removed"),
        Err(error) => {
            let writable = "make sure that the data dir is writable and its disk has free space";
            let hint = error.downcast_ref::<Blocked>().map_or(writable.to_owned(), Blocked::hint);
            found.bad("history", format!("{error:#}"), &[&hint]);
        }
    }
    Ok(())
}

/// Checks the runner of workers. A missing default runner is not a fault.
fn worker(config: &Config, found: &mut Findings) {
    let workers = &config.settings.workers;
    let program = workers.runner(None).and_then(|(name, runner)| {
        let program = runner.argv.first().map_or("", String::as_str);
        let path = program_of(config, program)?;
        Ok(format!("{name} is {}{}", path.display(), unknown_model(config, name, program)))
    });
    match program {
        Ok(program) => found.good("worker runner", program),
        Err(why) => {
            let health = if workers.runner.is_some() { CheckStatus::Bad } else { CheckStatus::Odd };
            let fix = "install it, or name another runner with \"worker\" in the config";
            found.add(health, "worker runner", why, &[fix]);
        }
    }
}

/// Looks for the login of each agent CLI that decides, works or fixes, without starting it. A CLI can have a login where
/// looop does not look, such as a keychain, so a missing one is odd and not bad.
fn logins(app: &App, config: &Config, found: &mut Findings) {
    let settings = &config.settings;
    let decides = config.decider().ok().map(|runner| runner.name().to_owned());
    let works = settings.workers.runner(None).ok().map(|(name, _)| name.to_owned());
    let used: BTreeSet<String> =
        decides.into_iter().chain(works).chain(settings.fixes.runner.clone()).collect();
    let env = app.env.all();
    for agent in used.iter().filter_map(|name| agents::find(name)) {
        if program_of(config, agent.name).is_err() {
            continue;
        }
        let what = format!("login of {}", agent.name);
        match agent.login(app.env.home(), &env) {
            Some(login) => found.good(&what, format!("by {login}")),
            None => {
                let keys: Vec<&str> = agent.key_names().collect();
                let log_in = format!("run `{}` and log in, or set one of: {}", agent.name, keys.join(", "));
                let test = format!("`looop doctor runner {}` then tries it", agent.name);
                found.odd(&what, "no key and no login file was found".to_owned(), &[&log_in, &test]);
            }
        }
    }
}

/// A hint if looop does not know the address of a worker's model: the sandbox blocks the loopback of this machine.
fn unknown_model(config: &Config, name: &str, program: &str) -> String {
    let sandboxes = &config.settings.sandbox;
    let program = program.rsplit('/').next().unwrap_or_default();
    let worker = sandboxes.request(SandboxSubject::Worker);
    let has_loopback = worker.mode == SandboxMode::None || worker.net == NetworkAccess::On;
    match has_loopback || sandboxes.endpoint(&[name, program]).is_some() {
        true => String::new(),
        false => format!(
            "; looop does not know the address of its model. If the model runs on this machine, set \
             `runners.{name}.base_url`, even if a variable or a file of the runner names the address"
        ),
    }
}

fn tools(app: &App, found: &mut Findings) {
    let path = app.config().map_or_else(|_| app.env.path(), |config| config.settings.path);
    let has = |name: &str| program::find_program(name, &path, app.layout.root()).is_some();
    match has("git") {
        true => found.good("git", "is installed, for workers in a repository and for the history"),
        false => {
            let what = "is not on the PATH; workers cannot get a repository, everything else works";
            found.odd("git", what, &["install git"]);
        }
    }
    match has("tmux") {
        true => found.good("tmux", "is installed, to show workers that wait for you"),
        false => {
            let what = "is not on the PATH; the pulse rings and prints who waits for you instead";
            found.odd("tmux", what, &["install tmux to get a window for each of them"]);
        }
    }
    sandbox(app, found);
}

/// Tests which sandbox this machine can make, and reports the level of each kind of child.
fn sandbox(app: &App, found: &mut Findings) {
    if !program::finds_itself() {
        let what = "is not mounted: without it looop can neither make a sandbox, nor start a worker, nor see which processes run";
        found.bad("/proc", what, &["mount it: mount -t proc proc /proc"]);
    }
    if rustix::process::geteuid().is_root() {
        let what = "root, against whom file modes do not protect: a child without a full sandbox can do more";
        found.odd("user", what, &["run looop as an ordinary user"]);
    }
    // The config check has reported why it cannot be read.
    let Ok(config) = app.config() else { return };
    let keep = seed::is_set_up(&app.layout);
    let capabilities = SandboxBuilder::new(&app.layout, &config.settings, keep).probe_again();
    let sandboxes = SandboxBuilder::with(&app.layout, &config.settings, capabilities.clone());
    let fixes: Vec<&str> = capabilities.fixes.iter().map(String::as_str).collect();
    let (level, engine) = (capabilities.level(), sandboxes.engine());
    let had = format!("{level} is available (Landlock {}, {engine})", capabilities.landlock);
    match level {
        Level::Full if capabilities.missing.is_empty() => found.good("sandbox", had),
        _ => found.odd("sandbox", format!("{had}: {}", capabilities.missing.join("; ")), &fixes),
    }
    if let Some(lost) = sandboxes.downgrade() {
        found.odd("sandbox before", lost, &fixes);
    }
    if keep && level == Level::Full && !capabilities.overlays {
        let found_so = "are read-only in a sandbox: overlays are not available here";
        let fix = "move the data dir and the cache to a file system that overlayfs can write to";
        found.odd("caches of builds", found_so, &[fix]);
    }
    for kind in SandboxSubject::iter() {
        let what = format!("sandbox of {kind}");
        match sandboxes.level(kind) {
            Ok(Level::None) => found.odd(&what, "none: it runs as you", &[]),
            Ok(level) => found.good(&what, level.as_ref()),
            Err(why) => found.bad(&what, why, &fixes),
        }
    }
}

/// Reports private files in the git history. A push publishes their content with the history.
fn private_in_git(app: &App, history: &History, found: &mut Findings) {
    let tracked = history.tracked().unwrap_or_default();
    let private: Vec<&String> = tracked.iter().filter(|path| seed::is_private(path)).collect();
    let Some(first) = private.first() else { return };
    let mut tops: Vec<&str> = private.iter().filter_map(|path| path.split('/').next()).collect();
    tops.dedup();
    let more = match private.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let root = app.layout.root().display().to_string();
    let line = |args: &[&str]| {
        let argv = [&["git", "-C", &root], args].concat();
        quote_argv(&argv.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let remove = line(&[&["rm", "-r", "-q", "--cached", "--"], &tops[..]].concat());
    let commit = line(&["commit", "-q", "-m", "human: private files leave git"]);
    let what = format!("git holds private files: `{}`{more}", visible(first, false));
    let old = "older commits still hold them: do not push this history to a place that others can read";
    found.bad("private files", what, &[&format!("{remove} && {commit}"), old]);
}

/// Reports programs that the config names, besides runners, and that are missing.
fn commands(config: &Config, found: &mut Findings) {
    let workers = &config.settings.workers;
    if let Some(missing) = workers.notify.first().and_then(|name| program_of(config, name).err()) {
        let fix = "install it, or correct \"notify\" in the config: without it you are not notified of flags and asks";
        found.bad("notify", missing, &[fix]);
    }
    for (entry, checks) in &workers.verify {
        // A name with a slash is relative to the worker's clone, so it cannot be checked here.
        let programs = checks.iter().filter_map(|check| check.first()).filter(|name| !name.contains('/'));
        for missing in programs.filter_map(|name| program_of(config, name).err()) {
            let why = "without it, work that it checks cannot be accepted";
            let fix = format!("install it, or correct it in the config: {why}");
            found.bad(&format!("verify.{entry}"), missing, &[&fix]);
        }
    }
}

/// The file with keys, if there is one.
fn keys_file(config: &Config) -> Option<PathBuf> {
    let path = config.path.parent().unwrap_or(Path::new("/")).join(KEYS_FILE);
    file::read(&path, 1 << 20).is_ok_and(|bytes| bytes.is_some()).then_some(path)
}

/// Reports files with keys that other users can read.
fn keys(config: &Config, found: &mut Findings) {
    let Some(path) = keys_file(config) else { return };
    let mode = std::fs::metadata(&path).map_or(0, |meta| meta.mode());
    if mode & 0o077 != 0 {
        let what = format!("others can read `{}` (mode {:o})", path.display(), mode & 0o777);
        found.bad("keys", what, &[&format!("chmod 600 {}", path.display())]);
    }
}
