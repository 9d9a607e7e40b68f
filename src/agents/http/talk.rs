//! Talks to an endpoint: health check, requests, and interruption by the user.

use std::io::Read;
use std::time::Duration;

use super::link::{self, Broken, HttpRequest};
use super::wire::ResponseReader;
use super::{Http, Protocol, RequestResult};
use crate::agents::call::MAX_OUTPUT_BYTES;
use crate::agents::{Failed, ModelCall};
use crate::os::clock::Deadline;
use crate::os::process::wait::pause_ms;
use crate::rules::beat::failing::Class;
use crate::rules::cost::charge::Usage;

/// How often an interruption is checked, in milliseconds.
const LOOK_MS: u64 = 50;
/// The largest part of an error's body that is read, in bytes.
const ERROR_BYTES: usize = 64 * 1024;

impl Http {
    /// The address of a path below the base.
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    pub(super) fn call_url(&self) -> String {
        match self.protocol {
            Protocol::Openai => self.url("/chat/completions"),
            Protocol::Anthropic if self.base_url.ends_with("/v1") => self.url("/messages"),
            Protocol::Anthropic => self.url("/v1/messages"),
        }
    }

    pub(super) fn headers(&self, call: &ModelCall) -> Result<Vec<(&'static str, String)>, Box<Failed>> {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if self.protocol == Protocol::Anthropic {
            headers.push(("anthropic-version", "2023-06-01".to_owned()));
        }
        if let Some(name) = &self.key_env {
            let set = call.full_env.iter().find(|(key, value)| key == name && !value.trim().is_empty());
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
    pub(super) fn is_up(&self, call: &mut ModelCall) -> Result<(), Box<Failed>> {
        let Some(health) = &self.health else { return Ok(()) };
        // A path is relative to the host, not to the API's address.
        let url = match health.starts_with('/') {
            true => format!("{}{health}", origin(&self.base_url)),
            false => health.clone(),
        };
        let down = |why: String| Failed::before_asking(Class::Down, format!("{url} is down: {why}"));
        match link::status(&url, &mut || self.look(call))? {
            Ok(200..=499) => Ok(()),
            Ok(status) => Err(down(format!("it answered with {status}"))),
            Err(why) => Err(down(why)),
        }
    }

    fn look(&self, call: &mut ModelCall) -> Result<(), Box<Failed>> {
        if let Some(frame) = call.frame.as_mut() {
            frame();
        }
        match call.cancel.is_set() {
            true => Err(Failed::before_asking(Class::Cancelled, "interrupted".to_owned())),
            false => Ok(()),
        }
    }

    pub(super) fn wait(&self, call: &mut ModelCall, wait_ms: i64) -> Result<(), Box<Failed>> {
        let until = Deadline::after_ms(wait_ms);
        while !until.passed() {
            self.look(call)?;
            pause_ms(LOOK_MS.min(until.left().as_millis() as u64 + 1));
        }
        Ok(())
    }

    pub(super) fn try_once(
        &self,
        call: &mut ModelCall,
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
        let result = link::wait_for(move || exchange(request, protocol), &mut || self.look(call))?;
        Ok(result.unwrap_or_else(|(class, why)| {
            // A refused connection carried no request; a later error may have.
            let begun = !why.contains("refused") && !why.contains("host not found");
            RequestResult::Broken { class, why, begun, usage: Usage::unknown() }
        }))
    }
}

/// Sends a request and reads its whole response.
fn exchange(request: HttpRequest, protocol: Protocol) -> Result<RequestResult, Broken> {
    let response = link::send(request)?;
    let header = |name| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let (status, retry_after) = (response.status().as_u16(), header("retry-after"));
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
            Err(error) if is_good => {
                let (class, why) = link::broken(&error.into());
                return Ok(broken(class, why, reading.usage().clone()));
            }
            Err(_) => break,
        };
        if is_good && is_stream {
            reading.feed(piece);
        }
        raw.extend_from_slice(piece);
        if raw.len() > cap && is_good {
            let why = format!("the endpoint sent more than {} MiB", cap >> 20);
            return Ok(broken(Class::Flood, why, reading.usage().clone()));
        }
        raw.truncate(cap);
    }
    if !is_good {
        let body = String::from_utf8_lossy(&raw).into_owned();
        return Ok(RequestResult::Refused { status, body, retry_after });
    }
    if !is_stream && !content_type.contains("json") {
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
