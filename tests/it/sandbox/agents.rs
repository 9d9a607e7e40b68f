//! Real agents in full sandboxes, whose user keeps their set-up where a variable says: it is read there, and they answer.

use std::{fs, path::PathBuf};

use serde_json::json;

use super::profile;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi;
use crate::support::profile::{Profile, wait_until};
use crate::support::{claude, codex};

/// Moves what an agent has in the home to a place of its own, which this variable names.
fn elsewhere(profile: &mut Profile, var: &str, from: &str) -> PathBuf {
    let place = profile.path("set-up");
    fs::rename(profile.path("home").join(from), &place).unwrap();
    profile.var(var, place.to_str().unwrap());
    place
}

/// Starts the worker and waits until what its user set up has it ask for this.
#[track_caller]
fn asks(profile: &Profile, text: &str) {
    profile.looop(&["worker", "start", "w1", "make it"]).ok();
    wait_until(text, || {
        let row = profile.worker("w1");
        assert!(!["failed", "exited"].contains(&row["state"].as_str().unwrap()), "{row}");
        row["flag"]["text"].as_str().unwrap_or_default().contains(text)
    });
    assert_eq!(profile.worker("w1")["sandbox"], "full");
    profile.looop(&["kill", "w1"]).ok();
}

#[test]
#[ignore = "needs agent CLIs"]
fn claude_reads_its_set_up_where_its_variable_says() {
    let (Some(claude), Some(mut profile)) = (claude::claude(), profile()) else { return };
    let call = Reply::tool("Bash", json!({ "command": "touch made", "description": "work" }));
    let server = ModelServer::start(vec![call, Reply::hang()]);
    claude::settle_in(&mut profile, &claude, &server.url(), true);
    let place = elsewhere(&mut profile, "CLAUDE_CONFIG_DIR", ".claude");
    fs::rename(profile.path("home/.claude.json"), place.join(".claude.json")).unwrap();
    asks(&profile, "touch made");
    let mut left: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".claude.json", "settings.json"], "its sessions are its own");
}

#[test]
#[ignore = "needs agent CLIs"]
fn pi_reads_its_set_up_where_its_variable_says() {
    let (Some(pi), Some(mut profile)) = (pi::pi(), profile()) else { return };
    let server =
        ModelServer::start(vec![Reply::tool("bash", json!({ "command": "touch made" })), Reply::hang()]);
    let home = pi.home(&server.url());
    fs::rename(home.path().join(".pi"), profile.path("home/.pi")).unwrap();
    fs::create_dir(profile.path("home/.pi/agent/extensions")).unwrap();
    let asks_first = "export default (pi) => pi.on(\"tool_call\", async (event, ctx) => { await ctx.ui.confirm(\"May it?\", \"run\"); });";
    fs::write(profile.path("home/.pi/agent/extensions/first.js"), asks_first).unwrap();
    profile.config_more(json!({
        "path": home.search_path(), "worker": "pi",
        "runners": { "pi": { "model": pi::MODEL, "base_url": server.url() } },
    }));
    profile.var("PI_OFFLINE", "1");
    elsewhere(&mut profile, "PI_CODING_AGENT_DIR", ".pi/agent");
    asks(&profile, "May it?");
}

#[test]
#[ignore = "needs agent CLIs"]
fn codex_reads_its_set_up_where_its_variable_says() {
    let (Some(codex), Some(mut profile)) = (codex::codex(), profile()) else { return };
    let call = Reply::tool("exec_command", json!({ "cmd": "touch made && looop done" }));
    let server =
        ModelServer::start_beside(vec![call, Reply::hang()], "Generate a concise", Reply::text("work"));
    codex::settle_in(&mut profile, &codex, &server.url(), true);
    elsewhere(&mut profile, "CODEX_HOME", ".codex");
    profile.looop(&["worker", "start", "w1", "make it", "--verify", "made"]).ok();
    assert_eq!(profile.wait_worker("w1", &["done"])["sandbox"], "full");
}

#[test]
fn a_set_up_that_a_variable_puts_where_it_must_not_be_keeps_the_worker_from_running() {
    let Some(mut profile) = profile() else { return };
    fs::create_dir(profile.path("bin")).unwrap();
    std::os::unix::fs::symlink("/bin/true", profile.path("bin/codex")).unwrap();
    profile.config_more(
        json!({ "path": format!("{}:/usr/bin:/bin", profile.path("bin").display()), "worker": "codex" }),
    );
    for (place, why) in [
        ("/", "which holds the home directory"),
        ("/nowhere", "could not find `/nowhere`"),
        ("here", "not an absolute path"),
    ] {
        profile.var("CODEX_HOME", place);
        for level in ["full", "partial"] {
            profile.config_more(json!({ "sandbox": { "worker": level, "verify": level } }));
            let ran = profile.looop(&["worker", "start", "w1", "make it"]);
            let printed = format!("CODEX_HOME={place}: ");
            assert!(ran.code == 1 && ran.stderr.contains(&printed) && ran.stderr.contains(why), "{ran:?}");
        }
    }
}
