//! The connections of a supervisor, with limits on their number, their memory and their silence. The socket decides
//! whether the user or the worker asks, never the content of a request.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags};

use super::output::{READ_BYTES, is_for_now};
use super::record::Record;
use super::refusal::{self, RequestRefusal};
use super::upload::Upload;
use crate::os::clock::Deadline;
use crate::os::pty::Size;
use crate::os::socket;
use crate::rules::name::Name;
use crate::rules::worker::protocol::{
    self, Decoder, FrameKind, Hello, MAX_PAYLOAD, Resize, ViewerState, WireReply, WireRequest,
};
use crate::store::layout::WorkerDir;

/// The most connections on each side at once: a worker cannot lock the user out.
const MAX_CONNS: usize = 64;
/// How long a connection may take to send its request, or to read a reply, in milliseconds.
const STALL_MS: i64 = 10_000;
/// How many deliverables a worker may hand in.
const MAX_REPORTS: usize = 100;
/// How much a worker may hand in, in bytes.
const MAX_TOTAL: usize = 32 << 20;

/// The kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A command of the user.
    User,
    /// The worker.
    Worker,
}

/// What a client sent, for the supervisor to handle.
pub(super) enum ClientEvent {
    Request(Side, WireRequest),
    Keys(Vec<u8>),
    /// The size of a screen that shows the worker has changed.
    Resized,
    /// A part of a deliverable.
    Part(Vec<u8>),
}

/// The purpose of a connection.
pub(super) enum ConnectionRole {
    /// Not yet known.
    New,
    /// A viewer with the last state that it got; with a size it also types.
    Viewer { size: Option<Size>, seen: Option<ViewerState> },
    /// Waits for the answer to this ask.
    Asking(Name),
    /// Hands in a deliverable.
    Reporting(Upload),
}

pub(super) struct Conn {
    stream: UnixStream,
    side: Side,
    decoder: Decoder,
    out: Vec<u8>,
    pub(super) role: ConnectionRole,
    stall: Deadline,
    closing: bool,
    gone: bool,
}

impl Conn {
    /// Returns the events to poll for. Keys are not read while the terminal has not taken the earlier ones.
    fn wants(&self, keys_fit: bool) -> PollFlags {
        let reads = !self.closing && (keys_fit || !matches!(self.role, ConnectionRole::Viewer { .. }));
        let read = if reads { PollFlags::IN } else { PollFlags::empty() };
        let write = if self.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        read | write
    }

    fn may_stall(&self) -> bool {
        // A viewer that reads nothing costs one message, whatever the worker prints in the meantime.
        !self.closing && matches!(self.role, ConnectionRole::Viewer { .. } | ConnectionRole::Asking(_))
    }

    /// The size of its screen, if it types.
    fn size(&self) -> Option<Size> {
        if let ConnectionRole::Viewer { size, .. } = self.role { size } else { None }
    }

    fn send(&mut self, frame: &[u8]) {
        self.out.extend_from_slice(frame);
        self.stall = Deadline::after_ms(STALL_MS);
    }

    /// Sends the final reply.
    pub(super) fn reply(&mut self, reply: &WireReply) {
        self.send(&protocol::encode_json(reply));
        self.closing = true;
    }

