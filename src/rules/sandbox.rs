//! Pure. Sandbox levels: which level the config requests for each kind of child, what the machine supports, and what
//! the child gets.

use core::net::IpAddr;
use core::num::NonZeroU16;
use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The requested sandbox level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxMode {
    /// The strongest available sandbox.
    #[default]
    Auto,
    /// The full sandbox; without it nothing runs.
    Full,
    /// Landlock at least; without it nothing runs.
    Partial,
    /// No sandbox.
    None,
}

/// The enforced sandbox level.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::AsRefStr,
    strum::Display,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Level {
    /// No sandbox: the child runs with the user's access.
    #[default]
    None,
    /// Less than full: only Landlock and a system call filter, or private files and processes with a network that is
    /// not isolated.
    Partial,
    /// Private files and processes, and only the requested network.
    Full,
}

impl Level {
    /// The level of a sandbox that this engine creates, or that is only Landlock and the filter.
    fn of(engine: Option<&Engine>, net: &Net) -> Level {
        match (engine, net) {
            (Some(_), Net::Off) => Level::Full,
            (Some(engine), Net::Internet | Net::Ports(_)) if engine.pasta.is_some() => Level::Full,
            _ => Level::Partial,
        }
    }
}

/// The network access of a sandboxed child.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Net {
    /// The machine's network, with its loopback interface.
    #[default]
    On,
    /// The internet, with a private loopback interface.
    Internet,
    /// Only a private loopback interface; without an engine, no internet sockets at all.
    Off,
    /// TCP connections to these ports only; no UDP.
    Ports(Vec<u16>),
}

/// The network access that the config requests: a word, or TCP connections to some ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, strum::Display)]
#[serde(try_from = "Value")]
#[strum(serialize_all = "snake_case")]
pub enum NetworkAccess {
    /// The default for the kind of child.
    #[default]
    Auto,
    /// The machine's network, with its loopback interface.
    On,
    /// The internet, without the machine's loopback interface.
    Internet,
    /// Only the endpoint of the child's runner.
    Model,
    Off,
    /// TCP connections to these ports only.
    #[strum(to_string = "{0:?}")]
    Ports(Vec<u16>),
}

impl TryFrom<Value> for NetworkAccess {
    type Error = String;

    fn try_from(value: Value) -> Result<NetworkAccess, String> {
        let ports = || serde_json::from_value::<Vec<NonZeroU16>>(value.clone()).ok();
        match value.as_str() {
            Some("auto") => Ok(NetworkAccess::Auto),
            Some("on") => Ok(NetworkAccess::On),
            Some("internet") => Ok(NetworkAccess::Internet),
            Some("model") => Ok(NetworkAccess::Model),
            Some("off") => Ok(NetworkAccess::Off),
            _ => match ports().filter(|ports| !ports.is_empty()) {
                Some(ports) => Ok(NetworkAccess::Ports(ports.into_iter().map(NonZeroU16::get).collect())),
                None => Err(format!(
                    "a network is \"auto\", \"on\", \"internet\", \"model\", \"off\" or a list of ports from 1 to 65535; this is `{value}`"
                )),
            },
        }
    }
}

impl JsonSchema for NetworkAccess {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NetworkAccess".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "oneOf": [
                { "enum": ["auto", "on", "internet", "model", "off"] },
                { "type": "array", "minItems": 1, "items": { "type": "integer", "minimum": 1, "maximum": 65535 } },
            ]
        })
    }
}

/// The address of a model server: a host name or an IP address, and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// A host name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    /// Extracts the endpoint from an `http` or `https` URL.
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

    /// The IP address, if the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// True if the endpoint is on this machine's own loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }
}

/// The sandbox that the config requests for one kind of child.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxRequest {
    pub mode: SandboxMode,
    pub net: NetworkAccess,
}

/// The kinds of children, in the order of the config, each with the name of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum SandboxSubject {
    /// A runner that decides on a move.
    Decide,
    Sensor,
    /// The command of a `run` move.
    Run,
    /// A check of a worker's work.
    Verify,
    Worker,
    /// The children of a `looop fix` that the user runs: agents, tests, and the commands after them.
    Fix,
}

