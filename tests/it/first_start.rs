//! Who makes a profile, what needs none, and what the first pulse waits for.

use std::path::{Path, PathBuf};
use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::attach::Outer;
use crate::support::profile::{Profile, git_in, program, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"nothing"}"#;

/// Verbs that need a profile.
const VERBS: &str = "|status|status --json|ls|goal list|goal write g text|sensor list|sensor test s|sensor examples|tick|\
                     tick --dry-run|run g|asks|answer a b|approve ap-1|log|why|cost|lease list|claim x|playbook show|\
                     schedule list|pause|resume|prune|wait --timeout 1s|worker start w brief|worker show w|kill w|logs w|\
                     doctor";

fn words(verb: &str) -> Vec<&str> {
    verb.split_whitespace().collect()
}

/// All files and directories below a directory.
fn below(dir: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
            all.insert(entry.path());
        }
    }
    all
}

/// The profile in a home where no variable names one.
fn home_data(profile: &Profile) -> PathBuf {
    profile.path("home/.local/state/looop")
}

/// A home without a profile, whose config names a scripted runner.
fn home_with_config() -> Profile {
    let mut profile = Profile::home_only();
    let config = profile.config_file();
    profile.var("LOOOP_CONFIG", config.to_str().unwrap());
    profile.script(&[NOOP]);
    profile
}

/// Answers the one question and waits for a beat.
fn enter(profile: &Profile, terminal: &mut Outer) {
    terminal.wait_for("Press Enter to start");
    assert_eq!(profile.asked(), 0, "nothing is paid before Enter");
    terminal.type_in(b"\n");
    wait_until("a decision", || profile.asked() > 0);
}

#[test]
fn no_verb_but_init_makes_a_profile() {
    let profile = Profile::home_only();
    for verb in VERBS.split('|') {
        let ran = profile.looop(&words(verb));
        let shown = format!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.code, 1, "{verb}: {shown}");
        assert!(shown.contains("looop init") && shown.contains(".local/state/looop"), "{verb}: {shown}");
        assert_eq!(below(&profile.path("home")), BTreeSet::new(), "{verb}");
    }
    profile.looop(&["init"]).ok();
    assert!(home_data(&profile).join("format").is_file());
    profile.looop(&["status"]).exits(1).prints(&["broken    runner: "]);
}

/// A home with these agent CLIs, of which the second is logged in.
fn home_with_agents(names: &[&str]) -> Profile {
    let mut profile = Profile::home_only();
    let bin = profile.path("bin");
    fs::create_dir(&bin).unwrap();
    names.iter().for_each(|name| program(bin.join(name), "#!/bin/sh\n"));
    profile.var("PATH", &format!("{}:/usr/bin:/bin", bin.display()));
    fs::create_dir_all(profile.path("home/.claude")).unwrap();
    fs::write(profile.path("home/.claude/.credentials.json"), "{}").unwrap();
    profile
}

#[test]
fn the_doctor_names_a_missing_login_of_each_agent_without_starting_it() {
    for name in ["pi", "claude", "codex", "gemini", "opencode", "qwen"] {
        let mut profile = home_with_agents(&[name]);
        fs::remove_file(profile.path("home/.claude/.credentials.json")).unwrap();
        program(profile.path("bin").join(name), "#!/bin/sh\ntouch started\nexit 1\n");
        profile.looop(&["init"]).ok();
        profile.looop(&["doctor"]).prints(&[
            &format!("odd  login of {name}: no key and no login file was found"),
            &format!("fix: run `{name}` and log in, or set one of: "),
        ]);
        assert!(!profile.path("started").exists());
        let key = if name == "claude" { "CLAUDE_CODE_OAUTH_TOKEN" } else { "OPENAI_API_KEY" };
        let key = if name == "gemini" { "GEMINI_API_KEY" } else { key };
        profile.var(key, "sk-test");
        profile.looop(&["doctor"]).prints(&[&format!("ok   login of {name}: by {key}")]);
    }
}

