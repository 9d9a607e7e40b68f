//! The pulse: it beats at its start, sleeps until something changes, and outlives its beats but leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, os::unix::fs::PermissionsExt};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::races::{assert_settled, end, hang, left, runner, send, wait_for};
use crate::support::profile::{LOOOP, Profile, Ran, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"nothing"}"#;
const GOAL: &str = r#"{"move":"write_goal","id":"made","body":"goal: made\n","why":"w"}"#;

/// How soon a change must start a beat. It is a fraction of a second, but the machine may be busy with other tests;
/// the interval is an hour.
const SOON: Duration = Duration::from_secs(5);
/// How long nothing may happen for it to count as quiet: longer than the wait after a move.
const QUIET: Duration = Duration::from_secs(5);

/// A running pulse, ended when dropped.
struct Pulse {
    child: Option<Child>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Pulse {
    fn start(profile: &Profile) -> Pulse {
        profile.config_more(json!({"interval": "1h"}));
        let mut child = profile.spawn(&[]);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (printed, stdout) = (lines.clone(), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                printed.lock().unwrap().push(line);
            }
        });
        Pulse { child: Some(child), lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// One line is printed for each beat.
    fn wait_for_beats(&self, count: usize) {
        wait_until(&format!("{count} beats"), || self.lines().len() >= count);
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The beat that runs now.
    fn tick(&self) -> Option<i32> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap();
        let mut pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
        pids.find(|pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("\0tick\0--pulse")
        })
    }

    /// Waits until it ends by itself.
    fn wait(mut self) -> Ran {
        end(self.child.take().unwrap())
    }

    /// Ends it, which is success, and returns what it said.
    #[track_caller]
    fn end(mut self) -> String {
        let child = self.child.take().unwrap();
        send(&child, Signal::TERM);
        end(child).ok().stderr
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            send(&child, Signal::TERM);
            child.wait().unwrap();
        }
    }
}

/// Waits and looks: nothing may have happened by then.
fn stay_quiet(pulse: &Pulse, beats: usize) {
    let start = Instant::now();
    wait_until("a quiet time", || start.elapsed() > QUIET);
    assert_eq!(pulse.lines().len(), beats, "{:?}", pulse.lines());
}

fn idle_stamp(profile: &Profile) -> Option<Vec<u8>> {
    let profiles = fs::read_dir(profile.path("home/.cache/looop")).ok()?;
    profiles.flatten().find_map(|dir| fs::read(dir.path().join("idle")).ok())
}

#[test]
#[ignore = "slow"]
fn it_beats_at_its_start_and_not_because_of_its_own_writes() {
    let profile = Profile::scripted(&[
        GOAL,
        r#"{"move":"schedule","name":"later","in_s":9000,"note":"n","why":"w"}"#,
        r#"{"move":"ask","text":"Which?","why":"w"}"#,
        NOOP,
    ]);
    let pulse = Pulse::start(&profile);
    // After each move it looks at the effect; after the noop the world is settled.
    pulse.wait_for_beats(4);
    let stamp = idle_stamp(&profile);
    stay_quiet(&pulse, 4);
    assert_eq!((profile.asked(), idle_stamp(&profile)), (4, stamp));
    let lines = pulse.lines();
    for (line, word) in lines.iter().zip(["write_goal made", "schedule later", "ask ", "noop"]) {
        assert!(line.contains(word), "{word:?} is not in {line:?}");
    }
    let stderr = pulse.end();
    assert!(stderr.contains("ended; nothing is lost"), "{stderr}");
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
}

