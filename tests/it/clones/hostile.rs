//! A worker that turns its clone against the human: nothing in it runs, nothing outside it is reached, nothing false comes back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use looop::rules::worker::Repo;
use looop::vcs::clone::{Leftovers, collect, discard, leftovers};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::commands::arm;
use super::fixture::{Fixture, fingerprint, printed, shell};
use crate::support::profile::git_in;

#[test]
fn nothing_that_the_clones_config_or_hooks_name_is_run() {
    let fixture = Fixture::new();
    let (repo, own, clone) = fixture.start("repo", "fix");
    fixture.repo("other");
    let tip = fixture.commit(&clone, "new", "text");
    arm(&fixture, &clone, &clone.join(".git"));
    git_in(&clone, &["config", "core.worktree", &fixture.path("other").display().to_string()]);
    fs::write(clone.join(".gitattributes"), "* filter=spy diff=spy\n").unwrap();
    fs::write(clone.join("file"), "changed").unwrap();
    fs::write(clone.join(".git/commondir"), fixture.path("other/.git").display().to_string()).unwrap();
    let collected = fixture.collect(&own, &clone);
    assert_eq!(collected.tip.as_deref(), Some(tip.as_str()));
    assert_eq!(collected.left.words(), "1 changed file (`file`); 1 untracked file (`.gitattributes`)");
    assert!(discard(&fixture.git(), &own, &clone, false).unwrap().is_some());
    fixture.ran_no_trap();
    assert_eq!(git_in(&repo, &["show", "looop/fix:new"]), "text");
    fs::remove_file(clone.join(".git/commondir")).unwrap();
    git_in(&clone, &["config", "--unset", "core.worktree"]);
    shell(&clone, "git diff");
    assert!(fixture.is_sprung(), "the trap works");
}

#[test]
fn a_repository_inside_the_clone_is_not_asked() {
    let fixture = Fixture::new();
    let (_, own, clone) = fixture.start("repo", "fix");
    fs::rename(fixture.repo("inner"), clone.join("sub")).unwrap();
    git_in(&clone, &["add", "sub"]);
    git_in(&clone, &["commit", "-qm", "a repository inside"]);
    arm(&fixture, &clone.join("sub"), &clone.join("sub/.git"));
    // As long as before, so that only its text can tell.
    fs::write(clone.join("sub/file"), "owt\n").unwrap();
    let collected = fixture.collect(&own, &clone);
    assert_eq!(collected.left.words(), "the submodule `sub` has files");
    fixture.ran_no_trap();
    shell(&clone, "git status");
    assert!(fixture.is_sprung(), "the trap works");
}

/// A worker's clone, and a repository that is none of its business with a commit that only it has.
struct Scene {
    fixture: Fixture,
    repo: PathBuf,
    own: Repo,
    clone: PathBuf,
    secret: String,
    before: BTreeMap<String, String>,
    refs: String,
}

impl Scene {
    fn new() -> Scene {
        let fixture = Fixture::new();
        let (repo, own, clone) = fixture.start("repo", "fix");
        let secret = fixture.commit(&fixture.repo("secret"), "key", "hush\n");
        fixture.commit(&clone, "new", "text");
        let (before, refs) = (fingerprint(&repo), git_in(&repo, &["for-each-ref"]));
        Scene { fixture, repo, own, clone, secret, before, refs }
    }

    fn secret_git(&self) -> PathBuf {
        self.fixture.path("secret/.git")
    }

    fn tip(&self) -> PathBuf {
        self.clone.join(".git/refs/heads/looop/fix")
    }

    /// Nothing came back, nothing of the other repository was taken, and the clone counts as full of work.
    #[track_caller]
    fn refused(&self, why: &str) -> Leftovers {
        let error = format!("{:#}", collect(&self.fixture.git(), &self.own, &self.clone).unwrap_err());
        assert!(error.contains(why), "{error}");
        assert_eq!(git_in(&self.repo, &["for-each-ref"]), self.refs);
        assert_eq!(fingerprint(&self.repo), self.before);
        self.no_secret();
        let left = leftovers(&self.fixture.git(), &self.own, &self.clone);
        assert!(!left.is_empty());
        assert!(discard(&self.fixture.git(), &self.own, &self.clone, false).unwrap().is_some());
        assert!(fs::symlink_metadata(&self.clone).is_ok());
        left
    }

    #[track_caller]
    fn no_secret(&self) {
        let has = shell(&self.repo, &format!("git cat-file -e {}", self.secret));
        assert!(!has.status.success(), "the commit of another repository was taken over");
    }
}

#[test]
fn alternates_that_lead_elsewhere_are_not_followed() {
    let scene = Scene::new();
    let lines =
        format!("{}/objects\n{}/objects\n", scene.repo.join(".git").display(), scene.secret_git().display());
    fs::write(scene.clone.join(".git/objects/info/alternates"), lines).unwrap();
    fs::write(scene.tip(), format!("{}\n", scene.secret)).unwrap();
    assert_eq!(git_in(&scene.clone, &["show", "HEAD:key"]), "hush\n", "git itself would follow");
    scene.refused("could not");
}

type Case<'a> = &'a dyn Fn(&Scene);

