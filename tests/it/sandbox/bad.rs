//! What cannot be meant: paths that are not there or lead where they must not, homes that hold everything, machines
//! without parts of a system. Each is a clear error, or a fallback that is said.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use super::profile;
use crate::support::profile::{LOOOP, NOOP, Profile, Ran, wait_until};

const LEVELS: [&str; 2] = ["full", "partial"];

fn sandbox(profile: &Profile, mut sandbox: serde_json::Value) {
    if sandbox.get("verify").is_none() {
        sandbox["verify"] = sandbox["worker"].clone();
    }
    profile.config_more(json!({ "sandbox": sandbox }));
}

/// Starts a worker that would leave a trace, and finds that it is not started for this reason.
#[track_caller]
fn not_started(profile: &Profile, args: &[&str], why: &str) {
    let trace = profile.path("trace");
    let line = format!("echo x >{}", trace.display());
    let ran = profile.looop(&[&["worker", "start", "w1"][..], args, &["--", "sh", "-c", &line]].concat());
    assert!(ran.code != 0 && ran.stderr.contains(why), "{why}: {ran:?}");
    assert!(!trace.exists());
    assert_eq!(profile.looop(&["ls", "--json"]).ok().json()["workers"], json!([]), "nothing of it is left");
}

#[test]
fn a_path_of_the_config_that_cannot_be_opened_keeps_the_worker_from_running() {
    let Some(profile) = profile() else { return };
    let data = profile.data().display().to_string();
    symlink(profile.data(), profile.path("home/notes")).unwrap();
    for level in LEVELS {
        for key in ["read", "write"] {
            for (path, why) in [
                ("/nowhere/at-all".to_owned(), "could not find `/nowhere/at-all`"),
                ("~/notes".to_owned(), "that is looop's own or holds it"),
                (data.clone(), "that is looop's own or holds it"),
                ("/".to_owned(), "which holds the home directory"),
            ] {
                sandbox(&profile, json!({ "worker": level, key: [path] }));
                not_started(&profile, &[], &format!("sandbox.{key}: "));
                not_started(&profile, &[], why);
            }
        }
    }
    profile.config_more(json!({ "sandbox": { "read": ["/usr/../etc"] } }));
    profile.looop(&["tick"]).exits(2).warns(&["not an absolute path without `..`"]);
}

#[test]
fn a_grant_that_leads_elsewhere_keeps_the_worker_from_running() {
    let Some(profile) = profile() else { return };
    fs::create_dir_all(profile.path("home/notes")).unwrap();
    fs::write(profile.path("home/notes/a"), "words").unwrap();
    symlink(profile.config_file(), profile.path("home/notes/config")).unwrap();
    for level in LEVELS {
        sandbox(&profile, json!({ "worker": level }));
        for (grant, why) in [
            ("~/notes/../.ssh", "it has a `..` in it"),
            ("~/notes/config", "that is looop's own or holds it"),
            ("~/nothing", "could not find"),
            ("~", "which holds the home directory"),
            ("NO_SUCH_VARIABLE", "is neither a path nor a variable that is set here"),
        ] {
            not_started(&profile, &["--grant", grant], why);
        }
        let args = ["worker", "start", "w1", "--grant", "~/notes/a", "--", "grep", "-q", "words"];
        profile.looop(&[&args[..], &[profile.path("home/notes/a").to_str().unwrap()]].concat()).ok();
        profile.wait_worker("w1", &["exited"]);
        profile.looop(&["prune", "w1", "--force"]).ok();
    }
    // The same from a model: refused before anybody is asked, or asked for and refused at the start.
    let wanted =
        json!({ "move": "start_worker", "id": "w2", "brief": "b", "why": "w", "grant": ["~/notes/../.ssh"] });
    profile.script(&[&wanted.to_string(), NOOP]);
    profile.config_more(json!({ "worker": "mine", "runners": { "scripted": profile.scripted_runner(), "mine": { "worker": ["sh", "{brief}"] } } }));
    profile.looop(&["tick"]).prints(&["`..`"]);
}

#[test]
fn a_home_that_holds_everything_is_refused() {
    for level in LEVELS {
        let Some(mut profile) = profile() else { return };
        profile.var("HOME", "/");
        sandbox(&profile, json!({ "worker": level, "decide": level }));
        let why = "the home directory is `/`, and a sandbox that shows it shows everything; set HOME";
        not_started(&profile, &[], why);
        profile.looop(&["tick"]).exits(1).prints(&["missing: ", "set HOME"]);
        assert_eq!(profile.asked(), 0);
    }
}

#[test]
fn a_data_dir_inside_a_repository_is_not_opened_by_a_worker_in_it() {
    let Some(mut profile) = profile() else { return };
    let repo = profile.repository("repo", "README", "text\n");
    fs::rename(profile.data(), repo.join("data")).unwrap();
    profile.var("LOOOP_DATA_DIR", repo.join("data").to_str().unwrap());
    let playbook = fs::read_to_string(repo.join("data/PLAYBOOK.md")).unwrap();
    let own = repo.join("data/PLAYBOOK.md").display().to_string();
    for level in LEVELS {
        sandbox(&profile, json!({ "worker": level }));
        let line = format!("echo x >>{own}; cat {own}; exit 3");
        let args = ["worker", "start", level, "--repo", repo.to_str().unwrap(), "--", "sh", "-c", &line];
        profile.looop(&args).ok();
        wait_until("it to end", || profile.worker(level)["exit"]["code"] == 3);
        let printed = profile.looop(&["logs", level]).ok().stdout;
        assert!(!printed.contains(playbook.lines().next().unwrap()), "{printed}");
    }
    assert_eq!(fs::read_to_string(repo.join("data/PLAYBOOK.md")).unwrap(), playbook);
}

