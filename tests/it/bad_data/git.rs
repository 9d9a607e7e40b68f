//! A repository that is locked, detached, in the middle of a merge, armed with hooks, or gone: beats go on.

use super::NOOP;
use crate::support::profile::{Profile, Ran, program, wait_until};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// A move that writes a goal.
fn write(id: &str) -> String {
    format!(r#"{{"move":"write_goal","id":"{id}","body":"text of {id}","why":"x"}}"#)
}

fn beats(profile: &Profile) -> Vec<String> {
    let log = profile.looop(&["log", "--json", "-n", "100"]).ok().json();
    log["lines"].as_array().unwrap().iter().map(|beat| beat["beat"].as_str().unwrap().to_owned()).collect()
}

/// Checks that two beats work while commits are blocked, that they say why, and that the first beat after the
/// repair commits all of it.
#[track_caller]
fn catches_up(block: fn(&Profile), warning: &str, hint: &str, mend: fn(&Profile)) {
    let profile = Profile::scripted(&[&write("a"), &write("b"), &write("c"), &write("d"), NOOP]);
    profile.looop(&["tick"]).ok();
    block(&profile);
    let head = fs::read_to_string(profile.data().join(".git/HEAD"));
    for id in ["b", "c"] {
        let ran = profile.looop(&["tick"]).ok().prints(&[&format!("write_goal {id} — done")]);
        assert_eq!(ran.stderr.matches(warning).count(), 1, "said once a beat: {ran:?}");
        assert!(ran.stderr.contains("warning: ") && ran.stderr.contains(hint), "{ran:?}");
        assert_eq!(profile.read(&format!("goals/{id}.md")), format!("text of {id}\n"));
    }
    profile.looop(&["doctor"]).exits(1).prints(&["BAD  history: ", "fix: "]);
    assert_eq!(fs::read_to_string(profile.data().join(".git/HEAD")).ok(), head.ok(), "HEAD is where it was");
    mend(&profile);
    let ran: Ran = profile.looop(&["tick"]).ok();
    assert!(ran.stderr.is_empty(), "{ran:?}");
    let all = beats(&profile);
    assert_eq!(all.len(), 4);
    let log = profile.git(&["log", "--format=%B"]);
    for beat in &all {
        assert!(log.contains(&format!("\nBeat: {beat}\n")), "{beat}: {log}");
    }
    assert!(log.contains(&format!("(beat {})", all[1])), "the older one is named in the body: {log}");
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
    profile.git(&["fsck", "--strict"]);
    for id in ["a", "b", "c", "d"] {
        assert_eq!(profile.git(&["show", &format!("HEAD:goals/{id}.md")]), format!("text of {id}\n"));
    }
    // The beat that caught up has a world of its own.
    let rebuilt = profile.looop(&["log", &all[3], "--prompt"]).ok().stdout;
    assert_eq!(rebuilt, profile.read(&format!("runs/{}/prompt.md", all[3])));
    profile.looop(&["log", &all[1], "--prompt"]).exits(1).warns(&["git has no commit of it"]);
}

#[test]
fn a_stale_index_lock_delays_commits_and_nothing_else() {
    catches_up(
        |profile| fs::write(profile.data().join(".git/index.lock"), "").unwrap(),
        "index.lock exists",
        "if no git command is running in the data dir, run `rm ",
        |profile| fs::remove_file(profile.data().join(".git/index.lock")).unwrap(),
    );
}

#[test]
fn a_detached_head_delays_commits_and_nothing_else() {
    catches_up(
        |profile| drop(profile.git(&["checkout", "-q", "--detach"])),
        "is on no branch",
        "switch main`",
        |profile| drop(profile.git(&["switch", "-q", "main"])),
    );
}

#[test]
fn a_merge_in_progress_delays_commits_and_loses_nothing() {
    catches_up(
        |profile| {
            profile.git(&["switch", "-qc", "other"]);
            fs::write(profile.data().join("goals/other.md"), "x\n").unwrap();
            profile.git(&["add", "goals/other.md"]);
            profile.git(&["commit", "-qm", "other"]);
            profile.git(&["switch", "-q", "main"]);
            profile.git(&["merge", "-q", "--no-commit", "--no-ff", "other"]);
        },
        "a git merge is in progress",
        "merge --abort`",
        |profile| drop(profile.git(&["merge", "--abort"])),
    );
}

#[test]
#[ignore = "slow"]
fn a_git_dir_that_is_missing_or_not_a_directory_is_not_followed() {
    catches_up(
        |profile| {
            fs::rename(profile.data().join(".git"), profile.path("kept")).unwrap();
            let text = format!("gitdir: {}\n", profile.path("kept").display());
            fs::write(profile.data().join(".git"), text).unwrap();
        },
        ".git is not a plain directory",
        "could not open the git history",
        |profile| {
            fs::remove_file(profile.data().join(".git")).unwrap();
            fs::rename(profile.path("kept"), profile.data().join(".git")).unwrap();
        },
    );
    catches_up(
        |profile| fs::rename(profile.data().join(".git"), profile.path("kept")).unwrap(),
        "No such file or directory",
        "could not open the git history",
        |profile| fs::rename(profile.path("kept"), profile.data().join(".git")).unwrap(),
    );
}

#[test]
fn init_recreates_a_deleted_repository() {
    let profile = Profile::scripted(&[&write("a"), &write("b"), NOOP]);
    profile.looop(&["tick"]).ok();
    fs::remove_dir_all(profile.data().join(".git")).unwrap();
    assert!(profile.looop(&["tick"]).ok().stderr.contains("could not open the git history"));
    profile.looop(&["init"]).ok();
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stderr.is_empty(), "{ran:?}");
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
    assert_eq!(profile.git(&["show", "HEAD:goals/a.md"]), "text of a\n");
}

