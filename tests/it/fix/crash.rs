//! kill -9 at any point: the next start goes on at the attempt, no edit is lost, and until the end the project is as it was.

use std::env;
use std::process::{Command, Stdio};

use super::yard::{Yard, of};
use crate::support::pi::skipped;
use crate::support::profile::LOOOP;

const LIB: &str = "add() { echo $(($1 - $2)); }\n";
const CHECK: &str = ". ./lib.sh\nr=$(add 2 3)\n[ \"$r\" = 5 ] || { echo \"FAIL: add: expected 5, got $r\"; exit 1; }\necho fine\n";
const TASK: &str = "[[tasks]]\nname = \"add\"\nprompt = \"add must add\"\nfiles = [\"lib.sh\"]\nafter = [\"echo made >made.txt\"]\n";
/// Calls with an effect, and the starts of processes.
const EFFECTS: [&str; 2] =
    ["rename,renameat,renameat2,link,linkat,unlink,unlinkat,fsync,mkdir", "clone,clone3,fork,vfork"];

fn yard() -> Yard {
    let yard = Yard::new(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    yard.write("dirty.txt", "of the human\n");
    yard.leanfile("command = \"sh\"\nargs = [\"check.sh\"]", TASK);
    yard
}

/// An agent that needs three calls, and kills looop, which called it, once at a given point.
fn deadly(yard: &Yard, at: &str) {
    let mark = yard.profile.path("state/killed");
    // What outlives looop would go on to edit, late.
    let rest = if at == "lingers" { "sleep 300 >/dev/null 2>&1;" } else { "exit 0;" };
    let kill = |point: &str| match at == point || (at == "lingers" && point == "before") {
        true => format!("[ -f {0} ] || {{ touch {0}; kill -9 $PPID; {rest} }};", mark.display()),
        false => String::new(),
    };
    let (before, middle, after) = (kill("before"), kill("middle"), kill("after"));
    yard.agent(&format!(
        "{before} echo \"# edit $n\" >>lib.sh; {middle} if [ $n -ge 3 ]; then sed -i 's/\\$1 - \\$2/$1 + $2/' lib.sh; fi; {after}"
    ));
    let tests = kill("tests");
    yard.write("check.sh", &format!("{tests}\n{CHECK}"));
}

#[test]
fn killed_by_its_agent_or_its_tests_it_goes_on_with_what_was_edited() {
    for point in ["before", "middle", "after", "tests", "lingers"] {
        let yard = yard();
        deadly(&yard, point);
        let before = yard.fingerprint();
        let ran = yard.fix(&[]);
        assert_eq!(ran.code, -1, "{point}: {}", ran.stdout);
        assert_eq!(yard.fingerprint(), before, "{point}");
        let calls = yard.calls();
        let ran = yard.fix(&[]).ok();
        assert!(
            point == "tests" || ran.stdout.contains("going on with the run that was interrupted"),
            "{}",
            ran.stdout
        );
        let (lib, edits) = (yard.read("lib.sh"), if matches!(point, "middle" | "after") { 1 } else { 0 });
        assert!(lib.contains("$1 + $2"), "{point}: {lib}");
        assert_eq!(
            lib.matches("# edit 1").count(),
            edits.max(usize::from(calls == 0 || point == "tests")),
            "{point}: {lib}"
        );
        let lines = yard.ledger("add");
        let numbers: Vec<u64> = of(&lines, "attempt").iter().map(|one| one["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{point}");
        assert_eq!(yard.read("made.txt"), "made\n");
    }
}

fn strace(yard: &Yard, calls: &str, nth: usize) -> bool {
    let path = yard.profile.path("leanfile.toml");
    let inject = format!("inject={calls}:signal=SIGKILL:when={nth}");
    let plain = yard.profile.command(&[]);
    let envs: Vec<_> =
        plain.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    let ended = Command::new("strace")
        .args(["-qqq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &inject, LOOOP, "fix", "-c"])
        .arg(path)
        .env_clear()
        .envs(envs)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    !ended.status.success()
}

#[test]
fn killed_before_any_call_with_an_effect_it_goes_on_and_ends_the_same() {
    if Command::new("strace").arg("-V").output().is_err() {
        return skipped("no strace");
    }
    let all = env::var_os("LOOOP_TEST_ALL_POINTS").is_some();
    let mut killed = 0;
    for (which, calls) in EFFECTS.iter().enumerate() {
        let step = if all { 1 } else { [23, 14][which] };
        // Not the first points, before anything was written down: each step begins elsewhere.
        for nth in (3 + which..).step_by(step) {
            let yard = yard();
            yard.agent("if [ $n -ge 2 ]; then sed -i 's/\\$1 - \\$2/$1 + $2/' lib.sh; else echo '# one' >>lib.sh; fi");
            let before = yard.fingerprint();
            if !strace(&yard, calls, nth) {
                break;
            }
            killed += 1;
            let run = fix_run(&yard);
            let landing = run.as_ref().is_some_and(|run| run["landing"] == true);
            if !landing {
                assert_eq!(yard.fingerprint(), before, "{calls} {nth}");
            }
            let ran = yard.fix(&[]);
            assert_eq!(ran.code, 0, "{calls} {nth}: {}{}", ran.stdout, ran.stderr);
            assert!(yard.read("lib.sh").contains("$1 + $2"), "{calls} {nth}: {}", ran.stdout);
            assert_eq!(
                (yard.read("dirty.txt").as_str(), yard.read("made.txt").as_str()),
                ("of the human\n", "made\n")
            );
            assert!(yard.calls() <= 4, "{calls} {nth}: {} calls", yard.calls());
        }
    }
    assert!(killed >= 6, "{killed}");
}

fn fix_run(yard: &Yard) -> Option<serde_json::Value> {
    let entries = std::fs::read_dir(yard.profile.data().join("fix")).ok()?;
    let dir = entries.flatten().find(|entry| entry.path().join("run.json").is_file())?;
    serde_json::from_str(&std::fs::read_to_string(dir.path().join("run.json")).ok()?).ok()
}
