//! The worker settings of the config: runners, checks and limits.

use std::collections::BTreeMap;

use super::form::{RunnerFile, VerifyFile};
use super::{ConfigSource, Problem};
use crate::agents::{AGENTS, Agent, RESUME_TASK, WORK_TASK};
use crate::rules::beat::settings::{WorkerRunner, Workers};
use crate::rules::lease::Ttl;
use crate::rules::worker::WorkerLimits;

impl ConfigSource<'_> {
    /// The part of the settings that is about workers.
    pub(super) fn workers(&self) -> Workers {
        let base = WorkerLimits::default();
        let limits = &self.file.limits;
        let ttl_s = limits.lease_ttl.map_or(base.ttl_s, |span| u64::try_from(span.0 / 1000).unwrap_or(0));
        if let Err(why) = Ttl::try_from(ttl_s) {
            self.refuse(Problem::about("limits.lease_ttl", &why.to_string()));
        }
        let ms = |span, key, default| self.above_0(span, &format!("limits.{key}"), default);
        Workers {
            runner: self.env.get("LOOOP_WORKER").map(str::to_owned).or_else(|| self.file.worker.clone()),
            runners: self.worker_runners(),
            verify: self.checks(),
            objects: self.file.objects,
            notify: self.file.notify.clone(),
            on_lost: limits.on_lost,
            limits: WorkerLimits {
                wall_ms: ms(limits.worker_wall, "worker_wall", base.wall_ms),
                idle_ms: ms(limits.worker_idle, "worker_idle", base.idle_ms),
                verify_ms: ms(limits.verify_timeout, "verify_timeout", base.verify_ms),
                on_limit: limits.on_limit,
                limit_margin_ms: ms(limits.limit_margin, "limit_margin", base.limit_margin_ms),
                limit_waits: limits.limit_waits.unwrap_or(base.limit_waits),
                cost_micros: self.dollars(self.file.budget.worker_usd, "budget.worker_usd"),
                ttl_s,
                ..base
            },
            tmux: self.env.get("TMUX").map(str::to_owned),
        }
    }

    fn worker_runners(&self) -> BTreeMap<String, WorkerRunner> {
        let mut runners: BTreeMap<String, WorkerRunner> = BTreeMap::new();
        for agent in AGENTS {
            let Ok(mode) = &agent.work else { continue };
            let mut runner = self.agent(agent, mode.set);
            runner.status = mode.status;
            runner.argv.extend(self.options(agent, mode.has_effort));
            let words = |args: &str, task: &str| -> Vec<String> {
                args.split_whitespace().map(|arg| arg.replace("{task}", task)).collect()
            };
            if !mode.resume.is_empty() {
                runner.resume = [runner.argv.clone(), words(mode.resume, RESUME_TASK)].concat();
            }
            runner.argv.extend([words(mode.session, ""), words(mode.args, WORK_TASK)].concat());
            runners.insert(agent.name.to_owned(), runner);
        }
        for (name, own) in &self.file.runners {
            let Some(argv) = &own.worker else { continue };
            if !argv.is_empty() && !argv.iter().any(|arg| arg.contains("{brief}")) {
                let why = "has no `{brief}`, so the worker would not get its brief";
                let hint = "put \"{brief}\" where the command expects the path of its brief";
                self.refuse(Problem::of(format!("runners.{name}.worker"), why).hint(hint));
            }
            // A command of the user's own for a known program may load its status file.
            let status = runners.get(name).and_then(|known| known.status);
            runners.insert(name.clone(), WorkerRunner { status, ..command(own, argv) });
        }
        runners
    }

    /// An agent CLI as the config has it, without its arguments.
    pub(super) fn agent(&self, agent: &Agent, set: &[(&str, &str)]) -> WorkerRunner {
        let mut runner = match self.file.runners.get(agent.name) {
            Some(own) => command(own, &[]),
            None => WorkerRunner::default(),
        };
        runner.argv.push(agent.name.to_owned());
        runner.set = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        runner.env.splice(..0, agent.env_names().map(str::to_owned));
        // What looop sets wins over what the environment has.
        runner.env.retain(|name| runner.set.iter().all(|(key, _)| key != name));
        runner
    }

    /// The options for the model and the effort of an agent CLI.
    pub(super) fn options(&self, agent: &Agent, has_effort: bool) -> Vec<String> {
        let Some(own) = self.file.runners.get(agent.name) else { return Vec::new() };
        let model = own.model.as_ref().map(|model| ["--model".to_owned(), model.clone()]);
        let effort = own.effort.as_deref().filter(|_| has_effort).zip(agent.effort);
        let effort = effort.map(|(value, option)| option(value));
        model.into_iter().chain(effort).flatten().collect()
    }

    /// Says which runners have an `effort` in the config and no option for it.
    pub(super) fn without_effort(&self) -> impl Iterator<Item = String> {
        let lacks = |agent: &&Agent| {
            let own = self.file.runners.get(agent.name);
            own.is_some_and(|own| own.effort.is_some() && own.http.is_none())
                && agent.fix.is_ok()
                && agent.effort.is_none()
        };
        AGENTS.into_iter().filter(lacks).map(|agent| {
            let name = agent.name;
            format!("runners.{name}.effort has no effect: {name} has no such option")
        })
    }

    /// The checks of `verify`, each with its commands.
    fn checks(&self) -> BTreeMap<String, Vec<Vec<String>>> {
        let all = self.file.verify.iter().map(|(name, entry)| {
            let checks = match entry {
                VerifyFile::One(argv) => vec![argv.clone()],
                VerifyFile::All(all) => all.clone(),
            };
            if checks.is_empty() || checks.iter().any(|argv| names_no_program(argv)) {
                self.refuse(Problem::of(format!("verify.{name}"), "names no program"));
            }
            (name.clone(), checks)
        });
        all.collect()
    }
}

pub(super) fn names_no_program(argv: &[String]) -> bool {
    argv.first().is_none_or(String::is_empty)
}

/// A command of the config.
pub(super) fn command(own: &RunnerFile, argv: &[String]) -> WorkerRunner {
    WorkerRunner {
        argv: argv.to_vec(),
        env: own.env.clone(),
        write: own.write.clone(),
        free: own.free,
        on_limit: own.on_limit,
        has_token_cmd: own.token_cmd.is_some(),
        ..WorkerRunner::default()
    }
}
