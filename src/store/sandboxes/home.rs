//! Files of an agent CLI in the home directory, and the access that a sandbox gives to them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::store::file::{self, Durability};

/// The places of one agent CLI, below the home directory. A list of places is one text, split at spaces.
pub struct AgentHome {
    /// The variable with which the user moves the directory named after it.
    pub elsewhere: Option<(&'static str, &'static str)>,
    /// Its directories. A sandbox shows only the parts of them that are named below, so other sessions stay private.
    pub dirs: &'static str,
    /// The user's settings. They may run commands, so they are read-only.
    pub read: &'static str,
    /// Its login, which it renews in place.
    pub login: &'static str,
    /// Files that it replaces as a whole: it gets a copy.
    pub copied: &'static str,
    /// Files of the private copy that list the directories that the user trusts.
    pub trusted: &'static [(&'static str, AddTrust)],
}

/// Adds directories to the text of such a file; returns `None` if the file must stay as it is.
pub type AddTrust = fn(&str, &[PathBuf]) -> Option<String>;

/// An agent directory that the user moved.
pub(super) struct Elsewhere {
    /// The variable that names the directory.
    pub(super) var: &'static str,
    pub(super) place: PathBuf,
    /// The directory that it replaces, below the home directory.
    pub(super) dir: &'static str,
}

/// The places of an agent that exist.
#[derive(Default)]
pub(super) struct AgentPlaces {
    pub(super) dirs: Vec<PathBuf>,
    pub(super) read: Vec<PathBuf>,
    pub(super) login: Vec<PathBuf>,
    /// Each file with the path of its copy, below the home directory.
    pub(super) copied: Vec<(PathBuf, PathBuf)>,
    pub(super) elsewhere: Option<Elsewhere>,
}

impl AgentHome {
    /// Finds the places that exist, for an agent with these variables.
    pub(super) fn places(&self, home: &Path, env: &[(String, String)]) -> AgentPlaces {
        let elsewhere = self.elsewhere.and_then(|(var, dir)| {
            let (_, value) = env.iter().find(|(key, value)| key == var && !value.is_empty())?;
            Some(Elsewhere { var, place: PathBuf::from(value), dir })
        });
        let at = |path: &str| match &elsewhere {
            Some(Elsewhere { place, dir, .. }) if let Ok(rest) = Path::new(path).strip_prefix(dir) => {
                place.join(rest)
            }
            _ => home.join(path),
        };
        let there = |paths: &str| paths.split_whitespace().map(at).filter(|path| path.exists()).collect();
        let copied = self.copied.split_whitespace().map(|path| match &elsewhere {
            Some(Elsewhere { dir, .. }) if Path::new(path).starts_with(dir) => {
                (at(path), PathBuf::from(path))
            }
            // A file beside the default directory is inside the directory that the variable names.
            Some(Elsewhere { place, dir, .. }) => (place.join(path), Path::new(dir).join(path)),
            None => (home.join(path), PathBuf::from(path)),
        });
        let mut dirs: Vec<PathBuf> = there(self.dirs);
        dirs.extend(elsewhere.iter().map(|elsewhere| elsewhere.place.clone()));
        AgentPlaces {
            dirs,
            read: there(self.read),
            login: there(self.login),
            copied: copied.filter(|(file, _)| file.is_file()).collect(),
            elsewhere,
        }
    }

    /// Returns the file with the login, if it exists, for an agent with these variables.
    pub fn login_file(&self, home: &Path, env: &[(String, String)]) -> Option<PathBuf> {
        self.places(home, env).login.into_iter().next()
    }

    /// Marks a directory as trusted in the private home of a sandbox, so that the agent need not ask.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn trust(&self, home: &Path, cwd: &Path) -> Result<()> {
        let mut dirs = vec![cwd.to_owned()];
        dirs.extend(cwd.canonicalize().ok().filter(|real| real != cwd));
        for (place, add) in self.trusted {
            let path = home.join(place);
            let Ok(text) = file::present(fs::read_to_string(&path)) else { continue };
            if let Some(text) = add(&text.unwrap_or_default(), &dirs) {
                path.parent().map_or(Ok(()), file::make_dir)?;
                file::write(&path, text.as_bytes(), 0o600, Durability::Atomic)?;
            }
        }
        Ok(())
    }
}
