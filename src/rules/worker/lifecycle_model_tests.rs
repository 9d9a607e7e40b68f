//! Tests the life of a worker over every order of events: ends of its processes, requests to end it, lost leases,
//! processes that do not start, reports that come twice, and a supervisor that dies between two effects.
//!
//! The rule is the product's own code. Each mutant changes the input or the output of the rule, and the search must find
//! each of them.

#![allow(clippy::disallowed_macros, reason = "the size of a search is worth a line")]

use stateright::{Checker, Expectation, Model, Property};
use strum::IntoEnumIterator;

use super::*;
use crate::rules::search_tests::broken_by;

/// How many stages may still follow a request to end: the end of its processes, the search of its clone, and the end of
/// the processes of that.
const MAX_AFTER_REQUEST: u8 = 4;

/// What no step may break.
const ENDS_ONCE: &str = "a worker ends once, and nothing is done after it";
const ENDS_CLEAN: &str = "a worker that has ended holds nothing and runs nothing";
const ONE_PROCESS: &str = "a process is started only if none of another stage runs";
const NO_WORK: &str = "no work is started after a request to end";
const ONE_CHECK: &str = "a check runs once at most, and only for finished work";
const FETCH: &str = "a branch is fetched only after all checks passed";
const LEASES: &str = "the leases are released only at the end";
const COUNTS: &str = "only finished work counts";
const COUNTED: &str = "finished work counts";

#[derive(Clone, Copy, Debug, PartialEq, strum::EnumIter)]
enum LifeMutant {
    ChecksBesideTheProgram,
    ChecksAfterFailure,
    RepeatsTheCheck,
    IgnoresAFailedCheck,
    WorksOnAfterTheRequest,
    IgnoresTheRequestInAStage,
    SearchesForever,
    LateExitCounts,
    ReleasesAtTheRequest,
    NeverReleases,
    WritesTheEndFirst,
    IgnoresTheFence,
    EndsAgain,
    GoesOnBesideItsProcesses,
    GoesOnAfterTheRequest,
}

/// A worker with what its supervisor did for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct LifeWorld {
    life: WorkerLife,
    /// The effects that are not yet performed.
    queue: Vec<WorkerEffect>,
    /// True while its program runs, while a check, a fetch or a search runs, and while a process that one of them left
    /// behind runs.
    program: bool,
    tool: bool,
    left: bool,
    /// True if the supervisor ends all processes.
    ends: bool,
    holds: bool,
    crashed: bool,
    /// True if its work was finished by a program that succeeded or reported so.
    finished: bool,
    checks_begun: Vec<usize>,
    checks_passed: usize,
    /// True if a check, the fetch or their start failed.
    failed: bool,
    requested: bool,
    after_request: u8,
    lost: bool,
    outcome: Option<Phase>,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum LifeAction {
    /// Performs the next effect; if false, its process does not start or its lease is lost.
    Perform(bool),
    Crash,
    /// The next supervisor or beat finds a worker whose supervisor is gone.
    Recover,
    Begin(bool),
    /// A usage limit keeps the program from starting, ends it, or ends itself.
    Limit,
    LimitEnds,
    ProgramExits(i32),
    /// A second report of the end of the program.
    ProgramExitsAgain,
    CallDone,
    ToolEnds(bool),
    Gone,
    Kill,
    Expire,
    LoseLease,
}

impl LifeWorld {
    /// Notes the first rule that a step breaks.
    fn breaks(&mut self, rule: &'static str) {
        self.broken.get_or_insert(rule);
    }

    fn idles(&self) -> bool {
        self.queue.is_empty() && !self.crashed
    }
}

struct Lives {
    checks: usize,
    has_clone: bool,
    mutant: Option<LifeMutant>,
}

