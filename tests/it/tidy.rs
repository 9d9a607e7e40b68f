//! The shape of the source itself: layers, pure files, one owner per door to the outside, nothing unfinished.
//!
//! Rules see code with its comments and literals blanked out, and `use` groups spelled out, so that prose and messages
//! may name anything. Rules about text see the file as it is. `cases` breaks each rule once.

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, path::Path};

mod cases;
mod source;

use source::{File, files};

/// A module of the crate imports itself and what stands left of it.
const LAYERS: [&str; 14] = [
    "rules", "os", "sandbox", "store", "vcs", "agents", "screen", "worker", "alerts", "tick", "map", "fix",
    "config", "cli",
];

/// What a file marked `Pure.` cannot name: with none of these, the same input gives the same result.
const IMPURE: [&str; 11] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::net",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "rustix",
    "Timestamp::now",
    "Zoned::now",
    "TimeZone::system",
];

/// Names, and the one place of the source (a file, or a folder with a slash) whose code has them.
const DOORS: [(&[&str], &[&str]); 5] = [
    (
        &[
            "SystemTime::now",
            "Instant::now",
            "Timestamp::now",
            "Zoned::now",
            "TimeZone::system",
            "clock_gettime",
        ],
        &["src/os/clock.rs"],
    ),
    // The clock asks whether `TZ` is set.
    (&["env::var", "env::set_var", "env::remove_var"], &["src/config.rs", "src/os/clock.rs"]),
    (&["Command::new"], &["src/os/process/command.rs"]),
    (
        &["target_os", "target_vendor", "target_env", "target_family"],
        &["src/os/", "src/sandbox.rs", "src/sandbox/"],
    ),
    (&["print!", "println!", "eprint!", "eprintln!"], &["src/cli/print.rs"]),
];

/// Crates whose interface stays in so many files, so that they can be replaced.
const FENCED: [(&str, usize); 1] = [("rustix::pty", 1)];
/// Crates whose interface stays in one place.
const HOMES: [(&str, &[&str]); 2] = [
    ("clap", &["src/cli/", "src/main.rs"]),
    ("gix", &["src/vcs/history.rs", "src/vcs/history/", "src/vcs/history_tests.rs"]),
];

/// Words that mean nothing to a reader from outside, or too many things. `docs/glossary.md` has the word to use.
const BANNED_WORDS: [&str; 39] = [
    "absurd", "afresh", "boxed", "boxer", "claimant", "deaf", "dearest", "deed", "deeds", "desk", "echoes",
    "errand", "errands", "fares", "farewell", "hush", "inmate", "kin", "lookers", "nudge", "patience",
    "poke", "powers", "purse", "rang", "restless", "retell", "retells", "ruling", "said", "spared",
    "starving", "stray", "strays", "told", "unheard", "untold", "wish", "yard",
];

const PIPELINE: (&str, usize) = ("src/tick/mod.rs", 80);
const DROPPED_RESULTS_MAX: usize = 10;

/// Marks of unfinished work, and of this machine. Spelled apart, so that this file has none of them.
const MARKS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];
/// Why a test may be left to the gate, which runs it with `--include-ignored`; `exhaustive` is for `.ci/full`.
const REASONS: [&str; 5] = ["slow", "long search", "exhaustive", "needs agent CLIs", "needs toolchains"];
/// Spelled apart, so that this file has none of them.
const IGNORE: &str = concat!("#[ig", "nore");
const PLACES: [&str; 8] = [
    concat!("/wo", "rk/"),
    concat!("/fa", "rm/"),
    concat!("registry.npm", "js.org"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("pypi.org/", "simple"),
    concat!("files.python", "hosted.org"),
    concat!("deb.deb", "ian.org"),
];

/// A broken rule, and where.
#[derive(Debug)]
struct Violation {
    rule: &'static str,
    path: String,
    line: usize,
    text: String,
}

#[test]
#[ignore = "slow"]
fn the_source_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tree = Vec::new();
    read_tree(root, root, &mut tree);
    assert!(tree.iter().any(|(path, _)| path == "src/main.rs"), "the source is not where it is looked for");
    let broken = check(&tree);
    let lines = broken.iter().map(|v| format!("{}:{}: {}: {}\n", v.path, v.line, v.rule, v.text));
    assert!(broken.is_empty(), "{} rules broken:\n{}", broken.len(), lines.collect::<String>());
}

