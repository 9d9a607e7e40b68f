//! Everything of the product that the benchmarks use. What is not named here they do not depend on.

pub use looop::fix::leanfile::{AgentConfig, Defaults, Leanfile, Task, Tests};
pub use looop::fix::{Endpoints, FixDeps, FixRequest, Progress, Severity, run as fix};
pub use looop::map;
pub use looop::os::process::reaper::become_subreaper;
pub use looop::os::signal::Cancel;
pub use looop::rules::beat::settings::{Fixes, Settings};
pub use looop::rules::fix::TaskStatus;
pub use looop::rules::fix::attempt::delta::{DiffLine, FileDelta, parse as parse_diff};
pub use looop::rules::fix::attempt::similarity::{AttemptDiff, similarity};
pub use looop::rules::fix::attempt::{BreakerConfig, LedgerLine, Similarity};
pub use looop::rules::fix::tokens;
pub use looop::rules::sandbox::{SandboxConfig, SandboxMode};
pub use looop::store::fixes::ledger;
pub use looop::store::layout::Layout;
pub use looop::vcs::seed::make_dirs;
