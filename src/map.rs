//! The code map: which files of a project matter for a question.
//!
//! A grammar for each language extracts definitions, references and imports; these make a graph. A random walk
//! over the graph, from the files and names in a failure or a question, ranks the files. The map does not guess
//! what it cannot see: imports that are computed at run time, and references from one language to another.

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
use schemars::JsonSchema;
use serde::Serialize;
use smart_default::SmartDefault;

pub use index::MapIndex;
pub use render::{Rendered, render};
pub use seeds::Question;
pub use tags::Def;

use crate::rules::fault::Fault;
use crate::rules::text::visible;
use graph::{Edge, Graph};
use index::IndexEntry;

/// A file below this share of the best file's rank is left out of the answer.
const FAINT: f64 = 0.002;
/// Files and directories that mark the top of a project.
const MARKS: [&str; 7] =
    [".git", "Cargo.toml", "go.mod", "package.json", "pyproject.toml", "setup.py", "requirements.txt"];

/// The limits of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SmartDefault)]
pub struct MapLimits {
    /// The timeout for updating the index, in milliseconds; the next call reads the files that are still missing.
    #[default(20_000)]
    pub timeout_ms: i64,
    #[default(50_000)]
    pub files: usize,
    /// The largest file that is read, in bytes.
    #[default(1 << 20)]
    pub file_bytes: usize,
}

/// The result of updating an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct IndexUpdate {
    /// The number of files in the project.
    pub files: usize,
    /// False if the project has more files than the limit.
    pub all: bool,
    /// The number of files that were parsed now.
    pub parsed: usize,
    /// The number of files that were not parsed: too large, binary or generated.
    pub skipped: usize,
    /// The number of files that could be parsed only in part.
    pub partial: usize,
    /// The number of files that were not reached in time.
    pub late: usize,
}

impl IndexUpdate {
    /// The gaps of the map, in words; empty if it covers everything.
    pub fn gaps(&self) -> Vec<String> {
        let gaps = [
            (!self.all, format!("only the first {} files were looked at", self.files)),
            (self.late > 0, format!("{} files are not read yet; the next call continues", self.late)),
            (self.skipped > 0, format!("{} files are too large, generated or not text", self.skipped)),
            (self.partial > 0, format!("{} files could be parsed only in part", self.partial)),
        ];
        gaps.into_iter().filter_map(|(is_there, gap)| is_there.then_some(gap)).collect()
    }
}

/// A file of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Ranked {
    /// The path, relative to the root.
    pub path: String,
    /// Its share of the walk, 0 to 1.
    pub rank: f64,
    /// The reasons for its rank, the best one first.
    pub why: Vec<String>,
    /// True if it is a test file.
    #[serde(rename = "test")]
    pub is_test: bool,
    /// The definitions in it.
    #[serde(rename = "defines")]
    pub defs: Vec<Def>,
}

/// The answer to a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapAnswer {
    /// False if no word of the question occurs in the project, so that the ranking is the project's general one.
    pub aimed: bool,
    /// The files, the most important first.
    pub files: Vec<Ranked>,
}

/// Finds the project of a directory: the nearest directory at or above it with a mark of a project.
///
/// # Errors
/// A usage error if no folder above is a project: a map of a whole home directory helps no user.
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
pub fn open(root: &Path, cache: Option<&Path>, limits: &MapLimits) -> Result<(MapIndex, IndexUpdate)> {
    match IS_BUILT_IN {
        true => index::open(root, cache, limits),
        false => {
            let fault = Fault::failed("could not make a code map: this build of looop has none");
            let hint =
                "build looop with its feature `map`, which is on unless --no-default-features turns it off";
            Err(fault.hint(hint).into())
        }
    }
}

/// Ranks the files for a question, most important first. Without seeds the most used files come first.
pub fn ask(index: &MapIndex, question: &Question) -> MapAnswer {
    let paths: Vec<&str> = index.files.keys().map(String::as_str).collect();
    let entries: Vec<&IndexEntry> = index.files.values().collect();
    let definers = index.definers();
    let seeds = seeds::seeds(&paths, &definers, question);
    let graph = Graph::new(index, &paths, &definers, &seeds.names);
    let rank = graph.score(&seeds.weights);
    let best = rank.iter().copied().fold(0.0, f64::max);
    let mut order: Vec<usize> = (0..rank.len()).filter(|at| rank[*at] > best * FAINT).collect();
    order.sort_by(|a, b| rank[*b].total_cmp(&rank[*a]).then(a.cmp(b)));
    let ways_in = graph.ways_in(&rank);
    let one = |at: usize| {
        let mut why = seeds.why.get(&at).cloned().unwrap_or_default();
        why.extend(ways_in[at].map(|(from, edge)| reason(paths[from], edge)));
        let (path, defs) = (paths[at].to_owned(), entries[at].tags.defs.clone());
        Ranked { rank: rank[at], why, is_test: seeds::is_test(&path), path, defs }
    };
    let files = order.into_iter().take(MAX_ANSWER).map(one).collect();
    MapAnswer { aimed: seeds.weights.iter().any(|weight| *weight > 0.0), files }
}

/// How long a worker's brief waits for the map, in milliseconds.
const HINTS_MS: i64 = 3_000;
/// The most files that a brief names.
const HINTS: usize = 8;

/// Lists files that the text of a brief points to, as a section of the brief. Empty if it points to none, or if
/// the map fails. The index is stored in `cache`.
pub fn context_hints(cache: &Path, root: &Path, words: &str) -> String {
    let limits = MapLimits { timeout_ms: HINTS_MS, ..MapLimits::default() };
    let Ok((index, _)) = open(root, Some(cache), &limits) else { return String::new() };
    let answer = ask(&index, &Question { words, ..Question::default() });
    let named = answer.files.iter().filter(|file| answer.aimed && !file.is_test).take(HINTS);
    let lines: String = named
        .map(|file| format!("- {}: {}\n", file.path, file.why.first().map_or("", String::as_str)))
        .collect();
    if lines.is_empty() {
        return lines;
    }
    let lines = visible(&lines, true);
    format!(
        "\n## Where to look\n\nThe text above points to these files, by a graph of which file uses which. This is a guess.\n\n{lines}"
    )
}

/// The most files in an answer.
const MAX_ANSWER: usize = 200;

fn reason(other: &str, edge: &Edge) -> String {
    match (edge.back, edge.name) {
        (false, Some(name)) => format!("{other} uses its `{name}`"),
        (false, None) => format!("{other} imports it"),
        (true, Some(name)) => format!("it uses `{name}` of {other}"),
        (true, None) => format!("it imports {other}"),
    }
}
