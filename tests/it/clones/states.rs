//! States of a folder that a fix keeps: names are bytes, what did not change is not read again, and ignored files count
//! only where git knows them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use looop::vcs::clone::{Git, Trees, leftovers};

use super::fixture::{Fixture, make_shared, program, shell};
use crate::support::profile::{git_in, wait_until};

/// Names that are no text, or hard to quote.
const NAMES: [&[u8]; 6] =
    [b"caf\xe9.txt", b"\xff\xfe", b"two\nlines", b"q\"uo\\te", b"tab\there", b"dir\xe9/in\xe9"];

fn path(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(name))
}

fn put(dir: &Path, name: &[u8], text: &str) {
    fs::create_dir_all(path(dir, name).parent().unwrap()).unwrap();
    fs::write(path(dir, name), text).unwrap();
}

#[test]
fn names_that_are_not_text_are_kept_compared_and_restored() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    NAMES.iter().for_each(|name| put(&repo, name, "one\n"));
    git_in(&repo, &["add", "-A"]);
    git_in(&repo, &["commit", "-qm", "odd names"]);
    let (git, source, trees) = fixture.trees(&repo);
    let head = trees.tree_of(&git, &source.head).unwrap();
    assert_eq!(trees.snapshot(&git, &repo, "project").unwrap(), head);
    let work = fixture.path("w/clone");
    let own = make_shared(&git, &source, &work, "fix").unwrap();
    trees.restore(&git, &work, "work", &head).unwrap();
    NAMES.iter().for_each(|name| assert_eq!(fs::read_to_string(path(&work, name)).unwrap(), "one\n"));
    assert!(leftovers(&git, &own, &work).is_empty());
    put(&work, NAMES[0], "two\n");
    put(&work, b"new\xe9", "new\n");
    fs::remove_file(path(&work, NAMES[1])).unwrap();
    let tree = trees.snapshot(&git, &work, "work").unwrap();
    let changes = trees.changes(&git, &head, &tree).unwrap();
    let names: Vec<&[u8]> = changes.iter().map(|change| change.path.as_os_str().as_bytes()).collect();
    assert_eq!(names, [NAMES[0], b"new\xe9", NAMES[1]]);
    let left = leftovers(&git, &own, &work);
    assert_eq!((left.changed.count, left.untracked.count), (2, 1), "{left:?}");
    trees.restore(&git, &work, "work", &head).unwrap();
    NAMES.iter().for_each(|name| assert_eq!(fs::read_to_string(path(&work, name)).unwrap(), "one\n"));
    assert!(!path(&work, b"new\xe9").exists());
    put(&work, b"new\xe9", "new\n");
    git_in(&work, &["add", "-A"]);
    git_in(&work, &["commit", "-qm", "by the worker"]);
    let collected = fixture.collect(&own, &work);
    assert!(collected.branch.is_some() && collected.left.is_empty(), "{collected:?}");
    fixture.discard(&own, &work);
}

#[test]
fn a_folder_that_did_not_change_is_known_without_git_and_without_reading() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    for n in 0..1000 {
        put(&repo, format!("d{}/f{n}", n % 20).as_bytes(), &n.to_string());
    }
    let (git, _, trees) = fixture.trees(&repo);
    let tree = trees.snapshot(&git, &repo, "project").unwrap();
    program(&fixture.path("none/git"), "exit 9");
    let none = fixture.path("none").display().to_string();
    let none = Git::find(&none, 60_000, &fixture.cancel).unwrap();
    wait_until("the files are old enough that a time alone tells the next change", || {
        trees.snapshot(&git, &repo, "project").unwrap();
        trees.snapshot(&none, &repo, "project").is_ok()
    });
    assert_eq!(trees.snapshot(&none, &repo, "project").unwrap(), tree);
    assert_eq!(trees.grown(&none, &repo, "project").unwrap().files, 0);
    // The same size and the same time of its content: the system knows better.
    let file = repo.join("d1/f1");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "2").unwrap();
    fs::File::options().append(true).open(&file).unwrap().set_modified(time).unwrap();
    assert_eq!(trees.grown(&none, &repo, "project").unwrap().files, 1);
    assert_ne!(trees.snapshot(&git, &repo, "project").unwrap(), tree);
}

#[test]
fn a_state_is_what_git_would_have_made_of_the_files() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    put(&repo, b".gitignore", "*.log\n/built/\n!kept.log\n");
    put(&repo, b"a/.gitignore", "!*.log\n");
    for name in [&b"x.log"[..], b"kept.log", b"built/out", b"a/y.log", b"a/b/c", b"run.sh"] {
        put(&repo, name, "text\r\n");
    }
    fs::set_permissions(repo.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("nowhere", repo.join("link")).unwrap();
    fs::create_dir(repo.join("empty")).unwrap();
    // Git knows these although they are ignored.
    git_in(&repo, &["add", "-f", "x.log", "built/out"]);
    git_in(&repo, &["commit", "-qm", "ignored and known"]);
    put(&repo, b"built/more", "not known");
    let (git, _, trees) = fixture.trees(&repo);
    let tree = trees.snapshot(&git, &repo, "project").unwrap();
    git_in(&repo, &["add", "-A"]);
    assert_eq!(tree, git_in(&repo, &["write-tree"]).trim());
    for name in ["run.sh", "link"] {
        fs::remove_file(repo.join(name)).unwrap();
    }
    put(&repo, b"run.sh/now/a/folder", "x");
    put(&repo, b"extra", "x");
    trees.restore(&git, &repo, "project", &tree).unwrap();
    assert_eq!(trees.snapshot(&git, &repo, "project").unwrap(), tree);
    assert_eq!(fs::metadata(repo.join("run.sh")).unwrap().permissions().mode() & 0o111, 0o111);
    assert!(!repo.join("extra").exists() && repo.join("built/more").exists(), "what is ignored stays");
    fs::remove_file(repo.join("x.log")).unwrap();
    let next = trees.snapshot(&git, &repo, "project").unwrap();
    assert_eq!(trees.changes(&git, &tree, &next).unwrap().len(), 1, "a known file that is gone is gone");
}

#[test]
fn a_large_state_comes_back_whole() {
    let fixture = Fixture::new();
    let repo = fixture.repo("repo");
    put(&repo, b"large", &"0123456789abcdef".repeat(1 << 17));
    put(&repo, b"none", "");
    for n in 0..300 {
        put(&repo, format!("f{n}").as_bytes(), &"x\n".repeat(n));
    }
    let git = fixture.git();
    let trees = Trees::open(&git, &fixture.path("attempts"), None).unwrap();
    let tree = trees.snapshot(&git, &repo, "project").unwrap();
    let into = fixture.path("into");
    fs::create_dir(&into).unwrap();
    trees.restore(&git, &into, "into", &tree).unwrap();
    assert!(shell(&fixture.path(""), "diff -r --exclude=.git repo into").status.success());
}
