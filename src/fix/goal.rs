//! One task: attempts until one is good, as long as the rule over its ledger allows.

use anyhow::Result;

use super::context::{self, Parts};
use super::ctx::FixContext;
use super::leanfile::Task;
use super::{FixRequest, Tone, attempt, call, compress, health, plan, stuck};
use crate::model::attempt::{Begin, EpisodeState, LedgerLine, RepairPlan, Rollback, Ruling, rule, standing};
use crate::model::fix::{Counts, FixSession, TaskStatus};
use crate::model::time::human_ms;
use crate::store::fixes;
use crate::sys::clock::{self, Deadline};

/// Works on the task with this number and stores its status in the run.
pub(super) fn work(ctx: &FixContext, run: &mut FixSession, at: usize, asked: &FixRequest) -> Result<()> {
    let began = Deadline::after_ms(0);
    let spent_before = run.tasks[at].took_ms;
    let worked = steps(ctx, run, at, asked);
    run.tasks[at].took_ms = spent_before.saturating_add(began.spent_ms());
    ctx.save(run)?;
    worked
}

fn steps(ctx: &FixContext, run: &mut FixSession, at: usize, asked: &FixRequest) -> Result<()> {
    let task = &asked.tasks[at];
    let title = format!("[{}/{}] {}", at + 1, asked.tasks.len(), task.name);
    ctx.say(Tone::Plain, title.clone());
    if run.tasks[at].status != TaskStatus::Running && !open(ctx, run, at, task, asked)? {
        return Ok(());
    }
    loop {
        ctx.check()?;
        let lines = fixes::ledger(&ctx.dir, &run.tasks[at].goal)?;
        let now = standing(&lines);
        let first = run.tasks[at].first;
        if let Some(last) = now.attempts.last().filter(|last| last.n >= first && last.outcome.is_good()) {
            done(ctx, run, at, task, last);
            return Ok(());
        }
        let made = now.attempts.iter().filter(|attempt| attempt.n >= first).count();
        let most = ctx.leanfile.defaults.max_iters_per_task.max(1) as usize;
        match rule(&lines, ctx.limits()) {
            Ruling::Parked(ask) => {
                if !stuck::answered(ctx, run, at, &ask, &now)? {
                    return Ok(());
                }
            }
            Ruling::Ask(why) => {
                if !stuck::ask(ctx, run, at, &why, &now)? {
                    return Ok(());
                }
            }
            _ if made >= most => {
                let note = now.attempts.last().map_or(String::new(), |last| last.failure.clone());
                set(run, at, TaskStatus::Failed, format!("{made} attempts; {note}"));
                ctx.say(Tone::Bad, format!("{title}: failed after {made} attempts"));
                return Ok(());
            }
            Ruling::Replan => replan(ctx, run, at, task, &now)?,
            Ruling::RollBack => roll_back(ctx, run, at, &now)?,
            Ruling::GoOn => attempt::make(ctx, run, at, task, &lines)?,
        }
    }
}

fn set(run: &mut FixSession, at: usize, status: TaskStatus, note: String) {
    run.tasks[at].status = status;
    run.tasks[at].note = note;
}

/// Starts a task: its tests run once before anything is done. False if there is nothing to do.
fn open(ctx: &FixContext, run: &mut FixSession, at: usize, task: &Task, asked: &FixRequest) -> Result<bool> {
    let goal = run.tasks[at].goal.clone();
    let lines = fixes::ledger(&ctx.dir, &goal)?;
    let digest = blake3::hash(format!("{task:?}").as_bytes()).to_hex().to_string();
    let now = standing(&lines);
    let same = now.begin.is_some_and(|old| old.base == run.tree && old.task == digest);
    if same && let Some(ask) = now.asked.filter(|_| stuck::is_open(ctx, now.asked)) {
        // Nothing is started while the user's answer is missing.
        set(run, at, TaskStatus::Stuck, ask.to_owned());
        ctx.say(Tone::Warn, format!("it waits for your answer: looop answer {ask}"));
        return Ok(false);
    }
    health::wait(&ctx.leanfile.health, ctx.cancel, &mut |text| ctx.say(Tone::Warn, text))?;
    ctx.ready(&run.tree)?;
    run.tasks[at].first = EpisodeState::next(&lines);
    let mut begin = Begin {
        at_ms: clock::now().unix_ms,
        base: run.tree.clone(),
        task: digest,
        signature: None,
        failures: None,
    };
    if !task.skip_tests {
        ctx.say(Tone::Busy, "the tests run");
        let tested = ctx.tester().test(task, &ctx.cwd())?;
        call::keep_output(ctx, &goal, &tested.output)?;
        begin.signature = tested.report.signature();
        begin.failures = tested.report.failures();
        run.tasks[at].before = Some(Counts::of(&tested.report));
        let words = format!("before: {} ({})", tested.report.words(), human_ms(tested.took_ms));
        ctx.say(Tone::Plain, words);
        if tested.report.passed && !asked.force {
            let note = "its tests passed at the start; no agent was called";
            set(run, at, TaskStatus::PassedBefore, note.to_owned());
            ctx.say(Tone::Good, note);
            return Ok(false);
        }
    }
    ctx.ready(&run.tree)?;
    fixes::append(&ctx.dir, &goal, &LedgerLine::Begin(begin))?;
    if asked.fresh && same {
        let after = now.attempts.last().map_or(0, |last| last.n);
        fixes::append(
            &ctx.dir,
            &goal,
            &LedgerLine::Rollback(Rollback { at_ms: clock::now().unix_ms, after }),
        )?;
    }
    set(run, at, TaskStatus::Running, String::new());
    ctx.save(run)?;
    Ok(true)
}

