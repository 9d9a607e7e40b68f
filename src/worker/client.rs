//! The caller's side of a worker's sockets: one request, one reply.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::model::fault::Fault;
use crate::model::wire::{self, Decoder, FrameKind, Hello, MAX_PAYLOAD, MAX_REPORT, Reply, Request};
use crate::sys::socket;

/// How long a supervisor may take for what it does at once.
const REPLY: Duration = Duration::from_secs(10);

/// Asks a supervisor for something that it does at once, and waits for its reply.
///
/// # Errors
/// When nobody listens or replies, the versions differ, or the supervisor says no.
pub fn call(socket: &Path, request: Request) -> Result<String> {
    let mut stream = open(socket, request)?;
    stream.set_read_timeout(Some(REPLY)).context("could not talk to the worker's supervisor")?;
    reply(&mut stream)
}

/// Puts a question and waits for the answer, for as long as it takes.
///
/// # Errors
/// As [`call`].
pub fn ask(socket: &Path, text: &str, options: &[String], reference: Option<&str>) -> Result<String> {
    let (text, options, reference) = (text.to_owned(), options.to_vec(), reference.map(str::to_owned));
    reply(&mut open(socket, Request::Ask { text, options, reference })?)
}

/// Tells a supervisor that there is something to look for. It looks by itself too, only later.
pub fn poke(socket: &Path) {
    drop(open(socket, Request::Poke));
}

/// Hands in a deliverable, read to its end.
///
/// # Errors
/// As [`call`], and when the content cannot be read.
pub fn report(socket: &Path, name: &str, content: &mut dyn Read) -> Result<String> {
    // Whole before the first byte is sent: the supervisor waits for nobody who takes long to write it.
    let mut bytes = Vec::new();
    content.take(MAX_REPORT as u64 + 1).read_to_end(&mut bytes).context("could not read the report")?;
    let mut stream = open(socket, Request::Report { name: name.to_owned() })?;
    for part in bytes.chunks(MAX_PAYLOAD).chain([&[][..]]) {
        // A supervisor that has heard enough says why and hangs up; its reply is then still to be read.
        if stream.write_all(&wire::encode(FrameKind::Data, part)).is_err() {
            break;
        }
    }
    reply(&mut stream)
}

fn open(socket: &Path, request: Request) -> Result<UnixStream> {
    let mut stream = socket::connect(socket).map_err(|error| {
        let fault = Fault::failed(format!("could not reach the worker's supervisor: {error}"));
        fault.hint("it may just have ended; `looop ls --all` says how")
    })?;
    let hello = Hello { looop: wire::VERSION, request };
    // One that does not want to hear this says why and hangs up; its reply is still to be read.
    drop(stream.write_all(&wire::encode_json(&hello)));
    Ok(stream)
}

fn reply(stream: &mut UnixStream) -> Result<String> {
    let mut decoder = Decoder::of_replies();
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        if let Some(frame) = decoder.next_frame().map_err(anyhow::Error::msg)? {
            return match serde_json::from_slice(&frame.payload)
                .context("could not read the supervisor's reply")?
            {
                Reply::Ok(text) => Ok(text),
                Reply::Error(why) => Err(Fault::failed(why).into()),
                Reply::Version(theirs) => Err(other_version(theirs).into()),
            };
        }
        let count = stream.read(&mut buffer).context("could not hear the worker's supervisor")?;
        if count == 0 {
            anyhow::bail!("could not hear the worker's supervisor: it hung up");
        }
        decoder.push(&buffer[..count]);
    }
}

/// What to say to a supervisor of another version.
pub fn other_version(theirs: u32) -> Fault {
    let ours = wire::VERSION;
    let (newer, hint) = if theirs > ours {
        ("the worker's supervisor is newer", "use the looop that started the worker")
    } else {
        (
            "this looop is newer than the worker's supervisor",
            "the worker was started before an update; it can run to its end",
        )
    };
    let what = format!("could not talk to the worker: {newer} (protocol {theirs} there, {ours} here)");
    Fault::failed(what).hint(hint)
}
