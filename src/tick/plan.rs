//! Plan: what a decided move means in files and processes, and whether a human must say yes to it first.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Ctx;
use super::sense::Sensed;
use crate::model::ask::{Approval, Ask, AskKind, MAX_OPEN_APPROVALS, State, Subject};
use crate::model::beat::{Beat, Deed};
use crate::model::decision::{Action, Move};
use crate::model::entry::Outcome;
use crate::model::name::Name;
use crate::model::policy::{self, Facts, Verdict};
use crate::model::schedule::{Schedule, When};
use crate::model::sensor::stamp_untrusted;
use crate::store::{deeds, file, layout, records};
use crate::sys::program;

/// A move with what policy and the store made of it.
#[derive(Debug)]
pub struct Plan {
    /// What is done.
    pub deed: Deed,
    /// What the journal says when it is done.
    pub then: Outcome,
}

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
    if let Some(why) = fleet_refuses(ctx, &decided.action) {
        return refuse(why);
    }
    let cwd = cwd_of(ctx, &decided.action);
    let was_cut = match &decided.action {
        Action::WriteGoal { id, .. } => cuts.goals.contains(id),
        Action::WritePlaybook { .. } => cuts.playbook,
        _ => false,
    };
    let data_dir = canonical(ctx.layout.root());
    let facts = Facts {
        rules: &ctx.settings.rules,
        tainted: sensed.world.is_tainted(beat),
        data_dir: &data_dir,
        cwd: cwd.as_deref(),
        protected: &ctx.settings.protected,
        was_cut,
    };
    let planned = match policy::judge(decided, &facts) {
        Verdict::Refused(why) => Ok(refuse(why)),
        Verdict::Free => free(ctx, sensed, id, decided),
        Verdict::Waits(because) => ask_first(ctx, beat, sensed, id, decided, because),
    };
    // The decision is paid for: what it depends on and cannot be read refuses it, and does not end the beat.
    planned.unwrap_or_else(|error| refuse(format!("{error:#}")))
}

fn fleet_refuses(ctx: &Ctx, action: &Action) -> Option<String> {
    match action {
        Action::StartWorker { .. } | Action::StopWorker { .. } | Action::TellWorker { .. } => {
            ctx.fleet.refuses(action)
        }
        _ => None,
    }
}

