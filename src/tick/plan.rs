//! Plan: what a decided move means in files and processes, and whether a human must say yes to it first.

mod command;
pub mod consent;
pub mod deed;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::sense::Sensed;
use super::{Ctx, diff};
use crate::model::ask::Ask;
use crate::model::beat::{Beat, Deed};
use crate::model::boxing::Level;
use crate::model::decision::{Action, Move};
use crate::model::entry::Outcome;
use crate::model::front_matter;
use crate::model::name::Name;
use crate::model::policy::{self, Facts, Verdict};
use crate::model::scope::{self, ApprovalScope, SandboxScope};
use crate::model::step::CHANGED;
use crate::model::world::Goal;
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
    /// True when it starts a worker that costs money.
    pub starts_paid: bool,
}

impl Plan {
    /// What is done, and what the journal says then.
    pub fn new(deed: Deed, then: Outcome) -> Plan {
        Plan { deed, then, starts_paid: false }
    }

    /// Nothing is done; why.
    pub fn refused(why: impl Into<String>) -> Plan {
        Plan::new(Deed::Nothing, Outcome::Refused { why: why.into() })
    }
}

/// How far the clock may go back between an ask and its move, in milliseconds: it is set right now and then.
const CLOCK_SLACK_MS: i64 = 60_000;
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
    let place = place_of(ctx, &decided.action);
    let was_cut = match &decided.action {
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
    let facts = Facts {
        rules: &ctx.settings.rules,
        tainted: sensed.tainted,
        data_dir: &data_dir,
        place: place.as_deref(),
        protected: &ctx.settings.protected,
        resolve: path::followed,
        was_cut,
        boxed: worker.is_full,
        proposed,
        free_check: worker.free_check,
        repo_listed: place.as_deref().is_some_and(|repo| is_listed(ctx, beat, sensed, decided, repo)),
        first_paid: worker.paid && !beat.paid_start_approved,
    };
    let planned = match policy::judge(decided, &facts) {
        Verdict::Refused(why) => Ok(Plan::refused(why)),
        Verdict::Free => free(ctx, sensed, id, decided).map(|plan| Plan { starts_paid: worker.paid, ..plan }),
        Verdict::Waits(because) => ask_first(ctx, beat, sensed, id, decided, because),
    };
    // The decision is paid for: what it depends on and cannot be read refuses it, and does not end the beat.
    planned.unwrap_or_else(|error| Plan::refused(format!("{error:#}")))
}

/// The worker that a move would start. None: it starts none, or cannot, which is said when the start is made.
fn described(ctx: &Ctx, decided: &Move) -> Option<Described> {
    let is_start = matches!(decided.action, Action::StartWorker { .. });
    is_start.then(|| ctx.fleet.describe(decided).ok()?.ok()).flatten()
}

