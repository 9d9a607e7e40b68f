//! What an attempt leaves that cannot be kept: too much of it, or a repository of its own. It is a failed attempt, nothing of
//! it is stored, and the next one begins clean.

use std::fs;
use std::path::Path;

use super::adder::{CHECK, FIXED, LIB, TESTS};
use super::fixture::{Fixture, of};
use crate::support::profile::git_in;

const TASK: &str = "[[tasks]]\nname = \"add\"\nprompt = \"add must add\"\nfiles = [\"lib.sh\"]\n";
const GIT: &str = "git -c user.name=x -c user.email=x@x";

fn fixture(rest: &str) -> Fixture {
    let fixture = Fixture::new(&[("lib.sh", LIB), ("check.sh", CHECK), (".gitignore", "built/\n")]);
    fixture.leanfile(TESTS, &format!("max_iters_per_task = 2\nsummarize_errors = false\n{TASK}{rest}"));
    fixture
}

/// The outcome of each attempt, and what was said of it.
fn outcomes(fixture: &Fixture) -> Vec<(String, String)> {
    let lines = fixture.ledger("add");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    of(&lines, "attempt").iter().map(|one| (text(&one["outcome"]), text(&one["failure"]))).collect()
}

/// The size of everything below a directory, in bytes on the disk.
fn size(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let sizes = fs::read_dir(dir).unwrap().flatten().map(|entry| {
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        if meta.is_dir() { size(&entry.path()) } else { meta.blocks() * 512 }
    });
    sizes.sum()
}

#[test]
#[ignore = "slow"]
fn an_attempt_that_leaves_what_cannot_be_kept_fails_and_the_next_begins_clean() {
    for (leaves, printed) in [
        (
            "truncate -s 300M new.bin",
            "too large to store: 300 MiB in 2 files, at most 256 MiB in 10000 may be new",
        ),
        ("mkdir many; (cd many; seq 10001 | xargs touch)", "too large to store: 0 MiB in 10002 files"),
        ("git init -q sub; echo x >sub/x", "`sub` is a nested repository"),
        (
            &format!("git init -q sub; cd sub; {GIT} commit -q --allow-empty -m one; cd .."),
            "`sub` is a nested repository",
        ),
    ] {
        let fixture = fixture("");
        fixture.agent(&format!("if [ $n = 1 ]; then {FIXED}; {leaves}; else [ ! -e sub ] && {FIXED}; fi"));
        let ran = fixture.fix(&[]).ok();
        let all = outcomes(&fixture);
        assert_eq!((all[0].0.as_str(), all[1].0.as_str()), ("agent_failed", "passed"), "{leaves}: {all:?}");
        assert!(all[0].1.contains(printed) && fixture.prompt(2).contains(printed), "{leaves}: {all:?}");
        assert!(ran.stdout.contains("1 file of yours was changed, uncommitted: lib.sh"), "{}", ran.stdout);
        assert!(size(&fixture.profile.data().join("fix")) < 8 << 20, "{leaves}: nothing of it is stored");
    }
}

#[test]
fn what_git_ignores_may_be_as_large_as_it_likes() {
    let fixture = fixture("");
    fixture.agent(&format!("{FIXED}; mkdir built; truncate -s 300M built/all; (cd built; git init -q sub)"));
    fixture.fix(&[]).ok();
    assert_eq!(outcomes(&fixture)[0].0, "passed");
    assert!(!fixture.project().join("built").exists());
}

#[test]
fn a_command_afterwards_and_a_killed_call_are_bound_the_same() {
    let fixture = self::fixture("after = [\"truncate -s 300M out.bin\"]\n");
    fixture.agent(FIXED);
    assert_eq!(fixture.fix(&[]).code, 1);
    let all = outcomes(&fixture);
    assert!(all[0].0 == "after_failed" && all[0].1.contains("too large to store"), "{all:?}");
    assert!(!fixture.project().join("out.bin").exists());
    let fixture = self::fixture("");
    let mark = fixture.profile.path("state/killed");
    let kill = format!(
        "[ -f {0} ] || {{ touch {0}; truncate -s 300M new.bin; kill -9 $PPID; exit; }}",
        mark.display()
    );
    fixture.agent(&format!("{kill}; {FIXED}"));
    assert_eq!(fixture.fix(&[]).code, -1);
    let ran = fixture.fix(&[]).ok();
    assert!(ran.stdout.contains("are dropped: too large to store: 300 MiB in 1 file"), "{}", ran.stdout);
    assert_eq!((fixture.read("lib.sh") != LIB, fixture.project().join("new.bin").exists()), (true, false));
}

#[test]
fn repositories_in_a_project_are_reported_and_a_project_that_is_a_disk_is_refused() {
    let fixture = self::fixture("");
    fixture.agent(FIXED);
    git_in(&fixture.project(), &["init", "-q", "sub"]);
    git_in(&fixture.project().join("sub"), &["commit", "-q", "--allow-empty", "-m", "one"]);
    fixture.write("sub/own.txt", "of the human");
    let ran = fixture.fix(&[]).ok();
    assert!(ran.stdout.contains("the agent gets no files of nested repositories: sub\n"), "{}", ran.stdout);
    assert_eq!(fixture.read("sub/own.txt"), "of the human");
    let fixture = self::fixture("");
    fs::File::create(fixture.project().join("disk.img")).unwrap().set_len(9 << 30).unwrap();
    let ran = fixture.fix(&[]);
    assert_eq!((ran.code, fixture.calls()), (1, 0), "{}", ran.stderr);
    let printed = "9216 MiB in 4 files, at most 8192 MiB in 500000 are copied";
    assert!(
        ran.stderr.contains(printed) && ran.stderr.contains("hint: list generated files"),
        "{}",
        ran.stderr
    );
}
