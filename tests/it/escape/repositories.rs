//! Hostile repositories without any hostile agent: `looop fix` on one whose config, hooks, attributes and submodule name
//! a program. None of it runs.

use std::fs;

use serde_json::json;

use crate::clones::fixture::{Fixture, shell};
use crate::{clones::commands::hostile, support::profile::Profile};

fn profile() -> Profile {
    let profile = Profile::empty();
    profile.config(json!({}));
    profile.set_up();
    profile
}

#[track_caller]
fn nothing_ran(fixture: &Fixture, verb: &str) {
    let sprung = fs::read_to_string(fixture.path("sprung")).unwrap_or_default();
    assert!(!fixture.is_sprung() && !fixture.path("repo/sprung").exists(), "{verb}: {sprung}");
}

#[test]
#[ignore = "slow"]
fn no_fix_runs_what_a_repository_names() {
    let fixture = Fixture::new();
    let repo = hostile(&fixture, "repo");
    let profile = profile();
    profile.without_sandbox(&["fix"]);
    let agent = profile.path("agent.sh");
    crate::clones::fixture::program(&agent, "cat >/dev/null; echo mended >file; echo done");
    profile.config_more(json!({ "runners": { "local": { "fix": [agent] } }, "fix": { "runner": "local" } }));
    let args =
        ["fix", "--repo", repo.to_str().unwrap(), "--issue", "mend it", "--test", "grep -q mended file"];
    for more in [&[][..], &["--branch"][..]] {
        let ran = profile.looop(&[&args[..], more].concat());
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        nothing_ran(&fixture, "fix");
    }
    assert_eq!(fs::read_to_string(repo.join("file")).unwrap(), "mended\n");
    profile.looop(&["attempt", "list", "--json"]);
    nothing_ran(&fixture, "attempt list");
    shell(&repo, "git status");
    assert!(fixture.is_sprung(), "the trap works");
}
