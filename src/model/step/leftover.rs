//! Pure. What is known after a crash about a move that was begun and not settled.

use super::Probe;
use crate::model::beat::{Deed, Intent, Started};
use crate::model::entry;
use crate::model::world::Digest;

/// Why a change of a file was not made.
pub const CHANGED: &str = "changed by someone else";

/// What is known of an unsettled move. The journal is believed first. `end` ends what still runs of a command and says
/// whether there was anything; `look` asks the files, or the fleet.
///
/// # Errors
/// Those of `look`.
pub fn probe<E>(
    intent: &Intent,
    journal: &str,
    end: &mut dyn FnMut(&Started) -> bool,
    look: &mut dyn FnMut(&Intent) -> Result<Probe, E>,
) -> Result<Probe, E> {
    if let Some(line) = entry::find(journal, &intent.beat) {
        return Ok(Probe::Journaled(line.to_owned()));
    }
    Ok(match (&intent.deed, &intent.started) {
        (Deed::Exec { .. }, None) => Probe::Dropped("interrupted before it began".to_owned()),
        (Deed::Exec { .. }, Some(started)) => {
            let what = if end(started) { "it was still running and was ended" } else { "nobody saw its end" };
            Probe::Unknown(format!("looop was interrupted while it ran; {what}"))
        }
        (Deed::Fleet | Deed::ApprovedStart(_), _) => look(intent)?,
        _ => match look(intent)? {
            // Somebody wrote the file since; whether the move was made before that, nobody can tell.
            Probe::Dropped(why) => Probe::Unknown(format!("looop was interrupted while it was made; {why}")),
            known => known,
        },
    })
}

/// Whether the files show that a change was made. [`Probe::NotMade`] means that making it is safe. `content` gives the
/// blake3 of a file by its path; none: there is no such file.
///
/// # Errors
/// Those of `content`.
pub fn compare<E>(
    deed: &Deed,
    content: &mut dyn FnMut(&str) -> Result<Option<Digest>, E>,
) -> Result<Probe, E> {
    let changed = || Probe::Dropped(CHANGED.to_owned());
    Ok(match deed {
        Deed::Nothing => Probe::Made,
        Deed::Write { path, text, replaces, .. } => {
            let wanted = blake3::hash(text.as_bytes()).to_hex().to_string();
            match content(path)? {
                Some(now) if now == wanted => Probe::Made,
                now if now == *replaces => Probe::NotMade,
                _ => changed(),
            }
        }
        Deed::Rename { from, to, content: wanted } => match (content(from)?, content(to)?) {
            (None, Some(there)) if there == *wanted => Probe::Made,
            (Some(here), None) if here == *wanted => Probe::NotMade,
            _ => changed(),
        },
        Deed::Remove { path, content: wanted } => match content(path)? {
            None => Probe::Made,
            Some(here) if here == *wanted => Probe::NotMade,
            Some(_) => changed(),
        },
        Deed::Exec { .. } | Deed::Fleet | Deed::ApprovedStart(_) => {
            Probe::Unknown("no file tells".to_owned())
        }
    })
}
