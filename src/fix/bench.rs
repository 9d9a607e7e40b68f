//! The sandboxes of a fix: a worker's fix uses a worker's sandbox, a user's fix the one from the config.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::agents;
use crate::model::fault::Fault;
use crate::model::sandbox::{Endpoint, SandboxSubject};
use crate::model::settings::Settings;
use crate::store::boxes::{AgentSandbox, Cell, PrivateDirs, SandboxBuilder};
use crate::store::layout::{FixDir, Layout};

/// The builder of sandboxes.
pub struct Bench<'a> {
    pub layout: &'a Layout,
    /// The settings from the config.
    pub settings: &'a Settings,
    /// The files of the fix.
    pub dir: &'a FixDir,
    /// True if a worker runs the fix.
    pub is_worker: bool,
    /// The object stores from which the clone borrows.
    pub objects: &'a [PathBuf],
}

/// A process to start.
pub struct SandboxStart<'a> {
    /// The name for error messages.
    pub name: &'a str,
    /// The program file.
    pub program: &'a Path,
    /// The working directory.
    pub cwd: &'a Path,
    /// The endpoint that it is told to use; none: the endpoint of its runner.
    pub endpoint: Option<Endpoint>,
    /// More paths that it may read.
    pub read: &'a [PathBuf],
    /// More paths that it may write.
    pub write: &'a [PathBuf],
}

impl Bench<'_> {
    /// The sandbox of an agent.
    ///
    /// # Errors
    /// The required sandbox is not available; then nothing may be started.
    pub fn agent(&self, start: &SandboxStart) -> Result<Cell> {
        self.cell(if self.is_worker { SandboxSubject::Worker } else { SandboxSubject::Fix }, start)
    }

    /// The sandbox of tests, and of the commands that follow.
    ///
    /// # Errors
    /// Like [`Bench::agent`].
    pub fn tests(&self, start: &SandboxStart) -> Result<Cell> {
        self.cell(if self.is_worker { SandboxSubject::Verify } else { SandboxSubject::Fix }, start)
    }

    fn cell(&self, kind: SandboxSubject, start: &SandboxStart) -> Result<Cell> {
        let sandboxes = SandboxBuilder::new(self.layout, self.settings, true);
        let work = self.dir.work();
        let rooms = PrivateDirs { home: self.dir.home(), caches: self.dir.caches(), temp: self.dir.temp() };
        let program = start.program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let names = [start.name, program];
        let agent = agents::home_of(&names);
        let mut read = vec![start.program.to_owned()];
        let programs = [start.program.to_owned()];
        read.extend(self.objects.iter().chain(start.read).cloned());
        let agent_sandbox = AgentSandbox {
            rooms: &rooms,
            cwd: if start.cwd.starts_with(&work) { &work } else { start.cwd },
            endpoint: start.endpoint.as_ref(),
            names,
            agent,
            programs: &programs,
            write: start.write,
            read: &read,
        };
        let cell = sandboxes.agent_sandbox(kind, &agent_sandbox).map_err(|why| {
            let fault = Fault::usage(format!("could not make the sandbox of `{}`: {why}", start.name));
            fault.hint("`looop doctor` shows what is available")
        })?;
        if let Some(sandbox) = &cell.sandbox {
            sandboxes.create_dirs(sandbox.has_files(), agent, &rooms, start.cwd)?;
        }
        Ok(cell)
    }
}
