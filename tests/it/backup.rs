//! A backup holds all of a profile, and a restore makes the same profile. A bad file is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::profile::{Profile, git_in, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"w"}"#;

/// All files below a directory with their mode and content; of a link, its target.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().to_str().unwrap().into()
        } else if meta.is_file() {
            fs::read(&path).unwrap()
        } else {
            continue;
        };
        all.insert(path.strip_prefix(root).unwrap().to_owned(), (meta.mode(), content));
    }
    all
}

/// A profile that a worker has left work in.
fn lived_in() -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "goal: g\n");
    profile.sensor("s.sh", "echo '{\"signal\":1}'");
    profile.looop(&["tick"]).ok();
    let repo = profile.path("home/repo");
    fs::create_dir(&repo).unwrap();
    git_in(&repo, &["init", "-q"]);
    git_in(&repo, &["commit", "-q", "--allow-empty", "-m", "one"]);
    let script = "echo work >new; ln -s /etc/hostname link; chmod 500 .";
    profile
        .looop(&["worker", "start", "w1", "--repo", repo.to_str().unwrap(), "--", "sh", "-c", script])
        .ok();
    wait_until("its end", || profile.looop(&["wait", "w1", "--timeout", "60s"]).code == 0);
    profile
}

/// Another machine's home.
fn elsewhere() -> Profile {
    let profile = Profile::empty();
    fs::create_dir(profile.path("own")).unwrap();
    profile
}

#[test]
fn a_restored_profile_is_the_same_and_paused() {
    let first = lived_in();
    let file = first.path("looop.tar");
    let made = first.looop(&["backup", "--json", file.to_str().unwrap()]).ok().json();
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o077, 0, "it holds prompts and keys");
    let second = elsewhere();
    let restored = second.looop(&["restore", "--json", file.to_str().unwrap()]).ok().json();
    assert_eq!(restored["files"], made["files"]);
    assert_eq!(restored["config_made"], true);
    assert_eq!(second.config_value(), first.config_value());
    let mut new = tree(&second.data());
    assert!(new.remove(Path::new("paused.json")).is_some());
    assert_eq!(new, tree(&first.data()));
    second.looop(&["status"]).ok().prints(&["paused: restored from a backup of "]);
    second.looop(&["tick"]).ok().prints(&["paused"]);
    assert_eq!(second.looop(&["log"]).ok().stdout, first.looop(&["log"]).ok().stdout);
    second.git(&["fsck", "--strict"]);
    second.looop(&["resume"]).ok();
    second.looop(&["tick"]).ok();
    // Neither is overwritten.
    first.looop(&["backup", file.to_str().unwrap()]).fails_with(2, &["it exists"]);
    second.looop(&["restore", file.to_str().unwrap()]).fails_with(1, &["` exists", "move it away"]);
    let inside = first.data().join("x.tar");
    first.looop(&["backup", inside.to_str().unwrap()]).fails_with(2, &["it would be a part of itself"]);
    assert!(!inside.exists());
}

#[test]
fn a_config_that_is_there_stays() {
    let first = Profile::scripted(&[NOOP]);
    let file = first.path("looop.tar");
    first.looop(&["backup", file.to_str().unwrap()]).ok();
    let second = elsewhere();
    second.config(json!({ "interval": "7m" }));
    let config = second.config_value();
    second.looop(&["restore", file.to_str().unwrap()]).ok().prints(&["(kept as it was)"]);
    assert_eq!(second.config_value(), config);
}

/// Who writes while the backup is made harms nothing: a file that grows or shrinks, or one that goes away.
#[test]
fn files_that_change_meanwhile_keep_the_rest_whole() {
    let profile = Profile::scripted(&[NOOP]);
    profile.goal("g", "goal: g\n");
    profile.looop(&["tick"]).ok();
    let dir = profile.data().join("runs/busy");
    fs::create_dir_all(&dir).unwrap();
    let script = "while [ ! -e stop ]; do echo line >>grows; echo x >comes; rm comes; : >shrinks; \
                  echo long enough >>shrinks; done";
    let mut busy = std::process::Command::new("sh").args(["-c", script]).current_dir(&dir).spawn().unwrap();
    for round in 0..5 {
        let file = profile.path(&format!("{round}.tar"));
        profile.looop(&["backup", file.to_str().unwrap()]).ok();
        let second = elsewhere();
        second.looop(&["restore", file.to_str().unwrap()]).ok();
        assert_eq!(
            fs::read(second.data().join("journal.md")).unwrap(),
            profile.read("journal.md").as_bytes()
        );
    }
    fs::write(dir.join("stop"), "").unwrap();
    busy.wait().unwrap();
}