fn home_config(profile: &Profile) -> Value {
    let text = fs::read_to_string(profile.path("home/.config/looop.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    json!([config["decide"], config["worker"], config["budget"]["day_usd"]])
}

#[test]
fn init_asks_on_a_terminal_what_it_does_not_know() {
    // Both keys after the question of this text, and the config that follows.
    type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], Value);
    let amount = "What may be spent a day, in US dollars [$20.00]:";
    let rows: [Row; 3] = [
        (&["pi"], &[(amount, "5")], json!(["pi", "pi", 5.0])),
        (
            &["pi", "claude"],
            &[
                ("Who decides (pi, claude) [claude]:", ""),
                ("Who works (pi, claude) [claude]:", "pi"),
                (amount, ""),
            ],
            json!(["claude", "pi", 20.0]),
        ),
        (
            &["pi", "claude"],
            &[
                ("Who decides", "clade"),
                ("\"clade\" is none of them", "pi"),
                ("Who works", ""),
                (amount, "-1"),
                ("\"-1\" is not an amount", "0.5"),
            ],
            json!(["pi", "claude", 0.5]),
        ),
    ];
    for (agents, answers, config) in rows {
        let profile = home_with_agents(agents);
        let mut terminal = Outer::start(&profile, &["init"], 120, 40);
        for (question, answer) in answers {
            terminal.wait_for(question);
            assert!(!home_data(&profile).exists(), "nothing is made before the last answer");
            terminal.type_in(format!("{answer}\n").as_bytes());
        }
        terminal.wait_for("Next:");
        terminal.wait_for(if agents.len() == 1 { "not logged in" } else { "logged in by " });
        let (code, screen) = terminal.end();
        assert_eq!((code, home_config(&profile)), (0, config), "{screen}");
    }
    let profile = home_with_agents(&["pi", "claude"]);
    let mut terminal = Outer::start(&profile, &["init"], 120, 40);
    terminal.wait_for("Who decides");
    terminal.type_in(b"\x04");
    assert_eq!(terminal.end().0, 1);
    assert!(!home_data(&profile).exists() && !profile.path("home/.config/looop.json").exists());
}

#[test]
fn init_takes_options_and_says_the_next_command() {
    let profile = home_with_agents(&["pi", "claude"]);
    let made = profile.looop(&["init", "--json"]).ok().json();
    assert_eq!(
        made["agents"].as_array().unwrap().iter().map(|one| &one["name"]).collect::<Vec<_>>(),
        ["pi", "claude"]
    );
    assert_eq!((&made["decide"], &made["next"]), (&json!("claude"), &json!("looop doctor runner claude")));
    // What exists is kept, and an option that would change it is refused.
    let hints = ["looop.json` exists", "looop config set decide pi", "looop config set budget.day_usd 2.5"];
    profile.looop(&["init", "--decide", "pi", "--day-usd", "2.5"]).fails_with(2, &hints);
    assert_eq!(home_config(&profile), json!(["claude", "claude", 20.0]));
    let other = home_with_agents(&["pi", "claude"]);
    other.looop(&["init", "--decide", "clade"]).fails_with(2, &["there are: pi, claude, codex"]);
    assert!(!home_data(&other).exists());
    let words = ["pi is /", "not logged in", "claude is /", "logged in by /", "log in there;"];
    other.looop(&["init", "--decide", "pi", "--worker", "codex", "--day-usd", "3"]).shows(&words);
    assert_eq!(home_config(&other), json!(["pi", "codex", 3.0]));
    let bare = Profile::home_only();
    bare.looop(&["init"]).shows(&["none on the PATH", "looop demo"]);
    assert_eq!(home_config(&bare), json!(["pi", null, 20.0]));
}

#[test]
fn a_mistyped_data_dir_is_named_by_each_verb_and_not_made() {
    let mut profile = Profile::home_only();
    let (typo, empty) = (profile.path("dta"), profile.path("empty"));
    fs::create_dir(&empty).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&empty, mode).unwrap();
    let project = profile.path("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("a.py"), "def a():\n    return 1\n").unwrap();
    fs::write(project.join("leanfile.toml"), "").unwrap();
    let root = project.display();
    let own = format!(
        "map --root {root}|fix --repo {root} --issue x --test true|attempt list|trust {root}/leanfile.toml"
    );
    for dir in [&typo, &empty] {
        profile.var("LOOOP_DATA_DIR", dir.to_str().unwrap());
        for verb in VERBS.split('|').chain(own.split('|')) {
            let ran = profile.looop(&words(verb));
            let shown = format!("{}{}", ran.stdout, ran.stderr);
            assert!(ran.code == 1 && shown.contains(dir.to_str().unwrap()), "{verb}: {shown}");
            assert!(shown.contains("LOOOP_DATA_DIR"), "{verb}: {shown}");
            assert!(!typo.exists() && below(&empty).is_empty(), "{verb}");
        }
        let (code, screen) = Outer::start(&profile, &[], 120, 30).end();
        assert!(code == 1 && screen.contains("LOOOP_DATA_DIR"), "{screen}");
        assert!(!typo.exists() && below(&empty).is_empty(), "a terminal makes no difference");
    }
    assert_eq!(below(&profile.path("home")), BTreeSet::new());
}

