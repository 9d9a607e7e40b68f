//! Leases by hand and at the same time: races between real processes, what the commands say, and who may use them.

use std::{fs, process::Child, sync::OnceLock};

use serde_json::{Value, json};

use crate::support::profile::{NOOP, Profile, Ran, git_in, wait_until};
use crate::support::tally::Tally;

/// The program as another person, running.
fn spawn_as(profile: &Profile, user: &str, args: &[&str]) -> Child {
    let mut command = profile.command(args);
    command.env("USER", user).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.spawn().unwrap()
}

fn run_as(profile: &Profile, user: &str, args: &[&str]) -> Ran {
    profile.command(args).env("USER", user).output().unwrap().into()
}

fn end(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

/// The leases as `looop lease list` lists them.
fn claims(profile: &Profile) -> Vec<Value> {
    profile.looop(&["lease", "list", "--json"]).ok().json()["leases"].as_array().unwrap().clone()
}

/// Changes a lease's file as no looop would.
fn bend(profile: &Profile, change: impl FnOnce(&mut Value)) {
    let mut lease = profile.read_json("claims/door.json");
    change(&mut lease);
    fs::write(profile.data().join("claims/door.json"), lease.to_string()).unwrap();
}

/// Waits until these processes have the lock's file open: they are at the lock, and none is through.
fn wait_at_the_lock(children: &[Child]) {
    wait_until("all to be at the lock", || {
        children.iter().all(|child| {
            let Ok(open) = fs::read_dir(format!("/proc/{}/fd", child.id())) else { return false };
            let mut files = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
            files.any(|file| file.ends_with("store.lock"))
        })
    });
}

#[test]
#[ignore = "slow"]
fn of_many_claims_at_once_one_wins_and_the_epoch_rises() {
    many_claims_at_once().holds();
}

const RACES: usize = 200;

/// What came of claims that were made at the same time.
pub fn many_claims_at_once() -> &'static Tally {
    static CAME: OnceLock<Tally> = OnceLock::new();
    CAME.get_or_init(|| Tally::of(RACES, race_for_a_lease))
}

fn race_for_a_lease() {
    let users = ["ada", "bob", "cleo"];
    let profile = Profile::scripted(&[NOOP]);
    let lock = fs::File::open(profile.data().join("store.lock")).unwrap();
    let mut newest = 0;
    for race in 0..RACES {
        lock.lock().unwrap();
        let children = users.map(|user| spawn_as(&profile, user, &["claim", "door", "--ttl", "1h"]));
        wait_at_the_lock(&children);
        lock.unlock().unwrap();
        let ran = children.map(end);
        let winners: Vec<&str> =
            users.iter().zip(&ran).filter(|(_, ran)| ran.code == 0).map(|(u, _)| *u).collect();
        assert_eq!(winners.len(), 1, "race {race}: {ran:?}");
        let lease = profile.read_json("claims/door.json");
        let epoch = lease["epoch"].as_u64().unwrap();
        assert_eq!(lease["holder"], format!("human:{}", winners[0]), "race {race}");
        assert!(epoch > newest, "race {race}: epoch {epoch} came after {newest}");
        newest = epoch;
        for lost in ran.iter().filter(|ran| ran.code != 0) {
            let words = format!("could not claim door: {} has it (epoch {epoch})", winners[0]);
            assert!(lost.code == 1 && lost.stderr.contains(&words), "race {race}: {lost:?}");
        }
        // The next race is for a lease that was given back, one that ran out, one of another boot, or a broken one.
        match race % 4 {
            0 => drop(run_as(&profile, winners[0], &["release", "door"]).ok()),
            1 => bend(&profile, |lease| lease["renewed_mono_ms"] = json!(-1_000_000_000_i64)),
            2 => bend(&profile, |lease| lease["boot"] = json!("another")),
            _ => fs::write(profile.data().join("claims/door.json"), "").unwrap(),
        }
    }
}

