//! A word that comes too late: the ask was put away, used or over by then.

use std::{fs, os::unix::fs::symlink, process::Stdio};

use serde_json::{Value, json};

use super::{NOOP, Swap, ask_and_approve, profile, program, question, sunk};
use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, Profile, Ran, wait_until};
use crate::support::rows::{copy_all, has_strace};

/// What becomes of an ask between the look at it and the word.
type Change = fn(&Profile, &Value);

const CHANGES: [(&str, Change); 2] = [
    ("it is put away", |profile, ask| {
        let file = profile.data().join(format!("asks/{}.json", ask["id"].as_str().unwrap()));
        fs::rename(file, profile.data().join("asks/archive/away.json")).unwrap();
    }),
    ("a beat has closed it", |profile, ask| {
        let mut beat = profile.read_json("beat.json");
        beat["closed_asks"] = json!([ask["id"]]);
        fs::write(profile.data().join("beat.json"), beat.to_string()).unwrap();
    }),
];

/// Runs a user's command that gets as far as the store's lock, then changes the world, then lets it go on.
#[track_caller]
fn meanwhile(profile: &Profile, args: &[&str], change: impl FnOnce()) -> Ran {
    let lock = fs::File::open(profile.data().join("store.lock")).unwrap();
    lock.lock().unwrap();
    let child = profile.spawn(args);
    wait_until("the command to be at the lock", || {
        let open = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|file| file.ends_with("store.lock"))
    });
    change();
    drop(lock);
    child.wait_with_output().unwrap().into()
}

#[track_caller]
fn assert_unsaid(profile: &Profile, ask: &Value, ran: &Ran, why: &str, what: &str) {
    assert!(ran.code == 1 && ran.stderr.contains(why), "{what}: {ran:?}");
    assert_eq!(ran.stdout, "", "{what}");
    let answer = profile.data().join(format!("asks/{}.answer.json", ask["id"].as_str().unwrap()));
    assert!(!answer.exists(), "{what}: an orphan is left");
}

/// A profile with an approval that is open.
fn waiting(ttl: &str) -> (Profile, Value) {
    let profile = profile(&["RUN", NOOP]);
    profile.config_more(json!({ "limits": { "approval_ttl": ttl } }));
    profile.looop(&["tick"]).ok();
    let ask = profile.asks().pop().unwrap();
    (profile, ask)
}

#[test]
#[ignore = "slow"]
fn a_word_about_what_is_closed_by_now_is_not_taken() {
    let why = "a beat has closed it in the meantime";
    for (what, change) in CHANGES {
        let (profile, id) = question();
        let ask = profile.asks().pop().unwrap();
        let ran = meanwhile(&profile, &["answer", &id, "x"], || change(&profile, &ask));
        assert_unsaid(&profile, &ask, &ran, why, what);
        for verb in ["approve", "reject"] {
            let (profile, ask) = waiting("1h");
            let [id, hash] = ["id", "hash"].map(|key| ask[key].as_str().unwrap());
            let args: &[&str] =
                if verb == "approve" { &[verb, id, "--hash", hash] } else { &[verb, id, "no"] };
            let ran = meanwhile(&profile, args, || change(&profile, &ask));
            assert_unsaid(&profile, &ask, &ran, why, what);
        }
    }
}

#[test]
#[ignore = "slow"]
fn a_word_about_what_is_over_by_now_is_not_taken() {
    let (profile, ask) = waiting("4s");
    let [id, hash] = ["id", "hash"].map(|key| ask[key].as_str().unwrap());
    let over = || wait_until("the ask to expire", || profile.asks().is_empty());
    let ran = meanwhile(&profile, &["approve", id, "--hash", hash], over);
    assert_unsaid(&profile, &ask, &ran, "it has expired", "expired");
}

