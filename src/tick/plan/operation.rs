//! Pure. The operation of a move: which file gets which content, over which bytes, or which command runs.

use anyhow::Result;

use super::MovePlan;
use crate::rules::beat::ask::{AskKind, QuestionFile};
use crate::rules::beat::decision::{Action, Move, RunCommand};
use crate::rules::beat::entry::MoveOutcome;
use crate::rules::beat::observed::Observed;
use crate::rules::beat::schedule::{FireTime, Schedule};
use crate::rules::beat::state::Operation;
use crate::rules::digest::Digest;
use crate::rules::name::Name;
use crate::rules::time::Now;
use crate::rules::world::Goal;
use crate::rules::world::sensor::stamp_untrusted;
use crate::store::json_file;
use crate::store::layout;

/// Plans a move that needs no approval, or has one. `exec` finds the program and the directory of a command.
///
/// # Errors
/// The move cannot be serialized, or the command cannot run.
pub fn free(
    observed: &Observed,
    now: Now,
    id: &str,
    decided: &Move,
    exec: &mut dyn FnMut(&RunCommand) -> Result<Operation>,
) -> Result<MovePlan> {
    let refuse = |why: &str| Ok(MovePlan::refused(why));
    let operation = match &decided.action {
        Action::Noop {} => Operation::Nothing,
        Action::Run(run) => exec(run)?,
        Action::ArchiveGoal { id: goal } => match observed.world.goals.get(goal) {
            Some(Goal::Text(text)) => Operation::Rename {
                from: layout::goal_path(goal),
                to: format!("goals/archive/{goal}-{id}.md"),
                content: digest_of(text.as_bytes()),
            },
            Some(Goal::Unreadable(why)) => return refuse(&format!("the goal cannot be read: {why}")),
            None => return refuse("there is no such goal"),
        },
        Action::DropSchedule { name } => {
            let path = layout::schedule_path(name);
            match observed.held.get(&path).cloned() {
                Some(content) => Operation::Remove { path, content },
                None => return refuse("there is no such schedule"),
            }
        }
        Action::StartWorker { .. } | Action::StopWorker { .. } | Action::TellWorker { .. } => {
            Operation::Fleet
        }
        Action::Ask { text, options, reference } => {
            let ask = QuestionFile {
                goal: decided.goal.clone(),
                options: options.clone(),
                reference: reference.clone(),
                clean: !observed.tainted,
                ..QuestionFile::new(Name::joined("ask", id), id, now.unix_ms, text.clone())
            };
            let same =
                |(other, _): &&(QuestionFile, _)| other.text == *text && other.kind == AskKind::Question;
            if let Some((open, _)) = observed.asks.values().filter(|pair| pair.1.is_none()).find(same) {
                return refuse(&format!("the same question is open as {}", open.id));
            }
            let note = ask.id.to_string();
            return Ok(MovePlan::new(write_ask(&ask)?, MoveOutcome::Done { note }));
        }
        _ => match replacement(observed, now, decided)? {
            Some((_, text, _, Some(held))) if held == digest_of(text.as_bytes()) => {
                return refuse("the file already has exactly this content");
            }
            Some((path, text, executable, replaces)) => Operation::Write { path, text, executable, replaces },
            None => return refuse("it writes nothing"),
        },
    };
    Ok(MovePlan::new(operation, MoveOutcome::Done { note: String::new() }))
}

pub(super) fn write_ask(ask: &QuestionFile) -> Result<Operation> {
    let text = json_file::json_text(ask)?;
    Ok(Operation::Write { path: layout::ask_path(&ask.id), text, executable: false, replaces: None })
}

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    blake3::hash(bytes).to_hex().to_string()
}

/// A file's path, its new text, whether it is executable, and the digest of what it replaces.
pub type Replacement = (String, String, bool, Option<Digest>);

/// Returns the file that a move replaces. The digest is that of the content when the beat read the world, so that an
/// edit during the runner's call is never overwritten.
pub fn replacement(observed: &Observed, now: Now, decided: &Move) -> Result<Option<Replacement>> {
    let with_end = |text: &str| if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    let over = |path: String, text: String, executable| {
        let replaces = observed.held.get(&path).cloned();
        (path, text, executable, replaces)
    };
    Ok(match &decided.action {
        Action::WriteGoal { id, body } => {
            let replaces = match observed.world.goals.get(id) {
                Some(Goal::Text(text)) => Some(digest_of(text.as_bytes())),
                // An unreadable goal was not shown: an empty digest never matches, so the file stays unchanged.
                Some(Goal::Unreadable(_)) => Some(String::new()),
                None => None,
            };
            Some((layout::goal_path(id), with_end(body), false, replaces))
        }
        Action::WritePlaybook { body } => {
            let replaces = Some(digest_of(observed.world.playbook.as_bytes()));
            Some(("PLAYBOOK.md".to_owned(), with_end(body), false, replaces))
        }
        Action::WriteSensor { name, script } => {
            let script = stamp_untrusted(script).map_err(anyhow::Error::msg)?;
            Some(over(layout::sensor_path(name), with_end(&script), true))
        }
        Action::Schedule { name, in_s, every_s, cron, note } => {
            let when = FireTime::from_parts(*in_s, *every_s, cron.as_deref()).map_err(anyhow::Error::msg)?;
            let clean = !observed.tainted;
            let schedule = Schedule { when, note: note.clone(), created_ms: now.unix_ms, clean };
            Some(over(layout::schedule_path(name), json_file::json_text(&schedule)?, false))
        }
        _ => None,
    })
}