/// An archive of these files.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        // Written as it is: the safe call would refuse some of these names.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn a_foreign_or_a_cut_file_is_refused() {
    let first = Profile::scripted(&[NOOP]);
    let file = first.path("looop.tar");
    first.looop(&["backup", file.to_str().unwrap()]).ok();
    let whole = fs::read(&file).unwrap();
    let manifest = |form: u32, format: u32| {
        json!({ "backup": form, "looop": "9.9.9", "format": format, "at_ms": 1 }).to_string()
    };
    let (good, newer, other) = (manifest(1, 4), manifest(1, 99), manifest(2, 4));
    let first_note = ("looop-backup.json", good.as_str());
    let end = ("looop-backup-end.json", "{\"files\":1}");
    let outside = "which is not in a backup";
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "it is not a backup of looop"),
        (b"hello\n".repeat(1000), "it is not a backup of looop"),
        (archive(&[("data/x", "1")]), "it is not a backup of looop"),
        (archive(&[("looop-backup.json", "{}")]), "it is not a backup of looop"),
        (archive(&[("looop-backup.json", &newer), end]), "looop 9.9.9 wrote it"),
        (archive(&[("looop-backup.json", &other), end]), "looop 9.9.9 wrote it"),
        (archive(&[first_note, ("data/x", "1")]), "its end is missing"),
        (archive(&[first_note, ("data/x", "1"), ("data/y", "1"), end]), "it holds 2 files and counts 1"),
        (archive(&[first_note, ("../evil", "1"), end]), outside),
        (archive(&[first_note, ("data/../../evil", "1"), end]), outside),
        (archive(&[first_note, ("/evil", "1"), end]), outside),
        (archive(&[first_note, ("evil", "1"), end]), outside),
    ];
    let cuts = [whole.len() / 4, whole.len() / 2, whole.len() * 3 / 4, whole.len() - 3 * 512];
    let cut = cuts.into_iter().map(|at| (whole[..at].to_vec(), ""));
    for (bytes, why) in rows.into_iter().chain(cut) {
        let second = elsewhere();
        let bad = second.path("own/bad.tar");
        fs::File::create(&bad).unwrap().write_all(&bytes).unwrap();
        let before = tree(&second.path(""));
        second.looop(&["restore", bad.to_str().unwrap()]).fails_with(1, &["could not restore", why]);
        assert_eq!(tree(&second.path("")), before, "{why}");
    }
}

/// A link in the archive cannot make a later file land elsewhere, or stand for the data dir or the config.
#[test]
fn a_link_of_a_backup_leads_no_file_out_of_it() {
    let manifest = json!({ "backup": 1, "looop": "0.1.0", "format": 4, "at_ms": 1 }).to_string();
    for (link, then) in
        [("data/out", "data/out/evil"), ("data", "data/evil"), ("config/looop.json", "data/x")]
    {
        let second = elsewhere();
        let mut tar = tar::Builder::new(archive(&[("looop-backup.json", &manifest)])[..1024].to_vec());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, link, second.path("own")).unwrap();
        for (name, text) in [(then, "1"), ("looop-backup-end.json", "{\"files\":2}")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let bad = second.path("bad.tar");
        fs::write(&bad, tar.into_inner().unwrap()).unwrap();
        second.looop(&["restore", bad.to_str().unwrap()]).fails_with(1, &["could not restore"]);
        assert_eq!(fs::read_dir(second.path("own")).unwrap().count(), 0, "{link}");
        assert!(!second.data().exists() && !second.config_file().exists(), "{link}");
    }
}

#[test]
fn a_backup_goes_through_a_pipe() {
    let first = Profile::scripted(&[NOOP]);
    let second = elsewhere();
    let bytes = first.command(&["backup", "-"]).output().unwrap();
    assert!(bytes.status.success(), "{bytes:?}");
    let mut command = second.command(&["restore", "-"]);
    command.stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes.stdout).unwrap();
    assert!(child.wait().unwrap().success());
    let json: Value = second.looop(&["status", "--json"]).ok().json();
    assert_eq!(json["data_dir"], second.data().to_str().unwrap());
}
