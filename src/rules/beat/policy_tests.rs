//! Tests of policy: each row of the table, and each move that must never be free.

use super::*;
use crate::rules::beat::settings::{FreeMove, RunRule};
use serde_json::json;

fn decided(value: serde_json::Value) -> Move {
    let mut value = value;
    value["why"] = "w".into();
    Move::from_json(&value).unwrap()
}

fn rules(allow: &[(&[&str], &[&str])]) -> PolicyRules {
    let rule = |(argv, cwd): &(&[&str], &[&str])| RunRule {
        argv: argv.iter().map(|s| (*s).to_owned()).collect(),
        cwd: cwd.iter().map(PathBuf::from).collect(),
        note: None,
    };
    PolicyRules { allow: allow.iter().map(rule).collect(), ..PolicyRules::default() }
}

fn facts(rules: &PolicyRules) -> PolicyFacts<'_> {
    PolicyFacts {
        rules,
        tainted: false,
        data_dir: Path::new("/data"),
        place: Some(Path::new("/data")),
        protected: &[],
        resolve: lexical,
        was_truncated: false,
        sandbox: false,
        proposed: false,
        free_check: false,
        repo_listed: false,
        first_paid: false,
    }
}

fn run(argv: &[&str]) -> Move {
    decided(json!({ "move": "run", "argv": argv }))
}

const FREE: PolicyDecision = PolicyDecision::Free;

fn verdict(decided: &Move, facts: &PolicyFacts) -> &'static str {
    match judge(decided, facts) {
        PolicyDecision::Free => "free",
        PolicyDecision::Waits(_) => "waits",
        PolicyDecision::Refused(_) => "refused",
    }
}

#[test]
fn each_move_has_its_row() {
    let none = PolicyRules::default();
    let rows = [
        (json!({"move":"noop"}), "free"),
        (json!({"move":"write_goal","id":"g","body":"b"}), "free"),
        (json!({"move":"archive_goal","id":"g"}), "free"),
        (json!({"move":"ask","text":"t"}), "free"),
        (json!({"move":"schedule","name":"s","in_s":5,"note":"n"}), "free"),
        (json!({"move":"drop_schedule","name":"s"}), "free"),
        (json!({"move":"stop_worker","id":"w"}), "free"),
        (json!({"move":"tell_worker","id":"w","text":"t"}), "free"),
        (json!({"move":"run","argv":["true"]}), "waits"),
        (json!({"move":"run","sh":"true"}), "waits"),
        (json!({"move":"write_playbook","body":"b"}), "waits"),
        (json!({"move":"write_sensor","name":"s","script":"#!/bin/sh\n"}), "waits"),
        (json!({"move":"start_worker","id":"w","brief":"b"}), "waits"),
        (json!({"move":"start_worker","id":"w","brief":"b","grant":["X"]}), "waits"),
    ];
    for (value, expected) in rows {
        assert_eq!(verdict(&decided(value.clone()), &facts(&none)), expected, "{value}");
    }
}

#[test]
fn a_goal_that_a_worker_proposes_waits() {
    let none = PolicyRules::default();
    let proposed = PolicyFacts { proposed: true, ..facts(&none) };
    let goal = decided(json!({ "move": "write_goal", "id": "g", "body": "b" }));
    assert_eq!(verdict(&goal, &proposed), "waits");
}

#[test]
fn only_a_listed_repository_is_cloned_without_approval() {
    let none = PolicyRules::default();
    let start = decided(json!({ "move": "start_worker", "id": "w", "brief": "b", "repo": "/src/app" }));
    let unlisted = PolicyFacts { sandbox: true, place: Some(Path::new("/src/app")), ..facts(&none) };
    for tainted in [false, true] {
        let unlisted = PolicyFacts { tainted, ..unlisted.clone() };
        let PolicyDecision::Waits(why) = judge(&start, &unlisted) else { panic!("{tainted}") };
        assert!(why.contains("not listed in `repos`") && why.contains("untrusted") == tainted, "{why}");
        assert_eq!(judge(&start, &PolicyFacts { repo_listed: true, ..unlisted }), FREE);
    }
    let open = PolicyFacts { repo_listed: true, sandbox: false, ..unlisted };
    assert_eq!(verdict(&start, &open), "waits", "a listed repository needs the sandbox too");
}

