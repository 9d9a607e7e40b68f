//! Plan: translates a decided move into files and processes, and decides if the user must approve it first.

mod command;
pub mod consent;
pub mod operation;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::sense::Sensed;
use super::{Ctx, diff};
use crate::model::ask::QuestionFile;
use crate::model::beat::{LoopState, Operation};
use crate::model::decision::{Action, Move};
use crate::model::entry::MoveOutcome;
use crate::model::front_matter;
use crate::model::name::Name;
use crate::model::policy::{self, PolicyDecision, PolicyFacts};
use crate::model::sandbox::Level;
use crate::model::scope::{self, ApprovalScope, SandboxScope};
use crate::model::step::CHANGED;
use crate::model::world::Goal;
use crate::store::file;
use crate::sys::{path, program};
use crate::worker::Described;

/// A move with the results of policy and the store.
#[derive(Debug)]
pub struct MovePlan {
    /// The operation that makes the move.
    pub operation: Operation,
    /// The outcome for the journal once the operation is done.
    pub then: MoveOutcome,
    /// True if it starts a worker that costs money.
    pub starts_paid: bool,
}

impl MovePlan {
    /// Creates a plan from an operation and its outcome.
    pub fn new(operation: Operation, then: MoveOutcome) -> MovePlan {
        MovePlan { operation, then, starts_paid: false }
    }

    /// Creates a plan that does nothing, for this reason.
    pub fn refused(why: impl Into<String>) -> MovePlan {
        MovePlan::new(Operation::Nothing, MoveOutcome::Refused { why: why.into() })
    }
}

/// How far the clock may go back between an ask and its move, in milliseconds: clocks are adjusted now and then.
const CLOCK_SLACK_MS: i64 = 60_000;
/// The longest file of which the user is shown a diff, in bytes; no move replaces a longer file.
const MAX_SHOWN_BYTES: usize = 1 << 20;

/// The texts that were truncated in the prompt, so that they must not be written back.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    pub goals: Vec<Name>,
    pub playbook: bool,
}

/// Turns a decided move into an operation: now, after the user's approval, or not at all.
pub fn plan(ctx: &Ctx, beat: &LoopState, sensed: &Sensed, id: &str, decided: &Move, cuts: &Cuts) -> MovePlan {
    let place = place_of(ctx, &decided.action);
    let was_truncated = match &decided.action {
        Action::WriteGoal { id, .. } => cuts.goals.contains(id),
        Action::WritePlaybook { .. } => cuts.playbook,
        _ => false,
    };
    let data_dir = canonical(ctx.layout.root());
    let proposed = match &decided.action {
        Action::WriteGoal { id, body } => sensed.world.own.proposes_goal(id, body),
        _ => false,
    };
    let worker = described(ctx, decided).unwrap_or_default();
    let facts = PolicyFacts {
        rules: &ctx.settings.rules,
        tainted: sensed.tainted,
        data_dir: &data_dir,
        place: place.as_deref(),
        protected: &ctx.settings.protected,
        resolve: path::followed,
        was_truncated,
        sandbox: worker.is_full,
        proposed,
        free_check: worker.free_check,
        repo_listed: place.as_deref().is_some_and(|repo| is_listed(ctx, beat, sensed, decided, repo)),
        first_paid: worker.paid && !beat.paid_start_approved,
    };
    let planned = match policy::judge(decided, &facts) {
        PolicyDecision::Refused(why) => Ok(MovePlan::refused(why)),
        PolicyDecision::Free => {
            free(ctx, sensed, id, decided).map(|plan| MovePlan { starts_paid: worker.paid, ..plan })
        }
        PolicyDecision::Waits(because) => ask_first(ctx, beat, sensed, id, decided, because),
    };
    // The decision was paid for: an unreadable file that it depends on refuses the move, but does not end the beat.
    planned.unwrap_or_else(|error| MovePlan::refused(format!("{error:#}")))
}

/// Returns the worker that a move would start; `None` if it starts none. An impossible start is reported when it is
/// made.
fn described(ctx: &Ctx, decided: &Move) -> Option<Described> {
    let is_start = matches!(decided.action, Action::StartWorker { .. });
    is_start.then(|| ctx.fleet.describe(decided).ok()?.ok()).flatten()
}

/// True if the loop may clone a repository without approval: the config lists it, or the front matter of the goal that
/// the move serves does. The text of that goal must come from the user: a move must not list what it is to clone.
fn is_listed(ctx: &Ctx, beat: &LoopState, sensed: &Sensed, decided: &Move, repo: &Path) -> bool {
    if ctx.settings.rules.repos.iter().any(|listed| listed == repo) {
        return true;
    }
    let Some(goal) = decided.goal.as_ref().and_then(|goal| sensed.world.goals.get(goal)) else {
        return false;
    };
    let (Goal::Text(text), digest) = (goal, goal.digest()) else { return false };
    if beat.written_goals.contains(&digest) || beat.untrusted_goals.contains(&digest) {
        return false;
    }
    // The world shows a front matter that cannot be read as a problem.
    let listed = front_matter::repos(text).unwrap_or_default();
    listed.iter().any(|path| canonical(&ctx.settings.path_of(ctx.layout.root(), path)) == repo)
}

/// Returns where a `run` would run, or the repository that a worker would clone, with symbolic links resolved; `None`
/// if it is not a directory.
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

