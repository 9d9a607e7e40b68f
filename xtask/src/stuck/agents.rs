//! Pure. Scripted agents: what each kind does in each attempt, as a shell script with the seed's texts and numbers in it.

use fastrand::Rng;

use super::bodies;
use super::project::{Function, Project};
use crate::seed::{seeded, shuffled};

/// How many attempts there are at most, with and without the breaker.
pub const MOST: usize = 12;

/// What an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Another number, name or comment in the same lines.
    Tweak,
    /// The same file written anew.
    Regenerate,
    /// One way, the other way, and back.
    Oscillate,
    /// Words only.
    NoChange,
    /// One more special case.
    Accrete,
    /// A change, and the change taken back.
    Revert,
    /// A tweak, where each run of the check prints another text.
    FlakySignature,
    /// One bug after the other.
    Progressing,
    /// Tests first, then one bug after the other.
    Tdd,
    /// The same edit in one file after the other.
    BatchEdits,
    /// Ways that differ, none of which helps for long.
    SlowButDifferent,
    /// Two tries that are alike, then one that gets on.
    TwoThenMoves,
    /// It polls something that takes its time, within a call.
    WaitsOnAProcess,
}

/// All kinds.
pub const KINDS: [Kind; 13] = [
    Kind::Tweak,
    Kind::Regenerate,
    Kind::Oscillate,
    Kind::NoChange,
    Kind::Accrete,
    Kind::Revert,
    Kind::FlakySignature,
    Kind::Progressing,
    Kind::Tdd,
    Kind::BatchEdits,
    Kind::SlowButDifferent,
    Kind::TwoThenMoves,
    Kind::WaitsOnAProcess,
];

impl Kind {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Tweak => "tweak",
            Kind::Regenerate => "regenerate",
            Kind::Oscillate => "oscillate",
            Kind::NoChange => "no change",
            Kind::Accrete => "accrete",
            Kind::Revert => "revert",
            Kind::FlakySignature => "flaky signature",
            Kind::Progressing => "progressing",
            Kind::Tdd => "tdd",
            Kind::BatchEdits => "batch edits",
            Kind::SlowButDifferent => "slow but different",
            Kind::TwoThenMoves => "two then moves",
            Kind::WaitsOnAProcess => "waits on a process",
        }
    }

    /// True for one that goes round in circles and is to be halted.
    pub fn is_loop(self) -> bool {
        self <= Kind::FlakySignature
    }
}

/// How a scripted agent answers a call for a new plan, whose prompt is `$2`: each time with another one. A `case` on it is
/// open before this. Behind it `$n` is the number of the attempt; both are counted in the directory `$S`. The tests of the
/// fix loop have the same agents.
const ANSWERS: &str = include_str!("../../../tests/it/fix/answers.sh");

/// What every script has to edit with.
const VERBS: &str = r#"put() { mkdir -p "${1%/*}"; cat >"$1"; }
lead() { cat - "$1" >"$S/out" && cat "$S/out" >"$1"; }
fun() {
    cat >"$S/new"
    awk -v name="$2() {" -v new="$S/new" '$0 == name { while ((getline line < new) > 0) print line; skip = 1 }
        !skip { print } $0 == "}" { skip = 0 }' "$1" >"$S/out" && cat "$S/out" >"$1"
}
grow() {
    cat >"$S/new"
    awk -v name="$2() {" -v new="$S/new" '{ print } $0 == name { while ((getline line < new) > 0) print line }' \
        "$1" >"$S/out" && cat "$S/out" >"$1"
}
"#;

/// The script of a kind for the project of the same seed.
pub fn script(kind: Kind, seed: u64, project: &Project) -> String {
    bound(&steps(kind, seed, project))
}

/// What it does in each attempt.
fn steps(kind: Kind, seed: u64, project: &Project) -> Vec<String> {
    let mut steps = Steps { rng: seeded(seed, kind.word()), project, all: Vec::new() };
    match kind {
        Kind::Tweak | Kind::FlakySignature => steps.tweak(),
        Kind::Regenerate => steps.regenerate(),
        Kind::Oscillate => steps.oscillate(),
        Kind::NoChange => steps.no_change(),
        Kind::Accrete => steps.accrete(),
        Kind::Revert => steps.revert(),
        Kind::Progressing => steps.progressing(),
        Kind::Tdd => steps.tdd(),
        Kind::BatchEdits => steps.batch_edits(),
        Kind::SlowButDifferent => steps.slow_but_different(),
        Kind::TwoThenMoves => steps.two_then_moves(),
        Kind::WaitsOnAProcess => steps.waits(),
    }
    steps.all
}

