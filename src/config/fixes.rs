//! What the config says about fixes: runners that can be called, who comes after whom, and when one is stopped.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::boxes::paths;
use super::form::{ConfigFile, FixFile};
use super::workers::{CLAUDE_ENV, PI_ENV};
use super::{Env, usage};
use crate::model::attempt::Thresholds;
use crate::model::settings::{Fixes, WorkerRunner};

/// A runner that looop knows how to call for a fix: unattended, with the prompt on stdin, free to edit the files of the
/// private clone that it is called in.
struct BuiltIn {
    name: &'static str,
    argv: &'static [&'static str],
    env: &'static [&'static str],
    /// The option that says how hard it thinks.
    effort: Option<&'static str>,
}

const BUILT_IN: [BuiltIn; 3] = [
    BuiltIn {
        name: "claude",
        argv: &[
            "claude",
            "-p",
            "--output-format",
            "stream-json",
            "--verbose",
            "--permission-mode",
            "acceptEdits",
        ],
        env: CLAUDE_ENV,
        effort: Some("--effort"),
    },
    BuiltIn {
        name: "pi",
        argv: &["pi", "-p", "--mode", "json", "--no-session"],
        env: PI_ENV,
        effort: Some("--thinking"),
    },
    BuiltIn {
        name: "qwen",
        argv: &["qwen", "--bare", "--output-format", "stream-json", "--approval-mode", "yolo"],
        env: &["OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"],
        effort: None,
    },
];

/// The part of the settings that is about fixes.
pub(super) fn of(env: &Env, parsed: &ConfigFile, path: &Path) -> Result<Fixes> {
    let file = &parsed.fix;
    let runners = runners(env, parsed, path)?;
    for name in file.escalate.iter().chain(&file.runner) {
        if !runners.contains_key(name) {
            let known: Vec<&str> = runners.keys().map(String::as_str).collect();
            return Err(usage(format!(
                "could not use the config `{}`: fix names {name:?}, which is no runner that can fix; there are: {}",
                path.display(),
                known.join(", ")
            )));
        }
    }
    let base = Fixes::default();
    Ok(Fixes {
        runner: file.runner.clone().or_else(|| file.escalate.first().cloned()),
        escalate: file.escalate.clone(),
        thresholds: thresholds(file, path)?,
        map: file.map.unwrap_or(base.map),
        nudge: file.nudge.unwrap_or(base.nudge),
        stop: file.stop.unwrap_or(base.stop),
        runners,
    })
}

fn thresholds(file: &FixFile, path: &Path) -> Result<Thresholds> {
    let base = Thresholds::default();
    let share = |value: Option<f64>, key: &str, default: f64| match value {
        Some(value) if !(0.0..=1.0).contains(&value) => Err(usage(format!(
            "could not use the config `{}`: fix.{key} is {value}; 0 to 1 is possible",
            path.display()
        ))),
        value => Ok(value.unwrap_or(default)),
    };
    Ok(Thresholds {
        same_ratio: share(file.same_ratio, "same_ratio", base.same_ratio)?,
        rework_share: share(file.rework_share, "rework_share", base.rework_share)?,
        novel_tokens: file.novel_tokens.unwrap_or(base.novel_tokens),
        novel_share: share(file.novel_share, "novel_share", base.novel_share)?,
        halt: file.halt.unwrap_or(base.halt).max(1),
        rollback: file.rollback.unwrap_or(base.rollback).max(1),
        same_failure: file.same_failure.unwrap_or(base.same_failure).max(1),
        replans: file.replans.unwrap_or(base.replans).max(1),
    })
}

/// Built-in runners with their settings, and those of the config: by `fix`, else by `worker`.
fn runners(env: &Env, parsed: &ConfigFile, path: &Path) -> Result<BTreeMap<String, WorkerRunner>> {
    let strings = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let mut runners = BTreeMap::new();
    for BuiltIn { name, argv, env: names, effort } in BUILT_IN {
        let mut runner = WorkerRunner { argv: strings(argv), env: strings(names), ..WorkerRunner::default() };
        if let Some(own) = parsed.runners.get(name) {
            for (option, value) in [(effort, &own.effort), (Some("--model"), &own.model)] {
                if let (Some(option), Some(value)) = (option, value) {
                    runner.argv.extend([option.to_owned(), value.clone()]);
                }
            }
            runner.env.extend(own.env.iter().cloned());
            runner.free = own.free;
            runner.has_token_cmd = own.token_cmd.is_some();
            runner.write = paths(env, &own.write, &format!("runners.{name}.write"), path)?;
        }
        runners.insert(name.to_owned(), runner);
    }
    for (name, own) in &parsed.runners {
        let is_known = runners.contains_key(name);
        if own.http.is_some() && own.fix.is_none() && own.worker.is_none() {
            // Without a command: it is asked over HTTP, and needs no variable but that of its key.
            runners.insert(
                name.clone(),
                WorkerRunner {
                    env: own.key_env.iter().cloned().collect(),
                    free: own.free,
                    ..WorkerRunner::default()
                },
            );
            continue;
        }
        let Some(argv) = own.fix.as_ref().or(own.worker.as_ref().filter(|_| !is_known)) else { continue };
        if argv.first().is_none_or(String::is_empty) {
            return Err(usage(format!(
                "could not use the config `{}`: runners.{name}.fix is empty",
                path.display()
            )));
        }
        let write = paths(env, &own.write, &format!("runners.{name}.write"), path)?;
        runners.insert(
            name.clone(),
            WorkerRunner {
                argv: argv.clone(),
                env: own.env.clone(),
                write,
                free: own.free,
                has_token_cmd: own.token_cmd.is_some(),
                ..WorkerRunner::default()
            },
        );
    }
    Ok(runners)
}
