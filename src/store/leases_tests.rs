//! Tests of leases on a real disk: forms, damage, the lock, and the reports to each holder.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::rules::name::tests::name;
use crate::rules::process::Started;

struct Dir {
    _temp: tempfile::TempDir,
    layout: Layout,
}

fn dir() -> Dir {
    let temp = tempfile::tempdir().unwrap();
    let layout = Layout::new(temp.path().join("data"), temp.path().join("cache"));
    fs::create_dir_all(layout.claims()).unwrap();
    Dir { _temp: temp, layout }
}

fn user(text: &str) -> Holder {
    Holder::User(text.to_owned())
}

impl Dir {
    fn take(&self, resource: &str, who: &HolderIdentity) -> Result<Acquired, Refusal> {
        acquire(&self.layout, &name(resource), who, &here()).map_err(|denied| denied.refusal().unwrap())
    }

    fn hand(&self, resource: &str, who: &str) -> Result<Acquired, Refusal> {
        self.take(resource, &by_hand(&user(who), Ttl::DEFAULT))
    }

    fn lease(&self, resource: &str) -> Option<Lease> {
        find(&self.layout, &name(resource)).unwrap().lease().cloned()
    }

    fn release(&self, resource: &str, who: &Holder, any: bool) -> Released {
        release_for_user(&self.layout, &name(resource), who, any).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.layout.claims()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A worker that lives for as long as the file is open, with this process as its supervisor.
    fn worker(&self, id: &str) -> File {
        let dir = self.layout.worker(&name(id));
        fs::create_dir_all(dir.path()).unwrap();
        let alive = File::create(dir.alive()).unwrap();
        alive.lock().unwrap();
        let me = supervisor(&name(id), Ttl::DEFAULT);
        self.begun(id, me.pid_start);
        alive
    }

    fn begun(&self, id: &str, start: u64) {
        let supervisor = Started { pid: std::process::id(), start, boot: tree::boot_id() };
        let state = WorkerState::new(name(id), 0, supervisor);
        workers::save_state(&self.layout.worker(&name(id)), &state).unwrap();
    }
}

#[test]
fn a_lease_is_a_file_and_its_epoch_outlives_it() {
    let dir = dir();
    let ada = user("ada");
    let first = dir.hand("door", "ada").unwrap();
    assert_eq!((first.holding.epoch, &first.note), (1, &None));
    assert_eq!(dir.hand("door", "bob").unwrap_err().holder, ada);
    let before = dir.lease("door").unwrap();
    let lost = renew(&dir.layout, &ada, std::slice::from_ref(&first.holding), before.renewed_mono_ms + 7);
    assert_eq!(lost.unwrap(), []);
    let after = dir.lease("door").unwrap();
    assert_eq!(after, Lease { renewed_mono_ms: before.renewed_mono_ms + 7, ..before });
    assert_eq!(release(&dir.layout, &ada, &[first.holding]).unwrap(), []);
    assert_eq!(dir.files(), ["floor"]);
    assert_eq!(dir.hand("door", "bob").unwrap().holding.epoch, 2);
    assert_eq!(dir.hand("window", "ada").unwrap().holding.epoch, 2, "the floor is one for all");
}

#[test]
fn a_corrupt_lease_is_quarantined_and_blocks_no_holder() {
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 6] = [
        ("an empty file", |path| fs::write(path, "").unwrap()),
        ("half of one", |path| fs::write(path, &fs::read(path).unwrap()[..40]).unwrap()),
        ("bytes", |path| fs::write(path, [0xff, 0xfe]).unwrap()),
        ("another's", |path| {
            fs::write(path, fs::read_to_string(path).unwrap().replace("door", "x")).unwrap()
        }),
        ("a directory", |path| fs::remove_file(path).and_then(|()| fs::create_dir(path)).unwrap()),
        ("a link", |path| fs::remove_file(path).and_then(|()| symlink("/etc/passwd", path)).unwrap()),
    ];
    for (what, damage) in damages {
        let dir = dir();
        let old = dir.hand("door", "ada").unwrap().holding;
        damage(&dir.layout.claim(&name("door")));
        let (leases, problems) = list(&dir.layout, &here()).unwrap();
        assert_eq!((leases.len(), problems.len()), (0, 1), "{what}: {problems:?}");
        let acquired = dir.hand("door", "bob").unwrap();
        assert!(acquired.holding.epoch > old.epoch, "{what}");
        let note = acquired.note.unwrap();
        assert!(note.contains("corrupt") && note.contains("door.json.corrupt-"), "{what}: {note}");
        assert_eq!(dir.files().len(), 3, "{what}: {:?}", dir.files());
        assert_eq!(list(&dir.layout, &here()).unwrap().1, Vec::<String>::new(), "{what}");
        let lost = renew(&dir.layout, &user("ada"), &[old], 0).unwrap();
        assert_eq!(lost[0].to, Some((user("bob"), acquired.holding.epoch)), "{what}");
        fs::write(dir.layout.claim(&name("door")), "").unwrap();
        let again = dir.hand("door", "ada").unwrap();
        assert!(again.holding.epoch > acquired.holding.epoch, "{what}, and once more");
    }
}

#[test]
fn a_floor_that_is_lost_never_brings_an_epoch_back() {
    for damage in ["", "x", "-1", "99999999999999999999999"] {
        let dir = dir();
        for round in 1..4 {
            let held = dir.hand("door", "ada").unwrap().holding;
            assert_eq!(held.epoch, round);
            release(&dir.layout, &user("ada"), &[held]).unwrap();
        }
        fs::write(dir.layout.claims_max_epoch(), damage).unwrap();
        assert!(dir.hand("door", "ada").unwrap().holding.epoch > 3, "{damage:?}");
        assert!(dir.files().iter().any(|file| file.starts_with("floor.corrupt-")), "{:?}", dir.files());
    }
}

