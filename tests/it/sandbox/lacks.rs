//! What happens where the kernel or the container lacks a piece of a sandbox: `auto` says what it got, a promise that cannot
//! be kept keeps everything from running, and what a sandbox failed to begin did not begin.

use std::{collections::BTreeMap, fs};

use rustix::thread::UnshareFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde_json::{Value, json};

use super::profile;
use crate::support::profile::{LOOOP, Profile, Ran, program as executable, wait_until};

/// The numbers of Landlock's first call, and of the two that start processes and can make namespaces at once.
const LANDLOCK: i64 = 444;
const CLONE3: i64 = 435;
/// The first call of those that make an overlay.
const FSOPEN: i64 = 430;
const fn number(x86_64: i64, aarch64: i64) -> i64 {
    if cfg!(target_arch = "x86_64") { x86_64 } else { aarch64 }
}
const UNSHARE: i64 = number(272, 97);
const CLONE: i64 = number(56, 220);

fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> BpfProgram {
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch);
    filter.unwrap().try_into().unwrap()
}

/// Refuses namespaces, as containers do.
fn no_namespaces() -> Vec<BpfProgram> {
    let user = UnshareFlags::NEWUSER.bits() as u64;
    let condition =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(user), user).unwrap();
    let clone = vec![SeccompRule::new(vec![condition]).unwrap()];
    let refused = [(UNSHARE, Vec::new()), (CLONE, clone)].into();
    vec![program(refused, 1), program([(CLONE3, Vec::new())].into(), 38)]
}

/// A kernel without Landlock, or a container that refuses it.
fn no_landlock(errno: i32) -> Vec<BpfProgram> {
    vec![program([(LANDLOCK, Vec::new())].into(), errno)]
}

/// Everything that this starts is behind these filters.
fn behind<T: Send>(filters: &[BpfProgram], act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let filtered = scope.spawn(|| {
            filters.iter().for_each(|filter| seccompiler::apply_filter(filter).unwrap());
            act()
        });
        filtered.join().unwrap()
    })
}

/// Runs the program where these files of the system are not there, or are others.
pub(super) fn without(profile: &Profile, hidden: &[(&str, &str)], args: &[&str]) -> Ran {
    let mut all = vec!["--dev-bind", "/", "/"];
    hidden.iter().for_each(|(file, other)| all.extend(["--ro-bind", other, file]));
    all.extend(["--", LOOOP]);
    all.extend(args);
    profile.other_command("bwrap", &all).output().unwrap().into()
}

/// A worker that tries to write outside and then ends; its row.
fn worker(profile: &Profile, looop: impl Fn(&[&str]) -> Ran) -> Value {
    let outside = profile.path("outside");
    let line = format!("echo x >{}; exit 0", outside.display());
    looop(&["worker", "start", "w1", "--", "sh", "-c", &line]).ok();
    let row = || looop(&["ls", "--all", "--json"]).ok().json()["workers"][0].clone();
    wait_until("the worker to end", || row()["state"] == "exited");
    let row = row();
    assert_eq!(outside.exists(), row["sandbox"] == "none", "{row}");
    row
}

/// What doctor and status say; the levels of workers, of sensors, and the engine.
fn messages(looop: impl Fn(&[&str]) -> Ran) -> (String, [String; 3]) {
    let doctor = looop(&["doctor"]).stdout;
    let status = looop(&["status", "--json"]).json()["sandbox"].clone();
    let word = |key: &str| status[key].as_str().unwrap_or("cannot be had").to_owned();
    (doctor, ["worker", "sensor", "engine"].map(word))
}

#[test]
fn without_pasta_a_worker_is_partial_by_default_and_the_doctor_names_the_package() {
    let Some(profile) = profile() else { return };
    let looop = |args: &[&str]| without(&profile, &[("/usr/bin/pasta", "/dev/null")], args);
    let (doctor, got) = messages(looop);
    assert_eq!(got, ["partial", "partial", "bubblewrap"], "{doctor}");
    assert!(doctor.contains("`pasta` is not installed") && doctor.contains("fix: install passt"), "{doctor}");
    assert_eq!(worker(&profile, looop)["sandbox"], "partial");
    // What was asked for is enforced without it too.
    for network in ["off", "model"] {
        profile.config_more(json!({
            "sandbox": { "network": { "worker": network } },
            "runners": { "sh": { "base_url": "http://127.0.0.1:9" } },
        }));
        assert_eq!(messages(looop).1[0], "full", "{network}");
    }
    profile.config_more(json!({ "sandbox": { "worker": "full", "network": { "worker": "internet" } } }));
    let ran = looop(&["worker", "start", "w2", "--", "true"]);
    assert!(ran.code != 0 && ran.stderr.contains("`pasta` is not installed"), "{ran:?}");
}

