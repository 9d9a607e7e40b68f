//! Crash tests: the rules of the memory over a simulated disk that can lose power between any two operations.

use std::collections::BTreeSet;
use std::io::Write as _;

use strum::IntoEnumIterator;

use super::*;

#[path = "crash_disk_tests.rs"]
mod disk;
use disk::{
    ANSWER, APPROVAL, BEAT, Disk, JOURNAL, LEDGER, PowerLoss, Reply, is_made, look, make, new_disk, plan,
    tag, wrecks,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum LoopMutant {
    ActsBeforeIntent,
    SavesBeforeJournal,
    SkipsStarted,
    RunsAgain,
    KeepsApproval,
    SkipsSync,
    ForgetsCall,
}

/// The text that the user saves.
const MINE: &str = "mine\n";

/// Why a tick stopped: a power loss, or a disk state that must never occur.
#[derive(Debug)]
enum TickStop {
    Power,
    Broken(String),
}

impl From<PowerLoss> for TickStop {
    fn from(_: PowerLoss) -> TickStop {
        TickStop::Power
    }
}

/// A machine: a disk, a clock, and the outside world, which remembers what was done to it.
#[derive(Clone, Debug)]
struct Sim {
    disk: Disk,
    now_ms: i64,
    ran: Vec<String>,
    paid: Vec<String>,
    /// What the user saves while the move is made.
    meets: Option<&'static str>,
    /// True once the user has saved it.
    met: bool,
    mutant: Option<LoopMutant>,
}

impl Sim {
    fn new(fuse: usize, mutant: Option<LoopMutant>) -> Sim {
        let mut disk = new_disk(fuse);
        disk.syncs = mutant != Some(LoopMutant::SkipsSync);
        Sim { disk, now_ms: T0, ran: vec![], paid: vec![], meets: None, met: false, mutant }
    }

    fn load(&self) -> Result<LoopState, TickStop> {
        let Some(text) = self.disk.read(BEAT) else { return Ok(LoopState::default()) };
        serde_json::from_str(text)
            .map_err(|error| TickStop::Broken(format!("beat.json: {error}: {text:.40}")))
    }

    fn save(&mut self, beat: &LoopState) -> Result<(), TickStop> {
        Ok(self.disk.write(BEAT, &serde_json::to_string(beat).unwrap(), true)?)
    }

    fn event(&mut self, mut beat: &mut LoopState, event: LoopEvent) -> Result<(), TickStop> {
        let Some(mutant) = self.mutant else {
            return drive(&mut beat, event, &mut |beat, effect| self.perform(beat, effect));
        };
        let mut queue: VecDeque<Effect> = mutate(step(beat, event), mutant).into();
        while let Some(effect) = queue.pop_front() {
            let back = self.perform(beat, effect)?;
            queue.extend(back.into_iter().flat_map(|event| mutate(step(beat, event), mutant)));
        }
        Ok(())
    }

    fn perform(&mut self, beat: &mut LoopState, effect: Effect) -> Result<Option<LoopEvent>, TickStop> {
        match effect {
            Effect::Charge(charge) => self.disk.append(LEDGER, &serde_json::to_string(&charge).unwrap())?,
            Effect::Save(next) => {
                self.save(&next)?;
                *beat = *next;
            }
            Effect::Journal(line) => self.disk.append(JOURNAL, &line)?,
            Effect::Sync(found) => self.sync(&found)?,
            Effect::Flag(ask) => self.ask(&format!("asks/{}.json", ask.id), "?")?,
            Effect::Act(intent) => {
                let outcome = self.act(beat, &intent)?;
                return Ok(Some(LoopEvent::Acted { at: NOW.at(self.now_ms), outcome }));
            }
        }
        Ok(None)
    }

    fn sync(&mut self, found: &Evidence) -> Result<(), TickStop> {
        let paths = match found {
            Evidence::Memory => vec![BEAT],
            Evidence::Charge => vec![LEDGER],
            Evidence::Line => vec![JOURNAL],
            Evidence::Change(Operation::Write { path, .. } | Operation::Remove { path, .. }) => {
                vec![path.as_str()]
            }
            Evidence::Change(Operation::Rename { from, to, .. }) => vec![to.as_str(), from.as_str()],
            Evidence::Change(_) => Vec::new(),
        };
        Ok(paths.into_iter().try_for_each(|path| self.disk.sync_found(path))?)
    }

    fn ask(&mut self, path: &str, text: &str) -> Result<(), TickStop> {
        if self.disk.has(path) { Ok(()) } else { Ok(self.disk.write(path, text, true)?) }
    }

    fn act(&mut self, beat: &mut LoopState, intent: &Intent) -> Result<MoveOutcome, TickStop> {
        if let Operation::Exec { .. } = intent.operation {
            if self.mutant != Some(LoopMutant::SkipsStarted) {
                self.event(beat, LoopEvent::Spawned(started()))?;
            }
            // The write of the byte that lets the command start.
            self.disk.point()?;
            self.ran.push(intent.beat.clone());
            return Ok(MoveOutcome::Ran { status: "exit 0".to_owned(), tail: String::new(), took_ms: 1 });
        }
        let meets = self.meets;
        let made = make(&mut self.disk, &intent.operation, &mut self.meets);
        self.met |= meets != self.meets;
        if let Some(why) = made? {
            return Ok(MoveOutcome::Refused { why });
        }
        Ok(intent.then.clone())
    }

    /// The first step of a tick: settle what an interrupted tick left.
    fn settle(&mut self, beat: &mut LoopState) -> Result<(), TickStop> {
        let at = NOW.at(self.now_ms);
        let is_taken_back = disk::settle(&mut self.disk)?;
        if let Some(call) = beat.inflight.clone() {
            let ledger = self.disk.text(LEDGER);
            let mut charges = ledger.lines().filter_map(|line| serde_json::from_str::<Charge>(line).ok());
            let known = charges.any(|charge| charge.beat == call.beat)
                || self.mutant == Some(LoopMutant::ForgetsCall);
            let charge = (!known).then(|| Box::new(unknown_charge(&call, at)));
            self.event(beat, LoopEvent::CutOff { at, charge })?;
        }
        let Some(intent) = beat.intent.clone() else { return Ok(()) };
        let journal = self.disk.text(JOURNAL).to_owned();
        let line = entry::find(&journal, &intent.beat);
        let probe = match (&intent.operation, &intent.started) {
            _ if line.is_some() => Probe::Journaled(line.unwrap_or_default().to_owned()),
            (Operation::Exec { .. }, _) if self.mutant == Some(LoopMutant::RunsAgain) => Probe::NotMade,
            (Operation::Exec { .. }, None) => Probe::Dropped("interrupted before it began".to_owned()),
            (Operation::Exec { .. }, Some(_)) => Probe::Unknown("its end was not recorded".to_owned()),
            _ if is_taken_back => Probe::Dropped(CHANGED.to_owned()),
            (Operation::Rename { from, to, content }, _)
                if disk::give_back(&mut self.disk, from, to, content)? =>
            {
                Probe::Dropped(CHANGED.to_owned())
            }
            (operation, _) => look(&self.disk, operation),
        };
        self.event(beat, LoopEvent::Unfinished { at, probe })
    }

    fn tick(&mut self, reply: Reply) -> Result<(), TickStop> {
        self.now_ms += 60_000;
        let mut beat = self.load()?;
        self.settle(&mut beat)?;
        let at = NOW.at(beat.next_ms(NOW.at(self.now_ms)));
        let id = beat_id(at.unix_ms);
        let open = |path: &str| self.disk.has(path) && !beat.closed_asks.contains(&name("ap-1"));
        let mut seen = seen(&id, at);
        seen.asks = vec![name("ap-1")];
        if open(ANSWER) {
            let (run, operation) = exec();
            let approval = approval(T0 + 24 * HOUR);
            let decided = Decided { seen, decided: run, operation, then: done(), charge: None, approval };
            return self.event(&mut beat, LoopEvent::Decided(Box::new(decided)));
        }
        // Snapshots are never synced, so losing them must do no harm.
        self.disk.write("snapshots/ci.json", &id, false)?;
        self.event(&mut beat, asking_for(Box::new(call(&id, at.unix_ms))))?;
        self.disk.point()?;
        self.paid.push(id.clone());
        let charge = charge(&id, at);
        let failure = failure(&id, at.unix_ms);
        match reply {
            Reply::Fails => {
                let failed = LoopEvent::Failed { failure, charge: Some(charge), user_files: String::new() };
                self.event(&mut beat, failed)
            }
            Reply::Cancelled => self.event(&mut beat, LoopEvent::Cancelled { charge }),
            _ => {
                self.meets = reply.meets().then_some(MINE);
                let (decided, operation, then) = plan(reply);
                let decided =
                    Decided { seen, decided, operation, then, charge: Some(charge), approval: None };
                self.event(&mut beat, LoopEvent::Decided(Box::new(decided)))
            }
        }
    }

    /// Runs the ticks of a scenario. The user approves each ask at once.
    fn play(&mut self, replies: &[Reply]) -> Result<(), TickStop> {
        for reply in replies {
            self.tick(*reply)?;
            if self.disk.has(APPROVAL) && !self.disk.has(ANSWER) {
                self.disk.place(ANSWER, "");
            }
        }
        Ok(())
    }

    /// Returns each machine that a power loss may leave, with a clock that was set back in the meantime.
    fn wrecks(&self) -> Vec<Sim> {
        let wreck = |disk| Sim { disk, now_ms: self.now_ms - 24 * HOUR, ..self.clone() };
        wrecks(&self.disk).into_iter().map(wreck).collect()
    }

    /// Returns each broken guarantee after recovery, as text.
    fn wrongs(&self, reply: Reply) -> Vec<String> {
        let mut wrongs = Vec::new();
        let mut must = |holds: bool, what: &str| wrongs.extend((!holds).then(|| what.to_owned()));
        match self.load() {
            Ok(beat) => must(beat.intent.is_none() && beat.inflight.is_none(), "something is left unsettled"),
            Err(stop) => must(false, &format!("{stop:?}")),
        }
        let journal = self.disk.text(JOURNAL);
        let entries: Vec<entry::JournalEntry> = journal.lines().filter_map(entry::parse).collect();
        let beats: BTreeSet<&str> = entries.iter().map(|entry| entry.beat.as_str()).collect();
        must(beats.len() == entries.len(), "a beat has two lines");
        must(self.ran.len() <= 1, "a command ran twice");
        for beat in &self.ran {
            let line = entries.iter().find(|entry| entry.beat == *beat);
            let has_trace = line.is_some_and(|e| e.text.contains("exit 0") || e.text.contains("unknown"));
            must(has_trace, "a command ran without a trace");
        }
        for entry in entries.iter().filter(|entry| entry.text.contains("unknown:")) {
            let flag = format!("asks/unknown-{}.json", entry.beat);
            must(self.disk.has(&flag), "an unknown outcome was not flagged");
        }
        let is_kept = self.disk.list("").any(|path| self.disk.text(path) == MINE);
        must(is_kept || !self.met, "the user's save is lost");
        let has_private = self.disk.list("").any(|path| path.contains("/.") && !path.ends_with(".part"));
        must(!has_private, "a change is left unsettled");
        if let Some(tag) = tag(reply) {
            let of_move = entries.iter().filter(|entry| entry.tag == tag);
            let notified = of_move.clone().any(|e| e.text.contains("— done") || e.text.contains("— waits"));
            must(is_made(&self.disk, reply) == notified, "the journal and the files differ");
            must(of_move.count() <= 1, "a move was made in two beats");
        }
        let charges = self.disk.text(LEDGER);
        let charged: Vec<Charge> =
            charges.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        for beat in &self.paid {
            let count = charged.iter().filter(|charge| charge.beat == *beat).count();
            must(count == 1, "a call does not have exactly one line in the ledger");
            must(self.paid.iter().filter(|other| *other == beat).count() == 1, "an id was used twice");
        }
        wrongs
    }
}

fn mutate(mut effects: Vec<Effect>, mutant: LoopMutant) -> Vec<Effect> {
    match mutant {
        LoopMutant::ActsBeforeIntent => effects.sort_by_key(|effect| !matches!(effect, Effect::Act(_))),
        LoopMutant::SavesBeforeJournal => effects.sort_by_key(|effect| matches!(effect, Effect::Journal(_))),
        LoopMutant::KeepsApproval => effects.iter_mut().for_each(|effect| match effect {
            Effect::Save(beat) if beat.intent.is_some() => beat.closed_asks.clear(),
            _ => {}
        }),
        _ => {}
    }
    effects
}

/// Cuts the power at each point of a scenario, in each way. Returns the number of crashes, and what was wrong after
/// recovery.
fn crash_everywhere(reply: Reply, mutant: Option<LoopMutant>) -> (usize, Vec<String>) {
    let (mut wrecks, mut wrongs) = (0, Vec::new());
    let script = [reply, Reply::Noop];
    for fuse in 0.. {
        let mut sim = Sim::new(fuse, mutant);
        let played = sim.play(&script);
        for (number, mut wreck) in sim.wrecks().into_iter().enumerate() {
            wrecks += 1;
            let notified = |wrong: String| format!("{reply:?}, point {fuse}, wreck {number}: {wrong}");
            match wreck.play(&[Reply::Noop; 3]) {
                Ok(()) => wrongs.extend(wreck.wrongs(reply).into_iter().map(notified)),
                Err(stop) => wrongs.push(notified(format!("{stop:?}"))),
            }
        }
        match played {
            Ok(()) if mutant.is_some() => break,
            Ok(()) => {
                assert_eq!(sim.met, reply.meets());
                let makes = !reply.meets() && (tag(reply).is_some() || reply == Reply::RunWaits);
                assert_eq!(is_made(&sim.disk, reply), makes, "{reply:?} is not what it says");
                let runs = usize::from(matches!(reply, Reply::Run | Reply::RunWaits));
                assert_eq!(sim.ran.len(), runs, "{reply:?}");
                assert_eq!(sim.wrongs(reply), Vec::<String>::new(), "{reply:?}");
                break;
            }
            Err(TickStop::Power) => {}
            Err(TickStop::Broken(what)) => {
                wrongs.push(what);
                break;
            }
        }
    }
    (wrecks, wrongs)
}

#[test]
fn no_crash_loses_a_trace_or_makes_a_move_twice() {
    let (wrecks, wrongs): (Vec<usize>, Vec<Vec<String>>) =
        Reply::iter().map(|reply| crash_everywhere(reply, None)).unzip();
    let (wrecks, wrongs) = (wrecks.iter().sum::<usize>(), wrongs.concat());
    assert!(wrongs.is_empty(), "{} of {wrecks}: {:#?}", wrongs.len(), &wrongs[..wrongs.len().min(10)]);
    assert!(wrecks > 500, "{wrecks}");
    writeln!(std::io::stderr(), "crash proof: {wrecks} wrecks, 0 wrong").unwrap();
}

#[test]
fn a_crash_during_recovery_is_recovered_from_too() {
    let mut wrecks = 0;
    for reply in [Reply::Write, Reply::Run] {
        for fuse in 0.. {
            let mut sim = Sim::new(fuse, None);
            let played = sim.play(&[reply]).is_ok();
            // The disk on which all unsynced operations are lost.
            wrecks += crash_in_recovery(&sim.wrecks()[1], reply);
            if played {
                break;
            }
        }
    }
    assert!(wrecks > 500, "{wrecks}");
    writeln!(std::io::stderr(), "crash proof: {wrecks} wrecks of recoveries, 0 wrong").unwrap();
}

fn crash_in_recovery(wreck: &Sim, reply: Reply) -> usize {
    let mut wrecks = 0;
    for fuse in 0.. {
        let mut again = wreck.clone();
        again.disk.fuse = fuse;
        let recovered = again.play(&[Reply::Noop]).is_ok();
        for mut last in again.wrecks().into_iter().take(2) {
            wrecks += 1;
            last.play(&[Reply::Noop; 3]).unwrap();
            assert_eq!(last.wrongs(reply), Vec::<String>::new(), "{reply:?}, point {fuse} of recovery");
        }
        if recovered {
            break;
        }
    }
    wrecks
}

#[test]
fn the_simulation_finds_each_broken_order() {
    let rows = [
        (LoopMutant::ActsBeforeIntent, Reply::Run),
        (LoopMutant::SavesBeforeJournal, Reply::Write),
        (LoopMutant::SkipsStarted, Reply::Run),
        (LoopMutant::RunsAgain, Reply::Run),
        (LoopMutant::KeepsApproval, Reply::RunWaits),
        (LoopMutant::SkipsSync, Reply::Noop),
        (LoopMutant::ForgetsCall, Reply::Noop),
    ];
    for (mutant, reply) in rows {
        let (wrecks, wrongs) = crash_everywhere(reply, Some(mutant));
        assert!(!wrongs.is_empty(), "{mutant:?} was not found in {wrecks} wrecks");
        let (count, first) = (wrongs.len(), &wrongs[0]);
        writeln!(std::io::stderr(), "{mutant:?}: {count} of {wrecks} wrecks wrong, as {first:?}").unwrap();
    }
}
