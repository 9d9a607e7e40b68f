//! The task at work: its state in the session, its ledger, and the calls of agents for it.

use std::path::Path;

use anyhow::Result;

use super::agent::Fixer;
use super::ctx::{AgentReply, FixContext};
use super::leanfile::Task;
use crate::os::clock;
use crate::rules::cost::charge::{Charge, Usage};
use crate::rules::fix::attempt::{EpisodeState, LedgerLine};
use crate::rules::fix::{FixSession, TaskState, TaskStatus};
use crate::rules::worker::protocol::WireRequest;
use crate::store::file::{self, Durability};
use crate::store::{fixes, ledger};
use crate::worker::client;

/// One task at work.
pub(super) struct TaskRun<'a> {
    pub ctx: &'a FixContext<'a>,
    /// Who is called, in order of escalation.
    pub agents: &'a [Fixer],
    pub task: &'a Task,
    /// The state of the whole run, which is saved at each step.
    pub session: &'a mut FixSession,
    /// The number of the task in the session.
    pub at: usize,
}

impl<'a> TaskRun<'a> {
    /// Who is called after so many new plans.
    pub fn agent(&self, plans: usize) -> &'a Fixer {
        &self.agents[plans.min(self.agents.len() - 1)]
    }

    pub fn state(&self) -> &TaskState {
        &self.session.tasks[self.at]
    }

    pub fn state_mut(&mut self) -> &mut TaskState {
        &mut self.session.tasks[self.at]
    }

    pub fn set(&mut self, status: TaskStatus, note: impl Into<String>) {
        let state = self.state_mut();
        (state.status, state.note) = (status, note.into());
    }

    pub fn save(&self) -> Result<()> {
        self.ctx.save(self.session)
    }

    pub fn ledger(&self) -> Result<Vec<LedgerLine>> {
        fixes::ledger(&self.ctx.dir, &self.state().goal)
    }

    pub fn append(&self, line: &LedgerLine) -> Result<()> {
        fixes::append(&self.ctx.dir, &self.state().goal, line)
    }

    /// The ref of an attempt, or of a checkpoint.
    pub fn ref_of(&self, kind: &str, n: u32) -> String {
        format!("refs/looop/{kind}/{}/{n}", self.state().goal)
    }

    /// The tree of the episode's base.
    pub fn base(&self, now: &EpisodeState) -> String {
        now.begin.map_or_else(|| self.session.tree.clone(), |begin| begin.base.clone())
    }

    /// Keeps the last output of the tests for the next prompt.
    pub fn keep_output(&self, output: &str) -> Result<()> {
        let path = self.ctx.dir.output(&self.state().goal);
        file::write(&path, output.as_bytes(), 0o600, Durability::Atomic)
    }

    /// The last output of the tests; empty if unknown, or if the task has no tests.
    pub fn kept_output(&self) -> String {
        let path = self.ctx.dir.output(&self.state().goal);
        let kept = || file::read_text(&path, 4 << 20).ok().flatten();
        if self.task.skip_tests { String::new() } else { kept().unwrap_or_default() }
    }

    /// Calls an agent, and writes down what it used for the goal.
    pub fn call(&mut self, agent: &Fixer, prompt: &str, cwd: &Path) -> Result<AgentReply> {
        let (ctx, agents) = (self.ctx, self.agents);
        ctx.check()?;
        ctx.at.take();
        let reply = agent.call(ctx, prompt, cwd)?;
        let tokens = reply.usage.tokens();
        let state = self.state_mut();
        state.tokens = state.tokens.saturating_add(tokens);
        // Tokens that were paid for did not stay local.
        if agent.name == agents[0].name && reply.usage.cost_micros == 0 {
            state.local_tokens = state.local_tokens.saturating_add(tokens);
        }
        state.estimated |= reply.is_estimated();
        self.charge(agent, &reply.usage)?;
        ctx.check()?;
        Ok(reply)
    }

    /// Writes down what a call used: a worker's goes through its supervisor, which minds the worker's budget.
    fn charge(&self, agent: &Fixer, usage: &Usage) -> Result<()> {
        let deps = self.ctx.deps;
        let usage = usage.clone();
        if let Some(socket) = &deps.socket {
            return client::call(socket, WireRequest::Spend(usage.into())).map(drop);
        }
        let goal = Some(self.state().goal.to_string());
        let charge = Charge::new(clock::now(), self.ctx.id.as_str(), &agent.name, usage);
        ledger::append(deps.layout, &Charge { goal, ..charge })
    }
}
