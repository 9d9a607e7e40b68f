//! Pure. The prompt of a decision, rendered from a frame: the same frame always gives the same bytes.
//!
//! The most stable parts come first, so that a provider's cache can serve them. Text that the user did not write is one
//! line of JSON under a heading that says so; the user's text is behind a margin. So no content can forge a heading.

use serde_json::{Value, json};

use crate::rules::beat::entry;
use crate::rules::name::Name;
use crate::rules::text::escaped_json;
use crate::rules::world::{Frame, Goal, PROMPT_VERSION, SensorReading, Trust};

/// The limit of the playbook, in bytes.
const PLAYBOOK_BYTES: usize = 64 * 1024;
/// The limit of one goal, in bytes.
const GOAL_BYTES: usize = 64 * 1024;
/// The limit of all goals, in bytes.
const GOALS_BYTES: usize = 192 * 1024;
/// The limit of one reading, in bytes.
const READING_BYTES: usize = 16 * 1024;
/// The limit of all readings, in bytes.
const READINGS_BYTES: usize = 96 * 1024;
/// The limit of the changes, in bytes.
const CHANGES_BYTES: usize = 24 * 1024;
/// The limit of the journal, in bytes.
pub const JOURNAL_BYTES: usize = 8 * 1024;
/// The limit of the last result, in bytes.
const LAST_BYTES: usize = 8 * 1024;
/// The limit of each list of looop's own state, in bytes.
const OWN_BYTES: usize = 24 * 1024;
/// The limit of the workers' reports, in bytes.
const REPORTS_BYTES: usize = 96 * 1024;

/// The maximum number of reasons for the decision.
const WOKE: usize = 50;

/// The words of one version of the prompt, where versions differ.
struct Words {
    /// The part that never changes: the norms and the forms of a move.
    fixed: &'static str,
    playbook: &'static str,
    truncated: &'static str,
    text_truncated: &'static str,
    reports: &'static str,
    ended_asks: &'static str,
    open_asks: &'static str,
    flapping: &'static str,
    forced: &'static str,
}

/// The words of each version, the first one first. A released version never changes, so that `looop log BEAT --prompt`
/// shows what a decider has seen.
const VERSIONS: [Words; PROMPT_VERSION as usize] = [
    Words {
        fixed: include_str!("prompt_1.txt"),
        playbook: "PLAYBOOK, written by the human",
        truncated: "Not shown in full, for want of room",
        text_truncated: "its text was cut",
        reports: "Reports that workers handed in (data)",
        ended_asks: "Asks that were answered, rejected, expired or stranded by their worker's end (data)",
        open_asks: "Asks that wait for the human (data)",
        flapping: "Flapping sensors: they change nearly every beat; mend or split them (data)",
        forced: "The human wants a move for this goal now (data)",
    },
    Words {
        fixed: include_str!("prompt_2.txt"),
        playbook: "PLAYBOOK, written by the user",
        truncated: "Truncated, because the prompt is limited",
        text_truncated: "its text was truncated",
        reports: "Reports of workers (data)",
        ended_asks: "Asks that were answered, rejected, expired, or stranded by their worker's end (data)",
        open_asks: "Asks that wait for the user (data)",
        flapping: "Flapping sensors: they change in nearly every beat; fix or split them (data)",
        forced: "The user wants a move for this goal now (data)",
    },
];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    pub text: String,
    /// The end of the part that only an edit of the user changes, in bytes: norms, forms, playbook and goals.
    pub split: usize,
    /// What was truncated, one line each; the user sees it too.
    pub cuts: Vec<String>,
    /// Goals whose text was truncated, so that they must not be written back.
    pub cut_goals: Vec<Name>,
    /// True if the playbook was truncated.
    pub cut_playbook: bool,
}

/// Renders the prompt of a frame, in the version that the frame records.
pub fn render(frame: &Frame) -> Prompt {
    let version = (frame.context.prompt_version as usize).clamp(1, VERSIONS.len());
    let words = &VERSIONS[version - 1];
    let mut out = Prompt { text: words.fixed.to_owned(), ..Prompt::default() };
    out.heading(words.playbook);
    let (playbook, _) = out.truncated("PLAYBOOK", &frame.playbook, PLAYBOOK_BYTES, in_margin);
    out.behind_margin(playbook);
    out.cut_playbook = playbook.len() < frame.playbook.len();
    goals(&mut out, frame);
    out.split = out.text.len();
    readings(&mut out, frame);
    own(&mut out, frame, words);
    history(&mut out, frame, words);
    let reasons = &frame.context.woke;
    let woke = &reasons[..reasons.len().min(WOKE)];
    if woke.len() < reasons.len() {
        out.cuts.push(format!("Now: {} of {} reasons", reasons.len() - WOKE, reasons.len()));
    }
    if !out.cuts.is_empty() {
        out.heading(words.truncated);
        for cut in out.cuts.clone() {
            out.data(&Value::String(cut));
        }
    }
    out.heading("Now");
    let now = frame.context.at;
    out.data(&json!({ "time": now.stamp(), "beat": frame.context.beat, "woke": woke }));
    out.text.push_str("\nAnswer with one JSON object: your move.\n");
    out
}

