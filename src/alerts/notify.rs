//! The user's notifier: a command that gets each notice as JSON on stdin, and no part of it as an argument. A notice is a
//! flag, a question or the end of a worker, a question of the loop, or a move that waits for approval.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AlertTargets;
use super::plan::Attention;
use crate::os::process::{self, Job, OutputLimit, ProcessCommand};
use crate::os::program;
use crate::os::signal::Cancel;
use crate::rules::beat::ask::QuestionFile;
use crate::rules::beat::card::barred;
use crate::rules::name::Name;
use crate::rules::text::visible;
use crate::rules::time::Now;
use crate::store::file::{self, Durability};
use crate::store::layout::{Layout, ask_path};
use crate::store::workers::Worker;
use crate::store::{json_file, logs, state_files};

/// The timeout of a notifier, in milliseconds.
const NOTIFY_MS: i64 = 30_000;
/// How many run at a time.
const WIDTH: usize = 8;
/// How much of its output is logged, in bytes.
const STATUS_BYTES: usize = 500;

/// One call of a notifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub argv: Vec<String>,
    /// Its input.
    pub body: Value,
}

/// Makes a notice; `fields` has those of its fields that depend on its kind.
fn notice(layout: &Layout, argv: &[String], kind: &str, text: &str, fields: Value) -> Notice {
    let mut body = fields;
    body["schema_version"] = 1.into();
    body["kind"] = kind.into();
    body["text"] = barred(text).into();
    body["data_dir"] = layout.root().to_string_lossy().into();
    Notice { argv: argv.to_vec(), body }
}

/// Returns the notices about what a worker needs and its notifier does not know yet.
pub fn notices(
    layout: &Layout,
    worker: &Worker,
    call: &Attention,
    notified: &Attention,
    now: Now,
) -> Vec<Notice> {
    let (spec, state) = (&worker.spec, &worker.state);
    if spec.notify.is_empty() {
        return Vec::new();
    }
    let notice = |kind, text: &str, options: &[String], at_ms: i64| {
        let fields = json!({
            "worker": spec.id, "goal": spec.goal, "ask": state.ask, "options": options, "at_ms": at_ms,
        });
        notice(layout, &spec.notify, kind, text, fields)
    };
    if let Some(end) = call.new_end(notified) {
        // What its flag says of work that it left is in these words.
        let next = spec.next_step(state, &layout.worker(&spec.id).clone_dir().to_string_lossy());
        return vec![notice(end.as_ref(), &state.end_words(next.as_deref()), &[], state.since_ms)];
    }
    if call.limit > notified.limit {
        let words = state.limit.as_ref().map(|limit| limit.words(now)).unwrap_or_default();
        return vec![notice("limited", &words, &[], state.since_ms)];
    }
    let flag = state.flag.as_ref().filter(|_| call.has_new_flag(notified));
    let flag = flag.map(|flag| notice("flag", &flag.text, &[], flag.at_ms));
    let ask = call.ask.as_ref().filter(|_| call.has_new_ask(notified)).map(|id| {
        // An unreadable question still waits for an answer.
        let ask = json_file::read_json::<QuestionFile>(&layout.file(&ask_path(id))).ok().flatten();
        let at_ms = ask.as_ref().map_or(state.since_ms, |ask| ask.created_ms);
        let (text, options) = ask.map(|ask| (ask.text, ask.options)).unwrap_or_default();
        notice("ask", &text, &options, at_ms)
    });
    flag.into_iter().chain(ask).collect()
}

/// The form of `told.json`.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NotifiedQuestions {
    /// Open asks of the loop of which the notifier was told.
    asks: BTreeSet<Name>,
}

/// Lists open asks of the loop of which the notifier was not told.
///
/// # Errors
/// When the asks or the record cannot be read: no notice is sent then.
pub fn unsent(layout: &Layout, now: Now) -> Result<Vec<QuestionFile>> {
    let notified: NotifiedQuestions = json_file::read_json(&layout.notified_asks())?.unwrap_or_default();
    Ok(open(layout, now)?.into_iter().filter(|ask| !notified.asks.contains(&ask.id)).collect())
}

