//! Boxes: what each kind of child of a data dir may touch, and whether as much can be had as is asked for.

mod agents;
mod inmate;
mod network;
mod tools;
mod trust;

use std::cell::OnceCell;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::file::{self, Keep};
use super::layout::Layout;
use super::records;
use crate::model::boxing::{Boxed, Endpoint, Kind, Level, Powers, SandboxGrant, Walls};
use crate::model::fault::Fault;
use crate::model::name::Name;
use crate::model::policy;
use crate::model::sensor::Header;
use crate::model::settings::Settings;
use crate::sys::sandbox;
use crate::sys::signal::Cancel;
pub use inmate::{Inmate, Rooms};

/// Where sockets of the human's session are.
const SESSION: &str = "/run/user";
/// Sockets by which containers are run as the system's administrator.
const CONTAINERS: [&str; 4] = ["/run/docker.sock", "/run/podman", "/run/containerd", "/run/crio"];
/// What of a home directory is nobody's but the human's.
const KEYS: [&str; 2] = [".ssh", ".gnupg"];

/// What a child is started in: its box, none where it runs as the human, and variables that belong to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// The box.
    pub boxed: Option<Boxed>,
    /// Where temporary files go in it.
    pub env: Vec<(String, String)>,
}

/// What the box of a runner that decides is made for.
pub struct Decider<'a> {
    /// The agent whose set-up it reads; none: looop does not know it.
    pub agent: Option<&'a str>,
    /// Its program.
    pub program: &'a Path,
    /// Where it runs.
    pub cwd: &'a Path,
    /// What it reads besides.
    pub read: &'a [PathBuf],
    /// What it may write.
    pub write: &'a [PathBuf],
}

/// The outcome of the last try, and what it holds for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tried {
    stamp: String,
    powers: Powers,
}

/// The best that was found on this machine.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BestSandbox {
    powers: Powers,
    /// Whether a person was told that it is worse now.
    told: bool,
}

/// Forgets what was found out about this machine, so that whoever starts something next finds it out again.
pub fn forget_powers(layout: &Layout) {
    // One that is not there is forgotten already.
    drop(fs::remove_file(layout.sandbox()));
}

/// Makes boxes for the children of one data dir.
pub struct Boxer<'a> {
    layout: &'a Layout,
    settings: &'a Settings,
    keep: bool,
    powers: OnceCell<Powers>,
}