/// All text files under `folder`, named from `root`.
fn read_tree(root: &Path, folder: &Path, tree: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let generated = matches!(entry.file_name().to_str(), Some("target" | ".git" | "node_modules"));
        if kind.is_dir() && !generated {
            read_tree(root, &path, tree);
        } else if kind.is_file()
            // Recorded bytes are no text of ours.
            && let Ok(text) = fs::read_to_string(&path)
        {
            tree.push((path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text));
        }
    }
}

/// Every rule over a tree of (path, text).
fn check(tree: &[(String, String)]) -> Vec<Violation> {
    let files = files(tree);
    let rust: Vec<&File> = files.iter().filter(|file| file.path.ends_with(".rs")).collect();
    let source: Vec<&File> = rust.iter().copied().filter(|file| file.path.starts_with("src/")).collect();
    let mut found = Vec::new();
    for file in &source {
        layers(file, &mut found);
        pure(file, &mut found);
        doors(file, &mut found);
    }
    for file in &rust {
        first_line(file, &mut found);
        pipeline(file, &mut found);
        banned_words(file, &mut found);
        reasons(file, &mut found);
    }
    circles(&source, &mut found);
    unique_types(&source, &mut found);
    fences(&source, &mut found);
    dropped_results(&source, &mut found);
    for file in &files {
        marks(file, &mut found);
    }
    docs_linked(&files, &mut found);
    areas(&rust, &mut found);
    found
}

fn layers(file: &File, found: &mut Vec<Violation>) {
    let Some(module) = file.module_path() else { return };
    let rank = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let own = module[0];
    let Some(own_rank) = rank(own) else {
        found.push(file.violation("layers", 1, "belongs to no layer"));
        return;
    };
    let paths = file.paths_from_crate(&module).into_iter();
    let targets: BTreeSet<_> =
        paths.filter_map(|(line, path)| Some((line, path.into_iter().next()?))).collect();
    for (line, target) in targets {
        if rank(&target).is_some_and(|rank| rank > own_rank) {
            found.push(file.violation("layers", line, &format!("{own} imports {target}")));
        }
    }
}

/// Within a folder the files have an order too: none imports another that imports it, by whatever way. A file may name
/// what its parent passes on, and that counts as a name of the file that has it.
fn circles(source: &[&File], found: &mut Vec<Violation>) {
    let modules: BTreeMap<Vec<String>, &File> = source
        .iter()
        .filter(|file| !file.is_test())
        .filter_map(|file| Some((file.module_path()?.into_iter().map(str::to_owned).collect(), *file)))
        .collect();
    let module_of = |path: &[String]| {
        let prefixes = (1..=path.len()).rev().map(|length| &path[..length]);
        prefixes.filter_map(|prefix| Some(modules.get_key_value(prefix)?.0.as_slice())).next()
    };
    let read: Vec<_> = modules
        .iter()
        .map(|(module, file)| {
            let parts: Vec<&str> = module.iter().map(String::as_str).collect();
            (module, file.paths_from_crate(&parts), file.passed_on(&parts))
        })
        .collect();
    let mut owners = BTreeMap::new();
    for (module, _, passed_on) in &read {
        for path in passed_on {
            if let (Some(name), Some(owner)) = (path.last(), module_of(path)) {
                owners.insert((module.as_slice(), name.as_str()), owner);
            }
        }
    }
    let mut imports: BTreeMap<&[String], BTreeMap<&[String], usize>> = BTreeMap::new();
    for (module, paths, _) in &read {
        for (line, path) in paths {
            let Some(direct) = module_of(path) else { continue };
            let name = path.last().map_or("", String::as_str);
            let target = *owners.get(&(direct, name)).unwrap_or(&direct);
            let is_shipped = *line <= modules[*module].shipped_lines();
            if is_shipped && target[0] == module[0] && !module.starts_with(target) {
                imports.entry(module).or_default().entry(target).or_insert(*line);
            }
        }
    }
    for (module, targets) in &imports {
        for (target, line) in targets {
            let (mut seen, mut next) = (vec![*target], vec![*target]);
            while let Some(at) = next.pop() {
                for further in imports.get(at).into_iter().flat_map(BTreeMap::keys) {
                    if !seen.contains(further) {
                        seen.push(further);
                        next.push(further);
                    }
                }
            }
            if seen.contains(module) {
                let text = format!("{} imports this file, by whatever way", target.join("::"));
                found.push(modules[*module].violation("circles", *line, &text));
            }
        }
    }
}

