//! Approvals and questions over their whole life: nothing that needs an approval is done without exactly that yes, once.

mod cover;
mod late;
mod policy;
mod screen;
mod worker;

use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, Profile, Ran, wait_until};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

const NOOP: &str = r#"{"move":"noop","why":"nothing to do"}"#;

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
    // Written anew rather than in place, as an editor or an attacker would.
    let aside = profile.path("aside");
    fs::write(&aside, text).unwrap();
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(aside, profile.path(name)).unwrap();
}

/// How often the program ran.
fn sunk(profile: &Profile) -> usize {
    fs::read_to_string(profile.path("work/sink")).map_or(0, |text| text.lines().count())
}

fn asks(profile: &Profile) -> Vec<Value> {
    profile.looop(&["asks", "--json"]).ok().json()["asks"].as_array().unwrap().clone()
}

/// Beats once and says yes to the one ask that is open then.
#[track_caller]
fn ask_and_approve(profile: &Profile) -> Value {
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains("waits for ap-"), "{ran:?}");
    let ask = asks(profile).pop().unwrap();
    approve(profile, &ask).ok();
    ask
}

fn approve(profile: &Profile, ask: &Value) -> Ran {
    profile.looop(&["approve", ask["id"].as_str().unwrap(), "--hash", ask["hash"].as_str().unwrap()])
}

#[test]
#[ignore = "slow"]
fn a_run_waits_for_exactly_its_approval_and_is_made_once() {
    let profile = profile(&["RUN", NOOP]);
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains("waits for ap-") && ran.stdout.contains("no rule allows it"), "{ran:?}");
    let all = asks(&profile);
    assert_eq!((all.len(), sunk(&profile)), (1, 0));
    let ask = &all[0];
    let work = fs::canonicalize(profile.path("work")).unwrap();
    assert_eq!((&ask["kind"], &ask["state"]), (&json!("approval"), &json!("open")));
    assert_eq!(ask["argv"], json!(["./sink.sh", "input.txt"]));
    assert_eq!(ask["cwd"], json!(work));
    assert_eq!(ask["move"]["why"], "it is wanted");
    assert_eq!((ask["hash"].as_str().unwrap().len(), ask["text"].as_str()), (64, Some("it is wanted")));
    for key in ["worker", "goal", "options", "ref", "diff", "created", "expires"] {
        assert!(ask.get(key).is_some(), "{key} is a part of the form");
    }
    let shown = profile.looop(&["asks"]).ok().stdout;
    let id = ask["id"].as_str().unwrap();
    let program = format!("program  {}", work.join("./sink.sh").display());
    let level = profile.looop(&["status", "--json"]).ok().json()["sandbox"]["run"].clone();
    let level = format!("sandbox  {}", level.as_str().unwrap());
    for part in [
        id,
        &level,
        "command  ./sink.sh input.txt",
        &program,
        "PATH HOME",
        "input.txt ",
        ask["hash"].as_str().unwrap(),
        "expires  in 23h",
        &format!("in       {}", work.display()),
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(profile.looop(&["status"]).ok().stdout.contains(&format!("1 waiting: {id}")));
    let blind = profile.looop(&["approve", id]);
    assert!(blind.code == 2 && blind.stderr.contains("hint: read `looop asks`"), "{blind:?}");
    let wrong = profile.looop(&["approve", id, "--hash", &"0".repeat(64)]);
    assert!(wrong.code == 1 && wrong.stderr.contains("the hash is not the one of this move"), "{wrong:?}");
    assert_eq!(asks(&profile).len(), 1);
    approve(&profile, ask).ok();
    assert_eq!((sunk(&profile), profile.asked()), (0, 1), "an approval alone runs nothing");
    let again = approve(&profile, ask);
    assert!(again.code == 1 && again.stderr.contains("it is approved already"), "{again:?}");
    let made = profile.looop(&["tick"]).ok();
    assert!(made.stdout.contains("run ./sink.sh input.txt — exit 0"), "{made:?}");
    assert_eq!((sunk(&profile), profile.asked()), (1, 1), "no runner is called for it");
    let seen = profile.looop(&["tick", "--dry-run"]).ok().stdout;
    assert!(seen.contains("ran input.txt"), "the next decision sees what it printed");
    profile.looop(&["tick"]).ok();
    profile.looop(&["tick"]).ok();
    assert_eq!((sunk(&profile), profile.asked()), (1, 2));
    assert!(asks(&profile).is_empty());
    assert_eq!(approve(&profile, ask).code, 2, "it is used up");
    assert_eq!(profile.read("journal.md").matches("exit 0 in").count(), 1);
}

