//! A worker's questions: one at a time, written for the user as a file, and answered by a file.

use std::time::Duration;

use anyhow::Result;

use super::record::Record;
use super::refusal::{self, RequestRefusal};
use crate::model::ask::{AskKind, AskReply, QuestionFile};
use crate::model::name::Name;
use crate::model::wire::{MAX_TEXT, WireReply};
use crate::store::{file, json_file, layout, records};
use crate::sys::clock::{self, Deadline};

/// How often the supervisor checks for an answer to an open ask without a wake-up, in milliseconds.
const LOOK_MS: i64 = 1_000;
/// How much of a worker's name is in the ids of its questions, in characters; the time and a number follow.
const NAME_CHARS: usize = 24;

/// The last question. The record has the id of the open one.
pub(super) struct LastQuestion {
    hash: Option<blake3::Hash>,
    /// Its answer, if no connection was there to take it.
    pub(super) unread: Option<WireReply>,
    /// When to check for an answer next.
    look: Deadline,
}

/// What follows a question.
pub(super) enum AskResult {
    /// The user has not answered this ask yet; true if it is new.
    Open(Name, bool),
    /// The answer was there already.
    Answered(String),
}

impl LastQuestion {
    pub(super) fn none() -> LastQuestion {
        LastQuestion { hash: None, unread: None, look: Deadline::after_ms(LOOK_MS) }
    }

    /// Asks the user a question. The same question is the same ask: while it is open, and if its answer has not been
    /// delivered.
    pub(super) fn ask(
        &mut self,
        record: &mut Record,
        text: &str,
        options: &[String],
        reference: Option<&str>,
    ) -> Result<AskResult, RequestRefusal> {
        if text.trim().is_empty() {
            return Err(RequestRefusal::QuestionEmpty);
        }
        let length =
            text.len() + options.iter().map(String::len).sum::<usize>() + reference.map_or(0, str::len);
        if length > MAX_TEXT {
            return Err(RequestRefusal::QuestionTooLong);
        }
        let asked = Some(blake3::hash(format!("{text:?}{options:?}").as_bytes()));
        if let Some(id) = &record.state.ask {
            return match self.hash == asked {
                true => Ok(AskResult::Open(id.clone(), false)),
                false => Err(RequestRefusal::QuestionOpen(id.clone())),
            };
        }
        if self.hash == asked
            && let Some(WireReply::Ok(answer)) = self.unread.take()
        {
            return Ok(AskResult::Answered(answer));
        }
        let id = put(record, text, options, reference)?;
        (self.hash, self.unread) = (asked, None);
        record.state.ask = Some(id.clone());
        Ok(AskResult::Open(id, true))
    }

    /// Returns the time until the next check for an answer.
    pub(super) fn due(&self, record: &Record) -> Option<Duration> {
        record.state.ask.is_some().then(|| self.look.left())
    }

    /// Takes the answer to the open ask, if there is one.
    pub(super) fn answer(&mut self, record: &mut Record) -> Option<(Name, WireReply)> {
        self.look = Deadline::after_ms(LOOK_MS);
        let id = record.state.ask.clone()?;
        let answer = match records::answer(&record.layout, &id) {
            Ok(Some(answer)) => match answer.reply {
                AskReply::Answer { text } => WireReply::Ok(text),
                _ => return None,
            },
            Ok(None) if matches!(records::ask(&record.layout, &id), Ok(None)) => {
                refusal::reply(Err(RequestRefusal::QuestionRemoved(id.clone())))
            }
            // An answer that cannot be read now may be readable later.
            _ => return None,
        };
        record.state.ask = None;
        Some((id, answer))
    }
}

/// Writes the question for the user, and returns its id.
fn put(
    record: &Record,
    text: &str,
    options: &[String],
    reference: Option<&str>,
) -> Result<Name, RequestRefusal> {
    let at = clock::now().unix_ms;
    let ask = |id: Name| QuestionFile {
        id,
        kind: AskKind::Question,
        worker: Some(record.spec.id.clone()),
        goal: record.spec.goal.clone(),
        text: record.clean(text),
        options: options.iter().map(|option| record.clean(option)).collect(),
        reference: reference.map(|reference| record.clean(reference)),
        beat: record.spec.by.clone(),
        created_ms: at,
        expires_ms: None,
        approval: None,
        clean: false,
    };
    record.fenced(|| {
        // Whole after a part of the worker's name: a repeated id would find its old answer.
        let name = record.spec.id.as_str().chars().filter(char::is_ascii_alphanumeric);
        let name: String = name.take(NAME_CHARS).collect();
        for nth in 0..100 {
            let id = Name::joined("ask", &format!("{name}{at:x}{nth}"));
            let text = json_file::json_text(&ask(id.clone()))?;
            if file::create(&record.layout.file(&layout::ask_path(&id)), text.as_bytes(), 0o600)? {
                return Ok(id);
            }
        }
        anyhow::bail!("could not find a free id for the question")
    })
}
