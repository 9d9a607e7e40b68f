//! Pure. An error for the user: what failed, its kind, and how to fix it.

/// The kind of error, which determines the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// An operation failed.
    Failed = 1,
    /// The arguments or the request are invalid.
    Usage = 2,
    /// Another tick holds the lock; the code is that of `EX_TEMPFAIL` in sysexits.h.
    Busy = 75,
}

impl ErrorKind {
    pub fn exit_code(self) -> u8 {
        self as u8
    }
}

/// An error with hints. Wording: `could not <verb> <what>: <cause>`, lower case.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    pub kind: ErrorKind,
    /// What failed, and why.
    pub what: String,
    /// One hint per line; may be empty.
    pub hints: Vec<String>,
}

impl Fault {
    /// Creates a failure without a hint.
    pub fn failed(what: impl Into<String>) -> Fault {
        Fault { kind: ErrorKind::Failed, what: what.into(), hints: Vec::new() }
    }

    /// Creates a usage error without a hint.
    pub fn usage(what: impl Into<String>) -> Fault {
        Fault { kind: ErrorKind::Usage, what: what.into(), hints: Vec::new() }
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hints.push(hint.into());
        self
    }
}