#[test]
fn without_overlays_caches_are_read_only_and_the_doctor_says_so() {
    let Some(profile) = profile() else { return };
    let cache = profile.path("home/.npm/_cacache");
    profile.config_more(json!({ "sandbox": { "network": { "worker": "off" } } }));
    fs::create_dir_all(&cache).unwrap();
    fs::write(cache.join("kept"), "human\n").unwrap();
    // A kernel without the calls that a layer is made by.
    let no_layers = [program([(FSOPEN, Vec::new())].into(), 38)];
    let looop = |args: &[&str]| behind(&no_layers, || profile.looop(args));
    let (doctor, got) = messages(looop);
    assert_eq!(got[0], "full", "{doctor}");
    assert!(
        doctor.contains("overlays are not available here") && doctor.contains("fix: move the data dir"),
        "{doctor}"
    );
    let line = "cat ~/.npm/_cacache/kept && ! touch ~/.npm/_cacache/added && exit 4";
    looop(&["worker", "start", "w1", "--", "sh", "-c", line]).ok();
    let row = || looop(&["ls", "--all", "--json"]).ok().json()["workers"][0].clone();
    wait_until("the worker to end", || row()["exit"].is_object());
    assert!(row()["exit"]["code"] == 4, "{}: {}", row(), looop(&["logs", "w1"]).stdout);
    assert!(!cache.join("added").exists());
}

#[test]
#[ignore = "slow"]
fn where_no_engine_is_or_works_auto_says_so_and_full_refuses() {
    let (Some(first), Some(second), Some(third)) = (profile(), profile(), profile()) else { return };
    let both = [("/usr/bin/bwrap", "/dev/null")];
    lacks_a_file_system(&first, "`bwrap` is not installed", |profile, args| without(profile, &both, args));
    let broken = second.path("broken");
    executable(&broken, "#!/bin/sh\necho 'setting up uid map: Permission denied' >&2; exit 1\n");
    let both = [("/usr/bin/bwrap", broken.to_str().unwrap())];
    let why = "`bwrap` does not work: exit code 1: setting up uid map: Permission denied";
    lacks_a_file_system(&second, why, |profile, args| without(profile, &both, args));
    let why = "`bwrap` does not work: ";
    lacks_a_file_system(&third, why, |profile, args| behind(&no_namespaces(), || profile.looop(args)));
}

#[test]
fn the_doctor_names_the_rule_where_apparmor_keeps_namespaces_from_bubblewrap() {
    let Some(profile) = profile() else { return };
    let kernel = profile.path("kernel");
    fs::create_dir_all(kernel.join("random")).unwrap();
    fs::write(kernel.join("random/boot_id"), "b0b0b0b0-0000-4000-8000-000000000000\n").unwrap();
    for (restricted, is_named) in [("1\n", true), ("0\n", false)] {
        fs::write(kernel.join("apparmor_restrict_unprivileged_userns"), restricted).unwrap();
        let hidden = [("/usr/bin/bwrap", "/dev/null"), ("/proc/sys/kernel", kernel.to_str().unwrap())];
        let doctor = without(&profile, &hidden, &["doctor"]).stdout;
        assert!(doctor.contains("fix: allow user namespaces"), "{doctor}");
        for words in ["/etc/apparmor.d/bwrap", "/usr/bin/passt", "apparmor_parser -r"] {
            assert_eq!(doctor.contains(words), is_named, "{words}: {doctor}");
        }
    }
}

/// A machine that makes no file system of its own for a child.
#[track_caller]
fn lacks_a_file_system(profile: &Profile, why: &str, looop: impl Fn(&Profile, &[&str]) -> Ran) {
    let (doctor, got) = messages(|args| looop(profile, args));
    assert_eq!(got, ["partial", "partial", "none"], "{doctor}");
    assert!(doctor.contains(why) && doctor.contains("fix: install bubblewrap"), "{why}: {doctor}");
    let missing = looop(profile, &["status", "--json"]).ok().json()["sandbox"]["missing"].to_string();
    assert!(missing.contains(why), "{missing}");
    assert_eq!(worker(profile, |args| looop(profile, args))["sandbox"], "partial");
    refuses(profile, "full", why, |args| looop(profile, args));
}

