//! A person's own checkout that is hostile, as one that came out of an archive may be: what it points at elsewhere is
//! neither read nor written, and commits that would fill the machine are counted first.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use looop::rules::worker::Objects;
use looop::vcs::clone::{collect, inspect, leftovers, make, repo_of};

use super::commands::hostile;
use super::fixture::{Fixture, make_shared, printed, shell};
use crate::support::profile::git_in;

#[test]
#[ignore = "slow"]
fn all_that_is_done_with_a_hostile_checkout_runs_nothing_of_it() {
    let fixture = Fixture::new();
    let repo = hostile(&fixture, "repo");
    let (git, source, trees) = fixture.trees(&repo);
    trees.grown(&git, &repo, "project").unwrap();
    let tree = trees.snapshot(&git, &repo, "project").unwrap();
    fs::write(repo.join("file"), "new\n").unwrap();
    trees.restore(&git, &repo, "project", &tree).unwrap();
    assert_eq!(fs::read_to_string(repo.join("file")).unwrap(), "owt\n");
    assert_eq!(fs::read_to_string(repo.join("sub/file")).unwrap(), "owt\n", "the submodule is as it was");
    for objects in [Objects::Shared, Objects::Reachable] {
        let clone = fixture.path("w").join(objects.to_string());
        let own = repo_of(&source, &objects.to_string().parse().unwrap()).unwrap();
        make(&git, &source, &clone, &own, objects).unwrap();
        shell(&clone, "echo x >new; git add new; git commit -qm new");
        let collected = fixture.collect(&own, &clone);
        assert_eq!(collected.commits, 1, "{collected:?}");
        assert!(collected.left.is_empty(), "{collected:?}");
        fixture.discard(&own, &clone);
    }
    fixture.ran_no_trap();
    shell(&repo, "git status");
    assert!(fixture.is_sprung(), "the trap works");
}

#[test]
fn a_submodule_that_an_agent_made_its_own_is_not_asked() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    fs::rename(fixture.repo("inner"), repo.join("sub")).unwrap();
    git_in(&repo, &["add", "-A"]);
    git_in(&repo, &["commit", "-qm", "a submodule"]);
    let (git, source, trees) = fixture.trees(&repo);
    let (work, head) = fixture.work(&git, &source, &trees);
    // HEAD is where it was recorded, so that git asks the submodule whether it is dirty.
    fs::remove_dir(work.join("sub")).unwrap();
    shell(&fixture.path(""), "cp -r repo/sub w/clone/sub");
    super::commands::arm(&fixture, &work.join("sub"), &work.join("sub/.git"));
    fs::write(work.join("sub/.gitattributes"), "* filter=spy\n").unwrap();
    fs::write(work.join("sub/file"), "owt\n").unwrap();
    fs::write(work.join("new"), "x").unwrap();
    assert_eq!(trees.grown(&git, &work, "work").unwrap().nested, Vec::<String>::new());
    let tree = trees.snapshot(&git, &work, "work").unwrap();
    let changes = trees.changes(&git, &head, &tree).unwrap();
    assert_eq!(changes.len(), 1, "the submodule is what it was: {changes:?}");
    trees.restore(&git, &work, "work", &head).unwrap();
    assert!(!work.join("new").exists());
    fixture.ran_no_trap();
    shell(&work, "git add -A");
    assert!(fixture.is_sprung(), "the trap works");
}

#[test]
fn a_new_repository_inside_is_named_and_goes_with_a_restore() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    let (git, source, trees) = fixture.trees(&repo);
    let (work, head) = fixture.work(&git, &source, &trees);
    fs::rename(fixture.repo("inner"), work.join("dir")).unwrap();
    // A file that leads to a git directory is a repository as well.
    fs::create_dir(work.join("led")).unwrap();
    fs::write(work.join("led/.git"), format!("gitdir: {}\n", repo.join(".git").display())).unwrap();
    fs::write(work.join("led/x"), "x").unwrap();
    // Git takes no file of this name, and another file system finds the repository by it.
    fs::create_dir(work.join(".GIT")).unwrap();
    fs::write(work.join(".GIT/config"), "x").unwrap();
    assert_eq!(trees.grown(&git, &work, "work").unwrap().nested, ["dir", "led"]);
    assert_eq!(trees.snapshot(&git, &work, "work").unwrap(), head);
    trees.restore(&git, &work, "work", &head).unwrap();
    assert!(!work.join("dir").exists() && !work.join("led").exists());
}

#[test]
fn no_link_leads_a_restore_out_of_the_folder() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    fs::create_dir(repo.join("dir")).unwrap();
    fixture.commit(&repo, "dir/file", "inside\n");
    let (git, source, trees) = fixture.trees(&repo);
    let (work, head) = fixture.work(&git, &source, &trees);
    let outside = fixture.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "of the person\n").unwrap();
    fs::remove_dir_all(work.join("dir")).unwrap();
    symlink(&outside, work.join("dir")).unwrap();
    let tree = trees.snapshot(&git, &work, "work").unwrap();
    let changes = trees.changes(&git, &head, &tree).unwrap();
    assert_eq!(changes.len(), 2, "a link is a link: {changes:?}");
    for change in &changes {
        trees.put_back(&git, &work, change).unwrap();
    }
    assert_eq!(fs::read_to_string(work.join("dir/file")).unwrap(), "inside\n");
    fs::remove_dir_all(work.join("dir")).unwrap();
    symlink(&outside, work.join("dir")).unwrap();
    trees.restore(&git, &work, "work", &head).unwrap();
    assert_eq!(fs::read_to_string(work.join("dir/file")).unwrap(), "inside\n");
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "of the person\n");
}

