//! Pure. Boxes: how much of a sandbox each kind of child is asked to have, what there is, and what it gets.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much of a sandbox is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// The best that can be had.
    #[default]
    Auto,
    /// All of it, or nothing runs.
    Full,
    /// Landlock at least, or nothing runs.
    Partial,
    /// None.
    None,
}

/// How much of a sandbox is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// None: it runs as the human.
    #[default]
    None,
    /// Less than full: Landlock and a system call filter alone, or the files and processes of its own and a network
    /// that is not kept apart.
    Partial,
    /// Files and processes of its own, and of the network nothing but what was asked for.
    Full,
}

impl Level {
    /// The level as the one word of the config and of JSON.
    pub fn word(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Partial => "partial",
            Level::Full => "full",
        }
    }
}

/// The network that a child has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Net {
    /// The network of the machine, its loopback included.
    #[default]
    On,
    /// The internet, and a loopback of its own.
    Internet,
    /// A loopback of its own; without an engine no internet sockets at all.
    Off,
    /// TCP connections to these ports, and no UDP.
    Ports(Vec<u16>),
}

/// The network that the config asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkAccess {
    /// The default of its kind.
    #[default]
    Auto,
    /// The network of the machine, its loopback included.
    On,
    /// The internet without the loopback of the machine.
    Internet,
    /// The endpoint of its runner alone.
    Model,
    /// None.
    Off,
    /// TCP connections to these ports.
    Ports(Vec<u16>),
}

impl NetworkAccess {
    /// The setting as the config spells it.
    fn words(&self) -> String {
        match self {
            NetworkAccess::Auto => "auto".to_owned(),
            NetworkAccess::On => "on".to_owned(),
            NetworkAccess::Internet => "internet".to_owned(),
            NetworkAccess::Model => "model".to_owned(),
            NetworkAccess::Off => "off".to_owned(),
            NetworkAccess::Ports(ports) => format!("{ports:?}"),
        }
    }
}

/// The address of a model's server: a host name or an IP address, and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// A host name, or an IP address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// The endpoint of an `http` or `https` URL.
    pub fn of_url(url: &str) -> Option<Endpoint> {
        let (rest, usual) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (rest, 443),
            (_, Some(rest)) => (rest, 80),
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(usual), |text| text.parse().ok().filter(|port| *port > 0))?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        let is_host = !host.is_empty() && host.chars().all(is_name);
        is_host.then(|| Endpoint { host: host.to_ascii_lowercase(), port })
    }

    /// The IP address, where the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether the endpoint is on this machine's own loopback.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }
}

/// What one kind of child is asked to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boxing {
    /// How much of a sandbox.
    pub wanted: Wanted,
    /// The network.
    pub net: NetworkAccess,
}

/// The kinds of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A runner that is asked for a move.
    Decide,
    /// A sensor.
    Sensor,
    /// The command of a `run`.
    Run,
    /// A check of a worker's work.
    Verify,
    /// A worker.
    Worker,
    /// What `looop fix` starts when a human runs it: agents, tests, and what follows.
    Fix,
}

impl Kind {
    /// All of them, in the order of the config.
    pub const ALL: [Kind; 6] = [Kind::Decide, Kind::Sensor, Kind::Run, Kind::Verify, Kind::Worker, Kind::Fix];

    /// The kind as the config's key.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Decide => "decide",
            Kind::Sensor => "sensor",
            Kind::Run => "run",
            Kind::Verify => "verify",
            Kind::Worker => "worker",
            Kind::Fix => "fix",
        }
    }
}

/// What the config asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boxes {
    /// For a runner that decides.
    pub decide: Boxing,
    /// For sensors.
    pub sensor: Boxing,
    /// For the command of a `run`.
    pub run: Boxing,
    /// For checks.
    pub verify: Boxing,
    /// For workers.
    pub worker: Boxing,
    /// For what a human's own fix starts.
    pub fix: Boxing,
    /// What workers and checks may read besides.
    pub read: Vec<PathBuf>,
    /// What workers and checks may write besides.
    pub write: Vec<PathBuf>,
    /// The endpoint of each runner whose address is known, by the runner's name.
    pub endpoints: BTreeMap<String, Endpoint>,
}

