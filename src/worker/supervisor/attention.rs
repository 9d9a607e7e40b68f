//! What a worker needs from its user: its flag, its question, and the helper processes that update the user's windows.
//!
//! The worker raises its flag itself, or its program reports a status, or its silence looks like a prompt.

use std::time::Duration;

use super::record::Record;
use super::refusal::{self, RequestRefusal};
use crate::os::clock::{self, Deadline};
use crate::os::detach;
use crate::rules::beat::ask::{AskReply, QuestionFile};
use crate::rules::json::clip;
use crate::rules::name::Name;
use crate::rules::worker::protocol::{MAX_TEXT, WireReply, WorkerQuestion};
use crate::rules::worker::query::{ProgramState, ProgramStatus};
use crate::rules::worker::{Flag, Phase, silence};
use crate::store::state_files;
use crate::{agents, screen};

/// How often the supervisor checks for an answer to an open ask without a wake-up, in milliseconds.
const POLL_MS: i64 = 1_000;
/// How many helper processes may run at once.
const MAX_HELPERS: usize = 4;
/// The longest text of a flag that no command raised, in bytes.
const TEXT_BYTES: usize = 2_000;
/// How long a program may take to draw its question after it reported that it asks one, in milliseconds.
const DRAW_MS: i64 = 300;
/// How long a newly started program may be silent before its screen is checked, in milliseconds.
const FIRST_POLL_MS: i64 = 700;
/// How much a newly started program prints at most, in bytes: questions of a first start come early.
const FIRST_BYTES: u64 = 128 * 1024;

/// How much of a worker's name is in the ids of its questions, in characters; the time and a number follow.
const NAME_CHARS: usize = 24;

/// The calls for the user. The record has the flag and the open ask.
pub(super) struct UserAttention {
    /// The last question, and its answer if no connection was there to take it.
    question: Option<blake3::Hash>,
    unread: Option<String>,
    /// When to check for an answer next.
    poll: Deadline,
    /// True if the program raised the flag by a status on its terminal.
    flag_by_status: bool,
    /// When to check its silence; `None` if that was done since it last printed.
    quiet: Option<Deadline>,
    /// True if that check is the early one.
    first_poll: bool,
    /// When to read from the screen what the program reported without a text: a question, with the text to use if the
    /// screen shows none, or an error.
    unworded: Option<(Deadline, Unworded)>,
    /// Running helper processes of looop, which are not the worker's, and whether another one must start.
    pub(super) helpers: Vec<u32>,
    helper_due: bool,
}

/// A status without a text.
enum Unworded {
    Question(String),
    Error,
}

/// What follows a question.
pub(super) enum AskResult {
    /// The user has not answered this ask yet.
    Open(Name),
    /// The answer was there already.
    Answered(String),
}

impl UserAttention {
    /// Makes the calls of a starting program, which may be silent for so long.
    pub(super) fn new(idle_ms: i64) -> UserAttention {
        UserAttention {
            question: None,
            unread: None,
            poll: Deadline::after_ms(POLL_MS),
            flag_by_status: false,
            quiet: Some(Deadline::after_ms(idle_ms)),
            first_poll: false,
            unworded: None,
            helpers: Vec::new(),
            helper_due: false,
        }
    }

    /// Begins again with the next command of the worker.
    pub(super) fn restart(&mut self, record: &Record) {
        self.quiet = Some(Deadline::after_ms(record.spec.limits.idle_ms));
        (self.flag_by_status, self.first_poll, self.unworded) = (false, false, None);
    }

    /// Raises the flag; returns false if it is raised with the same text already.
    pub(super) fn raise(&mut self, record: &mut Record, text: &str, guess: bool) -> bool {
        let text = record.clean(text);
        let state = &mut record.state;
        if state.flag.as_ref().is_some_and(|flag| flag.text == text) || state.phase.is_over() {
            return false;
        }
        state.flags += 1;
        state.flag = Some(Flag { text, at_ms: clock::unix_ms(), nth: state.flags, guess });
        self.flag_by_status = false;
        self.changed(record);
        true
    }

    /// Lowers the flag.
    pub(super) fn lower(&mut self, record: &mut Record) {
        self.flag_by_status = false;
        if record.state.flag.take().is_some() {
            self.changed(record);
        }
    }

