//! What a supervisor must not write down, whoever says it: told by its starter, by a pipe and so by no file.

use anyhow::{Context, Result};

use crate::model::secret::Secrets;
use crate::sys::detach;

/// The most that is told, in bytes: a pipe holds as much, so that nobody waits for anybody.
const MAX_BYTES: usize = 60 * 1024;

/// What the starter writes.
///
/// # Errors
/// Never for text.
pub fn told(secrets: &Secrets) -> Result<Vec<u8>> {
    let mut pairs = secrets.pairs();
    loop {
        let text = serde_json::to_vec(pairs).context("could not pass on what is secret")?;
        // The longest come first, and no token is that long.
        match pairs.split_first().filter(|_| text.len() > MAX_BYTES) {
            Some((_, rest)) => pairs = rest,
            None => return Ok(text),
        }
    }
}

/// What the supervisor reads; none when its starter is gone, has changed its mind, or was cut short: then there is
/// nothing to start, least of all with a part of the secrets.
pub fn heard() -> Option<Secrets> {
    let text = detach::input(MAX_BYTES as u64).ok()?;
    let pairs: Vec<(String, String)> = serde_json::from_slice(&text).ok()?;
    Some(Secrets::known(pairs))
}
