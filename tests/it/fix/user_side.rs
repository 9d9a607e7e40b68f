//! Changes of files that execute on the user's side: they wait on a branch, and are named first.

use std::fs;
use std::os::unix::fs::symlink;

use super::adder::{self, CHECK, FIXED, LIB, TESTS};
use super::yard::Yard;
use crate::support::profile::{git_in, wait_until};

const TASK: &str = "[[tasks]]\nname = \"add\"\nprompt = \"add must add\"\nfiles = [\"lib.sh\"]\n";

#[test]
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
        let yard = Yard::new(&[("lib.sh", LIB), ("check.sh", CHECK), (".gitattributes", "*.x binary\n")]);
        yard.leanfile(TESTS, TASK);
        yard.agent(&format!("{FIXED}; {body}"));
        let ran = yard.fix(&[]).ok();
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let said = lines.iter().find(|line| line.starts_with("changed files that run on your side: "));
        let said = said.unwrap_or_else(|| panic!("{body}: {}", ran.stdout));
        assert!(said.contains(&format!("{path} (")) && said.contains(reason), "{body}: {said}");
        assert!(said.contains("on branch looop/fix-add"), "{body}: {said}");
        assert_eq!(
            git_in(&yard.project(), &["status", "--short"]),
            "",
            "{body}: no file of the user changed"
        );
        assert_eq!(yard.read("lib.sh"), LIB);
        let names = git_in(&yard.project(), &["diff", "--name-only", "HEAD", "looop/fix-add"]);
        assert!(names.lines().any(|name| name == path) && names.contains("lib.sh"), "{body}: {names}");
    }
}

#[test]
fn links_within_the_project_and_build_files_land_as_usual() {
    let yard = adder::yard(TASK);
    yard.agent(&format!("{FIXED}; mkdir sub; ln -s ../lib.sh sub/link; echo all: >Makefile"));
    let ran = yard.fix(&[]).ok();
    assert!(!ran.stdout.contains("run on your side"), "{}", ran.stdout);
    assert!(yard.project().join("sub/link").is_symlink() && yard.read("lib.sh").contains("$1 + $2"));
}

#[test]
fn a_project_without_git_keeps_such_a_result_apart() {
    let yard = Yard::plain(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    yard.leanfile(TESTS, TASK);
    yard.agent(&format!("{FIXED}; echo x >.envrc"));
    let ran = yard.fix(&[]).ok();
    assert!(
        ran.stdout.contains(".envrc (") && ran.stdout.contains("the branch `result` of "),
        "{}",
        ran.stdout
    );
    assert!(!yard.project().join(".envrc").exists() && yard.read("lib.sh") == LIB);
}

#[test]
fn a_branch_of_a_worker_names_such_files_first_in_list_json_and_journal() {
    let yard = Yard::new(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    let repo = yard.project();
    let script = "mkdir .husky; echo x >.husky/pre-commit; echo y >normal.txt; ln -s / root; git add -A; git commit -qm work";
    yard.profile.unboxed(&["worker"]);
    let args = ["worker", "start", "w1", "--repo", repo.to_str().unwrap(), "--", "sh", "-c", script];
    yard.profile.looop(&args).ok();
    let row = || {
        let listed = yard.profile.looop(&["ls", "--all", "--json"]).ok().json();
        listed["workers"].as_array().unwrap().first().cloned().unwrap_or_default()
    };
    wait_until("the worker is done", || row()["branch"] == "looop/w1");
    let row = row();
    let named: Vec<&str> =
        row["user_side"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(named, [".husky/pre-commit", "root"], "{row}");
    assert!(row["user_side"][0]["reason"].as_str().unwrap().contains("git hooks"), "{row}");
    wait_until("the worker's end is in the journal", || {
        yard.profile.read("journal.md").contains("worker w1")
    });
    let journal = yard.profile.read("journal.md");
    let line = journal.lines().find(|line| line.contains("[worker w1]")).unwrap();
    let at = |word: &str| line.find(word).unwrap_or_else(|| panic!("{word}: {line}"));
    assert!(at(".husky/pre-commit (") < at("branch looop/w1"), "{line}");
    let list = yard.profile.looop(&["ls"]).ok().stdout;
    assert!(list.contains("runs on your side: .husky/pre-commit"), "{list}");
}

#[test]
fn what_a_person_swaps_for_a_link_while_it_runs_is_not_followed_at_the_end() {
    let yard = Yard::new(&[("lib.sh", LIB), ("check.sh", CHECK), ("sub/a.txt", "old\n")]);
    yard.leanfile(TESTS, TASK);
    let outside = yard.profile.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a.txt"), "old\n").unwrap();
    let sub = yard.project().join("sub");
    yard.agent(&format!(
        "{FIXED}; echo new >sub/a.txt; mv {0} {0}.moved; ln -s {1} {0}",
        sub.display(),
        outside.display()
    ));
    let ran = yard.fix(&[]).ok();
    assert!(ran.stdout.contains("on branch looop/fix-add"), "{}", ran.stdout);
    assert_eq!(fs::read_to_string(outside.join("a.txt")).unwrap(), "old\n");
    // The same where only the file itself is a link by then.
    let yard = Yard::new(&[("lib.sh", LIB), ("check.sh", CHECK), ("a.txt", "old\n")]);
    yard.leanfile(TESTS, TASK);
    let target = yard.profile.path("target.txt");
    fs::write(&target, "old\n").unwrap();
    fs::remove_file(yard.project().join("a.txt")).unwrap();
    fs::write(yard.project().join("a.txt"), "old\n").unwrap();
    let file = yard.project().join("a.txt");
    let swap = format!("rm {0}; ln -s {1} {0}", file.display(), target.display());
    yard.agent(&format!("{FIXED}; echo new >a.txt; {swap}"));
    yard.fix(&[]).ok();
    assert_eq!(fs::read_to_string(&target).unwrap(), "old\n");
    // A link of the project shows no file outside to the agent.
    let yard = Yard::new(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    fs::write(yard.profile.path("secret"), "SECRET-OUTSIDE\n").unwrap();
    symlink("../secret", yard.project().join("notes")).unwrap();
    let listed = TASK.replace("[\"lib.sh\"]", "[\"lib.sh\", \"notes\", \"*\"]");
    yard.leanfile(TESTS, &listed);
    yard.agent(FIXED);
    yard.fix(&[]).ok();
    assert!(!yard.prompt(1).contains("SECRET-OUTSIDE"), "{}", yard.prompt(1));
}
