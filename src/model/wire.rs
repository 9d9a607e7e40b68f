//! Pure. What goes over a worker's two sockets: frames, requests and replies.
//!
//! A frame is one byte of kind, four bytes of length (little endian) and the payload. A connection begins with one
//! request; what follows depends on it. Output never goes over a socket: a viewer is told how far the
//! transcript reaches and reads the file, so that a slow viewer costs the supervisor no memory.

use serde::{Deserialize, Serialize};

use super::charge::{Basis, Usage};
use super::name::Name;
use super::worker::{Flag, Phase};

/// The version of this protocol. Both sides must speak the same one.
pub const VERSION: u32 = 1;
/// The longest payload of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// The longest reply of a supervisor, in bytes: a text of [`MAX_TEXT`] with each of its bytes written as `\u0001`.
pub const MAX_REPLY: usize = 8 * MAX_TEXT;
/// The largest report, in bytes.
pub const MAX_REPORT: usize = 10 << 20;
/// The longest text of a flag, a question or an answer, in bytes.
pub const MAX_TEXT: usize = 32 * 1024;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A JSON object.
    Json,
    /// Raw bytes: keys typed by a human, or a part of a report. An empty one ends a report.
    Data,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireFrame {
    /// What it carries.
    pub kind: FrameKind,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A frame as bytes. A payload longer than [`MAX_PAYLOAD`] must be split by the caller.
pub fn encode(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let tag = match kind {
        FrameKind::Json => b'J',
        FrameKind::Data => b'D',
    };
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(5 + payload.len());
    bytes.push(tag);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A message as the bytes of its frame.
pub fn encode_json<T: Serialize>(message: &T) -> Vec<u8> {
    encode(FrameKind::Json, &serde_json::to_vec(message).unwrap_or_default())
}

/// Takes bytes as they come and gives whole frames.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    longest: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { buffer: Vec::new(), longest: MAX_PAYLOAD }
    }
}

impl Decoder {
    /// For what a supervisor says. Its own memory is what the usual limit guards.
    pub fn of_replies() -> Decoder {
        Decoder { longest: MAX_REPLY, ..Decoder::default() }
    }

    /// Takes bytes that came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; none while there is not one.
    ///
    /// # Errors
    /// Says why these bytes are no frame; the connection is of no use then.
    pub fn next_frame(&mut self) -> Result<Option<WireFrame>, String> {
        let Some((tag, rest)) = self.buffer.split_first() else { return Ok(None) };
        let kind = match tag {
            b'J' => FrameKind::Json,
            b'D' => FrameKind::Data,
            other => return Err(format!("a frame cannot begin with byte {other}")),
        };
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > self.longest {
            return Err(format!("a frame of {length} bytes is longer than {}", self.longest));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let payload = rest[..length].to_vec();
        self.buffer.drain(..5 + length);
        Ok(Some(WireFrame { kind, payload }))
    }
}

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's version on the caller's side.
    pub looop: u32,
    /// What is wanted.
    pub request: Request,
}

/// What is asked of a supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Human's side: shows the worker and, unless `view`, passes keys on. [`Seen`] messages follow, and the
    /// caller sends `Data` frames with keys and [`Resize`] messages.
    Attach {
        /// The width of the caller's screen, in cells.
        cols: u16,
        /// The height of the caller's screen, in cells.
        rows: u16,
        /// True: nothing is passed on, and the size does not count.
        view: bool,
    },
    /// Human's side: ends the worker.
    Kill,
    /// Human's side: an answer or a text for the worker was written; look for it now.
    Poke,
    /// Either side: calls for a human.
    Flag {
        /// What for.
        text: String,
    },
    /// Either side: the human is not needed any more.
    Unflag,
    /// Worker's side: puts a question to the human. The reply comes when it is answered.
    Ask {
        /// The question.
        text: String,
        /// Answers to choose from.
        #[serde(default)]
        options: Vec<String>,
        /// What it is about: a link, a path, a name.
        #[serde(default)]
        reference: Option<String>,
    },
    /// Worker's side: its work is done. Its program is ended and the checks begin.
    Done,
    /// Worker's side: the texts that were sent to it and that it has not read.
    Told,
    /// Worker's side: takes a lease.
    Claim {
        /// What on.
        resource: String,
        /// Its lifetime between two renewals, in seconds.
        ttl_s: Option<u64>,
    },
    /// Worker's side: gives a lease back.
    Release {
        /// What on.
        resource: String,
    },
    /// Worker's side: hands in a deliverable. `Data` frames follow, the last one empty.
    Report {
        /// The file's name.
        name: String,
    },
    /// Worker's side: says what it spent.
    Spend(Spent),
    /// Worker's side: a hook of its program says how that fares, in the words of OSC 7501.
    Fares {
        /// `working`, `blocked`, `done` or `error`.
        state: String,
        /// What it waits for, or its last words.
        text: Option<String>,
    },
}

