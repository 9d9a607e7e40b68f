//! The built-in runners that fix, as real CLIs against the scripted model server: they edit the clone, tests decide, and
//! what they used is in the ledger.

use std::fs;

use serde_json::{Value, json};

use super::adder::{self, FIXED as COMMAND, FIXED_LIB, TASK, TESTS};
use super::fixture::Fixture;
use crate::support::decider::search_path;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::{claude, codex, pi, profile::git_in};

/// A project whose leanfile names nobody.
fn fixture() -> Fixture {
    let fixture = adder::project(&[]);
    fixture.leanfile_of("", TESTS, TASK);
    fixture
}

/// Runs the fix by this runner: two requests, a call of a tool and the last words.
fn check(fixture: &Fixture, runner: &str, server: &ModelServer) {
    let before = git_in(&fixture.project(), &["rev-parse", "HEAD"]);
    let ran = fixture.fix(&["--runner", runner]);
    let printed = || -> String {
        let of = |body: &Value| body["messages"].as_array().and_then(|all| all.last()).map(Value::to_string);
        server.requests().iter().take(3).filter_map(|request| of(&request.body)).collect()
    };
    assert_eq!(ran.code, 0, "{runner}: {}{}{}", ran.stdout, ran.stderr, printed());
    assert_eq!(fixture.read("lib.sh"), FIXED_LIB, "{runner}: {}", ran.stdout);
    assert_eq!(git_in(&fixture.project(), &["rev-parse", "HEAD"]), before);
    let attempt = &fixture.attempts("add")[0];
    assert_eq!((&attempt["runner"], &attempt["estimated"]), (&json!(runner), &json!(false)), "{attempt}");
    let asked: String = server.requests().iter().map(|request| request.body.to_string()).collect();
    let words = ["ADD-ITS-TWO-ARGUMENTS", "expected 5, got -1"];
    assert!(words.iter().all(|word| asked.contains(word)), "{runner}: {asked}");
    let usage = &fixture.profile.charges()[0]["usage"];
    let count = |key: &str| usage[key].as_u64().unwrap_or(0);
    assert!(count("tokens_in") >= 200 && count("tokens_out") >= 40, "{runner}: two requests: {usage}");
    assert_ne!(usage["basis"], "estimated", "{runner}: {usage}");
}

#[test]
#[ignore = "needs agent CLIs"]
fn claude_edits_the_clone() {
    let Some(program) = claude::claude() else { return };
    let call = Reply::tool("Bash", json!({ "command": COMMAND, "description": "edit" }));
    let server = ModelServer::start(vec![call, Reply::text("add adds now")]);
    let mut fixture = fixture();
    let runners = json!({ "claude": { "model": "sonnet" } });
    fixture.profile.config_more(json!({ "path": search_path(&program), "runners": runners }));
    fixture.profile.var("ANTHROPIC_BASE_URL", &server.url());
    fixture.profile.var("ANTHROPIC_API_KEY", "sk-test");
    check(&fixture, "claude", &server);
    let cost = fixture.profile.charges()[0]["usage"]["cost_micros"].as_u64().unwrap();
    assert!(cost > 0, "its price is what it reports");
}

#[test]
#[ignore = "needs agent CLIs"]
fn pi_edits_the_clone() {
    let Some(install) = pi::pi() else { return };
    let call = Reply::tool("bash", json!({ "command": COMMAND }));
    let server = ModelServer::start(vec![call, Reply::text("add adds now")]);
    let fixture = fixture();
    let home = install.home(&server.url());
    fs::rename(home.path().join(".pi"), fixture.profile.path("home/.pi")).unwrap();
    let runners = json!({ "pi": { "model": pi::MODEL } });
    fixture.profile.config_more(json!({ "path": home.search_path(), "runners": runners }));
    check(&fixture, "pi", &server);
}

#[test]
#[ignore = "needs agent CLIs"]
fn codex_edits_the_clone() {
    let Some(program) = codex::codex() else { return };
    let call = Reply::tool("exec_command", json!({ "cmd": COMMAND }));
    let server = ModelServer::start(vec![call, Reply::text("add adds now")]);
    let mut fixture = fixture();
    codex::settle_in(&mut fixture.profile, &program, &server.url(), true);
    check(&fixture, "codex", &server);
}

#[test]
#[ignore = "needs agent CLIs"]
fn qwen_edits_the_clone() {
    let Some(program) = pi::installed("LOOOP_TEST_QWEN") else { return };
    let call = json!({ "command": COMMAND, "is_background": false, "description": "edit" });
    let call = Reply::tool("run_shell_command", call);
    let server = ModelServer::start(vec![call, Reply::text("add adds now")]);
    let mut fixture = fixture();
    fixture.profile.config_more(json!({ "path": search_path(&program) }));
    fixture.profile.var("OPENAI_BASE_URL", &format!("{}/v1", server.url()));
    fixture.profile.var("OPENAI_API_KEY", "sk-test");
    fixture.profile.var("OPENAI_MODEL", "m");
    check(&fixture, "qwen", &server);
}
