//! The inbox of a worker: messages that a user or a move sends, and that the worker reads once.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::file::{self, Doing, Durability};
use super::json_file::{json_line, parse_lines, write_lines};
use super::layout::WorkerDir;
use crate::rules::worker::protocol::MAX_TEXT;

/// The most that may wait for one worker, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// A message to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboxMessage {
    /// The sender: a beat's id, or `human`.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    pub text: String,
}

/// Sends a message to a worker. The caller holds the store's lock.
///
/// # Errors
/// When too many unread messages wait, or when it cannot be written.
pub fn tell(dir: &WorkerDir, messages: &InboxMessage) -> Result<()> {
    anyhow::ensure!(
        messages.text.len() <= MAX_TEXT,
        "could not send the message: it is longer than {} KiB",
        MAX_TEXT / 1024
    );
    let waiting = std::fs::metadata(dir.messages()).map_or(0, |meta| meta.len());
    anyhow::ensure!(
        waiting as usize + messages.text.len() < MAX_BYTES / 2,
        "could not send the message: {} KiB of unread messages wait already",
        waiting / 1024
    );
    file::append_line(&dir.messages(), &json_line(messages)?, Durability::Durable)
}

/// Returns true if this sender has sent the worker a message, read or not.
pub fn has_from(dir: &WorkerDir, by: &str) -> Result<bool> {
    let both = read(&dir.inbox_offset())?.into_iter().chain(read(&dir.messages())?);
    Ok(both.into_iter().any(|messages| messages.by == by))
}

/// Takes unread messages, oldest first: as many as fit into `cap` bytes, and at least one. The caller holds the store's
/// lock.
///
/// # Errors
/// When they cannot be read, or cannot be marked as read: then the next call returns them again.
pub fn take(dir: &WorkerDir, cap: usize) -> Result<Vec<InboxMessage>> {
    let mut waiting = read(&dir.messages())?;
    let mut bytes = 0;
    let fits = waiting.iter().take_while(|messages| {
        bytes += messages.text.len();
        bytes <= cap
    });
    let count = fits.count().max(usize::from(!waiting.is_empty()));
    let rest = waiting.split_off(count);
    for messages in &waiting {
        file::append_line(&dir.inbox_offset(), &json_line(messages)?, Durability::Atomic)?;
    }
    match rest.is_empty() {
        true => file::remove(&dir.messages())?,
        false => write_lines(&dir.messages(), &rest)?,
    }
    Ok(waiting)
}

fn read(path: &std::path::Path) -> Result<Vec<InboxMessage>> {
    let text = file::read_text(path, 64 << 20).doing("read", path)?;
    Ok(parse_lines(&text.unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> InboxMessage {
        InboxMessage { by: "human".to_owned(), at_ms: 1, text: text.to_owned() }
    }

    #[test]
    fn messages_are_read_once_and_in_order() {
        let temp = tempfile::tempdir().unwrap();
        let dir = WorkerDir(temp.path().to_owned());
        assert!(take(&dir, 100).unwrap().is_empty());
        for text in ["one", "two", "three"] {
            tell(&dir, &messages(text)).unwrap();
        }
        assert_eq!(take(&dir, 7).unwrap(), [messages("one"), messages("two")]);
        assert!(has_from(&dir, "human").unwrap());
        assert_eq!(take(&dir, 100).unwrap(), [messages("three")]);
        assert!(take(&dir, 100).unwrap().is_empty());
        assert!(has_from(&dir, "human").unwrap() && !has_from(&dir, "b1").unwrap());
    }

    #[test]
    fn a_message_longer_than_the_limit_is_still_delivered() {
        let temp = tempfile::tempdir().unwrap();
        let dir = WorkerDir(temp.path().to_owned());
        tell(&dir, &messages(&"x".repeat(50))).unwrap();
        assert_eq!(take(&dir, 7).unwrap().len(), 1);
    }

    #[test]
    fn unread_messages_are_bounded() {
        let temp = tempfile::tempdir().unwrap();
        let dir = WorkerDir(temp.path().to_owned());
        assert!(tell(&dir, &messages(&"x".repeat(MAX_TEXT + 1))).is_err(), "it would not fit into one reply");
        let long = messages(&"x".repeat(MAX_TEXT));
        assert!((0..15).all(|_| tell(&dir, &long).is_ok()));
        assert!(tell(&dir, &long).is_err());
    }
}
