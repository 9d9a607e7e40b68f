//! What the config says about boxes.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::form::{Boxing as Level, Network, SandboxFile};
use super::{Env, usage};
use crate::model::boxing::{Boxes, Boxing, Kind, Net, Wanted};

/// The part of the settings that is about boxes.
pub(super) fn of(env: &Env, from: &SandboxFile, path: &Path) -> Result<Boxes> {
    let net = &from.network;
    let boxing = |kind, level: Option<Level>, net: &Option<Network>| Boxing {
        wanted: match level {
            // A human's own command on their own project: the tests of it may need anything.
            None if kind == Kind::Fix => Wanted::None,
            None | Some(Level::Auto) => Wanted::Auto,
            Some(Level::Full) => Wanted::Full,
            Some(Level::Partial) => Wanted::Partial,
            Some(Level::None) => Wanted::None,
        },
        net: match net {
            // What decides over work must not be told its answer from outside.
            None if kind == Kind::Verify => Net::Off,
            None | Some(Network::On) => Net::On,
            Some(Network::Off) => Net::Off,
            Some(Network::Ports(ports)) => Net::Ports(ports.clone()),
        },
    };
    let boxes = Boxes {
        decide: boxing(Kind::Decide, from.decide, &net.decide),
        sensor: boxing(Kind::Sensor, from.sensor, &net.sensor),
        run: boxing(Kind::Run, from.run, &net.run),
        verify: boxing(Kind::Verify, from.verify, &net.verify),
        worker: boxing(Kind::Worker, from.worker, &net.worker),
        fix: boxing(Kind::Fix, from.fix, &net.fix),
        read: paths(env, &from.read, "sandbox.read", path)?,
        write: paths(env, &from.write, "sandbox.write", path)?,
    };
    let asked = [&net.decide, &net.sensor, &net.run, &net.verify, &net.worker, &net.fix];
    for (kind, asked) in Kind::ALL.iter().zip(asked) {
        let boxing = boxes.of(*kind);
        if boxing.wanted == Wanted::None && asked.is_some() && boxing.net != Net::On {
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