#[test]
fn the_first_paid_worker_waits_with_and_without_a_repository() {
    let none = PolicyRules::default();
    let paid = PolicyFacts { sandbox: true, repo_listed: true, first_paid: true, ..facts(&none) };
    let there = PolicyFacts { place: Some(Path::new("/src/app")), ..paid.clone() };
    for (value, facts) in [
        (json!({ "move": "start_worker", "id": "w", "brief": "b" }), &paid),
        (json!({ "move": "start_worker", "id": "w", "brief": "b", "repo": "/src/app" }), &there),
        (
            json!({ "move": "start_worker", "id": "w", "brief": "b", "kind": "fix", "repo": "/src/app" }),
            &there,
        ),
    ] {
        let PolicyDecision::Waits(why) = judge(&decided(value.clone()), facts) else { panic!("{value}") };
        assert!(why.contains("costs money"), "{why}");
        let later = PolicyFacts { first_paid: false, ..facts.clone() };
        assert_eq!(judge(&decided(value), &later), FREE);
    }
}

#[test]
fn a_rule_frees_exactly_what_it_says() {
    let allow = rules(&[(&["git", "fetch", "*"], &[]), (&["ls", "**"], &["/src"]), (&["date"], &[])]);
    let here = facts(&allow);
    let there = PolicyFacts { place: Some(Path::new("/src")), ..here.clone() };
    assert_eq!(judge(&run(&["git", "fetch", "origin"]), &here), FREE);
    assert_eq!(judge(&run(&["date"]), &here), FREE);
    assert_eq!(judge(&run(&["ls"]), &there), FREE);
    assert_eq!(judge(&run(&["ls", "-l", "x"]), &there), FREE);
    for (argv, facts) in [
        (&["git", "fetch"][..], &here),
        (&["git", "fetch", "origin", "main"], &here),
        (&["git", "push", "origin"], &here),
        (&["ls"], &here),
        (&["date"], &there),
        (&["/usr/bin/date"], &here),
    ] {
        assert_eq!(verdict(&run(argv), facts), "waits", "{argv:?}");
    }
}

#[test]
fn a_shell_line_is_never_free() {
    let allow = rules(&[(&["sh", "-c", "date"], &[]), (&["**"], &[])]);
    let line = decided(json!({"move":"run","sh":"date"}));
    assert_eq!(verdict(&line, &facts(&allow)), "waits");
}

#[test]
fn untrusted_text_disables_wildcards_and_free_moves() {
    let mut allow = rules(&[(&["git", "fetch", "*"], &[]), (&["date"], &[])]);
    allow.free_moves = vec![FreeMove::WritePlaybook];
    let clean = facts(&allow);
    let tainted = PolicyFacts { tainted: true, ..clean.clone() };
    assert_eq!(judge(&run(&["git", "fetch", "x"]), &clean), FREE);
    assert_eq!(verdict(&run(&["git", "fetch", "x"]), &tainted), "waits");
    assert_eq!(judge(&run(&["date"]), &tainted), FREE);
    let playbook = decided(json!({"move":"write_playbook","body":"b"}));
    assert_eq!(judge(&playbook, &clean), FREE);
    assert_eq!(verdict(&playbook, &tainted), "waits");
}

#[test]
fn a_freed_sensor_that_asks_for_a_credential_or_a_path_waits() {
    let allow = PolicyRules { free_moves: vec![FreeMove::WriteSensor], ..PolicyRules::default() };
    for (header, free) in [
        ("interval=5m", true),
        ("env=GH_TOKEN", false),
        ("write=~/.ssh", false),
        ("interval=5m env=A", false),
        ("what=now", false),
    ] {
        let script = format!("#!/bin/sh\n# looop: {header}\necho '{{}}'\n");
        let sensor = decided(json!({ "move": "write_sensor", "name": "s", "script": script }));
        let decision = judge(&sensor, &facts(&allow));
        assert_eq!(decision == PolicyDecision::Free, free, "{header}: {decision:?}");
    }
}

#[test]
fn access_to_looops_own_files_is_refused() {
    let allow = rules(&[(&["**"], &["/data", "/data/asks", "/src", "/conf"])]);
    let config = [PathBuf::from("/conf")];
    let base = PolicyFacts { protected: &config, ..facts(&allow) };
    for cwd in ["/data/asks", "/data/.git/refs", "/data/workers/w1/clone", "/conf"] {
        let there = PolicyFacts { place: Some(Path::new(cwd)), ..base.clone() };
        assert_eq!(verdict(&run(&["ls"]), &there), "refused", "{cwd}");
    }
    for arg in [
        "asks/x.answer.json",
        "./goals/../asks",
        "/data/.git/config",
        "--output=/data/beat.json",
        "/conf/looop.json",
    ] {
        assert_eq!(verdict(&run(&["cp", "a", arg]), &base), "refused", "{arg}");
    }
    let nowhere = PolicyFacts { place: None, ..base.clone() };
    assert_eq!(verdict(&run(&["ls"]), &nowhere), "refused");
    assert_eq!(judge(&run(&["ls", "goals"]), &base), FREE);
}

