//! A deciding beat killed before each write, sync, rename, unlink and spawn it makes, and what the next two beats leave.
//!
//! looop calls the kernel without libc, so strace is what kills it: SIGKILL on entering the n-th call of a kind, which
//! then is not made. All effects of a tick happen on its main thread, which is all that strace follows here without
//! `-f`; so n counts the calls of that thread alone, and neither the runner's nor the command's. The state after a call
//! is the state before the next one, so killing before each call covers both sides of each.

use std::process::{Command, Output, Stdio};
use std::{collections::BTreeMap, fs, os::unix::process::ExitStatusExt, path::Path};

use serde_json::{Value, json};

mod after;
mod first_run;
mod humans;
mod panics;
mod replay;
mod workers;

use after::After;
pub use after::processes;
pub use replay::replayed;

use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, NOOP, Profile, program, wait_until};
use crate::support::rows::{copy_all, has_strace};
use crate::support::tally::{Parts, Tally};

/// Calls with an effect, and the waits for children; not every machine has them all. Of the opens only those
/// that create count.
const EFFECTS: &str = "write pwrite64 writev fsync fdatasync rename renameat renameat2 link linkat unlink unlinkat \
     rmdir mkdir mkdirat ftruncate fchmod utimensat openat clone clone3 fork vfork poll ppoll";
/// Calls that fill what a rename or a link will show: there are many, and most of the time the next one changes
/// nothing that anyone can see. Where points are sampled, only of these.
const COMMON: &str = "write openat mkdir mkdirat fchmod utimensat";
const BODY: &str = "goal: made by a move\n\nBody.\n";

const OLD_BODY: &str = "goal: of a person\n";

/// A beat to be killed, and what must hold afterwards.
struct Scene {
    name: &'static str,
    /// The move of the beat; none: the scene sets its own runner.
    reply: Option<String>,
    /// Of so many [`COMMON`] points, the sweep of the gate tries one.
    every: usize,
    /// The verb that is killed.
    verb: &'static [&'static str],
    prepare: fn(&Profile),
    /// What lives while the beat is killed; files alone cannot bring it back.
    begin: fn(&Profile),
    /// Waits for what goes on by itself between the first beat after the kill and the second.
    settle: fn(&Profile),
    check: fn(&After) -> Option<String>,
}

fn scene(name: &'static str, reply: Value, check: fn(&After) -> Option<String>) -> Scene {
    let reply = Some(reply.to_string());
    Scene { name, reply, every: 12, verb: &["tick"], prepare: |_| {}, begin: |_| {}, settle: |_| {}, check }
}

fn scenes() -> Vec<Scene> {
    let run = json!({"move": "run", "argv": ["../record.sh"], "why": "w"});
    // An approval covers the folder with the place of each file, so it is one that no reset makes again.
    let placed = json!({"move": "run", "argv": ["../record.sh"], "cwd": "../place", "why": "w"});
    let goal = json!({"move": "write_goal", "id": "made", "body": BODY, "why": "w"});
    let timer = json!({"move": "schedule", "name": "later", "in_s": 3600, "note": "n", "why": "w"});
    let drop_goal = json!({"move": "archive_goal", "id": "old", "why": "w"});
    vec![
        Scene { every: 6, ..scene("write_goal", goal.clone(), written) },
        Scene { every: 30, prepare: goal_to_replace, ..scene("replace goal", goal, replaced) },
        Scene { every: 6, prepare: allow_record, ..scene("run", run, ran_once) },
        Scene { prepare: old_goal, ..scene("archive_goal", drop_goal, archived) },
        scene("ask", json!({"move": "ask", "text": "Which?", "why": "w"}), asked),
        Scene { prepare: long_journal, ..scene("schedule", timer, scheduled) },
        scene("noop", json!({"move": "noop", "why": "w"}), |_| None),
        Scene { prepare: approve_record, ..scene("approved run", placed, ran_and_reported) },
        Scene { reply: None, prepare: flaky_runner, ..scene("failing runner", Value::Null, |_| None) },
        workers::start(),
        workers::stop(),
        workers::tell(),
    ]
    .into_iter()
    .chain(humans::scenes())
    .collect()
}

/// A script outside of the data dir that leaves a line in a file outside of it each time it runs, and then
/// lives on a little, so that it is still there when the next beat begins.
fn add_record(profile: &Profile) {
    let sink = profile.path("sink");
    executable(&profile.path("record.sh"), &format!("echo ran >>{}\nsleep 0.05", sink.display()));
}