/// Makes a program that leaves a mark when it is run.
fn trap(profile: &Profile, path: &Path) {
    program(path, format!("#!/bin/sh\necho $0 >> {}\nexit 0\n", profile.path("sprung").display()));
}

#[test]
fn nothing_that_a_git_config_names_is_ever_run() {
    let mut profile = Profile::scripted(&[&write("a"), &write("b"), NOOP]);
    let hooks = [
        "applypatch-msg",
        "pre-commit",
        "prepare-commit-msg",
        "commit-msg",
        "post-commit",
        "pre-auto-gc",
        "reference-transaction",
        "post-index-change",
        "fsmonitor-watchman",
        "post-checkout",
        "post-rewrite",
    ];
    let trapped = profile.path("trapped");
    for hook in hooks {
        trap(&profile, &profile.data().join(".git/hooks").join(hook));
        trap(&profile, &profile.path("hooks").join(hook));
    }
    trap(&profile, &trapped);
    let config = format!(
        "[core]\n hooksPath = {1}\n fsmonitor = {0}\n editor = {0}\n pager = {0}\n sshCommand = {0}\n askPass = {0}\n\
         [commit]\n gpgSign = true\n[tag]\n gpgSign = true\n[gpg]\n program = {0}\n[credential]\n helper = {0}\n\
         [filter \"evil\"]\n clean = {0}\n smudge = {0}\n process = {0}\n required = true\n\
         [diff]\n external = {0}\n[diff \"evil\"]\n textconv = {0}\n command = {0}\n[gc]\n recentObjectsHook = {0}\n\
         [user]\n name = mallory\n email = m@x\n",
        trapped.display(),
        profile.path("hooks").display()
    );
    fs::write(profile.path("home/.gitconfig"), &config).unwrap();
    let own = fs::read_to_string(profile.data().join(".git/config")).unwrap();
    fs::write(profile.data().join(".git/config"), own + &config).unwrap();
    fs::write(profile.data().join(".gitattributes"), "* filter=evil diff=evil\n").unwrap();
    for key in ["GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_ASKPASS"] {
        profile.var(key, trapped.to_str().unwrap());
    }
    profile.var("GIT_AUTHOR_NAME", "mallory");
    profile.goal("h", "---\ngoal: a human's\n---\n");
    for _ in 0..3 {
        let ran = profile.looop(&["tick"]).ok();
        assert!(ran.stderr.is_empty(), "{ran:?}");
    }
    for args in [&["status"][..], &["doctor"], &["why"], &["log"]] {
        profile.looop(args);
    }
    assert!(!profile.path("sprung").exists(), "{}", fs::read_to_string(profile.path("sprung")).unwrap());
    fs::remove_file(profile.path("home/.gitconfig")).unwrap();
    fs::write(profile.data().join(".git/config"), "[core]\n repositoryformatversion = 0\n bare = false\n")
        .unwrap();
    fs::remove_dir_all(profile.data().join(".git/hooks")).unwrap();
    let log = profile.git(&["log", "--format=%an %s"]);
    assert!(log.contains("looop move: write_goal b") && log.contains("ada human: "), "{log}");
    assert!(!log.contains("mallory"), "{log}");
    assert_eq!(profile.git(&["show", "HEAD:goals/a.md"]), "text of a\n", "no filter changed what is stored");
}

