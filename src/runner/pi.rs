//! The runner `pi`: the pi coding agent's CLI without tools, its JSON event stream read line by line.

use serde_json::Value;

use super::{Call, Class, Failed, Program, Reply, Runner, call_process, last_words};
use crate::model::charge::{Basis, Usage};
use crate::sys::proc::Exit;

/// Switches that take its hands away: no extensions, tools, skills, prompt templates, context files, session.
const WITHOUT_HANDS: [&str; 9] = ["-p", "--mode", "json", "-ne", "-nt", "-ns", "-np", "-nc", "--no-session"];

/// What takes the place of its own system prompt; all else travels in the prompt itself.
const SYSTEM: &str = "You decide one move for a control loop. You have no tools. Answer with one JSON object and nothing else.";

/// Keys of the providers that pi knows, which it reads from the environment.
const KEYS: [&str; 12] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_OAUTH_TOKEN",
    "OPENAI_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "GEMINI_API_KEY",
    "GROQ_API_KEY",
    "CEREBRAS_API_KEY",
    "XAI_API_KEY",
    "OPENROUTER_API_KEY",
    "MISTRAL_API_KEY",
    "ZAI_API_KEY",
    "DEEPSEEK_API_KEY",
];

/// The pi CLI.
#[derive(Clone, Debug, Default)]
pub struct Pi {
    /// `provider/model`; none: pi's own default.
    pub model: Option<String>,
    /// How hard it thinks: `off`, `low`, `medium`, `high`; none: pi's own default.
    pub effort: Option<String>,
    /// Names of environment variables that it gets besides the providers' keys.
    pub env: Vec<String>,
}

impl Runner for Pi {
    fn name(&self) -> &str {
        "pi"
    }

    fn program(&self) -> &str {
        "pi"
    }

    fn decide(&self, call: &mut Call) -> Result<Reply, Box<Failed>> {
        let mut argv = vec!["pi".to_owned()];
        argv.extend(WITHOUT_HANDS.map(str::to_owned));
        argv.extend(["--system-prompt".to_owned(), SYSTEM.to_owned()]);
        for (flag, value) in [("--model", &self.model), ("--thinking", &self.effort)] {
            argv.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
        }
        let allow: Vec<String> =
            KEYS.iter().map(|key| (*key).to_owned()).chain(self.env.iter().cloned()).collect();
        // No update check and no telemetry: a decision makes the one request that it is for.
        let set = [("PI_OFFLINE", "1"), ("PI_TELEMETRY", "0")];
        let program = Program { argv: &argv, allow: &allow, set: &set, cwd: call.empty_dir.clone() };
        let ended = call_process(&program, call).map_err(|mut failed| {
            // A stream that was cut off still tells what was used until then.
            let stream = Stream::read(&failed.raw);
            if stream.messages > 0 {
                failed.usage = stream.usage();
            }
            failed
        })?;
        let stream = Stream::read(&ended.stdout);
        let usage = stream.usage();
        let (raw, stderr) = (ended.stdout, ended.stderr);
        let (class, why) = match (ended.exit, stream.error) {
            (Exit::Signal(signal), _) => (Class::Crashed, format!("pi was ended by signal {signal}")),
            // pi exits 0 on a failed answer in JSON mode, so the stream is asked first.
            (_, Some(why)) => (classify(&why), why),
            (Exit::Code(0), None) if stream.text.trim().is_empty() => {
                (Class::Empty, "pi ended without an answer".to_owned())
            }
            (Exit::Code(0), None) => return Ok(Reply { text: stream.text, usage, raw, stderr }),
            (exit, None) => {
                let words = last_words(&stderr);
                (classify(&words), format!("pi ended with {}: {words}", exit.words()))
            }
        };
        Err(Box::new(Failed { class, why, usage, raw, stderr }))
    }
}

/// What a stream of pi's events adds up to.
#[derive(Debug, Default, PartialEq)]
struct Stream {
    text: String,
    error: Option<String>,
    model: Option<String>,
    messages: u64,
    tokens_in: u64,
    tokens_cached: u64,
    tokens_out: u64,
    cost_micros: u64,
}

impl Stream {
    /// Reads all events. Lines that are no JSON and events that are not known are passed over.
    fn read(bytes: &[u8]) -> Stream {
        let mut stream = Stream::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
            let message = &event["message"];
            if event["type"] == "message_end" && message["role"] == "assistant" {
                stream.add(message);
            }
        }
        stream
    }

    /// Each answer of the assistant carries its own usage; the last one is the answer.
    fn add(&mut self, message: &Value) {
        let usage = &message["usage"];
        let count = |key: &str| usage[key].as_u64().unwrap_or(0);
        self.messages += 1;
        self.tokens_in += count("input");
        self.tokens_cached += count("cacheRead") + count("cacheWrite");
        self.tokens_out += count("output");
        let dollars = usage["cost"]["total"].as_f64().filter(|cost| cost.is_finite() && *cost > 0.0);
        self.cost_micros += dollars.map_or(0, |cost| (cost * 1e6).round() as u64);
        self.model = message["model"].as_str().map(str::to_owned).or(self.model.take());
        let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.text = parts.iter().filter(|p| p["type"] == "text").filter_map(|p| p["text"].as_str()).collect();
        self.error = match message["stopReason"].as_str() {
            Some("error" | "aborted") => {
                let why = message["errorMessage"].as_str().unwrap_or("pi reported an error without words");
                Some(crate::model::json::clip(&crate::model::ask::visible(why, false), 500))
            }
            _ => None,
        };
    }

    fn usage(&self) -> Usage {
        Usage {
            model: self.model.clone(),
            tokens_in: self.tokens_in,
            tokens_cached: self.tokens_cached,
            tokens_out: self.tokens_out,
            cost_micros: self.cost_micros,
            basis: if self.messages > 0 { Basis::Reported } else { Basis::Unknown },
        }
    }
}

/// The class of an error by its words: a status code at the start, or the provider's error type.
fn classify(why: &str) -> Class {
    let lower = why.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match lower.get(..3) {
        _ if has(&["too long", "context length", "maximum context", "context_length"]) => Class::TooLong,
        _ if has(&["quota", "usage limit", "insufficient_quota", "billing"]) => Class::Limit,
        Some("401" | "403") => Class::Auth,
        _ if has(&["authentication", "api key", "authenticated", "unauthorized"]) => Class::Auth,
        Some("408" | "429" | "500" | "502" | "503" | "504" | "529") => Class::Transient,
        _ if has(&["rate_limit", "rate limit", "overloaded", "connection", "timed out", "fetch failed"]) => {
            Class::Transient
        }
        _ => Class::Crashed,
    }
}

#[cfg(test)]
#[path = "pi_tests.rs"]
mod tests;
