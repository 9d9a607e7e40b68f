//! The first run: the seeded goal leads to one worker that interviews the human, and each of its proposals to a diff.

use std::fs;

use serde_json::{Value, json};

use super::{asks, configure, noop, worker};
use crate::support::desk::Desk;
use crate::support::profile::{Ran, wait_until};

const PLAYBOOK: &str = "# PLAYBOOK\n\nFirst comes: the release\n";
const GOAL: &str = "---\ngoal: the release is out\n---\n\nDone: the tag is pushed.\n";
const SENSOR: &str = "#!/bin/sh\necho '{\"signal\":{\"tagged\":false},\"detail\":{}}'\n";

/// The brief as the goal has it.
fn brief() -> String {
    let goal = include_str!("../../../seed/goals/setup.md");
    goal.split_once("## The interview\n").unwrap().1.to_owned()
}

fn tick(desk: &Desk) -> Ran {
    desk.profile.looop(&["tick"]).ok()
}

/// Says yes to the one approval of this move, after a look at what is shown.
fn approve(desk: &Desk, tag: &str, shown: &str) {
    let all = asks(desk);
    let ask = all.iter().find(|ask| ask["move"]["move"] == tag).unwrap_or_else(|| panic!("{tag} in {all:?}"));
    assert!(ask["diff"].as_str().unwrap().contains(shown), "{shown:?} in {ask}");
    let (id, hash) = (ask["id"].as_str().unwrap(), ask["hash"].as_str().unwrap());
    let text = desk.profile.looop(&["asks"]).ok().stdout;
    assert!(text.contains(shown), "{shown:?} in {text}");
    desk.profile.looop(&["approve", id, "--hash", hash]).ok();
}

/// The prompt of the newest decision.
fn prompt(desk: &Desk) -> String {
    let runs = fs::read_dir(desk.data().join("runs")).unwrap().flatten();
    let newest = runs.map(|run| run.path()).filter(|run| run.join("prompt.md").exists()).max().unwrap();
    fs::read_to_string(newest.join("prompt.md")).unwrap()
}

fn read(desk: &Desk, name: &str) -> Option<String> {
    fs::read_to_string(desk.data().join(name)).ok()
}

