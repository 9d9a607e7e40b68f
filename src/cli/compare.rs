//! `looop goal diff`, `looop sensor diff` and `looop playbook diff`: changes since the last commit, or since
//! the world of an earlier decision.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{App, Fault, log, pick, print};
use crate::rules::beat::diff;
use crate::store::file;
use crate::vcs::history::History;

#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// The name, or its unique beginning. Default: all.
    pub name: Option<String>,
    #[command(flatten)]
    pub since: Since,
}

#[derive(Debug, clap::Args)]
pub struct Since {
    /// Compare with the world that this beat decided on, not with the last commit.
    #[arg(long, value_name = "BEAT")]
    since: Option<String>,
}

/// The files to compare.
#[derive(Clone, Copy)]
pub enum Of {
    Playbook,
    Goals,
    Sensors,
}

impl Of {
    /// The name by which the user calls a file; none for a file of another kind.
    fn name(self, path: &str) -> Option<String> {
        let name = match self {
            Of::Playbook => return (path == "PLAYBOOK.md").then(|| "PLAYBOOK".to_owned()),
            Of::Goals => path.strip_prefix("goals/")?.strip_suffix(".md")?,
            Of::Sensors => {
                let name = path.strip_prefix("sensors/")?;
                name.strip_suffix(".sh").unwrap_or(name)
            }
        };
        (!name.contains('/') && !name.starts_with('.')).then(|| name.to_owned())
    }
}

const MAX_BYTES: usize = 16 << 20;

/// Prints the differences. Prints nothing to stdout if the files are equal.
pub fn run(app: &App, of: Of, args: &DiffArgs) -> Result<u8> {
    let history = History::open(app.layout.root())?;
    let commit = match &args.since.since {
        Some(beat) => Some(log::world_of(&history, beat)?),
        None => history.head()?,
    };
    let then = commit.as_ref().map_or(Ok(Vec::new()), |commit| history.list(commit, ""))?;
    let now = ["goals", "sensors"].into_iter().flat_map(|dir| {
        let entries = std::fs::read_dir(app.layout.file(dir)).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
        files.filter_map(move |entry| Some(format!("{dir}/{}", entry.file_name().to_str()?)))
    });
    let all: BTreeSet<String> = then.into_iter().chain(now).chain(["PLAYBOOK.md".to_owned()]).collect();
    let named: Vec<(String, String)> =
        all.into_iter().filter_map(|path| Some((of.name(&path)?, path))).collect();
    let kind = if matches!(of, Of::Sensors) { "sensor" } else { "goal" };
    let chosen = match &args.name {
        Some(name) => vec![pick(kind, name, named, |(name, _)| name)?],
        None => named,
    };
    let mut differences = String::new();
    for (_, path) in &chosen {
        let old = commit.as_ref().map_or(Ok(None), |commit| history.read(commit, path, MAX_BYTES))?;
        let new = file::read(&app.layout.file(path), MAX_BYTES)
            .map_err(|why| Fault::failed(format!("could not read `{path}`: {why}")))?;
        if old != new {
            differences += &difference(path, old.as_deref(), new.as_deref());
        }
    }
    if app.json {
        return app.shown(args.name.as_deref(), &differences);
    }
    print::patch(app.style, &differences);
    if differences.is_empty() {
        let than = args.since.since.as_ref();
        let than = than.map_or("the last commit".to_owned(), |beat| format!("beat {beat}"));
        print::note(&format!("nothing differs from {than}"));
    }
    Ok(0)
}

fn difference(path: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> String {
    let name =
        |side: &str, file: Option<&[u8]>| file.map_or("/dev/null".to_owned(), |_| format!("{side}/{path}"));
    let [before, after] = [old, new].map(|file| String::from_utf8_lossy(file.unwrap_or_default()));
    diff::unified(&name("a", old), &name("b", new), &before, &after)
}
