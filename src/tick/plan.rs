//! Plan: what a decided move means in files and processes, and whether a human must say yes to it first.

mod command;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Ctx;
use super::sense::Sensed;
use crate::model::ask::{Approval, Ask, AskKind, MAX_OPEN_APPROVALS, State, Subject};
use crate::model::beat::{Beat, Deed};
use crate::model::boxing::{Kind, Level};
use crate::model::decision::{Action, Move};
use crate::model::entry::Outcome;
use crate::model::name::Name;
use crate::model::policy::{self, Facts, Verdict};
use crate::model::schedule::{Schedule, When};
use crate::model::sensor::stamp_untrusted;
use crate::model::world::{Digest, Goal};
use crate::store::boxes::Boxer;
use crate::store::file;
use crate::store::{deeds, layout, records};
use crate::sys::{path, program};

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
    let facts = Facts {
        rules: &ctx.settings.rules,
        tainted: sensed.tainted,
        data_dir: &data_dir,
        place: place.as_deref(),
        protected: &ctx.settings.protected,
        resolve: path::followed,
        was_cut,
        boxed: is_boxed(ctx, &decided.action),
        proposed,
        free_check: has_free_check(ctx, decided),
    };
    let planned = match policy::judge(decided, &facts) {
        Verdict::Refused(why) => Ok(refuse(why)),
        Verdict::Free => free(ctx, sensed, id, decided),
        Verdict::Waits(because) => ask_first(ctx, beat, sensed, id, decided, because),
    };
    // The decision is paid for: what it depends on and cannot be read refuses it, and does not end the beat.
    planned.unwrap_or_else(|error| refuse(format!("{error:#}")))
}

/// True for a worker whose check is a shell line. What cannot be told is said when its start is described or made.
fn has_free_check(ctx: &Ctx, decided: &Move) -> bool {
    matches!(decided.action, Action::StartWorker { .. })
        && matches!(ctx.fleet.describe(decided), Ok(Ok(described)) if described.free_check)
}

