//! A supervisor that is stopped, gone or cannot be reached: it is named, nothing waits for it without end, and it can be
//! ended by force.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::races::{end, left};
use crate::support::profile::{Profile, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"nothing"}"#;

/// A profile with a worker that holds the lease of a goal, and has a child of its own.
fn running() -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.without_sandbox(&["worker"]);
    profile.goal("g", "goal: g\n");
    start(&profile);
    profile
}

fn start(profile: &Profile) {
    start_two(profile, &["--goal", "g"], "trap '' TERM; (trap '' TERM; tail -f FILE) & tail -f FILE");
}

/// Starts the worker with a script that runs `tail` twice on a FILE of the profile.
fn start_two(profile: &Profile, more: &[&str], script: &str) {
    let line = script.replace("FILE", profile.config_file().to_str().unwrap());
    profile.looop(&[&["worker", "start", "w1"], more, &["--", "sh", "-c", &line]].concat()).ok();
    wait_until("both to run", || left(profile).iter().filter(|line| line.starts_with("tail")).count() == 2);
}

/// Ends the worker, after which nothing of it lives.
#[track_caller]
fn kill(profile: &Profile, args: &[&str]) {
    assert_eq!(profile.looop(&[&["kill"], args].concat()).ok().stdout, "w1: killed\n");
    assert_eq!(left(profile), Vec::<String>::new());
}

fn supervisor(profile: &Profile) -> String {
    profile.read_json("workers/w1/state.json")["supervisor"]["pid"].to_string()
}

fn send(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

fn row(profile: &Profile) -> Value {
    profile.looop(&["ls", "--json"]).ok().json()["workers"][0].clone()
}

fn stop(profile: &Profile) -> String {
    let pid = supervisor(profile);
    send("-STOP", &pid);
    wait_until("it is stopped", || row(profile)["state"] == "suspended");
    pid
}

#[test]
#[ignore = "slow"]
fn a_stopped_supervisor_is_named_by_all_that_need_it() {
    let profile = running();
    let pid = stop(&profile);
    profile.looop(&["ls"]).ok().prints(&["suspended", &format!("process {pid}, is suspended")]);
    assert!(row(&profile)["why"].as_str().unwrap().contains("looop kill --force w1"), "{}", row(&profile));
    for call in [&["flag", "w1", "look"][..], &["unflag", "w1"], &["attach", "w1"]] {
        let ran = match call[0] {
            "attach" => crate::shown::on_terminal(&profile, 120, &call.join(" ")).map(|ran| (1, ran.stdout)),
            _ => Some(profile.looop(call)).map(|ran| (ran.code, ran.stderr)),
        };
        let Some((code, printed)) = ran else { continue };
        let words = [&format!("process {pid}"), "suspended", &format!("kill -CONT {pid}")];
        assert!(code == 1 && words.iter().all(|word| printed.contains(word)), "{call:?}: {printed}");
        assert!(!printed.contains("os error"), "{call:?}: {printed}");
    }
    // What goes through a file is there when the supervisor goes on, and that is printed.
    profile.looop(&["tell", "w1", "hello"]).ok().warns(&["w1 gets it later", &pid]);
    send("-CONT", &pid);
    wait_until("it goes on", || row(&profile)["state"] == "running");
    profile.looop(&["flag", "w1", "look"]).ok();
}

#[test]
#[ignore = "slow"]
fn a_kill_says_after_a_while_what_it_waits_for() {
    let profile = running();
    let pid = stop(&profile);
    let (log, began) = (profile.path("printed"), Instant::now());
    let mut kill = profile.command(&["kill", "w1"]);
    let kill = kill.stdout(Stdio::piped()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let printed = || fs::read_to_string(&log).unwrap();
    wait_until("it to be printed", || printed().ends_with('\n'));
    assert!(began.elapsed().as_millis() >= 2_000, "what ends at once needs no word");
    let wanted =
        format!("waiting for w1: its supervisor, process {pid}, is suspended; `kill -CONT {pid}` resumes it");
    assert!(printed().starts_with(&wanted) && printed().contains("looop kill --force w1"), "{}", printed());
    send("-CONT", &pid);
    assert_eq!(end(kill).ok().stdout, "w1: killed\n");
    assert_eq!(left(&profile), Vec::<String>::new());
}

#[test]
fn a_kill_by_force_ends_a_stopped_supervisor_and_its_tree() {
    let profile = running();
    stop(&profile);
    let leases =
        || profile.looop(&["lease", "list", "--json"]).ok().json()["leases"].as_array().unwrap().len();
    assert_eq!(leases(), 1);
    kill(&profile, &["--force", "w1"]);
    let state = profile.read_json("workers/w1/state.json");
    assert_eq!(["phase", "why"].map(|key| &state[key]), ["killed", "the user killed it with --force"]);
    assert_eq!(leases(), 0, "its lease is free");
    assert!(profile.read("journal.md").contains("w1"), "{}", profile.read("journal.md"));
    profile.looop(&["kill", "--force", "w1"]).exits(1).warns(&["it has ended already (killed)"]);
    // A beat sees it and puts it away; its name and its goal can be had again.
    profile.looop(&["tick"]).ok();
    start(&profile);
    // One that is not stopped ends as well, sandboxed or not.
    kill(&profile, &["--force", "w1"]);
}

#[test]
fn a_kill_by_force_reaches_into_the_sandbox() {
    let profile = Profile::scripted(&[NOOP]);
    let line = format!("tail -f /dev/null --pid=1 -s 1 {}", profile.path("nothing").display());
    profile.looop(&["worker", "start", "w1", "--", "sh", "-c", &line]).ok();
    wait_until("it to run", || !left(&profile).is_empty());
    stop(&profile);
    kill(&profile, &["--force", "w1"]);
}

#[test]
#[ignore = "slow"]
fn a_supervisor_without_its_socket_gets_a_signal() {
    let profile = running();
    fs::remove_file(profile.data().join("workers/w1/attach.sock")).unwrap();
    let flag = profile.looop(&["flag", "w1", "look"]).exits(1);
    flag.warns(&["could not reach the worker's supervisor", "hint: "]);
    kill(&profile, &["w1"]);
}

#[test]
fn what_a_lost_worker_left_is_found_without_its_environment() {
    let profile = Profile::scripted(&[NOOP]);
    profile.without_sandbox(&["worker"]);
    start_two(&profile, &[], "trap '' HUP; (exec env -i tail -f FILE) & exec env -i tail -f FILE");
    send("-KILL", &supervisor(&profile));
    wait_until("it is lost", || row(&profile)["state"] == "lost");
    assert_eq!(left(&profile).len(), 2, "the kill alone ends neither");
    profile.looop(&["tick"]).ok();
    assert_eq!(left(&profile), Vec::<String>::new());
}

#[test]
#[ignore = "slow"]
fn a_stopped_supervisor_with_no_room_for_a_request_is_reported_in_words() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let profile = running();
    stop(&profile);
    let address = SocketAddrUnix::new(profile.data().join("workers/w1/attach.sock")).unwrap();
    let mut waiting = Vec::new();
    while waiting.len() < 10_000 {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None);
        let socket = socket.unwrap();
        if connect(&socket, &address).is_err() {
            break;
        }
        waiting.push(socket);
    }
    let words = ["more requests wait than it has room for", "looop kill --force"];
    let flag = profile.looop(&["flag", "w1", "look"]).exits(1).warns(&words);
    assert!(!flag.stderr.contains("os error"), "{flag:?}");
}
