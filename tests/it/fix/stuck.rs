//! Who repeats himself: halt, new plan, rollback, the next runner, and at last a question to the user.

use serde_json::json;

use super::adder::{self, FIXED, TESTS};
use super::fixture::{Fixture, of};
use crate::support::profile::{git_in, program};

const TASK: &str = "[[tasks]]\nname = \"add adds\"\nprompt = \"add must add\"\nfiles = [\"lib.sh\"]\n";

fn fixture(most: u32) -> Fixture {
    adder::fixture(&format!("max_iters_per_task = {most}\nsummarize_errors = false\n{TASK}"))
}

fn kinds(fixture: &Fixture) -> Vec<String> {
    let lines = fixture.ledger("add-adds");
    lines.iter().map(|line| line.as_object().unwrap().keys().next().unwrap().clone()).collect()
}

#[test]
fn a_halt_demands_a_plan_then_there_is_a_rollback_then_a_question_and_nothing_runs_before_the_answer() {
    let fixture = fixture(20);
    fixture.agent("echo \"# $n\" >>lib.sh; git rev-parse HEAD >/dev/null || exit 7");
    let before = fixture.fingerprint();
    fixture.fix(&[]).exits(3);
    let row = ["attempt"; 3].join(" ");
    let expected = format!("begin {row} plan attempt rollback {row} plan attempt asked");
    assert_eq!(kinds(&fixture).join(" "), expected);
    assert_eq!(fixture.fingerprint(), before);
    // What each halt left, and what the rollback threw away, is kept.
    let kept = fixture.kept();
    let checkpoints = git_in(&kept, &["for-each-ref", "--format=%(refname)", "refs/looop/checkpoints"]);
    let named = |n: u32| format!("refs/looop/checkpoints/add-adds/{n}\n");
    assert_eq!(checkpoints, named(3) + &named(7));
    assert!(git_in(&kept, &["show", "refs/looop/attempts/add-adds/4:lib.sh"]).contains("# 4"));
    // The plan is in the prompt that follows it, and the first attempt behind a rollback begins with the base.
    fixture.asked(4, &["swap both before anything else", "# 3"]);
    assert!(!fixture.prompt(5).contains("# 4"));
    // The question is open, and the same command calls nobody.
    let calls = fixture.calls();
    let again = fixture.fix(&[]);
    assert_eq!((again.code, fixture.calls()), (3, calls), "{}", again.stdout);
    let asks = fixture.profile.looop(&["asks", "--json"]).ok().json();
    let id = asks["asks"][0]["id"].as_str().unwrap().to_owned();
    assert!(asks["asks"][0]["text"].as_str().unwrap().contains("2 new plans did not help"), "{asks}");
    again.prints(&[&format!("looop answer {id}")]);
    fixture.profile.looop(&["answer", &id, "use a PLUS sign"]).ok();
    fixture.agent(FIXED);
    fixture.fix(&[]).ok();
    fixture.asked(calls + 1, &["use a PLUS sign"]);
    assert!(fixture.read("lib.sh").contains("$1 + $2"));
}

#[test]
fn the_figures_of_the_rule_are_the_config_s() {
    let fixture = fixture(3);
    fixture.agent(":");
    fixture.profile.config_more(json!({ "fix": { "halt": 2 } }));
    fixture.fix(&[]);
    assert!(kinds(&fixture).join(" ").starts_with("begin attempt attempt plan"), "{:?}", kinds(&fixture));
    for (fix, word) in [
        (json!({ "same_ratio": 2.0 }), "fix.same_ratio is 2"),
        (json!({ "runner": "nobody" }), "no runner that can fix"),
        (json!({ "escalate": ["claude", "nobody"] }), "no runner that can fix"),
        (json!({ "hlt": 2 }), "halt"),
    ] {
        fixture.profile.config(json!({ "fix": fix }));
        fixture.fix(&[]).exits(2).warns(&[word]);
    }
}

#[test]
#[ignore = "slow"]
fn an_edited_task_is_not_parked() {
    let fixture = fixture(20);
    fixture.agent(":");
    fixture.fix(&[]).exits(3);
    let calls = fixture.calls();
    let edited = TASK.replace("must add", "must really add");
    fixture.leanfile(TESTS, &format!("max_iters_per_task = 1\n{edited}"));
    fixture.fix(&[]).exits(1);
    assert_eq!(fixture.calls(), calls + 1);
}

#[test]
fn a_plan_that_is_none_or_an_old_one_is_refused_and_two_refusals_ask() {
    let fixture = fixture(20);
    program(fixture.profile.path("agent.sh"), "#!/bin/sh\necho 'I will just try harder'\n");
    fixture.fix(&[]).exits(3);
    let lines = fixture.ledger("add-adds");
    let plans = of(&lines, "plan");
    assert_eq!((plans.len(), of(&lines, "attempt").len()), (2, 3));
    assert!(plans.iter().all(|plan| plan["refused"] == "it has no hypothesis"), "{plans:?}");
}

#[test]
fn the_same_failure_eight_times_asks_without_a_rollback() {
    let fixture = fixture(20);
    // Each attempt is another one, and none of them helps.
    fixture.agent("echo \"f$n() { a$n b$n c$n d$n e$n f$n g$n h$n i$n j$n; }\" >g$n.sh");
    fixture.fix(&[]).exits(3);
    let lines = fixture.ledger("add-adds");
    assert_eq!(of(&lines, "attempt").len(), 8);
    assert!(of(&lines, "rollback").is_empty() && of(&lines, "plan").is_empty());
    assert_eq!(of(&lines, "asked")[0]["why"], "the same failure came 8 times");
}

#[test]
fn after_a_new_plan_the_next_runner_is_called() {
    let fixture = fixture(5);
    fixture.agent(":");
    let (local, big) = (fixture.profile.path("agent.sh"), fixture.profile.path("big.sh"));
    let script = format!(
        "#!/bin/sh\ncase \"$(cat)\" in *\"new plan is needed\"*) echo 'HYPOTHESIS: minus is wrong'; echo 'DIFFERENT: use plus here';; *) {FIXED}; echo done;; esac\n"
    );
    program(&big, &script);
    fixture.profile.config_more(json!({
        "fix": { "escalate": ["local", "big"] },
        "runners": {
            "local": { "fix": ["sh", "-c", format!("exec {} -p \"$(cat)\"", local.display())] },
            "big": { "fix": [big] },
        },
    }));
    fixture.leanfile_of("", TESTS, &format!("max_iters_per_task = 5\nsummarize_errors = false\n{TASK}"));
    fixture.fix(&[]).ok();
    assert_eq!(fixture.attempted("add-adds", "runner"), ["local", "local", "local", "big"]);
    assert_eq!(of(&fixture.ledger("add-adds"), "plan")[0]["runner"], "big");
    let rows = fixture.profile.looop(&["cost", "all", "--by", "runner", "--json"]).ok().json();
    assert_eq!(rows["rows"].as_array().unwrap().len(), 2, "{rows}");
}
