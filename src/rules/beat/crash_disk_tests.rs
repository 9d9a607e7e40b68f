//! The simulated disk of the crash tests, and the moves that are made on it.

use super::*;
use crate::rules::exchange::{FileChange, FileContent, NextStep, next_step};

#[path = "../../../tests/sim/disk.rs"]
#[allow(dead_code, reason = "the simulation uses more of it")]
mod memory;
pub use memory::{Disk, Op, Trouble as PowerLoss};

pub const BEAT: &str = "beat.json";
pub const JOURNAL: &str = "journal.md";
pub const LEDGER: &str = "cost/2026-11.jsonl";
pub const GOAL: &str = "goals/g.md";
pub const OLD: &str = "goals/old.md";
pub const ARCHIVED: &str = "goals/archive/old.md";
pub const TIMER: &str = "schedules/t.json";
pub const QUESTION: &str = "asks/ask-1.json";
pub const APPROVAL: &str = "asks/ap-1.json";
pub const ANSWER: &str = "asks/ap-1.answer.json";

/// The replies of a scenario's decider.
#[derive(Clone, Copy, Debug, PartialEq, strum::EnumIter)]
pub enum Reply {
    Noop,
    Write,
    /// The user saves the goal just before it is replaced.
    WriteMeets,
    Archive,
    /// The user saves the goal just before it is archived.
    ArchiveMeets,
    Drop,
    /// The user saves the timer just before it is removed.
    DropMeets,
    Ask,
    Run,
    RunWaits,
    Refused,
    Fails,
    Cancelled,
}

impl Reply {
    /// True if the user saves the file just before.
    pub fn meets(self) -> bool {
        matches!(self, Reply::WriteMeets | Reply::ArchiveMeets | Reply::DropMeets)
    }
}

/// Creates the disk of a scenario. The power fails before its operation number `fuse`.
pub fn new_disk(fuse: usize) -> Disk {
    let old = entry::line(NOW, "b0", &noop(), &done()) + "\n";
    let files = [(JOURNAL, old.as_str()), (LEDGER, ""), (GOAL, "old\n"), (OLD, "old\n"), (TIMER, "{}\n")];
    let mut disk = Disk::new(&files);
    disk.fuse = fuse;
    disk
}

/// Checks if the files show that a move was made.
pub fn look(disk: &Disk, operation: &Operation) -> Probe {
    let found: Result<Probe, PowerLoss> = compare(operation, &mut |path| Ok(disk.read(path).map(hash)));
    found.unwrap()
}

/// The temporary name for a change of a file.
fn private_name(path: &str, change: &FileChange) -> String {
    let (dir, name) = path.rsplit_once('/').unwrap();
    let private = change.private_name(name.as_bytes()).unwrap();
    format!("{dir}/{}", str::from_utf8(&private).unwrap())
}

/// Settles each change that was begun, as a beat does at its start. Returns true if a change was undone.
pub fn settle(disk: &mut Disk) -> Result<bool, PowerLoss> {
    let all: Vec<String> = disk.list("").map(str::to_owned).collect();
    let mut is_changed = false;
    for private in all {
        let Some((dir, name)) = private.rsplit_once('/') else { continue };
        let Some((name, change)) = FileChange::parse(name.as_bytes()) else { continue };
        let path = format!("{dir}/{}", str::from_utf8(name).unwrap());
        let content = |disk: &Disk, path: &str| {
            disk.read(path).map(|text| FileContent { digest: hash(text), is_open: false })
        };
        loop {
            let (here, aside) = (content(disk, &path), content(disk, &private));
            let step = next_step(&change, here.as_ref(), aside.as_ref());
            is_changed |= !matches!(step, NextStep::Finish | NextStep::Remove);
            match step {
                NextStep::Finish => break,
                NextStep::Remove => {
                    if is_changed {
                        disk.sync_names(&path)?;
                    }
                    disk.unlink(&private)?;
                }
                NextStep::Exchange => disk.exchange(&private, &path)?,
                NextStep::Restore => disk.rename(&private, &path)?,
                NextStep::Keep => disk.rename(&private, &format!("{path}.looop-saved-1"))?,
            }
        }
        disk.sync_names(&path)?;
    }
    Ok(is_changed)
}

/// Undoes a move that also took a text of the user. Returns true if it did.
pub fn give_back(disk: &mut Disk, from: &str, to: &str, content: &Digest) -> Result<bool, PowerLoss> {
    let is_theirs = !disk.has(from) && disk.read(to).is_some_and(|text| hash(text) != *content);
    if is_theirs {
        disk.rename(to, from)?;
    }
    Ok(is_theirs)
}

