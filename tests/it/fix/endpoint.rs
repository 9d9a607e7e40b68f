//! A model behind HTTP with no hands: its edits come as words, all of them are made or none.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use super::adder::{self, FIXED_LIB, LIB, TASK, TESTS};
use super::fixture::Fixture;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::profile::{git_in, wait_until};

const GOOD: &str = "Here:\n\nFILE: lib.sh\n```sh\n<<<<<<< SEARCH\nadd() { echo $(($1 - $2)); }\n=======\nadd() { echo $(($1 + $2)); }\n>>>>>>> REPLACE\n```\nIt adds now.";

/// A project whose leanfile has this in `[lean]` and names no program.
fn fixture(lean: &str, more: &str) -> Fixture {
    let fixture = adder::project(&[]);
    fixture.leanfile_of(lean, TESTS, &format!("max_iters_per_task = 4\n{more}{TASK}"));
    fixture
}

/// A project whose fixes an endpoint of the config does, in this form. Its leanfile has a key that is of no use to that.
fn near(server: &ModelServer, form: &str) -> Fixture {
    let fixture = fixture("auth_type = \"x\"", "");
    fixture.profile.config_more(json!({
        "fix": { "runner": "near" },
        "runners": { "near": { "http": form, "base_url": format!("{}/v1", server.url()), "model": "m" } },
    }));
    fixture
}

fn lean(server: &ModelServer) -> String {
    format!("base_url = \"{}/v1\"\nmodel = \"small\"\napi_key = \"sk-test\"", server.url())
}

/// All that was said to the model in a request.
fn printed(request: &Value) -> String {
    let messages = request["messages"].as_array().unwrap();
    messages.iter().map(|one| one["content"].to_string()).collect()
}

#[test]
fn edits_in_words_are_made_all_or_none_and_none_leads_out_of_the_project() {
    let out = "FILE: ../../outside.sh\n<<<<<<< WHOLE\nx\n>>>>>>> WHOLE\n";
    let server = ModelServer::start(vec![
        Reply::text(&format!("{GOOD}\n{out}")),
        Reply::text("FILE: lib.sh\n<<<<<<< SEARCH\nno such line\n=======\nx\n>>>>>>> REPLACE\n"),
        Reply::text(GOOD).usage(70, 30, 0, 0),
    ]);
    let fixture = fixture(&lean(&server), "summarize_errors = false\n");
    let ran = fixture.fix(&[]).ok();
    assert_eq!(fixture.read("lib.sh"), FIXED_LIB);
    let attempts = fixture.attempts("add");
    let outcomes = fixture.attempted("add", "outcome");
    assert_eq!(outcomes, ["agent_failed", "agent_failed", "passed"], "{}", ran.stdout);
    assert!(attempts[0]["failure"].as_str().unwrap().contains("not a path inside the project"));
    assert_eq!((&attempts[0]["files"], &attempts[1]["files"]), (&json!([]), &json!([])));
    assert_eq!((&attempts[2]["tokens"], &attempts[2]["estimated"]), (&json!(100), &json!(false)));
    assert_eq!(attempts[2]["runner"], "small");
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        let text = printed(&request.body);
        for part in ["ADD-ITS-TWO-ARGUMENTS", "### lib.sh", "expected 5, got -1", "<<<<<<< SEARCH"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(request.path, "/v1/chat/completions");
        assert!(request.body["response_format"].is_null(), "an answer is text");
    }
    // Why an edit was not made is in what comes next.
    let last = printed(&requests[2].body);
    assert!(last.contains(r#"do not occur in it, starting with \"no such line\""#), "{last}");
    let rows = fixture.profile.looop(&["cost", "all", "--by", "runner", "--json"]).ok().json();
    assert_eq!(rows["rows"].as_array().unwrap().len(), 1, "{rows}");
}

#[test]
fn an_endpoint_of_the_config_is_a_runner_like_others() {
    let server = ModelServer::start(vec![
        Reply::text("The sum comes out wrong: expected another one"),
        Reply::text(" "),
        Reply::text(GOOD),
    ]);
    for form in ["openai", "anthropic"] {
        let (fixture, first) = (near(&server, form), server.requests().len());
        let listed = fixture.profile.looop(&["fix", "--list-leaners"]).ok().stdout;
        assert!(listed.lines().any(|line| line.contains("near") && line.contains("chosen")), "{listed}");
        fixture.profile.looop(&["fix", "--set-leaner", "near"]).ok();
        fixture.fix(&[]).ok().prints(&["auth_type of [lean] has no effect: near is called"]);
        assert_eq!(fixture.read("lib.sh"), FIXED_LIB);
        // The first attempt has no diagnosis before it; what is said without edits is an attempt, what is empty is none.
        let count = if first == 0 { 2 } else { 1 };
        assert_eq!(fixture.attempted("add", "runner"), vec!["near"; count]);
    }
}

#[test]
#[ignore = "slow"]
fn an_endpoint_that_cannot_be_asked_is_an_attempt_that_failed_and_one_that_is_none_is_refused() {
    let fixture =
        fixture("base_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"", "summarize_errors = false\n");
    let before = fixture.fingerprint();
    let ran = fixture.fix(&[]);
    assert!(matches!(ran.code, 1 | 3), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(fixture.fingerprint(), before);
    assert_eq!(fixture.attempted("add", "outcome")[0], "agent_failed");
    let fixture = self::fixture("base_url = \"127.0.0.1:1\"\nmodel = \"m\"", "");
    fixture.fix(&[]).exits(2).warns(&["it begins with http"]);
}

#[test]
fn edits_of_which_only_some_were_made_when_it_was_killed_are_none() {
    let server = ModelServer::start(vec![Reply::hang(), Reply::text(GOOD)]);
    let fixture = fixture(&lean(&server), "summarize_errors = false\n");
    let mut command = fixture.profile.command(&["fix", "-c", "leanfile.toml"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    server.wait_for_requests(1);
    let work = || {
        let dirs = fs::read_dir(fixture.profile.data().join("fix")).unwrap().flatten();
        dirs.map(|dir| dir.path().join("work/clone/lib.sh")).find(|path| path.is_file())
    };
    wait_until("the clone is there", || work().is_some());
    let lib = work().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(&lib, "half of an answer\n").unwrap();
    fixture.fix(&[]).ok().prints(&["resuming the interrupted run"]);
    assert_eq!(fixture.read("lib.sh"), FIXED_LIB);
    assert_eq!(fixture.ledger("add").len(), 2, "it is the same attempt");
    let half = git_in(&fixture.kept(), &["show", "refs/looop/attempts/add/1-cut:lib.sh"]);
    assert_eq!(half, "half of an answer\n", "nothing is lost");
}

#[test]
fn an_answer_that_the_output_limit_ended_changes_no_file() {
    let server = ModelServer::start(vec![Reply::truncated(GOOD)]);
    let fixture = near(&server, "openai");
    let ran = fixture.fix(&[]);
    assert!(ran.code != 0 && fixture.read("lib.sh") == LIB, "{ran:?}");
    let ledger = fixture.ledger("add");
    assert!(ledger.iter().any(|line| line.to_string().contains("output limit")), "{ledger:?}");
}
