//! The worker settings of the config: runners, checks and limits.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::boxes::paths;
use super::form::{ConfigFile, RunnerFile, VerifyFile};
use super::{Env, dollars, usage};
use crate::agents::{AGENTS, Agent, Effort, WORK_TASK};
use crate::model::fault::Fault;
use crate::model::lease::Ttl;
use crate::model::settings::{WorkerRunner, Workers};
use crate::model::worker::WorkerLimits;

/// The part of the settings that is about workers.
pub(super) fn of(env: &Env, parsed: &ConfigFile, path: &Path) -> Result<Workers> {
    let mut runners: BTreeMap<String, WorkerRunner> = BTreeMap::new();
    for agent in AGENTS {
        let Ok(mode) = &agent.work else { continue };
        let mut runner = of_agent(env, parsed, path, agent, mode.set)?;
        runner.status = mode.status;
        runner.argv.extend(options(parsed, agent, mode.effort));
        runner.argv.extend(mode.args.split_whitespace().map(|arg| arg.replace("{task}", WORK_TASK)));
        runners.insert(agent.name.to_owned(), runner);
    }
    for (name, own) in &parsed.runners {
        if let Some(argv) = &own.worker {
            if argv.is_empty() {
                return Err(usage(format!(
                    "could not use the config `{}`: runners.{name}.worker is empty",
                    path.display()
                )));
            }
            if !argv.iter().any(|arg| arg.contains("{brief}")) {
                let what = format!(
                    "could not use the config `{}`: runners.{name}.worker has no `{{brief}}`, so the worker would not get its brief",
                    path.display()
                );
                return Err(Fault::usage(what)
                    .hint("put \"{brief}\" where the command expects the path of its brief")
                    .into());
            }
            // A command of the user's own for a known program may load its status file.
            let status = runners.get(name).and_then(|known| known.status);
            let runner = of_command(env, name, own, argv, path)?;
            runners.insert(name.clone(), WorkerRunner { status, ..runner });
        }
    }
    let verify = checks(parsed, path)?;
    let base = WorkerLimits::default();
    let limits = &parsed.limits;
    let ttl_s = limits.lease_ttl.map_or(base.ttl_s, |span| u64::try_from(span.0 / 1000).unwrap_or(0));
    Ttl::try_from(ttl_s).map_err(|why| {
        usage(format!("could not use the config `{}`: limits.lease_ttl: {why}", path.display()))
    })?;
    let runner = env.get("LOOOP_WORKER").map(str::to_owned).or_else(|| parsed.worker.clone());
    Ok(Workers {
        runner,
        runners,
        verify,
        objects: parsed.objects,
        notify: parsed.notify.clone(),
        limits: WorkerLimits {
            wall_ms: limits.worker_wall.map_or(base.wall_ms, |span| span.0.max(1)),
            idle_ms: limits.worker_idle.map_or(base.idle_ms, |span| span.0.max(1)),
            verify_ms: limits.verify_timeout.map_or(base.verify_ms, |span| span.0.max(1)),
            cost_micros: dollars(parsed.budget.worker_usd, "budget.worker_usd", path)?,
            ttl_s,
            ..base
        },
        tmux: env.get("TMUX").map(str::to_owned),
    })
}

/// An agent CLI as the config has it, without its arguments.
pub(super) fn of_agent(
    env: &Env,
    parsed: &ConfigFile,
    path: &Path,
    agent: &Agent,
    set: &[(&str, &str)],
) -> Result<WorkerRunner> {
    let mut runner = WorkerRunner {
        argv: vec![agent.name.to_owned()],
        env: agent.env_names().map(str::to_owned).collect(),
        set: set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..WorkerRunner::default()
    };
    if let Some(own) = parsed.runners.get(agent.name) {
        runner.env.extend(own.env.iter().cloned());
        runner.free = own.free;
        runner.has_token_cmd = own.token_cmd.is_some();
        runner.write = paths(env, &own.write, &format!("runners.{}.write", agent.name), path)?;
    }
    // What looop sets wins over what the environment has.
    runner.env.retain(|name| runner.set.iter().all(|(key, _)| key != name));
    Ok(runner)
}

/// A command of the config.
pub(super) fn of_command(
    env: &Env,
    name: &str,
    own: &RunnerFile,
    argv: &[String],
    path: &Path,
) -> Result<WorkerRunner> {
    let write = paths(env, &own.write, &format!("runners.{name}.write"), path)?;
    let (argv, env) = (argv.to_vec(), own.env.clone());
    let has_token_cmd = own.token_cmd.is_some();
    Ok(WorkerRunner { argv, env, write, free: own.free, has_token_cmd, ..WorkerRunner::default() })
}

/// The options for the model and the effort of an agent CLI.
pub(super) fn options(parsed: &ConfigFile, agent: &Agent, effort: Option<Effort>) -> Vec<String> {
    let Some(own) = parsed.runners.get(agent.name) else { return Vec::new() };
    let model = own.model.as_ref().map(|model| ["--model".to_owned(), model.clone()]);
    let effort = own.effort.as_deref().zip(effort).map(|(value, effort)| effort(value));
    model.into_iter().chain(effort).flatten().collect()
}

/// Says which runners have an `effort` in the config and no option for it.
pub(super) fn without_effort(parsed: &ConfigFile) -> impl Iterator<Item = String> {
    let lacks = |agent: &&Agent| {
        let own = parsed.runners.get(agent.name);
        own.is_some_and(|own| own.effort.is_some() && own.http.is_none())
            && agent.fix.as_ref().is_ok_and(|fix| fix.effort.is_none())
    };
    AGENTS.into_iter().filter(lacks).map(|agent| {
        let name = agent.name;
        format!("runners.{name}.effort has no effect: {name} has no such option")
    })
}

/// The checks of `verify`, each with its commands.
fn checks(parsed: &ConfigFile, path: &Path) -> Result<BTreeMap<String, Vec<Vec<String>>>> {
    let mut verify = BTreeMap::new();
    for (name, entry) in &parsed.verify {
        let checks = match entry {
            VerifyFile::One(argv) => vec![argv.clone()],
            VerifyFile::All(all) => all.clone(),
        };
        if checks.is_empty() || checks.iter().any(|argv| argv.first().is_none_or(String::is_empty)) {
            return Err(usage(format!(
                "could not use the config `{}`: verify.{name} is an empty command",
                path.display()
            )));
        }
        verify.insert(name.clone(), checks);
    }
    Ok(verify)
}
