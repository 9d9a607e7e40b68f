//! The story of the README in real tmux: a beat starts a worker, it calls, the user answers, its work is checked.

mod first_run;
mod survival;

use std::fs;
use std::io::{BufRead, BufReader};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::profile::wait_until;
use crate::support::terminal::{Human, TmuxFixture};

/// How soon a flag must be seen. It is a fraction of a second, but the machine may be busy with other tests; the
/// interval is an hour.
const SOON: Duration = Duration::from_secs(5);

/// A desk without the seeded goals and sensors, whose decider answers with these lines and whose workers are this
/// shell script.
fn fixture(replies: &[Value], worker: &str) -> TmuxFixture {
    let fixture = TmuxFixture::new("data");
    for seed in ["goals/setup.md", "goals/playbook-daily.md", "sensors/today.sh"] {
        fs::remove_file(fixture.data().join(seed)).unwrap();
    }
    configure(&fixture, replies, worker);
    fixture.tmux(&["set-option", "-g", "remain-on-exit", "off"]);
    fixture
}

fn configure(fixture: &TmuxFixture, replies: &[Value], worker: &str) {
    let lines: Vec<String> = replies.iter().map(Value::to_string).collect();
    fixture.profile.script(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let script = fixture.profile.path("work.sh");
    fs::write(&script, worker).unwrap();
    let mine = json!({ "worker": ["sh", script, "{brief}"] });
    // A worker in a full sandbox waits for nobody, and these tell of one that does.
    fixture.profile.without_sandbox(&["worker", "verify"]);
    fixture.profile.config_more(json!({
        "interval": "1h",
        "runners": { "scripted": fixture.profile.scripted_runner(), "mine": mine },
        "worker": "mine",
        "verify": { "blue": ["grep", "-qx", "blue", "colour"] },
    }));
}

fn asks(fixture: &TmuxFixture) -> Vec<Value> {
    fixture.profile.looop(&["asks", "--json"]).ok().json()["asks"].as_array().unwrap().clone()
}

fn worker(fixture: &TmuxFixture, id: &str) -> Value {
    let all = fixture.profile.looop(&["ls", "--all", "--json"]).ok().json();
    all["workers"].as_array().unwrap().iter().find(|row| row["id"] == id).cloned().unwrap_or_default()
}

fn gate(fixture: &TmuxFixture) -> String {
    let status = fixture.profile.looop(&["status", "--json"]).ok().json();
    status["gate"]["words"].as_str().unwrap().to_owned()
}

fn wait_for_a_decider(fixture: &TmuxFixture) {
    let runs = || fixture.data().join("runs").read_dir();
    wait_until("a decider thinks", || runs().is_ok_and(|mut all| all.next().is_some()));
}

fn noop() -> Value {
    json!({ "move": "noop", "why": "nothing to do" })
}

fn unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_millis().try_into().unwrap()
}

