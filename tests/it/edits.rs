//! What a user writes while a beat goes on is kept, and is the user's in git.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use looop::os::clock;
use looop::store::exchange::{self, Exchanged, Fallback};
use looop::store::layout::Layout;
use looop::store::logs;
use serde_json::{Value, json};

use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, Profile, Ran, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"nothing"}"#;
/// A timer as the user sets it.
const TIMER: &str = r#"{"when":{"in_s":4000000000},"note":"the user's","created_ms":1}"#;

/// A profile with a goal, a timer and a sensor.
fn profile() -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "before\n");
    profile.sensor("s.sh", "echo '{}'");
    profile.looop(&["schedule", "set", "t", "--in", "9h", "before"]).ok();
    profile
}

/// A runner that writes a file of the data dir as a user would, and then decides.
fn edits_and_decides(profile: &Profile, path: &str, text: &str, decided: &Value) {
    fs::write(profile.path("text"), text).unwrap();
    fs::write(profile.path("reply"), decided.to_string()).unwrap();
    let files = [profile.path("text"), profile.data().join(path), profile.path("reply")];
    let [from, to, reply] = files.map(|path| path.display().to_string());
    // A sensor counts as one, and is in git, while it is executable.
    let mode = if path.starts_with("sensors/") { 755 } else { 644 };
    profile.shell_runner(&format!("cat >/dev/null; cat {from} >{to}; chmod {mode} {to}; cat {reply}"));
}

/// No move waits for an approval any more.
fn free_all_moves(profile: &Profile) {
    profile.config_more(json!({ "policy": { "free_moves": ["write_sensor", "write_playbook"] } }));
}

/// Checks that a beat, and the journal, say that the move was refused.
#[track_caller]
fn is_refused(profile: &Profile, beat: Ran) {
    beat.ok().prints(&[" — refused: changed by someone else"]);
    let journal = profile.read("journal.md");
    assert!(journal.contains(" — refused: changed by someone else"), "{journal}");
}

/// Checks that git has nothing more to take.
#[track_caller]
fn is_clean(profile: &Profile) {
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
}

/// The id of the question that is open.
fn open_ask(profile: &Profile) -> String {
    profile.looop(&["asks", "--json"]).ok().json()["asks"][0]["id"].as_str().unwrap().to_owned()
}

/// Moves on a file that is there and on one that is not, and what the user writes there meanwhile.
fn moves() -> Vec<(&'static str, &'static str, Value)> {
    let script = "#!/bin/sh\necho '{}'\n# the human";
    let timer = |name: &str| json!({"move": "schedule", "name": name, "in_s": 3600, "note": "n", "why": "w"});
    let sensor =
        |name: &str| json!({"move": "write_sensor", "name": name, "script": "#!/bin/sh\n", "why": "w"});
    let goal = json!({"move": "write_goal", "id": "new", "body": "b", "why": "w"});
    vec![
        ("schedules/t.json", TIMER, timer("t")),
        ("schedules/new.json", TIMER, timer("new")),
        ("schedules/t.json", TIMER, json!({"move": "drop_schedule", "name": "t", "why": "w"})),
        ("goals/g.md", "the human's\n", json!({"move": "archive_goal", "id": "g", "why": "w"})),
        ("goals/g.md", "the human's\n", json!({"move": "write_goal", "id": "g", "body": "b", "why": "w"})),
        ("goals/new.md", "the human's\n", goal),
        ("sensors/s.sh", script, sensor("s")),
        ("sensors/new.sh", script, sensor("new")),
        ("PLAYBOOK.md", "the human's\n", json!({"move": "write_playbook", "body": "b", "why": "w"})),
    ]
}

#[test]
#[ignore = "slow"]
fn an_edit_while_the_model_thinks_is_never_replaced_or_archived() {
    // Once as a free move, once as one that waits: then nobody is asked to say yes to a diff of other words.
    let both = [true, false].into_iter().flat_map(|free| moves().into_iter().map(move |one| (free, one)));
    for (free, (path, text, decided)) in both {
        let profile = profile();
        edits_and_decides(&profile, path, text, &decided);
        if free {
            free_all_moves(&profile);
        }
        is_refused(&profile, profile.looop(&["tick"]));
        assert_eq!(profile.read(path), text, "{decided}");
        assert_eq!(fs::read_dir(profile.data().join("asks")).unwrap().count(), 1, "only the archive");
        assert_eq!(fs::read_dir(profile.data().join("goals/archive")).unwrap().count(), 0);
    }
}

