//! What every command gets: the environment, the profile, and from these a beat's context. Verbs for the user are refused
//! here to processes that a beat or a worker started.

use anyhow::{Context, Result};

use super::json_output::DoneJson;
use super::{Cancel, Fault, print};
use crate::agents::Runner;
use crate::agents::command::Command;
use crate::config::{self, Config, Env};
use crate::map;
use crate::os::process::{reaper, tree};
use crate::os::{clock, program};
use crate::rules::beat::gate::GateDecision;
use crate::rules::time::{Now, clock_flaw};
use crate::store::layout::{self, Layout};
use crate::store::sandboxes::SandboxBuilder;
use crate::store::{fixes, lock, state_files, workers};
use crate::tick::prepare::PreparedDecision;
use crate::tick::{self, Ctx};
use crate::vcs::migrate::{self, Migrated};
use crate::vcs::seed;
use crate::worker::Fleet;
use print::{ColorWhen, Style};

/// The context of every command.
pub(super) struct App {
    /// The words of the command.
    pub verb: String,
    /// True if the answer is JSON: nothing else goes to stdout.
    pub json: bool,
    pub env: Env,
    pub layout: Layout,
    pub style: Style,
    pub now: Now,
}

impl App {
    /// Reads the environment.
    pub(super) fn open(verb: &str, json: bool, color: ColorWhen) -> Result<App> {
        let env = Env::read()?;
        let color = if json { ColorWhen::Never } else { color };
        let style = Style::new(color, env.get("NO_COLOR").is_some());
        let app = App { verb: verb.to_owned(), json, layout: env.layout(), env, style, now: clock::now() };
        if app.env.is_dir_gone {
            program::work_in(std::path::Path::new("/"))
                .context("could not leave the current directory, which was deleted")?;
        }
        Ok(app)
    }

    /// Checks that the profile can be used, and creates the directories that it lacks. Only `init`, `demo` and
    /// a first pulse on a terminal create a profile.
    ///
    /// # Errors
    /// The profile does not exist, or cannot be used.
    pub(super) fn ready(&self) -> Result<()> {
        self.check_profile()?;
        seed::make_dirs(&self.layout)
    }

    /// Checks that the profile exists and can be used.
    pub(super) fn check_profile(&self) -> Result<()> {
        if seed::is_set_up(&self.layout) {
            return layout::check(&self.layout);
        }
        let root = self.layout.root();
        if root.symlink_metadata().is_ok() {
            layout::check_root(&self.layout)?;
        }
        let (what, hint) = match self.env.get("LOOOP_DATA_DIR") {
            Some(_) => (
                "could not use LOOOP_DATA_DIR: there is no profile at",
                "correct LOOOP_DATA_DIR, or make a profile there with `looop init`",
            ),
            None => ("could not find a profile: there is none at", "make one with `looop init`"),
        };
        Err(Fault::failed(format!("{what} `{}`", root.display())).hint(hint).into())
    }

    /// Like [`App::ready`], for a command that keeps its own state and so can run without a profile.
    ///
    /// # Errors
    /// The profile cannot be used, or LOOOP_DATA_DIR names a directory without one.
    pub(super) fn ready_without_profile(&self) -> Result<()> {
        match seed::is_set_up(&self.layout) {
            true => self.ready(),
            false if self.has_supervisor() || self.env.get("LOOOP_DATA_DIR").is_none() => Ok(()),
            false => self.check_profile(),
        }
    }

    /// Notes where a command keeps its state if no profile exists.
    pub(super) fn note_own_state(&self, dir: &std::path::Path) {
        if !seed::is_set_up(&self.layout) && !self.has_supervisor() {
            let dir = dir.display();
            print::note(&format!("looop: no profile exists; this command keeps its state in `{dir}`"));
        }
    }

    /// Changes to the data dir, because the directory in which this process started may be removed while it
    /// runs. The caller must have made its paths absolute.
    pub(super) fn enter_data_dir(&self) -> Result<()> {
        let root = self.layout.root();
        program::work_in(root).with_context(|| format!("could not enter the data dir `{}`", root.display()))
    }