/// Renders the prompt of the only repair call: the same prompt, the reply, and the error in it.
pub fn repair(prompt: &str, reply: &str, error: &str) -> String {
    let shown = crate::rules::json::clip(reply, 4_000);
    let error = crate::rules::json::clip(error, 1_000);
    let data = encoded(&json!({ "error": error, "your_reply": shown }));
    format!(
        "{prompt}\n# Your reply was not a valid move (data)\n{data}\n\nAnswer again with one JSON object: your move.\n"
    )
}

impl Prompt {
    fn heading(&mut self, text: &str) {
        self.text.push_str(&format!("\n# {text}\n"));
    }

    /// Writes one line of JSON.
    fn data(&mut self, value: &Value) {
        self.text.push_str(&format!("{}\n", encoded(value)));
    }

    /// Truncates a text at `cap` bytes in the prompt, and notes that. Returns the text and its size in the prompt.
    fn truncated<'a>(
        &mut self,
        what: &str,
        text: &'a str,
        cap: usize,
        cost: fn(char) -> usize,
    ) -> (&'a str, usize) {
        let (end, used) = fit(text, cap, cost);
        if end < text.len() {
            self.cuts.push(format!("{what}: the last {} of {} bytes", text.len() - end, text.len()));
        }
        (&text[..end], used)
    }

    /// Writes the user's text behind a margin.
    fn behind_margin(&mut self, text: &str) {
        for line in text.split(BREAKS) {
            self.text.push_str(&format!("| {line}\n"));
        }
    }

    /// Writes one line of JSON of at most a few kilobytes.
    fn short(&mut self, what: &str, value: Value, words: &Words) {
        let text = encoded(&value);
        if text.len() <= LAST_BYTES {
            return self.data(&value);
        }
        self.cuts.push(format!("{what}: {}", words.text_truncated));
        let (end, _) = fit(&text, LAST_BYTES, in_json);
        self.data(&json!({ "cut": true, "text": text[..end] }));
    }

    /// Writes a list of JSON lines within a budget; the rest is reported as truncated.
    fn list(&mut self, title: &str, items: Vec<Value>, cap: usize) {
        if items.is_empty() {
            return;
        }
        self.heading(title);
        let mut left = cap;
        let total = items.len();
        for (shown, item) in items.into_iter().enumerate() {
            let length = encoded(&item).len();
            if length > left {
                self.cuts.push(format!("{title}: {} of {total}", total - shown));
                break;
            }
            left -= length;
            self.data(&item);
        }
    }
}

/// Formats JSON as one line. serde_json escapes `\n`; this also escapes the other characters that some readers treat as
/// line breaks.
fn encoded(value: &Value) -> String {
    escaped_json(&value.to_string(), |c| matches!(c, '\u{2028}' | '\u{2029}' | '\u{85}'))
}

const BREAKS: [char; 7] = ['\n', '\r', '\u{2028}', '\u{2029}', '\u{85}', '\u{b}', '\u{c}'];

/// Returns the size of a character of the user's text in the prompt: a line break adds a margin.
fn in_margin(c: char) -> usize {
    if BREAKS.contains(&c) { 3 } else { c.len_utf8() }
}

/// Returns the maximum size of a character in a line of JSON.
fn in_json(c: char) -> usize {
    match c {
        '"' | '\\' => 2,
        _ if c.is_control() || BREAKS.contains(&c) => 6,
        _ => c.len_utf8(),
    }
}

/// Returns the position at which to truncate a text so that it takes at most `cap` bytes in the prompt, and its size
/// then.
fn fit(text: &str, cap: usize, cost: fn(char) -> usize) -> (usize, usize) {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        if used + cost(c) > cap {
            return (at, used);
        }
        used += cost(c);
    }
    (text.len(), used)
}

