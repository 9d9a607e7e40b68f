//! One task: attempts until one is good, as long as the rule over its ledger allows.

use anyhow::Result;

use super::compress::summarize;
use super::task::TaskRun;
use super::{Tone, context, endpoint, plan, stuck, testing};
use crate::os::clock::{self, Deadline};
use crate::rules::fix::attempt::{
    Attempt, Begin, EpisodeState, LedgerLine, RepairPlan, Rollback, Ruling, rule, standing,
};
use crate::rules::fix::{Counts, TaskStatus};
use crate::rules::time::human_ms;

/// Works on a task and stores its status in the session.
pub(super) fn work(run: &mut TaskRun) -> Result<()> {
    let began = Deadline::after_ms(0);
    let spent_before = run.state().took_ms;
    let worked = run.steps();
    run.state_mut().took_ms = spent_before.saturating_add(began.spent_ms());
    run.save()?;
    worked
}

impl TaskRun<'_> {
    fn steps(&mut self) -> Result<()> {
        let ctx = self.ctx;
        let title = format!("[{}/{}] {}", self.at + 1, ctx.request.tasks.len(), self.task.name);
        ctx.say(Tone::Plain, title.clone());
        if self.state().status != TaskStatus::Running && !self.open()? {
            return Ok(());
        }
        let mut goes_on = true;
        while goes_on {
            ctx.check()?;
            let lines = self.ledger()?;
            let now = standing(&lines);
            let first = self.state().first;
            if let Some(last) = now.last().filter(|last| last.n >= first && last.outcome.is_good()) {
                self.done(last);
                return Ok(());
            }
            let made = now.attempts.iter().filter(|attempt| attempt.n >= first).count();
            let most = ctx.defaults().max_iters_per_task.max(1) as usize;
            match rule(&lines, ctx.limits()) {
                Ruling::Parked(ask) => goes_on = stuck::answered(self, &ask, &now)?,
                Ruling::Ask(why) => goes_on = stuck::ask(self, &why, &now)?,
                _ if made >= most => {
                    let failure = now.last().map_or("", |last| &last.failure);
                    self.set(TaskStatus::Failed, format!("{made} attempts; {failure}"));
                    ctx.say(Tone::Bad, format!("{title}: failed after {made} attempts"));
                    goes_on = false;
                }
                Ruling::Replan => self.replan(&now)?,
                Ruling::RollBack => self.roll_back(&now)?,
                Ruling::GoOn => self.make_attempt(&lines)?,
            }
        }
        Ok(())
    }

    /// Starts a task: its tests run once before anything is done. False if there is nothing to do.
    fn open(&mut self) -> Result<bool> {
        let ctx = self.ctx;
        let lines = self.ledger()?;
        let digest = blake3::hash(format!("{:?}", self.task).as_bytes()).to_hex().to_string();
        let now = standing(&lines);
        let base = self.session.tree.clone();
        let same = now.begin.is_some_and(|old| old.base == base && old.task == digest);
        if same && let Some(ask) = now.asked.filter(|ask| stuck::is_open(ctx, ask)) {
            // Nothing is started while the user's answer is missing.
            stuck::wait(self, ask);
            return Ok(false);
        }
        endpoint::wait(ctx)?;
        ctx.ready(&base)?;
        self.state_mut().first = EpisodeState::next(&lines);
        let mut begin = Begin {
            at_ms: clock::now().unix_ms,
            base: base.clone(),
            task: digest,
            signature: None,
            failures: None,
        };
        if !self.task.skip_tests {
            let tested = testing::test(ctx, self.task)?;
            self.keep_output(&tested.output)?;
            begin.signature = tested.report.signature();
            begin.failures = tested.report.failures();
            self.state_mut().before = Some(Counts::of(&tested.report));
            let words = format!("before: {} ({})", tested.report.words(), human_ms(tested.took_ms));
            ctx.say(Tone::Plain, words);
            if tested.report.passed && !ctx.request.force {
                let note = "its tests passed at the start; no agent was called";
                self.set(TaskStatus::PassedBefore, note);
                ctx.say(Tone::Good, note);
                return Ok(false);
            }
        }
        ctx.ready(&base)?;
        self.append(&LedgerLine::Begin(begin))?;
        if ctx.request.fresh && same {
            self.append_rollback(&now)?;
        }
        self.set(TaskStatus::Running, "");
        self.save()?;
        Ok(true)
    }

    fn done(&mut self, last: &Attempt) {
        let status = if self.task.skip_tests { TaskStatus::Untested } else { TaskStatus::Done };
        let files = last.files.len();
        let word = if files == 1 { "file" } else { "files" };
        let note = match self.session.tree == last.end {
            true => "nothing was changed".to_owned(),
            false => format!("attempt {} changed {files} {word}", last.n),
        };
        self.ctx.say(Tone::Good, format!("{status}: {note}"));
        self.session.tree = last.end.clone();
        self.session.under_way = None;
        self.set(status, note);
    }

    fn replan(&mut self, now: &EpisodeState) -> Result<()> {
        let ctx = self.ctx;
        let row = now.row;
        ctx.say(Tone::Warn, format!("halted: {row} attempts in a row are alike; a new plan is required"));
        let git = ctx.git()?;
        let base = self.base(now);
        let mut left = &base;
        if let Some(last) = now.last() {
            left = &last.left;
            // A checkpoint of the state that a rollback drops.
            if let Some(commit) = ctx.trees.find(&git, &self.ref_of("attempts", last.n))? {
                ctx.trees.point(&git, &self.ref_of("checkpoints", last.n), &commit)?;
            }
        }
        let agent = self.agent(now.accepted_plans() + 1);
        let (failure, _) = summarize(&self.kept_output(), ctx.defaults().error_tail_lines);
        let diff = ctx.trees.diff(&git, &base, left, 3)?;
        let prompt = context::replan(self.task, now, &failure, &diff);
        ctx.step(format!("{} makes a new plan", agent.name));
        let reply = self.call(agent, &prompt, &ctx.empty()?)?;
        let plan = reply.text.as_deref().map(plan::parse).unwrap_or_default();
        let refused = match &reply.text {
            Ok(_) => plan::refusal(&plan, &now.plans, ctx.limits()),
            Err(why) => Some(format!("the call failed: {why}")),
        };
        let (at_ms, after, runner) = (clock::now().unix_ms, now.last_n(), agent.name.clone());
        let plan = RepairPlan { at_ms, after, runner, refused, ..plan };
        let RepairPlan { runner, hypothesis, different, .. } = &plan;
        match &plan.refused {
            Some(why) => ctx.say(Tone::Warn, format!("the plan of {runner} is refused: {why}")),
            None => ctx.say(Tone::Plain, format!("the plan of {runner}: {hypothesis}; {different}")),
        }
        self.append(&LedgerLine::Plan(plan))?;
        self.save()
    }

    fn roll_back(&mut self, now: &EpisodeState) -> Result<()> {
        let row = now.row;
        self.ctx.say(
            Tone::Warn,
            format!("rolled back: {row} attempts in a row are alike; back to the base in a new clone"),
        );
        self.ctx.fresh(&self.session.tree)?;
        self.append_rollback(now)
    }

    fn append_rollback(&self, now: &EpisodeState) -> Result<()> {
        let (at_ms, after) = (clock::now().unix_ms, now.last_n());
        self.append(&LedgerLine::Rollback(Rollback { at_ms, after }))
    }
}
