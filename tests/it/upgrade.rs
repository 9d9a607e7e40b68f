//! An upgrade: the program is replaced under a running pulse and under running workers, and the data dir is an older one's.

mod old;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::{fs, os::unix::fs::MetadataExt};

use rustix::process::Signal;
use serde_json::json;

use crate::beat::listing;
use crate::races::{end, send};
use crate::support::profile::{LOOOP, Profile, Ran, program, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"nothing"}"#;

/// An installed program: a copy of the real one that can be replaced.
struct Installed {
    profile: Profile,
}

impl Installed {
    fn new() -> Installed {
        let profile = Profile::scripted(&[NOOP]);
        fs::create_dir_all(profile.path("bin")).unwrap();
        let installed = Installed { profile };
        installed.replace();
        installed
    }

    fn path(&self) -> PathBuf {
        self.profile.path("bin/looop")
    }

    /// Puts a new copy into the old one's place, as an installer does; returns its inode.
    fn replace(&self) -> u64 {
        let temp = self.profile.path("bin/.looop.new");
        // By another process: what this one has open to be written, a child of another test could have open for a
        // moment too, and nobody can execute it then.
        let copied = Command::new("cp").args([Path::new(LOOOP), &temp]).status().unwrap();
        assert!(copied.success());
        self.place(&temp)
    }

    /// Puts a script into the place.
    fn replace_with(&self, script: &str) {
        let temp = self.profile.path("bin/.looop.new");
        program(&temp, script);
        self.place(&temp);
    }

    fn place(&self, temp: &Path) -> u64 {
        fs::rename(temp, self.path()).unwrap();
        self.inode()
    }

    fn inode(&self) -> u64 {
        fs::metadata(self.path()).unwrap().ino()
    }
}

/// The file that a process runs.
fn running(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/exe")).ok().map(|meta| meta.ino())
}

