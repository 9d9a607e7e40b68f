//! One task: attempts until one is good, as long as the rule over its ledger allows.

use anyhow::Result;

use super::context::{self, Parts};
use super::desk::Desk;
use super::leanfile::Task;
use super::{Asked, Tone, attempt, call, compress, health, plan, stuck};
use crate::model::attempt::{Begin, Line, Plan, Rollback, Ruling, Standing, rule, standing};
use crate::model::fix::{Counts, Run, Status};
use crate::model::time::human_ms;
use crate::store::fixes;
use crate::sys::clock::{self, Deadline};

/// Works on the task with this number and stores its status in the run.
pub(super) fn work(desk: &Desk, run: &mut Run, at: usize, asked: &Asked) -> Result<()> {
    let began = Deadline::after_ms(0);
    let spent_before = run.tasks[at].took_ms;
    let worked = steps(desk, run, at, asked);
    run.tasks[at].took_ms = spent_before.saturating_add(began.spent_ms());
    desk.save(run)?;
    worked
}

fn steps(desk: &Desk, run: &mut Run, at: usize, asked: &Asked) -> Result<()> {
    let task = &asked.tasks[at];
    let title = format!("[{}/{}] {}", at + 1, asked.tasks.len(), task.name);
    desk.say(Tone::Plain, title.clone());
    if run.tasks[at].status != Status::Running && !open(desk, run, at, task, asked)? {
        return Ok(());
    }
    loop {
        desk.check()?;
        let lines = fixes::ledger(&desk.dir, &run.tasks[at].goal)?;
        let now = standing(&lines);
        let first = run.tasks[at].first;
        if let Some(last) = now.attempts.last().filter(|last| last.n >= first && last.outcome.is_good()) {
            done(desk, run, at, task, last);
            return Ok(());
        }
        let made = now.attempts.iter().filter(|attempt| attempt.n >= first).count();
        let most = desk.leanfile.defaults.max_iters_per_task.max(1) as usize;
        match rule(&lines, desk.limits()) {
            Ruling::Parked(ask) => {
                if !stuck::answered(desk, run, at, &ask, &now)? {
                    return Ok(());
                }
            }
            Ruling::Ask(why) => {
                if !stuck::ask(desk, run, at, &why, &now)? {
                    return Ok(());
                }
            }
            _ if made >= most => {
                let note = now.attempts.last().map_or(String::new(), |last| last.failure.clone());
                set(run, at, Status::Failed, format!("{made} attempts; {note}"));
                desk.say(Tone::Bad, format!("{title}: failed after {made} attempts"));
                return Ok(());
            }
            Ruling::Replan => replan(desk, run, at, task, &now)?,
            Ruling::RollBack => roll_back(desk, run, at, &now)?,
            Ruling::GoOn => attempt::make(desk, run, at, task, &lines)?,
        }
    }
}

fn set(run: &mut Run, at: usize, status: Status, note: String) {
    run.tasks[at].status = status;
    run.tasks[at].note = note;
}

/// Starts a task: its tests run once before anything is done. False if there is nothing to do.
fn open(desk: &Desk, run: &mut Run, at: usize, task: &Task, asked: &Asked) -> Result<bool> {
    let goal = run.tasks[at].goal.clone();
    let lines = fixes::ledger(&desk.dir, &goal)?;
    let digest = blake3::hash(format!("{task:?}").as_bytes()).to_hex().to_string();
    let now = standing(&lines);
    let same = now.begin.is_some_and(|old| old.base == run.tree && old.task == digest);
    if same && let Some(ask) = now.asked.filter(|_| stuck::is_open(desk, now.asked)) {
        // Nothing is started while the user's answer is missing.
        set(run, at, Status::Stuck, ask.to_owned());
        desk.say(Tone::Warn, format!("it waits for your answer: looop answer {ask}"));
        return Ok(false);
    }
    health::wait(&desk.leanfile.health, desk.cancel, &mut |text| desk.say(Tone::Warn, text))?;
    desk.ready(&run.tree)?;
    run.tasks[at].first = Standing::next(&lines);
    let mut begin = Begin {
        at_ms: clock::now().unix_ms,
        base: run.tree.clone(),
        task: digest,
        signature: None,
        failures: None,
    };
    if !task.skip_tests {
        desk.say(Tone::Busy, "the tests run");
        let tested = desk.tester().test(task, &desk.cwd())?;
        call::keep_output(desk, &goal, &tested.output)?;
        begin.signature = tested.report.signature();
        begin.failures = tested.report.failures();
        run.tasks[at].before = Some(Counts::of(&tested.report));
        let words = format!("before: {} ({})", tested.report.words(), human_ms(tested.took_ms));
        desk.say(Tone::Plain, words);
        if tested.report.passed && !asked.force {
            let note = "its tests passed at the start; no agent was called";
            set(run, at, Status::PassedBefore, note.to_owned());
            desk.say(Tone::Good, note);
            return Ok(false);
        }
    }
    desk.ready(&run.tree)?;
    fixes::append(&desk.dir, &goal, &Line::Begin(begin))?;
    if asked.fresh && same {
        let after = now.attempts.last().map_or(0, |last| last.n);
        fixes::append(&desk.dir, &goal, &Line::Rollback(Rollback { at_ms: clock::now().unix_ms, after }))?;
    }
    set(run, at, Status::Running, String::new());
    desk.save(run)?;
    Ok(true)
}

