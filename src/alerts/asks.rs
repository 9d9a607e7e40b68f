//! Notices to the user's notifier about the loop's own asks: questions, and moves that wait for approval.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::notify::{self, Notice};
use crate::rules::beat::ask::QuestionFile;
use crate::rules::name::Name;
use crate::rules::time::Now;
use crate::store::file::Durability;
use crate::store::json_file;
use crate::store::layout::Layout;
use crate::store::state_files;

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
pub fn due(layout: &Layout, argv: &[String], now: Now) -> Result<Vec<Notice>> {
    if argv.is_empty() {
        return Ok(Vec::new());
    }
    let news = unsent(layout, now)?;
    if !news.is_empty() {
        let asks = open(layout, now)?.into_iter().map(|ask| ask.id).collect();
        json_file::write_json(&layout.notified_asks(), &NotifiedQuestions { asks }, Durability::Atomic)?;
    }
    Ok(news.iter().map(|ask| notice(layout, argv, ask)).collect())
}

fn notice(layout: &Layout, argv: &[String], ask: &QuestionFile) -> Notice {
    let (kind, text) = match &ask.approval {
        Some(approval) => ("approval", &format!("{}: {}", approval.decided.action.tag(), ask.text)),
        None => ("ask", &ask.text),
    };
    let fields = json!({
        "worker": null, "goal": ask.goal, "ask": ask.id, "options": ask.options, "at": ask.created_ms,
    });
    notify::notice(layout, argv, kind, text, fields)
}
