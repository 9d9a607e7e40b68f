//! Pure. Files as a graph of who uses whom, and the importance of each file for a question: personalised PageRank.
//!
//! The measure is that of Page, Brin, Motwani and Winograd, "The PageRank Citation Ranking" (1999), with the
//! restart at chosen nodes of Haveliwala, "Topic-Sensitive PageRank" (2002): a walker follows an edge with
//! probability 0.85 in proportion to the edges' weights, and otherwise restarts at one of the seeds.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::imports::{Files, dir, resolve};
use super::index::{IndexEntry, MapIndex};
use super::lang::Lang;

/// The probability that the walker follows an edge.
const DAMPING: f64 = 0.85;
/// The most iterations; fewer if the ranks have converged.
const MAX_STEPS: usize = 150;
/// The ranks have converged if they change less than this in one step.
const STILL: f64 = 1e-9;
/// The weight of an import, beside the names that are used from it.
const IMPORT: f64 = 1.0;
/// The weight of the way back: the caller may be wrong, too.
const BACK: f64 = 0.15;
/// The weight of a use if no import says where the name comes from.
const UNSURE: f64 = 0.2;
/// A name with more definitions than this says nothing about any of them.
const MAX_DEFINERS: usize = 12;
/// The factor for a name that the question contains.
const ASKED: f64 = 4.0;

/// Why one file leads to another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Edge {
    pub(super) to: usize,
    pub(super) weight: f64,
    /// True if the first file imports the second, or if the edge is the way back of such an import.
    pub(super) imports: bool,
    /// The name with the largest weight in the edge.
    pub(super) name: Option<u32>,
    pub(super) back: bool,
}

/// The graph of an index. Files are numbered in the order of their paths.
pub(super) struct Graph<'a> {
    pub(super) paths: Vec<&'a str>,
    pub(super) edges: Vec<Vec<Edge>>,
}

/// The data about the whole project that building the edges needs.
struct GraphInput<'a> {
    index: &'a MapIndex,
    asked: &'a HashSet<u32>,
    paths: Vec<&'a str>,
    langs: Vec<Option<Lang>>,
    known: Files<'a>,
    /// For each name, the files that define it.
    definers: Vec<Vec<usize>>,
    /// For each name, the number of files that refer to it.
    users: Vec<u32>,
}

impl<'a> GraphInput<'a> {
    fn new(index: &'a MapIndex, asked: &'a HashSet<u32>) -> GraphInput<'a> {
        let paths: Vec<&str> = index.files.keys().map(String::as_str).collect();
        let entries: Vec<&IndexEntry> = index.files.values().collect();
        let mut definers: Vec<Vec<usize>> = vec![Vec::new(); index.names.len()];
        let mut users = vec![0_u32; index.names.len()];
        for (at, entry) in entries.iter().enumerate() {
            for (name, ..) in &entry.defs {
                if let Some(list) = definers.get_mut(*name as usize).filter(|list| list.last() != Some(&at)) {
                    list.push(at);
                }
            }
            for (name, _) in &entry.refs {
                users.get_mut(*name as usize).into_iter().for_each(|users| *users += 1);
            }
        }
        let langs = paths.iter().map(|path| Lang::of(path)).collect();
        let known = known(&paths, &entries);
        GraphInput { index, asked, paths, langs, known, definers, users }
    }

    /// The edges of a file: to the files that it imports, and to those whose names it uses.
    fn edges(&self, at: usize, entry: &IndexEntry) -> Vec<Edge> {
        let Some(lang) = self.langs[at] else { return Vec::new() };
        let mut near: HashSet<usize> = HashSet::new();
        for import in &entry.imports {
            near.extend(resolve(lang.family(), self.paths[at], import, &self.known));
        }
        near.remove(&at);
        let mut out: BTreeMap<usize, Edge> =
            near.iter().map(|to| (*to, Edge::to(*to, IMPORT, true))).collect();
        if lang == Lang::Go {
            let beside = self.known.go_dirs.get(dir(self.paths[at]));
            near.extend(beside.into_iter().flatten().filter(|other| **other != at));
        }
        let mut best: HashMap<usize, f64> = HashMap::new();
        for (name, count) in &entry.refs {
            let (meant, weight) = self.meant(at, lang, *name, &near);
            for to in &meant {
                let weight = weight * ln(count.saturating_add(1)) / meant.len() as f64;
                let edge = out.entry(*to).or_insert_with(|| Edge::to(*to, 0.0, false));
                edge.weight += weight;
                if best.get(to).is_none_or(|best| weight > *best) {
                    best.insert(*to, weight);
                    edge.name = Some(*name);
                }
            }
        }
        out.into_values().collect()
    }

    /// The files to which a name refers in a file, and the weight of one use of it.
    fn meant(&self, at: usize, lang: Lang, name: u32, near: &HashSet<usize>) -> (Vec<usize>, f64) {
        let all = self.definers.get(name as usize).map_or(&[][..], Vec::as_slice);
        let users = self.users.get(name as usize).copied().unwrap_or(1);
        let asked = if self.asked.contains(&name) { ASKED } else { 1.0 };
        // A name that many files use or define tells little.
        let weight = asked / (1.0 + ln(users)) / (all.len().max(1) as f64).sqrt();
        let meant: Vec<usize> = all.iter().filter(|to| near.contains(to)).copied().collect();
        if !meant.is_empty() {
            return (meant, weight);
        }
        // A name that the file itself defines means its own definition, unless it imports another file's.
        if all.contains(&at) || all.len() > MAX_DEFINERS {
            return (Vec::new(), 0.0);
        }
        let ours = |to: &&usize| self.langs[**to].is_some_and(|other| other.family() == lang.family());
        (all.iter().filter(ours).copied().collect(), weight * UNSURE)
    }
}

