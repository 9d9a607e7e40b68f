//! `looop log`: the journal, and the prompt and reply of one beat.

use anyhow::{Context, Result};

use super::{App, print};
use crate::model::entry;
use crate::model::fault::Fault;
use crate::model::text::visible;
use crate::store::history::History;
use crate::store::{file, logs};
use crate::tick::{act, frame, prompt};

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
    if let Some(beat) = args.beat.as_deref().filter(|_| args.reply) {
        let path = app.layout.runs().join(beat).join("reply.txt");
        let reply = file::read(&path, 64 << 20).ok().flatten();
        let reply = reply.with_context(|| {
            format!("could not find the reply of beat {beat}: it was not kept, or it was deleted")
        })?;
        print::raw(&reply);
        return Ok(0);
    }
    let journal = logs::journal_tail(&app.layout, JOURNAL_BYTES)?;
    let of_beat = |line: &&str| match &args.beat {
        Some(beat) => entry::parse(line).is_some_and(|entry| entry.beat == *beat),
        None => !line.trim().is_empty(),
    };
    let all: Vec<&str> = journal.lines().filter(of_beat).collect();
    if let Some(beat) = args.beat.as_deref().filter(|_| all.is_empty()) {
        return Err(Fault::failed(format!(
            "could not find the beat {beat}: the journal does not contain it"
        ))
        .into());
    }
    let shown = &all[all.len().saturating_sub(args.lines)..];
    if args.json {
        let beats: Vec<_> = shown.iter().filter_map(|line| entry::parse(line)).collect();
        return print::answer("beats", beats);
    }
    if all.is_empty() {
        print::note("the journal is empty");
    }
    for line in shown {
        print::line(&visible(line, false));
    }
    if let Some(beat) = &args.beat {
        let output = file::read(&app.layout.runs().join(beat).join(act::OUTPUT), 64 << 20).ok().flatten();
        let text = String::from_utf8_lossy(&output.unwrap_or_default()).into_owned();
        text.lines().for_each(|line| print::line(&format!("  {}", visible(line, false))));
    }
    Ok(0)
}

/// Finds the commit with the world that a beat decided on.
///
/// # Errors
/// Git has no such commit.
pub fn world_of(history: &History, beat: &str) -> Result<String> {
    let marker = format!("\nBeat: {beat}\n");
    let entries = history.log(SEARCH_COMMITS)?;
    let world =
        entries.iter().find(|entry| entry.message.starts_with("world: ") && entry.message.contains(&marker));
    let what = || Fault::failed(format!("could not find the world of beat {beat}: git has no commit of it"));
    Ok(world.ok_or_else(what)?.id.clone())
}

fn rebuild(app: &App, beat: &str) -> Result<u8> {
    let history = History::open(app.layout.root())?;
    let frame = frame::rebuild(&history, &world_of(&history, beat)?)?;
    print::raw(prompt::render(&frame).text.as_bytes());
    Ok(0)
}
