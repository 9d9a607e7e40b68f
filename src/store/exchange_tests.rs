//! Changes of real files that compete with saves, in each way that editors save.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g.md");
    fs::write(&path, "seen").unwrap();
    (dir, path)
}

/// Lists the names in the directory.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn seen() -> Digest {
    digest_of(b"seen")
}

fn change() -> FileChange {
    FileChange { new: Some(digest_of(b"new")), seen: seen() }
}

const CHANGED: Exchanged = Exchanged::Changed { kept: Vec::new() };

#[test]
fn a_file_that_is_as_seen_is_replaced_and_removed_without_a_trace() {
    let (_dir, path) = dir();
    for fallback in [Fallback::Nothing, Fallback::Steps] {
        fs::write(&path, "seen").unwrap();
        assert_eq!(write(&path, b"new", 0o640, Some(&seen()), fallback).unwrap(), Exchanged::Made);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
    assert_eq!(names(&path), ["g.md"]);
    assert_eq!(remove(&path, &digest_of(b"new")).unwrap(), Exchanged::Made);
    assert_eq!(remove(&path, &seen()).unwrap(), Exchanged::Made, "it is gone already");
    assert_eq!(write(&path, b"new", 0o600, None, Fallback::Nothing).unwrap(), Exchanged::Made);
    assert_eq!(write(&path, b"other", 0o600, None, Fallback::Nothing).unwrap(), CHANGED);
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(&path)), ("new", vec!["g.md".to_owned()]));
}

#[test]
fn a_save_during_the_write_comes_out_of_the_exchange_and_is_put_back() {
    for by_rename in [true, false] {
        let (dir, path) = dir();
        let done = replace(&path, &change(), Fallback::Nothing, |temp| {
            fs::write(temp, "new")?;
            if by_rename {
                fs::write(dir.path().join("mine"), "mine")?;
                fs::rename(dir.path().join("mine"), &path)
            } else {
                fs::write(&path, "mine")
            }
        });
        assert_eq!(done.unwrap(), CHANGED);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(names(&path), ["g.md"]);
    }
}

#[test]
fn what_a_process_writes_after_the_exchange_lands_in_the_file() {
    let (_dir, path) = dir();
    let mut late = None;
    let done = replace(&path, &change(), Fallback::Nothing, |temp| {
        late = Some(File::options().append(true).open(&path)?);
        fs::write(temp, "new")
    });
    assert_eq!(done.unwrap(), CHANGED);
    late.unwrap().write_all(b", and more").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "seen, and more");
    let late = File::options().append(true).open(&path).unwrap();
    let now = digest_of(b"seen, and more");
    assert_eq!(remove(&path, &now).unwrap(), CHANGED);
    assert_eq!(move_away(&path, &path.with_extension("old"), &now).unwrap(), CHANGED);
    drop(late);
    assert_eq!(move_away(&path, &path.with_extension("old"), &now).unwrap(), Exchanged::Made);
    assert_eq!(names(&path), ["g.old"]);
}

#[test]
fn without_an_exchange_the_old_file_is_moved_away_and_compared_first() {
    for meanwhile in [None, Some("mine")] {
        let (_dir, path) = dir();
        let aside = private(&path, change().private_name(b"g.md")).unwrap();
        fs::write(&aside, "new").unwrap();
        fs::write(&path, meanwhile.unwrap_or("seen")).unwrap();
        let temp = path.with_file_name("temp");
        assert_eq!(in_steps(&path, &change(), &temp, &aside).unwrap(), meanwhile.is_none());
        let is_changed = settle(&path, &change(), &aside, &mut Vec::new()).unwrap();
        assert_eq!(is_changed, meanwhile.is_some());
        assert_eq!(fs::read_to_string(&path).unwrap(), meanwhile.unwrap_or("new"));
    }
}

#[test]
fn a_change_of_a_killed_process_is_settled_by_names_alone() {
    // The content of the file and of the private name; then the file afterwards, and whether a version is kept.
    let rows = [
        (Some("seen"), "new", "seen", false, false),
        (Some("new"), "seen", "new", false, false),
        (Some("new"), "mine", "mine", false, true),
        (Some("mine"), "seen", "mine", false, false),
        (Some("mine"), "mine too", "mine", true, true),
        (None, "seen", "seen", false, true),
        (None, "mine", "mine", false, true),
    ];
    for (here, aside, then, is_kept, is_changed) in rows {
        let (dir, path) = dir();
        fs::remove_file(&path).unwrap();
        here.into_iter().for_each(|text| fs::write(&path, text).unwrap());
        fs::write(private(&path, change().private_name(b"g.md")).unwrap(), aside).unwrap();
        fs::write(private(&path, change().unfinished_name(b"g.md")).unwrap(), "ne").unwrap();
        assert!(has_leftovers(dir.path()).unwrap());
        let taken_back = settle_dir(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), then, "{here:?}, {aside}");
        assert_eq!(!taken_back.is_empty(), is_changed, "{here:?}, {aside}: {taken_back:?}");
        let expected: &[&str] = if is_kept { &["g.md", "g.md.looop-saved-1"] } else { &["g.md"] };
        assert_eq!(names(&path), expected, "{here:?}, {aside}");
        if is_kept {
            assert_eq!(fs::read_to_string(dir.path().join("g.md.looop-saved-1")).unwrap(), aside);
        }
    }
}

#[test]
fn a_link_and_a_directory_in_the_place_of_the_file_stay() {
    let (dir, path) = dir();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("target", &path).unwrap();
    assert_eq!(write(&path, b"new", 0o600, Some(&seen()), Fallback::Steps).unwrap(), CHANGED);
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("target"));
    assert_eq!(remove(&path, &link_digest(Path::new("target"))).unwrap(), Exchanged::Made);
    fs::create_dir(&path).unwrap();
    assert_eq!(write(&path, b"new", 0o600, Some(&seen()), Fallback::Steps).unwrap(), CHANGED);
    assert_eq!(remove(&path, &String::new()).unwrap(), CHANGED);
    assert!(path.is_dir() && names(&path) == ["g.md"], "{:?}", dir.path());
}
