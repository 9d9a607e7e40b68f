//! The runner `http`: calls a model endpoint directly, with OpenAI's chat completions or Anthropic's messages.
//!
//! # Guarantees
//! A request is repeated only if the first one was answered with a status that allows it, or if no connection
//! was made: never after a part of an answer, which may have been charged. The key comes from the environment
//! or from a command.

pub mod link;
pub mod wire;

use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::time::Duration;

use link::{Broken, HttpRequest};
use schemars::JsonSchema;
use serde::Deserialize;
use wire::{ResponseReader, Shape};

use super::call::MAX_OUTPUT_BYTES;
use super::stream::StreamSummary;
use super::token::TokenSource;
use super::{Completion, Failed, ModelCall, Runner, classify};
use crate::os::clock::Deadline;
use crate::os::process::wait::pause_ms;
use crate::rules::beat::failing::Class;
use crate::rules::beat::limit_end::{reset_at_ms, retry_after_ms};
use crate::rules::cost::charge::{CostSource, Usage};
use crate::rules::cost::price::Price;
use crate::rules::json::clip;
use crate::rules::text::visible;
use crate::rules::time::Now;

/// The most attempts for one request.
const TRIES: u32 = 3;
/// The first wait between two attempts, in milliseconds; it doubles, and a random part of up to a half is added.
const RETRY_MS: i64 = 500;
/// The longest wait between two attempts, in milliseconds. A longer wait is left to the next beat.
const RETRY_LONGEST_MS: i64 = 15_000;

/// A 429 that asks for a wait of this length means a quota, in milliseconds. A rate limit passes sooner.
const QUOTA_MS: i64 = 3_600_000;
/// How often an interruption is checked, in milliseconds.
const POLL_MS: u64 = 50;
/// The largest part of an error's body that is read, in bytes.
const ERROR_BYTES: usize = 64 * 1024;

/// The protocol of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Chat completions: OpenAI, llama-server, Ollama, vLLM, LM Studio and most others.
    #[default]
    Openai,
    /// Anthropic's messages.
    Anthropic,
}

/// An endpoint from the config.
#[derive(Clone, Debug, Default)]
pub struct Http {
    /// The name in the config.
    pub name: String,
    pub protocol: Protocol,
    /// The address, without a slash at the end.
    pub base_url: String,
    pub model: String,
    /// The thinking effort.
    pub effort: Option<String>,
    /// The variable that holds the key; none if no key is needed.
    pub key_env: Option<String>,
    /// The command that prints the key; none if the variable holds it.
    pub token: Option<TokenSource>,
    /// The path or address of the health check; none: no check.
    pub health: Option<String>,
    /// How the form of the answer is requested; none: as an object, or only by the prompt if the endpoint
    /// refuses that.
    pub shape: Option<Shape>,
    /// The longest time without data, in milliseconds.
    pub idle_ms: i64,
    /// The price of its tokens; none: the price table applies.
    pub price: Option<Price>,
}

/// The result of one request.
enum RequestResult {
    Answer(StreamSummary, Vec<u8>),
    /// The server answered with an error status: its body, and how long the server asks to wait.
    Refused {
        status: u16,
        body: String,
        retry_after: RetryAfter,
    },
    /// No complete answer, and whether the endpoint may have started one.
    Broken {
        class: Class,
        why: String,
        begun: bool,
        usage: Usage,
    },
}

/// How long the server asks to wait, and its own time.
struct RetryAfter {
    header: Option<String>,
    date: Option<String>,
}

impl RetryAfter {
    fn ms(&self, now: Now) -> Option<i64> {
        retry_after_ms(self.header.as_deref()?, self.date.as_deref(), now)
    }
}

impl Runner for Http {
    fn name(&self) -> &str {
        &self.name
    }

    fn decide(&self, call: &ModelCall) -> Result<Completion, Box<Failed>> {
        match &self.token {
            Some(source) => source.call(call, |call| self.ask(call)),
            None => self.ask(call),
        }
    }
}

