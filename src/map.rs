//! The code map: which files of a project matter for a question, found by following who uses whom.
//!
//! Files are read by their grammars into definitions, references and imports; these make a graph; from the files and
//! names that a failure or a question has, a random walk over the graph ranks the rest. What it cannot see it does not
//! guess: imports that are put together while a program runs, and references from one language to another.

#![cfg_attr(
    not(feature = "map"),
    expect(dead_code, reason = "what the grammars of the feature `map` would fill")
)]

mod graph;
mod imports;
mod index;
mod lang;
#[cfg(feature = "map")]
mod reader;
#[cfg(not(feature = "map"))]
#[path = "map/no_reader.rs"]
mod reader;
mod render;
#[cfg(feature = "map")]
mod rules;
mod seeds;
mod tags;
mod walk;

use std::path::{Path, PathBuf};

use anyhow::Result;

pub use index::Index;
pub use render::{Rendered, render};
pub use seeds::Question;
pub use tags::Def;

use crate::model::ask::visible;
use crate::model::fault::Fault;
use graph::{Edge, Graph};

/// A file with less than this share of the best file's rank is none of the answer.
const FAINT: f64 = 0.002;
/// What makes a directory a project.
const MARKS: [&str; 7] =
    [".git", "Cargo.toml", "go.mod", "package.json", "pyproject.toml", "setup.py", "requirements.txt"];

/// How far the map goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long bringing the index up to date may take, in milliseconds; what is not read then is read next time.
    pub timeout_ms: i64,
    /// The most files that are looked at.
    pub files: usize,
    /// The largest file that is read, in bytes.
    pub file_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { timeout_ms: 20_000, files: 50_000, file_bytes: 1 << 20 }
    }
}

/// What bringing an index up to date came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Files of the project.
    pub files: usize,
    /// False where there are more than the limits allow.
    pub all: bool,
    /// Files that were read by their grammar now.
    pub parsed: usize,
    /// Files that were not read: too large, binary, generated.
    pub skipped: usize,
    /// Files that their grammar did not understand as a whole.
    pub partial: usize,
    /// Files for which there was no time.
    pub late: usize,
}

impl Said {
    /// What the map does not cover, in words; empty where it covers all.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if !self.all {
            gaps.push(format!("only the first {} files were looked at", self.files));
        }
        if self.late > 0 {
            gaps.push(format!("{} files are not read yet; the next map goes on", self.late));
        }
        if self.skipped > 0 {
            gaps.push(format!("{} files are too large, generated or no text", self.skipped));
        }
        if self.partial > 0 {
            gaps.push(format!("{} files do not parse as a whole", self.partial));
        }
        gaps
    }
}

/// A file of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Its path from the root.
    pub path: String,
    /// Its share of the walk, 0 to 1.
    pub rank: f64,
    /// Why it is here, the best reason first.
    pub why: Vec<String>,
    /// True for a file of tests.
    pub is_test: bool,
    /// What it defines.
    pub defs: Vec<Def>,
}

/// What the map says to a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// False where nothing of the question is known here, so that the ranking is that of the project alone.
    pub aimed: bool,
    /// The files, the most important first.
    pub files: Vec<Ranked>,
}

/// The project that a directory belongs to: the nearest directory around it that has a mark of one.
///
/// # Errors
/// A usage error when there is none: nobody wants a map of a whole home directory.
pub fn root_of(dir: &Path) -> Result<PathBuf> {
    let found = dir.ancestors().find(|dir| MARKS.iter().any(|mark| dir.join(mark).exists()));
    found.map(Path::to_owned).ok_or_else(|| {
        let fault = Fault::usage(format!("could not find a project around `{}`", dir.display()));
        fault
            .hint("a project has a .git, Cargo.toml, go.mod, package.json or pyproject.toml at its top")
            .hint("name its top with --root DIR")
            .into()
    })
}

/// False in a build without the feature `map`, which has no grammars.
pub const IS_BUILT_IN: bool = cfg!(feature = "map");

/// Brings the index of the project at `root` up to date. It is kept in the file `cache`, where one is given.
///
/// # Errors
/// When this build has no code map, the root cannot be listed, or the cache not be written.
pub fn open(root: &Path, cache: Option<&Path>, limits: &Limits) -> Result<(Index, Said)> {
    match IS_BUILT_IN {
        true => index::open(root, cache, limits),
        false => Err(left_out().into()),
    }
}

fn left_out() -> Fault {
    Fault::failed("could not make a code map: this build of looop has none")
        .hint("build looop with its feature `map`, which is on unless --no-default-features turns it off")
}

/// The files that matter for a question, the most important first. Without seeds these are those that most others use.
pub fn ask(index: &Index, question: &Question) -> Answer {
    let seeds = seeds::seeds(index, question);
    let graph = Graph::new(index, &seeds.names);
    let rank = graph.score(&seeds.weights);
    let best = rank.iter().copied().fold(0.0, f64::max);
    let mut order: Vec<usize> = (0..rank.len()).filter(|at| rank[*at] > best * FAINT).collect();
    order.sort_by(|a, b| rank[*b].total_cmp(&rank[*a]).then(a.cmp(b)));
    let ways_in = graph.ways_in(&rank);
    let one = |at: usize| {
        let path = graph.paths[at];
        let mut why = seeds.why.get(&at).cloned().unwrap_or_default();
        why.extend(ways_in[at].map(|(from, edge)| reason(index, graph.paths[from], edge)));
        let defs = index.defs(path);
        Ranked { path: path.to_owned(), rank: rank[at], why, is_test: seeds::is_test(path), defs }
    };
    let files = order.into_iter().take(MAX_ANSWER).map(one).collect();
    Answer { aimed: seeds.weights.iter().any(|weight| *weight > 0.0), files }
}

/// How long a brief waits for the map, in milliseconds.
const LEADS_MS: i64 = 3_000;
/// How many files a brief names.
const LEADS: usize = 8;

/// Where in the project at `root` the words of a brief lead to, as a part of the brief; empty where they lead nowhere, or
/// where the map cannot be made. The index is kept in `cache`.
pub fn leads(cache: &Path, root: &Path, words: &str) -> String {
    let limits = Limits { timeout_ms: LEADS_MS, ..Limits::default() };
    let Ok((index, _)) = open(root, Some(cache), &limits) else { return String::new() };
    let answer = ask(&index, &Question { words, ..Question::default() });
    let named = answer.files.iter().filter(|file| answer.aimed && !file.is_test).take(LEADS);
    let lines: String = named
        .map(|file| format!("- {}: {}\n", file.path, file.why.first().map_or("", String::as_str)))
        .collect();
    if lines.is_empty() {
        return lines;
    }
    let lines = visible(&lines, true);
    format!(
        "\n## Where to look\n\nThe words above lead to these files, by who uses whom. It is a guess.\n\n{lines}"
    )
}

/// The most files of an answer.
const MAX_ANSWER: usize = 200;

fn reason(index: &Index, other: &str, edge: &Edge) -> String {
    let name = edge.name.map(|id| format!("`{}`", index.name(id)));
    match (edge.back, name, edge.imports) {
        (false, Some(name), _) => format!("{other} uses its {name}"),
        (false, None, _) => format!("{other} imports it"),
        (true, Some(name), _) => format!("it uses {name} of {other}"),
        (true, None, _) => format!("it imports {other}"),
    }
}
