//! What leanfiles say, all the way through: where they are found, what is waited for, what is not tested, what is shown.

use std::fs;
use std::net::TcpListener;
use std::thread;

use serde_json::json;

use super::adder::{self, FIXED, TESTS};
use super::fixture::{Fixture, of, program};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::profile::git_in;

const TASK: &str = "[[tasks]]\nname = \"add\"\nprompt = \"add must add\"\nfiles = [\"lib.sh\"]\n";

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
        fs::write(
            &fixed,
            "[lean]\nbinary = \"bin/agent\"\nmodel = \"STATIC-MODEL\"\napproval_mode = \"yolo\"\n",
        )
        .unwrap();
        fs::create_dir(dir.join("bin")).unwrap();
        // The contract: `-p PROMPT`, and what [lean] says in the environment.
        program(
            &dir.join("bin/agent"),
            &format!(
                "#!/bin/sh\n[ \"$1\" = -p ] && [ \"$#\" = 2 ] || exit 9\n[ \"$LEAN_MODEL/$LEAN_APPROVAL_MODE/$LEAN_BASE_URL\" = OWN-MODEL/yolo/http://x ] || exit 8\n[ -z \"$LEAN_API_KEY\" ] || exit 7\n{FIXED}\necho done\n"
            ),
        );
        let own = fixture.profile.path("leanfile.toml");
        let text = fs::read_to_string(&own).unwrap();
        let binary = text.lines().find(|line| line.starts_with("binary")).unwrap().to_owned();
        fs::write(&own, text.replace(&binary, "model = \"OWN-MODEL\"\nbase_url = \"http://x\"")).unwrap();
        let own = own.to_str().unwrap();
        let mut args = vec!["fix", "-c", own];
        match place {
            "-g" => args.extend(["-g", fixed.to_str().unwrap()]),
            "home" => {}
            variable => fixture.profile.var(variable, fixed.to_str().unwrap()),
        }
        let ran = fixture.profile.looop(&args).ok();
        assert!(fixture.read("lib.sh").contains("$1 + $2"), "{place}: {}", ran.stdout);
        assert_eq!(of(&fixture.ledger("add"), "attempt")[0]["runner"], "agent");
    }
    let ran = fixture().profile.looop(&["fix", "-g", "nowhere.toml"]);
    assert!(ran.code == 2 && ran.stderr.contains("nowhere.toml"), "{}", ran.stderr);
}

#[test]
#[ignore = "slow"]
fn what_must_be_well_is_waited_for_and_not_for_ever() {
    let fixture = fixture();
    fixture.agent(FIXED);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lean = format!("[health]\ncheck_url = \"http://{address}/health\"\nmax_wait = 1\n{TASK}");
    fixture.leanfile(TESTS, &lean);
    let ran = fixture.fix(&[]);
    assert_eq!((ran.code, fixture.calls()), (1, 0), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("was not healthy after 1s") && ran.stderr.contains("hint:"),
        "{}",
        ran.stderr
    );
    // It comes up while it is waited for. Another port: the first one may be somebody else's by now.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = thread::spawn(move || {
        for status in ["503 soon", "200 well"] {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Read::read(&mut stream, &mut [0; 1024]).unwrap();
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
        }
    });
    fixture.leanfile(TESTS, &format!("[health]\ncheck_url = \"http://{address}/up\"\n{TASK}"));
    let ran = fixture.fix(&[]).ok();
    answers.join().unwrap();
    assert!(ran.stdout.contains("waiting for http://") && fixture.calls() == 1, "{}", ran.stdout);
}

