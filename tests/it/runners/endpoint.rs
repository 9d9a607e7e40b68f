//! Endpoints over HTTP: what only they have, health, retries that wait as told, forms that are refused, idle streams.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Decider, NOOP, charges, profile};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi::skipped;
use crate::support::profile::{Profile, git_in};

/// The same profile with other settings of its endpoint.
fn with(profile: &Profile, key: &str, value: Value) {
    let text = std::fs::read_to_string(profile.config_file()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["runners"]["mine"][key] = value;
    profile.config(config);
}

fn failure(profile: &Profile) -> Value {
    profile.read_json("beat.json")["failure"].clone()
}

#[test]
fn an_endpoint_that_is_down_is_not_asked_and_costs_nothing() {
    let server = ModelServer::start(vec![Reply::text(NOOP)]);
    let Some(profile) = profile(Decider::Openai, &server.url()) else { return };
    // A path that the server does not know shows as well that it is there.
    with(&profile, "health", json!("/health"));
    profile.looop(&["tick"]).ok();
    let paths: Vec<String> = server.requests().iter().map(|request| request.path.clone()).collect();
    assert_eq!(paths, ["/health", "/v1/chat/completions"]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    with(&profile, "health", json!(format!("http://{free}/health")));
    profile.goal("g", "---\ngoal: x\n---\n");
    let ran = profile.looop(&["tick"]);
    assert_eq!((ran.code, &failure(&profile)["class"]), (1, &json!("down")), "{ran:?}");
    assert_eq!(
        (server.requests().len(), charges(&profile).len()),
        (2, 1),
        "nobody was asked, nothing was spent"
    );
    assert!(profile.looop(&["status"]).ok().stdout.contains("start the endpoint"));
}

#[test]
#[ignore = "needs agent CLIs"]
fn an_answer_that_the_output_limit_ended_holds_no_move_and_says_why() {
    for decider in [Decider::Openai, Decider::Anthropic] {
        let server = ModelServer::start(vec![Reply::truncated(NOOP)]);
        let Some(profile) = profile(decider, &server.url()) else { return };
        profile.goal("g", "---\ngoal: x\n---\n");
        let ran = profile.looop(&["tick"]);
        let failure = failure(&profile);
        assert_eq!((ran.code, &failure["class"]), (1, &json!("invalid")), "{ran:?}");
        assert!(failure["why"].as_str().unwrap().contains("output limit"), "{failure}");
        let asked = server.requests();
        assert_eq!(asked.len(), 2, "one repair is asked for");
        assert!(asked[1].body.to_string().contains("output limit"), "the model learns why");
    }
}

#[test]
#[ignore = "slow"]
fn a_wait_that_a_server_names_is_kept() {
    let slow = |seconds: &str| {
        Reply::status(429, r#"{"error":{"message":"slow down"}}"#).header("retry-after", seconds)
    };
    let server = ModelServer::start(vec![slow("1"), Reply::text(NOOP)]);
    let Some(near) = profile(Decider::Openai, &server.url()) else { return };
    let began = Instant::now();
    near.looop(&["tick"]).ok();
    assert!(began.elapsed().as_millis() >= 1000, "{:?}", began.elapsed());
    assert_eq!((server.requests().len(), charges(&near).len()), (2, 1));

    let server = ModelServer::start(vec![slow("900")]);
    let far = profile(Decider::Anthropic, &server.url()).unwrap();
    let ran = far.looop(&["tick"]);
    assert_eq!((ran.code, server.requests().len()), (1, 1), "what is far is not waited for");
    let failure = failure(&far);
    let wait = failure["retry_at_ms"].as_i64().unwrap() - failure["at_ms"].as_i64().unwrap();
    assert!((890_000..=900_000).contains(&wait), "{failure}");
    let next = far.looop(&["tick"]).ok().stdout;
    assert!(next.contains("backing off for 14m") || next.contains("backing off for 15m"), "{next}");
    assert_eq!(charges(&far)[0]["usage"]["cost_micros"], 0, "a refused request costs nothing");
}

#[test]
fn one_that_knows_no_json_mode_is_asked_without() {
    let refused = Reply::status(400, r#"{"error":"'response_format.type' must be 'json_schema' or 'text'"}"#);
    let server = ModelServer::start(vec![refused, Reply::text(NOOP)]);
    let Some(auto) = profile(Decider::Openai, &server.url()) else { return };
    auto.looop(&["tick"]).ok();
    let forms: Vec<Value> =
        server.requests().iter().map(|r| r.body["response_format"]["type"].clone()).collect();
    assert_eq!(forms, [json!("json_object"), Value::Null]);

    let server = ModelServer::start(vec![Reply::text(NOOP)]);
    let fixed = profile(Decider::Openai, &server.url()).unwrap();
    with(&fixed, "shape", json!("json_schema"));
    fixed.looop(&["tick"]).ok();
    let schema = server.requests()[0].body["response_format"]["json_schema"]["schema"].clone();
    assert!(schema["oneOf"].as_array().unwrap().len() >= 12, "{schema}");
}

#[test]
fn silence_ends_a_call() {
    let server = ModelServer::start(vec![Reply::hang()]);
    let Some(profile) = profile(Decider::Anthropic, &server.url()) else { return };
    with(&profile, "idle", json!("500ms"));
    let ran = profile.looop(&["tick"]);
    assert_eq!((ran.code, &failure(&profile)["class"]), (1, &json!("transient")), "{ran:?}");
    assert!(failure(&profile)["why"].as_str().unwrap().contains("no data came for too long"));
    assert_eq!(server.requests().len(), 1, "it may have been working: it is not asked twice");
}

/// An endpoint that sends this to whoever asks and then keeps the line open.
fn stalls(words: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(words.as_bytes()).unwrap();
            open.push(stream);
        }
    });
    url
}

#[test]
fn a_stream_that_falls_silent_in_its_middle_is_ended_and_what_it_used_is_known() {
    let url = stalls(
        "HTTP/1.1 200 ok\r\ncontent-type: text/event-stream\r\n\r\n\
         event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":70}}}\n\n",
    );
    let Some(profile) = profile(Decider::Anthropic, &url) else { return };
    with(&profile, "idle", json!("500ms"));
    let ran = profile.looop(&["tick"]);
    assert_eq!((ran.code, &failure(&profile)["class"]), (1, &json!("transient")), "{ran:?}");
    assert!(failure(&profile)["why"].as_str().unwrap().contains("no data came for too long"));
    let usage = &charges(&profile)[0]["usage"];
    assert_eq!((&usage["tokens_in"], &usage["cost_micros"]), (&json!(70), &json!(210)), "{usage}");
}