fn done(
    ctx: &FixContext,
    run: &mut FixSession,
    at: usize,
    task: &Task,
    last: &crate::model::attempt::Attempt,
) {
    let status = if task.skip_tests { TaskStatus::Untested } else { TaskStatus::Done };
    let files = last.files.len();
    let note = match run.tree == last.end {
        true => "nothing was changed".to_owned(),
        false => format!("attempt {} changed {files} {}", last.n, if files == 1 { "file" } else { "files" }),
    };
    ctx.say(Tone::Good, format!("{}: {note}", status.words()));
    run.tree = last.end.clone();
    run.under_way = None;
    set(run, at, status, note);
}

fn replan(ctx: &FixContext, run: &mut FixSession, at: usize, task: &Task, now: &EpisodeState) -> Result<()> {
    let goal = run.tasks[at].goal.clone();
    let after = now.attempts.last().map_or(0, |last| last.n);
    ctx.say(Tone::Warn, format!("halted: {} attempts in a row are alike; a new plan is required", now.row));
    let git = ctx.git()?;
    if let Some(last) = now.attempts.last() {
        // A checkpoint of the state that a rollback drops.
        let name = format!("refs/looop/attempts/{goal}/{}", last.n);
        if let Some(commit) = ctx.trees.find(&git, &name)? {
            ctx.trees.point(&git, &format!("refs/looop/checkpoints/{goal}/{}", last.n), &commit)?;
        }
    }
    let taken = now.plans.iter().filter(|plan| plan.refused.is_none()).count();
    let agent = ctx.agent(taken + 1).clone();
    let output = call::kept_output(ctx, &goal);
    let (failure, left_out) =
        compress::compress(&output, call::kind_of(&output), ctx.leanfile.defaults.error_tail_lines);
    let base = now.begin.map_or(run.tree.clone(), |begin| begin.base.clone());
    let left = now.attempts.last().map_or(base.clone(), |last| last.left.clone());
    let diff = ctx.trees.diff(&git, &base, &left, 3)?;
    let parts = Parts {
        task: &task.prompt,
        attempts: &now.attempts,
        failure: Some((failure.as_str(), left_out)),
        diff: &diff,
        budget: task.context_chars(),
        answer: now.answer,
        ..Parts::default()
    };
    let prompt = context::replan(&parts, &now.plans);
    ctx.say(Tone::Busy, format!("{} makes a new plan", agent.name));
    let reply = ctx.call(run, at, &agent, &prompt, &ctx.empty()?)?;
    let (hypothesis, different) = match &reply.text {
        Ok(text) => plan::parse(text),
        Err(_) => (String::new(), String::new()),
    };
    let refused = match &reply.text {
        Ok(_) => plan::refusal(&hypothesis, &different, &now.plans, ctx.limits()),
        Err(why) => Some(format!("the call failed: {why}")),
    };
    match &refused {
        Some(why) => ctx.say(Tone::Warn, format!("the plan of {} is refused: {why}", agent.name)),
        None => ctx.say(Tone::Plain, format!("the plan of {}: {hypothesis}; {different}", agent.name)),
    }
    let at_ms = clock::now().unix_ms;
    let plan = RepairPlan { at_ms, after, runner: agent.name.clone(), hypothesis, different, refused };
    fixes::append(&ctx.dir, &goal, &LedgerLine::Plan(plan))?;
    ctx.save(run)
}

fn roll_back(ctx: &FixContext, run: &mut FixSession, at: usize, now: &EpisodeState) -> Result<()> {
    let goal = run.tasks[at].goal.clone();
    let after = now.attempts.last().map_or(0, |last| last.n);
    ctx.say(
        Tone::Warn,
        format!("rolled back: {} attempts in a row are alike; back to the base in a new clone", now.row),
    );
    ctx.fresh(&run.tree)?;
    fixes::append(&ctx.dir, &goal, &LedgerLine::Rollback(Rollback { at_ms: clock::now().unix_ms, after }))
}