/// True when the loop may clone a repository without a yes: the config lists it, or the front matter of the goal that
/// the move serves does. The text of that goal must be the user's own: a move must not list what it is to clone.
fn is_listed(ctx: &Ctx, beat: &Beat, sensed: &Sensed, decided: &Move, repo: &Path) -> bool {
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
    // One that cannot be read is a problem that the world shows.
    let listed = front_matter::repos(text).unwrap_or_default();
    listed.iter().any(|path| canonical(&ctx.settings.path_of(ctx.layout.root(), path)) == repo)
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
            Some(exe) => Ok(Deed::Exec {
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

/// The ask for a move that needs a yes.
fn ask_first(
    ctx: &Ctx,
    beat: &Beat,
    sensed: &Sensed,
    id: &str,
    decided: &Move,
    because: String,
) -> Result<Plan> {
    let (scope, diff) = match scope_of(ctx, sensed, decided)? {
        Ok(pair) => pair,
        Err(why) => return Ok(Plan::refused(why)),
    };
    let wish = consent::Wish { id, decided, because, scope, diff, clean: !sensed.tainted };
    consent::ask_first(beat, &sensed.asks, ctx.now, ctx.settings.limits.approval_ttl_ms, wish)
}

/// All that a yes to a move covers, as it is now, and the diff of the file that it replaces or a worker's brief.
/// The inner error says why the move cannot be made at all.
fn scope_of(ctx: &Ctx, sensed: &Sensed, decided: &Move) -> Result<Result<(ApprovalScope, String), String>> {
    let mut action = decided.action.to_json();
    if let (Action::Run(_), Some(fields)) = (&decided.action, action.as_object_mut()) {
        // One directory has many spellings; the scope holds the one that they all lead to.
        fields.remove("cwd");
    }
    let scope = ApprovalScope {
        form: scope::FORM,
        // Other words for why it is wanted make no other wish.
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
    let Some((path, text, _, replaces)) = deed::replacement(sensed, ctx.now, decided)? else {
        return Ok(Ok((scope, String::new())));
    };
    let before = file::read(&ctx.layout.file(&path), MAX_SHOWN_BYTES)
        .with_context(|| format!("could not read `{path}`"))?;
    if before.as_deref().map(deed::digest_of) != replaces {
        return Ok(Err(CHANGED.to_owned()));
    }
    let before = String::from_utf8_lossy(&before.unwrap_or_default()).into_owned();
    let old_name = if replaces.is_some() { path.as_str() } else { "/dev/null" };
    let shown = diff::unified(old_name, &path, &before, &text);
    // The file is the user's and may hold a secret; the ask with its diff is kept and committed.
    let shown = ctx.settings.secrets.redact(&shown).into_owned();
    Ok(Ok((ApprovalScope { replaces, ..scope }, shown)))
}

/// The plan of an approved move: the same check as when it was asked, on the files as they are now. If any
/// byte of what the yes covered differs, the yes is void.
///
/// # Errors
/// When the ask holds no move, or the human interrupts; the yes is kept then.
pub fn plan_approved(ctx: &Ctx, sensed: &Sensed, id: &str, ask: &Ask) -> Result<(Move, Plan)> {
    let approval = ask.approval.as_ref().context("could not use an approval: it holds no move")?;
    let decided = approval.decided.clone();
    let answer = sensed.asks.get(&ask.id).and_then(|(_, answer)| answer.as_ref());
    if !consent::is_yes(ask, approval, answer) {
        return Ok((decided, Plan::refused("the yes was not for this")));
    }
    if ctx.now.unix_ms < ask.created_ms - CLOCK_SLACK_MS {
        let why = "the clock was set back to before the ask, so its end cannot be told";
        return Ok((decided, Plan::refused(why)));
    }
    let scope = scope_of(ctx, sensed, &decided);
    // What could not be looked at to its end says nothing about the yes.
    ctx.go_on()?;
    let planned = match scope {
        Ok(Ok((now, _))) => match approval.scope.check(&now) {
            Ok(()) => free(ctx, sensed, id, &decided).map(|plan| sealed(plan, &decided, now)),
            Err(why) => Ok(Plan::refused(why)),
        },
        Ok(Err(why)) => Ok(Plan::refused(why)),
        Err(error) => Err(error),
    };
    let mut plan = planned.unwrap_or_else(|error| Plan::refused(format!("{error:#}")));
    plan.starts_paid = described(ctx, &decided).is_some_and(|worker| worker.paid);
    Ok((decided, plan))
}

/// The plan with what the yes was for, so that it is checked once more when the command or the worker starts.
fn sealed(mut plan: Plan, decided: &Move, covered: ApprovalScope) -> Plan {
    match &mut plan.deed {
        Deed::Exec { files, folders, .. } => {
            *files = covered.files.into_iter().map(|file| (file.path, file.content)).collect();
            *folders = covered.folders.into_iter().map(|folder| (folder.path, folder.content)).collect();
        }
        deed @ Deed::Fleet if matches!(decided.action, Action::StartWorker { .. }) => {
            *deed = Deed::ApprovedStart(Box::new(covered));
        }
        _ => {}
    }
    plan
}
