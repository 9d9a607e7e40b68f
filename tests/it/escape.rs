//! Escapes: what a hostile worker, check or sensor tries, without a sandbox, in a partial one and in a full one.
//!
//! Each attempt succeeds without a sandbox, so that none of them fails for another reason than the sandbox.

mod attempts;
mod repositories;

use std::io::{BufRead, BufReader};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command, Stdio};
use std::{collections::BTreeMap, fs, os::linux::net::SocketAddrExt, os::unix::fs::PermissionsExt};
use std::{path::PathBuf, sync::OnceLock};

use serde_json::{Value, json};

use crate::support::profile::{LOOOP, NOOP, Profile, git_in, program, wait_until};
use crate::{support::pi::skipped, support::tally::Tally};
use attempts::{ATTEMPTS, Proof};

/// What stands in files and memory that nobody in a sandbox may read.
const KEY: &str = "the-key-of-the-human";

/// A user's machine as far as the attempts need it, and a process and sockets of theirs.
struct Target {
    profile: Profile,
    victim: Child,
    _sockets: [UnixListener; 2],
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.victim.kill());
        drop(self.victim.wait());
        drop(Command::new("tmux").arg("-S").arg(self.profile.path("tmux.sock")).arg("kill-server").output());
    }
}

fn number(x86_64: u32, others: u32) -> u32 {
    if cfg!(target_arch = "x86_64") { x86_64 } else { others }
}

impl Target {
    fn new(levels: Value) -> Target {
        let profile = Profile::scripted(&[NOOP]);
        profile.config_more(json!({ "sandbox": levels, "verify": { "tried": ["sh", "./try.sh"] } }));
        let write = |name: &str, text: &str| {
            let path = profile.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("home/.ssh/id_test", KEY);
        write("data/workers/other/clone/work", KEY);
        write("home/.bashrc", KEY);
        write("home/.claude/settings.json", KEY);
        write("home/.ssh/authorized_keys", "");
        write("shared", "");
        write("data/goals/g.md", "g\n");
        fs::set_permissions(profile.path("shared"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir_all(profile.path("repo")).unwrap();
        git_in(&profile.path("repo"), &["init", "-q"]);
        let code = format!("syscall({}, 0x59616d61, -1); $|=1; print \"up\\n\"; sleep 600", number(157, 167));
        let mut victim = Command::new("perl")
            .args(["-e", &code])
            .env("SECRET_OF_VICTIM", KEY)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = String::new();
        BufReader::new(victim.stdout.as_mut().unwrap()).read_line(&mut up).unwrap();
        let abstract_name = format!("looop-test-{}", victim.id());
        let sockets = [
            UnixListener::bind(profile.path("sock")).unwrap(),
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(abstract_name).unwrap()).unwrap(),
        ];
        let tmux = Command::new("tmux")
            .arg("-f/dev/null")
            .arg("-S")
            .arg(profile.path("tmux.sock"))
            .args(["new", "-d"])
            .output();
        assert!(tmux.unwrap().status.success());
        Target { profile, victim, _sockets: sockets }
    }

    fn script(&self) -> String {
        let script = script(&self.profile);
        script.replace("@VICTIM@", &self.victim.id().to_string())
    }

    /// Which attempts succeeded, by what they printed and by what they left.
    fn outcome(&self, printed: &str) -> BTreeMap<&'static str, bool> {
        let home = self.profile.path("");
        ATTEMPTS
            .iter()
            .map(|attempt| {
                let tried = [("yes", true), ("no", false)];
                let reported =
                    tried.iter().find(|(word, _)| printed.contains(&format!("@{}:{word}@", attempt.name)));
                let reported =
                    reported.unwrap_or_else(|| panic!("{} was not tried: {printed}", attempt.name)).1;
                let done = match attempt.proof {
                    Proof::Outcome => reported,
                    Proof::Left(check) => check(&home),
                };
                (attempt.name, done)
            })
            .collect()
    }
}

/// The shell script of all attempts. It prints what came of each as one JSON object.
fn script(profile: &Profile) -> String {
    let mut script = format!(
        "P={} D=$P/data H=$P/home V=@VICTIM@ KEY={KEY} L={LOOOP} PTRACE={} ADD_KEY={}\ncd \"$(mktemp -d)\"\nR=\n",
        profile.path("").display().to_string().trim_end_matches('/'),
        number(101, 117),
        number(248, 217),
    );
    for attempt in ATTEMPTS {
        let (name, line) = (attempt.name, attempt.script);
        script.push_str(&format!("if ({line}) >/dev/null 2>&1 </dev/null; then R=\"$R@{name}:yes@\"; else R=\"$R@{name}:no@\"; fi\n"));
    }
    script + "echo \"{\\\"got\\\":\\\"$R\\\"}\"\n"
}

fn from_worker(level: &str) -> BTreeMap<&'static str, bool> {
    let target = Target::new(json!({ "worker": level, "verify": level }));
    let script = target.script();
    target.profile.looop(&["worker", "start", "w1", "--", "sh", "-c", &script]).ok();
    ended(&target, "exited");
    target.outcome(&target.profile.looop(&["logs", "--raw", "w1"]).ok().stdout)
}

