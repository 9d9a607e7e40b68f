//! Pure. Determines what happened to a move that was begun before a crash and not settled.

use super::Probe;
use crate::rules::beat::entry;
use crate::rules::beat::state::{Intent, Operation};
use crate::rules::digest::{Digest, digest_of};
use crate::rules::process::Started;

/// The reason why a change of a file was not made.
pub const CHANGED: &str = "changed by someone else";

/// Returns the findings about an unsettled move. The journal takes precedence. `end` ends the rest of a command and
/// returns whether it was still running; `look` checks the files, or the workers.
///
/// # Errors
/// The errors of `look`.
pub fn probe<E>(
    intent: &Intent,
    journal: &str,
    end: &mut dyn FnMut(&Started) -> bool,
    look: &mut dyn FnMut(&Intent) -> Result<Probe, E>,
) -> Result<Probe, E> {
    if let Some(line) = entry::find(journal, &intent.beat) {
        return Ok(Probe::Journaled(line.to_owned()));
    }
    Ok(match (&intent.operation, &intent.started) {
        (Operation::Exec { .. }, None) => Probe::Dropped("interrupted before it began".to_owned()),
        (Operation::Exec { .. }, Some(started)) => {
            let what =
                if end(started) { "it was still running and was ended" } else { "its end was not recorded" };
            Probe::Unknown(format!("looop was interrupted while it ran; {what}"))
        }
        (Operation::Fleet | Operation::StartWorker(_), _) => look(intent)?,
        _ => match look(intent)? {
            // Somebody wrote the file since, so it is unknown whether the move was made before.
            Probe::Dropped(why) => Probe::Unknown(format!("looop was interrupted while it was made; {why}")),
            known => known,
        },
    })
}

/// Checks if the files show that a change was made. [`Probe::NotMade`] means that it is safe to make it. `content`
/// returns the blake3 of a file by its path, or `None` if the file does not exist.
///
/// # Errors
/// The errors of `content`.
pub fn compare<E>(
    operation: &Operation,
    content: &mut dyn FnMut(&str) -> Result<Option<Digest>, E>,
) -> Result<Probe, E> {
    let changed = || Probe::Dropped(CHANGED.to_owned());
    Ok(match operation {
        Operation::Nothing => Probe::Made,
        Operation::Write { path, text, replaces, .. } => {
            let wanted = digest_of(text.as_bytes());
            match content(path)? {
                Some(now) if now == wanted => Probe::Made,
                now if now == *replaces => Probe::NotMade,
                _ => changed(),
            }
        }
        Operation::Rename { from, to, content: wanted } => match (content(from)?, content(to)?) {
            (None, Some(there)) if there == *wanted => Probe::Made,
            (Some(here), None) if here == *wanted => Probe::NotMade,
            _ => changed(),
        },
        Operation::Remove { path, content: wanted } => match content(path)? {
            None => Probe::Made,
            Some(here) if here == *wanted => Probe::NotMade,
            Some(_) => changed(),
        },
        Operation::Exec { .. } | Operation::Fleet | Operation::StartWorker(_) => {
            Probe::Unknown("no file tells".to_owned())
        }
    })
}