/// What a worker says that it spent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// Millionths of a US dollar.
    pub cost_micros: u64,
    /// Input tokens that no cache served.
    pub tokens_in: u64,
    /// Input tokens read from a cache.
    pub tokens_cached: u64,
    /// Input tokens written to a cache.
    pub tokens_written: u64,
    /// Output tokens.
    pub tokens_out: u64,
    /// The model.
    pub model: Option<String>,
    /// Where the figures come from; none: the runner said them.
    pub basis: Option<Basis>,
}

impl Spent {
    /// The same as a charge counts it.
    pub fn usage(self) -> Usage {
        Usage {
            model: self.model,
            tokens_in: self.tokens_in,
            tokens_cached: self.tokens_cached,
            tokens_written: self.tokens_written,
            tokens_out: self.tokens_out,
            cost_micros: self.cost_micros,
            basis: self.basis.unwrap_or(Basis::Reported),
            ..Usage::unknown()
        }
    }
}

/// What a supervisor says to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done; what the caller prints, may be empty.
    Ok(String),
    /// It is not done, and why.
    Error(String),
    /// The caller speaks another version of the protocol; this is the supervisor's.
    Version(u32),
}

/// What a viewer is told, at first and whenever something of it changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// How far the transcript reaches, in bytes from its beginning; parts that were rotated away count.
    pub offset: u64,
    /// The width of the worker's screen, in cells.
    pub cols: u16,
    /// The height of the worker's screen, in cells.
    pub rows: u16,
    /// Where the worker stands.
    pub phase: Phase,
    /// Its call for a human.
    #[serde(default)]
    pub flag: Option<Flag>,
    /// The question that it waits on.
    #[serde(default)]
    pub ask: Option<Name>,
    /// How much of its output could not be written down, in bytes.
    #[serde(default)]
    pub lost_bytes: u64,
}

/// The caller's screen has another size now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// Its width, in cells.
    pub cols: u16,
    /// Its height, in cells.
    pub rows: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_keep_their_form() {
        let hello = Hello { looop: VERSION, request: Request::Attach { cols: 80, rows: 24, view: false } };
        let text = serde_json::to_string(&hello).unwrap();
        assert_eq!(text, r#"{"looop":1,"request":{"attach":{"cols":80,"rows":24,"view":false}}}"#);
        let all = [
            Request::Kill,
            Request::Spend(Spent { cost_micros: 7, tokens_in: 1, tokens_out: 2, ..Spent::default() }),
            Request::Claim { resource: "x".to_owned(), ttl_s: Some(30) },
            Request::Ask { text: "t".to_owned(), options: vec![], reference: None },
        ];
        for request in all {
            let hello = Hello { looop: VERSION, request };
            let text = serde_json::to_string(&hello).unwrap();
            assert_eq!(serde_json::from_str::<Hello>(&text).unwrap(), hello, "{text}");
        }
    }

    #[test]
    fn garbage_is_refused_at_once() {
        let mut decoder = Decoder::default();
        decoder.push(b"GET / HTTP/1.1\r\n");
        assert!(decoder.next_frame().is_err());
        let mut decoder = Decoder::default();
        decoder.push(&[b'J', 0xff, 0xff, 0xff, 0xff]);
        assert!(decoder.next_frame().is_err(), "a length that no frame may have is not waited for");
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
            cut in 1_usize..64,
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|p| encode(FrameKind::Data, p)).collect();
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    frames.push(frame.payload);
                }
            }
            prop_assert_eq!(frames, payloads);
        }
    }
}
