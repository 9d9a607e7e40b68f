//! Tests of the git history, checked with the real `git` program.
#![allow(clippy::disallowed_methods, reason = "the real git is the judge here, and has to be found")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use gix::index::entry::Stage;
use tempfile::TempDir;

use super::*;

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
        let author = Signature {
            name: "Zoë Müller".into(),
            email: "zoe@example.com".into(),
            unix_s: 1_700_000_000,
            utc_offset_s: -12_600,
        };
        let committer = Signature { name: "looop".into(), email: String::new(), ..author.clone() };
        self.history.commit(&CommitSpec { message, author: &author, committer: &committer, edits })
    }

    /// Commits what `changed` reports, as it is on disk.
    fn commit_changed(&self, message: &str) -> Result<Option<String>> {
        let mut edits = Vec::new();
        for path in self.history.changed()? {
            let content = match fs::symlink_metadata(self.path(&path)) {
                Ok(meta) if meta.is_file() => Some(Content {
                    bytes: fs::read(self.path(&path))?,
                    executable: meta.permissions().mode() & 0o100 != 0,
                }),
                _ => None,
            };
            edits.push(FileEdit { path, content });
        }
        self.commit(message, edits)
    }

    /// Nothing to commit, for us and for git, and a sound repository.
    fn assert_clean(&self) -> Result<()> {
        assert_eq!(self.history.changed()?, Vec::<String>::new());
        // First, as `git status` may repair the index on its way.
        assert_eq!(self.git(&["--no-optional-locks", "diff-files", "--name-only"])?, "");
        assert_eq!(self.status()?, "");
        self.assert_sound()
    }

    fn assert_sound(&self) -> Result<()> {
        let out = self.git_output(&["fsck", "--strict", "--full", "--no-dangling"])?;
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert!(out.status.success(), "{said}");
        assert!(!said.contains("error") && !said.contains("warning"), "{said}");
        Ok(())
    }

    /// Every file below .git with its bytes, to see that nothing was written.
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

    /// A script in `home` that leaves a mark beside it when it runs.
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
    FileEdit { path: path.into(), content: Some(Content { bytes: text.into(), executable: false }) }
}

fn delete(path: &str) -> FileEdit {
    FileEdit { path: path.into(), content: None }
}

