//! Pure. Builds an agent's prompt: the task, the files, the change so far, the failure, and one line for each attempt.
//!
//! Each prompt is complete and self-contained: there is no chat history. The prompt lists what did not fit.

use super::edits;
use crate::rules::fix::attempt::{Alike, Attempt, RepairPlan};
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

/// The parts of a prompt.
#[derive(Clone, Debug, Default)]
pub struct Parts<'a> {
    /// True for a model without tools: its edits are read from its answer.
    pub by_words: bool,
    /// The description of the task.
    pub task: &'a str,
    /// The user's text for every prompt.
    pub global: &'a str,
    pub files: &'a [Shown],
    /// Patterns that match no file.
    pub unmatched: &'a [String],
    /// The most characters of files.
    pub budget: usize,
    /// The number of lines shown around each place that the failure names in a long file.
    pub window: usize,
    /// The change so far, as a diff.
    pub diff: &'a str,
    /// The command that decides; empty if nothing is tested.
    pub command: &'a str,
    /// The shortened failure, and how many lines were left out.
    pub failure: Option<(&'a str, usize)>,
    /// The hypothesis about the cause.
    pub hypothesis: &'a str,
    /// The attempts so far, oldest first.
    pub attempts: &'a [&'a Attempt],
    /// The plan to follow.
    pub plan: Option<&'a RepairPlan>,
    /// The answer of the user.
    pub answer: Option<&'a str>,
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
    let mut out = String::from(match parts.by_words {
        false => {
            "You fix a program. Edit the files in the current directory yourself, then say in one sentence what you changed.\n"
        }
        true => "You fix a program. Answer with your edits, then say in one sentence what you changed.\n",
    });
    if parts.by_words {
        out.push_str(edits::FORM);
    }
    out.push_str("Change only what the task needs. Do not edit, delete or skip the tests: they decide.\n");
    section(&mut out, "Task", parts.task);
    section(&mut out, "For every task", parts.global);
    files(parts, &mut out, &mut built.cut);
    let cap = parts.budget / DIFF_SHARE;
    let diff = head(parts.diff, cap, "the change so far", &mut built.cut);
    section(&mut out, "The change so far", &fenced(&diff));
    history(parts, &mut out);
    if let Some((failure, left_out)) = parts.failure {
        let title = format!("The failure of `{}`", parts.command);
        section(&mut out, &title, &fenced(failure));
        if left_out > 0 {
            built.cut.push(format!("{left_out} lines of the tests' output"));
        }
    }
    section(&mut out, "The probable cause (this may be wrong)", parts.hypothesis);
    if let Some(plan) = parts.plan {
        section(&mut out, "The plan, which differs from the earlier attempts", &plan.text());
    }
    section(&mut out, "The user says", parts.answer.unwrap_or_default());
    if let Some(command) = parts.looped {
        section(
            &mut out,
            "Mind",
            &format!(
                "In the last call you ran `{command}` repeatedly with the same output. Try something different."
            ),
        );
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
    let failure = parts.failure.map_or("", |(failure, _)| failure);
    let mut body = String::new();
    for file in parts.files {
        let text = match &file.text {
            Ok(text) => text,
            Err(why) => {
                cut.push(format!("{}: {why}", file.path));
                continue;
            }
        };
        let shown = if text.len() <= left {
            text.clone()
        } else {
            let part = windows(&file.path, text, failure, parts.window, left);
            cut.push(format!(
                "{}: {} of {} characters",
                file.path,
                text.len().saturating_sub(part.len()),
                text.len()
            ));
            part
        };
        left = left.saturating_sub(shown.len());
        if !shown.trim().is_empty() {
            let why = file.retrieved.as_ref().map(|why| format!(" (retrieved: {why})")).unwrap_or_default();
            body.push_str(&format!("\n### {}{why}\n{}\n", file.path, fenced(&shown)));
        }
    }
    cut.extend(parts.unmatched.iter().map(|pattern| format!("{pattern}: matches no file")));
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

fn history(parts: &Parts, out: &mut String) {
    let from = parts.attempts.len().saturating_sub(MAX_HISTORY);
    let lines: Vec<String> = parts.attempts[from..].iter().map(|attempt| attempt_line(attempt)).collect();
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
    let mut line = format!("#{} {}: {files}", attempt.n, attempt.outcome.words());
    if !attempt.failure.is_empty() {
        line.push_str(&format!("; {}", clip(&attempt.failure, 160)));
    }
    if !attempt.hypothesis.is_empty() {
        line.push_str(&format!("; thought: {}", clip(&attempt.hypothesis, 120)));
    }
    if let Some(Alike { to, by }) = &attempt.like {
        let to = if *to == 0 { "the beginning".to_owned() } else { format!("#{to}") };
        line.push_str(&format!("; like {to}: {}", by.words()));
    }
    crate::rules::text::visible(&line, false)
}

/// The prompt that asks for a diagnosis.
pub fn diagnosis(summary: Option<&str>, task: &str, command: &str, failure: &str) -> String {
    let failure = fenced(failure);
    match summary {
        Some(own) if own.contains("{error}") => own.replace("{error}", &failure),
        Some(own) => format!("{}\n\n{failure}\n", own.trim_end()),
        None => format!(
            "Tests fail. Say in one sentence what is wrong in the program, and name the function or value that is wrong. \
             Answer with that sentence alone; change nothing.\n\n## Task\n{task}\n\n## The failure of `{command}`\n{failure}\n"
        ),
    }
}

/// The prompt that asks for a new plan.
pub fn replan(parts: &Parts, plans: &[&RepairPlan]) -> String {
    let mut out = String::from(
        "The attempts below repeat themselves. A new plan is needed before the next attempt. Answer with exactly two \
         lines and change nothing:\nHYPOTHESIS: what is really wrong, in one sentence\nDIFFERENT: what will be done that no \
         attempt has done\n",
    );
    section(&mut out, "Task", parts.task);
    history(parts, &mut out);
    let lines: Vec<String> = plans
        .iter()
        .map(|plan| {
            let fate = plan.refused.as_deref().unwrap_or("it did not help");
            format!("- {} / {} ({fate})", plan.hypothesis, plan.different)
        })
        .collect();
    section(&mut out, "Plans so far; a similar plan is refused", &lines.join("\n"));
    if let Some((failure, _)) = parts.failure {
        section(&mut out, "The failure", &fenced(failure));
    }
    section(
        &mut out,
        "The change so far",
        &fenced(&head(parts.diff, parts.budget / DIFF_SHARE, "", &mut Vec::new())),
    );
    section(&mut out, "The user says", parts.answer.unwrap_or_default());
    out
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
