//! Leanfiles as they are read, and whose each is: a person's own, or a part of a project, which strangers may have written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::gate::{self, LeanRequest};
use super::{MAX_BYTES, parse};
use crate::model::ask::quote_argv;
use crate::model::fault::Fault;
use crate::store::file;

/// What a version control system keeps at the top of a project.
const TOPS: [&str; 4] = [".git", ".hg", ".jj", ".svn"];

/// A leanfile as it was read, and whose it is.
#[derive(Clone, Debug, Default)]
pub struct LeanSource {
    /// Its path, as messages name it.
    pub path: PathBuf,
    /// Its absolute path; no folder in it is a link.
    pub place: PathBuf,
    /// Its text.
    pub text: String,
    /// The project that it is a part of; absent for a person's own file.
    pub project: Option<PathBuf>,
    /// If true, nothing that it asks for has an effect.
    pub is_muted: bool,
}

/// How a leanfile came to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeanOrigin {
    /// The static config in its usual place: always the person's own.
    Usual,
    /// The static config, and a person named it.
    Static,
    /// A person named it.
    Named,
    /// It was found in the folder of the project.
    Found,
}

impl LeanSource {
    /// All that it asks for.
    ///
    /// # Errors
    /// When its text cannot be read as a leanfile.
    pub fn requests(&self) -> Result<Vec<LeanRequest>> {
        Ok(gate::requests(&parse(&self.path, &self.text)?))
    }
}

/// The top of the project around a folder, if a version control system knows one.
pub fn top_above(folder: &Path) -> Option<PathBuf> {
    let is_top = |dir: &&Path| TOPS.iter().any(|name| std::fs::symlink_metadata(dir.join(name)).is_ok());
    folder.ancestors().find(is_top).map(Path::to_owned)
}

/// The absolute path of a file without links among its folders.
///
/// # Errors
/// A usage error when its folder does not exist.
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

/// Reads leanfiles, each of which goes over the ones before it. `here` is where the person stands, or the project that
/// the person named.
///
/// # Errors
/// A usage error when one that a person named cannot be read.
pub fn open(files: &[(PathBuf, LeanOrigin)], here: &Path) -> Result<Vec<LeanSource>> {
    let here = std::fs::canonicalize(here).unwrap_or_else(|_| here.to_owned());
    let mut tops: Vec<PathBuf> = top_above(&here).into_iter().collect();
    let mut read = Vec::new();
    for (path, origin) in files {
        let is_static = matches!(origin, LeanOrigin::Usual | LeanOrigin::Static);
        let Some(text) = text_of(path, !is_static)? else { continue };
        let place = place_of(path)?;
        let folder = place.parent().unwrap_or(Path::new("/"));
        let project = match origin {
            LeanOrigin::Usual | LeanOrigin::Static => None,
            LeanOrigin::Named => top_above(folder),
            LeanOrigin::Found => top_above(folder).or_else(|| Some(folder.to_owned())),
        };
        tops.extend(project.clone());
        read.push((*origin, LeanSource { path: path.clone(), place, text, project, is_muted: false }));
    }
    for (_, source) in read.iter_mut().filter(|(origin, _)| *origin == LeanOrigin::Static) {
        source.project = tops.iter().find(|top| source.place.starts_with(top)).cloned();
    }
    Ok(read.into_iter().map(|(_, source)| source).collect())
}

/// Counts a named file as a part of the project, too, where it lies beneath the folder that is worked on.
pub fn claim(sources: &mut [LeanSource], fixed: Option<&Path>, root: &Path) {
    let root = crate::sys::path::followed(root);
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

/// The command that allows a leanfile, for a shell.
pub fn trust_command(place: &Path) -> String {
    quote_argv(&["looop".to_owned(), "trust".to_owned(), place.to_string_lossy().into_owned()])
}
