//! `looop playbook`: the user's rules of judgment.

use anyhow::Result;

use super::compare::Since;
use super::{App, input, print, save};
use crate::store::exchange;
use crate::store::file;
use crate::store::user_files;

#[derive(Debug, clap::Subcommand)]
pub enum PlaybookVerb {
    /// Print the playbook.
    #[command(after_help = "Example:\n  looop playbook show")]
    Show,
    /// Show the changes since the last commit.
    #[command(after_help = "Example:\n  looop playbook diff")]
    Diff(Since),
    /// Replace the playbook; the text comes from stdin or your editor.
    #[command(after_help = "Example:\n  looop playbook write < PLAYBOOK.md")]
    Write(PlaybookWriteArgs),
}

#[derive(Debug, clap::Args)]
pub struct PlaybookWriteArgs {
    /// The text; `-` for stdin.
    #[arg(allow_hyphen_values = true)]
    text: Option<String>,
}

pub fn show(app: &App) -> Result<u8> {
    print::raw(user_files::playbook(&app.layout)?.as_bytes());
    Ok(0)
}

pub fn write(app: &App, args: &PlaybookWriteArgs) -> Result<u8> {
    let path = app.layout.playbook();
    let present = file::read_text(&path, user_files::MAX_TEXT_BYTES).ok().flatten();
    let seen = match &present {
        Some(present) => Some(exchange::digest_of(present.as_bytes())),
        None => save::digest(&path)?,
    };
    let text = input::text(app, "the playbook", args.text.as_deref(), &present.unwrap_or_default())?;
    save::text(app, "the playbook", &path, &text, seen.as_ref())?;
    print::line("wrote PLAYBOOK.md; the next beat sees it");
    Ok(0)
}
