//! What a yes to the start of a worker covers: its program, grants, checks, goal, and the commit that it starts from.

use std::fs::{self, Permissions, create_dir_all, rename, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use super::{NOOP, approve, asks};
use crate::support::profile::{Profile, git_in};

/// A profile whose decider wants a worker with all that a worker can have.
fn scene() -> Profile {
    let mut profile = Profile::scripted(&[NOOP]);
    profile.var("DEPLOY_KEY", "canary-value");
    profile.unboxed(&["worker", "verify"]);
    let program = profile.path("home/bin/agent");
    create_dir_all(program.parent().unwrap()).unwrap();
    write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    for file in ["home/granted/file", "home/other/file", "home/rules.txt", "home/key"] {
        create_dir_all(profile.path(file).parent().unwrap()).unwrap();
        write(profile.path(file), "text\n").unwrap();
    }
    symlink("granted", profile.path("home/link")).unwrap();
    let repo = profile.path("home/repo");
    fs::create_dir(&repo).unwrap();
    git_in(&repo, &["init", "-q"]);
    git_in(&repo, &["commit", "-qm", "one", "--allow-empty"]);
    profile.goal("g1", "goal: be good\n");
    let wanted = json!({ "move": "start_worker", "id": "w1", "goal": "g1", "brief": "Do it.", "why": "w", "verify": "tests",
        "repo": "~/repo", "grant": ["~/link", "~/key", "DEPLOY_KEY"] });
    profile.script(&[&wanted.to_string()]);
    let mut scripted = profile.scripted_runner();
    scripted["worker"] = json!([program, "--rules", profile.path("home/rules.txt"), "{brief}"]);
    profile.config_more(json!({
        "runners": { "scripted": scripted }, "worker": "scripted", "verify": { "tests": ["true"] },
    }));
    profile
}

fn waiting(profile: &Profile, what: &str) -> Value {
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains("waits for ap-"), "{what}: {ran:?}");
    asks(profile).pop().unwrap()
}

/// One kind of swap.
type Swap = fn(&Profile);

#[test]
fn each_kind_of_swap_voids_a_yes_to_a_worker() {
    let profile = scene();
    let swaps: [(&str, Swap); 10] = [
        ("program", |p| write(p.path("home/bin/agent"), "#!/bin/sh\nexec sleep 601\n").unwrap()),
        ("a file that its command names", |p| write(p.path("home/rules.txt"), "evil\n").unwrap()),
        ("the target of a grant", |p| {
            fs::remove_file(p.path("home/link")).unwrap();
            symlink("other", p.path("home/link")).unwrap();
        }),
        ("a granted folder", |p| {
            rename(p.path("home/other"), p.path("home/was")).unwrap();
            fs::create_dir(p.path("home/other")).unwrap();
        }),
        ("a granted file", |p| write(p.path("home/key"), "evil\n").unwrap()),
        ("goal", |p| p.goal("g1", "goal: be bad\n")),
        ("check", |p| p.config_more(json!({ "verify": { "tests": ["false"] } }))),
        ("base commit", |p| drop(git_in(&p.path("home/repo"), &["commit", "-qm", "two", "--allow-empty"]))),
        ("ref", |p| drop(git_in(&p.path("home/repo"), &["checkout", "-qb", "evil"]))),
        ("repository", |p| {
            rename(p.path("home/repo"), p.path("home/old")).unwrap();
            let copied = Command::new("cp").args(["-a", "old", "repo"]).current_dir(p.path("home")).status();
            assert!(copied.unwrap().success());
        }),
    ];
    for (what, swap) in swaps {
        let ask = waiting(&profile, what);
        approve(&profile, &ask).ok();
        swap(&profile);
        let ran = profile.looop(&["tick"]).ok();
        assert!(
            ran.stdout.contains("something that the approval covered has changed since"),
            "{what}: {ran:?}"
        );
        assert!(!profile.data().join("workers/w1").exists(), "{what}");
    }
}

#[test]
fn another_value_of_a_granted_variable_voids_a_yes() {
    let profile = scene();
    let ask = waiting(&profile, "a variable");
    approve(&profile, &ask).ok();
    let ran = profile.command(&["tick"]).env("DEPLOY_KEY", "other").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(said.contains("something that the approval covered has changed since: a grant"), "{said}");
    assert!(!profile.data().join("workers/w1").exists());
    let file = fs::read_to_string(profile.data().join("journal.md")).unwrap();
    assert!(
        !file.contains("canary-value") && !ask.to_string().contains("canary-value"),
        "no value is written down"
    );
}

#[test]
fn grants_are_first_on_the_screen_and_resolved() {
    let profile = scene();
    let ask = waiting(&profile, "screen");
    let shown = profile.looop(&["asks"]).ok().stdout;
    let at = |path: &str| fs::canonicalize(profile.path(path)).unwrap().display().to_string();
    let head = git_in(&profile.path("home/repo"), &["rev-parse", "HEAD"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[1].starts_with(&format!("  grants   the folder {}, named as ~/link", at("home/granted"))),
        "{shown}"
    );
    assert!(
        lines[2].starts_with(&format!("  grants   the file {}, named as ~/key", at("home/key"))),
        "{shown}"
    );
    assert!(lines[3].starts_with("  grants   the variable DEPLOY_KEY"), "{shown}");
    for words in [
        "move     start_worker".to_owned(),
        format!("clone of {}", at("home/repo")),
        format!("base     {}, which is ref: refs/heads/main", head.trim()),
        "check    tests: true".to_owned(),
        "sandbox  none; its checks: none".to_owned(),
        "network  the whole network, and the services of this machine; its checks: the whole network"
            .to_owned(),
        "writes   everything that you may write".to_owned(),
        format!("{}: what is in it", at("home/granted")),
        "because it grants a credential or a path".to_owned(),
    ] {
        assert!(shown.contains(&words), "{words}: {shown}");
    }
    assert_eq!(ask["scope"]["repo"]["base"], head.trim());
    assert_eq!(ask["scope"]["grants"][0]["path"], json!(at("home/granted")));
}