fn pure(file: &File, found: &mut Vec<Violation>) {
    let mut header = file.text.lines().take_while(|line| line.starts_with("//!"));
    if header.any(|line| line.split_whitespace().any(|word| word == "Pure.")) {
        for name in IMPURE {
            for line in file.lines_with(name) {
                found.push(file.violation("pure", line, &format!("a pure file names {name}")));
            }
        }
    }
}

fn doors(file: &File, found: &mut Vec<Violation>) {
    // A test may start a program or read a variable; what ships may not.
    for (names, places) in DOORS.iter().filter(|_| !file.is_test()) {
        for name in names.iter().filter(|_| !file.is_in(places)) {
            for line in file.lines_with(name) {
                found.push(file.violation("doors", line, &format!("{name} belongs to {}", places[0])));
            }
        }
    }
}

fn fences(source: &[&File], found: &mut Vec<Violation>) {
    for (name, limit) in FENCED {
        let users = source.iter().filter_map(|file| Some((file, file.lines_with(name).first().copied()?)));
        for (file, line) in users.skip(limit) {
            found.push(file.violation("fences", line, &format!("{name} is in more than {limit} files")));
        }
    }
    for (name, places) in HOMES {
        for file in source.iter().filter(|file| !file.is_in(places)) {
            for line in file.lines_with(name) {
                found.push(file.violation("fences", line, &format!("{name} belongs to {}", places[0])));
            }
        }
    }
}

fn first_line(file: &File, found: &mut Vec<Violation>) {
    let header = file.text.lines().map_while(|line| line.strip_prefix("//! "));
    let paragraph = header.collect::<Vec<_>>().join(" ");
    if !paragraph.contains(". ") && !paragraph.ends_with('.') {
        found.push(file.violation("first-line", 1, "does not say in a sentence what the file is for"));
    }
}

/// One type name has one meaning, so that a search finds it. `Args` are the arguments of a command, one per file.
fn unique_types(source: &[&File], found: &mut Vec<Violation>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for file in source.iter().filter(|file| !file.is_test()) {
        for (line, name) in file.types().into_iter().filter(|(_, name)| *name != "Args") {
            if let Some(other) = seen.insert(name, file.path) {
                let text = format!("{name} is the name of a type in {other}, too");
                found.push(file.violation("unique-types", line, &text));
            }
        }
    }
}

fn banned_words(file: &File, found: &mut Vec<Violation>) {
    for (line, word) in file.identifier_words() {
        if BANNED_WORDS.contains(&word.as_str()) {
            let text = format!("docs/glossary.md has a better word than `{word}`");
            found.push(file.violation("banned-words", line, &text));
        }
    }
}

/// The steps of a tick are read as one screen. Nothing else has a limit on its lines.
fn pipeline(file: &File, found: &mut Vec<Violation>) {
    let lines = file.text.lines().count();
    if file.path == PIPELINE.0 && lines > PIPELINE.1 {
        let text = format!("{lines} lines: the pipeline is one screen of {}", PIPELINE.1);
        found.push(file.violation("pipeline", PIPELINE.1 + 1, &text));
    }
}