#[test]
#[ignore = "slow"]
fn a_change_of_the_humans_wakes_it_at_once() {
    let profile = Profile::scripted(&[r#"{"move":"ask","text":"Which?","why":"w"}"#, NOOP]);
    profile.sensor("s.sh", "echo '{\"n\":1}'");
    let pulse = Pulse::start(&profile);
    pulse.wait_for_beats(2);
    let ask = profile.looop(&["asks", "--json"]).ok().json()["asks"][0]["id"].as_str().unwrap().to_owned();
    let edits: [(&str, &dyn Fn()); 7] = [
        ("a goal in an editor", &|| profile.goal("g", "goal: g\n")),
        ("a goal", &|| drop(profile.looop(&["goal", "write", "g", "goal: other"]).ok())),
        ("the playbook", &|| drop(profile.looop_with(&["playbook", "write", "-"], "Be brief.\n").ok())),
        ("a sensor", &|| profile.sensor("s.sh", "echo '{\"n\":2}'")),
        ("a timer", &|| drop(profile.looop(&["schedule", "set", "t", "--in", "1h", "note"]).ok())),
        ("an answer", &|| drop(profile.looop(&["answer", &ask, "this"]).ok())),
        ("a pause", &|| drop(profile.looop(&["pause"]).ok())),
    ];
    for (what, edit) in edits {
        let beats = pulse.lines().len();
        edit();
        let start = Instant::now();
        pulse.wait_for_beats(beats + 1);
        println!("{what}: {:?}", start.elapsed());
        assert!(start.elapsed() < SOON, "{what}: {:?}", start.elapsed());
        // A beat that the edit's own burst of events could still start belongs to the edit.
        let settled = Instant::now();
        wait_until("the burst to end", || settled.elapsed() > Duration::from_millis(500));
    }
}

#[test]
#[ignore = "slow"]
fn it_outlives_a_killed_beat() {
    let profile = Profile::scripted(&[NOOP]);
    profile.sensor(
        "s.sh",
        &format!("[ -e {} ] || {} >/dev/null\necho '{{}}'", profile.path("go").display(), hang(&profile)),
    );
    let pulse = Pulse::start(&profile);
    wait_until("the sensor", || !left(&profile).is_empty());
    let tick = pulse.tick().expect("a beat runs");
    kill_process(Pid::from_raw(tick).unwrap(), Signal::KILL).unwrap();
    wait_until("the sensor to be ended", || left(&profile).is_empty());
    fs::write(profile.path("go"), "").unwrap();
    // It begins again by itself after a few seconds.
    pulse.wait_for_beats(1);
    assert!(pulse.lines()[0].contains("noop"), "{:?}", pulse.lines());
    let stderr = pulse.end();
    assert!(stderr.contains("the beat was ended by signal 9"), "{stderr}");
}

#[test]
#[ignore = "slow"]
fn it_ends_a_beat_that_hangs_and_goes_on() {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({
        "limits": { "sensor_timeout": "1s", "decide_timeout": "1s", "run_timeout": "1s" },
    }));
    let go = profile.path("go");
    profile.sensor("s.sh", &format!("until [ -e {} ]; do sleep 0.05; done\necho '{{}}'", go.display()));
    let pulse = Pulse::start(&profile);
    let stopped = std::cell::Cell::new(None);
    wait_until("a beat", || {
        stopped.set(pulse.tick());
        stopped.get().is_some()
    });
    // It looks at no clock of its own any more, and hears no SIGTERM.
    kill_process(Pid::from_raw(stopped.get().unwrap()).unwrap(), Signal::STOP).unwrap();
    fs::write(&go, "").unwrap();
    pulse.wait_for_beats(1);
    assert!(pulse.lines()[0].contains("noop"), "{:?}", pulse.lines());
    let stderr = pulse.end();
    assert!(stderr.contains("the beat did not end within 1m 5s; it was killed"), "{stderr}");
}

#[test]
#[ignore = "slow"]
fn after_a_sleep_of_the_machine_it_beats_at_once() {
    let profile = Profile::scripted(&[NOOP, NOOP, NOOP]);
    let pulse = Pulse::start(&profile);
    pulse.wait_for_beats(1);
    let all = |signal| kill_process(Pid::from_raw(pulse.pid().cast_signed()).unwrap(), signal).unwrap();
    all(Signal::STOP);
    // What was due or changed meanwhile is not waited for once more.
    profile.config_more(json!({ "interval": "1s" }));
    profile.goal("g", "a new goal\n");
    all(Signal::CONT);
    pulse.wait_for_beats(2);
    pulse.end();
}

#[test]
#[ignore = "slow"]
fn ended_while_a_model_thinks_it_leaves_nothing() {
    for trap in ["", "trap '' TERM INT\n"] {
        let profile = Profile::scripted(&[NOOP]);
        runner(
            &profile,
            &format!("{trap}setsid {} &\ntouch thinking\nexec {}", hang(&profile), hang(&profile)),
        );
        let pulse = Pulse::start(&profile);
        wait_for(&profile, "thinking");
        let start = Instant::now();
        pulse.end();
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
        assert_eq!(left(&profile), Vec::<String>::new());
        assert_settled(&profile);
        profile.script(&[NOOP]);
        assert!(profile.looop(&["tick"]).ok().stdout.contains("noop"));
        assert_eq!(profile.git(&["status", "--porcelain"]), "");
    }
}

#[test]
fn there_is_one_pulse_and_only_a_forced_move_beside_it() {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "goal: g\n");
    let pulse = Pulse::start(&profile);
    pulse.wait_for_beats(1);
    for args in [&[][..], &["tick"]] {
        profile.looop(args).fails_with(75, &[&format!("process {} is the pulse", pulse.pid())]);
    }
    profile.looop(&["run", "g"]).shows(&["noop"]);
}