#[test]
fn a_checkout_that_leads_elsewhere_is_refused() {
    let fixture = Fixture::new();
    let secret = fixture.repo("secret");
    let refused = |repo: &Path, why: &str| {
        let printed = match inspect(&fixture.git(), repo) {
            Ok(source) => {
                format!("{:#}", make_shared(&fixture.git(), &source, &fixture.path("w/x"), "x").unwrap_err())
            }
            Err(error) => format!("{:#}", error.during("clone it")),
        };
        assert!(printed.contains(why), "{printed}");
        assert_eq!(git_in(&secret, &["for-each-ref", "refs/looop"]), "", "nothing was written there");
    };
    let [pointer, link, outside] = ["pointer", "link", "outside"].map(|name| fixture.path(name));
    [&pointer, &link, &outside].iter().for_each(|dir| fs::create_dir(dir).unwrap());
    fs::write(pointer.join(".git"), format!("gitdir: {}\n", secret.join(".git").display())).unwrap();
    refused(&pointer, "belongs to another folder");
    symlink(secret.join(".git"), link.join(".git")).unwrap();
    refused(&link, "belongs to another folder");
    let common = fixture.repo("common");
    fs::write(common.join(".git/commondir"), secret.join(".git").display().to_string()).unwrap();
    refused(&common, "takes its refs from elsewhere");
    for part in ["refs", "objects", "packed-refs"] {
        let repo = fixture.repo(&format!("own-{part}"));
        let path = repo.join(".git").join(part);
        drop(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)));
        symlink(secret.join(".git").join(part), &path).unwrap();
        refused(&repo, "is not a plain");
    }
    let head = fixture.repo("head");
    fs::remove_file(head.join(".git/HEAD")).unwrap();
    symlink(secret.join(".git/HEAD"), head.join(".git/HEAD")).unwrap();
    refused(&head, "its HEAD is a link that leads elsewhere");
    let ways = fixture.repo("ways");
    symlink(&outside, ways.join(".git/refs/looop")).unwrap();
    refused(&ways, "is a link");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn what_a_checkout_borrows_is_not_lent_to_a_worker() {
    let fixture = Fixture::new();
    let secret = fixture.repo("secret");
    let hidden = fixture.commit(&secret, "key", "hidden\n");
    let repo = fixture.repo("repo");
    fs::create_dir_all(repo.join(".git/objects/info")).unwrap();
    let lender = format!("{}\n", secret.join(".git/objects").display());
    fs::write(repo.join(".git/objects/info/alternates"), lender).unwrap();
    let (git, source, trees) = fixture.trees(&repo);
    assert!(source.borrows);
    let clone = fixture.path("w/clone");
    make_shared(&git, &source, &clone, "fix").unwrap();
    assert!(!clone.join(".git/objects/info/alternates").exists());
    assert!(!shell(&clone, &format!("git cat-file -e {hidden}")).status.success());
    assert_eq!(git_in(&clone, &["log", "--format=%s"]).lines().count(), 2, "its own history is there");
    assert!(!trees.dir.join(".git/objects/info/alternates").exists());
    trees.tree_of(&git, &source.head).unwrap();
}

/// A commit whose trees name each other ten times on each of these levels.
fn bomb(repo: &Path, levels: u32, with_files: bool) -> String {
    let leaf = if with_files { "echo x | git hash-object -w --stdin" } else { "git mktree </dev/null" };
    let mut oid = printed(repo, leaf);
    for level in 0..levels {
        let kind = if level == 0 && with_files { "100644 blob" } else { "040000 tree" };
        let entries = format!("for n in 0 1 2 3 4 5 6 7 8 9; do printf '{kind} {oid}\\tn%s\\n' $n; done");
        oid = printed(repo, &format!("{entries} | git mktree"));
    }
    git_in(repo, &["commit-tree", "-m", "small", &oid]).trim().to_owned()
}

#[test]
#[ignore = "slow"]
fn a_commit_that_multiplies_is_counted_and_refused() {
    for with_files in [true, false] {
        let fixture = Fixture::new();
        let repo = fixture.repo("repo");
        let evil = bomb(&repo, 8, with_files);
        git_in(&repo, &["update-ref", "refs/heads/main", &evil]);
        let (git, source, trees) = fixture.trees(&repo);
        let error = make_shared(&git, &source, &fixture.path("w/clone"), "fix").unwrap_err();
        assert!(format!("{error:#}").contains("it has more than 500000"), "{error:#}");
        assert!(!fixture.path("w/clone").exists());
        let error = trees.snapshot(&git, &repo, "project").unwrap_err();
        assert!(format!("{error:#}").contains("it has more than 500000"), "{error:#}");
    }
}

#[test]
#[ignore = "slow"]
fn a_commit_that_multiplies_does_not_come_back() {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    let evil = bomb(&clone, 8, true);
    git_in(&clone, &["update-ref", "refs/heads/looop/fix", &evil]);
    let error = format!("{:#}", collect(&fixture.git(), &own, &clone).unwrap_err());
    assert!(error.contains("it has more than 500000"), "{error}");
    assert_eq!(git_in(&repo, &["branch", "--list", "looop/*"]), "");
    let left = leftovers(&fixture.git(), &own, &clone);
    assert!(left.unclear.is_some_and(|why| why.contains("it has more than 500000")));
}
