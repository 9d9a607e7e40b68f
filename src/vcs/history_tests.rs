//! Tests of the git history, checked with the real `git` program.
#![allow(clippy::disallowed_methods, reason = "the tests compare with the real git, which has to be found")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use gix::index::entry::Stage;
use tempfile::TempDir;

use super::*;

#[path = "history/commit_tests.rs"]
mod commit;
#[path = "history/foreign_tests.rs"]
mod foreign;

struct Fixture {
    /// Holds `data`, the data dir, and `home`, an empty home for git.
    tmp: TempDir,
    history: History,
}

impl Fixture {
    fn new() -> Result<Self> {
        let tmp = TempDir::new()?;
        fs::create_dir_all(tmp.path().join("data"))?;
        fs::create_dir_all(tmp.path().join("home"))?;
        let history = History::init(&tmp.path().join("data"))?;
        Ok(Self { tmp, history })
    }

    fn with(files: &[(&str, &str)]) -> Result<Self> {
        let fixture = Self::new()?;
        for (path, text) in files {
            fixture.write(path, text)?;
        }
        fixture.commit_changed("first")?;
        Ok(fixture)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.tmp.path().join("data").join(path)
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().context("no parent")?)?;
        Ok(fs::write(path, text)?)
    }

    fn git_output(&self, args: &[&str]) -> Result<std::process::Output> {
        let mut git = Command::new("git");
        git.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        git.env("HOME", self.tmp.path().join("home")).env("GIT_CONFIG_NOSYSTEM", "1");
        git.args(["-c", "user.name=Human", "-c", "user.email=human@example.com"]);
        Ok(git.current_dir(self.path("")).args(args).output()?)
    }

    fn git(&self, args: &[&str]) -> Result<String> {
        let out = self.git_output(args)?;
        if !out.status.success() {
            bail!("git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(String::from_utf8(out.stdout)?)
    }

    fn status(&self) -> Result<String> {
        self.git(&["status", "--porcelain", "-z", "--untracked-files=all"])
    }

    fn commit(&self, message: &str, edits: Vec<FileEdit>) -> Result<Option<String>> {
        let (name, email) = ("Zoë Müller".into(), "zoe@example.com".into());
        let author = Signature { name, email, unix_s: 1_700_000_000, utc_offset_s: -12_600 };
        let committer = Signature { name: "looop".into(), email: String::new(), ..author.clone() };
        self.history.commit(message, &author, &committer, &edits)
    }

    /// Commits what `changed` reports, as it is on disk.
    fn commit_changed(&self, message: &str) -> Result<Option<String>> {
        let mut edits = Vec::new();
        for path in self.history.changed()? {
            let meta = fs::symlink_metadata(self.path(&path)).ok().filter(fs::Metadata::is_file);
            let bytes = meta.as_ref().map(|_| fs::read(self.path(&path))).transpose()?;
            let executable = meta.is_some_and(|meta| meta.permissions().mode() & 0o100 != 0);
            edits.push(FileEdit { path, bytes, executable });
        }
        self.commit(message, edits)
    }

    /// Commits what is on disk, and asserts that nothing is left.
    fn commit_all(&self, message: &str) -> Result<()> {
        self.commit_changed(message)?.context("no commit")?;
        self.assert_clean()
    }

    /// Returns why a commit is blocked. It must change nothing below .git.
    fn blocks(&self) -> Result<Blocked> {
        let before = self.snapshot()?;
        let error = self.commit("no", vec![put("b", "2")]).err().context("it was made")?;
        assert!(self.snapshot()? == before, "{error:#}");
        error.downcast_ref::<Blocked>().cloned().with_context(|| format!("not Blocked: {error:#}"))
    }

    /// Asserts that neither looop nor git has anything to commit, and that the repository is sound.
    fn assert_clean(&self) -> Result<()> {
        assert_eq!(self.history.changed()?, Vec::<String>::new());
        // First, because `git status` may repair the index.
        assert_eq!(self.git(&["--no-optional-locks", "diff-files", "--name-only"])?, "");
        assert_eq!(self.status()?, "");
        self.assert_sound()
    }

    fn assert_sound(&self) -> Result<()> {
        let out = self.git_output(&["fsck", "--strict", "--full", "--no-dangling"])?;
        let stated = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert!(out.status.success(), "{stated}");
        assert!(!stated.contains("error") && !stated.contains("warning"), "{stated}");
        Ok(())
    }

    /// Reads every file below .git, to see that nothing was written.
    fn snapshot(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let mut files = BTreeMap::new();
        let mut todo = vec![self.path(".git")];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                if path.is_dir() {
                    files.insert(path.clone(), Vec::new());
                    todo.push(path);
                } else {
                    files.insert(path.clone(), fs::read(&path)?);
                }
            }
        }
        Ok(files)
    }

    /// Writes a script into `home` that leaves a file beside it when it runs.
    fn script(&self, name: &str) -> Result<String> {
        let path = self.tmp.path().join("home").join(name);
        fs::write(&path, "#!/bin/sh\ntouch \"$0.ran\"\ncat\n")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path.display().to_string())
    }

    fn marks(&self) -> Result<usize> {
        let home = fs::read_dir(self.tmp.path().join("home"))?;
        Ok(home.flatten().filter(|e| e.file_name().to_string_lossy().ends_with(".ran")).count())
    }
}

fn set_mtime(path: &Path, time: SystemTime) -> Result<()> {
    Ok(fs::File::options().write(true).open(path)?.set_modified(time)?)
}

fn put(path: &str, text: &str) -> FileEdit {
    FileEdit { path: path.into(), bytes: Some(text.into()), executable: false }
}