#[test]
#[ignore = "slow"]
fn a_sensor_that_writes_where_it_looks_does_not_make_it_spin() {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "goal: g\n");
    // No sandbox lets a sensor do that.
    profile.without_sandbox(&["sensor"]);
    profile.sensor("s.sh", "echo again >goals/notes.txt\necho '{}'");
    let pulse = Pulse::start(&profile);
    pulse.wait_for_beats(1);
    let start = Instant::now();
    wait_until("some time", || start.elapsed() > Duration::from_secs(7));
    let beats = pulse.lines().len();
    assert!((2..=4).contains(&beats), "{:?}", pulse.lines());
    // The next look at its own traces is far away by now; a user is heard as soon as ever.
    profile.goal("g", "goal: another\n");
    let start = Instant::now();
    pulse.wait_for_beats(beats + 1);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(profile.asked(), 2, "{:?}", pulse.lines());
}

#[test]
#[ignore = "slow"]
fn an_edit_made_during_a_beat_is_seen_by_the_next() {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "goal: g\n");
    let [sensing, go] = ["sensing", "go"].map(|name| profile.path(name).display().to_string());
    profile.without_sandbox(&["sensor"]);
    profile
        .sensor("s.sh", &format!("touch {sensing}\nwhile [ ! -e {go} ]; do sleep 0.01; done\necho '{{}}'"));
    let pulse = Pulse::start(&profile);
    wait_for(&profile, "sensing");
    // The goals were read before the sensors began.
    profile.goal("g", "goal: another\n");
    fs::write(go, "").unwrap();
    pulse.wait_for_beats(1);
    let start = Instant::now();
    pulse.wait_for_beats(2);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(profile.asked(), 2, "{:?}", pulse.lines());
}

#[test]
#[ignore = "slow"]
fn a_pulse_whose_data_dir_is_gone_stops_and_makes_nothing_in_its_place() {
    for place in ["nothing", "an empty directory", "another profile"] {
        let profile = Profile::scripted(&[NOOP]);
        let pulse = Pulse::start(&profile);
        pulse.wait_for_beats(1);
        wait_until("the beat's end", || pulse.tick().is_none());
        let (data, away) = (profile.data(), profile.path("away"));
        let asked = profile.asked();
        match place {
            "nothing" => fs::rename(&data, &away).unwrap(),
            other => {
                let new = profile.path("new");
                fs::create_dir(&new).unwrap();
                fs::set_permissions(&new, PermissionsExt::from_mode(0o700)).unwrap();
                if other == "another profile" {
                    let ran = profile.command(&["init"]).env("LOOOP_DATA_DIR", &new).output().unwrap();
                    assert!(ran.status.success(), "{ran:?}");
                }
                renameat_with(CWD, &new, CWD, &data, RenameFlags::EXCHANGE).unwrap();
            }
        }
        let ran = pulse.wait();
        assert!(ran.code == 1 && ran.stderr.contains("the data dir is gone"), "{place}: {ran:?}");
        assert_eq!(profile.asked(), asked, "{place}: nothing is paid");
        match place {
            "nothing" => assert!(!data.exists()),
            "an empty directory" => assert_eq!(fs::read_dir(&data).unwrap().count(), 0),
            _ => assert!(!data.join("beat.json").exists(), "no beat in another profile"),
        }
    }
}