impl Boxes {
    /// The endpoint of the runner that goes by one of these names, the first one first.
    pub fn endpoint(&self, names: &[&str]) -> Option<&Endpoint> {
        names.iter().find_map(|name| self.endpoints.get(*name))
    }

    /// What is asked for this kind.
    pub fn of(&self, kind: Kind) -> &Boxing {
        match kind {
            Kind::Decide => &self.decide,
            Kind::Sensor => &self.sensor,
            Kind::Run => &self.run,
            Kind::Verify => &self.verify,
            Kind::Worker => &self.worker,
            Kind::Fix => &self.fix,
        }
    }
}

/// The programs that make a file system, processes and a network of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// The path of bubblewrap. Specs of earlier versions may name `unshare` here; such a worker has ended.
    #[serde(alias = "unshare")]
    pub bubblewrap: PathBuf,
    /// The path of pasta, which brings the internet into a network of its own; none: it does not work here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pasta: Option<PathBuf>,
}

/// What a child may touch. All paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Walls {
    /// True: it sees the whole file system; false: the system's directories and what is named here.
    pub whole: bool,
    /// What it may read and execute.
    pub read: Vec<PathBuf>,
    /// What it may write.
    pub write: Vec<PathBuf>,
    /// What stands in another place under `full`, and may be written: `[what, where]`.
    pub moved: Vec<(PathBuf, PathBuf)>,
    /// What can be read under `full`, and where what is written there goes instead: `[what, own directory]`.
    pub layered: Vec<(PathBuf, PathBuf)>,
    /// What does not exist under `full`.
    pub hide: Vec<PathBuf>,
    /// Files that are shown in another place and can only be read: `[what, where]`.
    pub placed: Vec<(PathBuf, PathBuf)>,
    /// The network.
    pub net: Net,
    /// Endpoints that are reached besides, each at its own address.
    pub forward: Vec<Endpoint>,
}

/// A child's box: how it is made and what is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boxed {
    /// What makes a file system of its own; none: Landlock and the filter alone.
    pub engine: Option<Engine>,
    /// What it may touch.
    pub walls: Walls,
    /// The version of Landlock that is put on; 0: none. Boxes of earlier versions were made with all of it.
    #[serde(default = "all_of_landlock")]
    pub landlock: u8,
    /// Files that must hold what they held when a human said yes, by path and blake3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<(String, String)>,
}

fn all_of_landlock() -> u8 {
    u8::MAX
}

impl Boxed {
    /// A box without anything sealed.
    pub fn new(engine: Option<Engine>, walls: Walls) -> Boxed {
        Boxed { engine, walls, landlock: all_of_landlock(), sealed: Vec::new() }
    }

    /// How much of a sandbox it is.
    pub fn level(&self) -> Level {
        match (&self.engine, &self.walls.net) {
            (None, _) | (_, Net::On) => Level::Partial,
            (Some(_), Net::Off) => Level::Full,
            (Some(engine), Net::Internet | Net::Ports(_)) if engine.pasta.is_some() => Level::Full,
            (Some(_), Net::Internet | Net::Ports(_)) => Level::Partial,
        }
    }

    /// Whether it has a file system and processes of its own.
    pub fn has_files(&self) -> bool {
        self.engine.is_some()
    }

    /// Whether its network is made by a process outside of it: pasta, or the relay to its endpoints.
    pub fn needs_helper(&self) -> bool {
        self.has_pasta() || self.has_relay()
    }

    /// Whether a relay leads to its endpoints: its own network has no way out.
    pub fn has_relay(&self) -> bool {
        self.has_files() && self.walls.net == Net::Off && !self.walls.forward.is_empty()
    }