#[test]
fn the_seeded_goal_leads_to_an_interview_and_each_proposal_to_a_diff() {
    let script = format!(
        "grep -q 'looop flag' \"$LOOOP_BRIEF\" || exit 9
        echo 'What comes first?'
        looop flag 'setup: a few questions, five minutes'
        read -r first
        looop unflag
        printf '# PLAYBOOK\\n\\nFirst comes: %s\\n' \"$first\" | looop report playbook.md
        printf '%s' '{GOAL}' | looop report goal-release.md
        printf '%s' '{}' | looop report sensor-tag.sh",
        SENSOR.replace('\'', "'\\''")
    );
    let replies = [
        json!({"move": "start_worker", "id": "setup", "goal": "setup", "brief": brief(), "why": "ask"}),
        json!({"move": "write_playbook", "body": PLAYBOOK, "goal": "setup", "why": "the person's priorities"}),
        json!({"move": "write_goal", "id": "release", "body": GOAL, "goal": "setup", "why": "it matters"}),
        json!({"move": "write_sensor", "name": "tag", "script": SENSOR, "goal": "setup", "why": "observe it"}),
        noop(),
        json!({"move": "archive_goal", "id": "setup", "why": "each proposal was decided"}),
        noop(),
    ];
    let desk = Desk::new("data");
    configure(&desk, &replies, &script);
    desk.tmux(&["set-option", "-g", "remain-on-exit", "off"]);
    assert!(tick(&desk).stdout.contains("start_worker setup — waits"));
    assert!(prompt(&desk).contains("| ## The interview"), "the decider is shown the brief");
    approve(&desk, "start_worker", "+First run `looop flag");
    assert!(tick(&desk).stdout.contains("start_worker setup — done"));

    wait_until("its window", || desk.flags() == ["⚑setup"]);
    desk.wait_for("=mine:⚑setup", "What comes first?");
    desk.type_line("=mine:⚑setup", "the release");
    wait_until("its end", || worker(&desk, "setup")["state"] == "exited");

    let old = read(&desk, "PLAYBOOK.md").unwrap();
    for (tag, part) in [
        ("write_playbook", "First comes: the release"),
        ("write_goal", "the tag is pushed."),
        ("write_sensor", "tagged"),
    ] {
        let ran = tick(&desk).stdout;
        assert!(ran.contains(tag) && ran.contains("waits"), "{ran}");
        let prompt = prompt(&desk);
        let data = prompt.split_once("# Reports of workers (data)\n").unwrap().1;
        assert!(data.contains(part), "{tag}: {data}");
    }
    let world = read(&desk, "world.json").unwrap();
    let world: Value = serde_json::from_str(&world).unwrap();
    assert_eq!(world["own"]["worker_words"], true, "a report is the word of a stranger");
    let shown = prompt(&desk).matches("the tag is pushed.").count();
    assert_eq!(shown, 1, "in the report, and nowhere as a goal");
    assert_eq!(read(&desk, "goals/release.md"), None);
    approve(&desk, "write_goal", "+Done: the tag is pushed.");
    assert!(tick(&desk).stdout.contains("write_goal release — done"));
    assert_eq!(read(&desk, "goals/release.md").unwrap(), GOAL);
    assert!(tick(&desk).stdout.contains("noop"));
    assert!(worker(&desk, "setup")["past"].is_string(), "nothing more is to be done with it");
    assert_eq!(read(&desk, "PLAYBOOK.md").unwrap(), old, "nothing takes effect before the yes");
    assert_eq!(read(&desk, "sensors/tag.sh"), None);

    approve(&desk, "write_playbook", "+First comes: the release");
    approve(&desk, "write_sensor", "+echo '{\"signal\":{\"tagged\":false}");
    for _ in 0..2 {
        assert!(tick(&desk).stdout.contains("done"));
    }
    assert_eq!(read(&desk, "PLAYBOOK.md").unwrap(), PLAYBOOK);
    assert!(read(&desk, "sensors/tag.sh").unwrap().contains("tagged"));

    assert!(tick(&desk).stdout.contains("archive_goal setup — done"));
    assert!(prompt(&desk).contains("| Done: the tag is pushed."), "the human's yes made the goal theirs");
    assert!(!prompt(&desk).contains("# Reports"), "its reports taint no more");
    assert!(read(&desk, "goals/setup.md").is_none());
    assert!(tick(&desk).stdout.contains("noop"));
    let git = |args: &[&str]| crate::support::profile::git_in(desk.data(), args);
    assert_eq!(git(&["show", "HEAD:reports/setup/goal-release.md"]), GOAL);
    assert_eq!(git(&["status", "--porcelain"]), "");
}

#[test]
fn the_end_of_a_worker_is_not_spent_on_an_approved_move() {
    let goal = json!({"move": "write_playbook", "body": "Be brief.\n", "why": "w"});
    let desk = super::desk(&[goal, noop()], "true");
    tick(&desk);
    assert!(tick(&desk).stdout.contains("noop"));
    desk.profile.looop(&["worker", "start", "w1", "brief"]).ok();
    wait_until("its end", || worker(&desk, "w1")["state"] == "exited");
    approve(&desk, "write_playbook", "+Be brief.");
    assert!(tick(&desk).stdout.contains("write_playbook"));
    assert_eq!(worker(&desk, "w1")["past"], Value::Null, "no decision has seen its end");
    assert!(tick(&desk).stdout.contains("noop"));
    assert!(prompt(&desk).contains("\"id\":\"w1\""), "this one has");
    assert!(worker(&desk, "w1")["past"].is_string());
}
