//! How a process ended.

use rustix::process::WaitStatus;

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessExit {
    /// It exited with this code.
    Code(i32),
    /// A signal of another process killed it.
    Signal(i32),
    /// It ran into its timeout.
    Timeout,
    /// It printed more than it may.
    TooMuch,
    /// It did not start, with the reason.
    NotStarted(String),
    /// The user interrupted.
    Cancelled,
}

impl ProcessExit {
    /// Describes the end as a part of a sentence: `exit code 3`, `signal 9`.
    pub fn words(&self) -> String {
        match self {
            ProcessExit::Code(code) => format!("exit code {code}"),
            ProcessExit::Signal(signal) => format!("signal {signal}"),
            ProcessExit::Timeout => "its deadline".to_owned(),
            ProcessExit::TooMuch => "too much output".to_owned(),
            ProcessExit::NotStarted(why) => format!("not started: {why}"),
            ProcessExit::Cancelled => "an interruption".to_owned(),
        }
    }

    /// Returns the exit code that a shell shows for it: 128 plus a signal's number.
    pub fn shell_code(&self) -> u8 {
        let code = match self {
            ProcessExit::Code(code) => *code,
            ProcessExit::Signal(signal) => 128 + signal,
            _ => 1,
        };
        u8::try_from(code).unwrap_or(1)
    }
}

impl From<WaitStatus> for ProcessExit {
    fn from(status: WaitStatus) -> ProcessExit {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ProcessExit::Code(code),
            (None, Some(signal)) => ProcessExit::Signal(signal),
            (None, None) => ProcessExit::NotStarted("its exit status is unknown".to_owned()),
        }
    }
}