impl Http {
    fn ask(&self, call: &ModelCall) -> Result<Completion, Box<Failed>> {
        let deadline = Deadline::after_ms(call.timeout_ms);
        self.is_up(call)?;
        let (system, user) = (&read(&call.prompt.system)?, &read(&call.prompt.user)?);
        let mut shape = self.shape.unwrap_or(match self.protocol {
            Protocol::Openai => Shape::JsonObject,
            Protocol::Anthropic => Shape::Prompt,
        });
        let mut tries = 0;
        loop {
            tries += 1;
            let body = wire::body(self, system, user, shape)
                .map_err(|error| Failed::before_asking(Class::Crashed, error.to_string()))?;
            let tried = self.try_once(call, body, &deadline)?;
            let wait_ms = match &tried {
                RequestResult::Answer(..) => None,
                // Some endpoints have no JSON mode, or another one. The refused call cost nothing, and the
                // prompt describes the form too.
                RequestResult::Refused { status: 400 | 422, body, .. }
                    if self.shape.is_none() && shape != Shape::Prompt && body.contains("response_format") =>
                {
                    shape = Shape::Prompt;
                    Some(0)
                }
                RequestResult::Refused { status, body, retry_after } => {
                    let asked_ms = retry_after.ms(call.now);
                    let is_passing = class(*status, body, asked_ms) == Class::Transient && tries < TRIES;
                    is_passing.then(|| retry_ms(asked_ms, tries)).flatten()
                }
                RequestResult::Broken { class, begun, .. } => {
                    let is_passing = *class == Class::Transient && !begun && tries < TRIES;
                    is_passing.then(|| retry_ms(None, tries)).flatten()
                }
            };
            let Some(wait_ms) = wait_ms.filter(|wait| *wait < deadline.left().as_millis() as i64) else {
                return self.judge(tried, call);
            };
            let until = Deadline::after_ms(wait_ms);
            while !until.passed() {
                call.poll()?;
                pause_ms(POLL_MS.min(until.left().as_millis() as u64 + 1));
            }
        }
    }

    fn call_url(&self) -> String {
        let path = match self.protocol {
            Protocol::Openai => "/chat/completions",
            Protocol::Anthropic if self.base_url.ends_with("/v1") => "/messages",
            Protocol::Anthropic => "/v1/messages",
        };
        format!("{}{path}", self.base_url)
    }

