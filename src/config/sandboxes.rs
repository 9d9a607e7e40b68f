//! The sandbox settings of the config.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use super::Source;
use crate::agents::AGENTS;
use crate::model::sandbox::{Endpoint, NetworkAccess, SandboxConfig, SandboxMode, SandboxSubject};

impl Source<'_> {
    /// Builds the sandbox settings.
    pub(super) fn sandboxes(&self) -> Result<SandboxConfig> {
        let from = &self.file.sandbox;
        for kind in SandboxSubject::ALL {
            let request = from.request(kind);
            let is_open = matches!(request.net, NetworkAccess::On | NetworkAccess::Auto);
            if request.mode == SandboxMode::None && !is_open {
                let word = kind.word();
                let what = format!("sandbox.network.{word} needs a sandbox, and sandbox.{word} is \"none\"");
                return Err(self.invalid(what));
            }
        }
        Ok(SandboxConfig {
            read: self.paths(&from.read, "sandbox.read")?,
            write: self.paths(&from.write, "sandbox.write")?,
            endpoints: self.endpoints()?,
            ..from.clone()
        })
    }

    /// The endpoint of each runner: its `base_url`, what a variable says, or the usual one of a built-in runner.
    fn endpoints(&self) -> Result<BTreeMap<String, Endpoint>> {
        let mut all = BTreeMap::new();
        for agent in AGENTS {
            let Some((var, usual)) = agent.endpoint else { continue };
            // The program itself reports an address that is none.
            let endpoint = Endpoint::of_url(self.env.get(var).unwrap_or(usual));
            all.extend(endpoint.map(|endpoint| (agent.name.to_owned(), endpoint)));
        }
        for (name, runner) in &self.file.runners {
            // A command of the user may get the address of its model in a variable.
            let mut vars = runner.env.iter().filter(|var| var.ends_with("_BASE_URL"));
            let stated = vars.find_map(|var| self.env.get(var)).and_then(Endpoint::of_url);
            all.extend(stated.map(|endpoint| (name.clone(), endpoint)));
            let Some(url) = runner.base_url.as_ref().filter(|_| runner.http.is_none()) else { continue };
            let endpoint = Endpoint::of_url(url)
                .ok_or_else(|| self.invalid(format!("runners.{name}.base_url {url:?} is not an address")))?;
            all.insert(name.clone(), endpoint);
        }
        Ok(all)
    }

    /// Makes the user's paths absolute: they must be absolute or begin with `~`.
    pub(super) fn paths(&self, from: &[PathBuf], key: &str) -> Result<Vec<PathBuf>> {
        let absolute = |path: &PathBuf| {
            let expanded = self.env.expand(&path.to_string_lossy());
            let is_plain =
                expanded.is_absolute() && !expanded.components().any(|part| part.as_os_str() == "..");
            is_plain
                .then_some(expanded)
                .ok_or_else(|| self.invalid(format!("{key}: {path:?} is not an absolute path without `..`")))
        };
        from.iter().map(absolute).collect()
    }
}