impl<'a> Boxer<'a> {
    /// A maker of boxes; `keep` says whether what is found out about this machine may be kept in the cache.
    pub fn new(layout: &'a Layout, settings: &'a Settings, keep: bool) -> Boxer<'a> {
        Boxer { layout, settings, keep, powers: OnceCell::new() }
    }

    /// A maker of boxes on a machine that can do this.
    pub fn with(layout: &'a Layout, settings: &'a Settings, powers: Powers) -> Boxer<'a> {
        Boxer { layout, settings, keep: false, powers: OnceCell::from(powers) }
    }

    /// What this machine can do: as it was found out before, or found out now.
    pub fn powers(&self) -> &Powers {
        self.powers.get_or_init(|| {
            let stamp = sandbox::stamp(&self.settings.path);
            self.tried(&stamp).unwrap_or_else(|| self.probe(stamp, None))
        })
    }

    /// What was found out before, on this machine as it is now.
    fn tried(&self, stamp: &str) -> Option<Powers> {
        let tried = records::read_json::<Tried>(&self.layout.sandbox()).ok().flatten();
        tried.filter(|tried| tried.stamp == stamp).map(|tried| tried.powers)
    }

    /// Finds out again what this machine can do; of layers only where that is not known, since they are tried by writing.
    pub fn probe_again(&self) -> Powers {
        let stamp = sandbox::stamp(&self.settings.path);
        let layers = self.tried(&stamp).map(|powers| powers.layers);
        self.probe(stamp, layers)
    }

    fn probe(&self, stamp: String, layers: Option<bool>) -> Powers {
        let Ok(cancel) = Cancel::never() else { return Powers::default() };
        // Two may try at the same time.
        let fresh = || self.fresh_temp(&format!("try-{}", std::process::id())).ok();
        let scratch = (self.keep && layers.is_none()).then(fresh).flatten();
        let mut powers = sandbox::probe(&self.settings.path, scratch.as_deref(), &cancel);
        powers.layers |= layers.unwrap_or(false) && powers.engine.is_some();
        // What stays there is emptied by who comes next.
        drop(scratch.map(|dir| file::remove_tree(&dir)));
        // What failed may have failed for the caller alone: it is tried again by the next one.
        if self.keep && powers.is_success() && self.tried(&stamp).as_ref() != Some(&powers) {
            let best = self.best().filter(|best| powers.lost_since(&best.powers).is_some());
            let best = best.unwrap_or(BestSandbox { powers: powers.clone(), told: false });
            let tried = Tried { stamp, powers: powers.clone() };
            let kept = file::make_dir(self.layout.cache())
                .and_then(|()| records::write_json(&self.layout.best_sandbox(), &best, Keep::Whole))
                .and_then(|()| records::write_json(&self.layout.sandbox(), &tried, Keep::Whole));
            // What is not kept is found out again.
            drop(kept);
        }
        powers
    }

    fn best(&self) -> Option<BestSandbox> {
        records::read_json::<BestSandbox>(&self.layout.best_sandbox()).ok().flatten()
    }

    /// What sandboxes are less than they were on this machine, in words; none: no less.
    pub fn downgrade(&self) -> Option<String> {
        self.powers().lost_since(&self.best()?.powers)
    }

    /// The words of [`Boxer::downgrade`] for a person who was not told of it yet.
    ///
    /// # Errors
    /// When it cannot be kept that the person was told.
    pub fn news_of_downgrade(&self) -> Result<Option<String>> {
        let Some(best) = self.best() else { return Ok(None) };
        let lost = self.powers().lost_since(&best.powers);
        if lost.is_some() != best.told {
            let best = BestSandbox { told: lost.is_some(), ..best.clone() };
            records::write_json(&self.layout.best_sandbox(), &best, Keep::Whole)?;
        }
        Ok(lost.filter(|_| !best.told))
    }

    /// How much of a sandbox a kind of child gets.
    ///
    /// # Errors
    /// When less can be had than is asked for: nothing is run then.
    pub fn level(&self, kind: Kind) -> Result<Level, String> {
        self.grant(kind).map(|grant| grant.level)
    }

    /// The sandbox that a kind of child gets.
    ///
    /// # Errors
    /// As [`Boxer::level`].
    pub fn grant(&self, kind: Kind) -> Result<SandboxGrant, String> {
        let boxing = self.settings.boxes.of(kind);
        match boxing.wanted {
            crate::model::boxing::Wanted::None => Ok(SandboxGrant::default()),
            _ => self.powers().grant(kind, boxing),
        }
    }

    /// Checks that all can be had that is asked for.
    ///
    /// # Errors
    /// Says what cannot, and how to mend it.
    pub fn check(&self) -> Result<()> {
        for kind in Kind::ALL {
            if let Err(why) = self.level(kind) {
                let mut fault = Fault::usage(format!("could not box what looop runs: {why}"));
                for fix in &self.powers().fixes {
                    fault = fault.hint(fix.clone());
                }
                let less =
                    format!("or ask for less: \"sandbox\": {{\"{}\": \"auto\"}} in the config", kind.word());
                return Err(fault.hint(less).into());
            }
        }
        Ok(())
    }

    /// The box with these walls and this sandbox's network; `endpoint` is that of its runner.
    fn boxed(
        &self,
        kind: Kind,
        grant: &SandboxGrant,
        mut walls: Walls,
        endpoint: Option<&Endpoint>,
    ) -> Result<Option<Boxed>, String> {
        if grant.level == Level::None {
            return Ok(None);
        }
        walls.net = grant.net.clone();
        if grant.has_files && grant.model {
            network::forward(&mut walls, kind, endpoint, self.layout.cache())?;
        }
        let engine = self.powers().engine.clone().filter(|_| grant.has_files);
        let mut boxed = Boxed { landlock: self.powers().landlock, ..Boxed::new(engine, walls) };
        if boxed.has_pasta() {
            boxed.walls.placed.extend(network::resolver(self.layout.cache())?);
        }
        Ok(Some(boxed))
    }

    /// The box of a sensor: it reads everything, and writes its temporary directory and what its header names.
    ///
    /// # Errors
    /// Why it cannot be made; the sensor is not run then.
    pub fn sensor(&self, name: &Name, header: &Header) -> Result<Cell, String> {
        let grant = self.grant(Kind::Sensor)?;
        if grant.level == Level::None {
            return Ok(Cell::default());
        }
        // A cache that cannot be written costs a child its temporary directory, and no more.
        let temp = self.fresh_temp(&format!("sensor-{name}")).ok();
        let mut walls = self.whole(temp.as_deref());
        walls.hide.push(PathBuf::from(SESSION));
        walls.hide.extend(self.keys());
        for path in &header.write {
            walls.write.push(self.grantable(path).map_err(|why| format!("write={path}: {why}"))?);
        }
        let boxed = self.boxed(Kind::Sensor, &grant, walls, None)?;
        Ok(Cell { env: temp_env(grant.has_files, temp.as_deref()), boxed })
    }

    /// The box of a `run`: it reads everything, and writes where it runs but for what is looop's own.
    ///
    /// # Errors
    /// Why it cannot be made; the command is not run then.
    pub fn run(&self, cwd: &Path) -> Result<Cell, String> {
        let grant = self.grant(Kind::Run)?;
        if grant.level == Level::None {
            return Ok(Cell::default());
        }
        let temp = self.fresh_temp("run").ok();
        let mut walls = self.whole(temp.as_deref());
        let entries = fs::read_dir(self.layout.root()).into_iter().flatten().flatten();
        let own = entries.filter(|entry| entry.file_name().to_str().is_some_and(policy::is_own_part));
        let own: Vec<PathBuf> = own.map(|entry| entry.path()).chain(self.config_files()).collect();
        walls.write = match grant.has_files {
            true => vec![cwd.to_owned()],
            // Nothing can be taken out of what Landlock opens.
            false => around(cwd, &own),
        };
        walls.read.extend(own);
        walls.read.retain(|path| !walls.hide.contains(path));
        let boxed = self.boxed(Kind::Run, &grant, walls, None)?;
        Ok(Cell { env: temp_env(grant.has_files, temp.as_deref()), boxed })
    }

    /// The box of a runner that decides. One that looop knows sees its own set-up alone; of another looop does not
    /// know what it reads, so it sees everything but the data dir. Neither writes anything but what it was granted.
    ///
    /// # Errors
    /// Why it cannot be made; the runner is not asked then.
    pub fn decide(&self, decider: &Decider) -> Result<Cell, String> {
        let Decider { agent, program, cwd, read, write } = *decider;
        let grant = self.grant(Kind::Decide)?;
        if grant.level == Level::None {
            return Ok(Cell::default());
        }
        let temp = self.fresh_temp("decide");
        let home = self.home()?;
        let found = agent.map(|agent| self.agent(&[agent])).transpose()?.unwrap_or_default();
        let mut walls = match agent {
            Some(_) if grant.has_files => {
                let temp = temp.clone()?;
                let inside = self.fresh_temp("decide-home")?;
                let mut moved = vec![(inside.clone(), home.to_owned()), (temp, PathBuf::from("/tmp"))];
                if let Some(elsewhere) = &found.elsewhere {
                    let own = inside.join(elsewhere.dir);
                    file::make_dir(&own).map_err(|error| format!("{error:#}"))?;
                    moved.push((own, elsewhere.place.clone()));
                }
                copy(&found.copied, &inside)?;
                let mut seen = tools::found(&self.settings.path, home, &self.own());
                seen.extend(found.read.iter().cloned());
                Walls { read: seen, write: found.login, moved, ..Walls::default() }
            }
            _ => {
                let mut walls = self.whole(temp.as_deref().ok());
                walls.read.retain(|path| path != self.layout.root());
                walls.hide.extend([PathBuf::from(SESSION), self.layout.root().to_owned()]);
                walls.write.extend(found.dirs);
                walls
            }
        };
        walls.read.extend([program.to_owned(), cwd.to_owned()]);
        if !walls.whole {
            walls.read.extend(tools::program(program, &self.settings.path, home, &self.own()));
        }
        walls.read.extend(read.iter().cloned());
        walls.write.extend(write.iter().cloned());
        let env = temp_env(grant.has_files, temp.as_deref().ok());
        let endpoint = agent.and_then(|agent| self.settings.boxes.endpoint(&[agent]));
        Ok(Cell { env, boxed: self.boxed(Kind::Decide, &grant, walls, endpoint)? })
    }

    /// What the agent that goes by one of these names keeps, where its human keeps it.
    fn agent(&self, names: &[&str]) -> Result<agents::Found, String> {
        let found = agents::places(names, self.home()?, &self.settings.full_env);
        if let Some(elsewhere) = &found.elsewhere {
            let place = elsewhere.place.to_string_lossy();
            self.grantable(&place).map_err(|why| format!("{}={place}: {why}", elsewhere.var))?;
        }
        Ok(found)
    }

    /// Everything can be seen but other people's temporary files, container engines, and workers.
    fn whole(&self, temp: Option<&Path>) -> Walls {
        let mut hide: Vec<PathBuf> = CONTAINERS.map(PathBuf::from).into();
        hide.push(self.layout.workers());
        if temp.is_none() {
            hide.push(PathBuf::from("/tmp"));
        }
        Walls {
            whole: true,
            read: vec![self.layout.root().to_owned()],
            moved: temp.into_iter().map(|temp| (temp.to_owned(), PathBuf::from("/tmp"))).collect(),
            hide,
            ..Walls::default()
        }
    }

    fn home(&self) -> Result<&Path, String> {
        let home = self.settings.home.as_deref().ok_or("there is no home directory; set HOME")?;
        if home.components().count() < 2 {
            return Err(format!(
                "the home directory is `{}`, and a box that holds it holds everything; set HOME",
                home.display()
            ));
        }
        Ok(home)
    }

    fn keys(&self) -> impl Iterator<Item = PathBuf> {
        self.settings.home.iter().flat_map(|home| KEYS.map(|name| home.join(name)))
    }

    fn config_files(&self) -> impl Iterator<Item = PathBuf> {
        self.settings.protected.iter().filter(|path| path.exists()).cloned()
    }

    fn own(&self) -> Vec<&Path> {
        let config = self.settings.protected.iter().map(PathBuf::as_path);
        config.chain([self.layout.root(), self.layout.cache()]).collect()
    }

    /// The path that a text in a header or a grant means, when it may be opened to a child: it is there, it is none
    /// that holds the home directory or what is looop's, and it does not lead there by a link.
    ///
    /// # Errors
    /// Why it may not.
    pub fn grantable(&self, text: &str) -> Result<PathBuf, String> {
        let path = self.settings.path_of(Path::new(""), text);
        if !path.is_absolute() {
            return Err("it is not an absolute path".to_owned());
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return Err("it has a `..` in it".to_owned());
        }
        let real =
            fs::canonicalize(&path).map_err(|e| format!("could not find `{}`: {e}", path.display()))?;
        let shown = real.display();
        if self.home()?.starts_with(&real) {
            return Err(format!("it leads to `{shown}`, which holds the home directory"));
        }
        let real_own =
            self.own().into_iter().map(|own| fs::canonicalize(own).unwrap_or_else(|_| own.to_owned()));
        match real_own.into_iter().find(|own| own.starts_with(&real) || real.starts_with(own)) {
            Some(_) => Err(format!("it leads to `{shown}`, and that is looop's own or holds it")),
            None => Ok(real),
        }
    }

    /// An empty temporary directory.
    fn fresh_temp(&self, whose: &str) -> Result<PathBuf, String> {
        let dir = self.layout.temp(whose);
        let used = match fs::read_dir(&dir) {
            Ok(mut entries) => entries.next().is_some(),
            Err(_) => false,
        };
        if used {
            file::remove_tree(&dir).map_err(|e| format!("could not empty `{}`: {e}", dir.display()))?;
        }
        file::make_dir(&dir).map_err(|error| format!("{error:#}"))?;
        Ok(dir)
    }

    /// How a file system of its own is made here, for a human.
    pub fn engine(&self) -> &'static str {
        match &self.powers().engine {
            None => "none",
            Some(engine) if engine.pasta.is_none() => "bubblewrap",
            Some(_) => "bubblewrap, pasta",
        }
    }
}

/// A directory, or where something of looop's own is in it what is beside that: new files can be made there alone.
fn around(dir: &Path, own: &[PathBuf]) -> Vec<PathBuf> {
    if own.iter().any(|own| dir.starts_with(own)) {
        return Vec::new();
    }
    if !own.iter().any(|own| own.starts_with(dir)) {
        return vec![dir.to_owned()];
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    // A link leads to what was not looked at.
    let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    entries.flat_map(|entry| around(&entry.path(), own)).collect()
}

/// Copies files to their places below a directory.
fn copy(files: &[(PathBuf, PathBuf)], to: &Path) -> Result<(), String> {
    for (file, place) in files {
        let place = to.join(place);
        let made = place.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::copy(file, place))
            .map_err(|e| format!("could not copy `{}`: {e}", file.display()))?;
    }
    Ok(())
}

/// Where a child finds its temporary directory.
fn temp_env(has_files: bool, temp: Option<&Path>) -> Vec<(String, String)> {
    let at = |temp: &Path| match has_files {
        true => "/tmp".to_owned(),
        false => temp.to_string_lossy().into_owned(),
    };
    temp.map(|temp| ("TMPDIR".to_owned(), at(temp))).into_iter().collect()
}
