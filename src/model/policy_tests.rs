//! Tests of policy: each row of the table, and each thing that must never be free.

use super::*;
use crate::model::settings::Rule;
use serde_json::json;

fn decided(value: serde_json::Value) -> Move {
    let mut value = value;
    value["why"] = "w".into();
    Move::from_json(&value).unwrap()
}

fn rules(allow: &[(&[&str], &[&str])]) -> Rules {
    let rule = |(argv, cwd): &(&[&str], &[&str])| Rule {
        argv: argv.iter().map(|s| (*s).to_owned()).collect(),
        cwd: cwd.iter().map(PathBuf::from).collect(),
    };
    Rules { allow: allow.iter().map(rule).collect(), ..Rules::default() }
}

fn facts(rules: &Rules) -> Facts<'_> {
    Facts {
        rules,
        tainted: false,
        data_dir: Path::new("/data"),
        place: Some(Path::new("/data")),
        protected: &[],
        resolve: lexical,
        was_cut: false,
        boxed: false,
        proposed: false,
        free_check: false,
        repo_listed: false,
        first_paid: false,
    }
}

fn run(argv: &[&str]) -> Move {
    decided(json!({ "move": "run", "argv": argv }))
}

#[test]
fn each_move_has_its_row() {
    let none = Rules::default();
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
        let got = match judge(&decided(value.clone()), &facts(&none)) {
            Verdict::Free => "free",
            Verdict::Waits(_) => "waits",
            Verdict::Refused(_) => "refused",
        };
        assert_eq!(got, expected, "{value}");
    }
}

#[test]
fn a_goal_that_a_worker_proposes_waits() {
    let none = Rules::default();
    let proposed = Facts { proposed: true, ..facts(&none) };
    let goal = decided(json!({ "move": "write_goal", "id": "g", "body": "b" }));
    assert!(matches!(judge(&goal, &proposed), Verdict::Waits(_)));
}

#[test]
fn a_repository_is_cloned_freely_only_where_it_is_listed() {
    let none = Rules::default();
    let start = decided(json!({ "move": "start_worker", "id": "w", "brief": "b", "repo": "/src/app" }));
    let unlisted = Facts { boxed: true, place: Some(Path::new("/src/app")), ..facts(&none) };
    for tainted in [false, true] {
        let unlisted = Facts { tainted, ..unlisted.clone() };
        let Verdict::Waits(why) = judge(&start, &unlisted) else { panic!("{tainted}") };
        assert!(why.contains("not listed in `repos`") && why.contains("untrusted") == tainted, "{why}");
        assert_eq!(judge(&start, &Facts { repo_listed: true, ..unlisted }), Verdict::Free);
    }
    let open = Facts { repo_listed: true, boxed: false, ..unlisted };
    assert!(matches!(judge(&start, &open), Verdict::Waits(_)), "a listed repository needs the sandbox too");
}

#[test]
fn the_first_paid_worker_waits_with_and_without_a_repository() {
    let none = Rules::default();
    let paid = Facts { boxed: true, repo_listed: true, first_paid: true, ..facts(&none) };
    let there = Facts { place: Some(Path::new("/src/app")), ..paid.clone() };
    for (value, facts) in [
        (json!({ "move": "start_worker", "id": "w", "brief": "b" }), &paid),
        (json!({ "move": "start_worker", "id": "w", "brief": "b", "repo": "/src/app" }), &there),
        (
            json!({ "move": "start_worker", "id": "w", "brief": "b", "kind": "fix", "repo": "/src/app" }),
            &there,
        ),
    ] {
        let Verdict::Waits(why) = judge(&decided(value.clone()), facts) else { panic!("{value}") };
        assert!(why.contains("costs money"), "{why}");
        let later = Facts { first_paid: false, ..facts.clone() };
        assert_eq!(judge(&decided(value), &later), Verdict::Free);
    }
}

#[test]
fn a_rule_frees_exactly_what_it_says() {
    let allow = rules(&[(&["git", "fetch", "*"], &[]), (&["ls", "**"], &["/src"]), (&["date"], &[])]);
    let here = facts(&allow);
    let there = Facts { place: Some(Path::new("/src")), ..here.clone() };
    assert_eq!(judge(&run(&["git", "fetch", "origin"]), &here), Verdict::Free);
    assert_eq!(judge(&run(&["date"]), &here), Verdict::Free);
    assert_eq!(judge(&run(&["ls"]), &there), Verdict::Free);
    assert_eq!(judge(&run(&["ls", "-l", "x"]), &there), Verdict::Free);
    for (argv, facts) in [
        (&["git", "fetch"][..], &here),
        (&["git", "fetch", "origin", "main"], &here),
        (&["git", "push", "origin"], &here),
        (&["ls"], &here),
        (&["date"], &there),
        (&["/usr/bin/date"], &here),
    ] {
        assert!(matches!(judge(&run(argv), facts), Verdict::Waits(_)), "{argv:?}");
    }
}