#[test]
fn a_used_approval_whose_files_come_back_is_not_valid() {
    let profile = profile(&["RUN", NOOP, "RUN", "RUN", NOOP]);
    let ask = ask_and_approve(&profile);
    let id = ask["id"].as_str().unwrap();
    for _ in 0..2 {
        profile.looop(&["tick"]).ok();
    }
    let asks_dir = profile.data().join("asks");
    for entry in fs::read_dir(asks_dir.join("archive")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let end = if name.ends_with(".answer.json") { ".answer.json" } else { ".json" };
        fs::rename(entry.path(), asks_dir.join(format!("{id}{end}"))).unwrap();
    }
    assert!(asks_dir.join(format!("{id}.answer.json")).exists());
    assert!(profile.asks().is_empty(), "it is not shown as open");
    profile.goal("g", "goal: more\n");
    for _ in 0..2 {
        profile.looop(&["tick"]).ok();
    }
    assert_eq!(sunk(&profile), 1);
    assert!(!asks_dir.join(format!("{id}.answer.json")).exists(), "it is put away again");
    let again = profile.asks().pop().expect("the same wish can be asked for again");
    assert_ne!(again["id"], ask["id"]);
    profile.approve(&again).ok();
    profile.looop(&["tick"]).ok();
    assert_eq!(sunk(&profile), 2, "and is made once more after an approval of its own");
}

/// strace delays the first program that the beat starts, for as long as it takes to change something.
#[test]
#[ignore = "slow"]
fn a_change_after_the_beat_has_looked_is_seen_before_the_command_starts() {
    if !has_strace() {
        return skipped("no strace");
    }
    // A folder with too many entries is not covered, so that the file alone must be noticed.
    let cases: [(&str, bool, bool, Swap); 5] = [
        ("work/./sink.sh", true, true, |p| program(p, "work/sink.sh", "echo evil")),
        ("work/input.txt", true, false, |p| fs::write(p.path("work/input.txt"), "evil\n").unwrap()),
        ("work", false, false, |p| fs::write(p.path("work/other"), "evil\n").unwrap()),
        ("home/far", false, false, |p| fs::write(p.path("home/far/sub/x"), "evil\n").unwrap()),
        ("home/far", false, true, |p| {
            fs::rename(p.path("home/far"), p.path("home/was")).unwrap();
            copy_all(&p.path("home/was"), &p.path("home/far"));
        }),
    ];
    for (what, is_large, without_sandbox, change) in cases {
        let profile = profile(&[NOOP]);
        if without_sandbox {
            profile.without_sandbox(&["run"]);
        }
        fs::create_dir_all(profile.path("home/far/sub")).unwrap();
        if is_large {
            fs::create_dir(profile.path("work/many")).unwrap();
            for n in 0..20_001 {
                symlink("x", profile.path("work/many").join(n.to_string())).unwrap();
            }
        }
        let far = profile.path("home/far").display().to_string();
        profile.script(&[&super::run(&profile, &["./sink.sh", "input.txt", &far])]);
        ask_and_approve(&profile);
        let mut held = profile.other_command("strace", &["-f", "-o", "/dev/null", "-e", "trace=execve"]);
        held.args(["-e", "inject=execve:delay_enter=1500000:when=1", LOOOP, "tick"]);
        let mut held = held.stdout(Stdio::piped()).spawn().unwrap();
        wait_until("the intent", || !profile.read_json("beat.json")["intent"].is_null());
        change(&profile);
        let mut printed = String::new();
        std::io::Read::read_to_string(held.stdout.as_mut().unwrap(), &mut printed).unwrap();
        held.wait().unwrap();
        // Without a sandbox the command's own words look like those of the program that would have become it.
        let outputs = fs::read_dir(profile.data().join("runs")).unwrap().flatten();
        let outputs = outputs.filter_map(|run| fs::read_to_string(run.path().join("output.txt")).ok());
        let messages = if without_sandbox { outputs.collect() } else { profile.read("journal.md") };
        let words = format!("{what}` has changed since the user approved it");
        assert!(messages.contains(&words), "{what}, {without_sandbox}: {printed}{messages}");
        assert_eq!(sunk(&profile), 0, "{what}, {without_sandbox}: {printed}{messages}");
    }
}
