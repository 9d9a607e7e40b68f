//! Pure. The identity of a process.

use serde::{Deserialize, Serialize};

/// A process; its start time distinguishes it from a later one with the same number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    pub pid: u32,
    /// Its start in clock ticks since boot, as the kernel reports it.
    pub start: u64,
    /// The id of the boot it belongs to.
    pub boot: String,
}