#[test]
#[ignore = "slow"]
fn a_health_check_waits_for_a_bounded_time_and_hears_an_error() {
    for (words, why) in
        [("", "is down"), ("HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n", "answered with 503")]
    {
        let server = ModelServer::start(vec![Reply::text(NOOP)]);
        let Some(profile) = profile(Decider::Openai, &server.url()) else { return };
        with(&profile, "health", json!(format!("{}/health", stalls(words))));
        let began = Instant::now();
        profile.looop(&["tick"]);
        assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
        let failure = failure(&profile);
        assert_eq!(failure["class"], "down", "{failure}");
        assert!(failure["why"].as_str().unwrap().contains(why), "{failure}");
        assert_eq!((server.requests().len(), charges(&profile).len()), (0, 0));
    }
}

#[test]
fn a_key_that_is_not_there_is_reported_before_anything_is_asked() {
    let server = ModelServer::start(vec![Reply::text(NOOP)]);
    let Some(profile) = profile(Decider::Openai, &server.url()) else { return };
    with(&profile, "key_env", json!("NOT_SET"));
    let ran = profile.looop(&["tick"]);
    let failure = failure(&profile);
    assert_eq!((ran.code, &failure["class"]), (1, &json!("auth")));
    assert!(failure["why"].as_str().unwrap().contains("NOT_SET"), "{failure}");
    assert_eq!(server.requests().len(), 0);
}

/// No token's shape and no variable's value: only `token_cmd` knows it.
const KEY: &str = "quiet-words-0123456789";

