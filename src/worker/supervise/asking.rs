//! A worker's questions: one at a time, written for the user as a file, and answered by a file.

use anyhow::Result;

use super::serve::{ConnectionRole, Refusal};
use super::{LOOK_MS, Supervisor, now};
use crate::model::ask::{AskKind, AskReply, QuestionFile};
use crate::model::name::Name;
use crate::model::wire::{MAX_TEXT, WireReply};
use crate::store::json_file;
use crate::store::{file, layout, records};
use crate::sys::clock::Deadline;

/// How much of a worker's name is in the ids of its questions, in characters; the time and a number follow.
const NAME_CHARS: usize = 24;

impl Supervisor {
    /// Asks the user a question on behalf of a connection. The same question is the same ask: while it is open, and if
    /// its answer has not been delivered.
    pub(super) fn ask(
        &mut self,
        at: usize,
        text: &str,
        options: &[String],
        reference: Option<&str>,
    ) -> Result<Result<(), Refusal>> {
        anyhow::ensure!(!text.trim().is_empty(), "the question is empty");
        let length =
            text.len() + options.iter().map(String::len).sum::<usize>() + reference.map_or(0, str::len);
        anyhow::ensure!(length <= MAX_TEXT, "the question is longer than {} KiB", MAX_TEXT / 1024);
        let asked = blake3::hash(format!("{text:?}{options:?}").as_bytes());
        if let Some((id, open)) = &self.state.ask.clone().zip(self.question) {
            anyhow::ensure!(*open == asked, "{id} is open; one question at a time");
            self.conns[at].role = ConnectionRole::Asking(id.clone());
            return Ok(Ok(()));
        }
        if self.question == Some(asked)
            && let Some(answer) = self.unread.take()
        {
            self.conns[at].reply(&answer);
            return Ok(Ok(()));
        }
        match self.put(text, options, reference)? {
            Ok(id) => {
                (self.question, self.unread) = (Some(asked), None);
                self.conns[at].role = ConnectionRole::Asking(id.clone());
                self.state.ask = Some(id);
                self.need_changed();
                Ok(Ok(()))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn put(&self, text: &str, options: &[String], reference: Option<&str>) -> Result<Result<Name, Refusal>> {
        let at = now().unix_ms;
        let clean = |text: &str| self.secrets.redact(text).into_owned();
        let ask = |id: Name| QuestionFile {
            id,
            kind: AskKind::Question,
            worker: Some(self.spec.id.clone()),
            goal: self.spec.goal.clone(),
            text: clean(text),
            options: options.iter().map(|option| clean(option)).collect(),
            reference: reference.map(clean),
            beat: self.spec.by.clone(),
            created_ms: at,
            expires_ms: None,
            approval: None,
            clean: false,
        };
        self.fenced(|| {
            // Whole after a part of the worker's name: a repeated id would find its old answer.
            let name = self.spec.id.as_str().chars().filter(char::is_ascii_alphanumeric);
            let name: String = name.take(NAME_CHARS).collect();
            for nth in 0..100 {
                let id = Name::joined("ask", &format!("{name}{at:x}{nth}"));
                let text = json_file::json_text(&ask(id.clone()))?;
                if file::create(&self.layout.file(&layout::ask_path(&id)), text.as_bytes(), 0o600)? {
                    return Ok(id);
                }
            }
            anyhow::bail!("could not find a free id for the question")
        })
    }

    /// Delivers the answer to the open ask, if there is one.
    pub(super) fn look_for_answers(&mut self) {
        self.look = Deadline::after_ms(LOOK_MS);
        let Some(id) = self.state.ask.clone() else { return };
        let answer = match records::answer(&self.layout, &id) {
            Ok(Some(answer)) => match answer.reply {
                AskReply::Answer { text } => WireReply::Ok(text),
                _ => return,
            },
            Ok(None) if matches!(records::ask(&self.layout, &id), Ok(None)) => {
                WireReply::Error(format!("the question {id} was removed and has no answer"))
            }
            // An answer that cannot be read now may be readable later.
            _ => return,
        };
        self.state.ask = None;
        let mut heard = false;
        for conn in &mut self.conns {
            if matches!(&conn.role, ConnectionRole::Asking(asked) if *asked == id) {
                conn.reply(&answer);
                heard |= conn.flush();
            }
        }
        self.unread = Some(answer).filter(|answer| !heard && matches!(answer, WireReply::Ok(_)));
        self.need_changed();
    }
}
