//! Planning a worker: from a request to the specification of what starts, with its checks and sandboxes. The plan lacks
//! what is secret or not the planner's: the files that keep it may be committed. `Fleet::complete` adds it at the start.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Fleet;
use super::refusal::{WorkerError, WorkerRefusal};
use crate::agents;
use crate::os::program;
use crate::rules::json::clip;
use crate::rules::lease;
use crate::rules::name::Name;
use crate::rules::sandbox::{Level, SandboxSubject};
use crate::rules::text::quote_argv;
use crate::rules::worker::{Check, Objects, Spec, WorkerLimits};
use crate::rules::world::front_matter::FrontMatter;
use crate::store::file;
use crate::store::layout::{self, WorkerDir};
use crate::store::sandboxes::{AgentSandbox, SandboxedEnv, named_files};
use crate::store::user_files::MAX_TEXT_BYTES;
use crate::vcs::clone;

const MAX_BRIEF_BYTES: usize = 1 << 20;
/// How much of a shell line becomes the name of its check, in characters.
const MAX_CHECK_NAME: usize = 80;
/// The kind of a worker that fixes.
pub(super) const FIX: &str = "fix";

/// A request for a worker.
#[derive(Clone, Debug)]
pub struct WorkerRequest {
    pub id: String,
    /// The goal that it works for.
    pub goal: Option<Name>,
    pub program: WorkerProgram,
    pub place: Workplace,
    /// Its instructions.
    pub brief: String,
    /// Entries of the config's `verify`; empty means the one that the goal names, if it does.
    pub verify: Vec<String>,
    /// If true, a check that is not an entry of the config is a shell line.
    pub free_check: bool,
    /// Resources that only this worker may use.
    pub claims: Vec<String>,
    /// Names of the user's variables, and paths, that it is granted.
    pub grant: Vec<String>,
    /// True if the decider that starts it read untrusted content.
    pub is_tainted: bool,
}

/// What a worker runs.
#[derive(Clone, Debug)]
pub enum WorkerProgram {
    /// A runner of the config; `None` means the default one.
    Runner(Option<String>),
    Command(Vec<String>),
    /// `looop fix` on the brief.
    Fix,
}

impl WorkerProgram {
    /// Chooses the program: a command, otherwise a fix if `kind` asks for it, otherwise a runner.
    pub fn choose(argv: Vec<String>, kind: Option<&str>, runner: Option<String>) -> WorkerProgram {
        match kind {
            _ if !argv.is_empty() => WorkerProgram::Command(argv),
            Some(FIX) => WorkerProgram::Fix,
            _ => WorkerProgram::Runner(runner),
        }
    }
}

/// The directory in which a worker runs.
#[derive(Clone, Debug)]
pub enum Workplace {
    /// A private clone of this repository.
    Clone(PathBuf),
    Directory(PathBuf),
    /// An empty directory of its own.
    Empty,
}

/// Returns true for a grant of a path; any other grant is the name of a variable.
pub(super) fn is_path(grant: &str) -> bool {
    grant.contains('/') || grant.starts_with('~')
}

/// Returns the names by which looop may know the agent that runs: that of its runner, and that of its program.
pub(super) fn agent_names(spec: &Spec) -> [&str; 2] {
    let program = spec.argv.first().and_then(|program| Path::new(program).file_name()?.to_str());
    [spec.runner.as_deref().unwrap_or_default(), program.unwrap_or_default()]
}

