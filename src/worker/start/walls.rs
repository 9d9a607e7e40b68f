//! The sandbox of a worker that will be started, its variables, and its grants.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{FIX, WorkerRefusal, WorkerRequest, Workplace};
use crate::agents;
use crate::os::program;
use crate::rules::sandbox::{Level, Sandbox, SandboxSubject};
use crate::rules::worker::Spec;
use crate::store::layout::{PrivateDirs, WorkerDir};
use crate::store::sandboxes::{AgentSandbox, Cell, SandboxBuilder};
use crate::worker::Fleet;

/// Returns true for a grant of a path; any other grant is the name of a variable.
pub(super) fn is_path(grant: &str) -> bool {
    grant.contains('/') || grant.starts_with('~')
}

impl Fleet<'_> {
    /// Sets the sandboxes of the worker and of its checks, and the variables that they and the grants add.
    pub(super) fn set_sandboxes(
        &self,
        wanted: &WorkerRequest,
        dir: &WorkerDir,
        spec: &mut Spec,
    ) -> Result<(), WorkerRefusal> {
        let sandboxes = SandboxBuilder::new(self.layout, self.settings, true);
        let level = |kind| sandboxes.level(kind).map_err(WorkerRefusal::Sandbox);
        let levels = [level(SandboxSubject::Worker)?, level(SandboxSubject::Verify)?];
        if let Workplace::Directory(_) = wanted.place
            && levels != [Level::None; 2]
        {
            sandboxes.grantable(&spec.cwd).map_err(WorkerRefusal::Directory)?;
        }
        let cwd = Path::new(&spec.cwd);
        let program = spec.argv.first().map(Path::new).unwrap_or(Path::new(""));
        let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut write = vec![dir.worker_socket()];
        let table = spec.runner.as_ref().and_then(|name| self.settings.workers.runners.get(name));
        write.extend(table.iter().flat_map(|runner| runner.write.clone()));
        let checks = spec.verify.iter().filter_map(|check| check.argv.first());
        let path = &self.settings.path;
        let programs: Vec<PathBuf> = std::iter::once(program.to_owned())
            .chain(checks.filter_map(|name| program::find_program(name, path, cwd)))
            .collect();
        let mut read = vec![dir.brief(), program.to_owned()];
        read.extend(table.and_then(|runner| runner.status).map(|file| dir.status(file)));
        for path in wanted.grant.iter().filter(|text| is_path(text)) {
            read.push(sandboxes.grantable(path).map_err(WorkerRefusal::Grant)?);
        }
        let names = [spec.runner.as_deref().unwrap_or_default(), name];
        let agent_sandbox = AgentSandbox {
            dirs: &PrivateDirs(dir.path()),
            cwd,
            endpoint: None,
            names,
            agent: agents::home_of(&names),
            programs: &programs,
            write: &write,
            read: &read,
        };
        let build = |kind| sandboxes.agent_sandbox(kind, &agent_sandbox).map_err(WorkerRefusal::Sandbox);
        // A fix is looop itself, which needs its own files.
        let own = build(SandboxSubject::Worker)?;
        let own = if spec.kind == FIX { Cell::default() } else { own };
        let checks = build(SandboxSubject::Verify)?;
        spec.env.extend(own.env);
        for name in wanted.grant.iter().filter(|text| !is_path(text)) {
            let found = self.settings.full_env.iter().find(|(key, _)| key == name);
            spec.env.push(found.cloned().ok_or_else(|| WorkerRefusal::NoVariable(name.clone()))?);
        }
        (spec.sandbox, spec.checks_sandbox) = (own.sandbox, checks.sandbox);
        if spec.runner.is_some() {
            agents::fill_sandbox(&mut spec.argv, spec.sandbox.is_some());
        }
        Ok(())
    }

    /// Makes the private directories of its sandboxes.
    pub(super) fn create_sandbox_dirs(&self, spec: &Spec, staged: &WorkerDir) -> Result<()> {
        let boxes: Vec<&Sandbox> = spec.sandbox.iter().chain(&spec.checks_sandbox).collect();
        if !boxes.is_empty() {
            let program = spec.argv.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
            let names = [spec.runner.as_deref().unwrap_or_default(), program.to_str().unwrap_or_default()];
            let is_full = boxes.iter().any(|sandbox| sandbox.has_files());
            let sandboxes = SandboxBuilder::new(self.layout, self.settings, true);
            sandboxes.create_dirs(
                is_full,
                agents::home_of(&names),
                &PrivateDirs(staged.path()),
                Path::new(&spec.cwd),
            )?;
        }
        Ok(())
    }

    /// Returns the variables that it gets.
    pub(super) fn environment(&self, allow: &[String]) -> Vec<(String, String)> {
        let mut env = self.settings.base_env.clone();
        env.extend(self.settings.full_env.iter().filter(|(key, _)| allow.contains(key)).cloned());
        let own = program::installed_path();
        let own = std::fs::canonicalize(&own).unwrap_or(own);
        // Last on the PATH, so that a worker finds `looop` and nothing else changes.
        if let (Some(dir), Some((_, path))) = (own.parent(), env.iter_mut().find(|(key, _)| key == "PATH")) {
            path.push_str(&format!(":{}", dir.display()));
        }
        // A prompt or an editor would wait for input that never comes.
        for (key, value) in [
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_EDITOR", "true"),
            ("GIT_SEQUENCE_EDITOR", "true"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
        ] {
            env.push((key.to_owned(), value.to_owned()));
        }
        env.push(("LOOOP_DATA_DIR".to_owned(), self.layout.root().to_string_lossy().into_owned()));
        env.extend(self.settings.config_env.iter().cloned());
        env
    }
}
