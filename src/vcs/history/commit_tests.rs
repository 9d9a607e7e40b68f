//! Tests of commits: git reads what was committed, and every later change is noticed.

use super::*;

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
    let log = "Zoë Müller <zoe@example.com> 2023-11-14 18:43:20 -0330|looop <>|add all\n\nwith a body\n\n";
    assert_eq!(f.git(&["log", "--format=%an <%ae> %ai|%cn <%ce>|%B"])?, log);
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
    f.commit_all("swap")?;
    assert_eq!(f.git(&["ls-files"])?, "a\nb/now/a/dir\n");
    // Deleted in the commit, but still on disk: git shows it as new.
    f.commit("delete", vec![delete("a")])?.context("no commit")?;
    assert_eq!(f.status()?, "?? a\0");
    assert_eq!(f.history.changed()?, ["a"]);
    fs::remove_file(f.path("a"))?;
    // The file that blocks the new path is not named in the commit: it is replaced all the same.
    fs::remove_dir_all(f.path("b"))?;
    f.write("b", "6")?;
    f.commit("over", vec![put("b", "6")])?.context("no commit")?;
    f.assert_clean()?;
    // The last file, too.
    fs::remove_file(f.path("b"))?;
    f.commit_all("nothing left")
}

#[test]
fn commit_follows_the_executable_bit() -> Result<()> {
    let f = Fixture::with(&[("run", "x")])?;
    fs::set_permissions(f.path("run"), fs::Permissions::from_mode(0o755))?;
    assert_eq!(f.history.changed()?, ["run"]);
    f.commit_all("on")?;
    fs::set_permissions(f.path("run"), fs::Permissions::from_mode(0o644))?;
    assert_eq!(f.history.changed()?, ["run"]);
    f.commit_all("off")
}

#[test]
fn a_commit_has_the_given_bytes_and_newer_bytes_show_as_modified() -> Result<()> {
    let f = Fixture::with(&[("a", "old!"), ("b", "old!")])?;
    f.write("a", "disk")?;
    // An old time, so that only the comparison of contents can find the change.
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
        // Another index is written in the meantime, with a later time than the edit.
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
fn an_edit_in_the_second_of_git_add_is_seen_by_git_after_a_later_commit() -> Result<()> {
    let f = Fixture::with(&[("a", "000"), ("c", "0")])?;
    let at = |nanos: u32| SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, nanos);
    f.write("a", "017")?;
    set_mtime(&f.path("a"), at(100))?;
    f.git(&["add", "a"])?;
    f.write("a", "917")?;
    set_mtime(&f.path("a"), at(300))?;
    set_mtime(&f.path(".git/index"), at(500))?;
    f.write("c", "1")?;
    f.commit("other", vec![put("c", "1")])?.context("no commit")?;
    assert_eq!(f.status()?, "MM a\0");
    Ok(())
}

#[test]
fn stat_data_as_new_as_the_index_are_not_trusted() -> Result<()> {
    let f = Fixture::with(&[("a", "1"), ("b", "1")])?;
    // The same stat data with another content, as after an edit in the same tick.
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
    // A later index does not vouch for stat data that the older index could not vouch for.
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
    // A second committer fails here, even if it called `blocked` before the lock existed.
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
    // If two edits have the same path, the last one counts.
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
        assert!(f.history.commit("m", author, &good, &[put("b", "x")]).is_err(), "{author:?}");
    }
    assert!(f.snapshot()? == before);
    Ok(())
}