#[test]
fn a_first_pulse_on_a_terminal_makes_the_profile_after_enter() {
    let profile = home_with_config();
    let mut terminal = Outer::start(&profile, &[], 140, 40);
    terminal.wait_for("Press Enter to start");
    let screen = terminal.screen().contents();
    for part in
        ["scripted, when something changes", "budget.day_usd", "waits for your approval", "looop.json"]
    {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    assert!(!home_data(&profile).exists(), "nothing is made before Enter");
    enter(&profile, &mut terminal);
    terminal.type_in(b"\x03");
    assert_eq!(terminal.end().0, 0);
    // The second pulse does not ask.
    fs::write(home_data(&profile).join("goals/new.md"), "goal: something new\n").unwrap();
    let mut again = Outer::start(&profile, &[], 140, 40);
    wait_until("a decision without Enter", || profile.asked() > 1);
    again.type_in(b"\x03");
    let (_, screen) = again.end();
    assert!(!screen.contains("Press Enter"), "{screen}");
}

#[test]
fn a_first_pulse_without_enter_leaves_everything_as_it_was() {
    let profile = home_with_config();
    let mut terminal = Outer::start(&profile, &[], 140, 40);
    terminal.wait_for("Press Enter to start");
    terminal.type_in(b"\x04");
    assert_eq!(terminal.end().0, 1);
    assert_eq!((below(&profile.path("home")), profile.asked()), (BTreeSet::new(), 0));
}

#[test]
fn a_first_pulse_of_a_made_profile_says_what_it_may_spend_and_waits() {
    let profile = Profile::scripted(&[NOOP]);
    for (budget, shown) in [
        (json!({ "day_usd": 3.5 }), "up to $3.50 a day"),
        (json!({}), "without a limit: budget.day_usd is not set"),
    ] {
        profile.config_more(json!({ "budget": budget }));
        let mut terminal = Outer::start(&profile, &[], 140, 40);
        terminal.wait_for("Press Enter to start");
        assert!(terminal.screen().contents().contains(shown), "{}", terminal.screen().contents());
        terminal.type_in(b"\x04");
        terminal.end();
    }
    let mut terminal = Outer::start(&profile, &[], 140, 40);
    enter(&profile, &mut terminal);
    terminal.type_in(b"\x03");
    assert_eq!(terminal.end().0, 0);
    assert!(!profile.git(&["status", "--porcelain", "--ignored=no"]).contains("pulse.json"));
}

#[test]
fn a_map_a_fix_and_a_trust_keep_their_own_state_and_say_so() {
    let profile = Profile::home_only();
    let project = profile.path("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("a.py"), "def a():\n    return 1\n").unwrap();
    git_in(&project, &["init", "-q"]);
    git_in(&project, &["add", "-A"]);
    git_in(&project, &["commit", "-qm", "one"]);
    let root = project.to_str().unwrap();
    for args in [
        &["map", "--root", root, "--query", "a"][..],
        &["fix", "--repo", root, "--issue", "x", "--test", "true"],
        &["fix", "--init", &format!("{root}/own.toml")],
        &["fix", "--set-leaner", "claude"],
        &["trust", &format!("{root}/own.toml")],
    ] {
        let ran = profile.looop(args);
        let noted = ran.stderr.lines().filter(|line| line.contains("no profile exists")).count();
        assert_eq!(noted, 1, "{ran:?}");
    }
    profile.looop(&["attempt", "list"]).ok();
    assert!(profile.looop(&["leanfile", "list"]).ok().stdout.contains("own.toml"));
    let data = home_data(&profile);
    for part in ["format", "goals", "PLAYBOOK.md", ".git", "sensors"] {
        assert!(!data.join(part).exists(), "{part}");
    }
    assert!(!profile.path("home/.config/looop.json").exists());
    // A profile can still be made there.
    profile.looop(&["init"]).ok();
    assert!(!profile.looop(&["map", "--root", root]).ok().stderr.contains("no profile exists"));
}

#[test]
fn a_beat_whose_data_dir_goes_away_before_it_decides_pays_nothing_and_makes_nothing() {
    let profile = Profile::scripted(&[NOOP]);
    profile.without_sandbox(&["sensor"]);
    profile.goal("g", "goal: g\n");
    let (data, away) = (profile.data(), profile.path("away"));
    profile.sensor("s.sh", &format!("mv {} {}; echo '{{}}'", data.display(), away.display()));
    let ran = profile.looop(&["tick"]).fails_with(1, &[data.to_str().unwrap()]);
    assert_eq!((profile.asked(), data.exists()), (0, false), "{ran:?}");
}
