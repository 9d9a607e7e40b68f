//! Tests of single files: refused kinds of files, and atomic writes.

use super::*;
use std::os::unix::fs::symlink;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn absent_unreadable_and_odd_files_are_distinguished() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("plain"), "x").unwrap();
    symlink(at("plain"), at("link")).unwrap();
    fs::create_dir(at("sub")).unwrap();
    rustix::fs::mknodat(CWD, at("pipe"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::write(at("bytes"), [0xff, 0xfe]).unwrap();
    fs::write(at("large"), vec![b'x'; 2049]).unwrap();
    assert_eq!(read_text(&at("none"), 9), Ok(None));
    assert_eq!(read_text(&at("plain"), 9), Ok(Some("x".to_owned())));
    assert_eq!(read_text(&at("link"), 9), Err(ReadError::NotRegular));
    assert_eq!(read_text(&at("sub"), 9), Err(ReadError::NotRegular));
    assert_eq!(read_text(&at("pipe"), 9), Err(ReadError::NotRegular));
    assert_eq!(read_text(&at("bytes"), 9), Err(ReadError::NotUtf8));
    assert_eq!(read_text(&at("large"), 2048), Err(ReadError::TooLarge(2048)));
    assert!(read_text(&at("large"), 2049).is_ok());
    assert!(matches!(read_text(&at("plain/x"), 9), Err(ReadError::NoDirectory)));
}

#[test]
fn create_is_exclusive_and_write_replaces() {
    let dir = dir();
    let path = dir.path().join("a");
    assert!(create(&path, b"one", 0o600).unwrap());
    assert!(!create(&path, b"two", 0o600).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"one");
    write(&path, b"three", 0o700, Durability::Durable).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"three");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_write_into_a_missing_dir_names_the_file_and_leaves_nothing() {
    let dir = dir();
    let error = write(&dir.path().join("no/a"), b"x", 0o600, Durability::Atomic).unwrap_err();
    assert!(format!("{error:#}").contains("could not write"), "{error:#}");
}

#[test]
fn an_append_ends_a_torn_line_first() {
    let dir = dir();
    let path = dir.path().join("log");
    fs::write(&path, "whole\nto").unwrap();
    append_line(&path, "next", Durability::Atomic).unwrap();
    append_line(&path, "last", Durability::Durable).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nto\nnext\nlast\n");
    assert_eq!(read_tail(&path, 8).unwrap(), "last\n", "only whole lines");
    assert_eq!(read_tail(&path, 100).unwrap().lines().count(), 4);
}

#[test]
fn a_rename_never_overwrites() {
    let dir = dir();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::write(&a, "a").unwrap();
    fs::write(&b, "b").unwrap();
    assert!(rename_new(&a, &b).is_err());
    assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"a".to_vec(), b"b".to_vec()));
}

#[test]
fn a_digest_has_a_limit_and_can_be_stopped() {
    let dir = dir();
    let path = dir.path().join("zeros");
    File::create(&path).unwrap().set_len(3 << 20).unwrap();
    let go_on = || false;
    let mut left = 4 << 20;
    assert_eq!(digest_within(&path, &mut left, &go_on), digest(&path));
    assert_eq!(left, 1 << 20, "what was read is taken from the limit");
    assert_eq!(digest_within(&path, &mut left, &go_on), Err(ReadError::TooLarge(1 << 20)));
    let asked = std::cell::Cell::new(0);
    let third = || asked.replace(asked.get() + 1) == 2;
    assert_eq!(digest_within(&path, &mut (4 << 20), &third), Err(ReadError::Stopped));
    // The kernel reports a size of 0 for its own files.
    assert_eq!(digest_within(Path::new("/proc/self/status"), &mut 9, &go_on), Err(ReadError::TooLarge(9)));
}
