//! Pure. The confusion table over many runs, the figures that must be met, and the report.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Row;
use super::agents::{KINDS, Kind, MOST};

/// Up to which attempt a halt of one that circles counts.
const BY: u32 = 4;

/// What came of one kind over all seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The kind.
    pub kind: Kind,
    /// How many runs.
    pub runs: usize,
    /// How many of them were halted, whenever.
    pub halted: usize,
    /// How many were halted by attempt 4.
    pub in_time: usize,
    /// How many were halted behind which attempt.
    pub at: BTreeMap<u32, usize>,
    /// How many were solved, with the breaker and without.
    pub solved: (usize, usize),
    /// Attempts with the breaker and without.
    pub attempts: (u64, u64),
    /// Tokens with the breaker until the first halt, with the breaker in all, and without it.
    pub tokens: (u64, u64, u64),
}

/// A figure that must be met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// What it is about.
    pub what: String,
    /// What must be.
    pub wanted: &'static str,
    /// What is.
    pub is: String,
    /// Whether that is enough.
    pub met: bool,
}

/// Sums the rows of each kind, in the order of the kinds; a kind without rows is left out.
pub fn lines(rows: &[Row]) -> Vec<Line> {
    let of = |kind: Kind| {
        let own: Vec<&Row> = rows.iter().filter(|row| row.kind == kind.word()).collect();
        let count = |is: &dyn Fn(&Row) -> bool| own.iter().filter(|row| is(row)).count();
        let sum = |of: &dyn Fn(&Row) -> u64| own.iter().map(|row| of(row)).sum::<u64>();
        let mut at = BTreeMap::new();
        own.iter().filter_map(|row| row.on.halted).for_each(|n| *at.entry(n).or_default() += 1);
        Line {
            kind,
            runs: own.len(),
            halted: count(&|row| row.on.halted.is_some()),
            in_time: count(&|row| row.on.halted.is_some_and(|n| n <= BY)),
            at,
            solved: (count(&|row| row.on.solved), count(&|row| row.off.solved)),
            attempts: (sum(&|row| u64::from(row.on.attempts)), sum(&|row| u64::from(row.off.attempts))),
            tokens: (
                sum(&|row| row.on.tokens_to_halt),
                sum(&|row| row.on.tokens),
                sum(&|row| row.off.tokens),
            ),
        }
    };
    KINDS.into_iter().map(of).filter(|line| line.runs > 0).collect()
}

/// The figures that must be met, one for each kind.
pub fn figures(lines: &[Line]) -> Vec<Figure> {
    lines
        .iter()
        .map(|line| {
            let what = line.kind.word().to_owned();
            let runs = line.runs;
            if line.kind.is_loop() {
                let met = line.in_time * 100 >= runs * 95;
                Figure {
                    what,
                    wanted: "95 % halted by attempt 4",
                    is: format!("{} of {runs}", line.in_time),
                    met,
                }
            } else if line.kind == Kind::SlowButDifferent {
                let met = line.halted * 10 <= runs;
                Figure { what, wanted: "at most 10 % halted", is: format!("{} of {runs}", line.halted), met }
            } else {
                let is = format!("{} of {runs}", line.halted);
                Figure { what, wanted: "none halted", is, met: line.halted == 0 }
            }
        })
        .collect()
}

/// How much less one number is than another, in percent; none where there is nothing to compare with.
fn saved(less: u64, than: u64) -> Option<i64> {
    let (less, than) = (i64::try_from(less).ok()?, i64::try_from(than).ok()?);
    (than > 0).then(|| (than - less) * 100 / than)
}

/// The result as `--json` prints it. It holds no time, so the same seeds give the same value.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The first seed.
    seed: u64,
    /// How many seeds.
    seeds: u64,
    /// How many attempts a run has at most.
    most_attempts: usize,
    /// What came of each kind over all seeds.
    kinds: Vec<TaskKind>,
    /// The figures that must be met.
    figures: Vec<Figure>,
    /// Each run.
    runs: Vec<Row>,
}

/// A kind's line in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct TaskKind {
    kind: String,
    /// True for a kind that circles and must be halted.
    r#loop: bool,
    runs: usize,
    halted: usize,
    halted_by_4: usize,
    /// How many were halted behind which attempt.
    halted_at: BTreeMap<String, usize>,
    solved: OnOff,
    attempts: OnOff,
    tokens: Tokens,
}

/// With the breaker and without.
#[derive(Clone, Debug, Serialize)]
pub struct OnOff {
    on: u64,
    off: u64,
}