#[test]
fn a_key_from_a_command_reaches_the_endpoint_and_no_file() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It repeats the key in its refusal.
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while reader.read_line(&mut head).unwrap() > 2 {}
        let body = format!("{{\"error\":{{\"message\":\"bad key {KEY}\"}}}}");
        let answer =
            format!("HTTP/1.1 401 no\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).unwrap();
        head
    });
    let Some(profile) = profile(Decider::Openai, "http://127.0.0.1:1") else { return };
    with(&profile, "base_url", json!(format!("http://{address}/v1")));
    with(&profile, "key_env", Value::Null);
    std::fs::write(profile.path("key"), format!("{KEY}\nuser: me\n")).unwrap();
    with(&profile, "token_cmd", json!(["cat", profile.path("key")]));
    let ran = profile.looop(&["tick"]);
    let head = server.join().unwrap();
    assert!(head.to_lowercase().contains(&format!("authorization: bearer {KEY}\r\n")), "{head}");
    let failure = failure(&profile);
    assert_eq!((ran.code, &failure["class"]), (1, &json!("auth")), "{failure}");
    assert!(failure["why"].as_str().unwrap().contains("bad key"), "{failure}");
    let found = Command::new("grep").args(["-rlF", KEY]).arg(profile.data()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "it is in no file of the data dir");
    assert!(!ran.stderr.contains(KEY) && !ran.stdout.contains(KEY), "{ran:?}");
}

#[test]
fn a_program_that_decides_gets_the_key_in_a_variable_and_cannot_repeat_it() {
    let profile = Profile::scripted(&[NOOP]);
    let line = format!("test \"$MINE\" = {KEY} || exit 1; echo '{{\"move\":\"noop\",\"why\":\"'$MINE'\"}}'");
    let runner = json!({ "decide": ["sh", "-c", line], "token_cmd": ["echo", KEY], "key_env": "MINE" });
    profile.config(json!({ "decide": "mine", "runners": { "mine": runner } }));
    profile.looop(&["tick"]).ok();
    assert!(profile.read("journal.md").contains("noop"), "{}", profile.read("journal.md"));
    let found = Command::new("grep").args(["-rlF", KEY]).arg(profile.data()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "it is in no file of the data dir");
    // Without a variable the program could not get it.
    let runner = json!({ "decide": ["sh", "-c", line], "token_cmd": ["echo", KEY] });
    profile.config(json!({ "decide": "mine", "runners": { "mine": runner } }));
    let ran = profile.looop(&["run", "rest"]);
    assert!(
        ran.code == 2 && ran.stderr.contains("runners.mine.token_cmd") && ran.stderr.contains("key_env"),
        "{ran:?}"
    );
}

#[test]
#[ignore = "slow"]
fn a_command_that_prints_no_key_is_reported_before_anything_is_asked() {
    let server = ModelServer::start(vec![Reply::text(NOOP)]);
    for (argv, why) in [
        (json!(["sh", "-c", "echo locked >&2; exit 3"]), "locked"),
        (json!(["true"]), "its first line is empty"),
        (json!(["printf", "a\u{7}b"]), "a control character"),
        (json!(["yes"]), "too much output"),
        (json!(["no-such-program"]), "not an executable"),
    ] {
        let Some(profile) = profile(Decider::Openai, &server.url()) else { return };
        with(&profile, "token_cmd", argv);
        let ran = profile.looop(&["tick"]);
        let failure = failure(&profile);
        assert_eq!((ran.code, &failure["class"]), (1, &json!("auth")), "{failure}");
        assert!(failure["why"].as_str().unwrap().contains(why), "{failure}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_handshake_that_fails_is_named_as_one() {
    // Plain words where TLS is spoken: it fails, whatever certificates there are.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let plain = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Until the client has read it; closing at once would reset the connection.
        let _closed = stream.read(&mut [0; 4096]).and_then(|_| stream.read(&mut [0; 4096]));
    });
    let Some(profile) = profile(Decider::Openai, "http://127.0.0.1:1") else { return };
    with(&profile, "base_url", json!(format!("https://{address}/v1")));
    let ran = profile.looop(&["tick"]);
    plain.join().unwrap();
    let failure = failure(&profile);
    assert_eq!((ran.code, &failure["class"]), (1, &json!("crashed")), "{failure}");
    assert!(failure["why"].as_str().unwrap().contains("TLS failed"), "{failure}");
    assert_eq!(profile.read_json("beat.json")["backoff"]["fails"], 1);
}

