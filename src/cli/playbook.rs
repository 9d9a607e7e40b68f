//! `looop playbook`: the user's rules of judgment.

use anyhow::Result;

use super::compare::Since;
use super::{App, print, save};
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
    let text = user_files::playbook(&app.layout)?;
    if app.json { app.shown(None, &text) } else { print::page(text) }
}

pub fn write(app: &App, args: &PlaybookWriteArgs) -> Result<u8> {
    save::text(app, "the playbook", &app.layout.playbook(), args.text.as_deref(), "")?;
    app.done("PLAYBOOK.md", "wrote PLAYBOOK.md; the next beat sees it")
}
