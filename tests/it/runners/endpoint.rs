//! Endpoints over HTTP: what only they have, health, retries that wait as told, forms that are refused, idle streams.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Decider, NOOP, fails, profile};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi::skipped;
use crate::support::profile::{Profile, git_in};

/// The same profile with other settings of its endpoint.
fn with(profile: &Profile, key: &str, value: Value) {
    let mut config = profile.config_value();
    config["runners"]["mine"][key] = value;
    profile.config(config);
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
    fails(&profile, "down", "");
    // Nobody was asked, and nothing was spent.
    assert_eq!((server.requests().len(), profile.charges().len()), (2, 1));
    profile.looop(&["status"]).exits(1).prints(&["start the endpoint"]);
}

#[test]
#[ignore = "needs agent CLIs"]
fn an_answer_that_the_output_limit_ended_holds_no_move_and_says_why() {
    for decider in [Decider::Openai, Decider::Anthropic] {
        let server = ModelServer::start(vec![Reply::truncated(NOOP)]);
        let Some(profile) = profile(decider, &server.url()) else { return };
        profile.goal("g", "---\ngoal: x\n---\n");
        fails(&profile, "invalid", "output limit");
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
    assert_eq!((server.requests().len(), near.charges().len()), (2, 1));

    let server = ModelServer::start(vec![slow("900")]);
    let far = profile(Decider::Anthropic, &server.url()).unwrap();
    let failure = fails(&far, "transient", "");
    assert_eq!(server.requests().len(), 1, "what is far is not waited for");
    let wait = failure["retry_at_ms"].as_i64().unwrap() - failure["at_ms"].as_i64().unwrap();
    assert!((890_000..=900_000).contains(&wait), "{failure}");
    let next = far.looop(&["tick"]).ok().stdout;
    assert!(next.contains("backing off for 14m") || next.contains("backing off for 15m"), "{next}");
    assert_eq!(far.charges()[0]["usage"]["cost_micros"], 0, "a refused request costs nothing");
}

#[test]
fn one_that_knows_no_json_mode_is_asked_without() {
    let refused = Reply::status(400, r#"{"error":"'response_format.type' must be 'json_schema' or 'text'"}"#);
    let server = ModelServer::start(vec![refused, Reply::text(NOOP)]);
    let Some(auto) = profile(Decider::Openai, &server.url()) else { return };
    auto.looop(&["tick"]).ok();
    let asked = server.requests();
    let forms: Vec<_> = asked.iter().map(|request| &request.body["response_format"]["type"]).collect();
    assert_eq!(forms, [&json!("json_object"), &Value::Null]);

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
    fails(&profile, "transient", "no data came for too long");
    assert_eq!(server.requests().len(), 1, "it may have been working: it is not asked twice");
}

/// An endpoint that sends this to whoever asks, and then keeps the line open or drops it.
fn sends(words: String, keeps_open: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(words.as_bytes()).unwrap();
            // Read what was asked, so that closing does not reset what was sent.
            drop(stream.read(&mut [0; 64 * 1024]));
            open.extend(keeps_open.then_some(stream));
        }
    });
    url
}

fn stalls(words: &str) -> String {
    sends(words.to_owned(), true)
}

/// What the connection does after the answer has ended does not matter: the answer is paid for.
#[test]
fn a_whole_answer_counts_however_the_connection_ends() {
    let chunk = json!({ "choices": [{ "delta": { "content": NOOP }, "finish_reason": "stop" }] });
    let whole =
        json!({ "choices": [{ "message": { "content": NOOP }, "finish_reason": "stop" }] }).to_string();
    let stream = "HTTP/1.1 200 ok\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n";
    for (words, keeps_open) in [
        (format!("{stream}data: {chunk}\n\ndata: [DONE]\n\n"), true),
        (format!("{stream}data: {chunk}\n\n"), false),
        (
            format!(
                "HTTP/1.1 200 ok\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{whole}",
                whole.len()
            ),
            true,
        ),
    ] {
        let Some(profile) = profile(Decider::Openai, &sends(words.clone(), keeps_open)) else { return };
        with(&profile, "idle", json!("20s"));
        let began = Instant::now();
        profile.looop(&["tick"]).ok().prints(&["noop"]);
        assert!(began.elapsed().as_secs() < 15, "{words}");
    }
}

#[test]
fn a_stream_that_falls_silent_in_its_middle_is_ended_and_what_it_used_is_known() {
    let url = stalls(
        "HTTP/1.1 200 ok\r\ncontent-type: text/event-stream\r\n\r\n\
         event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":70}}}\n\n",
    );
    let Some(profile) = profile(Decider::Anthropic, &url) else { return };
    with(&profile, "idle", json!("500ms"));
    fails(&profile, "transient", "no data came for too long");
    let usage = &profile.charges()[0]["usage"];
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
        fails(&profile, "down", why);
        assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
        assert_eq!((server.requests().len(), profile.charges().len()), (0, 0));
    }
}

