//! A supervisor for tests: it holds the worker's lock, writes the transcript, listens, and notes what comes.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::{os::unix::net::UnixStream, path::Path};

use looop::os::{pty::Size, socket};
use looop::rules::worker::protocol::{
    Decoder, FrameKind, Hello, MAX_PAYLOAD, Resize, ViewerState, encode_json,
};
use looop::rules::worker::{Phase, WorkerState};
use looop::rules::{name::Name, process::Started};
use looop::store::layout::{Layout, WorkerDir};
use looop::store::{transcript::TranscriptWriter, workers};

use crate::support::{profile::Profile, terminal::create_worker};

/// What a client said.
#[derive(Default)]
pub struct Got {
    pub hello: Option<Hello>,
    pub keys: Vec<u8>,
    pub sizes: Vec<(u16, u16)>,
    pub gone: bool,
    stream: Option<UnixStream>,
}

pub struct Fake {
    pub dir: WorkerDir,
    pub got: Arc<Mutex<Got>>,
    /// Who holds the lock: not this process, whose children would then be a worker's.
    alive: Child,
    writer: TranscriptWriter,
    state: WorkerState,
    /// While true, nothing is read from the client.
    quiet: Arc<(Mutex<bool>, Condvar)>,
}

pub fn name() -> Name {
    Name::parse("w1").unwrap()
}

/// A process that holds the worker's lock.
pub fn hold(lock: &Path) -> Child {
    let script = "exec 9<\"$0\"; flock 9; echo held; exec sleep 600";
    let mut holder =
        Command::new("sh").args(["-c", script]).arg(lock).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = [0; 5];
    holder.stdout.take().unwrap().read_exact(&mut printed).unwrap();
    holder
}

fn release(holder: &mut Child) {
    // It may be gone already.
    holder.kill().unwrap_or_default();
    holder.wait().unwrap();
}

impl Drop for Fake {
    fn drop(&mut self) {
        release(&mut self.alive);
    }
}

impl Fake {
    /// A running worker of a screen of so many cells, with a supervisor that answers a hello with these bytes first.
    pub fn start(profile: &Profile, cols: u16, rows: u16, greeting: Option<Vec<u8>>) -> Fake {
        profile.looop(&["init"]).ok();
        let layout = Layout::new(profile.data(), profile.path("cache"));
        let held = create_worker(&layout, &name(), 0);
        let dir = layout.worker(&name());
        let alive = hold(&dir.alive());
        let nobody = Started { pid: 0, start: 0, boot: String::new() };
        let state = WorkerState { phase: Phase::Running, ..WorkerState::new(name(), 0, nobody) };
        workers::save_state(&dir, &state).unwrap();
        drop(held);
        let writer = TranscriptWriter::create(&dir, 0, Size { cols, rows }, 64 << 20).unwrap();
        let fake = Fake { dir, got: Arc::default(), alive, writer, state, quiet: Arc::default() };
        fake.listen(greeting, ViewerState { cols, rows, ..fake.seen() });
        fake
    }

    fn listen(&self, greeting: Option<Vec<u8>>, first: ViewerState) {
        let listener = socket::listen(&self.dir.attach_socket()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (got, quiet) = (self.got.clone(), self.quiet.clone());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            drop(listener);
            let hello = greeting.unwrap_or_else(|| encode_json(&first));
            got.lock().unwrap().stream = Some(stream.try_clone().unwrap());
            // A client that left already is still listened to: what it sent comes after this.
            stream.write_all(&hello).unwrap_or_default();
            let (mut decoder, mut buffer) = (Decoder::new(MAX_PAYLOAD), vec![0; 8192]);
            loop {
                let (quiet, changed) = &*quiet;
                drop(changed.wait_while(quiet.lock().unwrap(), |quiet| *quiet).unwrap());
                let length = stream.read(&mut buffer).unwrap_or(0);
                if length == 0 {
                    got.lock().unwrap().gone = true;
                    return;
                }
                decoder.push(&buffer[..length]);
                let mut got = got.lock().unwrap();
                while let Some(frame) = decoder.next_frame().unwrap() {
                    if frame.kind == FrameKind::Data {
                        got.keys.extend(frame.payload);
                    } else if let Ok(size) = serde_json::from_slice::<Resize>(&frame.payload) {
                        got.sizes.push((size.cols, size.rows));
                    } else {
                        got.hello = Some(serde_json::from_slice(&frame.payload).unwrap());
                    }
                }
            }
        });
    }

    fn seen(&self) -> ViewerState {
        ViewerState {
            offset: self.writer.offset(),
            cols: 80,
            rows: 24,
            phase: self.state.phase,
            flag: self.state.flag.clone(),
            ask: self.state.ask.clone(),
            lost_bytes: 0,
        }
    }

    /// Tells the client where things stand, as far as its socket takes it.
    pub fn tell(&self) {
        if let Some(stream) = &mut self.got.lock().unwrap().stream {
            // A client that left is told nothing.
            stream.write_all(&encode_json(&self.seen())).unwrap_or_default();
        }
    }

    pub fn print(&mut self, bytes: &[u8]) {
        assert_eq!(self.writer.append(bytes, 0), 0);
        self.tell();
    }

    pub fn resize(&mut self, cols: u16, rows: u16) {
        self.writer.resize(cols, rows, 0);
        self.tell();
    }

    pub fn state(&mut self, change: impl FnOnce(&mut WorkerState)) {
        change(&mut self.state);
        workers::save_state(&self.dir, &self.state).unwrap();
        self.tell();
    }

    /// Takes no keys until it is called with false.
    pub fn quiet(&self, quiet: bool) {
        *self.quiet.0.lock().unwrap() = quiet;
        self.quiet.1.notify_all();
    }

    /// Is gone from one moment to the next, as by SIGKILL.
    pub fn vanish(&mut self) {
        release(&mut self.alive);
        if let Some(stream) = self.got.lock().unwrap().stream.take() {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }
}
