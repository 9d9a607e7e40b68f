//! The user's files (playbook, goals, sensors) and the deliverables of workers, as decisions see them.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::file::{self, Doing, ReadError};
use super::layout::Layout;
use crate::rules::fault::Fault;
use crate::rules::name::Name;
use crate::rules::worker::Deliverable;
use crate::rules::world::Goal;
use crate::rules::world::sensor::{HEAD_BYTES, SensorHeader};

/// The longest goal or playbook, in bytes.
pub const MAX_TEXT_BYTES: usize = 256 * 1024;

/// Reads the playbook.
///
/// # Errors
/// When it is absent or cannot be read: looop does not decide without it.
pub fn playbook(layout: &Layout) -> Result<String> {
    let path = layout.playbook();
    let refused = |why: String, hint: &str| {
        Fault::failed(format!("could not read `{}`: {why}", path.display())).hint(hint)
    };
    let text = file::read_text(&path, MAX_TEXT_BYTES);
    let text =
        text.map_err(|error| refused(error.to_string(), "the loop makes no decision without its playbook"))?;
    Ok(text.ok_or_else(|| refused("it does not exist".to_owned(), "write one with `looop playbook write`"))?)
}

/// Reads the beginning of a worker's deliverable.
///
/// # Errors
/// When it exists and cannot be read.
pub fn report(layout: &Layout, worker: &Name, name: &Name, cap: usize) -> Result<Option<Deliverable>> {
    let path = layout.file(&format!("reports/{worker}/{name}"));
    let Some(file) = file::open(&path).doing("read", &path)? else { return Ok(None) };
    let bytes = file.metadata().doing("read", &path)?.len();
    let mut head = Vec::new();
    file.take(cap as u64).read_to_end(&mut head).doing("read", &path)?;
    let cut = bytes > head.len() as u64;
    // The limit may split a character.
    if let Some(error) = str::from_utf8(&head).err().filter(|error| cut && error.error_len().is_none()) {
        head.truncate(error.valid_up_to());
    }
    let text = String::from_utf8(head).ok();
    Ok(Some(Deliverable { worker: worker.clone(), name: name.clone(), bytes, text, cut }))
}

/// Lists all goals, and a line for each file that cannot be a goal.
pub fn goals(layout: &Layout) -> Result<(BTreeMap<Name, Goal>, Vec<String>)> {
    let mut goals = BTreeMap::new();
    let mut problems = Vec::new();
    for name in list(&layout.goals())? {
        let Some(stem) = name.strip_suffix(".md") else { continue };
        match (Name::parse_new(stem), file::read_text(&layout.goals().join(&name), MAX_TEXT_BYTES)) {
            (Ok(id), Ok(Some(text))) => drop(goals.insert(id, Goal::Text(text))),
            // It was removed after the listing.
            (Ok(_), Ok(None)) => {}
            (Ok(id), Err(error)) => drop(goals.insert(id, Goal::Unreadable(error.to_string()))),
            (Err(why), _) => problems.push(format!("goals/{} is not read: {why}", name.escape_debug())),
        }
    }
    Ok((goals, problems))
}

/// A file of `sensors/`.
#[derive(Clone, Debug)]
pub struct SensorFile {
    pub name: Name,
    pub path: PathBuf,
    /// Its header, or why it cannot run.
    pub header: Result<SensorHeader, Unfit>,
    /// Changes whenever the file does.
    pub stamp: String,
}

/// Why a sensor cannot run: a fixed word for the signal, and a text for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// One of `not_regular`, `not_executable`, `unreadable`, `header`.
    pub error: &'static str,
    /// The cause and the fix.
    pub why: String,
}

/// Lists all sensors, and a line for each file that cannot be a sensor.
pub fn sensors(layout: &Layout) -> Result<(Vec<SensorFile>, Vec<String>)> {
    let mut sensors: Vec<SensorFile> = Vec::new();
    let mut problems = Vec::new();
    for file_name in list(&layout.sensors())? {
        let stem = file_name.strip_suffix(".sh").unwrap_or(&file_name);
        match Name::parse_new(stem) {
            Ok(name) if sensors.iter().any(|other| other.name == name) => {
                problems.push(format!("sensors/{file_name} is not run: another file has the name {name}"));
            }
            Ok(name) => sensors.push(sensor_at(name, layout.sensors().join(&file_name))),
            Err(why) => problems.push(format!("sensors/{} is not run: {why}", file_name.escape_debug())),
        }
    }
    Ok((sensors, problems))
}

/// Reads a sensor outside of the folder of sensors.
pub fn sensor_at(name: Name, path: PathBuf) -> SensorFile {
    let (header, stamp) = inspect(&path).unwrap_or_else(|unfit| (Err(unfit), String::new()));
    SensorFile { name, path, header, stamp }
}

/// Reads the header of a sensor and its stamp.
fn inspect(path: &Path) -> Result<(Result<SensorHeader, Unfit>, String), Unfit> {
    let unfit = |error, why: &str| Unfit { error, why: why.to_owned() };
    let unreadable = |error: io::Error| unfit("unreadable", &error.to_string());
    let file = file::open(path).map_err(|error| match error {
        ReadError::NotRegular => {
            unfit("not_regular", "it is not a regular file; copy the program here instead of a link")
        }
        error => unfit("unreadable", &error.to_string()),
    })?;
    let file = file.ok_or_else(|| unfit("unreadable", "it is gone"))?;
    if !file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0) {
        return Err(unfit("not_executable", &format!("it is not executable; chmod +x {}", path.display())));
    }
    let stamp = file::stamp(&file).map_err(unreadable)?;
    let mut head = Vec::new();
    file.take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(unreadable)?;
    Ok((SensorHeader::parse(&head).map_err(|why| Unfit { error: "header", why }), stamp))
}

/// Lists the names of the files in a directory, sorted. Leaves out hidden files and directories; an absent directory is
/// empty. A name that is not UTF-8 is shown with its invalid bytes replaced.
pub(super) fn list(dir: &Path) -> Result<Vec<String>> {
    let files = file::entries(dir)?.into_iter();
    let files = files.filter(|entry| !entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    Ok(names)
}
