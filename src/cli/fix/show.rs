//! The output of `looop fix`: a line for each step, the step in progress, and a table at the end.

use anyhow::Result;

use crate::cli::json_output::FixJson;
use crate::cli::{App, clip, human_ms, print, visible};
use crate::fix::{Finished, Progress, Severity};
use crate::os::clock::Deadline;
use crate::rules::fix::attempt::LedgerLine;
use crate::rules::fix::{TaskState, TaskStatus};
use crate::store::fixes;

/// The indent of lines: the elapsed time and a gap, in columns.
const INDENT: usize = 9;
/// The width if stdout is not a terminal.
const WIDTH: usize = 100;
/// The longest task name in the table, in characters.
const MAX_TITLE: usize = 28;
/// A note that has less room than this is printed below the table, in characters.
const MIN_NOTE: usize = 28;

/// True if a user can see redrawn lines.
pub(super) fn is_watched() -> bool {
    print::stdout_is_tty() && print::stderr_is_tty()
}

/// The progress output of a run.
pub(super) struct ProgressView<'a> {
    app: &'a App,
    began: Deadline,
    /// The last line, which shows the step in progress.
    last: String,
    since: Deadline,
    drawn: String,
}

impl ProgressView<'_> {
    /// Starts with an empty output, and starts the elapsed time.
    pub(super) fn new(app: &App) -> ProgressView<'_> {
        let now = Deadline::after_ms(0);
        ProgressView { app, began: now, last: String::new(), since: now, drawn: String::new() }
    }

    /// Prints a line, or the duration of the step in progress.
    pub(super) fn take(&mut self, progress: &Progress) {
        let elapsed = human_ms(self.began.spent_ms());
        let (severity, text) = match progress {
            Progress::Line(severity, text) => (*severity, visible(text, false)),
            Progress::Step(text) => return self.goes_on_with(&visible(text, false)),
            Progress::Heartbeat => {
                let text = format!("{elapsed:>7}  … {} ({})", self.last, human_ms(self.since.spent_ms()));
                if self.since.spent_ms() >= 1000 && text != self.drawn {
                    print::redraw(&self.app.style.dim(&text));
                    self.drawn = text;
                }
                return;
            }
        };
        self.clear();
        let paint = |line: &str| match severity {
            Severity::Plain => line.to_owned(),
            Severity::Good => self.app.style.green(line),
            Severity::Warn => self.app.style.yellow(line),
            Severity::Bad => self.app.style.red(line),
        };
        let width = if is_watched() { width().saturating_sub(INDENT) } else { usize::MAX };
        for (nth, line) in wrapped(&text, width).iter().enumerate() {
            let lead = if nth == 0 { elapsed.as_str() } else { "" };
            self.app.line(&format!("{lead:>7}  {}", paint(line)));
        }
        self.goes_on_with(&text);
    }

    fn goes_on_with(&mut self, text: &str) {
        self.last = clip(text, width().saturating_sub(INDENT + 14).min(60));
        self.since = Deadline::after_ms(0);
    }

    /// Clears the line of the step in progress.
    pub(super) fn clear(&mut self) {
        if !std::mem::take(&mut self.drawn).is_empty() {
            print::redraw("");
        }
    }
}

fn width() -> usize {
    print::columns().map_or(WIDTH, |columns| columns.max(40))
}

/// Wraps a text into lines of at most `width` characters, between words if possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Prints the final table, the place of the result, and the saved tokens.
///
/// # Errors
/// A ledger cannot be read.
pub(super) fn summary(app: &App, finished: &Finished, savings: bool) -> Result<()> {
    let style = app.style;
    let tasks = &finished.run.tasks;
    if app.json {
        let applied = finished.applied.words();
        let finished = FixJson { fix: finished.id.clone(), tasks: tasks.clone(), applied };
        return print::answer("fix", finished).map(drop);
    }
    let mut rows: Vec<Vec<String>> =
        vec![["TASK", "RESULT", "TRIES", "TIME", "TOKENS", ""].map(str::to_owned).into()];
    for task in tasks {
        let note = match task.status {
            TaskStatus::Stuck => format!("looop answer {}", task.note),
            _ => visible(&task.note, false),
        };
        let (title, tries) = (clip(&task.title, MAX_TITLE), tries(app, finished, task)?.to_string());
        let (took, tokens) = (human_ms(task.took_ms), counted(task.tokens, task.estimated));
        rows.push(vec![title, task.status.to_string(), tries, took, tokens, note]);
    }
    let long = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let before: usize = (0..5).map(|column| long(column) + 2).sum();
    let room = width().saturating_sub(before);
    let mut below = Vec::new();
    for (row, task) in rows.iter_mut().skip(1).zip(tasks) {
        let note = std::mem::take(&mut row[5]);
        match room >= MIN_NOTE.max(note.chars().count()) {
            true => row[5] = note,
            // Completed work was printed before; the rest is printed in full.
            false if !task.status.is_good() && !note.is_empty() => below.push(format!("{}: {note}", row[0])),
            false => {}
        }
        row[1] = match task.status {
            TaskStatus::Failed => style.red(&row[1]),
            TaskStatus::Stuck => style.yellow(&row[1]),
            status if status.is_good() => style.green(&row[1]),
            _ => row[1].clone(),
        };
    }
    rows[0] = rows[0].iter().map(|cell| style.dim(cell)).collect();
    print::line("");
    print::raw(print::table(&rows).as_bytes());
    below.iter().for_each(|note| print::line(note));
    print::line("");
    print::line(&visible(&finished.applied.words(), false));
    if let Some(words) = saved(finished).filter(|_| savings) {
        print::line(&words);
    }
    let is_open = |task: &&TaskState| matches!(task.status, TaskStatus::Failed | TaskStatus::Stuck);
    if let Some(task) = tasks.iter().find(is_open) {
        print::line(&format!("what was tried: looop attempt show {}", task.goal));
    }
    Ok(())
}

/// The number of attempts that a task took in this run.
fn tries(app: &App, finished: &Finished, task: &TaskState) -> Result<usize> {
    let lines = fixes::ledger(&app.layout.fix(&finished.id), &task.goal)?;
    let is_own = |line: &&LedgerLine| matches!(line, LedgerLine::Attempt(attempt) if attempt.n >= task.first && task.first > 0);
    Ok(lines.iter().filter(is_own).count())
}

fn counted(tokens: u64, estimated: bool) -> String {
    format!("{}{tokens}", if estimated { "~" } else { "" })
}

/// The tokens that a cloud model did not have to spend, and those that it spent.
fn saved(finished: &Finished) -> Option<String> {
    let tasks = &finished.run.tasks;
    let sum = |of: fn(&TaskState) -> u64| tasks.iter().map(of).fold(0, u64::saturating_add);
    let (local, all) = (sum(|task| task.local_tokens), sum(|task| task.tokens));
    let estimated = tasks.iter().any(|task| task.estimated);
    let note = if estimated { " (~ an estimate)" } else { "" };
    let shown = |tokens: u64| counted(tokens, estimated);
    match (local, all.saturating_sub(local)) {
        (0, _) => None,
        (local, 0) => Some(format!("a cloud model did not have to spend {} tokens{note}", shown(local))),
        (local, other) => {
            let (local, all, other) = (shown(local), shown(all), shown(other));
            Some(format!(
                "a cloud model did not have to spend {local} of {all} tokens{note}; {other} went to other runners or were paid for"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("overlong-word x", 5), ["overlong-word", "x"]);
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!(wrapped("a  b", 80), ["a  b"]);
    }
}