#[test]
#[ignore = "slow"]
fn a_pulse_whose_start_directory_is_removed_goes_on_and_commits() {
    for relative in [false, true] {
        let mut profile = Profile::scripted(&[NOOP]);
        fs::create_dir(profile.path("start")).unwrap();
        if relative {
            profile.var("LOOOP_DATA_DIR", "../data");
            profile.var("LOOOP_CONFIG", "../looop.json");
        }
        let mut command = profile.command(&[]);
        command.current_dir(profile.path("start")).env("LOOOP_INTERVAL", "1s");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Ended when dropped.
        let _pulse = Pulse { child: Some(child), lines: Arc::default() };
        let has = |text: &str| {
            profile.data().join("journal.md").exists() && profile.git(&["log", "--format=%s"]).contains(text)
        };
        wait_until("the first beat", || has("move: noop"));
        fs::remove_dir(profile.path("start")).unwrap();
        profile.goal("late", "made later\n");
        wait_until("the commit of a beat after that", || has("human: edit goals/late.md"));
    }
}

#[test]
fn a_beat_whose_start_directory_is_removed_while_it_runs_commits() {
    let profile = Profile::scripted(&[NOOP]);
    profile.without_sandbox(&["sensor"]);
    let start = profile.path("start");
    fs::create_dir(&start).unwrap();
    profile.sensor("s.sh", &format!("rm -rf {}; echo '{{\"n\":1}}'", start.display()));
    profile.goal("g", "goal: g\n");
    let ran: Ran = profile.command(&["tick"]).current_dir(&start).output().unwrap().into();
    assert!(ran.code == 0 && !start.exists() && !ran.stderr.contains("could not commit"), "{ran:?}");
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
}

#[test]
fn workers_outlive_a_pulse_whose_data_dir_is_gone() {
    let profile = Profile::scripted(&[NOOP]);
    let pulse = Pulse::start(&profile);
    pulse.wait_for_beats(1);
    profile.without_sandbox(&["worker"]);
    let line = format!("touch '{0}/up'; exec tail -f '{0}/looop.json'", profile.path("").display());
    profile.looop(&["worker", "start", "w1", "--", "sh", "-c", &line]).ok();
    wait_for(&profile, "up");
    fs::rename(profile.data(), profile.path("away")).unwrap();
    pulse.wait().fails_with(1, &["the data dir is gone"]);
    assert!(left(&profile).iter().any(|line| line.contains("tail")), "{:?}", left(&profile));
    fs::rename(profile.path("away"), profile.data()).unwrap();
    assert_eq!(profile.looop(&["ls", "--json"]).ok().json()["workers"][0]["state"], "running");
}

#[test]
fn a_verb_works_in_a_directory_that_is_gone_and_says_when_a_path_is_relative_to_it() {
    let profile = Profile::scripted(&[NOOP]);
    let gone = |vars: &str, verb: &str| -> Ran {
        let line = format!("mkdir gone && cd gone && rmdir ../gone && {vars} exec {LOOOP} {verb}");
        profile.other_command("sh", &["-c", &line]).output().unwrap().into()
    };
    for verb in ["tick", "status", "goal write g text", "doctor"] {
        let ran = gone("", verb);
        assert!(ran.code == 0 || verb == "doctor", "{verb}: {ran:?}");
        let is_lost = ran.stderr.contains("No such file") || ran.stdout.contains("BAD  history");
        assert!(!is_lost, "{verb}: {ran:?}");
    }
    profile.looop(&["run", "g"]).ok();
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
    for key in ["LOOOP_DATA_DIR", "LOOOP_CONFIG"] {
        let ran = gone(&format!("{key}=here"), "status");
        let expected = format!("could not use {key}: `here` is relative, and the current directory is gone");
        assert!(ran.code == 1 && ran.stderr.contains(&expected), "{ran:?}");
    }
}
