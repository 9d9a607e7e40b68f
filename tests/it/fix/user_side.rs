//! Changes of files that execute on the user's side: they wait on a branch, and are named first.

use std::fs;
use std::os::unix::fs::symlink;

use super::adder::{self, CHECK, FIXED, FIXED_LIB, LIB, TASK, TESTS};
use super::fixture::Fixture;
use crate::support::profile::{git_in, wait_until};

#[test]
#[ignore = "slow"]
fn a_change_that_runs_on_the_users_side_waits_on_a_branch_and_is_named_first() {
    for (body, path, reason) in [
        ("mkdir .husky; echo x >.husky/pre-commit", ".husky/pre-commit", "git hooks run it"),
        ("mkdir sub; echo x >sub/.envrc", "sub/.envrc", "the shell runs it"),
        ("mkdir .VSCode; echo {} >.VSCode/tasks.json", ".VSCode/tasks.json", "an editor"),
        ("mkdir .claude; echo {} >.claude/settings.json", ".claude/settings.json", "a coding agent"),
        ("echo x >claude.md", "claude.md", "a coding agent"),
        ("rm .gitattributes", ".gitattributes", "git runs or obeys it"),
        ("printf '#!/bin/sh\\n' >tool.sh; chmod +x tool.sh", "tool.sh", "becomes executable"),
        ("ln -s /etc/hostname link", "link", "a link that leads out"),
        ("mkdir sub; ln -s ../../x sub/link", "sub/link", "a link that leads out"),
    ] {
        let scene = adder::project(&[(".gitattributes", "*.x binary\n")]);
        scene.leanfile(TESTS, TASK);
        scene.agent(&format!("{FIXED}; {body}"));
        let ran = scene.fix(&[]).ok();
        let output =
            ran.stdout.lines().find(|line| line.starts_with("changed files that run on your side: "));
        let output = output.unwrap_or_else(|| panic!("{body}: {}", ran.stdout));
        assert!(output.contains(&format!("{path} (")) && output.contains(reason), "{body}: {output}");
        assert!(output.contains("on branch looop/fix-add"), "{body}: {output}");
        let status = git_in(&scene.project(), &["status", "--short"]);
        assert_eq!(status, "", "{body}: no file of the user changed");
        assert_eq!(scene.read("lib.sh"), LIB);
        let names = git_in(&scene.project(), &["diff", "--name-only", "HEAD", "looop/fix-add"]);
        assert!(names.lines().any(|name| name == path) && names.contains("lib.sh"), "{body}: {names}");
    }
}

#[test]
fn links_within_the_project_and_build_files_land_as_usual() {
    let scene = adder::fixture(TASK);
    scene.agent(&format!("{FIXED}; mkdir sub; ln -s ../lib.sh sub/link; echo all: >Makefile"));
    let ran = scene.fix(&[]).ok();
    assert!(!ran.stdout.contains("run on your side"), "{}", ran.stdout);
    assert!(scene.project().join("sub/link").is_symlink());
    assert_eq!(scene.read("lib.sh"), FIXED_LIB);
}

#[test]
fn a_project_without_git_keeps_such_a_result_apart() {
    let scene = Fixture::plain(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    scene.leanfile(TESTS, TASK);
    scene.agent(&format!("{FIXED}; echo x >.envrc"));
    scene.fix(&[]).ok().prints(&[".envrc (", "the branch `result` of "]);
    assert!(!scene.project().join(".envrc").exists() && scene.read("lib.sh") == LIB);
}

#[test]
fn a_branch_of_a_worker_names_such_files_first_in_list_json_and_journal() {
    let scene = adder::project(&[]);
    let repo = scene.project();
    let script = "mkdir .husky; echo x >.husky/pre-commit; echo y >normal.txt; ln -s / root; git add -A; git commit -qm work";
    scene.profile.without_sandbox(&["worker"]);
    let args = ["worker", "start", "w1", "--repo", repo.to_str().unwrap(), "--", "sh", "-c", script];
    scene.profile.looop(&args).ok();
    let row = || {
        let listed = scene.profile.looop(&["ls", "--all", "--json"]).ok().json();
        listed["workers"].as_array().unwrap().first().cloned().unwrap_or_default()
    };
    wait_until("the worker is done", || row()["branch"] == "looop/w1");
    let row = row();
    let named: Vec<&str> =
        row["user_side"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(named, [".husky/pre-commit", "root"], "{row}");
    assert!(row["user_side"][0]["reason"].as_str().unwrap().contains("git hooks"), "{row}");
    let journal = || scene.profile.read("journal.md");
    wait_until("the worker's end is in the journal", || journal().contains("worker w1"));
    let journal = journal();
    let line = journal.lines().find(|line| line.contains("[worker w1]")).unwrap();
    let at = |word: &str| line.find(word).unwrap_or_else(|| panic!("{word}: {line}"));
    assert!(at(".husky/pre-commit (") < at("branch looop/w1"), "{line}");
    scene.profile.looop(&["ls"]).ok().prints(&["runs on your side: .husky/pre-commit"]);
}

#[test]
fn what_a_person_swaps_for_a_link_while_it_runs_is_not_followed_at_the_end() {
    let scene = adder::project(&[("sub/a.txt", "old\n")]);
    scene.leanfile(TESTS, TASK);
    let (outside, sub) = (scene.outside("a.txt", "old\n"), scene.project().join("sub"));
    let swap = format!("mv {0} {0}.moved; ln -s {1} {0}", sub.display(), outside.display());
    scene.agent(&format!("{FIXED}; echo new >sub/a.txt; {swap}"));
    scene.fix(&[]).ok().prints(&["on branch looop/fix-add"]);
    assert_eq!(fs::read_to_string(outside.join("a.txt")).unwrap(), "old\n");
    // The same where only the file itself is a link by then.
    let scene = adder::project(&[("a.txt", "old\n")]);
    scene.leanfile(TESTS, TASK);
    let target = scene.profile.path("target.txt");
    fs::write(&target, "old\n").unwrap();
    let file = scene.project().join("a.txt");
    let swap = format!("rm {0}; ln -s {1} {0}", file.display(), target.display());
    scene.agent(&format!("{FIXED}; echo new >a.txt; {swap}"));
    scene.fix(&[]).ok();
    assert_eq!(fs::read_to_string(&target).unwrap(), "old\n");
    // A link of the project shows no file outside to the agent.
    let scene = adder::project(&[]);
    fs::write(scene.profile.path("secret"), "SECRET-OUTSIDE\n").unwrap();
    symlink("../secret", scene.project().join("notes")).unwrap();
    let listed = TASK.replace("[\"lib.sh\"]", "[\"lib.sh\", \"notes\", \"*\"]");
    scene.leanfile(TESTS, &listed);
    scene.agent(FIXED);
    scene.fix(&[]).ok();
    assert!(!scene.prompt(1).contains("SECRET-OUTSIDE"), "{}", scene.prompt(1));
}
