//! `looop doctor` over set-ups that are broken, each in one way: it names the fault and what mends it, and exits 1.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use serde_json::{Value, json};

use crate::support::profile::{LOOOP, Profile, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"all is well"}"#;

fn well() -> Profile {
    Profile::scripted(&[NOOP])
}

fn chmod(profile: &Profile, name: &str, mode: u32) {
    fs::set_permissions(profile.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// Of a profile that was broken in one way the doctor finds exactly this bad, says it and its cure in text and as JSON, and
/// exits 1.
#[track_caller]
fn finds(what: &str, found: &str, fix: &str, broken: impl FnOnce(&Profile)) -> Profile {
    let profile = well();
    broken(&profile);
    finds_in(&profile, &[], what, found, fix);
    profile
}

/// The same in this profile, with these flags.
#[track_caller]
fn finds_in(profile: &Profile, args: &[&str], what: &str, found: &str, fix: &str) {
    let ran = profile.looop(&[&["doctor"], args, &["--json"]].concat());
    assert_eq!(ran.code, 1, "{ran:?}");
    let all = ran.json()["findings"].as_array().unwrap().clone();
    let bad: Vec<&Value> = all.iter().filter(|finding| finding["health"] == "bad").collect();
    assert_eq!(bad.len(), 1, "one fault, one finding: {bad:#?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!(text(&bad[0]["what"]), what, "{bad:?}");
    assert!(text(&bad[0]["found"]).contains(found), "{found:?} in {bad:?}");
    let fixes = bad[0]["fix"].as_array().unwrap();
    assert!(fixes.iter().any(|one| text(one).contains(fix)), "{fix:?} in {fixes:?}");
    let shown = profile.looop(&[&["doctor"], args].concat());
    assert_eq!(shown.code, 1, "{shown:?}");
    for part in [&format!("BAD  {what}: "), "     fix: "] {
        assert!(shown.stdout.contains(part), "no {part:?}: {shown:?}");
    }
}

fn beat(profile: &Profile) {
    profile.goal("g", "goal: x\n");
    profile.looop(&["tick"]).ok();
}

#[test]
fn a_sound_set_up_has_nothing_bad() {
    let ran = well().looop(&["doctor", "--ask"]).ok();
    assert!(!ran.stdout.contains("BAD") && ran.stdout.contains("ok   disk: "), "{}", ran.stdout);
}

/// What has one right answer is mended on request, and never without.
#[test]
fn a_fix_mends_what_needs_no_question() {
    /// The mended thing, how its line begins, and what is wrong before.
    type Row = (&'static str, &'static str, fn(&Profile));
    let rows: [Row; 5] = [
        ("mode", "data` had mode 755", |profile| chmod(profile, "data", 0o755)),
        ("mode", "looop.env` had mode 644", |profile| {
            fs::write(profile.path("looop.env"), "ANTHROPIC_API_KEY=x\n").unwrap();
            chmod(profile, "looop.env", 0o644);
        }),
        ("format", "the data dir had format 3", |profile| {
            fs::remove_file(profile.data().join(".gitattributes")).unwrap();
            fs::write(profile.data().join("format"), "{\"format\":3}\n").unwrap();
        }),
        ("history", "could not", |profile| {
            let tip = profile.git(&["rev-parse", "HEAD"]);
            let object = format!("data/.git/objects/{}/{}", &tip[..2], &tip.trim()[2..]);
            chmod(profile, &object, 0o600);
            fs::write(profile.path(&object), "torn").unwrap();
        }),
        ("history", "index.lock", |profile| {
            let lock = fs::File::create(profile.data().join(".git/index.lock")).unwrap();
            lock.set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
    ];
    for (what, found, make) in rows {
        let profile = Profile::scripted(&[NOOP]);
        beat(&profile);
        make(&profile);
        assert!(!profile.looop(&["doctor"]).stdout.contains("mend"), "{found}");
        let ran = profile.looop(&["doctor", "--fix"]).ok();
        let line = ran.stdout.lines().find(|line| line.starts_with(&format!("mend {what}: ")));
        assert!(line.is_some_and(|line| line.contains(found)), "{found}: {ran:?}");
        assert!(!profile.looop(&["doctor", "--fix"]).ok().stdout.contains("mend"), "{found}: once");
        profile.looop(&["tick"]).ok();
        profile.looop(&["doctor"]).ok().prints(&["ok   history"]);
    }
    let other = Profile::empty();
    fs::create_dir(other.data()).unwrap();
    chmod(&other, "data", 0o755);
    other.looop(&["doctor", "--fix"]).exits(1);
    assert_eq!(fs::metadata(other.data()).unwrap().permissions().mode() & 0o777, 0o755, "it is no data dir");
}

#[test]
fn a_fault_is_found_with_its_cure() {
    finds("config", "intervall is not a key here", "did you mean `interval`?", |profile| {
        profile.config_more(json!({ "intervall": "60s" }));
    });
    finds("config", "others can write", "chmod", |profile| chmod(profile, "looop.json", 0o666));
    finds(
        "runner",
        "`nosuchprogram` is not on the configured PATH",
        "install it, or name another",
        |profile| {
            profile
                .config(json!({ "decide": "gone", "runners": { "gone": { "decide": ["nosuchprogram"] } } }));
        },
    );
    finds("clock", "the clock was set back", "set the clock", |profile| {
        beat(profile);
        let mut state = profile.read_json("beat.json");
        state["last"]["at_ms"] = (state["last"]["at_ms"].as_i64().unwrap() + 3 * 3_600_000).into();
        fs::write(profile.data().join("beat.json"), state.to_string()).unwrap();
    });
    finds("memory", "beat.json", "looop resume", |profile| {
        fs::write(profile.data().join("beat.json"), "{\"decisions\":").unwrap();
    });
    finds("history", "could not", "returns to the newest readable commit", |profile| {
        beat(profile);
        let tip = profile.git(&["rev-parse", "HEAD"]);
        let object = format!("data/.git/objects/{}/{}", &tip[..2], &tip.trim()[2..]);
        chmod(profile, &object, 0o600);
        fs::write(profile.path(&object), "torn").unwrap();
    });
    finds("history", "index.lock", "rm ", |profile| {
        fs::write(profile.data().join(".git/index.lock"), "").unwrap();
    });
    finds("playbook", "PLAYBOOK.md", "looop playbook write", |profile| {
        fs::remove_file(profile.data().join("PLAYBOOK.md")).unwrap();
    });
    finds("sensor shut", "chmod +x", "fix or remove it", |profile| {
        profile.sensor("shut.sh", "echo '{}'");
        chmod(profile, "data/sensors/shut.sh", 0o600);
    });
    finds("sensor shut", "tiemout", "fix or remove it", |profile| {
        profile.sensor("shut.sh", "# looop: tiemout=5s\necho '{}'");
    });
    let profile = finds("keys", "others can read", "chmod 600", |profile| {
        fs::write(profile.path("looop.env"), "ANTHROPIC_API_KEY=x\n").unwrap();
        chmod(profile, "looop.env", 0o644);
    });
    chmod(&profile, "looop.env", 0o600);
    profile.looop(&["doctor"]).ok();
    let profile = finds("data dir", "others can enter it (mode 755)", "chmod 700", |profile| {
        chmod(profile, "data", 0o755);
    });
    chmod(&profile, "data", 0o500);
    finds_in(&profile, &[], "data dir", "you cannot write it (mode 500)", "chmod 700");
}

#[test]
fn a_runner_that_is_not_logged_in() {
    let profile = well();
    profile.config(json!({ "decide": "claude", "worker": "claude" }));
    let script = "#!/bin/sh\necho 'Invalid API key · Please run /login' >&2\nexit 1\n";
    profile.stand_in("claude", script, "/usr/local/bin:/usr/bin:/bin");
    finds_in(&profile, &["--ask"], "runner answers", "auth after", "log in");
}

#[test]
fn what_tells_the_user_and_what_checks_the_work_are_not_installed() {
    let profile = well();
    profile.config_more(json!({ "notify": ["nosuchbell", "looop"] }));
    finds_in(&profile, &[], "notify", "`nosuchbell` is not on", "correct \"notify\"");
    profile.config_more(json!({ "notify": [], "verify": { "tests": [["true"], ["nosuchcheck", "test"]] } }));
    finds_in(
        &profile,
        &[],
        "verify.tests",
        "`nosuchcheck` is not on",
        "work that it checks cannot be accepted",
    );
    profile.config_more(json!({ "verify": { "tests": ["./check.sh"] } }));
    profile.looop(&["doctor"]).ok();
}

/// Runs a shell line as root of a mount namespace of its own; none where that cannot be had.
fn with_own_mounts(profile: &Profile, line: &str) -> Option<Vec<Value>> {
    let ran = profile.other_command("unshare", &["-rm", "sh", "-c", line]).output().unwrap();
    // The shell line ends with 9 where it could not mount; without a namespace nothing of it runs.
    if ran.status.code() == Some(9) || ran.stdout.is_empty() {
        let why = String::from_utf8_lossy(&ran.stderr).into_owned();
        crate::support::pi::skipped(&format!("nothing can be mounted here: {why}"));
        return None;
    }
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// What a doctor in JSON found bad under this name.
#[track_caller]
fn bad<'a>(answer: &'a Value, what: &str) -> &'a Value {
    let found = answer["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == what);
    let finding = found.unwrap_or_else(|| panic!("nothing of {what}: {answer:#}"));
    assert_eq!(finding["health"], "bad", "{finding}");
    assert!(finding["fix"].as_array().is_some_and(|fixes| !fixes.is_empty()), "{finding}");
    finding
}

#[test]
fn a_box_that_was_asked_for_cannot_be_had() {
    let profile = well();
    profile.config_more(json!({ "sandbox": { "worker": "full" } }));
    let line = format!(
        "for tool in $(which -a bwrap unshare); do mount --bind /dev/null $tool || exit 9; done; {LOOOP} doctor --json"
    );
    let Some(answers) = with_own_mounts(&profile, &line) else { return };
    let finding = bad(&answers[0], "sandbox of worker");
    assert!(finding["found"].as_str().unwrap().contains("full"), "{finding}");
    assert!(finding["fix"].to_string().contains("bubblewrap"), "{finding}");
}

#[test]
fn a_disk_that_is_nearly_full_or_read_only() {
    let profile = well();
    let source = profile.path("source");
    fs::rename(profile.data(), &source).unwrap();
    fs::create_dir(profile.data()).unwrap();
    // A small disk over the data dir, which only this shell and its children see.
    let script = format!(
        r#"mount -t tmpfs -o size=8m,mode=700 small "$LOOOP_DATA_DIR" && cp -a "{source}/." "$LOOOP_DATA_DIR" || exit 9
           {LOOOP} doctor --json; mount -o remount,ro "$LOOOP_DATA_DIR" || exit 9; {LOOOP} doctor --json"#,
        source = source.display()
    );
    let Some(answers) = with_own_mounts(&profile, &script) else { return };
    for (answer, found) in answers.iter().zip(["nearly full: ", "mounted read-only"]) {
        let disk = bad(answer, "disk");
        assert!(disk["found"].as_str().unwrap().contains(found), "{disk}");
    }
    assert_eq!(answers.len(), 2);
}

#[test]
fn a_timer_that_never_comes_is_reported_and_kept() {
    let profile = well();
    profile.looop(&["schedule", "set", "standup", "--cron", "0 9 * * 1-5", "look"]).ok();
    let path = profile.data().join("schedules/standup.json");
    let broken = fs::read_to_string(&path).unwrap().replace("0 9 *", "0 99 *");
    fs::write(&path, &broken).unwrap();
    finds_in(&profile, &[], "schedules", "is not a cron expression", "schedules");
    beat(&profile);
    profile.looop(&["tick"]).ok();
    assert_eq!(fs::read_to_string(&path).unwrap(), broken, "a beat takes nothing away that it cannot read");
    profile.looop(&["status"]).exits(1).prints(&["schedules/standup.json is not used"]);
}

#[test]
fn a_worker_without_its_supervisor() {
    let profile = well();
    profile.without_sandbox(&["worker"]);
    profile.looop(&["worker", "start", "w", "--", "sh", "-c", "echo on; exec sleep 600"]).ok();
    let state = || profile.read_json("workers/w/state.json");
    wait_until("it runs", || state()["phase"] == "running");
    let pid = state()["supervisor"]["pid"].to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    wait_until("it is lost", || profile.looop(&["ls"]).ok().stdout.contains("lost"));
    finds_in(&profile, &[], "worker w", "its supervisor died", "looop tick");
    profile.looop(&["tick"]).ok();
    profile.looop(&["doctor"]).ok();
}