    /// Sends what is possible. Returns false if the other end is gone.
    fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
                Err(_) => {
                    self.gone = true;
                    return false;
                }
            }
        }
        self.gone |= self.closing;
        true
    }

    /// Reads what has arrived.
    pub(super) fn read(&mut self, ready: PollFlags) {
        if !ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) || self.closing {
            return;
        }
        let mut buffer = [0_u8; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.gone = true,
            Ok(count) => self.decoder.push(&buffer[..count]),
            Err(error) => self.gone = !is_for_now(&error),
        }
    }

    /// Returns the next request of the client. Answers a malformed one itself, with an error.
    pub(super) fn next_event(&mut self) -> Option<ClientEvent> {
        if self.closing {
            return None;
        }
        self.next_frame().unwrap_or_else(|refusal| {
            self.reply(&refusal::reply(Err(refusal)));
            None
        })
    }

    /// Sends what is possible, and notes that it has stalled.
    pub(super) fn write(&mut self) {
        self.gone |= !self.may_stall() && self.stall.passed();
        self.flush();
    }

    /// Returns what the next complete frame asks for.
    fn next_frame(&mut self) -> Result<Option<ClientEvent>, RequestRefusal> {
        while let Some(frame) = self.decoder.next_frame().map_err(RequestRefusal::Invalid)? {
            return Ok(Some(match (&mut self.role, frame.kind) {
                (ConnectionRole::New, FrameKind::Json) => {
                    ClientEvent::Request(self.side, hello(&frame.payload)?)
                }
                (ConnectionRole::Viewer { size: Some(_), .. }, FrameKind::Data) => {
                    ClientEvent::Keys(frame.payload)
                }
                (ConnectionRole::Viewer { size: size @ Some(_), .. }, FrameKind::Json) => {
                    let Ok(resize) = serde_json::from_slice::<Resize>(&frame.payload) else { continue };
                    *size = Some(Size { cols: resize.cols, rows: resize.rows });
                    ClientEvent::Resized
                }
                (ConnectionRole::Viewer { size: None, .. }, _) => continue,
                (ConnectionRole::Reporting(_), FrameKind::Data) => ClientEvent::Part(frame.payload),
                _ => return Err(RequestRefusal::WrongFrame),
            }));
        }
        Ok(None)
    }
}

/// The two sockets with their connections.
pub(super) struct Clients {
    listeners: [(UnixListener, Side); 2],
    conns: Vec<Conn>,
    /// How many deliverables were begun, how many are complete, and the size of those in bytes.
    begun: u64,
    complete: usize,
    complete_bytes: usize,
}

impl Clients {
    /// Makes the sockets.
    pub(super) fn listen(dir: &WorkerDir) -> anyhow::Result<Clients> {
        let bind = |path: &std::path::Path| {
            socket::listen(path).with_context(|| format!("could not make the socket `{}`", path.display()))
        };
        let user = (bind(&dir.attach_socket())?, Side::User);
        let listeners = [user, (bind(&dir.worker_socket())?, Side::Worker)];
        Ok(Clients { listeners, conns: Vec::new(), begun: 0, complete: 0, complete_bytes: 0 })
    }

