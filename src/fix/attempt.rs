//! One attempt: diagnosis, call, changes, tests, and its line in the ledger.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::ctx::FixContext;
use super::guard::{self, Judged, shrunk};
use super::leanfile::Task;
use super::{Tone, call, context, testing};
use crate::model::attempt::alike::{Sample, alike};
use crate::model::attempt::{Attempt, AttemptOutcome, EpisodeState, LedgerLine, delta, standing};
use crate::model::fix::{Counts, FixSession, UnderWay};
use crate::model::time::human_ms;
use crate::store::fixes;
use crate::sys::clock::{self, Deadline};
use crate::vcs::clone::{TreeDifference, is_empty};

/// The largest diff that is analysed, in bytes.
const MAX_DIFF_BYTES: usize = 1 << 20;
/// The number of remembered diffs: an attempt is compared with the two before it.
const MAX_DELTAS: usize = 12;

/// Makes the next attempt of a task, or finishes an interrupted one.
pub(super) fn make(
    ctx: &FixContext,
    run: &mut FixSession,
    at: usize,
    task: &Task,
    lines: &[LedgerLine],
) -> Result<()> {
    let now = standing(lines);
    let n = EpisodeState::next(lines);
    let goal = run.tasks[at].goal.clone();
    let going = run.under_way.take().filter(|under| under.goal == goal && under.n == n);
    let is_resumed = going.is_some();
    let mut under = match going {
        Some(under) => under,
        None => {
            UnderWay { goal, n, start: left(&now, lines, &run.tree), hypothesis: String::new(), called: None }
        }
    };
    if is_resumed {
        keep_cut(ctx, &under)?;
        let taken = now.plans.iter().filter(|plan| plan.refused.is_none()).count();
        if under.called.is_none() && ctx.agent(taken).is_endpoint() {
            // The edits of an endpoint are applied together; a crash may have applied some of them.
            ctx.ready(&under.start)?;
        }
    } else {
        ctx.ready(&under.start)?;
    }
    if under.called.is_none() {
        call::call(ctx, run, at, task, &now, &mut under)?;
    }
    judge(ctx, run, at, task, &now, &under)
}

/// The tree from which the next attempt starts.
fn left(now: &EpisodeState, lines: &[LedgerLine], base: &str) -> String {
    let last = lines
        .iter()
        .rev()
        .find(|line| matches!(line, LedgerLine::Attempt(_) | LedgerLine::Rollback(_) | LedgerLine::Begin(_)));
    match (last, now.attempts.last()) {
        (Some(LedgerLine::Rollback(_)), _) | (_, None) => base.to_owned(),
        // Another run of the same episode continues with the result of the one before.
        (_, Some(attempt)) => attempt.left.clone(),
    }
}

/// Keeps the edits of an interrupted call under their own ref, and resumes with them.
fn keep_cut(ctx: &FixContext, under: &UnderWay) -> Result<()> {
    if !ctx.is_clone() {
        return ctx.fresh(&under.start);
    }
    // The result of a completed call is judged, and kept then.
    if under.called.is_some() {
        return Ok(());
    }
    if let Some(why) = ctx.unfit()? {
        ctx.say(Tone::Warn, format!("the edits of the interrupted call are dropped: {why}"));
        return ctx.fresh(&under.start);
    }
    let tree = ctx.snapshot()?;
    if tree != under.start {
        let git = ctx.git()?;
        let commit = ctx.trees.commit(&git, &tree, None, "The edits of an interrupted call")?;
        ctx.trees.point(&git, &format!("refs/looop/attempts/{}/{}-cut", under.goal, under.n), &commit)?;
    }
    Ok(())
}

/// The judgment of an attempt.
struct AttemptJudgment {
    outcome: AttemptOutcome,
    end: String,
    left: String,
    signature: Option<String>,
    failure: String,
    failures: Option<u32>,
}