impl Edge {
    fn to(to: usize, weight: f64, imports: bool) -> Edge {
        Edge { to, weight, imports, name: None, back: false }
    }
}

impl<'a> Graph<'a> {
    /// Builds the graph. Names in `asked` weigh more.
    pub(super) fn new(index: &'a MapIndex, asked: &HashSet<u32>) -> Graph<'a> {
        let project = GraphInput::new(index, asked);
        let entries = project.index.files.values().enumerate();
        let edges = entries.map(|(at, entry)| project.edges(at, entry)).collect();
        let mut graph = Graph { paths: index.files.keys().map(String::as_str).collect(), edges };
        graph.add_ways_back();
        graph
    }

    fn add_ways_back(&mut self) {
        let mut back: Vec<(usize, Edge)> = Vec::new();
        for (from, edges) in self.edges.iter().enumerate() {
            for edge in edges {
                let weight = edge.weight * BACK;
                back.push((edge.to, Edge { to: from, weight, back: true, ..edge.clone() }));
            }
        }
        for (from, edge) in back {
            self.edges[from].push(edge);
        }
    }

    /// The importance of each file: half by the walk, half by the seeds, so that a named file comes before the
    /// hubs in which every walk ends. The scores sum to one.
    pub(super) fn score(&self, seeds: &[f64]) -> Vec<f64> {
        let start = self.start(seeds);
        self.rank(&start).into_iter().zip(start).map(|(rank, start)| f64::midpoint(rank, start)).collect()
    }

    /// The seeds as shares that sum to one; without seeds every file has the same share.
    fn start(&self, seeds: &[f64]) -> Vec<f64> {
        let sum: f64 = seeds.iter().sum();
        match sum > 0.0 {
            true => seeds.iter().map(|seed| seed / sum).collect(),
            false => vec![1.0 / self.paths.len() as f64; self.paths.len()],
        }
    }

    /// How often the walker visits each file if it starts with these shares. The ranks sum to one.
    fn rank(&self, start: &[f64]) -> Vec<f64> {
        let count = self.paths.len();
        let totals: Vec<f64> =
            self.edges.iter().map(|edges| edges.iter().map(|edge| edge.weight).sum()).collect();
        let mut rank = start.to_vec();
        for _ in 0..MAX_STEPS {
            let mut next = vec![0.0; count];
            let mut stuck = 0.0;
            for (from, edges) in self.edges.iter().enumerate() {
                if totals[from] <= 0.0 {
                    stuck += rank[from];
                    continue;
                }
                let share = DAMPING * rank[from] / totals[from];
                edges.iter().for_each(|edge| next[edge.to] += share * edge.weight);
            }
            // A walker without an outgoing edge restarts.
            let again = 1.0 - DAMPING + DAMPING * stuck;
            next.iter_mut().zip(start).for_each(|(next, start)| *next += again * start);
            let moved: f64 = rank.iter().zip(&next).map(|(old, new)| (old - new).abs()).sum();
            rank = next;
            if moved < STILL {
                break;
            }
        }
        rank
    }

    /// For each file, the edge that contributes most to its rank, and the file from which it comes.
    pub(super) fn ways_in(&self, rank: &[f64]) -> Vec<Option<(usize, &Edge)>> {
        let mut best: Vec<Option<(usize, &Edge)>> = vec![None; self.paths.len()];
        let mut most = vec![0.0; self.paths.len()];
        for (from, edges) in self.edges.iter().enumerate() {
            let total: f64 = edges.iter().map(|edge| edge.weight).sum();
            for edge in edges.iter().filter(|edge| edge.to != from) {
                let flow = rank[from] * edge.weight / total;
                if flow > most[edge.to] {
                    most[edge.to] = flow;
                    best[edge.to] = Some((from, edge));
                }
            }
        }
        best
    }
}

fn known<'a>(paths: &[&'a str], entries: &[&'a IndexEntry]) -> Files<'a> {
    let by_path = paths.iter().enumerate().map(|(at, path)| (*path, at)).collect();
    let mut known = Files { by_path, ..Files::default() };
    for (at, path) in paths.iter().enumerate() {
        match Lang::of(path) {
            Some(Lang::Go) => known.go_dirs.entry(dir(path)).or_default().push(at),
            // A manifest is not program text, but it names files.
            None => {
                known.packages.extend(entries[at].imports.iter().map(|name| (name.as_str(), dir(path))));
            }
            _ => {}
        }
    }
    known
}

/// The natural logarithm of a count, linear between powers of two: at most 0.06 too small. A library's own may
/// differ in its last digit between systems, and that could swap two files in the ranking.
fn ln(count: u32) -> f64 {
    let whole = count.max(1).ilog2();
    let rest = f64::from(count.max(1)) / f64::from(1_u32 << whole) - 1.0;
    (f64::from(whole) + rest) * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(usize, usize, f64)], count: usize) -> Graph<'static> {
        let mut graph = Graph { paths: vec![""; count], edges: vec![Vec::new(); count] };
        for (from, to, weight) in edges {
            graph.edges[*from].push(Edge::to(*to, *weight, false));
        }
        graph
    }

    #[test]
    fn rank_is_a_share_that_follows_edges_from_the_seeds() {
        let chain = graph(&[(0, 1, 1.0), (1, 2, 1.0)], 4);
        let rank = chain.rank(&[1.0, 0.0, 0.0, 0.0]);
        assert!((rank.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(rank[0] > rank[1] && rank[1] > rank[2] && rank[2] > 0.2, "{rank:?}");
        assert!(rank[3] < 1e-12, "{rank:?}");
    }

    #[test]
    fn a_known_case_has_its_known_ranks() {
        // Two nodes that point at each other; the walker starts at the first: r0 = 0.15 + 0.85 r1 and r1 = 0.85 r0.
        let rank = graph(&[(0, 1, 2.0), (1, 0, 5.0)], 2).rank(&[1.0, 0.0]);
        assert!((rank[0] - 1.0 / 1.85).abs() < 1e-6 && (rank[1] - 0.85 / 1.85).abs() < 1e-6, "{rank:?}");
        let even = graph(&[(0, 1, 1.0), (1, 0, 1.0)], 2).score(&[0.0, 0.0]);
        assert!((even[0] - 0.5).abs() < 1e-6, "{even:?}");
        assert!(graph(&[], 0).score(&[]).is_empty());
    }

    #[test]
    fn a_heavier_edge_takes_more() {
        let rank = graph(&[(0, 1, 3.0), (0, 2, 1.0)], 3).rank(&[1.0, 0.0, 0.0]);
        assert!((rank[1] / rank[2] - 3.0).abs() < 1e-6, "{rank:?}");
    }
}