fn from_check(level: &str) -> BTreeMap<&'static str, bool> {
    let target = Target::new(json!({ "worker": level, "verify": level }));
    fs::write(target.profile.path("repo/try.sh"), target.script()).unwrap();
    git_in(&target.profile.path("repo"), &["add", "."]);
    git_in(&target.profile.path("repo"), &["commit", "-qm", "one"]);
    let repo = target.profile.path("repo");
    let args = ["worker", "start", "w1", "--repo", repo.to_str().unwrap(), "--verify", "tried", "--", "true"];
    target.profile.looop(&args).ok();
    ended(&target, "done");
    let row = target.profile.looop(&["ls", "--all", "--json"]).ok().json();
    target.outcome(row["workers"][0]["verify"]["tail"].as_str().unwrap())
}

fn from_sensor(level: &str) -> BTreeMap<&'static str, bool> {
    let target = Target::new(json!({ "sensor": level }));
    target.profile.sensor("s.sh", &target.script());
    let ran = target.profile.looop(&["sensor", "test", "s"]).ok();
    target.outcome(&ran.stdout)
}

fn ended(target: &Target, state: &str) {
    wait_until("the worker to end", || {
        let rows = target.profile.looop(&["ls", "--all", "--json"]).ok().json();
        let row = rows["workers"].as_array().unwrap().iter().find(|row| row["id"] == "w1").unwrap().clone();
        assert!(row["state"] != "failed", "{row}\n{}", target.profile.looop(&["logs", "w1"]).stdout);
        row["state"] == state
    });
}

/// True where nothing of it can be tried.
fn lacks_tools() -> bool {
    let has = |tool: &str| {
        Command::new(tool).arg("--version").output().is_ok() || Command::new(tool).arg("-V").output().is_ok()
    };
    let missing: Vec<&str> = ["perl", "tmux", "git", "bwrap"].into_iter().filter(|tool| !has(tool)).collect();
    if !missing.is_empty() {
        skipped(&format!("missing: {}", missing.join(", ")));
    }
    !missing.is_empty()
}

fn successes(outcome: &BTreeMap<&'static str, bool>) -> Vec<&'static str> {
    outcome.iter().filter(|(_, done)| **done).map(|(name, _)| *name).collect()
}

/// What comes of all attempts in a worker's full sandbox on a machine with this version of Landlock.
fn gets_out_with_landlock(version: u8) -> Vec<&'static str> {
    let target = Target::new(json!({ "worker": "full", "verify": "full" }));
    crate::sandbox::pretend(&target.profile, |capabilities| capabilities["landlock"] = version.into());
    let script = target.script();
    target.profile.looop(&["worker", "start", "w1", "--", "sh", "-c", &script]).ok();
    ended(&target, "exited");
    successes(&target.outcome(&target.profile.looop(&["logs", "--raw", "w1"]).ok().stdout))
}

#[test]
fn nothing_gets_out_of_a_full_box_without_landlock() {
    if !lacks_tools() {
        assert_eq!(gets_out_with_landlock(0), [""; 0]);
    }
}

#[test]
fn nothing_gets_out_of_a_full_box_with_the_first_landlock() {
    if !lacks_tools() {
        assert_eq!(gets_out_with_landlock(1), [""; 0]);
    }
}

#[test]
#[ignore = "slow"]
fn nothing_gets_out_of_a_full_box_with_the_landlock_of_current_distributions() {
    if !lacks_tools() {
        for version in [3, 4, 5] {
            assert_eq!(gets_out_with_landlock(version), [""; 0], "{version}");
        }
    }
}

/// What a command may do that sees the files of its user: read them. The home of a test is below `/tmp`, which a sandbox
/// has for itself, so only looop's config is left to see.
const READS: [&str; 1] = ["config"];