fn blocked_by(result: Result<Option<String>>) -> Result<Blocked> {
    match result {
        Ok(done) => bail!("not blocked: {done:?}"),
        Err(e) => e.downcast_ref::<Blocked>().cloned().with_context(|| format!("not Blocked: {e:#}")),
    }
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
fn open_refuses_what_is_no_plain_repository() -> Result<()> {
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
fn commit_is_what_git_expects() -> Result<()> {
    let f = Fixture::new()?;
    assert_eq!(f.history.head()?, None);
    f.write("goals.md", "one\n")?;
    f.write("a/b/c/deep.txt", "deep\n")?;
    f.write("empty", "")?;
    f.write("run.sh", "#!/bin/sh\n")?;
    fs::set_permissions(f.path("run.sh"), fs::Permissions::from_mode(0o755))?;
    assert_eq!(f.history.changed()?, ["a/b/c/deep.txt", "empty", "goals.md", "run.sh"]);
    let id = f.commit_changed("add all\n\nwith a body\n")?.context("no commit")?;
    assert_eq!(f.history.head()?.as_deref(), Some(id.as_str()));
    assert_eq!(f.git(&["rev-parse", "main"])?.trim(), id);
    f.assert_clean()?;
    let log = f.git(&["log", "--format=%an <%ae> %ai|%cn <%ce>|%B"])?;
    assert_eq!(
        log,
        "Zoë Müller <zoe@example.com> 2023-11-14 18:43:20 -0330|looop <>|add all\n\nwith a body\n\n"
    );
    assert_eq!(f.git(&["reflog", "--format=%gs"])?, "commit (initial): add all\n");
    assert!(f.git(&["ls-files", "-s", "run.sh"])?.starts_with("100755 "));
    assert_eq!(f.git(&["show", "HEAD:a/b/c/deep.txt"])?, "deep\n");
    Ok(())
}

#[test]
fn commit_deletes_and_replaces() -> Result<()> {
    let f = Fixture::with(&[("a/x", "1"), ("a/y", "2"), ("b", "3"), ("c", "4")])?;
    fs::remove_dir_all(f.path("a"))?;
    f.write("a", "now a file")?;
    fs::remove_file(f.path("b"))?;
    f.write("b/now/a/dir", "5")?;
    fs::remove_file(f.path("c"))?;
    assert_eq!(f.history.changed()?, ["a", "a/x", "a/y", "b", "b/now/a/dir", "c"]);
    f.commit_changed("swap")?.context("no commit")?;
    f.assert_clean()?;
    assert_eq!(f.git(&["ls-files"])?, "a\nb/now/a/dir\n");
    // Deleted in the commit but still there: git shows it as new.
    f.commit("delete", vec![delete("a")])?.context("no commit")?;
    assert_eq!(f.status()?, "?? a\0");
    assert_eq!(f.history.changed()?, ["a"]);
    fs::remove_file(f.path("a"))?;
    // Without naming what the new file stands on: it is replaced all the same.
    fs::remove_dir_all(f.path("b"))?;
    f.write("b", "6")?;
    f.commit("over", vec![put("b", "6")])?.context("no commit")?;
    f.assert_clean()?;
    // The last file, too.
    fs::remove_file(f.path("b"))?;
    f.commit_changed("nothing left")?.context("no commit")?;
    f.assert_clean()
}

#[test]
fn commit_follows_the_executable_bit() -> Result<()> {
    let f = Fixture::with(&[("run", "x")])?;
    fs::set_permissions(f.path("run"), fs::Permissions::from_mode(0o755))?;
    assert_eq!(f.history.changed()?, ["run"]);
    f.commit_changed("on")?.context("no commit")?;
    f.assert_clean()?;
    fs::set_permissions(f.path("run"), fs::Permissions::from_mode(0o644))?;
    assert_eq!(f.history.changed()?, ["run"]);
    f.commit_changed("off")?.context("no commit")?;
    f.assert_clean()
}

#[test]
fn commit_has_the_given_bytes_and_status_the_newer_ones() -> Result<()> {
    let f = Fixture::with(&[("a", "old!"), ("b", "old!")])?;
    f.write("a", "disk")?;
    // Long ago, so that only the comparison of the contents can tell.
    set_mtime(&f.path("a"), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))?;
    let id = f.commit("taken", vec![put("a", "take"), put("gone", "x")])?.context("no commit")?;
    assert_eq!(f.history.read(&id, "a", 99)?.as_deref(), Some(&b"take"[..]));
    assert_eq!(f.history.changed()?, ["a", "gone"]);
    assert_eq!(f.status()?, " M a\0 D gone\0");
    f.assert_sound()
}

#[test]
fn edits_in_the_tick_of_the_commit_are_seen() -> Result<()> {
    let f = Fixture::with(&[("a", "00000"), ("b", "00000"), ("c", "0")])?;
    for n in 0..200 {
        let text = format!("{n:05}");
        // Same size, same inode, and most often the same time as the index.
        f.write("a", &format!("{text}!"))?;
        f.write("b", &text)?;
        f.commit("round", vec![put("a", &format!("{text}!")), put("b", &text)])?.context("no commit")?;
        assert_eq!(f.history.changed()?, Vec::<String>::new(), "round {n}");
        f.write("a", &format!("{text}?"))?;
        assert_eq!(f.history.changed()?, ["a"], "round {n}");
        // Another index is written meanwhile, with a later time than the edit.
        f.write("c", &text)?;
        f.commit("other", vec![put("c", &text)])?.context("no commit")?;
        assert_eq!(f.history.changed()?, ["a"], "round {n}");
        if n % 50 == 0 {
            assert_eq!(f.status()?, " M a\0");
        }
    }
    Ok(())
}

#[test]
fn edits_in_the_tick_of_git_add_are_seen() -> Result<()> {
    let f = Fixture::with(&[("a", "0"), ("c", "0")])?;
    for n in 0..20 {
        f.write("a", &format!("{n:03}"))?;
        f.git(&["add", "a"])?;
        f.write("a", &format!("{:03}", 900 + n))?;
        assert_eq!(f.history.changed()?, ["a"]);
        f.write("c", &format!("round {n}"))?;
        f.commit("other", vec![put("c", &format!("round {n}"))])?.context("no commit")?;
        assert_eq!(f.status()?, "MM a\0", "round {n}");
        f.git(&["add", "a"])?;
        f.git(&["commit", "-qm", "human"])?;
        f.assert_clean()?;
    }
    Ok(())
}

#[test]
fn stat_data_as_young_as_the_index_are_not_trusted() -> Result<()> {
    let f = Fixture::with(&[("a", "1"), ("b", "1")])?;
    // The same stat data with another content, as an edit in the same tick leaves them.
    let other = f.history.repo.write_blob("2")?.detach();
    let mut index = f.history.index()?;
    let entry = index.entry_mut_by_path_and_stage("a".into(), Stage::Unconflicted).context("no entry")?;
    entry.id = other;
    let mtime = SystemTime::from(entry.stat.mtime);
    index.remove_tree();
    index.write(Default::default())?;
    let index_path = f.path(".git/index");
    set_mtime(&index_path, mtime + Duration::from_nanos(1))?;
    assert_eq!(f.history.changed()?, ["a"], "trusted");
    set_mtime(&index_path, mtime)?;
    assert_eq!(f.history.changed()?, Vec::<String>::new(), "read");
    // A later index does not vouch for what the older one could not.
    f.write("b", "2")?;
    f.commit("other", vec![put("b", "2")])?.context("no commit")?;
    let index = f.history.index()?;
    let entry = index.entry_by_path_and_stage("a".into(), Stage::Unconflicted).context("no entry")?;
    assert_eq!((entry.id, entry.stat), (other, Default::default()));
    Ok(())
}

#[test]
fn the_index_is_as_old_as_its_lock() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    let (mut lock, since) = f.history.lock_index()?;
    assert_eq!(fs::metadata(f.path(".git/index.lock"))?.modified()?, since);
    // Whoever comes second learns so even when `blocked` came too early to see the lock.
    let second = f.history.lock_index().err().context("locked twice")?;
    assert!(second.downcast_ref::<Blocked>().is_some(), "{second:#}");
    let since = since - Duration::from_secs(5);
    let base = f.history.tree_of(f.history.head_id()?.context("no commit")?)?;
    f.history.write_index(&mut lock, since, base, &Edits::new(&[])?, &BTreeMap::new())?;
    lock.commit()?;
    assert_eq!(fs::metadata(f.path(".git/index"))?.modified()?, since);
    f.assert_clean()
}

