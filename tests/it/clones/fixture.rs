//! Repositories to clone, traps that tell when they are run, and the fingerprint of a checkout.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use looop::os::signal::Cancel;
use looop::rules::name::Name;
use looop::rules::worker::{Objects, Repo};
use looop::vcs::clone::{self, Git, Source, inspect};

use crate::support::profile::git_in;

/// Where git is.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Makes the clone of worker `id`, with the source's objects shared.
pub fn make_shared(git: &Git, source: &Source, into: &Path, id: &Name) -> anyhow::Result<Repo> {
    let repo = clone::repo_of(source, id)?;
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
        let own = make_shared(&git, &source, &clone, &id.parse().unwrap()).unwrap();
        (own, clone)
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
}

/// Writes a shell script.
pub fn program(path: &Path, line: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a shell line, whatever comes of it.
pub fn shell(dir: &Path, line: &str) -> Output {
    Command::new("sh").args(["-c", line]).current_dir(dir).env("PATH", PATH).output().unwrap()
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
    let time =
        if holders.contains(&name.as_str()) { 0 } else { meta.mtime() * 1_000_000_000 + meta.mtime_nsec() };
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