fn delete(path: &str) -> FileEdit {
    FileEdit { path: path.into(), bytes: None, executable: false }
}

#[test]
fn init_makes_a_private_repository_once() -> Result<()> {
    let f = Fixture::new()?;
    assert_eq!(f.git(&["symbolic-ref", "HEAD"])?, "refs/heads/main\n");
    assert_eq!(fs::metadata(f.path(".git"))?.permissions().mode() & 0o777, 0o700);
    assert!(!f.path(".git/hooks").exists() && !f.path(".git-init").exists());
    let before = f.snapshot()?;
    History::init(&f.path(""))?;
    History::open(&f.path(""))?;
    assert!(f.snapshot()? == before);
    f.assert_sound()
}

#[test]
fn init_recovers_from_a_crash_in_init() -> Result<()> {
    let tmp = TempDir::new()?;
    fs::create_dir_all(tmp.path().join(".git-init/.git/refs"))?;
    History::init(tmp.path())?;
    assert!(!tmp.path().join(".git-init").exists());
    Ok(())
}

#[test]
fn open_refuses_a_directory_without_a_plain_repository() -> Result<()> {
    let f = Fixture::new()?;
    let other = TempDir::new()?;
    assert!(History::open(other.path()).is_err());
    fs::create_dir(f.path("below"))?;
    assert!(History::open(&f.path("below")).is_err(), "found the repository above");
    fs::write(other.path().join(".git"), format!("gitdir: {}\n", f.path(".git").display()))?;
    assert!(History::open(other.path()).is_err());
    assert!(History::init(other.path()).is_err());
    fs::remove_file(other.path().join(".git"))?;
    symlink(f.path(".git"), other.path().join(".git"))?;
    assert!(History::open(other.path()).is_err());
    fs::write(f.path(".git/commondir"), "../elsewhere\n")?;
    assert!(History::open(&f.path("")).is_err());
    Ok(())
}

#[test]
fn odd_names_round_trip() -> Result<()> {
    let names = ["-dash", "12:30.md", "aux", "sp ace/naïve — 日本.md", "tab\tline\nend", "x\\y", "é\u{301}"];
    let files: Vec<_> = names.iter().map(|name| (*name, *name)).collect();
    let f = Fixture::with(&files)?;
    f.assert_clean()?;
    let id = f.history.head()?.context("no commit")?;
    assert_eq!(f.history.list(&id, "")?, names);
    assert_eq!(f.history.list(&id, "sp ace")?, ["sp ace/naïve — 日本.md"]);
    for name in names {
        assert_eq!(f.history.read(&id, name, 99)?.as_deref(), Some(name.as_bytes()));
    }
    Ok(())
}

#[test]
fn commits_can_be_read_back() -> Result<()> {
    let f = Fixture::with(&[("a/b/c", "first"), ("a/d", ""), ("ab", "x")])?;
    let first = f.history.head()?.context("no commit")?;
    f.write("a/b/c", "second")?;
    let second = f.commit_changed("second\n\nbody")?.context("no commit")?;
    let history = &f.history;
    assert_eq!(history.read(&first, "a/b/c", 5)?.as_deref(), Some(&b"first"[..]));
    assert!(history.read(&second, "a/b/c", 5).is_err());
    for path in ["", "a", "a/", "a/b/c/", "/ab", "a/x", "ab/x"] {
        assert_eq!(history.read(&second, path, 99)?, None, "{path:?}");
    }
    assert!(history.read("HEAD", "ab", 99).is_err() && history.read(&"0".repeat(40), "ab", 99).is_err());
    assert_eq!(history.list(&first, "")?, ["a/b/c", "a/d", "ab"]);
    assert_eq!(history.list(&first, "a/")?, ["a/b/c", "a/d"]);
    assert_eq!(history.list(&first, "a/b")?, ["a/b/c"]);
    assert_eq!(history.list(&first, "ab")?, Vec::<String>::new());
    assert_eq!(history.message(&second)?, "second\n\nbody");
    let log = history.log(99)?;
    assert_eq!(log.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), [&second, &first]);
    assert_eq!((log[1].author.as_str(), log[1].unix_s), ("Zoë Müller", 1_700_000_000));
    assert_eq!(history.log(1)?, log[..1]);
    f.git(&["switch", "-qc", "looop/side"])?;
    for rev in ["HEAD", "main", "looop/side", &second, &second[..7]] {
        assert_eq!(history.resolve(rev)?.as_deref(), Some(second.as_str()), "{rev}");
    }
    let tree = f.git(&["rev-parse", "HEAD^{tree}"])?;
    for rev in ["nope", "", "..", "abc", "0000000", "HEAD~1", tree.trim()] {
        assert_eq!(history.resolve(rev)?, None, "{rev:?}");
    }
    Ok(())
}

#[test]
fn unborn_head_is_empty() -> Result<()> {
    let f = Fixture::new()?;
    let found = [f.history.head()?, f.history.resolve("HEAD")?, f.history.resolve("main")?];
    assert_eq!(found, [None, None, None]);
    assert!(f.history.log(9)?.is_empty() && f.history.changed()?.is_empty());
    assert_eq!((f.history.blocked()?, f.history.loose_objects()?), (None, 0));
    Ok(())
}

#[test]
fn loose_objects_are_estimated() -> Result<()> {
    let f = Fixture::new()?;
    f.write(".git/objects/17/0123456789012345678901234567890123456a", "")?;
    f.write(".git/objects/17/0123456789012345678901234567890123456b", "")?;
    assert_eq!(f.history.loose_objects()?, 512);
    Ok(())
}
