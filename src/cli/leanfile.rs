//! `looop leanfile` and `looop trust`: which leanfiles of projects may name an agent, an address, a path or a command.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::json_output::{PermissionState, TrustedFile};
use super::{App, Fault, clip, print};
use crate::fix::leanfile::source::{LeanfileOrigin, LeanfileSource, open, place_of, trust_command};
use crate::store::exchange::digest_of;
use crate::store::file;
use crate::store::trust::{self, TrustState};

/// The longest leanfile, in bytes.
const MAX_BYTES: usize = 1 << 20;

#[derive(Debug, clap::Subcommand)]
pub enum LeanfileVerb {
    /// List the trusted files.
    #[command(after_help = "Example:\n  looop leanfile list")]
    List,
    /// Trust a leanfile with its present content.
    #[command(after_help = "Example:\n  looop leanfile trust leanfile.toml")]
    Trust(FileArgs),
    /// Revoke the trust in a leanfile.
    #[command(after_help = "Example:\n  looop leanfile distrust leanfile.toml")]
    Distrust(FileArgs),
}

#[derive(Debug, clap::Args)]
pub struct FileArgs {
    /// The leanfile.
    file: PathBuf,
}

pub fn trust(app: &App, args: &FileArgs) -> Result<u8> {
    let path = &app.env.here(&args.file);
    let read = open(&[(path.to_owned(), LeanfileOrigin::Named)], path.parent().unwrap_or(Path::new("/")))?;
    let Some(source) = read.first() else {
        return Err(Fault::usage(format!("could not trust `{}`: it does not exist", path.display())).into());
    };
    let asks = source.requests()?;
    let shown = source.place.display();
    let what = if asks.is_empty() { " nothing that needs trust" } else { ":" };
    app.line(&format!("{shown} asks for{what}"));
    asks.iter().for_each(|(key, value)| app.line(&format!("  {key} = {value}")));
    app.note_own_state(&app.layout.fixes());
    trust::allow(&app.layout, &source.place, &source.text, app.now)?;
    app.done(&shown, &format!("trusted: {shown}, until one byte of it changes"))
}

pub fn distrust(app: &App, args: &FileArgs) -> Result<u8> {
    let path = &app.env.here(&args.file);
    // The directory may be gone together with the file.
    let place = place_of(path).unwrap_or_else(|_| path.to_owned());
    if !trust::revoke(&app.layout, &place)? {
        let fault = Fault::usage(format!("could not revoke `{}`: it is not trusted", place.display()));
        return Err(fault.hint("`looop leanfile list` shows the trusted files").into());
    }
    app.done(place.display(), &format!("not trusted any more: {}", place.display()))
}

pub fn list(app: &App) -> Result<u8> {
    let mut found = Vec::new();
    for (path, entry) in trust::all(&app.layout)? {
        let state = match file::read_text(Path::new(&path), MAX_BYTES) {
            Ok(Some(text)) if digest_of(text.as_bytes()) == entry.digest => PermissionState::Valid,
            Ok(None) => PermissionState::Gone,
            _ => PermissionState::Changed,
        };
        found.push(TrustedFile { path, digest: entry.digest, at_ms: entry.at_ms, state });
    }
    if app.json {
        return print::answer("trusted", found);
    }
    if found.is_empty() {
        return print::done("no file is trusted");
    }
    let mut rows = vec![["STATE", "DIGEST", "FILE"].map(|cell| app.style.dim(cell)).to_vec()];
    for one in found {
        rows.push(vec![one.state.as_ref().to_owned(), clip(&one.digest, 12), one.path]);
    }
    print::page(print::table(&rows))
}

/// Decides which leanfiles take effect in full. In a fix that the loop started, the requests of a project's
/// file have no effect. In the user's own fix they need the user's approval of exactly these bytes.
///
/// # Errors
/// A usage error that names each file without an approval, after its requests were shown.
pub(super) fn settle(app: &App, sources: &mut [LeanfileSource]) -> Result<()> {
    let mut refused: Option<Fault> = None;
    let mut is_loops = None;
    for source in sources.iter_mut().filter(|source| source.project.is_some() && !source.is_muted) {
        let asks = source.requests()?;
        if asks.is_empty() {
            continue;
        }
        let shown = source.place.display().to_string();
        if *is_loops.get_or_insert_with(|| app.user_only("use a file of a project").is_err()) {
            let keys = asks.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ");
            let why = "looop started this fix";
            print::note(&format!("warning: {why}, so these keys of {shown} have no effect: {keys}"));
            source.is_muted = true;
            continue;
        }
        let state = trust::state(&app.layout, &source.place, &source.text)?;
        if state == TrustState::Allowed {
            continue;
        }
        let project = source.project.as_deref().unwrap_or(Path::new("")).display();
        print::note(&format!("{shown} is a file of the project {project}, and it asks for:"));
        asks.iter().for_each(|(key, value)| print::note(&format!("  {key} = {value}")));
        if print::stdin_is_tty() && print::stderr_is_tty() && print::agreed("Allow this file as it is now?") {
            trust::allow(&app.layout, &source.place, &source.text, app.now)?;
            continue;
        }
        let why = match state {
            TrustState::Changed => "it has changed since you trusted it",
            _ => "it is a file of the project, and you have not trusted it",
        };
        let command = trust_command(&source.place);
        let hint = format!("read what it asks for, then run `{command}`");
        let first = || Fault::usage(format!("could not use `{shown}`: {why}"));
        refused = Some(refused.unwrap_or_else(first).hint(hint));
    }
    refused.map_or(Ok(()), |fault| Err(fault.into()))
}
