//! Fixes as files: the ledger of each goal.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::file::{self, Doing, Durability};
use super::json_file::{json_line, read_json};
use super::layout::{FixDir, Layout};
use super::lock;
use crate::rules::fault::Fault;
use crate::rules::fix::FixSession;
use crate::rules::fix::attempt::LedgerLine;
use crate::rules::name::Name;

/// The longest ledger that is read, in bytes.
const MAX_LEDGER_BYTES: usize = 64 << 20;

/// Reads the ledger of a goal, oldest line first. Skips a last line that a crash tore.
///
/// # Errors
/// When it cannot be read, or a line in it is corrupt: the rules need the whole ledger.
pub fn ledger(dir: &FixDir, goal: &Name) -> Result<Vec<LedgerLine>> {
    let path = dir.ledger(goal);
    let shown = path.display();
    let text = read(&path)?;
    let count = text.lines().count();
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_str(line) {
            Ok(line) => lines.push(line),
            Err(_) if at + 1 == count && !text.ends_with('\n') => {}
            Err(error) => {
                let fault = Fault::failed(format!("could not read `{shown}`, line {}: {error}", at + 1));
                return Err(fault
                    .hint("repair the line or move the file away; the attempts stay in git")
                    .into());
            }
        }
    }
    Ok(lines)
}

/// Appends a line to the ledger of a goal, durably.
pub fn append(dir: &FixDir, goal: &Name, line: &LedgerLine) -> Result<()> {
    file::make_dir(&dir.ledgers())?;
    let path = dir.ledger(goal);
    cut_torn(&path)?;
    file::append_line(&path, &json_line(line)?, Durability::Durable)
}

/// Removes a torn last line: a line appended to it would be corrupt and in the middle of the file.
fn cut_torn(path: &Path) -> Result<()> {
    let text = read(path)?;
    if text.is_empty() || text.ends_with('\n') {
        return Ok(());
    }
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    file::write(path, &text.as_bytes()[..whole], 0o600, Durability::Durable)
}

fn read(path: &Path) -> Result<String> {
    Ok(file::read_text(path, MAX_LEDGER_BYTES).doing("read", path)?.unwrap_or_default())
}

/// Lists all goals that have a ledger, with the directory of each.
pub fn goals(layout: &Layout) -> Result<Vec<(FixDir, Name)>> {
    let mut all = Vec::new();
    for dir in file::names(&layout.fixes())? {
        let dir = FixDir(layout.fixes().join(dir));
        if !dir.path().is_dir() {
            continue;
        }
        for file in file::names(&dir.ledgers())? {
            let goal = file.strip_suffix(".jsonl").and_then(|name| Name::parse(name).ok());
            all.extend(goal.map(|goal| (dir.clone(), goal)));
        }
    }
    Ok(all)
}

/// Lists the fixes that run, with the process of each.
pub fn running(layout: &Layout) -> Result<Vec<(u32, FixSession)>> {
    let mut all = Vec::new();
    for name in file::names(&layout.fixes())? {
        let dir = FixDir(layout.fixes().join(name));
        if let Some(pid) = lock::holder(&dir.lock()) {
            all.extend(read_json::<FixSession>(&dir.run())?.map(|session| (pid, session)));
        }
    }
    Ok(all)
}

/// Lists the locks of all fixes; processes that a fix started descend from the holder of one.
pub fn locks(layout: &Layout) -> Vec<PathBuf> {
    let names = file::names(&layout.fixes()).unwrap_or_default().into_iter();
    let locks = names.map(|name| FixDir(layout.fixes().join(name)).lock());
    locks.filter(|lock| lock.is_file()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fix::attempt::Rollback;

    #[test]
    fn a_torn_last_line_is_skipped_and_a_corrupt_line_is_an_error() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = FixDir(tmp.path().to_owned());
        let goal: Name = "g".parse().unwrap();
        let line = |after| LedgerLine::Rollback(Rollback { at_ms: 1, after });
        append(&dir, &goal, &line(1)).unwrap();
        let whole = std::fs::read_to_string(dir.ledger(&goal)).unwrap();
        std::fs::write(dir.ledger(&goal), format!("{whole}{{\"rollb")).unwrap();
        assert_eq!(ledger(&dir, &goal).unwrap(), [line(1)]);
        append(&dir, &goal, &line(2)).unwrap();
        assert_eq!(ledger(&dir, &goal).unwrap(), [line(1), line(2)]);
        let layout = Layout::new(tmp.path().to_owned(), tmp.path().to_owned());
        let found = FixDir(layout.fixes().join("a-fix"));
        append(&found, &goal, &line(1)).unwrap();
        std::fs::write(layout.fixes().join("leaner"), "pi\n").unwrap();
        assert_eq!(goals(&layout).unwrap(), [(found, goal.clone())]);
        std::fs::write(dir.ledger(&goal), format!("nonsense\n{whole}")).unwrap();
        assert!(format!("{:#}", ledger(&dir, &goal).unwrap_err()).contains("line 1"));
    }
}
