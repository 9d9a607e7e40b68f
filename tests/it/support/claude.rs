//! The real Claude Code CLI, where there is one: a profile whose user has used it before, with a scripted model.
//!
//! `.ci/run` installs it and names it in `LOOOP_TEST_CLAUDE`. Without it a test says that it was skipped and returns; the
//! gate does not let that pass.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::pi::installed;
use super::profile::Profile;

/// A key that no service knows.
const KEY: &str = "sk-test";

/// The installed program, or `None` after saying that the test is skipped.
pub fn claude() -> Option<PathBuf> {
    installed("LOOOP_TEST_CLAUDE")
}

/// Makes claude ready to work against the server at `url`: the profile's user has been through its first start,
/// knows the key and, if `trusted`, has said that workers' directories are to be trusted.
pub fn settle_in(profile: &mut Profile, claude: &Path, url: &str, trusted: bool) {
    let home = profile.path("home");
    let workers = profile.data().join("workers");
    let seed = json!({
        "hasCompletedOnboarding": true,
        "customApiKeyResponses": { "approved": [KEY], "rejected": [] },
        "projects": { workers.to_str().unwrap(): { "hasTrustDialogAccepted": trusted } },
    });
    fs::write(home.join(".claude.json"), seed.to_string()).unwrap();
    fs::create_dir(home.join(".claude")).unwrap();
    // One command that claude must ask for whatever its mode is.
    let settings = json!({ "permissions": { "ask": ["Bash(touch:*)"] } });
    fs::write(home.join(".claude/settings.json"), settings.to_string()).unwrap();
    let bin = claude.parent().unwrap().to_str().unwrap();
    profile.config_more(json!({
        "path": format!("/usr/local/bin:/usr/bin:/bin:{bin}"),
        "worker": "claude",
        "runners": { "claude": {
            "model": "sonnet", "effort": "low", "base_url": url,
            "env": ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "CLAUDE_CODE_MAX_RETRIES"],
        } },
        "verify": { "made": ["test", "-e", "made"] },
    }));
    profile.var("ANTHROPIC_BASE_URL", url);
    profile.var("ANTHROPIC_API_KEY", KEY);
    profile.var("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    profile.var("CLAUDE_CODE_MAX_RETRIES", "0");
}
