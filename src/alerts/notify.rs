//! The user's notifier: a command that gets a flag or an ask as JSON on stdin, and nothing of it as an argument.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::Reach;
use super::plan::Attention;
use crate::os::process::{self, Job, OutputLimit, ProcessCommand};
use crate::os::program;
use crate::os::signal::Cancel;
use crate::rules::beat::ask::QuestionFile;
use crate::rules::beat::card::barred;
use crate::rules::text::visible;
use crate::rules::time::Now;
use crate::store::file::{self, Durability};
use crate::store::json_file;
use crate::store::layout::{Layout, ask_path};
use crate::store::logs;
use crate::store::workers::Worker;

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
pub fn notice(layout: &Layout, argv: &[String], kind: &str, text: &str, fields: Value) -> Notice {
    let mut body = fields;
    body["schema_version"] = 1.into();
    body["kind"] = kind.into();
    body["text"] = barred(text).into();
    body["data_dir"] = layout.root().to_string_lossy().into();
    Notice { argv: argv.to_vec(), body }
}

/// Returns the notices about what a worker needs and its notifier does not know yet.
pub fn notices(layout: &Layout, worker: &Worker, call: &Attention, notified: &Attention) -> Vec<Notice> {
    let (spec, state) = (&worker.spec, &worker.state);
    if spec.notify.is_empty() {
        return Vec::new();
    }
    let notice = |kind, text: &str, options: &[String], at_ms: i64| {
        let fields = json!({
            "worker": spec.id, "goal": spec.goal, "ask": state.ask, "options": options, "at": at_ms,
        });
        notice(layout, &spec.notify, kind, text, fields)
    };
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

/// Runs the notifiers in parallel, with each notice in `file`, and logs how they ended.
///
/// # Errors
/// When a notice cannot be written, or a child cannot be waited for.
pub fn send(layout: &Layout, file: &Path, notices: &[Notice], reach: &Reach, now: Now) -> Result<()> {
    let jobs = notices.iter().map(|notice| job(file, notice, reach)).collect::<Result<Vec<Job>>>()?;
    let ended =
        process::run_all(jobs, WIDTH, &Cancel::never()?, None).context("could not run the notifier")?;
    for (notice, ended) in notices.iter().zip(ended) {
        let tail = &ended.stdout[ended.stdout.len().saturating_sub(STATUS_BYTES)..];
        let fields = Map::from_iter([
            ("worker".to_owned(), notice.body["worker"].clone()),
            ("kind".to_owned(), notice.body["kind"].clone()),
            ("program".to_owned(), notice.argv.first().cloned().unwrap_or_default().into()),
            ("end".to_owned(), ended.exit.to_string().into()),
            ("output".to_owned(), visible(&String::from_utf8_lossy(tail), true).into()),
        ]);
        logs::event(layout, now, "notified", fields)?;
    }
    Ok(())
}

/// A notifier is the user's own command, so it gets the whole environment of the user's looop.
fn job<'a>(path: &Path, notice: &Notice, reach: &Reach) -> Result<Job<'a>> {
    let cwd = reach.config.parent().filter(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned();
    let (name, args) = notice.argv.split_first().context("could not run the notifier: it has no name")?;
    // One line, which is neither a lone dot nor begins with a tilde: these have a meaning for mail programs.
    file::write(path, format!("{}\n", notice.body).as_bytes(), 0o600, Durability::Whole)?;
    let input = File::open(path).with_context(|| format!("could not open `{}`", path.display()))?;
    let mut env: Vec<(String, String)> = reach.env.iter().filter(|(key, _)| key != "PATH").cloned().collect();
    env.push(("PATH".to_owned(), reach.path.clone()));
    let program = program::find_program(name, &reach.path, &cwd).unwrap_or_else(|| name.into());
    let command = ProcessCommand { stdin: input.into(), ..ProcessCommand::new(program, args, env, cwd) };
    Ok(Job::new(command, OutputLimit::Tail(STATUS_BYTES), NOTIFY_MS))
}