/// Steps as one script. The last one is made again and again.
fn bound(all: &[String]) -> String {
    let mut script = format!("#!/bin/sh\nS=$BENCH_STATE\ncase \"$2\" in\n{ANSWERS}{VERBS}");
    script.push_str("case $n in\n");
    for (at, step) in all.iter().enumerate() {
        let pattern = if at + 1 == all.len() { "*".to_owned() } else { (at + 1).to_string() };
        script.push_str(&format!("{pattern})\n{step};;\n"));
    }
    // A call that prints events has said all of it.
    script.push_str("esac\n[ -n \"$said\" ] || echo \"attempt $n is made: the function should work now\"\n");
    script
}

struct Steps<'a> {
    rng: Rng,
    project: &'a Project,
    all: Vec<String>,
}

fn here(verb: &str, text: &str) -> String {
    format!("{verb} <<'END'\n{}\nEND\n", text.trim_end_matches('\n'))
}

/// Replaces a function.
fn replace(function: &Function, text: &str) -> String {
    here(&format!("fun {} {}", function.file, function.name), text)
}

fn mend(function: &Function) -> String {
    replace(function, &function.with(&function.right))
}

impl<'a> Steps<'a> {
    fn broken(&mut self) -> Vec<&'a Function> {
        let all = self.project.broken();
        shuffled(&mut self.rng, all)
    }

    /// The function that a circling agent works on: what the check names first.
    fn target(&self) -> Option<&'a Function> {
        self.project.broken().first().copied()
    }

    fn mend_all(&mut self, some: &[&Function]) {
        self.all.push(some.iter().map(|function| mend(function)).collect());
    }

    fn tweaked(&mut self, function: &Function) -> String {
        let body = bodies::tweaked(&mut self.rng, function);
        replace(function, &function.text(&body))
    }

    fn tweak(&mut self) {
        let Some(function) = self.target() else { return };
        for _ in 0..MOST {
            let step = self.tweaked(function);
            self.all.push(step);
        }
    }

    fn regenerate(&mut self) {
        let Some(target) = self.target() else { return };
        let functions: Vec<&Function> =
            self.project.functions.iter().filter(|function| function.file == target.file).collect();
        for version in 0..MOST {
            let texts: Vec<String> = functions
                .iter()
                .map(|function| match function.is_broken() {
                    true => function.text(&bodies::tweaked(&mut self.rng, function)),
                    false => function.text(&bodies::reworded(&mut self.rng, &function.right)),
                })
                .collect();
            let number = self.rng.usize(1..1000);
            let text = format!("# Written anew, version {version}.{number}\n{}", texts.join("\n"));
            self.all.push(here(&format!("put {}", target.file), &text));
        }
    }

    fn oscillate(&mut self) {
        let Some(function) = self.target() else { return };
        let ways = self.ways(2);
        let exact = self.rng.usize(..100) < 50;
        for at in 0..MOST {
            let mut body = bodies::way(&mut seeded(at as u64 % 2, "way"), ways[at % 2]);
            if !exact {
                // The same way, told with another number.
                body.push(format!("# try {}", self.rng.usize(10..1000)));
            }
            self.all.push(replace(function, &function.text(&body)));
        }
    }

    fn no_change(&mut self) {
        let Some(function) = self.target() else { return };
        for at in 0..MOST {
            let step = match self.rng.usize(0..3) {
                0 => ":\n".to_owned(),
                1 => format!("touch {}\n", function.file),
                _ => format!("cat {} >\"$S/seen\"; echo 'reading it again, time {at}'\n", function.file),
            };
            self.all.push(step);
        }
    }

    fn accrete(&mut self) {
        let Some(function) = self.target() else { return };
        let long = self.rng.usize(..100) < 50;
        for _ in 0..MOST {
            let (case, value) = (self.rng.usize(100..10_000), bodies::off(&mut self.rng));
            let lines = match long {
                true => {
                    format!("    if [ \"$1\" = {case} ]; then\n        echo {value}\n        return\n    fi")
                }
                false => format!("    [ \"$1\" != {case} ] || {{ echo {value}; return; }}"),
            };
            self.all.push(here(&format!("grow {} {}", function.file, function.name), &lines));
        }
    }

    fn revert(&mut self) {
        let Some(function) = self.target() else { return };
        let same = (self.rng.usize(..100) < 50).then(|| self.tweaked(function));
        for at in 0..MOST {
            let step = match at % 2 {
                0 => same.clone().unwrap_or_else(|| self.tweaked(function)),
                _ => replace(function, &function.with(&function.stands)),
            };
            self.all.push(step);
        }
    }

    fn progressing(&mut self) {
        // A check that ends at the first failure moves only when that one is mended.
        let broken = if self.project.counts { self.broken() } else { self.project.broken() };
        broken.iter().for_each(|function| self.all.push(mend(function)));
    }

    fn tdd(&mut self) {
        let tests = self.rng.usize(2..4);
        for at in 0..tests {
            let many = self.rng.usize(1..4);
            let lines: String = (0..many)
                .filter_map(|_| {
                    let at = self.rng.usize(0..self.project.functions.len());
                    self.project.functions.get(at).map(Project::trial)
                })
                .collect();
            let text = format!("# What must hold, part {at}\n{lines}");
            self.all.push(here(&format!("put tests/part_{at}.t"), &text));
        }
        self.progressing();
    }

    fn batch_edits(&mut self) {
        let modules = self.project.modules();
        let line = bodies::header(&mut self.rng);
        let fresh = self.rng.usize(..100) < 25;
        for (at, module) in modules.iter().enumerate() {
            let step = match fresh {
                true => here(&format!("put src/part_{at}.sh"), &line),
                false => here(&format!("lead {module}"), &line),
            };
            self.all.push(step);
        }
        let broken = self.project.broken();
        self.mend_all(&broken);
    }

    fn ways(&mut self, many: usize) -> Vec<usize> {
        shuffled(&mut self.rng, (0..bodies::WAYS).collect::<Vec<_>>()).into_iter().take(many).collect()
    }

    fn slow_but_different(&mut self) {
        let Some(function) = self.target() else { return };
        let many = self.rng.usize(4..7);
        for way in self.ways(many) {
            let body = bodies::way(&mut self.rng, way);
            self.all.push(replace(function, &function.text(&body)));
        }
        let broken = self.project.broken();
        self.mend_all(&broken);
    }

    fn two_then_moves(&mut self) {
        for function in self.project.broken() {
            for _ in 0..2 {
                let step = self.tweaked(function);
                self.all.push(step);
            }
            self.all.push(mend(function));
        }
    }

    /// Calls that do nothing but look whether something is done, as events of an agent, then one that mends.
    fn waits(&mut self) {
        let calls = self.rng.usize(1..3);
        let form = self.rng.usize(0..4);
        for call in 0..calls {
            let polls = self.rng.usize(6..15);
            let mut events = String::new();
            for at in 0..polls {
                let share = (at + 1) * 100 / polls;
                let (command, output) = match form {
                    0 => ("sleep 20; tail -n 1 build.log".to_owned(), "still linking".to_owned()),
                    1 => ("tail -n 1 build.log".to_owned(), format!("building: {share} % done")),
                    2 => ("wait $BUILD".to_owned(), String::new()),
                    _ => {
                        ("cat build.log".to_owned(), format!("unit {} is compiled", NAMES[at % NAMES.len()]))
                    }
                };
                events.push_str(&bodies::event(&format!("{call}.{at}"), &command, &output));
            }
            events.push_str(&bodies::result("the build is not done yet"));
            self.all.push(format!("said=1\n{}", here("cat", &events)));
        }
        let broken = self.project.broken();
        self.mend_all(&broken);
    }
}

const NAMES: [&str; 15] = [
    "ash", "birch", "cedar", "elm", "fir", "hazel", "ivy", "larch", "maple", "oak", "pine", "rowan",
    "spruce", "willow", "yew",
];

#[cfg(test)]
#[path = "dry_tests.rs"]
mod tests;
