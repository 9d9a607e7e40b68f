//! A disk in memory for the crash proof, which can lose what was not synced, and the moves that are made on it.

use std::collections::BTreeMap;

use super::*;

pub const BEAT: &str = "beat.json";
pub const JOURNAL: &str = "journal.md";
pub const LEDGER: &str = "cost/2026-11.jsonl";
pub const GOAL: &str = "goals/g.md";
pub const OLD: &str = "goals/old.md";
pub const ARCHIVED: &str = "goals/archive/old.md";
pub const TIMER: &str = "schedules/t.json";
pub const QUESTION: &str = "asks/ask-1.json";
pub const APPROVAL: &str = "asks/ap-1.json";
pub const YES: &str = "asks/ap-1.answer.json";

/// What the decider of a scenario answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reply {
    Noop,
    Write,
    Archive,
    Drop,
    Ask,
    Run,
    RunWaits,
    Refused,
    Fails,
    Cancelled,
}

/// What the system may still hold in memory only.
#[derive(Clone, Debug)]
enum Op {
    Create {
        path: String,
        file: usize,
    },
    Append {
        file: usize,
        bytes: String,
    },
    /// Durable when all of these directories are.
    Rename {
        from: String,
        to: String,
        unsynced: Vec<String>,
    },
    Remove {
        path: String,
    },
}

#[derive(Clone, Debug, Default)]
struct Image {
    names: BTreeMap<String, usize>,
    data: BTreeMap<usize, String>,
}

impl Image {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { path, file } => drop(self.names.insert(path.clone(), *file)),
            Op::Append { file, bytes } => self.data.entry(*file).or_default().push_str(bytes),
            Op::Rename { from, to, .. } => {
                let file = self.names.remove(from);
                self.names.extend(file.map(|file| (to.clone(), file)));
            }
            Op::Remove { path } => drop(self.names.remove(path)),
        }
    }

    fn read(&self, path: &str) -> Option<String> {
        self.names.get(path).map(|file| self.data.get(file).cloned().unwrap_or_default())
    }
}

fn dir(path: &str) -> String {
    path.rsplit_once('/').map_or(".", |(dir, _)| dir).to_owned()
}

/// The power went.
#[derive(Debug)]
pub struct PowerLoss;

/// Names and bytes as they are seen, and as a power loss would leave them.
#[derive(Clone, Debug)]
pub struct Disk {
    durable: Image,
    seen: Image,
    pending: Vec<Op>,
    files: usize,
    steps: usize,
    /// After so many operations the power goes.
    pub fuse: usize,
    /// False: a file is put in its place before its bytes are durable.
    pub syncs: bool,
}

impl Disk {
    /// A disk on which some files are durable.
    pub fn new(fuse: usize) -> Disk {
        let old = entry::line(NOW, "b0", &noop(), &done()) + "\n";
        let files = [(JOURNAL, old.as_str()), (LEDGER, ""), (GOAL, "old\n"), (OLD, "old\n"), (TIMER, "{}\n")];
        let mut image = Image::default();
        for (file, (path, text)) in files.into_iter().enumerate() {
            image.apply(&Op::Create { path: path.to_owned(), file });
            image.apply(&Op::Append { file, bytes: text.to_owned() });
        }
        Disk {
            durable: image.clone(),
            seen: image,
            pending: Vec::new(),
            files: 100,
            steps: 0,
            fuse,
            syncs: true,
        }
    }

    pub fn has(&self, path: &str) -> bool {
        self.seen.names.contains_key(path)
    }

    pub fn read(&self, path: &str) -> Option<String> {
        self.seen.read(path)
    }

    /// A file that somebody else made and synced.
    pub fn place(&mut self, path: &str) {
        for image in [&mut self.durable, &mut self.seen] {
            image.names.insert(path.to_owned(), 0);
        }
    }

    /// The power may go before each operation.
    pub fn point(&mut self) -> Result<(), PowerLoss> {
        self.steps += 1;
        if self.steps > self.fuse { Err(PowerLoss) } else { Ok(()) }
    }

