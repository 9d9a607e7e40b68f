//! The blocks of the documents run: all shell of a page in order and in one home, each script by itself, each config loaded.
//!
//! What cannot run here says so in its info string, `sh no-run=REASON`, with one of [`REASONS`].

use std::process::{Command, Stdio};
use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use super::{Block, Page, ROOT, pages};
use crate::support::profile::{LOOOP, Profile, Ran, git_in, program};

/// Why a block is not run, and how many blocks may say so.
const REASONS: [(&str, &str, usize); 5] = [
    ("terminal", "it needs a person at a terminal, or runs until it is stopped", 6),
    ("gate", "it builds, installs or tests looop itself, which the gate does", 11),
    ("elsewhere", "it needs another machine, or the system's service manager", 3),
    ("model", "it asks a real model, or needs an agent program that is logged in", 3),
    ("ids", "its ids and hashes are those of another moment", 3),
];

/// What the decider answers, the last one again and again.
const REPLIES: [&str; 2] = [
    r#"{"move":"ask","text":"What comes first?","options":["the release","the tax form"],"why":"nothing says so"}"#,
    r#"{"move":"noop","why":"the next step is the user's"}"#,
];
/// An agent that mends the project.
const AGENT: &str =
    "#!/bin/sh\ncat >/dev/null\n[ ! -d src ] || echo 'fixed' > src/dates.py\necho 'it is mended'\n";
/// What stands for the project's tests.
const PYTEST: &str = "#!/bin/sh\nif grep -q fixed src/dates.py; then echo '1 passed in 0.01s'; exit 0; fi\n\
                      echo 'FAILED tests/test_dates.py::test_year - no year'; echo '1 failed in 0.01s'; exit 1\n";
/// What stands for an agent in a terminal.
const WORKER: &str = "#!/bin/sh\necho 'I am at work'\nexec sleep 600\n";

/// A reader's home: looop on the PATH, a project with a failing test in `~/src/app`, a runner, an agent, and a clone of
/// looop as the working directory.
pub(super) fn home(page: &str) -> Profile {
    let mut profile = Profile::empty();
    profile.script(&REPLIES);
    for dir in ["bin", "clone", "home/src/app/src", "home/src/app/tests", "home/notes/inbox", "home/.config"]
    {
        fs::create_dir_all(profile.path(dir)).unwrap();
    }
    for dir in [".local/share/bash-completion/completions", ".local/share/man", ".local/state"] {
        fs::create_dir_all(profile.path("home").join(dir)).unwrap();
    }
    symlink(LOOOP, profile.path("bin/looop")).unwrap();
    program(profile.path("bin/pytest"), PYTEST);
    program(profile.path("bin/agent"), AGENT);
    program(profile.path("bin/worker"), WORKER);
    for entry in fs::read_dir(ROOT).unwrap().flatten().filter(|entry| entry.file_name() != "target") {
        symlink(entry.path(), profile.path("clone").join(entry.file_name())).unwrap();
    }
    let app = profile.path("home/src/app");
    fs::write(app.join("src/dates.py"), "def parse(text):\n    return text\n").unwrap();
    fs::write(app.join("tests/test_dates.py"), "def test_year():\n    assert False\n").unwrap();
    git_in(&app, &["init", "-q"]);
    git_in(&app, &["add", "-A"]);
    git_in(&app, &["commit", "-qm", "one"]);
    fs::write(profile.path("home/error.txt"), "src/dates.py:2: error: no year\n").unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", profile.path("bin").display());
    profile.config_more(json!({
        "path": path, "worker": "hands", "fix": { "runner": "hands" }, "verify": { "tests": ["true"] },
        "runners": {
            "scripted": profile.scripted_runner(),
            "hands": { "worker": ["worker", "{brief}"], "fix": ["agent"] },
        },
    }));
    profile.without_sandbox(&["worker", "verify"]);
    profile.var("PATH", &path);
    profile.var("PAGE", page);
    profile.looop(&["init"]).ok();
    profile
}

/// Runs lines of a page as its reader would. `BEAT` stands for the newest beat.
fn shell(profile: &Profile, text: &str) -> Ran {
    let journal = profile.looop(&["log", "-n", "1", "--json"]);
    let newest = match journal.code {
        0 => journal.json()["lines"][0]["beat"].as_str().unwrap_or("BEAT").to_owned(),
        _ => "BEAT".to_owned(),
    };
    let text = text.replace(" BEAT", &format!(" {newest}"));
    let mut sh = profile.other_command("sh", &["-eux", "-c", &text]);
    sh.current_dir(profile.path("clone")).stdin(Stdio::null()).output().unwrap().into()
}

