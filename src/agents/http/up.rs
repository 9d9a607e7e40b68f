//! Checks with one GET whether an address answers.

use std::time::Duration;

use super::link::{self, HttpEvent, HttpRequest};

/// The timeout, in milliseconds.
const WAIT_LIMIT_MS: u64 = 5_000;

/// The reason why no HTTP status came back.
pub enum NoStatus<E> {
    /// The address does not answer; the cause, in words.
    Down(String),
    /// `look` ended the wait.
    Left(E),
}

/// The status of a GET of `url`, within five seconds. Meanwhile `look` is called repeatedly; its error ends the wait.
///
/// # Errors
/// [`NoStatus`] has the cause.
pub fn status<E>(url: &str, look: &mut dyn FnMut() -> Result<(), E>) -> Result<u16, NoStatus<E>> {
    let limit = Duration::from_millis(WAIT_LIMIT_MS);
    let request =
        HttpRequest { url: url.to_owned(), headers: Vec::new(), body: None, deadline: limit, idle: limit };
    match link::next(&link::send(request), look).map_err(NoStatus::Left)? {
        HttpEvent::Head { status, .. } => Ok(status),
        HttpEvent::Broken(_, why) => Err(NoStatus::Down(why)),
        HttpEvent::Piece(_) | HttpEvent::End => Err(NoStatus::Down("it did not answer".to_owned())),
    }
}