    /// Whether pasta brings the internet into it.
    pub fn has_pasta(&self) -> bool {
        matches!(self.walls.net, Net::Internet | Net::Ports(_))
            && self.engine.as_ref().is_some_and(|engine| engine.pasta.is_some())
    }
}

/// What this machine can do, as it was tried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Powers {
    /// What makes a file system of its own; none where nothing does.
    pub engine: Option<Engine>,
    /// The version of Landlock that the kernel has; 0: none.
    pub landlock: u8,
    /// Whether a system call filter can be had.
    pub filter: bool,
    /// Whether what is written into a directory that can only be read can go into another one.
    pub layers: bool,
    /// True where a program that is there did not work.
    #[serde(default)]
    pub failed: bool,
    /// What is missing and why, one line each.
    pub missing: Vec<String>,
    /// How what is missing can be had.
    pub fixes: Vec<String>,
}

/// The sandbox that a kind of child gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxGrant {
    /// How much of a sandbox it is.
    pub level: Level,
    /// Whether it has a file system and processes of its own.
    pub has_files: bool,
    /// The network that is enforced.
    pub net: Net,
    /// Whether the endpoint of its runner is reached besides.
    pub model: bool,
}

/// The first Landlock that keeps a child from signals and abstract sockets of others.
pub const SCOPES: u8 = 6;
/// The first Landlock that knows TCP ports.
pub const PORTS: u8 = 4;

impl Powers {
    /// The most that can be had.
    pub fn level(&self) -> Level {
        match (&self.engine, self.landlock) {
            (Some(_), _) => Level::Full,
            (None, 1..) => Level::Partial,
            (None, 0) => Level::None,
        }
    }

    /// What this machine can do less than it could do before; none: no less.
    pub fn lost_since(&self, before: &Powers) -> Option<String> {
        let lost = match (&before.engine, &self.engine) {
            (Some(_), None) => "sandboxes have no file system of their own any more",
            (Some(_), Some(_)) if before.has_pasta() && !self.has_pasta() => {
                "sandboxes with the internet reach this machine's own services again"
            }
            _ if before.level() > self.level() => "what looop starts has no sandbox any more",
            _ => return None,
        };
        let why =
            if self.missing.is_empty() { String::new() } else { format!(": {}", self.missing.join("; ")) };
        Some(format!("{lost}; this machine had better ones{why}"))
    }

    /// True where nothing that is installed failed: what was found holds until something changes.
    pub fn is_success(&self) -> bool {
        self.engine.is_some() && !self.failed
    }