#[test]
#[ignore = "slow"]
fn a_worker_calls_and_the_user_answers_in_its_window() {
    let start = json!({"move": "start_worker", "id": "paint", "goal": "shed", "verify": "blue",
        "brief": "Find out the colour.", "why": "the shed is bare"});
    let script = "
        echo 'the shed is bare'
        looop flag 'which colour?'
        read -r colour
        looop unflag
        echo $colour >colour
        echo \"it will be $colour\" | tee result | cat
        looop report result.md <result";
    let fixture = fixture(&[start, noop()], script);
    fixture.profile.goal("shed", "goal: the shed is painted\n");
    let _user = Human::attach(&fixture, "mine");
    let pulse = fixture.shell("pulse");
    fixture.type_line(&pulse, "looop");
    fixture.wait_for(&pulse, "start_worker paint — waits");
    let hand = fixture.shell("hand");
    fixture.type_line(&hand, "looop approve ap-");
    let shown = fixture.wait_for(&hand, "Make this move? [y/N]");
    assert!(shown.contains("work.sh") && shown.contains("+Find out the colour."), "{shown}");
    assert_eq!(worker(&fixture, "paint"), Value::Null, "nothing runs before the approval");
    fixture.type_line(&hand, "y");
    fixture.wait_for(&hand, "approved ap-");

    let mut seen_ms = 0;
    wait_until("its window", || {
        seen_ms = unix_ms();
        fixture.flags() == ["⚑paint"]
    });
    let waits = worker(&fixture, "paint");
    let took = seen_ms - waits["flag"]["at_ms"].as_i64().unwrap();
    println!("flag to window: {took} ms");
    assert!(took < SOON.as_millis().try_into().unwrap(), "{took} ms");
    assert_eq!((&waits["state"], &waits["flag"]["text"]), (&json!("waiting"), &json!("which colour?")));
    assert!(fixture.data().join("claims/goal.shed.json").exists());
    fixture.profile.looop(&["status"]).shows(&["⚑paint (waiting; looop attach paint)"]);
    let rows = fixture.profile.looop(&["status", "--json"]).ok().json()["workers"].clone();
    assert_eq!((&rows[0]["id"], &rows[0]["goal"]), (&json!("paint"), &json!("shed")));

    fixture.tmux(&["select-window", "-t", "=mine:⚑paint"]);
    fixture.wait_for("=mine:⚑paint", "the shed is bare");
    fixture.type_line("=mine:⚑paint", "blue");
    fixture.wait_for("=mine:⚑paint", "it will be blue");
    wait_until("its end", || worker(&fixture, "paint")["state"] == "done");
    // Its last screen stays until the user has seen it.
    fixture.wait_for("=mine:⚑paint", "done · q leaves");
    fixture.tmux(&["send-keys", "-t", "=mine:⚑paint", "q"]);
    wait_until("the window is gone", || fixture.flags().is_empty());
    assert!(!fixture.data().join("claims/goal.shed.json").exists(), "the lease is given back");
    wait_until("a decision has seen it", || worker(&fixture, "paint")["past"].is_string());
    wait_until("the loop rests", || gate(&fixture).starts_with("settled"));

    fixture.type_line(&hand, "clear; looop ls --all; looop log");
    let messages = fixture.wait_for(&hand, "worker paint for shed — done");
    assert!(
        messages.contains("archived")
            && messages.contains("start_worker paint")
            && !messages.contains("u{1b}"),
        "{messages}"
    );
    fixture.tmux(&["send-keys", "-t", &pulse, "C-c"]);
    fixture.wait_for(&pulse, "ended; nothing is lost");

    let journal = fs::read_to_string(fixture.data().join("journal.md")).unwrap();
    let order = [
        "start_worker paint for shed — waits",
        "start_worker paint for shed — done",
        "worker paint for shed — done",
        "noop",
    ];
    let places: Vec<_> = order.iter().map(|part| journal.find(part)).collect();
    assert!(places.is_sorted() && places[0].is_some(), "{places:?} in {journal}");
    let git = |args: &[&str]| fixture.profile.git(args);
    let log = git(&["log", "--format=%s"]);
    assert!(log.contains("move: start_worker paint") && log.contains("move: noop"), "{log}");
    assert_eq!(git(&["show", "HEAD:reports/paint/result.md"]), "it will be blue\n");
    assert_eq!(git(&["status", "--porcelain"]), "");
    git(&["fsck", "--strict"]);
}

#[test]
#[ignore = "slow"]
fn without_tmux_the_pulse_says_it_once_and_a_server_that_comes_later_shows_it() {
    let script = "
        wait_for() { while [ ! -e $1 ]; do sleep 0.02; done; }
        looop flag one; wait_for again; looop flag two; wait_for end";
    let fixture = fixture(&[noop()], script);
    fixture.tmux(&["kill-server"]);
    let hold = fixture.profile.path("hold");
    fs::write(&hold, "").unwrap();
    let decide = format!("while [ -e {} ]; do sleep 0.02; done; echo '{}'", hold.display(), noop());
    let runners = json!({ "mine": { "worker": ["sh", fixture.profile.path("work.sh"), "{brief}"], "decide": ["sh", "-c", decide] } });
    fixture.profile.config_more(json!({ "runners": runners, "decide": "mine" }));
    let mut pulse = fixture.profile.spawn(&[]);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (lines, stderr) = (heard.clone(), pulse.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            lines.lock().unwrap().push((unix_ms(), line));
        }
    });
    let heard = |text: &str| {
        let line = format!("⚑ w1: {text} — looop attach w1");
        let at = || heard.lock().unwrap().iter().find(|(_, printed)| *printed == line).map(|(at, _)| *at);
        wait_until(&line, || at().is_some());
        let took = at().unwrap() - worker(&fixture, "w1")["flag"]["at_ms"].as_i64().unwrap();
        println!("flag to line: {took} ms");
        assert!(took < SOON.as_millis().try_into().unwrap(), "{took} ms");
        heard.lock().unwrap().iter().filter(|(_, printed)| printed.contains('⚑')).count()
    };
    wait_for_a_decider(&fixture);
    fixture.profile.looop(&["worker", "start", "w1", "brief"]).ok();
    assert_eq!(heard("one"), 1, "while a beat runs");
    fs::remove_file(&hold).unwrap();
    wait_until("the loop rests", || gate(&fixture).starts_with("settled"));
    fs::write(fixture.data().join("workers/w1/clone/again"), "").unwrap();
    assert_eq!(heard("two"), 2, "between beats, and nothing twice");
    wait_until("a beat has seen it", || {
        fixture.profile.read_json("world.json")["own"]["workers"][0]["flag"] == "two"
    });
    fixture.serve();
    fixture.profile.goal("g", "goal: g\n");
    wait_until("the window", || fixture.flags() == ["⚑w1"]);
    pulse.kill().unwrap();
    pulse.wait().unwrap();
}

