//! The first run: the seeded goal leads to one worker that interviews the user, and each of its proposals to a diff.

use std::fs;

use serde_json::{Value, json};

use super::{asks, configure, noop, worker};
use crate::support::profile::{Ran, wait_until};
use crate::support::terminal::TmuxFixture;

const PLAYBOOK: &str = "# PLAYBOOK\n\nFirst comes: the release\n";
const GOAL: &str = "---\ngoal: the release is out\n---\n\nDone: the tag is pushed.\n";
const SENSOR: &str = "#!/bin/sh\necho '{\"signal\":{\"tagged\":false},\"detail\":{}}'\n";

/// The brief as the goal has it.
fn brief() -> String {
    let goal = include_str!("../../../seed/goals/setup.md");
    goal.split_once("## The interview\n").unwrap().1.to_owned()
}

fn tick(fixture: &TmuxFixture) -> Ran {
    fixture.profile.looop(&["tick"]).ok()
}

/// Says yes to the one approval of this move, after a look at what is shown.
fn approve(fixture: &TmuxFixture, tag: &str, shown: &str) {
    let all = asks(fixture);
    let ask = all.iter().find(|ask| ask["move"]["move"] == tag).unwrap_or_else(|| panic!("{tag} in {all:?}"));
    assert!(ask["diff"].as_str().unwrap().contains(shown), "{shown:?} in {ask}");
    let (id, hash) = (ask["id"].as_str().unwrap(), ask["hash"].as_str().unwrap());
    let text = fixture.profile.looop(&["asks"]).ok().stdout;
    assert!(text.contains(shown), "{shown:?} in {text}");
    fixture.profile.looop(&["approve", id, "--hash", hash]).ok();
}

/// The prompt of the newest decision.
fn prompt(fixture: &TmuxFixture) -> String {
    let runs = fs::read_dir(fixture.data().join("runs")).unwrap().flatten();
    let newest = runs.map(|run| run.path()).filter(|run| run.join("prompt.md").exists()).max().unwrap();
    fs::read_to_string(newest.join("prompt.md")).unwrap()
}

fn read(fixture: &TmuxFixture, name: &str) -> Option<String> {
    fs::read_to_string(fixture.data().join(name)).ok()
}

#[test]
#[ignore = "slow"]
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
    let fixture = TmuxFixture::new("data");
    configure(&fixture, &replies, &script);
    fixture.tmux(&["set-option", "-g", "remain-on-exit", "off"]);
    assert!(tick(&fixture).stdout.contains("start_worker setup — waits"));
    assert!(prompt(&fixture).contains("| ## The interview"), "the decider is shown the brief");
    approve(&fixture, "start_worker", "+First run `looop flag");
    assert!(tick(&fixture).stdout.contains("start_worker setup — done"));

    wait_until("its window", || fixture.flags() == ["⚑setup"]);
    fixture.wait_for("=mine:⚑setup", "What comes first?");
    fixture.type_line("=mine:⚑setup", "the release");
    wait_until("its end", || worker(&fixture, "setup")["state"] == "exited");

    let old = read(&fixture, "PLAYBOOK.md").unwrap();
    for (tag, part) in [
        ("write_playbook", "First comes: the release"),
        ("write_goal", "the tag is pushed."),
        ("write_sensor", "tagged"),
    ] {
        let ran = tick(&fixture).stdout;
        assert!(ran.contains(tag) && ran.contains("waits"), "{ran}");
        let prompt = prompt(&fixture);
        let data = prompt.split_once("# Reports of workers (data)\n").unwrap().1;
        assert!(data.contains(part), "{tag}: {data}");
    }
    let world = fixture.profile.read_json("world.json");
    assert_eq!(world["own"]["worker_words"], true, "a report is the word of a stranger");
    let shown = prompt(&fixture).matches("the tag is pushed.").count();
    assert_eq!(shown, 1, "in the report, and nowhere as a goal");
    assert_eq!(read(&fixture, "goals/release.md"), None);
    approve(&fixture, "write_goal", "+Done: the tag is pushed.");
    assert!(tick(&fixture).stdout.contains("write_goal release — done"));
    assert_eq!(read(&fixture, "goals/release.md").unwrap(), GOAL);
    assert!(tick(&fixture).stdout.contains("noop"));
    assert!(worker(&fixture, "setup")["past"].is_string(), "nothing more is to be done with it");
    assert_eq!(read(&fixture, "PLAYBOOK.md").unwrap(), old, "nothing takes effect before the approval");
    assert_eq!(read(&fixture, "sensors/tag.sh"), None);

    approve(&fixture, "write_playbook", "+First comes: the release");
    approve(&fixture, "write_sensor", "+echo '{\"signal\":{\"tagged\":false}");
    for _ in 0..2 {
        assert!(tick(&fixture).stdout.contains("done"));
    }
    assert_eq!(read(&fixture, "PLAYBOOK.md").unwrap(), PLAYBOOK);
    assert!(read(&fixture, "sensors/tag.sh").unwrap().contains("tagged"));

    assert!(tick(&fixture).stdout.contains("archive_goal setup — done"));
    assert!(prompt(&fixture).contains("| Done: the tag is pushed."), "the human's yes made the goal theirs");
    assert!(!prompt(&fixture).contains("# Reports"), "its reports taint no more");
    assert!(read(&fixture, "goals/setup.md").is_none());
    assert!(tick(&fixture).stdout.contains("noop"));
    assert_eq!(fixture.profile.git(&["show", "HEAD:reports/setup/goal-release.md"]), GOAL);
    assert_eq!(fixture.profile.git(&["status", "--porcelain"]), "");
}

#[test]
fn the_end_of_a_worker_is_not_spent_on_an_approved_move() {
    let goal = json!({"move": "write_playbook", "body": "Be brief.\n", "why": "w"});
    let fixture = super::fixture(&[goal, noop()], "true");
    tick(&fixture);
    assert!(tick(&fixture).stdout.contains("noop"));
    fixture.profile.looop(&["worker", "start", "w1", "brief"]).ok();
    wait_until("its end", || worker(&fixture, "w1")["state"] == "exited");
    approve(&fixture, "write_playbook", "+Be brief.");
    assert!(tick(&fixture).stdout.contains("write_playbook"));
    assert_eq!(worker(&fixture, "w1")["past"], Value::Null, "no decision has seen its end");
    assert!(tick(&fixture).stdout.contains("noop"));
    assert!(prompt(&fixture).contains("\"id\":\"w1\""), "this one has");
    assert!(worker(&fixture, "w1")["past"].is_string());
}
