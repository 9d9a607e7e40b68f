//! The connection of an attached user to a supervisor: sends keys and sizes, receives the state, and never waits.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::PollFlags;

use super::LAST_STATE_MS;
use crate::os::clock::Deadline;
use crate::os::process::wait::pause_ms;
use crate::os::socket;
use crate::rules::fault::Fault;
use crate::rules::name::Name;
use crate::rules::worker::protocol::{
    Decoder, FrameKind, Hello, MAX_PAYLOAD, MAX_REPLY, Resize, VERSION, ViewerState, WireReply, WireRequest,
    encode, encode_json,
};
use crate::store::layout::WorkerDir;
use crate::store::workers;

/// How long a supervisor may take to have room for one more connection.
const CONNECT: Duration = Duration::from_secs(10);
/// From this many unsent bytes on, no more keys are accepted.
const FULL_BYTES: usize = 64 * 1024;

/// A connection, or the remains of a closed one.
pub struct Link {
    stream: Option<UnixStream>,
    decoder: Decoder,
    queue: Vec<u8>,
    /// Until when the last state of a supervisor that hung up may still arrive.
    wait_limit: Option<Deadline>,
}

impl Link {
    /// Connects to the supervisor and asks to attach; if there is no supervisor, returns a closed link.
    pub fn open(dir: &WorkerDir, id: &Name, (cols, rows): (u16, u16), view: bool) -> Result<Link> {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        let what = || format!("could not attach to {id}");
        let wait_limit = Deadline::after_ms(LAST_STATE_MS);
        let stream = loop {
            match socket::connect(&dir.attach_socket(), CONNECT) {
                Ok(stream) => {
                    stream.set_nonblocking(true).with_context(what)?;
                    break Some(stream);
                }
                Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => {
                    if wait_limit.passed() || !workers::is_alive(dir)? {
                        break None;
                    }
                    // A supervisor that is just starting will listen in a moment.
                    pause_ms(5);
                }
                Err(error) => return Err(error).with_context(what),
            }
        };
        let hello = Hello { looop: VERSION, request: WireRequest::Attach { cols, rows, view } };
        Ok(Link { stream, decoder: Decoder::new(MAX_REPLY), queue: encode_json(&hello), wait_limit: None })
    }

    /// Returns the stream to poll, while there is one.
    pub fn stream(&self) -> Option<&UnixStream> {
        self.stream.as_ref()
    }

    /// Returns the events to poll for.
    pub fn interest(&self) -> PollFlags {
        if self.queue.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
    }

    /// Returns true if there was no connection from the start.
    pub fn was_never_open(&self) -> bool {
        self.stream.is_none() && self.wait_limit.is_none()
    }

    /// Returns true while a last state may still arrive.
    pub fn is_closing(&self) -> bool {
        self.wait_limit.as_ref().is_some_and(|wait_limit| !wait_limit.passed())
    }

    /// Returns true if typed keys must wait.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= FULL_BYTES
    }

    pub fn send(&mut self, keys: &[u8]) {
        for part in keys.chunks(MAX_PAYLOAD) {
            self.queue.extend(encode(FrameKind::Data, part));
        }
    }

    /// Sends the size of this terminal.
    pub fn resize(&mut self, (cols, rows): (u16, u16)) {
        self.queue.extend(encode_json(&Resize { cols, rows }));
    }

    /// Sends and receives what is possible without waiting; returns the latest state, if there is one.
    pub fn exchange(&mut self, id: &Name) -> Result<Option<ViewerState>> {
        let Some(mut stream) = self.stream.as_ref() else { return Ok(None) };
        let mut over = false;
        while !self.queue.is_empty() && !over {
            match stream.write(&self.queue) {
                Ok(written) => drop(self.queue.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Messages from before it hung up are still read.
                Err(_) => self.queue.clear(),
            }
        }
        let mut buffer = [0; 8 * 1024];
        while !over {
            match stream.read(&mut buffer) {
                Ok(0) => over = true,
                Ok(length) => self.decoder.push(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => over = true,
            }
        }
        let mut news = None;
        while let Some(frame) = self.decoder.next_frame().map_err(|why| refused(id, &why))? {
            match serde_json::from_slice::<ViewerState>(&frame.payload) {
                Ok(seen) => news = Some(seen),
                Err(_) => self.reply(id, &frame.payload)?,
            }
        }
        if over {
            self.stream = None;
            self.queue.clear();
            self.wait_limit = Some(Deadline::after_ms(LAST_STATE_MS));
        }
        Ok(news)
    }

    /// Fails for any message except a state.
    fn reply(&self, id: &Name, payload: &[u8]) -> Result<()> {
        match serde_json::from_slice::<WireReply>(payload) {
            Ok(WireReply::Version(theirs)) => {
                let (who, hint) = if theirs < VERSION {
                    ("older", "end the worker with the looop that started it, or wait until it is done")
                } else {
                    ("newer", "use the looop that started it")
                };
                let what = format!("its supervisor is {who} than this looop ({theirs}, not {VERSION})");
                Err(Fault::failed(format!("could not attach to {id}: {what}")).hint(hint).into())
            }
            Ok(WireReply::Error(why)) => Err(refused(id, &why).into()),
            Ok(WireReply::Ok(_)) => Ok(()),
            Err(error) => Err(refused(id, &error.to_string()).into()),
        }
    }

    /// Sends the rest before the connection is dropped, for a moment at most.
    pub fn send_rest(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let sent = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_write_timeout(Some(Duration::from_secs(1))))
                .and_then(|()| stream.write_all(&self.queue));
            // The user leaves; unaccepted keys are dropped.
            sent.unwrap_or_default();
        }
    }
}

fn refused(id: &Name, why: &str) -> Fault {
    Fault::failed(format!("could not attach to {id}: {}", crate::rules::text::visible(why, false)))
}
