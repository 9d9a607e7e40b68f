//! What leanfiles say, all the way through: where they are found, what is waited for, what is not tested, what is shown.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::json;

use super::adder::{self, FIXED, FIXED_LIB, TASK, TESTS};
use super::fixture::Fixture;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::profile::{git_in, program};

fn fixture() -> Fixture {
    adder::fixture(TASK)
}

#[test]
fn the_static_config_has_three_places_and_a_relative_binary_begins_in_its_own() {
    for place in ["-g", "LEANLOOP_CONFIG", "home"] {
        let mut fixture = fixture();
        let dir = if place == "home" { "home/.config/lean-loop" } else { "elsewhere" };
        let dir = fixture.profile.path(dir);
        fs::create_dir_all(&dir).unwrap();
        let fixed = dir.join("config.toml");
        let lean = "binary = \"bin/agent\"\nmodel = \"STATIC-MODEL\"\napproval_mode = \"yolo\"";
        fs::write(&fixed, format!("[lean]\n{lean}\n")).unwrap();
        // The contract: `-p PROMPT`, and what [lean] says in the environment.
        let agent = format!(
            "#!/bin/sh\n[ \"$1\" = -p ] && [ \"$#\" = 2 ] || exit 9\n[ \"$LEAN_MODEL/$LEAN_APPROVAL_MODE/$LEAN_BASE_URL\" = OWN-MODEL/yolo/http://x ] || exit 8\n[ -z \"$LEAN_API_KEY\" ] || exit 7\n{FIXED}\necho done\n"
        );
        program(dir.join("bin/agent"), &agent);
        fixture.leanfile_of("model = \"OWN-MODEL\"\nbase_url = \"http://x\"", TESTS, TASK);
        let fixed = fixed.to_str().unwrap();
        match place {
            "-g" => fixture.fix(&["-g", fixed]).ok(),
            "home" => fixture.fix(&[]).ok(),
            variable => {
                fixture.profile.var(variable, fixed);
                fixture.fix(&[]).ok()
            }
        };
        assert_eq!(fixture.read("lib.sh"), FIXED_LIB, "{place}");
        assert_eq!(fixture.attempted("add", "runner")[0], "agent");
    }
    fixture().profile.looop(&["fix", "-g", "nowhere.toml"]).exits(2).warns(&["nowhere.toml"]);
}

#[test]
#[ignore = "slow"]
fn what_must_be_well_is_waited_for_and_not_for_ever() {
    let fixture = fixture();
    fixture.agent(FIXED);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lean = format!("[health]\ncheck_url = \"http://{address}/health\"\nmax_wait = 1\n{TASK}");
    fixture.leanfile(TESTS, &lean);
    fixture.fix(&[]).exits(1).warns(&["was not healthy after 1s", "hint:"]);
    assert_eq!(fixture.calls(), 0);
    // It comes up while it is waited for. Another port: the first one may be somebody else's by now.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = thread::spawn(move || {
        for status in ["503 soon", "200 well"] {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
    });
    fixture.leanfile(TESTS, &format!("[health]\ncheck_url = \"http://{address}/up\"\n{TASK}"));
    fixture.fix(&[]).ok().prints(&["waiting for http://"]);
    answers.join().unwrap();
    assert_eq!(fixture.calls(), 1);
}

#[test]
fn a_task_without_tests_is_done_when_the_agent_answered_and_after_still_decides() {
    let fixture = fixture();
    fixture.agent("echo written >new.txt; echo changed >>check.sh");
    let after = |line: &str| {
        let rest = format!("max_iters_per_task = 1\n{TASK}skip_tests = true\nafter = [\"{line}\"]\n");
        fixture.leanfile("command = \"false\"", &rest);
    };
    after("grep -q written new.txt");
    fixture.fix(&[]).ok().prints(&["done, not tested"]);
    assert_eq!(fixture.read("new.txt"), "written\n");
    assert!(!fixture.prompt(1).contains("The failure of"), "{}", fixture.prompt(1));
    after("false");
    fixture.fix(&[]).exits(1);
}

