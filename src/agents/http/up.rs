//! Whether an address answers, asked with one GET.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::link::{self, Event, Request};

/// How long one question may take, in milliseconds.
const PATIENCE_MS: u64 = 5_000;
/// How often the one who waits is heard, in milliseconds.
const LOOK_MS: u64 = 50;

/// Why there is no status.
pub enum NoStatus<E> {
    /// It does not answer; why, in words.
    Down(String),
    /// The one who waits does not want to any more.
    Left(E),
}

/// The status that a GET of `url` is answered with, within five seconds. `look` is called meanwhile and may end it.
///
/// # Errors
/// [`NoStatus`] says why there is none.
pub fn status<E>(url: &str, look: &mut dyn FnMut() -> Result<(), E>) -> Result<u16, NoStatus<E>> {
    let limit = Duration::from_millis(PATIENCE_MS);
    let request =
        Request { url: url.to_owned(), headers: Vec::new(), body: None, deadline: limit, idle: limit };
    let events = link::send(request);
    loop {
        match events.recv_timeout(Duration::from_millis(LOOK_MS)) {
            Ok(Event::Head { status, .. }) => return Ok(status),
            Ok(Event::Broken(_, why)) => return Err(NoStatus::Down(why)),
            Ok(Event::Piece(_) | Event::End) | Err(RecvTimeoutError::Disconnected) => {
                return Err(NoStatus::Down("it said nothing".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) => look().map_err(NoStatus::Left)?,
        }
    }
}
