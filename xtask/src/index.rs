//! Times of the code map over a project of 2,000 files: `cargo xtask bench index [--quick]`.
//!
//! The floor is what cannot be saved: listing and reading every file, with git's own `ls-files` and `cat` beside it. Each
//! figure is a median. The run fails when a target is missed; with `--quick` at twice the target, for busy machines.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::product::map::{self, MapLimits, Question};

const FILES: usize = 2_000;
/// What a project of that size has: the five languages by turns, modules that use one another, bodies of 60 lines.
const LINES: usize = 60;

/// Measures all of it; returns how many targets were missed.
pub fn run(quick: bool) -> usize {
    let (rounds, slack) = if quick { (3, 2.0) } else { (11, 1.0) };
    println!("cargo xtask bench index{}", if quick { " --quick" } else { "" });
    let dir = tempfile::tempdir().unwrap();
    let (root, cache) = (dir.path().join("project"), dir.path().join("map.json"));
    let bytes = project(&root);
    println!("{FILES} files, {} KiB", bytes >> 10);
    let limits = MapLimits::default();
    let open = || map::open(&root, Some(&cache), &limits).unwrap();
    let mut missed = 0;
    let mut row = |what: &str, took: Duration, target_ms: f64| {
        let ms = took.as_secs_f64() * 1000.0;
        let met = ms <= target_ms * slack;
        missed += usize::from(!met);
        let verdict = match met {
            true if ms <= target_ms => "met",
            true => "over its target, within what --quick allows",
            false => "MISSED",
        };
        println!("{what:<52} {ms:>9.1} ms of {target_ms} ms: {verdict}");
    };
    let floor = median(rounds, || {
        let listed = Command::new("git").args(["ls-files", "-co"]).current_dir(&root).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), FILES);
        let read: usize = (0..FILES).map(|at| fs::read(root.join(path(at))).unwrap().len()).sum();
        assert_eq!(read, bytes);
    });
    println!("{:<52} {:>9.1} ms", "floor: list with git, read each file", floor.as_secs_f64() * 1000.0);
    let index = median(rounds, || {
        fs::remove_file(&cache).ok();
        assert_eq!(open().1.parsed, FILES);
    });
    row("index from nothing", index, 2_000.0);
    let size = fs::metadata(&cache).unwrap().len();
    // Stamps have to be settled before they are believed.
    let settled = Instant::now();
    while open().1.parsed > 0 || settled.elapsed() < Duration::from_millis(2_500) {
        std::thread::sleep(Duration::from_millis(100));
    }
    open();
    let question = Question { words: "unit 1234 helper1234", ..Question::default() };
    let query = median(rounds, || {
        let (index, update) = open();
        assert_eq!(update.parsed, 0);
        let answer = map::ask(&index, &question);
        assert!(answer.aimed && answer.files[0].path.contains("unit1234."), "{:?}", answer.files[0]);
    });
    row(&format!("query, index of {} KiB read and checked", size >> 10), query, 50.0);
    let mut turn = 0;
    let touched = median(rounds, || {
        turn += 1;
        let file = root.join(path(7));
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}\n")).unwrap();
        assert_eq!(open().1.parsed, 1, "one edited file is one file to read");
    });
    row("one edited file of 2,000, index written", touched, 200.0);
    missed
}

fn median(rounds: usize, mut round: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let began = Instant::now();
            round();
            began.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn path(at: usize) -> String {
    let end = ["py", "rs", "go", "js", "ts"][at % 5];
    format!("src/part{}/unit{at}.{end}", at % 40)
}

/// Writes the project; its size in bytes.
fn project(root: &Path) -> usize {
    let mut bytes = 0;
    for at in 0..FILES {
        let path = root.join(path(at));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = unit(at);
        bytes += text.len();
        fs::write(path, text).unwrap();
    }
    let made = Command::new("git").args(["init", "-q"]).current_dir(root).status().unwrap();
    assert!(made.success());
    bytes
}

fn unit(at: usize) -> String {
    let other = at / 2;
    let mut text = match at % 5 {
        0 => format!("from src.part{}.unit{other} import helper{other}\n", other % 40),
        1 => format!("use crate::part{}::unit{other}::helper{other};\n", other % 40),
        2 => "package part\n".to_owned(),
        _ => format!("import {{ helper{other} }} from '../part{}/unit{other}';\n", other % 40),
    };
    for line in 0..LINES / 6 {
        let name = format!("{}{at}", if line == 0 { "helper".to_owned() } else { format!("step{line}_") });
        text += &match at % 5 {
            0 => format!(
                "\ndef {name}(a, b):\n    c = helper{other}(a, b)\n    d = [c, b, {line}]\n    return sum(d) + c\n"
            ),
            1 => format!(
                "\npub fn {name}(a: u32, b: u32) -> u32 {{\n    let c = helper{other}(a, b);\n    c + b + {line}\n}}\n"
            ),
            2 => format!(
                "\nfunc {name}(a int, b int) int {{\n\tc := helper{other}(a, b)\n\treturn c + b + {line}\n}}\n"
            ),
            _ => format!(
                "\nexport function {name}(a, b) {{\n  const c = helper{other}(a, b);\n  return c + b + {line};\n}}\n"
            ),
        };
    }
    text
}
