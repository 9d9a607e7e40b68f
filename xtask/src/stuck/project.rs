//! Pure. A project with seeded bugs: shell modules, each with a few functions of two numbers, and a check over all of them.

use fastrand::Rng;

use crate::seed::{seeded, shuffled};

/// What the functions compute: a word, what is right and what is wrong in shell arithmetic, and the right value.
type Sum = (&'static str, &'static str, &'static str, fn(i64, i64) -> i64);
const SUMS: [Sum; 10] = [
    ("total", "$1 + $2", "$1 - $2", |a, b| a + b),
    ("product", "$1 * $2", "$1 + $2", |a, b| a * b),
    ("gap", "$1 - $2", "$2 - $1", |a, b| a - b),
    ("rest", "$1 % $2", "$1 / $2", |a, b| a % b),
    ("twice", "$1 * 2 + $2", "$1 + 2 * $2 + 1", |a, b| a * 2 + b),
    ("mean", "($1 + $2) / 2", "$1 + $2 / 2", |a, b| (a + b) / 2),
    ("scaled", "$1 * 3 - $2", "$1 - 3 * $2", |a, b| a * 3 - b),
    ("square", "$1 * $1 + $2", "$1 * $2 + $2", |a, b| a * a + b),
    ("padded", "$1 + $2 + 10", "$1 + $2 - 10", |a, b| a + b + 10),
    ("share", "$1 * 10 / $2", "$1 / $2 * 10 - 1", |a, b| a * 10 / b),
];
const MODULES: [&str; 10] =
    ["billing", "cart", "stock", "orders", "refunds", "tax", "freight", "coupons", "ledger", "quota"];
const NOUNS: [&str; 10] =
    ["price", "units", "hours", "points", "weight", "rate", "days", "pages", "seats", "credit"];

/// A function of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its module's path.
    pub file: String,
    /// Its name.
    pub name: String,
    /// What is right.
    pub right: String,
    /// What stands there.
    pub stands: String,
    /// Lines before the one that computes.
    pub before: Vec<String>,
    /// What it is tried with.
    pub args: (i64, i64),
    /// What must come out.
    pub want: i64,
}

impl Function {
    /// Its text around a body.
    pub fn text(&self, body: &[String]) -> String {
        let lines: String = self.before.iter().chain(body).map(|line| format!("    {line}\n")).collect();
        format!("{}() {{\n{lines}}}\n", self.name)
    }

    /// Its text with an expression.
    pub fn with(&self, expression: &str) -> String {
        self.text(&[format!("echo $(({expression}))")])
    }

    /// True where it is wrong.
    pub fn is_broken(&self) -> bool {
        self.right != self.stands
    }
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its functions, by module.
    pub functions: Vec<Function>,
    /// True: the check counts (TAP); false: it ends at the first failure.
    pub counts: bool,
    /// What makes two runs of the check print two texts; none where they print the same.
    pub noise: Option<Noise>,
}

/// What differs from run to run of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noise {
    /// Behind each message: text with `$r` and `$h` for a number and a hexadecimal number that differ.
    pub text: String,
    /// True: one more test fails at every second run.
    pub flake: bool,
}

const NOISE: [&str; 6] = [
    " after 0.${r}s",
    " (object at 0x7f$h)",
    " in /tmp/run-$r/case.$h/out.txt",
    " [pid $r]",
    " from 127.0.0.1:$r",
    " at 2026-11-21T10:00:07.${r}Z",
];

impl Project {
    /// The project of a seed, with so many broken functions at least.
    pub fn new(seed: u64, noisy: bool) -> Project {
        let mut rng = seeded(seed, "project");
        let modules = rng.usize(4..7);
        let names = shuffled(&mut rng, MODULES.to_vec());
        let mut functions = Vec::new();
        for module in names.iter().take(modules) {
            let nouns = shuffled(&mut rng, NOUNS.to_vec());
            for (noun, sum) in nouns.iter().zip(shuffled(&mut rng, SUMS.to_vec())).take(rng.usize(2..5)) {
                functions.push(function(&mut rng, module, noun, sum));
            }
        }
        let broken = rng.usize(3..5);
        for at in shuffled(&mut rng, (0..functions.len()).collect::<Vec<_>>()).into_iter().skip(broken) {
            functions[at].stands = functions[at].right.clone();
        }
        let counts = rng.usize(..100) < 50;
        let first = rng.usize(0..NOISE.len());
        let texts = (0..3).map(|at| NOISE[(first + at * 2) % NOISE.len()]);
        let noise = Noise { text: texts.collect(), flake: counts && rng.usize(..100) < 60 };
        Project { functions, counts, noise: noisy.then_some(noise) }
    }