#[test]
fn nothing_to_commit_writes_nothing() -> Result<()> {
    let f = Fixture::new()?;
    let before = f.snapshot()?;
    assert_eq!(f.commit("none", Vec::new())?, None);
    assert_eq!(f.commit("none", vec![delete("absent")])?, None);
    assert!(f.snapshot()? == before);
    let f = Fixture::with(&[("a/b", "1")])?;
    let before = f.snapshot()?;
    assert_eq!(f.commit("none", Vec::new())?, None);
    assert_eq!(f.commit("none", vec![put("a/b", "1"), delete("a"), delete("a/c")])?, None);
    // Of two edits of one path the last counts.
    assert_eq!(f.commit("none", vec![put("a/b", "2"), put("a/b", "1")])?, None);
    assert!(f.snapshot()? == before);
    Ok(())
}

#[test]
fn bad_edits_are_refused() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    let before = f.snapshot()?;
    for path in ["", "/a", "a/", "a//b", "../a", "./a", ".git/config", "b/.GIT/x", "git~1", "a\0b"] {
        assert!(f.commit("bad", vec![put(path, "x")]).is_err(), "{path:?}");
    }
    assert!(f.commit("bad", vec![put("d", "x"), put("d-e", "x"), put("d/f", "x")]).is_err());
    assert!(f.commit("a\0b", vec![put("b", "x")]).is_err());
    let good = Signature { name: "a".into(), email: "b".into(), unix_s: 0, utc_offset_s: 0 };
    let bad = [
        Signature { name: " ".into(), ..good.clone() },
        Signature { name: "a <b>".into(), ..good.clone() },
        Signature { email: "a\nb".into(), ..good.clone() },
        Signature { unix_s: -1, ..good.clone() },
        Signature { utc_offset_s: i32::MAX, ..good.clone() },
    ];
    for author in &bad {
        let spec = CommitSpec { message: "m", author, committer: &good, edits: vec![put("b", "x")] };
        assert!(f.history.commit(&spec).is_err(), "{author:?}");
    }
    assert!(f.snapshot()? == before);
    Ok(())
}