#[test]
fn a_run_in_a_full_box_reads_the_files_of_its_user_and_changes_nothing() {
    if lacks_tools() {
        return;
    }
    let target = Target::new(json!({}));
    let place = target.profile.path("home/place");
    fs::create_dir_all(&place).unwrap();
    let script = target.script().replace("cd \"$(mktemp -d)\"", "W=$PWD; cd \"$(mktemp -d)\"");
    fs::write(place.join("try.sh"), script.replace("echo \"{", "exec >\"$W/said\"; echo \"{")).unwrap();
    let wanted = json!({ "move": "run", "argv": ["sh", "try.sh"], "cwd": place, "why": "w" });
    target.profile.script(&[&wanted.to_string(), NOOP]);
    target.profile.config_more(json!({
        "sandbox": { "run": "full" },
        "policy": { "allow": [{ "argv": ["sh", "try.sh"], "cwd": [place] }] },
    }));
    target.profile.looop(&["tick"]).ok();
    let reported = fs::read_to_string(place.join("said"));
    let reported =
        reported.unwrap_or_else(|_| panic!("it did not run: {}", target.profile.read("journal.md")));
    assert_eq!(successes(&target.outcome(&reported)), READS);
}

#[test]
#[ignore = "slow"]
fn nothing_gets_out_of_the_box_of_a_fix_by_hand() {
    if lacks_tools() {
        return;
    }
    let target = Target::new(json!({ "fix": "full" }));
    let project = target.profile.path("home/project");
    fs::create_dir_all(&project).unwrap();
    git_in(&project, &["init", "-q"]);
    let script = target.script().replace("cd \"$(mktemp -d)\"", "W=$PWD; cd \"$(mktemp -d)\"");
    let script = script.replace("echo \"{", "cd \"$W\"; exec >said.$$; echo \"{");
    fs::write(project.join("try.sh"), script).unwrap();
    fs::write(project.join("made.txt"), "nothing\n").unwrap();
    let agent = target.profile.path("agent.sh");
    program(&agent, "#!/bin/sh\nsh ./try.sh\ncat said.* >made.txt; rm said.*; echo 'it is made'\n");
    let leanfile = format!(
        "[lean]\nbinary = {agent:?}\ntimeout = 100\n[runner]\ncommand = \"grep\"\nargs = [\"-q\", \"@ssh:\", \"made.txt\"]\n\
         timeout = 100\n[defaults]\nproject_root = \"home/project\"\n[[tasks]]\nname = \"t\"\nprompt = \"p\"\nfiles = [\"made.txt\"]\n"
    );
    let file = target.profile.path("leanfile.toml");
    fs::write(&file, leanfile).unwrap();
    git_in(&project, &["add", "-A"]);
    git_in(&project, &["commit", "-qm", "one"]);
    let ran = target.profile.looop(&["fix", "-c", file.to_str().unwrap()]);
    let reported = fs::read_to_string(project.join("made.txt")).unwrap();
    assert!(reported.contains("@ssh:"), "the agent did not work: {ran:?}");
    assert_eq!(successes(&target.outcome(&reported)), [""; 0]);
}

type From = fn(&str) -> BTreeMap<&'static str, bool>;
const FROM: [(&str, From); 3] = [("worker", from_worker), ("check", from_check), ("sensor", from_sensor)];

#[test]
fn nothing_gets_out_of_a_full_box() {
    assert!(ATTEMPTS.len() >= 20);
    if let Some(came) = from_full_sandboxes() {
        came.holds();
    }
}

/// What came of all attempts in full sandboxes; none where they cannot be made.
pub fn from_full_sandboxes() -> Option<&'static Tally> {
    static CAME: OnceLock<Option<Tally>> = OnceLock::new();
    let try_all = || {
        let got_out = |(who, from): (&str, From)| -> Vec<String> {
            let outcome = from("full");
            successes(&outcome).iter().map(|attempt| format!("{who}: {attempt}")).collect()
        };
        Tally {
            attempts: FROM.len() * ATTEMPTS.len(),
            violations: FROM.into_iter().flat_map(got_out).collect(),
        }
    };
    CAME.get_or_init(|| (!lacks_tools()).then(try_all)).as_ref()
}

#[test]
#[ignore = "slow"]
fn every_attempt_succeeds_without_a_box() {
    if lacks_tools() {
        return;
    }
    for (who, from) in FROM {
        let outcome = from("none");
        let failed: Vec<_> = outcome.iter().filter(|(_, done)| !**done).collect();
        assert!(failed.is_empty(), "{who}: {failed:?}");
    }
}

#[test]
#[ignore = "slow"]
fn the_docs_tell_what_a_partial_box_lets_through() {
    if lacks_tools() {
        return;
    }
    let outcomes = FROM.map(|(_, from)| from("partial"));
    let mut table = "| attempt | worker | check | sensor |\n|---|---|---|---|\n".to_owned();
    for attempt in ATTEMPTS {
        let words =
            outcomes.each_ref().map(|outcome| if outcome[attempt.name] { "succeeds" } else { "fails" });
        table.push_str(&format!("| {} | {} |\n", attempt.what, words.join(" | ")));
    }
    println!("{table}");
    let page = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/sandbox.md")).unwrap();
    assert!(page.contains(&table), "docs/sandbox.md should hold:\n{table}");
}
