//! What lists of the program show of a profile, and what most tests about them begin with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::profile::{Profile, Ran, git_in, wait_until};

impl Profile {
    /// The row of a worker in `looop ls`; null where there is none.
    #[track_caller]
    pub fn worker(&self, id: &str) -> Value {
        let all = self.looop(&["ls", "--json"]).ok().json();
        all["workers"].as_array().unwrap().iter().find(|row| row["id"] == id).cloned().unwrap_or_default()
    }

    /// Waits until a worker is in one of these states, and returns its row.
    #[track_caller]
    pub fn wait_worker(&self, id: &str, states: &[&str]) -> Value {
        let mut row = Value::Null;
        wait_until(&format!("{id} is {states:?}"), || {
            row = self.worker(id);
            states.iter().any(|state| row["state"] == *state)
        });
        row
    }

    /// Waits until a worker's program has ended, and returns its row.
    #[track_caller]
    pub fn wait_exit(&self, id: &str) -> Value {
        let mut row = Value::Null;
        wait_until(&format!("{id} ends"), || {
            row = self.worker(id);
            row["exit"].is_object()
        });
        row
    }

    /// A file that a worker made in the directory where it began.
    pub fn worker_file(&self, id: &str, name: &str) -> PathBuf {
        self.data().join("workers").join(id).join("clone").join(name)
    }

    /// The process number of a worker's `supervisor` or `child`.
    #[track_caller]
    pub fn worker_pid(&self, id: &str, which: &str) -> u32 {
        let state = self.read_json(&format!("workers/{id}/state.json"));
        u32::try_from(state[which]["pid"].as_u64().unwrap()).unwrap()
    }

    /// What waits for the user, oldest first.
    #[track_caller]
    pub fn asks(&self) -> Vec<Value> {
        self.looop(&["asks", "--json"]).ok().json()["asks"].as_array().unwrap().clone()
    }

    /// Approves what an ask showed.
    pub fn approve(&self, ask: &Value) -> Ran {
        self.looop(&["approve", ask["id"].as_str().unwrap(), "--hash", ask["hash"].as_str().unwrap()])
    }

    /// A repository in the profile, with one commit of a file that holds this text.
    #[track_caller]
    pub fn repository(&self, place: &str, file: &str, text: &str) -> PathBuf {
        let repo = self.path(place);
        fs::create_dir_all(&repo).unwrap();
        fs::write(repo.join(file), text).unwrap();
        git_in(&repo, &["init", "-q"]);
        git_in(&repo, &["add", "-A"]);
        git_in(&repo, &["commit", "-qm", "first"]);
        repo
    }
}

/// Sends a signal, as `-STOP`, to a process that is there.
#[track_caller]
pub fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Whether strace is here to hold or end a process at a call.
pub fn has_strace() -> bool {
    Command::new("strace").arg("--version").output().is_ok()
}

/// Copies a file or a folder with all of its attributes.
#[track_caller]
pub fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}
