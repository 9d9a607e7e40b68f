//! What a clone has that is nowhere else is named, and a clone with any of it is not removed without a user's word.

use std::fs;
use std::path::Path;

use looop::rules::worker::Repo;
use looop::vcs::clone::{Leftovers, discard, leftovers};

use super::fixture::Fixture;
use crate::support::profile::git_in;

/// Checks that a clone with this work in it stays, then that a user can still remove it.
#[track_caller]
fn stays(work: impl FnOnce(&Fixture, &Path)) -> Leftovers {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    assert!(leftovers(&fixture.git(), &own, &clone).is_empty(), "a new clone holds nothing of its own");
    work(&fixture, &clone);
    stays_here(&fixture, &repo, &own, &clone)
}

/// The same, and that these are the words for it.
#[track_caller]
fn stays_as(words: &str, work: impl FnOnce(&Fixture, &Path)) {
    assert_eq!(stays(work).words(), words);
}

#[track_caller]
fn stays_here(fixture: &Fixture, repo: &Path, own: &Repo, clone: &Path) -> Leftovers {
    let left = leftovers(&fixture.git(), own, clone);
    assert!(!left.is_empty() && !left.words().is_empty());
    assert_eq!(discard(&fixture.git(), own, clone, false).unwrap().as_ref(), Some(&left));
    assert!(clone.join(".git").exists(), "it is still there");
    assert_ne!(git_in(repo, &["for-each-ref", "refs/looop"]), "", "and so is its base");
    assert_eq!(discard(&fixture.git(), own, clone, true).unwrap(), None);
    assert_eq!(fs::read_dir(clone.parent().unwrap()).unwrap().count(), 0, "nothing stays behind");
    assert_eq!(git_in(repo, &["for-each-ref", "refs/looop"]), "");
    left
}

#[test]
fn commits() {
    let three = "2 commits that are nowhere else (`HEAD`, `refs/heads/looop/fix`, `refs/heads/topic`)";
    stays_as(three, |fixture, clone| {
        fixture.commit(clone, "a", "1");
        git_in(clone, &["switch", "-qc", "topic"]);
        fixture.commit(clone, "b", "2");
    });
    stays_as("1 commit that is nowhere else (`refs/tags/kept`)", |fixture, clone| {
        git_in(clone, &["switch", "-q", "--detach"]);
        fixture.commit(clone, "a", "1");
        git_in(clone, &["tag", "kept"]);
        git_in(clone, &["switch", "-q", "looop/fix"]);
    });
    stays_as("1 commit that is nowhere else (`HEAD`)", |fixture, clone| {
        git_in(clone, &["switch", "-q", "--detach"]);
        fixture.commit(clone, "a", "1");
    });
    stays_as("1 ref (`refs/tags/v1`)", |_, clone| drop(git_in(clone, &["tag", "-a", "v1", "-m", "words"])));
}

#[test]
fn stashes_the_older_ones_too() {
    let left = stays(|_, clone| {
        for text in ["1", "2"] {
            fs::write(clone.join("file"), text).unwrap();
            git_in(clone, &["stash", "-q"]);
        }
    });
    assert_eq!((left.stashes, left.words().as_str()), (2, "2 stashes"));
}

#[test]
fn files() {
    let words = "1 changed file (`file`); 2 untracked files (`dir/`, `two\\u{a}lines`)";
    stays_as(words, |_, clone| {
        fs::write(clone.join("file"), "edited").unwrap();
        fs::create_dir(clone.join("dir")).unwrap();
        fs::write(clone.join("dir/new\u{1b}"), "").unwrap();
        fs::write(clone.join("two\nlines"), "").unwrap();
    });
    stays_as("1 changed file (`file`)", |_, clone| fs::remove_file(clone.join("file")).unwrap());
    let many = stays(|_, clone| (0..50).for_each(|n| fs::write(clone.join(format!("f{n:02}")), "").unwrap()));
    assert_eq!((many.untracked.count, many.untracked.first.len()), (50, 20));
    assert_eq!(many.words(), "50 untracked files (`f00`, `f01`, `f02`, …)");
    // What is staged alone.
    stays_as("1 changed file (`new`)", |_, clone| {
        fs::write(clone.join("new"), "text").unwrap();
        git_in(clone, &["add", "new"]);
        fs::remove_file(clone.join("new")).unwrap();
    });
}

