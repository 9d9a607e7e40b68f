//! Approvals and questions over their whole life: nothing that needs an approval is done without exactly that yes, once.

mod cover;
mod late;
mod policy;
mod screen;
mod worker;

use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, NOOP, Profile, Ran, wait_until};
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::{fs, path::Path};

/// A profile with a program `work/sink.sh` that notes each run, and these replies; `RUN` stands for the move
/// that runs it.
fn profile(replies: &[&str]) -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    fs::create_dir(profile.path("work")).unwrap();
    program(&profile, "work/sink.sh", "echo ran \"$@\"");
    fs::write(profile.path("work/input.txt"), "as it was\n").unwrap();
    let run = run(&profile, &["./sink.sh", "input.txt"]);
    let replies: Vec<&str> =
        replies.iter().map(|reply| if *reply == "RUN" { run.as_str() } else { reply }).collect();
    profile.script(&replies);
    profile
}

fn run(profile: &Profile, argv: &[&str]) -> String {
    json!({ "move": "run", "argv": argv, "cwd": profile.path("work"), "why": "it is wanted" }).to_string()
}

fn program(profile: &Profile, name: &str, body: &str) {
    let text = format!("#!/bin/sh\n{body}\necho \"$@\" >> {}\n", profile.path("work/sink").display());
    executable(&profile.path(name), &text);
}

/// Writes an executable in the place of another: anew, as an editor or an attacker would.
fn executable(path: &Path, text: &str) {
    let aside = path.with_extension("aside");
    crate::support::profile::program(&aside, text);
    fs::rename(aside, path).unwrap();
}

/// How often the program ran.
fn sunk(profile: &Profile) -> usize {
    fs::read_to_string(profile.path("work/sink")).map_or(0, |text| text.lines().count())
}

/// One kind of change between an approval and the move.
type Swap = fn(&Profile);

/// Has the decider ask for its move, and returns what waits for the user then.
#[track_caller]
fn waiting(profile: &Profile, what: &str) -> Value {
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains("waits for ap-"), "{what}: {ran:?}");
    profile.asks().pop().unwrap()
}

/// Beats once and says yes to the one ask that is open then.
#[track_caller]
fn ask_and_approve(profile: &Profile) -> Value {
    let ask = waiting(profile, "an approval");
    profile.approve(&ask).ok();
    ask
}

#[test]
#[ignore = "slow"]
fn a_run_waits_for_exactly_its_approval_and_is_made_once() {
    let profile = profile(&["RUN", NOOP]);
    profile.looop(&["tick"]).ok().prints(&["waits for ap-", "no rule allows it"]);
    let all = profile.asks();
    assert_eq!((all.len(), sunk(&profile)), (1, 0));
    let ask = &all[0];
    let [id, hash] = ["id", "hash"].map(|key| ask[key].as_str().unwrap());
    let work = fs::canonicalize(profile.path("work")).unwrap();
    assert_eq!((&ask["kind"], &ask["state"]), (&json!("approval"), &json!("open")));
    assert_eq!(ask["argv"], json!(["./sink.sh", "input.txt"]));
    assert_eq!(ask["cwd"], json!(work));
    assert_eq!(ask["move"]["why"], "it is wanted");
    assert_eq!((hash.len(), ask["text"].as_str()), (64, Some("it is wanted")));
    for key in ["worker", "goal", "options", "ref", "diff", "created_ms", "expires_ms"] {
        assert!(ask.get(key).is_some(), "{key} is a part of the form");
    }
    let program = format!("program  {}", work.join("./sink.sh").display());
    let level = profile.looop(&["status", "--json"]).ok().json()["sandbox"]["run"].clone();
    let level = format!("sandbox  {}", level.as_str().unwrap());
    let place = format!("in       {}", work.display());
    let parts =
        [id, &level, "command  ./sink.sh input.txt", &program, "PATH HOME", "input.txt ", hash, &place];
    profile.looop(&["asks"]).ok().prints(&parts).prints(&["expires  in 23h"]);
    assert!(profile.looop(&["status"]).ok().stdout.contains(&format!("1 waiting: {id}")));
    profile.looop(&["approve", id]).exits(2).warns(&["hint: read `looop asks`"]);
    let wrong = profile.looop(&["approve", id, "--hash", &"0".repeat(64)]);
    assert!(wrong.code == 1 && wrong.stderr.contains("the hash is not the one of this move"), "{wrong:?}");
    assert_eq!(profile.asks().len(), 1);
    profile.approve(ask).ok();
    assert_eq!((sunk(&profile), profile.asked()), (0, 1), "an approval alone runs nothing");
    let again = profile.approve(ask);
    assert!(again.code == 1 && again.stderr.contains("it is approved already"), "{again:?}");
    profile.looop(&["tick"]).ok().prints(&["run ./sink.sh input.txt — exit 0"]);
    assert_eq!((sunk(&profile), profile.asked()), (1, 1), "no runner is called for it");
    let seen = profile.looop(&["tick", "--dry-run"]).ok().stdout;
    assert!(seen.contains("ran input.txt"), "the next decision sees what it printed");
    profile.looop(&["tick"]).ok();
    profile.looop(&["tick"]).ok();
    assert_eq!((sunk(&profile), profile.asked()), (1, 2));
    assert!(profile.asks().is_empty());
    assert_eq!(profile.approve(ask).code, 2, "it is used up");
    assert_eq!(profile.read("journal.md").matches("exit 0 in").count(), 1);
}

