//! Agents as workers: the real CLIs in a terminal of looop's are flagged when they stop to ask, are answered by a user
//! through `looop attach`, and finish.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::attach::Outer;
use crate::support::decider::search_path;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi::{self, PiInstall};
use crate::support::profile::{LOOOP, Profile, wait_until};
use crate::support::{claude, codex};

const NOOP: &str = r#"{"move":"noop","why":"w"}"#;

pub fn row(profile: &Profile) -> Value {
    profile.looop(&["ls", "--json"]).ok().json()["workers"][0].clone()
}

/// Waits until worker w1 waits for a user with a flag that says this.
#[track_caller]
pub fn wait_flag(profile: &Profile, text: &str) {
    wait_until(text, || {
        let row = row(profile);
        assert!(!["failed", "exited"].contains(&row["state"].as_str().unwrap()), "{row}");
        row["state"] == "waiting" && row["flag"]["text"].as_str().unwrap_or_default().contains(text)
    });
}

/// The user goes back to his own terminal.
#[track_caller]
pub fn detach(mut user: Outer) {
    user.type_in(b"\x1c\x1c");
    assert_eq!(user.end().0, 0);
}

/// Starts the worker `w1` with the agent of the config; its work is checked.
fn start(profile: &Profile) {
    profile.looop(&["worker", "start", "w1", "make it", "--verify", "made"]).ok();
}

/// Says that the flag was up within a second after the terminal showed this word, by the supervisor's own clock.
#[track_caller]
fn was_flagged_at_once(profile: &Profile, shown: &str) {
    let state = profile.read_json("workers/w1/state.json");
    let cast = profile.looop(&["logs", "w1", "--cast"]).ok().stdout;
    let events: Vec<Value> = cast.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut all = String::new();
    let at = events.iter().find(|event| {
        // A word may come in two pieces.
        all.push_str(event[2].as_str().unwrap());
        all.contains(shown)
    });
    let shown_ms = at.unwrap_or_else(|| panic!("{shown} was never shown"))[0].as_f64().unwrap() * 1000.0;
    let index = profile.read("workers/w1/transcript.idx");
    let head: Value = serde_json::from_str(index.lines().next().unwrap()).unwrap();
    let flag_ms = state["flag"]["at_ms"].as_i64().unwrap() - head["start_ms"].as_i64().unwrap();
    assert!(flag_ms as f64 - shown_ms <= 1000.0, "shown at {shown_ms} ms, flagged at {flag_ms} ms");
}

#[track_caller]
fn wait_state(profile: &Profile, state: &str) {
    wait_until(state, || row(profile)["state"] == state);
}

/// A shell line of an agent that goes on when there is a file `go`: until then it works and nobody is needed.
const MAKE: &str = "touch made; until [ -e go ]; do sleep 0.1; done";

pub fn go(profile: &Profile) {
    fs::write(profile.data().join("workers/w1/clone/go"), "").unwrap();
}

/// An agent whose question was answered works on, stops to ask whether it may go on, is told to and ends.
#[track_caller]
fn goes_on_and_is_done(profile: &Profile, mut user: Outer, yes: &[u8]) {
    user.type_in(yes);
    let mut typed = Instant::now();
    wait_until("it works on", || {
        // A dialog that has just come takes no key for a moment.
        if typed.elapsed() > Duration::from_secs(3) {
            user.type_in(yes);
            typed = Instant::now();
        }
        row(profile)["state"] == "running"
    });
    assert_eq!(row(profile)["flag"], Value::Null, "an answered question calls for nobody");
    go(profile);
    wait_flag(profile, "it stopped");
    answers_and_is_done(profile, user, "yes");
}

/// The user answers an agent that stopped to ask, and it ends.
#[track_caller]
fn answers_and_is_done(profile: &Profile, mut user: Outer, answer: &str) {
    user.type_in(answer.as_bytes());
    user.wait_for(answer);
    user.type_in(b"\r");
    wait_state(profile, "done");
    user.wait_for("w1 \u{b7} done");
    user.type_in(b"q");
    assert_eq!(user.end().0, 0);
}

/// Both agents were told only where their brief is, and have read it there.
#[track_caller]
fn has_read_its_brief(server: &ModelServer) {
    let requests = server.requests();
    assert!(!requests[0].body["messages"].to_string().contains("How you work here"));
    assert!(requests[1].body["messages"].to_string().contains("How you work here"), "{:?}", requests[1].body);
}

/// A server that answers beside the script when codex asks for a title.
fn codex_server(replies: Vec<Reply>) -> ModelServer {
    ModelServer::start_beside(replies, "Generate a concise", Reply::text("work"))
}