#[test]
fn an_untrusted_certificate_is_refused_before_any_byte_of_the_prompt() {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        return skipped("no openssl");
    }
    let Some(profile) = profile(Decider::Openai, "http://127.0.0.1:1") else { return };
    let (key, cert) = (profile.path("key.pem"), profile.path("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
        .args([&key, Path::new("-out"), &cert])
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let mut server = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-key"])
        .args([&key, Path::new("-cert"), &cert])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(server.stdout.take().unwrap());
    // It names its address when it listens: `ACCEPT 127.0.0.1:40231`.
    let mut line = String::new();
    while !line.starts_with("ACCEPT ") {
        line.clear();
        assert!(printed.read_line(&mut line).unwrap() > 0, "openssl did not listen");
    }
    with(&profile, "base_url", json!(format!("https://{}/v1", line["ACCEPT ".len()..].trim())));
    let ran = profile.looop(&["tick"]);
    server.kill().unwrap();
    server.wait().unwrap();
    let mut heard = String::new();
    printed.read_to_string(&mut heard).unwrap();
    let failure = failure(&profile);
    assert_eq!((ran.code, &failure["class"]), (1, &json!("crashed")), "{failure}");
    let why = failure["why"].as_str().unwrap();
    assert!(why.contains("TLS failed") && why.contains("certificate"), "{failure}");
    assert!(!heard.contains("POST"), "{heard}");
    assert!(charges(&profile).iter().all(|charge| charge["usage"]["cost_micros"] == 0));
}

#[test]
fn a_price_comes_from_the_table_by_the_exact_name_only() {
    for (model, basis, micros) in
        [("claude-sonnet-4-5-20250929", "priced", 928), ("claude-sonnet-9", "tokens", 0)]
    {
        let server = ModelServer::start(vec![Reply::text(NOOP).usage(111, 22, 333, 44)]);
        let Some(profile) = profile(Decider::Anthropic, &server.url()) else { return };
        with(&profile, "price", Value::Null);
        with(&profile, "model", json!(model));
        profile.looop(&["tick"]).ok();
        let usage = &charges(&profile)[0]["usage"];
        assert_eq!((&usage["basis"], &usage["cost_micros"]), (&json!(basis), &json!(micros)), "{usage}");
    }
}

#[test]
fn a_program_of_a_worker_or_a_fix_is_refused_where_its_key_comes_from_a_command() {
    let profile = Profile::scripted(&[]);
    let runner = json!({
        "worker": ["sh", "{brief}"], "fix": ["sh", "{brief}"], "token_cmd": ["echo", KEY], "key_env": "MINE",
    });
    profile.config_more(json!({ "runners": { "mine": runner }, "worker": "mine" }));
    let repo = profile.path("repo");
    std::fs::create_dir(&repo).unwrap();
    std::fs::write(repo.join("a"), "a").unwrap();
    git_in(&repo, &["init", "-q"]);
    git_in(&repo, &["add", "a"]);
    git_in(&repo, &["commit", "-qm", "one"]);
    let repo = repo.to_str().unwrap();
    let refused = "runners.mine.token_cmd works for a runner that decides and for an endpoint";
    let worker = profile.looop(&["worker", "start", "w", "brief"]);
    assert!(worker.code == 1 && worker.stderr.contains(refused), "{worker:?}");
    let fix = profile.looop(&["fix", "--repo", repo, "--issue", "x", "--test", "false", "--runner", "mine"]);
    assert!(fix.code == 2 && fix.stderr.contains(refused), "{fix:?}");
    let doctor = profile.looop(&["doctor"]);
    assert!(doctor.stdout.contains("BAD  worker runner") && doctor.stdout.contains(refused), "{doctor:?}");
}