#[test]
fn a_shell_line_is_never_free() {
    let allow = rules(&[(&["sh", "-c", "date"], &[]), (&["**"], &[])]);
    let line = decided(json!({"move":"run","sh":"date"}));
    assert!(matches!(judge(&line, &facts(&allow)), Verdict::Waits(_)));
}

#[test]
fn untrusted_text_takes_wildcards_and_free_moves_away() {
    let mut allow = rules(&[(&["git", "fetch", "*"], &[]), (&["date"], &[])]);
    allow.free_moves = vec!["write_playbook".to_owned()];
    let clean = facts(&allow);
    let tainted = Facts { tainted: true, ..clean.clone() };
    assert_eq!(judge(&run(&["git", "fetch", "x"]), &clean), Verdict::Free);
    assert!(matches!(judge(&run(&["git", "fetch", "x"]), &tainted), Verdict::Waits(_)));
    assert_eq!(judge(&run(&["date"]), &tainted), Verdict::Free);
    let playbook = decided(json!({"move":"write_playbook","body":"b"}));
    assert_eq!(judge(&playbook, &clean), Verdict::Free);
    assert!(matches!(judge(&playbook, &tainted), Verdict::Waits(_)));
}

#[test]
fn a_freed_sensor_that_asks_for_a_credential_or_a_path_waits() {
    let allow = Rules { free_moves: vec!["write_sensor".to_owned()], ..Rules::default() };
    for (header, free) in [
        ("interval=5m", true),
        ("env=GH_TOKEN", false),
        ("write=~/.ssh", false),
        ("interval=5m env=A", false),
        ("what=now", false),
    ] {
        let script = format!("#!/bin/sh\n# looop: {header}\necho '{{}}'\n");
        let sensor = decided(json!({ "move": "write_sensor", "name": "s", "script": script }));
        let verdict = judge(&sensor, &facts(&allow));
        assert_eq!(verdict == Verdict::Free, free, "{header}: {verdict:?}");
    }
}

#[test]
fn what_is_looops_own_is_refused() {
    let allow = rules(&[(&["**"], &["/data", "/data/asks", "/src", "/conf"])]);
    let config = [PathBuf::from("/conf")];
    let base = Facts { protected: &config, ..facts(&allow) };
    for cwd in ["/data/asks", "/data/.git/refs", "/data/workers/w1/clone", "/conf"] {
        let there = Facts { place: Some(Path::new(cwd)), ..base.clone() };
        assert!(matches!(judge(&run(&["ls"]), &there), Verdict::Refused(_)), "{cwd}");
    }
    for arg in [
        "asks/x.answer.json",
        "./goals/../asks",
        "/data/.git/config",
        "--output=/data/beat.json",
        "/conf/looop.json",
    ] {
        assert!(matches!(judge(&run(&["cp", "a", arg]), &base), Verdict::Refused(_)), "{arg}");
    }
    let nowhere = Facts { place: None, ..base.clone() };
    assert!(matches!(judge(&run(&["ls"]), &nowhere), Verdict::Refused(_)));
    assert_eq!(judge(&run(&["ls", "goals"]), &base), Verdict::Free);
}

#[test]
fn what_was_cut_is_not_written_back() {
    let none = Rules::default();
    let cut = Facts { was_cut: true, ..facts(&none) };
    let goal = decided(json!({"move":"write_goal","id":"g","body":"b"}));
    assert!(matches!(judge(&goal, &cut), Verdict::Refused(_)));
}