/// True when a worker would run in a whole sandbox, and so would the checks of its work: they run what it wrote.
fn is_boxed(ctx: &Ctx, action: &Action) -> bool {
    let boxer = Boxer::new(ctx.layout, ctx.settings, true);
    let is_whole = |kind| boxer.level(kind) == Ok(Level::Full);
    matches!(action, Action::StartWorker { .. }) && is_whole(Kind::Worker) && is_whole(Kind::Verify)
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
    let refuse = |why: &str| Ok(Plan { deed: Deed::Nothing, then: Outcome::Refused { why: why.to_owned() } });
    let deed = match &decided.action {
        Action::Noop {} => Deed::Nothing,
        Action::Run(run) => {
            let argv = run.full_argv();
            let cwd = place_of(ctx, &decided.action).context("could not find the cwd of a `run`")?;
            let program = argv.first().map_or("", String::as_str);
            match program::find_program(program, &ctx.settings.path, &cwd) {
                Some(exe) => Deed::Exec { argv, exe: text_of(&exe), cwd: text_of(&cwd), files: Vec::new() },
                None => return refuse(&format!("`{program}` is not an executable on the configured PATH")),
            }
        }
        Action::ArchiveGoal { id: goal } => match sensed.world.goals.get(goal) {
            Some(Goal::Text(text)) => Deed::Rename {
                from: layout::goal_path(goal),
                to: format!("goals/archive/{goal}-{id}.md"),
                content: digest_of(text.as_bytes()),
            },
            Some(Goal::Unreadable(why)) => return refuse(&format!("the goal cannot be read: {why}")),
            None => return refuse("there is no such goal"),
        },
        Action::DropSchedule { name } => {
            let path = layout::schedule_path(name);
            match sensed.held.get(&path).cloned() {
                Some(content) => Deed::Remove { path, content },
                None => return refuse("there is no such schedule"),
            }
        }
        Action::StartWorker { .. } | Action::StopWorker { .. } | Action::TellWorker { .. } => Deed::Fleet,
        Action::Ask { text, options, reference } => {
            let ask = Ask {
                id: Name::joined("ask", id),
                kind: AskKind::Question,
                worker: None,
                goal: decided.goal.clone(),
                text: text.clone(),
                options: options.clone(),
                reference: reference.clone(),
                beat: id.to_owned(),
                created_ms: ctx.now.unix_ms,
                expires_ms: None,
                approval: None,
                clean: !sensed.tainted,
            };
            let same = |(other, _): &&(Ask, _)| other.text == *text && other.kind == AskKind::Question;
            if let Some((open, _)) = sensed.asks.values().filter(|pair| pair.1.is_none()).find(same) {
                return refuse(&format!("the same question is open as {}", open.id));
            }
            let note = ask.id.to_string();
            return Ok(Plan { deed: write_ask(&ask)?, then: Outcome::Done { note } });
        }
        _ => match replacement(ctx, sensed, decided)? {
            Some((_, text, _, Some(held))) if held == digest_of(text.as_bytes()) => {
                return refuse("the file holds exactly this already");
            }
            Some((path, text, executable, replaces)) => Deed::Write { path, text, executable, replaces },
            None => return refuse("it writes nothing"),
        },
    };
    Ok(Plan { deed, then: Outcome::Done { note: String::new() } })
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn write_ask(ask: &Ask) -> Result<Deed> {
    let text = records::json_text(ask)?;
    Ok(Deed::Write { path: layout::ask_path(&ask.id), text, executable: false, replaces: None })
}

fn digest_of(bytes: &[u8]) -> Digest {
    blake3::hash(bytes).to_hex().to_string()
}

/// A file's path, its new text, whether it is executable, and the digest of what it replaces.
type Replacement = (String, String, bool, Option<Digest>);

/// The file that a move replaces. The digest is of what was there when the beat looked at the world, so that
/// an edit made while the runner was thinking is never overwritten.
fn replacement(ctx: &Ctx, sensed: &Sensed, decided: &Move) -> Result<Option<Replacement>> {
    let with_end = |text: &str| if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    let over = |path: String, text: String, executable| {
        let replaces = sensed.held.get(&path).cloned();
        (path, text, executable, replaces)
    };
    Ok(match &decided.action {
        Action::WriteGoal { id, body } => {
            let replaces = match sensed.world.goals.get(id) {
                Some(Goal::Text(text)) => Some(digest_of(text.as_bytes())),
                // Not read means not shown: the digest of nothing never fits, so the file stays as it is.
                Some(Goal::Unreadable(_)) => Some(String::new()),
                None => None,
            };
            Some((layout::goal_path(id), with_end(body), false, replaces))
        }
        Action::WritePlaybook { body } => {
            let replaces = Some(digest_of(sensed.world.playbook.as_bytes()));
            Some(("PLAYBOOK.md".to_owned(), with_end(body), false, replaces))
        }
        Action::WriteSensor { name, script } => {
            let script = stamp_untrusted(script).map_err(anyhow::Error::msg)?;
            Some(over(layout::sensor_path(name), with_end(&script), true))
        }
        Action::Schedule { name, in_s, every_s, cron, note } => {
            let when = When::from_parts(*in_s, *every_s, cron.as_deref()).map_err(anyhow::Error::msg)?;
            let clean = !sensed.tainted;
            let schedule = Schedule { when, note: note.clone(), created_ms: ctx.now.unix_ms, clean };
            Some(over(layout::schedule_path(name), records::json_text(&schedule)?, false))
        }
        _ => None,
    })
}

/// The ask for a move that needs a yes, unless the human said no to it or has enough of them.
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
    let digest = subject.digest();
    if beat.rejected.get(&digest).is_some_and(|until| *until > ctx.now.unix_ms) {
        return refuse("the human rejected exactly this; it can be asked again a day after that".to_owned());
    }
    let open = |(ask, answer): &&(Ask, Option<_>)| {
        ask.kind == AskKind::Approval
            && !beat.closed_asks.contains(&ask.id)
            && ask.state(answer.as_ref(), ctx.now) == State::Open
    };
    let same = |(ask, _): &&(Ask, _)| ask.approval.as_ref().is_some_and(|a| a.subject.digest() == digest);
    if let Some((ask, answer)) = sensed.asks.values().filter(same).max_by_key(|(ask, _)| ask.created_ms) {
        return match ask.state(answer.as_ref(), ctx.now) {
            State::Open | State::Approved if !beat.closed_asks.contains(&ask.id) => {
                let then = Outcome::Waits { ask: ask.id.to_string(), because };
                Ok(Plan { deed: Deed::Nothing, then })
            }
            State::Rejected => refuse("the human rejected exactly this".to_owned()),
            _ => refuse(format!(
                "{} has just been closed; ask again in the next beat if it is still wanted",
                ask.id
            )),
        };
    }
    if sensed.asks.values().filter(open).count() >= MAX_OPEN_APPROVALS {
        return refuse(format!("{MAX_OPEN_APPROVALS} approvals are open already"));
    }
    let mut ask_id = Name::joined("ap", &subject.ask_id()[3..]);
    if beat.closed_asks.contains(&ask_id) {
        // A yes to this wish was used and is remembered by its id: the next one needs an id of its own.
        ask_id = Name::joined("ap", &format!("{}{id}", &subject.ask_id()[3..]));
    }
    let expires_ms = ctx.now.unix_ms + ctx.settings.limits.approval_ttl_ms;
    let hash = subject.bound_hash(ask_id.as_str(), expires_ms);
    let approval = Approval { decided: decided.clone(), subject, diff, because: because.clone(), hash };
    let ask = Ask {
        id: ask_id.clone(),
        kind: AskKind::Approval,
        worker: None,
        goal: decided.goal.clone(),
        text: decided.why.clone(),
        options: Vec::new(),
        reference: None,
        beat: id.to_owned(),
        created_ms: ctx.now.unix_ms,
        expires_ms: Some(expires_ms),
        approval: Some(approval),
        clean: !sensed.tainted,
    };
    Ok(Plan { deed: write_ask(&ask)?, then: Outcome::Waits { ask: ask_id.to_string(), because } })
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
            (subject, diff_of("/dev/null", &format!("the brief of {id}"), "", &format!("{brief}\n")))
        }));
    }
    if let Action::Run(run) = &decided.action {
        return Ok(
            command::covered(ctx, decided, run.full_argv(), subject)?.map(|subject| (subject, String::new()))
        );
    }
    let Some((path, text, _, replaces)) = replacement(ctx, sensed, decided)? else {
        return Ok(Ok((subject, String::new())));
    };
    let before = file::read(&ctx.layout.file(&path), MAX_SHOWN_BYTES)
        .with_context(|| format!("could not read `{path}`"))?;
    if before.as_deref().map(digest_of) != replaces {
        return Ok(Err(deeds::CHANGED.to_owned()));
    }
    let before = String::from_utf8_lossy(&before.unwrap_or_default()).into_owned();
    let old_name = if replaces.is_some() { path.as_str() } else { "/dev/null" };
    let shown = diff_of(old_name, &path, &before, &text);
    subject.replaces = replaces;
    Ok(Ok((subject, shown)))
}

fn diff_of(old_name: &str, new_name: &str, old: &str, new: &str) -> String {
    similar::TextDiff::from_lines(old, new).unified_diff().header(old_name, new_name).to_string()
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
    let said = sensed.asks.get(&ask.id).and_then(|(_, answer)| answer.as_ref()).map(|answer| &answer.said);
    let expires_ms = ask.expires_ms.unwrap_or_default();
    let bound = approval.subject.bound_hash(ask.id.as_str(), expires_ms);
    let yes = matches!(said, Some(crate::model::ask::Said::Approve { hash }) if *hash == bound && approval.hash == bound);
    if !yes {
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
