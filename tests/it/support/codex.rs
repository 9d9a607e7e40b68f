//! The real codex CLI, where there is one: a fresh home for it, and the arguments that make a scripted server its model.
//!
//! `.ci/run` installs it and names it in `LOOOP_TEST_CODEX`. Without it a test says that it was skipped and returns; the
//! gate does not let that pass.

use std::env;
use std::path::PathBuf;

use super::pi::skipped;

/// The model that it is told to ask for.
pub const MODEL: &str = "mock-model";

/// The installed program, or `None` after saying that the test is skipped.
pub fn codex() -> Option<PathBuf> {
    let Some(codex) = env::var_os("LOOOP_TEST_CODEX").map(PathBuf::from) else {
        skipped("no codex: LOOOP_TEST_CODEX is not set");
        return None;
    };
    assert!(codex.is_file(), "LOOOP_TEST_CODEX is not a file: {codex:?}");
    Some(codex)
}

/// The arguments that make the server at `url` its only model. It tries again once, so that a failure shows soon.
pub fn provider(url: &str) -> Vec<String> {
    let provider = format!(
        "model_providers.mock={{name=\"mock\",base_url=\"{url}/v1\",wire_api=\"responses\",env_key=\"MOCK_API_KEY\",\
         supports_websockets=false,request_max_retries=1,stream_max_retries=1}}"
    );
    ["-c", "model_provider=\"mock\"", "-c", &provider].map(str::to_owned).to_vec()
}