    fn has_pasta(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.pasta.is_some())
    }

    /// What a kind of child gets.
    ///
    /// # Errors
    /// More is asked for than there is: says what is missing. Nothing is run then.
    pub fn grant(&self, kind: Kind, boxing: &Boxing) -> Result<SandboxGrant, String> {
        if boxing.wanted == Wanted::None {
            return Ok(SandboxGrant::default());
        }
        let has_files = self.engine.is_some() && self.wants_files(kind, boxing.wanted);
        if !has_files && self.landlock == 0 {
            return self.grant_none(kind, boxing);
        }
        let asked = match &boxing.net {
            NetworkAccess::Auto => usual_network(kind, boxing.wanted, has_files && self.has_pasta()),
            asked => asked.clone(),
        };
        let net = self.net(kind, boxing, &asked, has_files)?;
        let is_apart = match &asked {
            NetworkAccess::Off | NetworkAccess::Model => has_files,
            NetworkAccess::Internet | NetworkAccess::Ports(_) => has_files && self.has_pasta(),
            NetworkAccess::On | NetworkAccess::Auto => false,
        };
        let level = if is_apart { Level::Full } else { Level::Partial };
        if boxing.wanted == Wanted::Full && level < Level::Full {
            return Err(self.lacks_full(kind, &asked));
        }
        let model = matches!(asked, NetworkAccess::Model) && is_apart || net == Net::Internet;
        Ok(SandboxGrant { level, has_files, net, model })
    }

    /// Sensors run by the hundred in each beat, and a file system for each of them would cost more than most of them do.
    fn wants_files(&self, kind: Kind, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Full => true,
            Wanted::Auto => kind != Kind::Sensor || self.landlock == 0,
            Wanted::Partial | Wanted::None => self.landlock == 0,
        }
    }

    fn grant_none(&self, kind: Kind, boxing: &Boxing) -> Result<SandboxGrant, String> {
        match (boxing.wanted, &boxing.net) {
            (Wanted::Full, _) => Err(self.lacks(kind, Level::Full)),
            (Wanted::Partial, _) => Err(self.lacks(kind, Level::Partial)),
            // A check is cut off by default. That default alone must not keep it from running.
            (_, NetworkAccess::Off | NetworkAccess::Ports(_)) if kind != Kind::Verify => {
                let why = "there is no sandbox that could enforce it";
                Err(format!("sandbox.network.{} asks for {}, and {why}", kind.word(), boxing.net.words()))
            }
            _ => Ok(SandboxGrant::default()),
        }
    }

    /// The network that can be enforced of what is asked for.
    fn net(
        &self,
        kind: Kind,
        boxing: &Boxing,
        asked: &NetworkAccess,
        has_files: bool,
    ) -> Result<Net, String> {
        let refused = |what: &str| Err(format!("sandbox.network.{} asks for {what}", kind.word()));
        match asked {
            NetworkAccess::On | NetworkAccess::Auto => Ok(Net::On),
            NetworkAccess::Internet if has_files && self.has_pasta() => Ok(Net::Internet),
            NetworkAccess::Internet => Ok(Net::On),
            NetworkAccess::Model if has_files => Ok(Net::Off),
            NetworkAccess::Model => Ok(Net::On),
            NetworkAccess::Off if has_files || self.filter => Ok(Net::Off),
            NetworkAccess::Off if kind == Kind::Verify && boxing.wanted == Wanted::Auto => Ok(Net::On),
            NetworkAccess::Off => refused("no network, and there is no sandbox that could keep it out"),
            NetworkAccess::Ports(ports) if self.landlock >= PORTS && self.filter => {
                Ok(Net::Ports(ports.clone()))
            }
            NetworkAccess::Ports(_) => refused(
                "some ports alone, and this kernel cannot tell them apart (Landlock 4 and seccomp can)",
            ),
        }
    }

    fn lacks(&self, kind: Kind, level: Level) -> String {
        let why =
            if self.missing.is_empty() { "it was not tried".to_owned() } else { self.missing.join("; ") };
        format!("sandbox.{} asks for {:?} and it cannot be had here: {why}", kind.word(), level.word())
    }

    fn lacks_full(&self, kind: Kind, asked: &NetworkAccess) -> String {
        let why = match asked {
            _ if self.engine.is_none() => return self.lacks(kind, Level::Full),
            NetworkAccess::On => {
                "sandbox.network is \"on\", which opens this machine's own services; ask for \"internet\", \"model\" or \"off\""
            }
            _ if self.missing.is_empty() => "there is no `pasta`",
            _ => return self.lacks(kind, Level::Full),
        };
        format!("sandbox.{} asks for \"full\" and it cannot be had here: {why}", kind.word())
    }
}

/// The network of a kind of child whose network the config leaves open.
fn usual_network(kind: Kind, wanted: Wanted, has_pasta: bool) -> NetworkAccess {
    match (kind, wanted) {
        // What decides over work must not be told its answer from outside.
        (Kind::Verify, _) => NetworkAccess::Off,
        (Kind::Worker | Kind::Fix, Wanted::Auto) if has_pasta => NetworkAccess::Internet,
        (_, Wanted::Full) => NetworkAccess::Internet,
        _ => NetworkAccess::On,
    }
}

#[cfg(test)]
#[path = "boxing_tests.rs"]
mod boxing_tests;