fn done(desk: &Desk, run: &mut Run, at: usize, task: &Task, last: &crate::model::attempt::Attempt) {
    let status = if task.skip_tests { Status::Untested } else { Status::Done };
    let files = last.files.len();
    let note = match run.tree == last.end {
        true => "nothing was changed".to_owned(),
        false => format!("attempt {} changed {files} {}", last.n, if files == 1 { "file" } else { "files" }),
    };
    desk.say(Tone::Good, format!("{}: {note}", status.words()));
    run.tree = last.end.clone();
    run.under_way = None;
    set(run, at, status, note);
}

fn replan(desk: &Desk, run: &mut Run, at: usize, task: &Task, now: &Standing) -> Result<()> {
    let goal = run.tasks[at].goal.clone();
    let after = now.attempts.last().map_or(0, |last| last.n);
    desk.say(Tone::Warn, format!("halted: {} attempts in a row are alike; a new plan is required", now.row));
    let git = desk.git()?;
    if let Some(last) = now.attempts.last() {
        // A checkpoint of the state that a rollback drops.
        let name = format!("refs/looop/attempts/{goal}/{}", last.n);
        if let Some(commit) = desk.trees.find(&git, &name)? {
            desk.trees.point(&git, &format!("refs/looop/checkpoints/{goal}/{}", last.n), &commit)?;
        }
    }
    let taken = now.plans.iter().filter(|plan| plan.refused.is_none()).count();
    let agent = desk.agent(taken + 1).clone();
    let output = call::kept_output(desk, &goal);
    let (failure, left_out) =
        compress::compress(&output, call::kind_of(&output), desk.leanfile.defaults.error_tail_lines);
    let base = now.begin.map_or(run.tree.clone(), |begin| begin.base.clone());
    let left = now.attempts.last().map_or(base.clone(), |last| last.left.clone());
    let diff = desk.trees.diff(&git, &base, &left, 3)?;
    let parts = Parts {
        task: &task.prompt,
        attempts: &now.attempts,
        failure: Some((failure.as_str(), left_out)),
        diff: &diff,
        budget: call::budget(task),
        answer: now.answer,
        ..Parts::default()
    };
    let prompt = context::replan(&parts, &now.plans);
    desk.say(Tone::Busy, format!("{} makes a new plan", agent.name));
    let said = desk.call(run, at, &agent, &prompt, &desk.empty()?)?;
    let (hypothesis, different) = match &said.text {
        Ok(text) => plan::parse(text),
        Err(_) => (String::new(), String::new()),
    };
    let refused = match &said.text {
        Ok(_) => plan::refusal(&hypothesis, &different, &now.plans, desk.limits()),
        Err(why) => Some(format!("the call failed: {why}")),
    };
    match &refused {
        Some(why) => desk.say(Tone::Warn, format!("the plan of {} is refused: {why}", agent.name)),
        None => desk.say(Tone::Plain, format!("the plan of {}: {hypothesis}; {different}", agent.name)),
    }
    let at_ms = clock::now().unix_ms;
    let plan = Plan { at_ms, after, runner: agent.name.clone(), hypothesis, different, refused };
    fixes::append(&desk.dir, &goal, &Line::Plan(plan))?;
    desk.save(run)
}

fn roll_back(desk: &Desk, run: &mut Run, at: usize, now: &Standing) -> Result<()> {
    let goal = run.tasks[at].goal.clone();
    let after = now.attempts.last().map_or(0, |last| last.n);
    desk.say(
        Tone::Warn,
        format!("rolled back: {} attempts in a row are alike; back to the base in a new clone", now.row),
    );
    desk.fresh(&run.tree)?;
    fixes::append(&desk.dir, &goal, &Line::Rollback(Rollback { at_ms: clock::now().unix_ms, after }))
}