/// Runs a script that a page shows; what it prints is JSON.
fn script(profile: &Profile, text: &str) -> Ran {
    let path = profile.path("bin/script");
    program(&path, text);
    let ran: Ran = profile.other_command(path.to_str().unwrap(), &[]).output().unwrap().into();
    let ran = ran.ok();
    assert!(ran.json().is_object(), "{ran:?}");
    ran
}

/// Whether a block is run, or why not.
fn reason<'a>(page: &Page, block: &Block<'a>) -> Option<&'a str> {
    let reason = block.info.split(' ').find_map(|word| word.strip_prefix("no-run="))?;
    let is_known = REASONS.iter().any(|(known, _, _)| *known == reason);
    assert!(is_known, "{}:{}: {reason:?} is no reason", page.path, block.line);
    Some(reason)
}

#[test]
fn every_shell_block_runs_or_says_why_not() {
    let (mut ran, mut marked) = (0, BTreeMap::<&str, Vec<String>>::new());
    let pages = pages();
    for page in &pages {
        let (blocks, _) = page.parts();
        let blocks: Vec<&Block> =
            blocks.iter().filter(|block| block.info.split(' ').next() == Some("sh")).collect();
        let profile = home(&page.path);
        for block in blocks {
            if let Some(reason) = reason(page, block) {
                marked.entry(reason).or_default().push(format!("{}:{}", page.path, block.line));
                continue;
            }
            let done = match block.text.starts_with("#!") {
                true => script(&profile, &block.text),
                false => shell(&profile, &block.text),
            };
            assert_eq!(done.code, 0, "{}:{}\n{}\n{}", page.path, block.line, done.stdout, done.stderr);
            ran += 1;
        }
    }
    let skipped: usize = marked.values().map(Vec::len).sum();
    println!("{ran} blocks ran, {skipped} are marked");
    for (name, why, most) in REASONS {
        let places = marked.remove(name).unwrap_or_default();
        println!("  {name} ({why}): {}", places.join(", "));
        assert!(places.len() <= most, "{} blocks are marked {name}, {most} may be", places.len());
    }
    assert!(ran >= 25, "only {ran} blocks run");
}

#[test]
fn every_config_that_a_page_shows_is_one() {
    let mut seen = 0;
    for page in pages().iter().filter(|page| page.path != "CHANGELOG.md") {
        for block in page.parts().0.iter().filter(|block| block.info.starts_with("json")) {
            let value: Value = serde_json::from_str(&block.text)
                .unwrap_or_else(|error| panic!("{}:{}: {error}", page.path, block.line));
            // What a command of the reader gets on its stdin is no config.
            if block.info.contains("notice") {
                continue;
            }
            if block.info.contains("move") {
                let read = looop::rules::beat::decision::parse_reply(&block.text);
                assert!(read.is_ok(), "{}:{}: {read:?}", page.path, block.line);
                continue;
            }
            let profile = Profile::empty();
            profile.config(value);
            let found = profile.looop(&["doctor", "--json"]).json()["findings"].clone();
            let config =
                found.as_array().unwrap().iter().find(|finding| finding["what"] == "config").unwrap().clone();
            assert_eq!(config["health"], "good", "{}:{}: {config}", page.path, block.line);
            seen += 1;
        }
    }
    assert!(seen >= 8, "only {seen} configs");
}

#[test]
fn a_block_that_fails_would_be_seen() {
    let profile = home("none");
    assert_ne!(shell(&profile, "looop nosuch\ntrue\n").code, 0);
    assert_ne!(shell(&profile, "false | true; looop goal show nosuch\n").code, 0);
    assert_eq!(shell(&profile, "looop version | grep looop\n").code, 0);
    let page = Page { path: "x.md".to_owned(), text: "```sh no-run=terminal\nlooop\n```\n".to_owned() };
    let (blocks, _) = page.parts();
    assert_eq!(reason(&page, &blocks[0]), Some("terminal"));
    // A command that the pages show does exist where they run.
    assert!(Command::new(LOOOP).arg("version").output().unwrap().status.success());
}
