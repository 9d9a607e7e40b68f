//! Repositories to clone, traps that tell when they are run, and the fingerprint of a checkout.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use looop::os::signal::Cancel;
use looop::rules::worker::{Objects, Repo};
use looop::vcs::clone::{self, Collected, Git, Source, Trees, inspect};

use crate::support::profile::{self, git_in};

/// Where git is.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Makes the clone of worker `id`, with the source's objects shared.
pub fn make_shared(git: &Git, source: &Source, into: &Path, id: &str) -> anyhow::Result<Repo> {
    let repo = clone::repo_of(source, &id.parse().unwrap())?;
    clone::make(git, source, into, &repo, Objects::Shared)?;
    Ok(repo)
}

/// A temporary directory with repositories; workers are in `w`, `w2` and so on.
pub struct Fixture {
    dir: tempfile::TempDir,
    pub cancel: Cancel,
}

impl Fixture {
    pub fn new() -> Fixture {
        let fixture = Fixture { dir: tempfile::tempdir().unwrap(), cancel: Cancel::never().unwrap() };
        fs::create_dir(fixture.path("w")).unwrap();
        fixture
    }

    pub fn path(&self, name: &str) -> PathBuf {
        // The canonical one, as the code under test has it.
        fs::canonicalize(self.dir.path()).unwrap().join(name)
    }

    pub fn git(&self) -> Git<'_> {
        Git::find(PATH, 120_000, &self.cancel).unwrap()
    }

    /// A repository with two commits.
    pub fn repo(&self, name: &str) -> PathBuf {
        let repo = self.path(name);
        fs::create_dir_all(&repo).unwrap();
        git_in(&repo, &["init", "-q"]);
        self.commit(&repo, "file", "one\n");
        self.commit(&repo, "file", "two\n");
        repo
    }

    /// Commits a file; the new commit.
    #[track_caller]
    pub fn commit(&self, repo: &Path, name: &str, text: &str) -> String {
        fs::write(repo.join(name), text).unwrap();
        git_in(repo, &["add", "--", name]);
        git_in(repo, &["commit", "-qm", &format!("{name} is {}", text.trim())]);
        git_in(repo, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// A new repository, and a worker's clone of it in `w/clone`.
    #[track_caller]
    pub fn start(&self, repo: &str, id: &str) -> (PathBuf, Repo, PathBuf) {
        let repo = self.repo(repo);
        let (own, clone) = self.clone_of(&repo, "w", id);
        (repo, own, clone)
    }

    /// A worker's clone in `DIR/clone`.
    #[track_caller]
    pub fn clone_of(&self, repo: &Path, dir: &str, id: &str) -> (Repo, PathBuf) {
        let git = self.git();
        let source = inspect(&git, repo).unwrap();
        fs::create_dir_all(self.path(dir)).unwrap();
        let clone = self.path(dir).join("clone");
        let own = make_shared(&git, &source, &clone, id).unwrap();
        (own, clone)
    }

    /// Brings the commits of a worker's clone back.
    #[track_caller]
    pub fn collect(&self, own: &Repo, clone: &Path) -> Collected {
        clone::collect(&self.git(), own, clone).unwrap()
    }

    /// The branch on which its commits came back.
    #[track_caller]
    pub fn branch(&self, own: &Repo, clone: &Path) -> String {
        self.collect(own, clone).branch.unwrap()
    }

    /// Discards a clone in which nothing is that is nowhere else.
    #[track_caller]
    pub fn discard(&self, own: &Repo, clone: &Path) {
        assert_eq!(clone::discard(&self.git(), own, clone, false).unwrap(), None);
    }

    /// What a fix of a repository keeps states with.
    #[track_caller]
    pub fn trees(&self, repo: &Path) -> (Git<'_>, Source, Trees) {
        let git = self.git();
        let source = inspect(&git, repo).unwrap();
        let trees = Trees::open(&git, &self.path("attempts"), Some(&source)).unwrap();
        (git, source, trees)
    }

    /// A clone in `w/clone` in which a fix works, as it begins; and the state that this is.
    #[track_caller]
    pub fn work(&self, git: &Git, source: &Source, trees: &Trees) -> (PathBuf, String) {
        let work = self.path("w/clone");
        make_shared(git, source, &work, "fix").unwrap();
        let head = trees.tree_of(git, &source.head).unwrap();
        trees.restore(git, &work, "work", &head).unwrap();
        (work, head)
    }

    /// Real git, behind a shell line that sees each of its calls first.
    pub fn git_behind(&self, line: &str) -> Git<'_> {
        program(&self.path("bin/git"), &format!("PATH={PATH}\n{line}\nexec git \"$@\""));
        Git::find(&self.path("bin").display().to_string(), 120_000, &self.cancel).unwrap()
    }

    /// A program that leaves a mark.
    pub fn trap(&self, path: &Path) {
        program(path, &format!("echo \"$0\" >> '{}'", self.path("sprung").display()));
    }

    pub fn is_sprung(&self) -> bool {
        self.path("sprung").exists()
    }

    /// Checks that no trap was run.
    #[track_caller]
    pub fn ran_no_trap(&self) {
        assert_eq!(fs::read_to_string(self.path("sprung")).unwrap_or_default(), "", "these traps were run");
    }
}

/// Writes a shell script.
pub fn program(path: &Path, line: &str) {
    profile::program(path, format!("#!/bin/sh\n{line}\n"));
}

/// Runs a shell line, whatever comes of it.
pub fn shell(dir: &Path, line: &str) -> Output {
    Command::new("sh").args(["-c", line]).current_dir(dir).env("PATH", PATH).output().unwrap()
}

/// What a shell line prints that has to work.
#[track_caller]
pub fn printed(dir: &Path, line: &str) -> String {
    let output = shell(dir, line);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Every file and directory of a repository with its kind, mode, size, time of change and content, but for
/// what looop may write: objects, its own refs with their logs, and the directories that hold those.
pub fn fingerprint(repo: &Path) -> BTreeMap<String, String> {
    let mut prints = BTreeMap::new();
    visit(repo, repo, &mut prints);
    prints
}

fn visit(repo: &Path, path: &Path, prints: &mut BTreeMap<String, String>) {
    let name = path.strip_prefix(repo).unwrap().to_str().unwrap().to_owned();
    let free = [".git/objects", ".git/refs/looop", ".git/refs/heads/looop", ".git/logs/refs/heads/looop"];
    if free.contains(&name.as_str()) {
        return;
    }
    let meta = fs::symlink_metadata(path).unwrap();
    let holders = [".git/refs", ".git/refs/heads", ".git/logs/refs/heads"];
    let is_holder = holders.contains(&name.as_str());
    let time = if is_holder { 0 } else { meta.mtime() * 1_000_000_000 + meta.mtime_nsec() };
    let content = if meta.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    let size = if meta.is_dir() { 0 } else { meta.len() };
    let hash = blake3::hash(&content).to_hex();
    prints.insert(name, format!("{:o} {size} {time} {} {hash}", meta.mode(), meta.ino()));
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            visit(repo, &entry.unwrap().path(), prints);
        }
    }
}
