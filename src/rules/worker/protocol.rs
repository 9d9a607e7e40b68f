//! Pure. The protocol of a worker's two sockets: frames, requests and replies.
//!
//! A frame is one byte of kind, four bytes of length (little endian) and the payload. A connection starts with one
//! request, which determines the rest. Output is never sent over a socket: the supervisor only sends the length of the
//! transcript, and the viewer reads the file. So a slow viewer costs the supervisor no memory.

use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::rules::cost::charge::{CostSource, Usage};
use crate::rules::name::Name;
use crate::rules::worker::{Flag, Phase};

/// The version of this protocol. Both sides must have the same one.
pub const VERSION: u32 = 1;
/// The longest payload of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// The longest reply of a supervisor, in bytes: a text of [`MAX_TEXT`] with each of its bytes escaped as `\u0001`.
pub const MAX_REPLY: usize = 8 * MAX_TEXT;
/// The largest report, in bytes.
pub const MAX_REPORT: usize = 10 << 20;
/// The longest text of a flag, a question or an answer, in bytes.
pub const MAX_TEXT: usize = 32 * 1024;

/// The kind of a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::FromRepr)]
#[repr(u8)]
pub enum FrameKind {
    /// A JSON object.
    Json = b'J',
    /// Raw bytes: the user's keys, or a part of a report. An empty payload ends a report.
    Data = b'D',
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireFrame {
    pub kind: FrameKind,
    pub payload: Vec<u8>,
}

/// Encodes a frame. The caller must split a payload longer than [`MAX_PAYLOAD`].
pub fn encode(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(5 + payload.len());
    bytes.push(kind as u8);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Encodes a message as a frame.
pub fn encode_json<T: Serialize>(message: &T) -> Vec<u8> {
    encode(FrameKind::Json, &serde_json::to_vec(message).unwrap_or_default())
}

/// Decodes frames from bytes that arrive in pieces.
#[derive(Debug, SmartDefault)]
pub struct Decoder {
    buffer: Vec<u8>,
    #[default(MAX_PAYLOAD)]
    longest: usize,
}

impl Decoder {
    /// Creates a decoder of frames with at most `longest` bytes of payload. A supervisor protects its memory with
    /// [`MAX_PAYLOAD`]; its replies may have [`MAX_REPLY`].
    pub fn new(longest: usize) -> Decoder {
        Decoder { buffer: Vec::new(), longest }
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete frame; `None` if it is incomplete.
    ///
    /// # Errors
    /// The bytes are not a valid frame; the connection must be closed.
    pub fn next_frame(&mut self) -> Result<Option<WireFrame>, String> {
        let Some((tag, rest)) = self.buffer.split_first() else { return Ok(None) };
        let kind =
            FrameKind::from_repr(*tag).ok_or_else(|| format!("a frame cannot begin with byte {tag}"))?;
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
    /// The protocol version of the caller.
    pub looop: u32,
    pub request: WireRequest,
}

/// A request to a supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireRequest {
    /// User's side: shows the worker and, unless `view`, forwards keys. The supervisor sends [`ViewerState`] messages; the
    /// caller sends `Data` frames with keys, and [`Resize`] messages.
    Attach {
        /// The width of the caller's screen, in cells.
        cols: u16,
        /// The height of the caller's screen, in cells.
        rows: u16,
        /// If true, the supervisor ignores the caller's keys and screen size.
        view: bool,
    },
    /// User's side: kills the worker.
    Kill,
    /// User's side: an answer or a message for the worker was written to a file; read it now.
    #[serde(rename = "poke")]
    Wake,
    /// Either side: sets a flag for the user.
    Flag {
        /// What the worker needs.
        text: String,
    },
    /// Either side: clears the flag.
    Unflag,
    /// Worker's side: asks the user a question. The reply is sent when the user has answered.
    Ask(WorkerQuestion),
    /// Worker's side: its work is done. The supervisor ends its program and starts the checks.
    Done,
    /// Worker's side: returns the unread messages in its inbox.
    #[serde(rename = "told")]
    Inbox,
    /// Worker's side: acquires a lease.
    Claim {
        resource: String,
        /// Its lifetime between two renewals, in seconds.
        ttl_s: Option<u64>,
    },
    /// Worker's side: releases a lease.
    Release { resource: String },
    /// Worker's side: delivers a report. `Data` frames follow; the last one is empty.
    Report {
        /// The file's name.
        name: String,
    },
    /// Worker's side: reports what it spent.
    Spend(ReportedSpend),
    /// Worker's side: a hook of its program reports its status, in the terms of OSC 7501.
    #[serde(rename = "fares")]
    HookStatus {
        /// `working`, `blocked`, `done` or `error`.
        state: String,
        /// What it waits for, or its last message.
        text: Option<String>,
    },
}

/// A question of a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerQuestion {
    pub text: String,
    /// Answers to choose from.
    #[serde(default)]
    pub options: Vec<String>,
    /// What the question is about: a link, a path, a name.
    pub reference: Option<String>,
}

/// What a worker reports as spent. Absent figures count as nothing and unknown ones are ignored, so that a worker keeps its
/// account while the program on either side is upgraded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportedSpend {
    /// Millionths of a US dollar.
    pub cost_micros: u64,
    /// Input tokens that did not come from a cache.
    pub tokens_in: u64,
    /// Input tokens read from a cache.
    pub tokens_cached: u64,
    /// Input tokens written to a cache.
    pub tokens_written: u64,
    pub tokens_out: u64,
    pub model: Option<String>,
    /// Where the figures come from; `None`: the runner reported them.
    pub basis: Option<CostSource>,
}

impl ReportedSpend {
    /// Converts it to the usage of a charge.
    pub fn usage(self) -> Usage {
        Usage {
            model: self.model,
            tokens_in: self.tokens_in,
            tokens_cached: self.tokens_cached,
            tokens_written: self.tokens_written,
            tokens_out: self.tokens_out,
            cost_micros: self.cost_micros,
            basis: self.basis.unwrap_or(CostSource::Reported),
            ..Usage::unknown()
        }
    }
}

impl From<Usage> for ReportedSpend {
    fn from(usage: Usage) -> ReportedSpend {
        ReportedSpend {
            cost_micros: usage.cost_micros,
            tokens_in: usage.tokens_in,
            tokens_cached: usage.tokens_cached,
            tokens_written: usage.tokens_written,
            tokens_out: usage.tokens_out,
            model: usage.model,
            basis: Some(usage.basis),
        }
    }
}

/// A supervisor's reply to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireReply {
    /// Success; the text for the caller to print, which may be empty.
    Ok(String),
    /// Failure, with the reason.
    Error(String),
    /// The caller's protocol version differs; this is the supervisor's.
    Version(u32),
}

