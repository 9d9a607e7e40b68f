//! Ten scripted agents on two seeded bugs: six that go round in circles are halted by attempt 4, four that get somewhere
//! never are.

use serde_json::Value;

use super::adder::{TASK, TESTS};
use super::fixture::{Fixture, of};

/// A bug with three failing tests in three functions.
const CALC: &str = "add() {\n    echo $(($1 - $2))\n}\nsub() {\n    echo $(($1 * $2))\n}\nmul() {\n    echo $(($1 / $2))\n}\n";
const CALC_CHECK: &str = ". ./lib.sh\necho 1..3\n\
    t() { if [ \"$3\" = \"$4\" ]; then echo \"ok $1 - $2\"; else echo \"not ok $1 - $2\"; echo \"  error: 'expected $4'\"; fail=1; fi; }\n\
    t 1 add \"$(add 2 3)\" 5\nt 2 sub \"$(sub 7 3)\" 4\nt 3 mul \"$(mul 2 3)\" 6\nexit ${fail:-0}\n";
/// A bug with one failing test, that goes through three steps.
const TEXT: &str = "first() {\n    echo \"$1\" | cut -c2\n}\nlast() {\n    echo \"$1\"\n}\nboth() {\n    echo \"$(first \"$1\")\"\n}\n";
const TEXT_CHECK: &str = ". ./lib.sh\n\
    [ \"$(first abc)\" = a ] || { echo \"FirstError: not the beginning\"; exit 1; }\n\
    [ \"$(last abc)\" = c ] || { echo \"LastError: not the end\"; exit 1; }\n\
    [ \"$(both abc)\" = ac ] || { echo \"BothError: not both\"; exit 1; }\necho fine\n";

struct Bug {
    lib: &'static str,
    check: &'static str,
    /// What each of three steps towards the fix does.
    steps: [&'static str; 3],
}

const BUGS: [Bug; 2] = [
    Bug {
        lib: CALC,
        check: CALC_CHECK,
        steps: ["sed -i '2s/-/+/' lib.sh", "sed -i '5s/\\*/-/' lib.sh", "sed -i '8s/\\//*/' lib.sh"],
    },
    Bug {
        lib: TEXT,
        check: TEXT_CHECK,
        steps: [
            "sed -i '2s/c2/c1/' lib.sh",
            "sed -i '5s/.*/    echo \"$1\" | tail -c2/' lib.sh",
            "sed -i '8s/.*/    echo \"$(first \"$1\")$(last \"$1\")\"/' lib.sh",
        ],
    },
];

/// Agents that go round in circles. `$n` is the attempt.
const LOOPS: [(&str, &str); 6] = [
    ("tweak", "sed -i \"2s/.*/    echo \\$((\\$1 * 100 + $n)) # try $n/\" lib.sh"),
    (
        "regenerate",
        "{ echo \"# version $n\"; for f in add sub mul first last both; do echo \"$f() {\"; echo \"    echo $n$n # guess $n\"; echo '}'; done; } >lib.sh",
    ),
    (
        "oscillate",
        "if [ $((n % 2)) = 1 ]; then printf 'add() {\\n awk \"BEGIN { print $1 }\"\\n}\\n' >lib.sh; else printf 'for f in one two three; do\\n eval \"$f() { expr 3 + 4; }\"\\ndone\\n' >lib.sh; fi",
    ),
    ("no change", ":"),
    ("accrete", "sed -i \"2i\\\\    if [ \\$1 = $n ]; then echo $n; return; fi\" lib.sh"),
    (
        "revert",
        "if [ $((n % 2)) = 1 ]; then sed -i '2s/.*/    printf surely/' lib.sh; else git checkout -q -- lib.sh; fi",
    ),
];

fn run(bug: &Bug, body: &str, most: u32) -> (Fixture, i32, Vec<Value>) {
    let fixture = Fixture::new(&[("lib.sh", bug.lib), ("check.sh", bug.check)]);
    fixture.leanfile(TESTS, &format!("max_iters_per_task = {most}\nsummarize_errors = false\n{TASK}"));
    fixture.agent(body);
    let ran = fixture.fix(&[]);
    let lines = fixture.ledger("add");
    (fixture, ran.code, lines)
}

#[test]
#[ignore = "slow"]
fn an_agent_that_repeats_itself_is_halted_by_attempt_4() {
    for (at, bug) in BUGS.iter().enumerate() {
        for (kind, body) in LOOPS {
            let (_, code, lines) = run(bug, body, 4 + 1);
            let plans = of(&lines, "plan");
            let halted = plans.first().and_then(|plan| plan["after"].as_u64());
            let printed: Vec<&Value> = of(&lines, "attempt").iter().map(|attempt| &attempt["like"]).collect();
            assert!(halted.is_some_and(|after| after <= 4), "bug {at}, {kind}: {halted:?} {printed:?}");
            assert_eq!(code, 1, "bug {at}, {kind}");
        }
    }
}

#[test]
#[ignore = "slow"]
fn an_agent_that_makes_progress_is_never_halted() {
    for (at, bug) in BUGS.iter().enumerate() {
        let [one, two, three] = bug.steps;
        let tweak = "sed -i \"2s/\\$/ # try $n/\" lib.sh";
        let healthy = [
            ("progressing", format!("case $n in 1) {one};; 2) {two};; *) {three};; esac")),
            (
                "tdd",
                format!(
                    "case $n in 1) mkdir -p tests; echo 'more one' >tests/one.sh;; 2) echo 'other two three' >tests/two.sh;; 3) {one}; {two};; *) {three};; esac"
                ),
            ),
            (
                "batch edits",
                format!(
                    "case $n in 1) echo 'alpha=one' >a.sh;; 2) echo 'alpha=one' >b.sh;; 3) echo 'alpha=one' >c.sh;; 4) echo 'alpha=one' >d.sh;; *) {one}; {two}; {three};; esac"
                ),
            ),
            ("two then moves", format!("case $n in 1|2) {tweak};; *) {one}; {two}; {three};; esac")),
        ];
        for (kind, body) in healthy {
            let (fixture, code, lines) = run(bug, &body, 8);
            for never in ["plan", "rollback", "asked"] {
                assert!(of(&lines, never).is_empty(), "bug {at}, {kind}: {never}: {lines:#?}");
            }
            assert_eq!(code, 0, "bug {at}, {kind}: {lines:#?}");
            assert!(fixture.calls() >= 3, "bug {at}, {kind}");
        }
    }
}
