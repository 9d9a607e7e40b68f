//! The fix settings of the config: runners, their order, and when an agent is stopped.

use std::collections::BTreeMap;

use super::workers::command;
use super::{ConfigSource, Problem};
use crate::agents::{AGENTS, FIX_TASK};
use crate::rules::beat::settings::{Fixes, WorkerRunner};
use crate::rules::fix::attempt::BreakerConfig;

impl ConfigSource<'_> {
    /// The part of the settings that is about fixes.
    pub(super) fn fixes(&self) -> Fixes {
        let file = &self.file.fix;
        let base = BreakerConfig::default();
        let share = |value: Option<f64>, key: &str, default: f64| {
            if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                self.refuse(Problem::of(format!("fix.{key}"), &format!("is {value}; expected 0 to 1")));
            }
            value.unwrap_or(default)
        };
        let thresholds = BreakerConfig {
            same_ratio: share(file.same_ratio, "same_ratio", base.same_ratio),
            rework_share: share(file.rework_share, "rework_share", base.rework_share),
            novel_tokens: file.novel_tokens.unwrap_or(base.novel_tokens),
            novel_share: share(file.novel_share, "novel_share", base.novel_share),
            halt: file.halt.unwrap_or(base.halt).max(1),
            rollback: file.rollback.unwrap_or(base.rollback).max(1),
            same_failure: file.same_failure.unwrap_or(base.same_failure).max(1),
            replans: file.replans.unwrap_or(base.replans).max(1),
        };
        let base = Fixes::default();
        Fixes {
            runner: file.runner.clone().or_else(|| file.escalate.first().cloned()),
            escalate: file.escalate.clone(),
            thresholds,
            map: file.map.unwrap_or(base.map),
            warn: file.warn.unwrap_or(base.warn),
            stop: file.stop.unwrap_or(base.stop),
            runners: self.fix_runners(),
        }
    }

    /// The built-in runners with their settings, and the runners of the config, by `fix` or else by `worker`.
    fn fix_runners(&self) -> BTreeMap<String, WorkerRunner> {
        let mut runners = BTreeMap::new();
        for agent in AGENTS {
            let Ok(mode) = &agent.fix else { continue };
            let mut runner = self.agent(agent, mode.set);
            runner.argv.extend(mode.args.split_whitespace().map(|arg| arg.replace("{task}", FIX_TASK)));
            runner.argv.extend(self.options(agent, true));
            runners.insert(agent.name.to_owned(), runner);
        }
        for (name, own) in &self.file.runners {
            let is_known = runners.contains_key(name);
            if own.http.is_some() && own.fix.is_none() && own.worker.is_none() {
                // An endpoint has no command: it is called over HTTP, and needs only the variable of its key.
                let env = own.key_env.iter().cloned().collect();
                runners.insert(name.clone(), WorkerRunner { env, free: own.free, ..WorkerRunner::default() });
                continue;
            }
            let Some(argv) = own.fix.as_ref().or(own.worker.as_ref().filter(|_| !is_known)) else { continue };
            runners.insert(name.clone(), command(own, argv));
        }
        runners
    }
}
