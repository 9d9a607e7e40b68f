//! The built-in runners that fix, as real CLIs against the scripted model server: they edit the clone, tests decide, and
//! what they used is in the ledger.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::adder::{CHECK, LIB};
use super::fixture::{Fixture, of};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi::{self, skipped};
use crate::support::{claude, codex, profile::git_in};

const COMMAND: &str = "sed -i 's/\\$1 - \\$2/$1 + $2/' lib.sh";

/// A project whose leanfile names nobody.
fn fixture() -> Fixture {
    let fixture = Fixture::new(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    let task = "[[tasks]]\nname = \"add\"\nprompt = \"ADD-MUST-ADD\"\nfiles = [\"lib.sh\"]\n";
    let path = fixture.leanfile("command = \"sh\"\nargs = [\"check.sh\"]", task);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.lines().filter(|line| !line.starts_with("binary")).collect::<Vec<_>>().join("\n"))
        .unwrap();
    fixture
}

fn beside(program: &Path) -> String {
    let node = env::var("LOOOP_TEST_NODE_BIN").unwrap_or_default();
    format!("{node}:{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display())
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
    assert_eq!(fixture.read("lib.sh"), "add() { echo $(($1 + $2)); }\n", "{runner}: {}", ran.stdout);
    assert_eq!(git_in(&fixture.project(), &["rev-parse", "HEAD"]), before);
    let lines = fixture.ledger("add");
    let attempt = of(&lines, "attempt")[0];
    assert_eq!((&attempt["runner"], &attempt["estimated"]), (&json!(runner), &json!(false)), "{attempt}");
    let asked: String = server.requests().iter().map(|request| request.body.to_string()).collect();
    assert!(asked.contains("ADD-MUST-ADD") && asked.contains("expected 5, got -1"), "{runner}: {asked}");
    let usage = &fixture.charges()[0]["usage"];
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
    fixture
        .profile
        .config_more(json!({ "path": beside(&program), "runners": { "claude": { "model": "sonnet" } } }));
    fixture.profile.var("ANTHROPIC_BASE_URL", &server.url());
    fixture.profile.var("ANTHROPIC_API_KEY", "sk-test");
    check(&fixture, "claude", &server);
    let cost = fixture.charges()[0]["usage"]["cost_micros"].as_u64().unwrap();
    assert!(cost > 0, "its price is what it reports");
}

#[test]
#[ignore = "needs agent CLIs"]
fn pi_edits_the_clone() {
    let Some(install) = pi::pi() else { return };
    let server = ModelServer::start(vec![
        Reply::tool("bash", json!({ "command": COMMAND })),
        Reply::text("add adds now"),
    ]);
    let fixture = fixture();
    let home = install.home(&server.url());
    fs::rename(home.path().join(".pi"), fixture.profile.path("home/.pi")).unwrap();
    fixture
        .profile
        .config_more(json!({ "path": home.search_path(), "runners": { "pi": { "model": pi::MODEL } } }));
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
    let Some(program) = env::var_os("LOOOP_TEST_QWEN").map(PathBuf::from) else {
        return skipped("no qwen: LOOOP_TEST_QWEN is not set");
    };
    let call = json!({ "command": COMMAND, "is_background": false, "description": "edit" });
    let server =
        ModelServer::start(vec![Reply::tool("run_shell_command", call), Reply::text("add adds now")]);
    let mut fixture = fixture();
    let url: Value = format!("{}/v1", server.url()).into();
    fixture.profile.config_more(json!({ "path": beside(&program) }));
    for (name, value) in
        [("OPENAI_BASE_URL", url.as_str().unwrap()), ("OPENAI_API_KEY", "sk-test"), ("OPENAI_MODEL", "m")]
    {
        fixture.profile.var(name, value);
    }
    check(&fixture, "qwen", &server);
}
