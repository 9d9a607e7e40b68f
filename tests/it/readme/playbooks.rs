//! The three whole PLAYBOOKs: each reaches the model as a whole, and the move that its page shows comes of it under its config.

use std::fs;

use serde_json::Value;

use super::blocks::home;
use super::{ROOT, page};
use crate::support::profile::{Profile, program};

/// The blocks of `docs/playbooks.md` of this kind, in order.
fn blocks(info: &str) -> Vec<Value> {
    let page = page("docs/playbooks.md");
    let (blocks, _) = page.parts();
    let of_kind = blocks.iter().filter(|block| block.info == info);
    of_kind.map(|block| serde_json::from_str(&block.text).unwrap()).collect()
}

/// A profile under this PLAYBOOK, its config and its goal, after one beat that answered with its move: the beat's row, and
/// its prompt.
fn beat(name: &str, n: usize) -> (Profile, Value, String) {
    let profile = home(name);
    profile.looop(&["init"]).ok();
    for seed in ["goals/setup.md", "goals/playbook-daily.md", "sensors/today.sh"] {
        fs::remove_file(profile.data().join(seed)).unwrap();
    }
    program(profile.path("bin/kubectl"), "#!/bin/sh\necho 'payment-7c9 0/1 CrashLoopBackOff'\n");
    let path = profile.path("bin").display().to_string() + ":/usr/local/bin:/usr/bin:/bin";
    let (config, wanted) = (blocks("json")[n].clone(), blocks("json move")[n].clone());
    profile.config_more(config);
    profile.config_more(serde_json::json!({ "path": path }));
    profile.without_sandbox(&["worker", "verify", "run"]);
    let text = fs::read_to_string(format!("{ROOT}/docs/playbooks/{name}.md")).unwrap();
    profile.looop_with(&["playbook", "write", "-"], &text).ok();
    profile.goal(wanted["goal"].as_str().unwrap(), "goal: as the page says\n");
    fs::write(profile.path("script/replies.jsonl"), format!("{wanted}\n")).unwrap();
    let ran = profile.looop(&["tick", "--json"]).ok().json()["beat"].clone();
    assert_eq!((&ran["result"], &ran["move"]), (&"applied".into(), &wanted["move"]), "{ran}");
    assert_eq!(ran["warnings"], serde_json::json!([]), "nothing of it is cut: {ran}");
    let prompt = profile.looop(&["log", ran["beat"].as_str().unwrap(), "--prompt"]).ok().stdout;
    for line in text.lines().filter(|line| !line.is_empty()) {
        assert!(prompt.contains(line), "{name}: the model does not see {line:?}");
    }
    (profile, ran, prompt)
}

#[test]
fn a_maintainer_gets_a_worker_in_a_clone() {
    let (profile, ran, _) = beat("maintainer", 0);
    // Without a sandbox a worker waits for an approval; in one it has begun.
    let waits = ran["outcome"]["waits"]["ask"].as_str().expect("its sandbox is off here");
    profile.looop(&["asks"]).shows(&[waits, "Write a failing test"]);
}

#[test]
fn an_engineer_on_call_gets_a_look_that_needs_no_yes() {
    let (profile, ran, _) = beat("on-call", 1);
    assert_eq!(ran["outcome"]["ran"]["status"], "exit 0", "{ran}");
    assert!(ran["outcome"]["ran"]["tail"].as_str().unwrap().contains("CrashLoopBackOff"), "{ran}");
    assert_eq!(profile.looop(&["asks"]).ok().stdout, "nothing waits for you\n");
}

#[test]
fn a_researcher_is_asked() {
    let (profile, _, _) = beat("researcher", 2);
    profile.looop(&["asks"]).shows(&["Did the test set leak?", "1) look into it"]);
}
