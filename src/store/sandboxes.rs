//! Sandboxes: what each kind of child of a data dir may access, and a check that this machine can enforce the config.

mod home;
mod network;
mod tools;

use std::cell::OnceCell;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use strum::IntoEnumIterator;

use super::file::{self, Durability};
use super::layout::{Layout, PrivateDirs};
use crate::os::signal::Cancel;
use crate::rules::beat::policy;
use crate::rules::beat::settings::Settings;
use crate::rules::fault::Fault;
use crate::rules::name::Name;
use crate::rules::sandbox::{
    Access, Capabilities, Endpoint, Level, Sandbox, SandboxGrant, SandboxMode, SandboxSubject,
};
use crate::rules::world::sensor::SensorHeader;
use crate::sandbox::{self, probe};
use crate::store::json_file;
use home::AgentPlaces;
pub use home::{AddTrust, AgentHome};

/// Where the sockets of the user's session are.
const SESSION: &str = "/run/user";
/// Sockets through which containers are run with administrator rights.
const CONTAINERS: [&str; 4] = ["/run/docker.sock", "/run/podman", "/run/containerd", "/run/crio"];
/// The folders of a home directory that hold private keys.
const KEYS: [&str; 2] = [".ssh", ".gnupg"];

/// The environment of a child: its sandbox (`None` if it runs without one) and the variables that belong to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SandboxedEnv {
    pub sandbox: Option<Sandbox>,
    /// Names the directory for temporary files inside the sandbox.
    pub env: Vec<(String, String)>,
}

/// Sandbox inputs of a runner that decides.
pub struct Decider<'a> {
    /// The name and the home of its agent CLI; `None` if looop does not know the agent.
    pub agent: Option<(&'a str, &'a AgentHome)>,
    pub program: &'a Path,
    pub cwd: &'a Path,
    /// Further paths that it may read.
    pub read: &'a [PathBuf],
    /// Paths that it may write.
    pub write: &'a [PathBuf],
}

/// Inputs of a worker's sandbox.
#[derive(Clone, Copy)]
pub struct AgentSandbox<'a> {
    pub dirs: &'a PrivateDirs<'a>,
    /// Its working directory, which it may write.
    pub cwd: &'a Path,
    /// The endpoint that it was told to use; `None` means the endpoint of its runner.
    pub endpoint: Option<&'a Endpoint>,
    /// The name and the program of its runner.
    pub names: [&'a str; 2],
    /// The home of its agent CLI; `None` if looop does not know the agent.
    pub agent: Option<&'a AgentHome>,
    /// The programs that are started in it.
    pub programs: &'a [PathBuf],
    /// Paths that its runner may write.
    pub write: &'a [PathBuf],
    /// Further paths that it reads: grants of the user, files that it is given, objects that its clone borrows.
    pub read: &'a [PathBuf],
}

/// The cached result of the last probe, and the machine state for which it is valid.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeResult {
    stamp: String,
    #[serde(alias = "powers")]
    capabilities: Capabilities,
}

/// The best capabilities that a probe has found on this machine.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BestSandbox {
    #[serde(alias = "powers")]
    capabilities: Capabilities,
    /// True if the user was notified that the sandbox is weaker now.
    notified: bool,
}

/// Deletes the cached probe of this machine, so that the next start probes it again.
pub fn forget_capabilities(layout: &Layout) {
    // A missing cache is not an error.
    drop(fs::remove_file(layout.sandbox()));
}

/// Makes sandboxes for the children of one data dir.
pub struct SandboxBuilder<'a> {
    pub layout: &'a Layout,
    pub settings: &'a Settings,
    keep: bool,
    capabilities: OnceCell<Capabilities>,
}

