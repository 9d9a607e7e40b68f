//! What a worker's program says of itself on its terminal, and what its silence looks like: flags that nobody raised by
//! a command.

use super::Supervisor;
use super::stage::Stage;
use crate::model::json::clip;
use crate::model::query::{Standing, Status};
use crate::model::silence;
use crate::sys::clock::Deadline;
use crate::worker::screen;

/// The longest text of such a flag, in bytes.
const TEXT_BYTES: usize = 2_000;

impl Supervisor {
    /// Takes what a program says of itself. What it says while it is being ended calls for nobody.
    pub(super) fn heard(&mut self, status: Status) {
        if matches!(self.stage, Stage::Agent { .. }) {
            self.fares(status);
        }
    }

    /// An agent that stops has not said that its work is done: `looop done` says that. It may as well have asked
    /// something in plain words, so it is never ended for it.
    fn fares(&mut self, Status { state, kind, message }: Status) {
        let said = message.or(kind);
        let text = match (state, said) {
            (Standing::Blocked, said) => said.unwrap_or_else(|| "it waits in its terminal".to_owned()),
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
        // What a worker called for in its own words stands until it or a human takes it back.
        let is_own = self.state.flag.is_some() && !self.is_guessed() && !self.flag_by_status;
        if !is_own && self.raise(&clip(&text, TEXT_BYTES), false) {
            self.flag_by_status = true;
        }
    }

    /// It printed something: its silence, and what was guessed from it, are over. Who comes to look changes the size
    /// and makes it draw itself anew; that alone takes back nothing, or the window that shows it would go at once.
    pub(super) fn stirred(&mut self) {
        self.quiet = Some(Deadline::after_ms(self.spec.limits.idle_ms));
        if self.is_guessed() && self.redraws.passed() {
            self.lower();
        }
    }

    /// It was silent for long: where its screen looks as if somebody should type something, that is said as a guess.
    pub(super) fn look_at_silence(&mut self) {
        self.quiet = None;
        let is_known = self.state.needs_human() && !self.is_guessed();
        if is_known || !matches!(self.stage, Stage::Agent { .. }) {
            return;
        }
        match silence::prompt(&screen::text_of(&self.dir)) {
            Some(line) => drop(self.raise(&clip(&format!("it is silent at: {line}"), TEXT_BYTES), true)),
            None if self.is_guessed() => self.lower(),
            None => {}
        }
    }

    fn is_guessed(&self) -> bool {
        self.state.flag.as_ref().is_some_and(|flag| flag.guess)
    }
}