/// Makes a move, or says why not if the files have changed. `met` is what the user saves just before the names change.
pub fn make(
    disk: &mut Disk,
    operation: &Operation,
    met: &mut Option<&'static str>,
) -> Result<Option<String>, PowerLoss> {
    match look(disk, operation) {
        Probe::NotMade => {}
        Probe::Made => return Ok(None),
        other => return Ok(Some(format!("{other:?}"))),
    }
    match operation {
        Operation::Write { path, text, replaces: Some(seen), .. } => {
            let change = FileChange { new: Some(hash(text)), seen: seen.clone() };
            let private = private_name(path, &change);
            disk.stage(&private, text)?;
            met.take().into_iter().for_each(|text| disk.place(path, text));
            disk.exchange(&private, path)?;
        }
        Operation::Write { path, text, .. } => disk.write(path, text, true)?,
        Operation::Rename { from, to, content } => {
            met.take().into_iter().for_each(|text| disk.place(from, text));
            disk.rename(from, to)?;
            let is_back = give_back(disk, from, to, content)?;
            disk.sync_names(to)?;
            disk.sync_names(from)?;
            return Ok(is_back.then(|| CHANGED.to_owned()));
        }
        Operation::Remove { path, content } => {
            let change = FileChange { new: None, seen: content.clone() };
            met.take().into_iter().for_each(|text| disk.place(path, text));
            disk.rename(path, &private_name(path, &change))?;
        }
        other => panic!("no file tells of {other:?}"),
    }
    Ok(settle(disk)?.then(|| CHANGED.to_owned()))
}

/// True if the files show the move of a scenario.
pub fn is_made(disk: &Disk, reply: Reply) -> bool {
    let here = |path: &str| disk.has(path);
    match reply {
        Reply::Write | Reply::WriteMeets => disk.text(GOAL) == "new\n",
        Reply::Archive | Reply::ArchiveMeets => here(ARCHIVED) && !here(OLD),
        Reply::Drop | Reply::DropMeets => !here(TIMER),
        Reply::Ask => here(QUESTION),
        Reply::RunWaits => here(APPROVAL),
        _ => false,
    }
}

/// Returns each disk that a power loss may leave: unsynced operations are all there, all lost, all there except one, or
/// the last one is partial.
pub fn wrecks(disk: &Disk) -> Vec<Disk> {
    let all = disk.pending();
    let but = |lost: usize| all.iter().enumerate().filter(move |(n, _)| *n != lost).map(|(_, op)| op.clone());
    let mut kept: Vec<Vec<Op>> = vec![all.to_vec(), Vec::new()];
    kept.extend((0..all.len()).map(|lost| but(lost).collect()));
    if let Some((Op::Append { file, bytes }, before)) = all.split_last() {
        let torn = |cut: usize| bytes[..bytes.floor_char_boundary(cut)].to_owned();
        for cut in [1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            let part = Op::Append { file: *file, bytes: torn(cut) };
            kept.push(before.iter().cloned().chain([part]).collect());
        }
    }
    kept.iter().map(|ops| disk.wreck(ops)).collect()
}

pub fn hash(text: &str) -> Digest {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// The tag of a scenario's move, if a file shows whether it was made.
pub fn tag(reply: Reply) -> Option<&'static str> {
    match reply {
        Reply::Write | Reply::WriteMeets => Some("write_goal"),
        Reply::Archive | Reply::ArchiveMeets => Some("archive_goal"),
        Reply::Drop | Reply::DropMeets => Some("drop_schedule"),
        Reply::Ask => Some("ask"),
        _ => None,
    }
}

/// Returns what `act` plans for each reply.
pub fn plan(reply: Reply) -> (Move, Operation, MoveOutcome) {
    let content = hash("old\n");
    let (run, operation) = exec();
    let waits = MoveOutcome::Waits { ask: "ap-1".to_owned(), because: "no rule".to_owned() };
    match reply {
        Reply::Write | Reply::WriteMeets => {
            let (path, text, replaces) = (GOAL.to_owned(), "new\n".to_owned(), Some(content));
            let operation = Operation::Write { path, text, executable: false, replaces };
            (decided(json!({ "move": "write_goal", "id": "g", "body": "new" })), operation, done())
        }
        Reply::Archive | Reply::ArchiveMeets => {
            let operation = Operation::Rename { from: OLD.to_owned(), to: ARCHIVED.to_owned(), content };
            (decided(json!({ "move": "archive_goal", "id": "old" })), operation, done())
        }
        Reply::Drop | Reply::DropMeets => {
            let operation = Operation::Remove { path: TIMER.to_owned(), content: hash("{}\n") };
            (decided(json!({ "move": "drop_schedule", "name": "t" })), operation, done())
        }
        Reply::Ask => (decided(json!({ "move": "ask", "text": "which?" })), writes(QUESTION, "{}"), done()),
        Reply::Run => (run, operation, done()),
        Reply::RunWaits => (run, writes(APPROVAL, "{}"), waits),
        Reply::Refused => (run, Operation::Nothing, MoveOutcome::Refused { why: "no".to_owned() }),
        Reply::Noop | Reply::Fails | Reply::Cancelled => (noop(), Operation::Nothing, done()),
    }
}