fn read_brief(profile: &Profile, tool: &str, key: &str) -> Reply {
    let path = profile.data().join("workers/w1/brief.md");
    Reply::tool(tool, json!({ key: path }))
}

#[test]
#[ignore = "needs agent CLIs"]
fn claude_is_flagged_when_it_asks_and_finishes() {
    let Some(claude) = claude::claude() else { return };
    let mut profile = Profile::scripted(&[NOOP]);
    let option = |label: &str| json!({ "label": label, "description": label });
    let question = json!({ "questions": [{
        "question": "Which colour?", "header": "Colour", "multiSelect": false,
        "options": [option("Red"), option("Blue")],
    }] });
    let bash = |command: &str| Reply::tool("Bash", json!({ "command": command, "description": "work" }));
    let server = ModelServer::start(vec![
        read_brief(&profile, "Read", "file_path"),
        Reply::tool("AskUserQuestion", question),
        bash(MAKE),
        Reply::text("Shall I go on?"),
        bash("looop done"),
        Reply::hang(),
    ]);
    claude::settle_in(&mut profile, &claude, &server.url(), true);
    start(&profile);
    wait_flag(&profile, "Which colour?");
    let mut user = Outer::start(&profile, &["attach"], 100, 30);
    user.wait_for("2. Blue");
    user.type_in(b"2");
    wait_flag(&profile, "touch made");
    assert_eq!(row(&profile)["sandbox"], "full", "what its human set up is read in there");
    user.wait_for("Do you want to proceed?");
    was_flagged_at_once(&profile, "proceed");
    goes_on_and_is_done(&profile, user, b"\r");
    has_read_its_brief(&server);
    let answered = server.requests()[2].body["messages"].to_string();
    assert!(answered.contains("Blue"), "{answered}");
    assert!(profile.read("journal.md").contains("worker w1 \u{2014} done: the check `made` passed"));
}

#[test]
#[ignore = "needs agent CLIs"]
fn claude_is_flagged_before_it_trusts_a_directory() {
    let Some(claude) = claude::claude() else { return };
    let server = ModelServer::start(vec![Reply::text("never asked")]);
    let mut profile = Profile::scripted(&[NOOP]);
    claude::settle_in(&mut profile, &claude, &server.url(), false);
    is_flagged_before_a_request(&profile, &server, "trust");
}

/// A worker without a sandbox stops with these words before its model was asked anything.
#[track_caller]
fn is_flagged_before_a_request(profile: &Profile, server: &ModelServer, words: &str) {
    profile.config_more(json!({ "sandbox": { "worker": "none" } }));
    start(profile);
    wait_flag(profile, words);
    assert!(server.requests().is_empty());
    profile.looop(&["kill", "w1"]).ok();
}

/// A worker ends by its own word, since it has no check, and the agent's own file of the human stays as it is.
#[track_caller]
fn starts_without_a_question(profile: &Profile, own: &str) {
    let before = fs::read(profile.path(own)).unwrap();
    profile.looop(&["worker", "start", "w1", "make it"]).ok();
    wait_state(profile, "exited");
    assert_eq!(row(profile)["sandbox"], "full");
    assert_eq!(fs::read(profile.path(own)).unwrap(), before, "the file of its human is as it was");
}

#[test]
#[ignore = "needs agent CLIs"]
fn claude_starts_in_a_sandbox_without_a_question_about_trust() {
    let Some(claude) = claude::claude() else { return };
    let bash = Reply::tool("Bash", json!({ "command": "looop done", "description": "work" }));
    let server = ModelServer::start(vec![bash, Reply::hang()]);
    let mut profile = Profile::scripted(&[NOOP]);
    claude::settle_in(&mut profile, &claude, &server.url(), false);
    starts_without_a_question(&profile, "home/.claude.json");
}

#[test]
#[ignore = "needs agent CLIs"]
fn codex_starts_in_a_sandbox_without_a_question_about_trust() {
    let Some(codex) = codex::codex() else { return };
    let call = Reply::tool("exec_command", json!({ "cmd": "looop done" }));
    let server = codex_server(vec![call, Reply::hang()]);
    let mut profile = Profile::scripted(&[NOOP]);
    codex::settle_in(&mut profile, &codex, &server.url(), false);
    starts_without_a_question(&profile, "home/.codex/config.toml");
}

