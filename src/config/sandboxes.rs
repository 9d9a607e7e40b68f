//! The sandbox settings of the config.

use std::collections::BTreeMap;

use strum::IntoEnumIterator;

use super::{ConfigSource, Problem, absolute_paths};
use crate::agents::AGENTS;
use crate::rules::sandbox::{Endpoint, NetworkAccess, SandboxConfig, SandboxMode, SandboxSubject};

impl ConfigSource<'_> {
    /// Builds the sandbox settings.
    pub(super) fn sandbox(&self) -> SandboxConfig {
        let from = &self.file.sandbox;
        for kind in SandboxSubject::iter() {
            let request = from.request(kind);
            let is_open = matches!(request.net, NetworkAccess::On | NetworkAccess::Auto);
            if request.mode == SandboxMode::None && !is_open {
                let why = format!("needs a sandbox, and sandbox.{kind} is \"none\"");
                self.refuse(Problem::of(format!("sandbox.network.{kind}"), &why));
            }
        }
        let paths = |from, key| {
            absolute_paths(self.env, from).unwrap_or_else(|why| {
                self.refuse(Problem::about(format!("sandbox.{key}"), &why));
                Vec::new()
            })
        };
        SandboxConfig {
            read: paths(&from.read, "read"),
            write: paths(&from.write, "write"),
            endpoints: self.endpoints(),
            ..from.clone()
        }
    }

    /// The endpoint of each runner: its `base_url`, what a variable says, or the usual one of a built-in runner.
    fn endpoints(&self) -> BTreeMap<String, Endpoint> {
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
            match Endpoint::of_url(url) {
                Some(endpoint) => drop(all.insert(name.clone(), endpoint)),
                None => {
                    let why = format!("is {url:?}; expected an address, as in \"http://127.0.0.1:8080/v1\"");
                    self.refuse(Problem::of(format!("runners.{name}.base_url"), &why));
                }
            }
        }
        all
    }
}
