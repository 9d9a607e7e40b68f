//! What was edited, as a diff: of goals, sensors and the playbook.

use std::fs;

use crate::{beat::listing, support::profile::Profile};

const NOOP: &str = r#"{"move":"noop","why":"nothing"}"#;

#[test]
fn edits_are_shown_against_the_last_commit_or_an_earlier_beat() {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("one", "goal: one\nfirst\n");
    profile.goal("two", "goal: two\n");
    profile.sensor("s.sh", "echo '{}'");
    profile.looop(&["tick"]).ok();
    let beat = profile.looop(&["log", "--json"]).ok().json()["lines"][0]["beat"].as_str().unwrap().to_owned();
    for verb in ["goal", "sensor", "playbook"] {
        let ran = profile.looop(&[verb, "diff"]).ok();
        assert_eq!((&*ran.stdout, &*ran.stderr), ("", "nothing differs from the last commit\n"));
    }
    profile.goal("one", "goal: one\nsecond \u{1b}[2J\n");
    fs::remove_file(profile.data().join("goals/two.md")).unwrap();
    profile.sensor("new.sh", "echo '{}'");
    profile.looop_with(&["playbook", "write", "-"], "Be brief.\n").ok();
    let before = listing(&profile.data());
    profile.looop(&["goal", "diff"]).shows(&[
        "--- a/goals/one.md\n+++ b/goals/one.md\n",
        "-first\n+second \\u{1b}[2J\n",
        "--- a/goals/two.md\n+++ /dev/null\n",
    ]);
    assert!(!profile.looop(&["goal", "diff", "two"]).ok().stdout.contains("one.md"));
    profile.looop(&["sensor", "diff"]).shows(&["--- /dev/null\n+++ b/sensors/new.sh\n"]);
    assert!(profile.looop(&["playbook", "diff"]).ok().stdout.contains("+Be brief.\n"));
    assert_eq!(profile.looop(&["goal", "diff", "nope"]).code, 2);
    assert_eq!(listing(&profile.data()), before, "a look writes nothing");

    profile.looop(&["tick"]).ok();
    assert_eq!(profile.looop(&["goal", "diff"]).ok().stdout, "");
    profile.looop(&["goal", "diff", "one", "--since", &beat]).shows(&["-first\n+second"]);
    profile.looop(&["playbook", "diff", "--since", "never"]).fails_with(1, &["git has no commit of it"]);
}