#[test]
fn a_worker_holds_a_lease_while_its_supervisor_lives() {
    let dir = dir();
    let life = dir.worker("fix");
    let fix = supervisor(&name("fix"), Ttl::DEFAULT);
    assert_eq!(dir.take("door", &fix).unwrap().holding.epoch, 1);
    assert_eq!(dir.take("door", &fix).unwrap().holding.epoch, 1, "its own again");
    assert_eq!(dir.hand("door", "ada").unwrap_err().epoch, 1);
    let status = |dir: &Dir| list(&dir.layout, &here()).unwrap().0[0].1;
    assert!(matches!(status(&dir), LeaseStatus::Held(_)));
    // Another process with the same number has started a worker of the same name.
    dir.begun("fix", fix.pid_start + 1);
    assert_eq!(status(&dir), LeaseStatus::Free("its worker is gone"));
    dir.begun("fix", fix.pid_start);
    assert!(matches!(status(&dir), LeaseStatus::Held(_)));
    drop(life);
    assert_eq!(status(&dir), LeaseStatus::Free("its worker is gone"));
    let acquired = dir.hand("door", "ada").unwrap();
    assert_eq!(acquired.holding.epoch, 2);
    assert_eq!(acquired.note.as_deref(), Some("taken from worker fix (epoch 1): its worker is gone"));
}

#[test]
fn the_fence_admits_only_the_current_holder_of_all_leases() {
    let dir = dir();
    let ada = user("ada");
    let door = dir.hand("door", "ada").unwrap().holding;
    let window = dir.hand("window", "ada").unwrap().holding;
    let both = [door.clone(), window.clone()];
    let run = || {
        let locked = File::open(dir.layout.store_lock()).unwrap().try_lock().is_err();
        assert!(locked, "a lease could change hands during the operation");
        Ok(7)
    };
    assert_eq!(fenced(&dir.layout, &ada, &both, run).unwrap(), 7);
    let released = dir.release("window", &user("bob"), true);
    assert!(matches!(released, Released::Lease(lease) if lease.holding() == window));
    let newer = dir.hand("window", "bob").unwrap().holding;
    let refused = |holder: &Holder, holdings: &[Holding]| {
        fenced(&dir.layout, holder, holdings, || -> Result<()> { panic!("the operation started") })
            .unwrap_err()
            .refusal()
            .unwrap()
    };
    assert_eq!(refused(&ada, &both).to_string(), "the lease window (epoch 1) went to bob (epoch 2)");
    assert_eq!(refused(&ada, &[Holding { epoch: 0, ..door.clone() }]).to, Some((ada.clone(), 1)));
    assert_eq!(refused(&user("bob"), std::slice::from_ref(&door)).to, Some((ada.clone(), 1)));
    assert_eq!(refused(&ada, &[door, newer]).holding.resource, name("window"));
}

#[test]
fn only_the_current_holder_releases_a_lease() {
    let dir = dir();
    let (ada, bob) = (user("ada"), user("bob"));
    let old = dir.hand("door", "ada").unwrap().holding;
    assert!(matches!(dir.release("door", &bob, false), Released::NotTheirs(_)));
    assert!(matches!(dir.release("door", &ada, false), Released::Lease(_)));
    assert_eq!(dir.release("door", &ada, false), Released::Nobody);
    let new = dir.hand("door", "ada").unwrap().holding;
    assert_eq!((old.epoch, new.epoch), (1, 2));
    let lost = release(&dir.layout, &ada, &[old]).unwrap();
    assert_eq!(lost[0].to, Some((ada.clone(), 2)), "the same person, an older epoch");
    assert!(dir.lease("door").is_some());
    fs::write(dir.layout.claim(&name("door")), "").unwrap();
    assert!(matches!(dir.release("door", &bob, false), Released::Corrupt(_)));
    assert!(dir.hand("door", "bob").unwrap().holding.epoch > new.epoch);
}

#[test]
fn an_unreadable_lease_is_an_error() {
    let dir = dir();
    fs::remove_dir(dir.layout.claims()).unwrap();
    fs::write(dir.layout.claims(), "").unwrap();
    let asked = acquire(&dir.layout, &name("door"), &by_hand(&user("ada"), Ttl::DEFAULT), &here());
    assert!(format!("{:#}", asked.unwrap_err().refusal().unwrap_err()).contains("claims/door.json"));
    assert!(list(&dir.layout, &here()).is_err());
}

#[test]
fn of_many_claimants_one_holds_the_lease_and_epochs_rise() {
    let dir = dir();
    let inside = AtomicU64::new(0);
    let newest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for who in ["ada", "bob", "cleo", "dan"] {
            let (dir, inside, newest) = (&dir, &inside, &newest);
            scope.spawn(move || {
                for _ in 0..25 {
                    let Ok(acquired) = dir.hand("door", who) else { continue };
                    let epoch = acquired.holding.epoch;
                    assert!(newest.fetch_max(epoch, Ordering::SeqCst) < epoch);
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two have it");
                    inside.fetch_sub(1, Ordering::SeqCst);
                    assert_eq!(release(&dir.layout, &user(who), &[acquired.holding]).unwrap(), []);
                }
            });
        }
    });
    assert!(newest.into_inner() >= 25);
}
