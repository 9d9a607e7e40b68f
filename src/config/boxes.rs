//! The sandbox settings of the config.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::form::{ConfigFile, Network, SandboxLevel as Level};
use super::{Env, usage};
use crate::agents::AGENTS;
use crate::model::boxing::{
    Endpoint, NetworkAccess, SandboxConfig, SandboxMode, SandboxRequest, SandboxSubject,
};

/// Builds the sandbox settings.
pub(super) fn of(env: &Env, parsed: &ConfigFile, path: &Path) -> Result<SandboxConfig> {
    let from = &parsed.sandbox;
    let net = &from.network;
    let boxing = |level: Option<Level>, net: &Option<Network>| SandboxRequest {
        wanted: match level {
            None | Some(Level::Auto) => SandboxMode::Auto,
            Some(Level::Full) => SandboxMode::Full,
            Some(Level::Partial) => SandboxMode::Partial,
            Some(Level::None) => SandboxMode::None,
        },
        net: match net {
            None | Some(Network::Auto) => NetworkAccess::Auto,
            Some(Network::On) => NetworkAccess::On,
            Some(Network::Internet) => NetworkAccess::Internet,
            Some(Network::Model) => NetworkAccess::Model,
            Some(Network::Off) => NetworkAccess::Off,
            Some(Network::Ports(ports)) => NetworkAccess::Ports(ports.clone()),
        },
    };
    let boxes = SandboxConfig {
        decide: boxing(from.decide, &net.decide),
        sensor: boxing(from.sensor, &net.sensor),
        run: boxing(from.run, &net.run),
        verify: boxing(from.verify, &net.verify),
        worker: boxing(from.worker, &net.worker),
        fix: boxing(from.fix, &net.fix),
        read: paths(env, &from.read, "sandbox.read", path)?,
        write: paths(env, &from.write, "sandbox.write", path)?,
        endpoints: endpoints(env, parsed, path)?,
    };
    let asked = [&net.decide, &net.sensor, &net.run, &net.verify, &net.worker, &net.fix];
    for (kind, asked) in SandboxSubject::ALL.iter().zip(asked) {
        let boxing = boxes.of(*kind);
        if boxing.wanted == SandboxMode::None
            && asked.is_some()
            && ![NetworkAccess::On, NetworkAccess::Auto].contains(&boxing.net)
        {
            let word = kind.word();
            let what = format!(
                "could not use the config `{}`: sandbox.network.{word} needs a sandbox, and sandbox.{word} is \"none\"",
                path.display()
            );
            return Err(usage(what));
        }
    }
    Ok(boxes)
}

/// The endpoint of each runner: its `base_url`, what a variable says, or the usual one of a built-in runner.
fn endpoints(env: &Env, parsed: &ConfigFile, path: &Path) -> Result<BTreeMap<String, Endpoint>> {
    let mut all = BTreeMap::new();
    for agent in AGENTS {
        let Some((var, usual)) = agent.endpoint else { continue };
        // The program itself reports an address that is none.
        let endpoint = Endpoint::of_url(env.get(var).unwrap_or(usual));
        all.extend(endpoint.map(|endpoint| (agent.name.to_owned(), endpoint)));
    }
    for (name, runner) in &parsed.runners {
        // A command of the user may get the address of its model in a variable.
        let stated = runner.env.iter().filter(|var| var.ends_with("_BASE_URL")).find_map(|var| env.get(var));
        all.extend(stated.and_then(Endpoint::of_url).map(|endpoint| (name.clone(), endpoint)));
        let Some(url) = runner.base_url.as_ref().filter(|_| runner.http.is_none()) else { continue };
        let endpoint = Endpoint::of_url(url).ok_or_else(|| {
            let shown = path.display();
            usage(format!(
                "could not use the config `{shown}`: runners.{name}.base_url {url:?} is not an address"
            ))
        })?;
        all.insert(name.clone(), endpoint);
    }
    Ok(all)
}

/// Makes the user's paths absolute: they must be absolute or begin with `~`.
pub(super) fn paths(env: &Env, from: &[String], key: &str, path: &Path) -> Result<Vec<PathBuf>> {
    from.iter()
        .map(|text| {
            let expanded = env.expand(text);
            let is_plain =
                expanded.is_absolute() && !expanded.components().any(|part| part.as_os_str() == "..");
            is_plain.then_some(expanded).ok_or_else(|| {
                let shown = path.display();
                usage(format!(
                    "could not use the config `{shown}`: {key}: {text:?} is not an absolute path without `..`"
                ))
            })
        })
        .collect()
}