fn executable(path: &Path, body: &str) {
    program(path, format!("#!/bin/sh\n{body}\n"));
}

fn allow_record(profile: &Profile) {
    add_record(profile);
    profile.config_more(json!({"policy": {"allow": [{"argv": ["../record.sh"]}]}}));
}

fn approve_record(profile: &Profile) {
    fs::create_dir(profile.path("place")).unwrap();
    add_record(profile);
    approve(profile);
}

/// Lets the loop ask for its move, and says yes to the one ask that is open.
fn approve(profile: &Profile) {
    wait(profile);
    profile.approve_first();
}

/// Lets the loop ask for its move.
fn wait(profile: &Profile) {
    profile.looop(&["tick"]).ok();
    assert_eq!(profile.asks().len(), 1);
}

fn old_goal(profile: &Profile) {
    profile.goal("old", "goal: is over\n");
}

/// One line of a user's that is longer than the whole journal may be, so that the beat begins with a rotation.
fn long_journal(profile: &Profile) {
    fs::write(profile.data().join("journal.md"), "x".repeat(300_000) + "\n").unwrap();
    // Where there is a journal there is a memory; that it were lost would be said.
    let memory = looop::rules::beat::state::LoopState::default();
    let whole = looop::store::file::Durability::Atomic;
    looop::store::json_file::write_json(&profile.data().join("beat.json"), &memory, whole).unwrap();
}

/// A runner that fails the first time and then finds nothing to do.
fn flaky_runner(profile: &Profile) {
    let (count, script) = (profile.path("script/replies.count"), profile.path("flaky.sh"));
    let count = count.display();
    let body = format!(
        "n=$(cat {count} 2>/dev/null || echo 0)\necho $((n+1)) >{count}\n[ $n -gt 0 ] || exit 3\necho '{NOOP}'"
    );
    executable(&script, &body);
    profile.shell_runner(&script.display().to_string());
}

fn written(after: &After) -> Option<String> {
    let body = after.text("goals/made.md");
    match body.as_ref().is_some_and(|body| body != BODY) {
        true => Some(format!("goals/made.md is torn: {body:?}")),
        false => after.agree("write_goal", body.is_some()),
    }
}

/// A goal of a person's, which the beat has committed before it decides.
fn goal_to_replace(profile: &Profile) {
    profile.goal("made", OLD_BODY);
}

fn replaced(after: &After) -> Option<String> {
    let body = after.text("goals/made.md").unwrap_or_default();
    let kept = after.count("goals", "made.md.");
    match (body != BODY && body != OLD_BODY) || kept > 0 {
        true => Some(format!("goals/made.md holds {body:?}, and {kept} texts are kept beside it")),
        false => after.agree("write_goal", body == BODY),
    }
}

fn archived(after: &After) -> Option<String> {
    let moved = after.count("goals/archive", "old-");
    match (after.text("goals/old.md").is_some(), moved) {
        (true, 0) | (false, 1) => after.agree("archive_goal", moved == 1),
        state => Some(format!("goal here and in the archive: {state:?}")),
    }
}

fn asked(after: &After) -> Option<String> {
    let asks = after.count("asks", "ask-");
    if asks > 1 { Some(format!("{asks} asks")) } else { after.agree("ask", asks == 1) }
}

fn scheduled(after: &After) -> Option<String> {
    after.agree("schedule", after.text("schedules/later.json").is_some())
}

/// The sink has at most one line; one that is there is in the journal, and what the journal is sure of is true.
fn ran_once(after: &After) -> Option<String> {
    let ran = fs::read_to_string(after.profile.path("sink")).unwrap_or_default().lines().count();
    let messages = after.lines("run");
    let sure = |words: &str| messages.iter().any(|line| line.contains(words));
    let wrong = match (ran, messages.len()) {
        (0, 0) => false,
        (0, 1) => sure("— exit "),
        (1, 1) => !sure("— exit 0 ") && !sure("— unknown: "),
        _ => true,
    };
    wrong.then(|| format!("it ran {ran} times, the journal says {messages:?}"))
}

/// As [`ran_once`], and an approval is never lost without a word: nobody but looop knows that it was used.
fn ran_and_reported(after: &After) -> Option<String> {
    let messages = ["— exit 0 ", "— unknown: ", "— not done: "];
    let lost = !after.journal.iter().any(|line| messages.iter().any(|words| line.contains(words)));
    if lost { Some("the approved move is lost".to_owned()) } else { ran_once(after) }
}