/// Plans a move that needs no approval, or has one.
fn free(ctx: &Ctx, sensed: &Sensed, id: &str, decided: &Move) -> Result<MovePlan> {
    operation::free(sensed, ctx.now, id, decided, &mut |run| {
        let argv = run.full_argv();
        let cwd = place_of(ctx, &decided.action).context("could not find the cwd of a `run`")?;
        let program = argv.first().map_or("", String::as_str);
        Ok(match program::find_program(program, &ctx.settings.path, &cwd) {
            Some(exe) => Ok(Operation::Exec {
                argv,
                exe: text_of(&exe),
                cwd: text_of(&cwd),
                files: Vec::new(),
                folders: Vec::new(),
            }),
            None => Err(format!("`{program}` is not an executable on the configured PATH")),
        })
    })
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Creates the ask for a move that needs an approval.
fn ask_first(
    ctx: &Ctx,
    beat: &LoopState,
    sensed: &Sensed,
    id: &str,
    decided: &Move,
    because: String,
) -> Result<MovePlan> {
    let (scope, diff) = match scope_of(ctx, sensed, decided)? {
        Ok(pair) => pair,
        Err(why) => return Ok(MovePlan::refused(why)),
    };
    let wish = consent::Wish { id, decided, because, scope, diff, clean: !sensed.tainted };
    consent::ask_first(beat, &sensed.asks, ctx.now, ctx.settings.limits.approval_ttl_ms, wish)
}

/// Returns everything that an approval of a move covers now, and the diff of the file that it replaces or a worker's
/// brief.
/// The inner error says why the move cannot be made at all.
fn scope_of(ctx: &Ctx, sensed: &Sensed, decided: &Move) -> Result<Result<(ApprovalScope, String), String>> {
    let mut action = decided.action.to_json();
    if let (Action::Run(_), Some(fields)) = (&decided.action, action.as_object_mut()) {
        // One directory has many spellings; the scope contains the resolved path.
        fields.remove("cwd");
    }
    let scope = ApprovalScope {
        form: scope::FORM,
        // Another reason for the same action is still the same request.
        action: crate::model::json::canonical(&action),
        sandbox: SandboxScope {
            level: Level::None.word().to_owned(),
            network: "none".to_owned(),
            writes: vec!["the file of the move".to_owned()],
        },
        ..ApprovalScope::default()
    };
    if let Action::StartWorker { id, brief, .. } = &decided.action {
        let brief = diff::unified("/dev/null", &format!("the brief of {id}"), "", &format!("{brief}\n"));
        return Ok(ctx
            .fleet
            .scope(decided)?
            .map(|found| (ApprovalScope { form: scope.form, action: scope.action, ..found }, brief)));
    }
    if let Action::Run(run) = &decided.action {
        return Ok(command::scope(ctx, decided, run.full_argv(), scope)?.map(|scope| (scope, String::new())));
    }
    let Some((path, text, _, replaces)) = operation::replacement(sensed, ctx.now, decided)? else {
        return Ok(Ok((scope, String::new())));
    };
    let before = file::read(&ctx.layout.file(&path), MAX_SHOWN_BYTES)
        .with_context(|| format!("could not read `{path}`"))?;
    if before.as_deref().map(operation::digest_of) != replaces {
        return Ok(Err(CHANGED.to_owned()));
    }
    let before = String::from_utf8_lossy(&before.unwrap_or_default()).into_owned();
    let old_name = if replaces.is_some() { path.as_str() } else { "/dev/null" };
    let shown = diff::unified(old_name, &path, &before, &text);
    // The file is the user's and may hold a secret; the ask with its diff is kept and committed.
    let shown = ctx.settings.secrets.redact(&shown).into_owned();
    Ok(Ok((ApprovalScope { replaces, ..scope }, shown)))
}

/// Plans an approved move: checks it as when it was asked, with the files as they are now. If any byte of what the
/// approval covers differs, the approval is void.
///
/// # Errors
/// The ask contains no move, or the user cancels; the approval stays valid then.
pub fn plan_approved(ctx: &Ctx, sensed: &Sensed, id: &str, ask: &QuestionFile) -> Result<(Move, MovePlan)> {
    let approval = ask.approval.as_ref().context("could not use an approval: it holds no move")?;
    let decided = approval.decided.clone();
    let answer = sensed.asks.get(&ask.id).and_then(|(_, answer)| answer.as_ref());
    if !consent::is_yes(ask, approval, answer) {
        return Ok((decided, MovePlan::refused("the approval was not for this")));
    }
    if ctx.now.unix_ms < ask.created_ms - CLOCK_SLACK_MS {
        let why = "the clock was set back to before the ask, so its expiry is unknown";
        return Ok((decided, MovePlan::refused(why)));
    }
    let scope = scope_of(ctx, sensed, &decided);
    // An incomplete check says nothing about the approval.
    ctx.go_on()?;
    let planned = match scope {
        Ok(Ok((now, _))) => match approval.scope.check(&now) {
            Ok(()) => free(ctx, sensed, id, &decided).map(|plan| sealed(plan, &decided, now)),
            Err(why) => Ok(MovePlan::refused(why)),
        },
        Ok(Err(why)) => Ok(MovePlan::refused(why)),
        Err(error) => Err(error),
    };
    let mut plan = planned.unwrap_or_else(|error| MovePlan::refused(format!("{error:#}")));
    plan.starts_paid = described(ctx, &decided).is_some_and(|worker| worker.paid);
    Ok((decided, plan))
}

/// The plan with what the yes was for, so that it is checked once more when the command or the worker starts.
fn sealed(mut plan: MovePlan, decided: &Move, covered: ApprovalScope) -> MovePlan {
    match &mut plan.operation {
        Operation::Exec { files, folders, .. } => {
            *files = covered.files.into_iter().map(|file| (file.path, file.content)).collect();
            *folders = covered.folders.into_iter().map(|folder| (folder.path, folder.content)).collect();
        }
        operation @ Operation::Fleet if matches!(decided.action, Action::StartWorker { .. }) => {
            *operation = Operation::ApprovedStart(Box::new(covered));
        }
        _ => {}
    }
    plan
}
