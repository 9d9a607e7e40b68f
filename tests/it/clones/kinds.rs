//! What a path can stand for: each kind of repository is cloned and gets its commits back, or is refused in words.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::{ffi::OsStrExt, fs::chown};
use std::path::Path;

use looop::vcs::clone::inspect;

use super::fixture::{Fixture, fingerprint, shell};
use crate::support::profile::git_in;

/// Clones, commits, collects, and checks that the branch is there with HEAD as its parent.
#[track_caller]
fn works(fixture: &Fixture, repo: &Path) -> Vec<String> {
    let notes = inspect(&fixture.git(), repo).unwrap().notes;
    let (own, clone) = fixture.clone_of(repo, "w", "fix");
    assert_eq!(own.base, git_in(repo, &["rev-parse", "HEAD"]).trim());
    fixture.commit(&clone, "new", "text\n");
    let collected = fixture.collect(&own, &clone);
    assert!(collected.left.is_empty(), "{collected:?}");
    assert_eq!(collected.commits, 1);
    let branch = collected.branch.unwrap();
    assert_eq!(git_in(repo, &["show", &format!("{branch}:new")]), "text\n");
    assert_eq!(git_in(repo, &["rev-parse", &format!("{branch}^")]).trim(), own.base);
    git_in(repo, &["fsck", "--strict"]);
    notes
}

#[track_caller]
fn refused(fixture: &Fixture, repo: &Path, why: &str) {
    let printed = inspect(&fixture.git(), repo).unwrap_err().during("clone it").to_string();
    assert!(printed.contains(why), "{printed}");
}

#[test]
fn what_cannot_be_cloned_is_refused_in_words() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    fs::create_dir(repo.join("sub")).unwrap();
    fs::create_dir(fixture.path("empty")).unwrap();
    git_in(&fixture.path("empty"), &["init", "-q"]);
    refused(&fixture, &fixture.path("nowhere"), "cannot be opened");
    refused(&fixture, &repo.join("file"), "is not a directory");
    refused(&fixture, &fixture.path("w"), "is not a git repository");
    refused(&fixture, &repo.join("sub"), "not its top");
    refused(&fixture, &repo.join(".git/refs"), "not its top");
    refused(&fixture, &fixture.path("empty"), "has no commit yet");
    let odd = fixture.path("").join(OsStr::from_bytes(b"\xff"));
    fs::rename(&repo, &odd).unwrap();
    refused(&fixture, &odd, "not UTF-8");
    fs::rename(&odd, &repo).unwrap();
    git_in(&repo, &["config", "remote.origin.promisor", "true"]);
    refused(&fixture, &repo, "is a partial clone");
    git_in(&repo, &["config", "core.repositoryFormatVersion", "99"]);
    refused(&fixture, &repo, "has the format 99, which looop does not know");
}

#[test]
fn a_repository_of_another_user_is_refused() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    let mut git = fixture.git();
    git.owner += 1;
    let printed = inspect(&git, &repo).unwrap_err().during("clone it").to_string();
    assert!(printed.contains("belongs to user") && printed.contains("of yours"), "{printed}");
    // Only root can make this scene: the worktree is mine, and what it shares is not.
    git_in(&repo, &["worktree", "add", "-q", "../tree"]);
    if chown(repo.join(".git"), Some(12345), None).is_ok() {
        refused(&fixture, &fixture.path("tree"), "belongs to user 12345");
        refused(&fixture, &repo, "belongs to user 12345");
        let top = fixture.repo("top");
        chown(&top, Some(12345), None).unwrap();
        refused(&fixture, &top, "belongs to user 12345");
    }
}

#[test]
#[ignore = "slow"]
fn any_path_will_do() {
    for name in ["a b", "-rf", "ünï 日本", "new\nline", "q\"u'o\\te", "#hash", "colon:s", "\"quoted\""] {
        let fixture = Fixture::new();
        works(&fixture, &fixture.repo(name));
    }
}

#[test]
fn a_bare_repository() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    git_in(&fixture.path(""), &["clone", "-q", "--bare", "repo", "bare.git"]);
    works(&fixture, &fixture.path("bare.git"));
    assert_eq!(git_in(&repo, &["branch", "--list", "looop/*"]), "");
}

#[test]
fn the_git_directory_of_a_repository() {
    let fixture = Fixture::new();
    works(&fixture, &fixture.repo("repo").join(".git"));
}

