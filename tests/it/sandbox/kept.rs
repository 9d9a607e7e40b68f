//! What is found out about a machine: only success is kept, and what got worse is said once.

use std::path::{Path, PathBuf};
use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use super::{lacks::without, profile};
use crate::support::profile::{NOOP, Profile, git_in, program, wait_until};
use crate::{support::pi::skipped, support::rows::kill};

/// The file in which the outcome of the last try is kept.
fn cache_file(profile: &Profile) -> PathBuf {
    fn find(dir: &std::path::Path) -> Option<PathBuf> {
        let entries = fs::read_dir(dir).ok()?.flatten();
        entries.into_iter().find_map(|entry| match entry.file_name() == "sandbox.json" {
            true => Some(entry.path()),
            false if entry.file_type().ok()?.is_dir() => find(&entry.path()),
            false => None,
        })
    }
    find(&profile.path("")).expect("the outcome is kept")
}

/// Makes the program believe that it found another machine; it does not try again.
pub fn pretend(profile: &Profile, change: impl Fn(&mut Value)) {
    profile.looop(&["doctor"]);
    let file = cache_file(profile);
    let mut kept: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    change(&mut kept["capabilities"]);
    fs::write(&file, kept.to_string()).unwrap();
}

fn worker_level(profile: &Profile) -> Value {
    profile.looop(&["status", "--json"]).json()["sandbox"]["worker"].clone()
}

#[test]
fn a_try_that_failed_for_one_caller_is_not_kept_for_the_next() {
    let Some(profile) = profile() else { return };
    let broken = profile.path("broken");
    program(&broken, "#!/bin/sh\necho 'bwrap: no' >&2; exit 1\n");
    let hidden = [("/usr/bin/bwrap", broken.to_str().unwrap())];
    // And what was found in one mount namespace does not hold in another, also where the programs are the same.
    for hidden in [hidden, hidden, [("/dev/net/tun", "/dev/null")]] {
        let failed = without(&profile, &hidden, &["status", "--json"]).ok().json();
        assert_eq!(failed["sandbox"]["worker"], "partial", "{failed}");
        assert_eq!(worker_level(&profile), "full");
    }
}

#[test]
fn what_got_worse_is_flagged_once_and_reported_in_status_and_by_the_doctor() {
    let Some(profile) = profile() else { return };
    profile.looop(&["tick"]).ok();
    assert!(!profile.read("journal.md").contains("sandbox"), "{}", profile.read("journal.md"));
    let looop = |args: &[&str]| without(&profile, &[("/usr/bin/pasta", "/dev/null")], args);
    for count in [1, 2] {
        let ran = looop(&["tick"]).warns(&["warning: sandboxes with internet access can reach"]);
        assert_eq!(ran.stderr.contains("flag: "), count == 1, "{ran:?}");
        assert_eq!(profile.read("journal.md").matches("this machine had better sandboxes before").count(), 1);
    }
    let status = looop(&["status", "--json"]).ok().json();
    assert!(status["sandbox"]["lost"].as_str().unwrap().contains("`pasta` is not installed"), "{status}");
    assert!(looop(&["status"]).stdout.contains("this machine had better sandboxes before"));
    assert!(looop(&["doctor"]).stdout.contains("odd  sandbox before: "));
    assert_eq!(profile.looop(&["status", "--json"]).ok().json()["sandbox"]["lost"], Value::Null);
}

#[test]
#[ignore = "slow"]
fn a_sandbox_is_full_at_each_version_of_landlock() {
    let Some(profile) = profile() else { return };
    for version in 0..=6 {
        for (network, without_pasta) in [("off", "full"), ("internet", "partial"), ("model", "full")] {
            profile.config_more(json!({
                "sandbox": { "network": { "worker": network } },
                "runners": { "sh": { "base_url": "http://127.0.0.1:9" } },
            }));
            pretend(&profile, |capabilities| capabilities["landlock"] = version.into());
            assert_eq!(worker_level(&profile), "full", "Landlock {version}, {network}");
            let id = format!("w{version}-{network}");
            profile.looop(&["worker", "start", &id, "--", "sh", "-c", "exit 0"]).ok();
            let row = profile.wait_exit(&id);
            assert_eq!((&row["sandbox"], &row["exit"]["code"]), (&json!("full"), &json!(0)), "{row}");
            pretend(&profile, |capabilities| {
                capabilities["landlock"] = version.into();
                capabilities["engine"].as_object_mut().unwrap().remove("pasta");
            });
            assert_eq!(worker_level(&profile), without_pasta, "Landlock {version}, {network}, no pasta");
        }
    }
}