#[test]
fn truncated_text_is_not_written_back() {
    let none = PolicyRules::default();
    let cut = PolicyFacts { was_truncated: true, ..facts(&none) };
    let goal = decided(json!({"move":"write_goal","id":"g","body":"b"}));
    assert_eq!(verdict(&goal, &cut), "refused");
}

#[test]
fn no_spelling_of_a_path_hides_what_it_names() {
    let linked = |path: &Path| {
        let path = lexical(path);
        path.strip_prefix("/data/l").map_or_else(|_| path.clone(), |rest| Path::new("/data").join(rest))
    };
    let config = [PathBuf::from("/home/u/conf")];
    let allow = rules(&[(&["cp", "**"], &["/data", "/src"])]);
    let here = PolicyFacts { resolve: linked, protected: &config, ..facts(&allow) };
    for arg in [
        "-tasks",
        "-t.git",
        "-rt/data/asks",
        "-t=asks",
        "--opt=key=asks/x",
        "l/.git/y",
        "-tl/asks",
        "tick.lock",
        "PLAYBOOK.md",
        "sensors/today.sh",
        "schedules/s.json",
        "format",
        "reports/w.md",
        "cost/x",
        "journal.md",
        "journal/2026.md",
        "paused.json",
    ] {
        assert_eq!(verdict(&run(&["cp", "goals/g.md", arg]), &here), "refused", "{arg}");
    }
    for arg in ["/elsewhere/x", "../x", "-t/tmp", "--target-directory=/tmp", ".", "-t.", "..", "/", "/home/u"]
    {
        let stated = judge(&run(&["cp", "-r", "goals/asks", arg]), &here);
        assert_eq!(stated, PolicyDecision::Waits(format!("{arg:?} reaches further than a wildcard frees")));
    }
    for arg in ["goals/h.md", "l/goals/h.md", "notes", "--format", "-v"] {
        assert_eq!(judge(&run(&["cp", "goals/g.md", arg]), &here), FREE, "{arg}");
    }
    let exact = rules(&[(&["cp", "**"], &["/data"]), (&["cp", "/etc/motd", "*"], &["/data"])]);
    let named = PolicyFacts { rules: &exact, ..here.clone() };
    assert_eq!(judge(&run(&["cp", "/etc/motd", "goals/h.md"]), &named), FREE, "the rule names the file");
    let there = PolicyFacts { place: Some(Path::new("/src")), ..here };
    assert_eq!(judge(&run(&["cp", "a", "/src/b"]), &there), FREE);
}

#[test]
fn a_wildcard_frees_no_argument_that_leads_out_in_any_spelling() {
    let allow = rules(&[(&["tool", "**"], &["/src"])]);
    let here = PolicyFacts { place: Some(Path::new("/src")), ..facts(&allow) };
    for arg in [
        "@/abs",
        "file:///abs",
        "x=@/abs",
        "{a,/abs}",
        "a:/abs",
        "a,/abs",
        "a;/abs",
        "--x='/abs'",
        "--x=\"/abs\"",
        "-x/abs",
        "-xy=/abs",
        "@../a",
        "x=@../a",
        "{..,a}/b",
        "a:../b",
        "--x=a/../../b",
        "<(/abs)",
        "a b /abs",
        "a|/abs",
        ".{.,b}/c",
        "~/a",
        "x=~/a",
        "$HOME/a",
        "${HOME}",
        "%2fabs",
        "x:%2e%2e/a",
        "key:@/abs",
        "file:/abs",
        "unix:///abs",
    ] {
        let stated = judge(&run(&["tool", arg]), &here);
        assert_eq!(stated, PolicyDecision::Waits(format!("{arg:?} reaches further than a wildcard frees")));
    }
    for arg in [
        "a",
        "@a",
        "x=@a",
        "{a,b}",
        "a:b",
        "/src/a",
        "x=/src/a",
        "https://example.org/a",
        "main..dev",
        "HEAD~1",
    ] {
        assert_eq!(judge(&run(&["tool", arg]), &here), FREE, "{arg}");
    }
    let many: Vec<String> = (0..MAX_RESOLVED).map(|n| format!("a{n}")).collect();
    let many = many.join(",");
    assert_eq!(verdict(&run(&["tool", &many]), &here), "waits", "it is too long to be followed");
    // A link in the folder leads out of it.
    let linked = |path: &Path| {
        let path = lexical(path);
        path.strip_prefix("/src/l").map_or_else(|_| path.clone(), |rest| Path::new("/abs").join(rest))
    };
    let here = PolicyFacts { resolve: linked, ..here };
    for arg in ["l", "l/x", "--x=l/x", "@l/x"] {
        assert_eq!(verdict(&run(&["tool", arg]), &here), "waits", "{arg}");
    }
}