/// A promise that cannot be kept keeps everything from running that is not promised less.
#[track_caller]
fn refuses(profile: &Profile, level: &str, why: &str, looop: impl Fn(&[&str]) -> Ran) {
    let trace = profile.path("trace");
    profile.sensor("s.sh", &format!("echo x >>{}; echo '{{}}'", trace.display()));
    for kind in ["decide", "sensor", "run", "verify", "worker"] {
        profile.config_more(json!({ "sandbox": { kind: level } }));
        let ran = looop(&["tick"]);
        let printed = &ran.stderr;
        assert!(
            ran.code == 2 && printed.contains(&format!("sandbox.{kind} asks for \"{level}\"")),
            "{kind}: {ran:?}"
        );
        assert!(printed.contains(why) && printed.contains("hint: "), "{kind}: {ran:?}");
        looop(&["doctor"]).exits(1).prints(&[&format!("BAD  sandbox of {kind}: ")]);
    }
    let line = format!("echo x >>{}", trace.display());
    let ran = looop(&["worker", "start", "w9", "--", "sh", "-c", &line]);
    assert!(ran.code != 0 && ran.stderr.contains("sandbox.worker asks for"), "{ran:?}");
    assert!(ran.stderr.contains(why), "{ran:?}");
    profile.config_more(json!({ "sandbox": { "sensor": level } }));
    let ran = looop(&["sensor", "test", "s"]);
    assert!(ran.stdout.contains("not_started") || ran.code != 0, "{ran:?}");
    assert!(!trace.exists() && profile.asked() == 0, "nothing ran");
    profile.config_more(json!({ "sandbox": {} }));
}

#[test]
#[ignore = "slow"]
fn without_landlock_a_sandbox_is_full_where_bubblewrap_is_and_none_elsewhere() {
    for errno in [1, 38, 95] {
        let Some(profile) = profile() else { return };
        // A filter comes with the promise to gain nothing, and with that pasta does not work for root.
        profile.config_more(json!({ "sandbox": { "network": { "worker": "off" } } }));
        let looop = |args: &[&str]| behind(&no_landlock(errno), || profile.looop(args));
        let (doctor, got) = messages(looop);
        assert_eq!(got[..2], ["full", "partial"], "{doctor}");
        assert_eq!(worker(&profile, looop)["sandbox"], "full");
    }
    let Some(profile) = profile() else { return };
    let hidden = [("/usr/bin/bwrap", "/dev/null")];
    let looop = |args: &[&str]| behind(&no_landlock(95), || without(&profile, &hidden, args));
    let (doctor, got) = messages(looop);
    assert_eq!(got, ["none", "none", "none"], "{doctor}");
    assert!(doctor.contains("odd  sandbox of worker: none: it runs as you"), "{doctor}");
    assert!(
        doctor.contains("the kernel has no Landlock") && doctor.contains("fix: run a kernel"),
        "{doctor}"
    );
    assert_eq!(worker(&profile, looop)["sandbox"], "none");
    for level in ["full", "partial"] {
        refuses(&profile, level, "the kernel has no Landlock", looop);
    }
}

#[test]
fn what_its_box_failed_to_begin_did_not_begin() {
    let Some(profile) = profile() else { return };
    // What was found out does not hold any more: an administrator has forbidden namespaces since.
    profile.looop(&["doctor"]);
    let looop = |args: &[&str]| behind(&no_namespaces(), || profile.looop(args));
    profile.config_more(json!({ "sandbox": { "sensor": "full", "network": { "sensor": "off" } } }));
    profile.sensor("s.sh", "echo '{}'");
    let ran = looop(&["tick"]).exits(1);
    let printed = &ran.stdout;
    assert!(printed.contains("failed \u{2014} missing: "), "{ran:?}");
    assert!(printed.contains("its sandbox could not be made: bwrap: ") && profile.asked() == 0, "{ran:?}");
    looop(&["sensor", "test", "s"]).prints(&["not_started"]);
}

#[test]
fn a_worker_whose_box_could_not_be_made_says_so() {
    let Some(profile) = profile() else { return };
    profile.looop(&["doctor"]);
    let looop = |args: &[&str]| behind(&no_namespaces(), || profile.looop(args));
    let outside = profile.path("outside");
    let line = format!("echo x >{}", outside.display());
    profile.config_more(json!({ "verify": { "traces": ["sh", "-c", line] } }));
    for (worker, verify) in [("full", "full"), ("partial", "full")] {
        profile.config_more(
            json!({ "sandbox": { "worker": worker, "verify": verify, "network": { "worker": "off" } } }),
        );
        let command = if worker == "full" { line.as_str() } else { "true" };
        looop(&["worker", "start", "w1", "--verify", "traces", "--", "sh", "-c", command]);
        let row = || looop(&["ls", "--json", "--all"]).ok().json()["workers"][0].clone();
        wait_until("the worker to end", || row()["state"] == "failed");
        assert!(
            row()["why"].as_str().unwrap().contains("its sandbox could not be made: bwrap: "),
            "{}",
            row()
        );
        assert!(!outside.exists());
        looop(&["prune", "w1", "--force"]).ok();
    }
}
