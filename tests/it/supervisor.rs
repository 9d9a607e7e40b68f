//! Supervisors among the hostile: bad clients, bad disks, bad output, bad timing. None of it ends one, or costs it much.

mod asks;
mod budgets;
mod clients;
mod disk;
mod ends;
mod moves;
mod output;
mod reports;

use std::io::{Read, Write};
use std::{fs, os::unix::net::UnixStream, path::PathBuf, time::Duration};

use looop::rules::worker::protocol::{self, Decoder, Hello, MAX_REPLY, WireReply, WireRequest};
use serde_json::Value;

use crate::support::profile::{NOOP, Profile, wait_until};
use crate::support::rows::kill;

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
        profile.looop(&[&["worker", "start", "w1"], more, &["--", "sh", "-c", script]].concat()).ok();
        TmuxFixture { profile }
    }

    fn dir(&self) -> PathBuf {
        self.profile.data().join("workers/w1")
    }

    /// A file that the worker made.
    fn file(&self, name: &str) -> PathBuf {
        self.profile.worker_file("w1", name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    #[track_caller]
    fn wait_file(&self, name: &str) {
        wait_until(&format!("the worker makes {name}"), || self.file(name).exists());
    }

    fn row(&self) -> Value {
        self.profile.worker("w1")
    }

    #[track_caller]
    fn wait_state(&self, wanted: &str) {
        self.profile.wait_worker("w1", &[wanted]);
    }

    fn supervisor(&self) -> u32 {
        self.profile.worker_pid("w1", "supervisor")
    }

    fn signal(&self, name: &str) {
        kill(name, self.supervisor());
    }

    fn connect(&self, socket: &str) -> UnixStream {
        let stream = looop::os::socket::connect(&self.dir().join(socket), Duration::from_secs(10)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// The memory that the supervisor has written to, in kB: pages that are no file's any more, whether or not a child
    /// that it forks just now shares them still. Its clean pages are the program's file, and say nothing about growth.
    fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.supervisor())).unwrap();
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