    fn headers(&self, call: &ModelCall) -> Result<Vec<(&'static str, String)>, Box<Failed>> {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if self.protocol == Protocol::Anthropic {
            headers.push(("anthropic-version", "2023-06-01".to_owned()));
        }
        if let Some(name) = &self.key_env {
            let set = call.full_env().find(|(key, value)| key == name && !value.trim().is_empty());
            let Some((_, key)) = set else {
                let why = format!("the variable {name} is not set; it must hold the key of `{}`", self.name);
                let usage = Usage::nothing();
                return Err(Box::new(Failed { usage, ..*Failed::before_asking(Class::Auth, why) }));
            };
            headers.push(match self.protocol {
                Protocol::Openai => ("authorization", format!("Bearer {}", key.trim())),
                Protocol::Anthropic => ("x-api-key", key.trim().to_owned()),
            });
        }
        Ok(headers)
    }

    /// Asks the endpoint whether it is up. Any answer but an error of its own is good: a path that it does not know
    /// shows as well that it is there.
    fn is_up(&self, call: &ModelCall) -> Result<(), Box<Failed>> {
        let Some(health) = &self.health else { return Ok(()) };
        // A path is relative to the host, not to the API's address.
        let url = match health.starts_with('/') {
            true => format!("{}{health}", origin(&self.base_url)),
            false => health.clone(),
        };
        let down = |why: String| Failed::before_asking(Class::Down, format!("{url} is down: {why}"));
        match link::status(&url, &|| call.poll())? {
            Ok(200..=499) => Ok(()),
            Ok(status) => Err(down(format!("it answered with {status}"))),
            Err(why) => Err(down(why)),
        }
    }

    /// Sends one request, unless the user interrupts.
    fn try_once(
        &self,
        call: &ModelCall,
        body: Vec<u8>,
        deadline: &Deadline,
    ) -> Result<RequestResult, Box<Failed>> {
        let request = HttpRequest {
            url: self.call_url(),
            headers: self.headers(call)?,
            body: Some(body),
            deadline: deadline.left(),
            idle: Duration::from_millis(self.idle_ms.max(1) as u64),
        };
        let protocol = self.protocol;
        let result = link::wait_for(move || exchange(request, protocol), &|| call.poll())?;
        Ok(result.unwrap_or_else(|(class, why)| {
            // A refused connection carried no request; a later error may have.
            let begun = !why.contains("refused") && !why.contains("host not found");
            RequestResult::Broken { class, why, begun, usage: Usage::unknown() }
        }))
    }

    fn judge(&self, tried: RequestResult, call: &ModelCall) -> Result<Completion, Box<Failed>> {
        match tried {
            RequestResult::Answer(mut summary, raw) => {
                let usage = self.priced(summary.usage.clone(), call.prompt.bytes, summary.text.len());
                let (class, why) = match summary.failure.take() {
                    Some(failure) => (failure.class, failure.why),
                    None if summary.text.trim().is_empty() => {
                        let why = format!("the model answered with nothing{}", summary.limit_note());
                        (Class::Empty, why)
                    }
                    None => {
                        let StreamSummary { text, truncated, .. } = summary;
                        return Ok(Completion { text, truncated, usage, raw, stderr: Vec::new() });
                    }
                };
                Err(Box::new(Failed { usage, raw, ..*Failed::before_asking(class, why) }))
            }
            RequestResult::Refused { status, body, retry_after } => {
                let asked_ms = retry_after.ms(call.now);
                let class = class(status, &body, asked_ms);
                let words = clip(&visible(&message_of(&body), false), 400);
                let reply_ms = asked_ms.map(|ms| call.now.unix_ms.saturating_add(ms));
                let retry_at_ms = match class {
                    Class::Limit => reply_ms.or_else(|| reset_at_ms(&body, call.now)),
                    Class::Transient => reply_ms,
                    _ => None,
                };
                let why = format!("{status} from {}: {words}", self.call_url());
                // No provider charges for an error of the endpoint.
                let usage = Usage { model: Some(self.model.clone()), ..Usage::nothing() };
                let raw = body.into_bytes();
                Err(Box::new(Failed { retry_at_ms, usage, raw, ..*Failed::before_asking(class, why) }))
            }
            RequestResult::Broken { class, why, usage, .. } => {
                let usage = self.priced(usage, call.prompt.bytes, 0);
                let why = format!("{}: {why}", self.call_url());
                Err(Box::new(Failed { usage, ..*Failed::before_asking(class, why) }))
            }
        }
    }

    /// Adds the price to a usage, if the endpoint reported none; estimates tokens if it did not count them.
    fn priced(&self, mut usage: Usage, bytes_in: usize, bytes_out: usize) -> Usage {
        if usage.basis == CostSource::Unknown {
            usage = Usage { model: usage.model, ..Usage::estimate(bytes_in, bytes_out) };
        }
        usage.model = usage.model.or_else(|| Some(self.model.clone()));
        if usage.basis == CostSource::Tokens {
            let known =
                || [&self.model, usage.model.as_ref()?].into_iter().find_map(|name| Price::known(name));
            if let Some(price) = self.price.or_else(known) {
                (usage.cost_micros, usage.basis) = (price.of(&usage), CostSource::Priced);
            }
        }
        usage
    }
}

/// Sends a request and reads its whole response.
fn exchange(request: HttpRequest, protocol: Protocol) -> Result<RequestResult, Broken> {
    let response = link::send(request)?;
    let header = |name| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let status = response.status().as_u16();
    let retry_after = RetryAfter { header: header("retry-after"), date: header("date") };
    let content_type = header("content-type").unwrap_or_default().to_lowercase();
    let is_stream = content_type.contains("event-stream");
    let is_good = (200..300).contains(&status);
    let (mut raw, mut reading) = (Vec::new(), ResponseReader::new(protocol));
    let cap = if is_good { MAX_OUTPUT_BYTES } else { ERROR_BYTES };
    let (mut body, mut buffer) = (response.into_body().into_reader(), vec![0; 64 * 1024]);
    loop {
        let piece = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => &buffer[..length],
            // The answer has ended by the protocol; what the connection does then does not count.
            Err(_) if is_stream && reading.is_whole() => break,
            Err(error) if is_good => {
                let (class, why) = link::broken(&error.into());
                return Ok(broken(class, why, reading.usage().clone()));
            }
            Err(_) => break,
        };
        if is_good && is_stream {
            reading.feed(piece);
        }
        let is_over = reading.is_over();
        raw.extend_from_slice(piece);
        if raw.len() > cap && is_good {
            let why = format!("the endpoint sent more than {} MiB", cap >> 20);
            return Ok(broken(Class::Flood, why, reading.usage().clone()));
        }
        raw.truncate(cap);
        if is_over {
            break;
        }
    }
    if !is_good {
        let body = String::from_utf8_lossy(&raw).into_owned();
        return Ok(RequestResult::Refused { status, body, retry_after });
    }
    // Some servers send JSON with another type.
    let is_json = || serde_json::from_slice::<serde_json::Value>(&raw).is_ok_and(|value| value.is_object());
    if !is_stream && !content_type.contains("json") && !is_json() {
        let kind = if content_type.is_empty() { "nothing" } else { &content_type };
        let why =
            format!("it answered with {kind} instead of JSON; a proxy or a login page may have answered");
        return Ok(broken(Class::Crashed, why, Usage::unknown()));
    }
    if !is_stream {
        reading.take_whole(&raw);
    }
    Ok(RequestResult::Answer(reading.end(), raw))
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    &url[..end]
}