fn open(layout: &Layout, now: Now) -> Result<Vec<QuestionFile>> {
    let is_open =
        |ask: &QuestionFile| ask.worker.is_none() && ask.expires_ms.is_none_or(|until| until > now.unix_ms);
    let (asks, _) = state_files::asks(layout)?;
    Ok(asks
        .into_values()
        .filter_map(|(ask, answer)| answer.is_none().then_some(ask))
        .filter(is_open)
        .collect())
}

/// Returns the notices that are due. They are recorded before, so that each is sent at most once.
///
/// # Errors
/// When the record cannot be read or written: no notice is sent then.
pub fn due_asks(layout: &Layout, argv: &[String], now: Now) -> Result<Vec<Notice>> {
    if argv.is_empty() {
        return Ok(Vec::new());
    }
    let news = unsent(layout, now)?;
    if !news.is_empty() {
        let asks = open(layout, now)?.into_iter().map(|ask| ask.id).collect();
        json_file::write_json(&layout.notified_asks(), &NotifiedQuestions { asks }, Durability::Atomic)?;
    }
    Ok(news.iter().map(|ask| notice_of_ask(layout, argv, ask)).collect())
}

fn notice_of_ask(layout: &Layout, argv: &[String], ask: &QuestionFile) -> Notice {
    let (kind, text) = match &ask.approval {
        Some(approval) => ("approval", &format!("{}: {}", approval.decided.action.tag(), ask.text)),
        None => ("ask", &ask.text),
    };
    let mut fields = json!({
        "worker": null, "goal": ask.goal, "ask": ask.id, "options": ask.options, "at_ms": ask.created_ms,
    });
    if let Some(approval) = &ask.approval {
        // What `looop approve --hash` asks for, so that the user can decide from afar.
        fields["hash"] = approval.hash.as_str().into();
        fields["argv"] = json!(approval.scope.command.as_ref().map(|command| &command.argv));
    }
    notice(layout, argv, kind, text, fields)
}

/// Runs the notifiers in parallel, with each notice in `file`, and logs how they ended.
///
/// # Errors
/// When a notice cannot be written, or a child cannot be waited for.
pub fn send(
    layout: &Layout,
    file: &Path,
    notices: &[Notice],
    targets: &AlertTargets,
    now: Now,
) -> Result<()> {
    let jobs = notices.iter().map(|notice| job(file, notice, targets)).collect::<Result<Vec<Job>>>()?;
    let ended =
        process::run_all(jobs, WIDTH, &Cancel::never()?, None).context("could not run the notifier")?;
    for (notice, ended) in notices.iter().zip(ended) {
        let tail = &ended.stdout[ended.stdout.len().saturating_sub(STATUS_BYTES)..];
        let fields = json!({
            "worker": notice.body["worker"],
            "kind": notice.body["kind"],
            "program": notice.argv.first().map_or("", String::as_str),
            "end": ended.exit.to_string(),
            "output": visible(&String::from_utf8_lossy(tail), true),
        });
        logs::event(layout, now, "notified", fields)?;
    }
    Ok(())
}

/// A notifier is the user's own command, so it gets the whole environment of the user's looop.
fn job<'a>(path: &Path, notice: &Notice, targets: &AlertTargets) -> Result<Job<'a>> {
    let cwd = targets.config.parent().filter(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned();
    let (name, args) = notice.argv.split_first().context("could not run the notifier: it has no name")?;
    // One line, which is neither a lone dot nor begins with a tilde: these have a meaning for mail programs.
    file::write(path, format!("{}\n", notice.body).as_bytes(), 0o600, Durability::Atomic)?;
    let input = File::open(path).with_context(|| format!("could not open `{}`", path.display()))?;
    let mut env: Vec<(String, String)> =
        targets.env.iter().filter(|(key, _)| key != "PATH").cloned().collect();
    env.push(("PATH".to_owned(), targets.path.clone()));
    let program = program::find_program(name, &targets.path, &cwd).unwrap_or_else(|| name.into());
    let command = ProcessCommand { stdin: input.into(), ..ProcessCommand::new(program, args, env, cwd) };
    Ok(Job::new(command, OutputLimit::Tail(STATUS_BYTES), NOTIFY_MS))
}
