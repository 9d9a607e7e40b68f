//! A project with a bug, tests in TAP, and an agent that is a shell script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::profile::{LOOOP, Profile, Ran, git_in, program};

/// A profile with a project in `project` and an agent in `agent.sh`.
pub struct Fixture {
    pub profile: Profile,
}

/// What an agent script begins with, up to the answers that the agents of `cargo xtask bench stuck` give too.
const HEAD: &str = r#"#!/bin/sh
S=STATE
case "$2" in
*"Answer with that sentence alone"*) echo "The check expected another value of the sum"; exit;;
"#;

const ANSWERS: &str = include_str!("answers.sh");

impl Fixture {
    /// A git project with these files, committed.
    pub fn new(files: &[(&str, &str)]) -> Fixture {
        let fixture = Fixture::plain(files);
        for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-qm", "one"]] {
            git_in(&fixture.project(), args);
        }
        fixture
    }

    /// A folder with these files that is no git repository.
    pub fn plain(files: &[(&str, &str)]) -> Fixture {
        let profile = Profile::empty();
        // Its agents count and leave traces outside.
        profile.without_sandbox(&["fix"]);
        profile.config(serde_json::json!({}));
        profile.set_up();
        ["project", "state"].iter().for_each(|name| fs::create_dir(profile.path(name)).unwrap());
        let fixture = Fixture { profile };
        files.iter().for_each(|(name, text)| fixture.write(name, text));
        fixture.agent("");
        fixture
    }

    pub fn project(&self) -> PathBuf {
        self.profile.path("project")
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.project().join(name)).unwrap()
    }

    /// What the agent does in each attempt; `$n` is its number.
    pub fn agent(&self, body: &str) {
        let state = self.profile.path("state");
        let head = HEAD.replace("STATE", state.to_str().unwrap());
        let head = format!("{head}{ANSWERS}printf '%s' \"$2\" >$S/prompt.$n\n");
        program(self.profile.path("agent.sh"), format!("{head}{body}\necho \"attempt $n is made\"\n"));
    }

    /// A shell line with which an agent runs looop as its user would, and keeps what that prints.
    pub fn as_user(&self, command: &str) -> String {
        let places = [self.profile.data(), self.profile.config_file(), self.profile.path("output")];
        let [data, config, output] = places.map(|path| path.display().to_string());
        format!("LOOOP_DATA_DIR={data} LOOOP_CONFIG={config} {LOOOP} {command} >{output} 2>&1")
    }

    /// What looop printed for the agent.
    pub fn agents_output(&self) -> String {
        fs::read_to_string(self.profile.path("output")).unwrap()
    }

    /// How often the agent was called for an attempt.
    pub fn calls(&self) -> usize {
        let text = fs::read_to_string(self.profile.path("state/calls")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// The prompt of attempt `n`.
    #[track_caller]
    pub fn prompt(&self, n: usize) -> String {
        fs::read_to_string(self.profile.path(&format!("state/prompt.{n}"))).unwrap()
    }

    /// Checks that each of these texts is in the prompt of attempt `n`.
    #[track_caller]
    pub fn asked(&self, n: usize, parts: &[&str]) {
        let prompt = self.prompt(n);
        parts.iter().for_each(|part| assert!(prompt.contains(part), "no {part:?} in {prompt}"));
    }

    /// Writes a leanfile beside the project: the agent, a test command, and what follows.
    pub fn leanfile(&self, tests: &str, rest: &str) -> PathBuf {
        self.leanfile_of(&format!("binary = {:?}", self.profile.path("agent.sh")), tests, rest)
    }

    /// The same with these lines in `[lean]` instead of the agent.
    pub fn leanfile_of(&self, lean: &str, tests: &str, rest: &str) -> PathBuf {
        let path = self.profile.path("leanfile.toml");
        let text = format!(
            "[lean]\n{lean}\ntimeout = 60\n[runner]\n{tests}\ntimeout = 120\n[defaults]\nproject_root = \"project\"\n{rest}"
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// A folder beside the project with this file in it.
    pub fn outside(&self, name: &str, text: &str) -> PathBuf {
        let outside = self.profile.path("outside");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join(name), text).unwrap();
        outside
    }

    /// Runs `looop fix` with the leanfile beside the project.
    pub fn fix(&self, more: &[&str]) -> Ran {
        let path = self.profile.path("leanfile.toml");
        self.profile.looop(&[&["fix", "-c", path.to_str().unwrap()], more].concat())
    }

    /// The ledger of a goal.
    #[track_caller]
    pub fn ledger(&self, goal: &str) -> Vec<Value> {
        let ran = self.profile.looop(&["attempt", "show", goal, "--json"]).ok();
        ran.json()["lines"].as_array().unwrap().clone()
    }

    /// The attempts in the ledger of a goal.
    #[track_caller]
    pub fn attempts(&self, goal: &str) -> Vec<Value> {
        of(&self.ledger(goal), "attempt").into_iter().cloned().collect()
    }

    /// What all attempts at a goal have in this field, as text.
    #[track_caller]
    pub fn attempted(&self, goal: &str, field: &str) -> Vec<String> {
        self.attempts(goal).iter().map(|one| one[field].as_str().unwrap().to_owned()).collect()
    }

    /// The repository in which the attempts of the newest run are kept.
    pub fn kept(&self) -> PathBuf {
        let runs = fs::read_dir(self.profile.data().join("fix")).unwrap().flatten();
        runs.map(|run| run.path().join("attempts")).filter(|path| path.is_dir()).last().unwrap()
    }

    /// Every file of the project and of its `.git` but for looop's own refs and objects, with bytes and mode.
    pub fn fingerprint(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        look(&self.project(), &self.project(), &mut all);
        all.sort();
        all
    }
}

fn look(top: &Path, dir: &Path, all: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        let path = entry.path();
        let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
        if name.starts_with(".git/objects") || name.starts_with(".git/refs/looop") {
            continue;
        }
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            look(top, &path, all);
        } else {
            let bytes = fs::read(&path).map_or("link".to_owned(), |bytes| blake3::hash(&bytes).to_string());
            let state = format!("{bytes} {:o} {:?}", meta.permissions().mode(), meta.modified().unwrap());
            all.push((name, state));
        }
    }
}

/// A ledger's lines of one kind.
pub fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter_map(|line| line.get(kind)).collect()
}
