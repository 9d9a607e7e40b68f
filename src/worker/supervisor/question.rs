//! The files of a worker's questions: one for the question, one for the user's answer.

use super::record::Record;
use super::refusal::{self, RequestRefusal};
use crate::os::clock;
use crate::rules::beat::ask::{AskReply, QuestionFile};
use crate::rules::name::Name;
use crate::rules::worker::protocol::{MAX_TEXT, WireReply, WorkerQuestion};
use crate::store::state_files;

/// How much of a worker's name is in the ids of its questions, in characters; the time and a number follow.
const NAME_CHARS: usize = 24;

impl WorkerQuestion {
    /// Checks its length, and returns what identifies it.
    pub(super) fn hash(&self) -> Result<blake3::Hash, RequestRefusal> {
        let WorkerQuestion { text, options, reference } = self;
        if text.trim().is_empty() {
            return Err(RequestRefusal::QuestionEmpty);
        }
        let parts = options.iter().chain(reference).chain([text]);
        match parts.map(String::len).sum::<usize>() <= MAX_TEXT {
            true => Ok(blake3::hash(format!("{text:?}{options:?}").as_bytes())),
            false => Err(RequestRefusal::QuestionTooLong),
        }
    }

    /// Writes it for the user, and returns its id.
    pub(super) fn write(&self, record: &Record) -> Result<Name, RequestRefusal> {
        let at = clock::unix_ms();
        let ask = |id: Name| QuestionFile {
            worker: Some(record.spec.id.clone()),
            goal: record.spec.goal.clone(),
            options: self.options.iter().map(|option| record.clean(option)).collect(),
            reference: self.reference.as_ref().map(|reference| record.clean(reference)),
            clean: false,
            ..QuestionFile::new(id, &record.spec.by, at, record.clean(&self.text))
        };
        record.fenced(|| {
            // Whole after a part of the worker's name: a repeated id would find its old answer.
            let name = record.spec.id.as_str().chars().filter(char::is_ascii_alphanumeric);
            let name: String = name.take(NAME_CHARS).collect();
            let ids = (0..100).map(|nth| Name::joined("ask", &format!("{name}{at:x}{nth}")));
            state_files::create_question(&record.layout, ids, ask)
        })
    }
}

/// Returns the answer to an ask, if there is one.
pub(super) fn answer(record: &Record, id: &Name) -> Option<WireReply> {
    match state_files::answer(&record.layout, id) {
        Ok(Some(answer)) => match answer.reply {
            AskReply::Answer { text } => Some(WireReply::Ok(text)),
            _ => None,
        },
        Ok(None) if matches!(state_files::ask(&record.layout, id), Ok(None)) => {
            Some(refusal::reply(Err(RequestRefusal::QuestionRemoved(id.clone()))))
        }
        // An answer that cannot be read now may be readable later.
        _ => None,
    }
}