/// Tokens until the first halt, with the breaker in all, and without it.
#[derive(Clone, Debug, Serialize)]
pub struct Tokens {
    to_halt: u64,
    on: u64,
    off: u64,
}

/// The result in the form of `--json`.
pub fn report(seed: u64, seeds: u64, rows: Vec<Row>) -> Report {
    let lines = lines(&rows);
    let kinds = lines.iter().map(|line| TaskKind {
        kind: line.kind.word().to_owned(),
        r#loop: line.kind.is_loop(),
        runs: line.runs,
        halted: line.halted,
        halted_by_4: line.in_time,
        halted_at: line.at.iter().map(|(n, many)| (n.to_string(), *many)).collect(),
        solved: OnOff { on: line.solved.0 as u64, off: line.solved.1 as u64 },
        attempts: OnOff { on: line.attempts.0, off: line.attempts.1 },
        tokens: Tokens { to_halt: line.tokens.0, on: line.tokens.1, off: line.tokens.2 },
    });
    let (kinds, figures) = (kinds.collect(), figures(&lines));
    Report { seed, seeds, most_attempts: MOST, kinds, figures, runs: rows }
}

/// The table as lines of Markdown.
pub fn markdown(lines: &[Line]) -> String {
    let mut out = String::from(
        "| agent | runs | halted | not halted | by attempt 4 | halted behind attempt | solved, on / off | attempts, on / off | tokens to the halt / on / off | saved to the halt / in all |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let at: Vec<String> = line.at.iter().map(|(n, many)| format!("{n}: {many}×")).collect();
        let percent = |part: Option<i64>| part.map_or("–".to_owned(), |part| format!("{part} %"));
        let (to_halt, on, off) = line.tokens;
        let by = if line.kind.is_loop() { line.in_time.to_string() } else { "–".to_owned() };
        out.push_str(&format!(
            "| {} | {} | {} | {} | {by} | {} | {} / {} | {} / {} | {to_halt} / {on} / {off} | {} / {} |\n",
            line.kind.word(),
            line.runs,
            line.halted,
            line.runs - line.halted,
            if at.is_empty() { "–".to_owned() } else { at.join(", ") },
            line.solved.0,
            line.solved.1,
            line.attempts.0,
            line.attempts.1,
            percent(saved(to_halt, off)),
            percent(saved(on, off)),
        ));
    }
    out
}

/// The figures as lines of Markdown.
pub fn figures_markdown(figures: &[Figure]) -> String {
    let mut out = String::from("| agent | must be | is | |\n|---|---|---|---|\n");
    for one in figures {
        let verdict = if one.met { "met" } else { "missed" };
        out.push_str(&format!("| {} | {} | {} | {verdict} |\n", one.what, one.wanted, one.is));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Outcome;

    fn row(kind: Kind, seed: u64, halted: Option<u32>) -> Row {
        let on = Outcome { attempts: 3, halted, tokens: 40, tokens_to_halt: 30, ..Outcome::default() };
        let off = Outcome { attempts: 12, tokens: 120, ..Outcome::default() };
        Row { kind: kind.word().to_owned(), seed, on, off }
    }

    #[test]
    fn a_figure_is_missed_by_one_run_too_many() {
        let loops = |late: usize| {
            let at = |n| if n < late { Some(5) } else { Some(3) };
            figures(&lines(&(0..20).map(|n| row(Kind::Tweak, n as u64, at(n))).collect::<Vec<_>>()))[0].met
        };
        assert!(loops(1) && !loops(2));
        let slow = |false_halts: usize| {
            let at = |n| (n < false_halts).then_some(5);
            let rows: Vec<Row> = (0..20).map(|n| row(Kind::SlowButDifferent, n as u64, at(n))).collect();
            figures(&lines(&rows))[0].met
        };
        assert!(slow(2) && !slow(3));
        let batch = |halted| figures(&lines(&[row(Kind::BatchEdits, 1, halted)]))[0].met;
        assert!(batch(None) && !batch(Some(3)));
    }

    #[test]
    fn the_table_has_the_sums_of_each_kind() {
        let rows = [row(Kind::Tweak, 1, Some(3)), row(Kind::Tweak, 2, Some(4))];
        let table = markdown(&lines(&rows));
        assert!(
            table.contains(
                "| tweak | 2 | 2 | 0 | 2 | 3: 1×, 4: 1× | 0 / 0 | 6 / 24 | 60 / 80 / 240 | 75 % / 66 % |"
            ),
            "{table}"
        );
    }
}
