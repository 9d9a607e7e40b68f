//! Pure. Builds an agent's prompt: the task, the files, the change so far, the failure, and one line for each attempt.
//!
//! Each prompt is complete and self-contained: there is no chat history. The prompt lists what did not fit.

use super::edits;
use super::leanfile::{Defaults, Task};
use super::testing::command;
use crate::rules::fix::attempt::{Alike, Attempt, EpisodeState};
use crate::rules::json::clip;

/// The largest part of the budget for the change so far, as a divisor.
const DIFF_SHARE: usize = 3;
/// The most attempts in a prompt; the newest count.
const MAX_HISTORY: usize = 40;

/// A file in the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The path in the project.
    pub path: String,
    /// The text, or why it is not shown.
    pub text: Result<String, String>,
    /// Why it is shown although the task does not list it.
    pub retrieved: Option<String>,
}

/// The files of a prompt.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub files: Vec<Shown>,
    /// Patterns and names that match nothing.
    pub unmatched: Vec<String>,
}

/// The parts of a prompt.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// True for a model without tools: its edits are read from its answer.
    pub by_words: bool,
    pub task: &'a Task,
    pub defaults: &'a Defaults,
    pub sources: &'a Sources,
    /// The most characters of files.
    pub budget: usize,
    /// The change so far, as a diff.
    pub diff: &'a str,
    /// The shortened failure, and how many lines were left out.
    pub failure: (&'a str, usize),
    /// The hypothesis about the cause.
    pub hypothesis: &'a str,
    /// The attempts so far, the plans, and the answer of the user.
    pub now: &'a EpisodeState<'a>,
    /// The command that the last call repeated.
    pub looped: Option<&'a str>,
}

/// A prompt, and what was left out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    pub text: String,
    /// One line for each part that was truncated or left out.
    pub cut: Vec<String>,
}

/// Builds the prompt of an attempt.
pub fn attempt(parts: &Parts) -> Built {
    let mut built = Built::default();
    let (how, form) = match parts.by_words {
        false => ("Edit the files in the current directory yourself", ""),
        true => ("Answer with your edits", edits::FORM),
    };
    let mut out = format!("You fix a program. {how}, then say in one sentence what you changed.\n{form}");
    out.push_str("Change only what the task needs. Do not edit, delete or skip the tests: they decide.\n");
    section(&mut out, "Task", &parts.task.prompt);
    section(&mut out, "For every task", &parts.defaults.global_message);
    files(parts, &mut out, &mut built.cut);
    let cap = parts.budget / DIFF_SHARE;
    let diff = head(parts.diff, cap, "the change so far", &mut built.cut);
    section(&mut out, "The change so far", &fenced(&diff));
    history(parts.now, &mut out);
    let (failure, left_out) = parts.failure;
    section(&mut out, &format!("The failure of `{}`", command(parts.task)), &fenced(failure));
    if left_out > 0 && !failure.is_empty() {
        built.cut.push(format!("{left_out} lines of the tests' output"));
    }
    section(&mut out, "The probable cause (this may be wrong)", parts.hypothesis);
    if let Some(plan) = parts.now.plans.iter().rev().find(|plan| plan.refused.is_none()) {
        section(&mut out, "The plan, which differs from the earlier attempts", &plan.text());
    }
    section(&mut out, "The user says", parts.now.answer.unwrap_or_default());
    if let Some(command) = parts.looped {
        let again = format!("In the last call you ran `{command}` repeatedly with the same output.");
        section(&mut out, "Mind", &format!("{again} Try something different."));
    }
    if !built.cut.is_empty() {
        section(&mut out, "Not shown", &built.cut.join("\n"));
    }
    if parts.by_words {
        out.push_str(edits::REMINDER);
    }
    built.text = out;
    built
}

fn section(out: &mut String, title: &str, text: &str) {
    if !text.trim().is_empty() {
        out.push_str(&format!("\n## {title}\n{}\n", text.trim_end()));
    }
}

/// A code block that its content cannot end.
fn fenced(text: &str) -> String {
    if text.trim().is_empty() {
        return String::new();
    }
    let longest = text.lines().map(|line| line.trim_start().chars().take_while(|c| *c == '`').count()).max();
    let fence = "`".repeat(longest.unwrap_or(0).max(2) + 1);
    format!("{fence}\n{}\n{fence}", text.trim_end())
}

