//! How commits come back: which branch they get, what `gc` may drop meanwhile, and several workers at once.

use std::collections::BTreeSet;
use std::fs;

use looop::os::signal::Cancel;
use looop::rules::worker::Spec;
use looop::store::{layout::Layout, workers};
use looop::vcs::clone::{Git, collect, inspect};
use serde_json::json;

use super::fixture::{Fixture, make_shared};
use crate::support::profile::{Profile, git_in};
use crate::support::terminal::spec;

#[test]
fn without_commits_there_is_no_branch() {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    let collected = fixture.collect(&own, &clone);
    assert_eq!((collected.branch, collected.commits), (None, 0));
    git_in(&clone, &["reset", "-q", "--hard", "HEAD^"]);
    assert_eq!(fixture.collect(&own, &clone).branch, None);
    git_in(&clone, &["checkout", "-q", "--detach"]);
    git_in(&clone, &["branch", "-D", "-q", "looop/fix"]);
    assert_eq!(fixture.collect(&own, &clone).branch, None);
    assert_eq!(git_in(&repo, &["branch", "--list", "looop/*"]), "");
}

#[test]
fn the_branch_moves_forward_and_never_back() {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    let first = fixture.commit(&clone, "a", "1");
    assert_eq!(fixture.branch(&own, &clone), "looop/fix");
    assert_eq!(fixture.branch(&own, &clone), "looop/fix", "twice is once");
    let second = fixture.commit(&clone, "b", "2");
    let collected = fixture.collect(&own, &clone);
    assert_eq!((collected.branch.as_deref(), collected.commits), (Some("looop/fix"), 2));
    assert_eq!(git_in(&repo, &["rev-parse", "looop/fix"]).trim(), second);
    // The worker throws a commit away; the user's branch keeps it.
    git_in(&clone, &["reset", "-q", "--hard", &first]);
    let third = fixture.commit(&clone, "c", "3");
    assert_eq!(fixture.branch(&own, &clone), "looop/fix-2");
    assert_eq!(git_in(&repo, &["rev-parse", "looop/fix", "looop/fix-2"]), format!("{second}\n{third}\n"));
    let mut packs = fs::read_dir(repo.join(".git/objects/pack")).unwrap().map(|entry| entry.unwrap().path());
    assert!(packs.all(|path| path.extension().is_none_or(|end| end != "keep")));
}

#[test]
fn a_later_worker_of_the_same_name_discards_no_commit_of_the_first() {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    let first = fixture.commit(&clone, "a", "1");
    fixture.collect(&own, &clone);
    let (own, clone) = fixture.clone_of(&repo, "w2", "fix");
    let second = fixture.commit(&clone, "b", "2");
    assert_eq!(fixture.branch(&own, &clone), "looop/fix-2");
    assert_eq!(git_in(&repo, &["rev-parse", "looop/fix", "looop/fix-2"]), format!("{first}\n{second}\n"));
    // Once merged, the branch can go on.
    git_in(&repo, &["merge", "-q", "looop/fix"]);
    let (own, clone) = fixture.clone_of(&repo, "w3", "fix");
    let third = fixture.commit(&clone, "c", "3");
    assert_eq!(fixture.branch(&own, &clone), "looop/fix");
    assert_eq!(git_in(&repo, &["rev-parse", "looop/fix"]).trim(), third);
}

#[test]
fn a_branch_that_is_in_use_is_not_moved() {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    fixture.commit(&clone, "a", "1");
    fixture.collect(&own, &clone);
    fixture.commit(&clone, "b", "2");
    git_in(&repo, &["switch", "-q", "looop/fix"]);
    assert_eq!(fixture.branch(&own, &clone), "looop/fix-2");
    assert_eq!(git_in(&repo, &["status", "--porcelain"]), "");
    git_in(&repo, &["switch", "-q", "main"]);
    git_in(&repo, &["branch", "-D", "-q", "looop/fix-2"]);
    git_in(&repo, &["worktree", "add", "-q", "../tree", "looop/fix"]);
    assert_eq!(fixture.branch(&own, &clone), "looop/fix-2", "in a worktree");
    git_in(&repo, &["branch", "-D", "-q", "looop/fix-2"]);
    // While it is rebased or bisected, HEAD is detached and the branch looks free.
    git_in(&fixture.path("tree"), &["bisect", "start", "HEAD", "HEAD~2"]);
    assert_eq!(fixture.branch(&own, &clone), "looop/fix-2", "in a bisection");
    git_in(&repo, &["branch", "-D", "-q", "looop/fix-2"]);
    git_in(&repo, &["worktree", "remove", "--force", "../tree"]);
    assert_eq!(fixture.branch(&own, &clone), "looop/fix");
}

#[test]
fn gc_in_the_source_drops_nothing_that_a_clone_needs() {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    // The user takes the commit back that the clone stands on, and cleans up as hard as git can.
    git_in(&repo, &["reset", "-q", "--hard", "HEAD^"]);
    let clean = || {
        git_in(&repo, &["reflog", "expire", "--expire=now", "--all"]);
        git_in(&repo, &["gc", "-q", "--prune=now"]);
    };
    clean();
    git_in(&clone, &["fsck", "--strict"]);
    fixture.commit(&clone, "new", "text");
    clean();
    let collected = fixture.collect(&own, &clone);
    assert_eq!((collected.branch.as_deref(), collected.commits), (Some("looop/fix"), 1));
    clean();
    git_in(&repo, &["fsck", "--strict"]);
    assert_eq!(git_in(&repo, &["show", "looop/fix:new"]), "text");
    fixture.discard(&own, &clone);
    assert_eq!(git_in(&repo, &["for-each-ref", "refs/looop"]), "", "nothing is kept for ever");
}