#[test]
fn a_program_that_is_a_link_on_the_path_starts_in_a_sandbox() {
    let Some(profile) = profile() else { return };
    let home = profile.path("home");
    let file = |name: &str, text: &str| program(home.join(name), text);
    let link = |name: &str, target: &str| {
        fs::create_dir_all(home.join(name).parent().unwrap()).unwrap();
        symlink(target, home.join(name)).unwrap();
    };
    // By a chain of relative links, by a link among the directories, and in a folder that no table names.
    file(".local/share/agent/versions/2.1", "#!/bin/sh\ntouch \"$(dirname \"$1\")/clone/began\"; exit 0\n");
    link(".local/bin/agent-2", "../share/agent/versions/2.1");
    link(".local/bin/chain", "agent-2");
    file("apps/v2/bin/tool", "#!/bin/sh\n. \"$(dirname \"$(readlink -f \"$0\")\")/../lib/part\"\n");
    file("apps/v2/lib/part", "touch \"$(dirname \"$1\")/clone/began\"\n");
    link("apps/current", "v2");
    link(".local/bin/tool", "../../apps/current/bin/tool");
    link("elsewhere/name", "../.local/bin/tool");
    let path =
        format!("{}:{}:/usr/bin:/bin", home.join(".local/bin").display(), home.join("elsewhere").display());
    for (id, name) in [("w1", "chain"), ("w2", "tool"), ("w3", "name")] {
        profile.config_more(json!({
            "path": path, "worker": "mine", "sandbox": { "worker": "full" },
            "runners": { "scripted": profile.scripted_runner(), "mine": { "worker": [name, "{brief}"] } },
        }));
        profile.looop(&["worker", "start", id, "make it"]).ok();
        let row = profile.wait_exit(id);
        let printed = profile.looop(&["logs", id]).stdout;
        assert_eq!(row["exit"]["code"], 0, "{name}: {row}\n{printed}");
        assert!(profile.worker_file(id, "began").exists(), "{name}: {printed}");
    }
}

#[test]
fn the_parts_of_a_git_directory_that_run_can_only_be_read_in_a_sandbox() {
    let Some(profile) = profile() else { return };
    let place = profile.path("home/project");
    fs::create_dir_all(place.join("nested")).unwrap();
    for repo in [&place, &place.join("nested")] {
        git_in(repo, &["init", "-q"]);
        git_in(repo, &["commit", "-q", "--allow-empty", "-m", "one"]);
    }
    git_in(&place, &["worktree", "add", "-q", "tree"]);
    let before = fs::read_to_string(place.join("tree/.git")).unwrap();
    let lines = [
        "echo x >.git/hooks/post-commit",
        "git config core.fsmonitor ./x",
        "git config -f nested/.git/config core.fsmonitor ./x",
        "echo '* filter=x' >.git/info/attributes",
        "mkdir -p .git/modules/x/hooks",
        "git log --output=.git/hooks/pre-commit",
        "mv .git .other",
        "rm -rf .git/hooks && mkdir .git/hooks",
        "mv .git/config .git/was",
        "mv nested/.git nested/other",
        "echo 'gitdir: /tmp/x' >tree/.git",
        "rm -f tree/.git",
        "echo /tmp/x >.git/worktrees/tree/commondir",
        "echo /tmp/x >.git/worktrees/tree/gitdir",
        "mv .git/worktrees .git/was",
        "mv .git/worktrees/tree .git/worktrees/was",
    ];
    let tried: String =
        lines.iter().map(|line| format!("({line}) 2>/dev/null && echo 'done: {line}'; ")).collect();
    let line = format!(
        "{tried} git -c user.name=n -c user.email=n@example.com commit -q --allow-empty -m two && echo committed; exit 0"
    );
    profile.config_more(json!({ "sandbox": { "worker": "full" } }));
    let cwd = place.to_str().unwrap();
    profile.looop(&["worker", "start", "w1", "--cwd", cwd, "--", "sh", "-c", &line]).ok();
    profile.wait_exit("w1");
    let printed = profile.looop(&["logs", "--raw", "w1"]).ok().stdout;
    assert!(!printed.contains("done: ") && printed.contains("committed"), "{printed}");
    assert_eq!(fs::read_to_string(place.join("tree/.git")).unwrap(), before);
    assert_eq!(git_in(&place, &["log", "--format=%s"]), "two\none\n");
    assert!(!place.join(".git/hooks/post-commit").exists() && !place.join(".git/modules/x").exists());
}