#[test]
fn a_key_that_is_not_there_is_reported_before_anything_is_asked() {
    let server = ModelServer::start(vec![Reply::text(NOOP)]);
    let Some(profile) = profile(Decider::Openai, &server.url()) else { return };
    with(&profile, "key_env", json!("NOT_SET"));
    fails(&profile, "auth", "NOT_SET");
    assert_eq!(server.requests().len(), 0);
}

/// No token's shape and no variable's value: only `token_cmd` knows it.
const KEY: &str = "quiet-words-0123456789";

#[track_caller]
fn is_in_no_file(profile: &Profile) {
    let found = Command::new("grep").args(["-rlF", KEY]).arg(profile.data()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "the key is in no file of the data dir");
}

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
    let ran = profile.looop(&["tick"]).exits(1);
    let head = server.join().unwrap();
    assert!(head.to_lowercase().contains(&format!("authorization: bearer {KEY}\r\n")), "{head}");
    let failure = &profile.read_json("beat.json")["failure"];
    assert!(failure["class"] == "auth" && failure["why"].as_str().unwrap().contains("bad key"), "{failure}");
    is_in_no_file(&profile);
    assert!(!ran.stderr.contains(KEY) && !ran.stdout.contains(KEY), "{ran:?}");
}

#[test]
fn a_program_that_decides_gets_the_key_in_a_variable_and_cannot_repeat_it() {
    let profile = Profile::scripted(&[NOOP]);
    let line = format!("test \"$MINE\" = {KEY} || exit 1; echo '{{\"move\":\"noop\",\"why\":\"'$MINE'\"}}'");
    let mut runner = json!({ "decide": ["sh", "-c", line], "token_cmd": ["echo", KEY], "key_env": "MINE" });
    profile.config(json!({ "decide": "mine", "runners": { "mine": runner } }));
    profile.looop(&["tick"]).ok();
    assert!(profile.read("journal.md").contains("noop"), "{}", profile.read("journal.md"));
    is_in_no_file(&profile);
    // Without a variable the program could not get it.
    runner.as_object_mut().unwrap().remove("key_env");
    profile.config(json!({ "decide": "mine", "runners": { "mine": runner } }));
    profile.looop(&["run", "rest"]).exits(2).warns(&["runners.mine.token_cmd", "key_env"]);
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
        fails(&profile, "auth", why);
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
    fails(&profile, "crashed", "TLS failed");
    plain.join().unwrap();
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
    let failure = fails(&profile, "crashed", "TLS failed");
    server.kill().unwrap();
    server.wait().unwrap();
    let mut heard = String::new();
    printed.read_to_string(&mut heard).unwrap();
    assert!(failure["why"].as_str().unwrap().contains("certificate"), "{failure}");
    assert!(!heard.contains("POST"), "{heard}");
    assert!(profile.charges().iter().all(|charge| charge["usage"]["cost_micros"] == 0));
}

#[test]
fn a_price_comes_from_the_table_by_the_exact_name_only() {
    let own = json!({ "input": 1, "output": 2 });
    let table = "the list prices of 2025-11-30";
    let unpriced = "1 unpriced\nunpriced: 1 calls, also by the price list of 2025";
    for (model, price, basis, micros, shown, doctor) in [
        (
            "claude-sonnet-4-5-20250929",
            Value::Null,
            "priced",
            928,
            table,
            "$0.0009 by the list prices of 2025-11-30",
        ),
        ("claude-sonnet-9", Value::Null, "tokens", 0, unpriced, "unpriced (no price is known"),
        (
            "claude-sonnet-9",
            own,
            "priced",
            532,
            "computed for 1 calls from their tokens: `runners.NAME.price`",
            ".price",
        ),
    ] {
        let reply = || Reply::text(NOOP).usage(111, 22, 333, 44);
        let server = ModelServer::start(vec![reply(), reply()]);
        let Some(profile) = profile(Decider::Anthropic, &server.url()) else { return };
        with(&profile, "price", price);
        with(&profile, "model", json!(model));
        profile.looop(&["tick"]).ok();
        let usage = &profile.charges()[0]["usage"];
        assert_eq!((&usage["basis"], &usage["cost_micros"]), (&json!(basis), &json!(micros)), "{usage}");
        profile.looop(&["cost"]).ok().prints(&[shown]);
        assert_eq!(profile.looop(&["cost", "--json"]).ok().json()["price_list_day"], "2025-11-30");
        profile.looop(&["doctor", "runner"]).ok().prints(&[doctor]);
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
    git_in(&repo, &["init", "-q"]);
    git_in(&repo, &["commit", "-qm", "one", "--allow-empty"]);
    let repo = repo.to_str().unwrap();
    let refused = "runners.mine.token_cmd works for a runner that decides and for an endpoint";
    profile.looop(&["worker", "start", "w", "brief"]).exits(1).warns(&[refused]);
    let fix = ["fix", "--repo", repo, "--issue", "x", "--test", "false", "--runner", "mine"];
    profile.looop(&fix).exits(2).warns(&[refused]);
    profile.looop(&["doctor"]).prints(&["BAD  worker runner", refused]);
}