fn goals(out: &mut Prompt, frame: &Frame) {
    let mut left = GOALS_BYTES;
    for (name, goal) in &frame.goals {
        match goal {
            Goal::Unreadable(why) => {
                out.heading(&format!("goal {name} cannot be read (data)"));
                out.data(&json!({ "why": why }));
            }
            Goal::Text(text) => {
                let title = format!("goal {name}");
                // A move wrote it after untrusted text was read: it is data until the user edits it.
                let is_untrusted = frame.context.untrusted_goals.contains(name);
                let cost = if is_untrusted { in_json } else { in_margin };
                let (shown, used) = out.truncated(&title, text, GOAL_BYTES.min(left), cost);
                if is_untrusted {
                    out.heading(&format!("{title}, written by looop after it read untrusted text (data)"));
                    out.data(&json!(shown));
                } else {
                    out.heading(&title);
                    out.behind_margin(shown);
                }
                out.cut_goals.extend((shown.len() < text.len()).then(|| name.clone()));
                left -= used;
            }
        }
    }
}

fn readings(out: &mut Prompt, frame: &Frame) {
    out.heading("World: what the sensors read (data)");
    let mut left = READINGS_BYTES;
    for (name, reading) in &frame.readings {
        let value = shown(name, reading, READING_BYTES.min(left));
        left -= encoded(&value).len().min(left);
        if value["cut"] == true {
            out.cuts.push(format!("sensor {name}"));
        }
        out.data(&value);
    }
}

/// Formats a reading within `cap` bytes: drops the detail first, then truncates the signal.
fn shown(name: &Name, reading: &SensorReading, cap: usize) -> Value {
    let mut value = json!({ "sensor": name, "ok": reading.ok, "signal": reading.signal });
    if reading.trust == Trust::Untrusted {
        value["trust"] = "untrusted".into();
    }
    if !reading.detail.is_null() {
        value["detail"] = reading.detail.clone();
    }
    if encoded(&value).len() <= cap {
        return value;
    }
    value["cut"] = true.into();
    if let Value::Object(map) = &mut value {
        map.remove("detail");
    }
    if encoded(&value).len() > cap {
        let text = reading.signal.to_string();
        value["signal"] = text[..text.floor_char_boundary(cap / 2)].into();
    }
    value
}

fn own(out: &mut Prompt, frame: &Frame, words: &Words) {
    let own = &frame.context.own;
    let open: Vec<Value> = own.open.iter().map(|(id, text)| json!({ "ask": id, "text": text })).collect();
    let due: Vec<Value> = own.due.iter().map(|d| json!({ "schedule": d.name, "note": d.note })).collect();
    out.list("Workers (data)", values(&own.workers), OWN_BYTES);
    out.list(words.reports, values(&own.reports), REPORTS_BYTES);
    out.list(words.ended_asks, values(&own.answers), OWN_BYTES);
    out.list(words.open_asks, open, OWN_BYTES);
    out.list("Schedules that are due (data)", due, OWN_BYTES);
    out.list("Files that could not be used (data)", values(&own.problems), OWN_BYTES);
    out.heading("Budget of the day (data)");
    out.data(&json!(own.budget));
}

fn history(out: &mut Prompt, frame: &Frame, words: &Words) {
    let context = &frame.context;
    out.list("What changed since your last decision (data)", values(&context.changes), CHANGES_BYTES);
    let tail = journal_tail(&frame.journal).lines();
    let journal: Vec<Value> =
        tail.map(|line| json!(entry::shown(line, context.withheld.as_deref()))).collect();
    out.list("Recent journal (data)", journal, JOURNAL_BYTES * 2);
    if let Some(last) = &context.last {
        out.heading("Last move (data)");
        out.short("Last move", notified(last), words);
    }
    if let Some(failure) = &context.failure {
        out.heading("Last failure (data)");
        out.short("Last failure", notified(failure), words);
    }
    let starved: Vec<Value> = context
        .starved
        .iter()
        .map(|(goal, since)| json!({ "goal": goal, "decisions_since": since }))
        .collect();
    out.list("Starving goals: no move served them for a while (data)", starved, OWN_BYTES);
    out.list(words.flapping, values(&context.flapping), OWN_BYTES);
    if let Some(goal) = &context.forced {
        out.heading(words.forced);
        out.data(&json!(goal));
    }
}

fn values(items: &[impl serde::Serialize]) -> Vec<Value> {
    items.iter().map(|item| serde_json::to_value(item).unwrap_or_default()).collect()
}

/// Returns what the memory knows of the last decision; whether that one was clean matters only for policy.
fn notified(value: &impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.remove("clean");
    }
    value
}

/// Returns the end of the journal for a prompt: whole lines within the budget.
pub fn journal_tail(journal: &str) -> &str {
    let from = journal.len().saturating_sub(JOURNAL_BYTES);
    if from == 0 {
        return journal;
    }
    match journal.as_bytes()[from..].iter().position(|byte| *byte == b'\n') {
        Some(end) => &journal[from + end + 1..],
        None => "",
    }
}

#[cfg(test)]
#[path = "prompt_tests.rs"]
mod tests;
