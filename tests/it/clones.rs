//! The private clones of workers, with real git: the user's checkout stays as it is, and no work is lost.

pub mod commands;
pub mod fixture;
mod hostile;
mod kinds;
mod leftovers;
mod quiet;
mod returns;
mod sources;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use looop::vcs::clone::{Git, collect, discard, inspect};

use crate::support::profile::git_in;
use fixture::{Fixture, PATH, fingerprint, make_shared, program};

/// All hooks that any command here could have run.
const HOOKS: [&str; 10] = [
    "reference-transaction",
    "post-update",
    "post-receive",
    "pre-receive",
    "post-checkout",
    "post-commit",
    "post-merge",
    "post-index-change",
    "pre-auto-gc",
    "fsmonitor-watchman",
];

/// Git makes and removes a lock in its directory to delete a ref, which leaves no byte but its time.
#[track_caller]
fn same_but_for_a_lock(repo: &Path, before: &BTreeMap<String, String>) {
    let mut after = fingerprint(repo);
    after.insert(".git".to_owned(), before[".git"].clone());
    assert_eq!(&after, before);
}

#[test]
fn the_humans_checkout_stays_as_it_is_to_the_last_byte() {
    for hooks in [".git/hooks", "elsewhere"] {
        let fixture = Fixture::new();
        let repo = fixture.repo("repo");
        fs::write(repo.join("stashed"), "s").unwrap();
        git_in(&repo, &["stash", "push", "-qu"]);
        for hook in HOOKS {
            fixture.trap(&repo.join(hooks).join(hook));
        }
        fixture.trap(&fixture.path("spy"));
        let spy = fixture.path("spy").display().to_string();
        if hooks == "elsewhere" {
            git_in(&repo, &["config", "core.hooksPath", hooks]);
        }
        fs::write(repo.join("staged"), "staged").unwrap();
        git_in(&repo, &["-c", "core.hooksPath=/dev/null", "add", "staged"]);
        fs::write(repo.join("file"), "dirty\n").unwrap();
        fs::write(repo.join("untracked"), "u").unwrap();
        fs::write(repo.join(".gitattributes"), "* filter=spy\n").unwrap();
        for key in ["core.fsmonitor", "filter.spy.clean", "filter.spy.smudge"] {
            git_in(&repo, &["config", key, &spy]);
        }
        assert!(!fixture.is_sprung(), "nothing ran while the scene was set");
        let before = fingerprint(&repo);
        let (own, clone) = fixture.clone_of(&repo, "w", "fix");
        assert_eq!(fingerprint(&repo), before, "after make");
        fixture.commit(&clone, "new", "by the worker");
        let collected = fixture.collect(&own, &clone);
        assert_eq!(fingerprint(&repo), before, "after collect");
        assert_eq!((collected.branch.as_deref(), collected.commits), (Some("looop/fix"), 1));
        assert!(collected.left.is_empty(), "{collected:?}");
        fixture.discard(&own, &clone);
        same_but_for_a_lock(&repo, &before);
        fixture.ran_no_trap();
        let new = git_in(&repo, &["-c", "core.hooksPath=/dev/null", "show", "looop/fix:new"]);
        assert_eq!(new, "by the worker");
        git_in(&repo, &["update-ref", "refs/heads/x", "HEAD"]);
        assert!(fixture.is_sprung(), "the trap works");
    }
}

#[test]
fn a_clone_has_no_remote_no_hooks_and_its_own_author() {
    let fixture = Fixture::new();
    let (_, own, clone) = fixture.start("repo", "fix");
    assert_eq!(git_in(&clone, &["remote"]), "");
    assert!(!clone.join(".git/hooks").exists());
    assert_eq!(git_in(&clone, &["symbolic-ref", "HEAD"]), "refs/heads/looop/fix\n");
    assert_eq!(git_in(&clone, &["rev-parse", "HEAD"]).trim(), own.base);
    assert_eq!(git_in(&clone, &["status", "--porcelain"]), "");
    assert_eq!(git_in(&clone, &["config", "--local", "user.name"]), "looop worker fix\n");
    let objects = git_in(&clone, &["count-objects", "-v"]);
    assert!(objects.contains("count: 0\n") && objects.contains("in-pack: 0\n"), "borrowed: {objects}");
    assert_eq!(fs::metadata(clone).unwrap().permissions().mode() & 0o777, 0o700, "it is private");
}

