//! The caller's side of a worker's sockets: one request, one reply.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::model::fault::Fault;
use crate::model::time::human_ms;
use crate::model::wire::{self, Decoder, FrameKind, Hello, MAX_PAYLOAD, MAX_REPORT, Reply, Request};
use crate::sys::clock::Deadline;
use crate::sys::{socket, tree};

/// How long a supervisor may take for what it does at once, in milliseconds.
const REPLY_MS: i64 = 10_000;
/// After how long without a reply the supervisor's process is looked at, in milliseconds.
const STOPPED_MS: i64 = 1_000;
/// How long one may take that looks by itself too, in milliseconds.
const WAKE_MS: i64 = 200;

/// Asks a supervisor for something that it does at once, and waits for its reply.
///
/// # Errors
/// When nobody listens or replies, the versions differ, or the supervisor says no.
pub fn call(socket: &Path, request: Request) -> Result<String> {
    reply(&mut open(socket, request, REPLY_MS)?, Some(REPLY_MS))
}

/// Puts a question and waits for the answer, for as long as it takes.
///
/// # Errors
/// As [`call`].
pub fn ask(socket: &Path, text: &str, options: &[String], reference: Option<&str>) -> Result<String> {
    let (text, options, reference) = (text.to_owned(), options.to_vec(), reference.map(str::to_owned));
    reply(&mut open(socket, Request::Ask { text, options, reference }, REPLY_MS)?, None)
}

/// Tells a supervisor that there is something to look for. It looks by itself too, only later.
pub fn poke(socket: &Path) {
    drop(open(socket, Request::Poke, WAKE_MS));
}

/// Hands in a deliverable, read to its end.
///
/// # Errors
/// As [`call`], and when the content cannot be read.
pub fn report(socket: &Path, name: &str, content: &mut dyn Read) -> Result<String> {
    // Whole before the first byte is sent: the supervisor waits for nobody who takes long to write it.
    let mut bytes = Vec::new();
    content.take(MAX_REPORT as u64 + 1).read_to_end(&mut bytes).context("could not read the report")?;
    let mut stream = open(socket, Request::Report { name: name.to_owned() }, REPLY_MS)?;
    for part in bytes.chunks(MAX_PAYLOAD).chain([&[][..]]) {
        // A supervisor that has heard enough says why and hangs up; its reply is then still to be read.
        if stream.write_all(&wire::encode(FrameKind::Data, part)).is_err() {
            break;
        }
    }
    reply(&mut stream, Some(REPLY_MS))
}

fn open(socket: &Path, request: Request, wait_ms: i64) -> Result<UnixStream> {
    let wait = Duration::from_millis(wait_ms.unsigned_abs());
    let mut stream = socket::connect(socket, wait).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => {
            let why = "more requests wait than it has room for; it may be stopped";
            unanswered(why).hint("`looop ls` says `stopped` then, and `looop kill --force WORKER` ends it")
        }
        _ => {
            let fault = Fault::failed(format!("could not reach the worker's supervisor: {error}"));
            fault.hint("it may just have ended; `looop ls --all` says how")
        }
    })?;
    let hello = Hello { looop: wire::VERSION, request };
    // One that does not want to hear this says why and hangs up; its reply is still to be read.
    drop(stream.write_all(&wire::encode_json(&hello)));
    Ok(stream)
}

fn unanswered(why: &str) -> Fault {
    Fault::failed(format!("the worker's supervisor does not answer: {why}"))
}

/// Reads what came, or says why nothing comes. Without a time it waits for as long as the supervisor is there.
fn read(stream: &mut UnixStream, buffer: &mut [u8], deadline: Option<&Deadline>) -> Result<usize> {
    let gone = || {
        let fault = Fault::failed("could not hear the worker's supervisor: it ended while it was asked");
        anyhow::Error::from(fault.hint("`looop ls --all` says how the worker stands"))
    };
    let wait = deadline.map(|_| Duration::from_millis(STOPPED_MS.unsigned_abs()));
    stream.set_read_timeout(wait).context("could not talk to the worker's supervisor")?;
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err(gone()),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(gone()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let stopped = socket::peer(stream)
                    .filter(|pid| tree::start_of(*pid).is_some_and(|start| tree::is_stopped(*pid, start)));
                if let Some(pid) = stopped {
                    let fault = unanswered(&format!("process {pid} is stopped"));
                    let fault = fault.hint(format!("`kill -CONT {pid}` lets it go on"));
                    return Err(fault
                        .hint("`looop kill --force WORKER` ends it and all that it started")
                        .into());
                }
                if deadline.is_some_and(Deadline::passed) {
                    let fault = unanswered(&format!("nothing came within {}", human_ms(REPLY_MS)));
                    return Err(fault
                        .hint("try again, or end the worker with `looop kill --force WORKER`")
                        .into());
                }
            }
            Err(error) => return Err(error).context("could not hear the worker's supervisor"),
        }
    }
}

fn reply(stream: &mut UnixStream, wait_ms: Option<i64>) -> Result<String> {
    let deadline = wait_ms.map(Deadline::after_ms);
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
        let count = read(stream, &mut buffer, deadline.as_ref())?;
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