#[test]
fn gc_just_before_the_branch_is_written_does_not_drop_the_commits() {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    fixture.commit(&clone, "new", "text");
    let gc = format!("git --git-dir='{}' gc -q --prune=now", repo.join(".git").display());
    let git = fixture.git_behind(&format!("case \"$1 $4\" in update-ref\\ refs/heads/*) {gc}; esac"));
    assert_eq!(collect(&git, &own, &clone).unwrap().branch.unwrap(), "looop/fix");
    git_in(&repo, &["fsck", "--strict"]);
    assert_eq!(git_in(&repo, &["show", "looop/fix:new"]), "text");
}

#[test]
fn a_branch_that_someone_else_writes_in_the_same_moment_is_kept() {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    fixture.commit(&clone, "new", "text");
    let git_behind = |command: &str| {
        let faster = format!("git --git-dir='{}' {command} main", repo.join(".git").display());
        fixture.git_behind(&format!("case \"$1 $4\" in update-ref\\ *looop/fix) {faster}; esac"))
    };
    let git = git_behind("branch looop/fix");
    // Theirs is an ancestor, so it may move on; what they do to it next is not overwritten.
    assert_eq!(collect(&git, &own, &clone).unwrap().branch.unwrap(), "looop/fix");
    let theirs = fixture.commit(&repo, "file", "theirs");
    fixture.commit(&clone, "new", "more");
    let git = git_behind("update-ref refs/heads/looop/fix");
    assert_eq!(collect(&git, &own, &clone).unwrap().branch.unwrap(), "looop/fix-2");
    assert_eq!(git_in(&repo, &["rev-parse", "looop/fix"]).trim(), theirs);
}

#[test]
fn the_bases_of_two_clones_of_one_name_are_kept_apart() {
    let fixture = Fixture::new();
    let (repo, first, clone) = fixture.start("repo", "fix");
    fixture.commit(&repo, "file", "three\n");
    let (second, clone2) = fixture.clone_of(&repo, "w2", "fix");
    let (third, clone3) = fixture.clone_of(&repo, "w3", "fix");
    let bases = || git_in(&repo, &["for-each-ref", "--format=%(objectname)", "refs/looop"]);
    assert_eq!(bases(), format!("{}\n{}\n{}\n", first.base, second.base, third.base));
    fixture.discard(&second, &clone2);
    assert_eq!(bases(), format!("{}\n{}\n", first.base, third.base));
    fixture.discard(&second, &clone2);
    assert_eq!(bases(), format!("{}\n{}\n", first.base, third.base), "what is gone lets go of nothing more");
    fixture.discard(&first, &clone);
    assert_eq!(bases(), format!("{}\n", third.base));
    fixture.discard(&third, &clone3);
    assert_eq!(bases(), "");
}

#[test]
fn workers_side_by_side_lose_nothing_even_under_one_name() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    let work = |n: usize| {
        let cancel = Cancel::never().unwrap();
        let git = Git::find(super::PATH, 120_000, &cancel).unwrap();
        let (own, clone) = fixture.clone_of(&repo, &format!("w{n}"), if n < 4 { "same" } else { "other" });
        let tip = fixture.commit(&clone, "new", &format!("{n}\n"));
        let collected = collect(&git, &own, &clone).unwrap();
        (collected.branch.unwrap(), tip)
    };
    let work = &work;
    let done: Vec<(String, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (branch, tip) in &done {
        assert_eq!(git_in(&repo, &["rev-parse", branch]).trim(), tip, "{branch}");
    }
    let names: BTreeSet<_> = done.iter().map(|(branch, _)| branch.as_str()).collect();
    let expected =
        ["looop/other", "looop/other-2", "looop/same", "looop/same-2", "looop/same-3", "looop/same-4"];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), expected);
    let bases = git_in(&repo, &["for-each-ref", "--format=x", "refs/looop"]);
    assert_eq!(bases.lines().count(), 6, "a base for each");
}

#[test]
fn a_fresh_process_brings_commits_back_and_prints_one_line() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    let profile = Profile::empty();
    profile.config(json!({}));
    profile.looop(&["init"]).ok();
    let layout = Layout::new(profile.data(), profile.path("cache"));
    let id = "fix".parse().unwrap();
    let (staged, _preparing) = workers::prepare_dir(&layout, &id).unwrap();
    let git = fixture.git();
    let source = inspect(&git, &repo).unwrap();
    let own = make_shared(&git, &source, &staged.clone_dir(), "fix").unwrap();
    let spec = Spec { repo: Some(own), ..spec(&id, "agent") };
    drop(workers::create(&layout, &spec, "brief", &staged).unwrap().unwrap());
    let clone = layout.worker(&id).clone_dir();
    let tip = fixture.commit(&clone, "new", "text");
    fs::write(clone.join("loose"), "x").unwrap();
    let root = profile.data().display().to_string();
    let ran = profile.looop(&["__fetch-branch", &root, "fix"]).ok();
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    let collected = &ran.json()["collected"];
    let found =
        ["/branch", "/tip", "/commits", "/left/untracked/first/0"].map(|key| collected.pointer(key).unwrap());
    assert_eq!(found, [&json!("looop/fix"), &json!(tip), &json!(1), &json!("loose")]);
    let ran = profile.looop(&["__fetch-branch", &root, "nobody"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (1, 1));
    assert!(ran.json()["error"].as_str().unwrap().contains("worker nobody does not exist"), "{ran:?}");
    fs::remove_dir_all(&repo).unwrap();
    let ran = profile.looop(&["__fetch-branch", &root, "fix"]);
    assert!(ran.code == 1 && ran.json()["error"].as_str().unwrap().contains("cannot be opened"), "{ran:?}");
}
