//! A data dir that may not be used, or that refuses to be written.

use super::{NOOP, symlink};
use crate::support::profile::{LOOOP, Profile, Ran, git_in};
use crate::{beat::listing, support::pi::skipped};
use std::{fs, os::unix::fs::PermissionsExt, process::Command};

fn mode(profile: &Profile, mode: u32) {
    fs::set_permissions(profile.data(), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_data_dir_that_others_can_enter_is_refused() {
    let profile = Profile::scripted(&[NOOP]);
    for bits in [0o755, 0o710, 0o701, 0o777] {
        mode(&profile, bits);
        for args in [&["tick"][..], &["status"], &["goal", "list"], &["init"], &["tick", "--dry-run"]] {
            let ran = profile.looop(args).exits(1);
            let hint = format!("hint: chmod 700 {}", profile.data().display());
            assert!(ran.stderr.contains("others can enter it") && ran.stderr.contains(&hint), "{ran:?}");
        }
        assert!(profile.looop(&["doctor"]).stdout.contains("fix: chmod 700 "));
    }
    mode(&profile, 0o700);
    profile.looop(&["tick"]).ok();
    // One that is only about to become a data dir is refused before anything is put there.
    let fresh = Profile::empty();
    fs::create_dir(fresh.data()).unwrap();
    mode(&fresh, 0o755);
    fresh.looop(&["init"]).exits(1).warns(&["chmod 700 "]);
    assert_eq!(fs::read_dir(fresh.data()).unwrap().count(), 0);
    mode(&fresh, 0o700);
    fresh.looop(&["init"]).ok();
}

#[test]
fn what_is_somebody_elses_is_not_made_a_data_dir() {
    let profile = Profile::empty();
    fs::create_dir(profile.data()).unwrap();
    mode(&profile, 0o700);
    fs::write(profile.data().join("thesis.tex"), "x").unwrap();
    for args in [&["init"][..], &["tick"], &["status"]] {
        let ran = profile.looop(args);
        let (why, hint) = match args {
            ["init"] => (
                "it holds other files, `thesis.tex` among them",
                "hint: name an empty or new directory with LOOOP_DATA_DIR",
            ),
            _ => ("there is no profile at", "hint: correct LOOOP_DATA_DIR"),
        };
        assert!(ran.code == 1 && ran.stderr.contains(why) && ran.stderr.contains(hint), "{ran:?}");
    }
    assert_eq!(fs::read_dir(profile.data()).unwrap().count(), 1);
    fs::remove_dir_all(profile.data()).unwrap();
    fs::write(profile.data(), "a file").unwrap();
    let refused = |profile: &Profile| {
        for args in [&["init"][..], &["tick"], &["status"]] {
            let ran = profile.looop(args);
            assert!(ran.code == 1 && ran.stderr.contains("it is not a directory"), "{ran:?}");
            assert!(ran.stderr.contains("hint: name another with LOOOP_DATA_DIR"), "{ran:?}");
        }
    };
    refused(&profile);
    assert_eq!(fs::read_to_string(profile.data()).unwrap(), "a file");
    fs::remove_file(profile.data()).unwrap();
    symlink("/nowhere", profile.data()).unwrap();
    refused(&profile);
}

#[test]
fn a_format_that_is_not_ours_is_refused() {
    let profile = Profile::scripted(&[NOOP]);
    let newer = format!("its format is 99 and this program, looop {}, knows 4", env!("CARGO_PKG_VERSION"));
    let rows = [
        ("{\"format\":99}", &*newer, "hint: install a newer looop"),
        ("{\"format\":0}", "format 0 was never released", ""),
        ("{", "could not read `", "hint: it should hold {\"format\":4}"),
        ("{\"format\":1,\"x\":2}", "could not read `", "hint: "),
    ];
    for (text, what, hint) in rows {
        fs::write(profile.data().join("format"), text).unwrap();
        let before = listing(&profile.data());
        for args in
            [&["tick"][..], &["status"], &["init"], &[], &["goal", "write", "g", "goal: g"], &["pause"]]
        {
            let ran = profile.looop(args);
            assert!(
                ran.code == 1 && ran.stderr.contains(what) && ran.stderr.contains(hint),
                "{text}: {ran:?}"
            );
        }
        assert_eq!(listing(&profile.data()), before, "nothing was written");
    }
    assert_eq!(profile.asked(), 0);
}

#[test]
fn a_data_dir_inside_another_repository_leaves_that_one_alone() {
    let mut profile = Profile::empty();
    let outer = profile.path("outer");
    fs::create_dir(&outer).unwrap();
    git_in(&outer, &["init", "-q"]);
    fs::write(outer.join("README"), "x\n").unwrap();
    git_in(&outer, &["add", "README"]);
    git_in(&outer, &["commit", "-qm", "first"]);
    fs::write(outer.join("dirty"), "x\n").unwrap();
    profile.var("LOOOP_DATA_DIR", outer.join("looop").to_str().unwrap());
    // What git itself would take for orders is none for looop.
    profile.var("GIT_DIR", outer.join(".git").to_str().unwrap());
    profile.var("GIT_WORK_TREE", outer.to_str().unwrap());
    profile.var("GIT_INDEX_FILE", outer.join("other-index").to_str().unwrap());
    profile.script(&[r#"{"move":"write_goal","id":"g","body":"b","why":"x"}"#, NOOP]);
    let before = listing(&outer.join(".git"));
    profile.looop(&["init"]).ok();
    profile.looop(&["tick"]).ok();
    profile.looop(&["tick"]).ok();
    assert_eq!(listing(&outer.join(".git")), before);
    assert!(!outer.join("other-index").exists());
    let log = git_in(&outer.join("looop"), &["log", "--format=%s"]);
    assert!(log.lines().any(|line| line.starts_with("move: write_goal g")), "{log}");
    assert_eq!(git_in(&outer.join("looop"), &["status", "--porcelain"]), "");
}

/// Runs a shell script as root of a mount namespace of its own, with the program as `$L` and the data dir as
/// `$D`; none where that cannot be had.
fn in_namespace(profile: &Profile, script: &str) -> Option<Ran> {
    let can = Command::new("unshare").args(["-m", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        skipped("no mount namespace can be had here");
        return None;
    }
    let looop = profile.command(&[]);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).current_dir(profile.path(".")).env_clear();
    command.envs(looop.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.env("L", LOOOP).env("D", profile.data());
    Some(command.output().unwrap().into())
}

#[test]
fn a_full_disk_ends_the_beat_before_anything_is_paid() {
    let profile = Profile::scripted(&[r#"{"move":"write_goal","id":"g","body":"b","why":"x"}"#, NOOP]);
    profile.goal("h", "---\ngoal: x\n---\n");
    let script = r#"mkdir -m 700 $D.new; mount -t tmpfs -o size=8m,mode=0700 none $D.new; cp -a $D/. $D.new/
        export LOOOP_DATA_DIR=$D.new; dd if=/dev/zero of=$D.new/runs/fill bs=4k status=none 2>/dev/null
        for n in 1 2 3; do $L tick; echo "full: $?"; done; cat script/replies.count; echo
        rm $D.new/runs/fill; $L tick; echo "after: $?"; $L tick; echo "again: $?"
        git -C $D.new fsck --strict 2>&1; git -C $D.new status --porcelain; find $D.new -name '.*.tmp'; cat $D.new/goals/g.md"#;
    let Some(ran) = in_namespace(&profile, script) else { return };
    assert_eq!(ran.stdout.matches("full: 1").count(), 3, "{ran:?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:?}");
    let (before, after) = ran.stdout.split_once("after: 0").unwrap_or_else(|| panic!("{ran:?}"));
    assert!(!before.contains("\n1\n"), "nobody was asked while it was full: {ran:?}");
    assert!(after.contains("again: 0") && after.ends_with("b\n"), "{ran:?}");
    assert!(!after.contains(".tmp") && !after.contains("error") && !after.contains("??"), "{ran:?}");
    assert_eq!(profile.asked(), 2);
}

#[test]
fn a_read_only_data_dir_can_be_read_and_not_ticked() {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop(&["tick"]).ok();
    profile.goal("g", "---\ngoal: x\n---\n");
    let before = listing(&profile.data());
    let script = "mount --bind $D $D && mount -o remount,bind,ro $D || exit 99
        $L tick; echo tick: $?; $L status >&2; echo status: $?; $L goal list; echo list: $?
        $L log; echo log: $?; echo text | $L goal write x; echo write: $?; $L tick --dry-run >/dev/null; echo dry: $?";
    let Some(ran) = in_namespace(&profile, script) else { return };
    for (verb, code) in [("tick", 1), ("status", 1), ("list", 0), ("log", 0), ("write", 1), ("dry", 0)] {
        assert!(ran.stdout.contains(&format!("{verb}: {code}\n")), "{verb}: {ran:?}");
    }
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
    assert_eq!(profile.asked(), 1);
    assert_eq!(listing(&profile.data()), before);
}

/// The program as a user who owns nothing here but the profile, unless `owner` says otherwise.
fn as_nobody(profile: &Profile, args: &[&str]) -> Option<Ran> {
    let looop = profile.command(args);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", LOOOP]).args(args).env_clear();
    command.envs(looop.get_envs().filter_map(|(key, value)| Some((key, value?)))).current_dir("/");
    let output = command.output().ok()?;
    // Where the program itself is out of that user's reach, setpriv says so with 126 or 127.
    Some(Ran::from(output)).filter(|ran| !matches!(ran.code, 126 | 127) && !ran.stderr.contains("setpriv:"))
}

fn give_away(profile: &Profile, what: &str) {
    let given = Command::new("chown").args(["-R", "65534:65534"]).arg(profile.path(what)).status();
    assert!(given.unwrap().success());
}

#[test]
fn a_data_dir_of_another_user_is_refused() {
    let profile = Profile::scripted(&[NOOP]);
    if !rustix::process::geteuid().is_root() {
        return skipped("it takes root to become another user");
    }
    fs::set_permissions(profile.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    give_away(&profile, "home");
    give_away(&profile, "looop.json");
    let Some(ran) = as_nobody(&profile, &["tick"]) else {
        return skipped("the program is out of another user's reach");
    };
    let hint = format!("hint: sudo chown -R 65534 {}", profile.data().display());
    for args in [&["tick"][..], &["status"], &["init"], &["goal", "list"]] {
        let ran = as_nobody(&profile, args).unwrap();
        assert_eq!(ran.code, 1, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("it belongs to user 0 and you are 65534"), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(&hint), "{args:?}: {ran:?}");
    }
    assert_eq!(ran.code, 1);
    // Nor does root use a dir of theirs, in which they could have put anything.
    give_away(&profile, "data");
    profile.looop(&["tick"]).exits(1).warns(&["it belongs to user 65534 and you are 0"]);
}

#[test]
fn what_may_not_be_read_is_never_taken_for_absent() {
    let argv = r#"{"move":"run","argv":["cat","/etc/shadow"],"why":"x"}"#;
    let write = r#"{"move":"write_goal","id":"shut","body":"b","why":"x"}"#;
    let profile = Profile::scripted(&[argv, write, NOOP]);
    if !rustix::process::geteuid().is_root() {
        return skipped("it takes root to become another user");
    }
    profile.goal("shut", "---\ngoal: closed\n---\n");
    fs::set_permissions(profile.data().join("goals/shut.md"), fs::Permissions::from_mode(0o000)).unwrap();
    profile.sensor("shut.sh", "echo '{}'");
    fs::set_permissions(profile.data().join("sensors/shut.sh"), fs::Permissions::from_mode(0o111)).unwrap();
    give_away(&profile, ".");
    let Some(first) = as_nobody(&profile, &["tick"]) else {
        return skipped("the program is out of another user's reach");
    };
    // A file that cannot be read cannot be bound to an approval.
    assert!(first.code == 0 && first.stdout.contains("refused: could not read `/etc/shadow`"), "{first:?}");
    let prompt = as_nobody(&profile, &["tick", "--dry-run"]).unwrap().ok().stdout;
    assert!(prompt.contains("# goal shut cannot be read (data)"), "{prompt}");
    assert!(prompt.contains(r#"{"error":"unreadable"}"#), "{prompt}");
    let second = as_nobody(&profile, &["tick"]).unwrap();
    assert!(second.code == 0 && second.stdout.contains("write_goal shut — refused: "), "{second:?}");
    as_nobody(&profile, &["tick"]).unwrap().ok();
    assert_eq!(profile.read("goals/shut.md"), "---\ngoal: closed\n---\n");
    // An unreadable playbook or memory ends the beat; it is not an empty one.
    for name in ["PLAYBOOK.md", "beat.json", "goals", "journal.md"] {
        let path = profile.data().join(name);
        let usual = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let ran = as_nobody(&profile, &["tick"]).unwrap();
        let is_read_to_idle = name == "journal.md";
        assert!(is_read_to_idle || (ran.code == 1 && ran.stderr.contains(name)), "{name}: {ran:?}");
        fs::set_permissions(&path, usual).unwrap();
    }
    assert_eq!(profile.asked(), 3);
}

#[test]
fn a_data_dir_whose_name_is_not_utf8_is_refused_and_not_made() {
    use std::os::unix::ffi::OsStrExt;
    let profile = Profile::empty();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let output =
        profile.command(&["init"]).env("LOOOP_DATA_DIR", profile.path("").join(name)).output().unwrap();
    Ran::from(output).exits(1).warns(&["could not use LOOOP_DATA_DIR: its path is not UTF-8 text"]);
    assert_eq!(fs::read_dir(profile.path("")).unwrap().count(), 1, "only the home");
}
