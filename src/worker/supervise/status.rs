//! What a worker's program says of itself on its terminal, and what its silence looks like: flags that nobody raised by
//! a command.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Supervisor;
use super::serve::Refusal;
use super::stage::Stage;
use crate::agents;
use crate::model::json::clip;
use crate::model::query::{Standing, Status};
use crate::model::silence;
use crate::sys::clock::Deadline;
use crate::worker::screen;

/// The longest text of such a flag, in bytes.
const TEXT_BYTES: usize = 2_000;
/// How long a program may take to draw what it asks after it said that it asks something, in milliseconds.
const DRAW_MS: i64 = 300;
/// How long a program that has just begun is silent before its screen is looked at, in milliseconds.
const FIRST_LOOK_MS: i64 = 700;
/// How much a program has printed that has just begun, in bytes: what it asks at its first start comes early.
const FIRST_BYTES: u64 = 128 * 1024;

/// What is awaited of a program's terminal.
pub(super) struct Watch {
    /// When its silence is to be looked at; none when that was done since it last printed.
    quiet: Option<Deadline>,
    /// True when that look is the early one.
    first_look: bool,
    /// When it is flagged for a question that it did not say in words, and with what if its screen shows none.
    unworded: Option<(Deadline, String)>,
}

impl Watch {
    /// Of a program that begins.
    pub(super) fn begin(idle_ms: i64) -> Watch {
        Watch { quiet: Some(Deadline::after_ms(idle_ms)), first_look: false, unworded: None }
    }
}

impl Supervisor {
    /// Takes what a program says of itself. What it says while it is being ended calls for nobody.
    pub(super) fn heard(&mut self, status: Status) {
        if matches!(self.stage, Stage::Agent { .. }) {
            self.fares(status);
        }
    }

    /// Takes what a hook of its program says.
    pub(super) fn told_by_hook(
        &mut self,
        state: &str,
        text: Option<String>,
    ) -> Result<Result<String, Refusal>> {
        let named = Standing::named(state.as_bytes());
        let state = named.with_context(|| format!("{state:?} is no state"))?;
        self.heard(Status { state, kind: None, message: text });
        Ok(Ok(String::new()))
    }

    /// An agent that stops has not said that its work is done: `looop done` says that. It may as well have asked
    /// something in plain words, so it is never ended for it.
    fn fares(&mut self, Status { state, kind, message }: Status) {
        let has_words = message.is_some();
        let said = message.or(kind);
        self.watch.unworded = None;
        let text = match (state, said) {
            (Standing::Blocked, said) => {
                let said = said.unwrap_or_else(|| "it waits in its terminal".to_owned());
                if !has_words {
                    self.watch.unworded = Some((Deadline::after_ms(DRAW_MS), said));
                    return;
                }
                said
            }
            (Standing::Error, None) => "it stopped on an error".to_owned(),
            (Standing::Error, Some(said)) => format!("it stopped on an error: {said}"),
            // Somebody is called for already.
            (Standing::Done, _) if self.state.ask.is_some() => return,
            (Standing::Done, None) => "it stopped and did not say that its work is done".to_owned(),
            (Standing::Done, Some(said)) => format!("it stopped: {said}"),
            (Standing::Working | Standing::Clear, _) => {
                if self.flag_by_status {
                    self.lower();
                }
                return;
            }
            (Standing::Idle, _) => return,
        };
        self.call(&text);
    }

    /// Raises the flag for what the program said of itself. What a worker called for in its own words stands until it
    /// or a human takes it back.
    fn call(&mut self, text: &str) {
        let is_own = self.state.flag.is_some() && !self.is_guessed() && !self.flag_by_status;
        if !is_own && self.raise(&clip(text, TEXT_BYTES), false) {
            self.flag_by_status = true;
        }
    }

    /// How long nothing is due here.
    pub(super) fn status_due(&self) -> Option<Duration> {
        let unworded = self.watch.unworded.as_ref().map(|(due, _)| due.left());
        self.watch.quiet.as_ref().map(Deadline::left).into_iter().chain(unworded).min()
    }

    /// Does what is due: a question that it has drawn by now, or a look at its silence.
    pub(super) fn look_at_status(&mut self) {
        if let Some((_, said)) = self.watch.unworded.take_if(|(due, _)| due.passed()) {
            let question = silence::question(&screen::whole_of(&self.dir));
            self.call(&question.unwrap_or(said));
        }
        if self.watch.quiet.is_some_and(|quiet| quiet.passed()) {
            self.look_at_silence();
        }
    }

    /// It printed something: its silence, and what was guessed from it, are over. Who comes to look changes the size
    /// and makes it draw itself anew; that alone takes back nothing, or the window that shows it would go at once.
    pub(super) fn stirred(&mut self) {
        self.watch.first_look = self.writer.offset() < FIRST_BYTES;
        let idle_ms = self.spec.limits.idle_ms;
        let wait_ms = if self.watch.first_look { idle_ms.min(FIRST_LOOK_MS) } else { idle_ms };
        self.watch.quiet = Some(Deadline::after_ms(wait_ms));
        if self.is_guessed() && self.redraws.passed() {
            self.lower();
        }
    }

    /// It was silent for long: where its screen looks as if somebody should type something, that is said as a guess.
    /// What agents ask at their first start is known by its words and looked for at once.
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