    fn op(&mut self, op: Op) -> Result<(), PowerLoss> {
        self.point()?;
        self.seen.apply(&op);
        self.pending.push(op);
        Ok(())
    }

    fn sync(&mut self, done: impl Fn(&mut Op) -> bool) -> Result<(), PowerLoss> {
        self.point()?;
        for mut op in std::mem::take(&mut self.pending) {
            if done(&mut op) { self.durable.apply(&op) } else { self.pending.push(op) }
        }
        Ok(())
    }

    fn sync_file(&mut self, path: &str) -> Result<(), PowerLoss> {
        let Some(&synced) = self.seen.names.get(path) else { return Ok(()) };
        self.sync(|op| matches!(op, Op::Append { file, .. } if *file == synced))
    }

    fn sync_dir(&mut self, of: &str) -> Result<(), PowerLoss> {
        let synced = dir(of);
        self.sync(|op| match op {
            Op::Append { .. } => false,
            Op::Create { path, .. } | Op::Remove { path } => dir(path) == synced,
            Op::Rename { unsynced, .. } => {
                unsynced.retain(|left| *left != synced);
                unsynced.is_empty()
            }
        })
    }

    pub fn remove(&mut self, path: &str) -> Result<(), PowerLoss> {
        self.op(Op::Remove { path: path.to_owned() })?;
        self.sync_dir(path)
    }

    /// Moves a file and makes both directories durable.
    pub fn move_synced(&mut self, from: &str, to: &str) -> Result<(), PowerLoss> {
        self.rename(from, to)?;
        self.sync_dir(to)?;
        self.sync_dir(from)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), PowerLoss> {
        let unsynced = vec![dir(from), dir(to)];
        self.op(Op::Rename { from: from.to_owned(), to: to.to_owned(), unsynced })
    }

    fn create(&mut self, path: &str, text: &str) -> Result<usize, PowerLoss> {
        self.files += 1;
        let file = self.files;
        self.op(Op::Create { path: path.to_owned(), file })?;
        self.op(Op::Append { file, bytes: text.to_owned() })?;
        Ok(file)
    }

    pub fn write(&mut self, path: &str, text: &str, durable: bool) -> Result<(), PowerLoss> {
        let temp = format!("{path}.tmp");
        self.create(&temp, text)?;
        if durable && self.syncs {
            self.sync_file(&temp)?;
        }
        self.rename(&temp, path)?;
        if durable { self.sync_dir(path) } else { Ok(()) }
    }

    pub fn append(&mut self, path: &str, line: &str) -> Result<(), PowerLoss> {
        let torn = !self.text(path).is_empty() && !self.text(path).ends_with('\n');
        let file = self.seen.names[path];
        self.op(Op::Append { file, bytes: format!("{}{line}\n", if torn { "\n" } else { "" }) })?;
        self.sync_file(path)
    }

    pub fn text(&self, path: &str) -> String {
        self.seen.read(path).unwrap_or_default()
    }

    fn hash(&self, path: &str) -> Option<Digest> {
        self.read(path).map(|text| hash(&text))
    }

    /// Whether the files show that a move was made.
    pub fn look(&self, deed: &Deed) -> Probe {
        let (made, not_made) = match deed {
            Deed::Write { path, text, replaces, .. } => {
                (self.hash(path) == Some(hash(text)), self.hash(path) == *replaces)
            }
            Deed::Rename { from, to, content } => {
                let (here, there) = (self.hash(from), self.hash(to));
                (
                    here.is_none() && there.as_ref() == Some(content),
                    here.as_ref() == Some(content) && there.is_none(),
                )
            }
            Deed::Remove { path, content } => {
                (self.hash(path).is_none(), self.hash(path).as_ref() == Some(content))
            }
            Deed::Nothing | Deed::Exec { .. } | Deed::Fleet => (false, false),
        };
        match (made, not_made) {
            (true, _) => Probe::Made,
            (false, true) => Probe::NotMade,
            (false, false) => Probe::Dropped("changed by someone else".to_owned()),
        }
    }

