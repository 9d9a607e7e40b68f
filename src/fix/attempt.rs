//! One attempt: diagnosis, prompt, call, changes, tests, and its line in the ledger.

use std::path::Path;

use anyhow::Result;

use super::agent::Fixer;
use super::context::{self, Built, Parts};
use super::ctx::FixContext;
use super::guard::{self, ProtectedFiles, shrunk};
use super::leanfile::Task;
use super::summary::{diagnosis, summarize};
use super::task::TaskRun;
use super::{Severity, edits, sources, testing};
use crate::os::clock::{self, Deadline};
use crate::rules::fix::attempt::similarity::{AttemptDiff, similarity};
use crate::rules::fix::attempt::{Attempt, AttemptOutcome, EpisodeState, LedgerLine, delta, episode_state};
use crate::rules::fix::{Called, Counts, UnderWay};
use crate::rules::time::human_ms;
use crate::rules::user_side::TreeDifference;
use crate::vcs::clone::is_empty;

/// The largest diff that is analysed, in bytes.
const MAX_DIFF_BYTES: usize = 1 << 20;

impl TaskRun<'_> {
    /// Makes the next attempt, or finishes an interrupted one.
    pub(super) fn make_attempt(&mut self, lines: &[LedgerLine]) -> Result<()> {
        let ctx = self.ctx;
        let now = episode_state(lines);
        let n = EpisodeState::next(lines);
        let goal = self.state().goal.clone();
        let cut = self.session.under_way.clone().filter(|under| under.goal == goal && under.n == n);
        let mut under = match cut {
            Some(under) => {
                self.keep_cut(&under)?;
                if under.called.is_none() && self.agent(now.accepted_plans()).is_endpoint() {
                    // The edits of an endpoint are applied together; a crash may have applied some of them.
                    ctx.ready(&under.start)?;
                }
                under
            }
            None => {
                let start = next_start(&now, lines, &self.session.tree);
                ctx.ready(&start)?;
                UnderWay { goal, n, start, hypothesis: String::new(), called: None }
            }
        };
        let called = match under.called.take() {
            Some(called) => called,
            None => self.call_for_attempt(&now, &mut under)?,
        };
        self.judge(&now, &under, called)
    }

    /// Keeps the edits of an interrupted call under their own ref, and resumes with them.
    fn keep_cut(&self, under: &UnderWay) -> Result<()> {
        let ctx = self.ctx;
        if !ctx.is_clone() {
            return ctx.fresh(&under.start);
        }
        // The result of a completed call is judged, and kept then.
        if under.called.is_some() {
            return Ok(());
        }
        if let Some(why) = ctx.unfit()? {
            ctx.say(Severity::Warn, format!("the edits of the interrupted call are dropped: {why}"));
            return ctx.fresh(&under.start);
        }
        let tree = ctx.snapshot()?;
        if tree != under.start {
            let git = ctx.git()?;
            let commit = ctx.trees.commit(&git, &tree, None, "The edits of an interrupted call")?;
            ctx.trees.point(&git, &format!("{}-cut", self.ref_of("attempts", under.n)), &commit)?;
        }
        Ok(())
    }

    /// Asks for a diagnosis if there is a failure to explain, then calls the agent in the clone. The state of the
    /// call is saved before and after it.
    fn call_for_attempt(&mut self, now: &EpisodeState, under: &mut UnderWay) -> Result<Called> {
        let ctx = self.ctx;
        let agent = self.agent(now.accepted_plans());
        let defaults = ctx.defaults();
        let most = defaults.max_iters_per_task;
        let nth = under.n + 1 - self.state().first;
        // A new run of the same task counts its attempts from one; the ledger continues its numbers.
        let number = if nth == under.n { String::new() } else { format!(", #{} in all", under.n) };
        let title = format!("attempt {nth} of {most}{number}: {} is", agent.name);
        let failure = summarize(&self.kept_output(), defaults.error_tail_lines);
        let wanted = defaults.summarize_errors && !now.attempts.is_empty() && !failure.0.is_empty();
        if under.hypothesis.is_empty() && wanted {
            ctx.step(format!("{title} asked what is wrong"));
            under.hypothesis = self.diagnose(agent, &failure.0)?;
        }
        self.session.under_way = Some(under.clone());
        self.save()?;
        ctx.say(Severity::Plain, format!("{title} called"));
        let built = self.prompt(now, under, &failure, agent)?;
        for cut in built.cut.iter().filter(|_| nth == 1) {
            ctx.say(Severity::Warn, format!("not shown to the agent: {cut}"));
        }
        let mut reply = self.call(agent, &built.text, &ctx.cwd())?;
        if agent.is_endpoint()
            && let Ok(answer) = &reply.text
            && let Err(why) = edits::make(&ctx.work(), &ctx.cwd(), answer)?
        {
            reply.text = Err(why);
        }
        if let Some(command) = &reply.looped {
            ctx.say(Severity::Warn, format!("it repeated the same command: {command}"));
        }
        let called = Called {
            tokens: reply.usage.tokens(),
            estimated: reply.is_estimated(),
            runner: agent.name.clone(),
            took_ms: reply.took_ms,
            failed: reply.text.err(),
            tree: None,
        };
        self.session.looped = reply.looped;
        self.session.under_way = Some(UnderWay { called: Some(called.clone()), ..under.clone() });
        self.save()?;
        Ok(called)
    }

    fn diagnose(&mut self, agent: &Fixer, failure: &str) -> Result<String> {
        let ctx = self.ctx;
        let summary = ctx.request.leanfile.prompts.summary.as_deref();
        let prompt = context::diagnosis(summary, self.task, failure);
        // The agent gets an empty directory, because for a diagnosis it must not edit anything.
        let reply = self.call(agent, &prompt, &ctx.empty()?)?;
        let found = reply.text.ok().and_then(|text| diagnosis(&text, failure)).unwrap_or_default();
        if !found.is_empty() {
            ctx.say(Severity::Plain, format!("diagnosis: {found}"));
        }
        Ok(found)
    }

    fn prompt(
        &self,
        now: &EpisodeState,
        under: &UnderWay,
        (failure, left_out): &(String, usize),
        agent: &Fixer,
    ) -> Result<Built> {
        let (ctx, task) = (self.ctx, self.task);
        let git = ctx.git()?;
        let diff = ctx.trees.diff(&git, &self.base(now), &under.start, 3)?;
        let all = ctx.trees.paths(&git, &under.start)?;
        // Paths from the task's directory, without those outside of it.
        let here = all.iter().filter_map(|path| Path::new(path).strip_prefix(&ctx.sub).ok()?.to_str());
        let paths: Vec<String> = here.map(str::to_owned).collect();
        let budget = task.context_chars();
        let mut parts = Parts {
            by_words: agent.is_endpoint(),
            task,
            defaults: ctx.defaults(),
            sources: &sources::of_task(ctx, task, &self.kept_output(), &paths),
            budget,
            diff: &diff,
            failure: (failure, *left_out),
            hypothesis: &under.hypothesis,
            now,
            looped: self.session.looped.as_deref(),
        };
        let mut built = context::attempt(&parts);
        while built.text.len() > agent.max_prompt_bytes() && parts.budget > 0 {
            parts.budget /= 2;
            built = context::attempt(&parts);
        }
        if parts.budget < budget {
            let (used, name) = (parts.budget, &agent.name);
            built.cut.push(format!(
                "context_budget is {budget} and {used} was used: {name} gets its prompt as one argument"
            ));
        }
        Ok(built)
    }

    fn judge(&mut self, now: &EpisodeState, under: &UnderWay, called: Called) -> Result<()> {
        let ctx = self.ctx;
        let began = Deadline::after_ms(0);
        let mut attempt = Attempt {
            n: under.n,
            runner: called.runner,
            base: self.base(now),
            start: under.start.clone(),
            end: under.start.clone(),
            left: under.start.clone(),
            hypothesis: under.hypothesis.clone(),
            tokens: called.tokens,
            estimated: called.estimated,
            ..Attempt::default()
        };
        self.verdict(&mut attempt, called.failed, called.tree)?;
        let (sample, earlier) = samples(ctx, now, &attempt)?;
        (attempt.added, attempt.removed) = delta::counts(&sample.delta);
        attempt.files = sample.delta.iter().map(|file| file.path.clone()).collect();
        attempt.like = similarity(&sample, &earlier, ctx.limits());
        attempt.at_ms = clock::now().unix_ms;
        attempt.took_ms = called.took_ms.saturating_add(began.spent_ms());
        let git = ctx.git()?;
        let before = now.last().map(|last| ctx.trees.find(&git, &self.ref_of("attempts", last.n)));
        let before = before.transpose()?.flatten();
        let parent = before.as_ref().unwrap_or(&self.session.base);
        let message = format!("attempt {}: {}", attempt.n, attempt.outcome);
        let commit = ctx.trees.commit(&git, &attempt.end, Some(parent), &message)?;
        ctx.trees.point(&git, &self.ref_of("attempts", attempt.n), &commit)?;
        let severity = if attempt.outcome.is_good() { Severity::Good } else { Severity::Warn };
        ctx.say(severity, shown(&attempt));
        self.append(&LedgerLine::Attempt(Box::new(attempt)))?;
        self.session.under_way = None;
        self.save()
    }

    /// Sets how an attempt ended, and the trees at its end. `stored` is the tree of the agent's work, if looop was
    /// killed after it stored that: a test may have changed the clone since.
    fn verdict(
        &mut self,
        attempt: &mut Attempt,
        failed: Option<String>,
        stored: Option<String>,
    ) -> Result<()> {
        let (ctx, task) = (self.ctx, self.task);
        let start = attempt.start.clone();
        let mut undo = |outcome: AttemptOutcome, failure: String| {
            (attempt.outcome, attempt.failure) = (outcome, failure);
            ctx.fresh(&start)
        };
        let end = match stored {
            Some(tree) => {
                ctx.ready(&tree)?;
                tree
            }
            None if !ctx.is_in_clone() => {
                return undo(AttemptOutcome::Deleted, "its clone was deleted".to_owned());
            }
            None => {
                let stored = || ctx.snapshot().map_err(|error| format!("{error:#}"));
                match ctx.unfit()?.map_or_else(stored, Err) {
                    Ok(end) => end,
                    Err(why) => return undo(AttemptOutcome::AgentFailed, unstored(&why)),
                }
            }
        };
        if is_empty(&end) && !is_empty(&start) {
            return undo(AttemptOutcome::Deleted, "no file was left".to_owned());
        }
        (attempt.end, attempt.left) = (end.clone(), end.clone());
        if let Some(called) = self.session.under_way.as_mut().and_then(|under| under.called.as_mut()) {
            called.tree = Some(end.clone());
            self.save()?;
        }
        if let Some(why) = failed.filter(|_| end == start || task.skip_tests) {
            attempt.failure = why;
            return Ok(());
        }
        if task.skip_tests {
            attempt.outcome = AttemptOutcome::Untested;
            return self.after(attempt);
        }
        let git = ctx.git()?;
        let changes = ctx.trees.changes(&git, &start, &end)?;
        let paths: Vec<String> =
            changes.iter().map(|change| change.path.to_string_lossy().into_owned()).collect();
        let protected = protected(ctx, task);
        let before = match paths.iter().any(|path| protected.is_test(path)) {
            true => ctx.trees.paths(&git, &self.session.base_tree)?,
            false => Vec::new(),
        };
        let mut modified = protected.modified(&paths, &before);
        if guard::runs_package_scripts(&testing::argv(&task.runner, &[])) {
            modified.extend(package_scripts(ctx, &changes)?);
        }
        if modified.is_empty() {
            return self.test(attempt);
        }
        attempt.outcome = AttemptOutcome::TestsChanged;
        attempt.failure = format!("it changed {}, which is restored", modified.join(", "));
        for change in changes.iter().filter(|change| modified.contains(&&*change.path.to_string_lossy())) {
            ctx.trees.put_back(&git, &ctx.work(), change)?;
        }
        attempt.left = ctx.snapshot()?;
        Ok(())
    }

    /// Tests the result of an agent.
    fn test(&self, attempt: &mut Attempt) -> Result<()> {
        let ctx = self.ctx;
        let tested = testing::test(ctx, self.task)?;
        let report = &tested.report;
        self.keep_output(&tested.output)?;
        // Files that tests leave behind are not the agent's work.
        ctx.ready(&attempt.end)?;
        let before = self.state().before.as_ref().filter(|_| report.passed);
        if let Some(why) = before.and_then(|before| shrunk(before, &Counts::of(report))) {
            attempt.outcome = AttemptOutcome::TestsChanged;
            attempt.failure = format!("{why}; the attempt is undone");
            attempt.left = attempt.start.clone();
            return ctx.ready(&attempt.start);
        }
        (attempt.signature, attempt.failures) = (report.signature(), report.failures());
        if report.passed {
            attempt.outcome = AttemptOutcome::Passed;
            return self.after(attempt);
        }
        let is_empty = report.empty;
        attempt.outcome = if is_empty { AttemptOutcome::NothingTested } else { AttemptOutcome::Failed };
        attempt.failure = ctx.deps.settings.secrets.redact(&report.words()).into_owned();
        Ok(())
    }

    /// Runs the `after` commands of good work; their changes belong to the work.
    fn after(&self, attempt: &mut Attempt) -> Result<()> {
        let ctx = self.ctx;
        if self.task.after.is_empty() {
            return Ok(());
        }
        for line in &self.task.after {
            if let Some(why) = testing::after(ctx, line)? {
                (attempt.outcome, attempt.failure) = (AttemptOutcome::AfterFailed, why);
                return ctx.ready(&attempt.end);
            }
        }
        if let Some(why) = ctx.unfit()? {
            (attempt.outcome, attempt.failure) = (AttemptOutcome::AfterFailed, unstored(&why));
            return ctx.fresh(&attempt.end);
        }
        attempt.end = ctx.snapshot()?;
        attempt.left = attempt.end.clone();
        Ok(())
    }
}

