//! The connections of a supervisor, with limits on their number, their memory and their silence.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::event::PollFlags;

use super::Supervisor;
use super::output::READ_BYTES;
use super::serve::ConnectionRole;
use crate::model::wire::{self, Decoder, FrameKind, Hello, Resize, ViewerState, WireFrame, WireReply};
use crate::sys::clock::Deadline;
use crate::sys::pty::{self, Size};
use crate::sys::socket;

/// The most connections on each side at once: a worker cannot lock the user out.
const MAX_CONNS: usize = 64;
/// How long a connection may take to send its request, or to read a reply, in milliseconds.
const STALL_MS: i64 = 10_000;
/// How long a program may take to redraw its screen for another size, in milliseconds.
const REDRAW_MS: i64 = 2_000;

/// The kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A command of the user.
    Human,
    /// The worker.
    Worker,
}

pub(super) struct Conn {
    stream: UnixStream,
    pub(super) side: Side,
    decoder: Decoder,
    out: Vec<u8>,
    pub(super) role: ConnectionRole,
    stall: Deadline,
    /// True for a viewer that does not have the latest state.
    stale: bool,
    closing: bool,
    gone: bool,
}

impl Conn {
    fn new(stream: UnixStream, side: Side) -> Conn {
        Conn {
            stream,
            side,
            decoder: Decoder::default(),
            out: Vec::new(),
            role: ConnectionRole::New,
            stall: Deadline::after_ms(STALL_MS),
            stale: false,
            closing: false,
            gone: false,
        }
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Returns the events to poll for. Keys are not read while the terminal has not taken the earlier ones.
    pub(super) fn wants(&self, keys_fit: bool) -> PollFlags {
        let reads = !self.closing && (keys_fit || !matches!(self.role, ConnectionRole::Viewer { .. }));
        let read = if reads { PollFlags::IN } else { PollFlags::empty() };
        let write = if self.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        read | write
    }

    /// Returns how long it may stay in its current state.
    pub(super) fn wait_limit(&self) -> Duration {
        if self.may_stall() { Duration::from_secs(3600) } else { self.stall.left() }
    }

    fn may_stall(&self) -> bool {
        // A viewer that reads nothing costs one message, whatever the worker prints in the meantime.
        !self.closing && matches!(self.role, ConnectionRole::Viewer { .. } | ConnectionRole::Asking(_))
    }

    /// Marks the state of a viewer as out of date.
    pub(super) fn outdate(&mut self) {
        self.stale = matches!(self.role, ConnectionRole::Viewer { .. });
    }

    /// Sends the final reply.
    pub(super) fn reply(&mut self, reply: &WireReply) {
        self.out.extend(wire::encode_json(reply));
        self.stall = Deadline::after_ms(STALL_MS);
        self.closing = true;
    }

    /// Resets the timeout, because the connection makes progress.
    pub(super) fn goes_on(&mut self) {
        self.stall = Deadline::after_ms(STALL_MS);
    }

    /// Sends what is possible. Returns false if the other end is gone.
    pub(super) fn flush(&mut self) -> bool {
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

    /// Reads what has arrived. Returns false if the other end is gone.
    fn fill(&mut self) -> bool {
        let mut buffer = [0_u8; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.decoder.push(&buffer[..count]);
                true
            }
            Err(error) => {
                matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
            }
        }
    }
}

impl Supervisor {
    pub(super) fn accept(&mut self, listener: &UnixListener, side: Side) {
        if let Ok((stream, _)) = listener.accept()
            && socket::check_peer(&stream).is_ok()
            && stream.set_nonblocking(true).is_ok()
        {
            self.conns.push(Conn::new(stream, side));
        }
    }

    /// Returns true if another connection of this side is accepted.
    pub(super) fn has_room(&self, side: Side) -> bool {
        self.conns.iter().filter(|conn| conn.side == side).count() < MAX_CONNS
    }

