//! The real codex CLI, where there is one: a fresh home for it, and the arguments that make a scripted server its model.
//!
//! `.ci/run` installs it and names it in `LOOOP_TEST_CODEX`. Without it a test says that it was skipped and returns; the
//! gate does not let that pass.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::decider::search_path;
use super::pi::installed;
use super::profile::Profile;

/// The model that it is told to ask for.
pub const MODEL: &str = "mock-model";

/// The installed program, or `None` after saying that the test is skipped.
pub fn codex() -> Option<PathBuf> {
    installed("LOOOP_TEST_CODEX")
}

/// The arguments that make the server at `url` its only model. It tries again once, so that a failure shows soon.
pub fn provider(url: &str) -> Vec<String> {
    let provider = format!(
        "model_providers.mock={{name=\"mock\",base_url=\"{url}/v1\",wire_api=\"responses\",env_key=\"MOCK_API_KEY\",\
         supports_websockets=false,request_max_retries=1,stream_max_retries=1}}"
    );
    ["-c", "model_provider=\"mock\"", "-c", &provider].map(str::to_owned).to_vec()
}

/// Makes codex ready to work against the server at `url`: its user has named the provider and, if `trusted`, trusts the
/// profile's workers.
pub fn settle_in(profile: &mut Profile, codex: &Path, url: &str, trusted: bool) {
    let home = profile.path("home/.codex");
    fs::create_dir(&home).unwrap();
    let clone = profile.data().join("workers/w1/clone");
    let trust = match trusted {
        true => format!("[projects.{:?}]\ntrust_level = \"trusted\"\n", clone.to_str().unwrap()),
        false => String::new(),
    };
    // It makes `.git` for a moment at the top of each folder that it may write. In `/tmp` that would be the top of every
    // project of the tests that run meanwhile.
    let text = format!(
        "model = \"{MODEL}\"\nmodel_provider = \"mock\"\n\
         [features]\ndaemon_auto_start = false\n\
         [model_providers.mock]\nname = \"mock\"\nbase_url = \"{url}/v1\"\nwire_api = \"responses\"\n\
         env_key = \"MOCK_API_KEY\"\nsupports_websockets = false\n\
         [sandbox_workspace_write]\nexclude_slash_tmp = true\n{trust}"
    );
    fs::write(home.join("config.toml"), text).unwrap();
    profile.config_more(json!({
        "path": search_path(codex),
        "worker": "codex",
        "runners": { "codex": { "env": ["MOCK_API_KEY", "TMPDIR"], "base_url": url } },
        "verify": { "made": ["test", "-e", "made"] },
    }));
    profile.var("MOCK_API_KEY", "sk-test");
    // It makes no sandbox for commands while its home lies in the directory of temporary files, as a profile's does.
    let temporary = profile.path("home/tmp");
    fs::create_dir(&temporary).unwrap();
    profile.var("TMPDIR", &temporary.display().to_string());
}