#[test]
fn a_yes_is_void_for_a_file_that_changes_while_the_sensors_of_its_beat_run() {
    let profile = profile();
    let decided = r##"{"move":"write_sensor","name":"s","script":"#!/bin/sh\n","why":"w"}"##;
    profile.script(&[decided, NOOP]);
    // Renamed over it, since a script that is just being started cannot be written to.
    let places = [profile.path("text"), profile.data().join("sensors/s.sh")];
    let [text, target] = places.map(|path| path.display().to_string());
    profile.sensor("late.sh", &format!("[ -e {text} ] && mv {text} {target}\necho '{{}}'"));
    // It stands for the user.
    profile.without_sandbox(&["sensor"]);
    profile.looop(&["tick"]).ok();
    profile.approve_first();
    fs::write(profile.path("text"), "the human's\n").unwrap();
    profile.looop(&["tick"]).ok().prints(&["write_sensor s — refused: "]);
    assert_eq!(profile.read("sensors/s.sh"), "the human's\n");
}

/// Who made the commits that touch a file, newest first.
fn authors(profile: &Profile, path: &str) -> String {
    profile.git(&["log", "--format=%an", "--", path])
}

#[test]
#[ignore = "slow"]
fn what_a_user_writes_while_the_model_thinks_is_the_humans_in_git() {
    let noop: Value = serde_json::from_str(NOOP).unwrap();
    let beside = ["schedules/t.json", "schedules/new.json"].map(|path| (path, TIMER, noop.clone()));
    for (path, text, decided) in moves().into_iter().chain(beside) {
        let profile = profile();
        profile.looop(&["tick"]).ok();
        let before = authors(&profile, path);
        profile.goal("wake", "up\n");
        edits_and_decides(&profile, path, text, &decided);
        free_all_moves(&profile);
        profile.looop(&["tick"]).ok();
        assert_eq!(authors(&profile, path), before, "{decided}: not in the commits of that beat");
        profile.script(&[NOOP]);
        profile.goal("wake", "up again\n");
        profile.looop(&["tick"]).ok();
        assert_eq!(authors(&profile, path), format!("ada\n{before}"), "{decided}");
        assert_eq!(profile.git(&["show", &format!("HEAD:{path}")]), text);
        is_clean(&profile);
    }
}

#[test]
fn what_a_user_writes_over_a_move_that_git_could_not_take_is_the_humans_in_git() {
    let profile = profile();
    let wrote = json!({"move": "write_goal", "id": "new", "body": "looop's", "why": "w"});
    profile.script(&[&wrote.to_string(), NOOP]);
    profile.looop(&["tick"]).ok();
    // As after a crash, or a git that was blocked: the memory has the move, and git does not.
    profile.git(&["update-ref", "refs/heads/main", "HEAD~1"]);
    profile.git(&["reset", "-q"]);
    let text = "the human's\n";
    fs::write(profile.data().join("goals/new.md"), text).unwrap();
    profile.looop(&["tick"]).ok();
    assert_eq!(authors(&profile, "goals/new.md"), "ada\n");
    assert_eq!(profile.git(&["show", "HEAD:goals/new.md"]), text);
    assert_eq!(authors(&profile, "journal.md"), "looop\nlooop\n", "what is looop's own is taken late");
    is_clean(&profile);
}

