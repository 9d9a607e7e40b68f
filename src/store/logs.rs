//! Append-only files: the journal, the machine log, and the archive of prompts and replies.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::exchange::{self, Exchanged, Fallback};
use super::file::{self, Doing, Durability};
use super::layout::Layout;
use super::lock;
use crate::rules::time::Now;

/// The journal is rotated from this size on, in bytes.
const JOURNAL_BYTES: u64 = 256 * 1024;
/// The length of the day that the name of an older part begins with.
const DAY_CHARS: usize = 10;
/// How much of its end a rotation keeps in place, in bytes: more than a prompt shows.
const JOURNAL_KEPT_BYTES: usize = 32 * 1024;
/// The machine log is rotated from this size on, in bytes; one older part is kept.
const EVENTS_BYTES: u64 = 4 << 20;
/// How long to wait for another process that rotates it, in milliseconds.
const EVENTS_WAIT_MS: i64 = 1_000;
/// How many beats the archive holds.
const RUNS_KEPT: usize = 200;
/// The longest archived file, in bytes.
const RUN_FILE_BYTES: usize = 4 << 20;

/// Appends a line to the journal, durably.
pub fn journal(layout: &Layout, line: &str) -> Result<()> {
    // The end of a worker is journaled while a beat may be rotating.
    let _held = lock::store(&layout.store_lock())?;
    file::append_line(&layout.journal(), line, Durability::Durable)
}

/// Reads the last `cap` bytes of the journal, in whole lines.
///
/// # Errors
/// When it cannot be read: an unreadable journal never counts as empty.
pub fn journal_tail(layout: &Layout, cap: usize) -> Result<String> {
    let path = layout.journal();
    file::read_tail(&path, cap).doing("read", &path)
}

/// The files of the journal, from the present one to the oldest part.
pub fn journal_parts(layout: &Layout) -> Result<Vec<PathBuf>> {
    let mut past = file::names(&layout.journal_past())?;
    // `2026-11-21.md` is older than `2026-11-21-1.md`, and that is older than `2026-11-21-10.md`.
    past.sort_by_cached_key(|name| {
        let name = name.trim_end_matches(".md");
        let (day, count) = name.split_at_checked(DAY_CHARS).unwrap_or((name, ""));
        (day.to_owned(), count.trim_start_matches('-').parse().unwrap_or(0_u32))
    });
    let past = past.iter().rev().map(|name| layout.journal_past().join(name));
    Ok(std::iter::once(layout.journal()).chain(past).collect())
}

/// Moves the older part of a long journal to `journal/`, in whole lines. Crash-safe: the older part is written first,
/// so that a crash duplicates lines but never loses one. Call it only while no move is unsettled: recovery looks for a
/// move's line in the journal itself.
pub fn rotate_journal(layout: &Layout, now: Now) -> Result<()> {
    let path = layout.journal();
    let _held = lock::store(&layout.store_lock())?;
    let long = |meta: std::fs::Metadata| meta.is_file() && meta.len() >= JOURNAL_BYTES;
    if !std::fs::symlink_metadata(&path).is_ok_and(long) {
        return Ok(());
    }
    let bytes = std::fs::read(&path).doing("read", &path)?;
    let from = bytes.len().saturating_sub(JOURNAL_KEPT_BYTES);
    let cut = bytes[from..].iter().position(|b| *b == b'\n').map_or(from, |end| from + end + 1);
    file::make_dir(&layout.journal_past())?;
    let past = free_name(layout, &now.day());
    file::write(&past, &bytes[..cut], 0o600, Durability::Durable)?;
    // If a line was added in the meantime, it stays, and a later beat rotates the journal.
    let seen = exchange::digest_of(&bytes);
    let done = exchange::write(&path, &bytes[cut..], 0o600, Some(&seen), Fallback::Steps)?;
    if done == Exchanged::Made { Ok(()) } else { file::remove(&past) }
}

fn free_name(layout: &Layout, day: &str) -> PathBuf {
    let name = |n: u32| {
        layout.journal_past().join(if n == 0 { format!("{day}.md") } else { format!("{day}-{n}.md") })
    };
    (0..10_000).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(10_000))
}

/// Appends a line with these fields, a JSON object, to the machine log. looop's own keys win over the caller's fields.
pub fn event(layout: &Layout, now: Now, name: &str, mut fields: Value) -> Result<()> {
    fields["ts_ms"] = now.unix_ms.into();
    fields["event"] = name.into();
    let path = layout.events();
    let is_long = || std::fs::metadata(&path).is_ok_and(|meta| meta.len() >= EVENTS_BYTES);
    if is_long() {
        // If several processes find the log too long, only one may move it: a second move would replace the old part.
        let _held = lock::within(&path, EVENTS_WAIT_MS)?;
        if is_long() {
            let old = path.with_extension("jsonl.1");
            std::fs::rename(&path, &old).doing("rotate", &path)?;
        }
    }
    file::append_line(&path, &fields.to_string(), Durability::Atomic)
}

/// Keeps a prompt or a reply, truncated to a few megabytes.
pub fn archive(layout: &Layout, beat: &str, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let dir = layout.runs().join(beat);
    file::make_dir(&dir)?;
    let path = dir.join(name);
    file::write(&path, &bytes[..bytes.len().min(RUN_FILE_BYTES)], 0o600, Durability::Atomic)?;
    Ok(path)
}