/// A profile that can be brought back to the moment before the beat. It keeps its path, because approvals name it.
struct Stage {
    profile: Profile,
    saved: tempfile::TempDir,
}

impl Stage {
    fn set(scene: &Scene) -> Stage {
        let reply = scene.reply.as_deref().unwrap_or(NOOP);
        let profile = Profile::scripted(&[reply, NOOP]);
        // What is swept are looop's own writes, in hundreds of beats, and commands leave their traces outside. One scene
        // is sandboxed like everybody's.
        if scene.name != "noop" {
            profile.without_sandbox(&["decide", "sensor", "run"]);
        }
        profile.goal("keep", "goal: stay as you are\n");
        profile.sensor("one.sh", "echo '{\"n\":1}'");
        (scene.prepare)(&profile);
        let saved = tempfile::tempdir().unwrap();
        copy_all(&profile.path("."), saved.path());
        Stage { profile, saved }
    }

    fn reset(&self) {
        let here = self.profile.path("").display().to_string();
        self.profile.end_workers();
        wait_until("no worker is left", || processes(&here).is_empty());
        for dir in ["data", "home"] {
            fs::remove_dir_all(self.profile.path(dir)).unwrap();
        }
        for file in ["script/replies.count", "sink"] {
            drop(fs::remove_file(self.profile.path(file)));
        }
        copy_all(&self.saved.path().join("."), &self.profile.path(""));
    }

    /// Kills a beat at a point, lets two more run, and says what is wrong then. None: the beat ended before that
    /// point, as when fewer of git's directories were missing this time.
    fn kill(&self, scene: &Scene, point: &Point) -> Option<Vec<String>> {
        self.reset();
        (scene.begin)(&self.profile);
        point.kills(&self.profile, scene.verb).then(|| self.next_beats(scene))
    }

    /// Lets two beats run after one that died, and says what is wrong then.
    fn next_beats(&self, scene: &Scene) -> Vec<String> {
        let mut wrong = Vec::new();
        // The second one is forced, since only a deciding beat must leave everything committed.
        for args in [&["tick"][..], &["run", "keep"]] {
            let ran = self.profile.looop(args);
            let failed = scene.reply.is_none() && ran.stdout.contains("exit code 3");
            if (ran.code != 0 && !failed) || ran.stderr.contains("warning") {
                wrong.push(format!("{args:?} exits {}: {}{}", ran.code, ran.stdout, ran.stderr));
            }
            if args[0] == "tick" {
                (scene.settle)(&self.profile);
            }
        }
        let here = self.profile.path("").display().to_string();
        wait_until("what the killed beat had started", || processes(&here).is_empty());
        let journal = fs::read_to_string(self.profile.data().join("journal.md")).unwrap_or_default();
        // What a worker's end says there is no beat's.
        let lines = journal.lines().filter(|line| !line.contains(" [worker ")).map(str::to_owned);
        let after = After { profile: &self.profile, journal: lines.collect() };
        wrong.extend(after.problems().into_iter().chain((scene.check)(&after)));
        wrong
    }
}

fn has(calls: &str, call: &str) -> bool {
    calls.split(' ').any(|one| one == call)
}

/// The n-th call of a kind.
struct Point {
    call: String,
    nth: usize,
}

impl Point {
    /// Kills the verb there; false when it ended before.
    fn kills(&self, profile: &Profile, verb: &[&str]) -> bool {
        let Point { call, nth } = self;
        let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
        let args = ["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
        let killed = traced(profile, verb, &args);
        killed.status.signal() == Some(9) || killed.status.code() == Some(137)
    }
}

/// The verb under strace with these arguments.
fn traced(profile: &Profile, verb: &[&str], args: &[&str]) -> Output {
    let plain = profile.command(verb);
    let mut command = Command::new("strace");
    command.args(args).arg(LOOOP).args(verb).env_clear().current_dir(profile.path(""));
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?)))).stdin(Stdio::null());
    command.output().unwrap()
}

/// The calls of an undisturbed run of the verb.
fn points(profile: &Profile, verb: &[&str]) -> Vec<Point> {
    let log = profile.path("trace");
    let set = EFFECTS.split(' ').map(|call| format!("?{call}")).collect::<Vec<_>>().join(",");
    let ran = traced(profile, verb, &["-qq", "-o", log.to_str().unwrap(), "-e", &format!("trace={set}")]);
    assert!(ran.status.code().is_some_and(|code| code < 2), "{ran:?}");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut points = Vec::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let Some((call, rest)) = line.split_once('(').filter(|(call, _)| has(EFFECTS, call)) else {
            continue;
        };
        let nth = counts.entry(call.to_owned()).or_default();
        *nth += 1;
        if call != "openat" || rest.contains("O_CREAT") {
            points.push(Point { call: call.to_owned(), nth: *nth });
        }
    }
    points
}

