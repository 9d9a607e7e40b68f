//! The disk of the crash proof, and the moves that are made on it.

use super::*;

#[path = "../../tests/sim/disk.rs"]
#[allow(dead_code, reason = "the simulation has use for more of it")]
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

/// The disk of a scenario, before whose n-th operation the power goes.
pub fn new_disk(fuse: usize) -> Disk {
    let old = entry::line(NOW, "b0", &noop(), &done()) + "\n";
    let files = [(JOURNAL, old.as_str()), (LEDGER, ""), (GOAL, "old\n"), (OLD, "old\n"), (TIMER, "{}\n")];
    let mut disk = Disk::new(&files);
    disk.fuse = fuse;
    disk
}

/// Whether the files show that a move was made.
pub fn look(disk: &Disk, deed: &Deed) -> Probe {
    let found: Result<Probe, PowerLoss> = compare(deed, &mut |path| Ok(disk.read(path).map(hash)));
    found.unwrap()
}

/// Makes a move; why not, where the files are other ones.
pub fn make(disk: &mut Disk, deed: &Deed) -> Result<Option<String>, PowerLoss> {
    match look(disk, deed) {
        Probe::NotMade => {}
        Probe::Made => return Ok(None),
        other => return Ok(Some(format!("{other:?}"))),
    }
    match deed {
        Deed::Write { path, text, .. } => disk.write(path, text, true)?,
        Deed::Rename { from, to, .. } => disk.move_synced(from, to)?,
        Deed::Remove { path, .. } => disk.remove(path)?,
        other => panic!("no file tells of {other:?}"),
    }
    Ok(None)
}

/// Whether the files show the move of a scenario.
pub fn is_made(disk: &Disk, reply: Reply) -> bool {
    let here = |path: &str| disk.has(path);
    match reply {
        Reply::Write => disk.text(GOAL) == "new\n",
        Reply::Archive => here(ARCHIVED) && !here(OLD),
        Reply::Drop => !here(TIMER),
        Reply::Ask => here(QUESTION),
        Reply::RunWaits => here(APPROVAL),
        _ => false,
    }
}

/// Each disk that a power loss may leave behind: all of what was not synced is there, none, all but one operation, or
/// the last one in part.
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