#[test]
#[ignore = "slow"]
fn links_are_not_followed() {
    let objects = |scene: &Scene| scene.clone.join(".git/objects");
    let swap = |path: &Path, to: &Path| {
        drop(fs::remove_dir_all(path));
        drop(fs::remove_file(path));
        symlink(to, path).unwrap();
    };
    let secret_dir = |scene: &Scene| format!("objects/{}", &scene.secret[..2]);
    let cases: [(&str, Case); 7] = [
        ("plain directory", &|scene| swap(&scene.clone.join(".git"), &scene.secret_git())),
        ("plain directory", &|scene| swap(&objects(scene), &scene.secret_git().join("objects"))),
        ("could not", &|scene| {
            let name = secret_dir(scene);
            swap(&scene.clone.join(".git").join(&name), &scene.secret_git().join(&name));
            fs::write(scene.tip(), format!("{}\n", scene.secret)).unwrap();
        }),
        ("is not a plain file", &|scene| swap(&scene.tip(), &scene.secret_git().join("refs/heads/main"))),
        ("is not a plain file", &|scene| {
            swap(&scene.clone.join(".git/HEAD"), &scene.secret_git().join("HEAD"));
        }),
        ("is not a plain file", &|scene| {
            git_in(&scene.fixture.path("secret"), &["gc", "-q"]);
            let pack = fs::read_dir(scene.secret_git().join("objects/pack")).unwrap();
            for entry in pack.map(|entry| entry.unwrap()) {
                symlink(entry.path(), objects(scene).join("pack").join(entry.file_name())).unwrap();
            }
            fs::write(scene.tip(), format!("{}\n", scene.secret)).unwrap();
        }),
        ("plain directory", &|scene| {
            let moved = scene.fixture.path("w/moved");
            fs::rename(&scene.clone, &moved).unwrap();
            symlink(moved, &scene.clone).unwrap();
        }),
    ];
    for (why, case) in cases {
        let scene = Scene::new();
        case(&scene);
        let left = scene.refused(why);
        assert!(left.unclear.is_some(), "{left:?}");
    }
}

#[test]
fn a_git_file_that_points_elsewhere_is_not_followed() {
    let scene = Scene::new();
    fs::remove_dir_all(scene.clone.join(".git")).unwrap();
    fs::write(scene.clone.join(".git"), format!("gitdir: {}\n", scene.secret_git().display())).unwrap();
    scene.refused("plain directory");
}

#[test]
fn a_pipe_is_not_read() {
    for name in ["HEAD", "index", "refs/heads/pipe", "objects/pack/pack-00.pack"] {
        let scene = Scene::new();
        let path = scene.clone.join(".git").join(name);
        drop(fs::remove_file(&path));
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        scene.refused("is not a plain file");
    }
}

#[test]
fn a_ref_cannot_name_what_is_outside() {
    for text in ["ref: ../../../../secret/.git/refs/heads/main\n", "ref: refs/../../../../x\n", "\0\0\n"] {
        let scene = Scene::new();
        fs::write(scene.tip(), text).unwrap();
        // HEAD is on the branch, so it is broken too.
        let left = leftovers(&scene.fixture.git(), &scene.own, &scene.clone);
        assert!(left.unclear.is_some(), "{left:?}");
        let error = collect(&scene.fixture.git(), &scene.own, &scene.clone).unwrap_err();
        assert!(error.to_string().contains("could not read the HEAD of the clone"), "{error:#}");
        assert_eq!(git_in(&scene.repo, &["for-each-ref"]), scene.refs);
        scene.no_secret();
    }
}

/// The path of a loose object.
fn loose(clone: &Path, oid: &str) -> PathBuf {
    clone.join(".git/objects").join(&oid[..2]).join(&oid[2..])
}

#[test]
fn a_false_object_does_not_come_back() {
    let scene = Scene::new();
    let of = |name: &str| git_in(&scene.clone, &["rev-parse", name]).trim().to_owned();
    let (good, tree) = (of("HEAD:new"), of("HEAD^{tree}"));
    fs::write(scene.clone.join("false"), "evil").unwrap();
    git_in(&scene.clone, &["add", "false"]);
    let evil = of(":false");
    fs::rename(loose(&scene.clone, &evil), loose(&scene.clone, &good)).unwrap();
    scene.refused("could not");
    // Missing altogether.
    fs::remove_file(loose(&scene.clone, &tree)).unwrap();
    scene.refused("could not");
}

#[test]
fn a_tree_that_would_write_into_a_git_directory_does_not_come_back() {
    let scene = Scene::new();
    let blob = git_in(&scene.clone, &["rev-parse", "HEAD:new"]).trim().to_owned();
    fs::write(scene.fixture.path("tree"), format!("100644 blob {blob}\tconfig\n")).unwrap();
    let tree = format!("git mktree < '{}'", scene.fixture.path("tree").display());
    let inner = printed(&scene.clone, &tree);
    let outer = printed(&scene.clone, &format!("printf '040000 tree {inner}\\t.git\\n' | git mktree"));
    let commit = git_in(&scene.clone, &["commit-tree", "-p", "HEAD", "-m", "x", &outer]);
    fs::write(scene.tip(), commit).unwrap();
    scene.refused("hasDotgit");
}

#[test]
fn files_of_the_clone_that_lie_about_its_history_are_not_believed() {
    let scene = Scene::new();
    let first = git_in(&scene.clone, &["rev-parse", "HEAD"]).trim().to_owned();
    let tip = scene.fixture.commit(&scene.clone, "two", "2");
    git_in(&scene.clone, &["commit-graph", "write", "--reachable"]);
    git_in(&scene.clone, &["replace", &tip, &scene.own.base]);
    fs::write(scene.clone.join(".git/shallow"), format!("{tip}\n")).unwrap();
    fs::create_dir_all(scene.clone.join(".git/info")).unwrap();
    fs::write(scene.clone.join(".git/info/grafts"), format!("{tip}\n")).unwrap();
    let collected = scene.fixture.collect(&scene.own, &scene.clone);
    assert_eq!((collected.commits, collected.tip.as_deref()), (2, Some(tip.as_str())));
    let log = git_in(&scene.repo, &["log", "--format=%H", "looop/fix"]);
    assert!(log.starts_with(&format!("{tip}\n{first}\n{}\n", scene.own.base)), "{log}");
}
