//! A model endpoint as an agent: checked and called over HTTP, without tools; its edits are read from its answer.

use anyhow::{Result, bail};

use super::ctx::{AgentReply, FixContext};
use super::leanfile::AgentConfig;
use super::{Progress, Severity, edits};
use crate::agents::http::wire::Shape;
use crate::agents::http::{Http, IDLE_MS, Protocol, link};
use crate::agents::stream::OUTPUT_LIMIT;
use crate::agents::{ModelCall, PromptFiles, Runner};
use crate::os::clock::{self, Deadline};
use crate::os::process::wait::pause_ms;
use crate::rules::beat::failing::Class;
use crate::rules::fault::Fault;
use crate::store::file::{self, Durability};
use crate::store::sandboxes::SandboxBuilder;

/// The wait between two health checks, in milliseconds.
const POLL_MS: u64 = 250;
/// The variable that passes a leanfile's key to the call.
const KEY: &str = "LEAN_API_KEY";
/// The system prompt of every call.
const SYSTEM: &str = "You are a careful programmer. You have no tools and no files but what you are shown. \
                      Your answer is read by a program: keep to the form that you are asked for.";

/// The endpoint of a leanfile and its key, if it sets `base_url` and `model` and no `binary`.
///
/// # Errors
/// A usage error for an invalid address.
pub(super) fn of(lean: &AgentConfig) -> Result<Option<(Http, Option<String>)>> {
    let set = |value: &Option<String>| value.clone().filter(|text| !text.trim().is_empty());
    let (None, Some(base_url), Some(model)) = (set(&lean.binary), set(&lean.base_url), set(&lean.model))
    else {
        return Ok(None);
    };
    if !base_url.starts_with("http://") && !base_url.starts_with("https://") {
        let fault =
            Fault::usage(format!("could not use base_url {base_url:?} of [lean]: it is not an address"));
        return Err(fault.hint("it begins with http:// or https://").into());
    }
    let key = set(&lean.api_key);
    let http = Http {
        name: model.clone(),
        protocol: match set(&lean.auth_type).as_deref() {
            Some("anthropic") => Protocol::Anthropic,
            _ => Protocol::Openai,
        },
        base_url: base_url.trim_end_matches('/').to_owned(),
        model,
        key_env: key.is_some().then(|| KEY.to_owned()),
        idle_ms: IDLE_MS,
        ..Http::default()
    };
    Ok(Some((http, key)))
}

/// Calls the endpoint once with the prompt in the prompt file. An answer without text is an empty text; every
/// other failure has its cause.
pub(super) fn ask(
    http: &Http,
    key: Option<&str>,
    ctx: &FixContext,
    prompt_bytes: usize,
    timeout_ms: i64,
) -> Result<AgentReply> {
    let began = Deadline::after_ms(0);
    let (deps, whole) = (ctx.deps, ctx.dir.prompt());
    let system = whole.with_extension("system.md");
    file::write(&system, SYSTEM.as_bytes(), 0o600, Durability::Atomic)?;
    let heartbeat = || (deps.report)(&Progress::Heartbeat);
    let sandboxes = SandboxBuilder::new(deps.layout, deps.settings, true);
    let key = key.map(|key| (KEY.to_owned(), key.to_owned()));
    let call = ModelCall {
        prompt: &PromptFiles { user: whole.clone(), whole, system, bytes: prompt_bytes },
        now: clock::now(),
        timeout_ms,
        sandboxes: &sandboxes,
        mark: None,
        // The caller's own variable of this name belongs to another address.
        key: key.as_ref(),
        cancel: deps.cancel,
        frame: deps.live.then_some(&heartbeat),
    };
    // Here the answer is text, whatever form the config sets for decisions.
    let http = Http { shape: Some(Shape::Prompt), ..http.clone() };
    let (text, usage) = match http.decide(&call) {
        Ok(reply) if reply.truncated => (Err(OUTPUT_LIMIT.to_owned()), reply.usage),
        Ok(reply) => (Ok(edits::spoken(&reply.text).to_owned()), reply.usage),
        Err(failed) if failed.class == Class::Empty => (Ok(String::new()), failed.usage),
        Err(failed) => (Err(failed.why), failed.usage),
    };
    Ok(AgentReply { text, usage, took_ms: began.spent_ms(), looped: None })
}

/// Waits until the endpoint of an agent is healthy: until `check_url` answers 2xx, if it is set.
///
/// # Errors
/// A failure if it is not healthy in time, or if the user interrupts.
pub(super) fn wait(ctx: &FixContext) -> Result<()> {
    let health = &ctx.request.leanfile.health;
    let Some(url) = health.check_url.as_deref().filter(|url| !url.is_empty()) else { return Ok(()) };
    let deadline = Deadline::after_ms(i64::from(health.max_wait) * 1000);
    let mut is_reported = false;
    loop {
        let why = match link::status(url, &|| ctx.check())? {
            Ok(status) if (200..300).contains(&status) => return Ok(()),
            Ok(status) => format!("it answers {status}"),
            Err(why) => why,
        };
        ctx.check()?;
        if deadline.passed() {
            let what =
                format!("could not start the fix: `{url}` was not healthy after {}s: {why}", health.max_wait);
            bail!(Fault::failed(what).hint("start the model's server, or correct `check_url` of [health]"));
        }
        if !std::mem::replace(&mut is_reported, true) {
            ctx.say(Severity::Warn, format!("waiting for {url}: {why}"));
        }
        pause_ms(POLL_MS);
    }
}