#[test]
fn a_no_is_shown_and_keeps_the_same_request_away() {
    let profile = profile(&["RUN", "RUN", "RUN", NOOP]);
    profile.looop(&["tick"]).ok();
    let id = asks(&profile)[0]["id"].as_str().unwrap().to_owned();
    let printed = profile.looop(&["reject", &id, "not", "on", "my", "watch"]).ok();
    assert!(printed.stdout.contains("refused for a day"), "{printed:?}");
    let prompt = profile.looop(&["tick", "--dry-run"]).ok().stdout;
    assert!(prompt.contains("not on my watch") && prompt.contains(r#""state":"rejected""#), "{prompt}");
    // The very beat that learns of the no, and the ones after it.
    for _ in 0..2 {
        let ran = profile.looop(&["tick"]).ok();
        assert!(ran.stdout.contains("refused: the user") && ran.stdout.contains("rejected"), "{ran:?}");
        assert!(asks(&profile).is_empty());
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
    let id = asks(&profile)[0]["id"].as_str().unwrap().to_owned();
    let again = profile.looop(&["tick"]).ok();
    assert!(again.stdout.contains(&format!("waits for {id}")), "{again:?}");
    assert_eq!(asks(&profile).len(), 1);
    profile.looop(&["reject", &id]).ok();
    for round in 2..5 {
        let ran = profile.looop(&["tick"]).ok();
        assert!(ran.stdout.contains("refused: the user rejected exactly this"), "{round}: {ran:?}");
        assert!(asks(&profile).is_empty());
    }
}

#[test]
fn the_same_request_is_the_same_ask() {
    let profile = profile(&["RUN"]);
    let first = profile.looop(&["tick"]).ok();
    let second = profile.looop(&["tick"]).ok();
    let id = asks(&profile)[0]["id"].as_str().unwrap().to_owned();
    for ran in [first, second] {
        assert!(ran.stdout.contains(&format!("waits for {id}")), "{ran:?}");
    }
    assert_eq!((asks(&profile).len(), profile.asked()), (1, 2));
    let third = profile.looop(&["tick"]).ok();
    assert!(third.stdout.contains("idle"), "wishing it again is not paid for again: {third:?}");
}

/// Something that happens between an approval and its beat.
type Change = fn(&Profile);

#[test]
#[ignore = "slow"]
fn a_yes_is_void_when_anything_it_covered_has_changed() {
    let changes: [(&str, Change); 7] = [
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
        assert_eq!((sunk(&profile), asks(&profile).len()), (0, 0), "{what}");
    }
}

#[test]
#[ignore = "slow"]
fn an_ask_expires_and_so_does_its_yes() {
    let profile = profile(&["RUN", "RUN", "RUN", NOOP]);
    profile.config_more(json!({ "limits": { "approval_ttl": "1s" } }));
    profile.looop(&["tick"]).ok();
    wait_until("the ask to expire", || asks(&profile).is_empty());
    let all = profile.looop(&["asks", "--all", "--json"]).ok().json();
    assert_eq!(all["asks"][0]["state"], "expired");
    let late = approve(&profile, &all["asks"][0]);
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
        let ran = profile.looop(&["tick"]).ok();
        assert!(
            ran.stdout.contains("refused: something that the approval covered has changed since"),
            "{ran:?}"
        );
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
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains("refused: 20 approvals are open already"), "{ran:?}");
    let all = asks(&profile);
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
    let id = asks(&profile)[0]["id"].as_str().unwrap().to_owned();
    (profile, id)
}

#[test]
#[ignore = "slow"]
fn a_question_is_answered_once_in_any_form() {
    let rows: [(&[&str], &str, &str); 5] = [
        (&["blue, rather"], "", "blue, rather"),
        (&["2"], "", "green"),
        (&["7"], "", "7"),
        (&["-"], "from stdin\n", "from stdin"),
        (&[], "piped\n", "piped"),
    ];
    for (args, stdin, expected) in rows {
        let (profile, id) = question();
        let listed = profile.looop(&["asks"]).ok().stdout;
        assert!(listed.contains("2) green") && listed.contains("about: paint"), "{listed}");
        let prefix = &id[..id.len() - 2];
        let args: Vec<&str> = ["answer", prefix].iter().chain(args).copied().collect();
        profile.looop_with(&args, stdin).ok();
        let twice = profile.looop(&["answer", &id, "again"]);
        assert!(twice.code == 1 && twice.stderr.contains("it is answered already"), "{twice:?}");
        let prompt = profile.looop(&["tick", "--dry-run"]).ok().stdout;
        assert!(prompt.contains(&format!(r#""answer":"{expected}""#)), "{prompt}");
        assert!(profile.looop(&["tick"]).ok().stdout.contains(" noop "), "an answer wakes");
        assert!(profile.looop(&["tick"]).ok().stdout.contains("idle"), "once");
        let archive = fs::read_dir(profile.data().join("asks/archive")).unwrap().count();
        assert_eq!((archive, asks(&profile).len()), (2, 0), "ask and answer are put away");
        assert_eq!(profile.git(&["status", "--porcelain"]), "");
    }
}

#[test]
fn an_answer_that_cannot_be_meant_changes_nothing() {
    let (profile, id) = question();
    for (args, stdin) in
        [(&["answer", &id][..], ""), (&["answer", &id, "-"], " \n"), (&["answer", &id, ""], "")]
    {
        let ran = profile.looop_with(args, stdin);
        assert!(ran.code == 2 && ran.stderr.contains("the answer is empty"), "{ran:?}");
    }
    let long = profile.looop_with(&["answer", &id, "-"], &"x".repeat(9000));
    assert!(long.code == 2 && long.stderr.contains("longer than"), "{long:?}");
    let approve = profile.looop(&["approve", &id]);
    assert!(approve.code == 2 && approve.stderr.contains("hint: use `looop answer`"), "{approve:?}");
    assert_eq!(profile.looop(&["reject", &id]).code, 2);
    let unknown = profile.looop(&["answer", "nosuch", "x"]);
    assert!(unknown.code == 2 && unknown.stderr.contains(&format!("there are: {id}")), "{unknown:?}");
    assert_eq!(asks(&profile).len(), 1);
    let other = r#"{"move":"ask","text":"And which size?","why":"x"}"#;
    profile.script(&[other, NOOP]);
    fs::remove_file(profile.path("script/replies.count")).unwrap();
    profile.goal("g", "a change\n");
    profile.looop(&["tick"]).ok();
    let both = profile.looop(&["answer", "ask", "x"]);
    assert!(both.code == 2 && both.stderr.contains("is not unique") && both.stderr.contains(&id), "{both:?}");
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
    let id = asks(&profile)[0]["id"].as_str().unwrap().to_owned();
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
