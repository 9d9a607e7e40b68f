//! A profile that was lived in: something of everything that commands show.

use std::fs;

use serde_json::{Value, json};

use super::profile::{LOOOP, Profile, program, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"all is well"}"#;
/// A text that is wider than any terminal.
const LONG: &str = "The release is out by Friday evening, with its notes in three languages, every open question of the \
                    testers answered in writing, the packages signed, the mirrors warm and the old branch closed for good";

/// Makes the decider answer with this move, once and again, and runs a beat.
fn beat(profile: &Profile, reply: &Value) {
    fs::write(profile.path("script/replies.jsonl"), format!("{reply}\n")).unwrap();
    profile.looop(&["tick"]);
}

fn state(profile: &Profile, id: &str) -> String {
    let all = profile.looop(&["ls", "--json"]).ok().json();
    let row = all["workers"].as_array().unwrap().iter().find(|row| row["id"] == id).cloned();
    row.unwrap_or_default()["state"].as_str().unwrap_or_default().to_owned()
}

fn wait_state(profile: &Profile, id: &str, wanted: &str) {
    wait_until(&format!("{id} is {wanted}"), || state(profile, id) == wanted);
}

/// Goals, sensors good and bad, timers of each kind, an ask, an approval, leases, a failure, workers that wait, have ended and
/// were put away, and a fix that goes round in circles.
pub fn lived_in() -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({ "verify": { "good": ["true"], "bad": ["false"] } }));
    profile.without_sandbox(&["worker", "verify"]);
    profile.goal("release", &format!("---\ngoal: {LONG}\n---\n"));
    profile.goal("rest", "goal: rest on Sunday\n");
    fs::write(profile.data().join("goals/broken.md"), b"\xff\xfe").unwrap();
    profile.sensor("s.sh", "echo '{\"n\":1}'");
    profile.sensor(
        "slow.sh",
        "# looop: interval=1h timeout=20s trust=untrusted\necho '{\"signal\":1,\"detail\":2}'",
    );
    profile.sensor("ill.sh", "exit 3");
    profile.sensor("odd.sh", "# looop: colour=red\necho '{}'");
    for when in [&["--in", "1h"][..], &["--every", "2h"], &["--cron", "0 9 * * 1-5"]] {
        let name = when[0].trim_start_matches('-');
        profile.looop(&[&["schedule", "set", name], when, &[LONG]].concat()).ok();
    }
    profile.looop(&["claim", "deploy", "--ttl", "1h"]).ok();
    workers(&profile);
    beat(
        &profile,
        &json!({ "move": "ask", "text": LONG, "options": ["yes", LONG], "goal": "rest", "why": LONG }),
    );
    profile.sensor("s.sh", "echo '{\"n\":2}'");
    beat(&profile, &json!({ "move": "run", "argv": ["echo", LONG], "goal": "release", "why": LONG }));
    beat(&profile, &json!({ "move": "noop", "why": LONG }));
    fix(&profile);
    profile.sensor("s.sh", "echo '{\"n\":3}'");
    beat(&profile, &json!({ "nothing": "of the kind" }));
    profile
}

/// One that was put away, one whose work was checked, one whose check failed, and one that waits.
fn workers(profile: &Profile) {
    let start = |id: &str, more: &[&str], script: &str| {
        let args = [&["worker", "start", id], more, &["--", "sh", "-c", script]].concat();
        profile.looop(&args).ok();
    };
    start("early", &["--goal", "rest"], "echo gone");
    wait_state(profile, "early", "exited");
    beat(profile, &serde_json::from_str(NOOP).unwrap());
    start("good", &["--verify", "good", "--goal", "release"], "echo fine");
    wait_state(profile, "good", "done");
    start("bad", &["--verify", "bad"], &format!("echo '{LONG}'"));
    wait_state(profile, "bad", "failed");
    let waits = format!("{LOOOP} claim bench; {LOOOP} flag '{LONG}'; echo '{LONG}'; read -r line");
    start("waits", &[], &waits);
    wait_state(profile, "waits", "waiting");
}

/// A goal of `looop fix` whose agent does the same again and again.
fn fix(profile: &Profile) {
    let dir = profile.path("project");
    let write = |name: &str, text: &str| program(dir.join(name), text);
    write("sum.py", "def total(items):\n    return 1\n");
    write("check.sh", "#!/bin/sh\necho '1..1'\necho 'not ok 1 - total of nothing is 1, not 0'\nexit 1\n");
    write("agent.sh", "#!/bin/sh\necho '# once more' >> sum.py\necho done\n");
    let agent = dir.join("agent.sh");
    let text = format!(
        "[lean]\nbinary = {agent:?}\n[runner]\ncommand = \"./check.sh\"\n[defaults]\nmax_iters_per_task = 5\n\
         [[tasks]]\nname = \"sums\"\nprompt = \"total() of nothing is 0\"\nfiles = [\"sum.py\"]\n"
    );
    write("leanfile.toml", &text);
    let leanfile = dir.join("leanfile.toml");
    profile.looop(&["trust", leanfile.to_str().unwrap()]).ok();
    let ran = profile.looop(&["fix", "-c", leanfile.to_str().unwrap()]);
    assert!(ran.code == 1 || ran.code == 3, "{ran:?}");
}
