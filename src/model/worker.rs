//! Pure. A worker as the world shows it: what can wake the loop, and what it may know besides.

use serde::{Deserialize, Serialize};

use super::name::Name;

/// The part of a worker whose change wakes the loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerView {
    /// The worker's name.
    pub id: Name,
    /// The goal that it works for.
    pub goal: Option<Name>,
    /// What kind of worker.
    pub kind: String,
    /// Where it stands, as `running` or `done`.
    pub state: String,
}
