//! The calls of an attempt: the prompt, the diagnosis before it, and the data that is kept for the next call.

use anyhow::Result;

use super::agent::Fixer;
use super::compress::{compress, diagnosis};
use super::context::{self, Built, Parts};
use super::ctx::FixContext;
use super::leanfile::Task;
use super::{Tone, hands, retrieve, sources, testing};
use crate::model::attempt::EpisodeState;
use crate::model::fix::{Called, FixSession, UnderWay};
use crate::model::name::Name;
use crate::model::signature::{self, TestFramework};
use crate::store::file;

/// Keeps the last output of the tests for the next prompt.
pub(super) fn keep_output(ctx: &FixContext, goal: &Name, output: &str) -> Result<()> {
    file::write(&ctx.dir.output(goal), output.as_bytes(), 0o600, file::Durability::Whole)
}

/// The last output of the tests; empty if unknown.
pub(super) fn kept_output(ctx: &FixContext, goal: &Name) -> String {
    file::read_text(&ctx.dir.output(goal), 4 << 20).ok().flatten().unwrap_or_default()
}

/// The test framework that printed an output.
pub(super) fn kind_of(output: &str) -> TestFramework {
    signature::read(output, &signature::TestExit::Code(1), "/").kind
}

/// Asks for a diagnosis if there is a failure to explain, then calls the agent in the clone. The state of the
/// call is saved before and after it.
pub(super) fn call(
    ctx: &FixContext,
    run: &mut FixSession,
    at: usize,
    task: &Task,
    now: &EpisodeState,
    under: &mut UnderWay,
) -> Result<()> {
    let taken = now.plans.iter().filter(|plan| plan.refused.is_none()).count();
    let chosen = ctx.agent(taken).clone();
    let most = ctx.leanfile.defaults.max_iters_per_task;
    let nth = under.n + 1 - run.tasks[at].first;
    // A new run of the same task counts its attempts from one; the ledger continues its numbers.
    let number = if nth == under.n { String::new() } else { format!(", #{} in all", under.n) };
    let title = format!("attempt {nth} of {most}{number}: {} is", chosen.name);
    let output = if task.skip_tests { String::new() } else { kept_output(ctx, &under.goal) };
    let failure = compress(&output, kind_of(&output), ctx.leanfile.defaults.error_tail_lines);
    let wanted = ctx.leanfile.defaults.summarize_errors && !now.attempts.is_empty() && !failure.0.is_empty();
    if under.hypothesis.is_empty() && wanted {
        ctx.say(Tone::Busy, format!("{title} asked what is wrong"));
        under.hypothesis = diagnose(ctx, run, at, task, &chosen, &failure.0)?;
    }
    run.under_way = Some(under.clone());
    ctx.save(run)?;
    ctx.say(Tone::Plain, format!("{title} called"));
    let built = prompt(ctx, run, task, now, under, &failure, &chosen)?;
    for cut in built.cut.iter().filter(|_| nth == 1) {
        ctx.say(Tone::Warn, format!("not shown to the agent: {cut}"));
    }
    let mut reply = ctx.call(run, at, &chosen, &built.text, &ctx.cwd())?;
    if chosen.is_endpoint()
        && let Ok(answer) = &reply.text
        && let Err(why) = hands::edit(&ctx.dir.work(), &ctx.cwd(), answer)?
    {
        reply.text = Err(why);
    }
    if let Some(command) = &reply.looped {
        ctx.say(Tone::Warn, format!("it repeated the same command: {command}"));
    }
    run.looped = reply.looped.clone();
    under.called = Some(Called {
        tokens: reply.tokens(),
        estimated: reply.is_estimated(),
        runner: chosen.name,
        took_ms: reply.took_ms,
        failed: reply.text.err(),
    });
    run.under_way = Some(under.clone());
    ctx.save(run)
}

fn diagnose(
    ctx: &FixContext,
    run: &mut FixSession,
    at: usize,
    task: &Task,
    agent: &Fixer,
    failure: &str,
) -> Result<String> {
    let summary = ctx.leanfile.prompts.summary.as_deref();
    let prompt = context::diagnosis(summary, &task.prompt, &command(task), failure);
    // The agent gets an empty directory, because for a diagnosis it must not edit anything.
    let reply = ctx.call(run, at, agent, &prompt, &ctx.empty()?)?;
    let found = reply.text.ok().and_then(|text| diagnosis(&text, failure)).unwrap_or_default();
    if !found.is_empty() {
        ctx.say(Tone::Plain, format!("diagnosis: {found}"));
    }
    Ok(found)
}

fn prompt(
    ctx: &FixContext,
    run: &FixSession,
    task: &Task,
    now: &EpisodeState,
    under: &UnderWay,
    (failure, left_out): &(String, usize),
    chosen: &Fixer,
) -> Result<Built> {
    let git = ctx.git()?;
    let base = now.begin.map_or(run.tree.as_str(), |begin| begin.base.as_str());
    let diff = ctx.trees.diff(&git, base, &under.start, 3)?;
    let paths = here(ctx, &ctx.trees.paths(&git, &under.start)?);
    let mut listed = sources::read(&ctx.dir.work(), &ctx.sub, listed(task), &paths);
    retrieve::add(ctx, &mut listed, task, &kept_output(ctx, &under.goal), &paths);
    let mut parts = Parts {
        by_words: chosen.is_endpoint(),
        task: &task.prompt,
        global: &ctx.leanfile.defaults.global_message,
        files: &listed.files,
        unmatched: &listed.unmatched,
        budget: task.context_chars(),
        window: ctx.leanfile.defaults.source_window,
        diff: &diff,
        command: &command(task),
        failure: (!failure.is_empty()).then_some((failure.as_str(), *left_out)),
        hypothesis: &under.hypothesis,
        attempts: &now.attempts,
        plan: now.plans.iter().rev().find(|plan| plan.refused.is_none()).copied(),
        answer: now.answer,
        looped: run.looped.as_deref(),
    };
    loop {
        let mut built = context::attempt(&parts);
        if built.text.len() <= chosen.max_prompt_bytes() || parts.budget == 0 {
            if parts.budget < task.context_chars() {
                let why = format!(
                    "context_budget is {} and {} was used: {} gets its prompt as one argument",
                    task.context_chars(),
                    parts.budget,
                    chosen.name
                );
                built.cut.push(why);
            }
            return Ok(built);
        }
        parts.budget /= 2;
    }
}

/// The files that a task lists; without a list, the tests that decide.
fn listed(task: &Task) -> &[String] {
    if task.files.is_empty() { &task.test_files } else { &task.files }
}

/// Converts paths in the project to paths from the task's directory, without those outside of it.
fn here(ctx: &FixContext, paths: &[String]) -> Vec<String> {
    let prefix = ctx.sub.to_string_lossy();
    if prefix.is_empty() {
        return paths.to_vec();
    }
    let prefix = format!("{prefix}/");
    paths.iter().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned).collect()
}

fn command(task: &Task) -> String {
    if task.skip_tests {
        return String::new();
    }
    crate::model::text::quote_argv(&testing::argv(&task.runner, &task.test_files))
}
