//! What the config says about boxes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::form::{Boxing as Level, ConfigFile, Network};
use super::{Env, usage};
use crate::model::boxing::{Boxes, Boxing, Endpoint, Kind, NetworkAccess, Wanted};

/// The part of the settings that is about boxes.
pub(super) fn of(env: &Env, parsed: &ConfigFile, path: &Path) -> Result<Boxes> {
    let from = &parsed.sandbox;
    let net = &from.network;
    let boxing = |level: Option<Level>, net: &Option<Network>| Boxing {
        wanted: match level {
            None | Some(Level::Auto) => Wanted::Auto,
            Some(Level::Full) => Wanted::Full,
            Some(Level::Partial) => Wanted::Partial,
            Some(Level::None) => Wanted::None,
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
    let boxes = Boxes {
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
    for (kind, asked) in Kind::ALL.iter().zip(asked) {
        let boxing = boxes.of(*kind);
        if boxing.wanted == Wanted::None
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

/// Where the built-in runners find their models: the variables that say so, the first one first, and the vendor's own address.
const ENDPOINTS: [(&str, &[&str], &str); 4] = [
    ("claude", &["ANTHROPIC_BASE_URL"], "https://api.anthropic.com"),
    ("codex", &["OPENAI_BASE_URL"], "https://api.openai.com"),
    ("gemini", &["GOOGLE_GEMINI_BASE_URL"], "https://generativelanguage.googleapis.com"),
    ("qwen", &["OPENAI_BASE_URL"], "https://dashscope.aliyuncs.com"),
];

/// The endpoint of each runner: its `base_url`, what a variable says that it gets, or the usual one of a built-in runner.
fn endpoints(env: &Env, parsed: &ConfigFile, path: &Path) -> Result<BTreeMap<String, Endpoint>> {
    let mut all = BTreeMap::new();
    for (name, vars, usual) in ENDPOINTS {
        let said = vars.iter().find_map(|var| env.get(var)).unwrap_or(usual);
        // What a program cannot use either is its own affair.
        all.extend(Endpoint::of_url(said).map(|endpoint| (name.to_owned(), endpoint)));
    }
    for (name, runner) in &parsed.runners {
        // A command of the user's that is given the address in a variable finds its model there.
        let said = runner.env.iter().filter(|var| var.ends_with("_BASE_URL")).find_map(|var| env.get(var));
        all.extend(said.and_then(Endpoint::of_url).map(|endpoint| (name.clone(), endpoint)));
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

/// Paths as the human writes them: absolute ones, or below `~`.
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
