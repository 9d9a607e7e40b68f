//! Passes the list of secrets to a new supervisor over a pipe, so that the list never exists in a file.

use anyhow::{Context, Result};

use crate::os::detach;
use crate::rules::secret::Secrets;

/// The most bytes that are sent: a pipe holds them, so that neither side waits for the other.
const MAX_BYTES: usize = 60 * 1024;

/// Returns what the starter writes: the secrets, without the longest ones if they do not fit.
///
/// # Errors
/// Never for text.
pub fn notified(secrets: &Secrets) -> Result<Vec<u8>> {
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

/// Reads the secrets in the supervisor. Returns `None` if the starter is gone, has aborted, or was interrupted: then
/// nothing may start, least of all with a part of the secrets.
pub fn heard() -> Option<Secrets> {
    let text = detach::input(MAX_BYTES as u64).ok()?;
    let pairs: Vec<(String, String)> = serde_json::from_slice(&text).ok()?;
    Some(Secrets::known(pairs))
}