#[test]
fn a_claim_by_hand_from_its_beginning_to_its_end() {
    let profile = Profile::scripted(&[NOOP]);
    assert_eq!(profile.looop(&["lease", "list"]).ok().stdout, "no leases\n");
    assert_eq!(profile.looop(&["claim", "door"]).ok().stdout, "claimed door for 1m (epoch 1)\n");
    let row = claims(&profile).remove(0);
    let keys = ["resource", "holder", "epoch", "ttl_s", "state"].map(|key| row[key].clone());
    assert_eq!(json!(keys), json!(["door", "human:ada", 1, 60, "held"]));
    let mut rows = profile.looop(&["status", "--json"]).ok().json()["leases"].clone();
    assert_eq!(rows[0].take()["epoch"], 1);
    assert!(profile.looop(&["lease", "list"]).ok().stdout.starts_with("door  ada  epoch 1  since "));
    let again = profile.looop(&["claim", "door", "--ttl", "2h"]).ok();
    assert_eq!(again.stdout, "claimed door for 2h (epoch 1)\n", "a claim of one's own renews it");

    let refused = run_as(&profile, "bob", &["release", "door"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("ada has it (epoch 1)") && refused.stderr.contains("--force"),
        "{refused:?}"
    );
    let forced = run_as(&profile, "bob", &["release", "door", "--force"]).ok();
    assert_eq!(forced.stdout, "released door from ada (epoch 1)\n");
    assert_eq!(profile.looop(&["release", "door"]).ok().stdout, "door was free\n");
    assert_eq!(profile.looop(&["claim", "door"]).ok().stdout, "claimed door for 1m (epoch 2)\n");
    assert_eq!(profile.looop(&["release", "door"]).ok().stdout, "released door (epoch 2)\n");

    for bad in [["door", "4s"], ["door", "25h"], ["door", "soon"], ["../x", "1m"], ["archive", "1m"]] {
        let ran = profile.looop(&["claim", bad[0], "--ttl", bad[1]]);
        assert_eq!(ran.code, 2, "{bad:?}: {ran:?}");
    }
}

#[test]
fn another_machines_lease_is_only_ended_by_a_user() {
    let profile = Profile::scripted(&[NOOP]);
    profile.looop(&["claim", "door"]).ok();
    bend(&profile, |lease| {
        (lease["host"], lease["boot"]) = (json!("far\u{1b}[2J"), json!("another"));
    });
    profile.looop(&["claim", "door"]).exits(1).warns(&["only the user can release it"]);
    let listed = profile.looop(&["lease", "list"]).ok().stdout;
    assert!(listed.contains("on far") && !listed.contains('\u{1b}'), "{listed:?}");
    assert_eq!(claims(&profile)[0]["state"], "elsewhere");
    profile.looop(&["release", "door"]).ok();
    profile.looop(&["claim", "door"]).ok();
}

#[test]
fn a_look_at_broken_claims_writes_nothing_and_says_so() {
    let profile = Profile::scripted(&[NOOP]);
    fs::write(profile.data().join("claims/door.json"), "{").unwrap();
    let before = crate::beat::listing(&profile.data());
    profile.looop(&["lease", "list"]).ok().warns(&["claims/door.json is corrupt"]);
    profile.looop(&["status"]).exits(1).prints(&["claims/door.json is corrupt"]);
    assert_eq!(crate::beat::listing(&profile.data()), before);
    profile.looop(&["claim", "door"]).ok().warns(&["door.json.corrupt-"]);
}

#[test]
fn what_looop_started_claims_nothing_in_the_humans_name() {
    let profile = Profile::scripted(&[NOOP]);
    let inside = |args: &[&str]| -> Ran {
        profile.command(args).env("LOOOP_SOCKET", profile.path("no.sock")).output().unwrap().into()
    };
    profile.looop(&["claim", "door"]).ok();
    for args in [&["claim", "window"][..], &["release", "door"], &["release", "door", "--force"]] {
        let ran = inside(args);
        assert!(ran.code == 1 && ran.stderr.contains("supervisor"), "{args:?}: {ran:?}");
    }
    let looop = crate::support::profile::LOOOP;
    profile.sensor(
        "s.sh",
        &format!(
            "export LOOOP_DATA_DIR={} LOOOP_CONFIG={}; {looop} claim window 2>&1; {looop} release door --force 2>&1; echo '{{}}'",
            profile.data().display(),
            profile.config_file().display()
        ),
    );
    profile.looop(&["tick"]).ok();
    let rows = claims(&profile);
    assert_eq!((rows.len(), &rows[0]["resource"], &rows[0]["epoch"]), (1, &json!("door"), &json!(1)));
}

#[test]
fn a_branch_is_not_written_under_a_lease_that_was_lost_while_git_worked() {
    let profile = Profile::scripted(&[NOOP]);
    let repo = profile.repository("home/repo", "README", "text\n");
    // The last step before the branch is written takes long.
    let (slow, go) = (profile.path("slow"), profile.path("go"));
    let wait = format!("touch {}; while [ ! -e {} ]; do sleep 0.02; done", slow.display(), go.display());
    let path = "/usr/local/bin:/usr/bin:/bin";
    let git = format!("#!/bin/sh\nPATH={path}\ncase $1 in index-pack) {wait};; esac\nexec git \"$@\"\n");
    profile.stand_in("git", &git, path);
    let start = ["worker", "start", "w1", "--goal", "g1", "--repo", repo.to_str().unwrap(), "--"];
    let commit =
        ["git", "-c", "user.name=w", "-c", "user.email=w", "commit", "-q", "--allow-empty", "-m", "w"];
    profile.looop(&[&start[..], &commit].concat()).ok();
    wait_until("its commits are on their way", || slow.exists());
    profile.looop(&["release", "goal.g1", "--force"]).ok();
    fs::write(go, "").unwrap();
    let row = profile.wait_worker("w1", &["failed"]);
    assert!(row["why"].as_str().unwrap().contains("the lease goal.g1 (epoch 1) was released"), "{row}");
    assert_eq!(git_in(&repo, &["for-each-ref", "refs/heads/looop"]), "", "nothing came back");
}