/// Removes the oldest archived beats beyond the limit.
pub fn prune_archive(layout: &Layout) -> Result<()> {
    // Beat ids sort by time.
    let beats = file::names(&layout.runs()).context("could not list the archive of runs")?;
    let extra = beats.len().saturating_sub(RUNS_KEPT);
    for beat in &beats[..extra] {
        let dir = layout.runs().join(beat);
        std::fs::remove_dir_all(&dir).doing("remove", &dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::tests::temporary;
    use std::fs;

    const NOW: Now = Now::fixed(1_795_218_410_413, 0);

    fn profile() -> (tempfile::TempDir, Layout) {
        let (dir, layout) = temporary();
        for name in ["journal", "runs"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        (dir, layout)
    }

    /// How many older parts of the journal there are.
    fn parts(layout: &Layout) -> usize {
        fs::read_dir(layout.journal_past()).unwrap().count()
    }

    #[test]
    fn a_line_appended_during_a_rotation_is_kept() {
        let (_dir, layout) = profile();
        let rotated = std::sync::atomic::AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut count = 0;
                while !rotated.load(std::sync::atomic::Ordering::Relaxed) {
                    journal(&layout, &format!("worker line {count}")).unwrap();
                    count += 1;
                }
                count
            });
            for _ in 0..40 {
                let human = "x".repeat(300_000) + "\n";
                file::append_line(&layout.journal(), human.trim_end(), Durability::Atomic).unwrap();
                rotate_journal(&layout, NOW).unwrap();
            }
            rotated.store(true, std::sync::atomic::Ordering::Relaxed);
            writer.join().unwrap()
        });
        let mut all = fs::read_to_string(layout.journal()).unwrap();
        for past in fs::read_dir(layout.journal_past()).unwrap() {
            all += &fs::read_to_string(past.unwrap().path()).unwrap();
        }
        let kept: std::collections::BTreeSet<&str> =
            all.lines().filter(|l| l.starts_with("worker")).collect();
        assert_eq!(kept.len(), written, "lines were lost");
    }

    #[test]
    fn a_long_journal_keeps_its_end_and_loses_no_line() {
        let (_dir, layout) = profile();
        let lines: Vec<String> =
            (0..6000).map(|n| format!("line {n} of a journal that has grown for a long time")).collect();
        fs::write(layout.journal(), lines.join("\n") + "\n").unwrap();
        rotate_journal(&layout, NOW).unwrap();
        let kept = fs::read_to_string(layout.journal()).unwrap();
        let past = fs::read_to_string(layout.journal_past().join("2026-11-20.md")).unwrap();
        assert_eq!(format!("{past}{kept}").lines().collect::<Vec<_>>(), lines);
        assert!(kept.len() > 16 * 1024 && kept.len() <= JOURNAL_KEPT_BYTES, "{}", kept.len());
        rotate_journal(&layout, NOW).unwrap();
        assert_eq!(parts(&layout), 1, "a short one is left alone");
        fs::write(layout.journal(), lines.join("\n")).unwrap();
        rotate_journal(&layout, NOW).unwrap();
        assert_eq!(parts(&layout), 2, "an older part is never written over");
        for name in ["2026-11-20-10.md", "2026-11-20-2.md", "2026-11-19.md"] {
            fs::write(layout.journal_past().join(name), "").unwrap();
        }
        let all = journal_parts(&layout).unwrap();
        let names: Vec<_> = all.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        let past = ["-20-10", "-20-2", "-20-1", "-20", "-19"].map(|end| format!("2026-11{end}.md"));
        assert_eq!(
            (names[0], names[1..].to_vec()),
            ("journal.md", past.iter().map(String::as_str).collect())
        );
    }

    #[test]
    fn the_machine_log_is_bounded_and_its_own_keys_win() {
        let (dir, layout) = profile();
        let forged = serde_json::json!({ "event": "forged", "x": 1 });
        event(&layout, NOW, "real", forged).unwrap();
        let line: Value = serde_json::from_str(fs::read_to_string(layout.events()).unwrap().trim()).unwrap();
        assert_eq!((&line["event"], &line["x"]), (&Value::from("real"), &Value::from(1)));
        fs::write(layout.events(), vec![b'\n'; EVENTS_BYTES as usize]).unwrap();
        event(&layout, NOW, "next", serde_json::json!({})).unwrap();
        assert!(fs::metadata(layout.events()).unwrap().len() < 100);
        assert!(dir.path().join("events.jsonl.1").exists());
    }

    #[test]
    fn concurrent_writers_rotate_the_machine_log_once() {
        let (dir, layout) = profile();
        let old = dir.path().join("events.jsonl.1");
        for _ in 0..30 {
            fs::write(layout.events(), vec![b'\n'; EVENTS_BYTES as usize]).unwrap();
            let begin = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        begin.wait();
                        event(&layout, NOW, "next", serde_json::json!({})).unwrap();
                    });
                }
            });
            assert!(fs::metadata(&old).unwrap().len() >= EVENTS_BYTES, "the older part is lost");
        }
    }

    #[test]
    fn the_archive_keeps_the_newest_beats() {
        let (_dir, layout) = profile();
        for n in 0..RUNS_KEPT + 3 {
            archive(&layout, &format!("b{n:05}"), "prompt.md", b"x").unwrap();
        }
        prune_archive(&layout).unwrap();
        let mut left: Vec<_> = fs::read_dir(layout.runs()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!((left.len(), left[0].to_str()), (RUNS_KEPT, Some("b00003")));
    }
}
