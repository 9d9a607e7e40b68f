//! `looop log`: the journal, and the prompt and reply of one beat.

use anyhow::{Context, Result, bail};

use super::{App, Cancel, Fault, Name, complete, print, visible};
use crate::os::process::wait::wait_readable;
use crate::rules::beat::entry::JournalLine;
use crate::rules::beat::prompt;
use crate::rules::time::parse_since;
use crate::rules::world::PROMPT_VERSION;
use crate::store::exchange::digest_of;
use crate::store::layout::Layout;
use crate::store::{file, logs};
use crate::tick::{apply, prepare};
use crate::vcs::history::{History, LogEntry};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop log -n 50\n  looop log --since 2d --failed\n  looop log -f --goal release --json\n  looop log mwptjqon --prompt"
)]
pub struct Args {
    /// Show this beat only.
    #[arg(add = complete::beat_ids())]
    beat: Option<String>,
    /// The number of lines. Default: 20; with --since, all.
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<usize>,
    /// Only lines since then: an age (`7d`, `12h`), a day (`2026-11-21`) or a time (`2026-11-21 09:15`).
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only lines about this goal.
    #[arg(long, add = complete::goal_ids())]
    goal: Option<Name>,
    /// Only moves that were refused, not made or failed, and workers that failed or were lost.
    #[arg(long)]
    failed: bool,
    /// Only lines that contain this text, in capital or small letters.
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Then print new lines as they come, until you interrupt it.
    #[arg(short, long, conflicts_with = "beat")]
    follow: bool,
    /// Print the prompt of the beat, rebuilt from git alone.
    #[arg(long, requires = "beat", conflicts_with = "json")]
    prompt: bool,
    /// Print the runner's reply in the beat, if it is still kept.
    #[arg(long, requires = "beat", conflicts_with_all = ["prompt", "json"])]
    reply: bool,
}

/// The largest part of each file of the journal that is read, in bytes.
const JOURNAL_BYTES: usize = 512 * 1024;
/// How often a followed journal is read, in milliseconds.
const POLL_MS: i64 = 200;
/// How many lines are shown without `-n`.
const LINES: usize = 20;
/// The largest number of commits that are searched for a beat's world.
const SEARCH_COMMITS: usize = 100_000;

/// Prints the journal, or one beat.
pub fn run(app: &App, args: &Args) -> Result<u8> {
    if let Some(beat) = args.beat.as_deref().filter(|_| args.prompt) {
        return rebuild(app, beat);
    }
    let kept = |beat: &str, name: &str| {
        file::read(&app.layout.runs().join(beat).join(name), 64 << 20).ok().flatten()
    };
    if let Some(beat) = args.beat.as_deref().filter(|_| args.reply) {
        let Some(reply) = kept(beat, "reply.txt") else {
            bail!("could not find the reply of beat {beat}: it was not kept, or it was deleted");
        };
        return print::page(&reply);
    }
    let filter = Filter::new(args, app)?;
    let mut seen = logs::journal_tail(&app.layout, JOURNAL_BYTES)?;
    let shown = filter.newest(&app.layout, &seen)?;
    if let Some(beat) = args.beat.as_deref().filter(|_| shown.is_empty()) {
        bail!("could not find the beat {beat}: the journal does not contain it");
    }
    if shown.is_empty() && !args.follow && !app.json {
        print::note(if seen.is_empty() { "the journal is empty" } else { "no line of the journal fits" });
    }
    show(&shown, app.json)?;
    if let Some(output) =
        args.beat.as_deref().filter(|_| !app.json).and_then(|beat| kept(beat, apply::OUTPUT))
    {
        let text = String::from_utf8_lossy(&output);
        text.lines().for_each(|line| print::line(&format!("  {}", visible(line, false))));
    }
    let cancel = Cancel::on_signals()?;
    while args.follow && !cancel.is_set() {
        wait_readable(&[&cancel.fd()], POLL_MS);
        let journal = logs::journal_tail(&app.layout, JOURNAL_BYTES)?;
        let new: Vec<String> =
            added(&seen, &journal).lines().filter(|line| filter.fits(line)).map(str::to_owned).collect();
        if !new.is_empty() {
            show(&new, app.json)?;
        }
        seen = journal;
    }
    Ok(0)
}

fn show(lines: &[String], json: bool) -> Result<()> {
    if json {
        let lines: Vec<_> = lines.iter().filter_map(|line| JournalLine::parse(line)).collect();
        return print::answer("lines", lines).map(drop);
    }
    lines.iter().for_each(|line| print::line(&visible(line, false)));
    Ok(())
}

/// The whole lines that a journal has got since it was read. It may have been rotated in the meantime, which keeps its end.
fn added<'a>(seen: &str, journal: &'a str) -> &'a str {
    let whole = |text: &str| text.rfind('\n').map_or(0, |end| end + 1);
    let (seen, journal) = (&seen[..whole(seen)], &journal[..whole(journal)]);
    journal.strip_prefix(seen).unwrap_or_else(|| {
        let last = seen.lines().next_back().unwrap_or_default();
        journal.rfind(last).map_or(journal, |at| journal[at + last.len()..].trim_start_matches('\n'))
    })
}