    /// Prints a line before the answer; with `--json` to stderr.
    pub(super) fn line(&self, text: &str) {
        if self.json { print::note(text) } else { print::line(text) }
    }

    /// Prints what a verb did to an object: its last lines, or JSON. An empty text prints no line.
    pub(super) fn done(&self, object: impl ToString, text: &str) -> Result<u8> {
        self.outcome(Some(object.to_string()), true, text)
    }

    /// Prints what a verb shows, or that it changed nothing.
    pub(super) fn shown(&self, object: Option<&str>, text: &str) -> Result<u8> {
        self.outcome(object.map(str::to_owned), false, text)
    }

    /// Prints what a verb did to an object, or to the whole data dir.
    pub(super) fn outcome(&self, object: Option<String>, changed: bool, text: &str) -> Result<u8> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        if self.json {
            let (verb, text) = (self.verb.clone(), text.to_owned());
            return print::answer_whole(DoneJson { verb, object, changed, text });
        }
        if !text.is_empty() {
            print::line(text);
        }
        Ok(0)
    }

    pub(super) fn config(&self) -> Result<Config> {
        config::load(&self.env)
    }

    /// The supervisor's socket, if this process belongs to a worker.
    pub(super) fn inside_worker(&self) -> Option<std::path::PathBuf> {
        self.env.get("LOOOP_SOCKET").map(std::path::PathBuf::from)
    }

    /// Admits a verb that talks to a worker's supervisor, also from a sandbox without the data dir.
    pub(super) fn for_worker(self) -> Result<App> {
        if self.has_supervisor() && !self.sees_data_dir() { Ok(self) } else { self.admit(None, App::ready) }
    }

    /// True if the data dir can be read. In a full sandbox of a worker its files are absent; in a partial one they
    /// cannot be opened.
    fn sees_data_dir(&self) -> bool {
        std::fs::File::open(self.layout.format()).is_ok()
    }

    /// Admits a verb. `user_only` is its action if only the user may run it; `ready` checks the profile.
    pub(super) fn admit(self, user_only: Option<&str>, ready: fn(&App) -> Result<()>) -> Result<App> {
        let inside = self.has_supervisor();
        match user_only {
            Some(what) if inside => return Err(not_for(what, "a worker")),
            // A worker must not create a second data dir in its sandbox.
            _ if inside && !self.sees_data_dir() => {
                let what = "could not do this: a worker's sandbox does not contain the data dir";
                return Err(Fault::failed(what).into());
            }
            _ => ready(&self)?,
        }
        if let Some(what) = user_only {
            self.user_only(what)?;
            if seed::is_set_up(&self.layout) {
                self.say_migrated(migrate::between_beats(&self.layout, self.now)?);
            }
        }
        Ok(self)
    }

    /// Prints that the data dir was migrated from an older format.
    pub(super) fn say_migrated(&self, migrated: Option<Migrated>) {
        let Some(Migrated { from, uncommitted }) = migrated else { return };
        print::note(&format!("looop: the data dir had format {from} and has format {} now", layout::FORMAT));
        if let Some(why) = uncommitted {
            print::note(&format!("warning: the migration is not committed yet: {why}"));
        }
    }

    /// Refuses a verb that only the user may use to every process that a beat or a fix of this data dir has
    /// started. A beat that is invisible from here may be the parent of this process, so it counts as one.
    pub(super) fn user_only(&self, verb: &str) -> Result<()> {
        refuse(verb, "a beat of looop", lock::holders([self.layout.tick_lock()]))?;
        refuse(verb, "a beat of looop", lock::readers(&self.layout.look_lock()))?;
        refuse(verb, "an agent or a test of `looop fix`", lock::holders(fixes::locks(&self.layout)))?;
        self.no_worker(verb)
    }

    /// Refuses a verb to workers. Beats are included: the process that starts a beat chooses its config, and
    /// so which moves need no approval.
    pub(super) fn no_worker(&self, verb: &str) -> Result<()> {
        match self.has_supervisor() {
            true => Err(not_for(verb, "a worker")),
            false => refuse(verb, "a worker", workers::supervising(&self.layout)),
        }
    }

    /// True if a supervisor's socket is set. In a full sandbox nothing else shows that this is a worker.
    pub(super) fn has_supervisor(&self) -> bool {
        self.inside_worker().is_some_and(|socket| socket.exists())
    }

    /// The workers of this machine. If `dry` is true, not even the cache is written.
    pub(super) fn fleet<'a>(&'a self, config: &'a Config, cancel: &'a Cancel, dry: bool) -> Fleet<'a> {
        Fleet {
            layout: &self.layout,
            settings: &config.settings,
            sandboxes: SandboxBuilder::new(&self.layout, &config.settings, !dry),
            cancel,
            now: self.now,
            context_hints: map::context_hints,
        }
    }

    /// The context of a beat. From now on this process adopts orphans of its children. If `dry` is true, nothing is written.
    pub(super) fn ctx<'a>(
        &'a self,
        config: &'a Config,
        runner: &'a dyn Runner,
        cancel: &'a Cancel,
        dry: bool,
    ) -> Ctx<'a> {
        reaper::become_subreaper();
        Ctx {
            layout: &self.layout,
            settings: &config.settings,
            runner,
            fleet: self.fleet(config, cancel, dry),
            cancel,
            now: clock::now(),
            clock: &clock::now,
            forced: None,
            user: self.env.user_name(),
            on_wait: None,
            dry,
        }
    }

    /// Passes the context of a beat that writes nothing to a function.
    pub(super) fn dry<T>(
        &self,
        config: &Config,
        runner: &dyn Runner,
        observe: impl FnOnce(&Ctx) -> Result<T>,
    ) -> Result<T> {
        let cancel = Cancel::on_signals()?;
        let _look = lock::look(&self.layout.look_lock())?;
        observe(&self.ctx(config, runner, &cancel, true))
    }

    /// Runs the sensors and the gate without writing or spending. Returns the gate's decision, and the decision that the
    /// loop would ask for.
    pub(super) fn preview(&self, config: &Config) -> Result<(GateDecision, PreparedDecision)> {
        let idle = Command { name: config.decide.clone(), ..Command::default() };
        self.dry(config, &idle, |ctx| tick::preview(ctx, &state_files::peek_beat(&self.layout)?))
    }
}