/// What a hostile command leaves in a folder without a repository, and in the git directory of one.
const NEW_GIT: &str = "git init -q sub && git -C sub config core.fsmonitor ./x; mkdir -p new/deep; \
    git init -q --bare new/deep/bare && git -C new/deep/bare config core.fsmonitor ./x; \
    git init -q plain; echo /tmp/x >repo/.git/commondir; echo 'gitdir: /tmp/x' >new/.git; echo made";
/// What is renamed of it.
const RENAMED: [&str; 4] = ["sub/.git/HEAD", "new/deep/bare/HEAD", "repo/.git/commondir", "new/.git"];

/// A folder with a repository in it and a script of these lines, which the decider wants to run and a rule frees.
fn new_git_scene(profile: &Profile, level: &str, lines: &str) -> PathBuf {
    let place = profile.path("home/place");
    fs::create_dir_all(place.join("repo")).unwrap();
    git_in(&place.join("repo"), &["init", "-q"]);
    fs::write(place.join("try.sh"), lines).unwrap();
    let wanted = json!({ "move": "run", "argv": ["sh", "try.sh"], "cwd": place, "why": "w" });
    profile.script(&[&wanted.to_string(), NOOP]);
    profile.config_more(json!({
        "sandbox": { "worker": level, "run": level },
        "policy": { "allow": [{ "argv": ["sh", "try.sh"], "cwd": [place] }] },
    }));
    place
}

#[track_caller]
fn assert_renamed(place: &Path, printed: &str, level: &str) {
    for name in RENAMED {
        let aside = format!("{name}.set-aside");
        let is_there = [name, &aside].map(|name| place.join(name).symlink_metadata().is_ok());
        assert_eq!(is_there, [false, true], "{level}, {name}: {printed}");
        assert!(printed.contains(&aside), "{level}, {name}: {printed}");
    }
    assert!(place.join("plain/.git/config").exists(), "{level}: what runs nothing stays: {printed}");
    git_in(&place.join("repo"), &["status"]);
}

#[test]
fn a_git_directory_that_a_run_made_is_renamed_if_it_can_run_commands() {
    for level in ["full", "partial"] {
        let Some(profile) = profile() else { return };
        let place = new_git_scene(&profile, level, NEW_GIT);
        if level == "full" {
            // A network of the machine makes a sandbox less than full.
            profile.config_more(json!({ "sandbox": { "run": "full", "network": { "run": "off" } } }));
        }
        let ran = profile.looop(&["tick"]).ok();
        let printed = format!("{}{}", ran.stdout, profile.read("journal.md"));
        assert!(printed.contains("exit 0"), "{printed}");
        assert_renamed(&place, &printed, level);
        assert!(profile.looop(&["log", "-n", "1"]).ok().stdout.contains("set-aside"), "{level}");
    }
}

