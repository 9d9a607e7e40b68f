//! Power losses: the writes of a real beat, replayed up to each point, with what was not synced by then missing or torn.
//!
//! strace tells each write, name and sync of a beat. A state that a power loss may leave has the beat's first calls, and
//! of those that no later sync has made durable: none; only the names, so that files are empty or old; the names and
//! half of the last write; or only the bytes of files whose names are gone. Names last with a sync of their directory,
//! bytes with one of their file. In each state two more beats run, as after a kill.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use super::{Scene, Stage, after::After, holds, scenes, traced};
use crate::support::tally::{Parts, Tally};
use crate::support::{profile::Profile, rows::has_strace};

const CALLS: &str = "open,openat,write,pwrite64,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,\
     fsync,fdatasync,ftruncate,fchmod,lseek,close";
/// One of so many states is tried by the daily tests, and one of so many by the gate.
const SAMPLE: usize = 128;
const GATE: usize = 32;

/// One thing that a beat does to its disk. `Go` is the byte that lets a command begin.
#[derive(Clone, Debug)]
enum Op {
    Name { path: String, file: usize },
    Dir { path: String },
    Rename { from: String, to: String },
    Remove { path: String },
    Exchange { one: String, other: String },
    Write { file: usize, at: usize, bytes: Vec<u8> },
    Cut { file: usize, length: usize },
    Mode { file: usize, mode: u32 },
    Sync { file: usize },
    SyncDir { path: String },
    Go,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Dir,
    File(usize),
}

/// The data dir as a tree in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Disk {
    names: BTreeMap<String, Node>,
    data: BTreeMap<usize, Vec<u8>>,
    modes: BTreeMap<usize, u32>,
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or("", |(dir, _)| dir).to_owned()
}

