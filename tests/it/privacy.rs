//! The memory of looop: no other process of the user reads it, and what looop itself must know of its processes is still
//! known. A plain user runs these, because an administrator may read everything.

use std::process::{Child, Command, Stdio};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::{Value, json};

use crate::support::profile::{NOOP, Profile, Ran, wait_until};
use crate::{install::released, support::pi::skipped, support::rows::kill};

const NOBODY: &str = "65534";
const SECRET: &str = "sk-0123456789abcdef0123456789";

/// A profile of a plain user, with a copy of the program that this user can start.
struct Plain {
    profile: Profile,
    program: PathBuf,
    drops: bool,
}

/// None where no other user can be had.
fn plain() -> Option<Plain> {
    let drops = rustix::process::geteuid().is_root();
    let dropped = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "true"];
    if drops && !Command::new("setpriv").args(dropped).status().is_ok_and(|status| status.success()) {
        skipped("there is no other user to become");
        return None;
    }
    let mut profile = Profile::empty();
    profile.var("LOOOP_DEBUGGABLE", "");
    profile.var("ANTHROPIC_API_KEY", SECRET);
    let program = profile.path("bin/looop");
    fs::create_dir(profile.path("bin")).unwrap();
    let released = fs::read_dir(released()).unwrap().map(|entry| entry.unwrap().path());
    let binary =
        released.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("looop-"));
    fs::copy(binary.unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    profile.without_sandbox(&["sensor", "decide", "worker", "run"]);
    profile.config(json!({
        "decide": "mine", "runners": { "mine": { "decide": ["echo", NOOP] } },
    }));
    let plain = Plain { profile, program, drops };
    plain.give();
    plain.looop(&["init"]).ok();
    for name in ["goals/setup.md", "goals/playbook-daily.md", "sensors/today.sh"] {
        fs::remove_file(plain.profile.data().join(name)).unwrap();
    }
    Some(plain)
}

impl Plain {
    /// Gives all files to the plain user.
    fn give(&self) {
        if self.drops {
            let owner = format!("{NOBODY}:{NOBODY}");
            let given = Command::new("chown").args(["-R", &owner]).arg(self.profile.path("")).status();
            assert!(given.unwrap().success());
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let program = self.program.to_str().unwrap();
        if !self.drops {
            return self.profile.other_command(program, args);
        }
        let user = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", program];
        self.profile.other_command("setpriv", &[&user, args].concat())
    }

    fn looop(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn row(&self, id: &str) -> Value {
        let all = self.looop(&["ls", "--json"]).ok().json();
        all["workers"].as_array().unwrap().iter().find(|row| row["id"] == id).cloned().unwrap_or_default()
    }
}

/// Tries to read each process of looop that this one descends from, and prints JSON: which were seen, what could be
/// opened, and what a verb for people answered.
fn spy(plain: &Plain) -> String {
    format!(
        r#"pid=$PPID; seen=; open=
while [ "$pid" -gt 1 ]; do
  # One that looop started itself was found by `/proc/self/exe`.
  case $(cat /proc/$pid/comm) in looop | exe)
    seen="$seen x"
    for file in environ mem maps auxv; do (exec 3</proc/$pid/$file) 2>/dev/null && open="$open $file"; done
    ls /proc/$pid/fd >/dev/null 2>&1 && open="$open fd"
    grep -qs {SECRET} /proc/$pid/environ && open="$open SECRET" ;;
  esac
  pid=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$pid/status)
done
answer=$(HOME={home} LOOOP_CONFIG={config} LOOOP_DATA_DIR={data} {looop} pause 2>&1 | grep -c 'this is for the user')
echo "{{\"seen\":\"$seen\",\"open\":\"$open\",\"human\":\"$answer\"}}""#,
        home = plain.profile.path("home").display(),
        config = plain.profile.config_file().display(),
        data = plain.profile.data().display(),
        looop = plain.program.display(),
    )
}

#[test]
fn no_child_reads_the_memory_of_a_beat_the_pulse_or_a_supervisor() {
    let Some(plain) = plain() else { return };
    let spied = |seen: &str| json!({ "seen": seen, "open": "", "human": "1" });
    let log = plain.profile.path("home/log");
    plain.profile.sensor("s.sh", &format!("{{ {} ; }} >>{}\necho '{{}}'", spy(&plain), log.display()));
    let line = |nth: usize| -> Value {
        wait_until("the sensor", || fs::read_to_string(&log).is_ok_and(|text| text.lines().count() > nth));
        serde_json::from_str(fs::read_to_string(&log).unwrap().lines().nth(nth).unwrap()).unwrap()
    };
    plain.give();
    plain.looop(&["tick"]).ok();
    assert_eq!(line(0), spied(" x"), "a beat");
    let mut pulse = plain.spawn(&[]);
    assert_eq!(line(1), spied(" x x"), "a beat and its pulse");
    kill("-TERM", pulse.id());
    pulse.wait().unwrap();
    let out = plain.profile.path("home/spied");
    let line = format!("{{ {} ; }} >{}", spy(&plain), out.display());
    plain.looop(&["worker", "start", "w1", "--", "sh", "-c", &line]).ok();
    wait_until("the worker's end", || plain.row("w1")["state"] == "exited");
    let text = fs::read_to_string(out).unwrap();
    let seen: Value = serde_json::from_str(&text).unwrap();
    let found = (&seen["open"], &seen["human"]);
    assert_eq!(found, (&json!(""), &json!("1")), "a supervisor, and perhaps its starter");
    assert!(seen["seen"].as_str().unwrap().starts_with(" x"), "{seen}");
}

#[test]
fn closed_processes_are_still_known_to_each_other() {
    let Some(plain) = plain() else { return };
    plain.profile.goal("g", "goal: g\n");
    plain.give();
    let waits =
        ["worker", "start", "w1", "--goal", "g", "--", "sh", "-c", "trap '' HUP; exec env -i sleep 600"];
    plain.looop(&waits).ok();
    // Its lease counts, and so does the lock of a beat.
    plain.looop(&["worker", "start", "w2", "--goal", "g", "--", "true"]).exits(1).warns(&["w1"]);
    // A supervisor is asked, stopped, recognised as such, and killed; then what it left is found and ended.
    plain.looop(&["flag", "w1", "look"]).ok();
    let state = plain.profile.read_json("workers/w1/state.json");
    let (pid, child) = (state["supervisor"]["pid"].to_string(), state["child"]["pid"].as_u64().unwrap());
    let send = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    send("-STOP");
    wait_until("it is stopped", || plain.row("w1")["state"] == "suspended");
    send("-KILL");
    wait_until("it is lost", || plain.row("w1")["state"] == "lost");
    assert!(looop::os::process::tree::start_of(child as u32).is_some());
    plain.looop(&["tick"]).ok();
    assert!(looop::os::process::tree::start_of(child as u32).is_none(), "its program was ended");
}
