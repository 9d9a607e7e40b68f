//! What a killed beat and the two after it leave in a data dir, and what may never be found there.

use std::process::{Command, Output};
use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::support::profile::Profile;

/// What is found after the beats that follow a kill.
pub struct After<'a> {
    pub profile: &'a Profile,
    /// The journal's lines.
    pub journal: Vec<String>,
}

impl After<'_> {
    /// A file of the data dir; none when it is not there.
    pub fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.profile.data().join(name)).ok()
    }

    /// The files of a directory whose names end so, hidden ones left out.
    fn in_dir(&self, dir: &str, end: &str) -> Vec<String> {
        let entries = fs::read_dir(self.profile.data().join(dir)).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let shown = names.filter(|name| name.ends_with(end) && !name.starts_with('.'));
        shown.map(|name| format!("{dir}/{name}")).collect()
    }

    /// How many files of a directory begin so.
    pub fn count(&self, dir: &str, start: &str) -> usize {
        let start = format!("{dir}/{start}");
        self.in_dir(dir, "").iter().filter(|name| name.starts_with(&start)).count()
    }

    /// A change of files can be redone, so it is there if and only if the journal has its one line.
    pub fn agree(&self, tag: &str, made: bool) -> Option<String> {
        let lines = self.lines(tag).iter().filter(|line| line.contains("— done")).count();
        (lines != usize::from(made)).then(|| format!("made: {made}, lines in the journal: {lines}"))
    }

    /// The journal's lines about moves of a kind that were not put before the user. A power loss can leave a part of one.
    pub fn lines(&self, tag: &str) -> Vec<&String> {
        let tag = format!(" {tag} ");
        let counts =
            |line: &&String| line.contains(&tag) && !line.contains("— waits for ") && line.ends_with(']');
        self.journal.iter().filter(counts).collect()
    }

    /// What must hold after any kill.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.files();
        problems.extend(self.beats());
        problems.extend(self.repository());
        problems
    }

    /// What must hold of all files but the history.
    fn files(&self) -> Vec<String> {
        let status = self.profile.looop(&["status", "--json"]);
        // Exit status 1 says that something is broken, such as the runner of a scene.
        let is_whole = status.code <= 1 && serde_json::from_str::<Value>(&status.stdout).is_ok();
        let failed = (!is_whole).then(|| format!("status --json: {status:?}"));
        let parts = failed.into_iter().chain(self.memory()).chain(self.records()).chain(self.charges());
        parts.collect()
    }

    /// What must hold after a power loss: as after a kill, but for the history, which git does not sync. What it lost
    /// the next commit brings back; where an object is half there, a warning says that none can be made.
    pub fn losses(&self, git_is_whole: bool) -> Vec<String> {
        let mut problems = self.files();
        let beats = self.beat_ids();
        if BTreeSet::from_iter(&beats).len() != beats.len() {
            problems.push(format!("a beat has two lines: {:?}", self.journal));
        }
        let (good, dirty) = git(self.profile, &["status", "--porcelain"]);
        if git_is_whole && (!good || !dirty.is_empty()) {
            problems.push(format!("git status: {dirty}"));
        }
        problems
    }

    /// A call that nobody paid for would be one that no budget knows.
    fn charges(&self) -> Option<String> {
        let ledger: String =
            self.in_dir("cost", ".jsonl").iter().filter_map(|name| self.text(name)).collect();
        let charges = ledger.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
        let asked = self.profile.asked();
        (charges < asked).then(|| format!("{asked} calls, {charges} charges"))
    }

    fn memory(&self) -> Option<String> {
        let beat: Value = serde_json::from_str(&self.text("beat.json")?).unwrap_or_default();
        let left = ["intent", "inflight"].into_iter().find(|key| !beat[key].is_null());
        left.map(|key| format!("beat.json has an {key}"))
            .or_else(|| (!beat.is_object()).then(|| "beat.json is corrupt".to_owned()))
    }

    /// The beats that the journal names.
    fn beat_ids(&self) -> Vec<&str> {
        let ids = self.journal.iter().filter_map(|line| line.strip_suffix(']')?.rsplit_once('['));
        ids.map(|(_, id)| id).collect()
    }

    /// Each line of the journal is the only one of its beat, and has a commit that names it.
    fn beats(&self) -> Vec<String> {
        let (_, log) = git(self.profile, &["log", "--format=%B"]);
        let beats = self.beat_ids();
        let unseen = beats.iter().filter(|id| !log.contains(&format!("Beat: {id}\n")));
        let mut problems: Vec<String> = unseen.map(|id| format!("no commit names the beat {id}")).collect();
        if BTreeSet::from_iter(&beats).len() != self.journal.len() {
            problems.push(format!("a beat has two lines, or a line is torn: {:?}", self.journal));
        }
        problems
    }

    fn records(&self) -> Vec<String> {
        let dirs = ["asks", "asks/archive", "snapshots", "schedules"];
        let mut files: Vec<String> = dirs.iter().flat_map(|dir| self.in_dir(dir, ".json")).collect();
        files.push("world.json".to_owned());
        let corrupt =
            |name: &String| serde_json::from_str::<Value>(&self.text(name).unwrap_or_default()).is_err();
        files.into_iter().filter(corrupt).map(|name| format!("{name} is corrupt")).collect()
    }

    fn repository(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let (good, fsck) = git(self.profile, &["fsck", "--strict", "--no-dangling", "--no-progress"]);
        if !good || !fsck.is_empty() {
            problems.push(format!("git fsck: {fsck}"));
        }
        let (_, dirty) = git(self.profile, &["status", "--porcelain"]);
        if !dirty.is_empty() {
            problems.push(format!("git status: {dirty}"));
        }
        let mut dirs = vec![self.profile.data().join(".git")];
        while let Some(dir) = dirs.pop() {
            for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
                if path.extension().is_some_and(|ext| ext == "lock") {
                    problems.push(format!("a stale lock: {}", path.display()));
                }
                dirs.extend(path.is_dir().then_some(path));
            }
        }
        problems
    }
}

fn git(profile: &Profile, args: &[&str]) -> (bool, String) {
    let mut command = Command::new("git");
    command.args(args).current_dir(profile.data()).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let Output { status, stdout, stderr } = command.env("HOME", "/nonexistent").output().unwrap();
    (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// The processes whose command line names this; the scanning process itself does not count.
pub fn processes(marker: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries
        .filter(|entry| entry.file_name() != *std::process::id().to_string())
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(marker)).collect()
}
