//! What the trials of a promise came to: how often it was tried to break it, and how often that worked.

use std::collections::BTreeMap;
use std::panic::{UnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock};

/// The count of one kind of trial.
#[derive(Clone, Debug, Default)]
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
    /// Adds the trials of another part.
    pub fn add(&mut self, other: &Tally) {
        self.attempts += other.attempts;
        self.violations.extend(other.violations.iter().cloned());
    }
}

/// Trials in parts, so that two tests run two parts at the same time. Each part is run once in a process, by the test that
/// needs it first.
#[derive(Default)]
pub struct Parts(Mutex<BTreeMap<String, &'static OnceLock<Tally>>>);

impl Parts {
    pub const fn new() -> Parts {
        Parts(Mutex::new(BTreeMap::new()))
    }

    pub fn part(&self, name: &str, run: impl FnOnce() -> Tally) -> &'static Tally {
        let part =
            *self.0.lock().unwrap().entry(name.to_owned()).or_insert_with(|| Box::leak(Box::default()));
        part.get_or_init(run)
    }
}