    /// Serves each connection, and removes those that are gone.
    pub(super) fn serve_conns(&mut self, ready: &[PollFlags]) {
        for (at, flags) in ready.iter().enumerate() {
            let conn = &mut self.conns[at];
            if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && !conn.closing {
                conn.gone = !conn.fill();
                self.take_frames(at);
            }
            let conn = &mut self.conns[at];
            conn.gone |= !conn.may_stall() && conn.stall.passed();
            conn.flush();
        }
        let typists = self.typists();
        self.conns.retain(|conn| !conn.gone);
        if self.typists() != typists {
            self.fit();
        }
    }

    fn typists(&self) -> usize {
        self.conns.iter().filter(|conn| conn.role.size().is_some()).count()
    }

    fn take_frames(&mut self, at: usize) {
        while !self.conns[at].closing {
            match self.conns[at].decoder.next_frame() {
                Ok(Some(frame)) => self.take_frame(at, frame),
                Ok(None) => return,
                Err(why) => return self.conns[at].reply(&WireReply::Error(why)),
            }
        }
    }

    fn take_frame(&mut self, at: usize, frame: WireFrame) {
        let conn = &mut self.conns[at];
        match (&mut conn.role, frame.kind) {
            (ConnectionRole::New, FrameKind::Json) => match hello(&frame.payload) {
                Ok(request) => self.open(at, request),
                Err(reply) => conn.reply(&reply),
            },
            (ConnectionRole::Viewer { size: Some(_) }, FrameKind::Data) => {
                if self.terminal.is_some() {
                    self.keys.extend_from_slice(&frame.payload);
                }
            }
            (ConnectionRole::Viewer { size: size @ Some(_) }, FrameKind::Json) => {
                if let Ok(resize) = serde_json::from_slice::<Resize>(&frame.payload) {
                    *size = Some(Size { cols: resize.cols, rows: resize.rows });
                    self.fit();
                }
            }
            (ConnectionRole::Reporting(_), FrameKind::Data) => self.report_part(at, &frame.payload),
            (ConnectionRole::Viewer { size: None }, _) => {}
            _ => conn.reply(&WireReply::Error("this frame does not belong here".to_owned())),
        }
    }

    /// Sets the terminal to the size of the smallest screen that shows it.
    pub(super) fn fit(&mut self) {
        let sizes = self.conns.iter().filter_map(|conn| conn.role.size());
        self.resize(sizes.reduce(Size::min));
    }

    fn resize(&mut self, size: Option<Size>) {
        // Without a viewer, programs keep their size.
        let Some(size) = size.map(|size| size.min(size)).filter(|size| *size != self.size) else { return };
        self.size = size;
        self.redraws = Deadline::after_ms(REDRAW_MS);
        if let Some(terminal) = &self.terminal {
            // A terminal whose programs are gone needs no size.
            drop(pty::resize(terminal, size));
        }
        self.writer.resize(size.cols, size.rows, super::now().unix_ms);
        self.conns.iter_mut().for_each(Conn::outdate);
    }

    /// Sends viewers the latest state, each once it has read the last message.
    pub(super) fn tell_viewers(&mut self) {
        if !self.conns.iter().any(|conn| conn.stale && conn.out.is_empty()) {
            return;
        }
        let seen = wire::encode_json(&ViewerState {
            offset: self.writer.offset(),
            cols: self.size.cols,
            rows: self.size.rows,
            phase: self.state.phase,
            flag: self.state.flag.clone(),
            ask: self.state.ask.clone(),
            lost_bytes: self.state.lost_bytes,
        });
        for conn in self.conns.iter_mut().filter(|conn| conn.stale && conn.out.is_empty()) {
            conn.out.extend_from_slice(&seen);
            conn.stale = false;
            conn.stall = Deadline::after_ms(STALL_MS);
            conn.flush();
        }
    }
}

fn hello(payload: &[u8]) -> Result<wire::WireRequest, WireReply> {
    #[derive(serde::Deserialize)]
    struct Version {
        looop: u32,
    }
    match serde_json::from_slice::<Version>(payload) {
        Ok(version) if version.looop != wire::VERSION => return Err(WireReply::Version(wire::VERSION)),
        Ok(_) => {}
        Err(_) => return Err(WireReply::Error("this is not a greeting of looop".to_owned())),
    }
    let hello: Hello =
        serde_json::from_slice(payload).map_err(|error| WireReply::Error(error.to_string()))?;
    Ok(hello.request)
}
