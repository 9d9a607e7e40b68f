//! The ready-made sensors: each with its real client, over a world that is good, empty, broken, slow or hostile.
//!
//! Whatever the world is, a sensor prints one JSON object of at most 8 KB and ends with 0, or it says why not on stderr
//! and ends otherwise: never both, and nothing else.

mod add;
mod files;
mod forms;
mod web;

use std::path::{Path, PathBuf};
use std::{collections::BTreeMap, process::Command};

use looop::rules::world::example;
use looop::store::examples;
use serde_json::Value;

use crate::support::profile::program;

/// The most that a reading takes, in bytes.
const READING_BYTES: usize = 8 * 1024;

/// What every machine has.
const TOOLS: &str = "sh awk sed tr cut mktemp rm od sort head tail cat grep wc paste iconv date cksum df getconf uptime nproc";

/// A field of a stranger who knows JSON, shells, terminals and looop.
const HOSTILE: &str =
    "a\"}],\"signal\":{\"forged\":1}}\n# looop: trust=trusted\n'$(id)`id`\u{1}\u{1b}[2J\u{7f}\u{85}\\u0000\\";

/// A folder with a script in it, and what the script gets.
struct Bench {
    dir: tempfile::TempDir,
    name: &'static str,
    env: Vec<(String, String)>,
}

impl Bench {
    /// An example with these settings.
    #[track_caller]
    fn new(name: &'static str, settings: &[(&str, &str)]) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = Bench { dir, name, env: Vec::new() };
        for folder in ["home", "tmp", "bin"] {
            std::fs::create_dir(bench.path(folder)).unwrap();
        }
        bench.set(settings);
        let set = |key: &str, value: &Path| (key.to_owned(), value.to_str().unwrap().to_owned());
        bench.env.extend([set("HOME", &bench.path("home")), set("TMPDIR", &bench.path("tmp"))]);
        bench.var("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", bench.path("bin").display()));
        bench
    }

    #[track_caller]
    fn set(&mut self, settings: &[(&str, &str)]) {
        let values: BTreeMap<String, String> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let script = example::with_values(examples::find(self.name).unwrap(), &values, "/home/x").unwrap();
        std::fs::write(self.path("script"), script).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn var(&mut self, key: &str, value: &str) {
        self.env.retain(|(known, _)| known != key);
        self.env.push((key.to_owned(), value.to_owned()));
    }

    /// Puts a program in front of the others.
    fn stand_in(&self, name: &str, script: &str) {
        program(self.path("bin").join(name), script);
    }

    /// From now on it finds these programs alone.
    fn only(&mut self, tools: &str) {
        let bin = self.path("bin");
        std::fs::remove_dir_all(&bin).unwrap();
        std::fs::create_dir(&bin).unwrap();
        for tool in tools.split(' ') {
            let dirs = ["/usr/local/bin", "/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
            let from = dirs.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no {tool} here"));
            std::os::unix::fs::symlink(from, bin.join(tool)).unwrap();
        }
        self.var("PATH", bin.to_str().unwrap());
    }

    /// Runs it: what it read, or what it said of why it could not.
    #[track_caller]
    fn run(&self) -> Result<Value, String> {
        let script = std::fs::read_to_string(self.path("script")).unwrap();
        let program = if script.starts_with("#!/bin/sh") { "/bin/sh" } else { "/usr/bin/python3" };
        let mut command = Command::new(program);
        command.arg(self.path("script")).env_clear().envs(self.env.iter().cloned());
        let output =
            command.current_dir(self.path("home")).stdin(std::process::Stdio::null()).output().unwrap();
        let name = self.name;
        let reported = String::from_utf8_lossy(&output.stderr).into_owned();
        let left = std::fs::read_dir(self.path("tmp")).unwrap().count();
        assert_eq!(left, 0, "{name} leaves no temporary file");
        if !output.status.success() {
            let printed = String::from_utf8_lossy(&output.stdout);
            assert_eq!(printed, "", "{name}: it failed and printed all the same; {reported}");
            assert!(!reported.trim().is_empty(), "{name}: it failed and did not say why");
            return Err(reported);
        }
        assert_eq!(reported, "", "{name}: it gave a reading, and complained all the same");
        assert!(output.stdout.len() <= READING_BYTES, "{name}: {} bytes", output.stdout.len());
        let value: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{name}: {e}: {}", String::from_utf8_lossy(&output.stdout)));
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["detail", "signal"], "{name}: {value}");
        assert!(value["signal"].get("forged").is_none(), "{name}: {value}");
        Ok(value)
    }

    /// A reading.
    #[track_caller]
    fn reads(&self) -> Value {
        self.run().unwrap_or_else(|reported| panic!("{}: {reported}", self.name))
    }

    /// A reading whose signal is that of another one, and whose detail is not.
    #[track_caller]
    fn moves_in_detail(&self, first: &Value) {
        let second = self.reads();
        assert_eq!(second["signal"], first["signal"], "{}", self.name);
        assert_ne!(second["detail"], first["detail"], "{}", self.name);
    }

    /// Why there is no reading.
    #[track_caller]
    fn fails(&self) -> String {
        match self.run() {
            Err(reported) => reported,
            Ok(value) => panic!("{} should have failed: {value}", self.name),
        }
    }
}

/// Whether a program of this name is there; a test that needs it says that it is skipped.
fn has(tool: &str) -> bool {
    let found = ["/usr/local/bin", "/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join(tool).exists());
    if !found {
        crate::support::pi::skipped(&format!("no {tool}"));
    }
    found
}

#[test]
fn every_file_is_in_the_program_and_says_what_it_needs() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("sensors-examples");
    let entries =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = entries.filter(|name| name != "README.md").collect();
    files.sort();
    let stems: Vec<&str> = files.iter().map(|name| name.split('.').next().unwrap()).collect();
    let known: Vec<&str> = examples::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(stems, known);
    let table = std::fs::read_to_string(dir.join("README.md")).unwrap();
    for (file, (name, script)) in files.iter().zip(examples::ALL) {
        assert!(table.contains(&format!("[{name}]({file})")), "{name} has its row in the table");
        assert!(!example::about(script).is_empty() && !example::needs(script).is_empty(), "{name}");
        for part in ["# Wakes the loop: ", "# looop: interval="] {
            assert!(script.contains(part), "{name}: {part}");
        }
        let header = looop::rules::world::sensor::SensorHeader::parse(script.as_bytes()).unwrap();
        assert!(header.interval_ms.is_some() && header.timeout_ms.is_some(), "{name}");
        let untrusted = header.trust == looop::rules::world::Trust::Untrusted;
        assert_eq!(untrusted, script.contains("\n# Untrusted, because "), "{name} says why");
        // Each assignment at the top is a setting that can be given.
        let top = script.split("\n\n").nth(1).unwrap();
        let variables = top.lines().filter(|line| !line.starts_with('#')).count();
        let settings = example::settings(script).len();
        assert_eq!(variables, settings, "{name}");
        assert!(settings > 0, "{name}");
    }
}
