//! Plan: translates a decided move into files and processes, and decides if the user must approve it first. An approval
//! carries the planned operation, and that operation is what the approval lets the loop perform.

pub mod consent;
pub mod operation;

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};

use super::ask::DecideOutcome;
use super::ctx::Ctx;
use super::prepare::PreparedDecision;
use crate::os::{path, program};
use crate::rules::beat::ask::{Approval, QuestionFile};
use crate::rules::beat::decision::{Action, Move};
use crate::rules::beat::diff;
use crate::rules::beat::entry::MoveOutcome;
use crate::rules::beat::observed::Observed;
use crate::rules::beat::policy::{self, PolicyDecision, PolicyFacts};
use crate::rules::beat::prompt::Prompt;
use crate::rules::beat::scope::{self, ApprovalScope, SandboxScope};
use crate::rules::beat::state::{Failure, LoopState, Operation};
use crate::rules::beat::step::{CHANGED, Decided, LoopEvent, ObservedInputs, UsedApproval};
use crate::rules::cost::charge::{Charge, Usage};
use crate::rules::digest::digest_of;
use crate::rules::name::Name;
use crate::rules::sandbox::{Level, SandboxSubject};
use crate::rules::user_side::{self, UserSidePath};
use crate::rules::worker::{Spec, network_words};
use crate::rules::world::Goal;
use crate::rules::world::front_matter::FrontMatter;
use crate::store::coverage::{Coverage, CoverageScan};
use crate::store::{Denied, file, identity, state_files};

/// A move with the results of policy and the store.
#[derive(Debug)]
pub struct MovePlan {
    /// The operation that makes the move.
    pub operation: Operation,
    /// The outcome for the journal once the operation is done.
    pub then: MoveOutcome,
}

impl MovePlan {
    /// Creates a plan that does nothing, for this reason.
    pub fn refused(why: impl Into<String>) -> MovePlan {
        MovePlan { operation: Operation::Nothing, then: MoveOutcome::Refused { why: why.into() } }
    }

    /// Creates a plan that does nothing, because the move could not be planned.
    fn failed(error: Error) -> MovePlan {
        MovePlan::refused(format!("{error:#}"))
    }
}

/// How far the clock may go back between an ask and its move, in milliseconds: clocks are adjusted now and then.
const CLOCK_SLACK_MS: i64 = 60_000;
/// The longest file of which the user is shown a diff, in bytes; no move replaces a longer file.
const MAX_SHOWN_BYTES: usize = 1 << 20;

/// Turns a decided move into an operation: now, after the user's approval, or not at all.
fn plan(
    ctx: &Ctx,
    beat: &LoopState,
    observed: &Observed,
    id: &str,
    decided: &Move,
    prompt: &Prompt,
) -> MovePlan {
    let place = place_of(ctx, &decided.action);
    let (was_truncated, proposed) = match &decided.action {
        Action::WriteGoal { id, body } => {
            (prompt.cut_goals.contains(id), observed.world.own.proposes_goal(id, body))
        }
        Action::WritePlaybook { .. } => (prompt.cut_playbook, false),
        _ => (false, false),
    };
    let data_dir = canonical(ctx.layout.root());
    let planned = planned(ctx, observed, id, decided, observed.tainted);
    let start = match &planned {
        Ok(MovePlan { operation: Operation::StartWorker(start), .. }) => Some(start),
        _ => None,
    };
    let spec = start.and_then(|start| start.spec.as_ref());
    let facts = PolicyFacts {
        rules: &ctx.settings.rules,
        tainted: observed.tainted,
        data_dir: &data_dir,
        place: place.as_deref(),
        protected: &ctx.settings.protected,
        resolve: path::followed,
        was_truncated,
        sandbox: spec.is_some_and(Spec::is_full),
        proposed,
        free_check: spec.is_some_and(|spec| {
            spec.verify.iter().any(|check| !ctx.settings.workers.verify.contains_key(&check.name))
        }),
        repo_listed: place.as_deref().is_some_and(|repo| is_listed(ctx, beat, observed, decided, repo)),
        first_paid: start.is_some_and(|start| start.paid) && !beat.paid_start_approved,
    };
    let made = match policy::judge(decided, &facts) {
        PolicyDecision::Refused(why) => Ok(MovePlan::refused(why)),
        PolicyDecision::Free => planned,
        PolicyDecision::Waits(because) => planned.and_then(|plan| {
            if plan.operation == Operation::Nothing {
                return Ok(plan);
            }
            let (scope, diff) = scope_of(ctx, decided, &plan.operation)?;
            let (decided, operation) = (decided.clone(), Some(plan.operation));
            let approval = Approval { decided, scope, operation, diff, because, hash: String::new() };
            let ttl_ms = ctx.settings.limits.approval_ttl_ms;
            consent::ask_first(beat, observed, ctx.now, ttl_ms, id, approval)
        }),
    };
    // The decision was paid for: an unreadable file that it depends on refuses the move, but does not end the beat.
    made.unwrap_or_else(MovePlan::failed)
}