/// The state that a viewer gets, at first and after each change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewerState {
    /// The length of the transcript in bytes, including parts that were rotated away.
    pub offset: u64,
    /// The width of the worker's screen, in cells.
    pub cols: u16,
    /// The height of the worker's screen, in cells.
    pub rows: u16,
    pub phase: Phase,
    pub flag: Option<Flag>,
    /// The question that it waits for.
    pub ask: Option<Name>,
    /// How much of its output could not be written, in bytes.
    #[serde(default)]
    pub lost_bytes: u64,
}

/// The new size of the caller's screen.
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
    fn requests_keep_their_format() {
        let hello =
            Hello { looop: VERSION, request: WireRequest::Attach { cols: 80, rows: 24, view: false } };
        let text = serde_json::to_string(&hello).unwrap();
        assert_eq!(text, r#"{"looop":1,"request":{"attach":{"cols":80,"rows":24,"view":false}}}"#);
        let all = [
            WireRequest::Kill,
            WireRequest::Spend(ReportedSpend {
                cost_micros: 7,
                tokens_in: 1,
                tokens_out: 2,
                ..ReportedSpend::default()
            }),
            WireRequest::Claim { resource: "x".to_owned(), ttl_s: Some(30) },
            WireRequest::Ask(WorkerQuestion { text: "t".to_owned(), options: vec![], reference: None }),
        ];
        for request in all {
            let hello = Hello { looop: VERSION, request };
            let text = serde_json::to_string(&hello).unwrap();
            assert_eq!(serde_json::from_str::<Hello>(&text).unwrap(), hello, "{text}");
        }
    }

    #[test]
    fn garbage_is_refused_at_once() {
        let mut decoder = Decoder::new(MAX_PAYLOAD);
        decoder.push(b"GET / HTTP/1.1\r\n");
        assert!(decoder.next_frame().is_err());
        let mut decoder = Decoder::new(MAX_PAYLOAD);
        decoder.push(&[b'J', 0xff, 0xff, 0xff, 0xff]);
        assert!(decoder.next_frame().is_err(), "an invalid length is refused at once");
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
            cut in 1_usize..64,
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|p| encode(FrameKind::Data, p)).collect();
            let mut decoder = Decoder::new(MAX_PAYLOAD);
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
