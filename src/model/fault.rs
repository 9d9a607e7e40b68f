//! Pure. An error that a human reads: what could not be done, what kind it is, and how to mend it.

use std::fmt;

/// What kind of error it is; the kind alone picks the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something failed: exit code 1.
    Failed,
    /// The caller asked for something that cannot be meant: exit code 2.
    Usage,
    /// Another tick holds the lock: exit code 75, as `EX_TEMPFAIL` in sysexits.h.
    Busy,
}

impl Kind {
    /// The process exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Busy => 75,
        }
    }
}

/// One error with its remedies. Wording: `could not <verb> <what>: <cause>`, lower case.
#[derive(Debug)]
pub struct Fault {
    /// Picks the exit code.
    pub kind: Kind,
    /// What could not be done to what, and why.
    pub what: String,
    /// One remedy a line; may be empty.
    pub hints: Vec<String>,
}

impl Fault {
    /// A failure without a hint.
    pub fn failed(what: impl Into<String>) -> Fault {
        Fault { kind: Kind::Failed, what: what.into(), hints: Vec::new() }
    }

    /// A usage error without a hint.
    pub fn usage(what: impl Into<String>) -> Fault {
        Fault { kind: Kind::Usage, what: what.into(), hints: Vec::new() }
    }

    /// The same fault with one more remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}