fn unstored(why: &str) -> String {
    format!("its result could not be stored: {why}")
}

/// The tree from which the next attempt starts.
fn next_start(now: &EpisodeState, lines: &[LedgerLine], base: &str) -> String {
    let last = lines
        .iter()
        .rev()
        .find(|line| matches!(line, LedgerLine::Attempt(_) | LedgerLine::Rollback(_) | LedgerLine::Begin(_)));
    match (last, now.last()) {
        (Some(LedgerLine::Rollback(_)), _) | (_, None) => base.to_owned(),
        // Another run of the same episode continues with the result of the one before.
        (_, Some(attempt)) => attempt.left.clone(),
    }
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
    attempt: &Attempt,
) -> Result<(AttemptDiff, Vec<AttemptDiff>)> {
    let git = ctx.git()?;
    let base = &attempt.base;
    let parsed = |from: &str, to: &str| -> Result<Vec<delta::FileDelta>> {
        let diff = ctx.trees.diff(&git, from, to, 1)?;
        Ok(delta::parse(&diff[..diff.floor_char_boundary(MAX_DIFF_BYTES)]))
    };
    let of = |Attempt { n, start, end, .. }: &Attempt| -> Result<AttemptDiff> {
        let delta = parsed(start, end)?;
        // The diffs from the base are those of fresh starts, which begin with the same files.
        let from_base = match start {
            _ if start == base => delta.clone(),
            _ if *start == attempt.start => parsed(base, end)?,
            _ => Vec::new(),
        };
        let (start, end) = (start.clone(), end.clone());
        Ok(AttemptDiff { n: *n, start, end, delta, before: Vec::new(), from_base })
    };
    let sample = AttemptDiff { before: parsed(base, &attempt.start)?, ..of(attempt)? };
    let near = now.attempts.iter().rev().take(2);
    let mut earlier = near.map(|old| of(old)).collect::<Result<Vec<AttemptDiff>>>()?;
    earlier.push(AttemptDiff { n: 0, start: base.clone(), end: base.clone(), ..AttemptDiff::default() });
    Ok((sample, earlier))
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

fn protected(ctx: &FixContext, task: &Task) -> ProtectedFiles {
    let from_top = |names: &[String]| names.iter().map(|name| ctx.below_top(name)).collect::<Vec<_>>();
    // If a task names the tests that decide, other test files in its list are part of its work.
    let allowed: &[String] = if task.test_files.is_empty() { &[] } else { &task.files };
    let tests = from_top(&task.test_files);
    ProtectedFiles {
        prefixes: ctx.defaults().test_prefix.clone(),
        allowed: from_top(allowed).into_iter().filter(|path| !tests.contains(path)).collect(),
        tests,
        words: from_top(&guard::scripts(&testing::argv(&task.runner, &[]))),
    }
}