/// Where a `run` would run, with symbolic links resolved; none when that is no directory.
fn cwd_of(ctx: &Ctx, action: &Action) -> Option<PathBuf> {
    let Action::Run(run) = action else { return None };
    let wanted = match (run.cwd.as_deref(), &ctx.settings.home) {
        (None, _) => ctx.layout.root().to_owned(),
        (Some("~"), Some(home)) => home.clone(),
        (Some(text), Some(home)) if text.starts_with("~/") => home.join(&text[2..]),
        (Some(text), _) => ctx.layout.root().join(text),
    };
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
            let cwd = cwd_of(ctx, &decided.action).context("could not find the cwd of a `run`")?;
            let program = argv.first().map_or("", String::as_str);
            match program::find_program(program, &ctx.settings.path, &cwd) {
                Some(exe) => Deed::Exec { argv, exe: text_of(&exe), cwd: text_of(&cwd) },
                None => return refuse(&format!("`{program}` is not an executable on the configured PATH")),
            }
        }
        Action::ArchiveGoal { id: goal } => {
            let from = layout::goal_path(goal);
            match deeds::content(ctx.layout, &from)? {
                Some(content) => Deed::Rename { from, to: format!("goals/archive/{goal}-{id}.md"), content },
                None => return refuse("there is no such goal"),
            }
        }
        Action::DropSchedule { name } => {
            let path = layout::schedule_path(name);
            match deeds::content(ctx.layout, &path)? {
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
            };
            let same = |(other, _): &&(Ask, _)| other.text == *text && other.kind == AskKind::Question;
            if let Some((open, _)) = sensed.asks.values().filter(|pair| pair.1.is_none()).find(same) {
                return refuse(&format!("the same question is open as {}", open.id));
            }
            let note = ask.id.to_string();
            return Ok(Plan { deed: write_ask(&ask)?, then: Outcome::Done { note } });
        }
        _ => match replacement(ctx, sensed, decided)? {
            Some((_, text, _, Some(held))) if held == blake3::hash(text.as_bytes()).to_hex().as_str() => {
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

/// A file's path, its new text, whether it is executable, and the digest of what it replaces.
type Replacement = (String, String, bool, Option<String>);

/// The file that a move replaces. The digest is of what the World held, so that an edit made while the
/// runner was thinking is never overwritten.
fn replacement(ctx: &Ctx, sensed: &Sensed, decided: &Move) -> Result<Option<Replacement>> {
    let held = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    let with_end = |text: &str| if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    Ok(match &decided.action {
        Action::WriteGoal { id, body } => {
            let replaces = match sensed.world.goals.get(id) {
                Some(crate::model::world::Goal::Text(text)) => Some(held(text)),
                // Not read means not shown: the digest of nothing never fits, so the file stays as it is.
                Some(crate::model::world::Goal::Unreadable(_)) => Some(String::new()),
                None => None,
            };
            Some((layout::goal_path(id), with_end(body), false, replaces))
        }
        Action::WritePlaybook { body } => {
            Some(("PLAYBOOK.md".to_owned(), with_end(body), false, Some(held(&sensed.world.playbook))))
        }
        Action::WriteSensor { name, script } => {
            let path = layout::sensor_path(name);
            let replaces = deeds::content(ctx.layout, &path)?;
            Some((path, with_end(&stamp_untrusted(script)), true, replaces))
        }
        Action::Schedule { name, in_s, every_s, cron, note } => {
            let when = When::from_parts(*in_s, *every_s, cron.as_deref()).map_err(anyhow::Error::msg)?;
            let schedule = Schedule { when, note: note.clone(), created_ms: ctx.now.unix_ms };
            let path = layout::schedule_path(name);
            let replaces = deeds::content(ctx.layout, &path)?;
            Some((path, records::json_text(&schedule)?, false, replaces))
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
    let ask_id = Name::joined("ap", &subject.ask_id()[3..]);
    if let Some((ask, answer)) = sensed.asks.get(&ask_id) {
        return match ask.state(answer.as_ref(), ctx.now) {
            State::Open | State::Approved if !beat.closed_asks.contains(&ask_id) => {
                let then = Outcome::Waits { ask: ask_id.to_string(), because };
                Ok(Plan { deed: Deed::Nothing, then })
            }
            State::Rejected => refuse("the human rejected exactly this".to_owned()),
            _ => refuse(format!(
                "{ask_id} has just been closed; ask again in the next beat if it is still wanted"
            )),
        };
    }
    if sensed.asks.values().filter(open).count() >= MAX_OPEN_APPROVALS {
        return refuse(format!("{MAX_OPEN_APPROVALS} approvals are open already"));
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
    };
    Ok(Plan { deed: write_ask(&ask)?, then: Outcome::Waits { ask: ask_id.to_string(), because } })
}

/// All that a yes to a move covers, as it is now, and the diff of the file that it replaces.
/// The inner error says why the move cannot be made at all.
fn subject(ctx: &Ctx, sensed: &Sensed, decided: &Move) -> Result<Result<(Subject, String), String>> {
    let mut subject = Subject {
        decided: crate::model::json::canonical(&decided.to_json()),
        argv: Vec::new(),
        exe: None,
        files: Vec::new(),
        cwd: None,
        env: Vec::new(),
        sandbox: "none".to_owned(),
        replaces: None,
    };
    if let Action::Run(run) = &decided.action {
        let argv = run.full_argv();
        let program = argv.first().cloned().unwrap_or_default();
        let Some(cwd) = cwd_of(ctx, &decided.action) else {
            return Ok(Err("its cwd is not a directory".to_owned()));
        };
        let Some(exe) = program::find_program(&program, &ctx.settings.path, &cwd) else {
            return Ok(Err(format!("`{program}` is not an executable on the configured PATH")));
        };
        let named = argv.iter().skip(1).map(|arg| cwd.join(arg)).filter(|path| path.is_file());
        for path in std::iter::once(exe.clone()).chain(named) {
            let real = canonical(&path);
            let digest =
                file::digest(&real).with_context(|| format!("could not read `{}`", real.display()))?;
            subject.files.push((text_of(&path), digest.unwrap_or_default()));
        }
        subject.env = super::act::run_env(ctx).into_iter().map(|(key, _)| key).collect();
        subject.argv = argv;
        subject.exe = Some(text_of(&exe));
        subject.cwd = Some(text_of(&cwd));
        return Ok(Ok((subject, String::new())));
    }
    let Some((path, text, _, replaces)) = replacement(ctx, sensed, decided)? else {
        return Ok(Ok((subject, String::new())));
    };
    let before = file::read(&ctx.layout.file(&path), 1 << 20).ok().flatten().unwrap_or_default();
    let before = String::from_utf8_lossy(&before).into_owned();
    let diff = similar::TextDiff::from_lines(before.as_str(), text.as_str());
    let old_name = if replaces.is_some() { path.as_str() } else { "/dev/null" };
    let shown = diff.unified_diff().header(old_name, &path).to_string();
    subject.replaces = replaces;
    Ok(Ok((subject, shown)))
}

/// The plan of an approved move: the same check as when it was asked, on the files as they are now. If any
/// byte of what the yes covered differs, the yes is void.
///
/// # Errors
/// When a file that it depends on cannot be read.
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
    let planned = match subject(ctx, sensed, &decided) {
        Ok(Ok((now, _))) if now == approval.subject => free(ctx, sensed, id, &decided),
        Ok(Ok(_)) => Ok(refuse("something that the yes covered has changed since")),
        Ok(Err(why)) => Ok(refuse(&why)),
        Err(error) => Err(error),
    };
    let plan = planned.unwrap_or_else(|error| refuse(&format!("{error:#}")));
    Ok((decided, plan))
}