    /// Withdraws the flag and the question, because the program has ended.
    pub(super) fn withdraw(&mut self, record: &mut Record) {
        self.flag_by_status = false;
        if record.state.ask.take().is_some() | record.state.flag.take().is_some() {
            self.changed(record);
        }
    }

    /// Updates the state and the user's windows.
    fn changed(&mut self, record: &mut Record) {
        match record.state.phase {
            Phase::Running | Phase::Waiting if record.state.needs_user() => record.enter(Phase::Waiting),
            Phase::Running | Phase::Waiting => record.enter(Phase::Running),
            _ => record.save(),
        }
        self.sync_alerts(record);
    }

    /// Starts a helper process that updates the user's windows. A worker that raises flags all the time does not start
    /// many of them: the next one sees all changes before its start.
    pub(super) fn sync_alerts(&mut self, record: &Record) {
        if self.helpers.len() >= MAX_HELPERS {
            self.helper_due = true;
            return;
        }
        match detach::helper(&["__sync-windows"], &record.spec.env) {
            Ok(pid) => self.helpers.push(pid),
            Err(error) => record.log("flag_not_surfaced", &error.to_string()),
        }
    }

    /// Handles the end of a process that may be a helper.
    pub(super) fn process_ended(&mut self, pid: u32, record: &Record) {
        self.helpers.retain(|helper| *helper != pid);
        if self.helper_due && self.helpers.len() < MAX_HELPERS {
            self.helper_due = false;
            self.sync_alerts(record);
        }
    }

    /// Asks the user a question, and returns the id of the open ask, or the answer. The same question is the same ask:
    /// while it is open, and if its answer has not been delivered.
    pub(super) fn ask(
        &mut self,
        record: &mut Record,
        question: &WorkerQuestion,
    ) -> Result<AskResult, RequestRefusal> {
        let hash = Some(question.hash()?);
        if let Some(id) = &record.state.ask {
            return match self.question == hash {
                true => Ok(AskResult::Open(id.clone())),
                false => Err(RequestRefusal::QuestionOpen(id.clone())),
            };
        }
        if self.question == hash
            && let Some(answer) = self.unread.take()
        {
            return Ok(AskResult::Answered(answer));
        }
        let id = question.write(record)?;
        (self.question, self.unread) = (hash, None);
        record.state.ask = Some(id.clone());
        self.changed(record);
        Ok(AskResult::Open(id))
    }

    /// Hands the answer to the open ask to `deliver`, which returns true if it was heard.
    pub(super) fn answer(&mut self, record: &mut Record, deliver: impl FnOnce(&Name, &WireReply) -> bool) {
        self.poll = Deadline::after_ms(POLL_MS);
        let Some(id) = &record.state.ask else { return };
        let Some(answer) = answer(record, id) else { return };
        let is_heard = deliver(id, &answer);
        record.state.ask = None;
        self.unread = match answer {
            WireReply::Ok(text) if !is_heard => Some(text),
            _ => None,
        };
        self.changed(record);
    }

    /// Handles a status; returns the text of an error. An agent that stops has not reported that its work is done, which
    /// `looop done` does. It may have asked something in plain words, so it is never ended for that.
    pub(super) fn status(&mut self, record: &mut Record, status: ProgramStatus) -> Option<String> {
        let ProgramStatus { state, kind, message } = status;
        let has_words = message.is_some();
        let stated = message.or(kind);
        self.unworded = None;
        let text = match (state, stated) {
            (ProgramState::Blocked, stated) => {
                let stated = stated.unwrap_or_else(|| "it waits in its terminal".to_owned());
                if !has_words {
                    self.unworded = Some((Deadline::after_ms(DRAW_MS), Unworded::Question(stated)));
                    return None;
                }
                stated
            }
            (ProgramState::Error, None) => {
                self.unworded = Some((Deadline::after_ms(DRAW_MS), Unworded::Error));
                return None;
            }
            (ProgramState::Error, stated) => return stated,
            // The open question needs the user already.
            (ProgramState::Done, _) if record.state.ask.is_some() => return None,
            (ProgramState::Done, None) => "it stopped and did not say that its work is done".to_owned(),
            (ProgramState::Done, Some(stated)) => format!("it stopped: {stated}"),
            (ProgramState::Working | ProgramState::Clear, _) => {
                if self.flag_by_status {
                    self.lower(record);
                }
                return None;
            }
            (ProgramState::Idle, _) => return None,
        };
        self.call(record, &text);
        None
    }