/// Refuses a verb if this process descends from a holder of these locks, or if that cannot be determined.
fn refuse(verb: &str, who: &str, holders: lock::Holders) -> Result<()> {
    match holders {
        lock::Holders::Nobody => Ok(()),
        lock::Holders::Seen(pids) if !tree::may_descend_from(&pids) => Ok(()),
        lock::Holders::Seen(_) | lock::Holders::Unseen => Err(not_for(verb, who)),
    }
}

fn not_for(verb: &str, who: &str) -> anyhow::Error {
    Fault::failed(format!("could not {verb}: this is for the user, and {who} started this process")).into()
}

/// Refuses to decide by a clock that is certainly wrong: ids, budgets and timers depend on it.
///
/// # Errors
/// The clock is before 1970 or after the year 9999.
pub fn check_clock(now: Now, what: &str) -> Result<()> {
    let Some(flaw) = clock_flaw(now) else { return Ok(()) };
    let fault = Fault::failed(format!("could not {what}: {flaw}"));
    Err(fault.hint("set the clock; `timedatectl` shows whether it is kept").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::time::Zone;

    #[test]
    fn a_beat_is_refused_if_the_clock_is_outside_of_1970_to_9999() {
        for (seconds, flaw) in [(-86_400, "before 1970"), (8_210_298_412_800, "after the year 9999")] {
            let error = check_clock(Now::from_clock(seconds, 0, Zone::Fixed(0)), "start a beat").unwrap_err();
            assert!(error.to_string().contains(flaw), "{error:#}");
        }
        assert!(check_clock(Now::from_clock(1_795_218_410, 0, Zone::Fixed(0)), "start a beat").is_ok());
    }
}