/// Which points of a scene are tried.
#[derive(Clone, Copy, PartialEq)]
enum Sweep {
    /// A few, for the daily tests.
    Sample,
    /// Every sixteenth one, and of the [`COMMON`] ones fewer.
    Gate,
    Every,
}

/// How many points a sample has.
const SAMPLE: usize = 8;

/// Tries the points of a scene.
fn sweep(scene: &Scene, which: Sweep) -> Tally {
    let stage = Stage::set(scene);
    (scene.begin)(&stage.profile);
    let mut points = points(&stage.profile, scene.verb);
    let found = points.len();
    let (step, mut at, mut common) = (found.div_ceil(SAMPLE), 0.., 0..);
    points.retain(|point| match which {
        Sweep::Sample => at.next().unwrap() % step == step / 2,
        Sweep::Gate if has(COMMON, &point.call) => common.next().unwrap() % scene.every == 0,
        Sweep::Gate => at.next().unwrap() % 16 == 0,
        Sweep::Every => true,
    });
    let mut tally = Tally::default();
    for point in &points {
        let Some(problems) = stage.kill(scene, point) else { continue };
        tally.attempts += 1;
        let place = format!("{}: killed before {} {}", scene.name, point.call, point.nth);
        tally.violations.extend(problems.iter().map(|problem| format!("{place}: {problem}")));
    }
    let (kills, wrong) = (tally.attempts, tally.violations.len());
    println!("{}: {found} points, {kills} kills, {wrong} violations", scene.name);
    tally
}

/// The scene of this name; none where nothing can kill a process at a call.
fn sweep_of(name: &str, which: Sweep) -> Option<Tally> {
    let scene = scenes().into_iter().find(|scene| scene.name == name).expect("a scene of this name");
    has_strace().then(|| sweep(&scene, which))
}

fn holds(tally: Option<Tally>) {
    match tally {
        Some(tally) => tally.holds(),
        None => skipped("no strace"),
    }
}

#[test]
fn a_beat_killed_at_some_points_is_made_whole_by_the_next() {
    holds(sweep_of("write_goal", Sweep::Sample));
    holds(sweep_of("answer", Sweep::Sample));
}

/// A test for each scene, and the list of their names.
macro_rules! scenes_killed_anywhere {
    ($($test:ident $name:literal)*) => {
        const SCENES: &[&str] = &[$($name),*];
        $(
            #[test]
            #[ignore = "long search"]
            fn $test() {
                holds(swept_part($name).cloned());
            }
        )*
        mod exhaustive {
            $(
                #[test]
                #[ignore = "exhaustive"]
                fn $test() {
                    super::holds(super::sweep_of($name, super::Sweep::Every));
                }
            )*
        }
    };
}

scenes_killed_anywhere! {
    write_goal "write_goal"
    replace_goal "replace goal"
    run "run"
    archive_goal "archive_goal"
    ask "ask"
    schedule "schedule"
    noop "noop"
    approved_run "approved run"
    failing_runner "failing runner"
    start_worker "start_worker"
    stop_worker "stop_worker"
    tell_worker "tell_worker"
    approved_write_playbook "approved write_playbook"
    approved_write_sensor "approved write_sensor"
    drop_schedule "drop_schedule"
    answer "answer"
    reject "reject"
    claim "claim"
    release "release"
    pause "pause"
    goal_archive "goal archive"
}

#[test]
fn each_scene_is_swept() {
    let all: Vec<&str> = scenes().iter().map(|scene| scene.name).collect();
    assert_eq!(all, SCENES);
}

/// The sweep of one scene; none where nothing can kill a process at a call.
fn swept_part(name: &'static str) -> Option<&'static Tally> {
    static PARTS: Parts = Parts::new();
    Command::new("strace").arg("--version").output().ok()?;
    Some(PARTS.part(name, || sweep_of(name, Sweep::Gate).unwrap_or_default()))
}

/// The sweeps of all scenes together.
pub fn swept() -> Option<Tally> {
    let mut all = Tally::default();
    for name in SCENES {
        all.add(swept_part(name)?);
    }
    assert!(all.attempts > 150, "only {} kills", all.attempts);
    Some(all)
}
