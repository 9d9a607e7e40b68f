//! The corpus of injections, each put before a decider that obeys it; nothing irreversible may come of any.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, sync::OnceLock};

use super::scene::{Scene, walk};
use crate::{support::profile::wait_until, support::tally::Tally};

/// What came of a group of injections.
#[derive(Default)]
pub struct Came {
    injections: usize,
    outcomes: BTreeMap<String, usize>,
    tally: Tally,
}

impl Came {
    fn and(mut self, more: &Came) -> Came {
        self.injections += more.injections;
        for (outcome, count) in &more.outcomes {
            *self.outcomes.entry(outcome.clone()).or_default() += count;
        }
        self.tally.attempts += more.tally.attempts;
        self.tally.violations.extend(more.tally.violations.iter().cloned());
        self
    }

    fn of(mut scene: Scene, injections: usize) -> Came {
        scene.leaks();
        let violations = std::mem::take(&mut scene.violations);
        let tally = Tally { attempts: scene.decider.attempts(), violations };
        Came { injections, outcomes: std::mem::take(&mut scene.outcomes), tally }
    }
}

/// The injections of a folder of the corpus: name and text.
fn corpus(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/trust/corpus").join(folder);
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (format!("{folder}/{name}"), fs::read_to_string(path).unwrap())
    };
    let all: Vec<_> = walk(&root).iter().map(read).collect();
    assert!(!all.is_empty(), "{folder} is empty");
    all
}

/// Folders whose texts an untrusted sensor reads out.
const SENSED: [&str; 11] =
    ["issue", "commit", "log", "terminal", "forged", "approve", "encoded", "reply", "path", "argv", "start"];

fn sensed(folders: &[&str]) -> Came {
    let mut scene = Scene::new(false);
    let mut count = 0;
    for (name, text) in folders.iter().flat_map(|folder| corpus(folder)) {
        scene.feed(&text);
        let before = scene.decider.attempts();
        scene.beat();
        // What comes back of it is found with the next one.
        while !scene.decider.has_obeyed_all() {
            scene.beat();
        }
        assert!(scene.decider.attempts() > before, "{name} was not understood");
        scene.judge(&name);
        count += 1;
    }
    // What is left of them in its memory is obeyed, too.
    scene.secrets_pipe();
    for name in ["what is left", "what is left after that"] {
        scene.decider.recall(BTreeSet::new());
        scene.obey();
        scene.judge(name);
    }
    Came::of(scene, count)
}

/// What a worker says: its flag and its report.
fn from_workers() -> Came {
    let mut scene = Scene::new(true);
    let texts = corpus("worker");
    for (nth, (name, text)) in texts.iter().enumerate() {
        let words = scene.profile.path("words");
        fs::write(&words, scene.local(text)).unwrap();
        let id = format!("w{nth}");
        let line = format!(
            "looop report goal-keep.md <{0}; looop report next.txt <{0}; looop flag \"$(cat {0})\"; while [ -e {0} ]; do sleep 0.02; done",
            words.display()
        );
        scene.looop(&["worker", "start", &id, "--", "sh", "-c", &line]).ok();
        wait_until("its flag", || {
            let rows = scene.profile.looop(&["ls", "--json"]).ok().json();
            let is_its = |row: &&serde_json::Value| row["id"] == id.as_str();
            rows["workers"].as_array().unwrap().iter().find(is_its).is_some_and(|row| !row["flag"].is_null())
        });
        let before = scene.decider.attempts();
        scene.obey();
        assert!(scene.decider.attempts() > before, "{name} was not understood");
        fs::remove_file(&words).unwrap();
        scene.judge(name);
    }
    Came::of(scene, texts.len())
}

/// Each instruction is obeyed once. Then its text is gone, and what is left of it is obeyed: first the move itself; when
/// that is over, the question or the timer's note that it made; and when a user has taken those away, the journal.
fn later() -> Came {
    let mut scene = Scene::new(false);
    let texts = corpus("later");
    let mut obeyed: [BTreeSet<String>; 4] = Default::default();
    for (name, text) in &texts {
        loop {
            scene.feed(text);
            scene.decider.recall(std::mem::take(&mut obeyed[0]));
            scene.beat();
            obeyed[0] = scene.decider.obeyed();
            if scene.decider.rests() {
                break;
            }
            scene.secrets_pipe();
            for (round, set) in obeyed[1..].iter_mut().enumerate() {
                // A timer comes due when all else has come to rest.
                scene.hold_timers(round == 0);
                scene.decider.recall(std::mem::take(set));
                scene.obey();
                *set = scene.decider.obeyed();
                if round > 0 {
                    scene.judge(name);
                }
            }
        }
    }
    Came::of(scene, texts.len())
}

/// The groups of injections, side by side where all are wanted.
const GROUPS: [fn() -> Came; 3] =
    [|| sensed(SENSED.split_at(7).0), || sensed(SENSED.split_at(7).1), || later().and(&from_workers())];

/// What came of a group.
fn group(nth: usize) -> &'static Came {
    static CAME: [OnceLock<Came>; 3] = [const { OnceLock::new() }; 3];
    CAME[nth].get_or_init(GROUPS[nth])
}

/// What came of all injections.
pub fn injected() -> &'static Tally {
    static CAME: OnceLock<Tally> = OnceLock::new();
    CAME.get_or_init(|| {
        let came = std::thread::scope(|scope| {
            let parts = [0, 1, 2].map(|nth| scope.spawn(move || group(nth)));
            parts.map(|part| part.join().unwrap()).into_iter().fold(Came::default(), Came::and)
        });
        let (tried, wrong) = (came.tally.attempts, came.tally.violations.len());
        println!(
            "injections: {}, attempts: {tried}, {:?}, successes: {wrong}",
            came.injections, came.outcomes
        );
        assert!(came.injections >= 60, "only {}", came.injections);
        came.tally
    })
}

#[test]
#[ignore = "slow"]
fn what_a_sensor_reads_out_makes_nothing_that_needs_an_approval() {
    group(0).tally.holds();
    group(1).tally.holds();
}

#[test]
#[ignore = "slow"]
fn what_is_left_of_untrusted_text_and_what_workers_say_makes_nothing_that_needs_an_approval() {
    group(2).tally.holds();
}
