//! Pure. Files as a graph of who uses whom, and the importance of each file for a question: personalised PageRank.
//!
//! The measure is that of Page, Brin, Motwani and Winograd, "The PageRank Citation Ranking" (1999), with the
//! restart at chosen nodes of Haveliwala, "Topic-Sensitive PageRank" (2002): a walker follows an edge with
//! probability 0.85 in proportion to the edges' weights, and otherwise restarts at one of the seeds.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::imports::{Files, dir, resolve};
use super::index::MapIndex;
use super::lang::Lang;
use super::tags::Tags;

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
pub(super) struct Edge<'a> {
    pub(super) to: usize,
    pub(super) weight: f64,
    /// The name with the largest weight in the edge; `None` if only an import makes it.
    pub(super) name: Option<&'a str>,
    pub(super) back: bool,
}

/// The graph of an index. Files are numbered in the order of their paths.
pub(super) struct Graph<'a> {
    edges: Vec<Vec<Edge<'a>>>,
}

/// The data about the whole project that building the edges needs.
struct GraphInput<'a> {
    asked: &'a HashSet<&'a str>,
    paths: &'a [&'a str],
    langs: Vec<Option<Lang>>,
    known: Files<'a>,
    /// For each name, the files that define it.
    definers: &'a HashMap<&'a str, Vec<usize>>,
    /// For each name, the number of files that refer to it.
    users: HashMap<&'a str, u32>,
}

impl GraphInput<'_> {
    /// The edges of a file: to the files that it imports, and to those whose names it uses.
    fn edges<'t>(&self, at: usize, tags: &'t Tags) -> Vec<Edge<'t>> {
        let Some(lang) = self.langs[at] else { return Vec::new() };
        let mut near: HashSet<usize> = HashSet::new();
        for import in &tags.imports {
            near.extend(resolve(lang.family(), self.paths[at], import, &self.known));
        }
        near.remove(&at);
        let mut out: BTreeMap<usize, Edge> = near.iter().map(|to| (*to, Edge::to(*to, IMPORT))).collect();
        if lang == Lang::Go {
            let beside = self.known.go_dirs.get(dir(self.paths[at]));
            near.extend(beside.into_iter().flatten().filter(|other| **other != at));
        }
        let mut best: HashMap<usize, f64> = HashMap::new();
        for (name, count) in &tags.refs {
            let (meant, weight) = self.meant(at, lang, name, &near);
            for to in &meant {
                let weight = weight * ln(count.saturating_add(1)) / meant.len() as f64;
                let edge = out.entry(*to).or_insert_with(|| Edge::to(*to, 0.0));
                edge.weight += weight;
                if best.get(to).is_none_or(|best| weight > *best) {
                    best.insert(*to, weight);
                    edge.name = Some(name);
                }
            }
        }
        out.into_values().collect()
    }

    /// The files to which a name refers in a file, and the weight of one use of it.
    fn meant(&self, at: usize, lang: Lang, name: &str, near: &HashSet<usize>) -> (Vec<usize>, f64) {
        let all = self.definers.get(name).map_or(&[][..], Vec::as_slice);
        let users = self.users.get(name).copied().unwrap_or(1);
        let asked = if self.asked.contains(name) { ASKED } else { 1.0 };
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

impl Edge<'_> {
    fn to(to: usize, weight: f64) -> Edge<'static> {
        Edge { to, weight, name: None, back: false }
    }
}

impl<'a> Graph<'a> {
    /// Builds the graph of the files at these paths. `definers` are the files that define each name, and names in
    /// `asked` weigh more.
    pub(super) fn new(
        index: &'a MapIndex,
        paths: &[&str],
        definers: &HashMap<&str, Vec<usize>>,
        asked: &HashSet<&str>,
    ) -> Graph<'a> {
        let langs = paths.iter().map(|path| Lang::of(path)).collect();
        let mut users: HashMap<&str, u32> = HashMap::new();
        for name in index.files.values().flat_map(|entry| entry.tags.refs.keys()) {
            *users.entry(name).or_default() += 1;
        }
        let project = GraphInput { asked, paths, langs, known: known(index, paths), definers, users };
        let files = index.files.values().enumerate();
        let mut edges: Vec<Vec<Edge>> = files.map(|(at, entry)| project.edges(at, &entry.tags)).collect();
        for (from, ways) in edges.clone().into_iter().enumerate() {
            for way in ways {
                edges[way.to].push(Edge { to: from, weight: way.weight * BACK, back: true, ..way });
            }
        }
        Graph { edges }
    }

    /// The importance of each file: half by the walk, half by the seeds, so that a named file comes before the
    /// hubs in which every walk ends. The scores sum to one.
    pub(super) fn score(&self, seeds: &[f64]) -> Vec<f64> {
        let sum: f64 = seeds.iter().sum();
        let start: Vec<f64> = match sum > 0.0 {
            true => seeds.iter().map(|seed| seed / sum).collect(),
            // Without seeds every file has the same share.
            false => vec![1.0 / self.edges.len() as f64; self.edges.len()],
        };
        self.rank(&start).into_iter().zip(start).map(|(rank, start)| f64::midpoint(rank, start)).collect()
    }

    /// How often the walker visits each file if it starts with these shares. The ranks sum to one.
    fn rank(&self, start: &[f64]) -> Vec<f64> {
        let totals: Vec<f64> =
            self.edges.iter().map(|edges| edges.iter().map(|edge| edge.weight).sum()).collect();
        let mut rank = start.to_vec();
        for _ in 0..MAX_STEPS {
            let mut next = vec![0.0; self.edges.len()];
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
    pub(super) fn ways_in(&self, rank: &[f64]) -> Vec<Option<(usize, &Edge<'a>)>> {
        let mut best: Vec<Option<(usize, &Edge<'a>)>> = vec![None; self.edges.len()];
        let mut most = vec![0.0; self.edges.len()];
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

fn known<'a>(index: &'a MapIndex, paths: &[&'a str]) -> Files<'a> {
    let by_path = paths.iter().enumerate().map(|(at, path)| (*path, at)).collect();
    let mut known = Files { by_path, ..Files::default() };
    for (at, (path, entry)) in index.files.iter().enumerate() {
        match Lang::of(path) {
            Some(Lang::Go) => known.go_dirs.entry(dir(path)).or_default().push(at),
            // A manifest is not program text, but it names files.
            None => known.packages.extend(entry.tags.imports.iter().map(|name| (name.as_str(), dir(path)))),
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
        let mut graph = Graph { edges: vec![Vec::new(); count] };
        for (from, to, weight) in edges {
            graph.edges[*from].push(Edge::to(*to, *weight));
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
