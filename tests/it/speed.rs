//! Counts that speed rests on: how often a deciding beat waits for the disk, that an idle one never does, and that neither
//! looks through all processes.

use std::process::{Command, Stdio};

use crate::support::{pi::skipped, profile::Profile};

const NOOP: &str = r#"{"move":"noop","why":"w"}"#;

/// How often a beat calls fsync and fdatasync, its children not counted. It reads the name of no other process.
fn fsyncs(profile: &Profile) -> usize {
    let trace = profile.path("trace");
    let plain = profile.command(&["tick"]);
    let mut strace = Command::new("strace");
    strace
        .args(["-e", "trace=fsync,fdatasync,openat", "-o"])
        .arg(&trace)
        .arg(plain.get_program())
        .args(plain.get_args());
    strace.env_clear().envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let status = strace.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    let calls = std::fs::read_to_string(trace).unwrap();
    assert!(!calls.contains("/comm\""), "{calls}");
    calls.lines().filter(|line| line.contains("sync(")).count()
}

#[test]
fn a_deciding_beat_waits_for_the_disk_at_most_ten_times() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return skipped("no strace");
    }
    let moves = [
        r#"{"move":"write_goal","id":"g","body":"one","why":"w"}"#,
        r#"{"move":"run","argv":["date"],"why":"w"}"#,
        r#"{"move":"ask","text":"which?","why":"w"}"#,
        NOOP,
    ];
    let profile = Profile::scripted(&moves);
    profile.sensor("s.sh", "echo '{\"n\":1}'");
    // The first beat makes the journal and the month's ledger, once.
    profile.script(&[NOOP]);
    profile.looop(&["tick"]).ok();
    std::fs::remove_file(profile.path("script/replies.count")).unwrap();
    profile.script(&moves);
    profile.config_more(serde_json::json!({ "policy": { "allow": [{ "argv": ["date"] }] } }));
    profile.sensor("t.sh", "echo '{\"n\":1}'");
    for text in moves {
        let count = fsyncs(&profile);
        println!("{count} fsyncs: {text}");
        assert!((1..=10).contains(&count), "{count} fsyncs for {text}");
    }
    assert_eq!(fsyncs(&profile), 0, "an idle beat");
}
