//! What a path can stand for: each kind of repository is cloned and gets its commits back, or is refused in words.

use std::fs;
use std::path::Path;

use looop::worker::clone::{collect, inspect};

use super::yard::{Yard, shell};
use crate::support::profile::git_in;

/// Clones, commits, collects, and checks that the branch is there with HEAD as its parent.
#[track_caller]
fn works(yard: &Yard, repo: &Path) -> Vec<String> {
    let notes = inspect(&yard.git(), repo).unwrap().unwrap().notes;
    let (own, clone) = yard.clone_of(repo, "w", "fix");
    assert_eq!(own.base, git_in(repo, &["rev-parse", "HEAD"]).trim());
    yard.commit(&clone, "new", "text\n");
    let collected = collect(&yard.git(), &own, &clone).unwrap();
    assert!(collected.left.is_empty(), "{collected:?}");
    assert_eq!(collected.commits, 1);
    let branch = collected.branch.unwrap();
    assert_eq!(git_in(repo, &["show", &format!("{branch}:new")]), "text\n");
    assert_eq!(git_in(repo, &["rev-parse", &format!("{branch}^")]).trim(), own.base);
    git_in(repo, &["fsck", "--strict"]);
    notes
}

#[track_caller]
fn refused(yard: &Yard, repo: &Path, why: &str) {
    let said = inspect(&yard.git(), repo).unwrap().unwrap_err();
    assert!(said.contains(why), "{said}");
}

#[test]
fn what_cannot_be_cloned_is_refused_in_words() {
    let yard = Yard::new();
    let repo = yard.repo("repo");
    fs::create_dir(repo.join("sub")).unwrap();
    fs::create_dir(yard.path("empty")).unwrap();
    git_in(&yard.path("empty"), &["init", "-q"]);
    refused(&yard, &yard.path("nowhere"), "cannot be opened");
    refused(&yard, &repo.join("file"), "is not a directory");
    refused(&yard, &yard.path("w"), "is not a git repository");
    refused(&yard, &repo.join("sub"), "not its top");
    refused(&yard, &repo.join(".git/refs"), "not its top");
    refused(&yard, &yard.path("empty"), "has no commit yet");
    let odd = yard.path("").join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff"));
    fs::rename(&repo, &odd).unwrap();
    refused(&yard, &odd, "not UTF-8");
    fs::rename(&odd, &repo).unwrap();
    git_in(&repo, &["config", "remote.origin.promisor", "true"]);
    refused(&yard, &repo, "is a partial clone");
}

#[test]
fn a_repository_of_another_user_is_refused() {
    let yard = Yard::new();
    let repo = yard.repo("repo");
    let mut git = yard.git();
    git.owner += 1;
    let said = inspect(&git, &repo).unwrap().unwrap_err();
    assert!(said.contains("belongs to user") && said.contains("of yours"), "{said}");
    // Only root can make this scene: the worktree is mine, and what it shares is not.
    git_in(&repo, &["worktree", "add", "-q", "../tree"]);
    if std::os::unix::fs::chown(repo.join(".git"), Some(12345), None).is_ok() {
        refused(&yard, &yard.path("tree"), "belongs to user 12345");
        refused(&yard, &repo, "belongs to user 12345");
    }
}

#[test]
fn a_format_that_is_not_known_is_refused() {
    let yard = Yard::new();
    let repo = yard.repo("repo");
    git_in(&repo, &["config", "core.repositoryFormatVersion", "99"]);
    refused(&yard, &repo, "has the format 99, which looop does not know");
}

#[test]
fn any_path_will_do() {
    for name in ["a b", "-rf", "ünï 日本", "new\nline", "q\"u'o\\te", "#hash", "colon:s", "\"quoted\""] {
        let yard = Yard::new();
        works(&yard, &yard.repo(name));
    }
}

#[test]
fn a_bare_repository() {
    let yard = Yard::new();
    let repo = yard.repo("repo");
    git_in(&yard.path(""), &["clone", "-q", "--bare", "repo", "bare.git"]);
    works(&yard, &yard.path("bare.git"));
    assert_eq!(git_in(&repo, &["branch", "--list", "looop/*"]), "");
}

#[test]
fn the_git_directory_of_a_repository() {
    let yard = Yard::new();
    works(&yard, &yard.repo("repo").join(".git"));
}

#[test]
fn a_linked_worktree_gives_its_own_head_and_gets_the_branch_in_common() {
    let yard = Yard::new();
    let repo = yard.repo("repo");
    git_in(&repo, &["worktree", "add", "-q", "../tree", "-b", "topic", "HEAD^"]);
    works(&yard, &yard.path("tree"));
    assert!(git_in(&repo, &["branch", "--list"]).contains("looop/fix"));
    let (own, _) = yard.clone_of(&yard.path("tree"), "w2", "two");
    assert_eq!(own.base, git_in(&repo, &["rev-parse", "topic"]).trim());
}