#[test]
fn no_way_of_writing_a_path_hides_what_it_names() {
    let linked = |path: &Path| {
        let path = lexical(path);
        path.strip_prefix("/data/l").map_or_else(|_| path.clone(), |rest| Path::new("/data").join(rest))
    };
    let config = [PathBuf::from("/home/u/conf")];
    let allow = rules(&[(&["cp", "**"], &["/data", "/src"])]);
    let here = Facts { resolve: linked, protected: &config, ..facts(&allow) };
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
        assert!(matches!(judge(&run(&["cp", "goals/g.md", arg]), &here), Verdict::Refused(_)), "{arg}");
    }
    for arg in ["/elsewhere/x", "../x", "-t/tmp", "--target-directory=/tmp", ".", "-t.", "..", "/", "/home/u"]
    {
        let said = judge(&run(&["cp", "-r", "goals/asks", arg]), &here);
        assert_eq!(said, Verdict::Waits(format!("{arg:?} reaches further than a wildcard frees")));
    }
    for arg in ["goals/h.md", "l/goals/h.md", "notes", "--format", "-v"] {
        assert_eq!(judge(&run(&["cp", "goals/g.md", arg]), &here), Verdict::Free, "{arg}");
    }
    let exact = rules(&[(&["cp", "**"], &["/data"]), (&["cp", "/etc/motd", "*"], &["/data"])]);
    let named = Facts { rules: &exact, ..here.clone() };
    assert_eq!(judge(&run(&["cp", "/etc/motd", "goals/h.md"]), &named), Verdict::Free, "the rule names it");
    let there = Facts { place: Some(Path::new("/src")), ..here };
    assert_eq!(judge(&run(&["cp", "a", "/src/b"]), &there), Verdict::Free);
}

#[test]
fn a_wildcard_frees_no_argument_that_leads_out_in_any_spelling() {
    let allow = rules(&[(&["tool", "**"], &["/src"])]);
    let here = Facts { place: Some(Path::new("/src")), ..facts(&allow) };
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
        let said = judge(&run(&["tool", arg]), &here);
        assert_eq!(said, Verdict::Waits(format!("{arg:?} reaches further than a wildcard frees")), "{arg}");
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
        assert_eq!(judge(&run(&["tool", arg]), &here), Verdict::Free, "{arg}");
    }
    let many: Vec<String> = (0..MAX_RESOLVED).map(|n| format!("a{n}")).collect();
    let many = many.join(",");
    assert!(
        matches!(judge(&run(&["tool", &many]), &here), Verdict::Waits(_)),
        "it is too long to be followed"
    );
    // A link in the folder leads out of it.
    let linked = |path: &Path| {
        let path = lexical(path);
        path.strip_prefix("/src/l").map_or_else(|_| path.clone(), |rest| Path::new("/abs").join(rest))
    };
    let here = Facts { resolve: linked, ..here };
    for arg in ["l", "l/x", "--x=l/x", "@l/x"] {
        assert!(matches!(judge(&run(&["tool", arg]), &here), Verdict::Waits(_)), "{arg}");
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
    let here = Facts { place: Some(Path::new("/src")), resolve: linked, ..facts(&allow) };
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
        assert!(matches!(judge(&run(&["cp", arg]), &here), Verdict::Refused(_)), "{arg}");
    }
    let line = decided(json!({ "move": "run", "sh": "git log > .git/hooks/x" }));
    assert!(matches!(judge(&line, &here), Verdict::Refused(_)));
    for arg in [".gitignore", ".github/x", "a.git", "--exclude=.git", "--exclude-dir=.git"] {
        assert_eq!(judge(&run(&["cp", arg]), &here), Verdict::Free, "{arg}");
    }
    let inside = Facts { place: Some(Path::new("/src/.git/hooks")), ..here };
    for argv in [&["ls"][..], &["/bin/ls"], &["/bin/ls", "/etc"]] {
        assert!(matches!(judge(&run(argv), &inside), Verdict::Refused(_)), "{argv:?}");
    }
}

#[test]
fn a_wildcard_frees_no_path_that_executes_on_the_users_side() {
    let allow = rules(&[(&["tool", "**"], &["/src"])]);
    let followed = |path: &Path| match path.ends_with("link") {
        true => PathBuf::from("/src/.husky/pre-commit"),
        false => path.to_owned(),
    };
    let here = Facts { place: Some(Path::new("/src")), resolve: followed, ..facts(&allow) };
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
        let Verdict::Waits(why) = judge(&run(&["tool", arg]), &here) else { panic!("{arg} is not free") };
        assert!(why.contains("executes on your side") && why.contains("which no wildcard frees"), "{why}");
    }
    for arg in ["src/main.rs", "-v", "environment", "Makefile"] {
        assert_eq!(judge(&run(&["tool", arg]), &here), Verdict::Free, "{arg}");
    }
    let exact = rules(&[(&["tool", ".envrc", "*"], &["/src"])]);
    assert_eq!(
        judge(&run(&["tool", ".envrc", "x"]), &Facts { rules: &exact, ..here.clone() }),
        Verdict::Free
    );
    // The name of a folder above the project says nothing.
    let allow = rules(&[(&["tool", "**"], &["/u/.run/src"])]);
    let below = Facts { place: Some(Path::new("/u/.run/src")), rules: &allow, ..here };
    assert_eq!(judge(&run(&["tool", "a", "/u/.run/src/b"]), &below), Verdict::Free);
}
