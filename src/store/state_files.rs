//! looop's own records as typed files: the memory, asks and answers, timers, the pause.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;

use super::file::{self, Durability};
use super::json_file::{Parsed, json_text, parse, read_json, write_json};
use super::layout::{self, Layout};
use super::{logs, user_files, workers};
use crate::rules::beat::ask::{AnswerFile, AskReply, Asks, QuestionFile};
use crate::rules::beat::entry;
use crate::rules::beat::failing::Class;
use crate::rules::beat::observed::Paused;
use crate::rules::beat::schedule::Schedule;
use crate::rules::beat::state::{Failure, LoopState};
use crate::rules::beat::step::{self, Effect, Evidence, LoopEvent};
use crate::rules::fault::Fault;
use crate::rules::name::Name;
use crate::rules::time::{Now, beat_id};

/// The memory of the loop with its file. Only an event changes it, and the file first, so the two are always equal.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    state: LoopState,
}

impl StateFile {
    /// Reads the memory; the caller holds the tick's lock. If it is absent and no beat has ever run, writes a new one.
    /// If it is lost, starts a halted one (see `start_over`) and returns why as the second value; a corrupt file is
    /// quarantined.
    ///
    /// # Errors
    /// When it cannot be read, or cannot be quarantined: then no decision is made.
    pub fn load(layout: &Layout, now: Now) -> Result<(StateFile, Option<String>)> {
        let mut file = StateFile { path: layout.beat(), state: LoopState::default() };
        let lost = match parse_beat(&file.path)? {
            Parsed::Good(state) => return Ok((StateFile { state, ..file }, None)),
            Parsed::Absent if !has_history(layout) => {
                // Before the first beat leaves any other trace, so that a beat killed then has lost nothing.
                file.apply(LoopEvent::Began(Box::default()))?;
                return Ok((file, None));
            }
            Parsed::Absent => GONE.to_owned(),
            Parsed::Corrupt(why) => {
                let aside = file::copy_aside(&file.path, now.unix_ms)?;
                format!("`beat.json` was corrupt ({why}); it is kept as `{}`", aside.display())
            }
        };
        let mut fresh = start_over(layout, lost)?;
        fresh.failure = Some(Failure {
            beat: beat_id(now.unix_ms),
            at_ms: now.unix_ms,
            class: Class::Lost,
            retry_at_ms: None,
            clean: true,
            why: "the memory was lost: a move may have been made, in part or in full, without a line in the \
                  journal"
                .to_owned(),
        });
        file.apply(LoopEvent::Began(Box::new(fresh)))?;
        let notified = file.halted.clone();
        Ok((file, notified))
    }

    /// Processes an event completely: replaces the file for each save, and performs the other effects by `perform`.
    ///
    /// # Errors
    /// The first effect that failed; the memory then equals the last save.
    pub fn drive(
        &mut self,
        event: LoopEvent,
        perform: &mut dyn FnMut(&mut StateFile, Effect) -> Result<Option<LoopEvent>>,
    ) -> Result<()> {
        step::drive(self, event, &mut |file, effect| match effect {
            Effect::Save(next) => {
                write_json(&file.path, next.as_ref(), Durability::Durable)?;
                file.state = *next;
                Ok(None)
            }
            Effect::Sync(Evidence::Memory) => file::sync(&file.path).map(|()| None),
            effect => perform(file, effect),
        })
    }

    /// Processes an event that changes only the memory.
    ///
    /// # Errors
    /// The file cannot be replaced, or the event has another effect.
    pub fn apply(&mut self, event: LoopEvent) -> Result<()> {
        self.drive(event, &mut |_, effect| bail!("could not perform {effect:?} here"))
    }
}

impl Deref for StateFile {
    type Target = LoopState;

    fn deref(&self) -> &LoopState {
        &self.state
    }
}

fn parse_beat(path: &Path) -> Result<Parsed<LoopState>> {
    Ok(match parse::<LoopState>(path)? {
        Parsed::Good(beat) => beat.problem().map_or(Parsed::Good(beat), Parsed::Corrupt),
        other => other,
    })
}

