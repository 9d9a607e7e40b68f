//! Sandboxes of workers, of their checks, and of what a fix starts. They contain only what is granted here.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{AgentHome, SandboxBuilder, SandboxedEnv, copy, tools};
use crate::rules::fault::Fault;
use crate::rules::sandbox::{Access, Endpoint, Level, SandboxSubject};
use crate::sandbox;
use crate::store::file;
use crate::store::layout::PrivateDirs;

/// Inputs of a worker's sandbox.
#[derive(Clone, Copy)]
pub struct AgentSandbox<'a> {
    pub dirs: &'a PrivateDirs<'a>,
    /// Its working directory, which it may write.
    pub cwd: &'a Path,
    /// The endpoint that it was told to use; `None` means the endpoint of its runner.
    pub endpoint: Option<&'a Endpoint>,
    /// The name and the program of its runner.
    pub names: [&'a str; 2],
    /// The home of its agent CLI; `None` if looop does not know the agent.
    pub agent: Option<&'a AgentHome>,
    /// The programs that are started in it.
    pub programs: &'a [PathBuf],
    /// Paths that its runner may write.
    pub write: &'a [PathBuf],
    /// Further paths that it reads: grants of the user, files that it is given, objects that its clone borrows.
    pub read: &'a [PathBuf],
}

impl SandboxBuilder<'_> {
    /// Builds the sandbox of a worker: its directory, the configuration of its runner, and tools.
    ///
    /// # Errors
    /// Says why the sandbox cannot be made; nothing is started then.
    pub fn agent_sandbox(
        &self,
        kind: SandboxSubject,
        agent_sandbox: &AgentSandbox,
    ) -> Result<SandboxedEnv, String> {
        let grant = self.grant(kind)?;
        if grant.level == Level::None {
            return Ok(SandboxedEnv::default());
        }
        let access = self.access(agent_sandbox, grant.has_files)?;
        let endpoint =
            agent_sandbox.endpoint.or_else(|| self.settings.sandbox.endpoint(&agent_sandbox.names));
        self.sandboxed(kind, &grant, access, endpoint, Some(&agent_sandbox.dirs.temp()))
    }

    fn access(&self, agent_sandbox: &AgentSandbox, is_full: bool) -> Result<Access, String> {
        let home = self.home()?;
        let found = self.agent(agent_sandbox.agent)?;
        let granted = &self.settings.sandbox;
        let mut read = tools::found(&self.settings.path, home, &self.own());
        let mut write = vec![agent_sandbox.cwd.to_owned()];
        for (key, paths, into) in
            [("sandbox.read", &granted.read, &mut read), ("sandbox.write", &granted.write, &mut write)]
        {
            for path in paths {
                self.grantable(&path.to_string_lossy()).map_err(|why| format!("{key}: {why}"))?;
                into.push(path.clone());
            }
        }
        read.extend(found.read.iter().chain(agent_sandbox.read).cloned());
        for file in agent_sandbox.programs {
            read.extend(tools::program(file, &self.settings.path, home, &self.own()));
        }
        write.extend(agent_sandbox.write.iter().cloned());
        // Without bind mounts the agent finds its own directories only at their real places.
        write.extend(if is_full { found.login } else { found.dirs });
        let dirs = agent_sandbox.dirs;
        let mut binds = vec![(dirs.temp(), PathBuf::from("/tmp"))];
        let mut overlays = Vec::new();
        if is_full {
            binds.push((dirs.home(), home.to_owned()));
            binds.extend(found.elsewhere.map(|moved| (dirs.home().join(moved.dir), moved.place)));
            if self.capabilities().overlays {
                overlays.extend(tools::layers(home).map(|(dir, name)| (dir, dirs.caches().join(name))));
            }
        }
        read.retain(|path| !overlays.iter().any(|(dir, _)| dir == path));
        Ok(Access { read, write, binds, overlays, ..Access::default() })
    }

    /// Makes the private directories of such a sandbox.
    pub fn create_dirs(
        &self,
        is_full: bool,
        agent: Option<&AgentHome>,
        dirs: &PrivateDirs,
        cwd: &Path,
    ) -> Result<()> {
        file::make_dir(&dirs.temp())?;
        if let (true, Ok(own)) = (is_full, self.home()) {
            let home = &dirs.home();
            file::make_dir(home)?;
            for (_, name) in tools::layers(own).filter(|_| self.capabilities().overlays) {
                for part in sandbox::LAYER_PARTS {
                    file::make_dir(&dirs.caches().join(&name).join(part))?;
                }
            }
            if let Some(agent) = agent {
                let found = agent.places(own, &self.settings.full_env);
                if let Some(elsewhere) = &found.elsewhere {
                    file::make_dir(&home.join(elsewhere.dir))?;
                }
                copy(&found.copied, home).map_err(Fault::failed)?;
                agent.trust(home, cwd)?;
            }
        }
        Ok(())
    }
}