fn judge(
    ctx: &FixContext,
    run: &mut FixSession,
    at: usize,
    task: &Task,
    now: &EpisodeState,
    under: &UnderWay,
) -> Result<()> {
    let began = Deadline::after_ms(0);
    let verdict = verdict(ctx, run, at, task, under)?;
    let called = under.called.clone().context("could not judge an attempt that was never made")?;
    let base = now.begin.map_or(run.tree.clone(), |begin| begin.base.clone());
    let (sample, earlier) = samples(ctx, now, &base, under, &verdict.end)?;
    let (added, removed) = delta::counts(&sample.delta);
    let attempt = Attempt {
        n: under.n,
        at_ms: clock::now().unix_ms,
        runner: called.runner,
        base,
        start: under.start.clone(),
        end: verdict.end,
        left: verdict.left,
        files: sample.delta.iter().map(|file| file.path.clone()).collect(),
        added,
        removed,
        outcome: verdict.outcome,
        signature: verdict.signature,
        failure: verdict.failure,
        failures: verdict.failures,
        hypothesis: under.hypothesis.clone(),
        like: alike(&sample, &earlier, ctx.limits()),
        tokens: called.tokens,
        estimated: called.estimated,
        took_ms: called.took_ms.saturating_add(began.spent_ms()),
    };
    let git = ctx.git()?;
    let parent = now.attempts.last().map(|last| format!("refs/looop/attempts/{}/{}", under.goal, last.n));
    let parent = match parent {
        Some(name) => ctx.trees.find(&git, &name)?,
        None => None,
    };
    let message = format!("attempt {}: {}", attempt.n, attempt.outcome.words());
    let commit =
        ctx.trees.commit(&git, &attempt.end, Some(parent.as_deref().unwrap_or(&run.base)), &message)?;
    ctx.trees.point(&git, &format!("refs/looop/attempts/{}/{}", under.goal, attempt.n), &commit)?;
    let tone = if attempt.outcome.is_good() { Tone::Good } else { Tone::Warn };
    ctx.say(tone, shown(&attempt));
    fixes::append(&ctx.dir, &under.goal, &LedgerLine::Attempt(Box::new(attempt)))?;
    run.under_way = None;
    ctx.save(run)
}

/// An attempt as a progress line: the cost first, and without the diagnosis, which was shown before.
fn shown(attempt: &Attempt) -> String {
    let about = if attempt.estimated { "~" } else { "" };
    let took = format!("{}, {about}{} tokens", human_ms(attempt.took_ms), attempt.tokens);
    let line = context::attempt_line(&Attempt { hypothesis: String::new(), ..attempt.clone() });
    match line.split_once(": ") {
        Some((head, rest)) => format!("{head} ({took}): {rest}"),
        None => format!("{line} ({took})"),
    }
}

/// An attempt and the two before it, newest first, with the base as the last. Only compared diffs are computed.
fn samples(
    ctx: &FixContext,
    now: &EpisodeState,
    base: &str,
    under: &UnderWay,
    end: &str,
) -> Result<(Sample, Vec<Sample>)> {
    let git = ctx.git()?;
    let parsed = |from: &str, to: &str| -> Result<Vec<delta::FileDelta>> {
        let key = (from.to_owned(), to.to_owned());
        if let Some(known) = ctx.deltas.borrow().get(&key) {
            return Ok(known.clone());
        }
        let diff = ctx.trees.diff(&git, from, to, 1)?;
        let delta = delta::parse(&diff[..diff.floor_char_boundary(MAX_DIFF_BYTES)]);
        let mut deltas = ctx.deltas.borrow_mut();
        if deltas.len() >= MAX_DELTAS {
            deltas.clear();
        }
        deltas.insert(key, delta.clone());
        Ok(delta)
    };
    let of = |n: u32, start: &str, end: &str| -> Result<Sample> {
        let delta = parsed(start, end)?;
        // The diffs from the base are those of fresh starts, which begin with the same files.
        let from_base = match start {
            _ if start == base => delta.clone(),
            _ if start == under.start => parsed(base, end)?,
            _ => Vec::new(),
        };
        Ok(Sample { n, start: start.to_owned(), end: end.to_owned(), delta, before: Vec::new(), from_base })
    };
    let sample = Sample { before: parsed(base, &under.start)?, ..of(under.n, &under.start, end)? };
    let mut earlier = Vec::new();
    for old in now.attempts.iter().rev().take(2) {
        earlier.push(of(old.n, &old.start, &old.end)?);
    }
    earlier.push(Sample { n: 0, start: base.to_owned(), end: base.to_owned(), ..Sample::default() });
    Ok((sample, earlier))
}