#[test]
#[ignore = "slow"]
fn a_newest_commit_that_a_power_loss_left_empty_is_given_up_with_a_word() {
    for what in ["HEAD", "HEAD^{tree}", "refs/heads/main"] {
        let profile = Profile::scripted(&[NOOP]);
        profile.looop(&["tick"]).ok();
        let id = profile.git(&["rev-parse", what]).trim().to_owned();
        let path = match what {
            "refs/heads/main" => profile.data().join(".git").join(what),
            _ => profile.data().join(".git/objects").join(&id[..2]).join(&id[2..]),
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "").unwrap();
        let doctor = profile.looop(&["doctor"]);
        assert!(doctor.stdout.contains("BAD  history: could not read "), "{what}: {doctor:?}");
        profile.goal("wake", "up\n");
        let ran = profile.looop(&["tick"]).ok();
        assert!(ran.stderr.contains("the newest commit was unreadable and is dropped"), "{what}: {ran:?}");
        assert!(profile.git(&["log", "--format=%an %s"]).contains("ada human: edit goals/wake.md"), "{what}");
        assert_eq!(profile.git(&["fsck", "--no-dangling", "--no-progress"]), "", "{what}");
        assert_eq!(profile.git(&["status", "--porcelain"]), "", "{what}");
        assert!(!profile.looop(&["doctor"]).stdout.contains("BAD  history"), "{what}");
    }
}

/// A person's git command in the data dir that waits in its editor until it is told to go on.
struct WaitingGit {
    child: std::process::Child,
    go: std::path::PathBuf,
}

impl WaitingGit {
    fn begin(profile: &Profile, args: &[&str]) -> WaitingGit {
        let (here, go) = (profile.path("here"), profile.path("go"));
        let editor = profile.path("editor");
        let wait = format!(
            "#!/bin/sh\n[ -z \"$1\" ] || echo by hand >\"$1\"\n: >{}\nwhile [ ! -e {} ]; do sleep 0.02; done\n",
            here.display(),
            go.display()
        );
        program(&editor, &wait);
        if args.contains(&"-m") {
            // No editor is needed, so a hook is what takes long.
            let hooks = profile.data().join(".git/hooks");
            fs::create_dir_all(&hooks).unwrap();
            fs::copy(&editor, hooks.join("pre-commit")).unwrap();
        }
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=ada", "-c", "user.email=a@localhost"]).args(args);
        command.current_dir(profile.data()).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.env("HOME", "/nonexistent").env("GIT_EDITOR", editor);
        let child = command.spawn().unwrap();
        wait_until("the editor", || here.exists());
        WaitingGit { child, go }
    }

