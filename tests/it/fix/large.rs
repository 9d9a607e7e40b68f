//! What an attempt leaves that cannot be kept: too much of it, or a repository of its own. It is a failed attempt, nothing of
//! it is stored, and the next one begins clean.

use std::fs;
use std::path::Path;

use super::adder::{self, FIXED, LIB, TASK, TESTS};
use super::bad::came_to;
use super::fixture::Fixture;
use crate::support::profile::git_in;

const GIT: &str = "git -c user.name=x -c user.email=x@x";

fn fixture(rest: &str) -> Fixture {
    let fixture = adder::project(&[(".gitignore", "built/\n")]);
    fixture.leanfile(TESTS, &format!("max_iters_per_task = 2\nsummarize_errors = false\n{TASK}{rest}"));
    fixture
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
    let large = "too large to store: 300 MiB in 2 files, at most 256 MiB in 10000 may be new";
    let nested = "`sub` is a nested repository";
    for (leaves, printed) in [
        ("truncate -s 300M new.bin", large),
        ("mkdir many; (cd many; seq 10001 | xargs touch)", "too large to store: 0 MiB in 10002 files"),
        ("git init -q sub; echo x >sub/x", nested),
        (&format!("git init -q sub; cd sub; {GIT} commit -q --allow-empty -m one; cd .."), nested),
    ] {
        let fixture = fixture("");
        fixture.agent(&format!("if [ $n = 1 ]; then {FIXED}; {leaves}; else [ ! -e sub ] && {FIXED}; fi"));
        fixture.fix(&[]).ok().prints(&["1 file of yours was changed, uncommitted: lib.sh"]);
        assert_eq!(fixture.attempted("add", "outcome"), ["agent_failed", "passed"], "{leaves}");
        came_to(&fixture, 1, "agent_failed", printed);
        fixture.asked(2, &[printed]);
        assert!(size(&fixture.profile.data().join("fix")) < 8 << 20, "{leaves}: nothing of it is stored");
    }
}

#[test]
fn what_git_ignores_may_be_as_large_as_it_likes() {
    let fixture = fixture("");
    fixture.agent(&format!("{FIXED}; mkdir built; truncate -s 300M built/all; (cd built; git init -q sub)"));
    fixture.fix(&[]).ok();
    assert_eq!(fixture.attempted("add", "outcome"), ["passed"]);
    assert!(!fixture.project().join("built").exists());
}

#[test]
fn a_command_afterwards_and_a_killed_call_are_bound_the_same() {
    let fixture = self::fixture("after = [\"truncate -s 300M out.bin\"]\n");
    fixture.agent(FIXED);
    fixture.fix(&[]).exits(1);
    came_to(&fixture, 1, "after_failed", "too large to store");
    assert!(!fixture.project().join("out.bin").exists());
    let fixture = self::fixture("");
    let mark = fixture.profile.path("state/killed");
    let kill = format!(
        "[ -f {0} ] || {{ touch {0}; truncate -s 300M new.bin; kill -9 $PPID; exit; }}",
        mark.display()
    );
    fixture.agent(&format!("{kill}; {FIXED}"));
    fixture.fix(&[]).exits(-1);
    fixture.fix(&[]).ok().prints(&["are dropped: too large to store: 300 MiB in 1 file"]);
    assert_eq!((fixture.read("lib.sh") != LIB, fixture.project().join("new.bin").exists()), (true, false));
}

#[test]
fn repositories_in_a_project_are_reported_and_a_project_that_is_a_disk_is_refused() {
    let fixture = self::fixture("");
    fixture.agent(FIXED);
    git_in(&fixture.project(), &["init", "-q", "sub"]);
    git_in(&fixture.project().join("sub"), &["commit", "-q", "--allow-empty", "-m", "one"]);
    fixture.write("sub/own.txt", "of the human");
    fixture.fix(&[]).ok().prints(&["the agent gets no files of nested repositories: sub\n"]);
    assert_eq!(fixture.read("sub/own.txt"), "of the human");
    let fixture = self::fixture("");
    fs::File::create(fixture.project().join("disk.img")).unwrap().set_len(9 << 30).unwrap();
    let printed = "9216 MiB in 4 files, at most 8192 MiB in 500000 are copied";
    fixture.fix(&[]).exits(1).warns(&[printed, "hint: list generated files"]);
    assert_eq!(fixture.calls(), 0);
}