/// The sandbox settings of the config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxConfig {
    /// The sandbox of a runner that decides.
    pub decide: Option<SandboxMode>,
    /// The sandbox of a sensor.
    pub sensor: Option<SandboxMode>,
    /// The sandbox of a `run` move.
    pub run: Option<SandboxMode>,
    /// The sandbox of a check.
    pub verify: Option<SandboxMode>,
    /// The sandbox of a worker.
    pub worker: Option<SandboxMode>,
    /// The sandbox of the processes of `looop fix`, if you run it.
    pub fix: Option<SandboxMode>,
    /// The network access of each kind of child.
    pub network: NetworkConfig,
    /// More paths that workers and checks may read.
    pub read: Vec<PathBuf>,
    /// More paths that workers and checks may write.
    pub write: Vec<PathBuf>,
    /// The known endpoints, by the runner's name.
    #[serde(skip)]
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// The network settings of the config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// The network access of a runner that decides.
    pub decide: Option<NetworkAccess>,
    /// The network access of a sensor.
    pub sensor: Option<NetworkAccess>,
    /// The network access of a `run` move.
    pub run: Option<NetworkAccess>,
    /// The network access of a check.
    pub verify: Option<NetworkAccess>,
    /// The network access of a worker.
    pub worker: Option<NetworkAccess>,
    /// The network access of the processes of `looop fix`, if you run it.
    pub fix: Option<NetworkAccess>,
}

impl SandboxConfig {
    /// Returns the endpoint of the first of these names that has one.
    pub fn endpoint(&self, names: &[&str]) -> Option<&Endpoint> {
        names.iter().find_map(|name| self.endpoints.get(*name))
    }

    /// Returns the settings for this kind.
    pub fn request(&self, kind: SandboxSubject) -> SandboxRequest {
        let (mode, net) = match kind {
            SandboxSubject::Decide => (self.decide, &self.network.decide),
            SandboxSubject::Sensor => (self.sensor, &self.network.sensor),
            SandboxSubject::Run => (self.run, &self.network.run),
            SandboxSubject::Verify => (self.verify, &self.network.verify),
            SandboxSubject::Worker => (self.worker, &self.network.worker),
            SandboxSubject::Fix => (self.fix, &self.network.fix),
        };
        SandboxRequest { mode: mode.unwrap_or_default(), net: net.clone().unwrap_or_default() }
    }
}

/// The programs that create a sandbox with private files, processes and network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// The path of bubblewrap. Specs of earlier versions may name `unshare` here; the workers of such specs have ended.
    #[serde(alias = "unshare")]
    pub bubblewrap: PathBuf,
    /// The path of pasta, which connects a private network to the internet; `None`: it does not work here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pasta: Option<PathBuf>,
}

/// The files and the network that a child may access. All paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// If true, the child sees the whole file system; if false, only the system's directories and the paths below.
    #[serde(alias = "whole")]
    pub allow_all: bool,
    /// Paths that it may read and execute.
    pub read: Vec<PathBuf>,
    /// Paths that it may write.
    pub write: Vec<PathBuf>,
    /// Writable bind mounts under `full`: `[source, target]`.
    #[serde(alias = "moved")]
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Overlays under `full`: a readable path, and the directory that receives what is written there.
    #[serde(alias = "layered")]
    pub overlays: Vec<(PathBuf, PathBuf)>,
    /// Paths that are hidden under `full`.
    #[serde(alias = "hide")]
    pub masks: Vec<PathBuf>,
    /// Read-only bind mounts of files: `[source, target]`.
    #[serde(alias = "placed")]
    pub read_only_binds: Vec<(PathBuf, PathBuf)>,
    pub net: Net,
    /// More endpoints that the child can reach, each at its own address.
    pub forward: Vec<Endpoint>,
}

/// The sandbox of a child: how it is created, and what the child may access.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// The engine; `None`: only Landlock and the filter.
    pub engine: Option<Engine>,
    #[serde(alias = "walls")]
    pub access: Access,
    /// The version of Landlock that is applied; 0: none. Earlier versions of looop did not write it and applied all of
    /// Landlock.
    #[serde(default = "all_of_landlock")]
    pub landlock: u8,
    /// Files that must still have the content that the user approved, by path and blake3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<(String, String)>,
}

fn all_of_landlock() -> u8 {
    u8::MAX
}