fn dropped_results(source: &[&File], found: &mut Vec<Violation>) {
    let drops =
        source.iter().flat_map(|file| file.lines_with("let _ =").into_iter().map(move |line| (file, line)));
    for (file, line) in drops.skip(DROPPED_RESULTS_MAX) {
        let text = format!("more than {DROPPED_RESULTS_MAX} results thrown away");
        found.push(file.violation("dropped-results", line, &text));
    }
}

fn marks(file: &File, found: &mut Vec<Violation>) {
    let of_ours = ["src/", "tests/", "xtask/"].iter().any(|folder| file.path.starts_with(folder));
    for (number, line) in (1..).zip(file.text.lines()) {
        for mark in MARKS.iter().filter(|mark| of_ours && line.contains(*mark)) {
            found.push(file.violation("marks", number, mark));
        }
        for place in PLACES.iter().filter(|place| line.contains(*place)) {
            found.push(file.violation("places", number, place));
        }
    }
}

fn reasons(file: &File, found: &mut Vec<Violation>) {
    for (number, line) in (1..).zip(file.text.lines()).filter(|(_, line)| line.contains(IGNORE)) {
        let allowed = |reason: &&str| line.trim() == format!("{IGNORE} = \"{reason}\"]");
        if !REASONS.iter().any(allowed) {
            found.push(file.violation("reasons", number, &format!("is none of {REASONS:?}")));
        }
    }
}

/// The daily tests try a part of each area: each module of the integration tests has a test that is not left to the gate.
fn areas(rust: &[&File], found: &mut Vec<Violation>) {
    let Some(main) = rust.iter().find(|file| file.path == "tests/it/main.rs") else { return };
    let declared = (1..).zip(main.text.lines()).filter_map(|(number, line)| {
        Some((number, line.strip_prefix("mod ")?.strip_suffix(';')?)).filter(|(_, area)| *area != "support")
    });
    for (number, area) in declared {
        let [own, inner, sim] =
            [format!("tests/it/{area}.rs"), format!("tests/it/{area}/"), format!("tests/{area}/")];
        let is_own =
            |file: &&&File| file.path == own || file.path.starts_with(&inner) || file.path.starts_with(&sim);
        let daily = |file: &&File| {
            let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
            lines.windows(2).any(|pair| pair[0] == "#[test]" && !pair[1].starts_with(IGNORE))
        };
        if !rust.iter().filter(is_own).any(daily) {
            found.push(main.violation("areas", number, &format!("{area} has no test that runs daily")));
        }
    }
}

/// A page that no other page leads to is not found by a reader.
fn docs_linked(files: &[File], found: &mut Vec<Violation>) {
    let is_doc = |path: &str| path.starts_with("docs/") && path.ends_with(".md");
    let pages: Vec<&File> =
        files.iter().filter(|file| is_doc(file.path) || file.path == "README.md").collect();
    for doc in pages.iter().filter(|file| is_doc(file.path)) {
        let mut others = pages.iter().filter(|page| page.path != doc.path);
        if !others.any(|page| page.links().iter().any(|link| link == doc.path)) {
            found.push(doc.violation("docs-linked", 1, "no other page links to it"));
        }
    }
}

/// The mark is what puts a file under the rule, so in `rules` it must not be forgotten.
#[test]
fn the_rules_are_marked_pure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tree = Vec::new();
    read_tree(root, root, &mut tree);
    let rules: Vec<File> = files(&tree)
        .into_iter()
        .filter(|file| file.path.starts_with("src/rules/") && file.path.ends_with(".rs"))
        .collect();
    assert!(rules.len() > 10, "the rules are read");
    for file in rules.iter().filter(|file| !file.is_test()) {
        assert!(file.text.starts_with("//! Pure. "), "{} is not marked", file.path);
    }
}
