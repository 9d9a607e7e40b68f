//! Workers that are interrupted. One whose agent hits a usage limit waits for its end and goes on, and nothing else of that
//! runner is called meanwhile. One that was lost is resumed in the same clone. The agents are stand-ins that report a limit as the real ones do, and the real ones with a scripted model.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::agents::{detach, wait_flag};
use crate::attach::Outer;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::profile::{Profile, program, wait_until};
use crate::support::{claude, codex};

const NOOP: &str = r#"{"move":"noop","why":"w"}"#;

/// The head of a stand-in: `report STATE TEXT` is how an agent tells its terminal of its state, `limit SECONDS` reports a
/// usage limit that ends in so many seconds.
const AGENT: &str = r#"
report() { printf '\033]7501;state=%s:msg=%s\033\\' "$1" "$(printf %s "$2" | base64 -w0)"; }
limit() { report error "You've hit your session limit|$(($(date +%s) + $1))"; }
"#;

/// A profile whose workers run this stand-in, in the clone of the worker; it notes each start in `starts`.
fn profile(script: &str, limits: Value) -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.without_sandbox(&["worker", "verify"]);
    let agent = profile.path("agent.sh");
    fs::write(&agent, format!("{AGENT}\necho \"$*\" >>starts\n{script}")).unwrap();
    let note = profile.path("note");
    program(&note, format!("#!/bin/sh\ncat >>'{}'\n", profile.path("got").display()));
    let mut all = json!({ "limit_margin": "200ms" });
    all.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    let mut runners = profile.config_value()["runners"].clone();
    runners["stand"] = json!({ "worker": ["sh", agent, "{brief}"] });
    profile.config_more(json!({
        "worker": "stand",
        "runners": runners,
        "notify": [note],
        "limits": all,
    }));
    profile
}

fn starts(profile: &Profile, id: &str) -> usize {
    fs::read_to_string(profile.worker_file(id, "starts")).unwrap_or_default().lines().count()
}

#[track_caller]
fn wait_state(profile: &Profile, id: &str, state: &str) -> Value {
    profile.wait_worker(id, &[state])
}