impl Lives {
    fn has(&self, mutant: LifeMutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The rule under test.
    fn next(&self, mut life: WorkerLife, mut event: WorkerEvent) -> (WorkerLife, Vec<WorkerEffect>) {
        let (stage, passed) = (life.stage, life.passed);
        let is_request = matches!(event, WorkerEvent::EndRequested(_));
        match &mut event {
            WorkerEvent::EndRequested(_)
                if self.has(LifeMutant::IgnoresTheRequestInAStage)
                    && matches!(stage, Stage::Checking(_) | Stage::Fetching) =>
            {
                return (life, Vec::new());
            }
            WorkerEvent::EndRequested(_) if self.has(LifeMutant::EndsAgain) && stage == Stage::Ended => {
                life.stage = Stage::Closing;
                return (life, vec![WorkerEffect::ReadFence]);
            }
            WorkerEvent::ProgramEnded(exit, _) if self.has(LifeMutant::ChecksAfterFailure) => {
                *exit = WorkerExit::Code(0);
            }
            WorkerEvent::ProgramEnded(exit, _)
                if self.has(LifeMutant::LateExitCounts) && stage == Stage::Ending =>
            {
                life.exit = Some(*exit);
            }
            WorkerEvent::TaskEnded(result) if self.has(LifeMutant::IgnoresAFailedCheck) => *result = Ok(()),
            WorkerEvent::FenceRead(lost) if self.has(LifeMutant::IgnoresTheFence) => *lost = None,
            _ => {}
        }
        let goes_on = event == WorkerEvent::LimitEnded
            && (self.has(LifeMutant::GoesOnBesideItsProcesses) && stage == Stage::Ending
                || self.has(LifeMutant::GoesOnAfterTheRequest) && stage == Stage::Searching);
        let (mut life, mut effects) = next(life, event);
        if goes_on {
            (life.stage, effects) = (Stage::Running, vec![WorkerEffect::StartCommand]);
        }
        if self.has(LifeMutant::ChecksBesideTheProgram) && stage == Stage::Running && !is_request {
            (life.stage, effects) = (Stage::Checking(0), vec![WorkerEffect::StartCheck(0)]);
        }
        if self.has(LifeMutant::RepeatsTheCheck) && passed > 0 {
            life.passed = passed - 1;
        }
        if self.has(LifeMutant::WorksOnAfterTheRequest) && is_request && stage == Stage::Ending {
            life.decided = None;
        }
        if self.has(LifeMutant::SearchesForever) && stage == Stage::Searching {
            life.searched = false;
        }
        if self.has(LifeMutant::ReleasesAtTheRequest) && is_request && !effects.is_empty() {
            effects.insert(0, WorkerEffect::ReleaseLeases);
        }
        if self.has(LifeMutant::NeverReleases) {
            effects.retain(|effect| *effect != WorkerEffect::ReleaseLeases);
        }
        if self.has(LifeMutant::WritesTheEndFirst) {
            effects.reverse();
        }
        (life, effects)
    }

    fn happen(&self, world: &mut LifeWorld, event: WorkerEvent) {
        let (life, effects) = self.next(world.life.clone(), event);
        world.life = life;
        world.queue.splice(0..0, effects);
    }

    fn request(&self, world: &mut LifeWorld, cause: EndCause) {
        world.requested |= world.life.stage != Stage::Ended;
        self.happen(world, WorkerEvent::EndRequested(cause));
    }

    fn check_start(&self, world: &mut LifeWorld, is_work: bool) {
        if world.program || world.tool || world.left {
            world.breaks(ONE_PROCESS);
        }
        if is_work && world.requested {
            world.breaks(NO_WORK);
        }
    }

    /// The command is started after a usage limit.
    fn start_program(&self, world: &mut LifeWorld, starts: bool) {
        self.check_start(world, true);
        match starts {
            true => (world.program, world.left, world.ends) = (true, true, false),
            false => self.happen(world, WorkerEvent::NotStarted("missing".to_owned())),
        }
    }

    /// A process is started: one at a time, and only for a worker that was not asked to end.
    fn start(&self, world: &mut LifeWorld, starts: bool, is_work: bool) {
        self.check_start(world, is_work);
        match starts {
            true => (world.tool, world.left, world.ends) = (true, true, false),
            false => {
                world.failed |= is_work;
                self.happen(world, WorkerEvent::NotStarted("missing".to_owned()));
            }
        }
    }

    fn perform(&self, world: &mut LifeWorld, works: bool) -> Option<()> {
        if world.queue.is_empty() {
            return None;
        }
        let effect = world.queue.remove(0);
        if world.outcome.is_some() {
            world.breaks(ENDS_ONCE);
        }
        let starts = matches!(
            effect,
            WorkerEffect::StartCommand
                | WorkerEffect::StartCheck(_)
                | WorkerEffect::StartFetch
                | WorkerEffect::StartSearch
        );
        if !works && !starts && effect != WorkerEffect::ReadFence {
            return None;
        }
        match effect {
            WorkerEffect::Enter(_) | WorkerEffect::Withdraw | WorkerEffect::DropResult => {}
            WorkerEffect::EndProcesses => world.ends = true,
            WorkerEffect::StartCheck(check) => {
                if !world.finished || world.checks_begun.contains(&check) {
                    world.breaks(ONE_CHECK);
                }
                world.checks_begun.push(check);
                self.start(world, works, true);
            }
            WorkerEffect::StartCommand => self.start_program(world, works),
            WorkerEffect::StartFetch => {
                if !world.finished || world.checks_passed < self.checks {
                    world.breaks(FETCH);
                }
                self.start(world, works, true);
            }
            WorkerEffect::StartSearch => self.start(world, works, false),
            WorkerEffect::ReadFence => {
                world.lost = !works;
                self.happen(world, WorkerEvent::FenceRead((!works).then(|| "lost".to_owned())));
            }
            WorkerEffect::ReleaseLeases => {
                if world.program || world.tool || world.life.stage != Stage::Ended {
                    world.breaks(LEASES);
                }
                world.holds = false;
            }
            WorkerEffect::WriteEnd(outcome) => self.write_end(world, outcome.phase),
        }
        Some(())
    }

    fn write_end(&self, world: &mut LifeWorld, phase: Phase) {
        let is_good = matches!(phase, Phase::Done | Phase::Exited);
        if phase == Phase::Failed && world.finished && !(world.failed || world.requested || world.lost) {
            world.breaks(COUNTED);
        }
        if is_good && (world.requested || world.lost || !world.finished || world.checks_passed < self.checks)
        {
            world.breaks(COUNTS);
        }
        if world.holds || world.program || world.tool {
            world.breaks(ENDS_CLEAN);
        }
        if world.outcome.replace(phase).is_some() {
            world.breaks(ENDS_ONCE);
        }
    }

    fn tool_ends(&self, world: &mut LifeWorld, is_good: bool) -> Option<()> {
        let stage = world.life.stage;
        if !matches!(stage, Stage::Checking(_) | Stage::Fetching | Stage::Searching) {
            return None;
        }
        world.tool = false;
        world.failed |= !is_good && stage != Stage::Searching;
        world.checks_passed += usize::from(is_good && matches!(stage, Stage::Checking(_)));
        let result = if is_good { Ok(()) } else { Err("bad".to_owned()) };
        self.happen(world, WorkerEvent::TaskEnded(result));
        Some(())
    }

    fn program_exits(&self, world: &mut LifeWorld, code: i32) {
        world.program = false;
        world.finished |= code == 0 && world.life.stage == Stage::Running;
        self.happen(world, WorkerEvent::ProgramEnded(WorkerExit::Code(code), None));
    }
}

impl Model for Lives {
    type State = LifeWorld;
    type Action = LifeAction;