#[test]
#[ignore = "needs agent CLIs"]
fn codex_is_flagged_when_it_asks_and_finishes() {
    let Some(codex) = codex::codex() else { return };
    let mut profile = Profile::scripted(&[NOOP]);
    let run = |command: &str, more: Value| {
        let mut call = json!({ "cmd": command });
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Reply::tool("exec_command", call)
    };
    let brief = profile.data().join("workers/w1/brief.md");
    let ask = json!({ "sandbox_permissions": "require_escalated", "justification": "to make it" });
    let server = codex_server(vec![
        run(&format!("cat {}", brief.display()), json!({})),
        run(MAKE, ask),
        Reply::text("Shall I go on?"),
        run("looop done", json!({})),
        Reply::hang(),
    ]);
    codex::settle_in(&mut profile, &codex, &server.url(), true);
    profile.config_more(json!({ "sandbox": { "worker": "none", "verify": "none" } }));
    profile.looop(&["worker", "start", "w1", "make it", "--verify", "made"]).ok();
    // It says that it asks, and its screen says what.
    wait_flag(&profile, "to make it $ touch made");
    was_flagged_at_once(&profile, "proceed");
    let user = Outer::start(&profile, &["attach"], 100, 30);
    user.wait_for("Yes, proceed");
    // Its own sandbox lets `looop done` through.
    goes_on_and_is_done(&profile, user, b"y");
    let inputs: String = server.requests().iter().map(|request| request.body["input"].to_string()).collect();
    assert!(inputs.contains("How you work here"), "it has read its brief");
}

#[test]
#[ignore = "needs agent CLIs"]
fn codex_in_a_box_of_looop_asks_for_nothing_and_finishes() {
    let Some(codex) = codex::codex() else { return };
    let mut profile = Profile::scripted(&[NOOP]);
    let run = |command: &str| Reply::tool("exec_command", json!({ "cmd": command }));
    let server = codex_server(vec![run("touch made && looop done"), Reply::hang()]);
    codex::settle_in(&mut profile, &codex, &server.url(), true);
    start(&profile);
    wait_state(&profile, "done");
    assert_eq!(profile.read_json("workers/w1/state.json")["flags"], 0, "nobody had to be awake");
    assert_eq!(row(&profile)["sandbox"], "full");
}

#[test]
#[ignore = "needs agent CLIs"]
fn codex_is_flagged_before_it_trusts_a_directory() {
    let Some(codex) = codex::codex() else { return };
    let server = ModelServer::start(vec![Reply::text("never asked")]);
    let mut profile = Profile::scripted(&[NOOP]);
    codex::settle_in(&mut profile, &codex, &server.url(), false);
    is_flagged_before_a_request(&profile, &server, "may trust its directory");
}

#[test]
#[ignore = "needs agent CLIs"]
fn qwen_is_flagged_when_it_asks_and_when_it_stops() {
    let Some(qwen) = pi::installed("LOOOP_TEST_QWEN") else { return };
    let call = json!({ "command": MAKE, "is_background": false, "description": "make it" });
    let replies = vec![Reply::tool("run_shell_command", call), Reply::text("Shall I go on?")];
    let server =
        ModelServer::start_beside(replies, "managed memory extraction subagent", Reply::text("none"));
    let mut profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({
        "path": search_path(&qwen),
        "worker": "qwen",
        "runners": { "qwen": {
            "env": ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_MODEL"], "base_url": server.url(),
        } },
        "verify": { "made": ["test", "-e", "made"] },
    }));
    fs::create_dir(profile.path("home/.qwen")).unwrap();
    let settings = json!({ "security": { "auth": { "selectedType": "anthropic" } }, "tools": { "approvalMode": "default" } });
    fs::write(profile.path("home/.qwen/settings.json"), settings.to_string()).unwrap();
    profile.var("ANTHROPIC_BASE_URL", &server.url());
    profile.var("ANTHROPIC_API_KEY", "sk-test");
    profile.var("ANTHROPIC_MODEL", "mock");
    start(&profile);
    wait_flag(&profile, "run_shell_command: touch made");
    let mut user = Outer::start(&profile, &["attach"], 100, 30);
    user.wait_for("Yes, allow once");
    user.type_in(b"\r");
    wait_until("it made it", || profile.data().join("workers/w1/clone/made").exists());
    go(&profile);
    wait_flag(&profile, "it stopped: Shall I go on?");
    detach(user);
    profile.looop(&["kill", "w1"]).ok();
}

/// The lines of the spend ledger that are of workers.
fn spent(profile: &Profile) -> Vec<Value> {
    profile.charges().into_iter().filter(|charge| charge["worker"] == "w1").collect()
}