#[test]
fn an_index_that_calls_a_file_unchanged_is_not_believed() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        stays_as("1 changed file (`file`)", |_, clone| {
            git_in(clone, &["update-index", flag, "file"]);
            fs::write(clone.join("file"), "edited").unwrap();
            assert_eq!(git_in(clone, &["status", "--porcelain"]), "", "git itself is fooled");
        });
    }
    stays_as("1 untracked file (`hidden`)", |_, clone| {
        fs::create_dir_all(clone.join(".git/info")).unwrap();
        fs::write(clone.join(".git/info/exclude"), "*\n").unwrap();
        fs::write(clone.join("hidden"), "").unwrap();
    });
}

#[test]
#[ignore = "slow"]
fn repositories_inside() {
    stays_as("1 untracked file (`inner/`)", |fixture, clone| {
        fs::rename(fixture.repo("inner"), clone.join("inner")).unwrap();
    });
    let left = stays(|_, clone| drop(git_in(clone, &["worktree", "add", "-q", "--detach", "../../outside"])));
    assert!(left.words().contains("a linked worktree"), "{left:?}");
    stays_as("LFS files", |_, clone| fs::create_dir_all(clone.join(".git/lfs/objects")).unwrap());
    let fixture = Fixture::new();
    fixture.repo("inner");
    let repo = fixture.repo("repo");
    let allow = ["-c", "protocol.file.allow=always"];
    git_in(&repo, &[&allow[..], &["submodule", "add", "-q", "../inner", "sub"]].concat());
    git_in(&repo, &["commit", "-qm", "a submodule"]);
    let (own, clone) = fixture.clone_of(&repo, "w", "fix");
    assert!(leftovers(&fixture.git(), &own, &clone).is_empty(), "an empty one is nothing");
    fs::write(clone.join("sub/work"), "").unwrap();
    let left = stays_here(&fixture, &repo, &own, &clone);
    assert_eq!(left.words(), "the submodule `sub` has files");
}

#[test]
fn what_does_not_count() {
    let fixture = Fixture::new();
    let (_, own, clone) = fixture.start("repo", "fix");
    fs::create_dir(clone.join("build")).unwrap();
    fs::write(clone.join("build/.gitignore"), "*\n").unwrap();
    fs::write(clone.join("build/out"), "").unwrap();
    let touched = fs::File::options().append(true).open(clone.join("file")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    fixture.commit(&clone, "a", "amended away");
    git_in(&clone, &["reset", "-q", "--hard", "HEAD^"]);
    assert_eq!(leftovers(&fixture.git(), &own, &clone), Leftovers::default());
    fixture.discard(&own, &clone);
    assert!(!clone.exists());
}

#[test]
fn when_it_cannot_be_known_the_clone_stays() {
    let left = stays(|_, clone| fs::write(clone.join(".git/HEAD"), "nonsense").unwrap());
    assert!(left.unclear.is_some(), "{left:?}");
    let left = stays(|_, clone| fs::write(clone.join(".git/index"), "nonsense").unwrap());
    let words = "not everything could be checked: could not run git diff-index";
    assert!(left.words().starts_with(words), "{left:?}");
    let left = stays(|_, clone| {
        fs::remove_dir_all(clone.join(".git/logs")).unwrap();
        git_in(clone, &["refs", "migrate", "--ref-format=reftable"]);
    });
    assert!(left.words().contains("reftable"), "{left:?}");
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    fs::rename(&repo, fixture.path("moved")).unwrap();
    let kept = discard(&fixture.git(), &own, &clone, false).unwrap().unwrap();
    assert!(kept.words().contains("cannot be opened"), "{kept:?}");
    assert!(clone.exists());
    // A human's word needs no repository.
    assert_eq!(discard(&fixture.git(), &own, &clone, true).unwrap(), None);
    assert!(!clone.exists());
}

#[test]
fn a_removal_that_was_cut_short_is_finished() {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    fs::rename(&clone, fixture.path("w/.gone")).unwrap();
    fs::create_dir(fixture.path("w/.view-2")).unwrap();
    fixture.discard(&own, &clone);
    assert_eq!(fs::read_dir(fixture.path("w")).unwrap().count(), 0);
    assert_eq!(git_in(&repo, &["for-each-ref", "refs/looop"]), "");
}