    fn init_states(&self) -> Vec<LifeWorld> {
        let life = WorkerLife::new(self.checks, self.has_clone);
        vec![LifeWorld { life, holds: true, ..LifeWorld::default() }]
    }

    fn actions(&self, world: &LifeWorld, actions: &mut Vec<LifeAction>) {
        if world.crashed {
            actions.push(LifeAction::Recover);
            return;
        }
        actions.push(LifeAction::Crash);
        // The supervisor performs all effects of an event before it takes the next one.
        if !world.queue.is_empty() {
            actions.extend([LifeAction::Perform(true), LifeAction::Perform(false)]);
            return;
        }
        if world.life.stage == Stage::Starting {
            actions.extend([LifeAction::Begin(true), LifeAction::Begin(false), LifeAction::Limit]);
            return;
        }
        actions.extend([LifeAction::Kill, LifeAction::Expire, LifeAction::LoseLease]);
        if world.program {
            actions.extend([LifeAction::CallDone, LifeAction::ProgramExits(0), LifeAction::ProgramExits(1)]);
            actions.push(LifeAction::Limit);
        } else {
            actions.extend([LifeAction::ProgramExitsAgain, LifeAction::LimitEnds]);
        }
        if world.tool {
            actions.extend([LifeAction::ToolEnds(true), LifeAction::ToolEnds(false)]);
        }
        if world.ends {
            actions.push(LifeAction::Gone);
        }
    }