#[test]
fn a_task_without_tests_is_done_when_the_agent_answered_and_after_still_decides() {
    let fixture = fixture();
    fixture.agent("echo written >new.txt; echo changed >>check.sh");
    fixture.leanfile(
        "command = \"false\"",
        &format!("{TASK}skip_tests = true\nafter = [\"grep -q written new.txt\"]\n"),
    );
    let ran = fixture.fix(&[]).ok();
    assert!(ran.stdout.contains("done, not tested"), "{}", ran.stdout);
    assert_eq!(fixture.read("new.txt"), "written\n");
    assert!(!fixture.prompt(1).contains("The failure of"), "{}", fixture.prompt(1));
    fixture.leanfile(
        "command = \"false\"",
        &format!("max_iters_per_task = 1\n{TASK}skip_tests = true\nafter = [\"false\"]\n"),
    );
    assert_eq!(fixture.fix(&[]).code, 1);
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
    program(
        &script,
        &format!(
            "#!/bin/sh\nn=$(($(cat {0}/calls 2>/dev/null || echo 0) + 1)); echo $n >{0}/calls\ncat >{0}/prompt.$n\necho \"note $n\" >notes$n.md\ncase $n in\n1)\n{stuck};;\n2)\n{thrice};;\n3)\n{waits};;\n*) {FIXED};;\nesac\n{end}\n",
            state.display()
        ),
    );
    fixture
        .profile
        .config_more(json!({ "fix": { "runner": "local" }, "runners": { "local": { "fix": [script] } } }));
    let path = fixture.leanfile(TESTS, &format!("summarize_errors = false\n{TASK}"));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.lines().filter(|line| !line.starts_with("binary")).collect::<Vec<_>>().join("\n"))
        .unwrap();
    let ran = fixture.fix(&[]).ok();
    let lines = fixture.ledger("add");
    let outcomes: Vec<&str> =
        of(&lines, "attempt").iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(
        outcomes,
        ["failed", "failed", "failed", "passed"],
        "what it did until then counts: {}",
        ran.stdout
    );
    assert!(ran.stdout.contains("it repeated the same command: ls -l"), "{}", ran.stdout);
    assert!(fixture.prompt(2).contains("you ran `ls -l` repeatedly"), "{}", fixture.prompt(2));
    assert!(fixture.prompt(3).contains("you ran `cat x` repeatedly"), "{}", fixture.prompt(3));
    assert!(
        !fixture.prompt(4).contains("repeatedly with the same"),
        "waiting is no loop: {}",
        fixture.prompt(4)
    );
    assert_eq!(
        (&of(&lines, "attempt")[1]["tokens"], &of(&lines, "attempt")[1]["estimated"]),
        (&json!(11), &json!(false))
    );
}

#[test]
fn what_a_run_shows_has_times_tokens_and_what_a_cloud_model_did_not_have_to_spend() {
    let fixture = fixture();
    fixture.agent(&format!("if [ $n = 1 ]; then echo '# no' >>lib.sh; else {FIXED}; fi"));
    let ran = fixture.fix(&[]).ok();
    for part in ["[1/1] add", "before: ", "attempt 1 of 5: agent.sh is called", "attempt 2 of 5", " tokens)"]
    {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    let row = ran.stdout.lines().find(|line| line.starts_with("add ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[..3], ["add", "done", "2"], "{}", ran.stdout);
    assert!(row.contains('~') && row.ends_with("attempt 2 changed 1 file"), "{row}");
    assert!(ran.stdout.contains("a cloud model did not have to spend ~"), "{}", ran.stdout);
    assert!(ran.stdout.contains("an estimate"), "{}", ran.stdout);
    // Each attempt is a commit under its own ref, with the base's as its parent's parent.
    let attempts = fs::read_dir(fixture.profile.data().join("fix"))
        .unwrap()
        .flatten()
        .map(|dir| dir.path().join("attempts"));
    let kept = attempts.filter(|path| path.is_dir()).last().unwrap();
    let refs = git_in(&kept, &["for-each-ref", "--format=%(refname) %(subject)", "refs/looop/attempts"]);
    assert_eq!(
        refs,
        "refs/looop/attempts/add/1 attempt 1: tests fail\nrefs/looop/attempts/add/2 attempt 2: tests pass\n"
    );
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
    let charge = &fixture.charges()[0];
    assert_eq!(
        (&charge["runner"], &charge["usage"]["cost_micros"]),
        (&json!("cloud"), &json!(4500)),
        "{charge}"
    );
}

#[test]
fn one_fix_runs_once() {
    let fixture = fixture();
    let nested = fixture.profile.path("nested");
    let again = fixture.profile.command(&["fix"]).get_program().to_string_lossy().into_owned();
    let (data, own) = (fixture.profile.data(), fixture.profile.path("leanfile.toml"));
    fixture.agent(&format!(
        "LOOOP_DATA_DIR={} LOOOP_CONFIG={} {again} fix -c {} >{} 2>&1; {FIXED}",
        data.display(),
        fixture.profile.config_file().display(),
        own.display(),
        nested.display()
    ));
    fixture.fix(&[]).ok();
    let printed = fs::read_to_string(&nested).unwrap();
    assert!(printed.contains("runs already"), "{printed}");
}