    /// Makes a move; why not, where the files are other ones.
    pub fn make(&mut self, deed: &Deed) -> Result<Option<String>, PowerLoss> {
        match self.look(deed) {
            Probe::NotMade => {}
            Probe::Made => return Ok(None),
            other => return Ok(Some(format!("{other:?}"))),
        }
        match deed {
            Deed::Write { path, text, .. } => self.write(path, text, true)?,
            Deed::Rename { from, to, .. } => self.move_synced(from, to)?,
            Deed::Remove { path, .. } => self.remove(path)?,
            other => panic!("no file tells of {other:?}"),
        }
        Ok(None)
    }

    /// Whether the files show the move of a scenario.
    pub fn is_made(&self, reply: Reply) -> bool {
        let here = |path: &str| self.has(path);
        match reply {
            Reply::Write => self.text(GOAL) == "new\n",
            Reply::Archive => here(ARCHIVED) && !here(OLD),
            Reply::Drop => !here(TIMER),
            Reply::Ask => here(QUESTION),
            Reply::RunWaits => here(APPROVAL),
            _ => false,
        }
    }

    /// Each disk that a power loss may leave behind: all of what was not synced is there, none, all but one
    /// operation, or the last one in part.
    pub fn wrecks(&self) -> Vec<Disk> {
        let all = &self.pending;
        let but =
            |lost: usize| all.iter().enumerate().filter(move |(n, _)| *n != lost).map(|(_, op)| op.clone());
        let mut kept: Vec<Vec<Op>> = vec![all.clone(), Vec::new()];
        kept.extend((0..all.len()).map(|lost| but(lost).collect()));
        if let Some((Op::Append { file, bytes }, before)) = all.split_last() {
            let torn = |cut: usize| bytes[..bytes.floor_char_boundary(cut)].to_owned();
            for cut in [1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                let part = Op::Append { file: *file, bytes: torn(cut) };
                kept.push(before.iter().cloned().chain([part]).collect());
            }
        }
        let wreck = |ops: Vec<Op>| {
            let mut durable = self.durable.clone();
            ops.iter().for_each(|op| durable.apply(op));
            Disk { seen: durable.clone(), durable, pending: Vec::new(), steps: 0, fuse: usize::MAX, ..*self }
        };
        kept.into_iter().map(wreck).collect()
    }
}

pub fn hash(text: &str) -> Digest {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// The tag of a scenario's move, where a file tells whether it was made.
pub fn tag(reply: Reply) -> Option<&'static str> {
    match reply {
        Reply::Write => Some("write_goal"),
        Reply::Archive => Some("archive_goal"),
        Reply::Drop => Some("drop_schedule"),
        Reply::Ask => Some("ask"),
        _ => None,
    }
}

/// What act makes of each reply.
pub fn plan(reply: Reply) -> (Move, Deed, Outcome) {
    let content = hash("old\n");
    let (run, deed) = exec();
    let waits = Outcome::Waits { ask: "ap-1".to_owned(), because: "no rule".to_owned() };
    match reply {
        Reply::Write => {
            let replaces = Some(content);
            let deed =
                Deed::Write { path: GOAL.to_owned(), text: "new\n".to_owned(), executable: false, replaces };
            (decided(json!({ "move": "write_goal", "id": "g", "body": "new" })), deed, done())
        }
        Reply::Archive => {
            let deed = Deed::Rename { from: OLD.to_owned(), to: ARCHIVED.to_owned(), content };
            (decided(json!({ "move": "archive_goal", "id": "old" })), deed, done())
        }
        Reply::Drop => {
            let deed = Deed::Remove { path: TIMER.to_owned(), content: hash("{}\n") };
            (decided(json!({ "move": "drop_schedule", "name": "t" })), deed, done())
        }
        Reply::Ask => (decided(json!({ "move": "ask", "text": "which?" })), writes(QUESTION, "{}"), done()),
        Reply::Run => (run, deed, done()),
        Reply::RunWaits => (run, writes(APPROVAL, "{}"), waits),
        Reply::Refused => (run, Deed::Nothing, Outcome::Refused { why: "no".to_owned() }),
        Reply::Noop | Reply::Fails | Reply::Cancelled => (noop(), Deed::Nothing, done()),
    }
}