#[test]
fn an_agent_that_runs_the_same_again_and_again_is_warned_and_then_ended() {
    let fixture = fixture();
    let (script, state) = (fixture.profile.path("local.sh"), fixture.profile.path("state"));
    let event = |command: &str, id: &str, output: &str| {
        let call = json!({ "type": "tool_use", "id": id, "name": "Bash", "input": { "command": command } });
        let result = json!({ "type": "tool_result", "tool_use_id": id, "content": output });
        let line = |kind: &str, part| json!({ "type": kind, "message": { "content": [part] } });
        format!("echo '{}'\necho '{}'\n", line("assistant", call), line("user", result))
    };
    let many = |command: &str, count: usize| -> String {
        (0..count).map(|n| event(command, &n.to_string(), "took 5ms")).collect()
    };
    let end = "echo '{\"type\":\"result\",\"subtype\":\"success\",\"result\":\"done\",\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}'";
    // It would go on for long; it says nothing more, so only its end can end it.
    let stuck = format!("{}sleep 300\n", many("ls -l", 5));
    let (thrice, waits) = (many("cat x", 3), many("sleep 1", 9));
    let text = format!(
        "#!/bin/sh\nn=$(($(cat {0}/calls 2>/dev/null || echo 0) + 1)); echo $n >{0}/calls\ncat >{0}/prompt.$n\necho \"note $n\" >notes$n.md\ncase $n in\n1)\n{stuck};;\n2)\n{thrice};;\n3)\n{waits};;\n*) {FIXED};;\nesac\n{end}\n",
        state.display()
    );
    program(&script, &text);
    let config = json!({ "fix": { "runner": "local" }, "runners": { "local": { "fix": [script] } } });
    fixture.profile.config_more(config);
    fixture.leanfile_of("", TESTS, &format!("summarize_errors = false\n{TASK}"));
    fixture.fix(&[]).ok().prints(&["it repeated the same command: ls -l"]);
    // What it did until then counts.
    assert_eq!(fixture.attempted("add", "outcome"), ["failed", "failed", "failed", "passed"]);
    fixture.asked(2, &["you ran `ls -l` repeatedly"]);
    fixture.asked(3, &["you ran `cat x` repeatedly"]);
    let last = fixture.prompt(4);
    assert!(!last.contains("repeatedly with the same"), "waiting is no loop: {last}");
    let second = &fixture.attempts("add")[1];
    assert_eq!((&second["tokens"], &second["estimated"]), (&json!(11), &json!(false)));
}

#[test]
fn what_a_run_shows_has_times_tokens_and_what_a_cloud_model_did_not_have_to_spend() {
    let fixture = fixture();
    fixture.agent(&format!("if [ $n = 1 ]; then echo '# no' >>lib.sh; else {FIXED}; fi"));
    let ran = fixture.fix(&[]).ok().prints(&[
        "[1/1] add",
        "before: ",
        "attempt 1 of 5: agent.sh is called",
        "attempt 2 of 5",
        " tokens)",
        "a cloud model did not have to spend ~",
        "an estimate",
    ]);
    let row = ran.stdout.lines().find(|line| line.starts_with("add ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[..3], ["add", "done", "2"], "{}", ran.stdout);
    assert!(row.contains('~') && row.ends_with("attempt 2 changed 1 file"), "{row}");
    // Each attempt is a commit under its own ref, with the base's as its parent's parent.
    let refs =
        git_in(&fixture.kept(), &["for-each-ref", "--format=%(refname) %(subject)", "refs/looop/attempts"]);
    let attempts = [(1, "fail"), (2, "pass")];
    let lines = attempts.map(|(n, end)| format!("refs/looop/attempts/add/{n} attempt {n}: tests {end}\n"));
    assert_eq!(refs, lines.concat());
    fixture.leanfile(TESTS, &format!("log_token_savings = false\n{TASK}"));
    git_in(&fixture.project(), &["checkout", "-q", "lib.sh"]);
    fixture.agent(FIXED);
    assert!(!fixture.fix(&[]).ok().stdout.contains("cloud model"));
}

#[test]
fn a_call_that_was_paid_for_is_nothing_that_was_saved() {
    let answer = "FILE: lib.sh\n<<<<<<< WHOLE\nadd() { echo $(($1 + $2)); }\n>>>>>>> WHOLE\n";
    let server = ModelServer::start(vec![Reply::text(answer).usage(1000, 100, 0, 0)]);
    let fixture = fixture();
    fixture.profile.config_more(json!({ "runners": { "cloud": {
        "http": "openai", "base_url": format!("{}/v1", server.url()), "model": "m",
        "price": { "input": 3.0, "output": 15.0 },
    } } }));
    let ran = fixture.fix(&["--runner", "cloud"]).ok();
    assert!(!ran.stdout.contains("did not have to spend"), "{}", ran.stdout);
    let charge = &fixture.profile.charges()[0];
    let paid = (&charge["runner"], &charge["usage"]["cost_micros"]);
    assert_eq!(paid, (&json!("cloud"), &json!(4500)), "{charge}");
}

#[test]
fn one_fix_runs_once() {
    let fixture = fixture();
    let again = format!("fix -c {}", fixture.profile.path("leanfile.toml").display());
    fixture.agent(&format!("{}; {FIXED}", fixture.as_user(&again)));
    fixture.fix(&[]).ok();
    let printed = fixture.agents_output();
    assert!(printed.contains("runs already"), "{printed}");
}
