//! Who can decide for a profile: each runner that is installed, and endpoints, in front of a scripted model server.

use std::env;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::model_server::{ModelServer, Recorded};
use super::profile::{Profile, program};
use super::{claude, codex, pi};

const NOOP: &str = r#"{"move":"noop","why":"nothing to do"}"#;

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decider {
    Pi,
    Claude,
    Codex,
    Openai,
    Anthropic,
}

impl Decider {
    /// False for an endpoint, which has no process of its own.
    pub fn is_program(self) -> bool {
        !matches!(self, Decider::Openai | Decider::Anthropic)
    }
}

pub const ALL: [Decider; 5] =
    [Decider::Pi, Decider::Claude, Decider::Codex, Decider::Openai, Decider::Anthropic];

/// Folders in which an agent CLI, its node and the system's tools are found.
pub fn search_path(program: &Path) -> String {
    let node = env::var("LOOOP_TEST_NODE_BIN").unwrap_or_default();
    format!("{node}:{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display())
}

/// A set-up profile whose decider asks the server at `url`; none, after it was said, where the program is not here.
pub fn profile(decider: Decider, url: &str) -> Option<Profile> {
    let mut profile = Profile::scripted(&[NOOP]);
    match decider {
        Decider::Pi => {
            let home = pi::pi()?.home(url);
            fs::rename(home.path().join(".pi"), profile.path("home/.pi")).unwrap();
            let runners = json!({ "pi": { "model": pi::MODEL } });
            profile.config(json!({ "path": home.search_path(), "decide": "pi", "runners": runners }));
        }
        Decider::Claude => {
            let program = claude::claude()?;
            let (path, runners) = (search_path(&program), json!({ "claude": { "model": "sonnet" } }));
            profile.config(json!({ "path": path, "decide": "claude", "runners": runners }));
            profile.var("ANTHROPIC_BASE_URL", url);
            profile.var("ANTHROPIC_API_KEY", "sk-test");
        }
        Decider::Codex => {
            let program = codex::codex()?;
            let runner =
                json!({ "model": codex::MODEL, "env": ["MOCK_API_KEY"], "args": codex::provider(url) });
            let path = search_path(&program);
            profile.config(json!({ "path": path, "decide": "codex", "runners": { "codex": runner } }));
            profile.var("MOCK_API_KEY", "sk-test");
        }
        Decider::Openai | Decider::Anthropic => {
            let (form, base) = match decider {
                Decider::Openai => ("openai", format!("{url}/v1")),
                _ => ("anthropic", url.to_owned()),
            };
            // Dollars for a million tokens.
            let price = json!({ "input": 3.0, "output": 15.0, "cached": 0.5, "written": 4.0 });
            let runner = json!({ "http": form, "base_url": base, "model": "m", "key_env": "MOCK_API_KEY", "price": price });
            profile.config(json!({ "decide": "mine", "runners": { "mine": runner } }));
            profile.var("MOCK_API_KEY", "sk-test");
        }
    }
    Some(profile)
}

/// Puts a shell script before the decider's program, in which `$real` is the program itself.
pub fn shim(profile: &Profile, decider: Decider, body: &str) {
    let (name, real) = match decider {
        Decider::Pi => ("pi", env::var("LOOOP_TEST_PI").unwrap()),
        Decider::Claude => ("claude", env::var("LOOOP_TEST_CLAUDE").unwrap()),
        Decider::Codex => ("codex", env::var("LOOOP_TEST_CODEX").unwrap()),
        Decider::Openai | Decider::Anthropic => return,
    };
    let bin = profile.path("shim");
    program(bin.join(name), format!("#!/bin/sh\nreal={real}\n{body}\n"));
    let config = profile.config_value();
    let path = config["path"].as_str().unwrap();
    let shown = bin.display().to_string();
    if !path.starts_with(&shown) {
        profile.config_more(json!({ "path": format!("{shown}:{path}") }));
    }
}

/// The calls of the model among the requests, in order.
pub fn calls(server: &ModelServer) -> Vec<Recorded> {
    server.requests().into_iter().filter(|request| request.body.is_object()).collect()
}

/// A world of 20 goals and 20 sensors, of which one reads `reading`.
pub fn large_world(profile: &Profile, reading: u32) {
    for n in 0..20 {
        let words =
            "What shall be so, in the words of a human who has thought about it for a while.\n".repeat(4);
        let goal = format!("---\ngoal: part {n} of the work is done\n---\n{words}");
        profile.goal(&format!("goal-{n:02}"), &goal);
        let value = if n == 10 { reading } else { n };
        let body = format!(r#"echo '{{"signal":{{"count":{value}}},"detail":null}}'"#);
        profile.sensor(&format!("sensor-{n:02}.sh"), &body);
    }
}

/// What the newest decision was asked.
pub fn newest_prompt(profile: &Profile) -> String {
    let beat = profile.read_json("beat.json")["last"]["beat"].as_str().unwrap().to_owned();
    profile.read(&format!("runs/{beat}/prompt.md"))
}
