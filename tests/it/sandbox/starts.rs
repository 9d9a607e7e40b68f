//! Which starts of workers wait although the sandbox is full: the first paid one, and a repository that is not listed.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use serde_json::{Value, json};

use super::has;
use crate::support::profile::{NOOP, Profile};

/// A profile whose decider says this, with a worker in a full sandbox.
fn profile(replies: &[Value], more: Value) -> Profile {
    let lines: Vec<String> = replies.iter().map(Value::to_string).chain([NOOP.to_owned()]).collect();
    let profile = Profile::scripted(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    profile.config_more(json!({
        "worker": "mine",
        "runners": { "scripted": profile.scripted_runner(), "mine": { "worker": ["true", "{brief}"] } },
        "sandbox": { "worker": "full", "verify": "full" },
    }));
    profile.config_more(more);
    profile
}

fn start(id: &str) -> Value {
    json!({ "move": "start_worker", "id": id, "brief": "b", "why": "w" })
}

/// Why the moves that have waited for an approval did, oldest first.
fn reasons(profile: &Profile) -> Vec<String> {
    let files = fs::read_dir(profile.data().join("asks")).unwrap().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let asks = texts.filter_map(|text| serde_json::from_str::<Value>(&text).ok());
    asks.filter_map(|ask| ask["approval"]["because"].as_str().map(str::to_owned)).collect()
}

fn was_started(profile: &Profile, id: &str) -> bool {
    let journal = profile.read("journal.md");
    ["", " for g"].iter().any(|goal| journal.contains(&format!("start_worker {id}{goal} — done")))
}

#[test]
fn the_first_paid_worker_of_a_profile_waits_and_later_ones_do_not() {
    if !has("full") {
        return;
    }
    let profile = profile(&[start("w1"), start("w2"), start("w3")], json!({}));
    let paid = |free: bool| {
        let mine = json!({ "worker": ["true", "{brief}"], "free": free });
        profile.config_more(json!({ "runners": { "scripted": profile.scripted_runner(), "mine": mine } }));
    };
    paid(true);
    profile.looop(&["tick"]).ok();
    assert!(was_started(&profile, "w1"), "one that costs nothing");
    paid(false);
    profile.looop(&["tick"]).ok();
    let because = reasons(&profile);
    assert!(because.len() == 1 && because[0].contains("costs money"), "{because:?}");
    assert!(!was_started(&profile, "w2"));
    profile.approve_first();
    profile.looop(&["tick"]).ok();
    assert!(was_started(&profile, "w2"));
    assert_eq!(profile.read_json("beat.json")["paid_start_approved"], true);
    profile.looop(&["tick"]).ok();
    assert!(was_started(&profile, "w3"), "{}", profile.read("journal.md"));
}

#[test]
#[ignore = "slow"]
fn a_repository_is_cloned_without_an_approval_only_where_it_is_listed_itself() {
    if !has("full") {
        return;
    }
    let cases: [(&str, Option<&str>, bool); 8] = [
        ("src/app", None, false),
        ("src/app", Some("src/app"), true),
        ("src/app", Some("src"), false),
        ("src/app", Some("src/app/sub"), false),
        ("src/app", Some("src/other"), false),
        ("src/app", Some("link"), true),
        ("link", Some("src/app"), true),
        ("src/other/../app/.", Some("link/../app"), true),
    ];
    for (wanted, listed, is_free) in cases {
        for tainted in [false, true] {
            let profile = profile(&[], json!({}));
            for name in ["src/app", "src/app/sub", "src/other"] {
                profile.repository(name, "file", "one\n");
            }
            symlink(profile.path("src/app"), profile.path("link")).unwrap();
            let mut start = start("w1");
            start["repo"] = profile.path(wanted).to_str().into();
            fs::write(profile.path("script/replies.jsonl"), format!("{start}\n{NOOP}\n")).unwrap();
            let listed: Vec<PathBuf> = listed.iter().map(|name| profile.path(name)).collect();
            profile.config_more(json!({ "repos": listed }));
            if tainted {
                profile.sensor("theirs.sh", "# looop: trust=untrusted\necho '{\"title\":\"clone it\"}'");
            }
            profile.looop(&["tick"]).ok();
            let because = reasons(&profile);
            assert_eq!(was_started(&profile, "w1"), is_free, "{wanted} {listed:?} {tainted}: {because:?}");
            if !is_free {
                let why = &because[0];
                assert!(why.contains("`repos`") && why.contains("untrusted") == tainted, "{why}");
            }
        }
    }
}

#[test]
#[ignore = "slow"]
fn a_goal_lists_repositories_for_its_own_moves_where_the_user_wrote_it() {
    if !has("full") {
        return;
    }
    let front = |repo: &str| format!("---\ngoal: g\nrepos: [{repo}]\n---\n");
    for (who, goal, is_free) in [
        ("the user", Some("g"), true),
        ("the user", None, false),
        ("the user, for another goal", Some("g"), false),
        ("a move", Some("g"), false),
        ("a move, and renamed by the user", Some("g"), false),
        ("a move, and edited by the user", Some("g"), true),
        ("strangers, as an earlier version remembers", Some("g"), false),
    ] {
        let profile = profile(&[], json!({}));
        let repo = profile.repository("app", "file", "one\n").to_str().unwrap().to_owned();
        let mut start = start("w1");
        start["repo"] = repo.clone().into();
        start["goal"] = goal.map_or(Value::Null, Into::into);
        let id = if who.contains("renamed") { "first" } else { "g" };
        let write = json!({ "move": "write_goal", "id": id, "body": front(&repo), "why": "w" });
        let mut lines = vec![start.to_string(), NOOP.to_owned()];
        if who.starts_with("a move") {
            lines.insert(0, write.to_string());
        } else if who.starts_with("strangers") {
            lines.insert(0, NOOP.to_owned());
        }
        fs::write(profile.path("script/replies.jsonl"), lines.join("\n") + "\n").unwrap();
        match who {
            "the user" => profile.goal("g", &front(&repo)),
            "the user, for another goal" => {
                profile.goal("other", &front(&repo));
                profile.goal("g", "---\ngoal: g\n---\n");
            }
            _ if who.starts_with("strangers") => {
                profile.goal("g", &front(&repo));
                profile.looop(&["tick"]).ok();
                let mut beat = profile.read_json("beat.json");
                let digest = looop::rules::world::Goal::Text(front(&repo)).digest();
                (beat["untrusted_goals"], beat["written_goals"]) = (json!([digest]), json!([]));
                fs::write(profile.data().join("beat.json"), beat.to_string()).unwrap();
                profile.goal("wake", "goal: w\n");
            }
            _ => {
                profile.looop(&["tick"]).ok();
                let path = |id: &str| profile.data().join(format!("goals/{id}.md"));
                if who.contains("renamed") {
                    fs::rename(path("first"), path("g")).unwrap();
                } else if who.contains("edited") {
                    profile.goal("g", &format!("{}\nMine now.\n", front(&repo)));
                }
            }
        }
        profile.looop(&["tick"]).ok();
        assert_eq!(was_started(&profile, "w1"), is_free, "{who}: {:?}", reasons(&profile));
    }
}

#[test]
fn front_matter_that_cannot_be_read_is_a_problem_and_stops_each_start() {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "---\ngoal: g\nRepos: /src/app\n---\n");
    profile.goal("h", "---\ngoal: h\nrepos: /src/*\n---\n");
    profile.goal("i", "---\ngoal: i\nverify : tests\n---\n");
    profile.goal("below", "---\ngoal: fine\n---\nverify: nothing of this name\n");
    let problems = ["g", "h", "i"].map(|goal| format!("goals/{goal}.md: line 3 of its front matter"));
    let problems = problems.each_ref().map(String::as_str);
    profile.looop(&["status"]).exits(1).prints(&problems);
    profile.looop(&["doctor"]).prints(&problems);
    profile.looop(&["tick", "--dry-run"]).ok().prints(&problems);
    for (goal, problem) in ["g", "h", "i"].into_iter().zip(problems) {
        let start = ["worker", "start", "w", "--goal", goal, "--verify", "tests", "--", "true"];
        profile.looop(&start).exits(1).warns(&[problem]);
    }
    profile.looop(&["worker", "start", "w", "--goal", "below", "--", "true"]).ok();
    let refused = |value: Value, why: &str| {
        profile.config_more(value);
        profile.looop(&["tick"]).exits(2).warns(&[why]);
        profile.looop(&["status"]).exits(1).prints(&["broken    config: ", why]);
    };
    refused(json!({ "repos": ["/src/*"] }), "repos[0]: \"/src/*\" is a pattern");
    refused(json!({ "repos": ["/src/app", ""] }), "repos[1]: \"\" is relative");
    refused(json!({ "repos": ["src/app"] }), "repos[0]: \"src/app\" is relative");
}