fn verdict(
    ctx: &FixContext,
    run: &FixSession,
    at: usize,
    task: &Task,
    under: &UnderWay,
) -> Result<AttemptJudgment> {
    let ended = |outcome: AttemptOutcome, failure: String, end: &str, left: &str| AttemptJudgment {
        outcome,
        end: end.to_owned(),
        left: left.to_owned(),
        signature: None,
        failure,
        failures: None,
    };
    let start = under.start.as_str();
    let git = ctx.git()?;
    if !ctx.is_in_clone() {
        ctx.fresh(start)?;
        return Ok(ended(AttemptOutcome::Deleted, "its clone was deleted".to_owned(), start, start));
    }
    let kept = match ctx.unfit()? {
        Some(why) => Err(why),
        None => ctx.snapshot().map_err(|error| format!("{error:#}")),
    };
    let end = match kept {
        Ok(end) => end,
        Err(why) => {
            ctx.fresh(start)?;
            let failure = format!("its result could not be stored: {why}");
            return Ok(ended(AttemptOutcome::AgentFailed, failure, start, start));
        }
    };
    if is_empty(&end) && !is_empty(start) {
        ctx.fresh(start)?;
        return Ok(ended(AttemptOutcome::Deleted, "no file was left".to_owned(), start, start));
    }
    let failed = under.called.as_ref().and_then(|called| called.failed.clone());
    if let Some(why) = failed.filter(|_| end == start || task.skip_tests) {
        return Ok(ended(AttemptOutcome::AgentFailed, why, &end, &end));
    }
    let changes = ctx.trees.changes(&git, start, &end)?;
    let paths: Vec<String> =
        changes.iter().map(|change| change.path.to_string_lossy().into_owned()).collect();
    let judged = judged(ctx, task);
    let before: BTreeSet<String> = match paths.iter().any(|path| judged.is_test(path)) {
        true => ctx.trees.paths(&git, &run.base_tree)?.into_iter().collect(),
        false => BTreeSet::new(),
    };
    let mut touched = judged.touched(&paths, &before);
    if guard::runs_package_scripts(&testing::argv(&task.runner, &[])) {
        touched.extend(package_scripts(ctx, &changes)?);
    }
    if !touched.is_empty() && !task.skip_tests {
        let left = put_back(ctx, &changes, &touched)?;
        return Ok(ended(
            AttemptOutcome::TestsChanged,
            format!("it changed {}, which is restored", touched.join(", ")),
            &end,
            &left,
        ));
    }
    if task.skip_tests {
        return after(ctx, task, ended(AttemptOutcome::Untested, String::new(), &end, &end));
    }
    tested(ctx, run, at, task, under, end)
}

