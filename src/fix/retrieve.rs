//! Finds more files for the prompt, besides those that a task lists: those that the failure and the task's
//! words point to.

use super::Tone;
use super::context::Shown;
use super::ctx::FixContext;
use super::leanfile::Task;
use super::sources::{self, Sources};
use crate::map::{self, MapLimits, Question};
use crate::model::signature;

/// The most files to add.
const MAX_FILES: usize = 6;
/// The timeout of the map, in milliseconds.
const MAP_MS: i64 = 10_000;

/// Adds files after the listed ones, so that the listed ones use the budget first. `paths` are all files that
/// the agent may see. If the map fails, no file is added.
pub(super) fn add(ctx: &FixContext, sources: &mut Sources, task: &Task, output: &str, paths: &[String]) {
    if !ctx.settings.fixes.map || !map::IS_BUILT_IN {
        return;
    }
    let root = ctx.cwd();
    let limits = MapLimits { timeout_ms: MAP_MS, ..MapLimits::default() };
    let index = match map::open(&root, Some(&ctx.dir.map()), &limits) {
        Ok((index, _)) => index,
        Err(error) => return ctx.say(Tone::Warn, format!("no code map: {error:#}")),
    };
    let output = if task.skip_tests { "" } else { output };
    let report = signature::read(output, &signature::TestExit::Code(1), &root.to_string_lossy());
    let answer = map::ask(&index, &Question { failure: output, frame: &report.frame, words: &task.prompt });
    let listed = |path: &str| sources.files.iter().any(|shown| shown.path == path);
    let wanted = answer.files.iter().filter(|_| answer.aimed);
    let wanted = wanted.filter(|file| !listed(&file.path) && paths.contains(&file.path));
    let mut left = task.context_chars();
    let mut added = Vec::new();
    for file in wanted.take(MAX_FILES) {
        // Files that cannot be read are skipped: the task did not ask for them.
        let Ok(text) = sources::one(&ctx.dir.work(), &ctx.sub.join(&file.path)) else { continue };
        let Some(rest) = left.checked_sub(text.len()) else { continue };
        left = rest;
        let why = file.why.first().cloned().unwrap_or_default();
        added.push(Shown { path: file.path.clone(), text: Ok(text), retrieved: Some(why) });
    }
    sources.files.extend(added);
}