    /// Raises the flag for an error with this text.
    pub(super) fn failed(&mut self, record: &mut Record, why: &str) {
        let text = if why.is_empty() { String::new() } else { format!(": {why}") };
        self.call(record, &format!("it stopped on an error{text}"));
    }

    /// Raises the flag for a status. A flag that the worker raised itself stays until the worker or the user lowers it.
    fn call(&mut self, record: &mut Record, text: &str) {
        let is_own = record.state.flag.is_some() && !is_guessed(record) && !self.flag_by_status;
        if !is_own && self.raise(record, &clip(text, TEXT_BYTES), false) {
            self.flag_by_status = true;
        }
    }

    /// Returns the time until the next check.
    pub(super) fn due(&self, record: &Record) -> Option<Duration> {
        let unworded = self.unworded.as_ref().map(|(due, _)| due.left());
        let quiet = self.quiet.as_ref().map(Deadline::left);
        let answer = record.state.ask.as_ref().map(|_| self.poll.left());
        [unworded, quiet, answer].into_iter().flatten().min()
    }

    /// Returns true if it is time to check for an answer.
    pub(super) fn answer_is_due(&self, record: &Record) -> bool {
        record.state.ask.is_some() && self.poll.passed()
    }

    /// Does the checks that are due: reads a drawn question or error, or checks the silence. Returns the text of an
    /// error, which may be empty.
    pub(super) fn poll(&mut self, record: &mut Record, is_running: bool) -> Option<String> {
        let mut failed = None;
        if let Some((_, unworded)) = self.unworded.take_if(|(due, _)| due.passed()) {
            let screen = screen::whole_of(&record.dir);
            match unworded {
                Unworded::Question(stated) => {
                    self.call(record, &silence::question(&screen).unwrap_or(stated));
                }
                Unworded::Error => failed = Some(agents::error_on(&screen).unwrap_or_default()),
            }
        }
        if self.quiet.is_some_and(|quiet| quiet.passed()) {
            self.look_at_silence(record, is_running);
        }
        failed
    }

    /// Handles output that ends at this offset of the transcript: ends the silence, and lowers a flag that was guessed
    /// from it. A new viewer changes the size and makes the program redraw; that alone must not lower the flag, because
    /// its window would close at once.
    pub(super) fn printed(&mut self, record: &mut Record, offset: u64, is_redraw: bool) {
        self.first_poll = offset < FIRST_BYTES;
        let idle_ms = record.spec.limits.idle_ms;
        let wait_ms = if self.first_poll { idle_ms.min(FIRST_POLL_MS) } else { idle_ms };
        self.quiet = Some(Deadline::after_ms(wait_ms));
        if is_guessed(record) && !is_redraw {
            self.lower(record);
        }
    }

    /// Handles a long silence: if the screen looks like a prompt, raises a flag as a guess. Questions that agents ask
    /// at their first start are known by their text and checked for at once.
    fn look_at_silence(&mut self, record: &mut Record, is_running: bool) {
        let is_first = std::mem::take(&mut self.first_poll);
        let rest_ms = record.spec.limits.idle_ms.saturating_sub(FIRST_POLL_MS);
        self.quiet = is_first.then(|| Deadline::after_ms(rest_ms.max(0)));
        let is_known = record.state.needs_user() && !is_guessed(record);
        if is_known || !is_running || record.state.phase == Phase::Limited {
            return;
        }
        let first = agents::first_start(&screen::whole_of(&record.dir)).map(|question| question.to_string());
        let at =
            || silence::prompt(&screen::text_of(&record.dir)).map(|line| format!("it is silent at: {line}"));
        match first.or_else(|| if is_first { None } else { at() }) {
            Some(text) => drop(self.raise(record, &clip(&text, TEXT_BYTES), true)),
            None if is_guessed(record) && !is_first => self.lower(record),
            None => {}
        }
    }
}

fn is_guessed(record: &Record) -> bool {
    record.state.flag.as_ref().is_some_and(|flag| flag.guess)
}

impl WorkerQuestion {
    /// Checks its length, and returns what identifies it.
    fn hash(&self) -> Result<blake3::Hash, RequestRefusal> {
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
    fn write(&self, record: &Record) -> Result<Name, RequestRefusal> {
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
fn answer(record: &Record, id: &Name) -> Option<WireReply> {
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
