//! A model endpoint as an agent: called over HTTP, without tools; its edits are read from its answer.

use std::path::Path;

use anyhow::Result;

use super::agent::{AgentCaller, AgentReply};
use super::edits;
use super::leanfile::Lean;
use crate::agents::http::wire::Shape;
use crate::agents::http::{Http, IDLE_MS, Protocol};
use crate::agents::stream::OUTPUT_LIMIT;
use crate::agents::{ModelCall, Runner};
use crate::model::failing::Class;
use crate::model::fault::Fault;
use crate::store::boxes::SandboxBuilder;
use crate::store::file::{self, Durability};
use crate::sys::clock::{self, Deadline};

/// The variable that passes a leanfile's key to the call.
const KEY: &str = "LEAN_API_KEY";
/// The system prompt of every call.
const SYSTEM: &str = "You are a careful programmer. You have no tools and no files but what you are shown. \
                      Your answer is read by a program: keep to the form that you are asked for.";

/// The endpoint of a leanfile and its key, if it sets `base_url` and `model` and no `binary`.
///
/// # Errors
/// A usage error for an invalid address.
pub(super) fn of(lean: &Lean) -> Result<Option<(Http, Option<String>)>> {
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
        effort: None,
        key_env: key.is_some().then(|| KEY.to_owned()),
        token: None,
        health: None,
        shape: Some(Shape::Prompt),
        idle_ms: IDLE_MS,
        price: None,
    };
    Ok(Some((http, key)))
}

/// Calls the endpoint once. An answer without text is an empty text; every other failure has its cause.
pub(super) fn ask(
    http: &Http,
    key: Option<&str>,
    caller: &AgentCaller,
    prompt: &str,
    timeout_ms: i64,
) -> Result<AgentReply> {
    let began = Deadline::after_ms(0);
    let system_file = beside(&caller.prompt_file);
    file::write(&system_file, SYSTEM.as_bytes(), 0o600, Durability::Whole)?;
    let mut env = caller.settings.full_env.clone();
    if key.is_some() {
        // The caller's own variable of this name belongs to another address.
        env.retain(|(name, _)| name != KEY);
    }
    env.extend(key.map(|key| (KEY.to_owned(), key.to_owned())));
    let mut tell = || caller.busy.iter().for_each(|who| who.busy());
    let sandboxes = SandboxBuilder::new(caller.bench.layout, caller.settings, true);
    let mut call = ModelCall {
        prompt_file: caller.prompt_file.clone(),
        prompt_bytes: prompt.len(),
        system_file,
        user_file: caller.prompt_file.clone(),
        now: clock::now(),
        timeout_ms,
        empty_dir: caller.empty_dir.clone(),
        path: &caller.settings.path,
        base_env: &caller.settings.base_env,
        full_env: env.into(),
        sandboxes: &sandboxes,
        cancel: caller.cancel,
        frame: caller.busy.is_some().then_some(&mut tell),
    };
    // Here the answer is text, whatever form the config sets for decisions.
    let http = Http { shape: Some(Shape::Prompt), ..http.clone() };
    let (text, usage) = match http.decide(&mut call) {
        Ok(reply) if reply.truncated => (Err(OUTPUT_LIMIT.to_owned()), reply.usage),
        Ok(reply) => (Ok(edits::spoken(&reply.text).to_owned()), reply.usage),
        Err(failed) if failed.class == Class::Empty => (Ok(String::new()), failed.usage),
        Err(failed) => (Err(failed.why), failed.usage),
    };
    Ok(AgentReply { text, usage, took_ms: began.spent_ms(), looped: None })
}

fn beside(prompt: &Path) -> std::path::PathBuf {
    prompt.with_extension("system.md")
}
