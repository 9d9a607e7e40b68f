//! Pure. What an agent CLI said: its stream of JSON lines, read piece by piece in bounded memory.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::classify;
use crate::model::ask::visible;
use crate::model::charge::{Basis, Usage};
use crate::model::failing::Class;
use crate::model::json::clip;

/// The longest line that is read, in bytes; a longer one is passed over.
const MAX_LINE_BYTES: usize = 16 << 20;
/// The most text of an answer that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 8 << 20;
/// The most requests to its model that a CLI may tell of in one call. It has no tools: more is a loop.
const MAX_REQUESTS: u32 = 30;
/// The most bytes of one stream.
pub const MAX_STREAM_BYTES: u64 = 256 << 20;

/// How a CLI's events are read.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// The values of `type` that matter; an event of another type is not even parsed.
    pub wanted: &'static [&'static str],
    /// The one of them after which the usage is a sum that stands.
    pub settles: &'static str,
    /// What one event changes.
    pub read: fn(&mut Said, &Value),
}

/// Why there is no answer, as the stream has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// What kind.
    pub class: Class,
    /// In the CLI's words.
    pub why: String,
}

/// What a stream adds up to.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The answer.
    pub text: String,
    /// Why there is none; cleared by a later success.
    pub trouble: Option<Trouble>,
    /// True when the model's output limit ended the newest answer.
    pub truncated: bool,
    /// What was used, as far as it was said.
    pub usage: Usage,
    /// Requests to the model that the stream tells of.
    pub requests: u32,
    /// When a usage limit ends, in seconds since the epoch, where an event said so.
    pub resets_at_s: Option<i64>,
    /// The message whose usage was counted last: some CLIs tell of one message in several events.
    pub message: String,
    /// The version of the CLI, where it says it.
    pub version: Option<String>,
}

impl Default for Said {
    fn default() -> Said {
        Said {
            text: String::new(),
            trouble: None,
            truncated: false,
            usage: Usage::unknown(),
            requests: 0,
            resets_at_s: None,
            message: String::new(),
            version: None,
        }
    }
}

impl Said {
    /// Notes a failure by its words.
    pub fn fails(&mut self, why: &str) {
        self.fails_as(classify::by_words(why), why);
    }

    /// Notes a failure of a known class.
    pub fn fails_as(&mut self, class: Class, why: &str) {
        let why = if why.trim().is_empty() { "it reported an error without words" } else { why.trim() };
        self.trouble = Some(Trouble { class, why: clip(&visible(why, false), 500) });
    }

    /// Takes the text of an answer in place of the one before.
    pub fn answers(&mut self, text: &str) {
        self.text.clear();
        self.adds(text);
    }

    /// Takes a further piece of the answer.
    pub fn adds(&mut self, text: &str) {
        let room = MAX_TEXT_BYTES.saturating_sub(self.text.len());
        let end = text.floor_char_boundary(room.min(text.len()));
        self.text.push_str(&text[..end]);
    }

    /// Says where the figures come from, once there are any.
    pub fn counted(&mut self, basis: Basis) {
        self.usage.basis = basis;
    }
}

/// What an error says about an answer that the model's output limit ended.
pub const OUTPUT_LIMIT: &str = "the answer was cut off at the model's output limit";

/// True for a reason to stop by which a provider or a CLI says that the model's output limit ended an answer.
pub fn is_output_limit(reason: &Value) -> bool {
    const REASONS: [&str; 6] = [
        "length",
        "max_tokens",
        "max_output_tokens",
        "MAX_TOKENS",
        "model_length",
        "model_context_window_exceeded",
    ];
    reason.as_str().is_some_and(|reason| REASONS.contains(&reason))
}

/// A count in an event; what is not there or no whole number counts as 0.
pub fn count(object: &Value, key: &str) -> u64 {
    object[key].as_u64().unwrap_or(0)
}

/// Dollars in an event as millionths; what is not there, negative or no number counts as 0.
pub fn micros(value: &Value) -> u64 {
    let dollars = value.as_f64().filter(|cost| cost.is_finite() && *cost > 0.0);
    dollars.map_or(0, |cost| (cost * 1e6).round() as u64)
}

/// The texts of a list of content blocks, joined.
pub fn texts(content: &Value) -> String {
    let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().filter(|block| block["type"] == "text").filter_map(|block| block["text"].as_str()).collect()
}

/// A stream that is being read.
pub struct Stream {
    reader: Reader,
    said: Said,
    line: Vec<u8>,
    overlong: bool,
    bytes: u64,
    settled: Usage,
}

/// Why a stream is read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The CLI asks its model again and again.
    Loop,
    /// It printed more than it may.
    Flood,
}

/// The part of an event that says whether it matters. The rest is skipped without being kept.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
}

impl Stream {
    /// A stream of which nothing was read yet.
    pub fn new(reader: Reader) -> Stream {
        let settled = Usage::unknown();
        Stream { reader, said: Said::default(), line: Vec::new(), overlong: false, bytes: 0, settled }
    }

    /// Reads a piece, split anywhere.
    ///
    /// # Errors
    /// Says why no more should be read.
    pub fn feed(&mut self, mut piece: &[u8]) -> Result<(), Stop> {
        self.bytes += piece.len() as u64;
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.hold(&piece[..end]);
            self.end_line();
            piece = &piece[end + 1..];
        }
        self.hold(piece);
        match () {
            () if self.said.requests > MAX_REQUESTS => Err(Stop::Loop),
            () if self.bytes > MAX_STREAM_BYTES => Err(Stop::Flood),
            () => Ok(()),
        }
    }

    /// What was said in all; the last line may lack its end.
    pub fn end(mut self) -> Said {
        self.end_line();
        self.said
    }

    /// Reads a whole stream.
    pub fn read(reader: Reader, bytes: &[u8]) -> Said {
        let mut stream = Stream::new(reader);
        // What came before a stop is what was said.
        stream.feed(bytes).ok();
        stream.end()
    }

    /// What was used up to the end of the last turn.
    pub fn settled(&self) -> &Usage {
        &self.settled
    }

    /// What it keeps of what was not read to the end of its line, in bytes.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.line.capacity()
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.overlong |= self.line.len() + bytes.len() > MAX_LINE_BYTES;
        if self.overlong {
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.overlong) {
            return;
        }
        let is_wanted = serde_json::from_slice::<Kind>(&line)
            .is_ok_and(|kind| self.reader.wanted.contains(&kind.kind.as_ref()));
        if is_wanted && let Ok(event) = serde_json::from_slice::<Value>(&line) {
            (self.reader.read)(&mut self.said, &event);
            if event["type"] == self.reader.settles {
                self.settled = self.said.usage.clone();
            }
        }
        self.line = line;
        self.line.clear();
        self.line.shrink_to(64 * 1024);
    }
}
