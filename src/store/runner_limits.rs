//! The usage limits of runners, one fact for all decisions and workers: no other call of a runner starts before its
//! limit ends.

use std::collections::BTreeMap;

use anyhow::Result;

use super::file::Durability;
use super::layout::Layout;
use super::{json_file, lock};
use crate::rules::time::Now;
use crate::rules::worker::limit::RunnerLimit;

/// By runner.
type All = BTreeMap<String, RunnerLimit>;

/// Notes the limit of a runner. The newest one counts: a limit can move.
///
/// # Errors
/// When it cannot be written.
pub fn note(layout: &Layout, limit: RunnerLimit, now: Now) -> Result<()> {
    let _held = lock::store(&layout.store_lock())?;
    // A file that cannot be read costs a call that is refused again.
    let mut all: All = json_file::read_json(&layout.runner_limits()).ok().flatten().unwrap_or_default();
    all.retain(|_, other| other.until_ms > now.unix_ms);
    all.insert(limit.runner.clone(), limit);
    json_file::write_json(&layout.runner_limits(), &all, Durability::Atomic)
}

/// The limit that a runner has now.
pub fn active(layout: &Layout, runner: &str, now_ms: i64) -> Option<RunnerLimit> {
    let mut all: All = json_file::read_json(&layout.runner_limits()).ok()??;
    all.remove(runner).filter(|limit| limit.until_ms > now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::worker::WorkerLimits;
    use crate::store::{file, layout};

    #[test]
    fn the_newest_limit_of_a_runner_counts_until_it_ends() {
        let (_dir, layout) = layout::tests::temporary();
        file::make_dir(&layout.cost()).unwrap();
        let now = Now::fixed(1_795_265_100_000, 0);
        let hour = |hours: i64| now.unix_ms + hours * 3_600_000;
        let limits = WorkerLimits { limit_margin_ms: 0, ..WorkerLimits::default() };
        let limit = |runner, ends_ms| RunnerLimit::new(runner, "w", Some(ends_ms), &limits, now);
        let until = |runner, at_ms| active(&layout, runner, at_ms).map(|limit| limit.until_ms);
        assert_eq!(until("pi", hour(0)), None);
        for (runner, ends) in [("pi", 5), ("claude", 1), ("pi", 2)] {
            note(&layout, limit(runner, hour(ends)), now).unwrap();
        }
        assert_eq!(until("pi", hour(0)), Some(hour(2)));
        assert_eq!((until("pi", hour(2)), until("claude", hour(0))), (None, Some(hour(1))));
        std::fs::write(layout.runner_limits(), "broken").unwrap();
        assert_eq!(until("pi", hour(0)), None);
        note(&layout, limit("pi", hour(1)), now).unwrap();
        assert_eq!(until("pi", hour(0)), Some(hour(1)));
    }
}
