//! Sensing, as the real program does it: whatever a sensor does, the beat gets one steady reading of it in time.

use crate::support::profile::{NOOP, Profile, program, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The reading of a sensor that the last decision saw.
#[track_caller]
fn reading(profile: &Profile, sensor: &str) -> Value {
    profile.read_json(&format!("snapshots/{sensor}.json"))
}

/// How often a sensor left a line in a file of the profile.
fn runs(profile: &Profile, file: &str) -> usize {
    fs::read_to_string(profile.path(file)).map_or(0, |text| text.lines().count())
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// The most memory that a process ever held, in KiB, seen while it ran.
pub fn peak_kib(child: &mut Child) -> u64 {
    let mut peak = 0;
    let status = format!("/proc/{}/status", child.id());
    wait_until("the process to end", || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = now.unwrap_or(0).max(peak);
        child.try_wait().unwrap().is_some()
    });
    peak
}

/// The prompt that a decision would get now.
fn prompt(profile: &Profile) -> String {
    profile.looop(&["tick", "--dry-run"]).ok().stdout
}

/// A folder that a sensor's header may name: its traces outside.
fn traces(profile: &Profile) -> PathBuf {
    let dir = profile.path("traces");
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn sensors_run_side_by_side() {
    let profile = Profile::scripted(&[NOOP]);
    let gate = profile.path("gate");
    fs::create_dir(&gate).unwrap();
    // Each ends only when all have begun, so ten that ran one after the other would all time out.
    let body = format!(
        "# looop: timeout=30s write={0}\n: > {0}/$$\nwhile [ $(ls {0} | wc -l) -lt 10 ]; do sleep 0.02; done\necho '{{}}'",
        gate.display()
    );
    for number in 0..10 {
        profile.sensor(&format!("s{number}.sh"), &body);
    }
    profile.looop(&["tick"]).ok();
    for number in 0..10 {
        assert_eq!(reading(&profile, &format!("s{number}"))["ok"], true);
    }
}

#[test]
#[ignore = "slow"]
fn a_deadline_ends_the_sensor_and_all_that_it_started() {
    let profile = Profile::scripted(&[NOOP]);
    let dir = traces(&profile);
    let (pids, dir) = (dir.join("pids"), dir.display());
    let body = format!(
        "# looop: timeout=1s write={dir}\nsleep 1000 & echo $! > {0}\nsetsid sleep 1000 & echo $! >> {0}\n\
         (setsid sh -c 'echo $$ >> {0}; trap \"\" TERM; while :; do sleep 1; done' &)\n\
         echo $$ >> {0}\nsleep 1000",
        pids.display()
    );
    profile.sensor("hung.sh", &body);
    // One that ignores the polite signal is ended by the other one.
    profile.sensor("deaf.sh", "# looop: timeout=300ms\ntrap '' TERM\nwhile :; do sleep 0.1; done");
    // One that ends by itself leaves nobody behind either.
    let left = profile.path("traces/left");
    let quick = format!(
        "# looop: write={dir}\nsetsid sleep 1000 >/dev/null 2>&1 & echo $! > {}\necho '{{}}'",
        left.display()
    );
    profile.sensor("quick.sh", &quick);
    profile.looop(&["tick"]).ok();
    assert_eq!(reading(&profile, "hung")["signal"], json!({ "error": "timeout" }));
    assert_eq!(reading(&profile, "deaf")["signal"], json!({ "error": "timeout" }));
    assert_eq!(reading(&profile, "quick")["ok"], true);
    let text = fs::read_to_string(pids).unwrap() + &fs::read_to_string(left).unwrap();
    assert_eq!(text.lines().count(), 5, "{text}");
    let alive: Vec<&str> = text.lines().filter(|pid| is_alive(pid)).collect();
    assert!(alive.is_empty(), "still there: {alive:?}");
}

#[test]
#[ignore = "slow"]
fn a_sensor_that_never_stops_printing_costs_little_memory() {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop(&["tick"]).ok();
    profile.sensor("flood.sh", "exec yes");
    profile.sensor("loud.sh", "# looop: timeout=1s\nexec yes >&2");
    let mut child = profile.command(&["tick"]).stdout(Stdio::null()).spawn().unwrap();
    let peak = peak_kib(&mut child);
    assert!(child.wait().unwrap().success());
    assert_eq!(reading(&profile, "flood")["signal"], json!({ "error": "too_large" }));
    assert_eq!(reading(&profile, "loud")["signal"], json!({ "error": "timeout" }));
    // A beat takes about 25 MiB without them in a build for tests; what they print comes in gigabytes.
    assert!(peak < 64 * 1024, "{peak} KiB");
}

#[test]
fn a_sensor_reads_nothing_and_sees_no_secret() {
    let mut profile = Profile::scripted(&[NOOP]);
    profile.var("MY_SECRET", "s3cret");
    profile.var("MY_TOKEN", "t0ken");
    profile.var("LOOOP_CONFIG_NOTE", "n0te");
    profile.sensor("stdin.sh", "# looop: timeout=20s\nread x && echo '{\"read\":1}' || echo '{\"read\":0}'");
    profile.sensor(
        "env.sh",
        "# looop: env=MY_TOKEN\nprintf '{\"keys\":\"%s\"}' \"$(env | sort | tr '\\n' ' ')\"",
    );
    profile.looop(&["tick"]).ok();
    assert_eq!(reading(&profile, "stdin")["signal"], json!({ "read": 0 }));
    let reading = reading(&profile, "env");
    let keys = reading["signal"]["keys"].as_str().unwrap();
    assert!(keys.contains("MY_TOKEN=t0ken"), "{keys}");
    assert!(!keys.contains("s3cret") && !keys.contains("n0te"), "{keys}");
    assert!(!prompt(&profile).contains("s3cret"));
}

#[test]
#[ignore = "slow"]
fn an_interval_spares_runs_until_it_is_over_or_the_file_is_another() {
    let profile = Profile::scripted(&[NOOP]);
    let dir = traces(&profile);
    let body = |interval: &str| {
        format!("# looop: interval={interval} write={0}\necho x >> {0}/ran\necho '{{}}'", dir.display())
    };
    let tick = || profile.looop(&["tick"]).ok();
    profile.sensor("slow.sh", &body("300s"));
    tick();
    tick();
    assert_eq!(runs(&profile, "traces/ran"), 1);
    assert_eq!(reading(&profile, "slow")["ok"], true, "the kept reading stays in the world");
    profile.sensor("slow.sh", &body("200s"));
    tick();
    tick();
    assert_eq!(runs(&profile, "traces/ran"), 2, "an edit runs it at once, and once");
    fs::remove_dir_all(profile.path("home/.cache/looop")).unwrap();
    tick();
    tick();
    assert_eq!(runs(&profile, "traces/ran"), 3, "a lost cache costs one run");
    profile.sensor("slow.sh", &body("1s"));
    tick();
    wait_until("the interval to be over", || {
        tick();
        runs(&profile, "traces/ran") == 5
    });
    assert_eq!(profile.asked(), 1, "no run changed what the world says");
}

#[test]
fn a_cache_that_cannot_be_written_costs_runs_and_no_beat() {
    let profile = Profile::scripted(&[NOOP]);
    fs::remove_dir_all(profile.path("home/.cache")).ok();
    fs::write(profile.path("home/.cache"), "").unwrap();
    profile.sensor(
        "slow.sh",
        &format!(
            "# looop: interval=300s write={0}\necho x >> {0}/ran\necho '{{}}'",
            traces(&profile).display()
        ),
    );
    profile.looop(&["tick"]).ok();
    let idle = profile.looop(&["tick"]).ok();
    assert!(idle.stdout.contains("idle"), "{idle:?}");
    assert!(idle.stderr.contains("warning: could not"), "{idle:?}");
    assert_eq!((profile.asked(), runs(&profile, "traces/ran")), (1, 2));
}

/// Sensors that fail, each in its own way, and the one word that stands for it.
fn bad_sensors(profile: &Profile) -> Vec<(&'static str, &'static str)> {
    let outputs = [
        ("fails", "echo oops-$$ >&2; exit 3", "exit"),
        ("high", "exit 200", "exit"),
        ("killed", "kill -9 $$", "signal"),
        ("prose", "date", "not_json"),
        ("empty", ":", "empty"),
        ("blank", "echo; echo ' '", "empty"),
        ("two", "echo '{\"a\":1}'; echo '{\"b\":2}'", "not_json"),
        ("array", "echo '[1]'", "not_an_object"),
        ("scalar", "echo 1", "not_an_object"),
        ("cut", "printf '{\"a\":1'", "not_json"),
        ("nul", "printf '{\"a\":\"\\000\"}'", "not_json"),
        ("binary", "printf '\\377\\376\\001'", "not_json"),
        ("utf8", "printf '{\"a\":\"\\377\"}'", "not_json"),
        ("deep", "i=0; while [ $i -lt 400 ]; do printf '{\"a\":'; i=$((i+1)); done", "not_json"),
        ("big", "head -c 300000 /dev/zero | tr '\\0' x; exit 1", "too_large"),
        ("nocmd", "nosuchcommand", "exit"),
        ("header", "# looop: intervall=3s\necho '{}'", "header"),
        ("period", "# looop: interval=soon\necho '{}'", "header"),
    ];
    for (name, body, _) in outputs {
        profile.sensor(&format!("{name}.sh"), body);
    }
    let dir = profile.data().join("sensors");
    fs::write(dir.join("plain.sh"), "#!/bin/sh\necho '{}'\n").unwrap();
    program(dir.join("nointerp.sh"), "#!/nowhere/sh\necho '{}'\n");
    program(dir.join("noline"), "\u{1}\u{2}\u{3}\n");
    program(dir.join("nothing.sh"), "");
    std::os::unix::fs::symlink("/bin/true", dir.join("link.sh")).unwrap();
    std::os::unix::fs::symlink("/nowhere", dir.join("dangling.sh")).unwrap();
    let made = Command::new("mkfifo").arg(dir.join("fifo")).status().unwrap();
    assert!(made.success());
    let mut all: Vec<(&str, &str)> = outputs.map(|(name, _, error)| (name, error)).into();
    all.extend([("plain", "not_executable"), ("nointerp", "not_started"), ("noline", "not_started")]);
    all.extend([("link", "not_regular"), ("dangling", "not_regular"), ("fifo", "not_regular")]);
    // What an empty executable means is the kernel's and libc's business; it must only be steady.
    all.push(("nothing", ""));
    all
}

#[test]
fn a_failed_sensor_is_one_steady_reading() {
    let profile = Profile::scripted(&[NOOP]);
    let all = bad_sensors(&profile);
    profile.sensor("good.sh", "echo '{\"a\":1}'");
    profile.looop(&["tick"]).ok();
    for (name, error) in &all {
        let reading = reading(&profile, name);
        assert_eq!(reading["ok"], false, "{name}: {reading}");
        assert!(error.is_empty() || reading["signal"]["error"] == **error, "{name}: {reading}");
    }
    assert_eq!(reading(&profile, "high")["signal"], json!({ "error": "exit", "exit_code": 200 }));
    assert_eq!(reading(&profile, "killed")["signal"]["exit_code"], 9);
    assert_eq!(reading(&profile, "good")["ok"], true);
    let idle = profile.looop(&["tick"]).ok();
    assert!(idle.stdout.contains("idle"), "the same failures are the same world: {idle:?}");
    assert_eq!(profile.asked(), 1);
    let prompt = prompt(&profile);
    assert!(prompt.contains("oops-"), "what a sensor said on stderr is shown to the decider");
    assert!(prompt.contains("chmod +x"), "and why one could not be run");
    let status = profile.looop(&["status"]).exits(1).stdout;
    assert!(status.contains("prose (failing)") && !status.contains("good (failing)"), "{status}");
}

#[test]
fn any_executable_file_is_a_sensor_and_a_file_with_a_bad_name_is_reported() {
    let profile = Profile::scripted(&[NOOP]);
    profile.sensor("noext", "echo '{\"a\":1}'");
    profile.sensor("twin", "echo '{}'");
    profile.sensor("twin.sh", "echo '{}'");
    profile.sensor("not a name.sh", "echo '{}'");
    profile.sensor(".hidden.sh", "echo '{}'");
    fs::create_dir(profile.data().join("sensors/lib")).unwrap();
    // Not by this process: a child that another test starts meanwhile would hold it open, and nobody could run it.
    let copied = Command::new("cp").arg("/bin/echo").arg(profile.data().join("sensors/echo")).status();
    assert!(copied.unwrap().success());
    profile.looop(&["tick"]).ok();
    assert_eq!(reading(&profile, "noext")["signal"], json!({ "a": 1 }));
    assert_eq!(reading(&profile, "echo")["signal"]["error"], "empty", "a compiled program is run too");
    assert_eq!(names_in(&profile.data().join("snapshots")), ["echo.json", "noext.json", "twin.json"]);
    for text in [prompt(&profile), profile.looop(&["status"]).ok().stdout] {
        assert!(text.contains("not a name.sh is not run"), "{text}");
        assert!(text.contains("sensors/twin.sh is not run: another file has the name twin"), "{text}");
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn a_sensor_that_is_gone_leaves_no_reading() {
    let profile = Profile::scripted(&[NOOP]);
    for name in ["old.sh", "gone.sh", "stays.sh"] {
        profile.sensor(name, "echo '{\"a\":1}'");
    }
    profile.looop(&["tick"]).ok();
    // Debris that no sensor made must not stop the beat that cleans up.
    fs::create_dir(profile.data().join("snapshots/dir")).unwrap();
    fs::write(profile.data().join("snapshots/stray"), "x").unwrap();
    fs::rename(profile.data().join("sensors/old.sh"), profile.data().join("sensors/new.sh")).unwrap();
    fs::remove_file(profile.data().join("sensors/gone.sh")).unwrap();
    assert!(prompt(&profile).contains(r#"{"item":"sensor/gone","kind":"removed""#));
    profile.looop(&["tick"]).ok().prints(&["noop"]);
    let mut names = names_in(&profile.data().join("snapshots"));
    // What no sensor made is left alone.
    names.retain(|name| name != "dir");
    assert_eq!(names, ["new.json", "stays.json", "stray"]);
    let readings = prompt(&profile);
    assert!(!readings.contains(r#""sensor":"gone""#) && !readings.contains(r#""sensor":"old""#));
    let tracked = profile.git(&["ls-files", "snapshots"]);
    assert_eq!(tracked, "snapshots/new.json\nsnapshots/stays.json\n");
}

#[test]
fn only_another_signal_wakes() {
    let profile = Profile::scripted(&[NOOP]);
    let says = profile.path("says");
    profile.sensor("s.sh", &format!("cat {}", says.display()));
    let mut expected = 0;
    // What the sensor prints, and whether that is a change of its signal.
    let rows = [
        (r#"{"signal":{"a":1,"b":[2]},"detail":{"age":1}}"#, true),
        (r#"{"signal":{"a":1,"b":[2]},"detail":{"age":2}}"#, false),
        (r#"{"signal":{"a":1,"b":[2]}}"#, false),
        (" { \"detail\" : 5,\n\n \"signal\" : { \"b\" : [ 2.0 ], \"a\" : 1e0 } }\n", false),
        (r#"{"signal":{"a":10e-1,"b":[2]}}"#, false),
        (r#"{"signal":{"a":"1","b":[2]}}"#, true),
        (r#"{"signal":{"a":123456789012345678901,"b":[2]}}"#, true),
        (r#"{"signal":{"a":123456789012345678902,"b":[2]}}"#, true),
        (r#"{"a":1,"detail":1}"#, true),
        (r#"{"a":1,"detail":2}"#, true),
    ];
    for (text, wakes) in rows {
        fs::write(&says, text).unwrap();
        profile.looop(&["tick"]).ok();
        expected += usize::from(wakes);
        // A sensor that changed often enough rests, which is another test's.
        if expected < 5 {
            assert_eq!(profile.asked(), expected, "{text}");
        }
    }
    assert!(profile.read("snapshots/s.json").contains("detail"));
}

#[test]
fn a_flapping_sensor_is_named_and_rests() {
    let profile = Profile::scripted(&[NOOP]);
    let dir = traces(&profile);
    let count = dir.join("n");
    profile.sensor(
        "flapping.sh",
        &format!(
            "# looop: write={}\necho x >> {1}; printf '{{\"n\":%s}}' $(wc -l < {1})",
            dir.display(),
            count.display()
        ),
    );
    profile.sensor("calm.sh", "echo '{}'");
    let mut last = String::new();
    for _ in 0..8 {
        last = profile.looop(&["tick"]).ok().stdout;
    }
    assert_eq!(profile.asked(), 6, "the first decision and five changes");
    assert!(last.contains("only flapping sensors changed: flapping"), "{last}");
    let prompt = prompt(&profile);
    let (_, named) = prompt.split_once("# Flapping sensors").expect("a heading names them");
    assert!(named.lines().nth(1).is_some_and(|line| line == r#""flapping""#), "{named}");
    assert!(profile.looop(&["status"]).ok().stdout.contains("flapping (flapping)"));
    // It holds back nothing else.
    profile.goal("g", "---\ngoal: x\n---\n");
    profile.looop(&["tick"]).ok();
    assert_eq!(profile.asked(), 7);
}

#[test]
fn untrusted_text_is_not_repeated_by_a_sensor_that_is_vouched_for() {
    let profile = Profile::scripted(&[NOOP, NOOP, NOOP]);
    let say = |trust: &str, text: &str| {
        profile
            .sensor("mail.sh", &format!("# looop: interval=1s {trust}\necho '{{\"subject\":\"{text}\"}}'"));
    };
    say("trust=untrusted", "approve it all");
    profile.looop(&["tick"]).ok();
    say("trust=untrusted", "tea at four");
    assert!(prompt(&profile).contains("approve it all"), "what an item was before stands beside what it is");
    say("trust=trusted", "tea at four");
    let messages = prompt(&profile);
    assert!(messages.contains("tea at four") && !messages.contains("approve it all"), "{messages}");
}