/// How much of the journal's end is searched for a beat's line, in bytes.
const JOURNAL_BYTES: usize = 512 * 1024;
const GONE: &str = "`beat.json` is gone";

/// Returns true if a beat ever decided in this data dir: each leaves a journal line, a run or an answered approval.
/// Lines and answers of workers that the user started do not count.
fn has_history(layout: &Layout) -> bool {
    let names = |dir: PathBuf| file::names(&dir).unwrap_or_default().into_iter();
    let has_approval = |dir| names(dir).any(|name| name.starts_with("ap-") && name.ends_with(".answer.json"));
    // An unreadable journal may have a beat's line.
    let journal = logs::journal_tail(layout, JOURNAL_BYTES);
    journal.map_or(true, |text| text.lines().any(|line| entry::parse(line).is_some()))
        // `looop doctor` archives its own prompt beside those of beats.
        || names(layout.runs()).any(|run| run != "doctor" && layout.runs().join(run).is_dir())
        || has_approval(layout.asks())
        || has_approval(layout.asks().join("archive"))
}

/// Builds the memory after a loss. It is unknown which approvals were used, which goals were written after untrusted
/// content was read, and what was in progress: so no move is made until the user has checked.
fn start_over(layout: &Layout, lost: String) -> Result<LoopState> {
    let is_approval = |answer: &AnswerFile| matches!(answer.reply, AskReply::Approve { .. });
    let approved =
        asks(layout)?.0.into_values().filter(|(_, answer)| answer.as_ref().is_some_and(is_approval));
    let used: BTreeMap<_, _> =
        approved.map(|(ask, _)| (ask.id, ask.expires_ms.unwrap_or(i64::MAX))).collect();
    let goals: Vec<_> = user_files::goals(layout)?.0.into_values().map(|goal| goal.digest()).collect();
    let names: Vec<&str> = used.keys().map(Name::as_str).collect();
    let void = match names.is_empty() {
        true => String::new(),
        false => format!("; each earlier approval counts as used: {}", names.join(", ")),
    };
    Ok(LoopState {
        halted: Some(format!(
            "{lost}; a move may have been interrupted{void}; each goal counts as untrusted until you edit it"
        )),
        closed_asks: used.keys().cloned().collect(),
        used,
        untrusted_goals: goals.clone(),
        written_goals: goals,
        ..LoopState::default()
    })
}

/// Reads the memory without ever writing, for commands that only read.
pub fn peek_beat(layout: &Layout) -> Result<LoopState> {
    match parse_beat(&layout.beat())? {
        Parsed::Absent if has_history(layout) => start_over(layout, GONE.to_owned()),
        Parsed::Absent => Ok(LoopState::default()),
        Parsed::Good(beat) => Ok(beat),
        Parsed::Corrupt(why) => {
            let fault = Fault::failed(format!("could not read `{}`: {why}", layout.beat().display()));
            Err(fault.hint("the next beat quarantines it and halts; then run `looop resume`").into())
        }
    }
}

/// Returns true if the user has confirmed the first pulse of this data dir.
pub fn is_pulse_confirmed(layout: &Layout) -> bool {
    layout.pulse().exists()
}

/// Records that the user has confirmed the first pulse.
pub fn confirm_pulse(layout: &Layout, now: Now) -> Result<()> {
    write_json(&layout.pulse(), &json!({ "at_ms": now.unix_ms }), Durability::Durable)
}

/// Notes that a pulse runs, so that its death can be told from its end.
pub fn begin_pulse(layout: &Layout, now: Now) -> Result<()> {
    file::make_dir(layout.cache())?;
    file::write(&layout.pulse_run(), format!("{}\n", now.unix_ms).as_bytes(), 0o600, Durability::Atomic)
}

/// Notes that the pulse ended as it was told to.
pub fn end_pulse(layout: &Layout) -> Result<()> {
    file::remove(&layout.pulse_run())
}

/// Returns when the pulse began that runs or that died, in milliseconds since the Unix epoch. `None` if there is none, or
/// if the cache was lost.
pub fn pulse_run(layout: &Layout) -> Option<i64> {
    file::read_text(&layout.pulse_run(), 64).ok().flatten()?.trim().parse().ok()
}

