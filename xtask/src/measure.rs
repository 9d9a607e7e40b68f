//! How well the measure of the breaker tells a tweak from another change, on real diffs: `cargo xtask bench measure [DIR…]`.
//!
//! Changes come from git histories: this repository, taken apart into four that share no file, and each repository that is
//! named as an argument. A change is what one commit did to one file. *Tweaked* pairs are a change and the same change with
//! other names, numbers, strings or comments, or a line in another place: they are alike. *Real* pairs are a change of a file
//! and the next change of the same file: they are not. Three ways to tell are compared: the product's own (`alike` with the
//! figures that ship), equal text, and "the same failure 3 times". The run fails when a target is missed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::product::{AttemptDiff, BreakerConfig, DiffLine, FileDelta, parse_diff, similarity, tokens};

/// Parts of this repository that become histories of their own; the rest is the last one.
const PARTS: [&str; 3] = ["src/store", "src/worker", "tests"];
/// A change of fewer or more lines is left out: nothing to tweak, or no work of one attempt.
const LINES: std::ops::RangeInclusive<usize> = 4..=400;
/// How many tweaked pairs may be missed, and real ones taken for alike, of a thousand.
const MISSED_MAX: usize = 50;
const FALSE_MAX: usize = 20;

/// The last commit that is measured. After it names were changed by a script, in commits whose changes are all alike.
const LAST: &str = "44e0fad";
const BRANCH: &str = "measured";