#[test]
fn a_sensor_with_a_header_that_is_not_understood_does_not_run() {
    let Some(profile) = profile() else { return };
    let trace = profile.path("trace");
    symlink(profile.data(), profile.path("home/notes")).unwrap();
    for (header, why) in [
        ("wrtie=/tmp", "`wrtie` is not a directive; known are interval, timeout, trust, env, write"),
        ("write=~/a/../b", "it has a `..` in it"),
        ("write=~/nothing", "could not find"),
        ("write=~/notes", "that is looop's own or holds it"),
        ("write=/", "which holds the home directory"),
    ] {
        profile.sensor("s.sh", &format!("# looop: {header}\necho x >{}; echo '{{}}'", trace.display()));
        let ran = profile.looop(&["sensor", "test", "s"]);
        assert!(ran.stdout.contains(why) || ran.stderr.contains(why), "{header}: {ran:?}");
        let ran = profile.looop(&["tick"]).ok();
        assert_eq!(profile.read_json("snapshots/s.json")["ok"], false, "{header}: {ran:?}");
        assert!(!trace.exists());
    }
}

#[test]
fn without_proc_everything_that_needs_it_says_so() {
    let Some(profile) = profile() else { return };
    let looop = |args: &[&str]| -> Ran {
        let all = [&["--dev-bind", "/", "/", "--tmpfs", "/proc", "--", LOOOP][..], args].concat();
        profile.other_command("bwrap", &all).output().unwrap().into()
    };
    looop(&["doctor"]).exits(1).prints(&["BAD  /proc: is not mounted"]);
    let trace = profile.path("trace");
    let line = format!("echo x >{}", trace.display());
    let ran = looop(&["worker", "start", "w1", "--", "sh", "-c", &line]);
    assert!(ran.code != 0 && ran.stderr.contains("/proc"), "{ran:?}");
    sandbox(&profile, json!({ "decide": "full" }));
    looop(&["tick"]).exits(2).warns(&["is `/proc` mounted?"]);
    assert_eq!(profile.asked(), 0);
    assert!(!trace.exists());
}

#[test]
fn root_learns_what_a_box_does_not_keep_from_it_and_makes_no_devices_in_one() {
    let Some(profile) = profile() else { return };
    let is_root = rustix::process::geteuid().is_root();
    let doctor = profile.looop(&["doctor"]).stdout;
    assert_eq!(doctor.contains("odd  user: root"), is_root, "{doctor}");
    if !is_root {
        return;
    }
    for level in ["none", "full", "partial"] {
        sandbox(&profile, json!({ "worker": level }));
        let line = "mknod disk b 7 0; mknod null c 1 3; mkfifo pipe";
        profile.looop(&["worker", "start", level, "--", "sh", "-c", line]).ok();
        wait_until("it to end", || profile.worker_file(level, "pipe").exists());
        let made = ["disk", "null"].map(|name| profile.worker_file(level, name).exists());
        assert_eq!(made, [level == "none"; 2], "{level}");
    }
}

#[test]
fn a_command_in_a_partial_box_does_not_write_what_is_looops_own() {
    let lines = "echo x >>beat.json; echo x >>.git/config; echo x >asks/new.json; echo x >>../looop.json; echo x >>goals/g.md; echo x >>sensors/s.sh";
    let wanted = json!({ "move": "run", "why": "w", "argv": ["sh", "try.sh"] });
    for level in LEVELS {
        let profile = Profile::scripted(&[&wanted.to_string(), NOOP]);
        profile.goal("g", "goal: g\n");
        profile.sensor("s.sh", "echo '{}'");
        fs::write(profile.data().join("try.sh"), lines).unwrap();
        let rules = json!({ "allow": [{ "argv": ["sh", "try.sh"] }] });
        profile.config_more(json!({ "sandbox": { "run": level }, "policy": rules }));
        let before = fs::read_to_string(profile.config_file()).unwrap();
        profile.looop(&["tick"]).ok();
        assert!(profile.read("goals/g.md").ends_with("x\n"), "{level}: what is not looop's own it may write");
        for name in ["beat.json", ".git/config"] {
            assert!(!profile.read(name).ends_with("x\n"), "{level}: {name}");
        }
        assert!(!profile.data().join("asks/new.json").exists(), "{level}");
        assert_eq!(fs::read_to_string(profile.config_file()).unwrap(), before, "{level}");
    }
}

#[test]
fn other_users_cannot_read_the_files_given_to_a_worker() {
    let mut profile = Profile::scripted(&[NOOP]);
    profile.var("GIVEN_TOKEN", "a-value-of-mine");
    profile.looop(&["worker", "start", "w1", "--grant", "GIVEN_TOKEN", "--", "true"]).ok();
    let spec = profile.data().join("workers/w1/spec.json");
    assert!(fs::read_to_string(&spec).unwrap().contains("a-value-of-mine"));
    for (path, mode) in
        [(spec.clone(), 0o600), (spec.parent().unwrap().to_owned(), 0o700), (profile.data(), 0o700)]
    {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
    profile.git(&["check-ignore", "-q", "workers/w1/spec.json"]);
}