    /// What is wrong, in the order in which the check meets it.
    pub fn broken(&self) -> Vec<&Function> {
        self.functions.iter().filter(|function| function.is_broken()).collect()
    }

    /// The modules' paths.
    pub fn modules(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.functions.iter().map(|function| function.file.as_str()).collect();
        all.dedup();
        all
    }

    /// All files with their texts.
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files: Vec<(String, String)> = Vec::new();
        for module in self.modules() {
            let own = self.functions.iter().filter(|function| function.file == module);
            let texts: Vec<String> = own.map(|function| function.with(&function.stands)).collect();
            files.push((module.to_owned(), texts.join("\n")));
        }
        files.push(("check.sh".to_owned(), self.check()));
        files
    }

    /// A line that tries a function.
    pub fn trial(function: &Function) -> String {
        let (a, b) = function.args;
        format!("t {} \"$({} {a} {b})\" {}\n", function.name, function.name, function.want)
    }

    fn check(&self) -> String {
        let mut text =
            String::from("# Tries each function. Tests of modules that are added later lie in tests/.\n");
        let more = match &self.noise {
            Some(noise) => {
                text.push_str(JITTER);
                noise.text.as_str()
            }
            None => "",
        };
        text.push_str("for module in src/*.sh; do . \"./$module\"; done\nn=0\nfail=0\n");
        if self.counts {
            text.push_str(&COUNTING.replace("MORE", more));
        } else {
            text.push_str(&STOPPING.replace("MORE", more));
        }
        self.functions.iter().for_each(|function| text.push_str(&Project::trial(function)));
        text.push_str("for more in tests/*.t; do [ ! -f \"$more\" ] || . \"./$more\"; done\n");
        if self.noise.as_ref().is_some_and(|noise| noise.flake) {
            text.push_str("t nightly \"$((k % 2))\" 0\n");
        }
        text.push_str(if self.counts { "echo \"1..$n\"\nexit $fail\n" } else { "echo \"$n checks pass\"\n" });
        text
    }
}

/// Counts the runs outside of the clone.
const JITTER: &str = "k=$(($(cat \"$BENCH_STATE/runs\" 2>/dev/null || echo 0) + 1))\necho $k >\"$BENCH_STATE/runs\"\n\
    r=$(((k * 7919 + 10007) % 89989 + 10000))\nh=$(printf '%08x' $((r * 31337)))\n";
const COUNTING: &str = "t() {\n    n=$((n + 1))\n    if [ \"$2\" = \"$3\" ]; then echo \"ok $n - $1\"; return; fi\n    fail=1\n    \
    echo \"not ok $n - $1\"\n    echo \"  error: '$1: expected $3, got ${2}MORE'\"\n}\n";
const STOPPING: &str = "t() {\n    n=$((n + 1))\n    [ \"$2\" = \"$3\" ] || { echo \"CheckError: $1: expected $3, got ${2}MORE\"; exit 1; }\n}\n";

fn function(rng: &mut Rng, module: &str, noun: &str, (word, right, wrong, value): Sum) -> Function {
    // Values for which right and wrong differ.
    let (mut a, mut b) = (0, 0);
    for _ in 0..50 {
        (a, b) = (rng.usize(5..60) as i64, rng.usize(2..20) as i64);
        let odd = a != b
            && a != b * 2
            && b != 1
            && a * b != a + b
            && a % b != a / b
            && (a / b * 10 - 1) != a * 10 / b;
        if odd && (a * 2 + b) != (a + 2 * b + 1) && (a + b) / 2 != a + b / 2 {
            break;
        }
    }
    let before = match rng.usize(0..3) {
        0 => vec![],
        1 => vec![format!("[ -n \"$2\" ] || set -- \"$1\" {}", rng.usize(1..9))],
        _ => vec![
            "if [ \"$1\" -lt 0 ]; then".to_owned(),
            "    echo 0".to_owned(),
            "    return".to_owned(),
            "fi".to_owned(),
        ],
    };
    Function {
        file: format!("src/{module}.sh"),
        name: format!("{module}_{noun}_{word}"),
        right: right.to_owned(),
        stands: wrong.to_owned(),
        before,
        args: (a, b),
        want: value(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_project_and_each_has_bugs() {
        assert_eq!(Project::new(5, true).files(), Project::new(5, true).files());
        assert_ne!(Project::new(5, false).files(), Project::new(6, false).files());
        for seed in 0..200 {
            let project = Project::new(seed, false);
            assert!((3..5).contains(&project.broken().len()) && project.modules().len() > 3, "{seed}");
            for function in project.broken() {
                assert!(function.want.abs() < 20_000, "{function:?}");
            }
        }
    }
}
