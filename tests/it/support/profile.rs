//! One isolated profile: a home, a config, a data dir, and the real program run in it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

/// The program under test.
pub const LOOOP: &str = env!("CARGO_BIN_EXE_looop");
/// The move of a decider that finds nothing to do.
pub const NOOP: &str = r#"{"move":"noop","why":"nothing to do"}"#;

/// A home, a config and a data dir in a temporary directory that goes away with it.
pub struct Profile {
    dir: tempfile::TempDir,
    vars: Vec<(String, String)>,
    /// Kinds of children that run without a sandbox here.
    without_sandbox: Mutex<BTreeSet<&'static str>>,
}

/// What a run of the program printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The words behind the program's name, where it is looop.
    call: String,
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said besides.
    pub stderr: String,
}

impl Ran {
    /// The same, after a check that it exited 0.
    #[track_caller]
    pub fn ok(self) -> Ran {
        self.exits(0)
    }

    /// The same, after a check that it ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        let Ran { call, stdout, stderr, .. } = &self;
        assert_eq!(self.code, code, "looop {call}\nstdout: {stdout}\nstderr: {stderr}");
        self
    }

    /// The same, after a check that each of these texts is on its stdout.
    #[track_caller]
    pub fn prints(self, parts: &[&str]) -> Ran {
        parts
            .iter()
            .for_each(|part| assert!(self.stdout.contains(part), "no {part:?} on stdout of {self:?}"));
        self
    }

    /// The same, after a check that each of these texts is on its stderr.
    #[track_caller]
    pub fn warns(self, parts: &[&str]) -> Ran {
        parts
            .iter()
            .for_each(|part| assert!(self.stderr.contains(part), "no {part:?} on stderr of {self:?}"));
        self
    }

    /// The same, after a check that it exited 0 and that its stdout has each of these parts.
    #[track_caller]
    pub fn shows(self, parts: &[&str]) -> Ran {
        self.ok().prints(parts)
    }

    /// The same, after a check that it exited with this code and that its stderr has each of these parts.
    #[track_caller]
    pub fn fails_with(self, code: i32, parts: &[&str]) -> Ran {
        self.exits(code).warns(parts)
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout, self.stderr))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            call: String::new(),
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Drop for Profile {
    /// No worker outlives its test.
    fn drop(&mut self) {
        self.end_workers();
    }
}

impl Profile {
    /// Kills all workers with their supervisors, whatever they do.
    pub fn end_workers(&self) {
        let Ok(entries) = fs::read_dir(self.data().join("workers")) else { return };
        for entry in entries.flatten() {
            let state = fs::read_to_string(entry.path().join("state.json")).unwrap_or_default();
            let Ok(state) = serde_json::from_str::<Value>(&state) else { continue };
            for which in ["supervisor", "child"] {
                let (pid, start) = (state[which]["pid"].as_u64(), state[which]["start"].as_u64());
                if let (Some(pid), Some(start)) = (pid, start) {
                    looop::os::process::tree::signal(pid as u32, start, true);
                }
            }
        }
    }

    /// A profile with nothing in it but an empty home.
    pub fn empty() -> Profile {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        Profile { dir, vars: Vec::new(), without_sandbox: Mutex::default() }
    }

    /// A home with nothing in it, where no variable names a data dir or a config.
    pub fn home_only() -> Profile {
        let mut profile = Profile::empty();
        profile.var("LOOOP_DATA_DIR", "");
        profile.var("LOOOP_CONFIG", "");
        profile
    }

    /// A set-up profile without the seeded goals and sensors, whose runner answers with these lines, the last
    /// one again and again.
    pub fn scripted(replies: &[&str]) -> Profile {
        let profile = Profile::empty();
        profile.script(replies);
        profile.set_up();
        for seeded in ["goals/setup.md", "goals/playbook-daily.md", "sensors/today.sh"] {
            fs::remove_file(profile.data().join(seeded)).unwrap();
        }
        profile
    }

    /// Gives the profile the data dir that `looop init` makes.
    pub fn set_up(&self) {
        let data = self.vars.iter().find(|(key, _)| key == "LOOOP_DATA_DIR");
        let data = data.map_or_else(|| self.data(), |(_, path)| PathBuf::from(path));
        let copied = Command::new("cp").arg("-a").arg(template()).arg(data).status().unwrap();
        assert!(copied.success());
    }

