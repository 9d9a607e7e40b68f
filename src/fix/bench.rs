//! The boxes of what a fix starts: as a worker's where a worker fixes, as the config says where a human does.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::agents;
use crate::model::boxing::{Endpoint, Kind};
use crate::model::fault::Fault;
use crate::model::settings::Settings;
use crate::store::boxes::{Boxer, Cell, Inmate, Rooms};
use crate::store::layout::{FixDir, Layout};

/// What boxes are made of.
pub struct Bench<'a> {
    /// The data dir.
    pub layout: &'a Layout,
    /// What the config decides.
    pub settings: &'a Settings,
    /// The fix's files.
    pub dir: &'a FixDir,
    /// True where a worker fixes.
    pub is_worker: bool,
    /// Objects that the clone borrows.
    pub objects: &'a [PathBuf],
}

/// What is to be started.
pub struct Start<'a> {
    /// What goes into the error.
    pub name: &'a str,
    /// Its file.
    pub program: &'a Path,
    /// Where it runs.
    pub cwd: &'a Path,
    /// The endpoint that it is told to use; none: the one of its runner.
    pub endpoint: Option<Endpoint>,
    /// What it reads besides.
    pub read: &'a [PathBuf],
    /// What it may write besides.
    pub write: &'a [PathBuf],
}

impl Bench<'_> {
    /// The box of an agent.
    ///
    /// # Errors
    /// When less can be had than is asked for: nothing is started then.
    pub fn agent(&self, start: &Start) -> Result<Cell> {
        self.cell(if self.is_worker { Kind::Worker } else { Kind::Fix }, start)
    }

    /// The box of tests, and of the commands that follow.
    ///
    /// # Errors
    /// As [`Bench::agent`].
    pub fn tests(&self, start: &Start) -> Result<Cell> {
        self.cell(if self.is_worker { Kind::Verify } else { Kind::Fix }, start)
    }

    fn cell(&self, kind: Kind, start: &Start) -> Result<Cell> {
        let boxer = Boxer::new(self.layout, self.settings, true);
        let work = self.dir.work();
        let rooms = Rooms { home: self.dir.home(), caches: self.dir.caches(), temp: self.dir.temp() };
        let program = start.program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let names = [start.name, program];
        let agent = agents::home_of(&names);
        let mut read = vec![start.program.to_owned()];
        let programs = [start.program.to_owned()];
        read.extend(self.objects.iter().chain(start.read).cloned());
        let inmate = Inmate {
            rooms: &rooms,
            cwd: if start.cwd.starts_with(&work) { &work } else { start.cwd },
            endpoint: start.endpoint.as_ref(),
            names,
            agent,
            programs: &programs,
            write: start.write,
            read: &read,
        };
        let cell = boxer.inmate(kind, &inmate).map_err(|why| {
            let fault = Fault::usage(format!("could not box `{}`: {why}", start.name));
            fault.hint("see what can be had with `looop doctor`")
        })?;
        if let Some(boxed) = &cell.boxed {
            boxer.furnish(boxed.has_files(), agent, &rooms, start.cwd)?;
        }
        Ok(cell)
    }
}