#[test]
fn a_locked_index_blocks() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    let lock = f.path(".git/index.lock");
    fs::write(&lock, "")?;
    let before = f.snapshot()?;
    let blocked = blocked_by(f.commit("no", vec![put("a", "2")]))?;
    assert_eq!(blocked, Blocked::IndexLocked { lock: lock.clone() });
    assert_eq!(f.history.blocked()?, Some(blocked.clone()));
    assert!(blocked.to_string().starts_with("could not commit: "), "{blocked}");
    assert!(blocked.hint().contains(&lock.display().to_string()), "{}", blocked.hint());
    assert!(f.snapshot()? == before);
    fs::remove_file(lock)?;
    assert_eq!(f.history.blocked()?, None);
    Ok(())
}

#[test]
fn a_locked_branch_leaves_all_as_it_was() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    let (head, index) = (f.history.head()?, fs::read(f.path(".git/index"))?);
    fs::write(f.path(".git/refs/heads/main.lock"), "")?;
    assert!(f.commit("no", vec![put("a", "2")]).is_err());
    assert_eq!(f.history.head()?, head);
    assert_eq!(fs::read(f.path(".git/index"))?, index);
    assert!(!f.path(".git/index.lock").exists());
    f.assert_clean()
}

#[test]
fn a_detached_head_blocks() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    f.git(&["checkout", "-q", "--detach"])?;
    let before = f.snapshot()?;
    let blocked = blocked_by(f.commit("no", vec![put("a", "2")]))?;
    assert_eq!(blocked, Blocked::DetachedHead { dir: f.path("") });
    assert!(blocked.hint().ends_with(" switch main`"), "{}", blocked.hint());
    assert!(f.snapshot()? == before);
    Ok(())
}

#[test]
fn a_git_command_in_progress_blocks() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    f.git(&["switch", "-qc", "side"])?;
    f.write("a", "side")?;
    f.git(&["commit", "-qam", "side"])?;
    f.git(&["switch", "-q", "main"])?;
    f.write("a", "main")?;
    f.git(&["commit", "-qam", "main"])?;
    for what in ["merge", "rebase", "cherry-pick", "revert"] {
        let on = if what == "revert" { "HEAD^" } else { "side" };
        assert!(!f.git_output(&[what, on])?.status.success(), "{what} did not stop");
        let before = f.snapshot()?;
        let blocked = blocked_by(f.commit("no", vec![put("b", "2")]))?;
        assert_eq!(blocked, Blocked::InProgress { dir: f.path(""), what });
        assert!(f.snapshot()? == before);
        f.git(&[what, "--abort"])?;
        assert_eq!(f.history.blocked()?, None, "{what}");
    }
    f.git(&["bisect", "start"])?;
    let blocked = f.history.blocked()?.context("not blocked")?;
    assert!(blocked.hint().ends_with(" bisect reset`"), "{}", blocked.hint());
    f.git(&["bisect", "reset"])?;
    f.assert_clean()
}

#[test]
fn nothing_in_the_repository_can_run_a_program() -> Result<()> {
    let mut f = Fixture::with(&[("a.txt", "1"), ("z", "1")])?;
    let script = f.script("evil")?;
    fs::create_dir_all(f.path(".git/hooks"))?;
    for hook in ["pre-commit", "post-commit", "commit-msg", "prepare-commit-msg", "reference-transaction"] {
        fs::copy(&script, f.path(".git/hooks").join(hook))?;
        fs::copy(&script, f.script(hook)?)?;
    }
    let more = f.tmp.path().join("home/more");
    fs::write(&more, "[core]\n\tworktree = /nowhere\n")?;
    for (key, value) in [
        ("commit.gpgsign", "true"),
        ("gpg.program", "/bin/false"),
        ("core.fsmonitor", &script),
        ("core.hooksPath", &f.tmp.path().join("home").display().to_string()),
        ("core.editor", &script),
        ("core.autocrlf", "true"),
        ("filter.evil.clean", &script),
        ("filter.evil.smudge", &script),
        ("filter.evil.process", &script),
        ("filter.evil.required", "true"),
        ("diff.evil.textconv", &script),
        ("include.path", &more.display().to_string()),
    ] {
        f.git(&["config", key, value])?;
    }
    f.write(".gitattributes", "*.txt filter=evil diff=evil text\n")?;
    f.write("a.txt", "2\r\n")?;
    f.history = History::init(&f.path(""))?;
    assert_eq!(f.history.changed()?, [".gitattributes", "a.txt"]);
    let id = f.commit_changed("safe")?.context("no commit")?;
    assert_eq!(f.history.read(&id, "a.txt", 99)?.as_deref(), Some(&b"2\r\n"[..]));
    assert_eq!(f.history.changed()?, Vec::<String>::new());
    assert_eq!(f.marks()?, 0);
    let hooks = fs::read_dir(f.path(".git/hooks"))?.count();
    assert_eq!(hooks, 5, "a hook ran");
    // The traps do work: git itself runs into one.
    f.git_output(&["status"])?;
    assert!(f.marks()? > 0);
    Ok(())
}