#[test]
fn what_a_user_removes_while_the_model_thinks_is_the_humans_in_git() {
    let profile = profile();
    profile.script(&[r#"{"move":"ask","text":"Which?","why":"w"}"#, NOOP]);
    profile.looop(&["tick"]).ok();
    let ask = open_ask(&profile);
    for path in ["schedules/t.json".to_owned(), format!("asks/{ask}.json")] {
        let before = authors(&profile, &path);
        fs::write(profile.path("reply"), NOOP).unwrap();
        let places = [profile.data().join(&path), profile.path("reply")];
        let [target, reply] = places.map(|path| path.display().to_string());
        profile.shell_runner(&format!("cat >/dev/null; rm {target}; cat {reply}"));
        profile.looop(&["run", "g"]).ok();
        assert_eq!(authors(&profile, &path), before, "{path}: not in the commits of that beat");
        profile.script(&[NOOP]);
        profile.looop(&["run", "g"]).ok();
        assert_eq!(authors(&profile, &path), format!("ada\n{before}"));
        is_clean(&profile);
    }
}

#[test]
fn what_the_tick_puts_away_is_looops_in_git() {
    let profile = profile();
    profile.script(&[r#"{"move":"ask","text":"Which?","why":"w"}"#, NOOP]);
    profile.looop(&["tick"]).ok();
    let ask = open_ask(&profile);
    profile.looop(&["answer", &ask, "this one"]).ok();
    fs::write(profile.data().join("schedules/t.json"), TIMER.replace("4000000000", "1")).unwrap();
    profile.looop(&["tick"]).ok();
    for (path, by) in [
        ("schedules/t.json".to_owned(), "looop\nada\nada\n"),
        (format!("asks/{ask}.json"), "looop\nlooop\n"),
        (format!("asks/{ask}.answer.json"), "looop\nada\n"),
    ] {
        assert_eq!(authors(&profile, &path), by, "{path}");
        assert!(!profile.data().join(&path).exists(), "{path}");
    }
    is_clean(&profile);
}

#[test]
fn what_a_user_makes_executable_is_so_in_git_and_what_git_cannot_keep_is_reported() {
    let profile = profile();
    fs::set_permissions(profile.data().join("goals/g.md"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", profile.data().join("goals/link.md")).unwrap();
    fs::write(profile.data().join("goals/latin.md"), b"caf\xe9\n").unwrap();
    fs::File::create(profile.data().join("goals/large.md")).unwrap().set_len(11 << 20).unwrap();
    let ran = profile.looop(&["tick"]).ok();
    for (name, why) in [
        ("link", "it is not a regular file"),
        ("latin", "it is not UTF-8 text"),
        ("large", "it is larger than 10240 KiB"),
    ] {
        let warning = format!("`goals/{name}.md` is not kept in git: {why}");
        assert_eq!(ran.stderr.matches(&warning).count(), 1, "{warning}: {ran:?}");
    }
    let status = profile.git(&["status", "--porcelain"]);
    assert_eq!(status, "?? goals/large.md\n?? goals/latin.md\n?? goals/link.md\n");
    assert!(profile.git(&["ls-files", "-s", "goals/g.md"]).starts_with("100755 "));
}

/// True while looop writes the new content of a file of this directory.
fn is_being_written(dir: &Path) -> bool {
    let mut names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.any(|name| name.to_string_lossy().ends_with(".part.tmp"))
}

/// How a person's editor saves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Save {
    /// It writes another file, and gives it the name.
    ByRename,
    /// It has the file open when looop replaces it, and writes to it then or later.
    InPlace,
}

impl Save {
    /// Saves once looop has begun to write, and a little later each time.
    fn aimed(self, path: &Path, text: &str, nth: u32, ready: &Barrier) {
        let dir = path.parent().unwrap();
        ready.wait();
        let start = Instant::now();
        while !is_being_written(dir) && start.elapsed() < Duration::from_millis(500) {
            std::hint::spin_loop();
        }
        let until = Instant::now() + Duration::from_micros(u64::from(nth % 50) * 40);
        let wait = || {
            while Instant::now() < until {
                std::hint::spin_loop()
            }
        };
        match self {
            Save::ByRename => {
                let other = dir.join("editor");
                fs::write(&other, text).unwrap();
                wait();
                fs::rename(other, path).unwrap();
            }
            Save::InPlace => {
                let mut file = File::options().write(true).open(path).unwrap();
                wait();
                file.set_len(0).unwrap();
                file.write_all(text.as_bytes()).unwrap();
            }
        }
    }
}

/// Whether a text is in the file or kept beside it.
fn is_there(path: &Path, text: &str) -> bool {
    let names = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut theirs = names.filter(|name| name == path || name.to_string_lossy().contains(".looop-saved-"));
    theirs.any(|name| fs::read_to_string(name).unwrap() == text)
}

#[test]
#[ignore = "slow"]
fn of_two_hundred_aimed_saves_during_a_write_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g.md");
    let mut refused = 0;
    for (nth, save) in (0..100).flat_map(|nth| [(nth, Save::ByRename), (nth, Save::InPlace)]) {
        fs::write(&path, "seen\n").unwrap();
        let (seen, mine) = (exchange::digest_of(b"seen\n"), format!("mine {nth}\n"));
        let done = std::thread::scope(|scope| {
            let ready = Arc::new(Barrier::new(2));
            let (path, mine, theirs) = (&path, &mine, ready.clone());
            let saving = scope.spawn(move || save.aimed(path, mine, nth, &theirs));
            ready.wait();
            let done = exchange::write(path, b"looop's\n", 0o600, Some(&seen), Fallback::Nothing).unwrap();
            saving.join().unwrap();
            done
        });
        assert!(is_there(&path, &mine), "{nth} {save:?}: {done:?}, {:?}", fs::read_to_string(&path));
        refused += u32::from(done != Exchanged::Made);
    }
    assert!(refused > 0, "some of them met the exchange");
    assert!(!is_being_written(dir.path()));
}

#[test]
fn of_saves_during_a_rotation_of_the_journal_none_is_lost() {
    let profile = Profile::scripted(&[NOOP]);
    let layout = Layout::new(profile.data(), profile.path("cache"));
    let (journal, past) = (layout.journal(), layout.journal_past());
    let long: String =
        (0..9_000).map(|n| format!("- line {n:05} of a long journal of many beats\n")).collect();
    let rotate = || logs::rotate_journal(&layout, clock::now()).unwrap();
    let begin = || {
        drop(fs::remove_dir_all(&past));
        fs::write(&journal, &long).unwrap();
    };
    for (nth, save) in (0..10).flat_map(|nth| [(nth, Save::ByRename), (nth, Save::InPlace)]) {
        begin();
        let mine = format!("mine {nth}\n");
        std::thread::scope(|scope| {
            let ready = Arc::new(Barrier::new(2));
            let (journal, mine, theirs) = (&journal, &mine, ready.clone());
            scope.spawn(move || save.aimed(journal, mine, nth, &theirs));
            ready.wait();
            rotate();
        });
        assert!(is_there(&journal, &mine), "{nth} {save:?}");
    }
    begin();
    let mut late = File::options().append(true).open(&journal).unwrap();
    rotate();
    assert_eq!(fs::read_dir(&past).unwrap().count(), 0, "each line is in one place");
    late.write_all(b"late\n").unwrap();
    drop(late);
    assert_eq!(fs::read_to_string(&journal).unwrap(), format!("{long}late\n"));
    rotate();
    let older = fs::read_dir(&past).unwrap().next().unwrap().unwrap().path();
    let both = fs::read_to_string(older).unwrap() + &fs::read_to_string(&journal).unwrap();
    assert_eq!(both, format!("{long}late\n"), "a later beat rotates it");
}

/// Runs a beat under strace, with these changes to its calls, and a save in the middle of it.
fn traced_tick(profile: &Profile, inject: &str, save: impl FnOnce()) -> Ran {
    let args = ["-qq", "-o", "trace", "-e", "trace=fsync,renameat2", "-e", inject, LOOOP, "tick"];
    let mut command = profile.other_command("strace", &args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    save();
    child.wait_with_output().unwrap().into()
}

fn has_strace() -> bool {
    Command::new("strace").arg("-V").output().is_ok()
}

#[test]
#[ignore = "slow"]
fn a_save_during_the_slow_write_of_a_beat_wins_and_the_move_is_refused() {
    if !has_strace() {
        return skipped("no strace");
    }
    let timer = json!({"move": "schedule", "name": "t", "in_s": 3600, "note": "n", "why": "w"});
    let goal = json!({"move": "write_goal", "id": "g", "body": "looop's", "why": "w"});
    let playbook = json!({"move": "write_playbook", "body": "looop's", "why": "w"});
    let sensor = json!({"move": "write_sensor", "name": "s", "script": "#!/bin/sh\n# looop's\n", "why": "w"});
    for (path, decided, save) in [
        ("goals/g.md", &goal, Save::ByRename),
        ("goals/g.md", &goal, Save::InPlace),
        ("schedules/t.json", &timer, Save::ByRename),
        ("PLAYBOOK.md", &playbook, Save::InPlace),
        ("sensors/s.sh", &sensor, Save::ByRename),
    ] {
        let profile = profile();
        profile.script(&[&decided.to_string(), NOOP]);
        free_all_moves(&profile);
        let target = profile.data().join(path);
        let ran = traced_tick(&profile, "inject=fsync:delay_enter=100000", || {
            wait_until("looop to write", || is_being_written(target.parent().unwrap()));
            save.aimed(&target, TIMER, 0, &Barrier::new(1));
        });
        is_refused(&profile, ran);
        assert_eq!(profile.read(path), TIMER, "{path} {save:?}");
        profile.looop(&["run", "g"]).ok();
        assert_eq!(profile.git(&["show", &format!("HEAD:{path}")]), TIMER);
        is_clean(&profile);
    }
}

#[test]
#[ignore = "slow"]
fn where_two_files_cannot_be_exchanged_the_move_waits_for_the_next_beat() {
    if !has_strace() {
        return skipped("no strace");
    }
    let goal = json!({"move": "write_goal", "id": "g", "body": "looop's", "why": "w"});
    for changes in [false, true] {
        let profile = profile();
        profile.script(&[&goal.to_string(), NOOP]);
        let ran = traced_tick(&profile, "inject=renameat2:error=EINVAL", || {}).ok();
        ran.prints(&["the move waits", "cannot exchange two files"]);
        assert_eq!(profile.read("goals/g.md"), "before\n");
        assert!(!profile.data().join("journal.md").exists(), "it is journaled once, when it is settled");
        profile.looop(&["status"]).ok().prints(&["a move waits for the next beat"]);
        if changes {
            profile.goal("g", "the human's\n");
        }
        traced_tick(&profile, "inject=renameat2:error=EINVAL", || {}).ok();
        let (text, word) =
            if changes { ("the human's\n", "changed by someone else") } else { ("looop's\n", "— done") };
        assert_eq!(profile.read("goals/g.md"), text);
        let journal = profile.read("journal.md");
        let lines: Vec<&str> = journal.lines().filter(|line| line.contains(" write_goal g ")).collect();
        assert!(lines.len() == 1 && lines[0].contains(word), "{journal}");
        profile.looop(&["run", "g"]).ok();
        is_clean(&profile);
    }
}

#[test]
#[ignore = "slow"]
fn what_a_killed_verb_left_is_settled_by_the_next_beat_and_reported() {
    for (path, mine) in [
        ("goals/g.md", "the human's\n"),
        ("PLAYBOOK.md", "the human's\n"),
        ("schedules/t.json", TIMER),
        ("sensors/s.sh", "#!/bin/sh\necho '{}'\n"),
    ] {
        let profile = profile();
        let change = looop::rules::exchange::FileChange {
            new: Some(exchange::digest_of(b"looop's\n")),
            seen: exchange::digest_of(b"before\n"),
        };
        let target = profile.data().join(path);
        let name = target.file_name().unwrap().as_encoded_bytes();
        let private = String::from_utf8(change.private_name(name).unwrap()).unwrap();
        // Killed between the exchange and the comparison, when a save had come out.
        let private = target.with_file_name(private);
        fs::write(&private, mine).unwrap();
        fs::set_permissions(&private, fs::metadata(&target).unwrap().permissions()).unwrap();
        fs::write(&target, "looop's\n").unwrap();
        profile.looop(&["tick"]).ok().warns(&[&format!("`{path}` has the text that it had before")]);
        assert_eq!(profile.read(path), mine);
        assert!(!private.exists());
        is_clean(&profile);
    }
}

#[test]
fn a_verb_refuses_to_replace_what_a_program_has_open_and_keeps_the_new_text() {
    let profile = profile();
    let rows: [(&str, &[&str]); 7] = [
        ("goals/g.md", &["goal", "write", "g", "new"]),
        ("goals/g.md", &["goal", "archive", "g"]),
        ("PLAYBOOK.md", &["playbook", "write", "new"]),
        ("schedules/t.json", &["schedule", "set", "t", "--in", "1h", "new"]),
        ("schedules/t.json", &["schedule", "remove", "t"]),
        ("sensors/s.sh", &["sensor", "archive", "s"]),
        ("sensors/s.sh", &["sensor", "add", "s"]),
    ];
    for (path, verb) in rows {
        let before = profile.read(path);
        let mut late = File::options().append(true).open(profile.data().join(path)).unwrap();
        let ran = profile.looop_with(verb, "#!/bin/sh\n").exits(1).warns(&["changed by someone else"]);
        late.write_all(b"\n").unwrap();
        drop(late);
        assert_eq!(profile.read(path), format!("{before}\n"), "{verb:?}");
        if let Some((_, draft)) = ran.stderr.split_once("your text is kept as ") {
            assert_eq!(fs::read_to_string(draft.trim()).unwrap(), "new\n");
        } else {
            assert!(!verb.contains(&"write"), "{ran:?}");
        }
    }
}
