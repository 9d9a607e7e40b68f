//! Pure. Decides if an attempt is near-identical to an earlier one: by its changes, not by what the agent reported.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::delta::{DiffLine, FileDelta};
use super::{BreakerConfig, Similarity, SimilarityBasis};
use crate::rules::fix::tokens;

/// With at least this number of new words, and half of all words new, a change is another idea even if it is short.
const IDEA_WORDS: usize = 3;
/// The new words must also be at least this share of the added text. A smaller share is a rewrite with other names.
const IDEA_SHARE: f64 = 0.15;

/// The data of an attempt that is compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttemptDiff {
    /// The number of the attempt; 0 is the base.
    pub n: u32,
    pub start: String,
    pub end: String,
    /// What the attempt changed, from its start to its end.
    pub delta: Vec<FileDelta>,
    /// The work of earlier attempts when it started: the change from the base to its start.
    pub before: Vec<FileDelta>,
    pub from_base: Vec<FileDelta>,
}

/// Returns which of the two previous attempts (newest first) the new attempt resembles. The base replaces a missing
/// one.
pub fn similarity(new: &AttemptDiff, earlier: &[AttemptDiff], limits: &BreakerConfig) -> Option<Similarity> {
    if new.start == new.end {
        let to = earlier.first().map_or(0, |one| one.n);
        return Some(Similarity { to, by: SimilarityBasis::NoChange });
    }
    let near = || earlier.iter().take(2);
    // Check the simplest reason first.
    if let Some(old) = near().find(|old| new.end == old.end) {
        return Some(Similarity { to: old.n, by: SimilarityBasis::SameTree });
    }
    near().filter(|old| old.n > 0).find_map(|old| {
        let by = if new.start == old.start {
            is_same_change(new, old, limits).then_some(SimilarityBasis::SameChange)?
        } else {
            is_rework(new, earlier, limits).then_some(SimilarityBasis::Rework)?
        };
        Some(Similarity { to: old.n, by })
    })
}

/// True for two fresh starts that change a common file, if their changes from the base are nearly the same.
fn is_same_change(new: &AttemptDiff, old: &AttemptDiff, limits: &BreakerConfig) -> bool {
    let paths: BTreeSet<&str> = old.from_base.iter().map(|file| file.path.as_str()).collect();
    let shared = new.from_base.iter().any(|file| paths.contains(file.path.as_str()));
    let of = |sample: &AttemptDiff| {
        let lines = sample.from_base.iter().flat_map(|file| file.hunks.iter().flatten());
        lines.flat_map(signed_tokens).collect::<Vec<String>>()
    };
    shared && tokens::ratio(&of(new), &of(old)) >= limits.same_ratio
}

/// The tokens of an added or removed line, each with its sign; empty for a kept line or one without tokens.
fn signed_tokens(line: &DiffLine) -> Vec<String> {
    let mut found = if line.sign == ' ' { Vec::new() } else { tokens::of_line(&line.text) };
    if !found.is_empty() {
        found.insert(0, line.sign.to_string());
    }
    found
}

/// True for attempts that build on each other, if most changed lines touch what earlier attempts wrote, and little is
/// new.
fn is_rework(new: &AttemptDiff, earlier: &[AttemptDiff], limits: &BreakerConfig) -> bool {
    let known = Known::of(new, earlier);
    let lines = || new.delta.iter().flat_map(|file| file.hunks.iter().flatten());
    if lines().all(|line| signed_tokens(line).is_empty()) {
        // A change of only comments and blanks is rework, but in a new file it counts as work.
        return new.delta.iter().any(|file| known.paths.contains(file.path.as_str()));
    }
    let (mut counted, mut touching) = (Vec::new(), 0_usize);
    for file in &new.delta {
        let is_known = known.paths.contains(file.path.as_str());
        for (hunk, place) in file.hunks.iter().flat_map(|hunk| places(hunk).map(move |place| (hunk, place))) {
            // An agent that rewrites a whole file also changes lines that have nothing to do with the attempt.
            let is_meant = !(is_known && says_the_same(&hunk[place.clone()], limits));
            for at in place.filter(|at| !signed_tokens(&hunk[*at]).is_empty()) {
                let mut around = std::iter::once(&hunk[at]).chain(beside(hunk, at));
                let touches = around.any(|line| known.wrote(&file.path, line));
                touching += usize::from(touches);
                counted.extend((touches || is_meant).then_some(&hunk[at]));
            }
        }
    }
    let again = touching > 0 && touching as f64 >= limits.rework_share * counted.len() as f64;
    again && known.is_little(&counted, limits)
}