#[test]
fn a_configured_worktree_is_not_followed() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    let other = TempDir::new()?;
    f.git(&["config", "core.worktree", &other.path().display().to_string()])?;
    let history = History::open(&f.path(""))?;
    f.write(".gitignore", "hidden\n")?;
    f.write("hidden", "1")?;
    assert_eq!(history.changed()?, [".gitignore"]);
    Ok(())
}

#[test]
fn changed_lists_what_git_lists() -> Result<()> {
    let f = Fixture::with(&[
        (".gitignore", "*.log\n/cache/\n!keep.log\n"),
        ("kept/old.txt", "1"),
        ("link", "a file for now"),
        ("sub/dir/same", "1"),
        ("touched", "1"),
    ])?;
    f.write("cache/tracked", "1")?;
    f.commit("add what is ignored", vec![put("cache/tracked", "1")])?;
    f.assert_clean()?;
    f.write("cache/new", "1")?;
    f.write("new.log", "1")?;
    f.write("keep.log", "1")?;
    f.write("deep/er/new", "1")?;
    f.write("deep/.gitignore", "x\n")?;
    f.write("deep/x", "1")?;
    f.write("cache/tracked", "2")?;
    f.write("touched", "1")?;
    f.write(".git/info/exclude", "excluded\n")?;
    f.write("excluded/a", "1")?;
    fs::remove_file(f.path("kept/old.txt"))?;
    fs::remove_file(f.path("link"))?;
    symlink("touched", f.path("link"))?;
    symlink("sub", f.path("to-dir"))?;
    fs::create_dir_all(f.path("empty/dir"))?;
    let expected =
        ["cache/tracked", "deep/.gitignore", "deep/er/new", "keep.log", "kept/old.txt", "link", "to-dir"];
    assert_eq!(f.history.changed()?, expected);
    let mut said: Vec<_> = f.status()?.split_terminator('\0').map(|line| line[3..].to_owned()).collect();
    said.sort();
    assert_eq!(said, expected);
    // A directory swapped for a link to one with the same files: what HEAD has there is gone.
    fs::rename(f.path("sub"), f.path("moved"))?;
    symlink("moved", f.path("sub"))?;
    let changed = f.history.changed()?;
    assert!(changed.contains(&"sub".into()) && changed.contains(&"sub/dir/same".into()), "{changed:?}");
    assert!(changed.contains(&"moved/dir/same".into()), "{changed:?}");
    Ok(())
}

#[test]
fn repositories_inside_are_left_alone() -> Result<()> {
    let f = Fixture::with(&[("work/ours", "1")])?;
    f.git(&["init", "-q", "other"])?;
    f.write("other/file", "1")?;
    f.git(&["worktree", "add", "-q", "-b", "wt", "tree"])?;
    f.git(&["init", "-q", "work"])?;
    f.write("work/theirs", "1")?;
    assert_eq!(f.history.changed()?, Vec::<String>::new());
    f.write("work/ours", "2")?;
    assert_eq!(f.history.changed()?, ["work/ours"]);
    Ok(())
}

