//! A first run that is killed or is not alone leaves a data dir that the next command makes whole.

use std::fs;

use super::{COMMON, NOOP, Sweep, after::After, has, points};
use crate::support::profile::{Profile, Ran};
use crate::{support::pi::skipped, support::rows::has_strace};

/// One of so many [`COMMON`] points is in the gate, and of all points so many in the daily tests.
const EVERY: usize = 8;
const SAMPLE: usize = 6;

/// A profile without a data dir.
fn fresh() -> Profile {
    let profile = Profile::empty();
    profile.script(&[NOOP]);
    profile
}

/// What is wrong after a first run was cut off and the person simply runs it again.
fn problems(profile: &Profile) -> Vec<String> {
    let mut wrong = Vec::new();
    for verb in ["init", "tick"] {
        let ran = profile.looop(&[verb]);
        if ran.code != 0 || ran.stderr.contains("warning") {
            wrong.push(format!("{verb} exits {}: {}{}", ran.code, ran.stdout, ran.stderr));
        }
    }
    let journal = fs::read_to_string(profile.data().join("journal.md")).unwrap_or_default();
    let after = After { profile, journal: journal.lines().map(str::to_owned).collect() };
    wrong.extend(after.problems());
    if wrong.is_empty() {
        let humans = profile.git(&["log", "--author=ada", "--format=%s"]);
        wrong.extend((!humans.is_empty()).then(|| format!("credited to the human: {humans}")));
    }
    wrong.extend(profile.data().join(".git-init").exists().then(|| ".git-init".to_owned()));
    wrong
}

/// Kills a first run at each of the chosen points, and returns how many kills there were.
fn sweep(which: Sweep) -> usize {
    if !has_strace() {
        skipped("no strace");
        return usize::MAX;
    }
    let mut points = points(&fresh(), &["init"]);
    let (step, mut at) = (points.len().div_ceil(SAMPLE), 0..);
    points.retain(|point| match which {
        Sweep::Sample => at.next().unwrap() % step == step / 2,
        Sweep::Gate => at.next().unwrap() % if has(COMMON, &point.call) { EVERY } else { 2 } == 0,
        Sweep::Every => true,
    });
    let (mut kills, mut wrong) = (0, Vec::new());
    for point in &points {
        let profile = fresh();
        if !point.kills(&profile, &["init"]) {
            continue;
        }
        kills += 1;
        let found = problems(&profile);
        wrong.extend(found.iter().map(|what| format!("killed before {} {}: {what}", point.call, point.nth)));
    }
    println!("{kills} kills, {} violations", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    kills
}

#[test]
#[ignore = "slow"]
fn a_first_run_killed_at_some_points_is_made_whole_by_running_it_again() {
    assert!(sweep(Sweep::Sample) > 2);
}

#[test]
#[ignore = "long search"]
fn a_first_run_killed_anywhere_is_made_whole_by_running_it_again() {
    assert!(sweep(Sweep::Gate) > 40);
}

#[test]
#[ignore = "exhaustive"]
fn exhaustive_first_run() {
    assert!(sweep(Sweep::Every) > 40);
}

#[test]
#[ignore = "slow"]
fn two_first_runs_at_once_both_succeed() {
    for _ in 0..20 {
        let profile = Profile::empty();
        let both = [profile.spawn(&["init"]), profile.spawn(&["init"])];
        for child in both {
            Ran::from(child.wait_with_output().unwrap()).ok();
        }
        profile.looop(&["goal", "list"]).ok();
        assert_eq!(profile.git(&["log", "--format=%s"]), "init: a fresh data dir\n");
        assert_eq!(profile.git(&["status", "--porcelain"]), "");
    }
}