/// The changed places of a hunk: runs of added or removed lines without a kept line between them.
fn places(hunk: &[DiffLine]) -> impl Iterator<Item = Range<usize>> {
    let stays = |at: usize| hunk.get(at).is_none_or(|line| line.sign == ' ');
    let begins = (0..hunk.len()).filter(move |at| !stays(*at) && (*at == 0 || stays(*at - 1)));
    begins.map(move |from| from..(from..hunk.len()).find(|at| stays(*at)).unwrap_or(hunk.len()))
}

/// True if the added lines of a place are nearly the same as its removed lines.
fn says_the_same(place: &[DiffLine], limits: &BreakerConfig) -> bool {
    let of = |sign: char| -> Vec<String> {
        let lines = place.iter().filter(|line| line.sign == sign);
        lines.flat_map(|line| tokens::of_line(&line.text)).collect()
    };
    tokens::ratio(&of('+'), &of('-')) >= limits.same_ratio
}

/// What existed before an attempt: written or removed by earlier attempts.
#[derive(Default)]
struct Known<'a> {
    /// The lines that earlier attempts wrote, even if they were removed again.
    written: BTreeSet<(&'a str, String)>,
    /// The files that earlier attempts changed.
    paths: BTreeSet<&'a str>,
    /// How often each token existed before.
    supply: BTreeMap<String, usize>,
}

impl<'a> Known<'a> {
    fn of(new: &'a AttemptDiff, earlier: &'a [AttemptDiff]) -> Known<'a> {
        let mut known = Known::default();
        let deltas = earlier.iter().take(2).map(|old| &old.delta);
        for source in std::iter::once(&new.before).chain(deltas) {
            let mut own: BTreeMap<String, usize> = BTreeMap::new();
            for file in source {
                known.paths.insert(&file.path);
                for line in file.hunks.iter().flatten().filter(|line| line.sign != ' ') {
                    let found = tokens::of_line(&line.text);
                    if !found.is_empty() && line.sign == '+' {
                        known.written.insert((&file.path, found.join(" ")));
                    }
                    found.into_iter().for_each(|token| *own.entry(token).or_default() += 1);
                }
            }
            // These lines may come from an earlier attempt: count them only once.
            for (token, count) in own {
                let most = known.supply.entry(token).or_default();
                *most = count.max(*most);
            }
        }
        known
    }

    /// True if an earlier attempt wrote this line. The same line in another file is legitimate: the same edit is needed
    /// there.
    fn wrote(&self, path: &'a str, line: &DiffLine) -> bool {
        line.sign != '+' && self.written.contains(&(path, tokens::of_line(&line.text).join(" ")))
    }

    /// True if the added lines bring little that did not exist before.
    fn is_little(&self, lines: &[&DiffLine], limits: &BreakerConfig) -> bool {
        let mut left = self.supply.clone();
        let (mut added, mut novel) = (0_usize, 0_usize);
        let mut words: BTreeSet<String> = BTreeSet::new();
        let new_lines = lines.iter().filter(|line| line.sign == '+');
        for token in new_lines.flat_map(|line| tokens::of_line(&line.text)) {
            added += 1;
            match left.get_mut(&token).filter(|left| **left > 0) {
                Some(left) => *left -= 1,
                None => novel += 1,
            }
            // A single letter is a variable name or an option; it does not show a new idea.
            if token.len() > 1 && token.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                words.insert(token);
            }
        }
        let new_words = words.iter().filter(|word| !self.supply.contains_key(*word)).count();
        let is_idea = new_words >= IDEA_WORDS
            && new_words * 2 >= words.len()
            && novel as f64 >= IDEA_SHARE * added as f64;
        !is_idea && (novel <= limits.novel_tokens || novel as f64 <= limits.novel_share * added as f64)
    }
}

/// The nearest lines of code on both sides that were not added together with this one, as far as the hunk shows them.
fn beside(hunk: &[DiffLine], at: usize) -> impl Iterator<Item = &DiffLine> {
    let stood = |line: &&DiffLine| line.sign != '+' && !tokens::of_line(&line.text).is_empty();
    let above = hunk[..at].iter().rev().find(stood);
    let below = hunk[at + 1..].iter().find(stood);
    above.into_iter().chain(below)
}

#[cfg(test)]
#[path = "similarity_tests.rs"]
mod tests;