#[test]
fn an_argument_in_a_git_directory_is_refused() {
    let linked = |path: &Path| {
        let path = lexical(path);
        path.strip_prefix("/src/l")
            .map_or_else(|_| path.clone(), |rest| Path::new("/src/.git/hooks").join(rest))
    };
    let allow = rules(&[(&["**"], &["/src", "/src/.git/hooks"])]);
    let here = PolicyFacts { place: Some(Path::new("/src")), resolve: linked, ..facts(&allow) };
    for arg in [
        "--output=.git/hooks/x",
        ".git/config",
        "sub/.git/hooks/x",
        "/other/.git/x",
        ".GIT/hooks/x",
        "GIT~1/hooks/x",
        "-t.git/hooks",
        "@.git/x",
        "x=@sub/.Git/x",
        "{a,.git/hooks/x}",
        "file:///src/.git/x",
        "l/post-commit",
        ".git",
        "a/../.git/x",
        "sh -c 'cp a .git/hooks/x'",
        ".git%2fhooks%2fx",
        ".g\"it\"/hooks/x",
    ] {
        assert_eq!(verdict(&run(&["cp", arg]), &here), "refused", "{arg}");
    }
    let line = decided(json!({ "move": "run", "sh": "git log > .git/hooks/x" }));
    assert_eq!(verdict(&line, &here), "refused");
    for arg in [".gitignore", ".github/x", "a.git", "--exclude=.git", "--exclude-dir=.git"] {
        assert_eq!(judge(&run(&["cp", arg]), &here), FREE, "{arg}");
    }
    let inside = PolicyFacts { place: Some(Path::new("/src/.git/hooks")), ..here };
    for argv in [&["ls"][..], &["/bin/ls"], &["/bin/ls", "/etc"]] {
        assert_eq!(verdict(&run(argv), &inside), "refused", "{argv:?}");
    }
}

#[test]
fn a_wildcard_frees_no_path_that_executes_on_the_users_side() {
    let allow = rules(&[(&["tool", "**"], &["/src"])]);
    let followed = |path: &Path| match path.ends_with("link") {
        true => PathBuf::from("/src/.husky/pre-commit"),
        false => path.to_owned(),
    };
    let here = PolicyFacts { place: Some(Path::new("/src")), resolve: followed, ..facts(&allow) };
    for arg in [
        ".envrc",
        "a/.vscode/tasks.json",
        "--output=.envrc",
        "-o.envrc",
        "@CLAUDE.md",
        "x:=@.npmrc",
        "/src/.ENVRC",
        "a/link",
    ] {
        let PolicyDecision::Waits(why) = judge(&run(&["tool", arg]), &here) else {
            panic!("{arg} is not free")
        };
        assert!(why.contains("executes on your side") && why.contains("which no wildcard frees"), "{why}");
    }
    for arg in ["src/main.rs", "-v", "environment", "Makefile"] {
        assert_eq!(judge(&run(&["tool", arg]), &here), FREE, "{arg}");
    }
    let exact = rules(&[(&["tool", ".envrc", "*"], &["/src"])]);
    assert_eq!(judge(&run(&["tool", ".envrc", "x"]), &PolicyFacts { rules: &exact, ..here.clone() }), FREE);
    // The name of a folder above the project says nothing.
    let allow = rules(&[(&["tool", "**"], &["/u/.run/src"])]);
    let below = PolicyFacts { place: Some(Path::new("/u/.run/src")), rules: &allow, ..here };
    assert_eq!(judge(&run(&["tool", "a", "/u/.run/src/b"]), &below), FREE);
}