type Tweak = (&'static str, fn(&mut Change));

const TWEAKS: [Tweak; 6] = [
    ("renamed locals", rename),
    ("other numbers", numbers),
    ("other strings", strings),
    ("other comments", comments),
    ("a line in another place", reorder),
    ("all of these", all_tweaks),
];

/// What a commit did to a file.
#[derive(Clone, PartialEq)]
struct Change {
    file: FileDelta,
    seed: u64,
}

#[derive(Default)]
struct Count {
    pairs: usize,
    ratio: usize,
    exact: usize,
    ratios: Vec<f64>,
}

/// Measures all of it; returns how many targets were missed.
pub fn run(named: Vec<PathBuf>) -> usize {
    let root = crate::root();
    println!("cargo xtask bench measure{}", if named.is_empty() { "" } else { " DIR…" });
    let dir = tempfile::tempdir().unwrap();
    let mut histories: Vec<(String, PathBuf)> = Vec::new();
    if git(root, &["rev-parse", "--verify", "-q", "HEAD"]).is_some() {
        let rest: Vec<String> = PARTS.iter().map(|part| format!(":(exclude){part}")).collect();
        for part in PARTS {
            histories.push((format!("looop, {part}"), split(root, dir.path(), &[part])));
        }
        let rest: Vec<&str> = std::iter::once(".").chain(rest.iter().map(String::as_str)).collect();
        histories.push(("looop, the rest".to_owned(), split(root, dir.path(), &rest)));
    } else {
        println!("skipped: {} has no history", root.display());
    }
    histories
        .extend(named.into_iter().map(|dir| (dir.file_name().unwrap().to_string_lossy().into_owned(), dir)));
    let mut rows: BTreeMap<usize, (String, Count)> = BTreeMap::new();
    println!("\n| history | commits | changes of a file | real pairs |\n|---|---|---|---|");
    for (name, repo) in &histories {
        let (commits, changes) = changes(repo);
        let mut pairs = 0;
        let mut last: BTreeMap<&str, &Change> = BTreeMap::new();
        for change in &changes {
            for (at, (what, tweak)) in TWEAKS.iter().enumerate() {
                let mut other = change.clone();
                tweak(&mut other);
                if other.file != change.file {
                    let row =
                        rows.entry(at).or_insert_with(|| (format!("tweaked: {what}"), Count::default()));
                    compare(change, &other, &mut row.1);
                }
            }
            if let Some(before) = last.insert(&change.file.path, change) {
                let row = rows
                    .entry(TWEAKS.len())
                    .or_insert_with(|| ("real: two commits".to_owned(), Count::default()));
                compare(before, change, &mut row.1);
                pairs += 1;
            }
        }
        println!("| {name} | {commits} | {} | {pairs} |", changes.len());
    }
    report(&rows)
}

fn report(rows: &BTreeMap<usize, (String, Count)>) -> usize {
    println!(
        "\n| pairs | count | should be | taken for alike: token ratio | equal text | same failure 3 times | ratio, lowest / median / highest |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut missed = Vec::new();
    for (at, (what, count)) in rows {
        let is_real = *at == TWEAKS.len();
        let mut ratios = count.ratios.clone();
        ratios.sort_by(f64::total_cmp);
        let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
        println!(
            "| {what} | {} | {} | {} ({:.1} %) | {} ({:.1} %) | {} (100 %) | {low:.2} / {:.2} / {high:.2} |",
            count.pairs,
            if is_real { "other" } else { "alike" },
            count.ratio,
            percent(count.ratio, count.pairs),
            count.exact,
            percent(count.exact, count.pairs),
            count.pairs,
            ratios[ratios.len() / 2],
        );
        let wrong = if is_real { count.ratio } else { count.pairs - count.ratio };
        if wrong * 1000 > count.pairs * if is_real { FALSE_MAX } else { MISSED_MAX } {
            missed.push(what);
        }
    }
    println!(
        "\nTargets: of tweaked pairs at most {} % missed, of real pairs at most {} % taken for alike: {}",
        MISSED_MAX / 10,
        FALSE_MAX / 10,
        if missed.is_empty() { "met".to_owned() } else { format!("MISSED by {missed:?}") }
    );
    missed.len()
}

fn percent(part: usize, of: usize) -> f64 {
    part as f64 * 100.0 / of.max(1) as f64
}

/// Two fresh starts from the same files, told apart by what each changed.
fn compare(one: &Change, other: &Change, count: &mut Count) {
    let sample = |n: u32, change: &Change| AttemptDiff {
        n,
        start: "base".to_owned(),
        end: format!("end {n}"),
        from_base: vec![change.file.clone()],
        delta: vec![change.file.clone()],
        ..AttemptDiff::default()
    };
    count.pairs += 1;
    let base = AttemptDiff { start: "base".into(), end: "base".into(), ..AttemptDiff::default() };
    let like = similarity(&sample(2, other), &[sample(1, one), base], &BreakerConfig::default());
    count.ratio += usize::from(like.is_some());
    count.exact += usize::from(one.file.hunks == other.file.hunks);
    let of = |change: &Change| -> Vec<String> {
        let lines = change.file.hunks.iter().flatten().filter(|line| line.sign != ' ');
        lines
            .flat_map(|line| std::iter::once(line.sign.to_string()).chain(tokens::of_line(&line.text)))
            .collect()
    };
    count.ratios.push(tokens::ratio(&of(one), &of(other)));
}

fn git(repo: &Path, args: &[&str]) -> Option<String> {
    let out = Command::new("git").arg("-C").arg(repo).args(args).output().unwrap();
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A repository with the part of a history that is about these paths.
fn split(root: &Path, dir: &Path, paths: &[&str]) -> PathBuf {
    let repo = dir.join(paths[paths.len() - 1].replace(['/', ':', '(', ')'], "-"));
    assert!(Command::new("git").args(["init", "-q"]).arg(&repo).status().unwrap().success());
    // A copy, because fast-export takes branches only.
    let copy = repo.with_extension("git");
    assert!(Command::new("git").args(["clone", "-q"]).arg(root).arg(&copy).status().unwrap().success());
    assert!(git(&copy, &["branch", "-f", BRANCH, LAST]).is_some(), "{LAST} is not in this history");
    let export = ["fast-export", "--signed-tags=strip", "--tag-of-filtered-object=drop", BRANCH, "--"];
    let mut out = Command::new("git")
        .arg("-C")
        .arg(&copy)
        .args(export)
        .args(paths)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let read = Command::new("git")
        .arg("-C")
        .arg(&repo)
        .args(["fast-import", "--quiet", "--force"])
        .stdin(out.stdout.take().unwrap())
        .status();
    assert!(read.unwrap().success() && out.wait().unwrap().success());
    repo
}

/// All changes of files in a history, oldest first, and how many commits there are.
fn changes(repo: &Path) -> (usize, Vec<Change>) {
    let listed = git(repo, &["rev-list", "--no-merges", "--reverse", "--topo-order", "--all"]).unwrap();
    let mut changes = Vec::new();
    for commit in listed.lines() {
        let diff = git(repo, &["show", "--format=", "--no-renames", "--no-color", "-U1", commit]).unwrap();
        for file in parse_diff(&diff) {
            let lines = file.hunks.iter().flatten();
            let changed = lines.filter(|line| line.sign != ' ').count();
            let is_code = [".rs", ".sh", ".py", ".go", ".js", ".ts", ".c", ".h"]
                .iter()
                .any(|end| file.path.ends_with(end));
            if LINES.contains(&changed) && is_code {
                changes.push(Change { file, seed: changes.len() as u64 });
            }
        }
    }
    (listed.lines().count(), changes)
}

/// Rewrites each added line.
fn each_added(change: &mut Change, edit: impl Fn(&str) -> String) {
    for line in change.file.hunks.iter_mut().flatten().filter(|line| line.sign == '+') {
        line.text = edit(&line.text);
    }
}

/// Two names that are in added lines get others, everywhere in them.
fn rename(change: &mut Change) {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for line in change.file.hunks.iter().flatten() {
        if line.sign == '+' {
            let found = tokens::of_line(&line.text).into_iter();
            let is_local =
                |name: &String| name.len() > 2 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            found
                .filter(is_local)
                .filter(|name| !KEYWORDS.contains(&name.as_str()))
                .for_each(|name| *names.entry(name).or_default() += 1);
        }
    }
    // Names of a body, neither once there nor on every line.
    let names: Vec<String> =
        names.into_iter().filter(|(_, many)| (2..6).contains(many)).map(|(name, _)| name).collect();
    let picked: Vec<&String> = (0..2)
        .filter_map(|nth| names.get((change.seed as usize * 7 + nth * 3) % names.len().max(1)))
        .collect();
    let picked: Vec<String> = picked.into_iter().cloned().collect();
    each_added(change, |text| {
        picked.iter().fold(text.to_owned(), |text, name| replace_word(&text, name, &format!("{name}_now")))
    });
}

const KEYWORDS: [&str; 24] = [
    "let", "mut", "pub", "use", "for", "impl", "match", "return", "self", "super", "crate", "mod", "struct",
    "enum", "const", "while", "loop", "else", "where", "true", "false", "then", "done", "str",
];

fn replace_word(text: &str, word: &str, with: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let end = at + word.len();
        let whole = !rest[..at].ends_with(is_word) && !rest[end..].starts_with(is_word);
        out.push_str(&rest[..at]);
        out.push_str(if whole { with } else { word });
        rest = &rest[end..];
    }
    out + rest
}

fn numbers(change: &mut Change) {
    each_added(change, |text| text.chars().map(|c| if c.is_ascii_digit() { '7' } else { c }).collect());
}

/// Words within quotes are others.
fn strings(change: &mut Change) {
    each_added(change, |text| {
        let parts: Vec<&str> = text.split('"').collect();
        // A quote that is not closed on its line, or one that is escaped, is left as it is.
        if parts.len().is_multiple_of(2) || text.contains('\\') {
            return text.to_owned();
        }
        let own = parts
            .iter()
            .enumerate()
            .map(|(at, part)| if at % 2 == 1 { format!("{part} again") } else { (*part).to_owned() });
        own.collect::<Vec<_>>().join("\"")
    });
}

fn comments(change: &mut Change) {
    let mark =
        if change.file.path.ends_with(".py") || change.file.path.ends_with(".sh") { "#" } else { "//" };
    let seed = change.seed as usize;
    for (at, line) in change.file.hunks.iter_mut().flatten().enumerate() {
        if line.sign == '+' && (at + seed).is_multiple_of(3) {
            line.text.push_str(&format!(" {mark} tried again"));
        }
    }
}

/// The longest added line goes three lines up.
fn reorder(change: &mut Change) {
    for hunk in &mut change.file.hunks {
        let added = |line: &DiffLine| line.sign == '+';
        let at = (1..hunk.len())
            .rev()
            .find(|at| added(&hunk[*at]) && added(&hunk[at - 1]) && hunk[*at] != hunk[at - 1]);
        if let Some(at) = at {
            let to = (at.saturating_sub(3)..at).find(|to| hunk[*to..=at].iter().all(added)).unwrap_or(at - 1);
            hunk[to..=at].rotate_right(1);
            return;
        }
    }
}

fn all_tweaks(change: &mut Change) {
    for (_, tweak) in &TWEAKS[..TWEAKS.len() - 1] {
        tweak(change);
    }
}
