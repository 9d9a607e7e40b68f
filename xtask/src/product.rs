//! Everything of the product that the benchmarks use. What is not named here they do not depend on.

pub use looop::fix::leanfile::{Defaults, Lean, Leanfile, Task, Tests};
pub use looop::fix::{Endpoints, FixDeps, FixRequest, Progress, Tone, run as fix};
pub use looop::map;
pub use looop::model::attempt::alike::{Sample, alike};
pub use looop::model::attempt::delta::{Changed, FileDelta, parse as parse_diff};
pub use looop::model::attempt::{Alike, LedgerLine, Thresholds};
pub use looop::model::fix::TaskStatus;
pub use looop::model::sandbox::{SandboxConfig, SandboxMode};
pub use looop::model::settings::{Fixes, Settings};
pub use looop::model::tokens;
pub use looop::store::fixes::ledger;
pub use looop::store::layout::Layout;
pub use looop::store::seed::make_dirs;
pub use looop::sys::process::reaper::become_subreaper;
pub use looop::sys::signal::Cancel;
