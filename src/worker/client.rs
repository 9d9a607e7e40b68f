//! The client of a worker's sockets: one request, one reply.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::os::clock::Deadline;
use crate::os::process::tree;
use crate::os::socket;
use crate::rules::fault::Fault;
use crate::rules::time::human_ms;
use crate::rules::worker::protocol::{
    self, Decoder, FrameKind, Hello, MAX_PAYLOAD, MAX_REPLY, MAX_REPORT, WireReply, WireRequest,
    WorkerQuestion,
};

/// How long a supervisor may take for an immediate reply, in milliseconds.
const REPLY_MS: i64 = 10_000;
/// After how long without a reply to check the supervisor's process, in milliseconds.
const STOPPED_MS: i64 = 1_000;
/// The timeout for a wake-up, which the supervisor does not need: it also checks by itself.
const WAKE_MS: i64 = 200;

/// Sends a request that the supervisor answers at once, and waits for the reply.
///
/// # Errors
/// When no process listens or replies, when the versions differ, or when the supervisor refuses.
pub fn call(socket: &Path, request: WireRequest) -> Result<String> {
    reply(&mut open(socket, request, REPLY_MS)?, Some(REPLY_MS))
}

/// Asks the user a question and waits for the answer, without a timeout.
///
/// # Errors
/// As [`call`].
pub fn ask(socket: &Path, question: WorkerQuestion) -> Result<String> {
    reply(&mut open(socket, WireRequest::Ask(question), REPLY_MS)?, None)
}

/// Wakes a supervisor because there is something to read. Without this call it reads by itself, only later.
pub fn wake(socket: &Path) {
    drop(open(socket, WireRequest::Wake, WAKE_MS));
}

/// Hands in a deliverable, read to its end.
///
/// # Errors
/// As [`call`], and when the content cannot be read.
pub fn report(socket: &Path, name: &str, content: &mut dyn Read) -> Result<String> {
    // Read all of it before the first byte is sent: the supervisor does not wait for a slow writer.
    let mut bytes = Vec::new();
    content.take(MAX_REPORT as u64 + 1).read_to_end(&mut bytes).context("could not read the report")?;
    let mut stream = open(socket, WireRequest::Report { name: name.to_owned() }, REPLY_MS)?;
    for part in bytes.chunks(MAX_PAYLOAD).chain([&[][..]]) {
        // If the supervisor has received too much, it says why and hangs up; read its reply then.
        if stream.write_all(&protocol::encode(FrameKind::Data, part)).is_err() {
            break;
        }
    }
    reply(&mut stream, Some(REPLY_MS))
}

fn open(socket: &Path, request: WireRequest, wait_ms: i64) -> Result<UnixStream> {
    let wait = Duration::from_millis(wait_ms.unsigned_abs());
    let mut stream = socket::connect(socket, wait).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => {
            let why = "more requests wait than it has room for; it may be stopped";
            unanswered(why).hint("`looop ls` says `stopped` then, and `looop kill --force WORKER` ends it")
        }
        _ => {
            let fault = Fault::failed(format!("could not reach the worker's supervisor: {error}"));
            fault.hint("it may just have ended; `looop ls --all` shows how")
        }
    })?;
    let hello = Hello { looop: protocol::VERSION, request };
    // If the supervisor refuses this, it says why and hangs up; read its reply then.
    drop(stream.write_all(&protocol::encode_json(&hello)));
    Ok(stream)
}

fn unanswered(why: &str) -> Fault {
    Fault::failed(format!("the worker's supervisor does not answer: {why}"))
}

/// Reads a reply, or says why none comes. Without a deadline it waits for as long as the supervisor lives.
fn read(stream: &mut UnixStream, buffer: &mut [u8], deadline: Option<&Deadline>) -> Result<usize> {
    let gone = || {
        let fault = Fault::failed("could not read the supervisor's reply: the supervisor ended");
        fault.hint("`looop ls --all` shows the state of the worker").into()
    };
    let wait = deadline.map(|_| Duration::from_millis(STOPPED_MS.unsigned_abs()));
    stream.set_read_timeout(wait).context("could not talk to the worker's supervisor")?;
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err(gone()),
            Ok(count) => return Ok(count),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::ConnectionReset => return Err(gone()),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    let is_stopped =
                        |pid: &u32| tree::start_of(*pid).is_some_and(|start| tree::is_stopped(*pid, start));
                    if let Some(pid) = socket::peer(stream).filter(is_stopped) {
                        let fault = unanswered(&format!("process {pid} is suspended"));
                        let fault = fault.hint(format!("`kill -CONT {pid}` resumes it"));
                        let force = "`looop kill --force WORKER` ends it and all that it started";
                        return Err(fault.hint(force).into());
                    }
                    if deadline.is_some_and(Deadline::passed) {
                        let fault = unanswered(&format!("nothing came within {}", human_ms(REPLY_MS)));
                        let force = "try again, or end the worker with `looop kill --force WORKER`";
                        return Err(fault.hint(force).into());
                    }
                }
                _ => return Err(error).context("could not read the supervisor's reply"),
            },
        }
    }
}

fn reply(stream: &mut UnixStream, wait_ms: Option<i64>) -> Result<String> {
    let deadline = wait_ms.map(Deadline::after_ms);
    let mut decoder = Decoder::new(MAX_REPLY);
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        if let Some(frame) = decoder.next_frame().map_err(anyhow::Error::msg)? {
            return match serde_json::from_slice(&frame.payload)
                .context("could not read the supervisor's reply")?
            {
                WireReply::Ok(text) => Ok(text),
                WireReply::Error(why) => Err(Fault::failed(why).into()),
                WireReply::Version(theirs) => Err(other_version(theirs).into()),
            };
        }
        let count = read(stream, &mut buffer, deadline.as_ref())?;
        decoder.push(&buffer[..count]);
    }
}

/// Makes the error for a supervisor of another version.
pub fn other_version(theirs: u32) -> Fault {
    let ours = protocol::VERSION;
    let (newer, hint) = if theirs > ours {
        ("the worker's supervisor is newer", "use the looop that started the worker")
    } else {
        (
            "this looop is newer than the worker's supervisor",
            "the worker was started before an update; it can run to its end",
        )
    };
    let what = format!("could not reach the worker: {newer} (protocol {theirs} there, {ours} here)");
    Fault::failed(what).hint(hint)
}