impl Sandbox {
    /// Creates a sandbox without approved files.
    pub fn new(engine: Option<Engine>, access: Access) -> Sandbox {
        Sandbox { engine, access, landlock: all_of_landlock(), sealed: Vec::new() }
    }

    /// The level that this sandbox enforces.
    pub fn level(&self) -> Level {
        Level::of(self.engine.as_ref(), &self.access.net)
    }

    /// True if it has private files and processes.
    pub fn has_files(&self) -> bool {
        self.engine.is_some()
    }

    /// True if its network needs a helper process outside the sandbox: pasta, or the relay to its endpoints.
    pub fn needs_helper(&self) -> bool {
        self.has_pasta() || self.has_relay()
    }

    /// True if a relay connects it to its endpoints, because its private network is isolated.
    pub fn has_relay(&self) -> bool {
        self.has_files() && self.access.net == Net::Off && !self.access.forward.is_empty()
    }

    /// True if pasta connects it to the internet.
    pub fn has_pasta(&self) -> bool {
        matches!(self.access.net, Net::Internet | Net::Ports(_)) && has_pasta(self.engine.as_ref())
    }
}

fn has_pasta(engine: Option<&Engine>) -> bool {
    engine.is_some_and(|engine| engine.pasta.is_some())
}

/// What this machine supports, as found by tests of each feature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// The engine; `None`: no engine works here.
    pub engine: Option<Engine>,
    /// The version of Landlock in the kernel; 0: none.
    pub landlock: u8,
    /// True if a system call filter can be installed.
    pub filter: bool,
    /// True if overlays work: what is written to a read-only directory goes to another one.
    #[serde(alias = "layers")]
    pub overlays: bool,
    /// True if an installed program did not work.
    #[serde(default)]
    pub failed: bool,
    /// What is missing and why, one line each.
    pub missing: Vec<String>,
    /// How to fix what is missing.
    pub fixes: Vec<String>,
}

/// The sandbox that a kind of child gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxGrant {
    pub level: Level,
    /// True if it has private files and processes.
    pub has_files: bool,
    /// The enforced network access.
    pub net: Net,
    /// True if it can also reach the endpoint of its runner.
    pub model: bool,
}

/// The first version of Landlock that blocks signals and abstract sockets to processes outside.
pub const SCOPES: u8 = 6;
/// The first version of Landlock that can restrict TCP ports.
pub const PORTS: u8 = 4;

impl Capabilities {
    /// The best level that this machine supports.
    pub fn level(&self) -> Level {
        match (&self.engine, self.landlock) {
            (Some(_), _) => Level::Full,
            (None, 1..) => Level::Partial,
            (None, 0) => Level::None,
        }
    }

    /// Describes what this machine no longer supports; `None` if it still supports everything.
    pub fn lost_since(&self, before: &Capabilities) -> Option<String> {
        let (old, new) = (before.engine.as_ref(), self.engine.as_ref());
        let lost = match new {
            None if old.is_some() => "sandboxes no longer have a private file system",
            Some(_) if has_pasta(old) && !has_pasta(new) => {
                "sandboxes with internet access can reach this machine's own services again"
            }
            _ if before.level() > self.level() => "looop's children no longer have a sandbox",
            _ => return None,
        };
        let why =
            if self.missing.is_empty() { String::new() } else { format!(": {}", self.missing.join("; ")) };
        Some(format!("{lost}; this machine had better sandboxes before{why}"))
    }

    /// True unless an installed program failed: the result then stays valid until the machine changes.
    pub fn is_success(&self) -> bool {
        self.engine.is_some() && !self.failed
    }

    /// Decides which sandbox a kind of child gets.
    ///
    /// # Errors
    /// The config requests more than this machine supports: the error says what is missing. The child is then not run.
    pub fn grant(&self, kind: SandboxSubject, request: &SandboxRequest) -> Result<SandboxGrant, String> {
        if request.mode == SandboxMode::None {
            return Ok(SandboxGrant::default());
        }
        let engine = self.engine.as_ref().filter(|_| self.wants_files(kind, request.mode));
        if engine.is_none() && self.landlock == 0 {
            return self.grant_none(kind, request);
        }
        let asked = match &request.net {
            NetworkAccess::Auto => usual_network(kind, request.mode, has_pasta(engine)),
            asked => asked.clone(),
        };
        let net = self.net(kind, request.mode, &asked, engine)?;
        let level = Level::of(engine, &net);
        if request.mode == SandboxMode::Full && level < Level::Full {
            return Err(self.lacks_full(kind, &asked));
        }
        let model = asked == NetworkAccess::Model && level == Level::Full || net == Net::Internet;
        Ok(SandboxGrant { level, has_files: engine.is_some(), net, model })
    }