#[test]
fn an_agent_that_prints_its_events_is_metered_by_them() {
    let assistant = r#"{"type":"assistant","message":{"id":"m1","model":"m","usage":{"input_tokens":9}}}"#;
    let result = |micros: f64| {
        json!({ "result": "ok", "subtype": "success", "total_cost_usd": micros / 1e6, "type": "result",
            "usage": { "input_tokens": micros as u64, "output_tokens": 2 } })
    };
    let profile = Profile::scripted(&[NOOP]);
    let [first, second] = [1500.0, 4000.0].map(result);
    let script = format!(
        "#!/bin/sh\nprintf 'no event\\n'; echo '{assistant}'; echo '{first}'; until [ -e go ]; do sleep 0.05; done; echo '{second}'\n"
    );
    profile.stand_in("claude", &script, "/usr/bin:/bin");
    profile.looop(&["worker", "start", "w1", "--", "claude", "-p", "--output-format", "stream-json"]).ok();
    wait_until("the first turn is charged", || spent(&profile).len() == 1);
    wait_until("the list tells it", || row(&profile)["cost_usd"].as_f64() == Some(0.0015));
    go(&profile);
    wait_state(&profile, "exited");
    let all = spent(&profile);
    let figures = |key: &str| all.iter().map(|charge| charge["usage"][key].clone()).collect::<Vec<_>>();
    assert_eq!(figures("cost_micros"), [1500, 2500], "a turn is charged once");
    assert_eq!(figures("tokens_in"), [1500, 2500]);
    let rows = profile.looop(&["cost", "all", "--by", "worker", "--json"]).ok().json();
    assert_eq!((&rows["rows"][0]["key"], &rows["total"]["cost_micros"]), (&json!("w1"), &json!(4000)));
}

/// Makes pi ready to work against the server at `url`.
fn settle_pi_in(profile: &mut Profile, pi: &PiInstall, url: &str) {
    let home = pi.home(url);
    fs::rename(home.path().join(".pi"), profile.path("home/.pi")).unwrap();
    profile.config_more(json!({
        "path": home.search_path(),
        "worker": "pi",
        "runners": { "pi": { "model": pi::MODEL, "base_url": url } },
        "verify": { "made": ["test", "-e", "made"] },
    }));
    profile.var("PI_OFFLINE", "1");
}

/// An extension of the user's that asks before each command.
const ASKS_FIRST: &str = r#"export default (pi) => pi.on("tool_call", async (event, ctx) => {
    if (event.toolName === "bash" && event.input.command.startsWith("touch")) await ctx.ui.confirm("May it?", "run");
});"#;

#[test]
#[ignore = "needs agent CLIs"]
fn pi_is_flagged_when_it_asks_and_finishes() {
    let Some(pi) = pi::pi() else { return };
    let mut profile = Profile::scripted(&[NOOP]);
    let bash = |command: &str| Reply::tool("bash", json!({ "command": command }));
    let server = ModelServer::start(vec![
        read_brief(&profile, "read", "path"),
        bash(MAKE),
        Reply::text("Which colour do you want?"),
        bash("looop done"),
        Reply::hang(),
    ]);
    settle_pi_in(&mut profile, &pi, &server.url());
    fs::create_dir(profile.path("home/.pi/agent/extensions")).unwrap();
    fs::write(profile.path("home/.pi/agent/extensions/first.js"), ASKS_FIRST).unwrap();
    start(&profile);
    wait_flag(&profile, "May it?");
    assert_eq!(row(&profile)["sandbox"], "full", "what its human set up is read in there");
    let mut user = Outer::start(&profile, &["attach"], 100, 30);
    user.wait_for("May it?");
    user.type_in(b"\r");
    wait_state(&profile, "running");
    assert_eq!(row(&profile)["flag"], Value::Null, "an answered question calls for nobody");
    go(&profile);
    wait_flag(&profile, "it stopped: Which colour do you want?");
    answers_and_is_done(&profile, user, "red");
    has_read_its_brief(&server);
    let answered = server.requests()[3].body["messages"].to_string();
    assert!(answered.contains("red"), "{answered}");
    // Each answer of its model is charged, the price as pi has it.
    wait_until("what it spent", || spent(&profile).len() >= 3);
    let first = &spent(&profile)[0]["usage"];
    assert_eq!(["tokens_in", "tokens_out", "cost_micros"].map(|key| &first[key]), [100, 20, 600], "{first}");
}

