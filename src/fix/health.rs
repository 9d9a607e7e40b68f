//! Waits until the endpoint of an agent is healthy, before any agent is called.

use anyhow::Result;

use super::leanfile::HealthCheck;
use super::testing::interrupted;
use crate::agents::http::up::{self, NoStatus};
use crate::model::fault::Fault;
use crate::sys::clock::Deadline;
use crate::sys::process::wait::pause_ms;
use crate::sys::signal::Cancel;

/// The wait between two checks, in milliseconds.
const LOOK_MS: u64 = 250;

/// Waits until the address answers 2xx.
///
/// # Errors
/// It does not answer 2xx in time, or the user interrupts.
pub fn wait(health: &HealthCheck, cancel: &Cancel, say: &mut dyn FnMut(String)) -> Result<()> {
    let Some(url) = health.check_url.as_deref().filter(|url| !url.is_empty()) else { return Ok(()) };
    let deadline = Deadline::after_ms(i64::from(health.max_wait) * 1000);
    let mut reply = false;
    loop {
        let mut look = || if cancel.is_set() { Err(()) } else { Ok(()) };
        let why = match up::status(url, &mut look) {
            Ok(status) if (200..300).contains(&status) => return Ok(()),
            Ok(status) => format!("it answers {status}"),
            Err(NoStatus::Down(why)) => why,
            Err(NoStatus::Left(())) => return Err(interrupted()),
        };
        if cancel.is_set() {
            return Err(interrupted());
        }
        if deadline.passed() {
            let what =
                format!("could not start the fix: `{url}` was not healthy after {}s: {why}", health.max_wait);
            return Err(Fault::failed(what)
                .hint("start the model's server, or correct `check_url` of [health]")
                .into());
        }
        if !reply {
            reply = true;
            say(format!("waiting for {url}: {why}"));
        }
        pause_ms(LOOK_MS);
    }
}
