//! Pure. The operation of a move: which file gets which content, over which bytes, or which command runs.

use anyhow::Result;

use super::MovePlan;
use crate::rules::beat::ask::{AskKind, QuestionFile};
use crate::rules::beat::decision::{Action, Move};
use crate::rules::beat::entry::MoveOutcome;
use crate::rules::beat::observed::Observed;
use crate::rules::beat::schedule::{FireTime, Schedule};
use crate::rules::beat::state::Operation;
use crate::rules::digest::{Digest, digest_of};
use crate::rules::name::Name;
use crate::rules::time::Now;
use crate::rules::world::Goal;
use crate::rules::world::sensor::stamp_untrusted;
use crate::store::{json_file, layout};

/// Plans the operation of a move. `outside` plans what depends on more than the world: a command, and the start of a
/// worker.
///
/// # Errors
/// The move cannot be serialized, or the command or the worker cannot run.
pub fn plan(
    observed: &Observed,
    now: Now,
    id: &str,
    decided: &Move,
    outside: impl FnOnce() -> Result<Operation>,
) -> Result<MovePlan> {
    let refuse = |why: &str| Ok(MovePlan::refused(why));
    let operation = match &decided.action {
        Action::Noop {} => Operation::Nothing,
        Action::Run(_) | Action::StartWorker { .. } => outside()?,
        Action::StopWorker { .. } | Action::TellWorker { .. } => Operation::Fleet,
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
            return Ok(MovePlan {
                operation: write_ask(&ask)?,
                then: MoveOutcome::Done { note: ask.id.to_string() },
            });
        }
        Action::WriteGoal { id, body } => {
            let replaces = match observed.world.goals.get(id) {
                Some(Goal::Text(text)) => Some(digest_of(text.as_bytes())),
                // An unreadable goal was not shown: an empty digest never matches, so the file stays unchanged.
                Some(Goal::Unreadable(_)) => Some(String::new()),
                None => None,
            };
            write(layout::goal_path(id), with_end(body), replaces)
        }
        Action::WritePlaybook { body } => {
            let replaces = Some(digest_of(observed.world.playbook.as_bytes()));
            write("PLAYBOOK.md".to_owned(), with_end(body), replaces)
        }
        Action::WriteSensor { name, script } => {
            let script = stamp_untrusted(script).map_err(anyhow::Error::msg)?;
            let path = layout::sensor_path(name);
            let replaces = observed.held.get(&path).cloned();
            Operation::Write { path, text: with_end(&script), executable: true, replaces }
        }
        Action::Schedule { name, in_s, every_s, cron, note } => {
            let when = FireTime::from_parts(*in_s, *every_s, cron.as_deref()).map_err(anyhow::Error::msg)?;
            let clean = !observed.tainted;
            let schedule = Schedule { when, note: note.clone(), created_ms: now.unix_ms, clean };
            let path = layout::schedule_path(name);
            let replaces = observed.held.get(&path).cloned();
            write(path, json_file::json_text(&schedule)?, replaces)
        }
    };
    // The digest is that of the content when the beat read the world, so that an edit during the runner's call is never
    // overwritten.
    if let Operation::Write { text, replaces: Some(held), .. } = &operation
        && *held == digest_of(text.as_bytes())
    {
        return refuse("the file already has exactly this content");
    }
    Ok(MovePlan { operation, then: MoveOutcome::Done { note: String::new() } })
}

fn write(path: String, text: String, replaces: Option<Digest>) -> Operation {
    Operation::Write { path, text, executable: false, replaces }
}

fn with_end(text: &str) -> String {
    if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

pub(super) fn write_ask(ask: &QuestionFile) -> Result<Operation> {
    Ok(write(layout::ask_path(&ask.id), json_file::json_text(ask)?, None))
}