/// A running pulse of the installed program, with what it says.
struct Pulse {
    child: Option<Child>,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Pulse {
    fn start(installed: &Installed) -> Pulse {
        installed.profile.config_more(json!({ "interval": "1h" }));
        let mut command =
            installed.profile.other_command(installed.path().to_str().unwrap(), &["--color", "never"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let printed = Arc::new(Mutex::new(Vec::new()));
        let keep = |lines: Box<dyn BufRead + Send>| {
            let printed = Arc::clone(&printed);
            std::thread::spawn(move || {
                lines.lines().map_while(Result::ok).for_each(|line| printed.lock().unwrap().push(line));
            });
        };
        keep(Box::new(BufReader::new(child.stdout.take().unwrap())));
        keep(Box::new(BufReader::new(child.stderr.take().unwrap())));
        Pulse { child: Some(child), printed }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn count(&self, words: &str) -> usize {
        self.printed.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }

    fn wait_for(&self, words: &str, count: usize) {
        wait_until(&format!("{count} times {words:?} in {:?}", self.printed), || self.count(words) >= count);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            send(&child, Signal::TERM);
            let ran = end(child);
            assert_eq!(ran.code, 0, "{ran:?}");
        }
    }
}

#[test]
#[ignore = "slow"]
fn a_pulse_goes_on_as_the_program_that_replaced_its_own() {
    let installed = Installed::new();
    let profile = &installed.profile;
    // The beat that starts this sensor says which file it runs.
    profile.without_sandbox(&["sensor"]);
    let log = profile.path("beats");
    profile.sensor("s.sh", &format!("stat -Lc %i /proc/$PPID/exe >> {}\necho '{{}}'", log.display()));
    let beats = || -> Vec<u64> {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let old = installed.inode();
    let pulse = Pulse::start(&installed);
    pulse.wait_for("noop —", 1);
    assert_eq!(beats(), [old]);

    let new = installed.replace();
    assert!(old != new && running(pulse.pid()) == Some(old), "it goes on until its next beat");
    profile.goal("g", "goal: g\n");
    pulse.wait_for("noop —", 2);
    assert_eq!((beats(), running(pulse.pid())), (vec![old, new], Some(new)));
    assert_eq!(pulse.count("the program was replaced; "), 1);
    profile.looop(&[]).fails_with(75, &[&format!("process {} is the pulse", pulse.pid())]);

    // And once more: what went on can be replaced as well.
    let newest = installed.replace();
    profile.goal("g", "goal: another\n");
    pulse.wait_for("noop —", 3);
    assert_eq!((beats().last(), running(pulse.pid())), (Some(&newest), Some(newest)));
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
}

#[test]
#[ignore = "slow"]
fn a_program_that_cannot_go_on_is_reported_once_and_the_old_one_stays() {
    let installed = Installed::new();
    let profile = &installed.profile;
    // A sandbox is built by the program that is installed.
    profile.without_sandbox(&["decide"]);
    let old = installed.inode();
    let pulse = Pulse::start(&installed);
    pulse.wait_for("noop —", 1);
    // One that does not know how to go on, as one that is much older.
    installed.replace_with("#!/bin/sh\necho 'error: unrecognized subcommand' >&2\nexit 2\n");
    for (beats, goal) in [(2, "one"), (3, "two")] {
        profile.goal("g", goal);
        pulse.wait_for("noop —", beats);
        assert_eq!(pulse.count("cannot continue as the pulse: exit code 2 error: unrec"), 1);
        assert_eq!(running(pulse.pid()), Some(old));
    }
    let new = installed.replace();
    profile.goal("g", "three");
    pulse.wait_for("noop —", 4);
    assert_eq!(running(pulse.pid()), Some(new));
}

#[test]
fn only_the_pulse_hands_its_lock_on() {
    let profile = Profile::scripted(&[NOOP]);
    // One that takes it for its own goes on as the pulse, and would never end.
    let again = || profile.other_command("timeout", &["60", LOOOP, "__reexec"]);
    let ran: Ran = again().output().unwrap().into();
    assert!(ran.code == 1 && ran.stderr.contains("could not continue as the pulse"), "{ran:?}");
    fs::write(profile.data().join("pulse.lock"), "").unwrap();
    let held = looop::store::lock::tick(&profile.data().join("pulse.lock")).unwrap();
    let stdin = fs::File::open(profile.data().join("pulse.lock")).unwrap();
    let ran: Ran = again().stdin(stdin).output().unwrap().into();
    assert_eq!(ran.code, 75, "a descriptor of its own is no lock: {ran:?}");
    drop(held);
}

#[test]
fn a_worker_outlives_the_program_that_started_it() {
    let installed = Installed::new();
    let profile = &installed.profile;
    profile.config_more(json!({ "verify": { "ok": ["true"] } }));
    let go = profile.data().join("workers/w1/clone/go");
    let script = "echo old; until [ -e go ]; do sleep 0.05; done; looop flag 'from within'; until [ -e on ]; do sleep 0.05; done";
    let path = installed.path();
    let args = ["worker", "start", "w1", "--verify", "ok", "--", "sh", "-c", script];
    let ran: Ran = profile.other_command(path.to_str().unwrap(), &args).output().unwrap().into();
    ran.ok();
    let supervisor = profile.read_json("workers/w1/state.json")["supervisor"]["pid"].as_u64().unwrap() as u32;
    let old = running(supervisor);
    let new = installed.replace();
    let looop = |args: &[&str]| -> Ran {
        profile.other_command(path.to_str().unwrap(), args).output().unwrap().into()
    };
    let row = || looop(&["ls", "--all", "--json"]).ok().json()["workers"][0].clone();
    assert_eq!(row()["state"], "running");
    looop(&["tell", "w1", "hello"]).ok();
    wait_until("what it printed", || looop(&["logs", "w1"]).ok().stdout.contains("old"));
    fs::write(&go, "").unwrap();
    wait_until("the flag", || row()["flag"]["text"] == "from within");
    assert_eq!(looop(&["unflag", "w1"]).ok().stdout, "w1: unflagged\n");
    assert!(old.is_some() && running(supervisor) == old && old != Some(new));
    // Its check runs in a sandbox, for which the program is looked for again.
    fs::write(go.with_file_name("on"), "").unwrap();
    wait_until("its check to pass", || row()["state"] == "done");
}

/// Makes the data dir one of format 1, as the program of that time had left it.
fn make_older(profile: &Profile) {
    let ignored = fs::read_to_string(profile.data().join(".gitignore")).unwrap();
    let older: Vec<&str> = ignored.lines().filter(|line| *line != "/fix/" && *line != "/told.json").collect();
    fs::write(profile.data().join(".gitignore"), older.join("\n") + "\nmine-alone").unwrap();
    fs::write(profile.data().join("format"), "{\"format\":1}\n").unwrap();
    profile.git(&["commit", "-qam", "as it was"]);
    fs::create_dir_all(profile.data().join("fix/x")).unwrap();
    fs::write(profile.data().join("fix/x/run.json"), "{}").unwrap();
}

#[track_caller]
fn assert_migrated(profile: &Profile, stderr: &str) {
    assert!(stderr.contains("the data dir had format 1 and has format 4 now"), "{stderr}");
    assert_eq!(profile.read("format"), "{\"format\":4}\n");
    let ignored = profile.read(".gitignore");
    for line in ["/fix/", "/told.json", "/beat.json", "mine-alone"] {
        assert_eq!(ignored.lines().filter(|known| *known == line).count(), 1, "{line}: {ignored}");
    }
    let log = profile.git(&["log", "--format=%s %an", "--", "format"]);
    assert_eq!(log.lines().next(), Some("init: the data dir of format 1 has format 4 now looop"));
    assert_eq!(profile.git(&["ls-files", "fix"]), "");
    profile.git(&["fsck", "--strict"]);
}

#[test]
fn an_older_data_dir_is_brought_forward_before_the_first_write() {
    for verb in [&["goal", "write", "g", "goal: g"][..], &["tick"], &["init"]] {
        let profile = Profile::scripted(&[NOOP]);
        make_older(&profile);
        let before = listing(&profile.data());
        for args in [&["status"][..], &["goal", "list"], &["tick", "--dry-run"], &["log"]] {
            profile.looop(args).ok();
        }
        assert_eq!(listing(&profile.data()), before, "who only reads writes nothing");
        let ran = profile.looop(verb).ok();
        assert_migrated(&profile, &ran.stderr);
        let again = profile.looop(&["tick"]).ok();
        assert!(!again.stderr.contains("format"), "{again:?}");
        assert_eq!(profile.git(&["status", "--porcelain"]), "", "{verb:?}");
    }
}

#[test]
fn a_crash_on_the_way_forward_is_made_up_for() {
    let profile = Profile::scripted(&[NOOP]);
    let list = profile.read(".gitignore");
    make_older(&profile);
    // All but the last write was made.
    fs::write(profile.data().join(".gitignore"), format!("{list}mine-alone\n")).unwrap();
    let ran = profile.looop(&["tick"]).ok();
    assert_migrated(&profile, &ran.stderr);
}

#[test]
fn while_a_beat_runs_the_data_dir_stays_as_that_one_knows_it() {
    let profile = Profile::scripted(&[NOOP]);
    make_older(&profile);
    let beat = looop::store::lock::tick(&profile.data().join("tick.lock")).unwrap();
    // Nobody's lock but this test's, which the verb does not descend from.
    let now = looop::os::clock::now();
    let layout = looop::store::layout::Layout::new(profile.data(), profile.path("cache"));
    assert_eq!(looop::vcs::migrate::between_beats(&layout, now).unwrap(), None);
    assert_eq!(profile.read("format"), "{\"format\":1}\n");
    drop(beat);
    let ran = profile.looop(&["goal", "write", "g", "goal: g"]).ok();
    assert_migrated(&profile, &ran.stderr);
}
