//! Tests of the table: each agent is complete, and what it keeps and asks is known.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{AGENTS, FirstStart, events_of, find, first_start, home_of};

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn each_agent_has_one_name_and_can_do_something() {
    for (nth, agent) in AGENTS.into_iter().enumerate() {
        let name = agent.name;
        assert!(AGENTS[..nth].iter().all(|other| other.name != name), "{name} is there twice");
        assert!(!agent.modes().is_empty() && !agent.env.is_empty(), "{name}");
        assert!(agent.decide.is_err() || agent.events.is_some(), "{name}: a decider prints events");
        let reasons = [agent.decide.as_ref().err(), agent.work.as_ref().err(), agent.fix.as_ref().err()];
        assert!(reasons.into_iter().flatten().all(|why| why.len() > 20), "{name}: {reasons:?}");
        let places = words(&[agent.home.read, agent.home.login, agent.home.copied].join(" "));
        assert!(places.iter().all(|place| place.starts_with('.') && !place.ends_with('/')), "{name}");
        assert!(home_of(&["mine", name]).is_some_and(|home| std::ptr::eq(home, &agent.home)), "{name}");
    }
}

#[test]
fn a_login_is_a_key_of_the_environment_or_a_file_of_the_home_directory() {
    for agent in AGENTS {
        let name = agent.name;
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(agent.login(dir.path(), &[]), None, "{name}");
        let key = agent.env_names().find(|name| name.ends_with("_KEY")).unwrap();
        let env = |value: &str| vec![(key.to_owned(), value.to_owned())];
        assert_eq!(agent.login(dir.path(), &env("sk-1")).as_deref(), Some(key), "{name}");
        assert_eq!(agent.login(dir.path(), &env("")), None, "{name}: an empty key is none");
        let file = dir.path().join(agent.home.login.split(' ').next().unwrap());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "{}").unwrap();
        assert_eq!(agent.login(dir.path(), &[]).as_deref(), file.to_str(), "{name}");
    }
}

#[test]
fn events_are_read_where_a_command_asks_for_them() {
    for agent in AGENTS {
        let Some(events) = agent.events else { continue };
        let fix = agent.fix.as_ref().map_or("", |fix| fix.args);
        let argv: Vec<String> = [format!("/bin/{}", agent.name)].into_iter().chain(words(fix)).collect();
        assert_eq!(events_of(&argv).map(|found| found.option), Some(events.option), "{argv:?}");
        assert!(events_of(&argv[..1]).is_none(), "{argv:?}");
        assert!(events.wanted.contains(&events.settles), "{}", agent.name);
    }
    assert!(events_of(&[]).is_none() && events_of(&words("sh --json")).is_none());
}

#[test]
fn each_agent_finds_that_its_directory_is_trusted_and_all_else_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    for made in [".codex", ".gemini", ".claude"] {
        fs::create_dir(home.join(made)).unwrap();
    }
    let write = |name: &str, text: &str| fs::write(home.join(name), text).unwrap();
    write(".codex/config.toml", "model = \"m\"\n[projects.\"/other\"]\ntrust_level = \"untrusted\"");
    write(".claude.json", r#"{"hasCompletedOnboarding":true,"projects":{"/work":{"allowedTools":["x"]}}}"#);
    write(".gemini/trustedFolders.json", r#"{"/other":"DO_NOT_TRUST"}"#);
    let cwd = Path::new("/work");
    AGENTS.into_iter().for_each(|agent| agent.home.trust(home, cwd).unwrap());
    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
    let codex: toml::Table = toml::from_str(&read(".codex/config.toml")).unwrap();
    assert_eq!(codex["model"].as_str(), Some("m"));
    assert_eq!(codex["projects"]["/work"]["trust_level"].as_str(), Some("trusted"));
    assert_eq!(codex["projects"]["/other"]["trust_level"].as_str(), Some("untrusted"));
    let claude: Value = serde_json::from_str(&read(".claude.json")).unwrap();
    assert_eq!(claude["projects"]["/work"], json!({ "allowedTools": ["x"], "hasTrustDialogAccepted": true }));
    assert_eq!(claude["hasCompletedOnboarding"], true);
    assert!(!home.join(".claude/.claude.json").exists());
    let gemini: Value = serde_json::from_str(&read(".gemini/trustedFolders.json")).unwrap();
    assert_eq!(gemini, json!({ "/other": "DO_NOT_TRUST", "/work": "TRUST_FOLDER" }));
    assert!(home.join(".qwen/trustedFolders.json").exists());
    // Once more changes nothing, and a file that cannot be understood stays as it is.
    let codex = &find("codex").unwrap().home;
    let before = read(".codex/config.toml");
    codex.trust(home, cwd).unwrap();
    assert_eq!(read(".codex/config.toml"), before);
    write(".codex/config.toml", "broken = [");
    codex.trust(home, cwd).unwrap();
    assert_eq!(read(".codex/config.toml"), "broken = [");
}

#[test]
fn first_starts_are_known_by_their_words() {
    for (screen, what) in [
        (
            " Accessing workspace:\n Do you trust the files in this folder?\n \u{276f} 1. Yes\n   2. No, exit",
            FirstStart::Trust,
        ),
        (
            "> You are in /w\n  Do you trust the contents of this directory?\n\u{203a} 1. Yes, continue",
            FirstStart::Trust,
        ),
        ("Detected a custom API key in your environment\n \u{276f} No (recommended)", FirstStart::Key),
        (
            "WARNING: Claude Code running in Bypass Permissions mode\n \u{276f} 1. No, exit",
            FirstStart::Unguarded,
        ),
        ("\u{203a} 1. Sign in with ChatGPT\n  2. Provide your own API key", FirstStart::Login),
        (
            "How would you like to authenticate for this project?\n \u{25cf} 1. Login with Google",
            FirstStart::Login,
        ),
        (
            "How would you like to authenticate?\n Do you trust this folder?\n \u{25cf} 1. Trust folder",
            FirstStart::Trust,
        ),
    ] {
        assert_eq!(first_start(screen), Some(what), "{screen:?}");
    }
    assert_eq!(first_start("the log says: please run /login"), None, "nothing to choose");
    assert_eq!(first_start("\u{276f} 1. Yes\n  2. No"), None);
}
