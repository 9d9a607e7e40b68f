//! Each agent CLI of the table, with a program in its place that keeps what it was started with: it decides, works and
//! fixes under its name, or the error says what it can do.

use std::fs;

use looop::agents::{AGENTS, Agent};
use serde_json::json;

use crate::fix::adder::{self, FIXED, FIXED_LIB, TASK, TESTS};
use crate::fix::fixture::Fixture;
use crate::support::profile::wait_until;

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A profile in which each variable of the agent is set, and a program of its name that does this after it kept its
/// arguments and environment in the folder `state`.
fn fixture(agent: &Agent, body: &str) -> Fixture {
    let mut fixture = adder::project(&[]);
    fixture.profile.without_sandbox(&["fix", "decide", "worker", "verify"]);
    agent.env_names().for_each(|name| fixture.profile.var(name, "a-value"));
    let state = fixture.profile.path("state");
    let state = state.display();
    let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >{state}/args\nenv >{state}/env\n{body}\n");
    fixture.profile.stand_in(agent.name, &script, PATH);
    fixture
}

/// The arguments that the program was started with. It had each variable of the agent and what looop sets.
#[track_caller]
fn started(fixture: &Fixture, agent: &Agent, set: &[&str]) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(fixture.profile.path("state").join(name)).unwrap();
    let env = read("env");
    let mut names: Vec<&str> = agent.env_names().collect();
    names.extend(set);
    for name in names {
        let has_it = env.lines().any(|line| line.starts_with(&format!("{name}=")));
        assert!(has_it, "{}: {name}\n{env}", agent.name);
    }
    read("args").lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "slow"]
fn each_agent_decides_or_says_what_it_can_do() {
    for agent in AGENTS {
        let name = agent.name;
        let recorded = format!("{}/tests/fixtures/runners/{name}-noop.jsonl", env!("CARGO_MANIFEST_DIR"));
        let fixture = fixture(agent, &format!("cat >/dev/null; cat {recorded}"));
        fixture.profile.config_more(json!({ "decide": name }));
        let ran = fixture.profile.looop(&["tick"]);
        match &agent.decide {
            Ok(_) => {
                ran.ok().prints(&["noop"]);
                started(&fixture, agent, &[]);
            }
            Err(why) => {
                ran.exits(2).warns(&[why, &format!("`{name}` can {}", agent.modes())]);
            }
        }
    }
}

#[test]
fn each_agent_works() {
    for agent in AGENTS {
        let name = agent.name;
        let fixture = fixture(agent, "");
        let mode = agent.work.as_ref().unwrap();
        fixture.profile.config_more(json!({ "runners": { name: { "model": "m1", "effort": "low" } } }));
        fixture.profile.looop(&["worker", "start", "w1", "make it", "--runner", name]).ok();
        wait_until("its end", || {
            let state = fixture.profile.read_json("workers/w1/state.json");
            state["phase"] != "starting" && state["phase"] != "running"
        });
        let set: Vec<&str> = mode.set.iter().map(|(key, _)| *key).collect();
        let args = started(&fixture, agent, &set).join(" ");
        assert!(args.contains("/workers/w1/brief.md") && args.contains("--model m1"), "{name}: {args}");
        assert!(!args.contains('{'), "{name}: each place is filled in: {args}");
        assert_eq!(agent.effort.is_some() && mode.has_effort, args.contains("low"), "{name}: {args}");
    }
}

#[test]
#[ignore = "slow"]
fn each_agent_fixes() {
    for agent in AGENTS {
        let name = agent.name;
        let fixture = fixture(agent, &format!("cat >/dev/null; {FIXED}; echo edited"));
        let mode = agent.fix.as_ref().unwrap();
        fixture.leanfile_of("", TESTS, TASK);
        fixture.profile.config_more(json!({ "runners": { name: { "model": "m1", "effort": "low" } } }));
        fixture.fix(&["--runner", name]).ok();
        assert_eq!(fixture.read("lib.sh"), FIXED_LIB, "{name}");
        let set: Vec<&str> = mode.set.iter().map(|(key, _)| *key).collect();
        let args = started(&fixture, agent, &set);
        assert!(args.join(" ").contains("--model m1"), "{name}: {args:?}");
        assert!(args.iter().all(|arg| !arg.contains('{')), "{name}: each place is filled in: {args:?}");
        assert_eq!(agent.effort.is_some(), args.join(" ").contains("low"), "{name}: {args:?}");
    }
}

#[test]
fn the_docs_name_each_agent_with_the_version_that_was_tried() {
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runners.md")).unwrap();
    for agent in AGENTS {
        let name = format!("| `{}` ", agent.name);
        let rows: Vec<&str> = docs.lines().filter(|line| line.starts_with(&name)).collect();
        let has = |text: &str| rows.iter().any(|row| row.contains(text));
        assert!(has(agent.tested.unwrap_or("not tried")), "{}: {rows:?}", agent.name);
        for variable in agent.env_names() {
            assert!(has(&format!("`{variable}`")), "{}: {variable}", agent.name);
        }
        let modes =
            [("decide", agent.decide.is_ok()), ("work", agent.work.is_ok()), ("fix", agent.fix.is_ok())];
        for (mode, has_it) in modes {
            assert_eq!(has(&format!(" {mode}")), has_it, "{}: {mode}: {rows:?}", agent.name);
        }
    }
}
