//! Plan: what a decided move means in files and processes, and whether a human must say yes to it first.

mod command;
pub mod consent;
pub mod deed;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::sense::Sensed;
use super::{Ctx, diff};
use crate::model::ask::{Ask, Subject};
use crate::model::beat::{Beat, Deed};
use crate::model::boxing::Level;
use crate::model::decision::{Action, Move};
use crate::model::entry::Outcome;
use crate::model::name::Name;
use crate::model::policy::{self, Facts, Verdict};
use crate::model::step::CHANGED;
use crate::store::file;
use crate::sys::{path, program};
use crate::worker::Described;

/// A move with what policy and the store made of it.
#[derive(Debug)]
pub struct Plan {
    /// What is done.
    pub deed: Deed,
    /// What the journal says when it is done.
    pub then: Outcome,
}

/// The longest file of which a diff is shown to the human, in bytes; no move replaces a longer one.
const MAX_SHOWN_BYTES: usize = 1 << 20;

/// What the decider could not see in full, so that it must not be written back.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Goals.
    pub goals: Vec<Name>,
    /// The playbook.
    pub playbook: bool,
}

/// Turns a decided move into what is done: at once, after a human's yes, or not at all.
pub fn plan(ctx: &Ctx, beat: &Beat, sensed: &Sensed, id: &str, decided: &Move, cuts: &Cuts) -> Plan {
    let refuse = |why: String| Plan { deed: Deed::Nothing, then: Outcome::Refused { why } };
    let place = place_of(ctx, &decided.action);
    let was_cut = match &decided.action {
        Action::WriteGoal { id, .. } => cuts.goals.contains(id),
        Action::WritePlaybook { .. } => cuts.playbook,
        _ => false,
    };
    let data_dir = canonical(ctx.layout.root());
    let proposed = match &decided.action {
        Action::WriteGoal { id, .. } => sensed.world.own.proposes_goal(id),
        _ => false,
    };
    let described = match &decided.action {
        // What cannot be told is said when its start is asked about or made.
        Action::StartWorker { .. } => {
            ctx.fleet.describe(decided).ok().and_then(Result::ok).unwrap_or_default()
        }
        _ => Described::default(),
    };
    let facts = Facts {
        rules: &ctx.settings.rules,
        tainted: sensed.tainted,
        data_dir: &data_dir,
        place: place.as_deref(),
        protected: &ctx.settings.protected,
        resolve: path::followed,
        was_cut,
        boxed: described.is_full,
        proposed,
        free_check: described.free_check,
    };
    let planned = match policy::judge(decided, &facts) {
        Verdict::Refused(why) => Ok(refuse(why)),
        Verdict::Free => free(ctx, sensed, id, decided),
        Verdict::Waits(because) => ask_first(ctx, beat, sensed, id, decided, because),
    };
    // The decision is paid for: what it depends on and cannot be read refuses it, and does not end the beat.
    planned.unwrap_or_else(|error| refuse(format!("{error:#}")))
}

/// Where a `run` would run, or the repository that a worker would get a clone of, with symbolic links resolved; none
/// when that is no directory.
fn place_of(ctx: &Ctx, action: &Action) -> Option<PathBuf> {
    let wanted = match action {
        Action::Run(run) => run.cwd.as_deref().unwrap_or("."),
        Action::StartWorker { repo, .. } => repo.as_deref()?,
        _ => return None,
    };
    let wanted = ctx.settings.path_of(ctx.layout.root(), wanted);
    std::fs::canonicalize(wanted).ok().filter(|dir| dir.is_dir())
}