    /// Returns what to wait for: the two sockets, then each connection.
    pub(super) fn polls(&self, keys_fit: bool) -> impl Iterator<Item = PollFd<'_>> {
        let listeners = self.listeners.iter().map(|(listener, side)| {
            let has_room = self.conns.iter().filter(|conn| conn.side == *side).count() < MAX_CONNS;
            PollFd::new(listener, if has_room { PollFlags::IN } else { PollFlags::empty() })
        });
        listeners.chain(self.conns.iter().map(move |conn| PollFd::new(&conn.stream, conn.wants(keys_fit))))
    }

    pub(super) fn count(&self) -> usize {
        self.conns.len()
    }

    /// Returns the time until the first connection has stalled.
    pub(super) fn due(&self) -> Option<Duration> {
        self.conns.iter().filter(|conn| !conn.may_stall()).map(|conn| conn.stall.left()).min()
    }

    /// Accepts a connection on each socket that is ready.
    pub(super) fn accept(&mut self, ready: &[PollFlags]) {
        for ((listener, side), _) in self.listeners.iter().zip(ready).filter(|(_, flags)| !flags.is_empty()) {
            if let Ok((stream, _)) = listener.accept()
                && socket::check_peer(&stream).is_ok()
                && stream.set_nonblocking(true).is_ok()
            {
                self.conns.push(Conn {
                    stream,
                    side: *side,
                    decoder: Decoder::new(MAX_PAYLOAD),
                    out: Vec::new(),
                    role: ConnectionRole::New,
                    stall: Deadline::after_ms(STALL_MS),
                    closing: false,
                    gone: false,
                });
            }
        }
    }

    pub(super) fn conn(&mut self, at: usize) -> &mut Conn {
        &mut self.conns[at]
    }

    /// Removes the connections that are gone.
    pub(super) fn remove_gone(&mut self) {
        self.conns.retain(|conn| !conn.gone);
    }

    /// Returns the size of the smallest screen that shows the worker.
    pub(super) fn size(&self) -> Option<Size> {
        self.conns.iter().filter_map(Conn::size).reduce(Size::min)
    }

    /// Sends an answer to all that wait for it. Returns true if one of them got it.
    pub(super) fn answer(&mut self, ask: &Name, answer: &WireReply) -> bool {
        let mut is_heard = false;
        for conn in &mut self.conns {
            if matches!(&conn.role, ConnectionRole::Asking(asked) if asked == ask) {
                conn.reply(answer);
                is_heard |= conn.flush();
            }
        }
        is_heard
    }

    /// Begins a deliverable.
    pub(super) fn begin_report(&mut self, at: usize, name: &str, record: &Record) {
        self.begun += 1;
        match Upload::begin(name, self.begun, record) {
            Ok(upload) => self.conns[at].role = ConnectionRole::Reporting(upload),
            Err(refusal) => self.conns[at].reply(&refusal::reply(Err(refusal))),
        }
    }

    /// Takes a part of a deliverable; an empty one ends it.
    pub(super) fn report_part(&mut self, at: usize, bytes: &[u8], record: &mut Record) {
        let others = self.conns.iter().map(|conn| match &conn.role {
            ConnectionRole::Reporting(upload) => upload.bytes,
            _ => 0,
        });
        let total = self.complete_bytes + others.sum::<usize>() + bytes.len();
        let conn = &mut self.conns[at];
        conn.stall = Deadline::after_ms(STALL_MS);
        let ConnectionRole::Reporting(upload) = &mut conn.role else { return };
        upload.bytes += bytes.len();
        let taken = match () {
            () if self.complete >= MAX_REPORTS => Err(RequestRefusal::TooManyReports(MAX_REPORTS)),
            () if total > MAX_TOTAL => Err(RequestRefusal::ReportsTooLong(MAX_TOTAL)),
            () => upload.take(bytes, record),
        };
        if matches!(taken, Ok(Some(_))) {
            self.complete += 1;
            self.complete_bytes += upload.bytes;
        }
        if let Some(result) = taken.transpose() {
            conn.role = ConnectionRole::New;
            conn.reply(&refusal::reply(result));
        }
    }

    /// Sends viewers the latest state, each once it has read the last message.
    pub(super) fn tell_viewers(&mut self, state: impl FnOnce() -> ViewerState) {
        if !self.conns.iter().any(|conn| matches!(conn.role, ConnectionRole::Viewer { .. })) {
            return;
        }
        let state = state();
        let frame = protocol::encode_json(&state);
        for conn in self.conns.iter_mut().filter(|conn| conn.out.is_empty()) {
            let ConnectionRole::Viewer { seen, .. } = &mut conn.role else { continue };
            if seen.as_ref() != Some(&state) {
                *seen = Some(state.clone());
                conn.send(&frame);
                conn.flush();
            }
        }
    }

    /// Ends the connections that wait for an answer, and sends what is possible.
    pub(super) fn close(&mut self) {
        for conn in &mut self.conns {
            if matches!(conn.role, ConnectionRole::Asking(_)) {
                conn.reply(&refusal::reply(Err(RequestRefusal::WorkerEnded)));
            }
            conn.flush();
        }
    }
}

fn hello(payload: &[u8]) -> Result<WireRequest, RequestRefusal> {
    #[derive(serde::Deserialize)]
    struct Version {
        looop: u32,
    }
    match serde_json::from_slice::<Version>(payload) {
        Ok(version) if version.looop != protocol::VERSION => return Err(RequestRefusal::Version),
        Ok(_) => {}
        Err(_) => return Err(RequestRefusal::NoGreeting),
    }
    let hello: Hello =
        serde_json::from_slice(payload).map_err(|error| RequestRefusal::Invalid(error.to_string()))?;
    Ok(hello.request)
}