#[test]
#[ignore = "slow"]
fn an_agent_at_its_limit_waits_with_all_that_it_has_and_goes_on() {
    let script = r#"
        limit 3
        while read -r line; do echo "$line" >>typed; case $line in *Continue*) break;; esac; done
        report working; sleep 2; looop done; sleep 600"#;
    // Its life is shorter than the time from its start to its end.
    let profile = profile(script, json!({ "worker_wall": "4s", "worker_idle": "100ms" }));
    profile.looop(&["worker", "start", "w1", "do it", "--goal", "g1"]).ok();
    let row = wait_state(&profile, "w1", "limited");
    assert_eq!(
        (&row["limit"]["runner"], &row["stuck"], &row["flag"]),
        (&json!("stand"), &json!(false), &Value::Null)
    );
    assert_eq!(row["lease"][0]["resource"], "goal.g1");
    profile.looop(&["ls"]).ok().prints(&["limited until ", "You've hit your session limit"]);
    // Nothing else of this runner starts before the limit ends, and it is no reason to decide.
    profile.looop(&["worker", "start", "w2", "more"]).ok();
    wait_state(&profile, "w2", "limited");
    assert_eq!(starts(&profile, "w2"), 0);
    wait_state(&profile, "w1", "exited");
    wait_state(&profile, "w2", "exited");
    let typed = fs::read_to_string(profile.worker_file("w1", "typed")).unwrap();
    assert!(typed.contains("The usage limit has ended. Continue your work."), "{typed:?}");
    assert_eq!(starts(&profile, "w1"), 1);
    let journal = profile.read("journal.md");
    for words in ["worker w1 for g1 — limited until ", "worker w1 for g1 — continues after its usage limit"]
    {
        assert_eq!(journal.matches(words).count(), 1, "{journal}");
    }
    let notices = fs::read_to_string(profile.path("got")).unwrap();
    assert_eq!(notices.matches(r#""kind":"limited""#).count(), 2, "once for w1, and once for w2: {notices}");
}

#[test]
#[ignore = "slow"]
fn an_agent_that_ended_at_its_limit_is_started_again_with_its_own_session() {
    let profile = profile("", json!({}));
    let fake = r#"[ -e ended ] || { touch ended; limit 1; exit 1; }; looop done; sleep 600"#;
    for name in ["claude", "qwen"] {
        profile.stand_in(name, &format!("#!/bin/sh\n{AGENT}\necho \"$*\" >>starts\n{fake}"), "/usr/bin:/bin");
        profile.looop(&["worker", "start", name, "do it", "--runner", name]).ok();
        wait_state(&profile, name, "exited");
        let starts = fs::read_to_string(profile.worker_file(name, "starts")).unwrap();
        let (first, second) = starts.trim_end().split_once('\n').unwrap();
        let session = first.split_once("--session-id ").unwrap().1.split(' ').next().unwrap();
        assert_eq!(session.len(), 36, "a UUID");
        assert!(second.contains(&format!("--resume {session} ")), "{starts}");
    }
}

/// The events are those that `claude -p --output-format stream-json` prints at a limit.
#[test]
#[ignore = "slow"]
fn an_agent_without_a_session_gets_its_brief_again_and_where_its_work_is() {
    let profile = profile("", json!({}));
    let script = r#"#!/bin/sh
        echo "$*" >>starts
        if [ ! -e made ]; then
            touch made
            echo '{"type":"system","subtype":"init","claude_code_version":"2.1.329"}'
            echo "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\",\"resetsAt\":$(($(date +%s) + 1))}}"
            echo '{"type":"result","subtype":"success","is_error":true,"result":"You have hit your session limit"}'
            exit 1
        fi
        grep -q 'You were interrupted' "$5" && exit 0; exit 7"#;
    profile.stand_in("claude", script, "/usr/bin:/bin");
    let argv = json!(["claude", "-p", "--output-format", "stream-json", "x", "{brief}"]);
    profile.config_more(json!({ "runners": { "claude": { "worker": argv } } }));
    profile.looop(&["worker", "start", "w1", "do it", "--runner", "claude"]).ok();
    wait_state(&profile, "w1", "limited");
    assert_eq!(wait_state(&profile, "w1", "exited")["exit"], json!({ "code": 0 }));
    assert_eq!(starts(&profile, "w1"), 2);
}

#[test]
#[ignore = "slow"]
fn a_limit_ends_a_worker_that_may_not_wait_for_it() {
    for (limits, resets_s, why) in [
        (json!({ "on_limit": "stop" }), 1, "`on_limit` is `stop`"),
        (json!({ "worker_wall": "1h" }), 7200, "longer than limits.worker_wall"),
        (json!({ "limit_waits": 1 }), 0, "it has waited for 1 already"),
    ] {
        let script = format!("limit {resets_s}; read -r go; read -r go; limit {resets_s}; sleep 600");
        let profile = profile(&script, limits);
        profile.looop(&["worker", "start", "w1", "do it"]).ok();
        let row = wait_state(&profile, "w1", "failed");
        assert!(row["why"].as_str().unwrap().contains(why), "{why}: {row}");
        assert_eq!(starts(&profile, "w1"), 1);
    }
}

#[test]
#[ignore = "slow"]
fn a_pause_and_what_the_user_does_meanwhile_come_first() {
    let script = "limit 1; while read -r line; do echo \"$line\" >>typed; done";
    let profile = profile(script, json!({}));
    profile.looop(&["pause"]).ok();
    profile.looop(&["worker", "start", "w1", "do it"]).ok();
    wait_state(&profile, "w1", "limited");
    let mut user = Outer::start(&profile, &["attach", "w1"], 80, 24);
    user.type_in(b"mine\r");
    wait_until("the line", || profile.worker_file("w1", "typed").exists());
    detach(user);
    let until_s = profile.worker("w1")["limit"]["until_ms"].as_u64().unwrap() / 1000;
    wait_until("the end of the limit", || epoch(0).parse::<u64>().unwrap() > until_s + 2);
    assert_eq!(profile.worker("w1")["state"], "limited", "the loop is paused");
    profile.looop(&["resume"]).ok();
    wait_flag(&profile, "its usage limit has ended; you typed to it meanwhile");
    assert_eq!(fs::read_to_string(profile.worker_file("w1", "typed")).unwrap(), "mine\n");
    profile.looop(&["kill", "w1"]).ok();

    profile.looop(&["worker", "start", "w2", "do it"]).ok();
    wait_state(&profile, "w2", "limited");
    profile.looop(&["kill", "w2"]).ok();
    assert_eq!(wait_state(&profile, "w2", "killed")["limit"], Value::Null);
}

#[test]
#[ignore = "slow"]
fn a_lost_worker_is_resumed_with_its_session_its_clone_and_its_screen() {
    let profile = profile("", json!({}));
    let script = format!(
        "#!/bin/sh\n{AGENT}\necho \"$*\" | tee -a starts\n[ -e left ] && {{ looop done; sleep 600; }}\ntouch left; looop flag one; sleep 600"
    );
    profile.stand_in("claude", &script, "/usr/bin:/bin");
    profile.looop(&["worker", "start", "w1", "do it", "--goal", "g1", "--runner", "claude"]).ok();
    wait_state(&profile, "w1", "waiting");
    profile
        .looop(&["worker", "resume", "w1"])
        .fails_with(1, &["could not resume worker w1: worker w1 is waiting"]);
    lose(&profile, "w1");
    let resumed = profile.looop(&["worker", "resume", "w1", "--json"]).ok().json();
    assert_eq!((&resumed["verb"], &resumed["object"]), (&json!("worker resume"), &json!("w1")));
    let row = wait_state(&profile, "w1", "exited");
    assert_eq!(row["goal"], "g1");
    let starts = fs::read_to_string(profile.worker_file("w1", "starts")).unwrap();
    let (first, second) = starts.trim_end().split_once('\n').unwrap();
    let session = first.split_once("--session-id ").unwrap().1.split(' ').next().unwrap();
    assert!(second.contains(&format!("--resume {session} ")), "{starts}");
    profile.looop(&["logs", "w1"]).ok().prints(&["--session-id", "--resume"]);
    assert_eq!(profile.read_json("workers/w1/state.json")["flags"], 1, "what it did before is kept");
    profile.looop(&["worker", "resume", "w1"]).fails_with(1, &["its work is finished (exited)"]);
    profile.looop(&["worker", "start", "w2", "--", "false"]).ok();
    wait_state(&profile, "w2", "failed");
    profile.looop(&["worker", "resume", "w2"]).fails_with(1, &["it is a command and not an agent"]);
}

#[test]
#[ignore = "slow"]
fn the_loop_resumes_lost_agents_as_the_config_says_or_asks_once_about_all() {
    for on_lost in ["ask", "resume"] {
        let profile = profile("looop flag here; sleep 600", json!({ "on_lost": on_lost }));
        for id in ["w1", "w2", "w3"] {
            profile.looop(&["worker", "start", id, "do it"]).ok();
            wait_state(&profile, id, "waiting");
        }
        profile.looop(&["kill", "w3"]).ok();
        lose(&profile, "w1");
        lose(&profile, "w2");
        profile.looop(&["pause"]).ok();
        profile.looop(&["tick"]);
        assert_eq!(starts(&profile, "w1"), 1, "not while the loop is paused");
        profile.looop(&["resume"]).ok();
        profile.looop(&["tick"]).ok();
        if on_lost == "ask" {
            assert_eq!(
                (starts(&profile, "w1"), &wait_state(&profile, "w1", "lost")["past"]),
                (1, &Value::Null)
            );
            profile.looop(&["tick"]).ok();
            let asks = profile.looop(&["asks", "--json"]).ok().json();
            let text = asks["asks"][0]["text"].as_str().unwrap();
            assert!(
                asks["asks"].as_array().unwrap().len() == 1 && text.contains(": w1, w2. Resume them?"),
                "{asks}"
            );
            profile.looop(&["answer", "1"]).ok();
            profile.looop(&["tick"]).ok();
        }
        for id in ["w1", "w2"] {
            wait_state(&profile, id, "waiting");
            assert_eq!(starts(&profile, id), 2, "{on_lost}");
            let line = format!("worker {id} — resumed, because it was lost");
            assert_eq!(profile.read("journal.md").matches(&line).count(), 1, "{on_lost}");
        }
        assert!(!profile.read("journal.md").contains("worker w3 — resumed"), "the user ended it");
    }
}

/// Kills the supervisor of a worker, as a reboot does.
fn lose(profile: &Profile, id: &str) {
    let supervisor = profile.worker_pid(id, "supervisor").cast_signed();
    kill_process(Pid::from_raw(supervisor).unwrap(), Signal::KILL).unwrap();
    wait_state(profile, id, "lost");
}

/// Words about a limit count only if the agent reports them as its own error.
#[test]
fn words_about_a_limit_that_are_merely_shown_are_none() {
    let words = "You've hit your session limit \u{b7} resets 7pm (UTC)";
    let shown = format!(
        "echo \"+{words}\"; echo \"{words}\"; report done \"{words}\"; echo \"{words}\"; exec sleep 600"
    );
    let profile = profile(&shown, json!({}));
    profile.looop(&["worker", "start", "w1", "do it"]).ok();
    wait_flag(&profile, "it stopped: You've hit your session limit");
    let ends = format!("echo \"{words}\"; exit 1");
    fs::write(profile.path("agent.sh"), ends).unwrap();
    profile.looop(&["worker", "start", "w2", "do it"]).ok();
    wait_state(&profile, "w2", "failed");
    // A command of the user's own has no runner, and is only flagged.
    let own = format!("{AGENT}\nlimit 60; sleep 600");
    profile.looop(&["worker", "start", "w3", "--", "sh", "-c", &own]).ok();
    let row = wait_state(&profile, "w3", "waiting");
    assert!(row["flag"]["text"].as_str().unwrap().starts_with("it stopped on an error: You've hit"), "{row}");
}

#[test]
fn a_decision_and_the_workers_of_one_runner_share_a_limit() {
    let profile = profile("limit 600; sleep 600", json!({}));
    let mut runners = profile.config_value()["runners"].clone();
    runners["stand"]["decide"] = json!(["touch", profile.path("asked")]);
    profile.config_more(json!({ "decide": "stand", "runners": runners }));
    profile.looop(&["worker", "start", "w1", "do it"]).ok();
    wait_state(&profile, "w1", "limited");
    profile
        .looop(&["tick"])
        .ok()
        .shows(&["stand is at its usage limit for ", "You've hit your session limit"]);
    assert!(!profile.path("asked").exists());
}

/// The end of a limit, so many seconds ahead.
fn epoch(ahead_s: u64) -> String {
    (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + ahead_s).to_string()
}

/// The headers are those of a subscription's limit. The real CLI then reports it, shows when it ends, and goes on by itself.
#[test]
#[ignore = "needs agent CLIs"]
fn claude_at_the_limit_of_a_subscription_is_limited() {
    let Some(program) = claude::claude() else { return };
    let resets = epoch(600);
    let limit = ["anthropic-ratelimit-unified-status", "anthropic-ratelimit-unified-reset", "retry-after"]
        .into_iter()
        .zip(["rejected", &resets, "600"])
        .fold(
            Reply::status(429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit"}}"#),
            |reply, (name, value)| reply.header(name, value),
        )
        .header("anthropic-ratelimit-unified-representative-claim", "five_hour");
    let server = ModelServer::start(vec![limit]);
    let mut profile = Profile::scripted(&[NOOP]);
    claude::settle_in(&mut profile, &program, &server.url(), true);
    profile.var("ANTHROPIC_API_KEY", "");
    profile.var("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-test");
    profile.looop(&["worker", "start", "w1", "make it"]).ok();
    let row = wait_state(&profile, "w1", "limited");
    assert!(row["limit"]["why"].as_str().unwrap().starts_with("You've hit your 5-hour limit"), "{row}");
    near(&row, 600);
}

#[test]
#[ignore = "needs agent CLIs"]
fn codex_at_the_limit_of_a_subscription_is_limited() {
    let Some(program) = codex::codex() else { return };
    let error = json!({ "error": {
        "type": "usage_limit_reached", "message": "limit", "plan_type": "pro", "resets_at": epoch(3000).parse::<u64>().unwrap(),
    } });
    let server = ModelServer::start(vec![Reply::status(429, &error.to_string())]);
    let mut profile = Profile::scripted(&[NOOP]);
    codex::settle_in(&mut profile, &program, &server.url(), true);
    profile.looop(&["worker", "start", "w1", "make it"]).ok();
    let row = wait_state(&profile, "w1", "limited");
    let why = row["limit"]["why"].as_str().unwrap();
    assert!(why.contains("hit your usage limit") && why.contains("try again at"), "{row}");
    near(&row, 3000);
}

/// The worker goes on about a minute after the limit ends, which a message names to the minute.
#[track_caller]
fn near(row: &Value, ahead_s: i64) {
    let until = row["limit"]["until_ms"].as_i64().unwrap() / 1000;
    let off = until - (epoch(0).parse::<i64>().unwrap() + ahead_s + 60);
    assert!((-120..=60).contains(&off), "{off}: {row}");
}