/// True if the loop may clone a repository without approval: the config lists it, or the front matter of the goal that
/// the move serves does. The text of that goal must come from the user: a move must not list what it is to clone.
fn is_listed(ctx: &Ctx, beat: &LoopState, observed: &Observed, decided: &Move, repo: &Path) -> bool {
    if ctx.settings.rules.repos.iter().any(|listed| listed == repo) {
        return true;
    }
    let Some(goal) = decided.goal.as_ref().and_then(|goal| observed.world.goals.get(goal)) else {
        return false;
    };
    let (Goal::Text(text), digest) = (goal, goal.digest()) else { return false };
    if beat.written_goals.contains(&digest) || beat.untrusted_goals.contains(&digest) {
        return false;
    }
    // The world shows a front matter that cannot be read as a problem.
    let listed = FrontMatter::parse(text).unwrap_or_default();
    listed.repos.iter().any(|path| canonical(&ctx.settings.path_of(ctx.layout.root(), path)) == repo)
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

/// Plans the operation of a move. `is_tainted` means that its decider read untrusted content.
fn planned(ctx: &Ctx, observed: &Observed, id: &str, decided: &Move, is_tainted: bool) -> Result<MovePlan> {
    operation::plan(observed, ctx.now, id, decided, || match &decided.action {
        Action::Run(run) => {
            let argv = run.full_argv();
            let cwd = place_of(ctx, &decided.action).context("its cwd is not a directory")?;
            let program = argv.first().map_or("", String::as_str);
            let exe = program::find_program(program, &ctx.settings.path, &cwd)
                .with_context(|| format!("`{program}` is not an executable on the configured PATH"))?;
            let text = |path: PathBuf| path.to_string_lossy().into_owned();
            let (exe, cwd) = (text(exe), text(cwd));
            Ok(Operation::Exec { argv, exe, cwd, files: Vec::new(), folders: Vec::new() })
        }
        _ => {
            let start = ctx.fleet.plan_start(decided, is_tainted).map_err(Denied::error)?;
            Ok(Operation::StartWorker(Box::new(start)))
        }
    })
}

/// Returns everything that an approval of this operation covers now, and the diff of the file that it replaces or a
/// worker's brief.
///
/// # Errors
/// The move cannot be made at all, or a file cannot be read.
fn scope_of(ctx: &Ctx, decided: &Move, operation: &Operation) -> Result<(ApprovalScope, String)> {
    let mut action = decided.action.to_json();
    if let (Action::Run(_), Some(fields)) = (&decided.action, action.as_object_mut()) {
        // One directory has many spellings; the scope contains the resolved path.
        fields.remove("cwd");
    }
    let scope = ApprovalScope {
        form: scope::FORM,
        // Another reason for the same action is still the same request.
        action: crate::rules::json::canonical(&action),
        sandbox: SandboxScope {
            level: Level::None.to_string(),
            network: "none".to_owned(),
            writes: vec!["the file of the move".to_owned()],
        },
        ..ApprovalScope::default()
    };
    match (&decided.action, operation) {
        (Action::StartWorker { id, brief, .. }, Operation::StartWorker(start)) => {
            let scope = ctx.fleet.scope(decided, start, scope).map_err(Denied::error)?;
            let name = format!("the brief of {id}");
            Ok((scope, diff::unified("/dev/null", &name, "", &format!("{brief}\n"))))
        }
        (_, Operation::Exec { argv, exe, cwd, .. }) => {
            Ok((command_scope(ctx, argv, Path::new(exe), Path::new(cwd), scope)?, String::new()))
        }
        (_, Operation::Write { path, text, replaces, .. }) => {
            let before = file::read(&ctx.layout.file(path), MAX_SHOWN_BYTES)
                .with_context(|| format!("could not read `{path}`"))?;
            if before.as_deref().map(digest_of) != *replaces {
                bail!(CHANGED);
            }
            let before = String::from_utf8_lossy(&before.unwrap_or_default()).into_owned();
            let old_name = if replaces.is_some() { path.as_str() } else { "/dev/null" };
            let shown = diff::unified(old_name, path, &before, text);
            // The file is the user's and may hold a secret; the ask with its diff is kept and committed.
            let shown = ctx.settings.secrets.redact(&shown).into_owned();
            Ok((ApprovalScope { replaces: replaces.clone(), ..scope }, shown))
        }
        _ => Ok((scope, String::new())),
    }
}

/// Returns everything that an approval of a command covers.
fn command_scope(
    ctx: &Ctx,
    argv: &[String],
    exe: &Path,
    cwd: &Path,
    scope: ApprovalScope,
) -> Result<ApprovalScope> {
    let grant = ctx.fleet.sandboxes.grant(SandboxSubject::Run).map_err(Error::msg)?;
    let stop = || ctx.cancel.is_set();
    let scan = CoverageScan {
        layout: ctx.layout,
        settings: ctx.settings,
        cwd: Some(cwd),
        most: identity::MAX_ENTRIES,
        stop: &stop,
    };
    let Coverage { files, folders, beyond } = scan.run(argv, exe).map_err(Denied::error)?;
    let home = ctx.settings.home.as_deref();
    let bases: Vec<&Path> = home.into_iter().chain([cwd]).collect();
    let mut user_side = user_side::named_by(argv, &bases);
    if let Some(reason) = home.and_then(|home| user_side::reason_at(cwd, &[home])) {
        user_side.push(UserSidePath { path: cwd.display().to_string(), reason: reason.to_owned() });
    }
    let command = Some(scan.command(argv.to_vec(), exe, cwd, &ctx.settings.base_env)?);
    let level = grant.level.to_string();
    let network = network_words(&grant.net, grant.model);
    let sandbox = match grant.level {
        Level::None => SandboxScope { level, network, writes: vec![SandboxScope::ANYTHING.to_owned()] },
        _ => SandboxScope {
            level,
            network,
            writes: vec![
                format!("{}, except looop's own files", cwd.display()),
                "a private temporary folder".to_owned(),
            ],
        },
    };
    Ok(ApprovalScope { command, files, folders, beyond, sandbox, user_side, ..scope })
}

/// Turns the reply to a decision into an event for the memory. A move that cannot even be planned, because a file that
/// it depends on cannot be read, is a failed decision: it was paid for, and it has a reason.
pub fn reply(
    ctx: &Ctx,
    state: &LoopState,
    observed: &Observed,
    prepared: PreparedDecision,
    commit: Option<String>,
    reply: DecideOutcome,
) -> LoopEvent {
    let at = (ctx.clock)();
    let PreparedDecision { prompt, seen, .. } = prepared;
    let charge = |usage: Usage, goal: Option<&Name>| {
        let charge = Charge::new(at, &seen.beat, ctx.runner.name(), usage);
        Box::new(Charge { goal: goal.map(Name::to_string), sensors: seen.sensors.clone(), ..charge })
    };
    match reply {
        DecideOutcome::Cancelled(usage) => LoopEvent::Cancelled { charge: charge(usage, None) },
        DecideOutcome::Failed(failure, usage) => {
            let failure = Failure { clean: !seen.tainted, ..failure };
            LoopEvent::Failed {
                charge: usage.map(|usage| charge(usage, None)),
                user_files: seen.user_files,
                failure,
            }
        }
        DecideOutcome::Move(decided, usage) => {
            let MovePlan { operation, then } = plan(ctx, state, observed, &seen.beat, &decided, &prompt);
            // If the user pauses or cancels before the move is made, the move is not wanted any more. A pause file that
            // cannot be read counts as a pause.
            if ctx.cancel.is_set() || !matches!(state_files::paused(ctx.layout), Ok(None)) {
                return LoopEvent::Cancelled { charge: charge(usage, None) };
            }
            let charge = Some(charge(usage, decided.goal.as_ref()));
            let seen = ObservedInputs { commit, ..seen };
            let decided = *decided;
            LoopEvent::Decided(Box::new(Decided { seen, decided, operation, then, charge, approval: None }))
        }
    }
}

/// Plans the move that the user approved. No runner is called. Git holds the moves of the beats in `committed`.
///
/// # Errors
/// The ask contains no move, or the user cancels; the approval stays valid then.
pub fn approved(
    ctx: &Ctx,
    observed: &Observed,
    beat: &str,
    ask: &Name,
    committed: Vec<String>,
) -> Result<LoopEvent> {
    let ask = observed.approved.as_ref().with_context(|| format!("could not find the approval {ask}"))?;
    let approval = ask.approval.as_ref().context("could not use an approval: it holds no move")?;
    let MovePlan { operation, then } = plan_approved(ctx, observed, beat, ask, approval)?;
    // No decider sees this world: what it would settle or answer is left to the next decision.
    let seen = ObservedInputs {
        prompt: String::new(),
        unchanged: true,
        tainted: !ask.clean,
        ..observed.inputs(beat, ctx.now, false, &Prompt::default())
    };
    let until_ms = ask.expires_ms.unwrap_or(i64::MAX);
    let used = Some(UsedApproval { ask: ask.id.clone(), until_ms, committed });
    let decided = approval.decided.clone();
    Ok(LoopEvent::Decided(Box::new(Decided { seen, decided, operation, then, charge: None, approval: used })))
}

/// Plans an approved move: the operation that was approved, if the move would be the same now. It is planned once more,
/// only to compare: if any byte of what the approval covers differs, the approval is void.
///
/// # Errors
/// The user cancels; the approval stays valid then.
fn plan_approved(
    ctx: &Ctx,
    observed: &Observed,
    id: &str,
    ask: &QuestionFile,
    approval: &Approval,
) -> Result<MovePlan> {
    let answer = observed.asks.get(&ask.id).and_then(|(_, answer)| answer.as_ref());
    let Some(operation) = consent::approved(ask, approval, answer) else {
        return Ok(MovePlan::refused("the approval was not for this"));
    };
    if ctx.now.unix_ms < ask.created_ms - CLOCK_SLACK_MS {
        let why = "the clock was set back to before the ask, so its expiry is unknown";
        return Ok(MovePlan::refused(why));
    }
    let checked = planned(ctx, observed, id, &approval.decided, !ask.clean).and_then(|now| {
        let (scope, _) = scope_of(ctx, &approval.decided, &now.operation)?;
        approval.scope.check(&scope).map_err(Error::msg)?;
        // The user saw the sandbox in outline. What it may read is in no approval, so all of it must be the same.
        match (&operation, &now.operation) {
            (Operation::StartWorker(then), Operation::StartWorker(now)) if !then.is_same_worker(now) => {
                Err(Error::msg(scope::changed("the worker's sandbox or its checks")))
            }
            _ => Ok(()),
        }
    });
    // An incomplete check says nothing about the approval.
    ctx.go_on()?;
    let plan = checked.map(|()| MovePlan { operation, then: MoveOutcome::Done { note: String::new() } });
    Ok(plan.unwrap_or_else(MovePlan::failed))
}
