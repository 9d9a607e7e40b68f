//! What the trials of a promise came to: how often it was tried to break it, and how often that worked.

use std::panic::{UnwindSafe, catch_unwind};

/// The count of one kind of trial.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often it was tried.
    pub attempts: usize,
    /// What came of those that worked.
    pub violations: Vec<String>,
}

impl Tally {
    /// So many trials in one body, which panics at the first that works.
    pub fn of(attempts: usize, body: impl FnOnce() + UnwindSafe) -> Tally {
        let ended = catch_unwind(body);
        let words = |panic: Box<dyn std::any::Any + Send>| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or("it panicked".to_owned())
        };
        Tally { attempts, violations: ended.err().map(words).into_iter().collect() }
    }

    /// Fails where any worked, or none was tried.
    #[track_caller]
    pub fn holds(&self) {
        assert!(self.violations.is_empty(), "{}", self.violations.join("\n"));
        assert!(self.attempts > 0, "nothing was tried");
    }
}
