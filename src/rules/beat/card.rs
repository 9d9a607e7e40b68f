//! Pure. The card of an ask: what the user sees before the answer, the same on each screen.
//!
//! Each field of the move and of the scope is destructured by name, without `..`: a field that is added later does not
//! compile until it has a row. Text of a model or of a worker has a bar at the start of each line, even if the width of
//! the terminal breaks the line, so that the text cannot look like a card.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::ask::{Approval, OUTDATED, QuestionFile};
use super::decision::{Action, Move, RunCommand};
use super::scope::{
    ApprovalScope, Check, CommandScope, FileScope, FolderScope, GoalScope, GrantScope, RepoScope,
    SandboxScope,
};
use crate::rules::json::clip;
use crate::rules::text::{quote_argv, visible};
use crate::rules::time::{Now, human_ms};
use crate::rules::user_side::UserSidePath;

/// The label of a line of foreign text.
const BAR: &str = "|";
/// The least width of a terminal, in cells, at which a text is wrapped.
const LEAST_CELLS: usize = 24;
/// How many characters of a digest are shown; half as many for a digest that only identifies a location.
const DIGEST_CHARS: usize = 16;

/// One row of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardRow {
    /// The label, or a bar for a line of foreign text.
    pub label: String,
    /// The text, without terminal control sequences.
    pub text: String,
    /// True for the most important rows.
    pub strong: bool,
}

impl CardRow {
    /// Formats the row as lines of a terminal with this width; `None`: unlimited width.
    pub fn lines(&self, columns: Option<usize>) -> Vec<String> {
        match self.label == BAR {
            true => broken("  | ", "  | ", &self.text, columns),
            false => broken(&format!("  {:<8} ", self.label), "           | ", &self.text, columns),
        }
    }
}

/// Wraps a text: the first line starts with one prefix, each later line with another.
fn broken(first: &str, rest: &str, text: &str, columns: Option<usize>) -> Vec<String> {
    let mut lines = vec![first.to_owned()];
    let limit = columns.map(|columns| columns.saturating_sub(1).max(LEAST_CELLS));
    let mut cells = first.width();
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if limit.is_some_and(|limit| cells + width > limit) {
            lines.push(rest.to_owned());
            cells = rest.width();
        }
        cells += width;
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
    }
    lines
}

/// The rows in display order.
#[derive(Default)]
struct CardRows(Vec<CardRow>);

impl CardRows {
    fn put(&mut self, label: &str, text: &str) {
        self.0.push(CardRow { label: label.to_owned(), text: visible(text, false), strong: false });
    }

    /// Adds foreign text (not written by looop), line by line behind a bar.
    fn foreign(&mut self, text: &str) {
        for line in text.lines() {
            self.put(BAR, line);
        }
    }
}

/// Returns the rows of a question: its text, the answers to choose from, and its reference.
pub fn question(ask: &QuestionFile) -> Vec<CardRow> {
    let mut rows = CardRows::default();
    rows.foreign(&ask.text);
    for (at, option) in ask.options.iter().enumerate() {
        rows.put(BAR, &format!("  {}) {option}", at + 1));
    }
    ask.reference.iter().for_each(|reference| rows.put(BAR, &format!("  about: {reference}")));
    rows.0
}

/// Returns the rows of an approval, grants first.
pub fn approval(ask: &QuestionFile, approval: &Approval, now: Now) -> Vec<CardRow> {
    // The rows of the scope show what the operation does.
    let Approval { decided, scope, operation: _, diff, because, hash } = approval;
    let Move { action, why, goal, next_beat_s } = decided;
    let ApprovalScope {
        form: _,
        // The rows of the move show the same.
        action: _,
        grants,
        command,
        checks,
        files,
        folders,
        beyond,
        sandbox,
        replaces,
        goal: served,
        repo,
        user_side,
    } = scope;
    let mut rows = CardRows::default();
    if approval.is_outdated() {
        rows.put("void", OUTDATED);
    }
    grants.iter().for_each(|grant| grant_row(&mut rows, grant));
    for UserSidePath { path, reason } in user_side {
        let text = format!("{path} executes on your side: {reason}");
        rows.0.push(CardRow { label: "beware".to_owned(), text: visible(&text, false), strong: true });
    }
    rows.put("move", action.tag());
    action_rows(&mut rows, action, grants, command.as_ref(), diff);
    command.iter().for_each(|command| command_rows(&mut rows, command));
    for Check { name, argv } in checks {
        rows.put("check", &format!("{name}: {}", quote_argv(argv)));
    }
    files.iter().for_each(|file| file_row(&mut rows, file));
    for FolderScope { path, entries, content } in folders {
        rows.put("folder", &format!("{path}: {entries} entries, {}", digest(content)));
    }
    let SandboxScope { level, network, writes } = sandbox;
    rows.put("sandbox", level);
    rows.put("network", network);
    writes.iter().for_each(|path| rows.put("writes", path));
    replaces
        .iter()
        .for_each(|content| rows.put("replaces", &format!("a file of content {}", digest(content))));
    match (served, goal) {
        (Some(GoalScope { id, content }), _) => {
            let content = content.as_deref().map_or("no text".to_owned(), digest);
            rows.put("goal", &format!("{id} ({content})"));
        }
        (None, Some(goal)) => rows.put("goal", goal.as_str()),
        (None, None) => {}
    }
    if let Some(RepoScope { path, place, head, base, objects }) = repo {
        rows.put("clone of", &format!("{path} (at {})", short(place)));
        rows.put("base", &format!("{base}, which is {head}"));
        rows.put("objects", objects);
    }
    beyond.iter().for_each(|text| rows.put("beyond", &format!("the approval does not cover {text}")));
    rows.put("asked", &format!("by the loop in beat {}, because {because}", ask.beat));
    rows.put("why", why);
    next_beat_s.iter().for_each(|seconds| rows.put("again", &format!("the loop looks again in {seconds} s")));
    if !ask.clean {
        rows.put("beware", "untrusted text was read before this was written");
    }
    rows.foreign(diff);
    rows.put("hash", hash);
    let left = ask.expires_ms.map(|end| human_ms(end - now.unix_ms)).unwrap_or_default();
    rows.put("expires", &format!("in {left}"));
    rows.0
}