    /// Sensors run by the hundred in each beat. A private file system would cost more than most of them do.
    fn wants_files(&self, kind: SandboxSubject, mode: SandboxMode) -> bool {
        match mode {
            SandboxMode::Full => true,
            SandboxMode::Auto => kind != SandboxSubject::Sensor || self.landlock == 0,
            SandboxMode::Partial | SandboxMode::None => self.landlock == 0,
        }
    }

    fn grant_none(&self, kind: SandboxSubject, request: &SandboxRequest) -> Result<SandboxGrant, String> {
        match (request.mode, &request.net) {
            (SandboxMode::Full, _) => Err(self.lacks(kind, Level::Full)),
            (SandboxMode::Partial, _) => Err(self.lacks(kind, Level::Partial)),
            // Checks have no network by default. That default alone must not prevent a check where the network cannot
            // be isolated.
            (_, NetworkAccess::Off | NetworkAccess::Ports(_)) if kind != SandboxSubject::Verify => {
                let asked = &request.net;
                Err(format!("sandbox.network.{kind} asks for {asked}, and no sandbox here can enforce it"))
            }
            _ => Ok(SandboxGrant::default()),
        }
    }

    /// Returns the network access that can be enforced for this request.
    fn net(
        &self,
        kind: SandboxSubject,
        mode: SandboxMode,
        asked: &NetworkAccess,
        engine: Option<&Engine>,
    ) -> Result<Net, String> {
        let refused = |what: &str| Err(format!("sandbox.network.{kind} asks for {what}"));
        let may_be_open = kind == SandboxSubject::Verify && mode == SandboxMode::Auto;
        match asked {
            NetworkAccess::Internet if has_pasta(engine) => Ok(Net::Internet),
            NetworkAccess::Model if engine.is_some() => Ok(Net::Off),
            NetworkAccess::Off if engine.is_some() || self.filter => Ok(Net::Off),
            NetworkAccess::Off if !may_be_open => refused("no network, and no sandbox here can enforce that"),
            NetworkAccess::Ports(ports) if self.landlock >= PORTS && self.filter => {
                Ok(Net::Ports(ports.clone()))
            }
            NetworkAccess::Ports(_) => refused(
                "only some ports, and this kernel cannot enforce that (Landlock 4 and seccomp are needed)",
            ),
            NetworkAccess::On
            | NetworkAccess::Auto
            | NetworkAccess::Internet
            | NetworkAccess::Model
            | NetworkAccess::Off => Ok(Net::On),
        }
    }

    fn lacks(&self, kind: SandboxSubject, level: Level) -> String {
        let why =
            if self.missing.is_empty() { "it was not tested".to_owned() } else { self.missing.join("; ") };
        format!("sandbox.{kind} asks for \"{level}\", which is not available here: {why}")
    }

    fn lacks_full(&self, kind: SandboxSubject, asked: &NetworkAccess) -> String {
        let why = match asked {
            _ if self.engine.is_none() => return self.lacks(kind, Level::Full),
            NetworkAccess::On => {
                "sandbox.network is \"on\", which opens this machine's own services; ask for \"internet\", \"model\" or \"off\""
            }
            _ if self.missing.is_empty() => "`pasta` is missing",
            _ => return self.lacks(kind, Level::Full),
        };
        format!("sandbox.{kind} asks for \"full\", which is not available here: {why}")
    }
}

/// Returns the network access of a kind for which the config requests none.
fn usual_network(kind: SandboxSubject, mode: SandboxMode, has_pasta: bool) -> NetworkAccess {
    match (kind, mode) {
        // A check judges the work, so it must not receive the answer over the network.
        (SandboxSubject::Verify, _) => NetworkAccess::Off,
        (SandboxSubject::Worker | SandboxSubject::Fix, SandboxMode::Auto) if has_pasta => {
            NetworkAccess::Internet
        }
        (_, SandboxMode::Full) => NetworkAccess::Internet,
        _ => NetworkAccess::On,
    }
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
