//! Workers of this machine: their start, their supervisor and their clients.

pub mod client;
pub mod fleet;
pub mod orphans;
pub mod plan;
mod recover;
pub mod refusal;
mod resume;
mod scope;
mod secrets_pipe;
pub mod start;
pub mod supervisor;

use std::path::Path;

use crate::os::signal::Cancel;
use crate::rules::beat::settings::Settings;
use crate::rules::time::Now;
use crate::store::layout::Layout;
use crate::store::sandboxes::SandboxBuilder;

/// The workers of one data dir: what the loop and the user do with them.
pub struct Fleet<'a> {
    pub layout: &'a Layout,
    pub settings: &'a Settings,
    /// The sandboxes of everything that the loop starts.
    pub sandboxes: SandboxBuilder<'a>,
    pub cancel: &'a Cancel,
    pub now: Now,
    pub context_hints: ContextHints,
}

/// Returns the places in a clone to which a brief refers, as a part of the brief; empty if they are unknown. The first
/// path is a file in which it may cache what it knows of the project.
pub type ContextHints = fn(&Path, &Path, &str) -> String;