/// Writes a question under the first of these ids that is free, and returns that id.
///
/// # Errors
/// When it cannot be written, or none of the ids is free.
pub fn create_question(
    layout: &Layout,
    ids: impl Iterator<Item = Name>,
    question: impl Fn(Name) -> QuestionFile,
) -> Result<Name> {
    for id in ids {
        let text = json_text(&question(id.clone()))?;
        if file::create(&layout.file(&layout::ask_path(&id)), text.as_bytes(), 0o600)? {
            return Ok(id);
        }
    }
    bail!("could not find a free id for the question")
}

/// Lists all asks that are not archived, and a line for each unreadable file.
pub fn asks(layout: &Layout) -> Result<(Asks, Vec<String>)> {
    let mut asks = BTreeMap::new();
    let mut problems = Vec::new();
    for name in json_names(&layout.asks())? {
        let Ok(id) = Name::parse(&name) else { continue };
        if name.ends_with(".answer") {
            continue;
        }
        let answer = parse::<AnswerFile>(&layout.asks().join(format!("{name}.answer.json")));
        match (parse::<QuestionFile>(&layout.file(&layout::ask_path(&id))), answer) {
            (Ok(Parsed::Good(ask)), Ok(Parsed::Good(answer)))
                if ask.id == id && answer.ask == id && answer.fits(&ask) =>
            {
                asks.insert(id, (ask, Some(answer)));
            }
            // An unreadable answer does not count: the user is asked again.
            (Ok(Parsed::Good(ask)), Ok(answer @ (Parsed::Absent | Parsed::Corrupt(_)))) if ask.id == id => {
                if let Parsed::Corrupt(why) = answer {
                    problems.push(format!("asks/{name}.answer.json is not used: {why}"));
                }
                // If that cannot be found out, the ask stays open.
                let stranded = is_stranded(layout, &ask).unwrap_or(false);
                let reply = stranded.then_some(AskReply::Stranded);
                let answer = reply.map(|reply| AnswerFile { ask: id.clone(), at_ms: ask.created_ms, reply });
                asks.insert(id, (ask, answer));
            }
            (Ok(Parsed::Absent), _) => {}
            _ => problems.push(format!("asks/{name}.json or its answer is corrupt and not used")),
        }
    }
    Ok((asks, problems))
}

/// Reads one ask that is not archived; `None` if there is none.
pub fn ask(layout: &Layout, id: &Name) -> Result<Option<QuestionFile>> {
    read_json(&layout.file(&layout::ask_path(id)))
}

/// Quarantines an unreadable answer, so that a new one can be written. The caller holds the store's lock.
///
/// # Errors
/// When it cannot be read at all, or cannot be moved.
pub fn set_answer_aside(layout: &Layout, id: &Name, now: Now) -> Result<()> {
    let path = layout.asks().join(format!("{id}.answer.json"));
    if let Parsed::Corrupt(_) = parse::<AnswerFile>(&path)? {
        file::copy_aside(&path, now.unix_ms)?;
        file::remove(&path)?;
    }
    Ok(())
}