    /// Makes a scripted runner the decider and gives it these lines to answer with.
    pub fn script(&self, replies: &[&str]) {
        fs::create_dir_all(self.path("script")).unwrap();
        fs::write(self.path("script/replies.jsonl"), replies.join("\n") + "\n").unwrap();
        self.config(json!({ "decide": "scripted", "runners": { "scripted": self.scripted_runner() } }));
    }

    /// The scripted runner as the config tells of it: it counts in its own folder, which it may write.
    pub fn scripted_runner(&self) -> Value {
        json!({ "decide": [LOOOP, "__scripted", self.path("script/replies.jsonl")], "write": [self.path("script")] })
    }

    /// Makes a shell line the decider, without a sandbox: it stands for a user too, who works while the model thinks.
    pub fn shell_runner(&self, line: &str) {
        self.without_sandbox(&["decide"]);
        self.config(json!({ "decide": "sh", "runners": { "sh": { "decide": ["sh", "-c", line] } } }));
    }

    /// From now on these kinds of children run without a sandbox here: their scripts leave traces outside, or stand for
    /// what a sandbox would keep away.
    pub fn without_sandbox(&self, kinds: &[&'static str]) {
        self.without_sandbox.lock().unwrap().extend(kinds);
        if self.config_file().exists() {
            self.config_more(json!({}));
        }
    }

    /// Replaces the config; a `path` is added where there is none. A runner costs nothing unless it says otherwise.
    pub fn config(&self, mut value: Value) {
        let runners = value.get_mut("runners").and_then(Value::as_object_mut);
        for runner in runners.into_iter().flat_map(|runners| runners.values_mut()) {
            if let Some(runner) = runner.as_object_mut() {
                runner.entry("free").or_insert(true.into());
            }
        }
        for kind in self.without_sandbox.lock().unwrap().iter() {
            if value["sandbox"].get(kind).is_none() {
                value["sandbox"][kind] = "none".into();
            }
        }
        if value.get("path").is_none() {
            value["path"] = "/usr/local/bin:/usr/bin:/bin".into();
        }
        fs::write(self.config_file(), value.to_string()).unwrap();
        fs::set_permissions(self.config_file(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The config as it is.
    pub fn config_value(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.config_file()).unwrap()).unwrap()
    }

    /// Adds keys to the config.
    pub fn config_more(&self, more: Value) {
        let mut value = self.config_value();
        for (key, item) in more.as_object().unwrap() {
            match (value[key].as_object_mut(), item.as_object()) {
                // The runner that decides stays, so that the config stays valid.
                (Some(known), Some(more)) if key == "runners" => known.extend(more.clone()),
                _ => value[key] = item.clone(),
            }
        }
        self.config(value);
    }

    /// How often the scripted runner was asked.
    pub fn asked(&self) -> usize {
        // Empty for the moment in which it is written anew.
        let mut count = None;
        wait_until("the count to be written", || {
            let text = fs::read_to_string(self.path("script/replies.count")).unwrap_or("0".to_owned());
            count = text.trim().parse().ok();
            count.is_some()
        });
        count.unwrap()
    }

    /// Sets a variable for each run of the program.
    pub fn var(&mut self, key: &str, value: &str) {
        self.vars.push((key.to_owned(), value.to_owned()));
    }

    /// A path in the profile's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The data dir.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The config file.
    pub fn config_file(&self) -> PathBuf {
        self.path("looop.json")
    }

    /// A file of the data dir as text.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.data().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// A JSON file of the data dir.
    #[track_caller]
    pub fn read_json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// Writes a goal as a user with an editor would.
    pub fn goal(&self, id: &str, text: &str) {
        fs::write(self.data().join(format!("goals/{id}.md")), text).unwrap();
    }

    /// Writes a sensor as a user with an editor would; a `#!` line is added.
    pub fn sensor(&self, name: &str, body: &str) {
        program(self.data().join("sensors").join(name), format!("#!/bin/sh\n{body}\n"));
    }

    /// Puts a script of this name in front of the programs of `path`.
    pub fn stand_in(&self, name: &str, script: &str, path: &str) {
        let bin = self.path("bin");
        program(bin.join(name), script);
        self.config_more(json!({ "path": format!("{}:{path}", bin.display()) }));
    }

    /// The lines of the spend ledger.
    pub fn charges(&self) -> Vec<Value> {
        let months =
            fs::read_dir(self.data().join("cost")).into_iter().flatten().map(|entry| entry.unwrap().path());
        let ledgers = months.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
        let text: String = ledgers.map(|path| fs::read_to_string(path).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Approves the first question of the user's list, as it was shown, and returns it.
    #[track_caller]
    pub fn approve_first(&self) -> Value {
        let ask = self.looop(&["asks", "--json"]).ok().json()["asks"][0].clone();
        let [id, hash] = ["id", "hash"].map(|key| ask[key].as_str().unwrap());
        self.looop(&["approve", id, "--hash", hash]).ok();
        ask
    }

    /// The program in this profile, with nothing of the caller's environment.
    pub fn command(&self, args: &[&str]) -> Command {
        self.other_command(LOOOP, args)
    }

    /// Another program in this profile, one that starts looop perhaps.
    pub fn other_command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_clear().current_dir(self.dir.path()).stdin(Stdio::null());
        command
            .env("HOME", self.path("home"))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("USER", "ada")
            .env("LOOOP_DATA_DIR", self.data())
            .env("LOOOP_CONFIG", self.config_file())
            .envs(self.vars.iter().cloned());
        // Tests look into the program by /proc and strace, which a plain user may not do with a closed process.
        if !rustix::process::geteuid().is_root()
            && !self.vars.iter().any(|(key, _)| key == "LOOOP_DEBUGGABLE")
        {
            command.env("LOOOP_DEBUGGABLE", "1");
        }
        command
    }

    /// Runs the program to its end.
    pub fn looop(&self, args: &[&str]) -> Ran {
        Ran { call: args.join(" "), ..self.command(args).output().unwrap().into() }
    }

    /// Runs the program with this on stdin.
    pub fn looop_with(&self, args: &[&str], stdin: &str) -> Ran {
        use std::io::Write;
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that does not read its stdin closes it; what it says then is the result.
        let _unread = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        Ran { call: args.join(" "), ..child.wait_with_output().unwrap().into() }
    }

    /// Starts the program and leaves it running, its output in pipes.
    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs real git in the data dir.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        git_in(&self.data(), args)
    }
}

/// A data dir as `looop init` makes it. Each test process makes one and removes those of processes that have ended.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("profiles");
        fs::create_dir_all(&all).unwrap();
        for old in fs::read_dir(&all).unwrap().flatten() {
            if !Path::new("/proc").join(old.file_name()).exists() {
                // Another process may remove it too.
                drop(fs::remove_dir_all(old.path()));
            }
        }
        let profile = Profile::empty();
        profile.config(json!({}));
        profile.looop(&["init"]).ok();
        let dir = all.join(std::process::id().to_string());
        let copied = Command::new("cp").arg("-a").args([profile.data(), dir.clone()]).status().unwrap();
        assert!(copied.success());
        dir
    })
}

/// Writes a program, in a folder that is made where there is none.
pub fn program(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs real git in a directory, with nothing of the caller's environment or config.
#[track_caller]
pub fn git_in(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=ada", "-c", "user.email=ada@localhost", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    let ran = Ran::from(output);
    assert_eq!(ran.code, 0, "git {args:?}: {}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// Whether a sandbox with a file system of its own can be made by bubblewrap.
pub fn has_bwrap() -> bool {
    Command::new("bwrap").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// For how long a test waits, in seconds. Only a failure pays it, and a loaded machine may be many times slower.
const WAIT_LIMIT_S: u64 = 180;

/// Waits until a condition holds; a test that waits longer than [`WAIT_LIMIT_S`] has failed.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed().as_secs() < WAIT_LIMIT_S, "waited {WAIT_LIMIT_S} s for: {what}");
        std::thread::yield_now();
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        let _woken = rustix::event::poll(&mut [], Some(&pause));
    }
}