fn head(text: &str, cap: usize, what: &str, cut: &mut Vec<String>) -> String {
    if text.len() <= cap {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(cap);
    let end = text[..end].rfind('\n').unwrap_or(end);
    cut.push(format!("{} of {} characters of {what}", text.len() - end, text.len()));
    text[..end].to_owned()
}

fn files(parts: &Parts, out: &mut String, cut: &mut Vec<String>) {
    let mut left = parts.budget;
    let mut body = String::new();
    for file in &parts.sources.files {
        let shown = match &file.text {
            Ok(text) if text.len() <= left => text.clone(),
            Ok(text) => {
                let part = windows(&file.path, text, parts.failure.0, parts.defaults.source_window, left);
                let missing = text.len().saturating_sub(part.len());
                cut.push(format!("{}: {missing} of {} characters", file.path, text.len()));
                part
            }
            Err(why) => {
                cut.push(format!("{}: {why}", file.path));
                continue;
            }
        };
        left = left.saturating_sub(shown.len());
        if !shown.trim().is_empty() {
            let why = file.retrieved.as_ref().map(|why| format!(" (retrieved: {why})")).unwrap_or_default();
            body.push_str(&format!("\n### {}{why}\n{}\n", file.path, fenced(&shown)));
        }
    }
    cut.extend(parts.sources.unmatched.iter().map(|pattern| format!("{pattern}: matches no file")));
    section(out, "Files", &body);
}

/// The lines around the places that a failure names, else the beginning, in at most `cap` characters.
fn windows(path: &str, text: &str, failure: &str, window: usize, cap: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let places = places(path, failure);
    let mut wanted: Vec<bool> = vec![places.is_empty(); lines.len()];
    for place in places {
        let from = place.saturating_sub(window + 1);
        let to = place.saturating_add(window).min(lines.len());
        wanted.get_mut(from.min(to)..to).into_iter().flatten().for_each(|wanted| *wanted = true);
    }
    let mut out = String::new();
    let mut skipped = false;
    for (at, line) in lines.iter().enumerate() {
        if !wanted[at] {
            skipped = true;
            continue;
        }
        let mark = if skipped { format!("… line {}\n", at + 1) } else { String::new() };
        if out.len() + mark.len() + line.len() + 1 > cap {
            break;
        }
        skipped = false;
        out.push_str(&mark);
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The line numbers of a file in a failure: `name.py:12` and `name.py", line 12`.
fn places(path: &str, failure: &str) -> Vec<usize> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut places = Vec::new();
    for (at, _) in failure.match_indices(name) {
        let rest = &failure[at + name.len()..];
        let digits = rest.strip_prefix(':').or_else(|| rest.strip_prefix("\", line ")).unwrap_or_default();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        places.extend(digits[..end].parse::<usize>().ok());
    }
    places
}

fn history(now: &EpisodeState, out: &mut String) {
    let from = now.attempts.len().saturating_sub(MAX_HISTORY);
    let lines: Vec<String> = now.attempts[from..].iter().map(|attempt| attempt_line(attempt)).collect();
    section(out, "Attempts so far; none was good enough", &lines.join("\n"));
}

/// An attempt in one line.
pub fn attempt_line(attempt: &Attempt) -> String {
    let files = match attempt.files.as_slice() {
        [] => "no file changed".to_owned(),
        files => {
            let named: Vec<&str> = files.iter().take(3).map(String::as_str).collect();
            let more = if files.len() > 3 { ", …" } else { "" };
            format!("+{} -{} in {}{more}", attempt.added, attempt.removed, named.join(", "))
        }
    };
    let mut line = format!("#{} {}: {files}", attempt.n, attempt.outcome);
    if !attempt.failure.is_empty() {
        line.push_str(&format!("; {}", clip(&attempt.failure, 160)));
    }
    if !attempt.hypothesis.is_empty() {
        line.push_str(&format!("; thought: {}", clip(&attempt.hypothesis, 120)));
    }
    if let Some(Alike { to, by }) = &attempt.like {
        let to = if *to == 0 { "the beginning".to_owned() } else { format!("#{to}") };
        line.push_str(&format!("; like {to}: {by}"));
    }
    crate::rules::text::visible(&line, false)
}

/// The prompt that asks for a diagnosis.
pub fn diagnosis(summary: Option<&str>, task: &Task, failure: &str) -> String {
    let failure = fenced(failure);
    match summary {
        Some(own) if own.contains("{error}") => own.replace("{error}", &failure),
        Some(own) => format!("{}\n\n{failure}\n", own.trim_end()),
        None => format!(
            "Tests fail. Say in one sentence what is wrong in the program, and name the function or value that is wrong. \
             Answer with that sentence alone; change nothing.\n\n## Task\n{}\n\n## The failure of `{}`\n{failure}\n",
            task.prompt,
            command(task)
        ),
    }
}

/// The prompt that asks for a new plan.
pub fn replan(task: &Task, now: &EpisodeState, failure: &str, diff: &str) -> String {
    let mut out = String::from(
        "The attempts below repeat themselves. A new plan is needed before the next attempt. Answer with exactly two \
         lines and change nothing:\nHYPOTHESIS: what is really wrong, in one sentence\nDIFFERENT: what will be done that no \
         attempt has done\n",
    );
    section(&mut out, "Task", &task.prompt);
    history(now, &mut out);
    let plans = now.plans.iter().map(|plan| {
        let fate = plan.refused.as_deref().unwrap_or("it did not help");
        format!("- {} / {} ({fate})\n", plan.hypothesis, plan.different)
    });
    section(&mut out, "Plans so far; a similar plan is refused", &plans.collect::<String>());
    section(&mut out, "The failure", &fenced(failure));
    let diff = head(diff, task.context_chars() / DIFF_SHARE, "", &mut Vec::new());
    section(&mut out, "The change so far", &fenced(&diff));
    section(&mut out, "The user says", now.answer.unwrap_or_default());
    out
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
