//! Completions and manual pages: what a shell gets when it asks, and that each command has its page.

use std::process::Command;

use serde_json::json;

use crate::support::profile::Profile;

/// What bash would be offered for these words, the last one being typed.
fn offered(profile: &Profile, words: &[&str]) -> Vec<String> {
    let script = "source <(looop completions bash); COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                  _clap_complete_looop looop \"${!#}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let path = std::path::Path::new(env!("CARGO_BIN_EXE_looop")).parent().unwrap();
    let mut bash: Command = profile.other_command("bash", &["-c", script, "bash"]);
    bash.args(words).env("PATH", format!("{}:/usr/bin:/bin", path.display()));
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn worker_and_ask_ids_complete_in_the_shell() {
    let profile = Profile::scripted(&[r#"{"move":"noop","why":"w"}"#]);
    for id in ["fix-ci", "fix-docs", "other"] {
        profile.looop(&["worker", "start", id, "--", "sleep", "600"]).ok();
    }
    for verb in ["attach", "logs", "screen", "kill", "tell"] {
        assert_eq!(offered(&profile, &["looop", verb, "fix"]), ["fix-ci", "fix-docs"], "{verb}");
    }
    assert!(offered(&profile, &["looop", "att"]).contains(&"attach".to_owned()));
    assert!(!offered(&profile, &["looop", ""]).iter().any(|word| word.starts_with("__")));
}

#[test]
#[ignore = "slow"]
fn every_name_completes_in_each_shell() {
    let profile = Profile::scripted(&[r#"{"move":"noop","why":"w"}"#]);
    profile.config_more(
        json!({ "verify": { "tests": ["true"] }, "runners": { "mine": { "decide": ["cat"] } } }),
    );
    profile.goal("release", "goal: r\n");
    profile.sensor("disk", "echo '{}'");
    profile.looop(&["schedule", "set", "standup", "--in", "1h", "look"]).ok();
    profile.looop(&["claim", "deploy"]).ok();
    profile.looop(&["tick"]).ok();
    let beat = profile.looop(&["log", "--json"]).ok().json()["lines"][0]["beat"].as_str().unwrap().to_owned();
    let rows: [(&[&str], &str); 12] = [
        (&["goal", "show"], "release"),
        (&["goal", "rename"], "release"),
        (&["run"], "release"),
        (&["worker", "start", "w", "--goal"], "release"),
        (&["worker", "start", "w", "--verify"], "tests"),
        (&["worker", "start", "w", "--runner"], "mine"),
        (&["doctor", "runner"], "mine"),
        (&["sensor", "show"], "disk"),
        (&["schedule", "remove"], "standup"),
        (&["release"], "deploy"),
        (&["log"], &beat),
        (&["schema"], "worker-show"),
    ];
    for (verb, name) in rows {
        let typed = &name[..name.len() - 1];
        let words = [&["looop"][..], verb, &[typed]].concat();
        assert_eq!(offered(&profile, &words), [name], "bash: {words:?}");
        // These two have a command that lists what they offer.
        let line = words.join(" ");
        let fish = format!("looop completions fish | source; complete -C '{line}'");
        assert_eq!(listed(&profile, "fish", &fish), [name], "fish: {words:?}");
        let zsh = format!(
            "compdef() {{ :; }}; _describe() {{ print -l -- ${{(P)${{@[-1]}}}}; }}; source <(looop completions zsh); \
             words=({line}); CURRENT=$#words; _clap_dynamic_completer_looop"
        );
        assert_eq!(listed(&profile, "zsh", &zsh), [name], "zsh: {words:?}");
    }
}

/// The names that a script of a shell prints, without their explanations.
fn listed(profile: &Profile, shell: &str, script: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_BIN_EXE_looop")).parent().unwrap();
    let mut command: Command = profile.other_command(shell, &["-c", script]);
    command.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split(['\t', ':']).next().unwrap().to_owned()).collect()
}

#[test]
fn ready_made_sensors_complete_in_the_shell() {
    let profile = Profile::empty();
    let words = ["github-ci", "github-comments", "github-issues", "github-prs"];
    for verb in ["add", "examples"] {
        assert_eq!(offered(&profile, &["looop", "sensor", verb, "git"])[1..], words, "{verb}");
    }
}

#[test]
fn an_unknown_shell_is_answered_with_the_known_ones() {
    Profile::empty().looop(&["completions", "tcsh"]).fails_with(2, &["bash", "zsh"]);
}

#[test]
fn each_command_has_its_manual_page() {
    let profile = Profile::empty();
    let dir = profile.path("man");
    profile.looop(&["man", dir.to_str().unwrap()]).ok();
    for name in ["looop", "looop-tick", "looop-worker-start", "looop-attach", "looop-goal-write"] {
        let text = std::fs::read_to_string(dir.join(format!("{name}.1"))).unwrap();
        assert!(text.contains(&format!(".TH {name} 1")), "{text}");
    }
    assert!(!dir.join("looop-__exec-gated.1").exists());
    assert!(profile.looop(&["man"]).ok().stdout.contains(".TH looop 1"));
    assert!(!profile.data().exists(), "to print makes no data dir");
}