/// Tests the result of an agent.
fn tested(
    ctx: &FixContext,
    run: &FixSession,
    at: usize,
    task: &Task,
    under: &UnderWay,
    end: String,
) -> Result<AttemptJudgment> {
    ctx.say(Tone::Busy, "the tests run");
    let tested = ctx.tester().test(task, &ctx.cwd())?;
    let report = &tested.report;
    call::keep_output(ctx, &under.goal, &tested.output)?;
    // Files that tests leave behind are not the agent's work.
    ctx.ready(&end)?;
    let counts = Counts::of(report);
    let fewer =
        run.tasks[at].before.as_ref().filter(|_| report.passed).and_then(|before| shrunk(before, &counts));
    if let Some(why) = fewer {
        ctx.ready(&under.start)?;
        return Ok(AttemptJudgment {
            outcome: AttemptOutcome::TestsChanged,
            end,
            left: under.start.clone(),
            signature: None,
            failure: format!("{why}; the attempt is undone"),
            failures: None,
        });
    }
    let outcome = match (report.passed, report.empty) {
        (true, _) => AttemptOutcome::Passed,
        (false, true) => AttemptOutcome::NothingTested,
        (false, false) => AttemptOutcome::Failed,
    };
    let failure = if report.passed { String::new() } else { report.words() };
    let verdict = AttemptJudgment {
        outcome,
        left: end.clone(),
        end,
        signature: report.signature(),
        failure: ctx.settings.secrets.redact(&failure).into_owned(),
        failures: report.failures(),
    };
    if report.passed { after(ctx, task, verdict) } else { Ok(verdict) }
}

/// Runs the `after` commands of good work; their changes belong to the work.
fn after(ctx: &FixContext, task: &Task, mut verdict: AttemptJudgment) -> Result<AttemptJudgment> {
    for line in &task.after {
        ctx.say(Tone::Plain, format!("after: {line}"));
        let timeout_s = ctx.leanfile.defaults.after_command_timeout;
        if let Some(why) = ctx.tester().after(line, &ctx.cwd(), timeout_s)? {
            verdict.outcome = AttemptOutcome::AfterFailed;
            verdict.failure = why;
            ctx.ready(&verdict.end)?;
            return Ok(verdict);
        }
    }
    if !task.after.is_empty() {
        if let Some(why) = ctx.unfit()? {
            verdict.outcome = AttemptOutcome::AfterFailed;
            verdict.failure = format!("its result could not be stored: {why}");
            ctx.fresh(&verdict.end)?;
            return Ok(verdict);
        }
        verdict.end = ctx.snapshot()?;
        verdict.left = verdict.end.clone();
    }
    Ok(verdict)
}

/// The `package.json` of the task, if its test scripts have changed.
fn package_scripts<'a>(ctx: &FixContext, changes: &'a [TreeDifference]) -> Result<Option<&'a str>> {
    let path = ctx.below_top("package.json");
    let Some(change) = changes.iter().find(|change| change.path == Path::new(&path)) else { return Ok(None) };
    let git = ctx.git()?;
    let text = |side: &Option<(u32, String)>| -> Result<Vec<u8>> {
        side.as_ref().map_or(Ok(Vec::new()), |(_, blob)| ctx.trees.blob(&git, blob))
    };
    let is_same = guard::same_scripts(&text(&change.old)?, &text(&change.new)?);
    Ok((!is_same).then(|| change.path.to_str()).flatten())
}

fn judged(ctx: &FixContext, task: &Task) -> Judged {
    let from_top = |names: &[String]| names.iter().map(|name| ctx.below_top(name)).collect::<Vec<_>>();
    // If a task names the tests that decide, other test files in its list are part of its work.
    let allowed: &[String] = if task.test_files.is_empty() { &[] } else { &task.files };
    let tests = from_top(&task.test_files);
    let argv = testing::argv(&task.runner, &[]);
    Judged {
        prefixes: ctx.leanfile.defaults.test_prefix.clone(),
        allowed: from_top(allowed).into_iter().filter(|path| !tests.contains(path)).collect(),
        tests,
        words: guard::scripts(&argv).iter().map(|word| ctx.below_top(word)).collect(),
    }
}

/// Restores files to their state before an attempt, and returns the resulting tree.
fn put_back(ctx: &FixContext, changes: &[TreeDifference], paths: &[&str]) -> Result<String> {
    let git = ctx.git()?;
    for change in changes.iter().filter(|change| paths.contains(&&*change.path.to_string_lossy())) {
        ctx.trees.put_back(&git, &ctx.dir.work(), change)?;
    }
    ctx.snapshot()
}