impl Fleet<'_> {
    /// Plans a worker. Starts and writes nothing.
    ///
    /// # Errors
    /// When the worker cannot be started, or a file cannot be read.
    pub fn plan(&self, wanted: &WorkerRequest) -> Result<Spec, WorkerError> {
        let id = Name::parse_new(&wanted.id).map_err(WorkerRefusal::Invalid)?;
        if wanted.brief.len() > MAX_BRIEF_BYTES {
            return Err(WorkerRefusal::LongBrief(wanted.brief.len() >> 10, MAX_BRIEF_BYTES >> 10).into());
        }
        for claim in &wanted.claims {
            lease::free_name(claim).map_err(WorkerRefusal::Invalid)?;
        }
        let dir = self.layout.worker(&id);
        let cwd = match &wanted.place {
            Workplace::Directory(cwd) if cwd.is_dir() => cwd.clone(),
            Workplace::Directory(cwd) => return Err(WorkerRefusal::NotDirectory(cwd.clone()).into()),
            Workplace::Clone(_) | Workplace::Empty => dir.clone_dir(),
        };
        let mut spec = Spec {
            id,
            goal: wanted.goal.clone(),
            kind: String::new(),
            runner: None,
            argv: Vec::new(),
            resume: Vec::new(),
            session: None,
            cwd: cwd.to_string_lossy().into_owned(),
            env: Vec::new(),
            verify: self.checks(wanted)?,
            claims: wanted.claims.clone(),
            repo: None,
            objects: None,
            sandbox: None,
            checks_sandbox: None,
            limits: WorkerLimits::default(),
            notify: Vec::new(),
            tmux: None,
            by: String::new(),
            created_ms: 0,
        };
        self.set_command(wanted, &dir, &mut spec)?;
        self.set_sandboxes(wanted, &dir, &mut spec)?;
        if let Workplace::Clone(source) = &wanted.place {
            self.set_repo(source, wanted.is_tainted, &mut spec)?;
        }
        Ok(spec)
    }

    /// Returns the checks of the worker's work: entries of the config by name, or a shell line that the user has seen.
    fn checks(&self, wanted: &WorkerRequest) -> Result<Vec<Check>, WorkerError> {
        let known = &self.settings.workers.verify;
        let mut names = wanted.verify.clone();
        if let Some(goal) = &wanted.goal {
            let text = file::read_text(&self.layout.file(&layout::goal_path(goal)), MAX_TEXT_BYTES)
                .with_context(|| format!("could not read the goal {goal}"))?
                .unwrap_or_default();
            let of_goal = FrontMatter::parse(&text)
                .map_err(|why| WorkerRefusal::Invalid(format!("goals/{goal}.md: {why}")))?;
            if names.is_empty() {
                names = of_goal.verify;
            }
        }
        let mut verify = Vec::new();
        for name in names {
            match known.get(&name) {
                Some(all) => {
                    verify.extend(all.iter().map(|argv| Check { name: name.clone(), argv: argv.clone() }))
                }
                None if wanted.free_check => verify.push(Check {
                    name: clip(&name, MAX_CHECK_NAME),
                    argv: vec!["sh".to_owned(), "-c".to_owned(), name],
                }),
                None => {
                    return Err(WorkerRefusal::UnknownCheck(name, known.keys().cloned().collect()).into());
                }
            }
        }
        Ok(verify)
    }

    /// Sets the kind and the command with its program resolved, and the variables that belong to its runner.
    fn set_command(
        &self,
        wanted: &WorkerRequest,
        dir: &WorkerDir,
        spec: &mut Spec,
    ) -> Result<(), WorkerRefusal> {
        match &wanted.program {
            WorkerProgram::Fix => return self.set_fix(wanted, dir, spec),
            WorkerProgram::Command(argv) => {
                (spec.kind, spec.argv) = ("command".to_owned(), argv.clone());
            }
            WorkerProgram::Runner(name) => {
                let found = self.settings.workers.runner(name.as_deref());
                let (name, runner) = found.map_err(WorkerRefusal::Invalid)?;
                let brief = dir.brief();
                let status = runner.status.map(|file| dir.status(file)).unwrap_or_default();
                let filled = |text: &String| {
                    text.replace("{brief}", &brief.to_string_lossy())
                        .replace("{status}", &status.to_string_lossy())
                };
                (spec.kind, spec.runner) = ("agent".to_owned(), Some(name.to_owned()));
                spec.argv = runner.argv.iter().map(filled).collect();
                spec.resume = runner.resume.iter().map(filled).collect();
                spec.env = runner.set.iter().map(|(key, value)| (key.clone(), filled(value))).collect();
            }
        }
        let program = spec.argv.first().cloned().unwrap_or_default();
        let cwd = Path::new(&spec.cwd);
        let from = if cwd.is_dir() { cwd } else { self.layout.root() };
        let found = program::find_program(&program, &self.settings.path, from)
            .ok_or_else(|| WorkerRefusal::NoProgram(program.clone()))?;
        if let Some(missing) = program::missing_interpreter(&found) {
            return Err(WorkerRefusal::NoInterpreter(program, missing));
        }
        spec.argv[0] = found.to_string_lossy().into_owned();
        spec.resume.first_mut().into_iter().for_each(|program| program.clone_from(&spec.argv[0]));
        Ok(())
    }

    /// Sets the command `looop fix` on the brief, with the checks as its tests.
    fn set_fix(&self, wanted: &WorkerRequest, dir: &WorkerDir, spec: &mut Spec) -> Result<(), WorkerRefusal> {
        if !matches!(wanted.place, Workplace::Clone(_)) {
            return Err(WorkerRefusal::FixWithoutRepo);
        }
        let own = program::installed_path();
        let words = [&*own.to_string_lossy(), "fix", "--repo", &spec.cwd, "--issue-file"];
        spec.argv = words.map(str::to_owned).into();
        spec.argv.push(dir.brief().to_string_lossy().into_owned());
        let lines: Vec<String> = spec.verify.iter().map(|check| quote_argv(&check.argv)).collect();
        if !lines.is_empty() {
            spec.argv.extend(["--test".to_owned(), lines.join(" && ")]);
        }
        spec.kind = FIX.to_owned();
        Ok(())
    }

    /// Sets the sandboxes of the worker and of its checks, and the variables that they add.
    fn set_sandboxes(
        &self,
        wanted: &WorkerRequest,
        dir: &WorkerDir,
        spec: &mut Spec,
    ) -> Result<(), WorkerRefusal> {
        let level = |kind| self.sandboxes.level(kind).map_err(WorkerRefusal::Sandbox);
        let levels = [level(SandboxSubject::Worker)?, level(SandboxSubject::Verify)?];
        if let Workplace::Directory(_) = wanted.place
            && levels != [Level::None; 2]
        {
            self.sandboxes.grantable(&spec.cwd).map_err(WorkerRefusal::Directory)?;
        }
        let cwd = Path::new(&spec.cwd);
        let program = spec.argv.first().map(PathBuf::from).unwrap_or_default();
        let checks = spec.verify.iter().filter_map(|check| check.argv.first());
        let found = checks.filter_map(|name| program::find_program(name, &self.settings.path, cwd));
        let runner = spec.runner.as_ref().and_then(|name| self.settings.workers.runners.get(name));
        let argvs = runner.iter().map(|runner| &runner.argv);
        let scripts =
            argvs.chain(spec.verify.iter().map(|check| &check.argv)).flat_map(|argv| named_files(argv));
        let programs: Vec<PathBuf> = std::iter::once(program.clone()).chain(found).chain(scripts).collect();
        let (mut read, mut write) = (vec![dir.brief(), program], vec![dir.worker_socket()]);
        if let Some(runner) = runner {
            write.extend(runner.write.clone());
            read.extend(runner.status.map(|file| dir.status(file)));
        }
        for path in wanted.grant.iter().filter(|text| is_path(text)) {
            read.push(self.sandboxes.grantable(path).map_err(WorkerRefusal::Grant)?);
        }
        let names = agent_names(spec);
        let agent_sandbox = AgentSandbox {
            dirs: &layout::PrivateDirs(dir.path()),
            cwd,
            endpoint: None,
            names,
            agent: agents::home_of(&names),
            programs: &programs,
            write: &write,
            read: &read,
        };
        let build = |kind| self.sandboxes.agent_sandbox(kind, &agent_sandbox).map_err(WorkerRefusal::Sandbox);
        // A fix is looop itself, which needs its own files.
        let own = build(SandboxSubject::Worker)?;
        let own = if spec.kind == FIX { SandboxedEnv::default() } else { own };
        spec.checks_sandbox = build(SandboxSubject::Verify)?.sandbox;
        spec.sandbox = own.sandbox;
        spec.env.extend(own.env);
        if spec.runner.is_some() {
            agents::fill_sandbox(&mut spec.argv, spec.sandbox.is_some());
            agents::fill_sandbox(&mut spec.resume, spec.sandbox.is_some());
        }
        Ok(())
    }

    /// Sets the repository with the commit that the clone starts from, and which of its objects the clone contains.
    fn set_repo(&self, source: &Path, is_tainted: bool, spec: &mut Spec) -> Result<(), WorkerError> {
        let found = self.source(&self.git()?, source)?;
        let chosen = Objects::chosen(self.settings.workers.objects, is_tainted, spec.has_network());
        // Another repository has the borrowed objects, so the worker gets a pack of what it needs.
        let objects = if found.borrows { Objects::Reachable } else { chosen };
        if objects == Objects::Shared {
            for sandbox in [&mut spec.sandbox, &mut spec.checks_sandbox].into_iter().flatten() {
                sandbox.access.read.push(found.common.join("objects"));
            }
        }
        (spec.repo, spec.objects) = (Some(clone::repo_of(&found, &spec.id)?), Some(objects));
        Ok(())
    }
}
