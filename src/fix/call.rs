//! The calls of an attempt: the prompt, the diagnosis before it, and the data that is kept for the next call.

use anyhow::Result;

use super::agent::Fixer;
use super::compress::{compress, diagnosis};
use super::context::{self, Built, Parts};
use super::desk::Desk;
use super::leanfile::{CONTEXT_BUDGET, Task};
use super::{Tone, hands, retrieve, sources, testing};
use crate::model::attempt::Standing;
use crate::model::fix::{Called, Run, UnderWay};
use crate::model::name::Name;
use crate::model::signature::{self, Kind};
use crate::store::file;

/// The most characters of files in a task's prompt.
pub(super) fn budget(task: &Task) -> usize {
    task.context_budget.unwrap_or(CONTEXT_BUDGET)
}

/// Keeps the last output of the tests for the next prompt.
pub(super) fn keep_output(desk: &Desk, goal: &Name, output: &str) -> Result<()> {
    file::write(&desk.dir.output(goal), output.as_bytes(), 0o600, file::Keep::Whole)
}

/// The last output of the tests; empty if unknown.
pub(super) fn kept_output(desk: &Desk, goal: &Name) -> String {
    file::read_text(&desk.dir.output(goal), 4 << 20).ok().flatten().unwrap_or_default()
}

/// The test framework that printed an output.
pub(super) fn kind_of(output: &str) -> Kind {
    signature::read(output, &signature::Ended::Code(1), "/").kind
}

/// Asks for a diagnosis if there is a failure to explain, then calls the agent in the clone. The state of the
/// call is saved before and after it.
pub(super) fn call(
    desk: &Desk,
    run: &mut Run,
    at: usize,
    task: &Task,
    now: &Standing,
    under: &mut UnderWay,
) -> Result<()> {
    let taken = now.plans.iter().filter(|plan| plan.refused.is_none()).count();
    let chosen = desk.agent(taken).clone();
    let most = desk.leanfile.defaults.max_iters_per_task;
    let nth = under.n + 1 - run.tasks[at].first;
    // A new run of the same task counts its attempts from one; the ledger continues its numbers.
    let number = if nth == under.n { String::new() } else { format!(", #{} in all", under.n) };
    let title = format!("attempt {nth} of {most}{number}: {} is", chosen.name);
    let output = if task.skip_tests { String::new() } else { kept_output(desk, &under.goal) };
    let failure = compress(&output, kind_of(&output), desk.leanfile.defaults.error_tail_lines);
    let wanted = desk.leanfile.defaults.summarize_errors && !now.attempts.is_empty() && !failure.0.is_empty();
    if under.hypothesis.is_empty() && wanted {
        desk.say(Tone::Busy, format!("{title} asked what is wrong"));
        under.hypothesis = diagnose(desk, run, at, task, &chosen, &failure.0)?;
    }
    run.under_way = Some(under.clone());
    desk.save(run)?;
    desk.say(Tone::Plain, format!("{title} called"));
    let built = prompt(desk, run, task, now, under, &failure, &chosen)?;
    for cut in built.cut.iter().filter(|_| nth == 1) {
        desk.say(Tone::Warn, format!("not shown to the agent: {cut}"));
    }
    let mut said = desk.call(run, at, &chosen, &built.text, &desk.cwd())?;
    if chosen.is_endpoint()
        && let Ok(answer) = &said.text
        && let Err(why) = hands::edit(&desk.dir.work(), &desk.cwd(), answer)?
    {
        said.text = Err(why);
    }
    if let Some(command) = &said.looped {
        desk.say(Tone::Warn, format!("it repeated the same command: {command}"));
    }
    run.looped = said.looped.clone();
    under.called = Some(Called {
        tokens: said.tokens(),
        estimated: said.is_estimated(),
        runner: chosen.name,
        took_ms: said.took_ms,
        failed: said.text.err(),
    });
    run.under_way = Some(under.clone());
    desk.save(run)
}

fn diagnose(
    desk: &Desk,
    run: &mut Run,
    at: usize,
    task: &Task,
    agent: &Fixer,
    failure: &str,
) -> Result<String> {
    let summary = desk.leanfile.prompts.summary.as_deref();
    let prompt = context::diagnosis(summary, &task.prompt, &command(task), failure);
    // The agent gets an empty directory, because for a diagnosis it must not edit anything.
    let said = desk.call(run, at, agent, &prompt, &desk.empty()?)?;
    let found = said.text.ok().and_then(|text| diagnosis(&text, failure)).unwrap_or_default();
    if !found.is_empty() {
        desk.say(Tone::Plain, format!("diagnosis: {found}"));
    }
    Ok(found)
}

fn prompt(
    desk: &Desk,
    run: &Run,
    task: &Task,
    now: &Standing,
    under: &UnderWay,
    (failure, left_out): &(String, usize),
    chosen: &Fixer,
) -> Result<Built> {
    let git = desk.git()?;
    let base = now.begin.map_or(run.tree.as_str(), |begin| begin.base.as_str());
    let diff = desk.trees.diff(&git, base, &under.start, 3)?;
    let paths = here(desk, &desk.trees.paths(&git, &under.start)?);
    let mut listed = sources::read(&desk.dir.work(), &desk.sub, listed(task), &paths);
    retrieve::add(desk, &mut listed, task, &kept_output(desk, &under.goal), &paths);
    let mut parts = Parts {
        by_words: chosen.is_endpoint(),
        task: &task.prompt,
        global: &desk.leanfile.defaults.global_message,
        files: &listed.files,
        unmatched: &listed.unmatched,
        budget: budget(task),
        window: desk.leanfile.defaults.source_window,
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
            if parts.budget < budget(task) {
                let why = format!(
                    "context_budget is {} and {} was used: {} gets its prompt as one argument",
                    budget(task),
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
fn here(desk: &Desk, paths: &[String]) -> Vec<String> {
    let prefix = desk.sub.to_string_lossy();
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
    crate::model::ask::quote_argv(&testing::argv(&task.runner, &task.test_files))
}
