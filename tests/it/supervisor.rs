//! Supervisors among the hostile: bad clients, bad disks, bad output, bad timing. None of it ends one, or costs it much.

mod asks;
mod budgets;
mod clients;
mod disk;
mod ends;
mod moves;
mod output;
mod reports;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use looop::rules::worker::protocol::{self, Decoder, Hello, MAX_REPLY, WireReply, WireRequest};
use serde_json::Value;

use crate::support::profile::{Profile, wait_until};

const NOOP: &str = r#"{"move":"noop","why":"w"}"#;

/// A profile with one worker `w1` that runs this shell script.
struct TmuxFixture {
    profile: Profile,
}

impl TmuxFixture {
    #[track_caller]
    fn start(more: &[&str], script: &str) -> TmuxFixture {
        TmuxFixture::with(Profile::scripted(&[NOOP]), more, script)
    }

    #[track_caller]
    fn with(profile: Profile, more: &[&str], script: &str) -> TmuxFixture {
        let mut args = vec!["worker", "start", "w1"];
        args.extend(more);
        args.extend(["--", "sh", "-c", script]);
        profile.looop(&args).ok();
        TmuxFixture { profile }
    }

    fn dir(&self) -> PathBuf {
        self.profile.data().join("workers/w1")
    }

    /// A file that the worker made.
    fn file(&self, name: &str) -> PathBuf {
        self.dir().join("clone").join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    #[track_caller]
    fn wait_file(&self, name: &str) {
        wait_until(&format!("the worker makes {name}"), || self.file(name).exists());
    }

    fn row(&self) -> Value {
        let all = self.profile.looop(&["ls", "--json"]).ok().json();
        all["workers"].as_array().unwrap().iter().find(|row| row["id"] == "w1").cloned().unwrap_or_default()
    }

    #[track_caller]
    fn wait_state(&self, wanted: &str) {
        wait_until(&format!("w1 is {wanted}"), || self.row()["state"] == wanted);
    }

    fn pid(&self, which: &str) -> u32 {
        let state: Value = self.profile.read_json("workers/w1/state.json");
        u32::try_from(state[which]["pid"].as_u64().unwrap()).unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.pid("supervisor").to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn connect(&self, socket: &str) -> UnixStream {
        let stream = looop::os::socket::connect(&self.dir().join(socket), Duration::from_secs(10)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// The memory that the supervisor has written to, in kB: pages that are no file's any more, whether or not a child
    /// that it forks just now shares them still. Its clean pages are the program's file, and say nothing about growth.
    fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid("supervisor"))).unwrap();
        let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The one open ask's id.
    #[track_caller]
    fn ask(&self) -> String {
        wait_until("the question", || self.row()["ask"].is_string());
        self.row()["ask"].as_str().unwrap().to_owned()
    }
}

fn hello(looop: u32, request: WireRequest) -> Vec<u8> {
    protocol::encode_json(&Hello { looop, request })
}

fn say(stream: &mut UnixStream, request: WireRequest) {
    stream.write_all(&hello(protocol::VERSION, request)).unwrap();
}

/// What a supervisor says to this.
#[track_caller]
fn reply(stream: &mut UnixStream) -> WireReply {
    let mut decoder = Decoder::new(MAX_REPLY);
    let mut buffer = [0; 4096];
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            return serde_json::from_slice(&frame.payload).unwrap();
        }
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "it hung up without a word");
        decoder.push(&buffer[..count]);
    }
}
