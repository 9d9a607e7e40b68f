//! A beat that panics: the clock and the runner that it is handed blow up, at each use in turn. What runs while the panic
//! unwinds must not harm what the next beat finds.

use std::{cell::Cell, env, fs};

use looop::agents::{Completion, Failed, ModelCall, Runner};
use looop::config::{self, Env};
use looop::tick::{self, Ctx};
use looop::{os::clock, os::signal::Cancel, store::lock, store::sandboxes::SandboxBuilder, worker::Fleet};
use serde_json::Value;

use super::{Scene, Stage, scenes};

/// At which use the beat panics, for the process that does.
const FUSE: &str = "LOOOP_TEST_FUSE";
const TEST: &str = "crash::panics::a_goal_is_written_by_a_beat_that_panics_or_by_the_next";

/// Panics when it was used so many times.
struct Fuse(Cell<usize>);

impl Fuse {
    fn burn(&self) {
        let left = self.0.get();
        assert!(left > 0, "the fuse blew");
        self.0.set(left - 1);
    }
}

struct FusedRunner<'a>(Box<dyn Runner>, &'a Fuse);

impl Runner for FusedRunner<'_> {
    fn name(&self) -> &str {
        self.1.burn();
        self.0.name()
    }

    fn decide(&self, call: &ModelCall) -> Result<Completion, Box<Failed>> {
        self.1.burn();
        let reply = self.0.decide(call);
        self.1.burn();
        reply
    }

    fn program(&self) -> &str {
        self.0.program()
    }
}

/// One beat in this process, as `looop tick` makes it.
fn beat(uses: usize) {
    let fuse = Fuse(Cell::new(uses));
    let env = Env::read().unwrap();
    let (layout, config) = (env.layout(), config::load(&env).unwrap());
    let runner = FusedRunner(config.decider().unwrap(), &fuse);
    let _held = lock::tick(&layout.tick_lock()).unwrap();
    let clock = || {
        fuse.burn();
        clock::now()
    };
    let (cancel, now) = (Cancel::never().unwrap(), clock::now());
    looop::os::process::reaper::become_subreaper();
    let ctx = Ctx {
        layout: &layout,
        settings: &config.settings,
        runner: &runner,
        fleet: Fleet {
            layout: &layout,
            settings: &config.settings,
            sandboxes: SandboxBuilder::new(&layout, &config.settings, true),
            cancel: &cancel,
            now,
            context_hints: looop::map::context_hints,
        },
        cancel: &cancel,
        now,
        clock: &clock,
        forced: None,
        user: env.user_name(),
        on_wait: None,
        dry: false,
    };
    tick::tick(&ctx).unwrap();
}

/// Lets a beat of each scene panic at each use; returns how often it had a call or a move under way.
fn sweep(scenes: &[Scene]) -> [usize; 2] {
    let this = env::current_exe().unwrap();
    let (mut wrong, mut left) = (Vec::new(), Vec::new());
    for scene in scenes {
        let stage = Stage::set(scene);
        stage.profile.without_sandbox(&["decide"]);
        fs::copy(stage.profile.config_file(), stage.saved.path().join("looop.json")).unwrap();
        for uses in 0.. {
            stage.reset();
            let args = ["--include-ignored", "--exact", TEST];
            let mut command = stage.profile.other_command(this.to_str().unwrap(), &args);
            let ran = command.env(FUSE, uses.to_string()).output().unwrap();
            if ran.status.success() {
                assert!(stage.profile.asked() == 1, "{ran:?}");
                break;
            }
            let printed = String::from_utf8_lossy(&ran.stdout);
            assert!(printed.contains("the fuse blew"), "{ran:?}");
            let beat = fs::read(stage.profile.data().join("beat.json")).unwrap_or_default();
            let beat: Value = serde_json::from_slice(&beat).unwrap_or_default();
            left.extend(["inflight", "intent"].into_iter().filter(|key| !beat[*key].is_null()));
            let place = format!("{} after {uses} uses", scene.name);
            wrong.extend(stage.next_beats(scene).iter().map(|problem| format!("{place}: {problem}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    ["inflight", "intent"].map(|key| left.iter().filter(|one| **one == key).count())
}

#[test]
#[ignore = "slow"]
fn a_goal_is_written_by_a_beat_that_panics_or_by_the_next() {
    if let Ok(uses) = env::var(FUSE) {
        return beat(uses.parse().unwrap());
    }
    let mut all = scenes();
    all.retain(|scene| scene.name == "write_goal");
    let [in_a_call, in_a_move] = sweep(&all);
    assert!(in_a_call > 0 && in_a_move > 0);
}

#[test]
#[ignore = "long search"]
fn a_beat_that_panics_anywhere_is_made_whole_by_the_next() {
    // Commands, workers and full sandboxes are started through looop's own program, which this one is not.
    let here = |name: &str| !name.contains("run") && !name.contains("worker");
    let mut all = scenes();
    all.retain(|scene| scene.reply.is_some() && scene.verb == ["tick"] && here(scene.name));
    let [in_a_call, in_a_move] = sweep(&all);
    assert!(in_a_call >= 15 && in_a_move >= 4, "{in_a_call} panics in a call, {in_a_move} in a move");
}
