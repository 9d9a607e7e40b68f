//! Tests of similarity: attempts as texts of one file, compared as the loop compares them.

use super::*;
use crate::rules::fix::attempt::delta::FileDelta;

const BASE: &str = "def add(a, b):\n    return a - b\n\n\ndef sub(a, b):\n    return a * b\n\n\ndef mul(a, b):\n    return a / b\n";

/// Returns the change of one file, as `git diff -U1` prints it.
fn delta(path: &str, from: &str, to: &str) -> Vec<FileDelta> {
    if from == to {
        return Vec::new();
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
    let ops = similar::capture_diff_slices(similar::Algorithm::Myers, &old, &new);
    let own = |lines: &[&str], sign: char| -> Vec<DiffLine> {
        lines.iter().map(|line| DiffLine { sign, text: (*line).to_owned() }).collect()
    };
    let hunk = |group: &Vec<similar::DiffOp>| -> Vec<DiffLine> {
        group
            .iter()
            .flat_map(|op| match op.tag() {
                similar::DiffTag::Equal => own(&old[op.old_range()], ' '),
                _ => [own(&old[op.old_range()], '-'), own(&new[op.new_range()], '+')].concat(),
            })
            .collect()
    };
    let hunks = similar::group_diff_ops(ops, 1).iter().map(hunk).collect();
    vec![FileDelta { path: path.to_owned(), hunks }]
}

fn sample(n: u32, start: &str, end: &str) -> AttemptDiff {
    sample_of("calc.py", n, start, end)
}

fn sample_of(path: &str, n: u32, start: &str, end: &str) -> AttemptDiff {
    let [delta, before, from_base] =
        [(start, end), (BASE, start), (BASE, end)].map(|(a, b)| delta(path, a, b));
    AttemptDiff { n, start: format!("{path}{start}"), end: format!("{path}{end}"), delta, before, from_base }
}

fn base() -> AttemptDiff {
    sample(0, BASE, BASE)
}

/// Returns what the last of these attempts resembles; `texts` are the results of attempts that build on each other.
fn chain(texts: &[String]) -> Option<(u32, SimilarityBasis)> {
    let mut samples = vec![base()];
    let mut start = BASE.to_owned();
    for (at, end) in texts.iter().enumerate() {
        samples.insert(0, sample(at as u32 + 1, &start, end));
        start.clone_from(end);
    }
    compared(&samples[0], &samples[1..samples.len().min(4)])
}

fn compared(new: &AttemptDiff, earlier: &[AttemptDiff]) -> Option<(u32, SimilarityBasis)> {
    similarity(new, earlier, &BreakerConfig::default()).map(|like| (like.to, like.by))
}

fn basis(texts: &[String]) -> Option<SimilarityBasis> {
    chain(texts).map(|(_, by)| by)
}

/// Compares an edit of one file with the same edit of another file before it.
fn in_two_files(edited: &str) -> Option<(u32, SimilarityBasis)> {
    let first = sample_of("a.py", 1, BASE, edited);
    let (start, before) = (first.end.clone(), first.delta.clone());
    let second = AttemptDiff { start, end: "both".into(), before, ..sample_of("b.py", 2, BASE, edited) };
    compared(&second, &[first, base()])
}

fn with(text: &str, line: usize, put: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines[line - 1] = put;
    lines.join("\n") + "\n"
}

#[test]
fn no_change_and_the_same_files_are_alike() {
    let tweaked = with(BASE, 2, "    return a");
    assert_eq!(chain(&[BASE.to_owned()]), Some((0, SimilarityBasis::NoChange)));
    assert_eq!(chain(&[tweaked.clone(), tweaked.clone()]), Some((1, SimilarityBasis::NoChange)));
    // Back to the base, which replaces the missing attempt.
    assert_eq!(chain(&[tweaked.clone(), BASE.to_owned()]), Some((0, SimilarityBasis::SameTree)));
    let other = with(BASE, 6, "    return [a for a in reversed(range(b)) if a not in seen][-1]");
    let alternates = [tweaked.clone(), other, tweaked];
    assert_eq!(chain(&alternates), Some((1, SimilarityBasis::SameTree)));
}

#[test]
fn fresh_starts_are_compared_by_their_changes() {
    let fresh = |n: u32, end: &str| sample(n, BASE, end);
    let old = fresh(1, &with(BASE, 2, "    return add_all([a, 7], key=\"left\")  # first"));
    for same in [
        "    return add_all([a, 19], key=\"left\")  # first",
        "    return add_all([a, 7], key=\"right side\")  # first",
        "    return add_all([a, 7], key=\"left\")  # now it must work",
    ] {
        let like = compared(&fresh(2, &with(BASE, 2, same)), &[old.clone(), base()]);
        assert_eq!(like, Some((1, SimilarityBasis::SameChange)), "{same}");
    }
    let other = fresh(2, &with(BASE, 6, "    raise NotImplementedError(a)"));
    assert_eq!(compared(&other, &[old.clone(), base()]), None, "another change");
    let elsewhere =
        sample_of("other.py", 2, BASE, &with(BASE, 2, "    return add_all([a, 7], key=\"left\")"));
    let old = AttemptDiff { start: elsewhere.start.clone(), ..old };
    assert_eq!(compared(&elsewhere, &[old, base()]), None, "no common file");
}

#[test]
fn changing_the_same_lines_again_with_little_new_is_alike() {
    let one = with(BASE, 2, "    return a - b + 1");
    for again in ["    return a - b + 2", "    return a - b + 2 + a", "    return b - a + 1  # swap"] {
        let like = chain(&[one.clone(), with(BASE, 2, again)]);
        assert_eq!(like, Some((1, SimilarityBasis::Rework)), "{again}");
    }
    // The same kind of edit, repeated many times.
    let heap = |count: usize| {
        let extra: String = (0..count).map(|n| format!("    if a == {n}: return {n}\n")).collect();
        BASE.replacen("def add(a, b):\n", &format!("def add(a, b):\n{extra}"), 1)
    };
    assert_eq!(basis(&[heap(1), heap(2)]), Some(SimilarityBasis::Rework));
    assert_eq!(basis(&[heap(1), heap(2), heap(3)]), Some(SimilarityBasis::Rework));
}

#[test]
fn attempts_that_make_progress_are_not_alike() {
    let one = with(BASE, 2, "    return a + b");
    let two = with(&one, 6, "    return a - b");
    let three = with(&two, 10, "    return a * b");
    assert_eq!(chain(std::slice::from_ref(&one)), None);
    assert_eq!(chain(&[one.clone(), two.clone()]), None, "the next function");
    assert_eq!(chain(&[one.clone(), two, three]), None);
    let rewritten = with(
        &one,
        2,
        "    total = Decimal(str(a)).quantize(Precision.default)\n    for part in normalise(b, strict=False):\n        total += part.weight * scale",
    );
    assert_eq!(chain(&[one, rewritten]), None, "the same place with a new idea");
    assert_eq!(in_two_files(&with(BASE, 2, "    return a + b")), None, "a batch of legitimate edits");
}

#[test]
fn a_new_idea_may_be_short() {
    let one = with(BASE, 2, "    return a - b + 1");
    let idea = with(BASE, 2, "    return operator.index(functools.reduce(add, [a]))");
    assert_eq!(chain(&[one.clone(), idea.clone()]), None, "new words, few tokens");
    let renamed = with(BASE, 2, "    total = a - b + 2");
    assert_eq!(basis(&[one, renamed]), Some(SimilarityBasis::Rework), "one new name is not a new idea");
    let back = with(BASE, 2, "    return a - b  # as it was");
    assert_eq!(basis(&[idea, back]), Some(SimilarityBasis::Rework), "text of the base is not new");
}

#[test]
fn comments_in_the_same_file_are_alike_and_comments_in_one_file_after_the_other_are_work() {
    let remark = |n: u32| format!("# remark {n}\n{BASE}");
    assert_eq!(basis(&[remark(1), remark(2)]), Some(SimilarityBasis::Rework));
    // A comment between the old and the new line does not hide the rework.
    let with_remark = with(BASE, 2, "    return left(a)\n    # first");
    let over = with(BASE, 2, "    # second\n    return left(a)\n    # second");
    assert_eq!(basis(&[with_remark, over]), Some(SimilarityBasis::Rework));
    assert_eq!(in_two_files(&remark(1)), None);
}

#[test]
fn a_rewritten_file_is_alike_even_if_it_rewords_untouched_places() {
    let one = with(BASE, 2, "    return a - b + 1");
    let tweaked = with(&one, 2, "    return a - b + 2");
    // Two of six changed lines touch what attempt 1 wrote; the others say the same as before.
    let anew = with(&with(&tweaked, 6, "    return (a * b)"), 10, "    return (a / b)");
    assert_eq!(basis(&[one.clone(), anew]), Some(SimilarityBasis::Rework));
    let other = with(&tweaked, 6, "    return a - b if b > 0 else a + abs(b)");
    assert_eq!(chain(&[one.clone(), other]), None, "another function changed its meaning");
    let elsewhere = with(&one, 6, "    return (a * b)");
    assert_eq!(chain(&[one.clone(), elsewhere]), None, "the change touches no earlier work");
    // The same words in an untouched file count as work on that file.
    let new = sample("calc.py".len() as u32, &one, &tweaked);
    let reworded = with(&with(BASE, 6, "    return (a * b)"), 10, "    return (a / b)");
    let delta = [new.delta.clone(), delta("b.py", BASE, &reworded)].concat();
    assert_eq!(compared(&AttemptDiff { delta, ..new }, &[sample(1, BASE, &one), base()]), None);
}

#[test]
fn renamed_variables_in_a_long_text_are_not_a_new_idea() {
    let text = |names: [&str; 3]| {
        let [x, y, z] = names;
        format!(
            "{}def all(a, b):\n    {x} = a * b + a / b - (a + b) * (a - b)\n    {y} = a / b + a * b - (a - b) * (a + b)\n    {z} = (a + b) * (a * b)\n",
            BASE.replace("return", "yield")
        )
    };
    let (one, two) = (text(["first", "second", "third"]), text(["left", "middle", "right"]));
    assert_eq!(basis(&[one, two]), Some(SimilarityBasis::Rework));
}