impl Disk {
    fn load(root: &Path) -> Disk {
        let mut disk = Disk::default();
        let mut dirs = vec![root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                if entry.file_type().unwrap().is_dir() {
                    disk.names.insert(name, Node::Dir);
                    dirs.push(path);
                } else {
                    let file = disk.data.len();
                    disk.names.insert(name, Node::File(file));
                    disk.data.insert(file, fs::read(&path).unwrap());
                    disk.modes.insert(file, entry.metadata().unwrap().permissions().mode());
                }
            }
        }
        disk
    }

    fn file(&self, path: &str) -> Option<usize> {
        match self.names.get(path) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    /// The files by name, whichever number each has.
    fn texts(&self) -> BTreeMap<String, Vec<u8>> {
        let text = |(name, node): (&String, &Node)| match node {
            Node::File(file) => Some((name.clone(), self.data.get(file).cloned().unwrap_or_default())),
            Node::Dir => None,
        };
        self.names.iter().filter_map(text).collect()
    }

    /// What has lost its directory is lost with it.
    fn has_place(&self, path: &str) -> bool {
        let dir = parent(path);
        dir.is_empty() || self.names.get(&dir) == Some(&Node::Dir)
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Name { path, file } if self.has_place(path) => {
                self.names.insert(path.clone(), Node::File(*file));
            }
            Op::Dir { path } if self.has_place(path) => drop(self.names.insert(path.clone(), Node::Dir)),
            Op::Rename { from, to } if self.has_place(to) => {
                let below = format!("{from}/");
                let is_moved = |name: &&String| *name == from || name.starts_with(&below);
                for name in Vec::from_iter(self.names.keys().filter(is_moved).cloned()) {
                    let node = self.names.remove(&name).unwrap();
                    self.names.insert(format!("{to}{}", &name[from.len()..]), node);
                }
            }
            Op::Remove { path } => drop(self.names.remove(path)),
            Op::Exchange { one, other } => {
                if let (Some(a), Some(b)) = (self.names.get(one).cloned(), self.names.get(other).cloned()) {
                    self.names.extend([(one.clone(), b), (other.clone(), a)]);
                }
            }
            Op::Write { file, at, bytes } => {
                let data = self.data.entry(*file).or_default();
                data.resize(data.len().max(at + bytes.len()), 0);
                data[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Op::Cut { file, length } => self.data.entry(*file).or_default().resize(*length, 0),
            Op::Mode { file, mode } => drop(self.modes.insert(*file, *mode)),
            _ => {}
        }
    }

    /// Puts the tree where a data dir was.
    fn write_out(&self, root: &Path, touched: &BTreeMap<usize, usize>) {
        fs::remove_dir_all(root).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(root).unwrap();
        mode(root, 0o700);
        for (name, node) in &self.names {
            let path = root.join(name);
            match node {
                Node::Dir => {
                    fs::create_dir(&path).unwrap();
                    mode(&path, 0o700);
                }
                Node::File(file) => {
                    fs::write(&path, self.data.get(file).map_or(&[][..], Vec::as_slice)).unwrap();
                    let at = 1_780_000_000 + touched.get(file).copied().unwrap_or(0) as u64;
                    let at = UNIX_EPOCH + Duration::from_secs(at);
                    fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
                    mode(&path, self.modes.get(file).copied().unwrap_or(0o600));
                }
            }
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|pair| u8::from_str_radix(&pair[..2], 16).unwrap()).collect()
}

/// A beat's calls, as strace told them.
struct Recorder {
    root: String,
    seen: Disk,
    /// The file behind a descriptor, where its next write goes, and whether that is always the end.
    open: BTreeMap<String, (usize, usize, bool)>,
    ops: Vec<Op>,
}

impl Recorder {
    fn record(stage: &Stage) -> (Disk, Vec<Op>) {
        let profile = &stage.profile;
        let log = profile.path("trace");
        let before = Disk::load(&profile.data());
        let args = ["-qq", "-y", "-xx", "-s", "16777216", "-o", log.to_str().unwrap(), "-e"];
        let ran = traced(profile, &["tick"], &[&args[..], &[&format!("trace={CALLS}")]].concat());
        assert!(ran.status.success(), "{ran:?}");
        let root = format!("{}/", profile.data().display());
        let mut recorder = Recorder { root, seen: before.clone(), open: BTreeMap::new(), ops: Vec::new() };
        fs::read_to_string(log).unwrap().lines().for_each(|line| recorder.line(line));
        assert_eq!(recorder.seen.texts(), Disk::load(&profile.data()).texts(), "the record tells all of it");
        (before, recorder.ops)
    }

    fn push(&mut self, op: Op) {
        self.seen.apply(&op);
        self.ops.push(op);
    }

    /// A path below the data dir, from a directory's descriptor and a name.
    fn below(&self, dir: &str, name: &str) -> Option<String> {
        let name = String::from_utf8(unhex(name)).unwrap();
        let dir = dir.split_once('<').map(|(_, path)| String::from_utf8(unhex(path)).unwrap());
        let whole = if name.starts_with('/') { name } else { format!("{}/{name}", dir.unwrap_or_default()) };
        whole.strip_prefix(&self.root).map(|path| path.trim_end_matches('/').to_owned())
    }

    fn line(&mut self, line: &str) {
        let Some((call, rest)) = line.split_once('(') else { return };
        let Some((args, result)) = rest.rsplit_once(") ") else { return };
        let result = result.trim_start_matches([' ', '=']);
        if result.starts_with('-') || result.starts_with('?') {
            return;
        }
        let args: Vec<&str> = args.split(", ").collect();
        let fd = |text: &str| text.split('<').next().unwrap().to_owned();
        let number = |text: &str| text.split(' ').next().unwrap().parse::<usize>().unwrap();
        match call {
            "openat" => self.opened(&args, result),
            // What musl calls where another C library calls the one above.
            "open" => self.opened(&[&["AT_FDCWD"], &args[..]].concat(), result),
            "write" | "pwrite64" => match self.open.get(&fd(args[0])).copied() {
                Some((file, at, appends)) => {
                    let mut bytes = unhex(args[1]);
                    let end = self.seen.data.get(&file).map_or(0, Vec::len);
                    let at = match call {
                        "pwrite64" => number(args[3]),
                        _ if appends => end,
                        _ => at,
                    };
                    bytes.truncate(number(result));
                    if call == "write" {
                        self.open.get_mut(&fd(args[0])).unwrap().1 = at + bytes.len();
                    }
                    self.push(Op::Write { file, at, bytes });
                }
                None if number(args[2]) == 1 => self.push(Op::Go),
                None => {}
            },
            "renameat2" if args[4].contains("RENAME_EXCHANGE") => {
                let both = (self.below(args[0], args[1]), self.below(args[2], args[3]));
                if let (Some(one), Some(other)) = both {
                    self.push(Op::Exchange { one, other });
                }
            }
            "rename" | "link" => self.renamed(call, "", args[0], "", args[1]),
            "renameat" | "renameat2" | "linkat" => self.renamed(call, args[0], args[1], args[2], args[3]),
            "unlink" | "rmdir" => self.named("", args[0], |path| Op::Remove { path }),
            "unlinkat" => self.named(args[0], args[1], |path| Op::Remove { path }),
            "mkdir" => self.named("", args[0], |path| Op::Dir { path }),
            "mkdirat" => self.named(args[0], args[1], |path| Op::Dir { path }),
            "fsync" | "fdatasync" => match self.open.get(&fd(args[0])) {
                Some((file, ..)) => self.push(Op::Sync { file: *file }),
                None => self.named(args[0], "", |path| Op::SyncDir { path }),
            },
            "ftruncate" => {
                if let Some((file, ..)) = self.open.get(&fd(args[0])).copied() {
                    self.push(Op::Cut { file, length: number(args[1]) });
                }
            }
            "fchmod" => {
                if let Some((file, ..)) = self.open.get(&fd(args[0])).copied() {
                    let mode = u32::from_str_radix(args[1], 8).unwrap();
                    self.push(Op::Mode { file, mode });
                }
            }
            "lseek" => {
                if let Some(open) = self.open.get_mut(&fd(args[0])) {
                    open.1 = number(result);
                }
            }
            "close" => drop(self.open.remove(&fd(args[0]))),
            other => panic!("{other}"),
        }
    }

    fn opened(&mut self, args: &[&str], result: &str) {
        let Some(path) = self.below(args[0], args[1]) else { return };
        let flags = args[2];
        let file = match self.seen.file(&path) {
            Some(file) => file,
            None if flags.contains("O_CREAT") => {
                let file = 1_000_000 + self.ops.len();
                self.push(Op::Name { path, file });
                file
            }
            // A directory.
            None => return,
        };
        if flags.contains("O_TRUNC") && self.seen.data.get(&file).is_some_and(|data| !data.is_empty()) {
            self.push(Op::Cut { file, length: 0 });
        }
        let fd = result.split('<').next().unwrap().to_owned();
        self.open.insert(fd, (file, 0, flags.contains("O_APPEND")));
    }

    fn renamed(&mut self, call: &str, from_dir: &str, from: &str, to_dir: &str, to: &str) {
        let (Some(from), Some(to)) = (self.below(from_dir, from), self.below(to_dir, to)) else { return };
        match self.seen.file(&from).filter(|_| call.starts_with("link")) {
            Some(file) => self.push(Op::Name { path: to, file }),
            None => self.push(Op::Rename { from, to }),
        }
    }

    /// A call about one name below the data dir.
    fn named(&mut self, dir: &str, name: &str, op: fn(String) -> Op) {
        if let Some(path) = self.below(dir, name) {
            self.push(op(path));
        }
    }
}

/// What a power loss leaves of calls that nothing has made durable.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Nothing,
    Names,
    Torn,
    Bytes,
}

fn state(before: &Disk, ops: &[Op], left: Left) -> Disk {
    let mut disk = before.clone();
    let synced =
        |at: usize, file: &usize| ops[at..].iter().any(|op| matches!(op, Op::Sync { file: f } if f == file));
    let kept = |at: usize, path: &str| {
        ops[at..].iter().any(|op| matches!(op, Op::SyncDir { path: dir } if *dir == parent(path)))
    };
    let (has_names, has_bytes) =
        (matches!(left, Left::Names | Left::Torn), matches!(left, Left::Bytes | Left::Torn));
    let is_pending = |(at, op): (usize, &Op)| matches!(op, Op::Write { file, .. } if !synced(at, file));
    let last = ops.iter().enumerate().rev().find(|one| is_pending(*one)).map(|(at, _)| at);
    for (at, op) in ops.iter().enumerate() {
        let lasts = match op {
            Op::Name { path, .. }
            | Op::Dir { path }
            | Op::Remove { path }
            | Op::Exchange { one: path, .. } => has_names || kept(at, path),
            Op::Rename { from, to } => has_names || (kept(at, from) && kept(at, to)),
            Op::Write { file, .. } | Op::Cut { file, .. } => has_bytes || synced(at, file),
            _ => true,
        };
        match op {
            Op::Write { file, at: from, bytes } if left == Left::Torn && Some(at) == last => {
                disk.apply(&Op::Write { file: *file, at: *from, bytes: bytes[..bytes.len() / 2].to_vec() });
            }
            op if lasts => disk.apply(op),
            _ => {}
        }
    }
    // Bytes without a name are nothing.
    let named: BTreeSet<usize> = disk.names.keys().filter_map(|name| disk.file(name)).collect();
    disk.data.retain(|file, _| named.contains(file));
    disk.modes.retain(|file, _| named.contains(file));
    disk
}

/// A state, what had happened outside of the disk by then, and its place for people.
struct Wreck {
    disk: Disk,
    /// By which call each file was last touched: what is left behind is told apart by its time.
    touched: BTreeMap<usize, usize>,
    asked: bool,
    ran: bool,
    place: String,
}

fn wrecks(before: &Disk, ops: &[Op]) -> Vec<Wreck> {
    let mut disk = before.clone();
    let mut saves_call = |op: &Op| {
        disk.apply(op);
        let text = disk.file("beat.json").and_then(|file| disk.data.get(&file)).cloned().unwrap_or_default();
        let beat: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        matches!(op, Op::Rename { to, .. } if to == "beat.json") && !beat["inflight"].is_null()
    };
    // The runner is called when that is durable.
    let saved = ops.iter().position(&mut saves_call);
    let saved =
        saved.map(|at| at + ops[at..].iter().position(|op| matches!(op, Op::SyncDir { .. })).unwrap());
    let from = saved.unwrap_or(0);
    let went = ops[from..].iter().position(|op| matches!(op, Op::Go)).map(|at| from + at);
    let (mut wrecks, mut known) = (Vec::new(), BTreeSet::new());
    let mut touched = BTreeMap::new();
    for end in 0..=ops.len() {
        if let Some(Op::Name { file, .. } | Op::Write { file, .. } | Op::Cut { file, .. }) =
            end.checked_sub(1).and_then(|at| ops.get(at))
        {
            touched.insert(*file, end);
        }
        for left in [Left::Nothing, Left::Names, Left::Torn, Left::Bytes] {
            let disk = state(before, &ops[..end], left);
            let (asked, ran) = (saved.is_some_and(|at| at < end), went.is_some_and(|at| at < end));
            if known.insert((disk.clone(), asked, ran)) {
                let place = format!("after call {end} of {}, left: {left:?}", ops.len());
                let touched = touched.clone();
                wrecks.push(Wreck { disk, touched, asked, ran, place });
            }
        }
    }
    wrecks
}

/// Lets two beats run on a wreck, and says what is wrong then.
fn problems(stage: &Stage, scene: &Scene, wreck: &Wreck) -> Vec<String> {
    stage.reset();
    let profile: &Profile = &stage.profile;
    wreck.disk.write_out(&profile.data(), &wreck.touched);
    if wreck.asked {
        fs::write(profile.path("script/replies.count"), "1").unwrap();
    }
    if wreck.ran {
        fs::write(profile.path("sink"), "ran\n").unwrap();
    }
    let (mut wrong, mut printed) = (Vec::new(), String::new());
    for args in [&["tick"][..], &["run", "keep"]] {
        let ran = profile.looop(args);
        printed.push_str(&ran.stderr);
        if ran.code != 0 || ran.stderr.contains("panicked") {
            wrong.push(format!("{args:?} exits {}: {}{}", ran.code, ran.stdout, ran.stderr));
        }
    }
    let journal = fs::read(profile.data().join("journal.md")).unwrap_or_default();
    let journal = String::from_utf8_lossy(&journal);
    let after = After { profile, journal: journal.lines().map(str::to_owned).collect() };
    wrong.extend(after.losses(!wreck.place.ends_with("Torn")).into_iter().chain((scene.check)(&after)));
    if !wrong.is_empty() {
        wrong.push(printed);
    }
    wrong
}

/// Replays a scene and tries one of `every` states.
fn replay(scene: &Scene, every: usize) -> Tally {
    let stage = Stage::set(scene);
    let (before, ops) = Recorder::record(&stage);
    let wrecks = wrecks(&before, &ops);
    let mut tally = Tally::default();
    for wreck in wrecks.iter().skip(every / 2).step_by(every) {
        tally.attempts += 1;
        let problems = problems(&stage, scene, wreck);
        let place = format!("{}: {}", scene.name, wreck.place);
        tally.violations.extend(problems.iter().map(|what| format!("{place}: {what}")));
    }
    let (states, tried, wrong) = (wrecks.len(), tally.attempts, tally.violations.len());
    println!("{}: {states} states, {tried} tried, {wrong} violations", scene.name);
    tally
}

/// The scene of this name; none where no calls can be recorded.
fn replay_of(name: &str, every: usize) -> Option<Tally> {
    let scene = scenes().into_iter().find(|scene| scene.name == name).expect("a scene of this name");
    has_strace().then(|| replay(&scene, every))
}

#[test]
#[ignore = "slow"]
fn a_beat_that_loses_power_at_some_points_is_made_whole_by_the_next() {
    holds(replay_of("write_goal", SAMPLE));
}

/// A test for each scene, and the list of their names: the moves whose effects are the beat's own.
macro_rules! scenes_that_lose_power_anywhere {
    ($($test:ident $name:literal)*) => {
        const REPLAYED: &[&str] = &[$($name),*];
        $(
            #[test]
            #[ignore = "long search"]
            fn $test() {
                holds(replayed_part($name).cloned());
            }
        )*
        mod exhaustive {
            $(
                #[test]
                #[ignore = "exhaustive"]
                fn $test() {
                    super::holds(super::replay_of($name, 1));
                }
            )*
        }
    };
}

scenes_that_lose_power_anywhere! {
    write_goal "write_goal"
    replace_goal "replace goal"
    run "run"
    archive_goal "archive_goal"
    ask "ask"
    schedule "schedule"
    approved_run "approved run"
}

/// The replay of one scene; none where no calls can be recorded.
fn replayed_part(name: &'static str) -> Option<&'static Tally> {
    static PARTS: Parts = Parts::new();
    Command::new("strace").arg("--version").output().ok()?;
    Some(PARTS.part(name, || replay_of(name, GATE).unwrap_or_default()))
}

/// The replays of all scenes together.
pub fn replayed() -> Option<Tally> {
    let mut all = Tally::default();
    for name in REPLAYED {
        all.add(replayed_part(name)?);
    }
    Some(all)
}