    fn ends_well(mut self) -> bool {
        fs::write(&self.go, "").unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for WaitingGit {
    fn drop(&mut self) {
        drop(fs::write(&self.go, ""));
        drop(self.child.wait());
    }
}

#[test]
#[ignore = "slow"]
fn a_commit_that_waits_in_a_persons_editor_or_hook_during_a_beat_succeeds() {
    for args in [
        &["commit"][..],
        &["commit", "-a"],
        &["-c", "alias.ci=commit", "ci", "-a"],
        &["commit", "--amend"],
        &["commit", "-qm", "by hand", "-m", "more"],
    ] {
        let profile = Profile::scripted(&[&write("a"), &write("b"), NOOP]);
        profile.looop(&["tick"]).ok();
        fs::write(profile.data().join("PLAYBOOK.md"), "of a person\n").unwrap();
        profile.git(&["add", "PLAYBOOK.md"]);
        let waiting = WaitingGit::begin(&profile, args);
        let lock = profile.data().join(".git/index.lock");
        if lock.exists() {
            // The editor has been open for more than a minute.
            let held = fs::File::options().write(true).open(&lock).unwrap();
            let old = held.metadata().unwrap().modified().unwrap() - std::time::Duration::from_secs(90);
            held.set_modified(old).unwrap();
            drop(held);
            profile.looop(&["status"]).ok().prints(&["`.git/index.lock` keeps commits waiting: `git "]);
        }
        profile.looop(&["tick"]).ok().prints(&["write_goal b — done"]).warns(&["could not commit: "]);
        assert!(waiting.ends_well(), "{args:?}");
        assert_eq!(profile.git(&["log", "-1", "--format=%s"]), "by hand\n");
        profile.looop(&["tick"]).ok();
        assert_eq!(profile.git(&["status", "--porcelain"]), "", "{args:?}");
        assert!(profile.git(&["log", "--format=%s"]).contains("move: write_goal b"));
    }
}

#[test]
#[ignore = "slow"]
fn a_lock_that_another_program_holds_is_named_by_status_and_doctor() {
    for name in ["index.lock", "packed-refs.lock", "refs/heads/main.lock"] {
        let profile = Profile::scripted(&[&write("a"), NOOP]);
        profile.looop(&["tick"]).ok();
        let lock = profile.data().join(".git").join(name);
        let held = fs::File::create(&lock).unwrap();
        let held_by = format!("process {} has it open", std::process::id());
        for verb in ["status", "doctor"] {
            let ran = profile.looop(&[verb]);
            assert!(ran.stdout.contains(name) && ran.stdout.contains(&held_by), "{verb}: {ran:?}");
        }
        let json = profile.looop(&["status", "--json"]).ok().json();
        assert!(json["findings"].to_string().contains(name), "{json}");
        drop(held);
        fs::remove_file(lock).unwrap();
        assert!(
            profile.looop(&["doctor"]).stdout.contains("commits work: a test commit was made and removed")
        );
        assert_eq!(profile.git(&["status", "--porcelain"]), "");
    }
}

/// What git holds, by the first part of each path, in all commits.
fn in_git(profile: &Profile) -> std::collections::BTreeSet<String> {
    let all = profile.git(&["log", "--all", "--format=", "--name-only"]);
    let tops =
        all.lines().filter(|line| !line.is_empty()).map(|line| line.split('/').next().unwrap().to_owned());
    tops.collect()
}

#[test]
#[ignore = "slow"]
fn what_is_private_stays_out_of_git_whatever_the_ignore_file_says() {
    let hostile = "!*\n!/cost/\n!/workers/\n!*.lock\n";
    for ignore in [None, Some(""), Some("mine\n"), Some(hostile)] {
        let profile = Profile::scripted(&[&write("a"), &write("b"), NOOP]);
        profile.looop(&["tick"]).ok();
        let path = profile.data().join(".gitignore");
        match ignore {
            Some(text) => fs::write(path, text).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        for private in [
            "workers/past/w/transcript.raw",
            "workers/past/w/spec.json",
            "runs/x/prompt.md",
            "cost/2026-01.jsonl",
            "fix/x/state.json",
            "claims/x.json",
            "events.jsonl.1",
            "goals/x.md.lock",
            "goals/.x.md.tmp",
            "goals/x.md.corrupt-1",
            "beat.json.corrupt-1",
            "of-another-program.txt",
            "goals/.env",
            "goals/drafts/a.md",
            "sensors/key.pem",
            "sensors/lib/key",
            "snapshots/stray",
            "schedules/id_rsa",
            "asks/notes.txt",
            "reports/loose.txt",
        ] {
            let path = profile.data().join(private);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        profile.looop(&["tick"]).ok();
        profile.looop(&["run", "a"]).ok();
        let kept = in_git(&profile);
        let known = looop::store::layout::TRACKED;
        assert!(kept.iter().all(|top| known.contains(&top.as_str())), "{ignore:?}: {kept:?}");
        assert!(kept.contains("world.json") && kept.contains("goals"), "{kept:?}");
        let files = profile.git(&["ls-files"]);
        assert!(!files.contains(".lock") && !files.contains("corrupt") && !files.contains(".tmp"), "{files}");
        for orphan in
            [".env", "drafts", "sensors/key", "sensors/lib", "stray", "id_rsa", "notes.txt", "loose.txt"]
        {
            assert!(!files.contains(orphan), "{ignore:?}: {orphan}: {files}");
        }
    }
}

#[test]
fn a_sensor_is_in_git_while_it_can_be_run_and_git_follows_what_it_has() {
    let profile = Profile::scripted(&[&write("a"), NOOP]);
    profile.sensor("mail.py", "echo '{\"n\":1}'");
    profile.looop(&["tick"]).ok();
    assert!(profile.git(&["ls-files"]).contains("sensors/mail.py"));
    // A person switches it off, and git is told.
    let path = profile.data().join("sensors/mail.py");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    profile.looop(&["run", "a"]).ok();
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
    fs::remove_file(&path).unwrap();
    profile.looop(&["run", "a"]).ok();
    assert!(!profile.git(&["ls-files"]).contains("mail.py"));
}

#[test]
fn the_ignore_file_takes_away_from_what_git_holds() {
    let profile = Profile::scripted(&[&write("a"), NOOP]);
    fs::write(profile.data().join(".gitignore"), "/reports/\n/goals/diary.md\n/snapshots/\n").unwrap();
    profile.goal("diary", "private\n");
    fs::create_dir_all(profile.data().join("reports/w")).unwrap();
    fs::write(profile.data().join("reports/w/x.md"), "private\n").unwrap();
    profile.sensor("one.sh", "echo '{\"n\":1}'");
    profile.looop(&["tick"]).ok();
    profile.looop(&["run", "a"]).ok();
    let kept = in_git(&profile);
    assert!(!kept.contains("reports") && !kept.contains("snapshots"), "{kept:?}");
    let files = profile.git(&["ls-files"]);
    assert!(files.contains("goals/a.md") && !files.contains("diary"), "{files}");
}

#[test]
fn doctor_names_private_files_that_git_holds_and_how_to_take_them_out() {
    let profile = Profile::scripted(&[&write("a"), NOOP]);
    profile.looop(&["tick"]).ok();
    assert!(!profile.looop(&["doctor"]).stdout.contains("private files"));
    profile.git(&["add", "-f", "cost", "runs", "beat.json"]);
    profile.git(&["commit", "-qm", "all of it"]);
    let ran = profile
        .looop(&["doctor"])
        .exits(1)
        .prints(&["BAD  private files: git holds private files: `beat.json` and"]);
    let fix = ran.stdout.lines().find_map(|line| line.trim().strip_prefix("fix: git -C ")).unwrap();
    let line = format!("git -C {fix}");
    let mut shell = profile.other_command("sh", &["-c", &line]);
    for key in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
        shell.env(key, "ada@localhost");
    }
    assert!(shell.status().unwrap().success(), "{line}");
    assert!(!profile.looop(&["doctor"]).stdout.contains("private files"));
    assert!(profile.data().join("beat.json").exists());
    assert_eq!(profile.git(&["status", "--porcelain"]), "");
}