#[test]
fn a_submodule_is_a_repository_and_is_not_fetched_with_its_parent() {
    let yard = Yard::new();
    yard.repo("inner");
    let repo = yard.repo("repo");
    git_in(&repo, &["-c", "protocol.file.allow=always", "submodule", "add", "-q", "../inner", "sub"]);
    git_in(&repo, &["commit", "-qm", "a submodule"]);
    works(&yard, &repo);
    assert_eq!(fs::read_dir(yard.path("w/clone/sub")).unwrap().count(), 0);
    fs::remove_dir_all(yard.path("w/clone")).unwrap();
    works(&yard, &repo.join("sub"));
    assert_eq!(git_in(&yard.path("inner"), &["branch", "--list", "looop/*"]), "");
}

#[test]
fn a_shallow_repository() {
    let yard = Yard::new();
    yard.repo("deep");
    let url = format!("file://{}", yard.path("deep").display());
    git_in(&yard.path(""), &["clone", "-q", "--depth", "1", &url, "repo"]);
    let notes = works(&yard, &yard.path("repo"));
    assert!(notes[0].contains("cut off"), "{notes:?}");
    assert_eq!(git_in(&yard.path("w/clone"), &["rev-list", "--count", "HEAD"]), "2\n");
}

#[test]
fn a_repository_that_borrows_itself() {
    let yard = Yard::new();
    yard.repo("lender");
    git_in(&yard.path(""), &["clone", "-q", "--shared", "lender", "repo"]);
    fs::write(yard.path("repo/.git/objects/info/alternates"), "../../../lender/.git/objects\n").unwrap();
    works(&yard, &yard.path("repo"));
}

#[test]
fn other_formats_of_objects_and_refs() {
    for option in ["--object-format=sha256", "--ref-format=reftable"] {
        let yard = Yard::new();
        let repo = yard.path("repo");
        git_in(&yard.path(""), &["init", "-q", option, "repo"]);
        yard.commit(&repo, "file", "one\n");
        works(&yard, &repo);
    }
}

#[test]
fn in_the_middle_of_something_head_is_taken_and_the_middle_stays() {
    let yard = Yard::new();
    let repo = yard.repo("repo");
    git_in(&repo, &["switch", "-qc", "other", "HEAD^"]);
    yard.commit(&repo, "file", "other\n");
    git_in(&repo, &["switch", "-q", "main"]);
    assert!(!shell(&repo, "git -c user.name=ada -c user.email=ada@localhost merge other").status.success());
    let before = super::fingerprint(&repo);
    let notes = inspect(&yard.git(), &repo).unwrap().unwrap().notes;
    assert_eq!(notes, ["a merge is in progress there; the clone begins at HEAD"]);
    let (own, clone) = yard.clone_of(&repo, "w", "fix");
    yard.commit(&clone, "new", "x");
    collect(&yard.git(), &own, &clone).unwrap();
    assert_eq!(super::fingerprint(&repo), before);
    assert_eq!(fs::read_to_string(clone.join("file")).unwrap(), "two\n");
}

#[test]
fn a_detached_head_and_a_name_that_git_does_not_like() {
    let yard = Yard::new();
    let repo = yard.repo("repo");
    git_in(&repo, &["switch", "-q", "--detach", "HEAD^"]);
    works(&yard, &repo);
    for id in ["a.lock", "日本語", "v1.2"] {
        let (own, clone) = yard.clone_of(&repo, id, id);
        yard.commit(&clone, "new", id);
        let collected = collect(&yard.git(), &own, &clone).unwrap();
        assert_eq!(collected.branch.unwrap(), format!("looop/{}", id.replace(".lock", "-lock")));
    }
}

#[test]
fn branches_of_the_human_may_be_in_the_way() {
    let yard = Yard::new();
    let repo = yard.repo("repo");
    git_in(&repo, &["branch", "looop/fix/deeper"]);
    let (own, clone) = yard.clone_of(&repo, "w", "fix");
    yard.commit(&clone, "new", "x");
    assert_eq!(collect(&yard.git(), &own, &clone).unwrap().branch.unwrap(), "looop/fix-2");
    git_in(&repo, &["branch", "-D", "-q", "looop/fix/deeper", "looop/fix-2"]);
    git_in(&repo, &["branch", "looop"]);
    assert_eq!(collect(&yard.git(), &own, &clone).unwrap().branch.unwrap(), "looop-fix");
    assert_eq!(collect(&yard.git(), &own, &clone).unwrap().branch.unwrap(), "looop-fix", "twice is once");
}
