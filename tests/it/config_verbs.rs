//! `looop config`: what the verbs print, what they write, and what they refuse.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::support::profile::{Profile, program};

const TEXT: &str = "{\n  \"decide\": \"codex\",   \"limits\": { \"workers\": 3 },\n\n  \"notify\": []\n}\n";

fn profile() -> Profile {
    let profile = Profile::scripted(&[]);
    write(&profile, TEXT);
    profile
}

fn write(profile: &Profile, text: &str) {
    fs::write(profile.config_file(), text).unwrap();
    fs::set_permissions(profile.config_file(), fs::Permissions::from_mode(0o600)).unwrap();
}

fn text(profile: &Profile) -> String {
    fs::read_to_string(profile.config_file()).unwrap()
}

#[test]
fn one_key_is_read_and_set_and_the_rest_of_the_file_stays() {
    let profile = profile();
    let get = |key: &str| profile.looop(&["config", "get", key]);
    assert_eq!(
        (get("decide").ok().stdout.as_str(), get("limits.workers").stdout.as_str()),
        ("codex\n", "3\n")
    );
    assert_eq!(profile.looop(&["config", "get"]).ok().stdout, TEXT);
    get("limits.run_timeout").exits(1).warns(&["it is not set in", "its default holds"]);
    get("limits.run_timout").exits(1).warns(&["did you mean `run_timeout`?"]);

    // Dotfiles are links: what they lead to is written, with its mode.
    let real = profile.path("dotfiles.json");
    fs::rename(profile.config_file(), &real).unwrap();
    symlink(&real, profile.config_file()).unwrap();
    let rows = [
        ("decide", "claude", "\"codex\",", "\"claude\",", "decide is \"claude\" now; it was \"codex\""),
        ("limits.workers", "4", "s\": 3", "s\": 4", "limits.workers is 4 now; it was 3"),
        ("limits.run_timeout", "5m", "4 }", "4, \"run_timeout\": \"5m\" }", "it was not set"),
        (
            "runners.pi.model",
            "m/x",
            "[]\n",
            "[],\n  \"runners\": {\"pi\":{\"model\":\"m/x\"}}\n",
            "it was not set",
        ),
        ("notify[0]", "sh", "[]", "[\"sh\"]", "it was not set"),
    ];
    let mut expected = TEXT.to_owned();
    for (key, value, old, new, printed) in rows {
        profile.looop(&["config", "set", key, value]).ok().prints(&[printed]);
        expected = expected.replacen(old, new, 1);
        assert_eq!(text(&profile), expected, "{key}");
    }
    assert!(profile.config_file().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    let set = profile.looop(&["config", "set", "--json", "budget.day_usd", "7"]).ok().json();
    assert_eq!((&set["before"], &set["value"]), (&json!(null), &json!(7)));

    let kept = text(&profile);
    for (key, value, why) in [
        ("decide", "clade", "did you mean `claude`?"),
        ("limits.wrokers", "1", "limits.wrokers is not a key here"),
        ("limits.workers", "many", "limits.workers is \"many\"; expected a whole number"),
        ("notify[5]", "x", "the list has 1 entries"),
        ("decide.x", "y", "`decide` is not an object"),
    ] {
        profile.looop(&["config", "set", key, value]).exits(2).warns(&["could not set", why]);
        assert_eq!(text(&profile), kept, "{key}");
    }
    fs::remove_file(profile.config_file()).unwrap();
    profile.looop(&["config", "set", "decide", "pi"]).ok();
    assert_eq!(text(&profile), "{\n  \"decide\": \"pi\"\n}\n", "a missing file is made");
}

#[test]
fn a_broken_text_of_the_editor_is_kept_and_not_taken() {
    let mut profile = profile();
    let mut edit = |body: &str| {
        let editor = profile.path("editor");
        program(&editor, format!("#!/bin/sh\n{body}\n"));
        profile.var("EDITOR", editor.to_str().unwrap());
        (profile.looop(&["config", "edit"]), text(&profile))
    };
    let (ran, now) = edit("sed -i 's/: 3/: \"x\"/; s/codex/pi/' \"$1\"");
    ran.exits(2).warns(&["line 2, column 44: limits.workers is \"x\"; expected", "your text is kept as "]);
    assert_eq!(now, TEXT);
    let (ran, now) = edit("sed -i 's/\"x\"/5/' \"$1\"");
    ran.ok().warns(&["this continues with the text of your last edit"]);
    assert_eq!(now, TEXT.replace("codex", "pi").replace(": 3", ": 5"));
    let (ran, _) = edit(":");
    ran.exits(1).warns(&["it was not changed"]);
    let (ran, _) = edit("echo '{' > \"$1\"");
    ran.exits(2).warns(&["line 2, column 0: the text ends within an object"]);
}

#[test]
fn every_problem_is_named_with_its_key_and_its_place() {
    let profile = profile();
    profile.looop(&["config", "check"]).ok().prints(&["looop.json: no problems"]);
    write(&profile, "{\"decide\": \"clade\",\n \"limits\": {\"workers\": 1.5, \"run_timeout\": \"0s\"}}");
    profile.looop(&["config", "check"]).exits(1).prints(&[
        "looop.json:1:12: decide: could not find the runner `clade`",
        "  hint: did you mean `claude`?",
        "looop.json:2:24: limits.workers is 1.5; expected a whole number",
        "looop.json:2:44: limits.run_timeout is 0",
    ]);
    let all = profile.looop(&["config", "check", "--json"]).exits(1).json();
    let keys: Vec<_> = all["problems"].as_array().unwrap().iter().map(|one| &one["key"]).collect();
    assert_eq!(keys, ["decide", "limits.workers", "limits.run_timeout"]);
    profile.looop(&["tick"]).exits(2).warns(&["there are 2 more problems: `looop config check`"]);
}
