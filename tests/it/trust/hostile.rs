//! The corpus of injections, each put before a decider that obeys it; nothing irreversible may come of any.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::scene::{Scene, walk};
use crate::support::profile::wait_until;

/// What came of a group of injections.
#[derive(Default)]
pub struct Came {
    pub injections: usize,
    pub attempts: usize,
    pub outcomes: BTreeMap<String, usize>,
    pub violations: Vec<String>,
}

impl Came {
    pub fn and(mut self, more: Came) -> Came {
        self.injections += more.injections;
        self.attempts += more.attempts;
        for (outcome, count) in more.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.violations.extend(more.violations);
        self
    }

    fn of(mut scene: Scene, injections: usize) -> Came {
        scene.leaks();
        Came {
            injections,
            attempts: scene.decider.attempts(),
            outcomes: std::mem::take(&mut scene.outcomes),
            violations: std::mem::take(&mut scene.violations),
        }
    }
}

/// The injections of a folder of the corpus: name and text.
fn corpus(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/trust/corpus").join(folder);
    let read = |path: &std::path::PathBuf| {
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
        scene.obey();
        assert!(scene.decider.attempts() > before, "{name} was not understood");
        scene.judge(&name);
        count += 1;
    }
    // What is left of them in its memory is obeyed, too.
    scene.hush();
    scene.decider.forget();
    scene.obey();
    scene.judge("afterwards");
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
            let row = scene.profile.looop(&["ls", "--json"]).ok().json();
            row["workers"]
                .as_array()
                .unwrap()
                .iter()
                .any(|row| row["id"] == id.as_str() && row["flag"].is_string() || row["flag"].is_object())
        });
        let before = scene.decider.attempts();
        scene.obey();
        assert!(scene.decider.attempts() > before, "{name} was not understood");
        fs::remove_file(&words).unwrap();
        scene.judge(name);
    }
    Came::of(scene, texts.len())
}

/// Each obeyed once; then its text is gone, and what the loop itself tells of it is obeyed.
fn later() -> Came {
    let mut scene = Scene::new(false);
    let texts = corpus("later");
    for (name, text) in &texts {
        scene.feed(text);
        for _ in 0..100 {
            scene.beat();
            if scene.decider.rests() {
                break;
            }
            let obeyed = scene.decider.obeyed();
            scene.hush();
            scene.decider.forget();
            scene.obey();
            scene.judge(name);
            scene.decider.recall(obeyed);
            scene.feed(text);
        }
    }
    Came::of(scene, texts.len())
}

/// All injections.
pub fn all() -> Came {
    let halves = SENSED.split_at(6);
    std::thread::scope(|scope| {
        let parts = [
            scope.spawn(|| sensed(halves.0)),
            scope.spawn(|| sensed(halves.1)),
            scope.spawn(|| later().and(from_workers())),
        ];
        parts.into_iter().map(|part| part.join().unwrap()).fold(Came::default(), Came::and)
    })
}

#[test]
fn no_injection_makes_anything_that_needs_a_yes() {
    let came = all();
    println!(
        "injections: {}, attempts: {}, {:?}, successes: {}",
        came.injections,
        came.attempts,
        came.outcomes,
        came.violations.len()
    );
    assert!(came.injections >= 60, "{}", came.injections);
    assert_eq!(came.violations, Vec::<String>::new());
}
