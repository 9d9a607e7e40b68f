//! The status that a worker's program reports on its terminal, and the meaning of its silence: flags that no command
//! raised.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Supervisor;
use super::serve::Refusal;
use super::stage::Stage;
use crate::agents;
use crate::model::json::clip;
use crate::model::query::{ProgramState, ProgramStatus};
use crate::model::silence;
use crate::screen;
use crate::sys::clock::Deadline;

/// The longest text of such a flag, in bytes.
const TEXT_BYTES: usize = 2_000;
/// How long a program may take to draw its question after it reported that it asks one, in milliseconds.
const DRAW_MS: i64 = 300;
/// How long a newly started program may be silent before its screen is checked, in milliseconds.
const FIRST_LOOK_MS: i64 = 700;
/// How much a newly started program prints at most, in bytes: questions of a first start come early.
const FIRST_BYTES: u64 = 128 * 1024;

/// Pending checks of a program's terminal.
pub(super) struct StatusWatch {
    /// When to check its silence; `None` if that was done since it last printed.
    quiet: Option<Deadline>,
    /// True if that check is the early one.
    first_look: bool,
    /// When to flag a question that the program reported without a text, and the text to use if its screen shows none.
    unworded: Option<(Deadline, String)>,
}

impl StatusWatch {
    /// Makes the checks of a starting program.
    pub(super) fn begin(idle_ms: i64) -> StatusWatch {
        StatusWatch { quiet: Some(Deadline::after_ms(idle_ms)), first_look: false, unworded: None }
    }
}

impl Supervisor {
    /// Handles a status of the program. A status during its end raises no flag.
    pub(super) fn heard(&mut self, status: ProgramStatus) {
        if matches!(self.stage, Stage::Agent { .. }) {
            self.hook_status(status);
        }
    }

    /// Handles a status from a hook of the program.
    pub(super) fn reported_by_hook(
        &mut self,
        state: &str,
        text: Option<String>,
    ) -> Result<Result<String, Refusal>> {
        let named = ProgramState::named(state.as_bytes());
        let state = named.with_context(|| format!("{state:?} is not a state"))?;
        self.heard(ProgramStatus { state, kind: None, message: text });
        Ok(Ok(String::new()))
    }

    /// Handles a status. An agent that stops has not reported that its work is done, which `looop done` does. It may
    /// have asked something in plain words, so it is never ended for that.
    fn hook_status(&mut self, ProgramStatus { state, kind, message }: ProgramStatus) {
        let has_words = message.is_some();
        let stated = message.or(kind);
        self.watch.unworded = None;
        let text = match (state, stated) {
            (ProgramState::Blocked, stated) => {
                let stated = stated.unwrap_or_else(|| "it waits in its terminal".to_owned());
                if !has_words {
                    self.watch.unworded = Some((Deadline::after_ms(DRAW_MS), stated));
                    return;
                }
                stated
            }
            (ProgramState::Error, None) => "it stopped on an error".to_owned(),
            (ProgramState::Error, Some(stated)) => format!("it stopped on an error: {stated}"),
            // The open question needs the user already.
            (ProgramState::Done, _) if self.state.ask.is_some() => return,
            (ProgramState::Done, None) => "it stopped and did not say that its work is done".to_owned(),
            (ProgramState::Done, Some(stated)) => format!("it stopped: {stated}"),
            (ProgramState::Working | ProgramState::Clear, _) => {
                if self.flag_by_status {
                    self.lower();
                }
                return;
            }
            (ProgramState::Idle, _) => return,
        };
        self.call(&text);
    }

    /// Raises the flag for a status. A flag that the worker raised itself stays until the worker or the user lowers it.
    fn call(&mut self, text: &str) {
        let is_own = self.state.flag.is_some() && !self.is_guessed() && !self.flag_by_status;
        if !is_own && self.raise(&clip(text, TEXT_BYTES), false) {
            self.flag_by_status = true;
        }
    }

    /// Returns the time until the next check.
    pub(super) fn status_due(&self) -> Option<Duration> {
        let unworded = self.watch.unworded.as_ref().map(|(due, _)| due.left());
        self.watch.quiet.as_ref().map(Deadline::left).into_iter().chain(unworded).min()
    }

    /// Does the checks that are due: reads a drawn question, or checks the silence.
    pub(super) fn look_at_status(&mut self) {
        if let Some((_, stated)) = self.watch.unworded.take_if(|(due, _)| due.passed()) {
            let question = silence::question(&screen::whole_of(&self.dir));
            self.call(&question.unwrap_or(stated));
        }
        if self.watch.quiet.is_some_and(|quiet| quiet.passed()) {
            self.look_at_silence();
        }
    }

    /// Handles output: ends the silence, and lowers a flag that was guessed from it. A new viewer changes the size and
    /// makes the program redraw; that alone must not lower the flag, because its window would close at once.
    pub(super) fn stirred(&mut self) {
        self.watch.first_look = self.writer.offset() < FIRST_BYTES;
        let idle_ms = self.spec.limits.idle_ms;
        let wait_ms = if self.watch.first_look { idle_ms.min(FIRST_LOOK_MS) } else { idle_ms };
        self.watch.quiet = Some(Deadline::after_ms(wait_ms));
        if self.is_guessed() && self.redraws.passed() {
            self.lower();
        }
    }

    /// Handles a long silence: if the screen looks like a prompt, raises a flag as a guess. Questions that agents ask
    /// at their first start are known by their text and checked for at once.
    pub(super) fn look_at_silence(&mut self) {
        let is_first = std::mem::take(&mut self.watch.first_look);
        let rest_ms = self.spec.limits.idle_ms.saturating_sub(FIRST_LOOK_MS);
        self.watch.quiet = is_first.then(|| Deadline::after_ms(rest_ms.max(0)));
        let is_known = self.state.needs_human() && !self.is_guessed();
        if is_known || !matches!(self.stage, Stage::Agent { .. }) {
            return;
        }
        let first = agents::first_start(&screen::whole_of(&self.dir)).map(|question| question.to_string());
        let at =
            || silence::prompt(&screen::text_of(&self.dir)).map(|line| format!("it is silent at: {line}"));
        match first.or_else(|| if is_first { None } else { at() }) {
            Some(text) => drop(self.raise(&clip(&text, TEXT_BYTES), true)),
            None if self.is_guessed() && !is_first => self.lower(),
            None => {}
        }
    }

    fn is_guessed(&self) -> bool {
        self.state.flag.as_ref().is_some_and(|flag| flag.guess)
    }
}
