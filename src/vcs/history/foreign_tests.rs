//! Tests of a repository that others use too: locks, unfinished commands, hooks, staged files, packs.

use super::*;

#[test]
fn a_locked_index_blocks() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    let lock = f.path(".git/index.lock");
    fs::write(&lock, "")?;
    let blocked = f.blocks()?;
    assert_eq!(blocked, Blocked::Locked { lock: lock.clone() });
    assert_eq!(f.history.blocked()?, Some(blocked.clone()));
    assert!(blocked.to_string().starts_with("could not commit: "), "{blocked}");
    assert!(blocked.hint().contains(&lock.display().to_string()), "{}", blocked.hint());
    fs::remove_file(lock)?;
    assert_eq!(f.history.blocked()?, None);
    Ok(())
}

#[test]
fn a_locked_branch_leaves_everything_unchanged() -> Result<()> {
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
    let blocked = f.blocks()?;
    assert_eq!(blocked, Blocked::DetachedHead { dir: f.path("") });
    assert!(blocked.hint().ends_with(" switch main`"), "{}", blocked.hint());
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
        assert_eq!(f.blocks()?, Blocked::InProgress { dir: f.path(""), what });
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
    // The traps work: git itself runs into one.
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

/// A file that the user excluded must not stay in the history because the list was not read.
#[test]
fn an_ignore_file_that_cannot_be_read_lets_nothing_into_a_commit() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    f.write("goals/.gitignore", &format!("diary.md\n{}", "# a comment\n".repeat(100_000)))?;
    f.write("goals/diary.md", "private\n")?;
    let error = History::open(&f.path(""))?.changed().unwrap_err();
    assert!(error.to_string().contains("could not read the ignore file"), "{error}");
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
    let mut stated: Vec<_> = f.status()?.split_terminator('\0').map(|line| line[3..].to_owned()).collect();
    stated.sort();
    assert_eq!(stated, expected);
    // A directory replaced by a link to one with the same files: HEAD's files are missing then.
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
fn files_staged_by_the_user_stay_staged() -> Result<()> {
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
    // By content: it does not matter what is staged, so `d` is the same as in HEAD.
    assert_eq!(f.history.changed()?, ["a", "later", "new"]);
    f.write("c", "2")?;
    f.commit("ours", vec![put("c", "2")])?.context("no commit")?;
    assert_eq!(f.git(&["ls-files", "-s", "-v", "a", "b", "d", "new", "later"])?, before);
    assert_eq!(f.status()?, "MM a\0D  d\0 A later\0A  new\0?? d\0");
    // A committed file replaces what was staged for it.
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
    f.commit_all("resolved")
}

#[test]
fn a_lost_or_foreign_index_is_accepted() -> Result<()> {
    let f = Fixture::with(&[("a", "1"), ("b/c", "1")])?;
    fs::remove_file(f.path(".git/index"))?;
    assert_eq!(f.history.changed()?, Vec::<String>::new());
    f.write("a", "2")?;
    assert_eq!(f.history.changed()?, ["a"]);
    f.commit_all("again")?;
    f.git(&["config", "feature.manyFiles", "true"])?;
    for args in [&["update-index", "--index-version", "4"][..], &["update-index", "--split-index"]] {
        f.write("b/c", args[1])?;
        f.git(args)?;
        f.commit_all("foreign")?;
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
    f.commit_all("in")?;
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
fn every_lock_of_a_killed_commit_is_removed() -> Result<()> {
    for name in ["index.lock", "HEAD.lock", "packed-refs.lock", "refs/heads/main.lock", "refs/heads/a/b.lock"]
    {
        let f = Fixture::with(&[("a", "1")])?;
        f.git(&["branch", "a/c"])?;
        f.git(&["pack-refs", "--all"])?;
        fs::create_dir_all(f.path(".git/refs/heads/a"))?;
        fs::write(f.path(".git/looop-commit"), "")?;
        fs::write(f.path(".git").join(name), "")?;
        assert!(f.history.blocked()?.is_some(), "{name}");
        assert_eq!(f.history.heal()?, Vec::<String>::new(), "{name}");
        assert_eq!(f.history.blocked()?, None, "{name}");
        f.write("a", "2")?;
        f.commit_all("more")?;
    }
    Ok(())
}

#[test]
fn a_lock_of_another_program_stays_for_a_minute_and_while_it_is_open() -> Result<()> {
    for name in ["index.lock", "HEAD.lock", "packed-refs.lock", "refs/heads/a/b.lock"] {
        let f = Fixture::with(&[("a", "1")])?;
        fs::create_dir_all(f.path(".git/refs/heads/a"))?;
        let lock = f.path(".git").join(name);
        let open = fs::File::create(&lock)?;
        assert_eq!(f.history.heal()?, Vec::<String>::new(), "it is young");
        let words = locks::in_words(&f.path("")).concat();
        let pid = std::process::id();
        assert!(words.contains(name) && words.contains(&format!("process {pid} has it open")), "{words}");
        open.set_modified(open.metadata()?.modified()? - std::time::Duration::from_secs(61))?;
        assert_eq!(f.history.heal()?, Vec::<String>::new(), "it is open");
        assert_eq!(f.history.blocked()?, Some(Blocked::Locked { lock: lock.clone() }));
        drop(open);
        let words = locks::in_words(&f.path("")).concat();
        assert!(words.contains("s old, and no process has it open"), "{words}");
        let notes = f.history.heal()?.concat();
        assert!(notes.contains(&format!("removed `.git/{name}`")) && !lock.exists(), "{notes}");
    }
    Ok(())
}

#[test]
fn a_trial_commit_leaves_no_trace_and_finds_obstacles() -> Result<()> {
    let f = Fixture::with(&[("a", "1")])?;
    f.git(&["pack-refs", "--all"])?;
    let who =
        || Signature { name: "looop".into(), email: String::new(), unix_s: 1_700_000_000, utc_offset_s: 0 };
    let before = f.snapshot()?;
    f.history.try_commit(&who())?;
    assert!(f.snapshot()? == before, "nothing is left of it");
    for lock in ["HEAD.lock", "refs/heads/main.lock", "index.lock"] {
        let lock = f.path(".git").join(lock);
        fs::write(&lock, "")?;
        assert!(f.history.try_commit(&who()).is_err(), "{}", lock.display());
        fs::remove_file(lock)?;
    }
    assert!(f.snapshot()? == before);
    // An object cannot be stored if a file blocks each directory of objects.
    f.git(&["gc", "-q", "--prune=now"])?;
    for n in 0..=255 {
        let dir = f.path(".git/objects").join(format!("{n:02x}"));
        drop(fs::remove_dir_all(&dir));
        fs::write(dir, "")?;
    }
    let error = f.history.try_commit(&who()).err().context("it was made")?;
    assert!(format!("{error:#}").starts_with("could not store a commit"), "{error:#}");
    Ok(())
}