/// The failure of a request that the endpoint may have begun to answer.
fn broken(class: Class, why: String, usage: Usage) -> RequestResult {
    RequestResult::Broken { class, why, begun: true, usage }
}

fn read(path: &std::path::Path) -> Result<String, Box<Failed>> {
    std::fs::read_to_string(path)
        .map_err(|error| Failed::before_asking(Class::Crashed, format!("could not read the prompt: {error}")))
}

/// The class of an error status. The status, the error code and the wait count first, the words of the message last.
fn class(status: u16, body: &str, asked_ms: Option<i64>) -> Class {
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let codes = [&json["error"]["code"], &json["error"]["type"], &json["error"]["status"], &json["code"]];
    let codes: Vec<&str> = codes.iter().filter_map(|code| code.as_str()).collect();
    if status == 429 {
        let has = |wanted: &[&str]| codes.iter().any(|code| wanted.contains(code));
        if has(&["insufficient_quota", "usage_limit_reached", "usage_limit_exceeded", "billing_error"]) {
            return Class::Limit;
        }
        match asked_ms {
            Some(ms) if ms >= QUOTA_MS => return Class::Limit,
            Some(_) => return Class::Transient,
            None if has(&["rate_limit_exceeded", "rate_limit_error"]) => return Class::Transient,
            None => {}
        }
    }
    let by_words = classify::by_words(body);
    match by_words {
        Class::TooLong | Class::Limit | Class::Refused if status < 500 => by_words,
        _ => classify::by_status(status).unwrap_or(Class::Crashed),
    }
}

/// The wait before the next attempt; none if the next beat must try again.
fn retry_ms(asked_ms: Option<i64>, tries: u32) -> Option<i64> {
    let usual = RETRY_MS << tries.saturating_sub(1).min(8);
    // The standard library seeds each hasher randomly.
    let chance = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let jitter = (chance % (usual as u64 / 2 + 1)) as i64;
    let wait = match asked_ms {
        Some(notified) => notified.saturating_add(jitter / 4),
        None => usual + jitter,
    };
    (wait <= RETRY_LONGEST_MS).then_some(wait)
}

/// The message in an error's body, or the body itself.
fn message_of(body: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let places = [&json["error"]["message"], &json["error"], &json["message"]];
    places.iter().find_map(|place| place.as_str()).unwrap_or(body.trim()).to_owned()
}

/// The default of [`Http::idle_ms`]: long enough for a model that thinks before its first word.
pub const IDLE_MS: i64 = 120_000;

#[cfg(test)]
mod tests {
    use super::class;
    use crate::rules::beat::failing::Class;

    #[test]
    fn status_code_and_wait_count_before_the_words() {
        let minute = r#"{"error":{"message":"Rate limit reached, check your plan and quota","code":"rate_limit_exceeded"}}"#;
        let quota = r#"{"error":{"message":"slow down","code":"insufficient_quota"}}"#;
        for (status, body, asked_ms, expected) in [
            (429, minute, Some(20_000), Class::Transient),
            (429, minute, None, Class::Transient),
            (429, "You exceeded your current quota", Some(20_000), Class::Transient),
            (429, "You exceeded your current quota", None, Class::Limit),
            (429, "slow down", Some(5 * 3_600_000), Class::Limit),
            (429, quota, Some(20_000), Class::Limit),
            (429, "slow down", None, Class::Transient),
            (402, "pay", None, Class::Limit),
            (400, "the prompt is too long", None, Class::TooLong),
            (500, "quota", None, Class::Transient),
        ] {
            assert_eq!(class(status, body, asked_ms), expected, "{status} {body} {asked_ms:?}");
        }
    }
}
