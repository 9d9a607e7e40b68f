//! `looop log`: the journal, and the prompt and reply of one beat.

use anyhow::{Context, Result, bail};

use super::{App, Fault, print, visible};
use crate::rules::beat::{entry, prompt};
use crate::rules::world::PROMPT_VERSION;
use crate::store::exchange::digest_of;
use crate::store::{file, logs};
use crate::tick::{apply, prepare};
use crate::vcs::history::{History, LogEntry};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop log -n 50\n  looop log mwptjqon --prompt")]
pub struct Args {
    /// Show this beat only.
    beat: Option<String>,
    /// The number of lines.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "LINES")]
    lines: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print the prompt of the beat, rebuilt from git alone.
    #[arg(long, requires = "beat")]
    prompt: bool,
    /// Print the runner's reply in the beat, if it is still kept.
    #[arg(long, requires = "beat", conflicts_with = "prompt")]
    reply: bool,
}

/// The largest part of the journal that is read, in bytes.
const JOURNAL_BYTES: usize = 512 * 1024;
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
    let journal = logs::journal_tail(&app.layout, JOURNAL_BYTES)?;
    let of_beat = |line: &&str| match &args.beat {
        Some(beat) => entry::parse(line).is_some_and(|entry| entry.beat == *beat),
        None => !line.trim().is_empty(),
    };
    let all: Vec<&str> = journal.lines().filter(of_beat).collect();
    if let Some(beat) = args.beat.as_deref().filter(|_| all.is_empty()) {
        bail!("could not find the beat {beat}: the journal does not contain it");
    }
    let shown = &all[all.len().saturating_sub(args.lines)..];
    if args.json {
        let beats: Vec<_> = shown.iter().filter_map(|line| entry::parse(line)).collect();
        return print::answer("beats", beats);
    }
    if all.is_empty() {
        print::note("the journal is empty");
    }
    shown.iter().for_each(|line| print::line(&visible(line, false)));
    if let Some(output) = args.beat.as_deref().and_then(|beat| kept(beat, apply::OUTPUT)) {
        let text = String::from_utf8_lossy(&output);
        text.lines().for_each(|line| print::line(&format!("  {}", visible(line, false))));
    }
    Ok(0)
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