    fn next_state(&self, last: &LifeWorld, action: LifeAction) -> Option<LifeWorld> {
        let mut world = last.clone();
        match action {
            LifeAction::Perform(works) => self.perform(&mut world, works)?,
            LifeAction::Crash if world.outcome.is_some() => return None,
            LifeAction::Crash => {
                world.crashed = true;
                world.queue.clear();
            }
            LifeAction::Recover if world.outcome.is_some() => return None,
            LifeAction::Recover => {
                (world.program, world.tool, world.left, world.holds) = (false, false, false, false);
                self.write_end(&mut world, Phase::Lost);
            }
            LifeAction::Begin(true) => {
                (world.program, world.left) = (true, true);
                self.happen(&mut world, WorkerEvent::Started);
            }
            LifeAction::Begin(false) => {
                self.happen(&mut world, WorkerEvent::NotStarted("missing".to_owned()));
            }
            LifeAction::Limit => {
                world.program = false;
                self.happen(&mut world, WorkerEvent::Limited);
            }
            LifeAction::LimitEnds => self.happen(&mut world, WorkerEvent::LimitEnded),
            LifeAction::ProgramExits(code) => self.program_exits(&mut world, code),
            LifeAction::ProgramExitsAgain => {
                let event = WorkerEvent::ProgramEnded(WorkerExit::Code(1), None);
                self.happen(&mut world, event);
            }
            LifeAction::CallDone => {
                world.finished |= world.life.stage == Stage::Running;
                self.happen(&mut world, WorkerEvent::DoneCalled);
            }
            LifeAction::ToolEnds(is_good) => self.tool_ends(&mut world, is_good)?,
            LifeAction::Gone => {
                (world.program, world.tool, world.left, world.ends) = (false, false, false, false);
                world.after_request += u8::from(world.requested);
                self.happen(&mut world, WorkerEvent::ProcessesGone);
            }
            LifeAction::Kill => self.request(&mut world, EndCause::User),
            LifeAction::Expire => self.request(&mut world, EndCause::WallTime(1)),
            LifeAction::LoseLease => self.request(&mut world, EndCause::Leases("lost".to_owned())),
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Lives>> {
        vec![
            Property::always(ENDS_ONCE, |_, world: &LifeWorld| world.broken != Some(ENDS_ONCE)),
            Property::always(ENDS_CLEAN, |_, world: &LifeWorld| world.broken != Some(ENDS_CLEAN)),
            Property::always(ONE_PROCESS, |_, world: &LifeWorld| world.broken != Some(ONE_PROCESS)),
            Property::always(NO_WORK, |_, world: &LifeWorld| world.broken != Some(NO_WORK)),
            Property::always(ONE_CHECK, |_, world: &LifeWorld| world.broken != Some(ONE_CHECK)),
            Property::always(FETCH, |_, world: &LifeWorld| world.broken != Some(FETCH)),
            Property::always(LEASES, |_, world: &LifeWorld| world.broken != Some(LEASES)),
            Property::always(COUNTS, |_, world: &LifeWorld| world.broken != Some(COUNTS)),
            Property::always(COUNTED, |_, world: &LifeWorld| world.broken != Some(COUNTED)),
            Property::always(
                "a worker to which nothing more happens has ended and holds nothing",
                |lives: &Lives, world: &LifeWorld| {
                    !lives.next_states(world).is_empty() || (world.outcome.is_some() && !world.holds)
                },
            ),
            Property::always("leases are held until the end is written", |_, world: &LifeWorld| {
                !world.idles() || world.holds == (world.life.stage != Stage::Ended)
            }),
            Property::always(
                "a request to end stops the work at once and leads to the end",
                |_, world: &LifeWorld| {
                    let works =
                        matches!(world.life.stage, Stage::Running | Stage::Checking(_) | Stage::Fetching);
                    !world.requested
                        || (!(world.idles() && works) && world.after_request <= MAX_AFTER_REQUEST)
                },
            ),
            // States that the search must reach; otherwise it proves nothing.
            Property::sometimes("its work is good", |_, world: &LifeWorld| {
                matches!(world.outcome, Some(Phase::Done | Phase::Exited))
            }),
            Property::sometimes("it was killed", |_, world: &LifeWorld| world.outcome == Some(Phase::Killed)),
            Property::sometimes("its end does not count", |_, world: &LifeWorld| {
                world.outcome == Some(Phase::Failed) && world.finished && world.lost && !world.requested
            }),
            Property::sometimes(
                "its supervisor died between the release and the end",
                |_, world: &LifeWorld| world.crashed && !world.holds && world.outcome.is_none(),
            ),
        ]
    }
}

#[test]
fn every_order_of_events_ends_a_worker_once() {
    for (checks, has_clone) in [(0, false), (0, true), (1, false), (2, true)] {
        let checked = Lives { checks, has_clone, mutant: None }.checker().spawn_bfs().join();
        println!(
            "{checks} checks, clone: {has_clone}: {} states, depth {}",
            checked.unique_state_count(),
            checked.max_depth()
        );
        checked.assert_properties();
    }
}

#[test]
fn every_mutant_of_the_life_is_found_and_every_property_finds_one() {
    let mut broken = std::collections::BTreeSet::new();
    for mutant in LifeMutant::iter() {
        broken.extend(broken_by(&mutant, Lives { checks: 2, has_clone: true, mutant: Some(mutant) }));
    }
    let properties = Lives { checks: 0, has_clone: false, mutant: None }.properties();
    let always = properties.iter().filter(|property| property.expectation == Expectation::Always);
    assert_eq!(broken, always.map(|property| property.name).collect());
}

/// An exit that arrives after the worker called done must not turn its work into a failure.
#[test]
fn the_first_end_of_the_program_counts() {
    let (life, _) = next(WorkerLife::new(0, false), WorkerEvent::Started);
    let (life, effects) = next(life, WorkerEvent::DoneCalled);
    assert_eq!(effects, [WorkerEffect::Withdraw, WorkerEffect::EndProcesses]);
    let (life, effects) = next(life, WorkerEvent::ProgramEnded(WorkerExit::Signal(15), None));
    assert_eq!(effects, []);
    let (life, _) = next(life, WorkerEvent::ProcessesGone);
    let (life, effects) = next(life, WorkerEvent::FenceRead(None));
    let outcome = WorkerOutcome { phase: Phase::Exited, why: None };
    assert_eq!(effects, [WorkerEffect::ReleaseLeases, WorkerEffect::WriteEnd(outcome)]);
    assert_eq!(life.stage(), Stage::Ended);
}
