//! Questions whose askers go away, whose answers come at bad moments, or whose worker has ended.

use std::os::unix::net::UnixStream;

use looop::model::wire::{Reply, Request};

use super::{Desk, NOOP, reply, say};
use crate::support::profile::{Profile, wait_until};

fn ask(desk: &Desk, text: &str) -> UnixStream {
    let mut stream = desk.connect("worker.sock");
    say(&mut stream, Request::Ask { text: text.to_owned(), options: vec![], reference: None });
    stream
}

fn refusal(stream: &mut UnixStream) -> String {
    match reply(stream) {
        Reply::Error(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_question_is_the_same_ask_and_its_answer_waits_for_who_asked() {
    let desk = Desk::start(&[], "sleep 600");
    drop(ask(&desk, "which?"));
    let id = desk.ask();
    let mut again = ask(&desk, "which?");
    assert!(refusal(&mut ask(&desk, "another?")).contains("one question at a time"));
    assert!(refusal(&mut ask(&desk, &"x".repeat(40_000))).contains("longer than 32 KiB"));
    assert!(refusal(&mut ask(&desk, &"x".repeat(1 << 16))).contains("longer than"));
    assert!(refusal(&mut ask(&desk, " ")).contains("empty"));
    assert_eq!(desk.ask(), id);
    desk.profile.looop(&["answer", &id, "this one"]).ok();
    assert_eq!(reply(&mut again), Reply::Ok("this one".to_owned()));
    wait_until("the answer is taken", || desk.row()["ask"].is_null());
    // Answered while nobody was there to take it.
    drop(ask(&desk, "which?"));
    let second = desk.ask();
    assert_ne!(second, id, "an answer that was heard is not given twice");
    wait_until("the asker is forgotten", || {
        let mut poke = desk.connect("attach.sock");
        say(&mut poke, Request::Poke);
        reply(&mut poke) == Reply::Ok(String::new())
    });
    desk.profile.looop(&["answer", &second, "that one"]).ok();
    wait_until("the answer is seen", || desk.row()["ask"].is_null());
    assert_eq!(reply(&mut ask(&desk, "which?")), Reply::Ok("that one".to_owned()));
    assert!(desk.row()["ask"].is_null(), "the human is not asked again");
}

#[test]
fn an_answer_reaches_a_supervisor_that_was_stopped_or_that_a_beat_was_faster_than() {
    for put_away in [false, true] {
        let desk = Desk::start(&[], "sleep 600");
        let mut stream = ask(&desk, "which?");
        let id = desk.ask();
        desk.signal("-STOP");
        desk.profile.looop(&["answer", &id, "blue"]).ok();
        if put_away {
            desk.profile.looop(&["tick"]).ok();
            assert!(!desk.profile.data().join(format!("asks/{id}.json")).exists(), "the beat put it away");
        }
        desk.signal("-CONT");
        assert_eq!(reply(&mut stream), Reply::Ok("blue".to_owned()), "put away: {put_away}");
    }
}

#[test]
fn a_removed_question_does_not_block_its_worker() {
    let desk = Desk::start(&[], "sleep 600");
    let mut stream = ask(&desk, "which?");
    let id = desk.ask();
    std::fs::remove_file(desk.profile.data().join(format!("asks/{id}.json"))).unwrap();
    assert!(refusal(&mut stream).contains("was removed"));
    wait_until("it runs on", || desk.row()["state"] == "running");
}

/// Nobody would hear the answer: the human is not asked for one, and the next decision sees how it came.
#[test]
fn a_question_of_an_ended_worker_is_stranded() {
    for signal in ["-TERM", "-KILL"] {
        let desk = Desk::start(&[], "sleep 600");
        let _stream = ask(&desk, "which?");
        let id = desk.ask();
        let waited = desk.profile.looop(&["wait"]);
        assert_eq!((waited.code, waited.stdout), (3, format!("⚑ w1, {id}: which? (looop asks)\n")));
        desk.signal(signal);
        wait_until("it has ended", || ["killed", "lost"].iter().any(|word| desk.row()["state"] == *word));
        let open = desk.profile.looop(&["asks", "--json"]).ok().json();
        assert_eq!(open["asks"].as_array().unwrap().len(), 0, "{open}");
        let all = desk.profile.looop(&["asks", "--json", "--all"]).ok().json();
        assert_eq!(all["asks"][0]["state"], "stranded", "{all}");
        let answered = desk.profile.looop(&["answer", &id, "blue"]);
        assert!(answered.code == 1 && answered.stderr.contains("the worker that asked has ended"));
        assert_eq!(desk.profile.looop(&["wait", "--timeout", "5s"]).code, 0, "nobody is waited for");
        desk.profile.looop(&["tick"]).ok();
        let seen = desk.profile.read_json("world.json")["own"]["answers"][0].clone();
        assert_eq!((&seen["ask"], &seen["state"]), (&id.as_str().into(), &"stranded".into()));
        assert!(!desk.profile.data().join(format!("asks/{id}.json")).exists(), "it is put away");
        // A later worker of that name is not asked for it either.
        desk.profile.looop(&["worker", "start", "w1", "--", "sleep", "600"]).ok();
        let all = desk.profile.looop(&["asks", "--json", "--all"]).ok().json();
        assert_eq!(all["asks"].as_array().unwrap().len(), 0, "{all}");
    }
}

/// An answer is never given to another question than the one that the human saw, however long a worker's name is.
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