#[test]
fn a_no_is_shown_and_keeps_the_same_request_away() {
    let profile = profile(&["RUN", "RUN", "RUN", NOOP]);
    profile.looop(&["tick"]).ok();
    let id = profile.asks()[0]["id"].as_str().unwrap().to_owned();
    profile.looop(&["reject", &id, "not", "on", "my", "watch"]).ok().prints(&["refused for a day"]);
    profile.looop(&["tick", "--dry-run"]).ok().prints(&["not on my watch", r#""state":"rejected""#]);
    // The very beat that learns of the no, and the ones after it.
    for _ in 0..2 {
        profile.looop(&["tick"]).ok().prints(&["refused: the user", "rejected"]);
        assert!(profile.asks().is_empty());
        assert!(!profile.looop(&["tick", "--dry-run"]).ok().stdout.contains("not on my watch"), "said once");
    }
    profile.looop(&["tick"]).ok();
    assert_eq!(sunk(&profile), 0);
}

#[test]
fn a_request_with_other_wording_is_the_same_request() {
    let profile = profile(&[NOOP]);
    profile.goal("g", "goal: g\n");
    let plain: Value = serde_json::from_str(&run(&profile, &["./sink.sh"])).unwrap();
    let here = json!(profile.path("work").join("."));
    let urgent = json!("now it is urgent");
    let reworded = [("why", urgent), ("goal", json!("g")), ("next_beat_s", json!(60)), ("cwd", here)];
    let wishes = reworded.into_iter().map(|(key, value)| {
        let mut request = plain.clone();
        request[key] = value;
        request.to_string()
    });
    let wishes: Vec<String> = std::iter::once(plain.to_string()).chain(wishes).collect();
    profile.script(&wishes.iter().map(String::as_str).collect::<Vec<_>>());
    profile.looop(&["tick"]).ok();
    let id = profile.asks()[0]["id"].as_str().unwrap().to_owned();
    profile.looop(&["tick"]).ok().prints(&[&format!("waits for {id}")]);
    assert_eq!(profile.asks().len(), 1);
    profile.looop(&["reject", &id]).ok();
    for round in 2..5 {
        let ran = profile.looop(&["tick"]).ok();
        assert!(ran.stdout.contains("refused: the user rejected exactly this"), "{round}: {ran:?}");
        assert!(profile.asks().is_empty());
    }
}

#[test]
fn the_same_request_is_the_same_ask() {
    let profile = profile(&["RUN"]);
    let first = profile.looop(&["tick"]).ok();
    let second = profile.looop(&["tick"]).ok();
    let id = profile.asks()[0]["id"].as_str().unwrap().to_owned();
    for ran in [first, second] {
        assert!(ran.stdout.contains(&format!("waits for {id}")), "{ran:?}");
    }
    assert_eq!((profile.asks().len(), profile.asked()), (1, 2));
    let third = profile.looop(&["tick"]).ok();
    assert!(third.stdout.contains("idle"), "wishing it again is not paid for again: {third:?}");
}

#[test]
#[ignore = "slow"]
fn a_yes_is_void_when_anything_it_covered_has_changed() {
    let changes: [(&str, Swap); 7] = [
        ("a file that argv names", |p| fs::write(p.path("work/input.txt"), "as it is now\n").unwrap()),
        ("the file is gone", |p| fs::remove_file(p.path("work/input.txt")).unwrap()),
        ("the executable", |p| program(p, "work/sink.sh", "echo evil")),
        ("the executable is a link", |p| {
            program(p, "work/evil.sh", "echo evil");
            fs::remove_file(p.path("work/sink.sh")).unwrap();
            symlink("evil.sh", p.path("work/sink.sh")).unwrap();
        }),
        ("the executable is gone", |p| fs::remove_file(p.path("work/sink.sh")).unwrap()),
        ("the directory is a link", |p| {
            fs::rename(p.path("work"), p.path("elsewhere")).unwrap();
            symlink("elsewhere", p.path("work")).unwrap();
        }),
        ("the directory is gone", |p| fs::remove_dir_all(p.path("work")).unwrap()),
    ];
    for (what, change) in changes {
        let profile = profile(&["RUN", NOOP]);
        ask_and_approve(&profile);
        change(&profile);
        let ran = profile.looop(&["tick"]).ok();
        assert!(ran.stdout.contains("run ./sink.sh input.txt — refused: "), "{what}: {ran:?}");
        assert!(ran.stdout.contains("changed since") || what.ends_with("gone"), "{what}: {ran:?}");
        profile.looop(&["tick"]).ok();
        assert_eq!((sunk(&profile), profile.asks().len()), (0, 0), "{what}");
    }
}

#[test]
#[ignore = "slow"]
fn an_ask_expires_and_so_does_its_yes() {
    let profile = profile(&["RUN", "RUN", "RUN", NOOP]);
    profile.config_more(json!({ "limits": { "approval_ttl": "1s" } }));
    profile.looop(&["tick"]).ok();
    wait_until("the ask to expire", || profile.asks().is_empty());
    let all = profile.looop(&["asks", "--all", "--json"]).ok().json();
    assert_eq!(all["asks"][0]["state"], "expired");
    let late = profile.approve(&all["asks"][0]);
    assert!(late.code == 1 && late.stderr.contains("it is expired already"), "{late:?}");
    let expired = r#""state":"expired""#;
    assert!(profile.looop(&["tick", "--dry-run"]).ok().stdout.contains(expired));
    // The beat that learns of it cannot wait for what is just put away.
    let ran = profile.looop(&["tick"]).ok();
    assert!(!ran.stdout.contains("waits for"), "{ran:?}");
    assert!(!profile.looop(&["tick", "--dry-run"]).ok().stdout.contains(expired), "said once");
    // An approval that was given in time and not used in time is void too.
    profile.config_more(json!({ "limits": { "approval_ttl": "4s" } }));
    let ask = ask_and_approve(&profile);
    let state = || profile.looop(&["asks", "--all", "--json"]).ok().json()["asks"][0]["state"].clone();
    assert_eq!(state(), "approved", "{ask}");
    wait_until("the approval to expire", || state() == "expired");
    profile.looop(&["tick"]).ok();
    profile.looop(&["tick"]).ok();
    assert_eq!(sunk(&profile), 0);
}

#[test]
#[ignore = "slow"]
fn a_write_of_playbook_or_sensor_waits_and_shows_its_diff() {
    let playbook = r#"{"move":"write_playbook","body":"Be bold.\n","why":"x"}"#;
    let sensor = r##"{"move":"write_sensor","name":"disk","script":"#!/bin/sh\n# looop: trust=trusted\necho '{}'\n","why":"x"}"##;
    for (decided, path, added) in
        [(playbook, "PLAYBOOK.md", "+Be bold."), (sensor, "sensors/disk.sh", "+echo '{}'")]
    {
        let profile = Profile::scripted(&[decided, NOOP]);
        fs::write(profile.data().join("PLAYBOOK.md"), "Be kind.\n").unwrap();
        let before = fs::read_to_string(profile.data().join(path)).ok();
        let ask = ask_and_approve(&profile);
        let diff = ask["diff"].as_str().unwrap();
        assert!(diff.contains(added) && diff.contains(path), "{diff}");
        assert_eq!(fs::read_to_string(profile.data().join(path)).ok(), before, "not before the next beat");
        profile.looop(&["tick"]).ok();
        let text = profile.read(path);
        assert!(text.contains(&added[1..]), "{text}");
        if path.starts_with("sensors") {
            assert!(text.starts_with("#!/bin/sh\n# looop: trust=untrusted\n"), "{text}");
            assert!(fs::metadata(profile.data().join(path)).unwrap().permissions().mode() & 0o100 != 0);
        }
        assert_eq!(profile.git(&["status", "--porcelain"]), "");
    }
    for (decided, path) in [(playbook, "PLAYBOOK.md"), (sensor, "sensors/disk.sh")] {
        let profile = Profile::scripted(&[decided, NOOP]);
        ask_and_approve(&profile);
        fs::write(profile.data().join(path), "mine now\n").unwrap();
        profile
            .looop(&["tick"])
            .ok()
            .prints(&["refused: something that the approval covered has changed since"]);
        assert_eq!(profile.read(path), "mine now\n");
    }
}

#[test]
#[ignore = "slow"]
fn at_most_twenty_are_open() {
    let profile = Profile::scripted(&[NOOP]);
    let wishes: Vec<String> =
        (0..22).map(|n| format!(r#"{{"move":"run","argv":["true","{n}"],"why":"x"}}"#)).collect();
    profile.script(&wishes.iter().map(String::as_str).collect::<Vec<_>>());
    for _ in 0..20 {
        assert!(profile.looop(&["tick"]).ok().stdout.contains("waits for ap-"));
    }
    profile.looop(&["tick"]).ok().prints(&["refused: 20 approvals are open already"]);
    let all = profile.asks();
    assert_eq!(all.len(), 20);
    profile.looop(&["reject", all[0]["id"].as_str().unwrap()]).ok();
    assert!(profile.looop(&["tick"]).ok().stdout.contains("waits for ap-"), "one less, one more");
}

/// A profile with one open question that has options, and the question's id.
fn question() -> (Profile, String) {
    let ask = r#"{"move":"ask","text":"Which one?","options":["red","green"],"ref":"paint","why":"x"}"#;
    let profile = Profile::scripted(&[ask, NOOP]);
    profile.looop(&["tick"]).ok();
    profile.looop(&["tick"]).ok();
    assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"), "an open question does not wake");
    let id = profile.asks()[0]["id"].as_str().unwrap().to_owned();
    (profile, id)
}

#[test]
#[ignore = "slow"]
fn a_question_is_answered_once_in_any_form() {
    let rows: [(&[&str], &str, &str); 5] = [
        (&["blue,", "rather"], "", "blue, rather"),
        (&["2"], "", "green"),
        (&["7 o'clock"], "", "7 o'clock"),
        (&["-"], "from stdin\n", "from stdin"),
        (&[], "piped\n", "piped"),
    ];
    for (args, stdin, expected) in rows {
        let (profile, id) = question();
        profile.looop(&["asks"]).ok().prints(&["2) green", "about: paint"]);
        let prefix = &id[..id.len() - 2];
        let args: Vec<&str> = ["answer", prefix].iter().chain(args).copied().collect();
        profile.looop_with(&args, stdin).ok();
        profile.looop(&["answer", &id, "again"]).exits(1).warns(&["it is answered already"]);
        profile.looop(&["tick", "--dry-run"]).ok().prints(&[&format!(r#""answer":"{expected}""#)]);
        assert!(profile.looop(&["tick"]).ok().stdout.contains(" noop "), "an answer wakes");
        assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"), "once");
        let archive = fs::read_dir(profile.data().join("asks/archive")).unwrap().count();
        assert_eq!((archive, profile.asks().len()), (2, 0), "the ask and its answer are archived");
        assert_eq!(profile.git(&["status", "--porcelain"]), "");
    }
}

#[test]
fn the_only_open_ask_needs_no_id() {
    let (profile, id) = question();
    profile.looop(&["approve"]).exits(2).warns(&["no open approval waits for you"]);
    profile.looop(&["answer", "2"]).ok().prints(&[&format!("answered {id}: green")]);
    profile.looop(&["answer", "2"]).exits(2).warns(&["no open question waits for you"]);
    let run = |what: &str| format!(r#"{{"move":"run","argv":["date","{what}"],"why":"w"}}"#);
    let profile = Profile::scripted(&[&run("+%s"), &run("+%Y"), NOOP]);
    profile.looop(&["tick"]).ok();
    profile.looop(&["approve"]).exits(2).warns(&["there is no terminal"]);
    profile.goal("g", "goal: more\n");
    profile.looop(&["tick"]).ok();
    let ids: Vec<String> = profile.asks().iter().map(|ask| ask["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2);
    let both = profile.looop(&["deny", "later"]).exits(2).stderr;
    assert!(ids.iter().all(|id| both.contains(id.as_str())) && both.contains("2 are open"), "{both}");
    profile.looop(&["deny", &ids[0]]).ok();
    profile.looop(&["deny", "later"]).ok().prints(&[&format!("rejected {}", ids[1])]);
}

#[test]
fn an_answer_that_cannot_be_meant_changes_nothing() {
    let (profile, id) = question();
    for (args, stdin) in
        [(&["answer", &id][..], ""), (&["answer", &id, "-"], " \n"), (&["answer", &id, ""], "")]
    {
        profile.looop_with(args, stdin).exits(2).warns(&["the answer is empty"]);
    }
    profile.looop_with(&["answer", &id, "-"], &"x".repeat(9000)).exits(2).warns(&["longer than"]);
    profile.looop(&["approve", &id]).exits(2).warns(&["hint: use `looop answer`"]);
    assert_eq!(profile.looop(&["reject", &id]).code, 2);
    profile.looop(&["answer", &id, "3"]).exits(2).warns(&["there is no option 3 (1 to 2)"]);
    profile.looop(&["answer", &id, "0"]).exits(2).warns(&["there is no option 0 (1 to 2)"]);
    // A mistyped id is not an answer.
    profile.looop(&["answer", "q-nosuch"]).exits(2).warns(&[&format!("there are: {id}")]);
    profile.looop(&["answer", "nosuch", "x"]).exits(2).warns(&[&format!("there are: {id}")]);
    assert_eq!(profile.asks().len(), 1);
    let other = r#"{"move":"ask","text":"And which size?","why":"x"}"#;
    profile.script(&[other, NOOP]);
    fs::remove_file(profile.path("script/replies.count")).unwrap();
    profile.goal("g", "a change\n");
    profile.looop(&["tick"]).ok();
    profile.looop(&["answer", "ask", "x"]).exits(2).warns(&["is not unique", &id]);
}

#[test]
fn of_two_answers_at_once_one_wins() {
    let (profile, id) = question();
    let answer = |n: usize| {
        let text = format!("answer {n}");
        profile.command(&["answer", &id, &text]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = (0..8).map(answer).collect();
    let codes: Vec<i32> =
        children.into_iter().map(|mut child| child.wait().unwrap().code().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    let winner = codes.iter().position(|code| *code == 0).unwrap();
    let answer = profile.read_json(&format!("asks/{id}.answer.json"));
    assert_eq!(answer["said"]["answer"]["text"], format!("answer {winner}"));
}

#[test]
fn on_a_terminal_the_move_is_shown_in_full_first() {
    let can = Command::new("script").args(["-qec", "true", "/dev/null"]).stdin(Stdio::null()).output();
    if !can.is_ok_and(|output| output.status.success()) {
        return skipped("there is no `script` to make a terminal with");
    }
    let profile = profile(&["RUN", NOOP]);
    profile.looop(&["tick"]).ok();
    let id = profile.asks()[0]["id"].as_str().unwrap().to_owned();
    for (typed, code, printed) in
        [("n\n", 1, "nothing was approved"), ("\n", 1, "nothing was approved"), ("y\n", 0, "approved ap-")]
    {
        let looop = profile.command(&[]);
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{LOOOP} approve {id}"), "/dev/null"]).env_clear();
        command.envs(looop.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.as_ref().unwrap(), typed.as_bytes()).unwrap();
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert!(ran.code == code && ran.stdout.contains(printed), "{typed:?}: {ran:?}");
        assert!(ran.stdout.contains("./sink.sh input.txt") && ran.stdout.contains("[y/N]"), "{ran:?}");
    }
    profile.looop(&["tick"]).ok();
    assert_eq!(sunk(&profile), 1);
}