#[test]
fn each_call_of_git_ignores_what_could_run_code() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    // Git 2.54 and later run hooks that are settings; this shows that no git is told of them.
    git_in(&repo, &["config", "hook.a=b.c.event", "reference-transaction"]);
    git_in(&repo, &["config", "hook.a=b.c.command", "false"]);
    let (messages, vars) = (fixture.path("told"), fixture.path("vars"));
    let get = |key: &str| format!("$(git config --get {key})");
    let keys = ["core.hooksPath", "core.fsmonitor", "hook.reference-transaction.enabled", "gc.auto"];
    let line = format!(
        "echo $1 {} {} >> '{}'\nenv | cut -d= -f1 >> '{}'",
        keys.map(get).join(" "),
        get("hook.a=b.c.command"),
        messages.display(),
        vars.display(),
    );
    let git = fixture.git_behind(&line);
    let source = inspect(&git, &repo).unwrap();
    let clone = fixture.path("w/clone");
    let own = make_shared(&git, &source, &clone, "fix").unwrap();
    fixture.commit(&clone, "new", "x");
    collect(&git, &own, &clone).unwrap();
    discard(&git, &own, &clone, false).unwrap();
    let messages = fs::read_to_string(messages).unwrap();
    assert!(messages.lines().count() > 15, "{messages}");
    assert!(messages.lines().all(|line| line.ends_with(" /dev/null false false 0")), "{messages}");
    let vars = fs::read_to_string(vars).unwrap();
    let vars: BTreeSet<&str> = vars.lines().collect();
    assert!(!vars.contains("HOME") && vars.contains("GIT_ALLOW_PROTOCOL"), "{vars:?}");
}

#[test]
fn without_git_or_time_the_fault_says_so() {
    let fixture = Fixture::new();
    let error = Git::find("/nonexistent", 1000, &fixture.cancel).unwrap_err();
    let fault = error.downcast_ref::<looop::rules::fault::Fault>().unwrap();
    let [what, hint] = [&fault.what, &fault.hints[0]];
    assert!(what.contains("`git` is not on the PATH") && hint.contains("install git"), "{fault:?}");
    let repo = fixture.repo("repo");
    program(&fixture.path("bin/git"), "exec sleep 600");
    let git = Git::find(&format!("{}:{PATH}", fixture.path("bin").display()), 200, &fixture.cancel).unwrap();
    let error = inspect(&git, &repo).unwrap_err().during("clone it").to_string();
    assert!(error.contains("it ran into its timeout"), "{error}");
}

#[test]
fn a_clone_that_could_not_be_made_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    let before = fingerprint(&repo);
    let git = fixture.git();
    let source = inspect(&git, &repo).unwrap();
    fs::create_dir_all(fixture.path("w/taken")).unwrap();
    assert!(make_shared(&git, &source, &fixture.path("w/taken"), "fix").is_err());
    assert!(fixture.path("w/taken").exists(), "what was there is not ours to remove");
    // Git can write the base, and then not the files.
    let broken = fixture.git_behind("case $1 in reset) exit 3; esac");
    let error = make_shared(&broken, &source, &fixture.path("w/clone"), "fix").unwrap_err();
    assert!(error.to_string().contains("could not run git reset: exit code 3"), "{error}");
    assert!(!fixture.path("w/clone").exists());
    assert_eq!(git_in(&repo, &["for-each-ref", "refs/looop"]), "");
    same_but_for_a_lock(&repo, &before);
}