#[test]
fn a_linked_worktree_gives_its_own_head_and_gets_the_branch_in_common() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    git_in(&repo, &["worktree", "add", "-q", "../tree", "-b", "topic", "HEAD^"]);
    works(&fixture, &fixture.path("tree"));
    assert!(git_in(&repo, &["branch", "--list"]).contains("looop/fix"));
    let (own, _) = fixture.clone_of(&fixture.path("tree"), "w2", "two");
    assert_eq!(own.base, git_in(&repo, &["rev-parse", "topic"]).trim());
}

#[test]
fn a_submodule_is_a_repository_and_is_not_fetched_with_its_parent() {
    let fixture = Fixture::new();
    fixture.repo("inner");
    let repo = fixture.repo("repo");
    git_in(&repo, &["-c", "protocol.file.allow=always", "submodule", "add", "-q", "../inner", "sub"]);
    git_in(&repo, &["commit", "-qm", "a submodule"]);
    works(&fixture, &repo);
    assert_eq!(fs::read_dir(fixture.path("w/clone/sub")).unwrap().count(), 0);
    fs::remove_dir_all(fixture.path("w/clone")).unwrap();
    works(&fixture, &repo.join("sub"));
    assert_eq!(git_in(&fixture.path("inner"), &["branch", "--list", "looop/*"]), "");
}

#[test]
fn a_shallow_repository() {
    let fixture = Fixture::new();
    fixture.repo("deep");
    let url = format!("file://{}", fixture.path("deep").display());
    git_in(&fixture.path(""), &["clone", "-q", "--depth", "1", &url, "repo"]);
    let notes = works(&fixture, &fixture.path("repo"));
    assert!(notes[0].contains("cut off"), "{notes:?}");
    assert_eq!(git_in(&fixture.path("w/clone"), &["rev-list", "--count", "HEAD"]), "2\n");
}

#[test]
fn a_repository_that_borrows_itself() {
    let fixture = Fixture::new();
    fixture.repo("lender");
    git_in(&fixture.path(""), &["clone", "-q", "--shared", "lender", "repo"]);
    fs::write(fixture.path("repo/.git/objects/info/alternates"), "../../../lender/.git/objects\n").unwrap();
    works(&fixture, &fixture.path("repo"));
}

#[test]
fn other_formats_of_objects_and_refs() {
    for option in ["--object-format=sha256", "--ref-format=reftable"] {
        let fixture = Fixture::new();
        let repo = fixture.path("repo");
        git_in(&fixture.path(""), &["init", "-q", option, "repo"]);
        fixture.commit(&repo, "file", "one\n");
        works(&fixture, &repo);
    }
}

#[test]
fn in_the_middle_of_something_head_is_taken_and_the_middle_stays() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    git_in(&repo, &["switch", "-qc", "other", "HEAD^"]);
    fixture.commit(&repo, "file", "other\n");
    git_in(&repo, &["switch", "-q", "main"]);
    assert!(!shell(&repo, "git -c user.name=ada -c user.email=ada@localhost merge other").status.success());
    let before = fingerprint(&repo);
    let notes = inspect(&fixture.git(), &repo).unwrap().notes;
    assert_eq!(notes, ["a merge is in progress there; the clone starts at HEAD"]);
    let (own, clone) = fixture.clone_of(&repo, "w", "fix");
    fixture.commit(&clone, "new", "x");
    fixture.collect(&own, &clone);
    assert_eq!(fingerprint(&repo), before);
    assert_eq!(fs::read_to_string(clone.join("file")).unwrap(), "two\n");
}

#[test]
#[ignore = "slow"]
fn a_detached_head_and_a_name_that_git_does_not_like() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    git_in(&repo, &["switch", "-q", "--detach", "HEAD^"]);
    works(&fixture, &repo);
    for id in ["a.lock", "日本語", "v1.2"] {
        let (own, clone) = fixture.clone_of(&repo, id, id);
        fixture.commit(&clone, "new", id);
        assert_eq!(fixture.branch(&own, &clone), format!("looop/{}", id.replace(".lock", "-lock")));
    }
}

#[test]
fn branches_of_the_user_may_be_in_the_way() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    git_in(&repo, &["branch", "looop/fix/deeper"]);
    let (own, clone) = fixture.clone_of(&repo, "w", "fix");
    fixture.commit(&clone, "new", "x");
    assert_eq!(fixture.branch(&own, &clone), "looop/fix-2");
    git_in(&repo, &["branch", "-D", "-q", "looop/fix/deeper", "looop/fix-2"]);
    git_in(&repo, &["branch", "looop"]);
    assert_eq!(fixture.branch(&own, &clone), "looop-fix");
    assert_eq!(fixture.branch(&own, &clone), "looop-fix", "twice is once");
}