fn canonical(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The deed of a move that needs no yes, or has one.
fn free(ctx: &Ctx, sensed: &Sensed, id: &str, decided: &Move) -> Result<Plan> {
    deed::free(sensed, ctx.now, id, decided, &mut |run| {
        let argv = run.full_argv();
        let cwd = place_of(ctx, &decided.action).context("could not find the cwd of a `run`")?;
        let program = argv.first().map_or("", String::as_str);
        Ok(match program::find_program(program, &ctx.settings.path, &cwd) {
            Some(exe) => Ok(Deed::Exec { argv, exe: text_of(&exe), cwd: text_of(&cwd), files: Vec::new() }),
            None => Err(format!("`{program}` is not an executable on the configured PATH")),
        })
    })
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The ask for a move that needs a yes.
fn ask_first(
    ctx: &Ctx,
    beat: &Beat,
    sensed: &Sensed,
    id: &str,
    decided: &Move,
    because: String,
) -> Result<Plan> {
    let refuse = |why: String| Ok(Plan { deed: Deed::Nothing, then: Outcome::Refused { why } });
    let (subject, diff) = match subject(ctx, sensed, decided)? {
        Ok(pair) => pair,
        Err(why) => return refuse(why),
    };
    let wish = consent::Wish { id, decided, because, subject, diff, clean: !sensed.tainted };
    consent::ask_first(beat, &sensed.asks, ctx.now, ctx.settings.limits.approval_ttl_ms, wish)
}

/// All that a yes to a move covers, as it is now, and the diff of the file that it replaces.
/// The inner error says why the move cannot be made at all.
fn subject(ctx: &Ctx, sensed: &Sensed, decided: &Move) -> Result<Result<(Subject, String), String>> {
    let mut action = decided.action.to_json();
    if let (Action::Run(_), Some(fields)) = (&decided.action, action.as_object_mut()) {
        // One directory has many spellings; the subject holds the one that they all lead to.
        fields.remove("cwd");
    }
    let mut subject = Subject {
        // Other words for why it is wanted make no other wish.
        decided: crate::model::json::canonical(&action),
        argv: Vec::new(),
        exe: None,
        files: Vec::new(),
        cwd: None,
        env: Vec::new(),
        sandbox: Level::None.word().to_owned(),
        replaces: None,
        goal: None,
        repo: None,
    };
    if let Action::StartWorker { id, brief, .. } = &decided.action {
        return Ok(ctx.fleet.describe(decided)?.map(|described| {
            subject.argv = described.argv;
            subject.cwd = Some(described.cwd);
            subject.env = described.env;
            subject.goal = decided.goal.clone();
            subject.repo = described.repo;
            subject.sandbox = described.sandbox;
            (subject, diff::unified("/dev/null", &format!("the brief of {id}"), "", &format!("{brief}\n")))
        }));
    }
    if let Action::Run(run) = &decided.action {
        return Ok(
            command::covered(ctx, decided, run.full_argv(), subject)?.map(|subject| (subject, String::new()))
        );
    }
    let Some((path, text, _, replaces)) = deed::replacement(sensed, ctx.now, decided)? else {
        return Ok(Ok((subject, String::new())));
    };
    let before = file::read(&ctx.layout.file(&path), MAX_SHOWN_BYTES)
        .with_context(|| format!("could not read `{path}`"))?;
    if before.as_deref().map(deed::digest_of) != replaces {
        return Ok(Err(CHANGED.to_owned()));
    }
    let before = String::from_utf8_lossy(&before.unwrap_or_default()).into_owned();
    let old_name = if replaces.is_some() { path.as_str() } else { "/dev/null" };
    let shown = diff::unified(old_name, &path, &before, &text);
    subject.replaces = replaces;
    Ok(Ok((subject, shown)))
}

/// The plan of an approved move: the same check as when it was asked, on the files as they are now. If any
/// byte of what the yes covered differs, the yes is void.
///
/// # Errors
/// When the ask holds no move, or the human interrupts; the yes is kept then.
pub fn plan_approved(ctx: &Ctx, sensed: &Sensed, id: &str, ask: &Ask) -> Result<(Move, Plan)> {
    let refuse = |why: &str| Plan { deed: Deed::Nothing, then: Outcome::Refused { why: why.to_owned() } };
    let approval = ask.approval.as_ref().context("could not use an approval: it holds no move")?;
    let decided = approval.decided.clone();
    let answer = sensed.asks.get(&ask.id).and_then(|(_, answer)| answer.as_ref());
    if !consent::is_yes(ask, approval, answer) {
        return Ok((decided, refuse("the yes was not for this")));
    }
    let subject = subject(ctx, sensed, &decided);
    // What could not be looked at to its end says nothing about the yes.
    ctx.go_on()?;
    let planned = match subject {
        Ok(Ok((now, _))) if now == approval.subject => {
            free(ctx, sensed, id, &decided).map(|plan| sealed(plan, now.files))
        }
        Ok(Ok(_)) => Ok(refuse("something that the yes covered has changed since")),
        Ok(Err(why)) => Ok(refuse(&why)),
        Err(error) => Err(error),
    };
    let plan = planned.unwrap_or_else(|error| refuse(&format!("{error:#}")));
    Ok((decided, plan))
}

/// A command begins only on the files that the yes was for.
fn sealed(mut plan: Plan, covered: Vec<(String, String)>) -> Plan {
    if let Deed::Exec { files, .. } = &mut plan.deed {
        *files = covered;
    }
    plan
}