#[test]
#[ignore = "needs agent CLIs"]
fn pi_is_flagged_when_its_model_fails() {
    let body = r#"{"type":"error","error":{"type":"authentication_error","message":"who are you"}}"#;
    let server = ModelServer::start(vec![Reply::status(401, body)]);
    let Some(pi) = pi::pi() else { return };
    let mut profile = Profile::scripted(&[NOOP]);
    settle_pi_in(&mut profile, &pi, &server.url());
    profile.looop(&["worker", "start", "w1", "make it"]).ok();
    wait_flag(&profile, "it stopped on an error: ");
    assert!(row(&profile)["flag"]["text"].as_str().unwrap().contains("who are you"));
    profile.looop(&["kill", "w1"]).ok();
}

/// A profile with a worker that this script is.
fn shell(more: Value, verify: &[&str], script: &str) -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(more);
    let script = script.replace("looop ", &format!("{LOOOP} "));
    profile.looop(&[&["worker", "start", "w1"], verify, &["--", "sh", "-c", &script]].concat()).ok();
    profile
}

#[test]
fn an_agent_that_stops_is_flagged_and_only_its_own_word_ends_it() {
    let script = r#"
        trap 'exit 3' TERM
        printf '\033]7501;state=done:app=a\033\\'; until [ -e go ]; do sleep 0.05; done
        touch made; looop done; while :; do sleep 0.1; done"#;
    let check = json!({ "verify": { "made": ["test", "-e", "made"] } });
    let profile = shell(check, &["--verify", "made"], script);
    wait_flag(&profile, "it stopped and did not say that its work is done");
    go(&profile);
    wait_state(&profile, "done");
}

#[test]
fn what_a_worker_flags_itself_is_not_covered_by_its_terminal() {
    let script = r#"
        looop flag 'my own words'
        printf '\033]7501;state=done\033\\'; printf '\033]7501;state=working\033\\'; echo printed
        sleep 600"#;
    let profile = shell(json!({}), &[], script);
    wait_until("all of it", || profile.looop(&["screen", "w1"]).stdout.contains("printed"));
    assert_eq!(row(&profile)["flag"]["text"], "my own words");
}

#[test]
fn a_status_report_while_a_program_is_ended_sets_no_flag() {
    let script = r#"
        trap "printf '\\033]7501;state=done\\033\\\\'; exit 0" TERM
        echo ready; while :; do sleep 0.05; done"#;
    let profile = shell(json!({}), &[], script);
    wait_until("its trap", || profile.looop(&["screen", "w1"]).stdout.contains("ready"));
    profile.looop(&["kill", "w1"]).ok();
    assert!(profile.read("workers/w1/transcript.raw").contains("state=done"));
    assert_eq!(profile.read_json("workers/w1/state.json")["flags"], 0);
}

#[test]
fn a_program_that_is_silent_at_a_prompt_is_flagged_as_a_guess() {
    let limits = json!({ "limits": { "worker_idle": "200ms" } });
    let profile = shell(limits, &[], "printf 'Overwrite it? [y/N] '; read answer; sleep 600");
    wait_flag(&profile, "it is silent at: Overwrite it? [y/N]");
    assert_eq!(row(&profile)["flag"]["guess"], true);
    profile.looop(&["ls"]).ok().prints(&["(a guess)"]);
    let mut user = Outer::start(&profile, &["attach"], 80, 24);
    user.wait_for("Overwrite");
    user.type_in(b"y\r");
    wait_until("nobody is needed", || row(&profile)["flag"].is_null());
    detach(user);
    wait_until("it counts as stuck", || row(&profile)["stuck"] == true);
    profile.looop(&["kill", "w1"]).ok();
    assert_eq!(profile.read_json("workers/w1/state.json")["flags"], 1, "silence alone calls for nobody");
}

#[test]
#[ignore = "slow"]
fn a_guess_is_taken_back_by_output_but_not_by_a_look_at_the_screen() {
    let script = r#"
        trap "printf '\\rOverwrite it? [y/N] drawn anew? '" WINCH
        printf 'Overwrite it? [y/N] '
        until [ -e go ]; do sleep 0.05; done
        while :; do echo printing; sleep 0.05; done"#;
    let profile = shell(json!({ "limits": { "worker_idle": "300ms" } }), &[], script);
    wait_flag(&profile, "it is silent at: Overwrite it? [y/N]");
    let user = Outer::start(&profile, &["attach"], 100, 30);
    user.wait_for("drawn anew?");
    assert_eq!(row(&profile)["flag"]["guess"], true);
    detach(user);
    wait_flag(&profile, "it is silent at: Overwrite it? [y/N] drawn anew?");
    // Never silent again, so that only the output itself can take it back.
    go(&profile);
    wait_state(&profile, "running");
}