/// The pulse ends what a beat leaves behind, and a notifier that it has started itself is nothing of that kind.
#[test]
#[ignore = "slow"]
fn a_slow_notifier_outlives_the_beat_during_which_it_was_started() {
    let fixture = fixture(&[noop()], "");
    let file = |name: &str| fixture.profile.path(name);
    let until = |name: &str| format!("while [ ! -e {} ]; do sleep 0.02; done", file(name).display());
    let decide = format!("{}; echo '{}'", until("decided"), noop());
    let runners = json!({ "mine": { "decide": ["sh", "-c", decide] } });
    fixture.profile.config_more(json!({ "runners": runners, "decide": "mine", "worker": null }));
    let mut pulse = fixture.profile.spawn(&[]);
    wait_for_a_decider(&fixture);
    let [begun, ended] = ["begun", "told"].map(|name| file(name).display().to_string());
    let notify = format!("touch {begun}; {}; touch {ended}", until("go"));
    let worker = fixture.worker("w1");
    worker.change_spec(|spec| spec.notify = ["sh", "-c", &notify].map(str::to_owned).into());
    worker.flag(1, "help");
    fs::write(fixture.data().join("workers/.poke"), "").unwrap();
    wait_until("the notifier", || file("begun").exists());
    fs::write(file("decided"), "").unwrap();
    wait_until("the loop rests", || gate(&fixture).starts_with("settled"));
    // A second beat ends after the pulse has looked for what the first one left behind.
    fixture.profile.goal("g", "goal: g\n");
    wait_until("another beat", || {
        fixture.profile.looop(&["log", "--json"]).ok().json()["lines"][1].is_object()
    });
    fs::write(file("go"), "").unwrap();
    wait_until("the notifier's end", || file("told").exists());
    pulse.kill().unwrap();
    pulse.wait().unwrap();
}

#[test]
fn the_doctor_knows_what_workers_need() {
    let fixture = fixture(&[noop()], "");
    fixture.profile.looop(&["doctor"]).shows(&[
        "ok   worker runner: mine is /usr/bin/sh",
        "ok   git: ",
        "ok   tmux: ",
    ]);
    fixture.profile.config_more(
        json!({ "runners": { "mine": { "worker": ["gone", "{brief}"], "decide": ["sh"] } }, "decide": "mine" }),
    );
    for (worker, bad) in
        [("mine", "worker runner: `gone` is not on the"), ("nobody", "config: could not use the config: ")]
    {
        fixture.profile.config_more(json!({ "worker": worker }));
        let ill = fixture.profile.looop(&["doctor"]);
        assert!(ill.code == 1 && ill.stdout.contains(&format!("BAD  {bad}")), "{ill:?}");
    }
    fixture.profile.config_more(json!({ "worker": null, "path": "/nowhere" }));
    let bare = fixture.profile.looop(&["doctor"]).stdout;
    for part in ["odd  worker runner: `claude` is not on the", "odd  git: ", "odd  tmux: "] {
        assert!(bare.contains(part), "{part} in {bare}");
    }
}
