//! Pure. Boxes: how much of a sandbox each kind of child is asked to have, what there is, and what it gets.

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
    /// Landlock and a system call filter. Sockets that have a path, modes and times of files are open to it.
    Partial,
    /// A file system and processes of its own, and all of `Partial` within.
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

/// What of the network there is for a child.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Net {
    /// All of it.
    #[default]
    On,
    /// Nothing but its own loopback; under `partial` not even that.
    Off,
    /// TCP connections to these ports, and no UDP.
    Ports(Vec<u16>),
}

/// What one kind of child is asked to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boxing {
    /// How much of a sandbox.
    pub wanted: Wanted,
    /// What of the network.
    pub net: Net,
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

    /// The most that `auto` takes. Sensors run by the hundred in each beat, and a file system for each of them would
    /// cost more than most of them do.
    fn most(self) -> Level {
        if self == Kind::Sensor { Level::Partial } else { Level::Full }
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
}

impl Boxes {
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

/// How a file system of its own is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// By bubblewrap; its path.
    Bubblewrap(PathBuf),
    /// By `unshare` of util-linux; its path.
    Unshare(PathBuf),
}

impl Engine {
    /// Its name for a human.
    pub fn word(&self) -> &'static str {
        match self {
            Engine::Bubblewrap(_) => "bubblewrap",
            Engine::Unshare(_) => "unshare",
        }
    }
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
    /// What of the network there is.
    pub net: Net,
}

/// A child's box: how it is made and what is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boxed {
    /// How a file system of its own is made; none: `partial`.
    pub engine: Option<Engine>,
    /// What it may touch.
    pub walls: Walls,
    /// Files that must hold what they held when a human said yes, by path and blake3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<(String, String)>,
}

impl Boxed {
    /// A box without anything sealed.
    pub fn new(engine: Option<Engine>, walls: Walls) -> Boxed {
        Boxed { engine, walls, sealed: Vec::new() }
    }

    /// How much of a sandbox it is.
    pub fn level(&self) -> Level {
        if self.engine.is_some() { Level::Full } else { Level::Partial }
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
    /// What is missing and why, one line each.
    pub missing: Vec<String>,
    /// How what is missing can be had.
    pub fixes: Vec<String>,
}

/// The first Landlock that keeps a child from signals and abstract sockets of others.
pub const SCOPES: u8 = 6;
/// The first Landlock that knows TCP ports.
pub const PORTS: u8 = 4;

impl Powers {
    /// The most that can be had.
    pub fn level(&self) -> Level {
        match (self.landlock, self.filter, &self.engine) {
            (SCOPES.., true, Some(_)) => Level::Full,
            (1.., _, _) => Level::Partial,
            _ => Level::None,
        }
    }

    /// What a kind of child gets.
    ///
    /// # Errors
    /// More is asked for than there is: says what is missing. Nothing is run then.
    pub fn grant(&self, kind: Kind, boxing: &Boxing) -> Result<Level, String> {
        let had = self.level();
        let level = match boxing.wanted {
            Wanted::None => return Ok(Level::None),
            Wanted::Auto => had.min(kind.most()),
            Wanted::Full if had < Level::Full => return Err(self.lacks(kind, Level::Full)),
            Wanted::Full => Level::Full,
            Wanted::Partial if had < Level::Partial => return Err(self.lacks(kind, Level::Partial)),
            Wanted::Partial => Level::Partial,
        };
        let what = |what: &str| format!("sandbox.network.{} asks for {what}", kind.word());
        match &boxing.net {
            Net::On => Ok(level),
            Net::Off if level == Level::Full || self.filter => Ok(level),
            // A check is cut off by default, and that nobody asked for it must not keep it from running.
            Net::Off if kind == Kind::Verify && boxing.wanted == Wanted::Auto => Ok(level),
            Net::Off => Err(what("no network, and there is no sandbox that could keep it out")),
            Net::Ports(_) if level > Level::None && self.landlock >= PORTS && self.filter => Ok(level),
            Net::Ports(_) => Err(what("some ports alone, and this kernel cannot tell them apart")),
        }
    }

    fn lacks(&self, kind: Kind, level: Level) -> String {
        let why =
            if self.missing.is_empty() { "it was not tried".to_owned() } else { self.missing.join("; ") };
        format!("sandbox.{} asks for {:?} and it cannot be had here: {why}", kind.word(), level.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn powers(engine: bool, landlock: u8, filter: bool) -> Powers {
        let engine = engine.then(|| Engine::Bubblewrap("/usr/bin/bwrap".into()));
        let missing = vec!["no bwrap".to_owned()];
        Powers { engine, landlock, filter, missing, ..Powers::default() }
    }

    fn asks(wanted: Wanted, net: Net) -> Boxing {
        Boxing { wanted, net }
    }

    #[test]
    fn auto_takes_what_there_is_and_the_rest_fails_closed() {
        let rows = [
            (powers(true, 7, true), Level::Full),
            (powers(false, 7, true), Level::Partial),
            (powers(true, 5, true), Level::Partial),
            (powers(true, 7, false), Level::Partial),
            (powers(true, 0, true), Level::None),
        ];
        for (powers, most) in rows {
            let grant = |kind, wanted| powers.grant(kind, &asks(wanted, Net::On));
            assert_eq!(grant(Kind::Worker, Wanted::Auto), Ok(most), "{powers:?}");
            assert_eq!(grant(Kind::Sensor, Wanted::Auto), Ok(most.min(Level::Partial)), "{powers:?}");
            assert_eq!(grant(Kind::Worker, Wanted::None), Ok(Level::None));
            assert_eq!(grant(Kind::Sensor, Wanted::Full).is_ok(), most == Level::Full, "{powers:?}");
            assert_eq!(grant(Kind::Worker, Wanted::Partial).is_ok(), most >= Level::Partial, "{powers:?}");
        }
        let why = powers(false, 7, true).grant(Kind::Run, &asks(Wanted::Full, Net::On)).unwrap_err();
        assert!(why.contains("sandbox.run") && why.contains("no bwrap"), "{why}");
    }

    #[test]
    fn a_network_that_cannot_be_kept_out_keeps_the_child_from_running() {
        let ports = || Net::Ports(vec![443]);
        assert!(powers(true, 7, true).grant(Kind::Worker, &asks(Wanted::Auto, ports())).is_ok());
        assert!(powers(false, 3, true).grant(Kind::Worker, &asks(Wanted::Auto, ports())).is_err());
        assert!(powers(false, 0, true).grant(Kind::Worker, &asks(Wanted::Auto, ports())).is_err());
        assert!(powers(false, 1, false).grant(Kind::Worker, &asks(Wanted::Auto, Net::Off)).is_err());
        assert!(powers(false, 1, false).grant(Kind::Verify, &asks(Wanted::Auto, Net::Off)).is_ok());
        assert!(powers(false, 1, false).grant(Kind::Verify, &asks(Wanted::Partial, Net::Off)).is_err());
        assert!(powers(true, 7, true).grant(Kind::Sensor, &asks(Wanted::Auto, Net::Off)).is_ok());
    }
}