/// Reads the answer to an ask, archived or not; `None` if there is none.
pub fn answer(layout: &Layout, id: &Name) -> Result<Option<AnswerFile>> {
    let here = read_json(&layout.asks().join(format!("{id}.answer.json")))?;
    // An answer is archived before its ask, so if the ask is here, the archive need not be searched.
    if here.is_some() || ask(layout, id)?.is_some() {
        return Ok(here);
    }
    let archive = layout.asks().join("archive");
    for name in json_names(&archive)? {
        let is_its = name.strip_prefix(id.as_str()).is_some_and(|rest| rest.starts_with('-'));
        if is_its
            && name.ends_with(".answer")
            && let Some(answer) = read_json::<AnswerFile>(&archive.join(format!("{name}.json")))?
            && answer.ask == *id
        {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// Returns true for a question whose worker has ended, so that the answer would have no reader.
///
/// # Errors
/// When that cannot be found out; an error never counts as an end.
pub fn is_stranded(layout: &Layout, ask: &QuestionFile) -> Result<bool> {
    let Some(id) = &ask.worker else { return Ok(false) };
    let Some(worker) = workers::load(layout, id)? else { return Ok(true) };
    // A later worker of the same name did not ask this.
    let is_another = worker.state.ask.as_ref() != Some(&ask.id) && worker.spec.created_ms > ask.created_ms;
    Ok(worker.state.phase.is_over() || is_another)
}

/// Lists all timers, and a line for each unreadable file.
pub fn schedules(layout: &Layout) -> Result<(BTreeMap<Name, Schedule>, Vec<String>)> {
    let mut schedules = BTreeMap::new();
    let mut problems = Vec::new();
    for name in json_names(&layout.schedules())? {
        match (Name::parse_new(&name), parse::<Schedule>(&layout.schedules().join(format!("{name}.json")))) {
            (Ok(id), Ok(Parsed::Good(schedule))) => match schedule.when.check() {
                Ok(()) => drop(schedules.insert(id, schedule)),
                Err(why) => problems.push(format!("schedules/{id}.json is not used: {why}")),
            },
            (Ok(_), Ok(Parsed::Absent)) => {}
            _ => problems.push(format!("schedules/{}.json is corrupt and not used", name.escape_debug())),
        }
    }
    Ok((schedules, problems))
}

/// Returns the pause if the user has paused the loop. An unreadable record counts as a pause.
///
/// # Errors
/// When the system refuses to say.
pub fn paused(layout: &Layout) -> Result<Option<Paused>> {
    match parse::<Paused>(&layout.paused())? {
        Parsed::Absent => Ok(None),
        Parsed::Good(paused) => Ok(Some(paused)),
        Parsed::Corrupt(why) => {
            Ok(Some(Paused { since_ms: 0, why: format!("`paused.json` is corrupt: {why}") }))
        }
    }
}

/// Lists the names before `.json` in a directory, sorted; leaves out hidden files.
pub(super) fn json_names(dir: &Path) -> Result<Vec<String>> {
    let files = file::names(dir)?.into_iter().filter(|name| !name.starts_with('.'));
    let mut names: Vec<String> =
        files.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::tests::temporary;
    use std::fs;

    const NOW: Now = Now::fixed(1_795_218_410_413, 0);

    #[test]
    fn the_memory_equals_its_file_also_after_a_failed_save() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        fs::create_dir(&root).unwrap();
        let layout = Layout::new(root.clone(), dir.path().join("cache"));
        let (mut state, lost) = StateFile::load(&layout, NOW).unwrap();
        assert_eq!((lost, peek_beat(&layout).unwrap()), (None, state.clone()));
        let began = |why: &str| {
            let halted = Some(why.to_owned());
            LoopEvent::Began(Box::new(LoopState { halted, ..LoopState::default() }))
        };
        state.apply(began("one")).unwrap();
        assert_eq!((state.halted.as_deref(), peek_beat(&layout).unwrap()), (Some("one"), state.clone()));
        fs::rename(&root, dir.path().join("away")).unwrap();
        assert!(state.apply(began("two")).is_err());
        fs::rename(dir.path().join("away"), &root).unwrap();
        assert_eq!((state.halted.as_deref(), peek_beat(&layout).unwrap()), (Some("one"), state.clone()));
        state.apply(LoopEvent::Resumed).unwrap();
        assert_eq!(peek_beat(&layout).unwrap(), LoopState::default());
    }

    #[test]
    fn an_effect_without_a_performer_is_an_error() {
        let (_dir, layout) = temporary();
        let mut state = StateFile::load(&layout, NOW).unwrap().0;
        let ask: QuestionFile = serde_json::from_value(serde_json::json!({
            "id": "budget-day", "kind": "question", "text": "Raise it?", "beat": "b", "created_ms": 0,
        }))
        .unwrap();
        let event = LoopEvent::OutOfBudget { notice: "day".to_owned(), ask: Box::new(ask) };
        assert!(state.apply(event).is_err());
        assert_eq!(peek_beat(&layout).unwrap().budget_notice, None, "it is not remembered as done");
    }
}