fn digest(text: &str) -> String {
    clip(text, DIGEST_CHARS)
}

fn short(text: &str) -> String {
    clip(text, DIGEST_CHARS / 2)
}

fn grant_row(rows: &mut CardRows, grant: &GrantScope) {
    let GrantScope { name, kind, path, content, place } = grant;
    let mut text = match path {
        Some(path) if path == name => format!("the {kind} {path}"),
        Some(path) => format!("the {kind} {path}, named as {name}"),
        None => format!("the {kind} {name}"),
    };
    content.iter().for_each(|content| text.push_str(&format!(" {}", digest(content))));
    place.iter().for_each(|place| text.push_str(&format!(" (at {})", short(place))));
    rows.0.push(CardRow { label: "grants".to_owned(), text: visible(&text, false), strong: true });
}

/// Adds the rows of the operation. A long text is shown as a diff if there is one.
fn action_rows(
    rows: &mut CardRows,
    action: &Action,
    grants: &[GrantScope],
    command: Option<&CommandScope>,
    diff: &str,
) {
    let text = |rows: &mut CardRows, label: &str, text: &str| {
        let content = blake3::hash(text.as_bytes()).to_hex();
        rows.put(label, &format!("{} bytes, {}", text.len(), digest(&content)));
        if diff.is_empty() {
            rows.foreign(text);
        }
    };
    match action {
        Action::Noop {} => {}
        Action::Run(run) => {
            let RunCommand { argv: _, sh, cwd } = run;
            let argv = command.map_or_else(|| run.full_argv(), |command| command.argv.clone());
            let command = quote_argv(&argv);
            rows.0.push(CardRow { label: "command".to_owned(), text: command, strong: true });
            sh.iter().filter(|line| line.contains('\n')).for_each(|line| rows.foreign(line));
            cwd.iter().for_each(|cwd| rows.put("cwd", cwd));
        }
        Action::WriteGoal { id: name, body: whole } | Action::WriteSensor { name, script: whole } => {
            rows.put("on", name.as_str());
            text(rows, "text", whole);
        }
        Action::ArchiveGoal { id: name }
        | Action::StopWorker { id: name }
        | Action::DropSchedule { name } => {
            rows.put("on", name.as_str());
        }
        Action::WritePlaybook { body } => {
            rows.put("on", "PLAYBOOK.md");
            text(rows, "text", body);
        }
        Action::StartWorker { id, kind, brief, verify, claims, repo, grant } => {
            let unresolved = grant.iter().filter(|name| !grants.iter().any(|grant| grant.name == **name));
            unresolved.for_each(|name| rows.put("grants", name));
            rows.put("worker", id.as_str());
            kind.iter().for_each(|kind| rows.put("kind", kind));
            verify.iter().for_each(|verify| rows.put("verify", verify));
            claims.iter().for_each(|claim| rows.put("claims", claim));
            repo.iter().for_each(|repo| rows.put("repo", repo));
            text(rows, "brief", brief);
        }
        Action::TellWorker { id, text } => {
            rows.put("on", id.as_str());
            rows.foreign(text);
        }
        Action::Ask { text, options, reference } => {
            rows.foreign(text);
            options.iter().for_each(|option| rows.put("option", option));
            reference.iter().for_each(|reference| rows.put("about", reference));
        }
        Action::Schedule { name, in_s, every_s, cron, note } => {
            rows.put("on", name.as_str());
            in_s.iter().for_each(|seconds| rows.put("in", &format!("{seconds} s")));
            every_s.iter().for_each(|seconds| rows.put("every", &format!("{seconds} s")));
            cron.iter().for_each(|cron| rows.put("cron", cron));
            rows.foreign(note);
        }
    }
}

fn command_rows(rows: &mut CardRows, command: &CommandScope) {
    let CommandScope { argv, program, cwd, place, env, values } = command;
    if !rows.0.iter().any(|row| row.label == "command") {
        rows.0.push(CardRow { label: "command".to_owned(), text: quote_argv(argv), strong: true });
    }
    rows.put("program", program);
    let place = place.as_deref().map(|place| format!(" (at {})", short(place))).unwrap_or_default();
    rows.put("in", &format!("{cwd}{place}"));
    rows.put("with", &format!("{} ({})", env.join(" "), short(values)));
}

fn file_row(rows: &mut CardRows, file: &FileScope) {
    let FileScope { role, path, real, place, content } = file;
    let led = if path == real { String::new() } else { format!(", which is {real}") };
    rows.put("file", &format!("{path} {}{led} ({role}, at {})", digest(content), short(place)));
}

/// Formats foreign text for a notice: in a text of several lines, each line starts with a bar.
pub fn barred(text: &str) -> String {
    if !text.contains('\n') {
        return text.to_owned();
    }
    text.lines().map(|line| format!("{BAR} {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[path = "card_tests.rs"]
mod tests;
