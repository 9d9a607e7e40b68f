//! Leanfiles and their owners: the user's own file, or a part of a project, which others may have written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{MAX_BYTES, gate, parse};
use crate::rules::fault::Fault;
use crate::rules::text::quote_argv;
use crate::store::file;

/// Directories of version control systems at the top of a project.
const TOPS: [&str; 4] = [".git", ".hg", ".jj", ".svn"];

/// A leanfile and its owner.
#[derive(Clone, Debug, Default)]
pub struct LeanfileSource {
    /// The path for messages.
    pub path: PathBuf,
    /// The absolute path, without links.
    pub place: PathBuf,
    pub text: String,
    /// The project that it is a part of; none for the user's own file.
    pub project: Option<PathBuf>,
    /// If true, its requests have no effect.
    pub is_muted: bool,
}

/// The origin of a leanfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeanfileOrigin {
    /// The static config in its default place: always the user's own.
    Usual,
    /// A static config that the user named.
    Static,
    /// A file that the user named.
    Named,
    /// A file that was found in the project's directory.
    Found,
}

impl LeanfileSource {
    /// All requests of the file.
    ///
    /// # Errors
    /// Its text is not a leanfile.
    pub fn requests(&self) -> Result<Vec<(String, String)>> {
        Ok(gate::requests(&parse(&self.path, &self.text)?))
    }
}

/// The top of the project around a directory, if it is under version control.
pub fn top_above(folder: &Path) -> Option<PathBuf> {
    let is_top = |dir: &&Path| TOPS.iter().any(|name| std::fs::symlink_metadata(dir.join(name)).is_ok());
    folder.ancestors().find(is_top).map(Path::to_owned)
}

/// The absolute path of a file, with links in its directory resolved.
///
/// # Errors
/// A usage error if its directory does not exist.
pub fn place_of(path: &Path) -> Result<PathBuf> {
    let name = path
        .file_name()
        .with_context(|| format!("could not use `{}`: the path names a folder", path.display()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::fs::canonicalize(folder).map_err(|error| {
        Fault::usage(format!("could not open the folder `{}`: {error}", folder.display()))
    })?;
    Ok(folder.join(name))
}

/// Reads leanfiles in merge order. `here` is the user's directory, or the project that the user named.
///
/// # Errors
/// A usage error if a file that the user named cannot be read.
pub fn open(files: &[(PathBuf, LeanfileOrigin)], here: &Path) -> Result<Vec<LeanfileSource>> {
    let here = std::fs::canonicalize(here).unwrap_or_else(|_| here.to_owned());
    let mut tops: Vec<PathBuf> = top_above(&here).into_iter().collect();
    let mut read = Vec::new();
    for (path, origin) in files {
        let is_static = matches!(origin, LeanfileOrigin::Usual | LeanfileOrigin::Static);
        let Some(text) = text_of(path, !is_static)? else { continue };
        let place = place_of(path)?;
        let folder = place.parent().unwrap_or(Path::new("/"));
        let project = match origin {
            LeanfileOrigin::Usual | LeanfileOrigin::Static => None,
            LeanfileOrigin::Named => top_above(folder),
            LeanfileOrigin::Found => top_above(folder).or_else(|| Some(folder.to_owned())),
        };
        tops.extend(project.clone());
        read.push((*origin, LeanfileSource { path: path.clone(), place, text, project, is_muted: false }));
    }
    for (_, source) in read.iter_mut().filter(|(origin, _)| *origin == LeanfileOrigin::Static) {
        source.project = tops.iter().find(|top| source.place.starts_with(top)).cloned();
    }
    Ok(read.into_iter().map(|(_, source)| source).collect())
}

/// Marks named files as parts of the project if they lie in its directory.
pub fn claim(sources: &mut [LeanfileSource], fixed: Option<&Path>, root: &Path) {
    let root = crate::os::path::followed(root);
    for source in sources.iter_mut().filter(|source| Some(source.path.as_path()) != fixed) {
        if source.project.is_none() && source.place.starts_with(&root) {
            source.project = Some(root.clone());
        }
    }
}

fn text_of(path: &Path, must_be: bool) -> Result<Option<String>> {
    let shown = path.display();
    let text = file::read_text(path, MAX_BYTES)
        .map_err(|error| Fault::usage(format!("could not read the leanfile `{shown}`: {error}")))?;
    if text.is_none() && must_be {
        let fault = Fault::usage(format!("could not read the leanfile `{shown}`: it does not exist"));
        return Err(fault.hint(format!("make one with `looop fix --init {shown}`")).into());
    }
    Ok(text)
}

/// The shell command that trusts a leanfile.
pub fn trust_command(place: &Path) -> String {
    quote_argv(&["looop".to_owned(), "trust".to_owned(), place.to_string_lossy().into_owned()])
}