#[test]
fn what_a_human_staged_stays_staged() -> Result<()> {
    let f = Fixture::with(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")])?;
    f.write("a", "staged")?;
    f.write("new", "staged")?;
    f.git(&["add", "a", "new"])?;
    f.git(&["rm", "-q", "--cached", "d"])?;
    f.git(&["update-index", "--assume-unchanged", "b"])?;
    f.write("later", "1")?;
    f.git(&["add", "--intent-to-add", "later"])?;
    f.write("a", "and on")?;
    let before = f.git(&["ls-files", "-s", "-v", "a", "b", "d", "new", "later"])?;
    // By content: whether it is staged makes no difference, so `d` is as HEAD has it.
    assert_eq!(f.history.changed()?, ["a", "later", "new"]);
    f.write("c", "2")?;
    f.commit("ours", vec![put("c", "2")])?.context("no commit")?;
    assert_eq!(f.git(&["ls-files", "-s", "-v", "a", "b", "d", "new", "later"])?, before);
    assert_eq!(f.status()?, "MM a\0D  d\0 A later\0A  new\0?? d\0");
    // A committed file takes the place of what was staged for it.
    f.commit_changed("theirs")?.context("no commit")?;
    assert_eq!(f.status()?, "D  d\0?? d\0");
    f.git(&["add", "d"])?;
    f.assert_clean()
}

#[test]
fn conflict_stages_give_way_to_a_commit() -> Result<()> {
    let f = Fixture::with(&[("a", "1"), ("b", "1")])?;
    f.write("a", "stashed")?;
    f.git(&["stash", "-q"])?;
    f.write("a", "head")?;
    f.commit_changed("head")?;
    assert!(!f.git_output(&["stash", "pop"])?.status.success());
    assert_eq!(f.history.blocked()?, None);
    assert_eq!(f.history.changed()?, ["a"]);
    f.commit_changed("resolved")?.context("no commit")?;
    f.assert_clean()
}

#[test]
fn a_lost_or_foreign_index_is_no_problem() -> Result<()> {
    let f = Fixture::with(&[("a", "1"), ("b/c", "1")])?;
    fs::remove_file(f.path(".git/index"))?;
    assert_eq!(f.history.changed()?, Vec::<String>::new());
    f.write("a", "2")?;
    assert_eq!(f.history.changed()?, ["a"]);
    f.commit_changed("again")?.context("no commit")?;
    f.assert_clean()?;
    f.git(&["config", "feature.manyFiles", "true"])?;
    for args in [&["update-index", "--index-version", "4"][..], &["update-index", "--split-index"]] {
        f.write("b/c", args[1])?;
        f.git(args)?;
        f.commit_changed("foreign")?.context("no commit")?;
        f.assert_clean()?;
    }
    f.write("a", "3")?;
    f.git(&["commit", "-qam", "human"])?;
    assert_eq!(f.git(&["show", "HEAD:b/c"])?, "--split-index");
    f.assert_clean()
}

#[test]
fn a_sparse_checkout_deletes_nothing() -> Result<()> {
    let f = Fixture::with(&[("in/a", "1"), ("out/b", "1")])?;
    f.git(&["sparse-checkout", "set", "--no-sparse-index", "in"])?;
    assert!(!f.path("out/b").exists());
    assert_eq!(f.history.changed()?, Vec::<String>::new());
    f.write("in/a", "2")?;
    f.commit_changed("in")?.context("no commit")?;
    f.assert_clean()?;
    assert_eq!(f.git(&["show", "HEAD:out/b"])?, "1");
    Ok(())
}

#[test]
fn git_may_pack_and_commit_while_it_is_open() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    for n in 0..3 {
        f.write("a", &format!("ours {n}"))?;
        f.commit_changed("ours")?.context("no commit")?;
        f.git(&["gc", "-q", "--prune=now"])?;
        f.write("a", &format!("theirs {n}"))?;
        f.git(&["commit", "-qam", "theirs"])?;
        f.git(&["pack-refs", "--all", "--prune"])?;
        f.assert_clean()?;
    }
    assert_eq!(f.history.log(99)?.len(), 7);
    Ok(())
}

#[test]
fn odd_names_go_round() -> Result<()> {
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
fn what_was_committed_can_be_read() -> Result<()> {
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
    assert_eq!(
        (f.history.head()?, f.history.resolve("HEAD")?, f.history.resolve("main")?),
        (None, None, None)
    );
    assert!(f.history.log(9)?.is_empty() && f.history.changed()?.is_empty());
    assert_eq!((f.history.blocked()?, f.history.loose_objects()?), (None, 0));
    Ok(())
}

#[test]
fn loose_objects_are_reckoned() -> Result<()> {
    let f = Fixture::new()?;
    f.write(".git/objects/17/0123456789012345678901234567890123456a", "")?;
    f.write(".git/objects/17/0123456789012345678901234567890123456b", "")?;
    assert_eq!(f.history.loose_objects()?, 512);
    Ok(())
}
