//! A worker runs on when the tick, the pulse, the shell and the tmux server around it are killed at once.

use serde_json::json;

use super::{asks, fixture, worker};
use crate::support::profile::wait_until;

fn kill_now(pids: &[String]) {
    let ended = std::process::Command::new("kill").arg("-9").args(pids).status().unwrap();
    assert!(ended.success(), "{pids:?}");
}

fn is_alive(pid: &str) -> bool {
    looop::os::process::tree::start_of(pid.parse().unwrap()).is_some()
}

#[test]
#[ignore = "slow"]
fn a_worker_that_a_tick_started_outlives_everything_around_it() {
    let start = json!({"move": "start_worker", "id": "count", "brief": "b", "why": "w"});
    let script = "
        echo 'before it all'
        read -r word
        echo \"after it all: $word\"
        read -r _";
    let fixture = fixture(&[start, json!({"move": "noop", "why": "w"})], script);
    // The beat that follows the start is caught in its sensor, which tells of it outside.
    fixture.profile.without_sandbox(&["sensor"]);
    let caught = fixture.profile.path("caught");
    let body = format!(
        "[ -e {0}/workers/count ] || {{ echo '{{}}'; exit; }}\necho $PPID >{1}; exec sleep 1000",
        fixture.data().display(),
        caught.display()
    );
    fixture.profile.sensor("s.sh", &body);

    let shell = fixture.shell("pulse");
    fixture.type_line(&shell, "looop");
    wait_until("the approval", || !asks(&fixture).is_empty());
    let ask = asks(&fixture)[0].clone();
    let (id, hash) = (ask["id"].as_str().unwrap(), ask["hash"].as_str().unwrap());
    fixture.profile.looop(&["approve", id, "--hash", hash]).ok();
    wait_until("the next beat is caught", || {
        std::fs::read_to_string(&caught).is_ok_and(|pid| pid.ends_with('\n'))
    });
    let tick = std::fs::read_to_string(&caught).unwrap().trim().to_owned();
    let status = fixture.profile.looop(&["status", "--json"]).ok().json();
    let pulse = status["pulse"]["pid"].to_string();
    assert_eq!(status["pulse"]["ticking"].to_string(), tick, "{status}");
    let pid = |format: &str| fixture.tmux(&["display-message", "-p", "-t", &shell, format]).trim().to_owned();
    let (shell_pid, server) = (pid("#{pane_pid}"), pid("#{pid}"));
    wait_until("it runs", || worker(&fixture, "count")["state"] == "running");
    let state = || fixture.profile.read_json("workers/count/state.json");
    let before = state();

    let all = [tick, pulse, shell_pid, server];
    kill_now(&all);
    wait_until("all of them are gone", || !all.iter().any(|pid| is_alive(pid)));
    assert!(!fixture.is_served());

    fixture.serve();
    let terminal = fixture.shell("new");
    fixture.type_line(&terminal, "looop attach count");
    fixture.wait_for(&terminal, "before it all");
    fixture.type_line(&terminal, "still here");
    fixture.wait_for(&terminal, "after it all: still here");
    fixture.tmux(&["send-keys", "-t", &terminal, "C-\\", "C-\\"]);
    fixture.wait_for(&terminal, "detached from count; it is still running");
    assert_eq!((&state()["child"], &state()["supervisor"]), (&before["child"], &before["supervisor"]));
    assert_eq!(worker(&fixture, "count")["state"], "running");
}
