//! Questions whose askers go away, whose answers come at bad moments, or whose worker has ended.

use std::os::unix::net::UnixStream;

use looop::rules::worker::protocol::{WireReply, WireRequest, WorkerQuestion};

use super::{NOOP, TmuxFixture, reply, say};
use crate::support::profile::{Profile, wait_until};

fn ask(terminal: &TmuxFixture, text: &str) -> UnixStream {
    let mut stream = terminal.connect("worker.sock");
    say(&mut stream, WireRequest::Ask(WorkerQuestion { text: text.to_owned(), ..WorkerQuestion::default() }));
    stream
}

fn refusal(stream: &mut UnixStream) -> String {
    match reply(stream) {
        WireReply::Error(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_question_is_the_same_ask_and_its_answer_waits_for_who_asked() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    drop(ask(&terminal, "which?"));
    let id = terminal.ask();
    let mut again = ask(&terminal, "which?");
    assert!(refusal(&mut ask(&terminal, "another?")).contains("one question at a time"));
    assert!(refusal(&mut ask(&terminal, &"x".repeat(40_000))).contains("longer than 32 KiB"));
    assert!(refusal(&mut ask(&terminal, &"x".repeat(1 << 16))).contains("longer than"));
    assert!(refusal(&mut ask(&terminal, " ")).contains("empty"));
    assert_eq!(terminal.ask(), id);
    terminal.profile.looop(&["answer", &id, "this one"]).ok();
    assert_eq!(reply(&mut again), WireReply::Ok("this one".to_owned()));
    wait_until("the answer is taken", || terminal.row()["ask"].is_null());
    // Answered while nobody was there to take it.
    drop(ask(&terminal, "which?"));
    let second = terminal.ask();
    assert_ne!(second, id, "an answer that was heard is not given twice");
    wait_until("the asker is forgotten", || {
        let mut wake = terminal.connect("attach.sock");
        say(&mut wake, WireRequest::Wake);
        reply(&mut wake) == WireReply::Ok(String::new())
    });
    terminal.profile.looop(&["answer", &second, "that one"]).ok();
    wait_until("the answer is seen", || terminal.row()["ask"].is_null());
    assert_eq!(reply(&mut ask(&terminal, "which?")), WireReply::Ok("that one".to_owned()));
    assert!(terminal.row()["ask"].is_null(), "the human is not asked again");
}

#[test]
fn an_answer_reaches_a_supervisor_that_was_stopped_or_that_a_beat_was_faster_than() {
    for put_away in [false, true] {
        let terminal = TmuxFixture::start(&[], "sleep 600");
        let mut stream = ask(&terminal, "which?");
        let id = terminal.ask();
        terminal.signal("-STOP");
        terminal.profile.looop(&["answer", &id, "blue"]).ok();
        if put_away {
            terminal.profile.looop(&["tick"]).ok();
            let ask = terminal.profile.data().join(format!("asks/{id}.json"));
            assert!(!ask.exists(), "the beat put it away");
        }
        terminal.signal("-CONT");
        assert_eq!(reply(&mut stream), WireReply::Ok("blue".to_owned()), "put away: {put_away}");
    }
}

#[test]
#[ignore = "slow"]
fn a_removed_question_does_not_block_its_worker() {
    let terminal = TmuxFixture::start(&[], "sleep 600");
    let mut stream = ask(&terminal, "which?");
    let id = terminal.ask();
    std::fs::remove_file(terminal.profile.data().join(format!("asks/{id}.json"))).unwrap();
    assert!(refusal(&mut stream).contains("was removed"));
    wait_until("it runs on", || terminal.row()["state"] == "running");
}

/// Nobody would hear the answer: the user is not asked for one, and the next decision sees how it came.
#[test]
#[ignore = "slow"]
fn a_question_of_an_ended_worker_is_stranded() {
    for signal in ["-TERM", "-KILL"] {
        let terminal = TmuxFixture::start(&[], "sleep 600");
        let _stream = ask(&terminal, "which?");
        let id = terminal.ask();
        let waited = terminal.profile.looop(&["wait"]);
        assert_eq!((waited.code, waited.stdout), (3, format!("⚑ w1, {id}: which? (looop asks)\n")));
        terminal.signal(signal);
        wait_until("it has ended", || ["killed", "lost"].iter().any(|word| terminal.row()["state"] == *word));
        let open = terminal.profile.looop(&["asks", "--json"]).ok().json();
        assert_eq!(open["asks"].as_array().unwrap().len(), 0, "{open}");
        let all = terminal.profile.looop(&["asks", "--json", "--all"]).ok().json();
        assert_eq!(all["asks"][0]["state"], "stranded", "{all}");
        terminal.profile.looop(&["answer", &id, "blue"]).exits(1).warns(&["the worker that asked has ended"]);
        assert_eq!(terminal.profile.looop(&["wait", "--timeout", "5s"]).code, 0, "nobody is waited for");
        terminal.profile.looop(&["tick"]).ok();
        let seen = terminal.profile.read_json("world.json")["own"]["answers"][0].clone();
        assert_eq!((&seen["ask"], &seen["state"]), (&id.as_str().into(), &"stranded".into()));
        assert!(!terminal.profile.data().join(format!("asks/{id}.json")).exists(), "it is put away");
        // A later worker of that name is not asked for it either.
        terminal.profile.looop(&["worker", "start", "w1", "--", "sleep", "600"]).ok();
        let all = terminal.profile.looop(&["asks", "--json", "--all"]).ok().json();
        assert_eq!(all["asks"].as_array().unwrap().len(), 0, "{all}");
    }
}

/// An answer is never given to another question than the one that the user saw, however long a worker's name is.
#[test]
fn each_question_of_a_worker_with_a_long_name_is_one_of_its_own() {
    let profile = Profile::scripted(&[NOOP]);
    let name = "a-worker-whose-name-is-nearly-as-long-as-a-name-may-ever-be";
    let script = "looop ask one? > first; looop ask two? > second; sleep 600";
    profile.looop(&["worker", "start", name, "--", "sh", "-c", script]).ok();
    let open = || profile.looop(&["asks", "--json"]).ok().json()["asks"].clone();
    for (text, answer, file) in [("one?", "red", "first"), ("two?", "blue", "second")] {
        wait_until("the question", || open()[0]["text"] == text);
        profile.looop(&["tick"]).ok();
        profile.looop(&["answer", open()[0]["id"].as_str().unwrap(), answer]).ok();
        let path = profile.data().join("workers").join(name).join("clone").join(file);
        wait_until("the answer", || std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == answer));
    }
}