impl<'a> SandboxBuilder<'a> {
    /// Makes a builder that probes this machine. If `keep` is true, results may be stored in the cache.
    pub fn new(layout: &'a Layout, settings: &'a Settings, keep: bool) -> SandboxBuilder<'a> {
        SandboxBuilder { layout, settings, keep, capabilities: OnceCell::new() }
    }

    /// Makes a builder for a machine with these capabilities, without a probe.
    pub fn with(
        layout: &'a Layout,
        settings: &'a Settings,
        capabilities: Capabilities,
    ) -> SandboxBuilder<'a> {
        SandboxBuilder { layout, settings, keep: false, capabilities: OnceCell::from(capabilities) }
    }

    /// Returns what this machine can do, from the cached probe or from a new one.
    pub fn capabilities(&self) -> &Capabilities {
        self.capabilities.get_or_init(|| {
            let stamp = probe::stamp(&self.settings.path);
            self.tried(&stamp).unwrap_or_else(|| self.probe(stamp, None))
        })
    }

    /// Reads the cached probe, if it is valid for this machine as it is now.
    fn tried(&self, stamp: &str) -> Option<Capabilities> {
        let tried = json_file::read_json::<ProbeResult>(&self.layout.sandbox()).ok().flatten();
        tried.filter(|tried| tried.stamp == stamp).map(|tried| tried.capabilities)
    }

    /// Probes this machine again. Overlays are probed only if their result is unknown, because that probe writes files.
    pub fn probe_again(&self) -> Capabilities {
        let stamp = probe::stamp(&self.settings.path);
        let layers = self.tried(&stamp).map(|capabilities| capabilities.overlays);
        self.probe(stamp, layers)
    }

    fn probe(&self, stamp: String, layers: Option<bool>) -> Capabilities {
        let Ok(cancel) = Cancel::never() else { return Capabilities::default() };
        // Two processes may probe at the same time.
        let fresh = || self.fresh_temp(&format!("try-{}", std::process::id())).ok();
        let scratch = (self.keep && layers.is_none()).then(fresh).flatten();
        let mut capabilities = probe::probe(&self.settings.path, scratch.as_deref(), &cancel);
        capabilities.overlays |= layers.unwrap_or(false) && capabilities.engine.is_some();
        // The next probe empties what stays there.
        drop(scratch.map(|dir| file::remove_tree(&dir)));
        // A failure may concern this caller alone, so it is not cached: the next caller probes again.
        if self.keep && capabilities.is_success() && self.tried(&stamp).as_ref() != Some(&capabilities) {
            let best = self.best().filter(|best| capabilities.lost_since(&best.capabilities).is_some());
            let best = best.unwrap_or(BestSandbox { capabilities: capabilities.clone(), notified: false });
            let tried = ProbeResult { stamp, capabilities: capabilities.clone() };
            let kept = file::make_dir(self.layout.cache())
                .and_then(|()| json_file::write_json(&self.layout.best_sandbox(), &best, Durability::Atomic))
                .and_then(|()| json_file::write_json(&self.layout.sandbox(), &tried, Durability::Atomic));
            // If the cache cannot be written, the next caller probes again.
            drop(kept);
        }
        capabilities
    }

    fn best(&self) -> Option<BestSandbox> {
        json_file::read_json::<BestSandbox>(&self.layout.best_sandbox()).ok().flatten()
    }

    /// Describes how sandboxes are weaker than they once were on this machine; `None` if they are not.
    pub fn downgrade(&self) -> Option<String> {
        self.capabilities().lost_since(&self.best()?.capabilities)
    }

    /// Returns the text of [`SandboxBuilder::downgrade`] if the user was not notified of it yet.
    ///
    /// # Errors
    /// When the notification cannot be recorded.
    pub fn news_of_downgrade(&self) -> Result<Option<String>> {
        let Some(best) = self.best() else { return Ok(None) };
        let lost = self.capabilities().lost_since(&best.capabilities);
        if lost.is_some() != best.notified {
            let best = BestSandbox { notified: lost.is_some(), ..best.clone() };
            json_file::write_json(&self.layout.best_sandbox(), &best, Durability::Atomic)?;
        }
        Ok(lost.filter(|_| !best.notified))
    }

    /// Returns the sandbox level of a kind of child.
    ///
    /// # Errors
    /// When the machine offers less than the config requires: nothing may run then.
    pub fn level(&self, kind: SandboxSubject) -> Result<Level, String> {
        self.grant(kind).map(|grant| grant.level)
    }

    /// Returns the sandbox that a kind of child gets.
    ///
    /// # Errors
    /// As [`SandboxBuilder::level`].
    pub fn grant(&self, kind: SandboxSubject) -> Result<SandboxGrant, String> {
        let request = self.settings.sandbox.request(kind);
        match request.mode {
            SandboxMode::None => Ok(SandboxGrant::default()),
            _ => self.capabilities().grant(kind, &request),
        }
    }

    /// Checks that this machine offers every sandbox that the config requires.
    ///
    /// # Errors
    /// Names what is missing and how to fix it.
    pub fn check(&self) -> Result<()> {
        for kind in SandboxSubject::iter() {
            if let Err(why) = self.level(kind) {
                let mut fault = Fault::usage(format!("could not sandbox what looop runs: {why}"));
                fault.hints.extend(self.capabilities().fixes.iter().cloned());
                let less = format!("or ask for less: \"sandbox\": {{\"{kind}\": \"auto\"}} in the config");
                return Err(fault.hint(less).into());
            }
        }
        Ok(())
    }

    /// Builds a sandbox with these mounts and the network of `grant`; `endpoint` is that of its runner, and `temp` its
    /// temporary directory.
    fn sandboxed(
        &self,
        kind: SandboxSubject,
        grant: &SandboxGrant,
        mut access: Access,
        endpoint: Option<&Endpoint>,
        temp: Option<&Path>,
    ) -> Result<SandboxedEnv, String> {
        access.net = grant.net.clone();
        if grant.has_files && grant.model {
            network::forward(&mut access, kind, endpoint, self.layout.cache())?;
        }
        let engine = self.capabilities().engine.clone().filter(|_| grant.has_files);
        let mut sandbox = Sandbox { landlock: self.capabilities().landlock, ..Sandbox::new(engine, access) };
        if sandbox.has_pasta() {
            sandbox.access.read_only_binds.extend(network::resolver(self.layout.cache())?);
        }
        let temp = temp.map(|temp| if grant.has_files { Path::new("/tmp") } else { temp });
        let env = temp.map(|temp| ("TMPDIR".to_owned(), temp.to_string_lossy().into_owned()));
        Ok(SandboxedEnv { sandbox: Some(sandbox), env: env.into_iter().collect() })
    }

    /// Builds the sandbox of a sensor: it reads everything, and writes its temporary directory and the paths in its
    /// header.
    ///
    /// # Errors
    /// Says why the sandbox cannot be made; the sensor does not run then.
    pub fn sensor(&self, name: &Name, header: &SensorHeader) -> Result<SandboxedEnv, String> {
        let grant = self.grant(SandboxSubject::Sensor)?;
        if grant.level == Level::None {
            return Ok(SandboxedEnv::default());
        }
        // If the cache cannot be written, the sensor only loses its temporary directory.
        let temp = self.fresh_temp(&format!("sensor-{name}")).ok();
        let mut access = self.allow_all(temp.as_deref());
        access.masks.push(PathBuf::from(SESSION));
        access.masks.extend(self.keys());
        for path in &header.write {
            access.write.push(self.grantable(path).map_err(|why| format!("write={path}: {why}"))?);
        }
        self.sandboxed(SandboxSubject::Sensor, &grant, access, None, temp.as_deref())
    }

    /// Builds the sandbox of a `run` move: it reads everything, and writes its working directory except looop's own
    /// files.
    ///
    /// # Errors
    /// Says why the sandbox cannot be made; the command does not run then.
    pub fn run(&self, cwd: &Path) -> Result<SandboxedEnv, String> {
        let grant = self.grant(SandboxSubject::Run)?;
        if grant.level == Level::None {
            return Ok(SandboxedEnv::default());
        }
        let temp = self.fresh_temp("run").ok();
        let mut access = self.allow_all(temp.as_deref());
        let entries = fs::read_dir(self.layout.root()).into_iter().flatten().flatten();
        let own = entries.filter(|entry| entry.file_name().to_str().is_some_and(policy::is_own_part));
        let own: Vec<PathBuf> = own.map(|entry| entry.path()).chain(self.config_files()).collect();
        access.write = match grant.has_files {
            true => vec![cwd.to_owned()],
            // Landlock cannot exclude a path below a directory that it allows.
            false => around(cwd, &own),
        };
        access.read.extend(own);
        access.read.retain(|path| !access.masks.contains(path));
        self.sandboxed(SandboxSubject::Run, &grant, access, None, temp.as_deref())
    }

    /// Builds the sandbox of a runner that decides. A runner that looop knows sees only its own configuration. looop
    /// cannot tell what an unknown runner reads, so that one sees everything except the data dir. Either writes only
    /// the paths that it was granted.
    ///
    /// # Errors
    /// Says why the sandbox cannot be made; the runner does not start then.
    pub fn decide(&self, decider: &Decider) -> Result<SandboxedEnv, String> {
        let agent = decider.agent;
        let grant = self.grant(SandboxSubject::Decide)?;
        if grant.level == Level::None {
            return Ok(SandboxedEnv::default());
        }
        let temp = self.fresh_temp("decide");
        let home = self.home()?;
        let found = self.agent(agent.map(|(_, home)| home))?;
        let mut access = match agent {
            Some(_) if grant.has_files => {
                let inside = self.fresh_temp("decide-home")?;
                let mut binds =
                    vec![(inside.clone(), home.to_owned()), (temp.clone()?, PathBuf::from("/tmp"))];
                if let Some(elsewhere) = found.elsewhere {
                    let own = inside.join(elsewhere.dir);
                    file::make_dir(&own).map_err(|error| format!("{error:#}"))?;
                    binds.push((own, elsewhere.place));
                }
                copy(&found.copied, &inside)?;
                let read = [tools::found(&self.settings.path, home, &self.own()), found.read].concat();
                Access { read, write: found.login, binds, ..Access::default() }
            }
            _ => {
                let mut access = self.allow_all(temp.as_deref().ok());
                access.read.retain(|path| path != self.layout.root());
                access.masks.extend([PathBuf::from(SESSION), self.layout.root().to_owned()]);
                access.write.extend(found.dirs);
                access
            }
        };
        access.read.extend([decider.program.to_owned(), decider.cwd.to_owned()]);
        if !access.allow_all {
            access.read.extend(tools::program(decider.program, &self.settings.path, home, &self.own()));
        }
        access.read.extend(decider.read.iter().cloned());
        access.write.extend(decider.write.iter().cloned());
        let endpoint = agent.and_then(|(name, _)| self.settings.sandbox.endpoint(&[name]));
        self.sandboxed(SandboxSubject::Decide, &grant, access, endpoint, temp.as_deref().ok())
    }

    /// Builds the sandbox of a worker: its directory, the configuration of its runner, and tools.
    ///
    /// # Errors
    /// Says why the sandbox cannot be made; nothing is started then.
    pub fn agent_sandbox(
        &self,
        kind: SandboxSubject,
        agent_sandbox: &AgentSandbox,
    ) -> Result<SandboxedEnv, String> {
        let grant = self.grant(kind)?;
        if grant.level == Level::None {
            return Ok(SandboxedEnv::default());
        }
        let access = self.access(agent_sandbox, grant.has_files)?;
        let endpoint =
            agent_sandbox.endpoint.or_else(|| self.settings.sandbox.endpoint(&agent_sandbox.names));
        self.sandboxed(kind, &grant, access, endpoint, Some(&agent_sandbox.dirs.temp()))
    }

    fn access(&self, agent_sandbox: &AgentSandbox, is_full: bool) -> Result<Access, String> {
        let home = self.home()?;
        let found = self.agent(agent_sandbox.agent)?;
        let granted = &self.settings.sandbox;
        let mut read = tools::found(&self.settings.path, home, &self.own());
        let mut write = vec![agent_sandbox.cwd.to_owned()];
        for (key, paths, into) in
            [("sandbox.read", &granted.read, &mut read), ("sandbox.write", &granted.write, &mut write)]
        {
            for path in paths {
                self.grantable(&path.to_string_lossy()).map_err(|why| format!("{key}: {why}"))?;
                into.push(path.clone());
            }
        }
        read.extend(found.read.iter().chain(agent_sandbox.read).cloned());
        for file in agent_sandbox.programs {
            read.extend(tools::program(file, &self.settings.path, home, &self.own()));
        }
        write.extend(agent_sandbox.write.iter().cloned());
        // Without bind mounts the agent finds its own directories only at their real places.
        write.extend(if is_full { found.login } else { found.dirs });
        let dirs = agent_sandbox.dirs;
        let mut binds = vec![(dirs.temp(), PathBuf::from("/tmp"))];
        let mut overlays = Vec::new();
        if is_full {
            binds.push((dirs.home(), home.to_owned()));
            binds.extend(found.elsewhere.map(|moved| (dirs.home().join(moved.dir), moved.place)));
            if self.capabilities().overlays {
                overlays.extend(tools::layers(home).map(|(dir, name)| (dir, dirs.caches().join(name))));
            }
        }
        read.retain(|path| !overlays.iter().any(|(dir, _)| dir == path));
        Ok(Access { read, write, binds, overlays, ..Access::default() })
    }

    /// Makes the private directories of such a sandbox.
    pub fn create_dirs(
        &self,
        is_full: bool,
        agent: Option<&AgentHome>,
        dirs: &PrivateDirs,
        cwd: &Path,
    ) -> Result<()> {
        file::make_dir(&dirs.temp())?;
        if let (true, Ok(own)) = (is_full, self.home()) {
            let home = &dirs.home();
            file::make_dir(home)?;
            for (_, name) in tools::layers(own).filter(|_| self.capabilities().overlays) {
                for part in sandbox::LAYER_PARTS {
                    file::make_dir(&dirs.caches().join(&name).join(part))?;
                }
            }
            if let Some(agent) = agent {
                let found = agent.places(own, &self.settings.full_env);
                if let Some(elsewhere) = &found.elsewhere {
                    file::make_dir(&home.join(elsewhere.dir))?;
                }
                copy(&found.copied, home).map_err(Fault::failed)?;
                agent.trust(home, cwd)?;
            }
        }
        Ok(())
    }

    /// The places of an agent that exist.
    fn agent(&self, agent: Option<&AgentHome>) -> Result<AgentPlaces, String> {
        let Some(agent) = agent else { return Ok(AgentPlaces::default()) };
        let found = agent.places(self.home()?, &self.settings.full_env);
        if let Some(elsewhere) = &found.elsewhere {
            let place = elsewhere.place.to_string_lossy();
            self.grantable(&place).map_err(|why| format!("{}={place}: {why}", elsewhere.var))?;
        }
        Ok(found)
    }

    /// Allows all reads except other users' temporary files, container engines and workers.
    fn allow_all(&self, temp: Option<&Path>) -> Access {
        let mut masks: Vec<PathBuf> = CONTAINERS.map(PathBuf::from).into();
        masks.push(self.layout.workers());
        if temp.is_none() {
            masks.push(PathBuf::from("/tmp"));
        }
        Access {
            allow_all: true,
            read: vec![self.layout.root().to_owned()],
            binds: temp.into_iter().map(|temp| (temp.to_owned(), PathBuf::from("/tmp"))).collect(),
            masks,
            ..Access::default()
        }
    }

    fn home(&self) -> Result<&Path, String> {
        let home = self.settings.home.as_deref().ok_or("there is no home directory; set HOME")?;
        if home.components().count() < 2 {
            return Err(format!(
                "the home directory is `{}`, and a sandbox that shows it shows everything; set HOME",
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

    /// Resolves a path from a header or a grant, if a child may be given it: it exists, it holds neither the home
    /// directory nor looop's own files, and no link leads it there.
    ///
    /// # Errors
    /// Says why the path may not be granted.
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
        let own = self.own().into_iter();
        let mut own = own.map(|own| fs::canonicalize(own).unwrap_or_else(|_| own.to_owned()));
        if own.any(|own| own.starts_with(&real) || real.starts_with(own)) {
            return Err(format!("it leads to `{shown}`, and that is looop's own or holds it"));
        }
        Ok(real)
    }

    /// Makes an empty temporary directory.
    fn fresh_temp(&self, whose: &str) -> Result<PathBuf, String> {
        let dir = self.layout.temp(whose);
        if fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
            file::remove_tree(&dir).map_err(|e| format!("could not empty `{}`: {e}", dir.display()))?;
        }
        file::make_dir(&dir).map_err(|error| format!("{error:#}"))?;
        Ok(dir)
    }

    /// Names the programs that isolate the file system on this machine, for the user.
    pub fn engine(&self) -> &'static str {
        match &self.capabilities().engine {
            None => "none",
            Some(engine) if engine.pasta.is_none() => "bubblewrap",
            Some(_) => "bubblewrap, pasta",
        }
    }
}

/// The files that a command of the config names, as its scripts: its sandbox shows them.
pub fn named_files(argv: &[String]) -> impl Iterator<Item = PathBuf> {
    argv.iter().map(PathBuf::from).filter(|path| path.is_absolute() && path.is_file())
}

/// Lists the directory itself, or, if it holds files of looop, every entry beside them: new files can then be made only
/// inside those entries.
fn around(dir: &Path, own: &[PathBuf]) -> Vec<PathBuf> {
    if own.iter().any(|own| dir.starts_with(own)) {
        return Vec::new();
    }
    if !own.iter().any(|own| own.starts_with(dir)) {
        return vec![dir.to_owned()];
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    // The target of a link was not checked.
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
