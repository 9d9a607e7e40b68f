//! The one way in which git runs for workers: found on the configured PATH, with a deadline, and deaf to the caller's
//! environment, the user's config, hooks, monitors and transports.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::fault;
use crate::model::ask::visible;
use crate::model::fault::Fault;
use crate::model::json::clip;
use crate::sys::clock::Deadline;
use crate::sys::proc::{self, Exit, Input, Job, Keep};
use crate::sys::program;
use crate::sys::signal::Cancel;

/// The most that one call may print, in bytes.
const MAX_OUTPUT_BYTES: usize = 64 << 20;

/// The whole environment besides PATH and what a [`Place`] adds. Without HOME git looks for no files of the user.
const ENV: [(&str, &str); 9] = [
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    // An empty list of transports: nothing here ever talks to another repository.
    ("GIT_ALLOW_PROTOCOL", ""),
];

/// Settings that win over any config file.
const SETTINGS: [(&str, &str); 8] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.fsync", "objects,derived-metadata,reference"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    // A hook can also be a setting, which `core.hooksPath` does not reach.
    ("hook.reference-transaction.enabled", "false"),
    ("init.defaultRefFormat", "files"),
];

/// Real git, until a deadline or an interruption.
#[derive(Debug)]
pub struct Git<'a> {
    /// Repositories of other users than this one are refused.
    pub owner: u32,
    program: PathBuf,
    path: String,
    deadline: Deadline,
    cancel: &'a Cancel,
}

/// Where git works.
#[derive(Clone, Debug)]
pub(super) struct Place {
    cwd: PathBuf,
    vars: Vec<(&'static str, String)>,
    /// More settings that win over any config file.
    pub settings: Vec<(String, String)>,
}

impl Place {
    /// Git finds the repository from a directory, if there is one.
    pub fn none(cwd: &Path) -> Place {
        Place { cwd: cwd.to_owned(), vars: Vec::new(), settings: Vec::new() }
    }

    /// This repository and no other.
    pub fn of(git_dir: &Path) -> Result<Place> {
        Ok(Place { vars: vec![("GIT_DIR", text(git_dir)?)], ..Place::none(git_dir) })
    }

    /// The same with a directory of files.
    pub fn with_tree(mut self, tree: &Path) -> Result<Place> {
        self.vars.push(("GIT_WORK_TREE", text(tree)?));
        self.cwd = tree.to_owned();
        Ok(self)
    }

    /// The same with an index of its own.
    pub fn with_index(mut self, index: &Path) -> Result<Place> {
        self.vars.push(("GIT_INDEX_FILE", text(index)?));
        Ok(self)
    }
}

/// A path as an argument.
pub(super) fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| fault(&format!("use the path `{}`", path.display()), "it is not UTF-8"))
}

impl<'a> Git<'a> {
    /// Finds git on a PATH.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(path: &str, timeout_ms: i64, cancel: &'a Cancel) -> Result<Git<'a>> {
        let program = program::find_program("git", path, Path::new("/")).ok_or_else(|| {
            Fault::failed("could not work on a repository: there is no `git` on the PATH")
                .hint("install git, or name its directory in `path` of the config")
        })?;
        let deadline = Deadline::after_ms(timeout_ms);
        let owner = rustix::process::geteuid().as_raw();
        Ok(Git { owner, program, path: path.to_owned(), deadline, cancel })
    }

    /// Fails once the deadline has passed or a human interrupted.
    pub(super) fn check(&self) -> Result<()> {
        match (self.deadline.passed(), self.cancel.is_set()) {
            (_, true) => Err(fault("go on", "it was interrupted")),
            (true, _) => Err(fault("go on", "its time was up")),
            _ => Ok(()),
        }
    }

    /// What git printed; it must end well.
    pub(super) fn run(&self, place: &Place, args: &[&str]) -> Result<Vec<u8>> {
        self.run_with(place, args, None)
    }

    /// The same with a file on stdin.
    pub(super) fn run_with(&self, place: &Place, args: &[&str], input: Option<File>) -> Result<Vec<u8>> {
        let (exit, stdout, stderr) = self.start(place, args, input)?;
        if exit == Exit::Code(0) { Ok(stdout) } else { Err(failed(args, &exit, &stderr)) }
    }

    /// What git printed as one line; the line break at its end is not part of it.
    pub(super) fn line(&self, place: &Place, args: &[&str]) -> Result<String> {
        let text = String::from_utf8(self.run(place, args)?);
        let text = text.map_err(|_| fault(&format!("run git {}", args[0]), "its answer is not UTF-8"))?;
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// A question that git answers with exit code 0 or 1.
    pub(super) fn asks(&self, place: &Place, args: &[&str]) -> Result<bool> {
        Ok(self.answer(place, args)?.is_some())
    }

    /// What git printed with exit code 0; none with 1.
    pub(super) fn answer(&self, place: &Place, args: &[&str]) -> Result<Option<String>> {
        match self.start(place, args, None)? {
            (Exit::Code(0), stdout, _) => Ok(Some(String::from_utf8_lossy(&stdout).into_owned())),
            (Exit::Code(1), ..) => Ok(None),
            (exit, _, stderr) => Err(failed(args, &exit, &stderr)),
        }
    }

    fn start(&self, place: &Place, args: &[&str], input: Option<File>) -> Result<(Exit, Vec<u8>, String)> {
        self.check()?;
        let job = Job {
            program: self.program.clone(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: self.env(place),
            cwd: place.cwd.clone(),
            input: input.map_or(Input::Null, Input::File),
            keep: Keep::All(MAX_OUTPUT_BYTES),
            timeout_ms: i64::try_from(self.deadline.left().as_millis()).unwrap_or(i64::MAX),
            sink: None,
            gate: None,
            boxed: None,
        };
        let ended = proc::run_one(job, self.cancel, None).context("could not run git")?;
        Ok((ended.exit, ended.stdout, String::from_utf8_lossy(&ended.stderr).into_owned()))
    }

    fn env(&self, place: &Place) -> Vec<(String, String)> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let mut env: Vec<(String, String)> = ENV.iter().map(own).collect();
        env.push(("PATH".to_owned(), self.path.clone()));
        env.extend(place.vars.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let settings: Vec<_> = SETTINGS.iter().map(own).chain(place.settings.iter().cloned()).collect();
        env.push(("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()));
        for (n, (key, value)) in settings.into_iter().enumerate() {
            env.extend([(format!("GIT_CONFIG_KEY_{n}"), key), (format!("GIT_CONFIG_VALUE_{n}"), value)]);
        }
        env
    }
}

fn failed(args: &[&str], exit: &Exit, stderr: &str) -> anyhow::Error {
    let said = clip(&visible(stderr.trim(), false), 400);
    let why = if said.is_empty() { exit.words() } else { format!("{} ({said})", exit.words()) };
    fault(&format!("run git {}", args.first().unwrap_or(&"")), &why)
}