/// Which lines are shown, and how many.
struct Filter<'a> {
    args: &'a Args,
    json: bool,
    since_ms: Option<i64>,
    text: Option<String>,
    most: usize,
}

impl<'a> Filter<'a> {
    fn new(args: &'a Args, app: &App) -> Result<Filter<'a>> {
        let since = args.since.as_deref().map(|text| parse_since(text, app.now));
        let most = args.lines.unwrap_or(if args.since.is_some() { usize::MAX } else { LINES });
        let text = args.grep.as_ref().map(|text| text.to_lowercase());
        Ok(Filter { args, json: app.json, since_ms: since.transpose().map_err(Fault::usage)?, text, most })
    }

    /// A line of the user in another format has no parts: it fits if only a text is looked for.
    fn fits(&self, line: &str) -> bool {
        let Args { beat, goal, failed, .. } = self.args;
        let has_text = self.text.as_ref().is_none_or(|text| line.to_lowercase().contains(text));
        let needs_parts = beat.is_some() || goal.is_some() || *failed || self.json || self.since_ms.is_some();
        let fits = |read: JournalLine| {
            (beat.is_none() || read.beat == *beat)
                && goal.as_ref().is_none_or(|goal| read.is_about(goal))
                && (read.failed || !failed)
                && self.since_ms.is_none_or(|since_ms| read.at_ms >= since_ms)
        };
        let has_parts = || JournalLine::parse(line).is_some_and(fits);
        !line.trim().is_empty() && has_text && (!needs_parts || has_parts())
    }

    /// The newest lines of the journal and its older parts, the oldest one first.
    fn newest(&self, layout: &Layout, journal: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (nth, path) in logs::journal_parts(layout)?.iter().enumerate() {
            let older = if nth > 0 { file::read_tail(path, JOURNAL_BYTES)? } else { String::new() };
            let text = if nth > 0 { &older } else { journal };
            let fitting = text.lines().rev().filter(|line| self.fits(line));
            found.extend(fitting.take(self.most - found.len()).map(str::to_owned));
            let is_before = |line: JournalLine| self.since_ms.is_some_and(|since_ms| line.at_ms < since_ms);
            if found.len() >= self.most || text.lines().find_map(JournalLine::parse).is_some_and(is_before) {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }
}

/// Finds the commit with the world that a beat decided on.
///
/// # Errors
/// Git has no such commit.
pub fn world_of(history: &History, beat: &str) -> Result<String> {
    let world = find_commit(history, "world: ", &format!("\nBeat: {beat}\n"))?;
    let none = || format!("could not find the world of beat {beat}: git has no commit of it");
    Ok(world.with_context(none)?.id)
}

/// Finds the newest commit whose message begins with `kind` and contains `mark`.
fn find_commit(history: &History, kind: &str, mark: &str) -> Result<Option<LogEntry>> {
    let entries = history.log(SEARCH_COMMITS)?;
    Ok(entries.into_iter().find(|entry| entry.message.starts_with(kind) && entry.message.contains(mark)))
}

/// Prints the prompt of a beat, and compares it with the digest in the commit of its move. A beat without a move has no
/// digest.
fn rebuild(app: &App, beat: &str) -> Result<u8> {
    let history = History::open(app.layout.root())?;
    let frame = prepare::rebuild(&history, &world_of(&history, beat)?)?;
    let what = format!("could not rebuild the prompt of beat {beat}");
    let version = frame.context.prompt_version;
    if version > PROMPT_VERSION {
        let known = format!("this program knows the versions up to {PROMPT_VERSION}");
        let fault = Fault::failed(format!("{what}: it has version {version}, and {known}"));
        return Err(fault.hint("use a newer looop").into());
    }
    let text = prompt::render(&frame).text;
    let commit = find_commit(&history, "move: ", &format!("\nBeat: {beat}\nWorld: "))?;
    let mut lines = commit.iter().flat_map(|commit| commit.message.lines().rev());
    let recorded = lines.find_map(|line| line.strip_prefix("Prompt: "));
    if recorded.is_some_and(|recorded| recorded != digest_of(text.as_bytes())) {
        let cause = "its digest differs from the trailer `Prompt:` of the commit of its move";
        let sent = app.layout.runs().join(beat).join("prompt.md");
        let hint = match sent.exists() {
            true => format!("read the prompt as it was sent: `{}`", sent.display()),
            false => "another build of looop made this prompt; that build can show it".to_owned(),
        };
        return Err(Fault::failed(format!("{what}: {cause}")).hint(hint).into());
    }
    print::page(text)
}

#[cfg(test)]
mod tests {
    use super::added;

    #[test]
    fn new_lines_are_found_also_after_a_rotation() {
        for (seen, journal, new) in [
            ("", "a\nb\n", "a\nb\n"),
            ("a\n", "a\nb\nhalf", "b\n"),
            ("a\nhalf", "a\nhalf of it\n", "half of it\n"),
            ("a\nb\nc\n", "c\nd\n", "d\n"),
            ("a\nb\n", "b\n", ""),
            ("a\nb\n", "x\n", "x\n"),
        ] {
            assert_eq!(added(seen, journal), new, "{seen:?} {journal:?}");
        }
    }
}