/// looop is killed while the command runs: the beat that settles this renames what the command made.
#[test]
fn a_git_directory_of_a_run_that_was_cut_off_is_renamed_by_the_next_beat() {
    let Some(profile) = profile() else { return };
    let place = new_git_scene(&profile, "auto", &format!("{NEW_GIT}; echo >ready; exec sleep 600"));
    let mut beat = profile.spawn(&["tick"]);
    wait_until("the command to be there", || place.join("ready").exists());
    beat.kill().unwrap();
    beat.wait().unwrap();
    let ran = profile.looop(&["tick"]).ok();
    assert_renamed(&place, &format!("{}{}", ran.stdout, ran.stderr), "killed");
}

#[test]
#[ignore = "slow"]
fn a_git_directory_that_a_worker_made_is_renamed_if_it_can_run_commands() {
    for (level, killed) in [("full", false), ("partial", false), ("full", true)] {
        let Some(profile) = profile() else { return };
        let place = new_git_scene(&profile, level, "");
        let line = if killed { format!("{NEW_GIT}; exec sleep 600") } else { NEW_GIT.to_owned() };
        let cwd = place.to_str().unwrap();
        profile.looop(&["worker", "start", "w1", "--cwd", cwd, "--", "sh", "-c", &line]).ok();
        let row = || profile.looop(&["ls", "--all", "--json"]).ok().json()["workers"][0].clone();
        if killed {
            wait_until("its work", || profile.looop(&["logs", "w1"]).stdout.contains("made"));
            kill("-KILL", profile.worker_pid("w1", "supervisor"));
            wait_until("the worker to be lost", || row()["state"] == "lost");
            profile.script(&[NOOP]);
            profile.looop(&["tick"]).ok();
        } else {
            wait_until("the worker to end", || row()["exit"].is_object());
        }
        let printed = format!("{}{}", row(), profile.read("journal.md"));
        assert_renamed(&place, &printed, &format!("{level}, {killed}"));
        profile.looop(&["ls", "--all"]).ok().prints(&["runs on your side"]);
    }
}

#[test]
fn a_worker_whose_network_could_not_be_made_says_why_and_it_is_tried_again() {
    let Some(profile) = profile() else { return };
    let broken = profile.path("broken");
    let script = format!(
        "#!/bin/sh\n[ -e '{}' ] && {{ echo 'no network today' >&2; exit 1; }}\nexec /usr/bin/pasta \"$@\"\n",
        broken.display()
    );
    profile.stand_in("pasta", &script, "/usr/local/bin:/usr/bin:/bin");
    if worker_level(&profile) != "full" {
        return skipped("pasta does not work here");
    }
    let ended = |id: &str, line: &str| {
        profile.looop(&["worker", "start", id, "--", "sh", "-c", line]).ok();
        profile.wait_exit(id)
    };
    // A program that fails without a word is not taken for it.
    assert_eq!(ended("silent", "exit 1")["why"], "exit code 1");
    fs::write(&broken, "").unwrap();
    assert_eq!(worker_level(&profile), "full", "it worked when it was tried");
    let row = ended("w1", "true");
    let why = row["why"].as_str().unwrap_or_default();
    assert!(
        why.contains("the network of its sandbox could not be made") && why.contains("no network today"),
        "{row}"
    );
    assert!(profile.looop(&["ls", "--all"]).ok().stdout.contains("no network today"));
    assert_eq!(worker_level(&profile), "partial", "it is not taken for granted any more");
    // Nor is its failure.
    fs::remove_file(&broken).unwrap();
    assert_eq!(worker_level(&profile), "full");
}

#[test]
fn the_doctor_says_what_a_model_on_this_machine_needs() {
    let Some(profile) = profile() else { return };
    let hint = "set `runners.mine.base_url`";
    let argv = ["sh", "{brief}"];
    for (runner, network, is_shown) in [
        (json!({ "worker": argv }), "internet", true),
        (json!({ "worker": argv }), "on", false),
        (json!({ "worker": argv, "base_url": "http://127.0.0.1:9" }), "internet", false),
    ] {
        profile.config_more(json!({
            "runners": { "mine": runner, "scripted": profile.scripted_runner() },
            "worker": "mine", "sandbox": { "network": { "worker": network } },
        }));
        let doctor = profile.looop(&["doctor"]).stdout;
        assert_eq!(doctor.contains(hint), is_shown, "{network}: {doctor}");
    }
}
