//! A worker runs on when the tick, the pulse, the shell and the tmux server around it are killed at once.

use serde_json::{Value, json};

use super::{asks, desk, worker};
use crate::support::profile::wait_until;

fn kill_now(pids: &[String]) {
    let ended = std::process::Command::new("kill").arg("-9").args(pids).status().unwrap();
    assert!(ended.success(), "{pids:?}");
}

fn is_alive(pid: &str) -> bool {
    looop::sys::tree::start_of(pid.parse().unwrap()).is_some()
}

#[test]
fn a_worker_that_a_tick_started_outlives_everything_around_it() {
    let start = json!({"move": "start_worker", "id": "count", "brief": "b", "why": "w"});
    let script = "
        echo 'before it all'
        read -r word
        echo \"after it all: $word\"
        read -r _";
    let desk = desk(&[start, json!({"move": "noop", "why": "w"})], script);
    // The beat that follows the start is caught in its sensor, which tells of it outside.
    desk.profile.unboxed(&["sensor"]);
    let caught = desk.profile.path("caught");
    let body = format!(
        "[ -e {0}/workers/count ] || {{ echo '{{}}'; exit; }}\necho $PPID >{1}; exec sleep 1000",
        desk.data().display(),
        caught.display()
    );
    let sensor = desk.data().join("sensors/s.sh");
    std::fs::write(&sensor, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&sensor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    let shell = desk.shell("pulse");
    desk.type_line(&shell, "looop");
    wait_until("the approval", || !asks(&desk).is_empty());
    let ask = asks(&desk)[0].clone();
    let (id, hash) = (ask["id"].as_str().unwrap(), ask["hash"].as_str().unwrap());
    desk.profile.looop(&["approve", id, "--hash", hash]).ok();
    wait_until("the next beat is caught", || {
        std::fs::read_to_string(&caught).is_ok_and(|pid| pid.ends_with('\n'))
    });
    let tick = std::fs::read_to_string(&caught).unwrap().trim().to_owned();
    let status = desk.profile.looop(&["status", "--json"]).ok().json();
    let pulse = status["pulse"]["pid"].to_string();
    assert_eq!(status["pulse"]["ticking"].to_string(), tick, "{status}");
    let pid = |format: &str| desk.tmux(&["display-message", "-p", "-t", &shell, format]).trim().to_owned();
    let (shell_pid, server) = (pid("#{pane_pid}"), pid("#{pid}"));
    wait_until("it runs", || worker(&desk, "count")["state"] == "running");
    let state = || -> Value {
        let text = std::fs::read_to_string(desk.data().join("workers/count/state.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let before = state();

    let all = [tick, pulse, shell_pid, server];
    kill_now(&all);
    wait_until("all of them are gone", || !all.iter().any(|pid| is_alive(pid)));
    assert!(!desk.is_served());

    desk.serve();
    let terminal = desk.shell("new");
    desk.type_line(&terminal, "looop attach count");
    desk.wait_for(&terminal, "before it all");
    desk.type_line(&terminal, "still here");
    desk.wait_for(&terminal, "after it all: still here");
    desk.tmux(&["send-keys", "-t", &terminal, "C-\\", "C-\\"]);
    desk.wait_for(&terminal, "detached from count; it is still running");
    assert_eq!((&state()["child"], &state()["supervisor"]), (&before["child"], &before["supervisor"]));
    assert_eq!(worker(&desk, "count")["state"], "running");
}
