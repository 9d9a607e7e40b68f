//! Workers of this machine: their start, their supervisor and their clients.

pub mod client;
pub mod fleet;
pub mod orphans;
mod recover;
pub mod refusal;
mod secrets_pipe;
pub mod start;
pub mod supervisor;

use std::path::Path;

use crate::os::signal::Cancel;
use crate::rules::beat::settings::Settings;
use crate::rules::time::Now;
use crate::rules::worker::Spec;
use crate::store::layout::Layout;

/// A worker that a move would start, with the facts that policy needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    pub spec: Spec,
    /// If true, the process that starts and the checks of its work run in a full sandbox.
    pub is_full: bool,
    /// True if a check is a shell line instead of an entry of the config.
    pub free_check: bool,
    /// True if it may cost money.
    pub paid: bool,
}

/// The workers of one data dir: what the loop and the user do with them.
pub struct Fleet<'a> {
    pub layout: &'a Layout,
    pub settings: &'a Settings,
    pub cancel: &'a Cancel,
    pub now: Now,
    pub context_hints: ContextHints,
}

/// Returns the places in a clone to which a brief refers, as a part of the brief; empty if they are unknown. The first
/// path is a file in which it may cache what it knows of the project.
pub type ContextHints = fn(&Path, &Path, &str) -> String;
